//! Publishes become events: densely numbered, in order, verbatim.

use std::{collections::BTreeMap, sync::Arc};

use tokio::task::JoinSet;
use watchpost::{
    domain::{
        event::{Event, PAYLOAD_BYTES_MAX},
        time::Timestamp,
    },
    store::{Location, NewEvent, Placed, Publish},
};

use crate::{
    base::Base,
    build::{accepted, all, at, event, grow, key_of, log, path, payload, publish, seqs},
    support::receiver::in_time,
};

on_both!(
    seqs_are_dense_per_resource_and_answered_in_order,
    events_come_back_as_they_were_given,
    ranges_and_limits_hold_with_and_without_the_cache,
    many_at_once_leave_no_gap,
    projects_share_nothing,
    what_was_queued_is_written_before_the_store_closes,
);

async fn seqs_are_dense_per_resource_and_answered_in_order(base: Base) {
    let store = base.store().await;
    let events = vec![event("a", &["x"]), event("b", &["y", "x"]), event("c", &["x", "z", "y"])];
    let placed = accepted(&store, publish(events)).await;
    let told: Vec<_> =
        placed.iter().map(|placed| (placed.id.as_str(), placed.resource.as_str(), placed.seq)).collect();
    let expected = [("a", "x", 1), ("b", "y", 1), ("b", "x", 2), ("c", "x", 3), ("c", "z", 1), ("c", "y", 2)];
    assert_eq!(told, expected);
    assert_eq!(placed[0].resource_id, path("x").resource_id("p"));
    assert_eq!(seqs(&accepted(&store, publish(vec![event("d", &["z", "x"])])).await), [2, 4]);
    assert_eq!(accepted(&store, publish(Vec::new())).await, []);
    let ids: Vec<_> = log(&store, "x").await.iter().map(|event| (event.seq, event.id.clone())).collect();
    assert_eq!(ids, [(1, "a".into()), (2, "b".into()), (3, "c".into()), (4, "d".into())]);
}

async fn events_come_back_as_they_were_given(base: Base) {
    let store = base.store().await;
    let every_byte: Vec<u8> = (0..=u8::MAX).collect();
    let largest: Vec<u8> = every_byte.iter().copied().cycle().take(PAYLOAD_BYTES_MAX).collect();
    let payloads = [
        None,
        Some(payload("application/json", "{\"a\":  1e400, \"a\": \"\\u0000\"}\n")),
        Some(payload("application/octet-stream", every_byte)),
        Some(payload("text/plain; charset=utf-8", "")),
        Some(payload("x/y", largest)),
    ];
    let events: Vec<NewEvent> = payloads
        .iter()
        .enumerate()
        .map(|(number, payload)| NewEvent {
            name: format!("name.n{number}"),
            state: format!("state-{number}"),
            changed: (number % 2 == 0).then(|| "content, parents".to_owned()),
            payload: payload.clone(),
            ..event(&format!("id {number}"), &["r"])
        })
        .collect();
    accepted(&store, Publish { now: at(7), ..publish(events) }).await;
    let fresh = log(&store, "r").await;
    store.close().await;
    let read = log(&base.open().await, "r").await;
    assert_eq!(fresh, read, "the cache tells what the log holds");
    for (number, (event, payload)) in read.iter().zip(&payloads).enumerate() {
        assert_eq!(event.id, format!("id {number}"));
        assert_eq!(event.name, format!("name.n{number}"));
        assert_eq!(event.state, format!("state-{number}"));
        assert_eq!(event.changed.as_deref(), (number % 2 == 0).then_some("content, parents"));
        assert_eq!(event.published_at, at(7));
        assert_eq!(event.payload, *payload, "{number}");
    }
    assert_eq!(read.len(), payloads.len());
}

async fn ranges_and_limits_hold_with_and_without_the_cache(base: Base) {
    let store = base.store().await;
    grow(&store, "r", 10).await;
    grow(&store, "other", 3).await;
    let r = key_of(&store, "r").await;
    let reopened = base.open().await;
    for (after, through, limit, expected) in [
        (0, 10, 100, 1..=10),
        (0, 10, 4, 1..=4),
        (4, 7, 100, 5..=7),
        (9, i64::MAX, 100, 10..=10),
        (0, i64::MAX, 3, 1..=3),
    ] {
        for store in [&store, &reopened, &reopened] {
            let events = store.events(r, after, through, limit).await.unwrap();
            let found: Vec<i64> = events.iter().map(|event| event.seq).collect();
            assert_eq!(found, expected.clone().collect::<Vec<_>>(), "({after}, {through}] limit {limit}");
        }
    }
    for (after, through) in [(10, 10), (10, 20), (7, 3)] {
        assert_eq!(store.events(r, after, through, 5).await.unwrap(), []);
    }
    assert_eq!(store.earliest_seq(r).await.unwrap(), Some(1));
    base.run("delete from events where seq <= 4").await;
    assert_eq!(store.earliest_seq(r).await.unwrap(), Some(5));
    let fresh = base.open().await;
    let left: Vec<i64> = fresh.events(r, 2, 7, 5).await.unwrap().iter().map(|event| event.seq).collect();
    assert_eq!(left, [5, 6, 7]);
}

