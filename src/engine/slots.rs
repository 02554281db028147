//! Slots: who may have a request in flight. A window per origin and pace that grows with success and halves on overload
//! (AIMD), under a limit per origin and one over all. A slow or dead host uses up its own windows and nothing else.
//!
//! Channels whose receivers stall, or have yet to answer, wait in a line of their own, and never hold all slots of an
//! origin, nor of the server: whoever stalls costs those who answer neither their place nor their window.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use crate::{domain::channel::ChannelKey, outbound::Origin};

/// Requests in flight over all origins: hyper may hold 408 KiB of a hostile answer for each.
pub const GLOBAL_MAX: usize = 1_024;
/// Of these, for slow channels.
const GLOBAL_SLOW_MAX: usize = GLOBAL_MAX / 4 * 3;
const WINDOW_START: f64 = 16.0;
const WINDOW_MIN: f64 = 1.0;
/// What slow channels may have of an origin's limit.
const SLOW_SHARE: f64 = 0.75;
/// An answer that takes longer is slow.
const QUICK_MAX: Duration = Duration::from_secs(1);
/// Origins whose windows are remembered while they are idle.
const IDLE_ORIGINS_MAX: usize = 10_000;

/// What an answer says about its origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Feedback {
    Healthy,
    Overloaded,
    /// Nothing was learnt: the request did not leave, or the answer was the channel's own affair.
    Neutral,
}

/// How a channel's receiver has answered last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// Soon.
    Quick,
    /// Late, not at all, or it has yet to answer.
    Slow,
}

impl Pace {
    /// By how an attempt ended.
    pub const fn of(answered: bool, took: Duration) -> Self {
        if answered && took.as_millis() <= QUICK_MAX.as_millis() { Self::Quick } else { Self::Slow }
    }

    const BOTH: [Self; 2] = [Self::Quick, Self::Slow];

    const fn other(self) -> Self {
        match self {
            Self::Quick => Self::Slow,
            Self::Slow => Self::Quick,
        }
    }
}

/// One for each pace.
#[derive(Debug, Default)]
struct PerPace<T> {
    quick: T,
    slow: T,
}

impl<T> PerPace<T> {
    const fn of(&self, pace: Pace) -> &T {
        match pace {
            Pace::Quick => &self.quick,
            Pace::Slow => &self.slow,
        }
    }

    const fn of_mut(&mut self, pace: Pace) -> &mut T {
        match pace {
            Pace::Quick => &mut self.quick,
            Pace::Slow => &mut self.slow,
        }
    }
}

/// The right to one request, until it is given back to [`Slots::release`].
#[derive(Debug, PartialEq, Eq)]
pub struct Slot {
    pub origin: Origin,
    pace: Pace,
}

#[derive(Debug)]
pub struct Slots {
    origins: HashMap<Origin, PerPace<Window>>,
    /// Origins with somebody waiting and, as far as known, room: served in turn.
    turns: PerPace<VecDeque<Origin>>,
    in_flight: PerPace<usize>,
    /// Whose turn it is.
    next: Pace,
    origin_max: f64,
}

#[derive(Debug)]
struct Window {
    size: f64,
    max: f64,
    in_flight: u32,
    waiting: VecDeque<ChannelKey>,
    has_turn: bool,
}

impl Window {
    fn new(max: f64) -> Self {
        let size = WINDOW_START.min(max);
        Self { size, max, in_flight: 0, waiting: VecDeque::new(), has_turn: false }
    }

    fn has_room(&self) -> bool {
        f64::from(self.in_flight) + 1.0 <= self.size
    }

    fn learn(&mut self, feedback: Feedback) {
        match feedback {
            Feedback::Healthy => self.size = (self.size + 1.0 / self.size).min(self.max),
            Feedback::Overloaded => self.size = (self.size / 2.0).max(WINDOW_MIN),
            Feedback::Neutral => {}
        }
    }
}

impl Slots {
    /// At most `origin_max` requests are in flight to one origin.
    pub fn new(origin_max: u32) -> Self {
        Self {
            origins: HashMap::new(),
            turns: PerPace::default(),
            in_flight: PerPace::default(),
            next: Pace::Quick,
            origin_max: f64::from(origin_max),
        }
    }

    pub const fn in_flight(&self) -> usize {
        self.in_flight.quick + self.in_flight.slow
    }

    /// Puts a channel in its origin's line. [`next`](Self::next) says when it is its turn.
    pub fn ask(&mut self, origin: &Origin, channel: ChannelKey, pace: Pace) {
        let max = self.origin_max;
        let windows = self.origins.entry(origin.clone()).or_insert_with(|| PerPace {
            quick: Window::new(max),
            slow: Window::new((max * SLOW_SHARE).floor().max(WINDOW_MIN)),
        });
        windows.of_mut(pace).waiting.push_back(channel);
        self.give_turns(origin);
    }

    /// The next channel that may send, and its slot.
    pub fn next(&mut self) -> Option<(Slot, ChannelKey)> {
        let granted = [self.next, self.next.other()].into_iter().find_map(|pace| self.next_of(pace))?;
        self.next = self.next.other();
        Some(granted)
    }

    fn next_of(&mut self, pace: Pace) -> Option<(Slot, ChannelKey)> {
        while self.has_room_for(pace) {
            let origin = self.turns.of_mut(pace).pop_front()?;
            let Some(windows) = self.origins.get_mut(&origin) else { continue };
            let is_full = is_full(windows, self.origin_max);
            let window = windows.of_mut(pace);
            window.has_turn = false;
            if is_full || !window.has_room() {
                continue;
            }
            let Some(channel) = window.waiting.pop_front() else { continue };
            window.in_flight += 1;
            *self.in_flight.of_mut(pace) += 1;
            self.give_turns(&origin);
            return Some((Slot { origin, pace }, channel));
        }
        None
    }

