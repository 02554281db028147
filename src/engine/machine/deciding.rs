//! What may leave next, and when: notices first, then what is tried again beside the log, then the log's head.

use std::time::Duration;

use super::{Action, Cargo, Flight, Lane, Outcome, Phase, Send, UNSAVED_MAX, WINDOW_UNSAVED_MAX};
use crate::domain::{channel::CatchUp, notice, rate::Bucket, time::Timestamp};

/// The wait after a failure of our own.
pub(super) const OURS_WAIT: Duration = Duration::from_secs(1);

/// Why nothing may leave now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wait {
    Until(Timestamp),
    /// Which event is the head for a filtered lane is not known.
    ForNext,
    ForInput,
}

impl Wait {
    /// Until the first of the two is over.
    fn or(self, other: Self) -> Self {
        match (self, other) {
            (Self::Until(one), Self::Until(other)) => Self::Until(one.min(other)),
            (Self::Until(at), Self::ForInput) | (Self::ForInput, Self::Until(at)) => Self::Until(at),
            (Self::ForInput, Self::ForInput) => Self::ForInput,
            // The answer says how long the head waits.
            (Self::ForNext, _) | (_, Self::ForNext) => Self::ForNext,
        }
    }
}

impl Lane {
    /// What follows from where the lane stands now.
    pub(super) fn go_on(&mut self, now: Timestamp) -> Vec<Action> {
        if self.open().is_some() {
            self.go_on_beside(now)
        } else {
            self.go_on_in_order(now).into_iter().collect()
        }
    }

    /// Asks for a slot, or says when to look again; nothing while something is under way.
    fn go_on_in_order(&mut self, now: Timestamp) -> Option<Action> {
        // A sync that is replayed goes alone.
        if self.phase != Phase::Resting || self.is_in_flight() {
            return None;
        }
        match self.next_cargo(now) {
            Ok(cargo) => {
                self.phase = Phase::Queued(cargo);
                Some(Action::AskSlot)
            }
            Err(Wait::Until(due)) => Some(Action::WakeAt(due)),
            Err(Wait::ForNext) => self.ask(),
            Err(Wait::ForInput) => None,
        }
    }

    /// The first of what may leave, or how long nothing may.
    pub(super) fn next_cargo(&self, now: Timestamp) -> Result<Cargo, Wait> {
        let told = self.wait_of_notice(now);
        let Err(until_told) = told else { return told };
        self.next_of_log(now).map_err(|until_head| until_told.or(until_head))
    }

    /// What was parked and the head take turns: many of those, each with a time-out, must not hold the head up.
    fn next_of_log(&self, now: Timestamp) -> Result<Cargo, Wait> {
        let head = self.wait_of_head(now).map_or(Ok(Cargo::Head), Err);
        let has_redrives = !self.redrives.is_empty() && !self.terms.probing;
        if !has_redrives || (self.redrove && matches!(head, Ok(_) | Err(Wait::ForNext))) {
            return head;
        }
        self.wait_of_redrive(now)
    }

    pub(super) fn wait_of_notice(&self, now: Timestamp) -> Result<Cargo, Wait> {
        if self.is_far_ahead() {
            return Err(Wait::ForInput);
        }
        let may_leave = self
            .notices
            .iter()
            .filter(|notice| notice.after_expiry || now < self.terms.expires_at)
            .map(|notice| (notice.due_at.max(self.hold_until.unwrap_or(notice.due_at)), notice.id))
            .min();
        match may_leave {
            Some((due, id)) if due <= now => Ok(Cargo::Notice(id)),
            Some((due, _)) => Err(Wait::Until(due)),
            None => Err(Wait::ForInput),
        }
    }

    fn wait_of_redrive(&self, now: Timestamp) -> Result<Cargo, Wait> {
        let Some((seq, _)) = self.redrives.first_key_value() else { return Err(Wait::ForInput) };
        if !self.may_send(now) || self.is_far_ahead() {
            return Err(Wait::ForInput);
        }
        let due = self.hold_until.max(self.next_token_at(now));
        due.filter(|due| *due > now).map_or(Ok(Cargo::Redrive(*seq)), |due| Err(Wait::Until(due)))
    }

    /// Why the head may not leave now.
    fn wait_of_head(&self, now: Timestamp) -> Option<Wait> {
        if !self.is_pending() || !self.may_send(now) || self.is_far_ahead() || self.waits_for_life() {
            return Some(Wait::ForInput);
        }
        let due = self.failing.due_at.max(self.hold_until).max(self.next_token_at(now));
        let due = due.filter(|due| *due > now);
        // What is not for the lane is passed without waiting, but for a suspended one, which stays where it is.
        if self.must_ask() && !(self.terms.probing && due.is_some()) {
            return Some(Wait::ForNext);
        }
        due.map(Wait::Until)
    }

