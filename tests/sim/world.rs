//! The world around one lane: a log, a store, a pool of slots, a receiver and two clocks, all in memory. It does
//! what the driver does and writes down what happened; it judges nothing.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use watchpost::{
    domain::{
        channel::OnExhausted,
        cursor::Failing,
        outcome::{Verdict, of_status},
        settled::SettledMap,
        time::{Timestamp, millis_of},
    },
    engine::machine::{Action, Input, Lane, Outcome, Record, Terms},
};

use crate::{
    history::{Answer, AnswerKind, Change, History, Turn},
    transcript::{Event, Line, Request, Transcript},
};

/// Steps after which a healed world is not expected to be at rest any more.
const HEALING_STEPS_MAX: usize = 4_000;
const LIFETIME: Duration = Duration::from_hours(7 * 24);

#[derive(Debug)]
pub struct World {
    now: Timestamp,
    elapsed_ms: u64,
    /// The events after the sync, by name and state.
    kinds: Vec<u8>,
    filter: Option<u8>,
    stored: Stored,
    lane: Lane,
    slot_asked: bool,
    next_asked: bool,
    timers: BTreeSet<Timestamp>,
    flight: Option<Request>,
    unsaved: VecDeque<Record>,
    /// How many of this lane's outcomes are durable.
    saved: u64,
    gone: bool,
    transcript: Transcript,
}

/// What survives a crash.
#[derive(Debug)]
struct Stored {
    seq: i64,
    failing: Failing,
    last_success_at: Option<Timestamp>,
    terms: Terms,
}

/// Lives a history through, heals the world, and tells what happened.
pub fn live(history: History) -> Transcript {
    let turns = history.turns.clone();
    let mut world = World::open(history);
    for turn in turns {
        world.take(turn);
    }
    world.note(Event::Healed);
    world.heal();
    world.change(|terms, now| {
        terms.active = true;
        terms.expires_at = now.plus(LIFETIME + terms.schedule.longest_wait());
    });
    world.heal();
    world.transcript
}

impl World {
    fn open(history: History) -> Self {
        let History { start_seq, now, catch_up, schedule, filter, .. } = history;
        let terms = Terms {
            active: true,
            probing: false,
            reminded: false,
            reminders: Arc::default(),
            max_attempts: None,
            on_exhausted: OnExhausted::Suspend,
            judges_payload: false,
            rate_limit: None,
            // Suspension has tests of its own; here failures may last.
            window: std::time::Duration::MAX,
            expires_at: now.plus(LIFETIME),
            catch_up,
            schedule,
            filtered: filter.is_some(),
        };
        let stored = Stored {
            seq: start_seq - 1,
            failing: Failing::default(),
            last_success_at: None,
            terms: terms.clone(),
        };
        let lane = Lane::load(start_seq, start_seq, stored.seq, Failing::default(), None, terms);
        let mut world = Self {
            now,
            elapsed_ms: 0,
            kinds: Vec::new(),
            filter,
            stored,
            lane,
            slot_asked: false,
            next_asked: false,
            timers: BTreeSet::new(),
            flight: None,
            unsaved: VecDeque::new(),
            saved: 0,
            gone: false,
            transcript: Transcript { start_seq, lines: Vec::new() },
        };
        world.note(Event::Filtered(filter));
        world.load();
        world
    }

    fn note(&mut self, event: Event) {
        self.transcript.lines.push(Line { at: self.now, elapsed_ms: self.elapsed_ms, event });
    }

    fn head(&self) -> i64 {
        self.transcript.start_seq + i64::try_from(self.kinds.len()).unwrap_or(i64::MAX)
    }

    fn kind_of(&self, seq: i64) -> Option<u8> {
        let index = usize::try_from(seq - self.transcript.start_seq).ok()?.checked_sub(1)?;
        self.kinds.get(index).copied()
    }

