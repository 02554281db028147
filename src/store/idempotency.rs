//! First answers of publishes that name themselves.

use diesel::{
    prelude::*,
    result::{Error as DieselError, QueryResult},
};

use super::{
    journal::{FirstAnswer, Stored},
    schema::idempotency_keys,
};

#[derive(Debug, Insertable)]
#[diesel(table_name = idempotency_keys)]
pub(super) struct KeyRow<'a> {
    project: &'a str,
    scope: i16,
    key: &'a str,
    fingerprint: &'a [u8],
    answer: String,
    created_at_ms: i64,
}

impl<'a> KeyRow<'a> {
    pub(super) fn new(first: &'a FirstAnswer) -> QueryResult<Self> {
        Ok(Self {
            project: &first.key.project,
            scope: first.key.scope,
            key: &first.key.key,
            fingerprint: &first.fingerprint,
            answer: answer_text(first)?,
            created_at_ms: first.now.as_millis(),
        })
    }
}

/// The answer as it is stored. Never empty: that is how PostgreSQL marks a key without an answer yet.
pub(super) fn answer_text(first: &FirstAnswer) -> QueryResult<String> {
    serde_json::to_string(&first.answer).map_err(|error| DieselError::SerializationError(error.into()))
}

/// Reads a stored answer. One that cannot be read is an error: guessing would append the event twice.
pub(super) fn stored(fingerprint: Vec<u8>, answer: &str) -> QueryResult<Stored> {
    let answer =
        serde_json::from_str(answer).map_err(|error| DieselError::DeserializationError(error.into()))?;
    Ok(Stored { fingerprint, answer })
}