    /// Whether too many outcomes wait to be durable.
    fn is_far_ahead(&self) -> bool {
        let most = if self.has_window() { WINDOW_UNSAVED_MAX } else { UNSAVED_MAX };
        self.outcomes - self.saved >= most
    }

    pub(super) fn next_token_at(&self, now: Timestamp) -> Option<Timestamp> {
        self.bucket.as_ref().map(|bucket| bucket.next_at(now))
    }

    /// The channel's rate limit as its terms say it.
    pub(super) fn fit_bucket(&mut self, now: Timestamp) {
        if self.bucket.as_ref().map(Bucket::limit) != self.terms.rate_limit {
            self.bucket = self.terms.rate_limit.map(|limit| Bucket::new(limit, now));
        }
    }

    /// Lets `cargo` leave.
    pub(super) fn depart(&mut self, cargo: Cargo, now: Timestamp) -> Action {
        self.hold_until = None;
        if let (Cargo::Head | Cargo::Redrive(_), Some(bucket)) = (cargo, &mut self.bucket) {
            bucket.take(now);
        }
        let send = match cargo {
            // Without a window nothing waits by itself.
            Cargo::Head | Cargo::Retry(_) => {
                self.redrove = false;
                self.next_send()
            }
            Cargo::Redrive(seq) => {
                let attempts = self.redrives.remove(&seq).unwrap_or_default();
                let attempt = attempts.saturating_add(1);
                self.redrove = !self.redrives.is_empty();
                Send { first: seq, through: seq, pinned: true, attempt, redriven: true }
            }
            Cargo::Notice(id) => {
                let at = self.notices.iter().position(|notice| notice.id == id).unwrap_or_default();
                let notice = self.notices.remove(at);
                self.phase = Phase::Telling(Flight::new(notice));
                return Action::Tell { notice: id, attempt: notice.attempts.saturating_add(1) };
            }
        };
        self.phase = Phase::InFlight(Flight::new(send));
        Action::Send(send)
    }

    /// The notification that begins at `first` did not leave.
    pub(super) fn take_back(&mut self, first: i64) {
        if let Some(flight) = self.land(first) {
            self.redrive_again(flight);
        } else if let Phase::InFlight(flight) = self.phase {
            self.phase = Phase::Resting;
            self.redrive_again(flight);
        }
    }

    /// The notice did not leave.
    pub(super) fn take_notice_back(&mut self) {
        if let Phase::Telling(flight) = self.phase {
            self.phase = Phase::Resting;
            self.tell_again(flight);
        }
    }

    fn next_send(&self) -> Send {
        let first = self.settled.saturating_add(1);
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
            redriven: false,
        }
    }

    /// Lets nothing leave for this long.
    pub(super) fn hold(&mut self, wait: Duration, now: Timestamp) {
        self.hold_until = Some(now.plus(wait));
        self.hold_max = wait;
    }

    /// After trouble of our own.
    pub(super) fn hold_ours(&mut self, outcome: &Outcome, now: Timestamp) {
        self.hold(outcome.retry_after.unwrap_or(OURS_WAIT), now);
    }

    /// Another host is not left alone: what is left of the wait is no longer than trouble of our own makes it.
    pub(super) fn shorten_hold(&mut self, now: Timestamp) {
        let longest = self.terms.schedule.first_delay().max(OURS_WAIT);
        self.hold_until = self.hold_until.map(|due| due.min(now.plus(longest)));
    }

    /// Brings waits that are longer than any wait can be, which a clock has written that has been set back since,
    /// down to the longest, once: measured against every new `now` they would never end.
    pub(super) fn rein_in(&mut self, now: Timestamp) {
        let schedule = &self.terms.schedule;
        let probe = if self.terms.probing { self.terms.reminders.longest_wait() } else { Duration::ZERO };
        let longest = schedule.longest_wait().max(probe);
        self.failing.due_at = self.failing.due_at.map(|due| due.min(now.plus(longest)));
        self.hold_until = self.hold_until.map(|due| due.min(now.plus(self.hold_max)));
        if let Some(window) = &mut self.window {
            for waits in window.retries.values_mut() {
                waits.retry.due_at = waits.retry.due_at.min(now.plus(longest));
            }
        }
        for notice in &mut self.notices {
            notice.due_at = notice.due_at.min(now.plus(notice::longest_wait()));
        }
    }
}
