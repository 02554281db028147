//! Slots: who may have a request in flight. A window per origin that grows with success and halves on overload
//! (AIMD), under a global limit. A slow or dead host uses up its own window and nothing else. Who has a slot may still
//! have to wait for the pace of its destination, which many origins can share.

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
    /// Origins that had their turn and were given a time for it.
    paused: BinaryHeap<Reverse<(Duration, Origin)>>,
    paces: Paces,
    in_flight: usize,
    window_max: f64,
}

#[derive(Debug)]
struct Window {
    size: f64,
    in_flight: u32,
    waiting: VecDeque<ChannelKey>,
    has_turn: bool,
    /// Its next turn has its time, which has come.
    is_timed: bool,
    /// Where its last connection led.
    reached: Option<Destination>,
}

impl Window {
    fn has_room(&self) -> bool {
        f64::from(self.in_flight) + 1.0 <= self.size
    }

    /// What its pace depends on: its name and, once it is known, the address behind it; nothing where the operator
    /// opened either.
    fn destinations<'a>(&'a self, origin: &'a Origin) -> impl Iterator<Item = &'a Destination> {
        let known = std::iter::once(origin.destination()).chain(&self.reached);
        let is_inside = known.clone().any(|destination| *destination == Destination::Inside);
        known.filter(move |_| !is_inside)
    }
}

