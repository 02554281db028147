//! What happened in a history, line by line: all that the properties look at.

use std::fmt;

use watchpost::{
    domain::time::Timestamp,
    engine::machine::{Outcome, Record, Send, Terms},
};

#[derive(Clone, Debug)]
pub struct Line {
    /// The wall clock, which may jump.
    pub at: Timestamp,
    /// Milliseconds that have really passed.
    pub elapsed_ms: u64,
    pub event: Event,
}

#[derive(Clone, Debug)]
pub enum Event {
    /// A lane was made of what the store has.
    Loaded {
        head: i64,
        terms: Terms,
    },
    /// An event with this name and state was appended.
    Appended {
        seq: i64,
        kind: u8,
    },
    /// The lane was told of a head.
    Heard(i64),
    /// The lane was told of a change.
    Told {
        terms: Terms,
        readdressed: bool,
    },
    /// From here on the channel wants this kind of events, or all.
    Filtered(Option<u8>),
    /// The lane has passed what its filter does not want, up to here; or has gone back to look at it with another.
    Passed(i64),
    /// Its place was made durable without an outcome.
    Followed,
    Asked,
    Granted,
    Sent(Request),
    /// The request did not leave after all.
    Withdrawn,
    Concluded(Request, Outcome),
    Recorded(Record),
    /// The oldest record that was not durable is.
    Saved,
    /// The lane was told that this many of its outcomes are durable.
    ToldSaved(u64),
    /// Memory is lost; the receiver has seen the request in flight, or not.
    Crashed {
        seen: bool,
    },
    /// The lane left memory because nothing was under way.
    Unloaded,
    /// The wall clock was set.
    Jumped,
    /// From here on nothing goes wrong any more.
    Healed,
    /// Nothing happens any more by itself.
    Rested,
}

/// A notification on its way.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    pub send: Send,
    /// The last seq it stands for, chosen as the driver does.
    pub through: i64,
}

#[derive(Clone, Debug)]
pub struct Transcript {
    /// The virtual seq of the sync.
    pub start_seq: i64,
    pub lines: Vec<Line>,
}

impl Transcript {
    /// The name and state of the event at `seq`; the sync has none.
    pub fn kind_of(&self, wanted: i64) -> Option<u8> {
        self.lines.iter().find_map(|line| match line.event {
            Event::Appended { seq, kind } if seq == wanted => Some(kind),
            _ => None,
        })
    }

    /// The newest seq of the log.
    pub fn head(&self) -> i64 {
        let appended = |line: &Line| match line.event {
            Event::Appended { seq, .. } => Some(seq),
            _ => None,
        };
        self.lines.iter().rev().find_map(appended).unwrap_or(self.start_seq)
    }
}

impl fmt::Display for Transcript {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, line) in self.lines.iter().enumerate() {
            writeln!(
                f,
                "{number:4} {:>8} ms, clock {}: {:?}",
                line.elapsed_ms,
                line.at.as_millis(),
                line.event
            )?;
        }
        Ok(())
    }
}
