//! The world around a lane with a window: a log, a store, a receiver and a clock, in memory.

use std::collections::{BTreeMap, VecDeque};

use super::*;
use crate::{
    domain::{cursor::Failing, outcome::Verdict},
    engine::machine::{Action, Input, Outcome, Record, Send},
};

/// Turns after which a healed world has to be at rest.
const HEALING_MAX: usize = 20_000;

#[derive(Debug)]
pub(super) struct World {
    now: Timestamp,
    pub head: i64,
    filtered: bool,
    terms: Terms,
    pub lane: Lane,
    slots: usize,
    asks: bool,
    timers: Vec<Timestamp>,
    flights: Vec<Send>,
    /// Records on their way, with the `moved` that they belong to.
    records: VecDeque<(i64, Record)>,
    told_moved: i64,
    /// What survives a crash.
    pub stored: Stored,
    /// What was answered with a 2xx, and the outcome's number; not what may be repeated.
    pub had: BTreeMap<i64, u64>,
    /// What ended otherwise: acknowledged, parked, superseded.
    pub over: BTreeSet<i64>,
    /// Up to where everything was acknowledged since the last replay.
    acknowledged: i64,
}

#[derive(Debug)]
pub(super) struct Stored {
    pub seq: i64,
    moved: i64,
    failing: Failing,
    pub map: Option<Vec<u8>>,
    pub retries: BTreeMap<i64, Retry>,
    parked: BTreeSet<i64>,
    saved: u64,
}

impl World {
    pub fn open(terms: Terms) -> Self {
        let stored = Stored {
            seq: START_SEQ - 1,
            moved: 0,
            failing: Failing::default(),
            map: None,
            retries: BTreeMap::new(),
            parked: BTreeSet::new(),
            saved: 0,
        };
        let filtered = terms.filtered;
        let lane = Lane::load(START_SEQ, START_SEQ, stored.seq, Failing::default(), None, terms.clone());
        let mut world = Self {
            now: NOW,
            head: START_SEQ,
            filtered,
            terms,
            lane,
            slots: 0,
            asks: false,
            timers: Vec::new(),
            flights: Vec::new(),
            records: VecDeque::new(),
            told_moved: 0,
            stored,
            had: BTreeMap::new(),
            over: BTreeSet::new(),
            acknowledged: 0,
        };
        world.load();
        world
    }

    pub fn wants(&self, seq: i64) -> bool {
        !self.filtered || seq % 3 != 0 || seq == START_SEQ
    }

    fn load(&mut self) {
        (self.slots, self.asks) = (0, false);
        self.timers.clear();
        self.flights.clear();
        self.records.clear();
        // Outcomes that are not durable may come again.
        let saved = self.stored.saved;
        self.had.retain(|_, outcome| *outcome <= saved);
        for outcome in self.had.values_mut() {
            *outcome = 0;
        }
        let Stored { seq, failing, map, retries, .. } = &self.stored;
        let map = map.as_ref().map_or(SettledMap::above(*seq), |map| SettledMap::from_bytes(map, *seq));
        self.lane = Lane::load(START_SEQ, self.head, *seq, failing.clone(), None, self.terms.clone());
        let retries: Vec<Retry> = retries.values().copied().collect();
        self.lane.open_window(map, &retries);
        self.stored.saved = 0;
        self.told_moved = self.stored.moved;
        self.step(Input::Time);
    }

    fn step(&mut self, input: Input) {
        let actions = self.lane.step(input, self.now);
        for action in actions {
            match action {
                Action::AskSlot => self.slots += 1,
                Action::AskNext => self.asks = true,
                Action::Send(send) => self.sent(send),
                Action::Record(record) => self.records.push_back((self.told_moved, record)),
                Action::WakeAt(at) => {
                    assert!(at > self.now, "it wakes itself at once");
                    self.timers.push(at);
                }
                Action::Suspend { .. } => self.turn(true),
                Action::Resume => self.turn(false),
                Action::Ping => {}
                other => panic!("{other:?}"),
            }
        }
        let window = self.lane.window.as_ref().unwrap();
        assert!(window.retries.len() <= RETRIES_MAX, "too many retries");
        assert!(self.slots <= 2 * WINDOW, "too many slots are asked for");
    }

