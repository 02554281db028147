//! Who delivers: one node at a time, and a node that lost the lease writes nothing.

use std::time::Duration;

use watchpost::store::{Checkpoint, Lease, LeaseTerm, StoreError};

use crate::{
    base::Base,
    build::{attempt, channel, checkpoint, cursor, grow, opened, view},
};

const LONG: LeaseTerm = LeaseTerm(Duration::from_mins(10));
const OVER_AT_ONCE: LeaseTerm = LeaseTerm(Duration::ZERO);

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_has_one_holder() {
    let base = Base::postgres();
    let (store, other) = (base.store().await, base.open().await);
    let a = store.take_lease("a".into(), LONG).await.unwrap().unwrap();
    assert_eq!(other.take_lease("b".into(), LONG).await.unwrap(), None);
    assert_eq!(store.renew_lease("a".into(), a, LONG).await.unwrap(), Some(a));
    assert_eq!(other.renew_lease("b".into(), a, LONG).await.unwrap(), None, "an epoch is no ticket");
    let again = store.take_lease("a".into(), LONG).await.unwrap().unwrap();
    assert_eq!(again.epoch, a.epoch + 1, "the same node retakes it at once");
    assert_eq!(store.renew_lease("a".into(), a, LONG).await.unwrap(), None, "its former life is over");
    other.release_lease("b".into(), again).await.unwrap();
    store.release_lease("a".into(), a).await.unwrap();
    assert_eq!(other.take_lease("b".into(), LONG).await.unwrap(), None, "only its holder gives it up");
    store.release_lease("a".into(), again).await.unwrap();
    assert_eq!(store.renew_lease("a".into(), again, LONG).await.unwrap(), None, "given up is given up");
    let b = other.take_lease("b".into(), LONG).await.unwrap().unwrap();
    assert_eq!(b.epoch, again.epoch + 1);
    assert_eq!(store.take_lease("a".into(), LONG).await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_ran_out_is_taken_over() {
    let base = Base::postgres();
    let store = base.store().await;
    let a = store.take_lease("a".into(), OVER_AT_ONCE).await.unwrap().unwrap();
    assert_eq!(
        store.renew_lease("a".into(), a, OVER_AT_ONCE).await.unwrap(),
        Some(a),
        "late, but nobody came"
    );
    let b = store.take_lease("b".into(), LONG).await.unwrap().unwrap();
    assert_eq!(b.epoch, a.epoch + 1);
    assert_eq!(store.renew_lease("a".into(), a, LONG).await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_nodes_one_gets_the_lease() {
    let base = Base::postgres();
    let store = base.store().await;
    let nodes = (0..8).map(|node| {
        let store = store.clone();
        async move { store.take_lease(format!("node-{node}"), LONG).await.unwrap() }
    });
    let taken = futures_util::future::join_all(nodes).await;
    assert_eq!(taken.iter().flatten().count(), 1, "{taken:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_without_the_lease_writes_nothing() {
    let base = Base::postgres();
    let store = base.store().await;
    let lost = store.take_lease("a".into(), OVER_AT_ONCE).await.unwrap().unwrap();
    let held = store.take_lease("b".into(), LONG).await.unwrap().unwrap();
    let channel = opened(&store, channel("c", "r")).await;
    grow(&store, "r", 1).await;
    let under = |lease: Lease| Checkpoint {
        epoch: lease.epoch,
        cursors: vec![cursor(&channel)],
        fanned: vec![(channel.resource, 1)],
        attempts: vec![attempt(channel.key, 1)],
        ..Default::default()
    };
    let before = view(&store, "c").await.cursor;
    for _ in 0..20 {
        let refused = store.checkpoint(under(lost)).await;
        assert!(matches!(refused, Err(StoreError::Fenced)), "{refused:?}");
    }
    assert_eq!(view(&store, "c").await.cursor, before);
    assert_eq!(base.number("select count(*) from attempts").await, 0);
    assert_eq!(
        base.number(
            "select count(*) from work join resources on id = resource where path <> 'watchpost/channels'"
        )
        .await,
        1
    );
    assert!(checkpoint(&store, under(held)).await.moved.is_empty());
    assert_eq!(base.number("select count(*) from attempts").await, 1);
    assert_eq!(
        base.number(
            "select count(*) from work join resources on id = resource where path <> 'watchpost/channels'"
        )
        .await,
        0
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn on_sqlite_the_lease_is_granted_for_good() {
    let base = Base::sqlite();
    let store = base.store().await;
    let lease = store.take_lease("a".into(), OVER_AT_ONCE).await.unwrap().unwrap();
    assert_eq!(store.renew_lease("a".into(), lease, LONG).await.unwrap(), Some(lease));
    let epoch = lease.epoch;
    assert!(checkpoint(&store, Checkpoint { epoch, ..Default::default() }).await.moved.is_empty());
    assert!(!store.is_shared());
}
