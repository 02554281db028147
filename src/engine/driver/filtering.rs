//! Which event is the next one for a filtered lane. Lanes of one resource with equal filters share a scan of its log,
//! which reads of the driver feed; an event that nobody wants costs no request and no row.
//!
//! Keeps the recorded place honest: it follows a lane over what its filter does not want, once no outcome of the lane
//! is unsaved, so that `fanned` may rise.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use tokio::sync::mpsc;

use super::{Driver, Input, Message, Read, reading::until_done};
use crate::{
    domain::{
        channel::{ChannelKey, ResourceKey},
        filter::EventFilter,
    },
    engine::{
        Context,
        scan::{Chunk, PAGE_SEQS, Scan, page_end},
    },
};

/// Chunks that one read brings: a long stretch that nobody wants is looked through by several.
const CHUNKS_MAX: usize = 16;

/// What has been looked through, by resource and filter.
pub(super) type Scans = HashMap<(ResourceKey, Arc<EventFilter>), SharedScan>;

#[derive(Debug, Default)]
pub(super) struct SharedScan {
    scan: Scan,
    /// Lanes that are told once the read under way has ended.
    waiting: BTreeSet<ChannelKey>,
    reading: bool,
    /// Somebody has asked since the last tidying.
    used: bool,
}

/// A stretch of a resource's log to be looked through for a filter.
#[derive(Clone, Debug)]
pub(super) struct Stretch {
    pub resource: ResourceKey,
    pub filter: Arc<EventFilter>,
    pub after: i64,
    pub through: i64,
}

impl Driver {
    /// Tells a lane its next event, now or after a read.
    pub(super) fn ask_next(&mut self, key: ChannelKey) {
        let Some(resident) = self.lanes.get(key) else { return };
        // Its terms are about to change when it asks without a filter.
        let Some(filter) = resident.target.filter.clone() else { return };
        let resource = resident.target.channel.resource;
        let (after, head) = (resident.lane.asks_after(), resident.lane.head());
        let shared = self.scans.entry((resource, Arc::clone(&filter))).or_default();
        shared.used = true;
        if let Some(next) = shared.scan.next(after, head) {
            self.step(key, next, None);
            self.follow(key);
            return;
        }
        shared.waiting.insert(key);
        if !shared.reading {
            shared.reading = true;
            self.reads.push_back(Read::Scan(Stretch { resource, filter, after, through: head }));
        }
    }

    pub(super) fn on_scanned(&mut self, stretch: Stretch, chunks: Vec<Chunk>) {
        self.reading -= 1;
        let Stretch { resource, filter, after, .. } = stretch;
        let Some(shared) = self.scans.get_mut(&(resource, Arc::clone(&filter))) else { return };
        shared.reading = false;
        let nothing_there = chunks.is_empty();
        for chunk in chunks {
            shared.scan.learn(chunk);
        }
        for key in std::mem::take(&mut shared.waiting) {
            let Some(resident) = self.lanes.get(key) else { continue };
            let lane = &resident.lane;
            if !lane.is_asking() || resident.target.filter.as_ref() != Some(&filter) {
                continue;
            }
            if nothing_there && lane.asks_after() == after {
                // The log does not hold what it should: its delivery finds that out, and asks again later.
                let wanted = after.saturating_add(1);
                self.step(key, Input::Next { wanted: Some(wanted), through: wanted }, None);
            } else {
                self.ask_next(key);
            }
        }
    }

    /// Lets the recorded place follow a lane over what it did not want. A lane that was behind is level again by one
    /// row, once nothing is left for it.
    pub(super) fn follow(&mut self, key: ChannelKey) {
        let Some(resident) = self.lanes.get(key) else { return };
        let lane = &resident.lane;
        let place = lane.settled();
        if resident.target.filter.is_none() || resident.recorded >= place || !lane.is_saved() {
            return;
        }
        if resident.level {
            let resource = resident.target.channel.resource;
            self.lanes.record(key, place, true);
            self.outbox.stir(resource);
        } else if !lane.is_pending() && !lane.is_failing() {
            self.write_place(key);
        }
    }

    /// Forgets what nobody has asked for since the last time.
    pub(super) fn tidy_scans(&mut self) {
        self.scans.retain(|_, shared| std::mem::take(&mut shared.used) || shared.reading);
    }
}

/// Looks through a stretch until something is wanted. Nothing at all: the log does not hold it. `None`: the store is
/// closed.
pub(super) async fn read_stretch(
    context: &Context,
    inbox: &mpsc::UnboundedSender<Message>,
    stretch: Stretch,
) -> Option<()> {
    let Stretch { resource, after, through, .. } = stretch;
    let mut chunks: Vec<Chunk> = Vec::new();
    let mut at = after;
    while at < through && chunks.len() < CHUNKS_MAX {
        let end = page_end(at.saturating_add(1)).min(through);
        let events = until_done(context, || context.store.events(resource, at, end, PAGE_SEQS)).await?;
        let wants = |event: &_| stretch.filter.matches(event);
        let Some(chunk) = Chunk::read(at, &events, wants) else { break };
        at = chunk.through;
        chunks.push(chunk);
        if chunk.wants_any() {
            break;
        }
    }
    let _ = inbox.send(Message::Scanned { stretch, chunks });
    Some(())
}
