//! The server put together: the one place that knows every layer. `serve` and `dev` run it, tests start it with
//! clocks of their own.

use std::{
    net::{SocketAddr, TcpListener},
    path::Path,
    sync::Arc,
    time::Duration,
};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use sha2::{Digest, Sha256};
use url::Url;

pub use super::listener::{ConnectionLimits, bind};
use super::{
    callers,
    listener::{Listening, Routes},
    master_key,
    serve::store_name,
};
use crate::{
    app::{self, App, Retention},
    clock::SharedClock,
    config::{Auth, Config, Database, Resources},
    domain::{backoff::Schedule, egress_proxy::EgressProxy, expiry::Lifetimes, proxies::TrustedProxies},
    engine::{self, Engine},
    entropy::SharedEntropy,
    jobs::{JobName, Jobs, scheduler::Pulse},
    outbound::{Bridge, EgressPolicy, EgressRules, Sender, SenderConfig},
    runtime::Tasks,
    store::{Location, Reminding, Store, StoreError, StoreLock, refuse_network},
    wake::Bells,
    web::{self, Web},
};

pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// What a server is started with.
pub struct Parts {
    pub config: Config,
    pub clock: SharedClock,
    pub entropy: SharedEntropy,
    /// Bound already, so that its port is known.
    pub listener: TcpListener,
    /// Another one for the probes, which the first then does not serve.
    pub ops_listener: Option<TcpListener>,
    pub limits: ConnectionLimits,
    /// Routes that only this process has, such as `dev`'s bin.
    pub extra: Option<Routes>,
    /// Whether cron rings the jobs; tests ring them by hand.
    pub pulse: bool,
}

impl std::fmt::Debug for Parts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Parts").field("config", &self.config).finish_non_exhaustive()
    }
}

/// A running server.
#[derive(Debug)]
pub struct Server {
    pub address: SocketAddr,
    /// Where the probes are, if they have a listener of their own.
    pub ops_address: Option<SocketAddr>,
    pub app: App,
    pub engine: Arc<Engine>,
    pub jobs: Arc<Jobs>,
    web: Listening,
    ops: Option<Listening>,
    pulse: Option<Pulse>,
    /// To the operator's HTTP proxy, up until the engine has stopped.
    _bridge: Option<Bridge>,
    /// Held until the process ends or the server is dropped.
    _lock: StoreLock,
}

impl Server {
    /// Locks the store, migrates it, starts the engine and listens.
    pub async fn start(parts: Parts) -> Result<Self, BoxError> {
        let Parts { config, clock, entropy, listener, ops_listener, limits, extra, pulse } = parts;
        let address = listener.local_addr()?;
        let ops_address = ops_listener.as_ref().map(TcpListener::local_addr).transpose()?;
        let location = location_of(&config.database);
        let embedded_lock = lock_embedded(&config)?;
        let tasks = Tasks::current();
        let unusable = |error| UnusableStore { store: store_name(&config.database), source: error };
        Store::migrate(&location).await.map_err(unusable)?;
        let bells = Bells::default();
        let ring = bells.clone();
        let store = Store::open(
            &location,
            tasks.clone(),
            Box::new(move |resource, head| ring.appended(resource, head)),
        )
        .await
        .map_err(unusable)?;
        // Only with a shared store that answers is there something to be a node of.
        let (mut lock, node) = match embedded_lock {
            Some(lock) => (lock, "embedded".to_owned()),
            None => take_identity(&config)?,
        };
        let keys = Arc::new(master_key::of_store(&config, &store, entropy.as_ref()).await?);
        let policy = policy_of(&config);
        let public_url = match &config.public_url {
            Some(url) => url.clone(),
            None => Url::parse(&format!("http://{address}"))?,
        };
        let reminding = Reminding {
            schedule: Arc::new(config.claim_reminders.clone()),
            kept_for: config.retention.events,
        };
        let app = App {
            store: store.clone(),
            clock: Arc::clone(&clock),
            entropy: Arc::clone(&entropy),
            bells: bells.clone(),
            keys: Arc::clone(&keys),
            policy: policy.clone(),
            settings: Arc::new(app::Settings {
                lifetimes: Lifetimes { default: config.ttl.default, max: config.ttl.max },
                api_url: config.api_url.clone().unwrap_or_else(|| public_url.clone()),
                public_url,
                header_prefix: config.header_prefix.clone(),
                reminding: reminding.clone(),
                auth_off: config.auth == Auth::Off,
                retention: retention_of(&config),
                declared_only: config.resources == Resources::Declared,
            }),
            callers: Arc::new(callers::of(&config, &policy, &clock, entropy.as_ref())?),
        };
        app.ensure_signing_key().await?;
        let (proxy, bridge) = match config.egress.proxy.clone() {
            Some(EgressProxy::Http(http)) => {
                let clock = Arc::clone(&clock);
                let bridge = Bridge::start(&http, CONNECT_TIMEOUT, clock, entropy.as_ref(), &tasks).await?;
                (Some(bridge.as_socks5()), Some(bridge))
            }
            Some(EgressProxy::Socks5(socks5)) => (Some(socks5), None),
            None => (None, None),
        };
        let sender = Sender::new(SenderConfig {
            policy: policy.clone(),
            attempt_timeout: config.attempt_timeout,
            connect_timeout: CONNECT_TIMEOUT,
            user_agent: config.user_agent.clone(),
            ca_file: config.egress.ca_file.clone(),
            name_servers: config.egress.name_servers.clone(),
            proxy,
            host_window: usize::try_from(config.host_window).unwrap_or(usize::MAX),
        })?;
        let schedule = Schedule::new(config.retry.schedule.clone()).ok_or("RETRY_SCHEDULE is empty")?;
        let settings = engine::Settings {
            schedule: Arc::new(schedule),
            retry_window: config.retry.window,
            reminding,
            public_url: app.settings.public_url.clone(),
            attempt_timeout: config.attempt_timeout,
            host_window: config.host_window,
            destination_rate: config.destination_rate,
            verification: config.verification.clone(),
            header_prefix: config.header_prefix.clone(),
        };
        let engine =
            Engine::start(store, clock, entropy, sender, policy, keys, settings, bells, node, &tasks)?;
        let engine = Arc::new(engine);
        let jobs = Arc::new(Jobs::new(app.clone(), Some(Arc::clone(&engine))));
        let web = Web::new(app.clone(), Arc::clone(&jobs), config.native_prefix.clone())
            .limited_to(config.request_rate)
            .behind(TrustedProxies::new(config.trusted_proxies.clone()));
        let (web, ops) = listen(listener, ops_listener, web, extra, limits, &tasks)?;
        if matches!(config.database, Database::Sqlite(_)) {
            lock.write_address(&format!("{address}{}", config.native_prefix))?;
        }
        let pulse = if pulse {
            let rings = [
                (JobName::Expiry, config.cron.expiry.as_str()),
                (JobName::Renewal, config.cron.renewal.as_str()),
                (JobName::Retry, config.cron.retry.as_str()),
                (JobName::Claims, config.cron.claims.as_str()),
                (JobName::Retention, config.cron.retention.as_str()),
            ];
            Some(Pulse::start(&jobs, &rings).await?)
        } else {
            None
        };
        Ok(Self { address, ops_address, app, engine, jobs, web, ops, pulse, _bridge: bridge, _lock: lock })
    }

