//! Migrations, embedded in the binary: two trees with the same names.

use std::path::Path;

use diesel::{Connection as _, RunQueryDsl as _, SqliteConnection, migration::MigrationSource};
use diesel_async::{AsyncMigrationHarness, AsyncPgConnection, SimpleAsyncConnection};
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};

use tokio::runtime::Handle;

use super::{Location, Store, StoreError, StoreResult, dialect, lock::private_file};

const SQLITE: EmbeddedMigrations = embed_migrations!("migrations/sqlite");
const POSTGRES: EmbeddedMigrations = embed_migrations!("migrations/postgres");

/// Two nodes that start at once must not migrate at once. The number is arbitrary and ours.
const ADVISORY_LOCK: i64 = 0x5741_5443_4850_4f53;

impl Store {
    /// Brings the database to this program's schema. Returns the names of the migrations that ran.
    pub async fn migrate(location: &Location) -> StoreResult<Vec<String>> {
        let location = location.clone();
        blocking(move || match &location {
            Location::Sqlite(path) => {
                make_private(path)?;
                run(&mut sqlite(path)?, SQLITE)
            }
            Location::Postgres(url) => {
                // However long the other node's migrations take.
                let alone = format!(
                    "set lock_timeout = 0; select pg_advisory_lock({ADVISORY_LOCK}); set lock_timeout = '10s'"
                );
                run(&mut postgres(url, &alone)?, POSTGRES)
            }
        })
        .await
    }

    /// The migrations that the database lacks. Writes nothing.
    pub async fn pending_migrations(location: &Location) -> StoreResult<Vec<String>> {
        let location = location.clone();
        blocking(move || match &location {
            Location::Sqlite(path) => {
                if !path.exists() {
                    return all::<diesel::sqlite::Sqlite>(&SQLITE);
                }
                let mut connection = sqlite(path)?;
                let begun: Found = diesel::sql_query(
                    "select count(*) > 0 as found from sqlite_master where name = '__diesel_schema_migrations'",
                )
                .get_result(&mut connection)?;
                if begun.found { pending(&mut connection, SQLITE) } else { all::<diesel::sqlite::Sqlite>(&SQLITE) }
            }
            Location::Postgres(url) => {
                let begun = Handle::current().block_on(async {
                    let mut connection = dialect::postgres::connect(url.clone()).await.map_err(super::unavailable)?;
                    let begun =
                        diesel::sql_query("select to_regclass('__diesel_schema_migrations') is not null as found");
                    Ok::<Found, StoreError>(diesel_async::RunQueryDsl::get_result(begun, &mut connection).await?)
                })?;
                if begun.found { pending(&mut postgres(url, "")?, POSTGRES) } else { all::<diesel::pg::Pg>(&POSTGRES) }
            }
        })
        .await
    }
}

#[expect(clippy::disallowed_methods, reason = "migrations run on the store's own connections")]
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> StoreResult<T> + Send + 'static,
) -> StoreResult<T> {
    tokio::task::spawn_blocking(work).await.map_err(|_| StoreError::Closed)?
}

/// Makes the file with its final mode, so that it is never readable by others, not even for a moment.
fn make_private(path: &Path) -> StoreResult<()> {
    let made =
        path.parent().filter(|folder| !folder.as_os_str().is_empty()).map_or(Ok(()), std::fs::create_dir_all);
    made.and_then(|()| private_file(path)).map(drop).map_err(|error| {
        StoreError::Unavailable(format!("{} cannot be made: {error}", path.display()).into())
    })
}

fn sqlite(path: &Path) -> StoreResult<SqliteConnection> {
    let mut connection = SqliteConnection::establish(&path.to_string_lossy()).map_err(super::unavailable)?;
    // How a file shrinks again is settled when it is made.
    diesel::connection::SimpleConnection::batch_execute(
        &mut connection,
        "pragma busy_timeout = 5000; pragma auto_vacuum = incremental;",
    )?;
    Ok(connection)
}

/// A connection that has run `first`, inside a thread that may block.
fn postgres(url: &str, first: &str) -> StoreResult<AsyncMigrationHarness<AsyncPgConnection>> {
    let connected = Handle::current().block_on(async {
        let mut connection = dialect::postgres::connect(url.to_owned()).await.map_err(super::unavailable)?;
        connection.batch_execute(first).await?;
        Ok::<_, StoreError>(connection)
    });
    Ok(AsyncMigrationHarness::new(connected?))
}

fn run<C, DB>(connection: &mut C, migrations: EmbeddedMigrations) -> StoreResult<Vec<String>>
where
    DB: diesel::backend::Backend,
    C: MigrationHarness<DB>,
    EmbeddedMigrations: MigrationSource<DB>,
{
    let pending = connection.pending_migrations(migrations).map_err(StoreError::Unavailable)?;
    connection.run_migrations(&pending).map_err(StoreError::Unavailable)?;
    Ok(pending.iter().map(|migration| migration.name().to_string()).collect())
}

fn pending<C, DB>(connection: &mut C, migrations: EmbeddedMigrations) -> StoreResult<Vec<String>>
where
    DB: diesel::backend::Backend,
    C: MigrationHarness<DB>,
    EmbeddedMigrations: MigrationSource<DB>,
{
    let pending = connection.pending_migrations(migrations).map_err(StoreError::Unavailable)?;
    Ok(pending.iter().map(|migration| migration.name().to_string()).collect())
}

fn all<DB: diesel::backend::Backend>(migrations: &EmbeddedMigrations) -> StoreResult<Vec<String>>
where
    EmbeddedMigrations: MigrationSource<DB>,
{
    let all = MigrationSource::<DB>::migrations(migrations).map_err(StoreError::Unavailable)?;
    let mut names: Vec<String> = all.iter().map(|migration| migration.name().to_string()).collect();
    names.sort_unstable();
    Ok(names)
}

#[derive(diesel::QueryableByName)]
struct Found {
    #[diesel(sql_type = diesel::sql_types::Bool)]
    found: bool,
}
