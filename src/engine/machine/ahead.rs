//! What a filtered lane knows of the log ahead of it. The machine knows no filter and no event: it asks which event
//! is its next one, and passes those in between without an outcome.
//!
//! Keeps the cursor's order: nothing is passed while a request is in flight or asked for, nothing by a channel that
//! may not send, and the head of a suspended channel stays until it is due.

use super::{Action, Failing, Lane, Phase, Timestamp};
use crate::domain::settled::SettledMap;

/// What is known of what comes after the settled place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Ahead {
    #[default]
    Unknown,
    /// The driver was asked.
    Asked,
    /// This is the next event for the lane, if it is the next one at all.
    Wanted(i64),
}

/// What was told last when the cursor stands at `settled`: a filter may have passed the last ones, but never a sync.
pub(super) fn told_at(settled: i64, start_seq: i64, filtered: bool) -> Option<i64> {
    (!filtered || settled == start_seq).then_some(settled)
}

impl Lane {
    /// The newest seq that the log is known to hold.
    pub const fn head(&self) -> i64 {
        self.head
    }

    /// Whether every outcome is durable.
    pub const fn is_saved(&self) -> bool {
        self.outcomes == self.saved
    }

    /// How many outcomes there were: a record with this number knows the lane's last notification.
    pub const fn outcomes(&self) -> u64 {
        self.outcomes
    }

    /// Whether the driver owes an answer to [`Action::AskNext`].
    pub fn is_asking(&self) -> bool {
        self.ahead == Ahead::Asked
    }

    /// The filter is another one: what the old one alone has let pass after the durable place `seq`, above which `done` has
    /// settled, is looked at again. With an outcome unsaved or to come the lane cannot go back without repeating it, and
    /// stays.
    pub fn look_again_after(&mut self, seq: i64, done: SettledMap) {
        let goes_back = self.settled > seq && self.is_saved() && !self.is_in_flight();
        if goes_back {
            self.settled = seq;
        }
        self.ahead = Ahead::Unknown;
        if let Some(window) = &mut self.window {
            window.passed = SettledMap::above(self.settled);
            if goes_back {
                window.done = done;
            }
        }
        self.absorb();
    }

    /// The seq of the last notification that was delivered or parked, where it is known: events that a filter has
    /// passed are none. Where notifications may overtake each other none is the last.
    pub fn last_told(&self) -> Option<i64> {
        self.last_told.filter(|told| *told <= self.settled && !self.has_window())
    }

    /// Whether the next event in the log may be none for this lane.
    pub(super) fn must_ask(&self) -> bool {
        let next = match self.next_of_window() {
            Some(Some(next)) => next,
            Some(None) => return false,
            None => self.settled.saturating_add(1),
        };
        self.terms.filtered && self.settled >= self.start_seq && self.ahead != Ahead::Wanted(next)
    }

    /// After an outcome: the lane may have moved on from where it was `settled`.
    pub(super) fn look_on_from(&mut self, settled: i64) {
        if self.settled > settled {
            self.last_told = Some(self.settled);
        }
        // Also after a failure of our own: the log may not hold what it held.
        self.ahead = Ahead::Unknown;
    }

    /// Asks, once.
    pub(super) fn ask(&mut self) -> Option<Action> {
        if self.is_asking() {
            return None;
        }
        self.ahead = Ahead::Asked;
        Some(Action::AskNext)
    }

    /// Everything up to the wanted event, or through `through` when there is none, is not for this lane.
    pub(super) fn take_next(&mut self, wanted: Option<i64>, through: i64, now: Timestamp) {
        if !self.is_asking() {
            return;
        }
        self.ahead = Ahead::Unknown;
        if self.phase != Phase::Resting && self.open().is_none() {
            // A notice is on its way: asked again afterwards.
            return;
        }
        self.ahead = wanted.map_or(Ahead::Unknown, Ahead::Wanted);
        if !self.may_send(now) || !self.must_ask() {
            return;
        }
        let passed = wanted.map_or(through, |wanted| wanted.saturating_sub(1)).min(self.head);
        if self.open().is_some() {
            self.pass_through(passed);
        } else if passed > self.settled {
            // A head that failed is passed only by a new filter. Its receiver has still not said 2xx.
            let Failing { failures, since, attempts, due_at, .. } = self.failing;
            // Another head waits for nothing that this one has earned, but for what it has inherited itself from one
            // that expired.
            let due_at = due_at.filter(|_| attempts == 0);
            self.settle(passed, Failing { failures, since, due_at, ..Failing::default() });
            self.wait_for_a_head();
        }
    }
}
