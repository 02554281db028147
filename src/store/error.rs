//! What can go wrong below a use case. Knows nothing of HTTP.

use diesel::result::{DatabaseErrorKind, Error as DieselError};

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// No connection within the time allowed, or the connection broke before anything was committed.
    #[error("the store is not reachable")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The connection broke during the commit and the truth could not be read again.
    #[error("whether the commit took place is unknown")]
    CommitUnknown,
    /// This node no longer holds the lease that the write was made under.
    #[error("another node delivers now")]
    Fenced,
    /// The store is being shut down.
    #[error("the store is closed")]
    Closed,
    #[error("the database refused a statement")]
    Database(#[source] DieselError),
    /// A stored value that no version of this program writes.
    #[error("the stored {0} cannot be read")]
    Unreadable(&'static str),
    /// A value that has no stored form.
    #[error("the {0} cannot be stored")]
    Unwritable(&'static str),
}

pub type StoreResult<T> = Result<T, StoreError>;

impl From<DieselError> for StoreError {
    fn from(error: DieselError) -> Self {
        if is_passing(&error) { Self::Unavailable(error.into()) } else { Self::Database(error) }
    }
}

/// Somebody else kept a row locked for too long (55P03), or there is no room to write (SQLITE_FULL, 53100): the
/// statement itself is sound, and the same request works once that has passed.
fn is_passing(error: &DieselError) -> bool {
    const SIGNS: [&str; 3] = ["due to lock timeout", "database or disk is full", "No space left on device"];
    matches!(error, DieselError::DatabaseError(DatabaseErrorKind::Unknown, info)
        if SIGNS.iter().any(|sign| info.message().contains(sign)))
}

/// How to go on after a failed transaction on PostgreSQL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Recovery {
    /// A deadlock or serialisation failure (40P01, 40001): the same transaction may simply run again.
    Retry,
    /// The connection is of no more use.
    Reconnect,
    /// The statement itself is at fault.
    GiveUp,
}

pub(super) fn recovery_of(error: &DieselError) -> Recovery {
    match error {
        DieselError::DatabaseError(DatabaseErrorKind::SerializationFailure, _) => Recovery::Retry,
        DieselError::DatabaseError(
            DatabaseErrorKind::ClosedConnection | DatabaseErrorKind::ReadOnlyTransaction,
            _,
        )
        | DieselError::BrokenTransactionManager => Recovery::Reconnect,
        // No SQLSTATE at all: the failure is the connection's.
        DieselError::DatabaseError(DatabaseErrorKind::UnableToSendCommand, _) => Recovery::Reconnect,
        // The driver keeps the message but not the SQLSTATE of what it has no kind for.
        DieselError::DatabaseError(DatabaseErrorKind::Unknown, info) => match info.message() {
            text if text.contains("deadlock detected") => Recovery::Retry,
            text if text.contains("terminating connection") => Recovery::Reconnect,
            _ => Recovery::GiveUp,
        },
        _ => Recovery::GiveUp,
    }
}

/// SQLite errors after which the file must not be written again by this process: the kernel may have dropped
/// the very page that failed to reach the disk, so a retried fsync proves nothing.
pub(super) fn is_fatal_for_sqlite(error: &DieselError) -> bool {
    matches!(error, DieselError::DatabaseError(_, info) if
        ["disk I/O error", "database disk image is malformed", "file is not a database"]
            .iter()
            .any(|sign| info.message().contains(sign)))
}
