//! One life: its history, its model, and what was found different.

use std::fmt::{Debug, Display, Write as _};

use watchpost::{
    domain::{cursor::Failing, time::Timestamp},
    store::{ChannelView, RecordedAttempt},
};

use crate::{
    base::Kind,
    channel::{Model, State},
    command::{About, Seen},
    coverage::Coverage,
    history::{Answer, History},
};

pub struct Life {
    pub history: History,
    pub model: Model,
    pub coverage: Coverage,
    slot: usize,
    /// Everything that happened, for whoever reads a failure.
    transcript: Vec<String>,
    /// What the receiver saw, with what it said, for the ledger.
    sent: Vec<(Seen, Answer)>,
    parked: Vec<i64>,
    differences: Vec<String>,
}

/// A life that did not go as its model says.
pub struct Broken {
    pub kind: Kind,
    pub seed: u64,
    pub index: u64,
    /// How many lives of the fleet broke in the same round.
    pub together: usize,
    story: String,
}

impl Life {
    pub fn new(history: History, model: Model, slot: usize) -> Self {
        let mut life = Self {
            history,
            model,
            slot,
            coverage: Coverage::default(),
            transcript: Vec::new(),
            sent: Vec::new(),
            parked: Vec::new(),
            differences: Vec::new(),
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

    /// The channel stands where the model does.
    pub fn stands(&mut self, view: &ChannelView) {
        self.note(format!("  {}", Standing(&self.model)));
        let (model, channel) = (self.model.clone(), &view.channel);
        self.is("state", &word(model.state), &channel.state.as_str());
        self.is("cursor", &model.number(model.cursor), &channel.number_of(view.cursor.seq));
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
        let _ = self.slot;
        Broken { kind, seed, index, together, story }
    }
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
