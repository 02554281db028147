//! `watchpost migrate`: brings the store to this version's schema; `--check` only tells whether it has it.

use serde_json::json;

use super::{
    Outcome, load, say,
    serve::store_name,
    server::{location_of, make_folder},
};
use crate::{
    config::{Database, SettingsArgs},
    store::{Store, StoreLock},
};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Write nothing; exit with 1 if migrations are pending
    #[arg(long)]
    check: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    settings: SettingsArgs,
}

pub async fn run(args: Args) -> Outcome {
    let config = load(&args.settings)?;
    let location = location_of(&config.database);
    let pending = Store::pending_migrations(&location).await?;
    if args.check {
        report(&args, &store_name(&config.database), "pending", &pending);
        return if pending.is_empty() {
            Ok(())
        } else {
            Err(format!("{} migrations are pending", pending.len()).into())
        };
    }
    let ran = if pending.is_empty() {
        Vec::new()
    } else {
        // A running server has migrated its store when it started, so here the lock is free or somebody else's.
        let _lock = match &config.database {
            Database::Sqlite(path) => {
                make_folder(path)?;
                Some(StoreLock::take(path)?)
            }
            Database::Postgres(_) => None,
        };
        Store::migrate(&location).await?
    };
    report(&args, &store_name(&config.database), "applied", &ran);
    Ok(())
}

fn report(args: &Args, store: &str, word: &str, migrations: &[String]) {
    if args.json {
        say(&json!({ "store": store, word: migrations }).to_string());
    } else if migrations.is_empty() {
        say(&format!("{store}: nothing {word}"));
    } else {
        say(&format!("{store}: {word} {}", migrations.join(", ")));
    }
}
