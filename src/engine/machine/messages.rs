//! What a machine hears and says.

use std::time::Duration;

use super::Terms;
use crate::domain::{cursor::Failing, outcome::Verdict, settled::SettledMap, time::Timestamp};

/// What happens to a lane.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// The log has grown to this seq.
    Head(i64),
    /// The slot that was asked for is free.
    Slot,
    /// The slot for a notice that was asked for is free.
    NoticeSlot,
    /// The notification that begins at this seq did not leave after all: the channel changed or expired, or the lease
    /// runs out.
    NotSent(i64),
    /// Nor did the notice.
    NotTold,
    /// What came of the notification that stands for its `through`.
    Outcome(Outcome),
    /// What came of the notice on its way.
    Told(Outcome),
    /// This many outcomes are durable.
    Saved(u64),
    /// Time has passed.
    Time,
    /// The cursor was moved forward from outside: everything up to this seq is terminal.
    Moved(i64),
    /// The cursor was moved back from outside: everything after this seq is to be sent again.
    Rewound(i64),
    /// The answer to [`Action::AskNext`]: the first event that the channel wants after [`asks_after`](super::Lane::asks_after), as that is
    /// when the answer is given, as far as the log was looked through.
    Next { wanted: Option<i64>, through: i64 },
    /// Retention has deleted everything up to this seq: it is over for the channel, and no sign of life.
    Expired(i64),
    /// What begins at `first` was to be sent and is not in the log any more, nor anything up to `through`: nothing left.
    Hole { first: i64, through: i64 },
    /// The channel has changed; `readdressed` when a failing receiver may have been replaced.
    Changed { terms: Terms, readdressed: bool },
    /// The notices that wait, in their order, and the parked notifications that are to be tried again.
    Waiting { notices: Vec<Waiting>, redrives: Vec<Redrive> },
}

/// A notice that waits to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiting {
    pub id: i64,
    /// Attempts so far.
    pub attempts: u32,
    pub due_at: Timestamp,
    /// Whether it may leave although the channel's time is over.
    pub after_expiry: bool,
    /// It goes to the receiver itself, and not to an address for notices alone.
    pub to_receiver: bool,
}

/// A parked notification that gets one more attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Redrive {
    pub seq: i64,
    /// Attempts so far.
    pub attempts: u32,
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
    /// Ask for a slot where notices go; answer with `Input::NoticeSlot`.
    AskNoticeSlot,
    /// Look for the next event that the channel wants; answer with `Input::Next`.
    AskNext,
    Send(Send),
    /// Send this notice; answer with `Input::Told`, whose `through` does not matter.
    Tell {
        notice: i64,
        attempt: u32,
    },
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
    /// The payload may be at fault: find out by a ping whether the receiver works.
    Ping,
    /// The answer named the channel's new address.
    Readdress,
}

/// A notification to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Send {
    /// The first seq that it stands for.
    pub first: i64,
    /// The last seq that this notification may stand for; equal to `first` unless a run may be collapsed.
    pub through: i64,
    /// `through` is fixed: an earlier attempt stood for exactly this run.
    pub pinned: bool,
    /// 1, 2, …
    pub attempt: u32,
    /// It was parked, and gets another attempt beside the cursor.
    pub redriven: bool,
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
    /// A notification was set aside.
    pub parked: Option<Parking>,
    /// A parked notification arrived after all.
    pub redriven: Option<i64>,
    /// What became of a notice.
    pub notice: Option<NoticeMark>,
    /// From and to: what the notification that has just settled stood for besides its own seq.
    pub superseded: Option<(i64, i64)>,
    /// What a lane whose notifications may overtake each other says besides.
    pub beside: Option<Beside>,
}

/// What is made durable with the low-water mark of a lane whose notifications may overtake each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Beside {
    pub settled: SettledMap,
    /// Everything that became of retries and is not known to be durable: a record that a move from outside has
    /// overtaken is not written, and the next one says it again.
    pub changes: Vec<Changed>,
    /// Something waits by itself, or has settled above the mark: the lane's own row has to say so.
    pub is_open: bool,
}

/// What became of one notification, with the number of its outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Changed {
    pub seq: i64,
    pub outcome: u64,
    pub change: Change,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It waits for another attempt.
    Retry(Retry),
    /// It waits no longer.
    Settled,
    /// It is set aside.
    Parked(Parking),
}

/// A notification that failed and waits for another attempt by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    pub seq: i64,
    /// Attempts so far.
    pub attempts: u32,
    /// What the last one was answered with.
    pub status: Option<u16>,
    /// When it failed first.
    pub since: Timestamp,
    pub due_at: Timestamp,
}

/// A notification that is set aside, with the evidence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parking {
    pub seq: i64,
    pub reason: ParkReason,
    pub status: Option<u16>,
    pub attempts: u32,
}

/// Why a notification was set aside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParkReason {
    /// The receiver knows no sync.
    SyncRefused,
    /// It was redirected, and the channel's owner wants that to be the end.
    Redirected,
    /// The retry window is over, and the channel goes on.
    Exhausted,
    /// The payload was refused again and again by a receiver that works.
    Poison,
    /// Another attempt failed as well.
    RedriveFailed,
}

impl ParkReason {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SyncRefused => "syncRefused",
            Self::Redirected => "redirected",
            Self::Exhausted => "exhausted",
            Self::Poison => "poison",
            Self::RedriveFailed => "redriveFailed",
        }
    }
}

/// Where a notice stands; without a due time it is through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoticeMark {
    pub id: i64,
    pub attempts: u32,
    pub due_at: Option<Timestamp>,
}
