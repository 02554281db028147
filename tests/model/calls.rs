//! The server's use cases, called as a face would call them, with their answers in the model's words.

use std::sync::Arc;

use watchpost::{
    app::{
        App, Principal,
        channels::{ChangeRequest, ChannelError, OpenRequest},
        claims::ClaimError,
        options::{OptionsRequest, RetryRequest},
        publish::{Draft, PublishRequest},
        replay::{Ping, Redriven, ReplayFrom},
    },
    domain::{
        channel::{CatchUp, ChannelKey, Face, Format, OnExhausted, Ordering},
        expiry::Asked,
        id,
    },
    store::RecordedAttempt,
};

use crate::{
    command::{Command, Reply},
    history::{Opening, Retry},
};

/// The names of the two kinds of events.
const KINDS: [&str; 2] = ["thing.made", "thing.moved"];
const EVENTS_MAX: usize = 1_000;

/// Who calls, and what it knows of its channels.
#[derive(Clone)]
pub struct Owner {
    principal: Arc<Principal>,
}

impl Owner {
    pub fn new(principal: Principal) -> Self {
        Self { principal: Arc::new(principal) }
    }
}

/// What an owner keeps of a channel it has opened.
#[derive(Clone, Debug)]
pub struct Handle {
    pub id: String,
    pub uid: String,
    pub key: ChannelKey,
    pub capability: String,
}

#[derive(Clone)]
pub struct Caller {
    pub app: App,
    pub owner: Owner,
}

pub fn resource_of(id: &str) -> String {
    format!("things/{id}")
}

impl Caller {
    pub async fn open(&self, id: String, address: String, opening: &Opening) -> Handle {
        let ttl = i64::try_from(opening.ttl.as_secs()).unwrap();
        let request = OpenRequest {
            resource: resource_of(&id),
            id: Some(id.clone()),
            address,
            expiry: Asked { at: None, ttl_seconds: Some(ttl) },
            catch_up: Some(catch_up(opening.latest)),
            options: OptionsRequest {
                retry: Some(retry(&opening.retry)),
                events: opening.filtered.then(|| vec![KINDS[0].to_owned()]),
                ..OptionsRequest::default()
            },
            ..plain()
        };
        let opened = self.app.open_channel(&self.owner.principal, request).await.unwrap().channel;
        let url = self.app.claim_url(&opened);
        let capability = url.rsplit('/').next().unwrap().to_owned();
        Handle { id, uid: opened.uid, key: opened.key, capability }
    }

    /// A channel that lives for long and is tried again at once.
    pub async fn open_canary(&self, id: &str, address: String) {
        let request = OpenRequest {
            resource: resource_of(id),
            id: Some(id.to_owned()),
            address,
            expiry: Asked { at: None, ttl_seconds: Some(30 * 86_400) },
            ..plain()
        };
        self.app.open_channel(&self.owner.principal, request).await.unwrap();
    }

    /// Events of these kinds, by channel id, in as few calls as there may be.
    pub async fn publish(&self, by_id: Vec<(String, Vec<u8>)>) {
        let drafts: Vec<Draft> = by_id
            .into_iter()
            .flat_map(|(id, kinds)| {
                let resource = resource_of(&id);
                kinds.into_iter().map(move |kind| Draft {
                    resources: vec![resource.clone()],
                    name: KINDS[usize::from(kind)].to_owned(),
                    ..Draft::default()
                })
            })
            .collect();
        for events in drafts.chunks(EVENTS_MAX) {
            let request = PublishRequest { events: events.to_vec(), listed: true, idempotency_key: None };
            self.app.publish(&self.owner.principal, request).await.unwrap();
        }
    }

