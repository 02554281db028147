//! A lane whose notifications may overtake each other (`ordering: none`): what it knows besides a fifo lane, and what
//! is made durable of that.
//!
//! `Lane::settled` is its low-water mark: everything up to it is settled, or waits by itself as a retry. What is
//! settled above is a map of 256 bits, made durable with the cursor. A notification that fails becomes a retry at once
//! and is settled for the mark, so nobody waits for it. Until the sync is through, the lane is a fifo lane.
//!
//! Keeps: never more than [`WINDOW`] in flight, nothing started further ahead of the mark than the map reaches, at most
//! [`RETRIES_MAX`] retries, and every change of a retry with every record until one of them is durable. Which requests
//! leave is `deciding`'s business, and what an outcome makes of the lane `concluding`'s.

mod concluding;
mod deciding;

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Flight, Lane, Send,
    messages::{Beside, Change, Changed, Retry},
};
use crate::domain::{
    settled::{AHEAD_MAX, SettledMap},
    time::Timestamp,
};

/// Requests in flight, and outcomes that are not durable yet, together: what a crash repeats at most.
pub const WINDOW: usize = 64;
/// Notifications that wait for attempts of their own. With so many, nothing new is begun.
pub const RETRIES_MAX: usize = 256;
/// Failures without a 2xx after which requests leave one at a time.
pub const FAILURES_UNTIL_SLOW: u32 = 16;

/// What a lane knows whose notifications may overtake each other.
#[derive(Clone, Debug, Default)]
pub(super) struct Window {
    /// What has settled above the low-water mark.
    pub done: SettledMap,
    /// What the filter does not want above it. Not made durable: it is found out again.
    pub passed: SettledMap,
    /// What waits for attempts of its own, by its seq; also while such an attempt is under way.
    pub retries: BTreeMap<i64, Waits>,
    /// What is on its way, by its first seq.
    pub flying: BTreeMap<i64, Flight<Send>>,
    /// Slots that were asked for: for notifications, and for this notice.
    pub asked: usize,
    pub asked_for_notice: Option<i64>,
    /// What became of retries and is not durable yet, with the outcome that it came with.
    changes: BTreeMap<i64, (u64, Change)>,
    /// When the receiver last showed that it works.
    works_at: Option<Timestamp>,
}

/// A retry, as the lane knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Waits {
    pub retry: Retry,
    /// Where the run begins that it stands for.
    pub first: i64,
    /// How often its payload was refused in a row, as far as this lane has seen it.
    refusals: u32,
    /// The store has it.
    stored: bool,
}

impl Window {
    /// Whether a seq above the mark is neither settled nor on its way.
    pub fn is_open(&self, seq: i64) -> bool {
        !self.done.contains(seq) && !self.passed.contains(seq) && self.flight_over(seq).is_none()
    }

    /// The flight whose run holds `seq`.
    fn flight_over(&self, seq: i64) -> Option<&Flight<Send>> {
        let (_, flight) = self.flying.range(..=seq).next_back()?;
        (seq <= flight.sent.through).then_some(flight)
    }

    /// How many are on their way that were tried before.
    pub fn again_in_flight(&self) -> usize {
        self.flying.values().filter(|flight| flight.sent.pinned).count()
    }

    pub fn flies(&self, seq: i64) -> bool {
        self.flying.values().any(|flight| flight.sent.through == seq)
    }
}

impl Lane {
    /// Lets notifications overtake each other, with what the store knows of that.
    pub fn open_window(&mut self, done: SettledMap, retries: &[Retry]) {
        let waits = |retry: &Retry| {
            let waits = Waits { retry: *retry, first: retry.seq, refusals: 0, stored: true };
            (retry.seq, waits)
        };
        self.window = Some(Box::new(Window {
            done,
            passed: SettledMap::above(self.settled),
            retries: retries.iter().map(waits).collect(),
            ..Window::default()
        }));
        self.failing.pinned = None;
        self.absorb();
    }

    /// Whether the channel's notifications may overtake each other.
    pub const fn has_window(&self) -> bool {
        self.window.is_some()
    }

    /// Its window, once the sync is through.
    pub(super) fn open(&self) -> Option<&Window> {
        self.window.as_deref().filter(|_| self.settled >= self.start_seq)
    }

    /// Whether something waits for attempts of its own.
    pub fn has_retries(&self) -> bool {
        self.window.as_ref().is_some_and(|window| !window.retries.is_empty())
    }

    /// Whether the channel is suspended, as far as the lane knows.
    pub const fn is_probing(&self) -> bool {
        self.terms.probing
    }

    /// Slots that were asked for and not given yet: for notifications, and for a notice.
    pub fn slots_asked(&self) -> (usize, Option<i64>) {
        self.window.as_ref().map_or((0, None), |window| (window.asked, window.asked_for_notice))
    }

