//! The engine: it delivers.
//!
//! A publish rings the append bell; the driver finds the lanes of the resource, lets each machine decide, hands
//! deliveries to tasks and their outcomes to checkpoints. Cast: `machine` decides for one channel and is pure;
//! `lanes` holds what is in memory; `slots` says who may have a request in flight; `delivery` is one request;
//! `scan` is what a filter wants of a log; `render` is how it looks; `keyring` is what the server
//! signs it with; `checkpoint` is what becomes durable; `lease` says which node may deliver at all;
//! `driver` carries out and is dull.
//!
//! Started by `cli::server`, rung by `wake`, swept by the retry job. It knows neither `app` nor `web`. Losing any
//! bell costs latency, never an event: start-up and sweep find work by index in the store.

mod auth;
mod challenges;
mod checkpoint;
mod consent;
mod delivery;
mod driver;
mod keyring;
mod lanes;
mod lease;
pub mod machine;
mod pace;
mod render;
mod scan;
mod slots;
mod subject;
mod target;

use std::{num::NonZeroU32, sync::Arc, time::Duration};

use tokio::sync::{broadcast, mpsc, oneshot};
use url::Url;

pub use self::render::BadPrefix;
use self::{consent::Consents, driver::Ended, keyring::Keyring, lease::Guard, render::OwnHeaders};
use crate::{
    clock::SharedClock,
    domain::{backoff::Schedule, consent::Verification, time::Timestamp},
    entropy::SharedEntropy,
    outbound::{EgressPolicy, Sender},
    runtime::Tasks,
    signing::Keys,
    store::{Reminding, Store},
    wake::Bells,
};

/// Observers that fall behind this far miss some events.
const SEEN_MAX: usize = 1_024;
const COMMANDS_MAX: usize = 64;

/// What the engine works with.
pub struct Context {
    pub store: Store,
    pub clock: SharedClock,
    pub entropy: SharedEntropy,
    pub sender: Sender,
    pub policy: EgressPolicy,
    pub keys: Arc<Keys>,
    pub settings: Settings,
    own_headers: OwnHeaders,
    /// What tokens name as their issuer.
    issuer: String,
    keyring: Keyring,
    consents: Consents,
    seen: broadcast::Sender<Seen>,
}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context").field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// What the operator decides.
#[derive(Clone, Debug)]
pub struct Settings {
    pub schedule: Arc<Schedule>,
    /// How long a channel may fail before it is exhausted.
    pub retry_window: Duration,
    pub reminding: Reminding,
    /// Base of claim URLs.
    pub public_url: Url,
    pub attempt_timeout: Duration,
    /// Requests in flight per origin, at most.
    pub host_window: u32,
    /// Requests a second to one destination, over all projects.
    pub destination_rate: Option<NonZeroU32>,
    /// Whose receivers are asked before anything is sent to them.
    pub verification: Verification,
    pub header_prefix: String,
}

/// One attempt, as observers see it.
#[derive(Clone, Debug)]
pub struct Seen {
    pub channel_id: String,
    pub channel_uid: String,
    pub project: String,
    /// That of the notification, or for a notice the last one that there was.
    pub number: i64,
    /// What kind of notice it was, if it was no notification.
    pub notice: Option<&'static str>,
    pub attempt: u32,
    pub name: String,
    pub state: String,
    pub outcome: &'static str,
    pub status: Option<u16>,
    pub error: Option<&'static str>,
    pub duration_ms: i64,
    /// When it is tried again, if it is.
    pub next_at: Option<Timestamp>,
}

#[derive(Debug)]
enum Command {
    Sweep,
    Settle(oneshot::Sender<()>),
    Stop,
}

/// A running engine.
#[derive(Debug)]
pub struct Engine {
    commands: mpsc::Sender<Command>,
    seen: broadcast::Sender<Seen>,
}