    fn sent(&mut self, mut send: Send) {
        if !send.pinned && send.through > send.first {
            // Runs of two.
            send.through = send.through.min(send.first | 1);
        }
        let Send { first, through, .. } = send;
        for seq in first..=through {
            assert!(self.wants(seq) || through > first, "{seq} is not wanted");
            let flies = self.flights.iter().any(|flight| (flight.first..=flight.through).contains(&seq));
            assert!(!flies, "{seq} is on its way already");
        }
        assert!(!self.had.contains_key(&through), "{through} is sent again");
        assert!(!self.stored.parked.contains(&through), "{through} is parked");
        assert!(through > self.acknowledged, "{through} was acknowledged");
        assert!(through <= self.lane.settled() + AHEAD_MAX, "{through} is too far ahead");
        self.flights.push(send);
        assert!(self.flights.len() <= WINDOW);
        let unsaved = usize::try_from(self.lane.outcomes - self.lane.saved).unwrap();
        assert!(self.flights.len() + unsaved <= WINDOW + 1, "too much would be repeated");
        if first == START_SEQ || self.lane.is_slow() {
            assert_eq!(self.flights.len(), 1, "alone");
        }
    }

    /// The channel is suspended or resumed in the store, which is told back.
    fn turn(&mut self, probing: bool) {
        self.terms.probing = probing;
        if probing {
            self.stored.moved += 1;
        }
    }

    fn hear(&mut self, rewound: bool) {
        let moved = self.told_moved != self.stored.moved;
        self.told_moved = self.stored.moved;
        if moved {
            let seq = self.stored.seq;
            self.lane.keep_retries(seq, &self.stored.retries.keys().copied().collect());
            self.step(if rewound { Input::Rewound(seq) } else { Input::Moved(seq) });
        }
        self.step(Input::Changed { terms: self.terms.clone(), readdressed: false });
        if moved {
            self.write_place();
        }
    }

    /// Where the lane stands, and what it has set aside since the store last heard.
    fn write_place(&mut self) {
        self.records.extend(self.lane.way_here().map(|record| (self.told_moved, record)));
    }

    fn answer(&mut self, at: usize, status: u16) {
        if self.flights.is_empty() {
            return;
        }
        let send = self.flights.remove(at % self.flights.len());
        let verdict = crate::domain::outcome::of_status(status);
        let outcome =
            Outcome { through: send.through, verdict, status: Some(status), retry_after: None, jitter: 0.5 };
        let open = self.is_open(send);
        self.step(Input::Outcome(outcome));
        if verdict == Verdict::Delivered && open {
            self.had.insert(send.through, self.lane.outcomes);
        }
        if open && send.through > send.first {
            self.over.extend(send.first..send.through);
        }
        for changed in self.lane.window.as_ref().unwrap().changes.values() {
            if let Change::Parked(parking) = changed.1 {
                self.over.insert(parking.seq);
            }
        }
    }

    fn is_open(&self, send: Send) -> bool {
        let window = self.lane.window.as_ref().unwrap();
        if send.through == START_SEQ {
            return send.first == self.lane.settled() + 1;
        }
        let ahead = send.first > self.lane.settled()
            && !window.done.contains(send.first)
            && send.through <= self.lane.settled() + AHEAD_MAX;
        ahead || window.retries.contains_key(&send.through)
    }

    fn commit(&mut self, count: usize) {
        for (moved, record) in self.records.drain(..count.min(self.records.len())).collect::<Vec<_>>() {
            if moved != self.stored.moved {
                continue;
            }
            let beside = record.beside.unwrap();
            self.stored.seq = record.seq;
            self.stored.failing = record.failing;
            self.stored.map = beside.settled.to_bytes();
            for changed in beside.changes {
                match changed.change {
                    Change::Retry(retry) => {
                        self.stored.retries.insert(retry.seq, retry);
                    }
                    Change::Settled => {
                        self.stored.retries.remove(&changed.seq);
                    }
                    Change::Parked(parking) => {
                        self.stored.retries.remove(&parking.seq);
                        self.stored.parked.insert(parking.seq);
                    }
                }
            }
            if let Some(parking) = record.parked {
                self.stored.parked.insert(parking.seq);
                self.over.insert(parking.seq);
            }
            let is_open = !self.stored.retries.is_empty() || self.stored.map.is_some();
            assert!(!is_open || beside.is_open, "the row has to say that something is open");
            assert!(self.stored.retries.len() <= RETRIES_MAX);
            self.stored.saved = record.outcome;
        }
    }

