//! Connections to either database, and the one macro that writes a query once for both.
//!
//! `on!(connection, c => query(c).await)` expands the query for each variant, where diesel checks it against
//! that database's own types. What differs truly lives in `dialect`.

use std::time::Duration;

use deadpool::managed::Object;
use diesel::{ConnectionError, SqliteConnection};
use diesel_async::{
    AsyncConnection, AsyncPgConnection, SimpleAsyncConnection,
    pooled_connection::{AsyncDieselConnectionManager, ManagerConfig, RecyclingMethod, deadpool::Pool},
    sync_connection_wrapper::SyncConnectionWrapper,
};
use futures_util::FutureExt;

use super::{
    error::{StoreError, StoreResult},
    journal::PlacedEvent,
};

pub(super) type Sqlite = SyncConnectionWrapper<SqliteConnection>;
pub(super) type SqlitePool = Pool<Sqlite>;
pub(super) type PgPool = Pool<AsyncPgConnection>;

/// How long a caller waits for a connection before it hears that the store is not reachable.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(2);
/// Readers beside SQLite's single writer.
const SQLITE_READERS: usize = 4;
/// Connections per node; the journal and the checkpoints take one each.
const PG_CONNECTIONS: usize = 12;

/// One connection to one of the databases, usually inside a transaction.
pub(super) struct Connection {
    pub(super) handle: Handle,
    /// What the transaction has appended by itself, to be announced once it is durable.
    pub(super) appended: Vec<PlacedEvent>,
}

pub(super) enum Handle {
    Sqlite(Object<AsyncDieselConnectionManager<Sqlite>>),
    Postgres(Object<AsyncDieselConnectionManager<AsyncPgConnection>>),
}

/// Expands `$body` once per database, with `$c` bound to a `&mut` connection of its own type.
macro_rules! on {
    ($connection:expr, $c:ident => $body:expr) => {
        match &mut $connection.handle {
            $crate::store::connection::Handle::Sqlite(pooled) => {
                let $c = &mut **pooled;
                $body
            }
            $crate::store::connection::Handle::Postgres(pooled) => {
                let $c = &mut **pooled;
                $body
            }
        }
    };
}
pub(super) use on;

impl From<Handle> for Connection {
    fn from(handle: Handle) -> Self {
        Self { handle, appended: Vec::new() }
    }
}

impl Connection {
    pub(super) async fn batch(&mut self, sql: &str) -> StoreResult<()> {
        Ok(on!(self, c => c.batch_execute(sql).await)?)
    }

    /// Begins a writing transaction: on SQLite `immediate`, since a read that upgrades fails at once.
    pub(super) async fn begin(&mut self) -> StoreResult<()> {
        self.appended.clear();
        match self.handle {
            Handle::Postgres(_) => self.batch("begin").await,
            Handle::Sqlite(_) => {
                if self.batch("begin immediate").await.is_ok() {
                    return Ok(());
                }
                // A rollback that failed would leave the only writing connection inside its transaction for ever.
                let _ = self.batch("rollback").await;
                self.batch("begin immediate").await
            }
        }
    }

    pub(super) const fn is_postgres(&self) -> bool {
        matches!(self.handle, Handle::Postgres(_))
    }
}

/// What durability rests on; pragmas are per connection. No `mmap_size`: it amplifies WAL inconsistencies.
const SQLITE_PRAGMAS: &str = "pragma busy_timeout = 5000; pragma journal_mode = wal; pragma synchronous = full; \
                              pragma foreign_keys = on; pragma journal_size_limit = 67108864;";

/// Connections to the SQLite file at `path`: one writer, or several readers that cannot write.
pub(super) fn sqlite_pool(path: &str, access: SqliteAccess) -> StoreResult<SqlitePool> {
    let mut config = ManagerConfig::<Sqlite>::default();
    config.recycling_method = RecyclingMethod::Fast;
    config.custom_setup = Box::new(move |path| {
        let path = path.to_owned();
        async move {
            let mut connection = Sqlite::establish(&path).await?;
            let own = match access {
                SqliteAccess::Read => "pragma query_only = on;",
                // What is erased leaves the file: freed space is overwritten.
                SqliteAccess::Write => "pragma secure_delete = on;",
            };
            let setup = connection.batch_execute(&format!("{SQLITE_PRAGMAS} {own}")).await;
            setup.map_err(ConnectionError::CouldntSetupConfiguration)?;
            Ok(connection)
        }
        .boxed()
    });
    let manager = AsyncDieselConnectionManager::<Sqlite>::new_with_config(path, config);
    let size = if access == SqliteAccess::Read { SQLITE_READERS } else { 1 };
    build_pool!(Pool::builder(manager).max_size(size))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SqliteAccess {
    Read,
    Write,
}

/// A pool for the PostgreSQL database at `url`.
pub(super) fn postgres_pool(url: &str) -> StoreResult<PgPool> {
    let mut config = ManagerConfig::<AsyncPgConnection>::default();
    config.recycling_method = RecyclingMethod::Fast;
    config.custom_setup = Box::new(|url| super::dialect::postgres::connect(url.to_owned()).boxed());
    let manager = AsyncDieselConnectionManager::<AsyncPgConnection>::new_with_config(url, config);
    build_pool!(Pool::builder(manager).max_size(PG_CONNECTIONS))
}

/// The timeouts that both pools share.
macro_rules! build_pool {
    ($builder:expr) => {
        $builder
            .wait_timeout(Some(ACQUIRE_TIMEOUT))
            .create_timeout(Some(ACQUIRE_TIMEOUT))
            .runtime(deadpool::Runtime::Tokio1)
            .build()
            .map_err(|error| StoreError::Unavailable(error.into()))
    };
}
use build_pool;
