//! A publish that names itself happens once.

use tokio::task::JoinSet;
use watchpost::store::{Publish, PublishOutcome, Store};

use crate::{
    base::Base,
    build::{accepted, all, event, given, keyed, log, publish, seqs},
};

on_both!(
    an_id_repeated_gets_the_first_answer,
    an_id_with_other_content_is_a_conflict,
    a_key_repeated_gets_the_first_answer,
    a_key_with_other_content_is_a_conflict,
    the_same_key_from_many_tasks_is_one_event,
    a_refused_batch_stores_nothing_and_frees_its_keys,
    keys_of_projects_are_apart,
);

async fn an_id_repeated_gets_the_first_answer(base: Base) {
    let store = base.store().await;
    let twice = || publish(vec![given("a", 1, &["x", "y"]), event("n", &["x"])]);
    let first = accepted(&store, twice()).await;
    assert_eq!(seqs(&first), [1, 1, 2]);
    assert_eq!(seqs(&accepted(&store, twice()).await), [1, 1, 3], "only the nameless event is new");
    let reopened = base.open().await;
    assert_eq!(accepted(&reopened, publish(vec![given("a", 1, &["x", "y"])])).await, first[..2]);
    let both = publish(vec![given("b", 1, &["x"]), given("b", 1, &["x"])]);
    assert_eq!(seqs(&accepted(&store, both).await), [4, 4], "twice in one publish is one event");
    assert_eq!(log(&reopened, "x").await.len(), 4);
}

async fn an_id_with_other_content_is_a_conflict(base: Base) {
    let store = base.store().await;
    accepted(&store, publish(vec![given("a", 1, &["x"])])).await;
    for store in [&store, &base.open().await] {
        let other = publish(vec![event("n", &["x"]), given("new", 1, &["y"]), given("a", 2, &["x"])]);
        assert_eq!(store.publish(other).await.unwrap(), PublishOutcome::IdConflict { event: 2 });
    }
    assert_eq!(log(&store, "x").await.len(), 1);
    assert_eq!(log(&store, "y").await.len(), 0);
    assert_eq!(seqs(&accepted(&store, publish(vec![given("new", 9, &["y"])])).await), [1], "the id is free");
}

async fn a_key_repeated_gets_the_first_answer(base: Base) {
    let store = base.store().await;
    let request = || keyed("k", 1, vec![event("one", &["x"]), given("two", 1, &["x", "y"])]);
    let first = accepted(&store, request()).await;
    assert_eq!(accepted(&store, request()).await, first);
    assert_eq!(accepted(&base.open().await, request()).await, first);
    assert_eq!(log(&store, "x").await.len(), 2);
    // The key names the request, the id the event: both hold on.
    assert_eq!(accepted(&store, publish(vec![given("two", 1, &["x", "y"])])).await, first[1..]);
    assert_eq!(accepted(&store, keyed("empty", 1, Vec::new())).await, []);
    assert_eq!(accepted(&store, keyed("empty", 1, Vec::new())).await, []);
}

async fn a_key_with_other_content_is_a_conflict(base: Base) {
    let store = base.store().await;
    accepted(&store, keyed("k", 1, vec![event("a", &["x"])])).await;
    for store in [&store, &base.open().await] {
        let other = keyed("k", 2, vec![given("b", 1, &["x"])]);
        assert_eq!(store.publish(other).await.unwrap(), PublishOutcome::KeyConflict);
    }
    assert_eq!(log(&store, "x").await.len(), 1);
    assert_eq!(seqs(&accepted(&store, publish(vec![given("b", 7, &["x"])])).await), [2], "the id is free");
    assert_eq!(seqs(&accepted(&store, publish(vec![given("k", 9, &["x"])])).await), [3], "keys are no ids");
}

async fn the_same_key_from_many_tasks_is_one_event(base: Base) {
    let nodes = base.nodes().await;
    for round in 0..5 {
        let (key, id) = (format!("key-{round}"), format!("id-{round}"));
        let mut tasks = JoinSet::new();
        for task in 0..24 {
            let store: Store = nodes[task % nodes.len()].clone();
            let by_key = task % 2 == 0;
            let (key, id) = (key.clone(), id.clone());
            tasks.spawn(async move {
                let request = if by_key {
                    keyed(&key, 1, vec![event("e", &["k"])])
                } else {
                    publish(vec![given(&id, 1, &["i"])])
                };
                let placed = accepted(&store, request).await;
                (placed[0].resource.clone(), placed[0].seq)
            });
        }
        for (resource, seq) in all(tasks).await {
            assert_eq!(seq, round + 1, "{resource}");
        }
    }
    assert_eq!(log(&nodes[0], "k").await.len(), 5);
    assert_eq!(log(&nodes[0], "i").await.len(), 5);
}

async fn a_refused_batch_stores_nothing_and_frees_its_keys(base: Base) {
    let store = base.store().await;
    accepted(&store, publish(vec![given("old", 1, &["x"])])).await;
    let refused = keyed("k", 1, vec![given("fresh", 1, &["new/resource"]), given("old", 2, &["x"])]);
    assert_eq!(store.publish(refused).await.unwrap(), PublishOutcome::IdConflict { event: 1 });
    assert_eq!(base.number("select count(*) from idempotency_keys").await, 1);
    assert_eq!(base.number("select count(*) from resources").await, 1);
    let other = keyed("k", 2, vec![given("fresh", 2, &["new/resource"])]);
    assert_eq!(seqs(&accepted(&store, other).await), [1]);
}

async fn keys_of_projects_are_apart(base: Base) {
    let store = base.store().await;
    let of = |project: &str, content| Publish {
        project: project.to_owned(),
        ..keyed("k", content, vec![given("id", content, &["r"])])
    };
    assert_eq!(seqs(&accepted(&store, of("p", 1)).await), [1]);
    assert_eq!(seqs(&accepted(&store, of("q", 2)).await), [1]);
    assert_eq!(store.publish(of("p", 2)).await.unwrap(), PublishOutcome::KeyConflict);
}
