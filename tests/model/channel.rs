//! The model: one channel and its resource's log, in memory, written from what the contract says and not from what the
//! engine does. It knows no lane, no checkpoint, no row and no bell: a command changes it at once, and `drain` sends
//! whatever may leave at a moment, one request after the other.
//!
//! Commands and their answers are here; what leaves, and what its outcome makes of the channel, is in `sending`; what time
//! alone does is in `aging`.

use std::{collections::BTreeMap, time::Duration};

use watchpost::domain::{cursor::Failing, expiry::GRACE, time::Timestamp};

use crate::{
    command::{Command, Reply},
    history::{Op, Opening, Retry, Share},
};

/// The longest life that the server grants.
pub const LIFE_MAX: Duration = Duration::from_hours(30 * 24);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Active,
    Paused,
    Suspended,
    Gone,
    Expired,
    Stopped,
}

/// A notification that was set aside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parked {
    pub attempts: u32,
    /// It is to be tried once more.
    pub redriven: bool,
}

/// A ping that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ping {
    /// Counts the channel's pings.
    pub n: i64,
    pub attempts: u32,
    pub due_at: Timestamp,
}

#[derive(Clone, Debug)]
#[allow(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub struct Model {
    /// The resource's head when the channel was opened, and now.
    pub start: i64,
    pub head: i64,
    /// The kinds of events 1, 2, … and when they were published.
    pub kinds: Vec<u8>,
    pub published_at: Vec<Timestamp>,
    /// The oldest event that the log still holds.
    pub earliest: i64,
    pub cursor: i64,
    pub state: State,
    /// What an expired channel was before.
    pub state_before: State,
    pub expires_at: Timestamp,
    /// The head when the channel ended for good.
    pub end: Option<i64>,
    pub failing: Failing,
    pub parked: BTreeMap<i64, Parked>,
    pub pings: Vec<Ping>,
    /// Suspended, but a ping was answered with a 2xx.
    pub alive: bool,
    pub pinged: i64,
    /// A crash came since one was made: a server that reads the channel with its resource learns of it from the next
    /// sweep alone.
    pub pings_unread: bool,
    /// How many parked notifications got another attempt.
    pub redriven: usize,
    /// The last one that left was one of several: the head is next.
    pub redrove: bool,
    pub retry: Retry,
    pub latest: bool,
    pub filtered: bool,
    /// Which of its two addresses it has.
    pub address: u8,
    /// Notifications up to this seq belong to a replay.
    pub replayed_through: Option<i64>,
}

impl Model {
    /// A channel that is opened now on a log with what was published `before`.
    pub fn open(opening: &Opening, before: Vec<u8>, now: Timestamp) -> Self {
        let start = i64::try_from(before.len()).unwrap();
        Self {
            start,
            head: start,
            published_at: vec![now; before.len()],
            kinds: before,
            earliest: 1,
            cursor: start - 1,
            state: State::Active,
            state_before: State::Active,
            expires_at: granted(opening.ttl, now),
            end: None,
            failing: Failing::default(),
            parked: BTreeMap::new(),
            pings: Vec::new(),
            alive: false,
            pinged: 0,
            pings_unread: false,
            redriven: 0,
            redrove: false,
            retry: opening.retry,
            latest: opening.latest,
            filtered: opening.filtered,
            address: 0,
            replayed_through: None,
        }
    }

    pub fn number(&self, seq: i64) -> i64 {
        seq - self.start + 1
    }

    pub fn seq(&self, number: i64) -> i64 {
        self.start + number - 1
    }

    /// The newest seq that is meant for the channel.
    pub fn last(&self) -> i64 {
        self.end.unwrap_or(self.head)
    }

    pub fn is_living(&self) -> bool {
        matches!(self.state, State::Active | State::Paused | State::Suspended)
    }

    pub fn sends(&self) -> bool {
        matches!(self.state, State::Active | State::Suspended)
    }

    pub fn wants(&self, seq: i64) -> bool {
        !self.filtered || self.kind(seq) == 0
    }

    pub fn kind(&self, seq: i64) -> u8 {
        self.kinds[usize::try_from(seq - 1).unwrap()]
    }

    /// The cursor's place, past what is unwanted: a channel that waits may have passed that in memory alone.
    pub fn past_unwanted(&self, mut cursor: i64) -> i64 {
        while cursor >= self.start && cursor < self.last() && !self.wants(cursor + 1) {
            cursor += 1;
        }
        cursor
    }

