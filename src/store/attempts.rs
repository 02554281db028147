//! The ledger of attempts, read page by page.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use super::{
    Store,
    checkpoint::Attempt,
    connection::{Connection, on},
    error::StoreResult,
    schema::attempts,
};
use crate::domain::{channel::ChannelKey, outcome::Verdict, time::Timestamp};

/// Attempts that one page looks at to find those that are asked for.
const SCANNED_MAX: i64 = 10_000;

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
    pub answer_ms: Option<i64>,
    pub excerpt: Option<Vec<u8>>,
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
            answer_ms: attempt.answer_ms,
            excerpt: attempt.excerpt.as_ref().map(|bytes| bytes.to_vec()),
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
    answer_ms: Option<i64>,
    excerpt: Option<Vec<u8>>,
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
    /// The kind of notice that it carried; none for a notification.
    pub notice: Option<String>,
    pub answer_ms: Option<i64>,
    pub excerpt: Option<Vec<u8>>,
}

impl RecordedAttempt {
    pub fn failed(&self) -> bool {
        self.outcome != Verdict::Delivered.as_str()
    }
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
            answer_ms: row.answer_ms,
            excerpt: row.excerpt,
        }
    }
}

/// Which attempts of a channel are wanted; all that is set must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AttemptFilter {
    pub outcome: Option<Verdict>,
    pub number: Option<i64>,
    /// Begun later than this.
    pub after: Option<Timestamp>,
    /// Begun earlier than this.
    pub before: Option<Timestamp>,
}

impl AttemptFilter {
    fn is_selective(&self) -> bool {
        *self != Self::default()
    }
}

/// Attempts from the newest, and where the next page begins.
#[derive(Clone, Debug)]
pub struct AttemptPage {
    pub attempts: Vec<RecordedAttempt>,
    pub next: Option<i64>,
}

impl Store {
    /// A channel's attempts, newest first, older than `before`; at most `limit`, and no more than can be found among
    /// the next [`SCANNED_MAX`]: such a page may be short, or empty, and yet have a next one.
    pub async fn attempts(
        &self,
        channel: ChannelKey,
        filter: AttemptFilter,
        before: Option<i64>,
        limit: i64,
    ) -> StoreResult<AttemptPage> {
        self.read(move |connection| {
            Box::pin(async move { page(connection, channel, &filter, before, limit).await })
        })
        .await
    }

    /// The latest attempt of a channel that carried a notification.
    pub async fn last_attempt(&self, channel: ChannelKey) -> StoreResult<Option<RecordedAttempt>> {
        self.read(move |connection| {
            Box::pin(async move {
                let row: Option<AttemptRow> = on!(connection, c => {
                    attempts::table
                        .filter(attempts::channel.eq(channel.0))
                        .filter(attempts::notice.is_null())
                        .order(attempts::id.desc())
                        .select(AttemptRow::as_select())
                        .first(c)
                        .await
                        .optional()
                })?;
                Ok(row.map(Into::into))
            })
        })
        .await
    }
}

async fn page(
    connection: &mut Connection,
    channel: ChannelKey,
    filter: &AttemptFilter,
    before: Option<i64>,
    limit: i64,
) -> StoreResult<AttemptPage> {
    let before = before.unwrap_or(i64::MAX);
    // The oldest attempt that this page looks at, where there are more than it may look at.
    let floor: Option<i64> = if filter.is_selective() {
        on!(connection, c => {
            attempts::table
                .filter(attempts::channel.eq(channel.0))
                .filter(attempts::id.lt(before))
                .order(attempts::id.desc())
                .offset(SCANNED_MAX - 1)
                .select(attempts::id)
                .first(c)
                .await
                .optional()
        })?
    } else {
        None
    };
    let rows: Vec<AttemptRow> = on!(connection, c => {
        let mut query = attempts::table
            .filter(attempts::channel.eq(channel.0))
            .filter(attempts::id.lt(before))
            .filter(attempts::id.ge(floor.unwrap_or(i64::MIN)))
            .order(attempts::id.desc())
            .limit(limit)
            .select(AttemptRow::as_select())
            .into_boxed();
        if let Some(outcome) = filter.outcome {
            query = query.filter(attempts::outcome.eq(outcome.as_str()));
        }
        if let Some(number) = filter.number {
            query = query.filter(attempts::number.eq(number));
        }
        if let Some(after) = filter.after {
            query = query.filter(attempts::started_at_ms.gt(after.as_millis()));
        }
        if let Some(before) = filter.before {
            query = query.filter(attempts::started_at_ms.lt(before.as_millis()));
        }
        query.load(c).await
    })?;
    let is_full = i64::try_from(rows.len()).is_ok_and(|rows| rows == limit);
    let next = if is_full { rows.last().map(|row| row.id) } else { floor };
    Ok(AttemptPage { attempts: rows.into_iter().map(Into::into).collect(), next })
}
