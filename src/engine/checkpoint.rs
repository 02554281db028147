//! Outcomes on their way to the store: gathered in order, committed in batches.

use std::collections::{BTreeSet, HashMap, VecDeque};

use super::{
    lanes::Lanes,
    machine::{Change, Changed, NoticeMark, ParkReason, Parking, Record, Retry},
};
use crate::{
    domain::{
        channel::{ChannelKey, ChannelState, ResourceKey},
        cursor::{Cursor, Failing},
        fate::RangeKind,
        time::Timestamp,
    },
    store::{Attempt, Checkpoint, EndedRange, NoticeProgress, OUTCOMES_MAX, Parked, Retrying},
};

/// A lane's new place, with the attempt that led to it; without one when only the place has to be written.
#[derive(Debug)]
pub struct Entry {
    pub channel: ChannelKey,
    pub resource: ResourceKey,
    pub place: Record,
    pub attempt: Option<Attempt>,
    /// The cursor's `moved` that the place belongs to.
    pub moved: i64,
}

/// What waits for the next checkpoint.
#[derive(Debug, Default)]
pub struct Outbox {
    entries: VecDeque<Entry>,
    /// Resources whose `fanned` may have to rise although no lane of theirs has an entry.
    stirred: BTreeSet<ResourceKey>,
}

/// A checkpoint under way, and whom to tell when it is durable.
#[derive(Debug)]
pub struct Batch {
    pub checkpoint: Checkpoint,
    pub saved: Vec<(ChannelKey, u64)>,
}

impl Outbox {
    pub fn push(&mut self, entry: Entry) {
        self.entries.push_back(entry);
    }

    pub fn stir(&mut self, resource: ResourceKey) {
        self.stirred.insert(resource);
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.stirred.is_empty()
    }

    /// Takes up to one checkpoint's worth, in order. Every outcome that a lane's place rests on is in this batch
    /// or in an earlier one, so `fanned` never runs ahead of the ledger.
    pub fn take(&mut self, lanes: &mut Lanes, epoch: i64, now: Timestamp) -> Option<Batch> {
        let mut checkpoint = Checkpoint { epoch, ..Checkpoint::default() };
        let mut places: HashMap<ChannelKey, Record> = HashMap::new();
        let mut resources = BTreeSet::new();
        // What is written again later has lost its code; its status line tells.
        let mut errors = HashMap::new();
        while checkpoint.attempts.len().max(places.len()) < OUTCOMES_MAX {
            let Some(entry) = self.entries.pop_front() else { break };
            let error = entry.attempt.as_ref().and_then(|attempt| attempt.error);
            let holds = lanes.get(entry.channel).is_none_or(|resident| resident.moved == entry.moved);
            // One that was sent again is no part of the place.
            let parked = entry.place.parked.filter(|it| holds || it.reason == ParkReason::RedriveFailed);
            checkpoint.parked.extend(parked.map(|parking| Parked {
                channel: entry.channel,
                seq: parking.seq,
                status: parking.status,
                error,
                attempts: parking.attempts,
                reason: parking.reason.as_str(),
                again: parking.reason == ParkReason::RedriveFailed,
                at: now,
            }));
            checkpoint.ranges.extend(entry.place.superseded.filter(|_| holds).map(|(from, to)| EndedRange {
                channel: entry.channel,
                from,
                to,
                kind: RangeKind::Superseded,
                at: now,
            }));
            errors.extend(error.map(|error| ((entry.channel, entry.place.outcome), error)));
            checkpoint.redriven.extend(entry.place.redriven.map(|seq| (entry.channel, seq)));
            checkpoint.notices.extend(entry.place.notice.map(progress));
            checkpoint.attempts.extend(entry.attempt);
            // A place from before the cursor was moved would undo the move; the lane's own is written after it.
            if holds {
                resources.insert(entry.resource);
                places.insert(entry.channel, entry.place);
            }
        }
        while resources.len() < OUTCOMES_MAX {
            let Some(resource) = self.stirred.pop_first() else { break };
            resources.insert(resource);
        }
        for (channel, place) in &mut places {
            refresh(lanes, *channel, place);
            settle(lanes, *channel, place);
            for changed in place.beside.iter().flat_map(|beside| &beside.changes) {
                let error = errors.get(&(*channel, changed.outcome)).copied();
                note_change(&mut checkpoint, *channel, changed, error, now);
            }
        }
        for resource in resources {
            if let Some(fanned) = lanes.raise_fanned(resource) {
                checkpoint.fanned.push((resource, fanned));
            }
        }
        let mut saved = Vec::with_capacity(places.len());
        for (channel, place) in places {
            saved.push((channel, place.outcome));
            checkpoint.cursors.extend(row(lanes, channel, place, now));
        }
        // Entries without a row still have to be told that they are durable.
        (!checkpoint.is_empty() || !saved.is_empty()).then_some(Batch { checkpoint, saved })
    }
}

