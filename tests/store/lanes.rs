//! What the engine loads: by resource, by key, by time.

use watchpost::domain::{
    channel::{ChannelKey, ChannelState, ResourceKey},
    cursor::{Cursor, Failing},
};

use crate::{
    base::Base,
    build::{at, channel, cursor, grow, level, opened, settle},
};

on_both!(
    level_lanes_are_the_active_and_level_ones_in_pages,
    lanes_are_loaded_whatever_their_state,
    due_channels_come_in_the_order_of_their_times,
    busy_resources_come_in_pages,
);

async fn level_lanes_are_the_active_and_level_ones_in_pages(base: Base) {
    let store = base.store().await;
    let mut keys = Vec::new();
    for number in 0..5 {
        keys.push(level(&store, &format!("level-{number}"), "r").await.key);
    }
    let resource = opened(&store, channel("behind", "r")).await.resource;
    let stopped = level(&store, "stopped", "r").await;
    store.end_channel(stopped.key, ChannelState::Stopped, at(1)).await.unwrap();
    level(&store, "elsewhere", "s").await;
    let mut after = ChannelKey(0);
    let mut pages: Vec<Vec<ChannelKey>> = Vec::new();
    loop {
        let page = store.level_lanes(resource, after, 2).await.unwrap();
        let Some(last) = page.last() else { break };
        after = last.channel.key;
        pages.push(page.iter().map(|lane| lane.channel.key).collect());
    }
    assert_eq!(pages.concat(), keys);
    assert_eq!(pages.iter().map(Vec::len).collect::<Vec<_>>(), [2, 2, 1]);
}

async fn lanes_are_loaded_whatever_their_state(base: Base) {
    let store = base.store().await;
    let behind = opened(&store, channel("behind", "r")).await.key;
    let stopped = level(&store, "stopped", "r").await.key;
    store.end_channel(stopped, ChannelState::Stopped, at(1)).await.unwrap();
    let mut loaded = store.lanes(vec![stopped, ChannelKey(77), behind]).await.unwrap();
    loaded.sort_by_key(|lane| lane.channel.key);
    let found: Vec<_> = loaded.iter().map(|lane| (lane.channel.key, lane.channel.state)).collect();
    assert_eq!(found, [(behind, ChannelState::Active), (stopped, ChannelState::Stopped)]);
    assert!(store.lanes(Vec::new()).await.unwrap().is_empty());
    let many: Vec<ChannelKey> = (0..5_000).map(ChannelKey).collect();
    assert_eq!(store.lanes(many).await.unwrap().len(), 2);
}

async fn due_channels_come_in_the_order_of_their_times(base: Base) {
    let store = base.store().await;
    let mut due = Vec::new();
    for (number, seconds) in [30, 10, 20, 10, 10, 40].into_iter().enumerate() {
        let channel = opened(&store, channel(&number.to_string(), "r")).await;
        let failing = Failing { due_at: Some(at(seconds)), ..Failing::default() };
        settle(&store, Cursor { behind: true, failing, ..cursor(&channel) }).await;
        due.push((at(seconds), channel.key));
    }
    level(&store, "idle", "r").await;
    due.sort_unstable();
    assert_eq!(store.due_channels(at(100), None, 100).await.unwrap(), due);
    assert_eq!(store.due_channels(at(30), None, 100).await.unwrap(), due[..5], "up to and with now");
    assert_eq!(store.due_channels(at(9), None, 100).await.unwrap(), []);
    let mut after = None;
    let mut paged = Vec::new();
    loop {
        let page = store.due_channels(at(30), after, 2).await.unwrap();
        let Some(last) = page.last() else { break };
        assert!(page.len() <= 2);
        after = Some(*last);
        paged.extend(page);
    }
    assert_eq!(paged, due[..5]);
}

async fn busy_resources_come_in_pages(base: Base) {
    let store = base.store().await;
    for number in 1..=5 {
        grow(&store, &format!("r/{number}"), number).await;
    }
    let mut after = ResourceKey(0);
    let mut heads = Vec::new();
    loop {
        let page = store.busy_resources(after, 2).await.unwrap();
        let Some(last) = page.last() else { break };
        assert!(last.resource > after);
        after = last.resource;
        heads.push(page.iter().map(|busy| (busy.head, busy.fanned)).collect::<Vec<_>>());
    }
    assert_eq!(heads, [vec![(1, 0), (2, 0)], vec![(3, 0), (4, 0)], vec![(5, 0)]]);
}
