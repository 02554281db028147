//! Events, read in ranges of their resource's log, through a bounded cache that the journal feeds.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use super::{
    Store,
    connection::on,
    error::StoreResult,
    journal::PlacedEvent,
    schema::{events, resources},
};
use crate::domain::{
    channel::ResourceKey,
    event::{Event, Payload},
    time::Timestamp,
};

/// What the cache may hold: payloads and a flat allowance per event for the rest.
const CACHE_BYTES_MAX: usize = 64 * 1_024 * 1_024;
const EVENT_OVERHEAD_BYTES: usize = 512;
/// Events read at a time where the cache has none: whoever wants one now wants the next ones soon. Few enough that many
/// lanes that are behind do not push out each other's.
const READ_AHEAD: usize = 32;
/// Resources of which events are read at one time.
const READERS_MAX: usize = 32;

#[derive(Debug, Insertable)]
#[diesel(table_name = events)]
pub(super) struct NewEventRow<'a> {
    resource: i64,
    seq: i64,
    project: &'a str,
    event_id: &'a str,
    name: &'a str,
    state: &'a str,
    changed: Option<&'a str>,
    content_type: Option<&'a str>,
    payload: Option<&'a [u8]>,
    published_at_ms: i64,
}

impl<'a> From<&'a PlacedEvent> for NewEventRow<'a> {
    fn from(placed: &'a PlacedEvent) -> Self {
        let event = &placed.event;
        Self {
            resource: placed.resource.0,
            seq: event.seq,
            project: &placed.project,
            event_id: &event.id,
            name: &event.name,
            state: &event.state,
            changed: event.changed.as_deref(),
            content_type: event.payload.as_ref().map(|payload| payload.content_type.as_str()),
            payload: event.payload.as_ref().map(|payload| payload.bytes.as_ref()),
            published_at_ms: event.published_at.as_millis(),
        }
    }
}

#[derive(Debug, Queryable, Selectable)]
#[diesel(table_name = events)]
pub(super) struct EventRow {
    seq: i64,
    event_id: String,
    name: String,
    state: String,
    changed: Option<String>,
    content_type: Option<String>,
    payload: Option<Vec<u8>>,
    published_at_ms: i64,
}

impl From<EventRow> for Event {
    fn from(row: EventRow) -> Self {
        let payload = row.payload.map(|bytes| Payload {
            content_type: row.content_type.unwrap_or_default(),
            bytes: Bytes::from(bytes),
        });
        Self {
            seq: row.seq,
            id: row.event_id,
            name: row.name,
            state: row.state,
            changed: row.changed,
            payload,
            published_at: Timestamp::from_millis(row.published_at_ms),
        }
    }
}

impl Store {
    /// Empties the event cache. A database that failed over may have lost commits, and gives their seqs out again.
    pub fn forget_events(&self) {
        self.cache().clear();
    }

    /// The events of `resource` after `after`, in order, at most `limit` and never past `through`.
    pub async fn events(
        &self,
        resource: ResourceKey,
        after: i64,
        through: i64,
        limit: usize,
    ) -> StoreResult<Vec<Arc<Event>>> {
        if let Some(events) = self.cache().range(resource, after, through, limit) {
            return Ok(events);
        }
        let _reading = self.cache().reading(resource).await;
        if let Some(events) = self.cache().range(resource, after, through, limit) {
            return Ok(events);
        }
        let lapse = self.cache().lapse();
        // Past `through` as well: that is where the next one looks.
        let rows = i64::try_from(limit.max(READ_AHEAD)).unwrap_or(i64::MAX);
        let mut events: Vec<Arc<Event>> = self
            .read(move |connection| {
                Box::pin(async move {
                    let rows: Vec<EventRow> = on!(connection, c => {
                        events::table
                            .filter(events::resource.eq(resource.0))
                            .filter(events::seq.gt(after))
                            .order(events::seq)
                            .limit(rows)
                            .select(EventRow::as_select())
                            .load(c)
                            .await
                    })?;
                    Ok(rows.into_iter().map(|row| Arc::new(row.into())).collect())
                })
            })
            .await?;
        self.cache().insert_read(lapse, events.iter().map(|event| (resource, Arc::clone(event))));
        events.retain(|event| event.seq <= through);
        events.truncate(limit);
        Ok(events)
    }

    /// The end of the hole that retention has made right after `seq`, if there is one: the log goes on after it.
    pub async fn hole_after(&self, resource: ResourceKey, seq: i64) -> StoreResult<Option<i64>> {
        self.read(move |connection| {
            Box::pin(async move {
                let earliest: Option<i64> = on!(connection, c => {
                    events::table
                        .filter(events::resource.eq(resource.0))
                        .select(diesel::dsl::min(events::seq))
                        .first(c)
                        .await
                })?;
                let end = match earliest {
                    Some(earliest) => earliest - 1,
                    // Nothing is left: the hole is the whole log.
                    None => on!(connection, c => {
                        resources::table.find(resource.0).select(resources::head_seq).first(c).await
                    })?,
                };
                Ok((end > seq).then_some(end))
            })
        })
        .await
    }

