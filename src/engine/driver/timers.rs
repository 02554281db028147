//! When a lane wants to be told that time has passed. Backed by `due_at` in the store: losing a timer costs latency.

use std::{cmp::Reverse, collections::BinaryHeap, time::Duration};

use super::{Driver, Input};
use crate::{
    clock::Sleep,
    domain::{channel::ChannelKey, time::Timestamp},
};

/// Set timers, the earliest first. A lane may have several; only the one it remembers rings.
pub type Timers = BinaryHeap<Reverse<(Timestamp, ChannelKey)>>;

impl Driver {
    pub(super) fn set_timer(&mut self, key: ChannelKey, at: Timestamp) {
        let Some(resident) = self.lanes.get_mut(key) else { return };
        if resident.timer.is_none_or(|set| at < set) {
            resident.timer = Some(at);
            self.timers.push(Reverse((at, key)));
        }
    }

    pub(super) fn ring_timers(&mut self) {
        let now = self.context.clock.now();
        while let Some(Reverse((at, key))) = self.timers.peek().copied() {
            if at > now {
                break;
            }
            self.timers.pop();
            if let Some(resident) = self.lanes.get_mut(key)
                && resident.timer == Some(at)
            {
                resident.timer = None;
                self.step(key, Input::Time, None);
            }
        }
    }

    /// Ends when the next timer rings, a destination may be sent to again, or when stopping has taken long enough.
    pub(super) fn next_timer(&self, stop_by: Option<Duration>) -> Sleep {
        let clock = &self.context.clock;
        let due = self.timers.peek().map(|Reverse((at, _))| at.since(clock.now()));
        let until = |by: Duration| by.saturating_sub(clock.monotonic());
        let paused = self.slots.paused_until().filter(|_| !self.stopping);
        match due.into_iter().chain(stop_by.map(until)).chain(paused.map(until)).min() {
            Some(wait) => clock.sleep(wait),
            None => Box::pin(std::future::pending()),
        }
    }
}
