//! The ledger of attempts, read page by page.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use super::{Store, checkpoint::Attempt, connection::on, error::StoreResult, schema::attempts};
use crate::domain::{channel::ChannelKey, time::Timestamp};

#[derive(Debug, Insertable)]
#[diesel(table_name = attempts)]
pub(super) struct NewAttemptRow {
    pub channel: i64,
    pub number: i64,
    pub attempt: i64,
    pub started_at_ms: i64,
    pub duration_ms: i64,
    pub outcome: &'static str,
    pub status: Option<i16>,
    pub error: Option<&'static str>,
    pub notice: Option<&'static str>,
}

impl From<&Attempt> for NewAttemptRow {
    fn from(attempt: &Attempt) -> Self {
        Self {
            channel: attempt.channel.0,
            number: attempt.number,
            attempt: i64::from(attempt.attempt),
            started_at_ms: attempt.started_at.as_millis(),
            duration_ms: attempt.duration_ms,
            outcome: attempt.outcome,
            status: attempt.status.and_then(|status| i16::try_from(status).ok()),
            error: attempt.error,
            notice: attempt.notice,
        }
    }
}

#[derive(Debug, Queryable, Selectable)]
#[diesel(table_name = attempts)]
struct AttemptRow {
    id: i64,
    number: i64,
    attempt: i64,
    started_at_ms: i64,
    duration_ms: i64,
    outcome: String,
    status: Option<i16>,
    error: Option<String>,
    notice: Option<String>,
}

/// An attempt as the API shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordedAttempt {
    /// The place in the ledger, for paging.
    pub id: i64,
    pub number: i64,
    pub attempt: i64,
    pub started_at: Timestamp,
    pub duration_ms: i64,
    pub outcome: String,
    pub status: Option<i16>,
    pub error: Option<String>,
    /// The kind of the notice that it carried, if it was one.
    pub notice: Option<String>,
}

impl From<AttemptRow> for RecordedAttempt {
    fn from(row: AttemptRow) -> Self {
        Self {
            id: row.id,
            number: row.number,
            attempt: row.attempt,
            started_at: Timestamp::from_millis(row.started_at_ms),
            duration_ms: row.duration_ms,
            outcome: row.outcome,
            status: row.status,
            error: row.error,
            notice: row.notice,
        }
    }
}

impl Store {
    /// A channel's attempts, newest first, older than `before`; at most `limit`.
    pub async fn attempts(
        &self,
        channel: ChannelKey,
        before: Option<i64>,
        limit: i64,
    ) -> StoreResult<Vec<RecordedAttempt>> {
        self.read(move |connection| {
            Box::pin(async move {
                let rows: Vec<AttemptRow> = on!(connection, c => {
                    attempts::table
                        .filter(attempts::channel.eq(channel.0))
                        .filter(attempts::id.lt(before.unwrap_or(i64::MAX)))
                        .order(attempts::id.desc())
                        .limit(limit)
                        .select(AttemptRow::as_select())
                        .load(c)
                        .await
                })?;
                Ok(rows.into_iter().map(Into::into).collect())
            })
        })
        .await
    }
}
