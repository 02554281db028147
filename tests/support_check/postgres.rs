//! A cluster answers, keeps what was committed through a kill, and is cleaned up.

use tokio_postgres::{Client, NoTls};

use crate::support::{
    postgres::{Cluster, database},
    receiver::in_time,
};

#[expect(clippy::disallowed_methods, reason = "the connection's driver ends with its client")]
async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

async fn setting(client: &Client, name: &str) -> String {
    client.query_one("select current_setting($1)", &[&name]).await.unwrap().get(0)
}

#[tokio::test]
async fn databases_are_empty_and_apart() {
    let (one, other) = (database(), database());
    assert_ne!(one.name(), other.name());
    let (one, other) = (connect(one.url()).await, connect(other.url()).await);
    let answer: i32 = one.query_one("select 1", &[]).await.unwrap().get(0);
    assert_eq!(answer, 1);
    one.batch_execute("create table here (id int)").await.unwrap();
    let seen: i64 =
        other.query_one("select count(*) from pg_class where relname = 'here'", &[]).await.unwrap().get(0);
    assert_eq!(seen, 0);
}

#[tokio::test]
async fn the_server_is_set_up_to_keep_its_promises() {
    let database = database();
    let client = connect(database.url()).await;
    for name in ["fsync", "synchronous_commit", "full_page_writes"] {
        assert_eq!(setting(&client, name).await, "on", "{name}");
    }
    assert_eq!(setting(&client, "server_encoding").await, "UTF8");
    let version: i32 = setting(&client, "server_version_num").await.parse().unwrap();
    assert!(version >= 150_000, "{version}");
}

#[tokio::test]
async fn a_dropped_database_is_gone_even_while_connected() {
    let dropped = database();
    let client = connect(dropped.url()).await;
    let url = dropped.url().to_owned();
    drop(dropped);
    client.query("select 1", &[]).await.unwrap_err();
    assert!(tokio_postgres::connect(&url, NoTls).await.is_err());
}

#[tokio::test]
async fn an_owned_cluster_recovers_from_every_kind_of_end() {
    let cluster = Cluster::with_settings(&[("work_mem", "5MB")]);
    let database = cluster.database();
    let client = connect(database.url()).await;
    assert_eq!(setting(&client, "work_mem").await, "5MB");
    client.batch_execute("create table kept (id int)").await.unwrap();
    for (index, end) in [Cluster::kill, Cluster::stop_immediate, Cluster::stop_fast].into_iter().enumerate() {
        let client = connect(database.url()).await;
        client.batch_execute("insert into kept values (1)").await.unwrap();
        end(&cluster);
        assert!(tokio_postgres::connect(database.url(), NoTls).await.is_err());
        in_time("the connection to break", async {
            while !client.is_closed() {
                client.batch_execute("select 1").await.unwrap_err();
            }
        })
        .await;
        cluster.start();
        let client = connect(database.url()).await;
        let kept: i64 = client.query_one("select count(*) from kept", &[]).await.unwrap().get(0);
        assert_eq!(usize::try_from(kept).unwrap(), index + 1);
    }
    assert!(cluster.log().contains("redo done"), "{}", cluster.log());
}
