//! Where a value came from, and what is wrong with it. Values of secrets never get here.

use std::{fmt, net::SocketAddr, path::PathBuf, time::Duration};

use super::table;
use crate::domain::duration::format_duration;

/// Where a value was given, as its author would look for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    Default,
    /// `--listen`
    Flag(String),
    /// `WATCHPOST_LISTEN`
    Variable(String),
    /// `listen` in `watchpost.toml`
    File {
        path: PathBuf,
        key: String,
    },
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Flag(name) | Self::Variable(name) => f.write_str(name),
            Self::File { path, key } => write!(f, "{key} in {}", path.display()),
        }
    }
}

/// Everything that is wrong, so that one run shows it all.
#[derive(Debug, thiserror::Error)]
#[error("{}", lines(problems))]
pub struct ConfigError {
    pub problems: Vec<Problem>,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    #[error("{}: {reason}", named(key, origin))]
    Invalid { key: &'static str, origin: Origin, reason: String },
    #[error("{origin} is not a setting{}", hint(nearest.as_deref()))]
    Unknown { origin: Origin, nearest: Option<String> },
    #[error("{first} and {second} are both given: keep one of them")]
    Twice { first: Origin, second: Origin },
    #[error("{}: {reason}", path.display())]
    File { path: PathBuf, reason: String },
    #[error("WATCHPOST_AUTH=off is only for loopback, and WATCHPOST_LISTEN is {listen}")]
    AuthOffBeyondLoopback { listen: SocketAddr },
    #[error("WATCHPOST_PUBLIC_URL is required because WATCHPOST_LISTEN is {listen}, beyond loopback")]
    PublicUrlRequired { listen: SocketAddr },
    #[error("{} is required beside WATCHPOST_JWKS_URL", table::variable(key))]
    RequiredByJwksUrl { key: &'static str },
    #[error("{} means nothing without WATCHPOST_JWKS_URL", table::variable(key))]
    WithoutJwksUrl { key: &'static str },
    #[error("WATCHPOST_MASTER_KEY is required because WATCHPOST_DATABASE_URL is PostgreSQL")]
    MasterKeyRequired,
    #[error(
        "WATCHPOST_CHANNEL_TTL_DEFAULT ({}) is longer than WATCHPOST_CHANNEL_TTL_MAX ({})",
        format_duration(*default),
        format_duration(*max)
    )]
    TtlDefaultAboveMax { default: Duration, max: Duration },
}

fn lines(problems: &[Problem]) -> String {
    problems.iter().map(Problem::to_string).collect::<Vec<_>>().join("\n")
}

/// The variable always, since that is how a setting is documented; where else it was given if it was.
fn named(key: &str, origin: &Origin) -> String {
    let variable = table::variable(key);
    match origin {
        Origin::Default => format!("{variable} (its default)"),
        Origin::Variable(name) if *name == variable => variable,
        origin => format!("{variable} (from {origin})"),
    }
}

fn hint(nearest: Option<&str>) -> String {
    nearest.map_or_else(String::new, |name| format!("; did you mean {name}?"))
}
