//! `watchpost apikeys create / list / revoke`. Beside a running embedded server they go through it, which alone may
//! write its store.

use std::{collections::BTreeSet, time::Duration};

use serde_json::{Value, json};

use super::{
    Failure, Outcome,
    client::Client,
    load,
    road::{Road, TOKEN_TTL},
    say,
    token::{self, BearerArgs},
};
use crate::{
    app::{
        App, Principal, Scope,
        api_keys::{KeyRequest, PAGE_MAX},
    },
    config::{Config, SettingsArgs},
    domain::duration::parse_duration,
    web::api_key_json,
};

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
    #[command(flatten)]
    bearer: BearerArgs,
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
    let scopes: Vec<String> = token::read_scopes(&args.bearer.scope)?.into_iter().collect();
    let resources = (!args.bearer.resources.is_empty()).then_some(args.bearer.resources);
    let ttl_seconds = args.ttl.map(|ttl| i64::try_from(ttl.as_secs()).unwrap_or(i64::MAX));
    let (config, project) = (load(&args.settings)?, args.bearer.project);
    let made = match Road::to(&config).await? {
        Road::Server(server) => {
            let client = client_of(&config, &server, &project)?;
            let mut body = json!({ "subject": args.bearer.subject, "scopes": scopes });
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
        Road::Store { app, _lock } => {
            let principal = principal_of(&config, &app, &project).await?;
            let request = KeyRequest {
                name: args.name,
                subject: args.bearer.subject,
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
    let config = load(&args.settings)?;
    let keys = match Road::to(&config).await? {
        Road::Server(server) => list_through(&client_of(&config, &server, &args.project)?).await?,
        Road::Store { app, _lock } => {
            let principal = principal_of(&config, &app, &args.project).await?;
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
    let config = load(&args.settings)?;
    match Road::to(&config).await? {
        Road::Server(server) => {
            let client = client_of(&config, &server, &args.project)?;
            client.delete(&format!("/apikeys/{}", args.id)).await?;
        }
        Road::Store { app, _lock } => {
            let principal = principal_of(&config, &app, &args.project).await?;
            app.revoke_key(&principal, &args.id).await?;
            app.store.close().await;
        }
    }
    Ok(())
}

/// A token of an admin of the project.
fn admin_token(config: &Config, project: &str) -> Result<String, Failure> {
    let admin = BTreeSet::from([Scope::Admin.as_str().to_owned()]);
    token::mint(config, project, "watchpost", &admin, &[], TOKEN_TTL)
}

fn client_of(config: &Config, server: &str, project: &str) -> Result<Client, Failure> {
    Ok(Client::new(&format!("http://{server}"), &admin_token(config, project)?)?)
}

async fn principal_of(config: &Config, app: &App, project: &str) -> Result<Principal, Failure> {
    let token = admin_token(config, project)?;
    Ok(app.authenticate(|| Ok(Some(token))).await?)
}

fn text_of(value: &Value, field: &str) -> String {
    value[field].as_str().unwrap_or_default().to_owned()
}
