//! What became of one event for one channel, as one pure function of what the store still knows.
//!
//! Called by `app::fates`. No row is kept per event and channel: the cursor, the ranges that ended otherwise than by
//! delivery, the exceptions and the filter say it all. The order of the rules is what makes them right: an exception
//! stands on either side of the cursor, a range and a former filter only before it.

use super::channel::ChannelState;

/// What became of an event for a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// The receiver said 2xx, or acknowledged it.
    Delivered,
    /// It is still to be sent, or can be claimed.
    Pending,
    /// Set aside with its evidence; it can be claimed or redriven.
    Parked,
    /// A newer notification of the same run stood for it.
    Superseded,
    /// The channel did not ask for events like it.
    Filtered,
    /// Retention came before the receiver.
    Expired,
    /// The owner skipped it, or stopped the channel before it was sent.
    Cancelled,
}

impl Fate {
    /// The word on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Pending => "pending",
            Self::Parked => "parked",
            Self::Superseded => "superseded",
            Self::Filtered => "filtered",
            Self::Expired => "expired",
            Self::Cancelled => "cancelled",
        }
    }
}

/// How a run of notifications ended, other than by delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RangeKind {
    Superseded,
    Expired,
    Cancelled,
}

impl RangeKind {
    /// The word in the store.
    pub const fn as_str(self) -> &'static str {
        self.fate().as_str()
    }

    pub fn parse(word: &str) -> Option<Self> {
        [Self::Superseded, Self::Expired, Self::Cancelled].into_iter().find(|kind| kind.as_str() == word)
    }

    const fn fate(self) -> Fate {
        match self {
            Self::Superseded => Fate::Superseded,
            Self::Expired => Fate::Expired,
            Self::Cancelled => Fate::Cancelled,
        }
    }
}

/// A channel and its place, as far as they decide.
#[derive(Clone, Copy, Debug)]
pub struct Standing {
    pub state: ChannelState,
    /// The virtual seq of the sync: the channel's first event comes after it.
    pub start_seq: i64,
    pub end_seq: Option<i64>,
    /// The effective cursor: everything up to it is terminal, or stands aside as an exception.
    pub cursor: i64,
    /// The seq is settled although it lies above the cursor: it overtook others.
    pub overtook: bool,
    /// Failed attempts of the head.
    pub attempts: i64,
    /// Last seq of the run that was attempted.
    pub pinned: Option<i64>,
}

/// What the store knows of one seq of the channel.
#[derive(Clone, Copy, Debug)]
pub struct Traces {
    pub exception: Option<Exception>,
    /// The range that covers the seq.
    pub range: Option<RangeKind>,
    /// Whether the channel's present filter wants the event.
    pub wanted_now: bool,
    /// Whether the filter did that was valid when the cursor passed it.
    pub wanted_then: bool,
    /// The highest attempt in the ledger, where there was more than one.
    pub attempts: Option<i64>,
}

/// A notification that is not simply before or after the cursor.
#[derive(Clone, Copy, Debug)]
pub struct Exception {
    pub parked: bool,
    pub attempts: i64,
}

