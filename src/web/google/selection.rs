//! What a Google client's query says about the events it wants: Directory's `event`, Calendar's `eventTypes`. Anywhere
//! else parameters of these names mean nothing, as for Google.

use super::GoogleError;
use crate::{
    domain::{filter::EVENT_TYPES, google_state::DIRECTORY_STATES},
    web::extract::Query,
};

/// States and event types that the watch of `resource` asks for; none where it wants all.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Selected {
    pub states: Option<Vec<String>>,
    pub types: Option<Vec<String>>,
}

pub(super) fn read(query: &Query, resource: &str) -> Result<Selected, GoogleError> {
    let segments: Vec<&str> = resource.split('/').collect();
    Ok(match segments.as_slice() {
        ["admin", "directory", _, ..] => {
            Selected { states: words(query, "event", &DIRECTORY_STATES)?, ..Selected::default() }
        }
        ["calendar", .., "events"] => {
            Selected { types: words(query, "eventTypes", &EVENT_TYPES)?, ..Selected::default() }
        }
        _ => Selected::default(),
    })
}

/// The values of a repeatable parameter, each once.
fn words(query: &Query, name: &'static str, known: &[&str]) -> Result<Option<Vec<String>>, GoogleError> {
    let mut words: Vec<String> = Vec::new();
    for word in query.all(name) {
        if !known.contains(&word) {
            return Err(GoogleError::unknown_value(name, word, known));
        }
        if !words.iter().any(|seen| seen == word) {
            words.push(word.to_owned());
        }
    }
    // Two clients that ask for the same in another order have equal filters.
    words.sort_unstable();
    Ok((!words.is_empty()).then_some(words))
}
