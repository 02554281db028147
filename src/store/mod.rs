//! All SQL. One store, two databases: SQLite (embedded) and PostgreSQL (more than one machine).
//!
//! Called by `app` (use cases), `engine` (lanes, checkpoints) and `jobs` (sweeps). Keeps these promises:
//! a publish is answered only after its durable commit; a seq is given out once, densely, under its resource's
//! row lock; every writing transaction on SQLite goes through one connection; `now` is always an argument.
//!
//! Each query is written once, in the file of its noun; what truly differs lives in `dialect`.

mod api_keys;
mod attempts;
mod catalog;
mod channels;
mod checkpoint;
mod connection;
mod cursors;
mod deletion;
mod dialect;
mod erasure;
mod error;
mod events;
mod exceptions;
mod facts;
mod fates;
mod filesystem;
mod idempotency;
mod journal;
mod lanes;
mod lease;
mod lock;
mod migrate;
mod notices;
mod own;
mod parked;
mod ranges;
mod reminders;
mod renewal;
mod resources;
mod retention;
mod retries;
mod rewrap;
mod schema;
mod signing_keys;
mod work;
mod writer;

use std::{future::Future, path::PathBuf, pin::Pin, sync::Arc};

use tokio::sync::{mpsc, oneshot};

pub use self::{
    api_keys::{ApiKey, NewApiKey},
    attempts::{AttemptFilter, AttemptPage, RecordedAttempt},
    catalog::ResourceView,
    channels::{
        AdvanceOutcome, AdvancedBy, ChangeOutcome, ChannelChange, ChannelFilter, ChannelView, NewChannel,
        OpenOutcome, Owner, PastFilter, ReplayOutcome, ResumeOutcome, ResumedBy, RotateOutcome,
        SecretRotation,
    },
    checkpoint::{Attempt, Checkpoint, Checkpointed, EndedRange, OUTCOMES_MAX, Parked, Retrying},
    deletion::{Deletion, RESOURCE_DELETED},
    error::{StoreError, StoreResult},
    exceptions::{ParkedChoice, REDRIVES_MAX, WaitingRedrive},
    fates::{EventEntry, ExceptionTrace, Trace},
    filesystem::{OnNetwork, refuse_network},
    journal::{BATCH_EVENTS_MAX, Fingerprint, NewEvent, Placed, Publish, PublishOutcome},
    lanes::LoadedLane,
    lease::{Lease, LeaseTerm},
    lock::{LockError, StoreLock, running_server},
    notices::{Notice, NoticeProgress},
    parked::{PARKED_COUNTED_MAX, ParkedNotification},
    reminders::Reminding,
    renewal::Looked,
    resources::Head,
    retention::{Aged, Cutoff, ExpiredSlice, Old},
    retries::WaitingRetry,
    rewrap::{RewrapBegun, SealedOfChannel},
    signing_keys::{NewSigningKey, RotateKeysOutcome},
    work::BusyResource,
};
use self::{
    connection::{Connection, Handle, PgPool, SqliteAccess, SqlitePool},
    error::{Recovery, recovery_of},
    events::EventCache,
    journal::PlacedEvent,
    writer::{Command, Job},
};
use crate::{domain::channel::ResourceKey, runtime::Tasks};

/// Jobs that wait for a writer before callers have to.
const QUEUE_JOBS: usize = 1_024;
/// How often a transaction that met a deadlock runs again.
const RETRIES_MAX: u32 = 5;

/// Which database, as the setting names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    Sqlite(PathBuf),
    Postgres(String),
}

/// Told of every durable append: the resource and its new head.
pub type OnAppend = Box<dyn Fn(ResourceKey, i64) + Send + Sync>;
/// Told of what a durable transaction has appended.
type Announce = Arc<dyn Fn(&[PlacedEvent]) + Send + Sync>;

#[derive(Clone)]
pub struct Store(Arc<Inner>);

struct Inner {
    backend: Backend,
    tasks: Tasks,
    cache: Arc<EventCache>,
    announce: Announce,
    /// Printed at start: versions and what durability rests on.
    description: String,
}

enum Backend {
    Sqlite { writer: mpsc::Sender<Job>, readers: SqlitePool },
    Postgres { journal: mpsc::Sender<Job>, pool: PgPool },
}

/// A query's future, which borrows the connection it was given.
type Step<'c, T> = Pin<Box<dyn Future<Output = StoreResult<T>> + Send + 'c>>;

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Store").field(&self.0.description).finish()
    }
}

