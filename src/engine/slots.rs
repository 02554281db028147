//! Slots: who may have a request in flight. A window per origin that grows with success and halves on overload
//! (AIMD), under a global limit. A slow or dead host uses up its own window and nothing else.

use std::collections::{HashMap, VecDeque};

use crate::{domain::channel::ChannelKey, outbound::Origin};

/// Requests in flight over all origins: hyper may hold 408 KiB of a hostile answer for each.
pub const GLOBAL_MAX: usize = 1_024;
const WINDOW_START: f64 = 16.0;
const WINDOW_MIN: f64 = 1.0;
/// Origins whose window is remembered while they are idle.
const IDLE_ORIGINS_MAX: usize = 10_000;

/// What an answer says about its origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Feedback {
    Healthy,
    Overloaded,
    /// Nothing was learnt: the request did not leave, or the answer was the channel's own affair.
    Neutral,
}

#[derive(Debug)]
pub struct Slots {
    origins: HashMap<Origin, Window>,
    /// Origins with somebody waiting and, as far as known, room: served in turn.
    turns: VecDeque<Origin>,
    in_flight: usize,
    window_max: f64,
}

#[derive(Debug)]
struct Window {
    size: f64,
    in_flight: u32,
    waiting: VecDeque<ChannelKey>,
    has_turn: bool,
}

impl Window {
    fn has_room(&self) -> bool {
        f64::from(self.in_flight) + 1.0 <= self.size
    }
}

impl Slots {
    pub fn new(window_max: u32) -> Self {
        Self {
            origins: HashMap::new(),
            turns: VecDeque::new(),
            in_flight: 0,
            window_max: f64::from(window_max),
        }
    }

    pub const fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Puts a channel in its origin's queue. [`next`](Self::next) says when it is its turn.
    pub fn ask(&mut self, origin: &Origin, channel: ChannelKey) {
        let start = WINDOW_START.min(self.window_max);
        let window = self.origins.entry(origin.clone()).or_insert_with(|| Window {
            size: start,
            in_flight: 0,
            waiting: VecDeque::new(),
            has_turn: false,
        });
        window.waiting.push_back(channel);
        Self::give_turn(&mut self.turns, origin, window);
    }

    /// The next channel that may send. It holds a slot of `origin` until [`release`](Self::release).
    pub fn next(&mut self) -> Option<(Origin, ChannelKey)> {
        while self.in_flight < GLOBAL_MAX {
            let origin = self.turns.pop_front()?;
            let Some(window) = self.origins.get_mut(&origin) else { continue };
            window.has_turn = false;
            if !window.has_room() {
                continue;
            }
            let Some(channel) = window.waiting.pop_front() else { continue };
            window.in_flight += 1;
            self.in_flight += 1;
            Self::give_turn(&mut self.turns, &origin, window);
            return Some((origin, channel));
        }
        None
    }

    pub fn release(&mut self, origin: &Origin, feedback: Feedback) {
        let Some(window) = self.origins.get_mut(origin) else { return };
        window.in_flight = window.in_flight.saturating_sub(1);
        self.in_flight = self.in_flight.saturating_sub(1);
        match feedback {
            Feedback::Healthy => window.size = (window.size + 1.0 / window.size).min(self.window_max),
            Feedback::Overloaded => window.size = (window.size / 2.0).max(WINDOW_MIN),
            Feedback::Neutral => {}
        }
        Self::give_turn(&mut self.turns, origin, window);
        if window.in_flight == 0 && window.waiting.is_empty() && self.origins.len() > IDLE_ORIGINS_MAX {
            self.origins.remove(origin);
        }
    }

    fn give_turn(turns: &mut VecDeque<Origin>, origin: &Origin, window: &mut Window) {
        if !window.has_turn && !window.waiting.is_empty() && window.has_room() {
            window.has_turn = true;
            turns.push_back(origin.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(name: &str) -> Origin {
        Origin::named(name)
    }

    #[test]
    fn a_full_origin_stops_nobody_else() {
        let mut slots = Slots::new(64);
        for key in 0..100 {
            slots.ask(&origin("slow"), ChannelKey(key));
        }
        slots.ask(&origin("fast"), ChannelKey(1_000));
        let granted: Vec<_> = std::iter::from_fn(|| slots.next()).collect();
        assert_eq!(granted.len(), 17, "16 of the slow one's window, and the fast one");
        assert_eq!(granted[1].1, ChannelKey(1_000), "origins take turns");
        slots.release(&origin("slow"), Feedback::Healthy);
        assert_eq!(slots.next().map(|(_, key)| key), Some(ChannelKey(16)), "first come, first served");
        assert_eq!(slots.next(), None);
    }

    #[test]
    fn windows_grow_slowly_and_halve_at_once() {
        let mut slots = Slots::new(20);
        let host = origin("h");
        let drain = |slots: &mut Slots| std::iter::from_fn(|| slots.next()).count();
        for key in 0..1_000 {
            slots.ask(&host, ChannelKey(key));
        }
        assert_eq!(drain(&mut slots), 16);
        for _ in 0..16 {
            slots.release(&host, Feedback::Overloaded);
        }
        assert_eq!(drain(&mut slots), 1, "never below one");
        for _ in 0..2_000 {
            slots.release(&host, Feedback::Healthy);
            slots.next();
        }
        slots.release(&host, Feedback::Neutral);
        assert!(slots.in_flight() <= 20 && slots.in_flight() + drain(&mut slots) <= 20);
    }

    #[test]
    fn the_global_limit_holds() {
        let mut slots = Slots::new(64);
        for key in 0..2_000 {
            slots.ask(&origin(&format!("h{key}")), ChannelKey(key));
        }
        let granted: Vec<_> = std::iter::from_fn(|| slots.next()).collect();
        assert_eq!(granted.len(), GLOBAL_MAX);
        slots.release(&granted[0].0, Feedback::Healthy);
        assert!(slots.next().is_some());
    }
}
