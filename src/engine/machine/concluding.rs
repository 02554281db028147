//! What an outcome makes of a lane in order – settled, tried again, parked – and of its channel: suspended, resumed, ended.
//! Called by `step` alone. Keeps: one outcome, one record.

use std::time::Duration;

use super::{Action, Flight, Lane, NoticeMark, Outcome, ParkReason, Parking, Phase, Record, Send, Waiting};
use crate::domain::{
    backoff,
    channel::OnExhausted,
    cursor::Failing,
    notice,
    outcome::{Verdict, is_client_error, is_payload_refusal},
    time::Timestamp,
};

/// Refusals after which a sync is parked, so that a receiver that knows no sync still gets its events.
pub const SYNC_REFUSALS_MAX: u32 = 3;
/// A payload is poison once it was refused this often, over at least this time, by a receiver that takes a ping.
pub(super) const POISON_REFUSALS_MIN: u32 = 8;
pub(super) const POISON_TIME_MIN: Duration = Duration::from_hours(1);

impl Lane {
    pub(super) fn conclude(&mut self, outcome: Outcome, now: Timestamp, actions: &mut Vec<Action>) {
        // INVARIANT: an outcome answers the one request in flight.
        match self.phase {
            Phase::InFlight(flight) => {
                if !(flight.sent.first..=flight.sent.through).contains(&outcome.through) {
                    return;
                }
                self.phase = Phase::Resting;
                let outcome = flight.judge(outcome);
                if flight.sent.redriven {
                    self.conclude_redrive(flight, outcome, now, actions);
                } else {
                    self.conclude_head(flight, outcome, now, actions);
                }
            }
            Phase::Telling(flight) => {
                self.phase = Phase::Resting;
                self.conclude_notice(flight, flight.judge(outcome), now, actions);
            }
            Phase::Resting | Phase::Queued(_) => {}
        }
    }

    fn conclude_head(
        &mut self,
        Flight { sent: send, readdressed, .. }: Flight<Send>,
        outcome: Outcome,
        now: Timestamp,
        actions: &mut Vec<Action>,
    ) {
        let was_probing = self.terms.probing;
        // The cursor may have been moved meanwhile: then this is no longer the head, and only told.
        let is_head = send.first == self.settled.saturating_add(1);
        let stood = self.settled;
        let mut parked = None;
        match outcome.verdict {
            Verdict::Ours => {
                self.hold_ours(&outcome, now);
                return;
            }
            Verdict::Delivered => {
                self.last_success_at = Some(now);
                self.terms.probing = false;
                self.failing.failures = 0;
                if send.first <= self.settled.saturating_add(1) && outcome.through > self.settled {
                    self.settle(outcome.through, Failing::default());
                }
            }
            Verdict::Failed
            | Verdict::Overloaded
            | Verdict::Forbidden
            | Verdict::Refused
            | Verdict::Moved
            | Verdict::Gone
                if is_head =>
            {
                self.fail(outcome, send.attempt, now);
                if readdressed {
                    self.try_at_once(now);
                }
                parked = self.reason_to_park(outcome, now).map(|reason| self.park(outcome, reason));
            }
            _ => {}
        }
        self.alive = false;
        self.outcomes += 1;
        let superseded = self.superseded_since(stood);
        self.part(parked, superseded);
        actions.push(Action::Record(Record { attempt: send.attempt, parked, superseded, ..self.place() }));
        self.turn(was_probing, actions);
        self.follow(outcome.verdict, actions);
        if parked.is_none() && self.may_be_poison(now) && !self.ping_asked {
            self.ping_asked = true;
            actions.push(Action::Ping);
        }
    }

    /// A redriven notification has one attempt: it arrives or is parked again. The head's own attempts go on counting.
    pub(super) fn conclude_redrive(
        &mut self,
        flight: Flight<Send>,
        outcome: Outcome,
        now: Timestamp,
        actions: &mut Vec<Action>,
    ) {
        let send = flight.sent;
        let was_probing = self.terms.probing;
        let (mut parked, mut redriven) = (None, None);
        match outcome.verdict {
            Verdict::Ours => {
                self.hold_ours(&outcome, now);
                self.redrive_again(flight);
                return;
            }
            Verdict::Delivered => {
                self.note_life(now);
                redriven = Some(send.first);
            }
            _ => {
                let reason = ParkReason::RedriveFailed;
                let (status, attempts) = (outcome.status, send.attempt);
                parked = Some(Parking { seq: send.first, reason, status, attempts });
            }
        }
        self.outcomes += 1;
        if !flight.withdrawn {
            self.redriven.insert(send.first, send.attempt);
        }
        self.forget_concluded();
        actions.push(Action::Record(Record { attempt: send.attempt, parked, redriven, ..self.place() }));
        self.turn(was_probing, actions);
        self.follow(outcome.verdict, actions);
    }