    /// After a move from outside the store stands at `place` and has the retries `stored`. It knows of everything up to
    /// its place, so what it does not have there is settled, and so is what it has had before.
    pub fn keep_retries(&mut self, place: i64, stored: &BTreeSet<i64>) {
        let Some(window) = &mut self.window else { return };
        let Window { retries, changes, .. } = &mut **window;
        let holds = |seq: &i64, waits: Option<&Waits>| {
            stored.contains(seq) || (*seq > place && !waits.is_some_and(|waits| waits.stored))
        };
        changes.retain(|seq, _| holds(seq, retries.get(seq)));
        retries.retain(|seq, waits| holds(seq, Some(waits)));
    }

    /// Everything up to `seq` was settled from outside.
    pub(super) fn settle_window_through(&mut self, seq: i64) {
        let Some(window) = &mut self.window else { return };
        window.retries.retain(|at, _| *at > seq);
        window.changes.retain(|at, _| *at > seq);
        self.absorb();
    }

    /// What waited up to `seq` is not in the log any more. A run that reaches further begins after it.
    pub(super) fn expire_retries(&mut self, seq: i64) {
        let Some(window) = &mut self.window else { return };
        let next = seq.saturating_add(1);
        for (_, waits) in window.retries.range_mut(next..) {
            waits.first = waits.first.max(next);
        }
        for gone in window.retries.range(..=seq).map(|(gone, _)| *gone).collect::<Vec<_>>() {
            self.drop_retry(gone, Change::Settled);
        }
    }

    /// Everything after `seq` is to be sent again.
    pub(super) fn rewind_window(&mut self, seq: i64) {
        let Some(window) = &mut self.window else { return };
        window.retries.retain(|at, _| *at <= seq);
        window.changes.retain(|at, _| *at <= seq);
        window.done = SettledMap::above(seq);
        window.passed = SettledMap::above(seq);
    }

    /// These outcomes are durable.
    pub(super) fn save_window(&mut self) {
        let saved = self.saved;
        let Some(window) = &mut self.window else { return };
        let durable: Vec<i64> =
            window.changes.iter().filter(|(_, (at, _))| *at <= saved).map(|(seq, _)| *seq).collect();
        for seq in durable {
            window.changes.remove(&seq);
            if let Some(waits) = window.retries.get_mut(&seq) {
                waits.stored = true;
            }
        }
    }

    /// The low-water mark moves on over what has settled.
    pub(super) fn absorb(&mut self) {
        let Some(window) = &mut self.window else { return };
        let mut mark = self.settled;
        if mark >= self.start_seq {
            window.done = window.done.moved_to(mark);
            window.passed = window.passed.moved_to(mark);
            while window.done.contains(mark + 1) || window.passed.contains(mark + 1) {
                mark += 1;
            }
        }
        self.settled = mark;
        window.done = window.done.moved_to(mark);
        window.passed = window.passed.moved_to(mark);
    }

    /// What a record says besides the mark.
    pub(super) fn beside(&self) -> Option<Beside> {
        let window = self.window.as_ref()?;
        let changes = window.changes.iter();
        Some(Beside {
            settled: window.done,
            changes: changes
                .map(|(seq, (outcome, change))| Changed { seq: *seq, outcome: *outcome, change: *change })
                .collect(),
            is_open: !window.retries.is_empty() || !window.done.is_empty(),
        })
    }

    /// When time has to wake the lane after a crash: at once, without a word, where the log has something for it.
    pub(super) fn window_due_at(&self) -> Option<Timestamp> {
        let window = self.window.as_ref()?;
        if self.terms.probing {
            return self.failing.due_at;
        }
        let last = self.head.min(self.settled.saturating_add(AHEAD_MAX));
        let full = window.retries.len() >= RETRIES_MAX;
        let log_waits = !full
            && (self.settled.saturating_add(1)..=last)
                .any(|seq| !window.done.contains(seq) && !window.passed.contains(seq));
        if log_waits || !self.redrives.is_empty() {
            return None;
        }
        window.retries.values().map(|waits| waits.retry.due_at).min()
    }

    /// Takes a flight off whose run holds `seq`.
    pub(super) fn land(&mut self, seq: i64) -> Option<Flight<Send>> {
        let window = self.window.as_mut()?;
        let first = window.flight_over(seq)?.sent.first;
        window.flying.remove(&first)
    }

    /// Whoever was resumed, or has moved, need not wait for what was earned before.
    pub(super) fn hurry_retries(&mut self, now: Timestamp) {
        let Some(window) = &mut self.window else { return };
        for waits in window.retries.values_mut() {
            waits.retry.due_at = waits.retry.due_at.min(now);
        }
    }

    /// A notice was answered with a 2xx.
    pub(super) fn note_that_it_works(&mut self, now: Timestamp) {
        if let Some(window) = &mut self.window {
            window.works_at = Some(now);
        }
    }
}

#[cfg(test)]
mod random;
#[cfg(test)]
mod tests;