impl Engine {
    /// Starts delivering, or standing by, as `node`.
    #[expect(clippy::too_many_arguments, reason = "each is a capability of its own, wired at one place")]
    pub fn start(
        store: Store,
        clock: SharedClock,
        entropy: SharedEntropy,
        sender: Sender,
        policy: EgressPolicy,
        keys: Arc<Keys>,
        settings: Settings,
        bells: Bells,
        node: String,
        tasks: &Tasks,
    ) -> Result<Self, BadPrefix> {
        let own_headers = OwnHeaders::new(&settings.header_prefix)?;
        let seen = broadcast::Sender::new(SEEN_MAX);
        let issuer = settings.public_url.as_str().trim_end_matches('/').to_owned();
        let context = Context {
            store,
            clock,
            entropy,
            sender,
            policy,
            keys,
            settings,
            own_headers,
            issuer,
            keyring: Keyring::default(),
            consents: Consents::default(),
            seen: seen.clone(),
        };
        let (commands, queue) = mpsc::channel(COMMANDS_MAX);
        tasks.spawn("engine", run(Arc::new(context), bells, node, tasks.clone(), queue));
        Ok(Self { commands, seen })
    }

    /// Looks for work that no bell told of.
    pub async fn sweep(&self) {
        let _ = self.commands.send(Command::Sweep).await;
    }

    /// Returns once nothing is under way: no request, no load, no checkpoint. For tests and a tidy `dev`.
    pub async fn settle(&self) {
        let (settled, told) = oneshot::channel();
        if self.commands.send(Command::Settle(settled)).await.is_ok() {
            let _ = told.await;
        }
    }

    /// Every attempt from now on.
    pub fn observe(&self) -> broadcast::Receiver<Seen> {
        self.seen.subscribe()
    }

    /// Starts no further request, waits for those in flight and makes their outcomes durable.
    pub async fn stop(&self) {
        if self.commands.send(Command::Stop).await.is_ok() {
            // The queue closes when the engine has ended.
            self.commands.closed().await;
        }
    }
}

/// Terms of delivering, one per lease that this node gets.
async fn run(
    context: Arc<Context>,
    bells: Bells,
    node: String,
    tasks: Tasks,
    mut commands: mpsc::Receiver<Command>,
) {
    loop {
        let Some(guard) = lease_or_stop(&context, &node, &mut commands).await else { return };
        context.store.forget_events();
        let keeper = tasks.spawn(
            "lease keeper",
            lease::keep(context.store.clone(), Arc::clone(&context.clock), node.clone(), Arc::clone(&guard)),
        );
        let lease = guard.lease;
        let ended = driver::run(Arc::clone(&context), guard, &bells, tasks.clone(), &mut commands).await;
        keeper.abort();
        if ended == Ended::Stopped {
            if let Err(error) = context.store.release_lease(node, lease).await {
                tracing::warn!(error = %error, "the lease could not be released and will run out");
            }
            return;
        }
    }
}

/// Stands by until this node has the lease. `None`: it was stopped before.
async fn lease_or_stop(
    context: &Context,
    node: &str,
    commands: &mut mpsc::Receiver<Command>,
) -> Option<Arc<Guard>> {
    let mut told = false;
    loop {
        let taken = lease::take(&context.store, &context.clock, node, context.settings.attempt_timeout).await;
        if taken.is_some() {
            return taken;
        }
        if !told {
            tracing::info!("another node delivers; this one accepts requests and stands by");
            told = true;
        }
        tokio::select! {
            () = context.clock.sleep(lease::TRY_EVERY) => {}
            () = stopped(commands) => return None,
        }
    }
}

/// While standing by only a stop matters; there is nothing to settle or to sweep.
async fn stopped(commands: &mut mpsc::Receiver<Command>) {
    loop {
        match commands.recv().await {
            Some(Command::Stop) | None => return,
            Some(Command::Settle(settled)) => drop(settled.send(())),
            Some(Command::Sweep) => {}
        }
    }
}
