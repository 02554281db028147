//! Notifications that are not simply before or after their cursor: parked ones, and those of them that get another
//! attempt. Those that wait for attempts of their own are in `retries`.

use diesel::{dsl::sql, expression::SqlLiteral, prelude::*, sql_types::Bool};
use diesel_async::RunQueryDsl;

use super::{
    Store,
    channels::{lock, revise, stand_where_fanned_is},
    checkpoint::Parked,
    connection::{Connection, on},
    error::StoreResult,
    schema::{cursors, exceptions},
};
use crate::domain::{channel::ChannelKey, time::Timestamp};

/// Set aside with evidence; the lane went on.
pub(super) const PARKED: &str = "parked";
/// Parked, and to be tried once more.
pub(super) const REDRIVE: &str = "redrive";
/// Failed where notifications may overtake each other, and waits for its own attempts.
pub(super) const RETRY: &str = "retry";
/// Notifications that one call tries again.
pub const REDRIVES_MAX: i64 = 1_000;

#[derive(Clone, Debug, Insertable, AsChangeset)]
#[diesel(table_name = exceptions, treat_none_as_null = true)]
pub(super) struct ExceptionRow {
    pub channel: i64,
    pub seq: i64,
    pub kind: &'static str,
    pub status: Option<i16>,
    pub attempts: i64,
    pub created_at_ms: i64,
    pub reason: Option<&'static str>,
    pub error: Option<&'static str>,
    pub told: bool,
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
            reason: Some(parked.reason),
            error: parked.error,
            told: false,
        }
    }
}

/// A parked notification that waits for another attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WaitingRedrive {
    pub channel: ChannelKey,
    pub seq: i64,
    pub attempts: u32,
    /// What its request says that it belongs to.
    pub replay_id: String,
}

/// Which parked notifications are meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ParkedChoice {
    All,
    /// From and through these seqs.
    Range(i64, i64),
    Seqs(Vec<i64>),
}

impl ParkedChoice {
    fn bounds(&self) -> (i64, i64) {
        match self {
            Self::All => (i64::MIN, i64::MAX),
            Self::Range(from, through) => (*from, *through),
            Self::Seqs(seqs) => (
                seqs.iter().min().copied().unwrap_or_default(),
                seqs.iter().max().copied().unwrap_or_default(),
            ),
        }
    }

    fn includes(&self, seq: i64) -> bool {
        let (from, through) = self.bounds();
        (from..=through).contains(&seq)
            && if let Self::Seqs(seqs) = self { seqs.contains(&seq) } else { true }
    }
}

impl Store {
    /// Gives parked notifications another attempt, oldest first, at most [`REDRIVES_MAX`]. Returns how many.
    pub async fn redrive(
        &self,
        key: ChannelKey,
        choice: ParkedChoice,
        replay_id: String,
        now: Timestamp,
    ) -> StoreResult<usize> {
        self.write(move |connection| {
            let (choice, replay_id) = (choice.clone(), replay_id.clone());
            Box::pin(async move {
                let Some(locked) = lock(connection, key).await? else { return Ok(0) };
                // Found by time, and never carried along by `fanned` while something waits beside the log.
                stand_where_fanned_is(connection, key, locked.resource).await?;
                let seqs = parked_seqs(connection, key, &choice).await?;
                if seqs.is_empty() {
                    return Ok(0);
                }
                on!(connection, c => {
                    diesel::update(
                        exceptions::table
                            .filter(exceptions::channel.eq(key.0))
                            .filter(exceptions::seq.eq_any(&seqs)),
                    )
                    .set((exceptions::kind.eq(REDRIVE), exceptions::replay_id.eq(Some(&replay_id))))
                    .execute(c)
                    .await
                })?;
                let due = locked.state.sends().then(|| now.as_millis());
                on!(connection, c => {
                    diesel::update(cursors::table.find(key.0))
                        .set((cursors::behind.eq(true), cursors::moved.eq(cursors::moved + 1)))
                        .execute(c)
                        .await
                })?;
                // A head that waits for its next attempt goes on waiting: a lost bell costs no more than that.
                on!(connection, c => {
                    diesel::update(cursors::table.find(key.0))
                        .filter(cursors::attempts.eq(0).or(cursors::due_at_ms.is_null()))
                        .set(cursors::due_at_ms.eq(due))
                        .execute(c)
                        .await
                })?;
                revise(connection, key).await?;
                Ok(seqs.len())
            })
        })
        .await
    }

