//! Checkpoints: what came of a batch of attempts, in one transaction.
//!
//! A cursor row applies only where `moved` is what the lane loaded: a command may have moved the cursor since.
//! Raising `fanned` alone records a resource's level channels; the work row goes when it has caught up.

use bytes::Bytes;

use super::notices::NoticeProgress;
use crate::domain::{
    channel::{ChannelKey, ResourceKey},
    cursor::Cursor,
    fate::RangeKind,
    time::Timestamp,
};

/// Outcomes that one checkpoint takes.
pub const OUTCOMES_MAX: usize = 256;

#[derive(Clone, Debug, Default)]
pub struct Checkpoint {
    /// The lease's epoch under which the attempts were made. SQLite has one node and ignores it.
    pub epoch: i64,
    pub cursors: Vec<Cursor>,
    pub fanned: Vec<(ResourceKey, i64)>,
    pub attempts: Vec<Attempt>,
    pub parked: Vec<Parked>,
    /// Parked notifications that arrived after all.
    pub redriven: Vec<(ChannelKey, i64)>,
    pub notices: Vec<NoticeProgress>,
    pub ranges: Vec<EndedRange>,
    /// Notifications that wait for their own attempts from now on, and those that wait no longer: one word for each.
    /// Written before what is parked, which takes the place of what has waited.
    pub retrying: Vec<Retrying>,
    pub retried: Vec<(ChannelKey, i64)>,
    /// An earlier try of this very checkpoint may have been committed after all.
    pub repeated: bool,
}

impl Checkpoint {
    pub const fn is_empty(&self) -> bool {
        self.cursors.is_empty()
            && self.fanned.is_empty()
            && self.attempts.is_empty()
            && self.parked.is_empty()
            && self.redriven.is_empty()
            && self.notices.is_empty()
            && self.ranges.is_empty()
            && self.retrying.is_empty()
            && self.retried.is_empty()
    }
}

/// What a durable checkpoint tells the engine.
#[derive(Debug, Default)]
pub struct Checkpointed {
    /// Channels whose cursor was moved from outside: their rows were not written, their attempts were.
    pub moved: Vec<ChannelKey>,
}

/// One HTTP request that carried a notification, for the ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    pub channel: ChannelKey,
    pub number: i64,
    pub attempt: u32,
    pub started_at: Timestamp,
    pub duration_ms: i64,
    /// The word for what came of it: `delivered`, `failed`, …
    pub outcome: &'static str,
    pub status: Option<u16>,
    /// A stable code where there was no status line.
    pub error: Option<&'static str>,
    /// The kind of the notice that it carried, if it was one.
    pub notice: Option<&'static str>,
    /// The part of the duration until status line and headers were in; none where no answer came.
    pub answer_ms: Option<i64>,
    /// The beginning of the answer's body, where the channel's owner wants it kept.
    pub excerpt: Option<Bytes>,
}

/// A notification that is set aside with its evidence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parked {
    pub channel: ChannelKey,
    pub seq: i64,
    pub status: Option<u16>,
    /// The last attempt's error where there was no status line.
    pub error: Option<&'static str>,
    pub attempts: u32,
    /// The word for why.
    pub reason: &'static str,
    /// It was parked before, and redriven: nothing happens if it is settled or sent again meanwhile.
    pub again: bool,
    pub at: Timestamp,
}

/// A notification that failed where notifications may overtake each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retrying {
    pub channel: ChannelKey,
    pub seq: i64,
    pub attempts: u32,
    pub status: Option<u16>,
    pub error: Option<&'static str>,
    /// When it failed first.
    pub since: Timestamp,
    pub due_at: Timestamp,
}

/// A run of notifications that ended otherwise than by delivery. Its first seq names it, so writing it again changes
/// nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndedRange {
    pub channel: ChannelKey,
    pub from: i64,
    pub to: i64,
    pub kind: RangeKind,
    pub at: Timestamp,
}
