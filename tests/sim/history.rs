//! Random histories: what the world does to a channel, one turn after the other. A turn that does not apply
//! (an answer where nothing was asked) does nothing, so that every part of a history can be left out.

use std::{sync::Arc, time::Duration};

use proptest::{collection, option, prelude::*, sample};
use watchpost::domain::{
    backoff::{RETRY_AFTER_MAX, RETRY_AFTER_MIN, Schedule},
    channel::CatchUp,
    time::Timestamp,
};

const TURNS_MAX: usize = 140;
const DAY_MS: i64 = 86_400_000;

#[derive(Clone, Debug)]
pub struct History {
    pub start_seq: i64,
    pub now: Timestamp,
    pub catch_up: CatchUp,
    pub schedule: Arc<Schedule>,
    /// The one kind of events that the channel wants; all without one.
    pub filter: Option<u8>,
    pub turns: Vec<Turn>,
}

#[derive(Clone, Debug)]
pub enum Turn {
    /// Events with these names and states; the bell may be lost.
    Publish {
        kinds: Vec<u8>,
        heard: bool,
    },
    /// A bell that comes late.
    OldHead(i64),
    Grant,
    Withdraw,
    /// The lane is told its next event, as far as this many were looked through.
    Look(i64),
    Answer(Answer),
    /// Some of the records become durable.
    Commit(usize),
    /// The lane hears how far its records are durable.
    TellSaved,
    /// Time passes.
    Pass(u64),
    /// Time passes until the next timer rings, or nearly so.
    PassToTimer {
        early: bool,
    },
    /// Time passes until the channel expires, or one millisecond less.
    PassToExpiry {
        early: bool,
    },
    Poke,
    /// The wall clock is set by this many milliseconds.
    Jump(i64),
    Crash {
        seen: bool,
    },
    Unload,
    /// The end of a gone channel is carried out.
    EndGone,
    Change(Change),
}

#[derive(Clone, Debug)]
pub struct Answer {
    pub kind: AnswerKind,
    pub retry_after: Option<Duration>,
    pub jitter: f64,
}

#[derive(Clone, Copy, Debug)]
pub enum AnswerKind {
    Status(u16),
    /// No connection, bad TLS, no such name.
    Unreachable,
    TimedOut,
    Forbidden,
    Ours,
}

#[derive(Clone, Debug)]
pub enum Change {
    Active(bool),
    CatchUp(CatchUp),
    Schedule(Arc<Schedule>),
    Readdress,
    Filter(Option<u8>),
    /// The channel ends this many milliseconds from now: renewed, or cut short.
    ExpiresIn(i64),
}

pub fn histories() -> impl Strategy<Value = History> {
    let starts = prop_oneof![
        4 => 0_i64..100,
        1 => Just(i64::MIN + 1),
        1 => Just(i64::MAX - 4 * i64::try_from(TURNS_MAX).unwrap_or(0)),
    ];
    let clocks = prop_oneof![
        4 => Just(1_800_000_000_000_i64),
        1 => Just(0),
        1 => Just(i64::MIN),
    ];
    (starts, clocks, catch_ups(), schedules(), filters(), collection::vec(turns(), 1..TURNS_MAX)).prop_map(
        |(start_seq, now, catch_up, schedule, filter, turns)| History {
            start_seq,
            now: Timestamp::from_millis(now),
            catch_up,
            schedule,
            filter,
            turns,
        },
    )
}

fn turns() -> impl Strategy<Value = Turn> {
    prop_oneof![
        6 => (collection::vec(0_u8..2, 1..4), prop::bool::weighted(0.8))
            .prop_map(|(kinds, heard)| Turn::Publish { kinds, heard }),
        1 => (0_i64..20).prop_map(Turn::OldHead),
        20 => Just(Turn::Grant),
        1 => Just(Turn::Withdraw),
        12 => (1_i64..5).prop_map(Turn::Look),
        20 => answers().prop_map(Turn::Answer),
        8 => (1_usize..6).prop_map(Turn::Commit),
        8 => Just(Turn::TellSaved),
        3 => prop_oneof![0_u64..3_000, 0_u64..100_000_000].prop_map(Turn::Pass),
        8 => prop::bool::weighted(0.2).prop_map(|early| Turn::PassToTimer { early }),
        1 => any::<bool>().prop_map(|early| Turn::PassToExpiry { early }),
        2 => Just(Turn::Poke),
        1 => prop_oneof![-10_000_i64..10_000, -400 * DAY_MS..400 * DAY_MS].prop_map(Turn::Jump),
        3 => any::<bool>().prop_map(|seen| Turn::Crash { seen }),
        2 => Just(Turn::Unload),
        1 => Just(Turn::EndGone),
        4 => changes().prop_map(Turn::Change),
    ]
}

fn answers() -> impl Strategy<Value = Answer> {
    let kinds = prop_oneof![
        14 => Just(AnswerKind::Status(200)),
        1 => Just(AnswerKind::Status(302)),
        5 => sample::select(vec![400_u16, 401, 404, 422]).prop_map(AnswerKind::Status),
        2 => sample::select(vec![408_u16, 425, 429, 503]).prop_map(AnswerKind::Status),
        1 => Just(AnswerKind::Status(410)),
        3 => sample::select(vec![500_u16, 502, 599]).prop_map(AnswerKind::Status),
        2 => Just(AnswerKind::Unreachable),
        1 => Just(AnswerKind::TimedOut),
        1 => Just(AnswerKind::Forbidden),
        2 => Just(AnswerKind::Ours),
    ];
    let retry_afters = (RETRY_AFTER_MIN.as_secs()..=RETRY_AFTER_MAX.as_secs()).prop_map(Duration::from_secs);
    (kinds, option::weighted(0.3, retry_afters), 0.0..1.0).prop_map(|(kind, retry_after, jitter)| Answer {
        kind,
        retry_after,
        jitter,
    })
}

fn changes() -> impl Strategy<Value = Change> {
    prop_oneof![
        3 => prop::bool::weighted(0.7).prop_map(Change::Active),
        2 => catch_ups().prop_map(Change::CatchUp),
        1 => schedules().prop_map(Change::Schedule),
        1 => Just(Change::Readdress),
        2 => filters().prop_map(Change::Filter),
        1 => (0_i64..5_000).prop_map(Change::ExpiresIn),
        2 => (0_i64..60 * DAY_MS).prop_map(Change::ExpiresIn),
    ]
}

fn filters() -> impl Strategy<Value = Option<u8>> {
    option::of(0_u8..2)
}

fn catch_ups() -> impl Strategy<Value = CatchUp> {
    sample::select(vec![CatchUp::All, CatchUp::Latest])
}

/// Schedules as owners write them, and odd ones.
fn schedules() -> impl Strategy<Value = Arc<Schedule>> {
    let odd = collection::vec(0_u64..34_560_000_000, 1..5);
    prop_oneof![
        3 => Just(vec![0, 5_000, 30_000, 120_000, 600_000]),
        1 => Just(vec![2_000, 9_000]),
        1 => Just(vec![0]),
        1 => Just(vec![7_000]),
        1 => odd,
    ]
    .prop_filter_map("a schedule has a step", |steps| {
        Schedule::new(steps.into_iter().map(Duration::from_millis).collect()).map(Arc::new)
    })
}