    /// Closes the listeners, lets what is under way end, and makes it durable: at most 20 seconds.
    pub async fn stop(self) {
        if let Some(pulse) = self.pulse {
            pulse.stop().await;
        }
        tokio::join!(self.web.stop(), self.engine.stop());
        // Probes are answered while the rest ends.
        if let Some(ops) = self.ops {
            ops.stop().await;
        }
        self.app.store.close().await;
    }
}

/// The faces' listener, and the probes' where they have one of their own.
fn listen(
    listener: TcpListener,
    ops_listener: Option<TcpListener>,
    web: Web,
    extra: Option<Routes>,
    limits: ConnectionLimits,
    tasks: &Tasks,
) -> std::io::Result<(Listening, Option<Listening>)> {
    let probed_here = ops_listener.is_none();
    let probed = web.clone();
    let ops_routes: Routes = Arc::new(move |service| web::ops_routes(service, &probed));
    let ops = ops_listener
        .map(|ops| Listening::start("ops", ops, limits, Arc::clone(&ops_routes), tasks))
        .transpose()?;
    let routes: Routes = Arc::new(move |service| {
        if let Some(extra) = &extra {
            extra(service);
        }
        if probed_here {
            ops_routes(service);
        }
        web::routes(service, &web);
    });
    Ok((Listening::start("web", listener, limits, routes, tasks)?, ops))
}

pub fn location_of(database: &Database) -> Location {
    match database {
        Database::Sqlite(path) => Location::Sqlite(path.clone()),
        Database::Postgres(url) => Location::Postgres(url.clone()),
    }
}

pub const fn retention_of(config: &Config) -> Retention {
    Retention { events: config.retention.events, attempts: config.retention.attempts }
}

/// Makes the folder of an embedded database, where its lock lies too.
pub fn make_folder(database: &Path) -> std::io::Result<()> {
    database.parent().filter(|folder| !folder.as_os_str().is_empty()).map_or(Ok(()), std::fs::create_dir_all)
}

/// The embedded store has one user.
fn lock_embedded(config: &Config) -> Result<Option<StoreLock>, BoxError> {
    let Database::Sqlite(path) = &config.database else { return Ok(None) };
    make_folder(path)?;
    if !config.network_file_system {
        refuse_network(path)?;
    }
    Ok(Some(StoreLock::take(path)?))
}

/// A shared store has nodes, each with an identity of its own.
fn take_identity(config: &Config) -> Result<(StoreLock, String), BoxError> {
    let Database::Postgres(url) = &config.database else {
        return Err("an embedded store has no nodes".into());
    };
    let key = BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(url.as_bytes()));
    Ok(StoreLock::take_identity(&config.state_dir, &key)?)
}

#[derive(Debug, thiserror::Error)]
#[error("the store {store} (WATCHPOST_DATABASE_URL) cannot be used")]
struct UnusableStore {
    store: String,
    source: StoreError,
}

fn policy_of(config: &Config) -> EgressPolicy {
    EgressPolicy::new(EgressRules {
        allow: config.egress.allow.clone(),
        http: config.egress.http,
        ports: config.egress.ports.clone(),
        ip_literals: config.egress.ip_literals,
    })
}