    /// An answer that does not depend on whether what is unwanted was passed already.
    pub fn in_general(&self, reply: Reply) -> Reply {
        let past = |number: i64| self.number(self.past_unwanted(self.seq(number)));
        match reply {
            Reply::At(number) => Reply::At(past(number)),
            Reply::Left { parked, waiting, earliest } if parked.is_empty() => {
                Reply::Left { parked, waiting, earliest: past(earliest - 1) + 1 }
            }
            reply => reply,
        }
    }

    /// What a turn asks for, in numbers. `moments` are the beginnings of the rounds so far.
    pub fn command(&self, op: &Op, moments: &[Timestamp]) -> Command {
        let span = self.number(self.last());
        let number = |share: Share| 1 + span * share.0 / 8;
        match op {
            Op::Rest => Command::Rest,
            Op::Publish(kinds) => Command::Publish(kinds.clone()),
            Op::Pause => Command::Pause,
            Op::Resume => Command::Resume,
            Op::ResumeByReceiver => Command::ResumeByReceiver,
            Op::Readdress => Command::Readdress(1 - self.address),
            Op::Retry(retry) => Command::Retry(*retry),
            Op::CatchUp { latest } => Command::CatchUp { latest: *latest },
            Op::Renew(ttl) => Command::Renew(*ttl),
            Op::Pull => Command::Pull,
            Op::Ack(share) => Command::Ack(number(*share)),
            Op::SettleParked { .. } if self.parked.is_empty() => Command::Rest,
            Op::SettleParked { every } => {
                Command::Settle(self.parked.keys().step_by(*every).map(|seq| self.number(*seq)).collect())
            }
            Op::Skip(share) => Command::Skip(number(*share)),
            Op::Replay(share) => Command::Replay(number(*share)),
            Op::ReplaySince { rounds } => {
                Command::ReplaySince(moments[moments.len().saturating_sub(1 + rounds)])
            }
            Op::RedriveAll => Command::RedriveAll,
            Op::Redrive { from, through } => {
                Command::Redrive { from: number(*from), through: number(*through) }
            }
            Op::Ping => Command::Ping,
            Op::Stop => Command::Stop,
        }
    }

    /// Carries a command out, and says what its caller hears.
    pub fn perform(&mut self, command: &Command, now: Timestamp) -> Reply {
        match command {
            Command::Rest => Reply::Done,
            Command::Publish(kinds) => {
                self.head += i64::try_from(kinds.len()).unwrap();
                self.kinds.extend(kinds);
                self.published_at.resize(self.kinds.len(), now);
                Reply::Done
            }
            Command::Pause => {
                if self.sends() {
                    self.state = State::Paused;
                    self.pings.clear();
                }
                if self.is_living() { Reply::Done } else { Reply::Ended }
            }
            Command::Resume => match self.state {
                State::Active => Reply::Done,
                State::Expired | State::Stopped => Reply::Ended,
                State::Paused | State::Suspended | State::Gone => self.resume(now),
            },
            Command::ResumeByReceiver => match self.state {
                State::Active | State::Paused => Reply::Done,
                State::Expired => Reply::Ended,
                State::Stopped => Reply::NotFound,
                State::Suspended | State::Gone => self.resume(now),
            },
            Command::Readdress(address) => self.change(now, |model| {
                model.address = *address;
                model.try_at_once(now);
            }),
            Command::Retry(retry) => self.change(now, |model| model.retry = *retry),
            Command::CatchUp { latest } => self.change(now, |model| model.latest = *latest),
            Command::Renew(ttl) => self.renew(granted(*ttl, now), now),
            Command::Pull if self.state == State::Stopped => Reply::NotFound,
            Command::Pull => self.left(),
            Command::Ack(_) | Command::Settle(_) if self.state == State::Stopped => Reply::NotFound,
            Command::Ack(number) => self.advance(self.seq(*number)),
            // The answer shows the channel as it is by then: it may be further on.
            Command::Skip(number) => match self.advance(self.seq(*number)) {
                Reply::At(_) => Reply::Done,
                refused => refused,
            },
            Command::Settle(numbers) => {
                let gone = numbers.iter().filter(|number| self.parked.remove(&self.seq(**number)).is_some());
                Reply::Count(gone.count())
            }
            Command::Replay(number) => self.replay(self.seq(*number).max(self.start + 1)),
            Command::ReplaySince(time) => {
                let first = (self.earliest.max(self.start + 1)..=self.head)
                    .find(|seq| self.published_at[usize::try_from(seq - 1).unwrap()] >= *time);
                self.replay(first.unwrap_or(i64::MAX))
            }
            Command::RedriveAll => self.redrive(i64::MIN, i64::MAX),
            Command::Redrive { from, through } => self.redrive(self.seq(*from), self.seq(*through)),
            Command::Ping if !self.is_living() => Reply::Ended,
            Command::Ping if !self.sends() => Reply::Paused,
            Command::Ping => {
                self.pinged += 1;
                self.pings.push(Ping { n: self.pinged, attempts: 0, due_at: now });
                Reply::Done
            }
            Command::Stop => {
                if self.is_living() || self.can_be_revived(now) {
                    self.end_as(State::Stopped);
                }
                Reply::Done
            }
        }
    }

