//! What a lane has under way: one thing at a time, or as many notifications as its window holds.

use super::{Outcome, Send, Waiting};
use crate::domain::outcome::Verdict;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Nothing under way.
    Resting,
    /// A slot has been asked for.
    Queued(Cargo),
    /// A notification is on its way.
    InFlight(Flight<Send>),
    /// A notice is on its way.
    Telling(Flight<Waiting>),
}

/// What is on its way, and what has happened since it left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Flight<T> {
    pub sent: T,
    /// The channel's address has changed.
    pub readdressed: bool,
    /// A notice was taken back, or what was redriven was settled: it does not wait any more.
    pub withdrawn: bool,
}

impl<T> Flight<T> {
    pub const fn new(sent: T) -> Self {
        Self { sent, readdressed: false, withdrawn: false }
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
