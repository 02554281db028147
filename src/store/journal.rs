//! The journal: how publishes become events.
//!
//! Whatever is waiting when the writer is free goes into one transaction; each publish is answered only after
//! the durable commit. This file is the part that both databases share: it plans the transaction in memory,
//! without I/O. `dialect` reads what the plan needs and writes what it says, in this order:
//!
//! 1. `keys` – the idempotency keys of the batch, sorted; the dialect says which of them have a first answer;
//! 2. `resolve` – which publishes are repeats or conflicts, and which events are new;
//! 3. `resources` – the resources of the new events, sorted; the dialect locks them and tells their heads;
//! 4. `place` – every new event gets its seq; the dialect writes events, heads, work and answers.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use crate::domain::{
    channel::ResourceKey,
    event::{Event, Payload},
    resource::ResourcePath,
    time::Timestamp,
};

/// Publishes and events that one transaction takes.
pub const BATCH_PUBLISHES_MAX: usize = 256;
pub const BATCH_EVENTS_MAX: usize = 2_000;

pub type Fingerprint = [u8; 32];

/// One publish call.
#[derive(Debug)]
pub struct Publish {
    pub project: String,
    pub events: Vec<NewEvent>,
    /// The request's `Idempotency-Key` and the fingerprint of its content.
    pub idempotency: Option<(String, Fingerprint)>,
    pub now: Timestamp,
}

#[derive(Debug)]
pub struct NewEvent {
    pub id: String,
    /// The fingerprint of the content, where the publisher gave the id.
    pub given: Option<Fingerprint>,
    /// One log entry per resource; at most 8, each once.
    pub resources: Vec<ResourcePath>,
    pub name: String,
    pub state: String,
    pub changed: Option<String>,
    pub payload: Option<Payload>,
}

/// Where an event went.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Placed {
    pub id: String,
    pub resource: String,
    pub resource_id: String,
    pub seq: i64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PublishOutcome {
    /// In request order, one entry per event and resource.
    Accepted(Vec<Placed>),
    /// The `Idempotency-Key` was used for other content.
    KeyConflict,
    /// This event's id was used for other content.
    IdConflict { event: usize },
}

/// What names a first answer.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Key {
    pub project: String,
    pub scope: i16,
    pub key: String,
}

impl Key {
    const EVENT_ID: i16 = 0;
    const IDEMPOTENCY: i16 = 1;

    fn of_event(project: &str, id: &str) -> Self {
        Self { project: project.to_owned(), scope: Self::EVENT_ID, key: id.to_owned() }
    }

    fn of_request(project: &str, key: &str) -> Self {
        Self { project: project.to_owned(), scope: Self::IDEMPOTENCY, key: key.to_owned() }
    }
}

/// A first answer that the database already holds.
#[derive(Clone, Debug)]
pub(super) struct Stored {
    pub fingerprint: Vec<u8>,
    pub answer: Vec<Placed>,
}

/// Every key of the batch with the fingerprint of its first use, sorted.
pub(super) fn keys(publishes: &[Publish]) -> BTreeMap<Key, Fingerprint> {
    let mut keys = BTreeMap::new();
    for publish in publishes {
        if let Some((key, fingerprint)) = &publish.idempotency {
            keys.entry(Key::of_request(&publish.project, key)).or_insert(*fingerprint);
        }
        for event in &publish.events {
            if let Some(fingerprint) = event.given {
                keys.entry(Key::of_event(&publish.project, &event.id)).or_insert(fingerprint);
            }
        }
    }
    keys
}

/// What becomes of each publish, before any seq is known.
#[derive(Debug)]
pub(super) struct Resolution<'p> {
    publishes: &'p [Publish],
    fates: Vec<Fate>,
}

#[derive(Debug)]
enum Fate {
    /// Its events, each new or told before.
    Append(Vec<Source>),
    Repeat(Vec<Placed>),
    /// Another publish of this batch came first with the same key and content.
    RepeatOf(usize),
    Refuse(PublishOutcome),
}

