//! What is known of one event: its places in the logs, and what each channel's rows say of it. Read by `app::fates`,
//! which judges. Nothing here scans the ledger or the log: every query begins at a key.

use std::collections::HashMap;

use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use super::{
    Store,
    channels::{ChannelRow, ChannelView, Owner, view, views},
    connection::{Connection, on},
    cursors::CursorRow,
    error::{StoreError, StoreResult},
    events::EventRow,
    exceptions::PARKED,
    schema::{self, attempts, channels, cursors, events, exceptions, past_filters, ranges, work},
};
use crate::domain::{
    channel::{ChannelKey, ResourceKey},
    event::Event,
    fate::RangeKind,
    filter::Selection,
    resource::ResourcePath,
};

/// One event of a resource's log, found by its id.
#[derive(Clone, Debug)]
pub struct EventEntry {
    pub key: ResourceKey,
    pub resource: ResourcePath,
    pub resource_id: String,
    pub event: Event,
}

/// A channel and what its rows say of one seq.
#[derive(Clone, Debug)]
pub struct Trace {
    pub view: ChannelView,
    pub exception: Option<ExceptionTrace>,
    /// The range that covers the seq.
    pub range: Option<RangeKind>,
    /// What the channel asked for when its cursor passed the seq, where that was replaced since: of its options those
    /// that filter.
    pub past_filter: Option<Selection>,
    /// The highest attempt in the ledger, where there was more than one.
    pub attempts: Option<i64>,
}

/// An exception's row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExceptionTrace {
    pub parked: bool,
    pub attempts: i64,
    pub reason: Option<String>,
    pub status: Option<i16>,
    pub error: Option<String>,
}

impl Store {
    /// Where the events stand that are called `id`: those of the latest publish that used it, at most `limit`, in the
    /// order of their resources.
    pub async fn event_entries(
        &self,
        project: String,
        id: String,
        limit: i64,
    ) -> StoreResult<Vec<EventEntry>> {
        self.read(move |connection| {
            Box::pin(async move {
                let rows: Vec<(i64, String, String, EventRow)> = on!(connection, c => {
                    events::table
                        .inner_join(schema::resources::table.on(schema::resources::id.eq(events::resource)))
                        .filter(events::project.eq(project))
                        .filter(events::event_id.eq(id))
                        .order((events::published_at_ms.desc(), events::resource, events::seq))
                        .limit(limit)
                        .select((
                            events::resource,
                            schema::resources::path,
                            schema::resources::resource_id,
                            EventRow::as_select(),
                        ))
                        .load(c)
                        .await
                })?;
                let entries: Vec<EventEntry> = rows
                    .into_iter()
                    .map(|(key, path, resource_id, row)| EventEntry {
                        key: ResourceKey(key),
                        resource: ResourcePath::from_stored(path),
                        resource_id,
                        event: row.into(),
                    })
                    .collect();
                // An id may be used again once its first use is forgotten: all places of one publish share their time.
                let latest = entries.iter().map(|entry| entry.event.published_at).max();
                Ok(entries.into_iter().filter(|entry| Some(entry.event.published_at) == latest).collect())
            })
        })
        .await
    }

    /// What the channels of `resource` after `after` say of the event at `seq`, in key order; `limit` channels at most,
    /// whether or not the event was theirs.
    pub async fn traces(
        &self,
        owner: Owner,
        resource: ResourceKey,
        seq: i64,
        after: ChannelKey,
        limit: i64,
    ) -> StoreResult<Vec<Trace>> {
        self.read(move |connection| {
            Box::pin(async move {
                // First the cursors: what settles after they were read still counts as pending, and never as delivered
                // without the range or exception that is read later.
                let views = watching(connection, owner, resource, after, limit).await?;
                let keys: Vec<i64> = views.iter().map(|view| view.channel.key.0).collect();
                let mut exceptions = exceptions_at(connection, &keys, seq).await?;
                let mut ranges = ranges_over(connection, &keys, seq).await?;
                let mut filters = filters_at(connection, &keys, seq).await?;
                let mut attempts = attempts_of(connection, &keys, seq).await?;
                let trace = |view: ChannelView| {
                    let key = view.channel.key.0;
                    Trace {
                        exception: exceptions.remove(&key),
                        range: ranges.remove(&key),
                        past_filter: filters.remove(&key),
                        attempts: attempts.remove(&key),
                        view,
                    }
                };
                Ok(views.into_iter().map(trace).collect())
            })
        })
        .await
    }
}

async fn watching(
    connection: &mut Connection,
    owner: Owner,
    resource: ResourceKey,
    after: ChannelKey,
    limit: i64,
) -> StoreResult<Vec<ChannelView>> {
    let rows = on!(connection, c => {
        let mut query = views!()
            .filter(channels::project.eq(owner.project))
            .filter(channels::resource.eq(resource.0))
            .filter(channels::id.gt(after.0))
            .order(channels::id)
            .limit(limit)
            .into_boxed();
        if let Some(subject) = owner.subject {
            query = query.filter(channels::subject.eq(subject));
        }
        query.load(c).await
    })?;
    rows.into_iter().map(view).collect()
}

