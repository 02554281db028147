//! `watchpost serve`: the server, until it is told to stop.

use std::sync::Arc;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{
    Outcome, load, say,
    server::{ConnectionLimits, Parts, Server, bind},
};
use crate::{
    clock::SystemClock,
    config::{Auth, Config, Database, SettingsArgs},
    domain::egress::Ports,
    entropy::SystemEntropy,
    telemetry,
};

/// Open without being told so.
const PORTS_USUAL: [u16; 2] = [443, 8443];

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    settings: SettingsArgs,
}

pub async fn run(args: Args) -> Outcome {
    let config = load(&args.settings)?;
    telemetry::init(&config.log, config.log_format)?;
    let mut interrupts = Interrupts::listen()?;
    let listener = bind(config.listen, "LISTEN")?;
    let ops_listener = config.ops_listen.map(|address| bind(address, "OPS_LISTEN")).transpose()?;
    let parts = Parts {
        config: config.clone(),
        clock: Arc::new(SystemClock::new()),
        entropy: Arc::new(SystemEntropy),
        listener,
        ops_listener,
        limits: ConnectionLimits::default(),
        extra: None,
        pulse: true,
    };
    let server = Server::start(parts).await?;
    announce(&config, &server);
    interrupts.first().await;
    tracing::info!("stopping");
    server.stop().await;
    Ok(())
}

/// What an operator wants to know at start: where the store is, which versions, what is open.
fn announce(config: &Config, server: &Server) {
    say(&format!("watchpost {}", env!("CARGO_PKG_VERSION")));
    say(&format!("store {} ({})", store_name(&config.database), server.app.store.description()));
    if config.auth == Auth::Off {
        say("AUTH is off: whoever reaches this address may do everything");
    }
    for hole in holes(config) {
        say(&format!("open in the egress policy: {hole}"));
    }
    announce_probes(server);
    say(&format!("listening on http://{}", server.address));
}

/// Where the probes are, if they have a listener of their own.
pub fn announce_probes(server: &Server) {
    if let Some(address) = server.ops_address {
        let open = if address.ip().to_canonical().is_loopback() { "" } else { ", open beyond loopback" };
        say(&format!("probes on http://{address}{open}"));
    }
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
    let unusual = |port: &u16| !PORTS_USUAL.contains(port);
    match &egress.ports {
        Ports::Any => holes.push("EGRESS_PORTS: any port".to_owned()),
        Ports::Only(ports) if ports.iter().any(unusual) => {
            holes.push(format!("EGRESS_PORTS: {}", egress.ports));
        }
        Ports::Only(_) => {}
    }
    if config.destination_rate.is_none() {
        holes.push("DESTINATION_RATE: no destination is spared".to_owned());
    }
    holes
}

/// SIGINT and SIGTERM, listened for from the very start: a supervisor may change its mind before we are ready.
#[derive(Debug)]
pub struct Interrupts {
    terminate: Signal,
    interrupt: Signal,
}

impl Interrupts {
    pub fn listen() -> std::io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Ends with the first of them.
    pub async fn first(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