    /// A 2xx to something else than the head: the channel's window begins anew with its next failure, and one that was
    /// suspended goes on.
    fn note_life(&mut self, now: Timestamp) {
        self.last_success_at = Some(now);
        self.failing.since = None;
        self.failing.failures = 0;
        if std::mem::take(&mut self.terms.probing) {
            self.try_at_once(now);
        }
    }

    /// A notice never counts against the head. A 2xx is a sign of life: a suspended head is tried at once.
    fn conclude_notice(
        &mut self,
        flight: Flight<Waiting>,
        outcome: Outcome,
        now: Timestamp,
        actions: &mut Vec<Action>,
    ) {
        if outcome.verdict == Verdict::Ours {
            self.hold_ours(&outcome, now);
            self.tell_again(flight);
            return;
        }
        let mut notice = flight.sent;
        notice.attempts = notice.attempts.saturating_add(1);
        let mut mark = NoticeMark { id: notice.id, attempts: notice.attempts, due_at: None };
        if self.has_window() {
            // Another ping may be asked for.
            self.ping_asked = false;
        }
        if outcome.verdict == Verdict::Delivered {
            if notice.to_receiver {
                self.note_that_it_works(now);
            }
            if self.terms.probing {
                self.alive = true;
                self.try_at_once(now);
            }
            if notice.to_receiver && self.may_be_poison(now) {
                // It works. If it refuses the payload once more, that is to blame.
                self.proven = true;
                self.try_at_once(now);
            }
        }
        // Who receives nothing else there says nothing of the channel, nor does who hears that it is over.
        let is_gone = outcome.verdict == Verdict::Gone && notice.to_receiver && self.may_send(now);
        let is_over = outcome.verdict == Verdict::Delivered || is_gone || flight.withdrawn;
        let wait = notice::wait_after(notice.attempts).filter(|_| !is_over);
        let left = wait.map(|wait| Waiting { due_at: now.plus(wait), ..notice });
        mark.due_at = left.map(|left| left.due_at);
        self.notices.extend(left);
        self.outcomes += 1;
        self.told.insert(notice.id, left);
        self.forget_concluded();
        let attempt = notice.attempts;
        actions.push(Action::Record(Record { attempt, notice: Some(mark), ..self.place() }));
        if is_gone {
            self.follow(Verdict::Gone, actions);
        }
    }

    /// A suspended receiver that is alive and has nothing to be tried with goes on.
    pub(super) fn go_free(&mut self, actions: &mut Vec<Action>) {
        if self.alive && !self.is_pending() && !self.has_retries() && !self.is_in_flight() {
            self.alive = false;
            self.terms.probing = false;
            self.failing.since = None;
            self.failing.failures = 0;
            actions.push(Action::Resume);
        }
    }

    /// The run that has settled with its newest, since the lane stood at `stood`.
    fn superseded_since(&self, stood: i64) -> Option<(i64, i64)> {
        let first = stood.saturating_add(1);
        (self.settled > first).then(|| (first, self.settled.saturating_sub(1)))
    }

    pub(super) fn settle(&mut self, seq: i64, failing: Failing) {
        self.settled = seq;
        self.failing = failing;
        self.ping_asked = false;
        self.proven = false;
    }

    fn fail(&mut self, outcome: Outcome, attempt: u32, now: Timestamp) {
        if outcome.status.is_some_and(is_client_error) {
            self.failing.client_errors = self.failing.client_errors.saturating_add(1);
        }
        let wait = self.count_failure(outcome, attempt, now);
        self.failing.attempts = attempt;
        self.ping_asked = false;
        let due = if self.terms.probing { self.next_probe_at(outcome, now) } else { now.plus(wait) };
        self.failing.due_at = Some(due);
        self.failing.pinned = Some(outcome.through);
        if outcome.status.is_some_and(is_payload_refusal) {
            self.failing.refusals = self.failing.refusals.saturating_add(1);
        } else {
            // Refused *again and again*: anything else in between is no evidence against the payload.
            self.failing.refusals = 0;
            self.proven = false;
        }
    }

