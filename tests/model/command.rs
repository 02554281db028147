//! What a turn comes to, in numbers, and what whoever asked for it hears: the same words for the model and the server.

use std::time::Duration;

use watchpost::domain::time::Timestamp;

use crate::history::Retry;

#[derive(Clone, Debug)]
pub enum Command {
    Rest,
    /// Events of these kinds.
    Publish(Vec<u8>),
    Pause,
    Resume,
    ResumeByReceiver,
    Readdress(u8),
    Retry(Retry),
    CatchUp {
        latest: bool,
    },
    Renew(Duration),
    Pull,
    /// Through this message number.
    Ack(i64),
    Settle(Vec<i64>),
    Skip(i64),
    Replay(i64),
    ReplaySince(Timestamp),
    RedriveAll,
    Redrive {
        from: i64,
        through: i64,
    },
    Ping,
    Stop,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    Done,
    /// The cursor stands at this number.
    At(i64),
    Count(usize),
    /// What is left to claim, by message number.
    Left {
        parked: Vec<i64>,
        waiting: Vec<i64>,
        earliest: i64,
    },
    Ended,
    Paused,
    Beyond,
    /// Retention took it.
    Lost,
    NotFound,
}

/// A request, as the receiver saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    pub address: u8,
    pub about: About,
    pub number: i64,
    pub attempt: i64,
    pub replayed: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum About {
    Notification,
    Ping,
}

impl std::fmt::Display for Seen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { address, about, number, attempt, replayed } = self;
        let mark = if *about == About::Ping { "ping after " } else { "" };
        let again = if *replayed { ", replayed" } else { "" };
        write!(f, "{mark}#{number} attempt {attempt} at address {address}{again}")
    }
}