type ExceptionRow = (i64, String, i64, Option<String>, Option<i16>, Option<String>);

async fn exceptions_at(
    connection: &mut Connection,
    keys: &[i64],
    seq: i64,
) -> StoreResult<HashMap<i64, ExceptionTrace>> {
    let rows: Vec<ExceptionRow> = on!(connection, c => {
        exceptions::table
            .filter(exceptions::channel.eq_any(keys))
            .filter(exceptions::seq.eq(seq))
            .select((
                exceptions::channel,
                exceptions::kind,
                exceptions::attempts,
                exceptions::reason,
                exceptions::status,
                exceptions::error,
            ))
            .load(c)
            .await
    })?;
    Ok(rows
        .into_iter()
        .map(|(channel, kind, attempts, reason, status, error)| {
            (channel, ExceptionTrace { parked: kind == PARKED, attempts, reason, status, error })
        })
        .collect())
}

/// The latest range that begins at or before `seq`, where it reaches that far: one that begins later says what became
/// of a later life of the same seqs.
async fn ranges_over(
    connection: &mut Connection,
    keys: &[i64],
    seq: i64,
) -> StoreResult<HashMap<i64, RangeKind>> {
    let earlier = diesel::alias!(schema::ranges as earlier);
    let latest = || {
        earlier
            .filter(earlier.field(ranges::channel).eq(channels::id))
            .filter(earlier.field(ranges::from_seq).le(seq))
            .select(diesel::dsl::max(earlier.field(ranges::from_seq)))
            .single_value()
    };
    let rows: Vec<(i64, i64, String)> = on!(connection, c => {
        channels::table
            .inner_join(
                ranges::table.on(
                    ranges::channel.eq(channels::id).and(ranges::from_seq.nullable().eq(latest())),
                ),
            )
            .filter(channels::id.eq_any(keys))
            .select((ranges::channel, ranges::to_seq, ranges::kind))
            .load(c)
            .await
    })?;
    let covering = rows.into_iter().filter(|(_, to, _)| *to >= seq);
    covering
        .map(|(channel, _, kind)| {
            let kind = RangeKind::parse(&kind).ok_or(StoreError::Unreadable("range"))?;
            Ok((channel, kind))
        })
        .collect()
}

/// The filters that were replaced after the cursor had passed `seq`: of each channel the first of them.
async fn filters_at(
    connection: &mut Connection,
    keys: &[i64],
    seq: i64,
) -> StoreResult<HashMap<i64, Selection>> {
    let later = diesel::alias!(schema::past_filters as later);
    let first = || {
        later
            .filter(later.field(past_filters::channel).eq(channels::id))
            .filter(later.field(past_filters::through_seq).ge(seq))
            .select(diesel::dsl::min(later.field(past_filters::through_seq)))
            .single_value()
    };
    let rows: Vec<(i64, String)> = on!(connection, c => {
        channels::table
            .inner_join(
                past_filters::table.on(
                    past_filters::channel
                        .eq(channels::id)
                        .and(past_filters::through_seq.nullable().eq(first())),
                ),
            )
            .filter(channels::id.eq_any(keys))
            .select((past_filters::channel, past_filters::filter))
            .load(c)
            .await
    })?;
    rows.into_iter()
        .map(|(channel, filter)| {
            let filter = serde_json::from_str(&filter).map_err(|_| StoreError::Unreadable("filter"))?;
            Ok((channel, filter))
        })
        .collect()
}

/// How often the notification of `seq` was tried, for those channels that tried it more than once. Answered by the
/// index of repeated attempts alone.
async fn attempts_of(connection: &mut Connection, keys: &[i64], seq: i64) -> StoreResult<HashMap<i64, i64>> {
    // A query of its own per channel, so that both databases begin it at the channel *and* the number.
    let most = || {
        attempts::table
            .filter(attempts::channel.eq(channels::id))
            // `Channel::number_of`, in the database's words.
            .filter(attempts::number.eq(channels::start_seq * -1_i64 + (seq + 1)))
            // Spelt out, so that the partial index is known to hold them all.
            .filter(diesel::dsl::sql::<diesel::sql_types::Bool>("attempts.attempt > 1"))
            .filter(attempts::notice.is_null())
            .select(diesel::dsl::max(attempts::attempt))
            .single_value()
    };
    let rows: Vec<(i64, Option<i64>)> = on!(connection, c => {
        channels::table
            .filter(channels::id.eq_any(keys))
            .select((channels::id, most()))
            .load(c)
            .await
    })?;
    Ok(rows.into_iter().filter_map(|(channel, most)| Some((channel, most?))).collect())
}
