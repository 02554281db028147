//! The machine: every decision about one channel, as one pure function without I/O.
//!
//! `step(lane, input, now) -> actions`. The driver carries the actions out and is dull. What the machine keeps,
//! for any history of outcomes, restarts, expiry, stops, patches and clock jumps:
//!
//! - one request in flight; n + 1 is not sent before n is terminal;
//! - nothing is skipped, and nothing is sent twice without a crash;
//! - at most [`UNSAVED_MAX`] outcomes are ahead of the durable cursor;
//! - whether a notification may leave is judged at the moment when its slot is free.
//!
//! What it does not know: which resource, which address, how many other channels. A lane's level in the fan-out
//! is `lanes`' business.

mod messages;

use std::{sync::Arc, time::Duration};

pub use self::messages::{Action, Input, Outcome, Record, Send};
use crate::domain::{
    backoff::{self, PROBE_WAIT_MAX, Schedule},
    channel::CatchUp,
    cursor::Failing,
    outcome::{Verdict, is_client_error},
    time::Timestamp,
};

/// Outcomes that a fifo lane may be ahead of its durable cursor: what a crash repeats, besides one in flight.
pub const UNSAVED_MAX: u64 = 4;
/// Refusals after which a sync is parked, so that a receiver that knows no sync still gets its events.
pub const SYNC_REFUSALS_MAX: u32 = 3;
/// The wait after a failure of our own.
const OURS_WAIT: Duration = Duration::from_secs(1);

/// What a change of the channel may alter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// The channel's state lets notifications out.
    pub active: bool,
    /// The channel is suspended: its head is only probed, until a 2xx.
    pub probing: bool,
    /// How long failures may last, from the first since the last 2xx, before the channel is suspended.
    pub window: Duration,
    pub expires_at: Timestamp,
    pub catch_up: CatchUp,
    pub schedule: Arc<Schedule>,
}

/// A channel's place in its log, in memory.
#[derive(Clone, Debug)]
pub struct Lane {
    /// The virtual seq of the sync.
    start_seq: i64,
    /// The newest seq that the log is known to hold.
    head: i64,
    /// The highest terminal seq.
    settled: i64,
    failing: Failing,
    last_success_at: Option<Timestamp>,
    terms: Terms,
    /// A 410 came, and the channel's end has not been told back yet.
    gone: bool,
    phase: Phase,
    /// A wait that is nobody's failure: a first attempt's delay, or trouble of our own.
    hold_until: Option<Timestamp>,
    /// Outcomes so far, and how many of them are durable.
    outcomes: u64,
    saved: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Nothing under way.
    Resting,
    /// A slot has been asked for.
    Queued,
    /// A request is on its way; `readdressed` when the channel's address has changed since it left.
    InFlight { send: Send, readdressed: bool },
}

impl Lane {
    /// A lane as it was loaded: `settled` is the durable cursor, `head` the resource's head.
    pub fn load(
        start_seq: i64,
        head: i64,
        settled: i64,
        mut failing: Failing,
        last_success_at: Option<Timestamp>,
        terms: Terms,
    ) -> Self {
        // A cursor that was moved from outside may have left its attempted run behind.
        failing.pinned = failing.pinned.filter(|pinned| *pinned > settled);
        Self {
            start_seq,
            head,
            settled,
            failing,
            last_success_at,
            terms,
            gone: false,
            phase: Phase::Resting,
            hold_until: None,
            outcomes: 0,
            saved: 0,
        }
    }

    /// Delays the first attempt of an event that was there before the lane was, as [`Input::Head`] does for one that
    /// comes later. A sync is never delayed.
    pub fn delay_first_attempt(&mut self, now: Timestamp) {
        let first_delay = self.terms.schedule.first_delay();
        let is_first = self.is_pending() && !self.is_failing() && self.settled >= self.start_seq;
        if is_first && !first_delay.is_zero() {
            self.hold_until = Some(now.plus(first_delay));
        }
    }

    pub const fn settled(&self) -> i64 {
        self.settled
    }

    pub const fn is_active(&self) -> bool {
        self.terms.active
    }

    /// Whether the head has failed at least once since the last success.
    pub const fn is_failing(&self) -> bool {
        self.failing.attempts > 0
    }

    pub const fn due_at(&self) -> Option<Timestamp> {
        self.failing.due_at
    }

