//! What time alone does to a channel: it expires, and its log goes by age.

use std::time::Duration;

use watchpost::domain::{cursor::Failing, expiry::GRACE, time::Timestamp};

use crate::channel::{Model, State};

/// How long the server keeps events.
pub const KEPT: Duration = Duration::from_hours(36);

impl Model {
    /// What the expiry job does.
    pub fn expire(&mut self, now: Timestamp) {
        if self.is_living() && self.expires_at <= now {
            self.state_before = self.state;
            self.state = State::Expired;
            self.pings.clear();
        }
        if self.state == State::Expired && self.end.is_none() && self.expires_at.plus(GRACE) <= now {
            self.end = Some(self.head);
        }
    }

    /// What the retention job does. What is left of the log begins later, and whoever stood before that is moved there,
    /// in the same trouble as before.
    pub fn retire(&mut self, now: Timestamp) {
        let old = self.published_at.iter().take_while(|at| at.plus(KEPT) <= now).count();
        let through = i64::try_from(old).unwrap();
        if through < self.earliest {
            return;
        }
        self.earliest = through + 1;
        self.parked.retain(|seq, _| *seq > through);
        // What a stopped channel has not had is cancelled, and stays so. A sync is not in the log.
        if self.state != State::Stopped && self.cursor >= self.start {
            self.pass_hole();
        }
    }

    /// Goes past what the log does not hold any more. A run that reaches further keeps its attempts.
    pub(crate) fn pass_hole(&mut self) {
        let hole = (self.earliest - 1).min(self.last());
        if self.cursor >= hole {
            return;
        }
        self.cursor = hole;
        if self.failing.pinned.is_none_or(|pinned| pinned <= hole) {
            let Failing { since, failures, due_at, .. } = self.failing;
            self.failing = Failing { since, failures, due_at, ..Failing::default() };
            self.wait_for_a_head();
        }
    }

    /// A due time is a head's, or a suspended channel's.
    pub(crate) fn wait_for_a_head(&mut self) {
        if self.state != State::Suspended && self.cursor == self.head {
            self.failing.due_at = None;
        }
    }
}
