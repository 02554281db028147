//! `watchpost serve`: the server, until it is told to stop.

use std::sync::Arc;

use tokio::signal::unix::{SignalKind, signal};

use super::{
    Outcome, load, say,
    server::{Parts, Server, bind},
};
use crate::{
    clock::SystemClock,
    config::{Config, Database, SettingsArgs},
    entropy::SystemEntropy,
    telemetry,
};

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    settings: SettingsArgs,
}

pub async fn run(args: Args) -> Outcome {
    let config = load(&args.settings)?;
    telemetry::init(&config.log, config.log_format)?;
    let listener =
        bind(config.listen).map_err(|error| format!("{} cannot be listened on: {error}", config.listen))?;
    let parts = Parts {
        config: config.clone(),
        clock: Arc::new(SystemClock::new()),
        entropy: Arc::new(SystemEntropy),
        listener,
        extra: None,
        pulse: true,
    };
    let server = Server::start(parts).await?;
    announce(&config, &server);
    interrupted().await?;
    tracing::info!("stopping");
    server.stop().await;
    Ok(())
}

/// What an operator wants to know at start: where the store is, which versions, what is open.
fn announce(config: &Config, server: &Server) {
    say(&format!("watchpost {}", env!("CARGO_PKG_VERSION")));
    say(&format!("store {} ({})", store_name(&config.database), server.app.store.description()));
    for hole in holes(config) {
        say(&format!("open in the egress policy: {hole}"));
    }
    say(&format!("listening on http://{}", server.address));
}

/// The absolute path, or the database without its credentials.
pub fn store_name(database: &Database) -> String {
    match database {
        Database::Sqlite(path) => {
            std::path::absolute(path).unwrap_or_else(|_| path.clone()).display().to_string()
        }
        Database::Postgres(url) => url::Url::parse(url).map_or_else(
            |_| "PostgreSQL".to_owned(),
            |url| format!("postgres://{}{}", url.host_str().unwrap_or_default(), url.path()),
        ),
    }
}

fn holes(config: &Config) -> Vec<String> {
    let egress = &config.egress;
    let mut holes: Vec<String> = egress.allow.iter().map(|rule| format!("EGRESS_ALLOW {rule}")).collect();
    if egress.http {
        holes.push("EGRESS_HTTP: plain http to public addresses".to_owned());
    }
    if egress.ip_literals {
        holes.push("EGRESS_IP_LITERALS: addresses without a name".to_owned());
    }
    if egress.ports == crate::domain::egress::Ports::Any {
        holes.push("EGRESS_PORTS: any port".to_owned());
    }
    holes
}

/// Ends with the first SIGINT or SIGTERM.
pub async fn interrupted() -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}
