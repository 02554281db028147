//! PostgreSQL: arrays with UNNEST, a fixed lock order, and a commit whose fate is found out when it is unknown.
//!
//! Lock order. Appending: idempotency keys (sorted), resources (by id), work. Checkpoints: lease, cursors (by
//! channel), work. Single-channel commands: resource, channel, cursor, word of the change.

mod append;
mod checkpoint;

use std::time::Duration;

use diesel::{ConnectionError, ConnectionResult, prelude::*, sql_types::Text};
use diesel_async::{AsyncPgConnection, RunQueryDsl, SimpleAsyncConnection};
use tokio_postgres::config::SslMode;

pub(in crate::store) use self::{
    append::{append, is_committed},
    checkpoint::checkpoint,
};
use crate::store::error::{StoreError, StoreResult};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
const TCP_TIMEOUT: Duration = Duration::from_secs(10);

/// Connects so that a failover is survived: several hosts, a writable one wanted, dead peers noticed.
pub(in crate::store) async fn connect(url: String) -> ConnectionResult<AsyncPgConnection> {
    let bad = |error: tokio_postgres::Error| ConnectionError::BadConnection(chain(&error));
    let mut config: tokio_postgres::Config = url.parse().map_err(bad)?;
    config
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_user_timeout(TCP_TIMEOUT)
        .keepalives_idle(TCP_TIMEOUT)
        .application_name("watchpost");
    if config.get_hosts().len() > 1 {
        config.target_session_attrs(tokio_postgres::config::TargetSessionAttrs::ReadWrite);
    }
    // `prefer`, the default of the URL, would accept any certificate or none: it is honest as "no TLS".
    let mut connection = if config.get_ssl_mode() == SslMode::Require {
        let (client, driver) = config.connect(tls()?).await.map_err(bad)?;
        AsyncPgConnection::try_from_client_and_connection(client, driver).await?
    } else {
        let (client, driver) = config.connect(tokio_postgres::NoTls).await.map_err(bad)?;
        AsyncPgConnection::try_from_client_and_connection(client, driver).await?
    };
    // A timeout that hit a COMMIT would leave its fate unknown; time is bounded by the callers instead.
    connection
        .batch_execute(
            "set statement_timeout = 0; set lock_timeout = '10s'; \
             set idle_in_transaction_session_timeout = '10s'; set timezone = 'UTC'",
        )
        .await
        .map_err(ConnectionError::CouldntSetupConfiguration)?;
    Ok(connection)
}

fn tls() -> ConnectionResult<tokio_postgres_rustls::MakeRustlsConnect> {
    use rustls_platform_verifier::BuilderVerifierExt;
    let bad = |error: rustls::Error| ConnectionError::BadConnection(error.to_string());
    let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(bad)?
        .with_platform_verifier()
        .map_err(bad)?
        .with_no_client_auth();
    Ok(tokio_postgres_rustls::MakeRustlsConnect::new(config))
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

/// Refuses a server that would break the promise behind a 2xx.
pub(in crate::store) async fn check_durability(c: &mut AsyncPgConnection) -> StoreResult<String> {
    #[derive(QueryableByName)]
    struct Setting {
        #[diesel(sql_type = Text)]
        name: String,
        #[diesel(sql_type = Text)]
        setting: String,
    }
    let settings: Vec<Setting> = diesel::sql_query(
        "select name, setting from pg_settings where name in \
         ('fsync', 'full_page_writes', 'synchronous_commit', 'data_checksums', 'server_version') order by name",
    )
    .load(c)
    .await?;
    for setting in &settings {
        if matches!(
            (setting.name.as_str(), setting.setting.as_str()),
            ("fsync" | "full_page_writes" | "synchronous_commit", "off")
        ) {
            let text =
                format!("the server runs with {} = off: an acknowledged event could be lost", setting.name);
            return Err(StoreError::Unavailable(text.into()));
        }
    }
    Ok(settings
        .iter()
        .map(|setting| format!("{} = {}", setting.name, setting.setting))
        .collect::<Vec<_>>()
        .join(", "))
}