    pub async fn perform(&self, channel: &Handle, addresses: &[String; 2], command: &Command) -> Reply {
        let (app, owner, id) = (&self.app, &*self.owner.principal, channel.id.as_str());
        let capability = channel.capability.as_str();
        let change = |request: ChangeRequest| app.change_channel(owner, id, request);
        let done = |result: Result<_, ChannelError>| told(result, |_| Reply::Done);
        match command {
            Command::Rest | Command::Publish(_) => Reply::Done,
            Command::Pause => done(app.pause_channel(owner, id).await),
            Command::Resume => done(app.resume_channel(owner, id).await),
            Command::ResumeByReceiver => claimed(app.resume_claim(capability).await, |()| Reply::Done),
            Command::Readdress(address) => {
                let address = Some(addresses[usize::from(*address)].clone());
                done(change(ChangeRequest { address, ..ChangeRequest::default() }).await)
            }
            Command::Retry(new) => {
                let options = OptionsRequest { retry: Some(retry(new)), ..OptionsRequest::default() };
                done(change(ChangeRequest { options, ..ChangeRequest::default() }).await)
            }
            Command::CatchUp { latest } => {
                let catch_up = Some(catch_up(*latest));
                done(change(ChangeRequest { catch_up, ..ChangeRequest::default() }).await)
            }
            Command::Renew(ttl) => {
                let ttl_seconds = Some(i64::try_from(ttl.as_secs()).unwrap());
                let expiry = Asked { at: None, ttl_seconds };
                done(change(ChangeRequest { expiry, ..ChangeRequest::default() }).await)
            }
            Command::Pull => claimed(app.pull_claim(capability, None, 500).await, |page| {
                let number = |seq: i64| page.channel.number_of(seq);
                let of = |parked: bool| {
                    let items = page.items.iter().filter(move |item| item.parked == parked);
                    items.map(|item| number(item.event.seq)).collect()
                };
                Reply::Left { parked: of(true), waiting: of(false), earliest: page.earliest_number }
            }),
            Command::Ack(number) => claimed(app.acknowledge_claim(capability, *number).await, Reply::At),
            Command::Settle(numbers) => {
                let ids: Vec<String> = numbers.iter().map(|n| id::webhook_id(&channel.uid, *n)).collect();
                claimed(app.settle_claims(capability, &ids).await, Reply::Count)
            }
            Command::Skip(number) => done(app.skip(owner, id, *number).await),
            Command::Replay(number) => {
                told(app.replay(owner, id, ReplayFrom::Number(*number)).await, |_| Reply::Done)
            }
            Command::ReplaySince(time) => {
                told(app.replay(owner, id, ReplayFrom::Time(*time)).await, |_| Reply::Done)
            }
            Command::RedriveAll => {
                told(app.redrive(owner, id, Redriven::All).await, |(_, count)| Reply::Count(count))
            }
            Command::Redrive { from, through } => {
                let range = Redriven::Range { from: *from, through: *through };
                told(app.redrive(owner, id, range).await, |(_, count)| Reply::Count(count))
            }
            Command::Ping => told(app.ping(owner, id, Ping::default()).await, |_| Reply::Done),
            Command::Stop => told(app.stop_channel(owner, id).await, |()| Reply::Done),
        }
    }

    /// The seqs of what is parked.
    pub async fn parked(&self, channel: &Handle) -> Vec<i64> {
        {
            let aside = self.app.store.aside(channel.key, i64::MIN, i64::MAX, 1_000).await.unwrap();
            aside.into_iter().map(|(seq, _)| seq).collect()
        }
    }

    /// The ledger, oldest attempt first.
    pub async fn attempts(&self, channel: &Handle) -> Vec<RecordedAttempt> {
        let owner = &self.owner.principal;
        let filter = watchpost::store::AttemptFilter::default();
        let page = self.app.attempts(owner, &channel.id, filter, None, 100_000).await.unwrap();
        let mut attempts = page.attempts;
        attempts.reverse();
        attempts
    }
}

fn plain() -> OpenRequest {
    OpenRequest {
        face: Face::Native,
        id: None,
        resource: String::new(),
        query: None,
        address: String::new(),
        token: None,
        expiry: Asked::default(),
        format: Format::Standard,
        // A payload can be poison, which is a story of its own.
        payload: Some(false),
        catch_up: None,
        signatures: Some(Vec::new()),
        secret: None,
        ordering: Ordering::Fifo,
        options: OptionsRequest::default(),
    }
}

fn retry(retry: &Retry) -> RetryRequest {
    RetryRequest {
        schedule: retry.schedule.iter().map(|step| std::time::Duration::from_secs(*step)).collect(),
        window: Some(retry.window),
        max_attempts: retry.max_attempts.map(i64::from),
        on_exhausted: Some(if retry.continues { OnExhausted::Continue } else { OnExhausted::Suspend }),
    }
}

fn catch_up(latest: bool) -> CatchUp {
    if latest { CatchUp::Latest } else { CatchUp::All }
}

fn told<T>(result: Result<T, ChannelError>, reply: impl FnOnce(T) -> Reply) -> Reply {
    match result {
        Ok(value) => reply(value),
        Err(ChannelError::Ended) => Reply::Ended,
        Err(ChannelError::Paused) => Reply::Paused,
        Err(ChannelError::NotFound) => Reply::NotFound,
        Err(ChannelError::Field(_)) => Reply::Beyond,
        Err(ChannelError::Lost { .. }) => Reply::Lost,
        Err(error) => panic!("{error}"),
    }
}

fn claimed<T>(result: Result<T, ClaimError>, reply: impl FnOnce(T) -> Reply) -> Reply {
    match result {
        Ok(value) => reply(value),
        Err(ClaimError::Ended) => Reply::Ended,
        Err(ClaimError::NotFound) => Reply::NotFound,
        Err(ClaimError::Field(_)) => Reply::Beyond,
        Err(error @ ClaimError::Store(_)) => panic!("{error}"),
    }
}
