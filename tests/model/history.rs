//! Random lives of a channel, each made of its seed alone: what its owner, its publisher and its receiver do, round by
//! round. Nothing here knows what came of anything before, so a turn may well be refused; what it asks for is said in
//! shares of what there is (`Share`), and becomes a number only when its round comes.

use std::time::Duration;

use crate::dice::Dice;

/// Rounds of a life.
pub const ROUNDS: usize = 12;

#[derive(Clone, Debug)]
pub struct History {
    pub seed: u64,
    pub index: u64,
    pub opening: Opening,
    pub turns: Vec<Turn>,
}

/// How the channel begins.
#[derive(Clone, Debug)]
pub struct Opening {
    /// Events that were published before it.
    pub before: usize,
    pub ttl: Duration,
    pub retry: Retry,
    pub latest: bool,
    /// It wants events of the first kind alone.
    pub filtered: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    pub schedule: &'static [u64],
    pub window: Duration,
    pub max_attempts: Option<u32>,
    /// Parks what is exhausted and goes on, instead of being suspended.
    pub continues: bool,
}

/// One round: something happens, in some weather.
#[derive(Clone, Debug)]
pub struct Turn {
    pub op: Op,
    pub weather: Weather,
}

#[derive(Clone, Debug)]
pub enum Op {
    Rest,
    /// Events of these kinds.
    Publish(Vec<u8>),
    Pause,
    Resume,
    /// By the claim URL.
    ResumeByReceiver,
    Readdress,
    Retry(Retry),
    CatchUp {
        latest: bool,
    },
    Renew(Duration),
    Pull,
    Ack(Share),
    SettleParked {
        every: usize,
    },
    Skip(Share),
    Replay(Share),
    /// From what was published this many rounds ago.
    ReplaySince {
        rounds: usize,
    },
    RedriveAll,
    Redrive {
        from: Share,
        through: Share,
    },
    Ping,
    Stop,
}

/// A message number, as eighths of the numbers so far; nine of them lie beyond the newest.
#[derive(Clone, Copy, Debug)]
pub struct Share(pub i64);

/// What the receiver does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weather {
    Fair,
    /// This status for everything.
    Answers(u16),
    /// 503 with a `Retry-After`.
    Busy(u64),
    /// Connections are reset.
    Resets,
    /// Something else for each attempt.
    Changing,
}

/// What the receiver answers to one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    Status(u16),
    Busy(u64),
    Reset,
}

const HOUR: Duration = Duration::from_hours(1);
const DAY: Duration = Duration::from_hours(24);

impl History {
    pub fn new(seed: u64, index: u64) -> Self {
        let mut dice = Dice::new(&[seed, index]);
        let opening = Opening {
            before: dice.one_of(&[0, 0, 1, 3]),
            ttl: lifetime(&mut dice),
            retry: retry(&mut dice),
            latest: dice.one_in(4),
            filtered: dice.one_in(4),
        };
        let mut weather = Weather::Fair;
        let turns = (0..ROUNDS).map(|_| {
            if dice.one_in(3) {
                weather = forecast(&mut dice);
            }
            Turn { op: op(&mut dice), weather }
        });
        let turns = turns.collect();
        Self { seed, index, opening, turns }
    }

    /// What the receiver answers in this round. It depends on nothing but what is asked, so a request that a crash
    /// repeats is answered alike.
    pub fn answer(&self, round: usize, is_ping: bool, number: i64, attempt: i64) -> Answer {
        match self.turns[round].weather {
            Weather::Fair => Answer::Status(200),
            Weather::Answers(status) => Answer::Status(status),
            Weather::Busy(seconds) => Answer::Busy(seconds),
            Weather::Resets => Answer::Reset,
            Weather::Changing => {
                let asked =
                    [round as u64, u64::from(is_ping), number.cast_unsigned(), attempt.cast_unsigned()];
                let mut dice = Dice::new(&[&[self.seed, self.index], asked.as_slice()].concat());
                let fair = Answer::Status(200);
                let bad = dice.one_of(&[500, 404, 422, 429, 502, 302, 401]);
                dice.weighted(&[
                    (5, fair),
                    (5, Answer::Status(bad)),
                    (1, Answer::Busy(60)),
                    (1, Answer::Reset),
                ])
            }
        }
    }
}

