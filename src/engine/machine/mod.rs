//! The machine: every decision about one channel, as one pure function without I/O.
//!
//! `step(lane, input, now) -> actions`. The driver carries the actions out and is dull. What the machine keeps,
//! for any history of outcomes, restarts, expiry, stops, patches and clock jumps:
//!
//! - in order: one request in flight; n + 1 is not sent before n is terminal, and at most [`UNSAVED_MAX`] outcomes are
//!   ahead of the durable cursor. Where notifications may overtake each other, `window` keeps bounds of its own;
//! - nothing is skipped but what the channel's filter does not want, and nothing is sent twice without a crash;
//! - whether a notification may leave is judged at the moment when its slot is free.
//!
//! What it does not know: which resource, which address, how many other channels. A lane's level in the fan-out
//! is `lanes`' business.

mod ahead;
mod apart;
mod beside;
mod concluding;
mod deciding;
mod messages;
mod phase;
mod terms;
mod window;

use std::{collections::BTreeMap, time::Duration};

use self::{
    ahead::{Ahead, told_at},
    apart::Apart,
    phase::{Flight, Phase},
    window::Window,
};
pub use self::{
    concluding::SYNC_REFUSALS_MAX,
    messages::{
        Action, Beside, Change, Changed, Input, NoticeMark, Outcome, ParkReason, Parking, Record, Redrive,
        Retry, Send, Waiting,
    },
    phase::Cargo,
    terms::Terms,
    window::{FAILURES_UNTIL_SLOW, RETRIES_MAX, WINDOW},
};
use crate::domain::{cursor::Failing, rate::Bucket, time::Timestamp};

/// Outcomes that a fifo lane may be ahead of its durable cursor: what a crash repeats, besides one in flight.
pub const UNSAVED_MAX: u64 = 4;
/// Outcomes that a lane with a window may be ahead, likewise.
const WINDOW_UNSAVED_MAX: u64 = 64;

