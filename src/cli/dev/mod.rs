//! `watchpost dev`: the first five minutes. Everything in one process, on a store in the current directory, with a
//! bin as the receiver and the real engine at work.

mod bin;
mod story;

use std::{net::TcpListener, sync::Arc};

use super::{
    Failure, Outcome, say,
    serve::{Interrupts, announce_probes, store_name},
    server::{ConnectionLimits, Parts, Server, bind},
};
use crate::{
    clock::SystemClock,
    config::{Config, Origin, SettingsArgs},
    entropy::SystemEntropy,
    telemetry,
};

/// What suits a first look. Whatever the user sets wins.
const DEFAULTS: &[(&str, &str)] = &[
    ("DATABASE_URL", "sqlite:./.watchpost/watchpost.db"),
    ("RETRY_SCHEDULE", "0s,1s,2s,4s,8s,15s,30s"),
    ("LOG", "warn"),
];

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Leave after the story instead of staying for your turn
    #[arg(long)]
    once: bool,
    #[command(flatten)]
    settings: SettingsArgs,
}

pub async fn run(args: Args) -> Outcome {
    let mut config = Config::load_with_defaults(&args.settings, DEFAULTS)
        .map_err(|error| Failure::Usage(error.to_string()))?;
    // The bin is in this very process, whatever else the user opens.
    for loopback in ["127.0.0.0/8", "::1/128"] {
        config.egress.allow.push(loopback.parse()?);
    }
    telemetry::init(&config.log, config.log_format)?;
    let mut interrupts = Interrupts::listen()?;
    let bin = Arc::new(bin::Bin::default());
    let parts = Parts {
        config: config.clone(),
        clock: Arc::new(SystemClock::new()),
        entropy: Arc::new(SystemEntropy),
        listener: listener(&config)?,
        ops_listener: config.ops_listen.map(|address| bind(address, "OPS_LISTEN")).transpose()?,
        limits: ConnectionLimits::default(),
        extra: Some(bin::routes(&bin)),
        pulse: true,
    };
    let server = Server::start(parts).await?;
    say(&format!(
        "watchpost dev  http://{}   store {}   bin {}",
        server.address,
        store_name(&config.database),
        bin::PATH
    ));
    announce_probes(&server);
    let story = story::Story::new(&server, &config, bin)?;
    let told = async {
        story.tell().await?;
        if !args.once {
            story.hand_over();
            story.show().await;
        }
        Ok(())
    };
    // Whoever has seen enough leaves in order, in the middle of the story as well.
    let told = tokio::select! {
        told = told => told,
        () = interrupts.first() => Ok(()),
    };
    let stopped = story.stop_leftovers().await;
    server.stop().await;
    told.and(stopped)
}

/// The usual port, or a free one where it is taken and the user did not insist.
fn listener(config: &Config) -> Result<TcpListener, Failure> {
    let by_default =
        config.describe().iter().any(|setting| setting.key == "LISTEN" && setting.origin == Origin::Default);
    match bind(config.listen, "LISTEN") {
        Err(error) if error.source.kind() == std::io::ErrorKind::AddrInUse && by_default => {
            let mut any = config.listen;
            any.set_port(0);
            Ok(bind(any, "LISTEN")?)
        }
        bound => Ok(bound?),
    }
}
