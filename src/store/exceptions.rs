//! Notifications that are not simply before or after their cursor.

use diesel::prelude::*;

use super::{checkpoint::Parked, schema::exceptions};

/// Set aside with evidence; the lane went on.
const PARKED: &str = "parked";

#[derive(Debug, Insertable)]
#[diesel(table_name = exceptions)]
pub(super) struct ExceptionRow {
    pub channel: i64,
    pub seq: i64,
    pub kind: &'static str,
    pub status: Option<i16>,
    pub attempts: i64,
    pub created_at_ms: i64,
}

impl From<&Parked> for ExceptionRow {
    fn from(parked: &Parked) -> Self {
        Self {
            channel: parked.channel.0,
            seq: parked.seq,
            kind: PARKED,
            status: parked.status.and_then(|status| i16::try_from(status).ok()),
            attempts: i64::from(parked.attempts),
            created_at_ms: parked.at.as_millis(),
        }
    }
}
