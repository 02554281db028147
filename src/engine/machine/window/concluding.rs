//! What an outcome makes of a lane with a window: the notification is settled, waits for an attempt of its own, or is set
//! aside; the channel's own trouble is counted as for a fifo lane.

use super::Waits;
use crate::{
    domain::{
        cursor::Failing,
        outcome::{Verdict, is_payload_refusal},
        settled::AHEAD_MAX,
        time::Timestamp,
    },
    engine::machine::{
        Action, Change, Flight, Lane, Outcome, ParkReason, Parking, Record, Retry, Send,
        concluding::{POISON_REFUSALS_MIN, POISON_TIME_MIN},
    },
};

/// What a seq is to a lane when an outcome comes for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Retry(Waits),
    /// It has not settled yet.
    Open,
    /// Somebody has settled it meanwhile.
    Closed,
}

impl Lane {
    pub(in crate::engine::machine) fn conclude_flight(
        &mut self,
        flight: Flight<Send>,
        outcome: Outcome,
        now: Timestamp,
        actions: &mut Vec<Action>,
    ) {
        let Flight { sent: send, readdressed, .. } = flight;
        let outcome = flight.judge(outcome);
        let verdict = outcome.verdict;
        if verdict == Verdict::Delivered
            && let Some(window) = &mut self.window
        {
            window.works_at = Some(now);
        }
        if send.redriven {
            self.conclude_redrive(flight, outcome, now, actions);
            return;
        }
        if verdict == Verdict::Ours {
            self.hold_ours(&outcome, now);
            return;
        }
        let was_probing = self.terms.probing;
        self.alive = false;
        self.outcomes += 1;
        let standing = self.standing_of(send, outcome);
        let superseded = (standing == Standing::Open && outcome.through > send.first)
            .then(|| (send.first, outcome.through.saturating_sub(1)));
        self.part(None, superseded);
        let mut asks_ping = false;
        if verdict == Verdict::Delivered {
            self.last_success_at = Some(now);
            self.terms.probing = false;
            self.failing = Failing::default();
            match standing {
                Standing::Retry(waits) => {
                    self.drop_retry(waits.retry.seq, Change::Settled);
                }
                Standing::Open => self.mark(send.first, outcome.through),
                Standing::Closed => {}
            }
        } else if standing != Standing::Closed {
            asks_ping = self.fail_beside(send, outcome, standing, readdressed, now);
        }
        self.absorb();
        let record = Record { attempt: send.attempt, superseded, ..self.place() };
        actions.push(Action::Record(record));
        self.turn(was_probing, actions);
        self.follow(verdict, actions);
        if asks_ping && !self.ping_asked {
            self.ping_asked = true;
            actions.push(Action::Ping);
        }
    }

    fn standing_of(&self, send: Send, outcome: Outcome) -> Standing {
        let Some(window) = &self.window else { return Standing::Closed };
        if let Some(waits) = window.retries.get(&outcome.through) {
            return Standing::Retry(*waits);
        }
        // After a move back it may be further ahead than the map reaches: then it is sent again.
        let within = outcome.through <= self.settled.saturating_add(AHEAD_MAX);
        let open = send.first > self.settled && within && !window.done.contains(send.first);
        if open { Standing::Open } else { Standing::Closed }
    }

    /// A run has settled.
    fn mark(&mut self, first: i64, through: i64) {
        let Some(window) = &mut self.window else { return };
        for seq in first..=through {
            window.done.insert(seq);
        }
    }

    /// It waits no longer.
    pub(super) fn drop_retry(&mut self, seq: i64, change: Change) {
        let outcome = self.outcomes;
        let Some(window) = &mut self.window else { return };
        window.retries.remove(&seq);
        window.changes.insert(seq, (outcome, change));
    }

    /// The notification waits for an attempt of its own from now on, or is set aside. Says whether a ping is to find
    /// out if the payload is at fault.
    fn fail_beside(
        &mut self,
        send: Send,
        outcome: Outcome,
        standing: Standing,
        readdressed: bool,
        now: Timestamp,
    ) -> bool {
        let seq = outcome.through;
        let wait = self.count_failure(outcome, send.attempt, now);
        if self.terms.probing {
            self.failing.due_at = Some(self.next_probe_at(outcome, now));
        }
        let (first, since, refusals) = match standing {
            Standing::Retry(waits) => (waits.first, waits.retry.since, waits.refusals),
            _ => (send.first, now, 0),
        };
        let refused = outcome.status.is_some_and(is_payload_refusal);
        let refusals = if refused { refusals.saturating_add(1) } else { 0 };
        let may_be_poison = self.terms.judges_payload
            && !self.terms.probing
            && refusals >= POISON_REFUSALS_MIN
            && now >= since.plus(POISON_TIME_MIN);
        let works = self.window.as_ref().and_then(|window| window.works_at).is_some_and(|at| at > since);
        if standing == Standing::Open {
            self.mark(first, seq);
        }
        let reason = self
            .reason_to_part(outcome, now)
            .or_else(|| (may_be_poison && works).then_some(ParkReason::Poison));
        if let Some(reason) = reason {
            let parking = Parking { seq, reason, status: outcome.status, attempts: send.attempt };
            self.drop_retry(seq, Change::Parked(parking));
            if reason == ParkReason::Exhausted {
                self.failing = Failing::default();
            }
            return false;
        }
        let due_at = if readdressed { now } else { now.plus(wait) };
        let retry = Retry { seq, attempts: send.attempt, status: outcome.status, since, due_at };
        let at = self.outcomes;
        if let Some(window) = &mut self.window {
            let stored = matches!(standing, Standing::Retry(Waits { stored: true, .. }));
            window.retries.insert(seq, Waits { retry, first, refusals, stored });
            window.changes.insert(seq, (at, Change::Retry(retry)));
        }
        may_be_poison
    }
}
