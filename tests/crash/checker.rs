//! The judge's mind: which promises a history breaks. Pure, so that forged histories can test it.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::history::{Answer, Attempt, Channel, End, Event, Fate, History, Publish, Request};

/// What a kill may repeat of one channel: four outcomes that were not yet durable and one request in flight.
pub const REPEATS_MAX: i64 = 5;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// An acknowledged event is not where its acknowledgement says, or not at all, in the log.
    AcknowledgedIsStored,
    /// An acknowledged event never reached a channel.
    AcknowledgedIsDelivered,
    /// The log holds, or a receiver saw, what nobody published.
    NoPhantom,
    /// What was refused took effect.
    RefusedIsNothing,
    /// One event id took effect twice.
    OncePerId,
    /// A batch took effect in part.
    BatchIsAtomic,
    /// The log has a hole.
    LogIsDense,
    /// A publisher's later event stands before its earlier one.
    PublisherOrder,
    /// n + 1 was sent before n was terminal, or a number was left out.
    Order,
    /// First successes do not rise one by one.
    FirstSuccessesRise,
    /// A repetition that no kill explains.
    NoDuplicate,
    /// A kill repeated more than it may.
    RepeatsAreBounded,
    /// A number stands for another seq than before, or for another than the channel's start says.
    NumberIsSeq,
    /// A notification is about another event than the log has there.
    RightEvent,
    RightPayload,
    Signed,
    AttemptsCount,
    PreviousIsBefore,
    WellFormed,
    /// An old token after a newer one, or after a crash that the change was acknowledged before.
    ChangesLast,
    /// A request of a channel whose end was acknowledged.
    StopsLast,
    /// A request that had to be in the ledger is not.
    LedgerIsComplete,
    /// The ledger tells of a request that nobody saw.
    LedgerIsTrue,
}

#[derive(Clone, Debug)]
pub struct Violation {
    pub rule: Rule,
    pub detail: String,
}

/// What the figures at the end say.
#[derive(Clone, Copy, Debug, Default)]
pub struct Figures {
    pub acknowledged: usize,
    pub unknown: usize,
    pub requests: usize,
    pub delivered: usize,
    pub duplicates: usize,
    /// The most that one kill repeated of one channel.
    pub repeats_most: i64,
    pub not_in_ledger: usize,
}

/// Everything that the history breaks, and its figures.
pub fn check(history: &History) -> (Vec<Violation>, Figures) {
    let mut judge =
        Judge { history, intents: intents(history), violations: Vec::new(), figures: Figures::default() };
    judge.log();
    let requests = by_channel(history);
    let known: HashSet<&str> = history.channels.iter().map(|channel| channel.id.as_str()).collect();
    for id in requests.keys().filter(|id| !known.contains(*id)) {
        judge.broken(Rule::NoPhantom, format!("requests for the channel {id}, which nobody opened"));
    }
    for channel in &history.channels {
        let requests = requests.get(channel.id.as_str()).map_or(&[][..], Vec::as_slice);
        judge.channel(channel, requests);
    }
    (judge.violations, judge.figures)
}

/// Per channel, in the order of sending: a request of a killed process may be read after one of its successor.
fn by_channel(history: &History) -> BTreeMap<&str, Vec<(usize, &Request)>> {
    let mut requests: BTreeMap<&str, Vec<(usize, &Request)>> = BTreeMap::new();
    for (at, request) in history.requests.iter().enumerate() {
        requests.entry(&request.channel).or_default().push((at, request));
    }
    for requests in requests.values_mut() {
        requests.sort_by_key(|(at, request)| (request.incarnation, *at));
    }
    requests
}

fn intents(history: &History) -> HashMap<&str, (&Publish, &Event)> {
    let mut intents = HashMap::new();
    for publish in &history.publishes {
        intents.extend(publish.events.iter().map(|event| (event.id.as_str(), (publish, event))));
    }
    intents
}

struct Judge<'h> {
    history: &'h History,
    intents: HashMap<&'h str, (&'h Publish, &'h Event)>,
    violations: Vec<Violation>,
    figures: Figures,
}

impl<'h> Judge<'h> {
    fn broken(&mut self, rule: Rule, detail: String) {
        self.violations.push(Violation { rule, detail });
    }

