//! Events: one change of one resource, payload bytes kept verbatim.

use bytes::Bytes;

use super::{invalid::Invalid, time::Timestamp};

pub const NAME_BYTES_MAX: usize = 128;
pub const STATE_BYTES_MAX: usize = 64;
pub const ID_BYTES_MAX: usize = 128;
pub const CHANGED_BYTES_MAX: usize = 256;
/// What a whole run may say in one header.
const UNITED_BYTES_MAX: usize = 1_024;
pub const CONTENT_TYPE_BYTES_MAX: usize = 128;
/// One event's payload.
pub const PAYLOAD_BYTES_MAX: usize = 256 * 1_024;
pub const STATE_DEFAULT: &str = "exists";

/// An event in its resource's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    pub seq: i64,
    pub id: String,
    pub name: String,
    pub state: String,
    /// What changed, as `X-Goog-Changed` carries it: a comma-separated list.
    pub changed: Option<String>,
    /// The payload and its media type; `None` when the event only says that something changed.
    pub payload: Option<Payload>,
    pub published_at: Timestamp,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payload {
    pub content_type: String,
    pub bytes: Bytes,
}

impl Payload {
    pub const JSON: &'static str = "application/json";

    /// Whether the bytes are JSON text, which `/v1` shows inline instead of in base64.
    pub fn is_json(&self) -> bool {
        let essence = self.content_type.split(';').next().unwrap_or_default().trim();
        essence.eq_ignore_ascii_case(Self::JSON)
    }
}

/// `name`: 2–8 segments of `[A-Za-z0-9_-]+` joined by dots.
pub fn check_name(name: &str) -> Result<(), Invalid> {
    if name.len() > NAME_BYTES_MAX {
        return Err(Invalid::TooLong { max: NAME_BYTES_MAX, unit: "characters" });
    }
    let is_word = |word: &str| {
        !word.is_empty()
            && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
    };
    if !(2..=8).contains(&name.split('.').count()) || !name.split('.').all(is_word) {
        return Err(Invalid::Rule("be 2 to 8 segments of letters, digits, _ and - joined by dots"));
    }
    Ok(())
}

/// `state`: a word that a header carries; `sync` is the server's own.
pub fn check_state(state: &str) -> Result<(), Invalid> {
    if state.len() > STATE_BYTES_MAX {
        return Err(Invalid::TooLong { max: STATE_BYTES_MAX, unit: "characters" });
    }
    if state.is_empty()
        || !state.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.'))
    {
        return Err(Invalid::Rule("be letters, digits, _, - and dots"));
    }
    if state == "sync" {
        return Err(Invalid::Rule("not be sync, which the server sends when a channel opens"));
    }
    Ok(())
}

/// An id that an event may have, whoever gave it.
pub fn check_id(id: &str) -> Result<(), Invalid> {
    super::invalid::header_safe(id, ID_BYTES_MAX)?;
    if id.is_empty() { Err(Invalid::Rule("not be empty")) } else { Ok(()) }
}

/// An id that a publisher may give.
pub fn check_given_id(id: &str) -> Result<(), Invalid> {
    check_id(id)?;
    if id.starts_with(super::id::EVENT_ID_PREFIX) {
        return Err(Invalid::Rule("not begin with evt_, which marks the server's own ids"));
    }
    Ok(())
}

/// The run of adjacent events that catch-up `latest` collapses into its newest: equal name and state, and wanted by
/// the channel. `events` begins with the channel's next event, which is wanted. Returns how many of them form the
/// run, and what changed in any of them.
pub fn newest_of_run(
    events: &[std::sync::Arc<Event>],
    wants: impl Fn(&Event) -> bool,
) -> (usize, Option<String>) {
    let Some(first) = events.first() else { return (0, None) };
    let is_equal = |event: &Event| event.name == first.name && event.state == first.state;
    let run = 1 + events.iter().skip(1).take_while(|event| is_equal(event) && wants(event)).count();
    let mut changed: Vec<&str> = Vec::new();
    let mut bytes = 0;
    for part in
        events.iter().take(run).filter_map(|event| event.changed.as_deref()).flat_map(|all| all.split(','))
    {
        let part = part.trim();
        if !part.is_empty() && !changed.contains(&part) && bytes + part.len() < UNITED_BYTES_MAX {
            bytes += part.len() + 1;
            changed.push(part);
        }
    }
    let united = changed.join(",");
    (run, (!united.is_empty()).then_some(united))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn event(seq: i64, name: &str, changed: Option<&str>) -> Arc<Event> {
        Arc::new(Event {
            seq,
            id: format!("e{seq}"),
            name: name.into(),
            state: STATE_DEFAULT.into(),
            changed: changed.map(Into::into),
            payload: None,
            published_at: Timestamp::default(),
        })
    }

    #[test]
    fn names() {
        for good in ["a.b", "calendar.event.updated", "A_-9.x.1.2.3.4.5.6"] {
            assert_eq!(check_name(good), Ok(()), "{good}");
        }
        for bad in ["", "a", "a.", ".a", "a..b", "a.b c", "a.é", "1.2.3.4.5.6.7.8.9", &"a.".repeat(80)] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn ids_and_states_are_header_safe() {
        assert!(
            check_given_id("evt_1").is_err()
                && check_given_id("").is_err()
                && check_given_id("a\nb").is_err()
                && check_given_id("é").is_err()
        );
        assert!(check_given_id("order-17:created").is_ok());
        assert!(check_id("evt_1").is_ok() && check_id("").is_err() && check_id("a\nb").is_err());
        assert!(check_state("sync").is_err() && check_state("").is_err() && check_state("a b").is_err());
        assert!(check_state("not_exists").is_ok());
    }

    #[test]
    fn a_run_ends_where_the_name_changes_and_unites_what_changed() {
        let events = [
            event(1, "a.b", Some("content,parents")),
            event(2, "a.b", None),
            event(3, "a.b", Some("parents, properties")),
            event(4, "a.c", Some("children")),
        ];
        let all = |_: &Event| true;
        assert_eq!(newest_of_run(&events, all), (3, Some("content,parents,properties".into())));
        assert_eq!(newest_of_run(&events[3..], all), (1, Some("children".into())));
        assert_eq!(newest_of_run(&events, |event| event.seq != 2), (1, Some("content,parents".into())));
    }
}
