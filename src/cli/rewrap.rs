//! `watchpost keys rewrap --to FILE`: a new master key. With no server on the store; can be interrupted and run again.

use std::path::PathBuf;

use serde_json::json;

use super::{Failure, Outcome, load, master_key, road::LACKS_MIGRATIONS, say, server::location_of};
use crate::{
    app::rewrap,
    config::{Config, Database, MasterKey, SettingsArgs},
    entropy::SystemEntropy,
    runtime::Tasks,
    signing::Keys,
    store::{Store, StoreLock},
};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// A file with the new master key: 32 bytes in base64, as `openssl rand -base64 32` makes them
    #[arg(long, value_name = "FILE")]
    to: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    settings: SettingsArgs,
}

/// What the operator has to know of a new key.
const AFTERWARDS: &str = "All claim URLs are new ones: receivers are told theirs with the next notice, owners see it when \
                          they rotate it. API tokens that this server has minted under the old key are void. Keep the \
                          old key as long as you keep back-ups that were made under it.";

pub async fn run(args: Args) -> Outcome {
    let config = load(&args.settings)?;
    let new = read_key(&args.to)?;
    let location = location_of(&config.database);
    let _lock = match &config.database {
        Database::Sqlite(path) if !path.exists() => return Err(LACKS_MIGRATIONS.into()),
        Database::Sqlite(path) => Some(StoreLock::take(path)?),
        Database::Postgres(_) => None,
    };
    if !Store::pending_migrations(&location).await?.is_empty() {
        return Err(LACKS_MIGRATIONS.into());
    }
    let store = Store::open(&location, Tasks::current(), Box::new(|_, _| {})).await?;
    let outcome = change(&config, &store, &new).await;
    store.close().await;
    let rewrapped = outcome?;
    let kept = master_key::replace(&config, &new)?;
    if args.json {
        let shown = json!({ "channels": rewrapped.channels, "signingKeys": rewrapped.signing_keys });
        say(&shown.to_string());
        return Ok(());
    }
    say(&format!("sealed anew: {} channels, {} signing keys", rewrapped.channels, rewrapped.signing_keys));
    match kept {
        Some(old) => say(&format!("The new key is in place, the old one is in {}.", old.display())),
        None => say("Now give every node the new key in WATCHPOST_MASTER_KEY, or in its file."),
    }
    say(AFTERWARDS);
    Ok(())
}

async fn change(config: &Config, store: &Store, new: &MasterKey) -> Result<rewrap::Rewrapped, Failure> {
    let old = Keys::new(master_key::load(config)?.as_bytes(), None);
    let new = Keys::new(new.as_bytes(), None);
    let known = store.master_key_fingerprint().await?;
    // Under the new one already: the last run ended before it could put the key in its place.
    if known.as_ref() != Some(&old.fingerprint) && known.as_ref() != Some(&new.fingerprint) {
        return Err(master_key::KeyError::Another.into());
    }
    Ok(rewrap::rewrap(store, &old, &new, &SystemEntropy).await?)
}

fn read_key(path: &std::path::Path) -> Result<MasterKey, Failure> {
    let wrong = |error: &dyn std::fmt::Display| Failure::Usage(format!("--to: {}: {error}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|error| wrong(&error))?;
    MasterKey::from_base64(text.trim()).map_err(|error| wrong(&error))
}
