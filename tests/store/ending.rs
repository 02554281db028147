//! Channels end: at once, or when their time is over and then their grace.

use watchpost::domain::{
    channel::{ChannelKey, ChannelState},
    cursor::Cursor,
};

use crate::{
    base::Base,
    build::{at, channel, checkpoint, cursor, fan, grow, level, opened, settle, view},
    scale::seed,
};

on_both!(
    an_end_is_the_head_and_happens_once,
    an_end_freezes_a_level_cursor_where_fanned_is,
    an_end_leaves_a_cursor_behind_where_it_is,
    an_older_checkpoint_does_not_thaw_an_ended_cursor,
    only_channels_whose_time_is_over_expire,
    expiry_goes_in_batches,
    a_grace_ends_at_the_head,
);

async fn an_end_is_the_head_and_happens_once(base: Base) {
    let store = base.store().await;
    let channel = level(&store, "c", "r").await;
    grow(&store, "r", 3).await;
    assert!(store.end_channel(channel.key, ChannelState::Gone, at(9)).await.unwrap());
    assert!(!store.end_channel(channel.key, ChannelState::Stopped, at(10)).await.unwrap());
    assert!(!store.end_channel(ChannelKey(77), ChannelState::Stopped, at(10)).await.unwrap());
    grow(&store, "r", 2).await;
    let found = view(&store, "c").await;
    assert_eq!(found.channel.state, ChannelState::Gone);
    assert_eq!((found.channel.end_seq, found.channel.ended_at), (Some(3), Some(at(9))));
    assert_eq!((found.channel.rev, found.head), (2, 3), "what came after was never meant for it");
}

async fn an_end_freezes_a_level_cursor_where_fanned_is(base: Base) {
    let store = base.store().await;
    let busy = level(&store, "busy", "r").await;
    let through = level(&store, "through", "s").await;
    grow(&store, "r", 5).await;
    grow(&store, "s", 5).await;
    fan(&store, busy.resource, 2).await;
    fan(&store, through.resource, 5).await;
    for channel in [&busy, &through] {
        assert!(store.end_channel(channel.key, ChannelState::Stopped, at(1)).await.unwrap());
        fan(&store, channel.resource, 5).await;
        grow(&store, channel.resource_path.as_str(), 2).await;
    }
    for (id, seq) in [("busy", 2), ("through", 5)] {
        let found = view(&store, id).await;
        assert_eq!((found.cursor.seq, found.cursor.behind, found.head), (seq, true, 5), "{id}");
        assert_eq!(found.cursor.failing.due_at, None);
    }
}

async fn an_end_leaves_a_cursor_behind_where_it_is(base: Base) {
    let store = base.store().await;
    let channel = opened(&store, channel("c", "r")).await;
    grow(&store, "r", 5).await;
    fan(&store, channel.resource, 5).await;
    assert!(store.end_channel(channel.key, ChannelState::Stopped, at(1)).await.unwrap());
    let found = view(&store, "c").await;
    assert_eq!((found.cursor.seq, found.cursor.behind, found.head), (-1, true, 5));
    assert_eq!(store.due_channels(at(9), None, 10).await.unwrap(), []);
}

async fn an_older_checkpoint_does_not_thaw_an_ended_cursor(base: Base) {
    let store = base.store().await;
    let channel = level(&store, "c", "r").await;
    grow(&store, "r", 5).await;
    assert!(store.end_channel(channel.key, ChannelState::Stopped, at(1)).await.unwrap());
    let older = Cursor { seq: 1, ..cursor(&channel) };
    let written =
        checkpoint(&store, watchpost::store::Checkpoint { cursors: vec![older], ..Default::default() }).await;
    assert_eq!(written.moved, [channel.key]);
    let found = view(&store, "c").await;
    assert_eq!((found.cursor.seq, found.cursor.behind), (0, true));
}

async fn only_channels_whose_time_is_over_expire(base: Base) {
    let store = base.store().await;
    let mut keys = Vec::new();
    for (id, expires) in [("before", 99), ("at", 100), ("after", 101), ("stopped", 50)] {
        let new = watchpost::store::NewChannel { expires_at: at(expires), ..channel(id, "r") };
        keys.push(opened(&store, new).await.key);
    }
    store.end_channel(keys[3], ChannelState::Stopped, at(1)).await.unwrap();
    grow(&store, "r", 1).await;
    let mut expired = store.expire_channels(at(100)).await.unwrap();
    expired.sort_unstable();
    assert_eq!(expired, keys[..2]);
    assert_eq!(store.expire_channels(at(100)).await.unwrap(), []);
    let found = view(&store, "before").await;
    assert_eq!((found.channel.state, found.channel.ended_at), (ChannelState::Expired, Some(at(99))));
    assert_eq!((found.channel.end_seq, found.channel.rev), (None, 2), "it may be renewed");
    assert_eq!((found.cursor.behind, found.cursor.failing.due_at), (true, None));
    assert_eq!(view(&store, "after").await.channel.state, ChannelState::Active);
    assert_eq!(view(&store, "stopped").await.channel.state, ChannelState::Stopped);
}

async fn expiry_goes_in_batches(base: Base) {
    let store = base.store().await;
    seed(&base, 450, 10, 100).await;
    let (mut sizes, mut all) = (Vec::new(), Vec::new());
    loop {
        let expired = store.expire_channels(at(101)).await.unwrap();
        sizes.push(expired.len());
        if expired.is_empty() {
            break;
        }
        all.extend(expired);
    }
    assert_eq!(sizes, [200, 200, 50, 0]);
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), 450, "each once");
    assert_eq!(store.close_expired_channels(at(99)).await.unwrap(), 0);
    let mut closed = Vec::new();
    while closed.last() != Some(&0) {
        closed.push(store.close_expired_channels(at(101)).await.unwrap());
    }
    assert_eq!(closed, [200, 200, 50, 0]);
}

async fn a_grace_ends_at_the_head(base: Base) {
    let store = base.store().await;
    let channel = level(&store, "c", "r").await;
    grow(&store, "r", 2).await;
    fan(&store, channel.resource, 2).await;
    store.expire_channels(at(3_600)).await.unwrap();
    grow(&store, "r", 3).await;
    fan(&store, channel.resource, 5).await;
    let found = view(&store, "c").await;
    assert_eq!((found.cursor.seq, found.head), (2, 5), "within its grace the log goes on for it");
    assert_eq!(store.close_expired_channels(at(3_599)).await.unwrap(), 0);
    assert_eq!(store.close_expired_channels(at(3_600)).await.unwrap(), 1);
    assert_eq!(store.close_expired_channels(at(3_600)).await.unwrap(), 0);
    grow(&store, "r", 1).await;
    let found = view(&store, "c").await;
    assert_eq!((found.cursor.seq, found.head, found.channel.end_seq), (2, 5, Some(5)));
    assert_eq!((found.channel.state, found.channel.rev), (ChannelState::Expired, 3));
    settle(&store, Cursor { seq: 4, behind: true, ..found.cursor }).await;
    assert_eq!(view(&store, "c").await.cursor.seq, 4, "a claim's reader still moves on");
}