impl Slots {
    pub fn new(window_max: u32, destination_rate: Option<NonZeroU32>) -> Self {
        Self {
            origins: HashMap::new(),
            turns: VecDeque::new(),
            paused: BinaryHeap::new(),
            paces: Paces::new(destination_rate),
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
            is_timed: false,
            reached: None,
        });
        window.waiting.push_back(channel);
        Self::give_turn(&mut self.turns, origin, window);
    }

    /// When an origin that waits for its destination's pace goes on, on the clock of [`next`](Self::next).
    pub fn paused_until(&self) -> Option<Duration> {
        self.paused.peek().map(|Reverse((until, _))| *until)
    }

    /// Where a connection to this origin has led.
    pub fn learn(&mut self, origin: &Origin, reached: &Destination) {
        if let Some(window) = self.origins.get_mut(origin) {
            window.reached = Some(reached.clone());
        }
    }

    /// The next channel that may send. It holds a slot of `origin` until [`release`](Self::release).
    pub fn next(&mut self, now: Duration) -> Option<(Origin, ChannelKey)> {
        self.end_pauses(now);
        while self.in_flight < GLOBAL_MAX {
            let origin = self.turns.pop_front()?;
            let Some(window) = self.origins.get_mut(&origin) else { continue };
            window.has_turn = false;
            if !window.has_room() || window.waiting.is_empty() {
                continue;
            }
            if !std::mem::take(&mut window.is_timed) {
                let at = self.paces.take(window.destinations(&origin), now);
                if at > now {
                    window.has_turn = true;
                    self.paused.push(Reverse((at, origin)));
                    continue;
                }
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

    fn end_pauses(&mut self, now: Duration) {
        while self.paused_until().is_some_and(|until| until <= now) {
            let Some(Reverse((_, origin))) = self.paused.pop() else { return };
            if let Some(window) = self.origins.get_mut(&origin) {
                window.is_timed = true;
                self.turns.push_back(origin);
            }
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
    use crate::outbound::EgressPolicy;

    fn origin(name: &str) -> Origin {
        Origin::named(name)
    }

    #[test]
    fn a_full_origin_stops_nobody_else() {
        let mut slots = Slots::new(64, None);
        for key in 0..100 {
            slots.ask(&origin("slow"), ChannelKey(key));
        }
        slots.ask(&origin("fast"), ChannelKey(1_000));
        let granted: Vec<_> = std::iter::from_fn(|| slots.next(Duration::ZERO)).collect();
        assert_eq!(granted.len(), 17, "16 of the slow one's window, and the fast one");
        assert_eq!(granted[1].1, ChannelKey(1_000), "origins take turns");
        slots.release(&origin("slow"), Feedback::Healthy);
        assert_eq!(
            slots.next(Duration::ZERO).map(|(_, key)| key),
            Some(ChannelKey(16)),
            "first come, first served"
        );
        assert_eq!(slots.next(Duration::ZERO), None);
    }

    #[test]
    fn windows_grow_slowly_and_halve_at_once() {
        let mut slots = Slots::new(20, None);
        let host = origin("h");
        let drain = |slots: &mut Slots| std::iter::from_fn(|| slots.next(Duration::ZERO)).count();
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
            slots.next(Duration::ZERO);
        }
        slots.release(&host, Feedback::Neutral);
        assert!(slots.in_flight() <= 20 && slots.in_flight() + drain(&mut slots) <= 20);
    }

    #[test]
    fn the_global_limit_holds() {
        let mut slots = Slots::new(64, None);
        for key in 0..2_000 {
            slots.ask(&origin(&format!("h{key}")), ChannelKey(key));
        }
        let granted: Vec<_> = std::iter::from_fn(|| slots.next(Duration::ZERO)).collect();
        assert_eq!(granted.len(), GLOBAL_MAX);
        slots.release(&granted[0].0, Feedback::Healthy);
        assert!(slots.next(Duration::ZERO).is_some());
    }

    #[test]
    fn a_destination_has_its_pace_over_all_its_origins_and_nobody_loses_a_turn() {
        let mut slots = Slots::new(64, NonZeroU32::new(2));
        let policy = EgressPolicy::default();
        let of = |host: &str| policy.judge(&format!("https://{host}/")).unwrap().origin().clone();
        let hosts = ["a.victim.com", "b.victim.com", "c.victim.com"].map(of);
        for key in 0..9 {
            slots.ask(&hosts[usize::try_from(key % 3).unwrap()], ChannelKey(key));
        }
        slots.ask(&of("shop.com"), ChannelKey(100));
        slots.ask(&origin("opened by the operator"), ChannelKey(101));
        let mut now = Duration::from_hours(1);
        let drain = |slots: &mut Slots, now| {
            std::iter::from_fn(|| slots.next(now)).map(|(_, key)| key.0).collect::<Vec<_>>()
        };
        assert_eq!(drain(&mut slots, now), [0, 1, 100, 101], "a burst, and who goes elsewhere");
        let mut left = Vec::new();
        let start = now;
        while let Some(until) = slots.paused_until() {
            now = until;
            left.extend(
                drain(&mut slots, now).into_iter().map(|key| (key, now.saturating_sub(start).as_millis())),
            );
        }
        let times: Vec<u128> = left.iter().map(|(_, at)| *at).collect();
        assert_eq!(times, [500, 1_000, 1_500, 2_000, 2_500, 3_000, 3_500]);
        let mut keys: Vec<i64> = left.iter().map(|(key, _)| *key).collect();
        keys.sort_unstable();
        assert_eq!(keys, [2, 3, 4, 5, 6, 7, 8]);
    }

    #[test]
    fn names_that_lead_to_one_address_share_its_pace() {
        let mut slots = Slots::new(64, NonZeroU32::new(1));
        let policy = EgressPolicy::default();
        let of = |host: &str| policy.judge(&format!("https://{host}/")).unwrap().origin().clone();
        let (one, two) = (of("one.com"), of("two.com"));
        let now = Duration::from_hours(1);
        for (host, key) in [(&one, 1), (&two, 2)] {
            slots.ask(host, ChannelKey(key));
            assert!(slots.next(now).is_some());
            slots.learn(host, &Destination::of_ip([8, 8, 8, 8].into()));
        }
        let now = now + Duration::from_secs(10);
        slots.ask(&one, ChannelKey(3));
        slots.ask(&two, ChannelKey(4));
        assert!(slots.next(now).is_some() && slots.next(now).is_none());
        assert_eq!(slots.paused_until(), Some(now + Duration::from_secs(1)));
        for host in [&one, &two] {
            slots.learn(host, &Destination::Inside);
        }
        slots.ask(&one, ChannelKey(5));
        assert!(slots.next(now).is_some(), "the operator has opened what it leads to");
    }
}
