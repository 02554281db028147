//! Resources are listed, declared and deleted.

use watchpost::{
    domain::{channel::ChannelState, cursor::Cursor, resource::ResourcePath},
    store::{Deletion, RESOURCE_DELETED, ResourceView, Store},
};

use crate::{
    base::Base,
    build::{
        PROJECT, accepted, at, channel, cursor, event, fan, grow, key_of, level, log, opened, path, payload,
        publish, settle, view,
    },
};

on_both!(
    a_list_goes_page_by_page,
    what_is_declared_is_known,
    a_deletion_ends_channels_with_the_last_event,
    a_deletion_is_repeated_and_bounded,
    a_deleted_resource_goes_on_counting,
);

async fn all(store: &Store) -> Vec<ResourceView> {
    let all = store.resources(PROJECT, None, 100).await.unwrap();
    all.into_iter().filter(|view| !view.path.is_own()).collect()
}

async fn deleted(store: &Store, resource: &str) -> Deletion {
    let id = path(resource).resource_id(PROJECT);
    let deletion = store.begin_deletion(PROJECT, &id, at(50)).await.unwrap().unwrap();
    while !store.deletion_slice(deletion, at(50)).await.unwrap().is_done {}
    deletion
}

async fn a_list_goes_page_by_page(base: Base) {
    let store = base.store().await;
    for resource in ["b", "c/1", "a", "c/2"] {
        grow(&store, resource, 3).await;
    }
    let watched = level(&store, "w", "c/1").await;
    level(&store, "gone", "c/1").await;
    let gone = view(&store, "gone").await.channel.key;
    store.end_channel(gone, ChannelState::Stopped, at(1)).await.unwrap();
    base.run(&format!("delete from events where seq < 3 and resource = {}", watched.resource.0)).await;
    base.run("update resources set project = 'other' where path = 'c/2'").await;
    let (mut paths, mut after) = (Vec::new(), None);
    loop {
        let page = store.resources(PROJECT, after, 2).await.unwrap();
        let Some(last) = page.last() else { break };
        after = Some(last.key);
        paths.extend(page.iter().map(|view| view.path.as_str().to_owned()));
    }
    assert_eq!(paths, ["a", "b", "c/1", "watchpost/channels"]);
    let id = path("c/1").resource_id(PROJECT);
    let found = store.resource(PROJECT, &id).await.unwrap().unwrap();
    assert_eq!((found.head_seq, found.oldest_seq, found.channels), (3, Some(3), 1));
    assert_eq!((found.resource_id.as_str(), found.declared, found.created_at), (id.as_str(), false, at(0)));
    assert_eq!(store.resource("other", &id).await.unwrap(), None);
}

async fn what_is_declared_is_known(base: Base) {
    let store = base.store().await;
    grow(&store, "open", 1).await;
    let (made, is_new) = store.declare_resource(PROJECT, &path("r"), at(7)).await.unwrap();
    assert_eq!(
        (made.path, made.declared, made.head_seq, made.oldest_seq, is_new),
        (path("r"), true, 0, None, true)
    );
    assert!(!store.declare_resource(PROJECT, &path("r"), at(8)).await.unwrap().1);
    assert!(store.declare_resource("other", &path("open"), at(8)).await.unwrap().1);
    let asked: Vec<ResourcePath> = ["r", "open", "none"].map(path).into();
    let known = store.declared_resources(PROJECT, asked).await.unwrap();
    assert_eq!(known.into_iter().collect::<Vec<_>>(), [path("r")]);
    assert!(
        store.declare_resource(PROJECT, &path("open"), at(9)).await.unwrap().1,
        "it was there, undeclared"
    );
    assert_eq!(all(&store).await.len(), 2);
}

async fn a_deletion_ends_channels_with_the_last_event(base: Base) {
    let store = base.store().await;
    let secret = watchpost::store::NewEvent {
        payload: Some(payload("text/plain", b"x".to_vec())),
        ..event("e", &["r"])
    };
    accepted(&store, publish(vec![secret, event("f", &["r"])])).await;
    let (behind, fanned) = (opened(&store, channel("behind", "r")).await, level(&store, "level", "r").await);
    let stopped = level(&store, "stopped", "r").await;
    store.end_channel(stopped.key, ChannelState::Stopped, at(1)).await.unwrap();
    let deletion = deleted(&store, "r").await;
    assert_eq!(deletion.last_seq, 3);
    let events = log(&store, "r").await;
    assert!(events.iter().all(|event| event.payload.is_none()));
    let last = events.last().unwrap();
    assert_eq!((last.seq, last.name.as_str(), last.state.as_str()), (3, RESOURCE_DELETED, "not_exists"));
    assert_eq!(base.number("select count(*) from events where erased_at_ms is not null").await, 2);
    for (id, end, state) in [
        ("behind", 3, ChannelState::Active),
        ("level", 3, ChannelState::Active),
        ("stopped", 2, ChannelState::Stopped),
    ] {
        let found = view(&store, id).await;
        assert_eq!((found.channel.end_seq, found.channel.state, found.head), (Some(end), state, end), "{id}");
    }
    assert_eq!(store.stop_finished_channels(at(60)).await.unwrap(), [], "they have the last event to come");
    fan(&store, fanned.resource, 3).await;
    assert_eq!(store.stop_finished_channels(at(60)).await.unwrap(), [fanned.key]);
    settle(&store, Cursor { seq: 3, behind: true, ..cursor(&behind) }).await;
    assert_eq!(store.stop_finished_channels(at(61)).await.unwrap(), [behind.key]);
    assert_eq!(store.stop_finished_channels(at(62)).await.unwrap(), []);
    let found = view(&store, "behind").await;
    assert_eq!((found.channel.state, found.channel.ended_at), (ChannelState::Stopped, Some(at(61))));
    assert_eq!((found.cursor.seq, found.cursor.behind, found.channel.end_seq), (3, true, Some(3)));
}

async fn a_deletion_is_repeated_and_bounded(base: Base) {
    let store = base.store().await;
    for number in 0..130 {
        opened(&store, channel(&format!("c{number}"), "r")).await;
    }
    grow(&store, "r", 230).await;
    let id = path("r").resource_id(PROJECT);
    assert_eq!(store.begin_deletion("other", &id, at(50)).await.unwrap(), None);
    let deletion = store.begin_deletion(PROJECT, &id, at(50)).await.unwrap().unwrap();
    let mut ending = Vec::new();
    loop {
        // Whoever asks again goes on with the same last event.
        assert_eq!(store.begin_deletion(PROJECT, &id, at(51)).await.unwrap(), Some(deletion));
        let slice = store.deletion_slice(deletion, at(50)).await.unwrap();
        ending.push(slice.ending.len());
        if slice.is_done {
            break;
        }
    }
    assert_eq!(ending, [100, 30, 0, 0]);
    assert_eq!(deletion.last_seq, 231);
}

async fn a_deleted_resource_goes_on_counting(base: Base) {
    let store = base.store().await;
    grow(&store, "r", 2).await;
    store.declare_resource(PROJECT, &path("r"), at(1)).await.unwrap();
    deleted(&store, "r").await;
    assert!(!all(&store).await[0].declared);
    assert_eq!(grow(&store, "r", 1).await, 4);
    let late = opened(&store, channel("late", "r")).await;
    assert_eq!((late.start_seq, late.end_seq), (4, None));
    let resource = key_of(&store, "r").await;
    store.deletion_slice(Deletion { resource, last_seq: 3 }, at(52)).await.unwrap();
    assert_eq!(view(&store, "late").await.channel.end_seq, None, "it came after the end");
}