    /// Settles parked notifications that the receiver has pulled. Those that are none already are passed over.
    pub async fn settle_parked(&self, key: ChannelKey, seqs: Vec<i64>) -> StoreResult<usize> {
        self.write(move |connection| {
            let seqs = seqs.clone();
            Box::pin(async move {
                if lock(connection, key).await?.is_none() {
                    return Ok(0);
                }
                let settled = on!(connection, c => {
                    diesel::delete(
                        exceptions::table
                            .filter(exceptions::channel.eq(key.0))
                            .filter(exceptions::seq.eq_any(&seqs))
                            // What waits for its own attempts is settled by an acknowledgement that reaches it.
                            .filter(exceptions::kind.ne(RETRY)),
                    )
                    .execute(c)
                    .await
                })?;
                revise(connection, key).await?;
                Ok(settled)
            })
        })
        .await
    }

    /// The seqs of what stands aside after `after` and up to `through`, in order, and whether each is parked or waits
    /// for attempts of its own; at most `limit`.
    pub async fn aside(
        &self,
        key: ChannelKey,
        after: i64,
        through: i64,
        limit: i64,
    ) -> StoreResult<Vec<(i64, bool)>> {
        self.read(move |connection| {
            Box::pin(async move {
                let rows: Vec<(i64, String)> = on!(connection, c => {
                    exceptions::table
                        .filter(exceptions::channel.eq(key.0))
                        .filter(exceptions::seq.gt(after))
                        .filter(exceptions::seq.le(through))
                        .order(exceptions::seq)
                        .limit(limit)
                        .select((exceptions::seq, exceptions::kind))
                        .load(c)
                        .await
                })?;
                Ok(rows.into_iter().map(|(seq, kind)| (seq, kind != RETRY)).collect())
            })
        })
        .await
    }
}

async fn parked_seqs(
    connection: &mut Connection,
    key: ChannelKey,
    choice: &ParkedChoice,
) -> StoreResult<Vec<i64>> {
    let (from, through) = choice.bounds();
    let seqs: Vec<i64> = on!(connection, c => {
        exceptions::table
            .filter(exceptions::channel.eq(key.0))
            .filter(exceptions::kind.eq(PARKED))
            .filter(exceptions::seq.ge(from))
            .filter(exceptions::seq.le(through))
            .order(exceptions::seq)
            .limit(REDRIVES_MAX)
            .select(exceptions::seq)
            .load(c)
            .await
    })?;
    Ok(seqs.into_iter().filter(|seq| choice.includes(*seq)).collect())
}

/// What the partial index of waiting exceptions holds, in its own words: it need not be used for a bound value.
pub(super) fn waiting() -> SqlLiteral<Bool> {
    sql("kind <> 'parked'")
}

/// What of these channels waits for another attempt, in the order of the log.
pub(super) async fn redrives(connection: &mut Connection, keys: &[i64]) -> StoreResult<Vec<WaitingRedrive>> {
    let rows: Vec<(i64, i64, i64, Option<String>)> = on!(connection, c => {
        exceptions::table
            .filter(exceptions::channel.eq_any(keys.to_vec()))
            .filter(waiting())
            .filter(exceptions::kind.eq(REDRIVE))
            .order((exceptions::channel, exceptions::seq))
            .select((exceptions::channel, exceptions::seq, exceptions::attempts, exceptions::replay_id))
            .load(c)
            .await
    })?;
    let waiting = rows.into_iter().map(|(channel, seq, attempts, replay_id)| WaitingRedrive {
        channel: ChannelKey(channel),
        seq,
        attempts: u32::try_from(attempts).unwrap_or(u32::MAX),
        replay_id: replay_id.unwrap_or_default(),
    });
    Ok(waiting.collect())
}