    /// Publishers against the log.
    fn log(&mut self) {
        let mut places: HashMap<&str, (&str, i64)> = HashMap::new();
        for (resource, feed) in &self.history.feeds {
            for (at, event) in feed.iter().enumerate() {
                let (id, seq) = (event.id.as_str(), event.seq);
                if seq != i64::try_from(at).unwrap() + 1 {
                    self.broken(Rule::LogIsDense, format!("{resource} has seq {seq} in place {}", at + 1));
                }
                match self.intents.get(id).copied() {
                    None => {
                        self.broken(Rule::NoPhantom, format!("{resource} #{seq} is {id}, never published"));
                    }
                    Some((_, intent)) if intent.resource != *resource => {
                        self.broken(Rule::NoPhantom, format!("{id} was published to {}", intent.resource));
                    }
                    Some((publish, _)) if publish.fate == Fate::Refused => {
                        self.broken(
                            Rule::RefusedIsNothing,
                            format!("{id} was refused and is {resource} #{seq}"),
                        );
                    }
                    Some(_) => {}
                }
                if let Some((_, first)) = places.insert(id, (resource, seq)) {
                    self.broken(Rule::OncePerId, format!("{id} is {resource} #{first} and #{seq}"));
                }
            }
        }
        let mut last: HashMap<(usize, &str), i64> = HashMap::new();
        for publish in &self.history.publishes {
            let stored = publish.events.iter().filter(|event| places.contains_key(event.id.as_str())).count();
            if stored != 0 && stored != publish.events.len() {
                let first = &publish.events[0].id;
                self.broken(
                    Rule::BatchIsAtomic,
                    format!("{stored} of {} events of the batch of {first}", publish.events.len()),
                );
            }
            let Fate::Acknowledged(seqs) = &publish.fate else {
                self.figures.unknown += usize::from(publish.fate == Fate::Unknown);
                continue;
            };
            self.figures.acknowledged += seqs.len();
            for (event, seq) in publish.events.iter().zip(seqs) {
                let found = places.get(event.id.as_str());
                if found != Some(&(event.resource.as_str(), *seq)) {
                    self.broken(
                        Rule::AcknowledgedIsStored,
                        format!(
                            "{} was acknowledged as {} #{seq}, the log has {found:?}",
                            event.id, event.resource
                        ),
                    );
                }
                let before = last.insert((publish.publisher, &event.resource), *seq);
                if before.is_some_and(|before| before >= *seq) {
                    self.broken(
                        Rule::PublisherOrder,
                        format!("{} is {} #{seq}, after {before:?}", event.id, event.resource),
                    );
                }
            }
        }
    }

