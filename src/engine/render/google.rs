//! `google`: the notification of Google's push protocol. State in headers; the body is empty, or the data bytes.
//!
//! Source: the push guides of the Calendar, Drive, Directory and Reports APIs; how each words a state stands in
//! `domain::google_state`.

use bytes::Bytes;
use http::{HeaderMap, HeaderName};

use super::{Notification, Rendered, Subject, data_body, put, with_body};
use crate::domain::google_state::resource_state;

const CHANNEL_ID: HeaderName = HeaderName::from_static("x-goog-channel-id");
const CHANNEL_TOKEN: HeaderName = HeaderName::from_static("x-goog-channel-token");
const CHANNEL_EXPIRATION: HeaderName = HeaderName::from_static("x-goog-channel-expiration");
const MESSAGE_NUMBER: HeaderName = HeaderName::from_static("x-goog-message-number");
const RESOURCE_ID: HeaderName = HeaderName::from_static("x-goog-resource-id");
const RESOURCE_STATE: HeaderName = HeaderName::from_static("x-goog-resource-state");
const RESOURCE_URI: HeaderName = HeaderName::from_static("x-goog-resource-uri");
const CHANGED: HeaderName = HeaderName::from_static("x-goog-changed");

pub(super) fn render(notification: &Notification<'_>) -> Rendered {
    let channel = &notification.target.channel;
    let mut headers = HeaderMap::with_capacity(20);
    put(&mut headers, CHANNEL_ID, &channel.id);
    put(&mut headers, MESSAGE_NUMBER, &notification.number.to_string());
    put(&mut headers, RESOURCE_ID, &channel.resource_id);
    put(&mut headers, RESOURCE_URI, &channel.resource_uri);
    put(&mut headers, CHANNEL_EXPIRATION, &channel.expires_at.to_http_date());
    if let Some(token) = notification.target.token() {
        put(&mut headers, CHANNEL_TOKEN, token);
    }
    match &notification.subject {
        Subject::Sync => put(&mut headers, RESOURCE_STATE, "sync"),
        Subject::Notice(told) => put(&mut headers, RESOURCE_STATE, told.kind.as_str()),
        Subject::Event { event, changed } => {
            put(&mut headers, RESOURCE_STATE, resource_state(channel.resource_path.as_str(), event));
            if let Some(changed) = changed {
                put(&mut headers, CHANGED, changed);
            }
        }
    }
    let body = data_body(notification).map_or_else(Bytes::new, |payload| with_body(&mut headers, payload));
    Rendered { headers, body }
}
