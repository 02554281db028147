//! Payloads are erased: from the log, from what answers quoted of them, from every memory, and from SQLite's files.

use watchpost::store::{Attempt, Checkpoint, Location, NewEvent, Store};

use crate::{
    base::Base,
    build::{PROJECT, accepted, at, attempt, checkpoint, event, key_of, level, log, payload, publish},
};

on_both!(
    the_data_goes_and_the_event_stays,
    excerpts_of_its_attempts_go_with_it,
    an_answer_that_comes_after_the_erasure_is_not_quoted,
    no_other_node_shows_it_from_memory,
    it_is_safe_to_erase_while_others_read,
);

fn secret(id: &str, resources: &[&str], bytes: &[u8]) -> NewEvent {
    NewEvent { payload: Some(payload("text/plain", bytes)), ..event(id, resources) }
}

async fn payloads(store: &Store, resource: &str) -> Vec<bool> {
    log(store, resource).await.iter().map(|event| event.payload.is_some()).collect()
}

async fn the_data_goes_and_the_event_stays(base: Base) {
    let store = base.store().await;
    let events = vec![secret("a", &["r", "s"], b"one"), secret("b", &["r"], b"two")];
    accepted(&store, publish(events)).await;
    assert!(!store.erase_event("other", "a", at(5)).await.unwrap(), "another project's");
    assert!(!store.erase_event(PROJECT, "none", at(5)).await.unwrap());
    assert_eq!((payloads(&store, "r").await, payloads(&store, "s").await), (vec![true, true], vec![true]));
    assert!(store.erase_event(PROJECT, "a", at(6)).await.unwrap());
    assert!(store.erase_event(PROJECT, "a", at(7)).await.unwrap(), "twice is fine");
    assert_eq!((payloads(&store, "r").await, payloads(&store, "s").await), (vec![false, true], vec![false]));
    let tombstones = "select count(*) from events where erased_at_ms = {} and content_type is null and name = 'thing.changed'";
    let tombstones = tombstones.replace("{}", &at(6).as_millis().to_string());
    assert_eq!(base.number(&tombstones).await, 2, "it keeps its moment");
}

async fn excerpts_of_its_attempts_go_with_it(base: Base) {
    let store = base.store().await;
    accepted(&store, publish(vec![event("first", &["r"])])).await;
    let (channel, other) = (level(&store, "c", "r").await, level(&store, "d", "s").await);
    accepted(&store, publish(vec![secret("a", &["r"], b"one"), secret("b", &["r"], b"two")])).await;
    let attempts = vec![
        attempt(channel.key, 2),
        attempt(channel.key, 2),
        attempt(channel.key, 3),
        attempt(other.key, 2),
    ];
    checkpoint(&store, Checkpoint { attempts, ..Checkpoint::default() }).await;
    let bytes = if store.is_shared() { "'\\x01'::bytea" } else { "x'01'" };
    base.run(&format!("update attempts set excerpt = {bytes}")).await;
    assert!(store.erase_event(PROJECT, "a", at(6)).await.unwrap());
    let kept =
        format!("select count(*) from attempts where excerpt is not null and channel = {}", channel.key.0);
    assert_eq!(base.number(&kept).await, 1);
    assert_eq!(base.number("select sum(number) from attempts where excerpt is not null").await, 5);
}

async fn an_answer_that_comes_after_the_erasure_is_not_quoted(base: Base) {
    let store = base.store().await;
    accepted(&store, publish(vec![event("first", &["r"])])).await;
    let channel = level(&store, "c", "r").await;
    accepted(&store, publish(vec![secret("a", &["r"], b"one"), secret("b", &["r"], b"two")])).await;
    assert!(store.erase_event(PROJECT, "a", at(6)).await.unwrap());
    let quoting = |number| Attempt { excerpt: Some("you said one".into()), ..attempt(channel.key, number) };
    // The sync, what was erased, and what was not.
    let attempts = [1, 2, 2, 3].map(quoting).to_vec();
    checkpoint(&store, Checkpoint { attempts, ..Checkpoint::default() }).await;
    assert_eq!(base.number("select count(*) from attempts").await, 4);
    assert_eq!(base.number("select sum(number) from attempts where excerpt is not null").await, 4);
}

async fn no_other_node_shows_it_from_memory(base: Base) {
    let nodes = base.nodes().await;
    let (eraser, reader) = (&nodes[0], &nodes[nodes.len() - 1]);
    accepted(eraser, publish(vec![secret("a", &["r"], b"one")])).await;
    assert_eq!(payloads(reader, "r").await, [true]);
    assert!(eraser.erase_event(PROJECT, "a", at(6)).await.unwrap());
    reader.heed_erasures().await.unwrap();
    assert_eq!(payloads(reader, "r").await, [false]);
    assert_eq!(payloads(eraser, "r").await, [false]);
}

async fn it_is_safe_to_erase_while_others_read(base: Base) {
    let store = base.store().await;
    for round in 0..40 {
        let (id, resource) = (format!("e{round}"), format!("r{round}"));
        accepted(&store, publish(vec![secret(&id, &[&resource], b"one")])).await;
        let key = key_of(&store, &resource).await;
        // From the database, as after a restart.
        store.forget_events();
        let (erased, _) = tokio::join!(store.erase_event(PROJECT, &id, at(6)), store.events(key, 0, 1, 1));
        assert!(erased.unwrap());
        assert_eq!(
            payloads(&store, &resource).await,
            [false],
            "{round}: what was read meanwhile is not kept"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_byte_stays_in_the_files() {
    const MARK: &[u8] = b"hush-hush-4711";
    let base = Base::sqlite();
    let store = base.store().await;
    let Location::Sqlite(path) = base.location.clone() else { panic!("SQLite") };
    let holds = |end: &str| {
        let bytes = std::fs::read(format!("{}{end}", path.display())).unwrap_or_default();
        bytes.windows(MARK.len()).any(|window| window == MARK)
    };
    // Some fill pages of their own, some lie among others.
    for round in 0..30 {
        let bytes = MARK.repeat(if round % 3 == 0 { 4_000 } else { 3 });
        let (id, other) = (format!("a{round}"), format!("b{round}"));
        accepted(&store, publish(vec![secret(&id, &["r", "s"], &bytes), secret(&other, &["r"], b"kept")]))
            .await;
    }
    assert!(holds("-wal"), "the mark can be found");
    for round in 0..30 {
        assert!(store.erase_event(PROJECT, &format!("a{round}"), at(6)).await.unwrap());
    }
    assert!(!holds("") && !holds("-wal"));
    store.close().await;
    assert!(!holds("") && !holds("-wal"));
}