#[derive(Clone, Debug)]
enum Source {
    New,
    Told(Vec<Placed>),
    /// The same event stands earlier in this batch: publish, event.
    SameAs(usize, usize),
}

pub(super) fn resolve<'p>(publishes: &'p [Publish], stored: &HashMap<Key, Stored>) -> Resolution<'p> {
    // Keys used by accepted publishes of this very batch: fingerprint, publish, event.
    let mut used: HashMap<Key, (Fingerprint, usize, usize)> = HashMap::new();
    let mut fates = Vec::with_capacity(publishes.len());
    for (at, publish) in publishes.iter().enumerate() {
        let (fate, claims) = fate_of(publish, at, stored, &used);
        if matches!(fate, Fate::Append(_)) {
            used.extend(claims);
        }
        fates.push(fate);
    }
    Resolution { publishes, fates }
}

type Claims = Vec<(Key, (Fingerprint, usize, usize))>;

fn fate_of(
    publish: &Publish,
    at: usize,
    stored: &HashMap<Key, Stored>,
    used: &HashMap<Key, (Fingerprint, usize, usize)>,
) -> (Fate, Claims) {
    let mut claims: Claims = Vec::new();
    if let Some((key, fingerprint)) = &publish.idempotency {
        let key = Key::of_request(&publish.project, key);
        if let Some(first) = stored.get(&key) {
            let same = first.fingerprint == fingerprint;
            let fate = if same {
                Fate::Repeat(first.answer.clone())
            } else {
                Fate::Refuse(PublishOutcome::KeyConflict)
            };
            return (fate, claims);
        }
        if let Some((first, publish, _)) = used.get(&key) {
            let fate = if first == fingerprint {
                Fate::RepeatOf(*publish)
            } else {
                Fate::Refuse(PublishOutcome::KeyConflict)
            };
            return (fate, claims);
        }
        claims.push((key, (*fingerprint, at, 0)));
    }
    let mut sources = Vec::with_capacity(publish.events.len());
    for (index, event) in publish.events.iter().enumerate() {
        let Some(fingerprint) = event.given else {
            sources.push(Source::New);
            continue;
        };
        let key = Key::of_event(&publish.project, &event.id);
        let earlier =
            claims.iter().find(|(claimed, _)| *claimed == key).map(|(_, first)| first).or(used.get(&key));
        let same = if let Some(first) = stored.get(&key) {
            sources.push(Source::Told(first.answer.clone()));
            first.fingerprint == fingerprint
        } else if let Some((first, publish, event)) = earlier {
            sources.push(Source::SameAs(*publish, *event));
            *first == fingerprint
        } else {
            sources.push(Source::New);
            claims.push((key, (fingerprint, at, index)));
            true
        };
        if !same {
            return (Fate::Refuse(PublishOutcome::IdConflict { event: index }), Vec::new());
        }
    }
    (Fate::Append(sources), claims)
}