    /// Counts a failure against the channel, which may be suspended by it. Returns the notification's own wait.
    pub(super) fn count_failure(&mut self, outcome: Outcome, attempt: u32, now: Timestamp) -> Duration {
        self.failing.since.get_or_insert(now);
        self.failing.failures = self.failing.failures.saturating_add(1);
        // A channel that ends is not suspended as well, nor one that goes on without its sync.
        let suspends = self.terms.on_exhausted == OnExhausted::Suspend
            && outcome.verdict != Verdict::Gone
            && !self.is_refused_sync(outcome);
        self.terms.probing |= suspends && self.is_exhausted(now);
        backoff::wait(&self.terms.schedule, attempt, outcome.retry_after, outcome.jitter)
    }

    /// When a suspended channel is probed after this failure.
    pub(super) fn next_probe_at(&self, outcome: Outcome, now: Timestamp) -> Timestamp {
        let since = self.failing.since.unwrap_or(now);
        let window_ends_at = since.plus(self.terms.window);
        // Where attempts were limited and not time, the first failure is what all probes are counted from.
        let probed_since = if now >= window_ends_at { window_ends_at } else { since };
        let floor = now.plus(outcome.retry_after.unwrap_or_default());
        self.terms.reminders.next_after(probed_since, now).max(floor)
    }

    fn is_exhausted(&self, now: Timestamp) -> bool {
        let window_is_over = self.failing.since.is_some_and(|since| now >= since.plus(self.terms.window));
        window_is_over || self.terms.max_attempts.is_some_and(|max| self.failing.failures >= max)
    }

    fn is_refused_sync(&self, outcome: Outcome) -> bool {
        outcome.through == self.start_seq && self.failing.client_errors >= SYNC_REFUSALS_MAX
    }

    fn reason_to_park(&self, outcome: Outcome, now: Timestamp) -> Option<ParkReason> {
        if self.is_refused_sync(outcome) {
            return Some(ParkReason::SyncRefused);
        }
        if outcome.verdict != Verdict::Refused && self.proven && self.may_be_poison(now) {
            return Some(ParkReason::Poison);
        }
        self.reason_to_part(outcome, now)
    }

    /// Why a notification is set aside whatever it says.
    pub(super) fn reason_to_part(&self, outcome: Outcome, now: Timestamp) -> Option<ParkReason> {
        if outcome.verdict == Verdict::Refused {
            return Some(ParkReason::Redirected);
        }
        // A channel that ends keeps what it has not had.
        let goes_on = self.terms.on_exhausted == OnExhausted::Continue && outcome.verdict != Verdict::Gone;
        (goes_on && self.is_exhausted(now)).then_some(ParkReason::Exhausted)
    }

    /// Sets the head aside, and goes on after it.
    fn park(&mut self, outcome: Outcome, reason: ParkReason) -> Parking {
        let (status, attempts) = (outcome.status, self.failing.attempts);
        let failing = match reason {
            // The receiver has still not said 2xx.
            ParkReason::SyncRefused | ParkReason::Redirected => {
                Failing { since: self.failing.since, failures: self.failing.failures, ..Failing::default() }
            }
            // The next one gets a window of its own: a dead receiver is not to be run through the whole log.
            _ => Failing::default(),
        };
        self.settle(outcome.through, failing);
        Parking { seq: outcome.through, reason, status, attempts }
    }

    fn may_be_poison(&self, now: Timestamp) -> bool {
        let refused_long = self.failing.since.is_some_and(|since| now >= since.plus(POISON_TIME_MIN));
        self.terms.judges_payload
            && !self.terms.probing
            && self.failing.refusals >= POISON_REFUSALS_MIN
            && refused_long
            && self.failing.pinned.is_some_and(|pinned| pinned > self.start_seq)
    }

    /// Says that the channel is suspended, or goes on.
    pub(super) fn turn(&self, was_probing: bool, actions: &mut Vec<Action>) {
        match (was_probing, self.terms.probing, self.failing.due_at) {
            (false, true, Some(probe_at)) => actions.push(Action::Suspend { probe_at }),
            (true, false, _) => actions.push(Action::Resume),
            _ => {}
        }
    }

    /// What an answer asks for besides this notification: the channel's end, or its new address.
    pub(super) fn follow(&mut self, verdict: Verdict, actions: &mut Vec<Action>) {
        match verdict {
            Verdict::Gone => {
                self.terms.active = false;
                self.gone = true;
                actions.push(Action::EndGone);
            }
            Verdict::Moved => actions.push(Action::Readdress),
            _ => {}
        }
    }
}
