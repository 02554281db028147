//! Lanes in memory: channels that have work, and the resources they watch.
//!
//! Keeps `fanned` honest. A *level* lane's recorded place bounds what its resource has fanned; a lane that fails
//! or lags is *behind* and stands where its own row says. `fanned` may rise to the lowest place of all level
//! lanes, and only once every level lane of the resource is here.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use super::{
    machine::{Cargo, Input, Lane, Send},
    slots::Line,
    target::Target,
};
use crate::{
    domain::{
        channel::{ChannelKey, ResourceKey},
        time::Timestamp,
    },
    outbound::Origin,
    store::{Notice, WaitingRedrive},
};

/// One channel in memory.
#[derive(Debug)]
pub struct Resident {
    pub lane: Lane,
    pub target: Arc<Target>,
    /// What the lane may tell, and the replays that its redrives belong to.
    pub notices: Vec<Notice>,
    pub redrives: Vec<WaitingRedrive>,
    /// Where a redirect has sent the channel: no new receiver that is owed an attempt at once.
    pub redirected_to: Option<String>,
    /// How its receiver answered last.
    pub line: Line,
    /// It was suspended, or resumed, by an outcome, and the store has not been told back yet.
    pub turning: Option<bool>,
    /// The cursor's `moved` that the lane was loaded with.
    pub moved: i64,
    /// Its place counts for `fanned`.
    pub level: bool,
    /// Its row says that it is behind.
    pub stored_behind: bool,
    /// Its row remembers a failure.
    pub stored_failing: bool,
    /// The place up to which its outcomes are in a checkpoint.
    pub recorded: i64,
    /// The earliest timer that is set for it.
    pub timer: Option<Timestamp>,
}

/// One resource in memory.
#[derive(Debug)]
pub struct Resource {
    pub head: i64,
    pub fanned: i64,
    pub loading: Loading,
    members: HashSet<ChannelKey>,
    /// How many level lanes stand at each place.
    places: BTreeMap<i64, usize>,
    /// When it last grew, was read or was looked for, on the monotonic clock.
    touched: Duration,
}

/// Whether the level lanes of a resource are in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loading {
    No,
    Pending,
    Done,
}

#[derive(Debug, Default)]
pub struct Lanes {
    residents: HashMap<ChannelKey, Resident>,
    resources: HashMap<ResourceKey, Resource>,
}

impl Lanes {
    pub fn get(&self, key: ChannelKey) -> Option<&Resident> {
        self.residents.get(&key)
    }

    pub fn get_mut(&mut self, key: ChannelKey) -> Option<&mut Resident> {
        self.residents.get_mut(&key)
    }

    pub fn contains(&self, key: ChannelKey) -> bool {
        self.residents.contains_key(&key)
    }

    pub fn len(&self) -> usize {
        self.residents.len()
    }

    pub fn resource(&self, key: ResourceKey) -> Option<&Resource> {
        self.resources.get(&key)
    }

    /// The resource, taken into memory if need be; its head and fanned never go back.
    pub fn touch(&mut self, key: ResourceKey, head: i64, fanned: i64, now: Duration) -> &mut Resource {
        let resource = self.resources.entry(key).or_insert_with(|| Resource {
            head,
            fanned,
            loading: Loading::No,
            members: HashSet::new(),
            places: BTreeMap::new(),
            touched: now,
        });
        resource.head = resource.head.max(head);
        resource.fanned = resource.fanned.max(fanned);
        resource.touched = now;
        resource
    }

    /// Whether the lanes of the resource have yet to hear of `head`.
    pub fn is_news(&self, key: ResourceKey, head: i64) -> bool {
        self.resources.get(&key).is_none_or(|known| known.head < head || known.loading == Loading::No)
    }

    pub fn members(&self, key: ResourceKey) -> Vec<ChannelKey> {
        self.resources
            .get(&key)
            .map(|resource| resource.members.iter().copied().collect())
            .unwrap_or_default()
    }

    /// Adds a lane whose resource is in memory.
    pub fn insert(&mut self, key: ChannelKey, resident: Resident) {
        if let Some(resource) = self.resources.get_mut(&resident.target.channel.resource) {
            resource.members.insert(key);
            if resident.level {
                *resource.places.entry(resident.recorded).or_default() += 1;
            }
        }
        self.residents.insert(key, resident);
    }

    pub fn remove(&mut self, key: ChannelKey) -> Option<Resident> {
        let resident = self.residents.remove(&key)?;
        if let Some(resource) = self.resources.get_mut(&resident.target.channel.resource) {
            resource.members.remove(&key);
            if resident.level {
                resource.leave(resident.recorded);
            }
        }
        Some(resident)
    }