/// Where no outcome has come since, the lane's own place counts: it may have passed what its filter does not want, or
/// have gone back to look at it with another one.
fn refresh(lanes: &Lanes, channel: ChannelKey, place: &mut Record) {
    let Some(resident) = lanes.get(channel) else { return };
    if resident.lane.outcomes() == place.outcome {
        *place = resident.lane.place();
    }
}

/// What became of a notification that may overtake others.
fn note_change(
    checkpoint: &mut Checkpoint,
    channel: ChannelKey,
    changed: &Changed,
    error: Option<&'static str>,
    now: Timestamp,
) {
    match changed.change {
        Change::Retry(Retry { seq, attempts, status, since, due_at }) => {
            checkpoint.retrying.push(Retrying { channel, seq, attempts, status, error, since, due_at });
        }
        Change::Settled => checkpoint.retried.push((channel, changed.seq)),
        Change::Parked(Parking { seq, reason, status, attempts }) => {
            checkpoint.retried.push((channel, seq));
            let reason = reason.as_str();
            checkpoint.parked.push(Parked {
                channel,
                seq,
                status,
                error,
                attempts,
                reason,
                again: false,
                at: now,
            });
        }
    }
}

const fn progress(mark: NoticeMark) -> NoticeProgress {
    NoticeProgress { id: mark.id, attempts: mark.attempts, due_at: mark.due_at }
}

/// Level again once nothing fails and the log is caught up with what the others have had; else behind. A set-aside
/// sync leaves the memory of a failure and nothing to retry: time wakes only what is retried, so such a lane must be
/// found with its resource.
fn settle(lanes: &mut Lanes, channel: ChannelKey, place: &Record) {
    let Some(resident) = lanes.get(channel) else { return };
    let fanned =
        lanes.resource(resident.target.channel.resource).map_or(i64::MAX, |resource| resource.fanned);
    // A resource is read with its active channels alone: one that is suspended stays behind until it has resumed.
    let found = resident.lane.is_active() && resident.target.channel.state == ChannelState::Active;
    let beside = resident.lane.has_redrives() || place.beside.as_ref().is_some_and(|beside| beside.is_open);
    let level = found && !beside && place.failing.attempts == 0 && place.seq >= fanned;
    lanes.record(channel, place.seq, level);
}

/// The lane's row, unless `fanned` alone records its place.
fn row(lanes: &mut Lanes, channel: ChannelKey, place: Record, now: Timestamp) -> Option<Cursor> {
    let resident = lanes.get(channel)?;
    let resource = resident.target.channel.resource;
    let fanned = lanes.resource(resource)?.fanned;
    let resident = lanes.get_mut(channel)?;
    let fails = place.failing != Failing::default();
    let told = !resident.stored_behind && !resident.stored_failing && !fails;
    let unchanged = place.beside.as_ref().is_none_or(|beside| beside.changes.is_empty());
    if resident.level && told && unchanged && place.seq <= fanned {
        return None;
    }
    resident.stored_behind = !resident.level;
    resident.stored_failing = fails;
    let mut failing = place.failing;
    // After a 410 the end is still to be written: until it is, time wakes the lane, or a crash in between would leave
    // a channel that looks alive and that nothing finds.
    let ended = !resident.target.channel.state.sends();
    // One that asked for notices is woken by its reminders.
    let reminded = resident.target.channel.state == ChannelState::Suspended && resident.lane.is_reminded();
    if ended || resident.level || reminded {
        failing.due_at = None;
    } else if failing.due_at.is_none() {
        // A backlog, or an end or a resumption that is still to be written: after a crash, time wakes it at once, or
        // nothing would find it.
        failing.due_at = Some(now);
    }
    Some(Cursor {
        channel,
        resource,
        seq: place.seq,
        moved: resident.moved,
        behind: !resident.level,
        failing,
        last_success_at: place.last_success_at,
        settled: place.beside.map(|beside| beside.settled).unwrap_or_default(),
    })
}
