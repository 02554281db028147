//! What the machine knows of a channel that its owner, or its state, may change while the lane is in memory.

use std::{sync::Arc, time::Duration};

use crate::domain::{
    backoff::Schedule,
    channel::{CatchUp, OnExhausted, RateLimit},
    claim::Reminders,
    time::Timestamp,
};

/// What a change of the channel may alter.
#[expect(clippy::struct_excessive_bools, reason = "independent facts of a channel")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// The channel's state lets notifications out.
    pub active: bool,
    /// The channel is suspended: its head is only probed, until a 2xx.
    pub probing: bool,
    /// It asked for notices: while it is suspended it is reminded, and not probed with its head.
    pub reminded: bool,
    /// When it is reminded, or probed.
    pub reminders: Arc<Reminders>,
    /// How long failures may last, from the first since the last 2xx, before the channel is exhausted.
    pub window: Duration,
    /// How many failures since the last 2xx exhaust it, however soon.
    pub max_attempts: Option<u32>,
    pub on_exhausted: OnExhausted,
    /// Notifications carry a payload that may be at fault.
    pub judges_payload: bool,
    pub rate_limit: Option<RateLimit>,
    pub expires_at: Timestamp,
    pub catch_up: CatchUp,
    pub schedule: Arc<Schedule>,
    /// Not every event is for the channel: which one is next has to be asked.
    pub filtered: bool,
}