    /// The receiver and the ledger against the log, for one channel.
    fn channel(&mut self, channel: &Channel, requests: &[(usize, &'h Request)]) {
        self.figures.requests += requests.len();
        for (_, request) in requests {
            self.request(channel, request);
        }
        self.places(channel, requests);
        self.walk(channel, requests);
        self.first_successes(channel, requests);
        self.completeness(channel, requests);
        self.changes(channel, requests);
        self.stop(channel, requests);
        self.ledger(channel, requests);
    }

    /// What one request says by itself.
    fn request(&mut self, channel: &Channel, request: &Request) {
        let name = name(channel, request);
        if let Some(fault) = &request.fault {
            self.broken(Rule::WellFormed, format!("{name}: {fault}"));
        }
        if channel.full && !request.signed {
            self.broken(Rule::Signed, name.clone());
        }
        if request.previous.unwrap_or(0) != request.number - 1 {
            self.broken(Rule::PreviousIsBefore, format!("{name}: previous {:?}", request.previous));
        }
        let Some(id) = &request.event else {
            if request.number != 1 {
                self.broken(Rule::RightEvent, format!("{name} names no event"));
            }
            return;
        };
        let at = request.seq.checked_sub(1).and_then(|at| usize::try_from(at).ok());
        let stored = self.history.feeds.get(&channel.resource).zip(at).and_then(|(feed, at)| feed.get(at));
        if stored.map(|event| &event.id) != Some(id) {
            self.broken(Rule::RightEvent, format!("{name} is {id}, the log has {stored:?}"));
        }
        let Some((_, intent)) = self.intents.get(id.as_str()).copied() else {
            return self.broken(Rule::NoPhantom, format!("{name} is {id}, which nobody published"));
        };
        let expected = channel.full.then_some(&intent.data);
        if request.data.as_ref() != expected {
            self.broken(Rule::RightPayload, format!("{name}: {:?} instead of {expected:?}", request.data));
        }
    }

    /// A number stands for one seq, whichever process sends it.
    fn places(&mut self, channel: &Channel, requests: &[(usize, &Request)]) {
        let Some((_, first)) = requests.first() else { return };
        let start = channel.start.unwrap_or(first.seq - first.number + 1);
        for (_, request) in requests {
            if request.seq - request.number + 1 != start {
                self.broken(
                    Rule::NumberIsSeq,
                    format!(
                        "{} is seq {}, the channel starts at {start}",
                        name(channel, request),
                        request.seq
                    ),
                );
            }
        }
    }

    /// One request after the other: order, repetitions, counting of attempts.
    fn walk(&mut self, channel: &Channel, requests: &[(usize, &Request)]) {
        let mut tried: HashMap<i64, u32> = HashMap::new();
        // The earlier process's first number and, beyond it, its highest success.
        let mut before: Option<(usize, i64, i64)> = None;
        for run in requests.chunk_by(|(_, left), (_, right)| left.incarnation == right.incarnation) {
            let (_, first) = run[0];
            let (lowest, highest) = before.map_or((1, 1), |(incarnation, first, success)| {
                let killed = self.history.ends[incarnation] == End::Killed;
                let repeats = if killed { REPEATS_MAX } else { 0 };
                ((success + 1 - repeats).max(first), success + 1)
            });
            if first.number > highest {
                self.broken(Rule::Order, format!("{}: {highest} had to come first", name(channel, first)));
            }
            if first.number < lowest {
                let rule = match before {
                    Some((incarnation, ..)) if self.history.ends[incarnation] == End::Killed => {
                        Rule::RepeatsAreBounded
                    }
                    _ => Rule::NoDuplicate,
                };
                self.broken(rule, format!("{}: not below {lowest} after the last end", name(channel, first)));
            }
            self.figures.repeats_most = self.figures.repeats_most.max(highest - first.number);
            if first.attempt > tried.get(&first.number).copied().unwrap_or(0) + 1 {
                self.broken(Rule::AttemptsCount, format!("{}: too far ahead", name(channel, first)));
            }
            for pair in run.windows(2) {
                let ((_, earlier), (_, later)) = (pair[0], pair[1]);
                self.follow(channel, earlier, later);
            }
            let mut success = first.number - 1;
            for (_, request) in run {
                let highest = tried.entry(request.number).or_default();
                *highest = request.attempt.max(*highest);
                if request.answer.is_success() {
                    success = success.max(request.number);
                }
            }
            before = Some((first.incarnation, first.number, success));
        }
    }

    /// Two requests in a row of one process.
    fn follow(&mut self, channel: &Channel, earlier: &Request, later: &Request) {
        let name = name(channel, later);
        let due = if earlier.answer.is_success() { earlier.number + 1 } else { earlier.number };
        if later.number > due {
            return self
                .broken(Rule::Order, format!("{name} followed {:?} to {}", earlier.answer, earlier.number));
        }
        if later.number < due {
            return self.broken(Rule::NoDuplicate, format!("{name} came again, {due} was due"));
        }
        let expected = if earlier.answer.is_success() { 1 } else { earlier.attempt + 1 };
        if later.attempt != expected {
            self.broken(Rule::AttemptsCount, format!("{name}: attempt {expected} was due"));
        }
    }

    /// Told a second way: numbers of first successes are 1, 2, 3, …
    fn first_successes(&mut self, channel: &Channel, requests: &[(usize, &Request)]) {
        let mut seen = HashSet::new();
        let mut last = 0;
        for (_, request) in requests.iter().filter(|(_, request)| request.answer.is_success()) {
            if !seen.insert(request.number) {
                self.figures.duplicates += 1;
                continue;
            }
            self.figures.delivered += 1;
            if request.number != last + 1 {
                self.broken(
                    Rule::FirstSuccessesRise,
                    format!("{} succeeded first after {last}", name(channel, request)),
                );
            }
            last = request.number;
        }
    }

    /// What was acknowledged reached the channel, unless its owner ended it.
    fn completeness(&mut self, channel: &Channel, requests: &[(usize, &Request)]) {
        if channel.stop.is_some() {
            return;
        }
        let successes = requests.iter().filter(|(_, request)| request.answer.is_success());
        let had: HashSet<i64> = successes.map(|(_, request)| request.seq).collect();
        let start = channel.start.or_else(|| requests.first().map(|(_, first)| first.seq - first.number + 1));
        let Some(start) = start.filter(|start| had.contains(start)) else {
            return self.broken(Rule::AcknowledgedIsDelivered, format!("{} never had its sync", channel.id));
        };
        let publishes = self.history.publishes.iter();
        let missing: Vec<String> = publishes
            .filter_map(|publish| match &publish.fate {
                Fate::Acknowledged(seqs) => Some(publish.events.iter().zip(seqs)),
                _ => None,
            })
            .flatten()
            .filter(|(event, seq)| event.resource == channel.resource && **seq > start && !had.contains(seq))
            .map(|(event, seq)| format!("{} (#{seq})", event.id))
            .collect();
        if !missing.is_empty() {
            let some = missing.iter().take(8).cloned().collect::<Vec<_>>().join(", ");
            self.broken(
                Rule::AcknowledgedIsDelivered,
                format!("{} misses {} events: {some}", channel.id, missing.len()),
            );
        }
    }

    /// A newer token is never followed by an older one, and an acknowledged one outlives its process.
    fn changes(&mut self, channel: &Channel, requests: &[(usize, &Request)]) {
        let mut newest = 0;
        for (_, request) in requests {
            let earlier = channel.tokens.iter().rposition(|incarnation| *incarnation < request.incarnation);
            let due = newest.max(earlier.unwrap_or(0));
            if request.token < due {
                let name = name(channel, request);
                self.broken(Rule::ChangesLast, format!("{name} has token {}, {due} was due", request.token));
            }
            newest = newest.max(request.token);
        }
    }

    /// After the acknowledged end, at most the one request that was in flight.
    fn stop(&mut self, channel: &Channel, requests: &[(usize, &Request)]) {
        let Some(stop) = channel.stop else { return };
        let late: Vec<_> = requests.iter().filter(|(at, _)| *at >= stop.requests).collect();
        let of_successors = late.iter().filter(|(_, request)| request.incarnation > stop.incarnation).count();
        let of_that_process =
            late.iter().filter(|(_, request)| request.incarnation == stop.incarnation).count();
        if of_successors > 0 || of_that_process > 1 {
            self.broken(
                Rule::StopsLast,
                format!(
                    "{}: {of_that_process} requests after its end, {of_successors} of later processes",
                    channel.id
                ),
            );
        }
    }

    /// The ledger lacks at most what each kill may have cut off, and tells of nothing else.
    fn ledger(&mut self, channel: &Channel, requests: &[(usize, &Request)]) {
        let mut seen: BTreeMap<Attempt, i64> = BTreeMap::new();
        let mut due: BTreeMap<Attempt, i64> = BTreeMap::new();
        for run in requests.chunk_by(|(_, left), (_, right)| left.incarnation == right.incarnation) {
            let killed = self.history.ends[run[0].1.incarnation] == End::Killed;
            let unsaved = if killed { usize::try_from(REPEATS_MAX).unwrap() } else { 0 };
            for (at, (_, request)) in run.iter().enumerate() {
                *seen.entry(attempt_of(request)).or_default() += 1;
                *due.entry(attempt_of(request)).or_default() += i64::from(at + unsaved < run.len());
            }
        }
        let mut told: BTreeMap<Attempt, i64> = BTreeMap::new();
        for attempt in self.history.ledgers.get(&channel.id).into_iter().flatten() {
            *told.entry(*attempt).or_default() += 1;
        }
        for (attempt, times) in &due {
            let found = told.get(attempt).copied().unwrap_or(0);
            if found < *times {
                self.broken(
                    Rule::LedgerIsComplete,
                    format!(
                        "{}: {attempt:?} happened {times} times for good, the ledger has {found}",
                        channel.id
                    ),
                );
            }
        }
        for (attempt, times) in &told {
            let found = seen.get(attempt).copied().unwrap_or(0);
            if found < *times {
                self.broken(
                    Rule::LedgerIsTrue,
                    format!("{}: {attempt:?} is told {times} times and was seen {found} times", channel.id),
                );
            }
        }
        self.figures.not_in_ledger +=
            requests.len().saturating_sub(self.history.ledgers.get(&channel.id).map_or(0, Vec::len));
    }
}

fn attempt_of(request: &Request) -> Attempt {
    Attempt { number: request.number, attempt: request.attempt, status: Answer::status(request.answer) }
}

fn name(channel: &Channel, request: &Request) -> String {
    format!(
        "{} message {} (process {}, attempt {})",
        channel.id, request.number, request.incarnation, request.attempt
    )
}
