//! The server's own signing keys succeed one another; the store sees sealed bytes alone.

use std::time::Duration;

use tokio::task::JoinSet;
use watchpost::{
    domain::signing_key::{KEYS_MAX, PUBLISHED_AHEAD, signer},
    store::{NewSigningKey, Old, RotateKeysOutcome, Store, StoreError},
};

use crate::{
    base::Base,
    build::{all, at},
};

on_both!(
    keys_succeed_one_another_with_an_overlap,
    only_so_many_keys_are_published,
    nodes_agree_on_the_first_key_and_on_every_next,
    a_reader_beside_the_store_reads_and_writes_nothing,
);

const HOUR: Duration = Duration::from_hours(1);

fn key(name: &str) -> NewSigningKey {
    NewSigningKey { kid: name.to_owned(), sealed: (0..=u8::MAX).collect(), public_key: vec![7; 32] }
}

async fn rotate(store: &Store, name: &str, overlap: Duration, seconds: u64) -> RotateKeysOutcome {
    store.rotate_signing_keys(key(name), overlap, at(seconds)).await.unwrap()
}

async fn keys_succeed_one_another_with_an_overlap(base: Base) {
    let store = base.store().await;
    assert_eq!(store.signing_keys().await.unwrap(), []);
    store.begin_signing_keys(key("a"), at(0)).await.unwrap();
    let RotateKeysOutcome::Rotated(keys) = rotate(&store, "b", HOUR, 100).await else { panic!() };
    assert_eq!(keys, store.signing_keys().await.unwrap());
    let [a, b] = &*keys else { panic!("{keys:?}") };
    assert_eq!((a.n, a.signs_from, a.until), (1, at(0), Some(at(3_700))));
    assert_eq!((b.n, b.signs_from, b.until), (2, at(100).plus(PUBLISHED_AHEAD), None));
    assert_eq!((b.sealed.len(), b.public_key.len(), b.kid.as_str()), (256, 32, "b"));
    assert_eq!(signer(&keys, at(100)).unwrap().kid, "a");
    assert_eq!(signer(&keys, at(700)).unwrap().kid, "b");

    // A longer overlap lengthens nothing, none ends what is left.
    rotate(&store, "c", 2 * HOUR, 200).await;
    let untils: Vec<_> = store.signing_keys().await.unwrap().iter().map(|key| key.until).collect();
    assert_eq!(untils, [Some(at(3_700)), Some(at(7_400)), None]);
    let RotateKeysOutcome::Rotated(keys) = rotate(&store, "d", Duration::ZERO, 300).await else { panic!() };
    assert_eq!(signer(&keys, at(300)).unwrap().kid, "d");
    assert_eq!(keys.iter().filter(|key| key.is_published(at(300))).count(), 1);
    assert_eq!(store.old_signing_keys(at(300), Old::Count).await.unwrap(), 3);
    assert_eq!(store.old_signing_keys(at(300), Old::Delete).await.unwrap(), 3);
    assert_eq!(store.old_signing_keys(at(9_999), Old::Delete).await.unwrap(), 0, "the newest stays");
    let RotateKeysOutcome::Rotated(keys) = rotate(&store, "e", HOUR, 400).await else { panic!() };
    assert_eq!(keys.iter().map(|key| key.n).collect::<Vec<_>>(), [4, 5], "places are not given out again");
}

async fn only_so_many_keys_are_published(base: Base) {
    let store = base.store().await;
    for name in ["a", "b", "c", "d"] {
        assert!(matches!(rotate(&store, name, HOUR, 0).await, RotateKeysOutcome::Rotated(_)));
    }
    assert_eq!(store.signing_keys().await.unwrap().len(), KEYS_MAX);
    let full = rotate(&store, "e", HOUR, 1).await;
    assert_eq!(full, RotateKeysOutcome::TooMany { first_gone_at: at(3_600) });
    assert!(matches!(rotate(&store, "e", HOUR, 3_600).await, RotateKeysOutcome::Rotated(_)));
}

async fn nodes_agree_on_the_first_key_and_on_every_next(base: Base) {
    let nodes = base.nodes().await;
    let mut beginning = JoinSet::new();
    for (at_node, store) in nodes.iter().cloned().enumerate() {
        beginning.spawn(async move { store.begin_signing_keys(key(&format!("k{at_node}")), at(0)).await });
    }
    assert!(all(beginning).await.iter().all(Result::is_ok));
    assert_eq!(nodes[0].signing_keys().await.unwrap().len(), 1);
    let mut rotating = JoinSet::new();
    for (at_node, store) in nodes.iter().cloned().enumerate() {
        rotating.spawn(async move { rotate(&store, &format!("n{at_node}"), HOUR, 1).await });
    }
    let outcomes = all(rotating).await;
    let rotated = outcomes.iter().filter(|outcome| matches!(outcome, RotateKeysOutcome::Rotated(_))).count();
    let keys = nodes[0].signing_keys().await.unwrap();
    assert_eq!(keys.len(), 1 + rotated, "{outcomes:?}");
    assert!(rotated >= 1 && keys.iter().filter(|key| key.until.is_none()).count() == 1, "{keys:?}");
}

async fn a_reader_beside_the_store_reads_and_writes_nothing(base: Base) {
    let store = base.store().await;
    store.begin_signing_keys(key("a"), at(0)).await.unwrap();
    let reader = Store::open_to_read(&base.location).unwrap();
    assert_eq!(reader.signing_keys().await.unwrap(), store.signing_keys().await.unwrap());
    if !store.is_shared() {
        let refused = reader.begin_signing_keys(key("b"), at(0)).await;
        assert!(matches!(refused, Err(StoreError::Closed)), "{refused:?}");
    }
}
