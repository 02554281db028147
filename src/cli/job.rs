//! `watchpost job run NAME`: runs a job once. Beside a running embedded server it goes through that server.

use serde_json::{Value, json};

use super::{
    Failure, Outcome, load,
    road::{Road, operator_client},
    say,
};
use crate::{
    app::App,
    config::{Config, SettingsArgs},
    jobs::{JobName, Jobs, Run},
};

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
    let report = match Road::to(&config).await? {
        Road::Server(server) => through(&config, &server, job, run).await?,
        // On a shared store jobs are safe to run twice and from anywhere; the delivering node looks for work by itself.
        Road::Store { app, _lock } => here(*app, job, run).await?,
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

async fn here(app: App, job: JobName, run: Run) -> Result<Value, Failure> {
    let store = app.store.clone();
    let report = Jobs::new(app, None).run(job, run).await?;
    store.close().await;
    Ok(json!(report))
}
