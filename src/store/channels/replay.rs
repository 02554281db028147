//! A cursor goes back. The one move from outside that lowers it: `replays` tells the engine, whose own place may be
//! ahead of the row.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use super::{
    change::{announce, stand_where_fanned_is},
    locked::lock_with_resource,
};
use crate::{
    domain::{
        channel::{ChannelKey, ResourceKey},
        time::Timestamp,
    },
    store::{
        Store,
        connection::{Connection, on},
        error::StoreResult,
        schema::{channels, cursors, events, exceptions, ranges},
    },
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplayOutcome {
    Replayed,
    /// It has ended, or there is none.
    Ended,
    /// The channel has not had that much.
    Beyond,
    /// Retention took the beginning; this is what is left.
    Lost {
        earliest_seq: i64,
    },
}

impl Store {
    /// Sets the cursor back, so that `from_seq` is sent next. What was parked from there on is sent again with it.
    pub async fn replay_channel(
        &self,
        key: ChannelKey,
        from_seq: i64,
        replay_id: String,
        now: Timestamp,
    ) -> StoreResult<ReplayOutcome> {
        self.write(move |connection| {
            let replay_id = replay_id.clone();
            Box::pin(async move { replay(connection, key, from_seq, &replay_id, now).await })
        })
        .await
    }

    /// The first seq after `after` that was published at `time` or later.
    pub async fn first_seq_since(
        &self,
        resource: ResourceKey,
        after: i64,
        time: Timestamp,
    ) -> StoreResult<Option<i64>> {
        self.read(move |connection| {
            Box::pin(async move {
                // A log's times rise with its seqs, but for clocks that were set back: the first that is late enough.
                Ok(on!(connection, c => {
                    events::table
                        .filter(events::resource.eq(resource.0))
                        .filter(events::seq.gt(after))
                        .filter(events::published_at_ms.ge(time.as_millis()))
                        .order(events::seq)
                        .select(events::seq)
                        .first(c)
                        .await
                        .optional()
                })?)
            })
        })
        .await
    }
}

async fn replay(
    connection: &mut Connection,
    key: ChannelKey,
    from_seq: i64,
    replay_id: &str,
    now: Timestamp,
) -> StoreResult<ReplayOutcome> {
    let Some((head, locked)) = lock_with_resource(connection, key).await? else {
        return Ok(ReplayOutcome::Ended);
    };
    if !locked.lives() {
        return Ok(ReplayOutcome::Ended);
    }
    if from_seq > head.seq {
        return Ok(ReplayOutcome::Beyond);
    }
    let earliest: Option<i64> = on!(connection, c => {
        events::table
            .filter(events::resource.eq(locked.resource.0))
            .select(diesel::dsl::min(events::seq))
            .first(c)
            .await
    })?;
    let earliest_seq = earliest.unwrap_or(head.seq + 1);
    if earliest_seq > from_seq {
        return Ok(ReplayOutcome::Lost { earliest_seq });
    }
    let stood = stand_where_fanned_is(connection, key, locked.resource).await?.seq;
    // A replay never skips: what lies ahead of the cursor is on its way anyhow.
    let from_seq = from_seq.min(stood + 1);
    on!(connection, c => {
        diesel::delete(
            exceptions::table.filter(exceptions::channel.eq(key.0)).filter(exceptions::seq.ge(from_seq)),
        )
        .execute(c)
        .await
    })?;
    on!(connection, c => {
        diesel::delete(ranges::table.filter(ranges::channel.eq(key.0)).filter(ranges::from_seq.ge(from_seq)))
            .execute(c)
            .await
    })?;
    on!(connection, c => {
        diesel::update(
            ranges::table.filter(ranges::channel.eq(key.0)).filter(ranges::to_seq.ge(from_seq)),
        )
        .set(ranges::to_seq.eq(from_seq - 1))
        .execute(c)
        .await
    })?;
    let due = locked.state.sends().then(|| now.as_millis());
    on!(connection, c => {
        diesel::update(cursors::table.find(key.0))
            .set((
                cursors::seq.eq(from_seq - 1),
                cursors::behind.eq(true),
                cursors::due_at_ms.eq(due),
                cursors::attempts.eq(0),
                cursors::client_errors.eq(0),
                cursors::refusals.eq(0),
                cursors::pinned_seq.eq(None::<i64>),
                cursors::settled_map.eq(None::<Vec<u8>>),
                cursors::moved.eq(cursors::moved + 1),
            ))
            .execute(c)
            .await
    })?;
    on!(connection, c => {
        diesel::update(channels::table.find(key.0))
            .set((
                channels::replay_id.eq(Some(replay_id)),
                channels::replay_through.eq(Some(head.seq)),
                channels::replays.eq(channels::replays + 1),
                channels::rev.eq(channels::rev + 1),
            ))
            .execute(c)
            .await
    })?;
    announce(connection, key).await?;
    Ok(ReplayOutcome::Replayed)
}
