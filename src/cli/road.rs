//! How a command that writes gets at the store. An embedded one is its server's alone while that runs, so the command goes
//! through it; otherwise the command holds the store itself, which on a shared one takes nothing.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use super::{
    Failure,
    client::Client,
    master_key,
    server::{location_of, retention_of},
};
use crate::{
    app::{App, Callers, Scope, Settings},
    clock::{Clock, SystemClock},
    config::{Config, Database},
    domain::expiry::Lifetimes,
    entropy::SystemEntropy,
    outbound::{EgressPolicy, EgressRules},
    runtime::Tasks,
    signing::Keys,
    store::{Reminding, Store, StoreLock, running_server},
    wake::Bells,
};

/// Long enough for the one command.
pub(super) const TOKEN_TTL: Duration = Duration::from_mins(1);
pub(super) const LACKS_MIGRATIONS: &str = "the store lacks migrations: run `watchpost migrate` first";

pub(super) enum Road {
    /// Where the server listens that holds the store.
    Server(String),
    Store {
        app: Box<App>,
        _lock: Option<StoreLock>,
    },
}

impl Road {
    pub(super) async fn to(config: &Config) -> Result<Self, Failure> {
        let lock = match &config.database {
            Database::Sqlite(path) => match running_server(path) {
                Some(server) => return Ok(Self::Server(server)),
                None if !path.exists() => {
                    let nothing =
                        format!("there is no store at {}: run `watchpost migrate` first", path.display());
                    return Err(nothing.into());
                }
                None => Some(StoreLock::take(path)?),
            },
            Database::Postgres(_) => None,
        };
        Ok(Self::Store { app: Box::new(app_here(config).await?), _lock: lock })
    }
}

/// A client of the server that holds the store, for what only whoever has the master key may ask.
pub(super) fn operator_client(config: &Config, server: &str) -> Result<Client, Failure> {
    let scopes = BTreeSet::from([Scope::Operator.as_str().to_owned()]);
    let master = master_key::load(config)?;
    let keys = Keys::new(master.as_bytes(), None);
    let now = SystemClock::new().now();
    let token = keys.operator.mint("watchpost", "operator", &scopes, &[], TOKEN_TTL, now)?;
    Ok(Client::new(&format!("http://{server}"), &token)?)
}

/// The use cases, on the store itself.
async fn app_here(config: &Config) -> Result<App, Failure> {
    let location = location_of(&config.database);
    let pending = Store::pending_migrations(&location).await?;
    if !pending.is_empty() {
        return Err(LACKS_MIGRATIONS.into());
    }
    let store = Store::open(&location, Tasks::current(), Box::new(|_, _| {})).await?;
    let keys = master_key::of_store(config, &store, &SystemEntropy).await?;
    Ok(App {
        store,
        clock: Arc::new(SystemClock::new()),
        entropy: Arc::new(SystemEntropy),
        bells: Bells::default(),
        keys: Arc::new(keys),
        policy: EgressPolicy::new(EgressRules::default()),
        settings: Arc::new(Settings {
            lifetimes: Lifetimes { default: config.ttl.default, max: config.ttl.max },
            public_url: url::Url::parse("http://localhost")?,
            api_url: url::Url::parse("http://localhost")?,
            header_prefix: config.header_prefix.clone(),
            reminding: Reminding {
                schedule: Arc::new(config.claim_reminders.clone()),
                kept_for: config.retention.events,
            },
            auth_off: false,
            retention: retention_of(config),
            declared_only: false,
        }),
        callers: Arc::new(Callers::default()),
    })
}
