//! One life: its history, its model, and what was found different.

use std::fmt::{Debug, Display, Write as _};

use watchpost::{
    domain::{channel::ChannelState, cursor::Failing, time::Timestamp},
    store::{ChannelView, RecordedAttempt},
};

use crate::{
    base::Kind,
    channel::{Model, State},
    command::{About, Reply, Seen},
    coverage::Coverage,
    history::{Answer, History},
};

pub struct Life {
    pub history: History,
    pub model: Model,
    pub coverage: Coverage,
    /// Everything that happened, for whoever reads a failure.
    transcript: Vec<String>,
    /// What the receiver saw, with what it said, for the ledger.
    sent: Vec<(Seen, Answer)>,
    parked: Vec<i64>,
    differences: Vec<String>,
    /// A crash came between requests and the ledger.
    crashed_midway: bool,
    /// And between a 2xx and the end of a suspension.
    may_be_suspended: bool,
}

/// What a crash repeats of one channel: one in flight, and four unsaved.
const REPEATED_MAX: usize = 5;

/// A life that did not go as its model says.
#[derive(Debug)]
pub struct Broken {
    pub kind: Kind,
    pub seed: u64,
    pub index: u64,
    /// How many lives of the fleet broke in the same round.
    pub together: usize,
    story: String,
}

impl Life {
    pub fn new(history: History, model: Model) -> Self {
        let mut life = Self {
            history,
            model,
            coverage: Coverage::default(),
            transcript: Vec::new(),
            sent: Vec::new(),
            parked: Vec::new(),
            differences: Vec::new(),
            crashed_midway: false,
            may_be_suspended: false,
        };
        life.note(format!("opened with {:?}", life.history.opening));
        life
    }

    pub fn note(&mut self, line: String) {
        self.transcript.push(line);
    }

    /// Notes it where the two are not the same.
    pub fn is<T: PartialEq + Debug>(&mut self, what: &str, expected: &T, found: &T) {
        if expected != found {
            let line = format!("{what}: {expected:?} by the model, {found:?} in truth");
            self.note(format!("  !! {line}"));
            self.differences.push(line);
        }
    }

    /// A caller got the model's answer.
    pub fn hears(&mut self, what: &str, expected: Reply, heard: Reply) {
        let (expected, heard) = (self.model.in_general(expected), self.model.in_general(heard));
        self.is(what, &expected, &heard);
    }

    /// The receiver saw what the model sent, in its order.
    pub fn sees(&mut self, sent: &[(Seen, Answer)], seen: &[Seen]) {
        let expected: Vec<Seen> = sent.iter().map(|(seen, _)| *seen).collect();
        for (seen, answer) in sent {
            self.note(format!("  {seen} -> {answer:?}"));
        }
        if expected != *seen {
            let list = |seen: &[Seen]| seen.iter().map(|seen| format!("\n      {seen}")).collect::<String>();
            let line =
                format!("the receiver sees by the model{}\n    in truth{}", list(&expected), list(seen));
            self.note(format!("  !! {line}"));
            self.differences.push(line);
        }
        self.sent.extend(sent);
        self.coverage.look(&self.model, &expected);
    }

    /// Around a crash the last requests before it, in flight or with an outcome that was not durable, are repeated: in
    /// their order, and no more of them than a channel may be ahead of its durable place.
    pub fn sees_around_crash(&mut self, before: State, sent: &[(Seen, Answer)], seen: &[Seen]) {
        let expected: Vec<Seen> = sent.iter().map(|(seen, _)| *seen).collect();
        let is_repeated = |at: usize, from: usize| {
            from <= at
                && at - from <= REPEATED_MAX
                && seen[..at] == expected[..at]
                && seen[at..] == expected[from..]
        };
        let ends = 0..=expected.len().min(seen.len());
        let crash = ends
            .clone()
            .find_map(|at| ends.clone().find(|from| is_repeated(at, *from)).map(|from| (at, from)));
        let Some((at, from)) = crash else {
            self.sees(sent, seen);
            return;
        };
        for (nth, (seen, answer)) in sent[..at].iter().chain(&sent[from..]).enumerate() {
            let again = if (at..at + at - from).contains(&nth) { ", repeated" } else { "" };
            self.note(format!("  {seen} -> {answer:?}{again}"));
            self.sent.push((*seen, *answer));
        }
        self.coverage.look(&self.model, &expected);
        self.coverage.repeated |= usize::from(at > from);
        self.crashed_midway = true;
        self.may_be_suspended = before == State::Suspended && self.model.state == State::Active;
    }