impl Resolution<'_> {
    /// The new events in the order of their publishes.
    fn new_events(&self) -> impl Iterator<Item = (usize, usize, &Publish, &NewEvent)> {
        self.fates.iter().zip(self.publishes).enumerate().flat_map(|(at, (fate, publish))| {
            let sources: &[Source] = if let Fate::Append(sources) = fate { sources } else { &[] };
            sources
                .iter()
                .zip(&publish.events)
                .enumerate()
                .filter(|(_, (source, _))| matches!(source, Source::New))
                .map(move |(index, (_, event))| (at, index, publish, event))
        })
    }

    /// The resources of the new events, sorted.
    pub(super) fn resources(&self) -> BTreeSet<(&str, &ResourcePath)> {
        self.new_events()
            .flat_map(|(_, _, publish, event)| {
                event.resources.iter().map(|path| (publish.project.as_str(), path))
            })
            .collect()
    }

    /// Gives every new event its seq. `heads` holds each locked resource's key and head before the batch. `None`:
    /// a resource of the batch is not among them, and an event without a place must not be accepted.
    pub(super) fn place(&self, heads: &HashMap<(String, String), (ResourceKey, i64)>) -> Option<Placement> {
        let mut placement = Placement::default();
        let mut heads = heads.clone();
        let mut placed: HashMap<(usize, usize), Vec<Placed>> = HashMap::new();
        for (at, index, publish, event) in self.new_events() {
            for path in &event.resources {
                let (key, head) = heads.get_mut(&(publish.project.clone(), path.as_str().to_owned()))?;
                let before = *head;
                *head += 1;
                let seq = *head;
                placement.heads.entry(*key).or_insert(Raised { from: before, to: seq }).to = seq;
                placement.events.push(PlacedEvent {
                    resource: *key,
                    project: publish.project.clone(),
                    event: Arc::new(Event {
                        seq,
                        id: event.id.clone(),
                        name: event.name.clone(),
                        state: event.state.clone(),
                        changed: event.changed.clone(),
                        payload: event.payload.clone(),
                        published_at: publish.now,
                    }),
                });
                placed.entry((at, index)).or_default().push(Placed {
                    id: event.id.clone(),
                    resource: path.as_str().to_owned(),
                    resource_id: path.resource_id(&publish.project),
                    seq,
                });
            }
        }
        self.answer(&placed, &mut placement);
        Some(placement)
    }

    fn answer(&self, placed: &HashMap<(usize, usize), Vec<Placed>>, placement: &mut Placement) {
        for (at, (fate, publish)) in self.fates.iter().zip(self.publishes).enumerate() {
            let outcome = match fate {
                Fate::Refuse(outcome) => outcome.clone(),
                Fate::Repeat(answer) => PublishOutcome::Accepted(answer.clone()),
                // The first one stands earlier in the batch, so its outcome is known.
                Fate::RepeatOf(first) => placement.outcomes[*first].clone(),
                Fate::Append(sources) => {
                    let mut all = Vec::new();
                    for (index, (source, event)) in sources.iter().zip(&publish.events).enumerate() {
                        let answer = match source {
                            Source::Told(answer) => answer.clone(),
                            Source::SameAs(publish, event) => {
                                placed.get(&(*publish, *event)).cloned().unwrap_or_default()
                            }
                            Source::New => placed.get(&(at, index)).cloned().unwrap_or_default(),
                        };
                        if let (Source::New, Some(fingerprint)) = (source, event.given) {
                            let key = Key::of_event(&publish.project, &event.id);
                            placement.answers.push(FirstAnswer {
                                key,
                                fingerprint,
                                answer: answer.clone(),
                                now: publish.now,
                            });
                        }
                        all.extend(answer);
                    }
                    if let Some((key, fingerprint)) = &publish.idempotency {
                        let key = Key::of_request(&publish.project, key);
                        placement.answers.push(FirstAnswer {
                            key,
                            fingerprint: *fingerprint,
                            answer: all.clone(),
                            now: publish.now,
                        });
                    }
                    PublishOutcome::Accepted(all)
                }
            };
            placement.outcomes.push(outcome);
        }
    }
}

/// What the transaction writes, and what it answers once it is durable.
#[derive(Debug, Default)]
pub(super) struct Placement {
    pub events: Vec<PlacedEvent>,
    pub heads: BTreeMap<ResourceKey, Raised>,
    pub answers: Vec<FirstAnswer>,
    pub outcomes: Vec<PublishOutcome>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Raised {
    pub from: i64,
    pub to: i64,
}

#[derive(Clone, Debug)]
pub(super) struct PlacedEvent {
    pub resource: ResourceKey,
    pub project: String,
    pub event: Arc<Event>,
}

#[derive(Debug)]
pub(super) struct FirstAnswer {
    pub key: Key,
    pub fingerprint: Fingerprint,
    pub answer: Vec<Placed>,
    pub now: Timestamp,
}

/// What a durable batch tells the rest of the process.
#[derive(Debug, Default)]
pub(super) struct Appended {
    pub outcomes: Vec<PublishOutcome>,
    pub events: Vec<PlacedEvent>,
}

impl From<Placement> for Appended {
    fn from(placement: Placement) -> Self {
        Self { outcomes: placement.outcomes, events: placement.events }
    }
}

#[cfg(test)]
mod tests;
