//! `watchpost keys rotate`, `list` and `jwks`: the server's own signing keys. Beside a running embedded server a rotation
//! goes through it; the others only read.

use std::time::Duration;

use serde_json::{Value, json};

use super::{
    Failure, Outcome, load,
    road::{LACKS_MIGRATIONS, Road, operator_client},
    say,
    server::location_of,
};
use crate::{
    app::signing_keys::{key_set, uses},
    clock::{Clock, SystemClock},
    config::{Config, Database, SettingsArgs},
    domain::{
        duration::{format_duration, parse_duration},
        signing_key::SigningKeyRecord,
        time::Timestamp,
    },
    signing::public_text,
    store::Store,
};

#[derive(Debug, clap::Args)]
pub struct RotateArgs {
    /// How long the keys before the new one stay published: 1h to 90d, or 0s to withdraw them at once
    #[arg(long, default_value = "24h", value_parser = parse_duration)]
    overlap: Duration,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    settings: SettingsArgs,
}

#[derive(Debug, clap::Args)]
pub struct ListArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    settings: SettingsArgs,
}

#[derive(Debug, clap::Args)]
pub struct JwksArgs {
    #[command(flatten)]
    settings: SettingsArgs,
}

pub async fn rotate(args: RotateArgs) -> Outcome {
    let config = load(&args.settings)?;
    match Road::to(&config).await? {
        Road::Server(server) => {
            let overlap = json!({ "overlap": format_duration(args.overlap) });
            operator_client(&config, &server)?.post("/keys/rotate", &overlap).await?;
        }
        Road::Store { app, _lock } => {
            app.succeed_signing_key(Some(args.overlap)).await?;
            app.store.close().await;
        }
    }
    show(&read(&config).await?, args.json);
    Ok(())
}

pub async fn list(args: ListArgs) -> Outcome {
    show(&read(&load(&args.settings)?).await?, args.json);
    Ok(())
}

pub async fn jwks(args: JwksArgs) -> Outcome {
    let keys = read(&load(&args.settings)?).await?;
    say(&key_set(&keys, SystemClock::new().now()).to_string());
    Ok(())
}

/// Reads beside whoever uses the store.
async fn read(config: &Config) -> Result<Vec<SigningKeyRecord>, Failure> {
    let location = location_of(&config.database);
    let exists = if let Database::Sqlite(path) = &config.database { path.exists() } else { true };
    if !exists || !Store::pending_migrations(&location).await?.is_empty() {
        return Err(LACKS_MIGRATIONS.into());
    }
    Ok(Store::open_to_read(&location)?.signing_keys().await?)
}

fn show(keys: &[SigningKeyRecord], as_json: bool) {
    let uses = uses(keys, SystemClock::new().now());
    if as_json {
        let shown: Vec<Value> = uses
            .iter()
            .map(|(key, used)| {
                json!({
                    "kid": key.kid,
                    "publicKey": public_text(&key.public_key),
                    "use": used.as_str(),
                    "createdAt": key.created_at.to_rfc3339(),
                    "signsFrom": key.signs_from.to_rfc3339(),
                    "until": key.until.map(Timestamp::to_rfc3339),
                })
            })
            .collect();
        say(&Value::from(shown).to_string());
        return;
    }
    for (key, used) in uses {
        let until = key.until.map(|until| format!(", until {}", until.to_rfc3339())).unwrap_or_default();
        let public = public_text(&key.public_key);
        say(&format!(
            "{}  {public}  {}, signs from {}{until}",
            key.kid,
            used.as_str(),
            key.signs_from.to_rfc3339()
        ));
    }
}
