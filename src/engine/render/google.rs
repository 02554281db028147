//! `google`: the notification of Google's push protocol. State in headers; the body is empty, or the data bytes.
//!
//! Source: the push guides of the Calendar, Drive, Directory and Reports APIs.

use bytes::Bytes;
use http::{HeaderMap, HeaderName};

use super::{Notification, Rendered, Subject, data_body, put, with_body};
use crate::domain::event::{Event, STATE_DEFAULT};

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
    if let Some(token) = &channel.token {
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

/// The state as the watched API words it. A publisher who names a state is taken at its word; only the default
/// is translated, where the API has a word of its own.
fn resource_state<'e>(path: &str, event: &'e Event) -> &'e str {
    if event.state != STATE_DEFAULT {
        return &event.state;
    }
    let verb = event.name.rsplit('.').next().unwrap_or_default();
    let segments: Vec<&str> = path.split('/').collect();
    match segments.as_slice() {
        ["drive", _, "changes"] => "change",
        ["drive", _, "files", _] => match verb {
            "add" | "added" | "created" => "add",
            "remove" | "removed" | "deleted" => "remove",
            "trash" | "trashed" => "trash",
            "untrash" | "untrashed" => "untrash",
            _ => "update",
        },
        ["admin", "directory", _, "users", ..] => match verb {
            "add" | "added" | "created" => "add",
            "delete" | "deleted" => "delete",
            "makeAdmin" => "makeAdmin",
            "undelete" | "undeleted" => "undelete",
            "update" | "updated" => "update",
            _ => &event.state,
        },
        // Reports say the activity's own name, such as CREATE_USER.
        ["admin", "reports", ..] => verb,
        _ => &event.state,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::time::Timestamp;

    #[test]
    fn states_are_worded_as_each_api_does() {
        let state = |path: &str, name: &str, state: &str| {
            let event = Event {
                seq: 1,
                id: "e".into(),
                name: name.into(),
                state: state.into(),
                changed: None,
                payload: None,
                published_at: Timestamp::default(),
            };
            resource_state(path, &event).to_owned()
        };
        for (path, name, expected) in [
            ("calendar/v3/calendars/a@x/events", "calendar.event.deleted", "exists"),
            ("drive/v3/changes", "drive.change.created", "change"),
            ("drive/v3/files/F1", "drive.file.renamed", "update"),
            ("drive/v3/files/F1", "drive.file.trashed", "trash"),
            ("admin/directory/v1/users", "directory.user.makeAdmin", "makeAdmin"),
            ("admin/directory/v1/users", "directory.user.created", "add"),
            (
                "admin/reports/v1/activity/users/all/applications/admin",
                "admin.activity.CREATE_USER",
                "CREATE_USER",
            ),
            ("orders/17", "order.created", "exists"),
        ] {
            assert_eq!(state(path, name, "exists"), expected, "{path} {name}");
        }
        assert_eq!(state("drive/v3/changes", "a.b", "not_exists"), "not_exists", "the publisher's own word");
    }
}