impl Store {
    /// Opens a database that is migrated. `on_append` hears of every append that this node makes.
    pub async fn open(location: &Location, tasks: Tasks, on_append: OnAppend) -> StoreResult<Self> {
        let cache = Arc::new(EventCache::default());
        let (jobs, queue) = mpsc::channel(QUEUE_JOBS);
        let announce: Announce = {
            let cache = Arc::clone(&cache);
            Arc::new(move |events: &[PlacedEvent]| announce(&cache, &on_append, events))
        };
        let (backend, description) = match location {
            Location::Sqlite(path) => {
                let path = path.to_string_lossy().into_owned();
                let writer = connection::sqlite_pool(&path, SqliteAccess::Write)?;
                let mut writing = Connection::from(Handle::Sqlite(writer.get().await.map_err(unavailable)?));
                let description = writer::check_durability(&mut writing).await?;
                tasks.spawn(
                    "store writer",
                    writer::run_sqlite(writing, queue, path.clone(), Arc::clone(&announce)),
                );
                let readers = connection::sqlite_pool(&path, SqliteAccess::Read)?;
                (Backend::Sqlite { writer: jobs, readers }, description)
            }
            Location::Postgres(url) => {
                let pool = connection::postgres_pool(url)?;
                let mut first = pool.get().await.map_err(unavailable)?;
                let settings = dialect::postgres::check_durability(&mut first).await?;
                tasks
                    .spawn("store journal", writer::run_postgres(pool.clone(), queue, Arc::clone(&announce)));
                (Backend::Postgres { journal: jobs, pool }, format!("PostgreSQL, {settings}"))
            }
        };
        Ok(Self(Arc::new(Inner { backend, tasks, cache, announce, description })))
    }

    /// Opens a migrated database beside whoever writes it, for commands that only read. An embedded one cannot be
    /// written through it at all.
    pub fn open_to_read(location: &Location) -> StoreResult<Self> {
        let (jobs, _nobody) = mpsc::channel(1);
        let backend = match location {
            Location::Sqlite(path) => {
                let readers = connection::sqlite_pool(&path.to_string_lossy(), SqliteAccess::Read)?;
                Backend::Sqlite { writer: jobs, readers }
            }
            Location::Postgres(url) => {
                Backend::Postgres { journal: jobs, pool: connection::postgres_pool(url)? }
            }
        };
        Ok(Self(Arc::new(Inner {
            backend,
            tasks: Tasks::current(),
            cache: Arc::new(EventCache::default()),
            announce: Arc::new(|_| {}),
            description: "read only".to_owned(),
        })))
    }

    pub fn description(&self) -> &str {
        &self.0.description
    }

    /// Whether other nodes may share this database.
    pub fn is_shared(&self) -> bool {
        matches!(self.0.backend, Backend::Postgres { .. })
    }

    /// Appends events. Returns after the durable commit; goes on even if the caller is dropped.
    pub async fn publish(&self, publish: Publish) -> StoreResult<PublishOutcome> {
        let (answer, outcome) = oneshot::channel();
        self.jobs().send(Job::Publish(publish, answer)).await.map_err(|_| StoreError::Closed)?;
        outcome.await.map_err(|_| StoreError::Closed)?
    }

    /// Writes a checkpoint. Returns after the durable commit.
    pub async fn checkpoint(&self, checkpoint: Checkpoint) -> StoreResult<Checkpointed> {
        match &self.0.backend {
            Backend::Sqlite { writer, .. } => {
                let (answer, outcome) = oneshot::channel();
                writer.send(Job::Checkpoint(checkpoint, answer)).await.map_err(|_| StoreError::Closed)?;
                outcome.await.map_err(|_| StoreError::Closed)?
            }
            Backend::Postgres { .. } => {
                let checkpoint = Arc::new(checkpoint);
                self.write(move |connection| {
                    let checkpoint = Arc::clone(&checkpoint);
                    Box::pin(async move {
                        let Handle::Postgres(c) = &mut connection.handle else {
                            return Err(StoreError::Closed);
                        };
                        let written = dialect::postgres::checkpoint(&mut *c, &checkpoint).await?;
                        written.ok_or(StoreError::Fenced)
                    })
                })
                .await
            }
        }
    }

    /// Flushes and closes: everything queued so far is written first.
    pub async fn close(&self) {
        let (answer, closed) = oneshot::channel();
        if self.jobs().send(Job::Close(answer)).await.is_ok() {
            let _ = closed.await;
        }
    }

    fn jobs(&self) -> &mpsc::Sender<Job> {
        match &self.0.backend {
            Backend::Sqlite { writer, .. } => writer,
            Backend::Postgres { journal, .. } => journal,
        }
    }

    fn cache(&self) -> &EventCache {
        &self.0.cache
    }

