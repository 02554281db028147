//! The writers. On SQLite one task owns the only writing connection and every write is a job in its bounded
//! queue. On PostgreSQL the same queue carries publishes alone; commands and checkpoints take connections.
//!
//! Each cycle takes what is waiting – no gather timer – and puts publishes and checkpoints into one transaction
//! and one fsync, publishes first. A batch that fails is written again one job at a time, so that nobody shares
//! another's error. Answers go out only after the commit.

use std::{future::Future, pin::Pin};

use diesel::{SqliteConnection, result::Error as DieselError};
use diesel_async::{RunQueryDsl, SimpleAsyncConnection};
use tokio::sync::{mpsc, oneshot};

use super::{
    Announce,
    checkpoint::{Checkpoint, Checkpointed, OUTCOMES_MAX},
    connection::{Connection, Handle, PgPool},
    dialect,
    error::{Recovery, StoreError, StoreResult, is_fatal_for_sqlite, recovery_of},
    journal::{Appended, BATCH_EVENTS_MAX, BATCH_PUBLISHES_MAX, Publish, PublishOutcome},
    unavailable,
};
use crate::runtime::or_abort;

/// The oldest SQLite without the WAL-reset bug, which loses committed writes.
const SQLITE_MIN: (u32, u32, u32) = (3, 51, 3);
/// `synchronous = full`, as SQLite tells it.
const SYNCHRONOUS_FULL: i64 = 2;
/// Commands that one cycle takes; each is a transaction of its own.
const COMMANDS_MAX: usize = 256;
/// Past this size the writer empties the WAL; when readers are in the way, again after as much more.
const WAL_TRUNCATE_BYTES: u64 = 16 * 1_024 * 1_024;
/// Emptying waits for readers no longer than this: every write waits with it.
const WAL_TRUNCATE: &str =
    "pragma busy_timeout = 100; pragma wal_checkpoint(truncate); pragma busy_timeout = 5000;";

pub(super) type Command =
    Box<dyn for<'c> FnOnce(&'c mut Connection) -> Pin<Box<dyn Future<Output = ()> + Send + 'c>> + Send>;
type Answer<T> = oneshot::Sender<StoreResult<T>>;

pub(super) enum Job {
    Publish(Publish, Answer<PublishOutcome>),
    Checkpoint(Checkpoint, Answer<Checkpointed>),
    Command(Command),
    Close(oneshot::Sender<()>),
}

/// What one cycle took from the queue.
#[derive(Default)]
struct Cycle {
    publishes: Vec<Publish>,
    publish_answers: Vec<Answer<PublishOutcome>>,
    checkpoints: Vec<Checkpoint>,
    checkpoint_answers: Vec<Answer<Checkpointed>>,
    commands: Vec<Command>,
    close: Option<oneshot::Sender<()>>,
    events: usize,
    outcomes: usize,
}

impl Cycle {
    /// Waits for a job, then takes whatever else is waiting, within bounds. `None` once nobody can send.
    async fn gather(queue: &mut mpsc::Receiver<Job>) -> Option<Self> {
        let mut cycle = Self::default();
        let mut next = Some(queue.recv().await?);
        while let Some(job) = next {
            cycle.take(job);
            let full = cycle.publishes.len() >= BATCH_PUBLISHES_MAX
                || cycle.events >= BATCH_EVENTS_MAX
                || cycle.outcomes >= OUTCOMES_MAX
                || cycle.commands.len() >= COMMANDS_MAX;
            next = if full || cycle.close.is_some() { None } else { queue.try_recv().ok() };
        }
        Some(cycle)
    }

    fn take(&mut self, job: Job) {
        match job {
            Job::Publish(publish, answer) => {
                self.events += publish.events.iter().map(|event| event.resources.len()).sum::<usize>();
                self.publishes.push(publish);
                self.publish_answers.push(answer);
            }
            Job::Checkpoint(checkpoint, answer) => {
                self.outcomes += checkpoint.cursors.len().max(checkpoint.attempts.len());
                self.checkpoints.push(checkpoint);
                self.checkpoint_answers.push(answer);
            }
            Job::Command(command) => self.commands.push(command),
            Job::Close(closed) => self.close = Some(closed),
        }
    }
}

/// Runs SQLite's only writer until the store is closed.
pub(super) async fn run_sqlite(
    mut connection: Connection,
    mut queue: mpsc::Receiver<Job>,
    path: String,
    announce: Announce,
) {
    let wal = format!("{path}-wal");
    let wal_bytes = || std::fs::metadata(&wal).map_or(0, |wal| wal.len());
    let mut truncate_at = WAL_TRUNCATE_BYTES;
    while let Some(mut cycle) = Cycle::gather(&mut queue).await {
        write_batch(&mut connection, &mut cycle, &announce).await;
        for command in cycle.commands.drain(..) {
            command(&mut connection).await;
        }
        if wal_bytes() > truncate_at {
            if let Err(error) = connection.batch(WAL_TRUNCATE).await {
                tracing::warn!(error = %error, "the WAL could not be emptied");
            }
            truncate_at = wal_bytes() + WAL_TRUNCATE_BYTES;
        }
        if let Some(closed) = cycle.close {
            queue.close();
            if let Err(error) = connection.batch("pragma wal_checkpoint(truncate)").await {
                tracing::warn!(error = %error, "the WAL could not be emptied and is read at the next start");
            }
            let _ = closed.send(());
        }
    }
}

