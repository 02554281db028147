//! A channel's place in its resource's log, with its failure state, as the store keeps it.

use super::{
    channel::{ChannelKey, ResourceKey},
    settled::SettledMap,
    time::Timestamp,
};

/// The failure state of a cursor's head.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Failing {
    /// Attempts of the head so far. They go on counting across restarts.
    pub attempts: u32,
    /// How many of them the receiver refused with a 4xx: three park a sync.
    pub client_errors: u32,
    /// How many of them found fault with this very payload.
    pub refusals: u32,
    /// Failures since the last 2xx or resumption, of whatever notification: what `maxAttempts` counts.
    pub failures: u32,
    /// When the first failure since the last 2xx was.
    pub since: Option<Timestamp>,
    /// When the head is tried again.
    pub due_at: Option<Timestamp>,
    /// Last seq of the attempted run: once attempted, a notification keeps its number until terminal.
    pub pinned: Option<i64>,
}

/// A cursor row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor {
    pub channel: ChannelKey,
    pub resource: ResourceKey,
    /// Everything up to it is terminal, or waits by itself as an exception; `start_seq − 1` while the sync is pending.
    pub seq: i64,
    /// Raised by every move from outside; a checkpoint made under an older value does not apply.
    pub moved: i64,
    /// A *level* cursor counts as `max(seq, fanned)`; one that is *behind* stands where it says.
    pub behind: bool,
    pub failing: Failing,
    pub last_success_at: Option<Timestamp>,
    /// What is settled above `seq`, where notifications may overtake each other.
    pub settled: SettledMap,
}
