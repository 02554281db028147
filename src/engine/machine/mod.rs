//! The machine: every decision about one channel, as one pure function without I/O.
//!
//! `step(lane, input, now) -> actions`. The driver carries the actions out and is dull. What the machine keeps,
//! for any history of outcomes, restarts, expiry, stops, patches and clock jumps:
//!
//! - one request in flight; n + 1 is not sent before n is terminal;
//! - nothing is skipped but what the channel's filter does not want, and nothing is sent twice without a crash;
//! - at most [`UNSAVED_MAX`] outcomes are ahead of the durable cursor;
//! - whether a notification may leave is judged at the moment when its slot is free.
//!
//! What it does not know: which resource, which address, how many other channels. A lane's level in the fan-out
//! is `lanes`' business.

mod ahead;
mod beside;
mod concluding;
mod deciding;
mod messages;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use self::ahead::{Ahead, told_at};
pub use self::concluding::SYNC_REFUSALS_MAX;
pub use self::messages::{
    Action, Input, NoticeMark, Outcome, ParkReason, Parking, Record, Redrive, Send, Waiting,
};
use crate::domain::{
    backoff::Schedule,
    channel::{CatchUp, OnExhausted, RateLimit},
    claim::Reminders,
    cursor::Failing,
    rate::Bucket,
    time::Timestamp,
};

/// Outcomes that a fifo lane may be ahead of its durable cursor: what a crash repeats, besides one in flight.
pub const UNSAVED_MAX: u64 = 4;
/// What a change of the channel may alter.
#[expect(clippy::struct_excessive_bools, reason = "independent facts of a channel")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// The channel's state lets notifications out.
    pub active: bool,
    /// The channel is suspended: its head is only probed, until a 2xx.
    pub probing: bool,
    /// It asked for notices: while it is suspended it is reminded, and not probed with its head.
    pub reminded: bool,
    /// When it is reminded, or probed.
    pub reminders: Arc<Reminders>,
    /// How long failures may last, from the first since the last 2xx, before the channel is exhausted.
    pub window: Duration,
    /// How many failures since the last 2xx exhaust it, however soon.
    pub max_attempts: Option<u32>,
    pub on_exhausted: OnExhausted,
    /// Notifications carry a payload that may be at fault.
    pub judges_payload: bool,
    pub rate_limit: Option<RateLimit>,
    pub expires_at: Timestamp,
    pub catch_up: CatchUp,
    pub schedule: Arc<Schedule>,
    /// Not every event is for the channel: which one is next has to be asked.
    pub filtered: bool,
}

/// A channel's place in its log, in memory.
#[expect(clippy::struct_excessive_bools, reason = "independent facts of a lane")]
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
    ahead: Ahead,
    /// The seq of the last notification that was delivered or parked, where it is known.
    last_told: Option<i64>,
    /// A wait that is nobody's failure: a first attempt's delay, or trouble of our own.
    hold_until: Option<Timestamp>,
    /// What the channel is to be told, oldest first.
    notices: Vec<Waiting>,
    /// Parked notifications that get another attempt, with their attempts so far.
    redrives: BTreeMap<i64, u32>,
    bucket: Option<Bucket>,
    /// What was concluded, because a read may be older: notices with what is left of them, and redriven notifications
    /// with the attempts that they have had.
    told: BTreeMap<i64, Option<Waiting>>,
    redriven: BTreeMap<i64, u32>,
    /// Set aside and not durable yet, each with its outcome.
    parked: Vec<(u64, Parking)>,
    /// What is on its way beside the log does not wait there any more: it was taken back or settled.
    withdrawn: bool,
    /// Suspended, but a notice was answered with a 2xx: the head is tried once, and says whether the channel goes on.
    alive: bool,
    /// A ping that shall prove the receiver has been asked for since the head's last failure.
    ping_asked: bool,
    /// It has proved so: one more refusal, and the payload is to blame.
    proven: bool,
    /// Outcomes so far, and how many of them are durable.
    outcomes: u64,
    saved: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Nothing under way.
    Resting,
    /// A slot has been asked for.
    Queued(Cargo),
    /// A request is on its way; `readdressed` when the channel's address has changed since it left.
    InFlight { send: Send, readdressed: bool },
    /// A notice is on its way.
    Telling { notice: Waiting },
}

