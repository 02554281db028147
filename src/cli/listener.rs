//! Listeners for HTTP: bound first, so that a port of 0 becomes a real one, then served within limits that hold for
//! whoever connects. `server` runs one for the faces and, where the operator wants it, one for probes.

use std::{
    net::{SocketAddr, TcpListener},
    sync::Arc,
    time::Duration,
};

use actix_web::{App, HttpServer, dev::ServerHandle, middleware::from_fn, web::ServiceConfig};

use crate::{runtime::Tasks, web::close_on_unread};

/// How long open requests may take once the listener is closed.
const STOP_SECONDS: u64 = 3;
const WORKERS: usize = 2;
const KEEP_ALIVE: Duration = Duration::from_secs(75);

/// Routes of one listener.
pub type Routes = Arc<dyn Fn(&mut ServiceConfig) + Send + Sync>;

/// What whoever connects can take of a listener.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionLimits {
    /// For each of the workers; further ones wait until one ends.
    pub connections_max: usize,
    /// Time for a request's head, however it drips in. At least a second: the library's clock ticks in halves of one.
    pub head_within: Duration,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self { connections_max: 10_000, head_within: Duration::from_secs(5) }
    }
}

/// Why an address cannot be listened on, and what to do about it.
#[derive(Debug, thiserror::Error)]
#[error(
    "{address} cannot be listened on; choose another with WATCHPOST_{key} or --{flag}, port 0 for any free one",
    flag = key.to_ascii_lowercase().replace('_', "-")
)]
pub struct CannotListen {
    address: SocketAddr,
    /// The setting that says where to listen.
    key: &'static str,
    pub source: std::io::Error,
}

/// Binds the address that the setting `key` names.
pub fn bind(address: SocketAddr, key: &'static str) -> Result<TcpListener, CannotListen> {
    let bound = TcpListener::bind(address).and_then(|listener| {
        listener.set_nonblocking(true)?;
        Ok(listener)
    });
    bound.map_err(|source| CannotListen { address, key, source })
}

/// A listener at work.
pub struct Listening(ServerHandle);

impl std::fmt::Debug for Listening {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Listening")
    }
}

impl Listening {
    pub fn start(
        name: &'static str,
        listener: TcpListener,
        limits: ConnectionLimits,
        routes: Routes,
        tasks: &Tasks,
    ) -> std::io::Result<Self> {
        let server = HttpServer::new(move || {
            let routes = Arc::clone(&routes);
            App::new().wrap(from_fn(close_on_unread)).configure(move |config| routes(config))
        });
        let server = server
            .workers(WORKERS)
            .max_connections(limits.connections_max)
            .client_request_timeout(limits.head_within)
            .keep_alive(KEEP_ALIVE)
            .shutdown_timeout(STOP_SECONDS)
            .disable_signals()
            .listen(listener)?
            .run();
        let handle = server.handle();
        tasks.spawn(name, server);
        Ok(Self(handle))
    }

    /// Closes it and lets what is under way end.
    pub async fn stop(self) {
        self.0.stop(true).await;
    }
}
