//! What waits beside the log – notices, and parked notifications that get another attempt – and what leaves it by age.

use super::{Ahead, Flight, Lane, Phase, Redrive, Send, Waiting};
use crate::domain::cursor::Failing;

/// Concluded notices and redriven notifications that a lane remembers.
const CONCLUDED_MAX: usize = 64;

impl Lane {
    /// Keeps what was concluded last: a read that is older than all of it has long arrived.
    pub(super) fn forget_concluded(&mut self) {
        while self.told.len() > CONCLUDED_MAX {
            self.told.pop_first();
        }
        while self.redriven.len() > CONCLUDED_MAX {
            self.redriven.pop_first();
        }
    }

    /// Takes in what waits besides the log. What is on its way, or was concluded and is not durable yet, is not sent
    /// twice.
    pub(super) fn wait_for(&mut self, mut notices: Vec<Waiting>, redrives: &[Redrive]) {
        if let Phase::Telling(flight) = &mut self.phase {
            let all = notices.len();
            notices.retain(|waiting| waiting.id != flight.sent.id);
            flight.withdrawn = notices.len() == all;
        }
        let own = |waiting: Waiting| match self.told.get(&waiting.id) {
            Some(left) => *left,
            None => Some(waiting),
        };
        self.notices = notices.into_iter().filter_map(own).collect();
        let open = redrives
            .iter()
            .filter(|redrive| self.redriven.get(&redrive.seq).is_none_or(|had| redrive.attempts >= *had));
        self.redrives = open.map(|redrive| (redrive.seq, redrive.attempts)).collect();
        let alone = if let Phase::InFlight(flight) = &mut self.phase { Some(flight) } else { None };
        let beside = self.window.iter_mut().flat_map(|window| window.flying.values_mut());
        for flight in alone.into_iter().chain(beside) {
            let waits = self.redrives.remove(&flight.sent.first).is_some();
            flight.withdrawn = flight.sent.redriven && !waits;
        }
    }

    /// The notice did not leave: it waits again, if it still does there.
    pub(super) fn tell_again(&mut self, flight: Flight<Waiting>) {
        if !flight.withdrawn {
            self.notices.insert(0, flight.sent);
        }
    }

    /// What was redriven did not leave: it waits again, if it still does there.
    pub(super) fn redrive_again(&mut self, flight: Flight<Send>) {
        if flight.sent.redriven && !flight.withdrawn {
            self.redrives.insert(flight.sent.first, flight.sent.attempt.saturating_sub(1));
        }
    }

    /// Retention was here: what it took is over. A run that reaches further is not; otherwise the next one starts anew, in
    /// the same trouble.
    pub(super) fn expire(&mut self, seq: i64) {
        if seq <= self.settled {
            return;
        }
        self.ahead = Ahead::Unknown;
        if self.failing.pinned.is_some_and(|pinned| pinned > seq) {
            self.settled = seq;
            return;
        }
        let Failing { failures, since, due_at, .. } = self.failing;
        self.settle(seq, Failing { failures, since, due_at, ..Failing::default() });
        self.settle_window_through(seq);
        self.wait_for_a_head();
    }

    /// A due time is a head's, or a suspended channel's: where there is neither, the row of a level lane has none, and the
    /// next event must not go by whether the lane has been in memory all the time.
    pub(super) fn wait_for_a_head(&mut self) {
        if !self.is_pending() && !self.terms.probing {
            self.failing.due_at = None;
        }
    }
}