    /// Whether something is left to send.
    pub const fn is_pending(&self) -> bool {
        self.settled < self.head
    }

    /// Whether nothing is under way and every outcome is durable, so that the lane can leave memory.
    pub const fn is_at_rest(&self) -> bool {
        matches!(self.phase, Phase::Resting) && self.outcomes == self.saved
    }

    pub const fn is_in_flight(&self) -> bool {
        matches!(self.phase, Phase::InFlight { .. })
    }

    pub const fn is_queued(&self) -> bool {
        matches!(self.phase, Phase::Queued)
    }

    /// Whether a request may leave now, apart from waits: asked again right before it does.
    pub fn may_send(&self, now: Timestamp) -> bool {
        self.terms.active && now < self.terms.expires_at
    }

    /// Where the lane stands, as it would be made durable now.
    pub fn place(&self) -> Record {
        Record {
            seq: self.settled,
            failing: self.failing.clone(),
            last_success_at: self.last_success_at,
            outcome: self.outcomes,
            attempt: self.failing.attempts,
            parked: false,
        }
    }

    /// Takes `input` in and says what to do about it.
    pub fn step(&mut self, input: Input, now: Timestamp) -> Vec<Action> {
        let mut actions = Vec::new();
        match input {
            Input::Head(head) => self.grow(head, now),
            Input::Time => {}
            Input::Saved(outcome) => self.saved = self.saved.max(outcome.min(self.outcomes)),
            Input::Slot => {
                if self.phase == Phase::Queued {
                    self.phase = Phase::Resting;
                    if self.wait(now).is_none() {
                        let send = self.next_send();
                        self.phase = Phase::InFlight { send, readdressed: false };
                        self.hold_until = None;
                        return vec![Action::Send(send)];
                    }
                }
            }
            Input::NotSent => {
                if matches!(self.phase, Phase::InFlight { .. }) {
                    self.phase = Phase::Resting;
                }
            }
            Input::Moved(seq) => {
                if seq > self.settled {
                    self.settled = seq;
                    self.failing = Failing::default();
                }
            }
            Input::Outcome(outcome) => self.conclude(outcome, now, &mut actions),
            Input::Changed { terms, readdressed } => {
                let sent_freely = self.terms.active && !self.terms.probing;
                // After a 410 it is no resumption but a change that did not know of it yet.
                let was_gone = std::mem::take(&mut self.gone);
                if !sent_freely && !was_gone && terms.active && !terms.probing {
                    // Resumed by somebody, from a suspension or a pause: a fresh start, with a window of its own.
                    self.failing.since = None;
                    self.try_at_once(now);
                }
                self.terms = terms;
                if readdressed {
                    self.try_at_once(now);
                    if let Phase::InFlight { readdressed, .. } = &mut self.phase {
                        *readdressed = true;
                    }
                }
            }
        }
        self.rein_in(now);
        actions.extend(self.go_on(now));
        actions
    }

    fn grow(&mut self, head: i64, now: Timestamp) {
        let first_delay = self.terms.schedule.first_delay();
        if !self.is_pending() && head > self.head && !first_delay.is_zero() {
            self.hold_until = Some(now.plus(first_delay));
        }
        self.head = self.head.max(head);
    }