/// What a lane wants to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cargo {
    Head,
    Redrive(i64),
    Notice(i64),
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
            notices: Vec::new(),
            redrives: BTreeMap::new(),
            bucket: None,
            told: BTreeMap::new(),
            redriven: BTreeMap::new(),
            parked: Vec::new(),
            withdrawn: false,
            alive: false,
            ping_asked: false,
            proven: false,
            outcomes: 0,
            saved: 0,
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

    /// Whether nothing is under way beside the log, and every outcome is durable, so that the lane can leave memory.
    pub fn is_at_rest(&self) -> bool {
        let nothing_waits = self.notices.is_empty() && self.redrives.is_empty();
        matches!(self.phase, Phase::Resting) && self.is_saved() && nothing_waits
    }

    pub const fn is_in_flight(&self) -> bool {
        matches!(self.phase, Phase::InFlight { .. } | Phase::Telling { .. })
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
        let under_way = matches!(self.phase, Phase::InFlight { send, .. } if send.redriven);
        under_way || !self.redrives.is_empty()
    }

    /// Whether its reminders stand in for probes.
    pub const fn is_reminded(&self) -> bool {
        self.terms.probing && self.terms.reminded
    }

    /// Whether the channel is to be told something.
    pub fn has_notices(&self) -> bool {
        !self.notices.is_empty() || matches!(self.phase, Phase::Telling { .. })
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
            parked: None,
            redriven: None,
            notice: None,
            superseded: None,
        }
    }

    /// What was set aside and is not durable yet.
    pub fn unsaved_parked(&self) -> impl Iterator<Item = Parking> {
        self.parked.iter().map(|(_, parking)| *parking)
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
                self.parked.retain(|(outcome, _)| *outcome > saved);
            }
            Input::Slot => {
                if let Phase::Queued(cargo) = self.phase {
                    self.phase = Phase::Resting;
                    // Asked again: it may have changed while the slot was waited for.
                    if self.next_cargo(now) == Ok(cargo) {
                        return vec![self.depart(cargo, now)];
                    }
                }
            }
            Input::NotSent => match self.phase {
                Phase::InFlight { send, .. } => {
                    self.phase = Phase::Resting;
                    if send.redriven {
                        self.redrive_again(send);
                    }
                }
                Phase::Telling { notice } => {
                    self.phase = Phase::Resting;
                    self.tell_again(notice);
                }
                Phase::Resting | Phase::Queued(_) => {}
            },
            Input::Moved(seq) => {
                self.parked.retain(|(_, parking)| parking.seq > seq);
                if seq > self.settled {
                    self.settled = seq;
                    self.last_told = told_at(seq, self.start_seq, self.terms.filtered);
                    self.failing = Failing::default();
                }
            }
            Input::Rewound(seq) => {
                self.settled = seq;
                self.last_told = told_at(seq, self.start_seq, self.terms.filtered);
                // Sent again is not answered: the channel's window goes on.
                let Failing { failures, since, .. } = self.failing;
                self.failing = Failing { failures, since, ..Failing::default() };
                self.redrives.clear();
                self.parked.retain(|(_, parking)| parking.seq <= seq);
            }
            Input::Waiting { notices, redrives } => self.wait_for(notices, &redrives),
            Input::Expired(seq) => {
                self.parked.retain(|(_, parking)| parking.seq > seq);
                self.expire(seq);
            }
            Input::Hole(seq) => {
                self.phase = Phase::Resting;
                self.redrives = self.redrives.split_off(&seq.saturating_add(1));
                self.expire(seq);
            }
            Input::Next { wanted, through } => self.take_next(wanted, through, now),
            Input::Outcome(outcome) => {
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
                    self.try_at_once(now);
                }
                self.terms = terms;
                self.alive &= self.terms.probing;
                if readdressed {
                    self.try_at_once(now);
                    if let Phase::InFlight { readdressed, .. } = &mut self.phase {
                        *readdressed = true;
                    }
                }
            }
        }
        self.go_free(&mut actions);
        self.fit_bucket(now);
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

    /// A new address need not wait for what the old one has earned.
    fn try_at_once(&mut self, now: Timestamp) {
        self.failing.due_at = self.failing.due_at.map(|due| due.min(now));
    }
}

#[cfg(test)]
mod tests;
