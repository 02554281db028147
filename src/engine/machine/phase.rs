//! What a lane has under way: one thing at a time, or as many notifications as its window holds.

use super::{Outcome, Send, Waiting};
use crate::domain::outcome::Verdict;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Nothing under way.
    Resting,
    /// A slot has been asked for.
    Queued(Cargo),
    InFlight(Flight),
    /// A notice is on its way. `withdrawn`: it does not wait any more.
    Telling {
        notice: Waiting,
        withdrawn: bool,
    },
}

/// A notification on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Flight {
    pub send: Send,
    /// The channel's address has changed since it left.
    pub readdressed: bool,
    /// It was redriven, and does not wait any more: it was settled.
    pub withdrawn: bool,
}

impl Flight {
    pub const fn new(send: Send) -> Self {
        Self { send, readdressed: false, withdrawn: false }
    }

    /// A receiver that the channel has left cannot end it any more, nor say where it went.
    pub fn judge(&self, outcome: Outcome) -> Outcome {
        match outcome.verdict {
            Verdict::Gone | Verdict::Moved if self.readdressed => {
                Outcome { verdict: Verdict::Failed, ..outcome }
            }
            _ => outcome,
        }
    }
}

/// What a lane wants to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cargo {
    Head,
    /// What failed and waits by itself.
    Retry(i64),
    Redrive(i64),
    Notice(i64),
}
