//! What happened, as the publishers, the receiver and the program's own ledger tell it. The checker judges this
//! and nothing else, so a forged one tests the checker.

use std::collections::BTreeMap;

/// How a process came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// `kill -9`
    Killed,
    /// SIGTERM, and it exited with 0.
    Stopped,
}

#[derive(Clone, Debug, Default)]
pub struct History {
    /// One per process, in order.
    pub ends: Vec<End>,
    /// In the order of each publisher's own intents.
    pub publishes: Vec<Publish>,
    pub channels: Vec<Channel>,
    /// Everything that the receiver had in its hands, in the order of arrival.
    pub requests: Vec<Request>,
    /// The log of each resource, as the feed shows it at the end.
    pub feeds: BTreeMap<String, Vec<FeedEvent>>,
    /// Per channel, the attempts that the program recorded, oldest first.
    pub ledgers: BTreeMap<String, Vec<Attempt>>,
}

/// One call of a publisher: a batch, or a single event.
#[derive(Clone, Debug)]
pub struct Publish {
    pub publisher: usize,
    pub events: Vec<Event>,
    pub fate: Fate,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    pub id: String,
    pub resource: String,
    pub data: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Answered with 200 and these places.
    Acknowledged(Vec<i64>),
    /// Never answered: it took effect once or not at all.
    Unknown,
    /// Answered with a definite no.
    Refused,
}

#[derive(Clone, Debug)]
pub struct Channel {
    pub id: String,
    pub resource: String,
    /// Payload and signature are expected.
    pub full: bool,
    /// The seq that its sync stands for, where it is known beforehand.
    pub start: Option<i64>,
    /// Versions of the token, and which process acknowledged each.
    pub tokens: Vec<usize>,
    pub stop: Option<Stop>,
}

/// The end of a channel, as its owner saw it acknowledged.
#[derive(Clone, Copy, Debug)]
pub struct Stop {
    pub incarnation: usize,
    /// How many requests the receiver had had at that moment.
    pub requests: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    Status(u16),
    /// The connection was reset instead.
    Reset,
}

impl Answer {
    pub fn status(self) -> Option<u16> {
        match self {
            Self::Status(status) => Some(status),
            Self::Reset => None,
        }
    }

    pub fn is_success(self) -> bool {
        self == Self::Status(200)
    }
}

/// One request that reached the receiver.
#[derive(Clone, Debug)]
pub struct Request {
    /// Which process sent it.
    pub incarnation: usize,
    pub channel: String,
    pub number: i64,
    pub seq: i64,
    pub attempt: u32,
    pub previous: Option<i64>,
    /// None for the sync.
    pub event: Option<String>,
    pub data: Option<String>,
    pub signed: bool,
    /// The version of the channel's token that it carried.
    pub token: usize,
    /// What is wrong with its form.
    pub fault: Option<String>,
    pub answer: Answer,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeedEvent {
    pub seq: i64,
    pub id: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Attempt {
    pub number: i64,
    pub attempt: u32,
    pub status: Option<u16>,
}
