//! A channel's filter is replaced: what it was up to here is remembered, so that one can tell for ever which events
//! the channel did not want. What waits for attempts of its own and is not wanted any more is cancelled. Called inside
//! the transaction of a change, which holds the channel's row.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use super::{change::stand_where_fanned_is, locked::Locked};
use crate::{
    domain::{
        channel::{ChannelKey, ChannelOptions},
        event::Event,
        fate::RangeKind,
        filter::Selection,
        resource::ResourcePath,
        time::Timestamp,
    },
    store::{
        Store,
        checkpoint::EndedRange,
        connection::{Connection, on},
        error::{StoreError, StoreResult},
        events::EventRow,
        exceptions::RETRY,
        ranges,
        schema::{cursors, events, exceptions, past_filters, resources},
    },
};

/// A filter that a channel had, and the last seq that it decided about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PastFilter {
    pub through: i64,
    pub selection: Selection,
}

impl Store {
    /// The filters that a channel had before its present one, oldest first.
    pub async fn past_filters(&self, key: ChannelKey) -> StoreResult<Vec<PastFilter>> {
        let rows: Vec<(i64, String)> = self
            .read(move |connection| {
                Box::pin(async move {
                    Ok(on!(connection, c => {
                        past_filters::table
                            .filter(past_filters::channel.eq(key.0))
                            .order(past_filters::through_seq)
                            .select((past_filters::through_seq, past_filters::filter))
                            .load(c)
                            .await
                    })?)
                })
            })
            .await?;
        let read = |(through, filter): (i64, String)| {
            let selection = serde_json::from_str(&filter).map_err(|_| StoreError::Unreadable("filter"))?;
            Ok(PastFilter { through, selection })
        };
        rows.into_iter().map(read).collect()
    }
}

/// Remembers the filter that `new` replaces, if it is another one, and makes the cursor stand where it is: what it has
/// not passed is the new filter's business, also what the engine has passed in memory alone.
pub(super) async fn replace_filter(
    connection: &mut Connection,
    key: ChannelKey,
    locked: &Locked,
    new: &ChannelOptions,
    now: Timestamp,
) -> StoreResult<()> {
    let old = Selection::from(&locked.options);
    if old == Selection::from(new) {
        return Ok(());
    }
    let through = stand_where_fanned_is(connection, key, locked.resource).await?.seq;
    let filter = serde_json::to_string(&old).map_err(|_| StoreError::Unwritable("filter"))?;
    on!(connection, c => {
        diesel::insert_into(past_filters::table)
            .values((
                past_filters::channel.eq(key.0),
                past_filters::through_seq.eq(through),
                past_filters::filter.eq(&filter),
            ))
            // A filter that was replaced before the cursor moved has decided about nothing.
            .on_conflict((past_filters::channel, past_filters::through_seq))
            .do_nothing()
            .execute(c)
            .await
    })?;
    cancel_retries(connection, key, locked, new, now).await?;
    // `fanned` must not carry it on, nor a checkpoint made before.
    on!(connection, c => {
        diesel::update(cursors::table.find(key.0))
            .set((cursors::behind.eq(true), cursors::moved.eq(cursors::moved + 1)))
            .execute(c)
            .await
    })?;
    if locked.state.sends() {
        // Or nothing would find it after a crash.
        on!(connection, c => {
            diesel::update(cursors::table.find(key.0).filter(cursors::due_at_ms.is_null()))
                .set(cursors::due_at_ms.eq(Some(now.as_millis())))
                .execute(c)
                .await
        })?;
    }
    Ok(())
}

/// Cancels what waits by itself and that the new filter does not want.
async fn cancel_retries(
    connection: &mut Connection,
    key: ChannelKey,
    locked: &Locked,
    new: &ChannelOptions,
    now: Timestamp,
) -> StoreResult<()> {
    let path: String = on!(connection, c => {
        resources::table.find(locked.resource.0).select(resources::path).first(c).await
    })?;
    let Some(filter) = new.filter(&ResourcePath::from_stored(path)) else { return Ok(()) };
    let waits = exceptions::table
        .filter(exceptions::channel.eq(key.0))
        .filter(exceptions::kind.eq(RETRY))
        .select(exceptions::seq);
    let events: Vec<EventRow> = on!(connection, c => {
        events::table
            .filter(events::resource.eq(locked.resource.0))
            .filter(events::seq.eq_any(waits))
            .order(events::seq)
            .select(EventRow::as_select())
            .load(c)
            .await
    })?;
    for event in events.into_iter().map(Event::from).filter(|event| !filter.matches(event)) {
        let waits = exceptions::table.find((key.0, event.seq));
        on!(connection, c => diesel::delete(waits).execute(c).await)?;
        let cancelled =
            EndedRange { channel: key, from: event.seq, to: event.seq, kind: RangeKind::Cancelled, at: now };
        ranges::write(connection, &cancelled).await?;
    }
    Ok(())
}
