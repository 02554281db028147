//! A database that outlives the servers on it.

use std::{
    fs::File,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use diesel::{Connection as _, SqliteConnection, connection::SimpleConnection as _};
use tokio_postgres::NoTls;
use watchpost::{runtime::Tasks, store::Location};

use crate::support::{
    postgres::{TestDatabase, database},
    receiver::in_time,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Sqlite,
    Postgres,
}

/// An empty database of one test, and a folder for what a server keeps beside it.
pub struct Base {
    pub folder: PathBuf,
    database: Option<TestDatabase>,
}

impl Base {
    pub fn new(kind: Kind) -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(1);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("watchpost-it-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        Self { folder, database: (kind == Kind::Postgres).then(database) }
    }

    pub fn is_shared(&self) -> bool {
        self.database.is_some()
    }

    /// As the settings name it.
    pub fn url(&self) -> String {
        match &self.database {
            Some(database) => database.url().to_owned(),
            None => format!("sqlite:{}", self.folder.join("watchpost.db").display()),
        }
    }

    pub fn location(&self) -> Location {
        match &self.database {
            Some(database) => Location::Postgres(database.url().to_owned()),
            None => Location::Sqlite(self.folder.join("watchpost.db")),
        }
    }

    /// Waits until nobody holds a lock here. A server that is gone may seem to: a process that another test is just
    /// starting has its descriptors for a moment.
    pub async fn is_free(&self) {
        let is_lock = |path: &Path| path.extension().is_some_and(|end| end == "lock" || end == "node");
        let held = |path: &Path| File::open(path).unwrap().try_lock_shared().is_err();
        in_time("the locks of a server that is gone", async {
            let files = std::fs::read_dir(&self.folder).unwrap().map(|entry| entry.unwrap().path());
            for path in files.filter(|path| is_lock(path)) {
                while held(&path) {
                    tokio::task::yield_now().await;
                }
            }
        })
        .await;
    }

    /// Runs statements beside the server, over a connection of its own.
    pub async fn run(&self, sql: &str) {
        let Some(database) = &self.database else {
            let path = self.folder.join("watchpost.db");
            let mut file = SqliteConnection::establish(&path.to_string_lossy()).unwrap();
            file.batch_execute("pragma busy_timeout = 5000").unwrap();
            return file.batch_execute(sql).unwrap();
        };
        let (client, connection) = tokio_postgres::connect(database.url(), NoTls).await.unwrap();
        Tasks::current().spawn("test connection", connection);
        client.batch_execute(sql).await.unwrap();
    }
}

impl Drop for Base {
    fn drop(&mut self) {
        let _gone = std::fs::remove_dir_all(&self.folder);
    }
}
