//! Which events a channel wants: globs over their names, and what the Google face filters by.
//!
//! `*` stands for one segment, a last `**` for any number of them: `calendar.event.*`, `calendar.**`. Read when a
//! channel is opened or changed, evaluated by the engine before it sends and by the app when it tells where an event
//! went: both must come to the same, also for a filter that the channel had before.

use serde::{Deserialize, Serialize};

use super::{
    channel::ChannelOptions,
    event::{Event, NAME_BYTES_MAX},
    google_state::resource_state,
    invalid::Invalid,
    resource::ResourcePath,
};

pub const GLOBS_MAX: usize = 16;
/// What Calendar's `eventTypes` parameter may ask for.
pub const EVENT_TYPES: [&str; 6] =
    ["birthday", "default", "focusTime", "fromGmail", "outOfOffice", "workingLocation"];

/// What a channel asks for, as it is kept. What is empty asks for nothing in particular.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Selection {
    /// Globs over event names.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<String>,
    /// States as the watched Google API words them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub event_states: Vec<String>,
    /// `eventType`s of Calendar's events.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub event_types: Vec<String>,
}

impl From<&ChannelOptions> for Selection {
    fn from(options: &ChannelOptions) -> Self {
        Self {
            events: options.events.clone(),
            event_states: options.event_states.clone(),
            event_types: options.event_types.clone(),
        }
    }
}

impl ChannelOptions {
    /// `None`: the channel wants everything that happens to `path`.
    pub fn filter(&self, path: &ResourcePath) -> Option<EventFilter> {
        EventFilter::new(Selection::from(self), path)
    }
}

/// A channel's filter. Those that are equal come to the same for every event of a resource.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct EventFilter {
    selection: Selection,
    /// The watched path, which decides how a state is worded; only where states are asked for.
    path: Option<ResourcePath>,
}

impl EventFilter {
    /// `None`: everything is wanted. The selection was checked when it was written.
    pub fn new(selection: Selection, path: &ResourcePath) -> Option<Self> {
        let path = (!selection.event_states.is_empty()).then(|| path.clone());
        (selection != Selection::default()).then_some(Self { selection, path })
    }

    pub fn matches(&self, event: &Event) -> bool {
        let Selection { events, event_states, event_types } = &self.selection;
        let by_name = events.is_empty() || events.iter().any(|glob| glob_matches(glob, &event.name));
        let by_state = self.path.as_ref().is_none_or(|path| {
            event_states.iter().any(|state| state == resource_state(path.as_str(), event))
        });
        by_name && by_state && (event_types.is_empty() || is_of_type(event, event_types))
    }
}

/// An event that does not say its type passes: better told for nothing than missed.
fn is_of_type(event: &Event, types: &[String]) -> bool {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Typed {
        event_type: String,
    }
    let payload = event.payload.as_ref().filter(|payload| payload.is_json());
    let read = payload.and_then(|payload| serde_json::from_slice::<Typed>(&payload.bytes).ok());
    read.is_none_or(|typed| types.contains(&typed.event_type))
}

/// `events`: up to 16 globs, each a name whose segments may be `*` and whose last may be `**`.
pub fn check_globs(globs: &[String]) -> Result<(), (usize, Invalid)> {
    if globs.len() > GLOBS_MAX {
        return Err((GLOBS_MAX, Invalid::TooMany { max: GLOBS_MAX }));
    }
    globs.iter().enumerate().try_for_each(|(at, glob)| check_glob(glob).map_err(|invalid| (at, invalid)))
}

fn check_glob(glob: &str) -> Result<(), Invalid> {
    if glob.len() > NAME_BYTES_MAX {
        return Err(Invalid::TooLong { max: NAME_BYTES_MAX, unit: "characters" });
    }
    let is_word = |word: &str| {
        !word.is_empty()
            && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
    };
    let mut segments = glob.split('.').peekable();
    while let Some(segment) = segments.next() {
        let any_rest = segment == "**" && segments.peek().is_none();
        if !(is_word(segment) || segment == "*" || any_rest) {
            return Err(Invalid::Rule(
                "be event names in which a segment may be * and the last one **, such as calendar.event.*",
            ));
        }
    }
    Ok(())
}