    fn take(&mut self, turn: Turn) {
        match turn {
            Turn::Publish { kinds, heard } => {
                for kind in kinds {
                    self.kinds.push(kind);
                    self.note(Event::Appended { seq: self.head(), kind });
                }
                if heard {
                    self.hear(self.head());
                }
            }
            Turn::OldHead(ago) => self.hear(self.head().saturating_sub(ago)),
            Turn::Grant => self.grant(),
            Turn::Withdraw => {
                if let Some(request) = self.flight.take() {
                    self.note(Event::Withdrawn);
                    self.step(Input::NotSent(request.send.first));
                }
            }
            Turn::Look(far) => self.look(far),
            Turn::Answer(answer) => self.answer(&answer),
            Turn::Commit(records) => self.commit(records),
            Turn::TellSaved => self.tell_saved(),
            Turn::Pass(millis) => self.pass(millis),
            Turn::PassToTimer { early } => {
                if let Some(timer) = self.next_timer() {
                    self.pass(self.millis_until(timer).saturating_sub(u64::from(early)));
                    self.step(Input::Time);
                }
            }
            Turn::PassToExpiry { early } => {
                self.pass(self.millis_until(self.stored.terms.expires_at).saturating_sub(u64::from(early)));
            }
            Turn::Poke => self.step(Input::Time),
            Turn::Jump(millis) => {
                self.now = Timestamp::from_millis(self.now.as_millis().saturating_add(millis));
                self.note(Event::Jumped);
            }
            Turn::Crash { seen } => {
                self.note(Event::Crashed { seen: seen && self.flight.is_some() });
                self.load();
            }
            Turn::Unload => {
                if self.lane.is_at_rest() {
                    self.note(Event::Unloaded);
                    self.load();
                }
            }
            Turn::EndGone => {
                if self.gone {
                    self.gone = false;
                    self.change(|terms, _| terms.active = false);
                }
            }
            Turn::Change(Change::Readdress) => self.tell_terms(true),
            Turn::Change(Change::Filter(filter)) => self.replace_filter(filter),
            Turn::Change(change) => self.change(|terms, now| match change {
                Change::Active(active) => terms.active = active,
                Change::CatchUp(catch_up) => terms.catch_up = catch_up,
                Change::Schedule(schedule) => terms.schedule = schedule,
                Change::ExpiresIn(millis) => {
                    terms.expires_at = Timestamp::from_millis(now.as_millis().saturating_add(millis));
                }
                Change::Readdress | Change::Filter(_) => {}
            }),
        }
    }

    /// Makes a lane of what is stored and forgets what was in memory.
    fn load(&mut self) {
        self.slot_asked = false;
        self.next_asked = false;
        self.timers.clear();
        self.flight = None;
        self.unsaved.clear();
        self.saved = 0;
        let Stored { seq, failing, last_success_at, terms } = &self.stored;
        let (start_seq, head) = (self.transcript.start_seq, self.head());
        self.lane = Lane::load(start_seq, head, *seq, failing.clone(), *last_success_at, terms.clone());
        self.note(Event::Loaded { head, terms: self.stored.terms.clone() });
        self.step(Input::Time);
    }

    fn step(&mut self, input: Input) {
        for action in self.lane.step(input, self.now) {
            match action {
                Action::AskSlot => {
                    self.slot_asked = true;
                    self.note(Event::Asked);
                }
                Action::AskNext => self.next_asked = true,
                Action::Send(send) => {
                    let through = if send.pinned { send.through } else { self.run(send.first, send.through) };
                    let request = Request { send, through };
                    self.flight = Some(request);
                    self.note(Event::Sent(request));
                }
                Action::Record(record) => {
                    self.unsaved.push_back(record.clone());
                    self.note(Event::Recorded(record));
                }
                Action::WakeAt(at) => {
                    self.timers.insert(at);
                }
                Action::EndGone => self.gone = true,
                Action::Suspend { .. }
                | Action::Resume
                | Action::Tell { .. }
                | Action::AskNoticeSlot
                | Action::Ping
                | Action::Readdress => unreachable!("no window ends here, and nothing is told: {action:?}"),
            }
        }
    }

    /// The end of the run of events with one name and state that begins at `first`.
    fn run(&self, first: i64, last: i64) -> i64 {
        let mut through = first;
        while through < last
            && self.kind_of(first).is_some()
            && self.kind_of(through + 1) == self.kind_of(first)
        {
            through += 1;
        }
        through
    }

    fn hear(&mut self, head: i64) {
        self.note(Event::Heard(head));
        self.step(Input::Head(head));
    }

    fn grant(&mut self) {
        if self.slot_asked {
            self.slot_asked = false;
            self.note(Event::Granted);
            self.step(Input::Slot);
        }
    }

    /// Looks through the next `far` events for one that the channel wants.
    fn look(&mut self, far: i64) {
        if !std::mem::take(&mut self.next_asked) {
            return;
        }
        let after = self.lane.settled();
        let through = after.saturating_add(far).min(self.lane.head());
        let wanted = (after + 1..=through).find(|seq| self.kind_of(*seq) == self.filter);
        // Noted before anything follows from it.
        let passed = wanted.map_or(through, |wanted| wanted - 1);
        let takes = self.lane.is_asking() && self.lane.may_send(self.now) && self.stored.terms.filtered;
        if takes && passed > after {
            self.note(Event::Passed(passed));
        }
        self.step(Input::Next { wanted, through });
        self.follow();
    }