    /// Puts a lane at a recorded place, level or behind.
    pub fn record(&mut self, key: ChannelKey, recorded: i64, level: bool) {
        let Some(resident) = self.residents.get_mut(&key) else { return };
        if let Some(resource) = self.resources.get_mut(&resident.target.channel.resource) {
            if resident.level {
                resource.leave(resident.recorded);
            }
            if level {
                *resource.places.entry(recorded).or_default() += 1;
            }
        }
        resident.recorded = recorded;
        resident.level = level;
    }

    /// What `fanned` may rise to, if it may rise.
    pub fn raise_fanned(&mut self, key: ResourceKey) -> Option<i64> {
        let resource = self.resources.get_mut(&key)?;
        if resource.loading != Loading::Done {
            return None;
        }
        let lowest =
            resource.places.first_key_value().map_or(resource.head, |(place, _)| *place).min(resource.head);
        if lowest <= resource.fanned {
            return None;
        }
        resource.fanned = lowest;
        Some(lowest)
    }

    /// Lets go of what has been at rest since before `idle_since`: level lanes whose resource has caught up, lanes
    /// of ended channels, and lanes whose next due time is after `far`. All of it is found again by its row.
    pub fn drop_idle(&mut self, idle_since: Duration, far: Timestamp) {
        let mut dropped = Vec::new();
        for resource in self.resources.values_mut() {
            if resource.touched > idle_since || resource.loading == Loading::Pending {
                continue;
            }
            let caught_up = resource.fanned >= resource.head;
            let leaving = |key: &ChannelKey| {
                self.residents.get(key).is_none_or(|resident| resident.may_leave(caught_up, far))
            };
            let before = dropped.len();
            dropped.extend(resource.members.iter().filter(|key| leaving(key)).copied());
            // Level lanes leave together or not at all: `fanned` needs all of them.
            let stays = |key: &ChannelKey| {
                self.residents.get(key).is_some_and(|resident| resident.level) && !leaving(key)
            };
            if resource.members.iter().any(stays) {
                dropped.truncate(before);
            } else {
                resource.loading = Loading::No;
            }
        }
        for key in dropped {
            self.remove(key);
        }
        self.resources.retain(|_, resource| {
            !resource.members.is_empty()
                || resource.touched > idle_since
                || resource.loading == Loading::Pending
        });
    }
}

impl Resource {
    fn leave(&mut self, place: i64) {
        if let Some(count) = self.places.get_mut(&place) {
            *count -= 1;
            if *count == 0 {
                self.places.remove(&place);
            }
        }
    }
}

impl Resident {
    /// Where the slot is that the lane has asked for.
    pub fn origin(&self) -> &Origin {
        match self.lane.queued() {
            Some(Cargo::Notice(id)) => self.origin_of_notice(id),
            _ => self.target.origin(),
        }
    }

    /// Where a notice goes. One that is gone goes nowhere, and its slot is given back.
    pub fn origin_of_notice(&self, id: i64) -> &Origin {
        let notice = self.notices.iter().find(|notice| notice.id == id);
        notice.map_or(self.target.origin(), |notice| self.target.notice_origin(notice.kind))
    }

    /// Where each slot is that the lane has asked for, in an order that a change of its addresses keeps.
    pub fn waits_at(&self) -> Vec<Origin> {
        let (asked, for_notice) = self.lane.slots_asked();
        let in_order = self.lane.is_queued().then(|| self.origin().clone());
        let beside = std::iter::repeat_n(self.target.origin().clone(), asked);
        let notice = for_notice.map(|id| self.origin_of_notice(id).clone());
        in_order.into_iter().chain(beside).chain(notice).collect()
    }

    /// What a slot of `origin` is for, if the lane has asked for one there.
    pub fn use_of_slot(&self, origin: &Origin) -> Option<Input> {
        let (asked, for_notice) = self.lane.slots_asked();
        if self.lane.is_queued() && self.origin() == origin {
            Some(Input::Slot)
        } else if for_notice.is_some_and(|id| self.origin_of_notice(id) == origin) {
            Some(Input::NoticeSlot)
        } else {
            (asked > 0 && self.target.origin() == origin).then_some(Input::Slot)
        }
    }

    /// The replay that a notification belongs to.
    pub fn replay_of(&self, send: Send) -> Option<String> {
        if send.redriven {
            let redrive = self.redrives.iter().find(|redrive| redrive.seq == send.first);
            return redrive.map(|redrive| redrive.replay_id.clone());
        }
        let replay = self.target.channel.replay.as_ref();
        replay.filter(|replay| send.first <= replay.through).map(|replay| replay.id.clone())
    }

    fn may_leave(&self, caught_up: bool, far: Timestamp) -> bool {
        if !self.lane.is_at_rest() || self.recorded != self.lane.settled() {
            return false;
        }
        if !self.lane.is_active() {
            return !self.level;
        }
        if self.level {
            return caught_up && !self.lane.is_pending();
        }
        if self.lane.has_retries() && !self.lane.is_probing() {
            // What comes next to the log is no less urgent for what waits.
            return false;
        }
        self.stored_behind && self.lane.due_at().is_some_and(|due| due > far)
    }
}