    /// The oldest seq that the log of `resource` still holds.
    pub async fn earliest_seq(&self, resource: ResourceKey) -> StoreResult<Option<i64>> {
        self.read(move |connection| {
            Box::pin(async move {
                Ok(on!(connection, c => {
                    events::table
                        .filter(events::resource.eq(resource.0))
                        .select(diesel::dsl::min(events::seq))
                        .first(c)
                        .await
                })?)
            })
        })
        .await
    }
}

/// Recent events in memory, oldest out first.
#[derive(Debug, Default)]
pub(super) struct EventCache {
    cached: Mutex<Cached>,
    /// Held while events of a resource are read: whoever comes meanwhile finds them here.
    reading: [tokio::sync::Mutex<()>; READERS_MAX],
}

#[derive(Debug, Default)]
struct Cached {
    events: HashMap<(ResourceKey, i64), Arc<Event>>,
    ages: VecDeque<(ResourceKey, i64)>,
    bytes: usize,
    /// How often something had to be forgotten. What was read before that may be out of date.
    lapses: u64,
    /// How many erasures the store had at the last look.
    erasures: i64,
}

impl EventCache {
    fn locked(&self) -> MutexGuard<'_, Cached> {
        self.cached.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for whoever reads of the same resource, or of one that happens to share its place.
    async fn reading(&self, resource: ResourceKey) -> tokio::sync::MutexGuard<'_, ()> {
        let place = usize::try_from(resource.0).unwrap_or(0) % READERS_MAX;
        self.reading[place].lock().await
    }

    fn clear(&self) {
        self.locked().clear();
    }

    /// Lets go of everything if there were more erasures than known.
    pub(super) fn heed(&self, erasures: i64) {
        let mut cached = self.locked();
        if cached.erasures != erasures {
            cached.clear();
            cached.erasures = erasures;
        }
    }

    /// Lets go of what was deleted or erased in a log, from `from` through `through`.
    pub(super) fn forget(&self, resource: ResourceKey, from: i64, through: i64) {
        let mut cached = self.locked();
        cached.lapses += 1;
        let is_gone = |key: &(ResourceKey, i64)| key.0 == resource && (from..=through).contains(&key.1);
        let gone: Vec<_> = cached.events.keys().filter(|key| is_gone(key)).copied().collect();
        for key in gone {
            cached.remove(key);
        }
        cached.ages.retain(|key| !is_gone(key));
    }

    fn lapse(&self) -> u64 {
        self.locked().lapses
    }

    /// What was read from the database since `lapse`: kept unless something had to be forgotten meanwhile.
    fn insert_read(&self, lapse: u64, events: impl Iterator<Item = (ResourceKey, Arc<Event>)>) {
        let mut cached = self.locked();
        if cached.lapses == lapse {
            cached.insert(events);
        }
    }

    pub(super) fn insert(&self, events: impl Iterator<Item = (ResourceKey, Arc<Event>)>) {
        self.locked().insert(events);
    }

    /// The range, if all of it is here. The log is dense, so a hole means "not cached".
    fn range(
        &self,
        resource: ResourceKey,
        after: i64,
        through: i64,
        limit: usize,
    ) -> Option<Vec<Arc<Event>>> {
        let wanted = usize::try_from(through.checked_sub(after)?).ok()?.min(limit);
        let cached = self.locked();
        let mut events = Vec::with_capacity(wanted.min(64));
        for seq in (after + 1..).take(wanted) {
            events.push(Arc::clone(cached.events.get(&(resource, seq))?));
        }
        Some(events)
    }
}

impl Cached {
    fn insert(&mut self, events: impl Iterator<Item = (ResourceKey, Arc<Event>)>) {
        for (resource, event) in events {
            let key = (resource, event.seq);
            self.bytes += size_of(&event);
            match self.events.insert(key, event) {
                Some(replaced) => self.bytes -= size_of(&replaced),
                None => self.ages.push_back(key),
            }
        }
        while self.bytes > CACHE_BYTES_MAX {
            let Some(oldest) = self.ages.pop_front() else { break };
            self.remove(oldest);
        }
    }

    fn clear(&mut self) {
        *self = Self { lapses: self.lapses + 1, erasures: self.erasures, ..Self::default() };
    }

    fn remove(&mut self, key: (ResourceKey, i64)) {
        if let Some(event) = self.events.remove(&key) {
            self.bytes -= size_of(&event);
        }
    }
}

fn size_of(event: &Event) -> usize {
    EVENT_OVERHEAD_BYTES + event.payload.as_ref().map_or(0, |payload| payload.bytes.len())
}
