//! `watchpost token mint`: prints an API token. Needs the key alone, so it works beside a running server.

use std::{collections::BTreeSet, time::Duration};

use serde_json::json;

use super::{Failure, Outcome, load, master_key, say};
use crate::{
    app::{
        Scope,
        access::{NAME_BYTES_MAX, is_name},
    },
    clock::{Clock, SystemClock},
    config::{Config, Secret, SettingsArgs},
    domain::duration::parse_duration,
    signing::{Keys, LIFETIME_MAX},
};

/// Who a credential stands for, and what they may do.
#[derive(Debug, clap::Args)]
pub struct BearerArgs {
    /// The project: one API of one team
    #[arg(long)]
    pub project: String,
    /// The subject: the owner of the channels that are opened with it
    #[arg(long)]
    pub subject: String,
    /// What it may do, separated by spaces: channels, events, admin
    #[arg(long, default_value = "channels events")]
    pub scope: String,
    /// A pattern of resources that may be watched, such as `calendar/v3/calendars/{subject}/**`; may be repeated;
    /// without one the whole project
    #[arg(long = "resources", value_name = "PATTERN")]
    pub resources: Vec<String>,
}

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    bearer: BearerArgs,
    /// How long the token lives
    #[arg(long, default_value = "1h", value_parser = parse_duration)]
    ttl: Duration,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    settings: SettingsArgs,
}

pub fn run(args: &Args) -> Outcome {
    let bearer = &args.bearer;
    let scopes = read_scopes(&bearer.scope)?;
    if args.ttl.is_zero() || args.ttl > LIFETIME_MAX {
        return Err(Failure::Usage("--ttl must lie between 1 second and 400 days".to_owned()));
    }
    if [&bearer.project, &bearer.subject].iter().any(|name| name.trim().is_empty() || !is_name(name)) {
        return Err(Failure::Usage(format!(
            "--project and --subject must not be empty, longer than {NAME_BYTES_MAX} bytes or hold control characters"
        )));
    }
    let config = load(&args.settings)?;
    let token = mint(&config, &bearer.project, &bearer.subject, &scopes, &bearer.resources, args.ttl)?;
    if args.json {
        let scope = scopes.into_iter().collect::<Vec<_>>().join(" ");
        let shown =
            json!({ "token": token, "project": bearer.project, "subject": bearer.subject, "scope": scope });
        say(&shown.to_string());
    } else {
        say(&token);
    }
    Ok(())
}

/// Mints with the store's own key.
pub fn mint(
    config: &Config,
    project: &str,
    subject: &str,
    scopes: &BTreeSet<String>,
    resources: &[String],
    ttl: Duration,
) -> Result<String, Failure> {
    let master = master_key::load(config)?;
    let keys = Keys::new(master.as_bytes(), config.jwt_secret.as_ref().map(Secret::reveal));
    Ok(keys.jwt.mint(project, subject, scopes, resources, ttl, SystemClock::new().now())?)
}

pub fn read_scopes(text: &str) -> Result<BTreeSet<String>, Failure> {
    let known = [Scope::Channels, Scope::Events, Scope::Admin].map(Scope::as_str);
    let scopes: BTreeSet<String> =
        text.split([' ', ',']).filter(|word| !word.is_empty()).map(str::to_owned).collect();
    match scopes.iter().find(|scope| !known.contains(&scope.as_str())) {
        Some(unknown) => Err(Failure::Usage(format!(
            "--scope: there is no scope {unknown}; known are {}",
            known.join(", ")
        ))),
        None if scopes.is_empty() => Err(Failure::Usage("--scope must not be empty".to_owned())),
        None => Ok(scopes),
    }
}
