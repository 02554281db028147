//! What is known of a channel at each line of its transcript, kept independently of the machine: its place in
//! memory, the place that is durable, and those in between.

use std::{collections::VecDeque, time::Duration};

use watchpost::{
    domain::{
        outcome::{Verdict, is_client_error},
        time::{Timestamp, millis_of},
    },
    engine::machine::{Outcome, SYNC_REFUSALS_MAX, Terms},
};

use crate::transcript::{Event, Line, Request, Transcript};

/// A place in the log, with the failures of its head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub settled: i64,
    /// The sync was set aside by the last outcome.
    pub parked: bool,
    pub attempts: u32,
    pub client_errors: u32,
    /// What the head's notification stands for, once it has been attempted.
    pub attempted: Option<i64>,
    /// The first failure since the last success.
    pub since: Option<Timestamp>,
    /// When a retry may leave, in real time; unknown once a clock has jumped.
    pub retry_at_ms: Option<u64>,
}

#[derive(Clone, Debug)]
pub struct Ledger {
    pub start_seq: i64,
    pub live: Place,
    pub durable: Place,
    pub unsaved: VecDeque<Place>,
    /// Outcomes that the lane has not been told to be durable.
    pub untold: u64,
    outcomes: u64,
    pub head: i64,
    pub terms: Option<Terms>,
    pub filter: Option<u8>,
    pub gone: bool,
    pub flight: Option<Request>,
    /// The address has changed since the request left.
    readdressed: bool,
    /// Our own failure holds the lane until then.
    pub held_until_ms: u64,
}

impl Ledger {
    fn new(start_seq: i64) -> Self {
        let place = Place {
            settled: start_seq - 1,
            parked: false,
            attempts: 0,
            client_errors: 0,
            attempted: None,
            since: None,
            retry_at_ms: None,
        };
        Self {
            start_seq,
            live: place.clone(),
            durable: place,
            unsaved: VecDeque::new(),
            untold: 0,
            outcomes: 0,
            head: start_seq,
            terms: None,
            filter: None,
            gone: false,
            flight: None,
            readdressed: false,
            held_until_ms: 0,
        }
    }

    pub fn may_send(&self, at: Timestamp) -> bool {
        !self.gone && self.terms.as_ref().is_some_and(|terms| terms.active && at < terms.expires_at)
    }

    fn take(&mut self, line: &Line) {
        match &line.event {
            Event::Loaded { head, terms } => {
                self.unsaved.clear();
                (self.untold, self.outcomes, self.held_until_ms) = (0, 0, 0);
                self.live = self.durable.clone();
                self.head = *head;
                self.terms = Some(terms.clone());
                self.gone = false;
                self.flight = None;
            }
            Event::Heard(head) => self.head = self.head.max(*head),
            Event::Told { terms, readdressed } => {
                let latest = line.elapsed_ms.saturating_add(millis(terms.schedule.longest_wait()));
                for place in self.unsaved.iter_mut().chain([&mut self.live, &mut self.durable]) {
                    place.retry_at_ms = place.retry_at_ms.map(|at| at.min(latest));
                }
                let was_held = self.terms.as_ref().is_some_and(|terms| !terms.active);
                if was_held && terms.active && !self.gone {
                    // A resumption is a fresh start.
                    self.live.retry_at_ms = None;
                    for place in self.unsaved.iter_mut().chain([&mut self.live, &mut self.durable]) {
                        place.since = None;
                    }
                }
                if *readdressed {
                    self.live.retry_at_ms = None;
                    self.readdressed = true;
                }
                self.terms = Some(terms.clone());
                self.gone = false;
            }
            Event::Sent(request) => {
                self.flight = Some(*request);
                self.readdressed = false;
            }
            Event::Withdrawn => self.flight = None,
            Event::Concluded(request, outcome) => self.conclude(*request, outcome, line.elapsed_ms, line.at),
            Event::Recorded(_) => {
                self.unsaved.push_back(self.live.clone());
                self.untold += 1;
                self.outcomes += 1;
            }
            Event::Saved => {
                if let Some(place) = self.unsaved.pop_front() {
                    self.durable = place;
                }
            }
            Event::Filtered(filter) => self.filter = *filter,
            Event::Passed(seq) => {
                if *seq > self.live.settled {
                    // Another head, but the receiver has not said 2xx.
                    let since = self.live.since;
                    self.live = Place { since, ..Self::new(self.start_seq).live };
                }
                self.live.settled = *seq;
            }
            Event::Followed => self.durable = self.live.clone(),
            Event::ToldSaved(saved) => self.untold = self.outcomes.saturating_sub(*saved),
            Event::Jumped => {
                for place in self.unsaved.iter_mut().chain([&mut self.live, &mut self.durable]) {
                    place.retry_at_ms = None;
                }
                self.held_until_ms = 0;
            }
            Event::Crashed { .. } => self.flight = None,
            Event::Appended { .. }
            | Event::Asked
            | Event::Granted
            | Event::Unloaded
            | Event::Healed
            | Event::Rested => {}
        }
    }

    fn conclude(&mut self, request: Request, outcome: &Outcome, elapsed_ms: u64, at: Timestamp) {
        self.flight = None;
        let place = &mut self.live;
        place.parked = false;
        match outcome.verdict {
            Verdict::Ours => {
                self.held_until_ms = elapsed_ms + 1_000;
                return;
            }
            Verdict::Delivered => {
                *place = Self::new(self.start_seq).live;
                place.settled = request.through;
                return;
            }
            // A receiver that was left cannot end the channel.
            Verdict::Gone => self.gone |= !self.readdressed,
            Verdict::Failed
            | Verdict::Overloaded
            | Verdict::Forbidden
            | Verdict::Refused
            | Verdict::Moved => {}
        }
        place.attempts += 1;
        place.client_errors += u32::from(outcome.status.is_some_and(is_client_error));
        place.attempted = Some(request.through);
        place.since.get_or_insert(at);
        let step = self.terms.as_ref().map(|terms| terms.schedule.after(place.attempts)).unwrap_or_default();
        let wait = step.max(outcome.retry_after.unwrap_or_default());
        let wait = if self.readdressed { Duration::ZERO } else { wait };
        place.retry_at_ms = Some(elapsed_ms.saturating_add(millis(wait)));
        if request.through == self.start_seq && place.client_errors >= SYNC_REFUSALS_MAX {
            let since = place.since;
            *place = Self::new(self.start_seq).live;
            (place.settled, place.parked, place.since) = (request.through, true, since);
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(millis_of(duration)).unwrap_or(0)
}

/// Shows every line to `check`, with what was known just before it.
pub fn walk(
    transcript: &Transcript,
    mut check: impl FnMut(&Ledger, &Line) -> Result<(), String>,
) -> Result<(), String> {
    let mut ledger = Ledger::new(transcript.start_seq);
    for (number, line) in transcript.lines.iter().enumerate() {
        check(&ledger, line).map_err(|broken| format!("line {number}: {broken}"))?;
        ledger.take(line);
    }
    Ok(())
}