    fn conclude(&mut self, outcome: Outcome, now: Timestamp, actions: &mut Vec<Action>) {
        // INVARIANT: an outcome answers the one request in flight.
        let Phase::InFlight { send, readdressed } = self.phase else { return };
        if !(send.first..=send.through).contains(&outcome.through) {
            return;
        }
        self.phase = Phase::Resting;
        let attempt = send.attempt;
        let mut parked = false;
        // A receiver that the channel has left cannot end it any more.
        let verdict = match outcome.verdict {
            Verdict::Gone if readdressed => Verdict::Failed,
            verdict => verdict,
        };
        let was_probing = self.terms.probing;
        // The cursor may have been moved past it meanwhile: then it is no longer the head, and only told.
        let is_head = send.first > self.settled;
        match verdict {
            Verdict::Ours => {
                self.hold_until = Some(now.plus(OURS_WAIT));
                return;
            }
            Verdict::Delivered => {
                self.last_success_at = Some(now);
                self.terms.probing = false;
                if outcome.through > self.settled {
                    self.settled = outcome.through;
                    self.failing = Failing::default();
                }
            }
            Verdict::Failed | Verdict::Overloaded | Verdict::Forbidden | Verdict::Gone if is_head => {
                self.fail(outcome, attempt, now);
                if readdressed {
                    self.try_at_once(now);
                }
                if outcome.through == self.start_seq && self.failing.client_errors >= SYNC_REFUSALS_MAX {
                    parked = true;
                    self.settled = outcome.through;
                    // The receiver has still not said 2xx.
                    self.failing = Failing { since: self.failing.since, ..Failing::default() };
                }
            }
            Verdict::Failed | Verdict::Overloaded | Verdict::Forbidden | Verdict::Gone => {}
        }
        self.outcomes += 1;
        actions.push(Action::Record(Record { attempt, parked, ..self.place() }));
        match (was_probing, self.terms.probing, self.failing.due_at) {
            (false, true, Some(probe_at)) => actions.push(Action::Suspend { probe_at }),
            (true, false, _) => actions.push(Action::Resume),
            _ => {}
        }
        if verdict == Verdict::Gone {
            self.terms.active = false;
            self.gone = true;
            actions.push(Action::EndGone);
        }
    }

    fn fail(&mut self, outcome: Outcome, attempt: u32, now: Timestamp) {
        let wait = backoff::wait(&self.terms.schedule, attempt, outcome.retry_after, outcome.jitter);
        let window_ends_at = self.failing.since.get_or_insert(now).plus(self.terms.window);
        self.failing.attempts = attempt;
        self.terms.probing |= now >= window_ends_at;
        self.failing.due_at = Some(if self.terms.probing {
            backoff::next_probe(window_ends_at.min(now), now)
                .max(now.plus(outcome.retry_after.unwrap_or_default()))
        } else {
            now.plus(wait)
        });
        self.failing.pinned = Some(outcome.through);
        if outcome.status.is_some_and(is_client_error) {
            self.failing.client_errors = self.failing.client_errors.saturating_add(1);
        }
    }

    /// A new address need not wait for what the old one has earned.
    fn try_at_once(&mut self, now: Timestamp) {
        self.failing.due_at = self.failing.due_at.map(|due| due.min(now));
    }

    /// Brings waits that are longer than any wait can be, which a clock has written that has been set back since,
    /// down to the longest, once: measured against every new `now` they would never end.
    fn rein_in(&mut self, now: Timestamp) {
        let schedule = &self.terms.schedule;
        let longest =
            schedule.longest_wait().max(if self.terms.probing { PROBE_WAIT_MAX } else { Duration::ZERO });
        let longest_hold = schedule.first_delay().max(OURS_WAIT);
        self.failing.due_at = self.failing.due_at.map(|due| due.min(now.plus(longest)));
        self.hold_until = self.hold_until.map(|due| due.min(now.plus(longest_hold)));
    }

    /// Asks for a slot, or says when to look again; nothing while something is under way.
    fn go_on(&mut self, now: Timestamp) -> Option<Action> {
        if self.phase != Phase::Resting {
            return None;
        }
        match self.wait(now) {
            None => {
                self.phase = Phase::Queued;
                Some(Action::AskSlot)
            }
            Some(Wait::Until(due)) => Some(Action::WakeAt(due)),
            Some(Wait::ForInput) => None,
        }
    }

    /// Why nothing may leave now.
    fn wait(&self, now: Timestamp) -> Option<Wait> {
        if !self.is_pending() || !self.may_send(now) || self.outcomes - self.saved >= UNSAVED_MAX {
            return Some(Wait::ForInput);
        }
        let due = self.failing.due_at.max(self.hold_until);
        due.filter(|due| *due > now).map(Wait::Until)
    }

    fn next_send(&self) -> Send {
        let first = self.settled + 1;
        let is_sync = first == self.start_seq;
        let through = match (self.failing.pinned, self.terms.catch_up) {
            (Some(pinned), _) => pinned,
            (None, CatchUp::Latest) if !is_sync => self.head,
            (None, _) => first,
        };
        Send {
            first,
            through,
            pinned: self.failing.pinned.is_some(),
            attempt: self.failing.attempts.saturating_add(1),
        }
    }
}

enum Wait {
    Until(Timestamp),
    ForInput,
}

#[cfg(test)]
mod tests;
