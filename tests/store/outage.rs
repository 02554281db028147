//! PostgreSQL goes away and comes back. An answer is true all the same.

use std::{collections::HashMap, future::Future, net::Ipv4Addr, time::Duration};

use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::{mpsc, watch},
    task::JoinSet,
};
use watchpost::{
    domain::channel::{Channel, ResourceKey},
    runtime::Tasks,
    store::{
        ChannelChange, ChannelFilter, Checkpoint, LeaseTerm, Location, PublishOutcome, Store, StoreError,
        StoreResult,
    },
};

use crate::{
    base::{Base, Gate},
    build::{
        accepted, all, at, attempt, changed, channel, event, everybody, given, grow, log, opened, publish,
        view,
    },
    support::{postgres::Cluster, receiver::in_time},
};

async fn unavailable<T: std::fmt::Debug>(call: impl Future<Output = StoreResult<T>>) {
    let outcome = call.await;
    assert!(matches!(outcome, Err(StoreError::Unavailable(_))), "{outcome:?}");
}

/// Every kind of call, on a store that may have connections in its pool or none.
async fn is_unavailable(store: &Store, opened: &Channel, round: usize) {
    let new = channel(&format!("new-{round}"), "r");
    let attempts = Checkpoint { attempts: vec![attempt(opened.key, 1)], ..Default::default() };
    let few = ChannelFilter { limit: 1, ..Default::default() };
    let term = LeaseTerm(Duration::from_secs(1));
    Box::pin(in_time("the store to say that it cannot", async {
        tokio::join!(
            unavailable(store.publish(publish(vec![event("lost", &["r"])]))),
            unavailable(store.open_channel(new, at(0))),
            unavailable(store.channel(everybody(), "c".into())),
            unavailable(store.channels(everybody(), few)),
            unavailable(changed(store, opened.key, ChannelChange::default(), at(0))),
            unavailable(store.checkpoint(attempts)),
            unavailable(store.due_channels(at(0), None, 1)),
            unavailable(store.busy_resources(ResourceKey(0), 1)),
            unavailable(store.take_lease("a".into(), term)),
        );
    }))
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_postgres_is_unavailable_and_then_works_again() {
    let cluster = Cluster::new();
    let base = Base::of(cluster.database());
    let store = base.store().await;
    let opened = opened(&store, channel("c", "r")).await;
    for (round, stop) in [Cluster::stop_fast, Cluster::stop_immediate, Cluster::kill].into_iter().enumerate()
    {
        let head = i64::try_from(round + 1).unwrap();
        assert_eq!(grow(&store, "r", 1).await, head);
        stop(&cluster);
        is_unavailable(&store, &opened, round).await;
        is_unavailable(&store, &opened, round).await;
        cluster.start();
        assert_eq!(view(&store, "c").await.head, head, "what was answered is there");
    }
    assert_eq!(log(&store, "r").await.len(), 3);
}

/// How often publishing is cut off.
const CUTS: usize = 30;

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_is_true_however_often_the_connection_is_cut() {
    let base = Base::postgres();
    let store = base.store().await;
    let client = base.client().await;
    let (answered, mut answers) = mpsc::unbounded_channel();
    let mut tasks = JoinSet::new();
    for task in 0..8 {
        let (store, answered) = (store.clone(), answered.clone());
        tasks.spawn(async move {
            let mut outcomes = Vec::new();
            // Odd tasks publish without ids of their own, so nothing but the store guards them.
            let by_id = task % 2 == 0;
            for round in 0..30 {
                let id = format!("{task}-{round}");
                // A resource that the batch itself makes is the hard case.
                let resource = format!("r/{}", (task + round) % 40);
                let again = || if by_id { given(&id, 1, &[&resource]) } else { event(&id, &[&resource]) };
                let mut outcome = store.publish(publish(vec![again()])).await;
                while by_id && outcome.is_err() {
                    outcome = store.publish(publish(vec![again()])).await;
                }
                outcomes.push((id, outcome));
                let _ = answered.send(());
            }
            outcomes
        });
    }
    drop(answered);
    let mut cuts = 0;
    while let Some(()) = answers.recv().await {
        if cuts < CUTS && answers.len() < 3 {
            client
                .execute(
                    "select pg_terminate_backend(pid) from pg_stat_activity
                     where datname = current_database() and application_name = 'watchpost'",
                    &[],
                )
                .await
                .unwrap();
            cuts += 1;
        }
    }
    assert_eq!(cuts, CUTS);
    let mut stored: HashMap<String, Vec<i64>> = HashMap::new();
    let reader = base.open().await;
    for resource in 0..40 {
        for (at, event) in log(&reader, &format!("r/{resource}")).await.into_iter().enumerate() {
            assert_eq!(event.seq, i64::try_from(at).unwrap() + 1, "no gap");
            stored.entry(event.id.clone()).or_default().push(event.seq);
        }
    }
    for (id, outcome) in all(tasks).await.into_iter().flatten() {
        let found = stored.get(&id).map(Vec::as_slice).unwrap_or_default();
        match outcome {
            Ok(PublishOutcome::Accepted(placed)) => assert_eq!(found, [placed[0].seq], "{id}"),
            Err(StoreError::Unavailable(_)) => assert!(found.is_empty(), "{id} was refused: {found:?}"),
            Err(StoreError::CommitUnknown) => assert!(found.len() <= 1, "{id}: {found:?}"),
            other => panic!("{id}: {other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_connection_harms_one_call_at_most() {
    let base = Base::postgres();
    let store = base.store().await;
    opened(&store, channel("c", "r")).await;
    let client = base.client().await;
    for _ in 0..5 {
        client
            .execute(
                "select pg_terminate_backend(pid, 5000) from pg_stat_activity
                 where datname = current_database() and application_name = 'watchpost'",
                &[],
            )
            .await
            .unwrap();
        accepted(&store, publish(vec![event("e", &["r"])])).await;
    }
    assert_eq!(log(&base.open().await, "r").await.len(), 5);
}

/// The commit takes place, its answer does not arrive: the store finds out, and the event is there once. The
/// resource is made by that very transaction, so nobody can see it before.
#[tokio::test(flavor = "multi_thread")]
async fn a_commit_without_an_answer_is_found_out() {
    let base = Base::postgres();
    base.store().await;
    let cable = Cable::to(&base).await;
    let store =
        Store::open(&cable.location, Tasks::current(), Box::new(|_resource, _head| {})).await.unwrap();
    let gate = Gate::shut(&base, "events").await;
    let mut publishing = JoinSet::new();
    publishing.spawn(async move { accepted(&store, publish(vec![event("once", &["new"])])).await });
    gate.somebody_waits(1).await;
    cable.cut();
    // The transaction goes on without its client; the store asks for its fate and has to wait as well.
    in_time("the store to ask", async {
        while gate.waiting().await < 2 && publishing.try_join_next().is_none() {}
    })
    .await;
    gate.open().await;
    assert_eq!(all(publishing).await.first().map(|placed| placed[0].seq), Some(1));
    assert_eq!(log(&base.open().await, "new").await.len(), 1);
}

/// A way to the database that can be cut without the server's noticing.
struct Cable {
    location: Location,
    cut: watch::Sender<()>,
    _connections: JoinSet<()>,
}

impl Cable {
    async fn to(base: &Base) -> Self {
        let Location::Postgres(url) = &base.location else { panic!("not PostgreSQL") };
        let (server, database) = url.rsplit_once('@').and_then(|(_, rest)| rest.split_once('/')).unwrap();
        let door = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = door.local_addr().unwrap().port();
        let location = Location::Postgres(format!("postgres://watchpost@127.0.0.1:{port}/{database}"));
        let (cut, cuts) = watch::channel(());
        let server = server.to_owned();
        let mut connections = JoinSet::new();
        connections.spawn(async move {
            let mut open = JoinSet::new();
            // The server's ends stay open: it must not learn that its client is gone.
            let (keep, _kept) = mpsc::unbounded_channel();
            while let Ok((mut near, _)) = door.accept().await {
                let mut far = TcpStream::connect(&server).await.unwrap();
                let (mut cuts, keep) = (cuts.clone(), keep.clone());
                cuts.mark_unchanged();
                open.spawn(async move {
                    tokio::select! {
                        _ = cuts.changed() => {}
                        _ = copy_bidirectional(&mut near, &mut far) => {}
                    }
                    drop(near);
                    let _ = keep.send(far);
                });
            }
        });
        Self { location, cut, _connections: connections }
    }

    fn cut(&self) {
        self.cut.send_replace(());
    }
}