fn glob_matches(glob: &str, name: &str) -> bool {
    let mut words = name.split('.');
    for segment in glob.split('.') {
        match (segment, words.next()) {
            ("**", _) => return true,
            ("*", Some(_)) => {}
            (segment, Some(word)) if segment == word => {}
            _ => return false,
        }
    }
    words.next().is_none()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::domain::{
        event::{Payload, STATE_DEFAULT},
        time::Timestamp,
    };

    fn event(name: &str, data: Option<&str>) -> Event {
        let payload = data.map(|data| Payload {
            content_type: "application/json; charset=utf-8".into(),
            bytes: Bytes::copy_from_slice(data.as_bytes()),
        });
        Event {
            seq: 1,
            id: "e".into(),
            name: name.into(),
            state: STATE_DEFAULT.into(),
            changed: None,
            payload,
            published_at: Timestamp::default(),
        }
    }

    fn filter(selection: Selection, path: &str) -> EventFilter {
        EventFilter::new(selection, &ResourcePath::from_stored(path.to_owned())).unwrap()
    }

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn what_asks_for_nothing_in_particular_is_no_filter() {
        let path = ResourcePath::from_stored("a/b".to_owned());
        assert_eq!(EventFilter::new(Selection::default(), &path), None);
        assert_eq!(serde_json::to_string(&Selection::default()).unwrap(), "{}");
    }

    #[test]
    fn states_are_meant_as_the_api_words_them() {
        let states = Selection { event_states: words(&["add", "delete"]), ..Selection::default() };
        let users = filter(states, "admin/directory/v1/users");
        for (name, matches) in [
            ("directory.user.created", true),
            ("directory.user.deleted", true),
            ("directory.user.updated", false),
            ("directory.user.seen", false),
        ] {
            assert_eq!(users.matches(&event(name, None)), matches, "{name}");
        }
    }

    #[test]
    fn a_known_type_must_be_asked_for_and_an_unknown_one_passes() {
        let types = Selection { event_types: words(&["default", "birthday"]), ..Selection::default() };
        let events = filter(types, "calendar/v3/calendars/a@x/events");
        for (data, matches) in [
            (Some(r#"{"id":"1","eventType":"birthday"}"#), true),
            (Some(r#"{"eventType":"focusTime"}"#), false),
            (Some(r#"{"eventType":7}"#), true),
            (Some(r#"{"id":"1"}"#), true),
            (Some("not json"), true),
            (None, true),
        ] {
            assert_eq!(events.matches(&event("calendar.event.updated", data)), matches, "{data:?}");
        }
    }

    #[test]
    fn globs_match_by_segment() {
        for (glob, name, matches) in [
            ("calendar.event.created", "calendar.event.created", true),
            ("calendar.event.*", "calendar.event.created", true),
            ("calendar.event.*", "calendar.event", false),
            ("calendar.event.*", "calendar.event.created.twice", false),
            ("*.event.created", "drive.event.created", true),
            ("calendar.**", "calendar.event.created", true),
            ("calendar.**", "calendar", true),
            ("**", "a.b", true),
            ("calendar.**", "calendars.event", false),
        ] {
            assert_eq!(glob_matches(glob, name), matches, "{glob} {name}");
        }
    }

    #[test]
    fn what_is_no_glob_is_refused() {
        let one = |glob: &str| check_globs(&[glob.to_owned()]);
        for good in ["a.b", "a.*", "*.b", "a.**", "**", "*"] {
            assert_eq!(one(good), Ok(()), "{good}");
        }
        for bad in ["", "a..b", "a.b*", "**.b", "a.***", "a b.c", "é.b", &"a".repeat(129)] {
            assert!(one(bad).is_err(), "{bad}");
        }
        assert!(check_globs(&vec!["a.b".to_owned(); GLOBS_MAX + 1]).is_err());
    }
}