/// A channel's place in its log, in memory.
#[expect(clippy::struct_excessive_bools, reason = "independent facts of a lane")]
#[derive(Clone, Debug)]
pub struct Lane {
    /// The virtual seq of the sync.
    start_seq: i64,
    /// The newest seq that the log is known to hold.
    head: i64,
    /// The cursor: everything up to it is terminal, or waits by itself.
    settled: i64,
    failing: Failing,
    last_success_at: Option<Timestamp>,
    terms: Terms,
    /// A 410 came, and the channel's end has not been told back yet.
    gone: bool,
    phase: Phase,
    ahead: Ahead,
    /// The seq of the last notification that was delivered or parked, where it is known.
    last_told: Option<i64>,
    /// A wait that is nobody's failure: a first attempt's delay, trouble of our own, or a host that is left alone.
    hold_until: Option<Timestamp>,
    /// The longest that it may be away: a clock that was set back makes it look longer.
    hold_max: Duration,
    /// What the channel is to be told, oldest first.
    notices: Vec<Waiting>,
    /// Parked notifications that get another attempt, with their attempts so far.
    redrives: BTreeMap<i64, u32>,
    /// What was tried again left last: the head is next, if it may leave.
    redrove: bool,
    bucket: Option<Bucket>,
    /// What was concluded, because a read may be older: notices with what is left of them, and redriven notifications
    /// with the attempts that they have had.
    told: BTreeMap<i64, Option<Waiting>>,
    redriven: BTreeMap<i64, u32>,
    /// What ended otherwise than by a 2xx of its own and is not durable yet, each with its outcome.
    apart: Vec<(u64, Apart)>,
    /// Suspended, but a notice was answered with a 2xx: the head is tried once, and says whether the channel goes on.
    alive: bool,
    /// A ping that shall prove the receiver has been asked for since the head's last failure.
    ping_asked: bool,
    /// It has proved so: one more refusal, and the payload is to blame.
    proven: bool,
    /// Outcomes so far, and how many of them are durable.
    outcomes: u64,
    saved: u64,
    /// Where notifications may overtake each other.
    window: Option<Box<Window>>,
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
        let mut lane = Self {
            start_seq,
            head,
            settled,
            failing,
            last_success_at,
            last_told: told_at(settled, start_seq, terms.filtered),
            terms,
            gone: false,
            phase: Phase::Resting,
            ahead: Ahead::Unknown,
            hold_until: None,
            hold_max: Duration::ZERO,
            notices: Vec::new(),
            redrives: BTreeMap::new(),
            redrove: false,
            bucket: None,
            told: BTreeMap::new(),
            redriven: BTreeMap::new(),
            apart: Vec::new(),
            alive: false,
            ping_asked: false,
            proven: false,
            outcomes: 0,
            saved: 0,
            window: None,
        };
        lane.wait_for_a_head();
        lane
    }

    /// Delays the first attempt of an event that was there before the lane was, as [`Input::Head`] does for one that
    /// comes later. A sync is never delayed.
    pub fn delay_first_attempt(&mut self, now: Timestamp) {
        let first_delay = self.terms.schedule.first_delay();
        let is_first = self.is_pending() && !self.is_failing() && self.settled >= self.start_seq;
        if is_first && !first_delay.is_zero() {
            self.hold(first_delay, now);
        }
    }

    pub const fn settled(&self) -> i64 {
        self.settled
    }

    pub const fn is_active(&self) -> bool {
        self.terms.active
    }

    /// Whether the head has failed at least once since the last success, or something waits by itself.
    pub fn is_failing(&self) -> bool {
        self.failing.attempts > 0 || self.has_retries()
    }

    pub const fn due_at(&self) -> Option<Timestamp> {
        self.failing.due_at
    }

    /// Whether something is left to send.
    pub const fn is_pending(&self) -> bool {
        self.settled < self.head
    }

    /// Whether nothing is under way beside the log, and every outcome is durable, so that the lane can leave memory.
    pub fn is_at_rest(&self) -> bool {
        let nothing_waits = self.notices.is_empty() && self.redrives.is_empty();
        let resting = matches!(self.phase, Phase::Resting) && !self.is_in_flight();
        resting && self.slots_asked() == (0, None) && self.is_saved() && nothing_waits
    }

    pub fn is_in_flight(&self) -> bool {
        let flies = self.window.as_ref().is_some_and(|window| !window.flying.is_empty());
        flies || matches!(self.phase, Phase::InFlight(_) | Phase::Telling(_))
    }

    pub const fn is_queued(&self) -> bool {
        matches!(self.phase, Phase::Queued(_))
    }

    /// What the slot that was asked for is for.
    pub const fn queued(&self) -> Option<Cargo> {
        if let Phase::Queued(cargo) = self.phase { Some(cargo) } else { None }
    }

    /// Whether parked notifications wait for another attempt.
    pub fn has_redrives(&self) -> bool {
        let under_way = matches!(self.phase, Phase::InFlight(flight) if flight.sent.redriven);
        let beside = |window: &Window| window.flying.values().any(|flight| flight.sent.redriven);
        under_way || !self.redrives.is_empty() || self.window.as_deref().is_some_and(beside)
    }

    /// Whether its reminders stand in for probes.
    pub const fn is_reminded(&self) -> bool {
        self.terms.probing && self.terms.reminded
    }

    /// Whether nothing of the log is tried before a notice was answered.
    const fn waits_for_life(&self) -> bool {
        self.is_reminded() && !self.alive
    }

    /// Whether the channel is to be told something.
    pub fn has_notices(&self) -> bool {
        !self.notices.is_empty() || matches!(self.phase, Phase::Telling(_))
    }

    /// Whether a request may leave now, apart from waits: asked again right before it does.
    pub fn may_send(&self, now: Timestamp) -> bool {
        self.terms.active && now < self.terms.expires_at
    }

    /// Where the lane stands, as it would be made durable now.
    pub fn place(&self) -> Record {
        let mut failing = self.failing.clone();
        if self.open().is_some() {
            failing.due_at = self.window_due_at();
        }
        Record {
            seq: self.settled,
            failing,
            last_success_at: self.last_success_at,
            outcome: self.outcomes,
            attempt: self.failing.attempts,
            parked: None,
            redriven: None,
            notice: None,
            superseded: None,
            beside: self.beside(),
        }
    }

    /// Takes `input` in and says what to do about it.
    pub fn step(&mut self, input: Input, now: Timestamp) -> Vec<Action> {
        let mut actions = Vec::new();
        match input {
            Input::Head(head) => self.grow(head, now),
            Input::Time => {}
            Input::Saved(outcome) => {
                self.saved = self.saved.max(outcome.min(self.outcomes));
                let saved = self.saved;
                self.apart.retain(|(outcome, _)| *outcome > saved);
                self.save_window();
            }
            Input::Slot if self.open().is_some() => actions.extend(self.use_slot(now)),
            Input::NoticeSlot => actions.extend(self.use_notice_slot(now)),
            Input::Slot => {
                if let Phase::Queued(cargo) = self.phase {
                    self.phase = Phase::Resting;
                    // Asked again: it may have changed while the slot was waited for.
                    if self.next_cargo(now) == Ok(cargo) {
                        return vec![self.depart(cargo, now)];
                    }
                } else if let Some(window) = &mut self.window {
                    window.asked = window.asked.saturating_sub(1);
                }
            }
            Input::NotSent(first) => self.take_back(first),
            Input::NotTold => self.take_notice_back(),
            Input::Moved(seq) => {
                self.apart.retain(|(_, apart)| apart.seq() > seq);
                if seq > self.settled {
                    self.settled = seq;
                    self.last_told = told_at(seq, self.start_seq, self.terms.filtered);
                    self.failing = Failing::default();
                    self.settle_window_through(seq);
                }
            }
            Input::Rewound(seq) => {
                self.settled = seq;
                self.last_told = told_at(seq, self.start_seq, self.terms.filtered);
                // Sent again is not answered: the channel's window goes on.
                let Failing { failures, since, .. } = self.failing;
                self.failing = Failing { failures, since, ..Failing::default() };
                self.redrives.clear();
                self.redriven.retain(|at, _| *at <= seq);
                self.apart.retain(|(_, apart)| apart.seq() <= seq);
                self.rewind_window(seq);
            }
            Input::Waiting { notices, redrives } => self.wait_for(notices, &redrives),
            Input::Expired(seq) => {
                self.apart.retain(|(_, apart)| apart.seq() > seq);
                self.expire(seq);
            }
            Input::Hole { first, through } => {
                self.take_back(first);
                self.expire_retries(through);
                self.redrives = self.redrives.split_off(&through.saturating_add(1));
                self.expire(through);
            }
            Input::Next { wanted, through } => self.take_next(wanted, through, now),
            Input::Outcome(outcome) => {
                let settled = self.settled;
                if let Some(flight) = self.land(outcome.through) {
                    self.conclude_flight(flight, outcome, now, &mut actions);
                } else if !self.has_window() || !matches!(self.phase, Phase::Telling(_)) {
                    self.conclude(outcome, now, &mut actions);
                    self.look_on_from(settled);
                }
            }
            Input::Told(outcome) => {
                let settled = self.settled;
                self.conclude(outcome, now, &mut actions);
                self.look_on_from(settled);
            }
            Input::Changed { terms, readdressed } => {
                // The new filter may want something else.
                self.ahead = Ahead::Unknown;
                let sent_freely = self.terms.active && !self.terms.probing;
                // After a 410 it is no resumption but a change that did not know of it yet.
                let was_gone = std::mem::take(&mut self.gone);
                if !sent_freely && !was_gone && terms.active && !terms.probing {
                    // Resumed by somebody, from a suspension or a pause: a fresh start, with a window of its own.
                    self.failing.since = None;
                    self.failing.failures = 0;
                    self.ping_asked = false;
                    self.try_at_once(now);
                }
                self.terms = terms;
                self.alive &= self.terms.probing;
                if readdressed {
                    self.shorten_hold(now);
                    self.try_at_once(now);
                    match &mut self.phase {
                        Phase::InFlight(flight) => flight.readdressed = true,
                        Phase::Telling(flight) => flight.readdressed = true,
                        Phase::Resting | Phase::Queued(_) => {}
                    }
                    for flight in self.window.iter_mut().flat_map(|window| window.flying.values_mut()) {
                        flight.readdressed = true;
                    }
                }
            }
        }
        self.absorb();
        self.go_free(&mut actions);
        self.fit_bucket(now);
        self.rein_in(now);
        actions.extend(self.go_on(now));
        actions
    }

    fn grow(&mut self, head: i64, now: Timestamp) {
        let first_delay = self.terms.schedule.first_delay();
        if !self.is_pending() && head > self.head && !first_delay.is_zero() {
            self.hold(first_delay, now);
        }
        self.head = self.head.max(head);
    }

    /// A new address need not wait for what the old one has earned.
    fn try_at_once(&mut self, now: Timestamp) {
        self.failing.due_at = self.failing.due_at.map(|due| due.min(now));
        self.hurry_retries(now);
    }
}

#[cfg(test)]
mod tests;
