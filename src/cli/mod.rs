//! Commands. Exit codes: 0 done, 1 failed, 2 wrong usage.
//!
//! Those that touch an embedded store work beside a running server: they only read, or go through the server, whose
//! address stands in the lock file.

mod api_keys;
mod callers;
mod client;
mod config;
mod dev;
mod job;
mod keys;
mod listener;
mod master_key;
mod migrate;
mod rewrap;
mod road;
mod serve;
pub mod server;
mod token;

use std::{io::Write as _, process::ExitCode};

use clap::{Parser, Subcommand};

use crate::config::{Config, SettingsArgs};

/// A push-notification channel service: watch channels and webhooks for any API.
#[derive(Debug, Parser)]
#[command(
    name = "watchpost",
    version,
    arg_required_else_help = true,
    after_help = "First time here? `watchpost dev` shows everything in one process."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show everything in one process: watch, sync, change, outage, retry
    Dev(dev::Args),
    /// Run the server
    Serve(serve::Args),
    /// API tokens
    #[command(subcommand)]
    Token(TokenCommand),
    /// API keys
    #[command(subcommand, name = "apikeys")]
    ApiKeys(api_keys::Command),
    /// Bring the store to this version's schema
    Migrate(migrate::Args),
    /// The server's own signing keys
    #[command(subcommand)]
    Keys(KeysCommand),
    /// Jobs that otherwise run by themselves
    #[command(subcommand)]
    Job(JobCommand),
    /// Show every setting, its value and where it comes from
    Config(config::Args),
}

#[derive(Debug, Subcommand)]
enum TokenCommand {
    /// Print a token for the API
    Mint(token::Args),
}

#[derive(Debug, Subcommand)]
enum KeysCommand {
    /// Replace the key that signs; those before it stay published for a while
    Rotate(keys::RotateArgs),
    /// Show the keys and what each is good for
    List(keys::ListArgs),
    /// Seal everything under a new master key; with no server on the store
    Rewrap(rewrap::Args),
    /// Print the public keys as /.well-known/jwks.json shows them
    Jwks(keys::JwksArgs),
}

#[derive(Debug, Subcommand)]
enum JobCommand {
    /// Run a job once, now
    Run(job::Args),
}

/// Parses the command line and runs the command.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    // Both crypto back ends may be linked in; which one is used must not depend on that.
    let _ = jsonwebtoken::crypto::aws_lc::DEFAULT_PROVIDER.install_default();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error),
    };
    let outcome = runtime.block_on(async {
        match cli.command {
            Command::Dev(args) => dev::run(args).await,
            Command::Serve(args) => serve::run(args).await,
            Command::Token(TokenCommand::Mint(args)) => token::run(&args),
            Command::ApiKeys(command) => api_keys::run(command).await,
            Command::Migrate(args) => migrate::run(args).await,
            Command::Keys(KeysCommand::Rotate(args)) => keys::rotate(args).await,
            Command::Keys(KeysCommand::List(args)) => keys::list(args).await,
            Command::Keys(KeysCommand::Rewrap(args)) => rewrap::run(args).await,
            Command::Keys(KeysCommand::Jwks(args)) => keys::jwks(args).await,
            Command::Job(JobCommand::Run(args)) => job::run(args).await,
            Command::Config(args) => config::run(&args),
        }
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Usage(text)) => {
            say_error(&text);
            ExitCode::from(2)
        }
        Err(Failure::Failed(error)) => fail(error.as_ref()),
    }
}

/// Why a command did not do what it was asked.
#[derive(Debug)]
pub enum Failure {
    /// The command line or the settings are wrong.
    Usage(String),
    Failed(Box<dyn std::error::Error + Send + Sync>),
}

impl<E: Into<Box<dyn std::error::Error + Send + Sync>>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

type Outcome = Result<(), Failure>;

/// Settings as the command line gives them; wrong ones are wrong usage.
fn load(settings: &SettingsArgs) -> Result<Config, Failure> {
    Config::load(settings).map_err(|error| Failure::Usage(error.to_string()))
}

fn fail(error: &dyn std::error::Error) -> ExitCode {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    say_error(&text);
    ExitCode::FAILURE
}

/// Prints a result. Whoever reads it may have had enough: that ends no command, and panics in none.
fn say(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

#[expect(clippy::print_stderr, reason = "why the command failed")]
fn say_error(text: &str) {
    eprintln!("error: {text}");
}