    /// The channel stands where the model does.
    pub fn stands(&mut self, view: &ChannelView) {
        self.note(format!("  {}", Standing(&self.model)));
        let channel = &view.channel;
        if std::mem::take(&mut self.may_be_suspended) && channel.state == ChannelState::Suspended {
            // Its 2xx is durable, its resumption was cut off: the next 2xx ends the suspension.
            self.model.state = State::Suspended;
        }
        let model = self.model.clone();
        self.is("state", &word(model.state), &channel.state.as_str());
        let place = |cursor: i64| model.number(model.past_unwanted(cursor));
        self.is("cursor", &place(model.cursor), &place(view.cursor.seq));
        self.is("newest", &model.number(model.last()), &channel.number_of(view.head));
        self.is("end", &model.end, &channel.end_seq);
        self.is("expires at", &model.expires_at, &channel.expires_at);
        // When nothing is tried again, nobody asks when.
        let tried_again = model.sends() && model.failing.attempts > 0;
        let failing =
            |failing: &Failing| Failing { due_at: failing.due_at.filter(|_| tried_again), ..failing.clone() };
        self.is("failing", &failing(&model.failing), &failing(&view.cursor.failing));
    }

    /// Whether what is parked is not what it was when this was last asked.
    pub fn parked_has_changed(&mut self) -> bool {
        let parked: Vec<i64> = self.model.parked.keys().copied().collect();
        let changed = parked != self.parked;
        self.parked = parked;
        changed
    }

    /// Requests seen are attempts recorded.
    pub fn has_in_ledger(&mut self, attempts: &[RecordedAttempt]) {
        let recorded: Vec<_> = attempts
            .iter()
            .map(|attempt| (attempt.notice.is_some(), attempt.number, attempt.attempt, attempt.status))
            .collect();
        let sent: Vec<_> = self
            .sent
            .iter()
            .map(|(seen, answer)| (seen.about == About::Ping, seen.number, seen.attempt, status(*answer)))
            .collect();
        // Nothing is written before a send, so exactly what a crash has cut off may be missing.
        let missing = sent.len().saturating_sub(recorded.len());
        if self.crashed_midway && missing <= REPEATED_MAX && is_part_of(&recorded, &sent) {
            return;
        }
        self.is("the ledger", &sent, &recorded);
    }

    pub fn is_broken(&self) -> bool {
        !self.differences.is_empty()
    }

    pub fn broken(&self, kind: Kind, together: usize) -> Broken {
        let mut story = String::new();
        for line in &self.transcript {
            writeln!(story, "{line}").unwrap();
        }
        let History { seed, index, .. } = self.history;
        Broken { kind, seed, index, together, story }
    }
}

/// Whether `part` is `whole` without some of it.
fn is_part_of<T: PartialEq>(part: &[T], whole: &[T]) -> bool {
    let mut whole = whole.iter();
    part.iter().all(|item| whole.any(|other| other == item))
}

fn status(answer: Answer) -> Option<i16> {
    match answer {
        Answer::Status(status) => Some(status.cast_signed()),
        Answer::Busy(_) => Some(503),
        Answer::Reset => None,
    }
}

fn word(state: State) -> &'static str {
    match state {
        State::Active => "active",
        State::Paused => "paused",
        State::Suspended => "suspended",
        State::Gone => "gone",
        State::Expired => "expired",
        State::Stopped => "stopped",
    }
}

/// A model in one line.
struct Standing<'m>(&'m Model);

impl Display for Standing<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let model = self.0;
        let Failing { attempts, failures, since, due_at, pinned, .. } = &model.failing;
        let time = |at: &Option<Timestamp>| at.map_or("never".to_owned(), Timestamp::to_rfc3339);
        write!(
            f,
            "{} at #{} of {}",
            word(model.state),
            model.number(model.cursor),
            model.number(model.last())
        )?;
        write!(f, ", expires {}", model.expires_at.to_rfc3339())?;
        if *failures > 0 {
            let pinned = pinned.map(|seq| model.number(seq));
            write!(f, ", {attempts} attempts of {pinned:?}, {failures} failures since {}", time(since))?;
            write!(f, ", next {}", time(due_at))?;
        }
        for (seq, parked) in &model.parked {
            let again = if parked.redriven { " again" } else { "" };
            write!(f, ", parked #{}{again}", model.number(*seq))?;
        }
        Ok(())
    }
}

impl Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { kind, seed, index, together, story } = self;
        let store = crate::word_of(*kind);
        writeln!(
            f,
            "history {index} of seed {seed} on {store} ({together} of its fleet broke in that round)\n"
        )?;
        writeln!(f, "{story}")?;
        writeln!(f, "live it again, alone:")?;
        write!(f, "  MODEL_SEED={seed} MODEL_STORE={store} MODEL_HISTORY={index} cargo test --test model")
    }
}
