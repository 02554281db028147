//! Migrating and opening a database.

use std::{os::unix::fs::PermissionsExt as _, path::Path};

use watchpost::{
    runtime::Tasks,
    store::{Location, LockError, Store, StoreError, StoreLock},
};

use crate::{
    base::Base,
    build::grow,
    support::{postgres::Cluster, receiver::in_time},
};

on_both!(migrations_run_once, what_is_pending_is_told_and_nothing_written);

async fn migrations_run_once(base: Base) {
    let ran = Store::migrate(&base.location).await.unwrap();
    assert!(ran.iter().any(|name| name.contains("core")), "{ran:?}");
    assert_eq!(Store::migrate(&base.location).await.unwrap(), Vec::<String>::new());
    grow(&base.open().await, "r", 1).await;
}

async fn what_is_pending_is_told_and_nothing_written(base: Base) {
    let pending = Store::pending_migrations(&base.location).await.unwrap();
    if let Location::Sqlite(path) = &base.location {
        assert!(!path.exists(), "looking makes no file");
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::File::create(path).unwrap();
        assert_eq!(Store::pending_migrations(&base.location).await.unwrap(), pending);
    }
    let tables = match &base.location {
        Location::Sqlite(_) => "select count(*) from sqlite_master",
        Location::Postgres(_) => "select count(*) from pg_tables where schemaname = 'public'",
    };
    assert_eq!(base.number(tables).await, 0);
    assert_eq!(Store::migrate(&base.location).await.unwrap(), pending);
    assert_eq!(Store::pending_migrations(&base.location).await.unwrap(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_start_at_once_migrate_once() {
    let base = Base::postgres();
    let (one, other, third) = tokio::join!(
        Store::migrate(&base.location),
        Store::migrate(&base.location),
        Store::migrate(&base.location)
    );
    let ran = [one.unwrap(), other.unwrap(), third.unwrap()];
    assert_eq!(ran.iter().filter(|ran| !ran.is_empty()).count(), 1, "{ran:?}");
    grow(&base.open().await, "r", 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sqlite_file_is_durable_and_its_owners_alone() {
    let base = Base::sqlite();
    let store = base.store().await;
    grow(&store, "r", 1).await;
    assert!(store.description().starts_with("SQLite 3."), "{}", store.description());
    assert!(store.description().ends_with("journal_mode = wal, synchronous = full"));
    assert_eq!(base.number("select journal_mode = 'wal' from pragma_journal_mode").await, 1);
    assert_eq!(base.number("select auto_vacuum from pragma_auto_vacuum").await, 2, "incremental");
    let Location::Sqlite(path) = &base.location else { unreachable!() };
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(path), 0o600);
    assert_eq!(mode(&path.with_extension("db-wal")), 0o600);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sqlite_file_has_one_holder() {
    let base = Base::sqlite();
    base.store().await;
    let Location::Sqlite(path) = &base.location else { unreachable!() };
    let held = StoreLock::take(path).unwrap();
    assert!(matches!(StoreLock::take(path), Err(LockError::Held(None))));
    drop(held);
    // A child that another case is starting may hold a copy for a moment, until it runs what it is to run.
    in_time("the lock to be free", async {
        while StoreLock::take(path).is_err() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_postgres_that_may_forget_is_refused() {
    let cluster = Cluster::with_settings(&[("fsync", "off")]);
    let base = Base::of(cluster.database());
    Store::migrate(&base.location).await.unwrap();
    let refused = Store::open(&base.location, Tasks::current(), Box::new(|_resource, _head| {})).await;
    let Err(StoreError::Unavailable(why)) = refused else { panic!("{refused:?}") };
    assert!(why.to_string().contains("fsync = off"), "{why}");
}