    /// The durable place follows a lane over what it did not want.
    fn follow(&mut self) {
        if self.lane.is_saved() && self.lane.settled() > self.stored.seq {
            self.note(Event::Followed);
            self.stored.seq = self.lane.settled();
            self.stored.failing = self.lane.place().failing;
        }
    }

    fn replace_filter(&mut self, filter: Option<u8>) {
        if self.filter != filter {
            self.filter = filter;
            self.note(Event::Filtered(filter));
            let seq = self.stored.seq;
            self.lane.look_again_after(seq, SettledMap::above(seq));
            if !self.lane.is_in_flight() && self.lane.is_saved() {
                self.note(Event::Passed(self.lane.settled()));
            }
            self.change(|terms, _| terms.filtered = filter.is_some());
        }
    }

    fn answer(&mut self, answer: &Answer) {
        let Some(request) = self.flight.take() else { return };
        let (verdict, status) = match answer.kind {
            AnswerKind::Status(status) => (of_status(status), Some(status)),
            AnswerKind::Unreachable => (Verdict::Failed, None),
            AnswerKind::TimedOut => (Verdict::Overloaded, None),
            AnswerKind::Forbidden => (Verdict::Forbidden, None),
            AnswerKind::Ours => (Verdict::Ours, None),
        };
        let retry_after = status.and(answer.retry_after);
        let through = request.through;
        let outcome = Outcome { through, verdict, status, retry_after, jitter: answer.jitter };
        self.note(Event::Concluded(request, outcome));
        self.step(Input::Outcome(outcome));
    }

    fn commit(&mut self, records: usize) {
        for record in self.unsaved.drain(..records.min(self.unsaved.len())).collect::<Vec<_>>() {
            self.saved = record.outcome;
            self.stored.seq = record.seq;
            self.stored.failing = record.failing;
            self.stored.last_success_at = record.last_success_at;
            self.note(Event::Saved);
        }
    }

    fn tell_saved(&mut self) {
        self.note(Event::ToldSaved(self.saved));
        self.step(Input::Saved(self.saved));
        self.follow();
    }

    fn change(&mut self, change: impl FnOnce(&mut Terms, Timestamp)) {
        let was_held = !self.stored.terms.active;
        change(&mut self.stored.terms, self.now);
        if was_held && self.stored.terms.active {
            // A resumption is a fresh start in the store as well, and no outcome from before undoes it.
            let unsaved = self.unsaved.iter_mut().map(|record| &mut record.failing);
            for failing in unsaved.chain([&mut self.stored.failing]) {
                (failing.since, failing.failures) = (None, 0);
            }
        }
        self.tell_terms(false);
    }

    fn tell_terms(&mut self, readdressed: bool) {
        let terms = self.stored.terms.clone();
        self.note(Event::Told { terms: terms.clone(), readdressed });
        self.step(Input::Changed { terms, readdressed });
    }

    fn pass(&mut self, millis: u64) {
        self.elapsed_ms += millis;
        self.now = self.now.plus(Duration::from_millis(millis));
    }

    fn millis_until(&self, at: Timestamp) -> u64 {
        u64::try_from(millis_of(at.since(self.now))).unwrap_or(u64::MAX)
    }

    fn next_timer(&self) -> Option<Timestamp> {
        self.timers.range(self.now.plus(Duration::from_millis(1))..).next().copied()
    }

    /// The receiver answers 200, every slot is granted and everything saved, until nothing happens any more.
    fn heal(&mut self) {
        let longest_ms = millis_of(self.stored.terms.schedule.longest_wait());
        let mut left_ms = u64::try_from(longest_ms).unwrap_or(0);
        let success = Answer { kind: AnswerKind::Status(200), retry_after: None, jitter: 0.0 };
        self.hear(self.head());
        for _ in 0..HEALING_STEPS_MAX {
            self.answer(&success);
            self.commit(usize::MAX);
            self.tell_saved();
            self.step(Input::Time);
            self.look(i64::MAX);
            self.grant();
            if self.flight.is_some() || self.slot_asked || self.next_asked {
                continue;
            }
            let Some(timer) = self.next_timer() else { break };
            let wait_ms = self.millis_until(timer);
            if wait_ms > left_ms {
                break;
            }
            left_ms -= wait_ms;
            self.pass(wait_ms);
        }
        self.note(Event::Rested);
    }
}