    fn look(&mut self) {
        if !std::mem::take(&mut self.asks) || !self.lane.is_asking() {
            return;
        }
        let after = self.lane.asks_after();
        let through = (after + 70).min(self.head);
        let wanted = (after + 1..=through).find(|seq| self.wants(*seq));
        self.step(Input::Next { wanted, through: wanted.unwrap_or(through) });
    }

    pub fn take(&mut self, turn: Turn) {
        match turn {
            Turn::Publish(count) => {
                self.head += count;
                self.step(Input::Head(self.head));
            }
            Turn::Grant(count) => {
                for _ in 0..count.min(self.slots) {
                    self.slots -= 1;
                    self.step(Input::Slot);
                }
            }
            Turn::Answer(at, status) => self.answer(at, status),
            Turn::Ours(at) if !self.flights.is_empty() => {
                let send = self.flights.remove(at % self.flights.len());
                let (through, verdict) = (send.first, Verdict::Ours);
                let jitter = 0.5;
                self.step(Input::Outcome(Outcome {
                    through,
                    verdict,
                    status: None,
                    retry_after: None,
                    jitter,
                }));
            }
            Turn::Withdraw(at) if !self.flights.is_empty() => {
                let send = self.flights.remove(at % self.flights.len());
                self.step(Input::NotSent(send.first));
            }
            Turn::Ours(_) | Turn::Withdraw(_) => {}
            Turn::Look => self.look(),
            Turn::Commit(count) => self.commit(count),
            Turn::TellSaved => self.step(Input::Saved(self.stored.saved)),
            Turn::Pass(millis) => self.now = self.now.plus(Duration::from_millis(millis)),
            Turn::PassToTimer => {
                if let Some(at) = self.timers.iter().filter(|at| **at > self.now).min() {
                    self.now = *at;
                }
                self.step(Input::Time);
            }
            Turn::Ack(by) => {
                let seq = (self.stored.seq + by).min(self.head);
                if seq > self.stored.seq {
                    self.stored.seq = seq;
                    self.stored.failing = Failing::default();
                }
                self.stored.retries.retain(|at, _| *at > seq);
                self.stored.moved += 1;
                self.over.extend(START_SEQ..=seq);
                self.acknowledged = self.acknowledged.max(seq);
                self.hear(false);
            }
            Turn::Replay(by) => {
                let seq = (self.stored.seq - by).max(START_SEQ - 1).min(self.stored.seq);
                self.stored.seq = seq;
                self.stored.map = None;
                self.stored.retries.retain(|at, _| *at <= seq);
                self.stored.parked.retain(|at| *at <= seq);
                self.stored.moved += 1;
                self.had.retain(|at, _| *at <= seq);
                self.over.retain(|at| *at <= seq);
                self.acknowledged = self.acknowledged.min(seq);
                self.hear(true);
            }
            Turn::Pause => {
                self.stored.moved += 1;
                self.terms.active = false;
                self.hear(false);
                self.terms.active = true;
                self.hear(false);
            }
            Turn::Crash => self.load(),
        }
        if self.terms.probing != self.lane.terms.probing || self.told_moved != self.stored.moved {
            self.hear(false);
        }
    }

    /// The receiver works and everything is saved, until nothing happens any more.
    pub fn heal(&mut self) {
        for _ in 0..HEALING_MAX {
            while !self.flights.is_empty() {
                self.answer(0, 200);
            }
            self.take(Turn::Commit(usize::MAX));
            self.take(Turn::TellSaved);
            self.look();
            self.take(Turn::Grant(usize::MAX));
            if self.flights.is_empty() && self.slots == 0 && !self.asks && self.records.is_empty() {
                let before = self.now;
                self.take(Turn::PassToTimer);
                if before == self.now && self.slots == 0 && !self.asks {
                    // The place follows over what the filter does not want.
                    self.records.push_back((self.told_moved, self.lane.place()));
                    self.commit(1);
                    return;
                }
            }
        }
        panic!("it does not come to rest: {:?}", self.lane);
    }
}