    fn has_room_for(&self, pace: Pace) -> bool {
        self.in_flight() < GLOBAL_MAX && (pace == Pace::Quick || self.in_flight.slow < GLOBAL_SLOW_MAX)
    }

    pub fn release(&mut self, slot: &Slot, feedback: Feedback) {
        let Some(windows) = self.origins.get_mut(&slot.origin) else { return };
        let window = windows.of_mut(slot.pace);
        window.in_flight = window.in_flight.saturating_sub(1);
        window.learn(feedback);
        let in_flight = self.in_flight.of_mut(slot.pace);
        *in_flight = in_flight.saturating_sub(1);
        let is_idle = Pace::BOTH.into_iter().all(|pace| {
            let window = windows.of(pace);
            window.in_flight == 0 && window.waiting.is_empty()
        });
        if is_idle && self.origins.len() > IDLE_ORIGINS_MAX {
            self.origins.remove(&slot.origin);
        } else {
            self.give_turns(&slot.origin);
        }
    }

    fn give_turns(&mut self, origin: &Origin) {
        let Some(windows) = self.origins.get_mut(origin) else { return };
        if is_full(windows, self.origin_max) {
            return;
        }
        for pace in Pace::BOTH {
            let window = windows.of_mut(pace);
            if !window.has_turn && !window.waiting.is_empty() && window.has_room() {
                window.has_turn = true;
                self.turns.of_mut(pace).push_back(origin.clone());
            }
        }
    }
}

/// Whether an origin has as many requests as it may have.
fn is_full(windows: &PerPace<Window>, origin_max: f64) -> bool {
    f64::from(windows.quick.in_flight) + f64::from(windows.slow.in_flight) + 1.0 > origin_max
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(name: &str) -> Origin {
        Origin::named(name)
    }

    fn drain(slots: &mut Slots) -> Vec<(Slot, ChannelKey)> {
        std::iter::from_fn(|| slots.next()).collect()
    }

    #[test]
    fn a_full_origin_stops_nobody_else() {
        let mut slots = Slots::new(64);
        for key in 0..100 {
            slots.ask(&origin("busy"), ChannelKey(key), Pace::Quick);
        }
        slots.ask(&origin("idle"), ChannelKey(1_000), Pace::Quick);
        let granted = drain(&mut slots);
        assert_eq!(granted.len(), 17, "16 of the busy one's window, and the idle one");
        assert_eq!(granted[1].1, ChannelKey(1_000), "origins take turns");
        slots.release(&granted[0].0, Feedback::Healthy);
        assert_eq!(slots.next().map(|(_, key)| key), Some(ChannelKey(16)), "first come, first served");
        assert_eq!(slots.next(), None);
    }

    #[test]
    fn windows_grow_slowly_and_halve_at_once() {
        let mut slots = Slots::new(20);
        let host = origin("h");
        for key in 0..10_000 {
            slots.ask(&host, ChannelKey(key), Pace::Quick);
        }
        let mut granted = drain(&mut slots);
        assert_eq!(granted.len(), 16);
        for (slot, _) in granted.drain(..) {
            slots.release(&slot, Feedback::Overloaded);
        }
        granted = drain(&mut slots);
        assert_eq!(granted.len(), 1, "never below one");
        for _ in 0..2_000 {
            let (slot, _) = granted.remove(0);
            slots.release(&slot, Feedback::Healthy);
            granted.extend(drain(&mut slots));
        }
        assert_eq!((granted.len(), slots.in_flight()), (20, 20), "and never above the limit");
    }

    #[test]
    fn the_global_limit_holds() {
        let mut slots = Slots::new(64);
        for key in 0..2_000 {
            slots.ask(&origin(&format!("h{key}")), ChannelKey(key), Pace::Quick);
        }
        let granted = drain(&mut slots);
        assert_eq!(granted.len(), GLOBAL_MAX);
        slots.release(&granted[0].0, Feedback::Healthy);
        assert!(slots.next().is_some());
    }

    #[test]
    fn those_that_stall_leave_room_for_those_that_answer() {
        let mut slots = Slots::new(16);
        for key in 0..5_000 {
            slots.ask(&origin(&format!("h{}", key % 200)), ChannelKey(key), Pace::Slow);
        }
        assert_eq!(drain(&mut slots).len(), GLOBAL_SLOW_MAX, "not all there is");
        for key in 5_000..5_100 {
            slots.ask(&origin(&format!("h{}", key % 200)), ChannelKey(key), Pace::Quick);
        }
        assert_eq!(drain(&mut slots).len(), 100, "also at the same origins");
    }

    #[test]
    fn an_origin_has_its_limit_over_both_paces_and_a_window_for_each() {
        let mut slots = Slots::new(16);
        let host = origin("h");
        for key in 0..100 {
            let pace = if key % 2 == 0 { Pace::Slow } else { Pace::Quick };
            slots.ask(&host, ChannelKey(key), pace);
        }
        let granted = drain(&mut slots);
        assert_eq!(granted.len(), 16);
        for (slot, _) in granted {
            let feedback = if slot.pace == Pace::Slow { Feedback::Overloaded } else { Feedback::Healthy };
            slots.release(&slot, feedback);
        }
        let paces = drain(&mut slots).into_iter().map(|(slot, _)| slot.pace);
        let quick = paces.filter(|pace| *pace == Pace::Quick).count();
        assert_eq!((quick, slots.in_flight()), (15, 16), "overload is told of those that cause it");
    }
}