    /// Runs a query outside any transaction.
    async fn read<T, F>(&self, query: F) -> StoreResult<T>
    where
        F: for<'c> FnOnce(&'c mut Connection) -> Step<'c, T> + Send + 'static,
        T: Send + 'static,
    {
        let inner = Arc::clone(&self.0);
        let reading = self.0.tasks.spawn("store read", async move {
            let mut connection = Connection::from(match &inner.backend {
                Backend::Sqlite { readers, .. } => Handle::Sqlite(readers.get().await.map_err(unavailable)?),
                Backend::Postgres { pool, .. } => Handle::Postgres(pool.get().await.map_err(unavailable)?),
            });
            match query(&mut connection).await {
                Err(StoreError::Database(error))
                    if connection.is_postgres() && recovery_of(&error) == Recovery::Reconnect =>
                {
                    discard(connection);
                    Err(StoreError::Unavailable(error.into()))
                }
                outcome => outcome,
            }
        });
        reading.await.map_err(|_| StoreError::Closed)?
    }

    /// Runs a command in a writing transaction of its own, to its end even if the caller is dropped. The
    /// command may run more than once: each time in a fresh transaction, after the last one left no trace.
    async fn write<T, F>(&self, command: F) -> StoreResult<T>
    where
        F: for<'c> Fn(&'c mut Connection) -> Step<'c, T> + Send + Sync + 'static,
        T: Send + 'static,
    {
        match &self.0.backend {
            Backend::Sqlite { writer, .. } => {
                let (answer, outcome) = oneshot::channel();
                let announce = Arc::clone(&self.0.announce);
                let command: Command = Box::new(move |connection| {
                    Box::pin(async move {
                        let _ = answer.send(transact(connection, &command, &announce).await);
                    })
                });
                writer.send(Job::Command(command)).await.map_err(|_| StoreError::Closed)?;
                outcome.await.map_err(|_| StoreError::Closed)?
            }
            Backend::Postgres { pool, .. } => {
                let (pool, announce) = (pool.clone(), Arc::clone(&self.0.announce));
                let writing = self.0.tasks.spawn("store write", async move {
                    let mut tries = 0;
                    loop {
                        let mut connection =
                            Connection::from(Handle::Postgres(pool.get().await.map_err(unavailable)?));
                        match transact(&mut connection, &command, &announce).await {
                            Err(StoreError::Database(error))
                                if recovery_of(&error) == Recovery::Retry && tries < RETRIES_MAX =>
                            {
                                tries += 1;
                            }
                            Err(StoreError::Database(error))
                                if recovery_of(&error) == Recovery::Reconnect =>
                            {
                                discard(connection);
                                return Err(StoreError::Unavailable(error.into()));
                            }
                            outcome => return outcome,
                        }
                    }
                });
                writing.await.map_err(|_| StoreError::Closed)?
            }
        }
    }
}

/// One transaction: begun, committed if the command succeeds, else rolled back. What it appended is announced once it
/// is durable.
async fn transact<T, F>(connection: &mut Connection, command: &F, announce: &Announce) -> StoreResult<T>
where
    F: for<'c> Fn(&'c mut Connection) -> Step<'c, T>,
{
    let outcome = transact_once(connection, command).await;
    if outcome.is_ok() && !connection.appended.is_empty() {
        announce(&std::mem::take(&mut connection.appended));
    }
    if let (Handle::Sqlite(_), Err(StoreError::Database(error))) = (&connection.handle, &outcome) {
        writer::die_if_fatal(error);
    }
    outcome
}

async fn transact_once<T, F>(connection: &mut Connection, command: &F) -> StoreResult<T>
where
    F: for<'c> Fn(&'c mut Connection) -> Step<'c, T>,
{
    connection.begin().await?;
    match command(connection).await {
        Ok(value) => match connection.batch("commit").await {
            Ok(()) => Ok(value),
            Err(StoreError::Database(error))
                if connection.is_postgres() && recovery_of(&error) == Recovery::Reconnect =>
            {
                Err(StoreError::CommitUnknown)
            }
            Err(error) => {
                let _ = connection.batch("rollback").await;
                Err(error)
            }
        },
        Err(error) => {
            let _ = connection.batch("rollback").await;
            Err(error)
        }
    }
}

/// Takes a broken connection out of its pool.
fn discard(connection: Connection) {
    match connection.handle {
        Handle::Sqlite(pooled) => drop(deadpool::managed::Object::take(pooled)),
        Handle::Postgres(pooled) => drop(deadpool::managed::Object::take(pooled)),
    }
}

fn announce(cache: &EventCache, on_append: &OnAppend, events: &[PlacedEvent]) {
    cache.insert(events.iter().map(|placed| (placed.resource, Arc::clone(&placed.event))));
    let mut heads = std::collections::BTreeMap::new();
    for placed in events {
        heads.insert(placed.resource, placed.event.seq);
    }
    for (resource, head) in heads {
        on_append(resource, head);
    }
}

fn unavailable(error: impl std::error::Error + Send + Sync + 'static) -> StoreError {
    StoreError::Unavailable(Box::new(error))
}
