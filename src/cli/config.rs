//! `watchpost config`: every setting, its value and where it comes from. Secrets are hidden.

use serde_json::json;

use super::{Outcome, load, say};
use crate::config::SettingsArgs;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    settings: SettingsArgs,
}

pub fn run(args: &Args) -> Outcome {
    let config = load(&args.settings)?;
    if args.json {
        let all = config.describe().iter().map(|setting| {
            (setting.key.to_owned(), json!({ "value": setting.value, "from": setting.origin.to_string() }))
        });
        say(&serde_json::Value::Object(all.collect()).to_string());
        return Ok(());
    }
    let width = config.describe().iter().map(|setting| setting.key.len()).max().unwrap_or_default();
    for setting in config.describe() {
        let value = if setting.value.is_empty() { "-" } else { &setting.value };
        say(&format!("WATCHPOST_{:width$}  {value}  ({})", setting.key, setting.origin));
    }
    Ok(())
}
