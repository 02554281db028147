//! `standard`: the body of Standard Webhooks, `{"type", "timestamp", "data"}` with the data bytes verbatim.

use bytes::Bytes;
use http::{HeaderMap, header::CONTENT_TYPE};
use serde_json::json;

use super::{Notification, Rendered, Subject, Told, data_body, put};
use crate::domain::{event::Payload, notice::NoticeKind, time::Timestamp};

/// The type of a sync, and what `Watchpost-Event` calls it in every format.
pub(super) const SYNC_TYPE: &str = "watchpost.channel.sync";

pub(super) fn render(notification: &Notification<'_>) -> Rendered {
    let mut headers = HeaderMap::with_capacity(16);
    put(&mut headers, CONTENT_TYPE, Payload::JSON);
    let body = match &notification.subject {
        Subject::Sync => {
            envelope(SYNC_TYPE, notification.now, sync_data(notification).to_string().as_bytes())
        }
        Subject::Notice(told) => {
            let data = notice_data(notification, told);
            envelope(&told.event_type, notification.now, data.to_string().as_bytes())
        }
        Subject::Event { event, .. } => match data_body(notification) {
            Some(payload) if payload.is_json() => envelope(&event.name, event.published_at, &payload.bytes),
            Some(payload) => {
                envelope(&event.name, event.published_at, opaque_data(&payload).to_string().as_bytes())
            }
            None => envelope(
                &event.name,
                event.published_at,
                thin_data(notification, &event.state).to_string().as_bytes(),
            ),
        },
    };
    Rendered { headers, body }
}

/// Written by hand so that the data's bytes stay what the publisher sent.
fn envelope(name: &str, at: Timestamp, data: &[u8]) -> Bytes {
    let mut body = Vec::with_capacity(data.len() + name.len() + 64);
    body.extend_from_slice(br#"{"type":""#);
    // Names are letters, digits, `_`, `-` and dots: nothing to escape.
    body.extend_from_slice(name.as_bytes());
    body.extend_from_slice(br#"","timestamp":""#);
    body.extend_from_slice(at.to_rfc3339().as_bytes());
    body.extend_from_slice(br#"","data":"#);
    body.extend_from_slice(data);
    body.push(b'}');
    Bytes::from(body)
}

/// Data that is not JSON travels in base64.
fn opaque_data(payload: &Payload) -> serde_json::Value {
    use base64::{Engine, prelude::BASE64_STANDARD};
    json!({ "contentType": payload.content_type, "dataBase64": BASE64_STANDARD.encode(&payload.bytes) })
}

fn thin_data(notification: &Notification<'_>, state: &str) -> serde_json::Value {
    let channel = &notification.target.channel;
    json!({
        "resource": channel.resource_path.as_str(),
        "resourceUri": channel.resource_uri,
        "state": state,
    })
}

/// A ping's own data, or the channel as it is with what the notice says of it.
fn notice_data(notification: &Notification<'_>, told: &Told) -> serde_json::Value {
    if told.kind == NoticeKind::Ping && !told.data.is_null() {
        return told.data.clone();
    }
    let mut data = sync_data(notification);
    data["state"] = notification.target.channel.state.as_str().into();
    if let (Some(all), Some(members)) = (data.as_object_mut(), told.data.as_object()) {
        all.extend(members.clone());
        if let Some(url) = &told.claim_url {
            all.insert("claimUrl".to_owned(), url.as_str().into());
        }
    }
    data
}

fn sync_data(notification: &Notification<'_>) -> serde_json::Value {
    let channel = &notification.target.channel;
    json!({
        "channelId": channel.id,
        "resource": channel.resource_path.as_str(),
        "resourceId": channel.resource_id,
        "resourceUri": channel.resource_uri,
        "expiresAt": channel.expires_at.to_rfc3339(),
        "state": "sync",
    })
}
