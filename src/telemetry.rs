//! Logging to standard error. Standard output belongs to the results of commands.

use std::io::{IsTerminal, stderr};

use tracing_subscriber::{EnvFilter, filter::ParseError, fmt};

use crate::config::LogFormat;

#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    #[error("the log filter is invalid")]
    Filter(#[from] ParseError),
    #[error("logging is already set up")]
    Installed(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// What libraries say about their own starting and stopping is of use only to who asks for it by name.
const QUIET: [&str; 2] = ["tokio_cron_scheduler", "actix_server"];

/// Starts logging for this process; once.
pub fn init(filter: &str, format: LogFormat) -> Result<(), TelemetryError> {
    let quiet =
        QUIET.iter().filter(|library| !filter.contains(*library)).map(|library| format!("{library}=warn,"));
    let filter = quiet.collect::<String>() + filter;
    // A line that cannot be written is lost. By default the failure is reported to standard error, which is what
    // just failed, and that report panics: a full disk or a closed pipe would take whoever logs with it.
    let builder =
        fmt().with_writer(stderr).log_internal_errors(false).with_env_filter(EnvFilter::try_new(filter)?);
    // On a terminal the default stands, which heeds NO_COLOR.
    let builder = if stderr().is_terminal() { builder } else { builder.with_ansi(false) };
    let installed = match format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    installed.map_err(TelemetryError::Installed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starts_once_and_only_with_a_valid_filter() {
        assert!(matches!(init("watchpost=loud", LogFormat::Text), Err(TelemetryError::Filter(_))));
        assert!(init("off", LogFormat::Json).is_ok());
        assert!(matches!(init("off", LogFormat::Text), Err(TelemetryError::Installed(_))));
    }
}
