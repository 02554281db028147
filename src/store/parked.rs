//! Notifications that were set aside, as their owner sees them. What sets them aside is a checkpoint.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use super::{
    Store,
    connection::on,
    error::StoreResult,
    exceptions::PARKED,
    schema::{events, exceptions},
};
use crate::domain::{
    channel::{ChannelKey, ResourceKey},
    time::Timestamp,
};

/// Parked notifications are counted up to here: a count is one read, and nobody needs to know more exactly.
pub const PARKED_COUNTED_MAX: i64 = 1_000;

/// A notification that was set aside, with its evidence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParkedNotification {
    pub seq: i64,
    /// The event's name and state; a sync has no event.
    pub event: Option<(String, String)>,
    pub reason: Option<String>,
    pub status: Option<i16>,
    pub error: Option<String>,
    pub attempts: i64,
    pub parked_at: Timestamp,
}

type Row = (i64, Option<String>, Option<i16>, Option<String>, i64, i64, Option<String>, Option<String>);

impl Store {
    /// The parked notifications of a channel of `resource` after `after`, oldest first; at most `limit`.
    pub async fn parked(
        &self,
        channel: ChannelKey,
        resource: ResourceKey,
        after: i64,
        limit: i64,
    ) -> StoreResult<Vec<ParkedNotification>> {
        self.read(move |connection| {
            Box::pin(async move {
                let rows: Vec<Row> = on!(connection, c => {
                    exceptions::table
                        .left_join(events::table.on(
                            events::resource.eq(resource.0).and(events::seq.eq(exceptions::seq)),
                        ))
                        .filter(exceptions::channel.eq(channel.0))
                        .filter(exceptions::kind.eq(PARKED))
                        .filter(exceptions::seq.gt(after))
                        .order(exceptions::seq)
                        .limit(limit)
                        .select((
                            exceptions::seq,
                            exceptions::reason,
                            exceptions::status,
                            exceptions::error,
                            exceptions::attempts,
                            exceptions::created_at_ms,
                            events::name.nullable(),
                            events::state.nullable(),
                        ))
                        .load(c)
                        .await
                })?;
                let shown = rows.into_iter().map(
                    |(seq, reason, status, error, attempts, created_at_ms, name, state)| ParkedNotification {
                        seq,
                        event: name.zip(state),
                        reason,
                        status,
                        error,
                        attempts,
                        parked_at: Timestamp::from_millis(created_at_ms),
                    },
                );
                Ok(shown.collect())
            })
        })
        .await
    }

    /// How many notifications of a channel are parked, as far as they are counted.
    pub async fn parked_count(&self, channel: ChannelKey) -> StoreResult<i64> {
        self.read(move |connection| {
            Box::pin(async move {
                let some: Vec<i64> = on!(connection, c => {
                    exceptions::table
                        .filter(exceptions::channel.eq(channel.0))
                        .filter(exceptions::kind.eq(PARKED))
                        .limit(PARKED_COUNTED_MAX)
                        .select(exceptions::seq)
                        .load(c)
                        .await
                })?;
                Ok(i64::try_from(some.len()).unwrap_or(PARKED_COUNTED_MAX))
            })
        })
        .await
    }
}
