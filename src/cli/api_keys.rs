//! `watchpost apikeys create / list / revoke`. Beside a running embedded server they go through it, which alone may
//! write its store.

use std::{collections::BTreeSet, time::Duration};

use serde_json::{Value, json};

use super::{Failure, Outcome, client::Client, job, load, say, token};
use crate::{
    app::{
        App, Principal, Scope,
        api_keys::{KeyRequest, PAGE_MAX},
    },
    config::{Config, Database, SettingsArgs},
    domain::duration::parse_duration,
    store::{StoreLock, running_server},
    web::api_key_json,
};

/// Long enough for the one command.
const TOKEN_TTL: Duration = Duration::from_mins(1);
/// Pages that `list` reads: far more keys than a project has.
const PAGES_MAX: usize = 100;

#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Make a key and print it; it is shown once
    Create(CreateArgs),
    /// List the keys of a project, newest first
    List(ListArgs),
    /// Take a key back: the next request with it is refused
    Revoke(RevokeArgs),
}

#[derive(Debug, clap::Args)]
pub struct CreateArgs {
    /// The project: one API of one team
    #[arg(long)]
    project: String,
    /// The subject: the owner of the channels that are opened with the key
    #[arg(long)]
    subject: String,
    /// What the key may do, separated by spaces: channels, events, admin
    #[arg(long, default_value = "channels events")]
    scope: String,
    /// A pattern of resources that may be watched, such as `calendar/v3/calendars/{subject}/**`; may be repeated;
    /// without one the whole project
    #[arg(long = "resources", value_name = "PATTERN")]
    resources: Vec<String>,
    /// How long the key lives; without it until it is revoked
    #[arg(long, value_parser = parse_duration)]
    ttl: Option<Duration>,
    /// What it is for
    #[arg(long)]
    name: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    settings: SettingsArgs,
}

#[derive(Debug, clap::Args)]
pub struct ListArgs {
    /// The project whose keys are listed
    #[arg(long)]
    project: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    settings: SettingsArgs,
}

#[derive(Debug, clap::Args)]
pub struct RevokeArgs {
    /// The key's id, `key_…`
    id: String,
    /// The project that it is of
    #[arg(long)]
    project: String,
    #[command(flatten)]
    settings: SettingsArgs,
}

pub async fn run(command: Command) -> Outcome {
    match command {
        Command::Create(args) => create(args).await,
        Command::List(args) => list(args).await,
        Command::Revoke(args) => revoke(args).await,
    }
}

async fn create(args: CreateArgs) -> Outcome {
    let scopes: Vec<String> = token::read_scopes(&args.scope)?.into_iter().collect();
    let resources = (!args.resources.is_empty()).then_some(args.resources);
    let ttl_seconds = args.ttl.map(|ttl| i64::try_from(ttl.as_secs()).unwrap_or(i64::MAX));
    let made = match Road::to(&load(&args.settings)?, &args.project).await? {
        Road::Server(client) => {
            let mut body = json!({ "subject": args.subject, "scopes": scopes });
            // What is not given is left out, as the server wants it.
            for (field, value) in [
                ("name", json!(args.name)),
                ("resources", json!(resources)),
                ("ttlSeconds", json!(ttl_seconds)),
            ] {
                if !value.is_null() {
                    body[field] = value;
                }
            }
            client.post("/apikeys", &body).await?
        }
        Road::Store { app, principal, _lock } => {
            let request = KeyRequest {
                name: args.name,
                subject: args.subject,
                scopes,
                resources,
                expires_at: None,
                ttl_seconds,
            };
            let (key, text) = app.create_key(&principal, request).await?;
            app.store.close().await;
            let mut shown = api_key_json(&key);
            shown["key"] = text.reveal().into();
            shown
        }
    };
    say(&if args.json { made.to_string() } else { text_of(&made, "key") });
    Ok(())
}

async fn list(args: ListArgs) -> Outcome {
    let keys = match Road::to(&load(&args.settings)?, &args.project).await? {
        Road::Server(client) => list_through(&client).await?,
        Road::Store { app, principal, _lock } => {
            let mut keys = Vec::new();
            let mut before = None;
            for _ in 0..PAGES_MAX {
                let page = app.list_keys(&principal, before, PAGE_MAX).await?;
                let Some(last) = page.last() else { break };
                before = Some(last.row);
                keys.extend(page.iter().map(api_key_json));
            }
            app.store.close().await;
            keys
        }
    };
    if args.json {
        say(&json!({ "items": keys }).to_string());
        return Ok(());
    }
    for key in &keys {
        let scopes: Vec<&str> =
            key["scopes"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let or = |field: &str, otherwise: &str| match key[field].as_str() {
            Some(text) => text.to_owned(),
            None => otherwise.to_owned(),
        };
        say(&format!(
            "{}  {}  {}  expires {}  used {}  {}",
            text_of(key, "id"),
            text_of(key, "subject"),
            scopes.join(","),
            or("expiresAt", "never"),
            or("lastUsedAt", "never"),
            or("name", ""),
        ));
    }
    Ok(())
}

async fn list_through(client: &Client) -> Result<Vec<Value>, Failure> {
    let mut keys = Vec::new();
    let mut page_token = String::new();
    for _ in 0..PAGES_MAX {
        let page = client.get(&format!("/apikeys?limit={PAGE_MAX}{page_token}")).await?;
        keys.extend(page["items"].as_array().into_iter().flatten().cloned());
        let Some(next) = page["nextPageToken"].as_str() else { break };
        page_token = format!("&pageToken={next}");
    }
    Ok(keys)
}

async fn revoke(args: RevokeArgs) -> Outcome {
    match Road::to(&load(&args.settings)?, &args.project).await? {
        Road::Server(client) => client.delete(&format!("/apikeys/{}", args.id)).await?,
        Road::Store { app, principal, _lock } => {
            app.revoke_key(&principal, &args.id).await?;
            app.store.close().await;
        }
    }
    Ok(())
}

/// How a command gets at the store: as an admin of the project either way.
enum Road {
    Server(Client),
    Store { app: App, principal: Principal, _lock: Option<StoreLock> },
}

impl Road {
    async fn to(config: &Config, project: &str) -> Result<Self, Failure> {
        let admin = BTreeSet::from([Scope::Admin.as_str().to_owned()]);
        let lock = match &config.database {
            Database::Sqlite(path) => match running_server(path) {
                Some(server) => {
                    let token = token::mint(config, project, "watchpost", &admin, &[], TOKEN_TTL)?;
                    return Ok(Self::Server(Client::new(&format!("http://{server}"), &token)?));
                }
                None if !path.exists() => return Err(job::LACKS_MIGRATIONS.into()),
                None => Some(StoreLock::take(path)?),
            },
            Database::Postgres(_) => None,
        };
        let app = job::app_here(config).await?;
        let token = token::mint(config, project, "watchpost", &admin, &[], TOKEN_TTL)?;
        let principal = app.authenticate(|| Ok(Some(token))).await?;
        Ok(Self::Store { app, principal, _lock: lock })
    }
}

fn text_of(value: &Value, field: &str) -> String {
    value[field].as_str().unwrap_or_default().to_owned()
}
