//! A database of either kind for one case.

use std::{
    path::PathBuf,
    sync::atomic::{AtomicU64, Ordering},
};

use diesel::{Connection as _, RunQueryDsl as _, SqliteConnection, connection::SimpleConnection as _};
use tokio_postgres::{Client, NoTls};
use watchpost::{
    runtime::Tasks,
    store::{Location, Store},
};

use crate::support::{
    postgres::{TestDatabase, database},
    receiver::in_time,
};

pub struct Base {
    pub location: Location,
    kept: Kept,
}

enum Kept {
    Folder(PathBuf),
    Database(TestDatabase),
}

impl Base {
    pub fn sqlite() -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(1);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("watchpost-store-{}-{number}", std::process::id()));
        Self { location: Location::Sqlite(folder.join("watchpost.db")), kept: Kept::Folder(folder) }
    }

    pub fn postgres() -> Self {
        Self::of(database())
    }

    pub fn of(database: TestDatabase) -> Self {
        Self { location: Location::Postgres(database.url().to_owned()), kept: Kept::Database(database) }
    }

    /// Migrates and opens.
    pub async fn store(&self) -> Store {
        Store::migrate(&self.location).await.unwrap();
        self.open().await
    }

    pub async fn open(&self) -> Store {
        Store::open(&self.location, Tasks::current(), Box::new(|_resource, _head| {})).await.unwrap()
    }

    /// As many stores on the database as it allows: several nodes on PostgreSQL, one on SQLite.
    pub async fn nodes(&self) -> Vec<Store> {
        let mut nodes = vec![self.store().await];
        if nodes[0].is_shared() {
            nodes.push(self.open().await);
            nodes.push(self.open().await);
        }
        nodes
    }

    /// A PostgreSQL connection beside the store.
    pub async fn client(&self) -> Client {
        let Kept::Database(database) = &self.kept else { panic!("not PostgreSQL") };
        let (client, connection) = tokio_postgres::connect(database.url(), NoTls).await.unwrap();
        Tasks::current().spawn("test connection", connection);
        client
    }

    /// A SQLite connection beside the store.
    pub fn file(&self) -> SqliteConnection {
        let Location::Sqlite(path) = &self.location else { panic!("not SQLite") };
        let mut connection = SqliteConnection::establish(&path.to_string_lossy()).unwrap();
        connection.batch_execute("pragma busy_timeout = 5000").unwrap();
        connection
    }

    /// Runs statements beside the store.
    pub async fn run(&self, sql: &str) {
        match &self.kept {
            Kept::Folder(_) => self.file().batch_execute(sql).unwrap(),
            Kept::Database(_) => self.client().await.batch_execute(sql).await.unwrap(),
        }
    }

    /// The number that a query beside the store gives.
    pub async fn number(&self, sql: &str) -> i64 {
        #[derive(diesel::QueryableByName)]
        struct Row {
            #[diesel(sql_type = diesel::sql_types::BigInt)]
            n: i64,
        }
        match &self.kept {
            Kept::Folder(_) => {
                let row: Row =
                    diesel::sql_query(format!("select ({sql}) as n")).get_result(&mut self.file()).unwrap();
                row.n
            }
            Kept::Database(_) => {
                let sql = format!("select ({sql})::bigint");
                self.client().await.query_one(&sql, &[]).await.unwrap().get(0)
            }
        }
    }
}

impl Drop for Base {
    fn drop(&mut self) {
        if let Kept::Folder(folder) = &self.kept {
            let _gone = std::fs::remove_dir_all(folder);
        }
    }
}

/// Holds up every transaction that writes to one table, on PostgreSQL, at its very commit.
pub struct Gate(Client);

impl Gate {
    const KEY: i64 = 42;

    pub async fn shut(base: &Base, table: &str) -> Self {
        let client = base.client().await;
        let key = Self::KEY;
        let sql = format!(
            "create function gate() returns trigger language plpgsql as $$
               begin perform pg_advisory_xact_lock_shared({key}); return null; end
             $$;
             create constraint trigger gate after insert or update on {table}
               deferrable initially deferred for each row execute function gate();
             select pg_advisory_lock({key})"
        );
        client.batch_execute(&sql).await.unwrap();
        Self(client)
    }

    /// How many connections wait for a lock of any kind.
    pub async fn waiting(&self) -> i64 {
        let sql = "select count(*) from pg_stat_activity
                   where datname = current_database() and wait_event_type = 'Lock'";
        self.0.query_one(sql, &[]).await.unwrap().get(0)
    }

    pub async fn somebody_waits(&self, connections: i64) {
        in_time("a connection to wait", async { while self.waiting().await < connections {} }).await;
    }

    pub async fn open(&self) {
        self.0.execute("select pg_advisory_unlock($1)", &[&Self::KEY]).await.unwrap();
    }
}
