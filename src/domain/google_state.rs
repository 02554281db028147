//! How each Google API words the state of a change: `X-Goog-Resource-State`. The renderer says it, and a filter of
//! the Google face (`event=add`) is given in the same words: both must come to the same.
//!
//! Source: the push guides of the Calendar, Drive, Directory and Reports APIs.

use super::event::{Event, STATE_DEFAULT};

/// What Directory's `event` parameter may ask for.
pub const DIRECTORY_STATES: [&str; 5] = ["add", "delete", "makeAdmin", "undelete", "update"];

/// The state as the watched API words it. A publisher who names a state is taken at its word; only the default
/// is translated, where the API has a word of its own.
pub fn resource_state<'e>(path: &str, event: &'e Event) -> &'e str {
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
