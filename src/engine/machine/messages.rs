//! What a machine hears and says.

use std::time::Duration;

use super::Terms;
use crate::domain::{cursor::Failing, outcome::Verdict, time::Timestamp};

/// What happens to a lane.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// The log has grown to this seq.
    Head(i64),
    /// The slot that was asked for is free.
    Slot,
    /// The request did not leave after all: the channel changed or expired, or the lease runs out.
    NotSent,
    Outcome(Outcome),
    /// This many outcomes are durable.
    Saved(u64),
    /// Time has passed.
    Time,
    /// The cursor was moved forward from outside: everything up to this seq is terminal.
    Moved(i64),
    /// The channel has changed; `readdressed` when a failing receiver may have been replaced.
    Changed {
        terms: Terms,
        readdressed: bool,
    },
}

/// What came of a request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Outcome {
    /// The seq whose notification was sent, or was to be sent.
    pub through: i64,
    pub verdict: Verdict,
    pub status: Option<u16>,
    pub retry_after: Option<Duration>,
    /// A random number in `[0, 1)`.
    pub jitter: f64,
}

/// What the driver has to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Ask for a slot; answer with `Input::Slot`.
    AskSlot,
    Send(Send),
    /// Make the lane's new place durable, with this outcome.
    Record(Record),
    /// Say `Input::Time` at this moment.
    WakeAt(Timestamp),
    /// The receiver is gone for good: end the channel.
    EndGone,
    /// It has failed for longer than its window: suspend the channel, which is probed at this moment.
    Suspend {
        probe_at: Timestamp,
    },
    /// A probe succeeded: the channel goes on.
    Resume,
}

/// A notification to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Send {
    /// The cursor's next seq.
    pub first: i64,
    /// The last seq that this notification may stand for; equal to `first` unless a run may be collapsed.
    pub through: i64,
    /// `through` is settled already: an earlier attempt stood for exactly this run.
    pub pinned: bool,
    /// 1, 2, …
    pub attempt: u32,
}

/// A lane's place, after an outcome or between them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub seq: i64,
    pub failing: Failing,
    pub last_success_at: Option<Timestamp>,
    /// The number of this outcome, to be told back as `Input::Saved`.
    pub outcome: u64,
    /// The attempt's number among those of its notification.
    pub attempt: u32,
    /// The notification was set aside.
    pub parked: bool,
}
