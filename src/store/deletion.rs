//! A resource is deleted: a last event says so, what its log held is erased, and its channels end with that event.
//!
//! In slices, each a transaction that can be repeated. A channel's end is written down at once; it goes on until its
//! receiver has had the last event, and is stopped by the expiry sweep then. Its row stays, and with it the head: no seq
//! is given out twice, and whoever publishes here again goes on counting.

use std::sync::Arc;

use diesel::{prelude::*, sql_types::BigInt};
use diesel_async::RunQueryDsl;

use super::{
    Store,
    channels::{freeze, lock, revise},
    connection::{Connection, on},
    erasure::erase_entries,
    error::StoreResult,
    journal::PlacedEvent,
    own, resources,
    schema::{channels, events, resources as rows},
};
use crate::domain::{
    channel::{ChannelKey, ChannelState, ResourceKey},
    event::Event,
    id::EVENT_ID_PREFIX,
    time::Timestamp,
};

/// What the last event of a deleted resource is called. Its state is `not_exists`.
pub const RESOURCE_DELETED: &str = "resource.deleted";
/// Channels whose end one transaction writes down, or that it stops.
const CHANNELS_MAX: i64 = 100;
/// Events that one transaction erases, of up to 256 KiB each.
const EVENTS_MAX: i64 = 100;

/// A resource that is being deleted, and its last event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deletion {
    pub resource: ResourceKey,
    pub last_seq: i64,
}

/// What one transaction did about a deletion.
#[derive(Debug, Default)]
pub struct DeletionSlice {
    /// Channels whose end is known now.
    pub ending: Vec<ChannelKey>,
    pub is_done: bool,
}

#[derive(Debug, QueryableByName)]
struct Key {
    #[diesel(sql_type = BigInt)]
    id: i64,
}

impl Store {
    /// Appends the last event, unless the log ends with one. `None`: there is no such resource.
    pub async fn begin_deletion(
        &self,
        project: &str,
        resource_id: &str,
        now: Timestamp,
    ) -> StoreResult<Option<Deletion>> {
        let (project, resource_id) = (project.to_owned(), resource_id.to_owned());
        self.write(move |connection| {
            let (project, resource_id) = (project.clone(), resource_id.clone());
            Box::pin(async move { begin(connection, &project, &resource_id, now).await })
        })
        .await
    }

    /// One transaction of a deletion. To be called until it is done.
    pub async fn deletion_slice(&self, deletion: Deletion, now: Timestamp) -> StoreResult<DeletionSlice> {
        let done = self
            .write(move |connection| Box::pin(async move { slice(connection, deletion, now).await }))
            .await?;
        self.cache().forget(deletion.resource, i64::MIN, deletion.last_seq - 1);
        if done.is_done {
            self.empty_wal().await?;
        }
        Ok(done)
    }

    /// Stops a batch of the channels that have had the last event that is meant for them, and tells which.
    pub async fn stop_finished_channels(&self, now: Timestamp) -> StoreResult<Vec<ChannelKey>> {
        self.write(move |connection| Box::pin(async move { stop_finished(connection, now).await })).await
    }
}

async fn begin(
    connection: &mut Connection,
    project: &str,
    resource_id: &str,
    now: Timestamp,
) -> StoreResult<Option<Deletion>> {
    let key: Option<i64> = on!(connection, c => {
        rows::table
            .filter(rows::project.eq(project))
            .filter(rows::resource_id.eq(resource_id))
            .select(rows::id)
            .first(c)
            .await
            .optional()
    })?;
    let Some(key) = key.map(ResourceKey) else { return Ok(None) };
    let head = resources::lock(connection, key).await?;
    on!(connection, c => {
        diesel::update(rows::table.find(key.0)).set(rows::declared.eq(false)).execute(c).await
    })?;
    let last: Option<String> = on!(connection, c => {
        events::table.find((key.0, head.seq)).select(events::name).first(c).await.optional()
    })?;
    if last.is_some_and(|name| name == RESOURCE_DELETED) {
        return Ok(Some(Deletion { resource: key, last_seq: head.seq }));
    }
    let seq = head.seq + 1;
    let event = Event {
        seq,
        // Once in its project: the log gives each seq out once.
        id: format!("{EVENT_ID_PREFIX}end_{}_{seq}", key.0),
        name: RESOURCE_DELETED.to_owned(),
        state: "not_exists".to_owned(),
        changed: None,
        payload: None,
        published_at: now,
    };
    let placed = PlacedEvent { resource: key, project: project.to_owned(), event: Arc::new(event) };
    own::append(connection, placed, head.seq).await?;
    Ok(Some(Deletion { resource: key, last_seq: seq }))
}

