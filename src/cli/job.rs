//! `watchpost job run NAME`: runs a job once. Beside a running embedded server it goes through that server.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use serde_json::{Value, json};

use super::{
    Failure, Outcome,
    client::Client,
    load, master_key, say,
    server::{location_of, retention_of},
};
use crate::{
    app::{App, Callers, Scope, Settings},
    clock::{Clock, SystemClock},
    config::{Config, Database, SettingsArgs},
    domain::expiry::Lifetimes,
    entropy::SystemEntropy,
    jobs::{JobName, Jobs, Run},
    outbound::{EgressPolicy, EgressRules},
    runtime::Tasks,
    signing::Keys,
    store::{Reminding, Store, StoreLock, running_server},
    wake::Bells,
};

const TOKEN_TTL: Duration = Duration::from_mins(1);
pub(super) const LACKS_MIGRATIONS: &str = "the store lacks migrations: run `watchpost migrate` first";

#[derive(Debug, clap::Args)]
pub struct Args {
    /// expiry, renewal, retry, claims or retention
    name: String,
    /// Only tell what the run would delete
    #[arg(long)]
    dry_run: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    settings: SettingsArgs,
}

pub async fn run(args: Args) -> Outcome {
    let job = JobName::parse(&args.name).ok_or_else(|| {
        let known: Vec<_> = JobName::ALL.iter().map(|job| job.as_str()).collect();
        Failure::Usage(format!("there is no job {}; known are {}", args.name, known.join(", ")))
    })?;
    let run = if args.dry_run { Run::Dry } else { Run::Real };
    if run == Run::Dry && !job.counts() {
        return Err(Failure::Usage(format!("{} has no dry run; only retention has", job.as_str())));
    }
    let config = load(&args.settings)?;
    let report = match &config.database {
        Database::Sqlite(path) => {
            if let Some(server) = running_server(path) {
                through(&config, &server, job, run).await?
            } else if !path.exists() {
                return Err(LACKS_MIGRATIONS.into());
            } else {
                let _lock = StoreLock::take(path)?;
                here(&config, job, run).await?
            }
        }
        // Jobs are safe to run twice and from anywhere; the delivering node looks for work by itself.
        Database::Postgres(_) => here(&config, job, run).await?,
    };
    if args.json {
        say(&json!({ "job": job.as_str(), "report": report }).to_string());
    } else {
        let counts = report.as_object().into_iter().flatten().map(|(name, count)| format!("{name} {count}"));
        say(&format!("{}: {}", job.as_str(), counts.collect::<Vec<_>>().join(", ")));
    }
    Ok(())
}

async fn through(config: &Config, server: &str, job: JobName, run: Run) -> Result<Value, Failure> {
    let query = if run == Run::Dry { "?dryRun=true" } else { "" };
    let client = operator_client(config, server)?;
    let answer = client.post(&format!("/jobs/{}{query}", job.as_str()), &Value::Null).await?;
    Ok(answer.get("report").cloned().unwrap_or_default())
}

async fn here(config: &Config, job: JobName, run: Run) -> Result<Value, Failure> {
    let app = app_here(config).await?;
    let store = app.store.clone();
    let report = Jobs::new(app, None).run(job, run).await?;
    store.close().await;
    Ok(json!(report))
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

/// The use cases, on the store itself: for commands beside a server that does not run.
pub(super) async fn app_here(config: &Config) -> Result<App, Failure> {
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
