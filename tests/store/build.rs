//! The values that the cases store.

use std::{convert::Infallible, time::Duration};

use tokio::task::JoinSet;
use watchpost::{
    domain::{
        channel::{CatchUp, Channel, ChannelKey, ChannelOptions, Face, Format, ResourceKey},
        cursor::Cursor,
        event::{Event, Payload, STATE_DEFAULT},
        resource::ResourcePath,
        settled::SettledMap,
        time::Timestamp,
    },
    store::{
        Attempt, BusyResource, ChangeOutcome, ChannelChange, ChannelView, Checkpoint, Checkpointed,
        NewChannel, NewEvent, OpenOutcome, Owner, Placed, Publish, PublishOutcome, Store, StoreError,
    },
};

pub const PROJECT: &str = "p";

/// `seconds` after the beginning of the tests' time.
pub fn at(seconds: u64) -> Timestamp {
    Timestamp::from_millis(1_800_000_000_000).plus(Duration::from_secs(seconds))
}

pub fn path(path: &str) -> ResourcePath {
    ResourcePath::parse(path).unwrap()
}

/// Changes a channel, whatever it is by then; false where it had ended.
pub async fn changed(
    store: &Store,
    key: ChannelKey,
    change: ChannelChange,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let decide = move |_: &Channel| Ok::<_, Infallible>(change.clone());
    Ok(matches!(store.change_channel(key, decide, now).await?, ChangeOutcome::Changed))
}

/// An event without a publisher's id.
pub fn event(id: &str, resources: &[&str]) -> NewEvent {
    NewEvent {
        id: id.to_owned(),
        given: None,
        resources: resources.iter().map(|resource| path(resource)).collect(),
        name: "thing.changed".to_owned(),
        state: STATE_DEFAULT.to_owned(),
        changed: None,
        payload: None,
    }
}

/// An event with the publisher's id; `content` stands for everything in it.
pub fn given(id: &str, content: u8, resources: &[&str]) -> NewEvent {
    NewEvent { given: Some([content; 32]), ..event(id, resources) }
}

pub fn payload(content_type: &str, bytes: impl Into<Vec<u8>>) -> Payload {
    Payload { content_type: content_type.to_owned(), bytes: bytes.into().into() }
}

pub fn publish(events: Vec<NewEvent>) -> Publish {
    Publish { project: PROJECT.to_owned(), events, idempotency: None, now: at(0) }
}

/// The same under an `Idempotency-Key`.
pub fn keyed(key: &str, content: u8, events: Vec<NewEvent>) -> Publish {
    Publish { idempotency: Some((key.to_owned(), [content; 32])), ..publish(events) }
}

pub async fn accepted(store: &Store, publish: Publish) -> Vec<Placed> {
    match store.publish(publish).await.unwrap() {
        PublishOutcome::Accepted(placed) => placed,
        refused => panic!("{refused:?}"),
    }
}

pub fn seqs(placed: &[Placed]) -> Vec<i64> {
    placed.iter().map(|placed| placed.seq).collect()
}

/// Publishes `count` events to one resource; the new head.
pub async fn grow(store: &Store, resource: &str, count: usize) -> i64 {
    let events = (0..count).map(|number| event(&format!("grow-{number}"), &[resource])).collect();
    accepted(store, publish(events)).await.last().unwrap().seq
}

/// The whole log of a resource.
pub async fn log(store: &Store, resource: &str) -> Vec<std::sync::Arc<Event>> {
    let Some(head) = store.head(PROJECT, &path(resource)).await.unwrap() else { return Vec::new() };
    store.events(head.key, 0, head.seq, usize::MAX).await.unwrap()
}

pub async fn key_of(store: &Store, resource: &str) -> ResourceKey {
    store.head(PROJECT, &path(resource)).await.unwrap().unwrap().key
}

pub fn everybody() -> Owner {
    Owner { project: PROJECT.to_owned(), subject: None }
}

pub fn subject(subject: &str) -> Owner {
    Owner { project: PROJECT.to_owned(), subject: Some(subject.to_owned()) }
}

/// A channel that expires after an hour.
pub fn channel(id: &str, resource: &str) -> NewChannel {
    NewChannel {
        uid: format!("uid-{id}"),
        project: PROJECT.to_owned(),
        id: id.to_owned(),
        subject: "alice".to_owned(),
        resource: path(resource),
        resource_uri: format!("https://api.example/{resource}"),
        face: Face::Native,
        address: "https://receiver.example/hook".to_owned(),
        token: None,
        format: Format::Standard,
        payload: true,
        catch_up: CatchUp::All,
        expires_at: at(3_600),
        options: ChannelOptions::default(),
        sealed_secret: None,
    }
}

pub async fn opened(store: &Store, new: NewChannel) -> Channel {
    match store.open_channel(new, at(0)).await.unwrap() {
        OpenOutcome::Opened(channel) => *channel,
        OpenOutcome::IdTaken => panic!("the id is taken"),
    }
}

/// A channel whose sync is delivered.
pub async fn level(store: &Store, id: &str, resource: &str) -> Channel {
    let channel = opened(store, channel(id, resource)).await;
    settle(store, Cursor { seq: channel.start_seq, ..cursor(&channel) }).await;
    channel
}

/// A cursor that is level at the channel's start.
pub fn cursor(channel: &Channel) -> Cursor {
    Cursor {
        channel: channel.key,
        resource: channel.resource,
        seq: channel.start_seq,
        moved: 0,
        behind: false,
        failing: watchpost::domain::cursor::Failing::default(),
        last_success_at: None,
        settled: SettledMap::default(),
    }
}

/// Writes one cursor, which must apply.
pub async fn settle(store: &Store, cursor: Cursor) {
    let written = checkpoint(store, Checkpoint { cursors: vec![cursor], ..Checkpoint::default() }).await;
    assert!(written.moved.is_empty());
}

pub async fn checkpoint(store: &Store, checkpoint: Checkpoint) -> Checkpointed {
    store.checkpoint(checkpoint).await.unwrap()
}

/// Busy resources, apart from the one on which the project hears of its channels.
pub async fn busy(store: &Store) -> Vec<BusyResource> {
    let own = store.head(PROJECT, &ResourcePath::own_channels()).await.unwrap().map(|head| head.key);
    let mut busy = store.busy_resources(ResourceKey(0), 10).await.unwrap();
    busy.retain(|busy| Some(busy.resource) != own);
    busy
}

/// Records that every level channel has had the log up to `seq`.
pub async fn fan(store: &Store, resource: ResourceKey, seq: i64) {
    checkpoint(store, Checkpoint { fanned: vec![(resource, seq)], ..Checkpoint::default() }).await;
}

pub fn attempt(channel: ChannelKey, number: i64) -> Attempt {
    Attempt {
        channel,
        number,
        attempt: 1,
        started_at: at(1),
        duration_ms: 12,
        outcome: "delivered",
        status: Some(204),
        error: None,
        notice: None,
        answer_ms: Some(9),
        excerpt: None,
    }
}

pub async fn view(store: &Store, id: &str) -> ChannelView {
    store.channel(everybody(), id.to_owned()).await.unwrap().unwrap()
}

/// The results of all tasks, in the order in which they ended.
pub async fn all<T: 'static>(mut tasks: JoinSet<T>) -> Vec<T> {
    let mut results = Vec::new();
    while let Some(result) = tasks.join_next().await {
        results.push(result.unwrap());
    }
    results
}