async fn many_at_once_leave_no_gap(base: Base) {
    const TASKS: usize = 64;
    const ROUNDS: usize = 4;
    let nodes = base.nodes().await;
    let mut tasks = JoinSet::new();
    for task in 0..TASKS {
        let store = nodes[task % nodes.len()].clone();
        tasks.spawn(async move {
            let mut placed = Vec::new();
            for round in 0..ROUNDS {
                // Overlapping sets, named in different orders, most of them new to the store.
                let names: Vec<String> = (0..3)
                    .map(|step| format!("r/{}", (task * 5 + round + step * (task % 4 + 1)) % 12))
                    .collect();
                let mut names: Vec<&str> = names.iter().map(String::as_str).collect();
                names.dedup();
                let id = format!("{task}-{round}");
                placed.extend(accepted(&store, publish(vec![event(&id, &names)])).await);
            }
            placed
        });
    }
    let mut told: BTreeMap<String, Vec<(i64, String)>> = BTreeMap::new();
    for Placed { id, resource, seq, .. } in all(tasks).await.into_iter().flatten() {
        told.entry(resource).or_default().push((seq, id));
    }
    let store = base.open().await;
    for (resource, mut told) in told {
        told.sort_unstable();
        let dense: Vec<i64> = (1..).take(told.len()).collect();
        assert_eq!(told.iter().map(|(seq, _)| *seq).collect::<Vec<_>>(), dense, "{resource}");
        let stored: Vec<_> =
            log(&store, &resource).await.iter().map(|event| (event.seq, event.id.clone())).collect();
        assert_eq!(stored, told, "{resource}");
    }
}

async fn projects_share_nothing(base: Base) {
    let store = base.store().await;
    grow(&store, "r", 2).await;
    let other = Publish { project: "q".into(), ..publish(vec![event("a", &["r"])]) };
    let placed = accepted(&store, other).await;
    assert_eq!(placed[0].seq, 1);
    assert_eq!(placed[0].resource_id, path("r").resource_id("q"));
    assert_eq!(store.head("p", &path("r")).await.unwrap().unwrap().seq, 2);
    assert_eq!(store.head("q", &path("r")).await.unwrap().unwrap().seq, 1);
    assert_eq!(store.head("none", &path("r")).await.unwrap(), None);
}

async fn what_was_queued_is_written_before_the_store_closes(base: Base) {
    let store = base.store().await;
    let mut tasks = JoinSet::new();
    for number in 0..20 {
        let store = store.clone();
        tasks.spawn(
            async move { store.publish(publish(vec![event(&number.to_string(), &["r"])])).await.is_ok() },
        );
    }
    store.close().await;
    let accepted = all(tasks).await.into_iter().filter(|accepted| *accepted).count();
    assert!(store.publish(publish(vec![event("late", &["r"])])).await.is_err());
    assert_eq!(log(&base.open().await, "r").await.len(), accepted, "accepted is stored, refused is not");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_wal_is_emptied() {
    const BYTES_MAX: u64 = 16 * 1_024 * 1_024;
    let base = Base::sqlite();
    let store = base.store().await;
    let Location::Sqlite(file) = &base.location else { unreachable!() };
    let wal = || std::fs::metadata(file.with_extension("db-wal")).unwrap().len();
    for _ in 0..3 {
        let large = |id| NewEvent {
            payload: Some(payload("x/y", vec![7; PAYLOAD_BYTES_MAX])),
            ..event(&format!("{id}"), &["r"])
        };
        accepted(&store, publish((0..70).map(large).collect())).await;
        // A second job is begun only when the first one's cycle is over.
        grow(&store, "r", 1).await;
        assert!(wal() < BYTES_MAX, "{}", wal());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_commit_is_never_skipped() {
    let base = Base::postgres();
    let store = base.store().await;
    grow(&store, "r", 1).await;
    let r = key_of(&store, "r").await;
    // Another publisher: it has its seq but has not committed.
    let mut client = base.client().await;
    let late = client.transaction().await.unwrap();
    late.execute("update resources set head_seq = 2 where id = $1", &[&r.0]).await.unwrap();
    late.execute(
        "insert into events (resource, seq, project, event_id, name, state, published_at_ms)
         values ($1, 2, 'p', 'late', 'a.b', 'exists', $2)",
        &[&r.0, &Timestamp::default().as_millis()],
    )
    .await
    .unwrap();
    let mut waiting = JoinSet::new();
    let publisher = store.clone();
    waiting.spawn(async move { accepted(&publisher, publish(vec![event("next", &["r"])])).await });
    let reader = base.open().await;
    in_time("the publish to wait for the row", async {
        let blocked = "select count(*) from pg_stat_activity
                       where datname = current_database() and wait_event_type = 'Lock'";
        while base.number(blocked).await == 0 {}
    })
    .await;
    let seen = |events: Vec<Arc<Event>>| events.iter().map(|event| event.id.clone()).collect::<Vec<_>>();
    for _ in 0..20 {
        assert_eq!(seen(reader.events(r, 0, i64::MAX, 10).await.unwrap()), ["grow-0"]);
        assert_eq!(reader.head("p", &path("r")).await.unwrap().unwrap().seq, 1);
    }
    assert!(waiting.try_join_next().is_none());
    late.commit().await.unwrap();
    assert_eq!(seqs(&all(waiting).await.remove(0)), [3]);
    assert_eq!(seen(reader.events(r, 0, i64::MAX, 10).await.unwrap()), ["grow-0", "late", "next"]);
}