async fn slice(
    connection: &mut Connection,
    deletion: Deletion,
    now: Timestamp,
) -> StoreResult<DeletionSlice> {
    let Deletion { resource, last_seq } = deletion;
    resources::lock(connection, resource).await?;
    let mut done = DeletionSlice::default();
    let ending: Vec<i64> = on!(connection, c => {
        channels::table
            .filter(channels::resource.eq(resource.0))
            .filter(channels::end_seq.is_null())
            .filter(channels::start_seq.lt(last_seq))
            .order(channels::id)
            .limit(CHANNELS_MAX)
            .select(channels::id)
            .load(c)
            .await
    })?;
    for key in &ending {
        let Some(locked) = lock(connection, ChannelKey(*key)).await? else { continue };
        if locked.end_seq.is_some() {
            continue;
        }
        on!(connection, c => {
            diesel::update(channels::table.find(*key))
                .set(channels::end_seq.eq(Some(last_seq)))
                .execute(c)
                .await
        })?;
        revise(connection, ChannelKey(*key)).await?;
        done.ending.push(ChannelKey(*key));
    }
    let left: Vec<i64> = on!(connection, c => {
        events::table
            .filter(events::resource.eq(resource.0))
            .filter(events::seq.lt(last_seq))
            .filter(events::erased_at_ms.is_null())
            .order(events::seq)
            .limit(EVENTS_MAX)
            .select(events::seq)
            .load(c)
            .await
    })?;
    if let (Some(first), Some(last)) = (left.as_slice().first(), left.as_slice().last()) {
        erase_entries(connection, resource, *first, *last, now).await?;
    }
    done.is_done = ending.is_empty() && left.is_empty();
    Ok(done)
}

/// Living channels whose end is known and reached. A level cursor counts as `max(seq, fanned)`.
macro_rules! finished_query {
    () => {
        diesel::sql_query(
            "select c.id
             from channels c
             join cursors u on u.channel = c.id
             join resources r on r.id = c.resource
             left join work w on w.resource = c.resource
             where c.end_seq is not null and c.state in ('active', 'paused', 'suspended')
               and (u.seq >= c.end_seq
                 or (not u.behind and coalesce(w.fanned_seq, r.head_seq) >= c.end_seq))
             order by c.id limit $1",
        )
        .bind::<BigInt, _>(CHANNELS_MAX)
    };
}

async fn stop_finished(connection: &mut Connection, now: Timestamp) -> StoreResult<Vec<ChannelKey>> {
    let found: Vec<Key> = on!(connection, c => finished_query!().load(c).await)?;
    let mut stopped = Vec::with_capacity(found.len());
    for key in found.into_iter().map(|row| ChannelKey(row.id)) {
        // Locked and looked at again: somebody may have ended or resumed it a moment ago.
        let Some(locked) = lock(connection, key).await? else { continue };
        if !locked.state.is_living() || locked.end_seq.is_none() {
            continue;
        }
        on!(connection, c => {
            diesel::update(channels::table.find(key.0))
                .set((
                    channels::state.eq(ChannelState::Stopped.as_str()),
                    channels::ended_at_ms.eq(Some(now.as_millis())),
                ))
                .execute(c)
                .await
        })?;
        freeze(connection, key, locked.resource).await?;
        revise(connection, key).await?;
        stopped.push(key);
    }
    Ok(stopped)
}