fn forecast(dice: &mut Dice) -> Weather {
    let status = dice.one_of(&[500, 404, 422, 403]);
    dice.weighted(&[
        (9, Weather::Fair),
        (5, Weather::Answers(status)),
        (1, Weather::Answers(410)),
        (1, Weather::Busy(90)),
        (1, Weather::Resets),
        (5, Weather::Changing),
    ])
}

fn op(dice: &mut Dice) -> Op {
    let kinds = (0..dice.between(1, 4)).map(|_| u8::from(dice.one_in(3))).collect();
    let (share, other) = (Share(dice.below(10).cast_signed()), Share(dice.below(9).cast_signed()));
    match dice.below(40) {
        0..=12 => Op::Publish(kinds),
        13..=15 => Op::Rest,
        16 | 17 => Op::Pause,
        18..=20 => Op::Resume,
        21 => Op::ResumeByReceiver,
        22 | 23 => Op::Readdress,
        24 => Op::Retry(retry(dice)),
        25 => Op::CatchUp { latest: dice.one_in(2) },
        26 | 27 => Op::Renew(lifetime(dice)),
        28 => Op::Pull,
        29 | 30 => Op::Ack(share),
        31 => Op::SettleParked { every: usize::try_from(dice.between(1, 2)).unwrap() },
        32 => Op::Skip(share),
        33 | 34 => Op::Replay(share),
        35 => Op::ReplaySince { rounds: usize::try_from(dice.between(0, 5)).unwrap() },
        36 => Op::RedriveAll,
        37 => Op::Redrive { from: other, through: share },
        38 => Op::Ping,
        _ if dice.one_in(4) => Op::Stop,
        _ => Op::Publish(kinds),
    }
}

fn retry(dice: &mut Dice) -> Retry {
    Retry {
        schedule: dice.one_of(&[&[0, 5, 30], &[0, 2], &[0, 60, 600], &[0, 3_600]]),
        window: dice.one_of(&[3 * DAY, HOUR, DAY]),
        max_attempts: dice.one_of(&[None, None, Some(1), Some(2), Some(3), Some(5)]),
        continues: dice.one_in(2),
    }
}

fn lifetime(dice: &mut Dice) -> Duration {
    dice.one_of(&[30 * DAY, 30 * DAY, 3 * DAY, DAY, 2 * HOUR])
}

/// What happens to all lives that share a server: how time passes, and when it crashes.
#[derive(Clone, Debug)]
pub struct Weeks {
    pub steps: Vec<Duration>,
    /// A round in which the server crashes once nothing is under way.
    pub still_crash: usize,
    /// A round in which it crashes right after everybody's turn, with requests under way. Receivers work in it.
    pub midway_crash: usize,
}

impl Weeks {
    pub fn new(seed: u64, fleet: u64) -> Self {
        let mut dice = Dice::new(&[seed, fleet, 0xc10c]);
        let steps = (0..ROUNDS).map(|_| {
            let (seconds, minutes, hours) = (dice.between(1, 40), dice.between(1, 15), dice.between(1, 30));
            let step = dice.weighted(&[(8, seconds), (3, minutes * 60), (4, hours * 3_600)]);
            Duration::from_secs(step)
        });
        let steps = steps.collect();
        let mut crash =
            |third: usize| third * (ROUNDS / 3) + usize::try_from(dice.below(ROUNDS as u64 / 3)).unwrap();
        Self { steps, still_crash: crash(1), midway_crash: crash(2) }
    }

    /// The lives of `indices` under one server.
    pub fn histories(&self, seed: u64, indices: &[u64]) -> Vec<History> {
        let mut histories: Vec<History> = indices.iter().map(|index| History::new(seed, *index)).collect();
        for history in &mut histories {
            history.turns[self.midway_crash].weather = Weather::Fair;
        }
        histories
    }
}
