//! Slots: who may have a request in flight. A window per origin and line that grows with success and halves on overload
//! (AIMD), under a limit per origin and one over all. A slow or dead host uses up its own windows and nothing else. Who has
//! a turn may still have to wait for the pace of its destination, which many origins can share.
//!
//! Channels whose receivers stall, or have yet to answer, wait in a line of their own, and never hold all slots of an
//! origin, nor of the server: whoever stalls costs those who answer neither their place nor their window.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap, VecDeque},
    num::NonZeroU32,
    time::Duration,
};

use super::pace::Paces;
use crate::{
    domain::channel::ChannelKey,
    outbound::{Destination, Origin},
};

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

/// Where a channel waits: by how its receiver has answered last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Line {
    /// Soon.
    Quick,
    /// Late, not at all, or it has yet to answer.
    Slow,
}

impl Line {
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

/// One for each line.
#[derive(Debug, Default)]
struct PerLine<T> {
    quick: T,
    slow: T,
}

impl<T> PerLine<T> {
    const fn of(&self, line: Line) -> &T {
        match line {
            Line::Quick => &self.quick,
            Line::Slow => &self.slow,
        }
    }

    const fn of_mut(&mut self, line: Line) -> &mut T {
        match line {
            Line::Quick => &mut self.quick,
            Line::Slow => &mut self.slow,
        }
    }
}

/// The right to one request, until it is given back to [`Slots::release`].
#[derive(Debug, PartialEq, Eq)]
pub struct Slot {
    pub origin: Origin,
    line: Line,
}

#[derive(Debug)]
pub struct Slots {
    origins: HashMap<Origin, Host>,
    /// Origins with somebody waiting and, as far as known, room: served in turn.
    turns: PerLine<VecDeque<Origin>>,
    /// Origins that had their turn and were given a time for it.
    paused: BinaryHeap<Reverse<(Duration, Origin, Line)>>,
    paces: Paces,
    in_flight: PerLine<usize>,
    /// Whose turn it is.
    next: Line,
    origin_max: f64,
}

#[derive(Debug)]
struct Host {
    windows: PerLine<Window>,
    /// Where its last connection led.
    reached: Option<Destination>,
}

impl Host {
    /// What its pace depends on: its name and, once it is known, the address behind it; nothing where the operator
    /// opened either.
    fn destinations<'a>(&'a self, origin: &'a Origin) -> impl Iterator<Item = &'a Destination> {
        let known = std::iter::once(origin.destination()).chain(&self.reached);
        let is_inside = known.clone().any(|destination| *destination == Destination::Inside);
        known.filter(move |_| !is_inside)
    }

    /// Whether it has as many requests as it may have.
    fn is_full(&self, max: f64) -> bool {
        f64::from(self.windows.quick.in_flight) + f64::from(self.windows.slow.in_flight) + 1.0 > max
    }