async fn write_batch(connection: &mut Connection, cycle: &mut Cycle, announce: &Announce) {
    let (publishes, checkpoints) =
        (std::mem::take(&mut cycle.publishes), std::mem::take(&mut cycle.checkpoints));
    if publishes.is_empty() && checkpoints.is_empty() {
        return;
    }
    let Handle::Sqlite(c) = &mut connection.handle else { return };
    let mut publish_answers = cycle.publish_answers.drain(..);
    let mut checkpoint_answers = cycle.checkpoint_answers.drain(..);
    let written = c
        .spawn_blocking(move |c: &mut SqliteConnection| {
            // A panic would leave the transaction open, and every later write would fail in it.
            Ok(or_abort("store writer", || {
                write_together(c, &publishes, &checkpoints)
                    .unwrap_or_else(|_| write_singly(c, &publishes, &checkpoints))
            }))
        })
        .await;
    // Only a runtime that shuts down refuses the work. Whoever still waits hears that the store is closed.
    let Ok(written) = written else { return };
    for appended in written.appended {
        match appended {
            Ok(appended) => {
                announce(&appended.events);
                for (outcome, answer) in appended.outcomes.into_iter().zip(&mut publish_answers) {
                    let _ = answer.send(Ok(outcome));
                }
            }
            Err(error) => {
                if let Some(answer) = publish_answers.next() {
                    let _ = answer.send(Err(error.into()));
                }
            }
        }
    }
    for (checkpointed, answer) in written.checkpointed.into_iter().zip(&mut checkpoint_answers) {
        let _ = answer.send(checkpointed.map_err(Into::into));
    }
}

/// What became of a batch: appends cover the publishes in their order.
struct Written {
    appended: Vec<Result<Appended, DieselError>>,
    checkpointed: Vec<Result<Checkpointed, DieselError>>,
}

fn write_together(
    c: &mut SqliteConnection,
    publishes: &[Publish],
    checkpoints: &[Checkpoint],
) -> Result<Written, DieselError> {
    let written = c.immediate_transaction(|c| {
        let appended = dialect::sqlite::append(c, publishes)?;
        let checkpointed = checkpoints
            .iter()
            .map(|checkpoint| dialect::sqlite::checkpoint(c, checkpoint).map(Ok))
            .collect::<Result<_, DieselError>>()?;
        Ok(Written { appended: vec![Ok(appended)], checkpointed })
    });
    written.inspect_err(die_if_fatal)
}

fn write_singly(c: &mut SqliteConnection, publishes: &[Publish], checkpoints: &[Checkpoint]) -> Written {
    Written {
        appended: publishes
            .iter()
            .map(|publish| {
                let one = std::slice::from_ref(publish);
                c.immediate_transaction(|c| dialect::sqlite::append(c, one)).inspect_err(die_if_fatal)
            })
            .collect(),
        checkpointed: checkpoints
            .iter()
            .map(|checkpoint| {
                c.immediate_transaction(|c| dialect::sqlite::checkpoint(c, checkpoint))
                    .inspect_err(die_if_fatal)
            })
            .collect(),
    }
}

/// After an I/O error the kernel may have dropped the page: only a restart through recovery is safe.
pub(super) fn die_if_fatal(error: &DieselError) {
    if is_fatal_for_sqlite(error) {
        tracing::error!(error = %error, "the database file can no longer be trusted: stopping at once");
        std::process::abort();
    }
}

/// Refuses a SQLite that may lose committed writes, and says what durability rests on as it was read back: a
/// file system without shared memory, say, keeps the old journal without a word.
pub(super) async fn check_durability(connection: &mut Connection) -> StoreResult<String> {
    #[derive(diesel::QueryableByName)]
    struct Found {
        #[diesel(sql_type = diesel::sql_types::Text)]
        version: String,
        #[diesel(sql_type = diesel::sql_types::Text)]
        journal: String,
        #[diesel(sql_type = diesel::sql_types::BigInt)]
        synchronous: i64,
    }
    let Handle::Sqlite(c) = &mut connection.handle else { return Err(StoreError::Closed) };
    let Found { version, journal, synchronous } = diesel::sql_query(
        "select sqlite_version() as version, journal_mode as journal, synchronous
         from pragma_journal_mode, pragma_synchronous",
    )
    .get_result(&mut **c)
    .await?;
    let refused = |text: String| Err(StoreError::Unavailable(text.into()));
    let mut parts = version.split('.').map(|part| part.parse().unwrap_or(0));
    if (parts.next().unwrap_or(0), parts.next().unwrap_or(0), parts.next().unwrap_or(0)) < SQLITE_MIN {
        return refused(format!("SQLite {version} is older than 3.51.3"));
    }
    if journal != "wal" || synchronous != SYNCHRONOUS_FULL {
        return refused(format!("SQLite runs with journal_mode = {journal}, synchronous = {synchronous}"));
    }
    Ok(format!("SQLite {version}, journal_mode = {journal}, synchronous = full"))
}