    pub(crate) fn end_as(&mut self, state: State) {
        self.state = state;
        self.end = Some(self.head);
        self.pings.clear();
    }

    pub(crate) fn try_at_once(&mut self, now: Timestamp) {
        self.failing.due_at = self.failing.due_at.map(|due| due.min(now));
    }

    fn can_be_revived(&self, now: Timestamp) -> bool {
        self.state == State::Expired && self.end.is_none() && now < self.expires_at.plus(GRACE)
    }

    /// A fresh start, with a window of its own; the attempts go on counting.
    fn resume(&mut self, now: Timestamp) -> Reply {
        if self.expires_at <= now {
            return Reply::Ended;
        }
        self.state = State::Active;
        self.end = None;
        self.failing.since = None;
        self.failing.failures = 0;
        self.try_at_once(now);
        Reply::Done
    }

    fn change(&mut self, now: Timestamp, change: impl FnOnce(&mut Self)) -> Reply {
        if !self.is_living() || now >= self.expires_at.plus(GRACE) {
            return Reply::Ended;
        }
        change(self);
        Reply::Done
    }

    /// One that expired goes on as what it was; what it has missed is tried at once.
    fn renew(&mut self, expires_at: Timestamp, now: Timestamp) -> Reply {
        if self.can_be_revived(now) {
            self.state = self.state_before;
            self.try_at_once(now);
        } else if !self.is_living() {
            return Reply::Ended;
        }
        self.expires_at = expires_at;
        Reply::Done
    }

    fn advance(&mut self, seq: i64) -> Reply {
        if seq > self.last() {
            return Reply::Beyond;
        }
        if seq > self.cursor {
            self.cursor = seq;
            self.failing = Failing::default();
        }
        Reply::At(self.number(self.cursor))
    }

    /// Goes back, never ahead. Not a 2xx: the window of a channel that fails goes on.
    fn replay(&mut self, from: i64) -> Reply {
        if !self.is_living() {
            return Reply::Ended;
        }
        if from > self.head {
            return Reply::Beyond;
        }
        if from < self.earliest {
            return Reply::Lost;
        }
        let from = from.min(self.cursor + 1);
        self.parked.retain(|seq, _| *seq < from);
        self.cursor = from - 1;
        let Failing { since, failures, .. } = self.failing;
        self.failing = Failing { since, failures, ..Failing::default() };
        self.replayed_through = Some(self.head);
        Reply::Done
    }

    fn redrive(&mut self, from: i64, through: i64) -> Reply {
        if !self.is_living() {
            return Reply::Ended;
        }
        let chosen = self
            .parked
            .iter_mut()
            .filter(|(seq, parked)| (from..=through).contains(*seq) && !parked.redriven);
        Reply::Count(chosen.map(|(_, parked)| parked.redriven = true).count())
    }

    /// What a pull finds: what was parked, but for a sync, which has nothing to read; then the log past the cursor.
    pub fn left(&self) -> Reply {
        let stands = self.cursor.max(self.start);
        let stands = stands.max((self.earliest - 1).min(self.last()));
        let parked = self.parked.keys().copied().filter(|seq| *seq > self.start && *seq <= stands);
        let parked: Vec<i64> = parked.map(|seq| self.number(seq)).collect();
        let waiting = (stands + 1..=self.last()).filter(|seq| self.wants(*seq));
        Reply::Left {
            waiting: waiting.map(|seq| self.number(seq)).collect(),
            earliest: parked.first().copied().unwrap_or_else(|| self.number(stands + 1)),
            parked,
        }
    }
}

/// Too long is clamped; whole seconds, as a header can carry them.
fn granted(ttl: Duration, now: Timestamp) -> Timestamp {
    now.plus(ttl.min(LIFE_MAX)).floor_to_second()
}