    fn is_idle(&self) -> bool {
        Line::BOTH.into_iter().all(|line| {
            let window = self.windows.of(line);
            window.in_flight == 0 && window.waiting.is_empty()
        })
    }
}

#[derive(Debug)]
struct Window {
    size: f64,
    max: f64,
    in_flight: u32,
    waiting: VecDeque<ChannelKey>,
    has_turn: bool,
    /// Its next turn has its time, which has come.
    is_timed: bool,
}

impl Window {
    fn new(max: f64) -> Self {
        let size = WINDOW_START.min(max);
        Self { size, max, in_flight: 0, waiting: VecDeque::new(), has_turn: false, is_timed: false }
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
    pub fn new(origin_max: u32, destination_rate: Option<NonZeroU32>) -> Self {
        Self {
            origins: HashMap::new(),
            turns: PerLine::default(),
            paused: BinaryHeap::new(),
            paces: Paces::new(destination_rate),
            in_flight: PerLine::default(),
            next: Line::Quick,
            origin_max: f64::from(origin_max),
        }
    }

    pub const fn in_flight(&self) -> usize {
        self.in_flight.quick + self.in_flight.slow
    }

    /// Puts a channel in a line of its origin. [`next`](Self::next) says when it is its turn.
    pub fn ask(&mut self, origin: &Origin, channel: ChannelKey, line: Line) {
        let max = self.origin_max;
        let host = self.origins.entry(origin.clone()).or_insert_with(|| Host {
            windows: PerLine {
                quick: Window::new(max),
                slow: Window::new((max * SLOW_SHARE).floor().max(WINDOW_MIN)),
            },
            reached: None,
        });
        host.windows.of_mut(line).waiting.push_back(channel);
        self.give_turns(origin);
    }

    /// When an origin that waits for its destination's pace goes on, on the clock of [`next`](Self::next).
    pub fn paused_until(&self) -> Option<Duration> {
        self.paused.peek().map(|Reverse((until, ..))| *until)
    }

    /// Where a connection to this origin has led.
    pub fn learn(&mut self, origin: &Origin, reached: &Destination) {
        if let Some(host) = self.origins.get_mut(origin) {
            host.reached = Some(reached.clone());
        }
    }

    /// The next channel that may send, and its slot.
    pub fn next(&mut self, now: Duration) -> Option<(Slot, ChannelKey)> {
        self.end_pauses(now);
        let granted = [self.next, self.next.other()].into_iter().find_map(|line| self.next_of(line, now))?;
        self.next = self.next.other();
        Some(granted)
    }

    fn next_of(&mut self, line: Line, now: Duration) -> Option<(Slot, ChannelKey)> {
        while self.has_room_for(line) {
            let origin = self.turns.of_mut(line).pop_front()?;
            let Some(host) = self.origins.get_mut(&origin) else { continue };
            let is_full = host.is_full(self.origin_max);
            let window = host.windows.of_mut(line);
            window.has_turn = false;
            if is_full || !window.has_room() || window.waiting.is_empty() {
                continue;
            }
            if !std::mem::take(&mut window.is_timed) {
                let at = self.paces.take(host.destinations(&origin), now);
                if at > now {
                    host.windows.of_mut(line).has_turn = true;
                    self.paused.push(Reverse((at, origin, line)));
                    continue;
                }
            }
            let window = host.windows.of_mut(line);
            let Some(channel) = window.waiting.pop_front() else { continue };
            window.in_flight += 1;
            *self.in_flight.of_mut(line) += 1;
            self.give_turns(&origin);
            return Some((Slot { origin, line }, channel));
        }
        None
    }

    fn has_room_for(&self, line: Line) -> bool {
        self.in_flight() < GLOBAL_MAX && (line == Line::Quick || self.in_flight.slow < GLOBAL_SLOW_MAX)
    }

    pub fn release(&mut self, slot: &Slot, feedback: Feedback) {
        let Some(host) = self.origins.get_mut(&slot.origin) else { return };
        let window = host.windows.of_mut(slot.line);
        window.in_flight = window.in_flight.saturating_sub(1);
        window.learn(feedback);
        let in_flight = self.in_flight.of_mut(slot.line);
        *in_flight = in_flight.saturating_sub(1);
        if host.is_idle() && self.origins.len() > IDLE_ORIGINS_MAX {
            self.origins.remove(&slot.origin);
        } else {
            self.give_turns(&slot.origin);
        }
    }

    fn end_pauses(&mut self, now: Duration) {
        while self.paused_until().is_some_and(|until| until <= now) {
            let Some(Reverse((_, origin, line))) = self.paused.pop() else { return };
            if let Some(host) = self.origins.get_mut(&origin) {
                host.windows.of_mut(line).is_timed = true;
                self.turns.of_mut(line).push_back(origin);
            }
        }
    }

    fn give_turns(&mut self, origin: &Origin) {
        let Some(host) = self.origins.get_mut(origin) else { return };
        if host.is_full(self.origin_max) {
            return;
        }
        for line in Line::BOTH {
            let window = host.windows.of_mut(line);
            if !window.has_turn && !window.waiting.is_empty() && window.has_room() {
                window.has_turn = true;
                self.turns.of_mut(line).push_back(origin.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests;