/// The fate of the event at `seq`, and how often it was tried where that means anything. `None`: the event never was
/// the channel's.
pub fn fate_of(seq: i64, standing: &Standing, traces: &Traces) -> Option<(Fate, Option<i64>)> {
    if seq <= standing.start_seq || standing.end_seq.is_some_and(|end| seq > end) {
        return None;
    }
    if let Some(exception) = traces.exception {
        let fate = match standing.state {
            _ if exception.parked => Fate::Parked,
            ChannelState::Stopped => Fate::Cancelled,
            _ => Fate::Pending,
        };
        return Some((fate, Some(exception.attempts)));
    }
    if seq > standing.cursor && !standing.overtook {
        let is_head =
            seq == standing.cursor.saturating_add(1) || standing.pinned.is_some_and(|pinned| seq <= pinned);
        let attempts = if is_head { standing.attempts } else { 0 };
        return Some(match standing.state {
            ChannelState::Stopped => (Fate::Cancelled, Some(attempts)),
            _ if !traces.wanted_now => (Fate::Filtered, None),
            _ => (Fate::Pending, Some(attempts)),
        });
    }
    Some(match traces.range {
        // A run may have events in it that nobody asked for: nothing stood for those.
        Some(RangeKind::Superseded) if !traces.wanted_then => (Fate::Filtered, None),
        Some(kind) => (kind.fate(), None),
        // What the filter does not want overtakes nothing.
        None if !traces.wanted_then && !standing.overtook => (Fate::Filtered, None),
        None => (Fate::Delivered, Some(traces.attempts.unwrap_or(1))),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ACTIVE: Standing = Standing {
        state: ChannelState::Active,
        start_seq: 3,
        end_seq: None,
        cursor: 6,
        overtook: false,
        attempts: 0,
        pinned: None,
    };
    const PLAIN: Traces =
        Traces { exception: None, range: None, wanted_now: true, wanted_then: true, attempts: None };

    fn told(seq: i64, standing: Standing, traces: Traces) -> Option<(&'static str, Option<i64>)> {
        fate_of(seq, &standing, &traces).map(|(fate, attempts)| (fate.as_str(), attempts))
    }

    #[test]
    fn every_event_ends_as_one_thing() {
        let stopped = Standing { state: ChannelState::Stopped, end_seq: Some(9), ..ACTIVE };
        let gone = Standing { state: ChannelState::Gone, end_seq: Some(9), ..ACTIVE };
        let failing = Standing { attempts: 4, pinned: Some(8), ..ACTIVE };
        let head = Standing { attempts: 2, ..ACTIVE };
        let exception = |parked| Some(Exception { parked, attempts: 5 });
        let parked = Traces { exception: exception(true), ..PLAIN };
        let waiting = Traces { exception: exception(false), ..PLAIN };
        let range = |kind| Traces { range: Some(kind), ..PLAIN };
        let unwanted = Traces { wanted_now: false, wanted_then: false, ..PLAIN };
        let now_unwanted = Traces { wanted_now: false, ..PLAIN };
        let then_unwanted = Traces { wanted_then: false, ..PLAIN };
        let run_unwanted = Traces { range: Some(RangeKind::Superseded), ..then_unwanted };
        let skip_unwanted = Traces { range: Some(RangeKind::Cancelled), ..then_unwanted };
        for (case, seq, standing, traces, expected) in [
            ("before the channel", 2, ACTIVE, PLAIN, None),
            ("the sync's own seq", 3, ACTIVE, PLAIN, None),
            ("after its end", 10, stopped, PLAIN, None),
            ("after its end, parked or not", 10, gone, parked, None),
            ("its first", 4, ACTIVE, PLAIN, Some(("delivered", Some(1)))),
            ("the cursor's own", 6, ACTIVE, PLAIN, Some(("delivered", Some(1)))),
            (
                "after several attempts",
                5,
                ACTIVE,
                Traces { attempts: Some(7), ..PLAIN },
                Some(("delivered", Some(7))),
            ),
            ("parked behind the cursor", 5, ACTIVE, parked, Some(("parked", Some(5)))),
            ("waiting behind the cursor", 5, ACTIVE, waiting, Some(("pending", Some(5)))),
            ("waiting ahead of it", 8, ACTIVE, waiting, Some(("pending", Some(5)))),
            (
                "overtook others",
                8,
                Standing { overtook: true, ..ACTIVE },
                unwanted,
                Some(("delivered", Some(1))),
            ),
            (
                "superseded ahead of the others",
                8,
                Standing { overtook: true, ..ACTIVE },
                range(RangeKind::Superseded),
                Some(("superseded", None)),
            ),
            ("waiting when it was stopped", 5, stopped, waiting, Some(("cancelled", Some(5)))),
            ("not tried yet", 7, ACTIVE, PLAIN, Some(("pending", Some(0)))),
            ("the failing head", 7, head, PLAIN, Some(("pending", Some(2)))),
            ("behind the failing head", 8, head, PLAIN, Some(("pending", Some(0)))),
            ("in the attempted run", 8, failing, PLAIN, Some(("pending", Some(4)))),
            ("after the attempted run", 9, failing, PLAIN, Some(("pending", Some(0)))),
            ("what a gone channel can claim", 9, gone, PLAIN, Some(("pending", Some(0)))),
            ("what a stopped one has not had", 9, stopped, PLAIN, Some(("cancelled", Some(0)))),
            ("what a stopped one has had", 5, stopped, PLAIN, Some(("delivered", Some(1)))),
            ("superseded", 5, ACTIVE, range(RangeKind::Superseded), Some(("superseded", None))),
            ("expired", 5, ACTIVE, range(RangeKind::Expired), Some(("expired", None))),
            ("skipped", 5, ACTIVE, range(RangeKind::Cancelled), Some(("cancelled", None))),
            (
                "a range does not reach past the cursor",
                7,
                ACTIVE,
                range(RangeKind::Expired),
                Some(("pending", Some(0))),
            ),
            ("filtered ahead", 7, ACTIVE, now_unwanted, Some(("filtered", None))),
            ("filtered then", 5, ACTIVE, then_unwanted, Some(("filtered", None))),
            ("wanted then, not now", 5, ACTIVE, now_unwanted, Some(("delivered", Some(1)))),
            ("not wanted then, wanted now", 7, ACTIVE, then_unwanted, Some(("pending", Some(0)))),
            ("never wanted", 5, ACTIVE, unwanted, Some(("filtered", None))),
            ("unwanted inside a run", 5, ACTIVE, run_unwanted, Some(("filtered", None))),
            ("unwanted and skipped", 5, ACTIVE, skip_unwanted, Some(("cancelled", None))),
        ] {
            assert_eq!(told(seq, standing, traces), expected, "{case}");
        }
    }

    #[test]
    fn words_of_ranges_round_trip() {
        for kind in [RangeKind::Superseded, RangeKind::Expired, RangeKind::Cancelled] {
            assert_eq!(RangeKind::parse(kind.as_str()), Some(kind));
        }
        assert_eq!(RangeKind::parse("delivered"), None);
    }
}