/// Empties the WAL. False when a reader is in the way.
pub(super) async fn empty_wal(connection: &mut Connection) -> StoreResult<bool> {
    #[derive(diesel::QueryableByName)]
    struct Emptied {
        #[diesel(sql_type = diesel::sql_types::BigInt)]
        busy: i64,
    }
    let Handle::Sqlite(c) = &mut connection.handle else { return Ok(true) };
    // Every write waits with it.
    c.batch_execute("pragma busy_timeout = 100").await?;
    let emptied = diesel::sql_query("pragma wal_checkpoint(truncate)").get_result(&mut **c).await;
    c.batch_execute("pragma busy_timeout = 5000").await?;
    let Emptied { busy } = emptied?;
    Ok(busy == 0)
}

/// Runs PostgreSQL's journal until the store is closed.
pub(super) async fn run_postgres(pool: PgPool, mut queue: mpsc::Receiver<Job>, announce: Announce) {
    while let Some(cycle) = Cycle::gather(&mut queue).await {
        let mut answers = cycle.publish_answers.into_iter();
        match append(&pool, &cycle.publishes).await {
            Ok(appended) => {
                announce(&appended.events);
                for (outcome, answer) in appended.outcomes.into_iter().zip(answers) {
                    let _ = answer.send(Ok(outcome));
                }
            }
            Err(error) if cycle.publishes.len() <= 1 || !matches!(error, StoreError::Database(_)) => {
                let unknown = matches!(error, StoreError::CommitUnknown);
                tracing::warn!(error = %error, "publishes could not be appended");
                for answer in answers {
                    let error = if unknown { StoreError::CommitUnknown } else { unavailable(BatchFailed) };
                    let _ = answer.send(Err(error));
                }
            }
            Err(_) => {
                for publish in &cycle.publishes {
                    let one = append(&pool, std::slice::from_ref(publish)).await.map(|mut appended| {
                        announce(&appended.events);
                        appended.outcomes.pop()
                    });
                    if let Some(answer) = answers.next() {
                        let one = one.map_err(|error| match error {
                            StoreError::Database(error) => error.into(),
                            error => error,
                        });
                        let _ = answer.send(one.and_then(|outcome| outcome.ok_or(StoreError::Closed)));
                    }
                }
            }
        }
        if let Some(closed) = cycle.close {
            queue.close();
            let _ = closed.send(());
        }
    }
}

#[derive(Debug, thiserror::Error)]
#[error("the batch could not be written")]
struct BatchFailed;

/// One transaction with all of `publishes`, repeated after a deadlock, its fate found out if the commit got no
/// answer.
async fn append(pool: &PgPool, publishes: &[Publish]) -> StoreResult<Appended> {
    if publishes.is_empty() {
        return Ok(Appended::default());
    }
    for _ in 0..=super::RETRIES_MAX {
        let mut c = pool.get().await.map_err(unavailable)?;
        let written = async {
            c.batch_execute("begin").await?;
            dialect::postgres::append(&mut c, publishes).await
        }
        .await;
        let error = match written {
            Ok(appended) => match c.batch_execute("commit").await {
                Ok(()) => return Ok(appended),
                Err(error) if recovery_of(&error) == Recovery::Reconnect => {
                    drop(deadpool::managed::Object::take(c));
                    if fate(pool, &appended).await? {
                        return Ok(appended);
                    }
                    continue;
                }
                Err(error) => error,
            },
            Err(error) => error,
        };
        match recovery_of(&error) {
            Recovery::Retry => drop(c.batch_execute("rollback").await),
            Recovery::Reconnect => drop(deadpool::managed::Object::take(c)),
            Recovery::GiveUp => {
                let _ = c.batch_execute("rollback").await;
                return Err(StoreError::Database(error));
            }
        }
    }
    Err(unavailable(BatchFailed))
}

/// Whether a batch whose commit got no answer is there. Nothing appended means nothing to lose.
async fn fate(pool: &PgPool, appended: &Appended) -> StoreResult<bool> {
    let Some(event) = appended.events.as_slice().first() else { return Ok(false) };
    let asked = async {
        let mut c = pool.get().await.map_err(unavailable)?;
        let found = dialect::postgres::is_committed(&mut c, event).await;
        if found.is_err() {
            // It may have stopped half-way: nobody else gets a connection with an open transaction.
            drop(deadpool::managed::Object::take(c));
        }
        Ok::<_, StoreError>(found?)
    };
    asked.await.map_err(|_: StoreError| StoreError::CommitUnknown)
}
