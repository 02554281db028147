//! Channels are changed, and word of it reaches the delivering node.

use std::collections::BTreeMap;

use watchpost::{
    domain::channel::{CatchUp, ChannelKey, ChannelOptions, ChannelState, Format},
    store::{ChannelChange, StoreError},
};

use crate::{
    base::Base,
    build::{at, changed, channel, level, opened, view},
    support::receiver::in_time,
};

on_both!(
    every_field_changes_alone_and_raises_rev,
    what_is_unknown_or_ended_does_not_change,
    a_channel_revives_within_its_grace,
    a_channel_whose_end_went_unnoticed_goes_on,
);

async fn every_field_changes_alone_and_raises_rev(base: Base) {
    let store = base.store().await;
    let opened = opened(&store, channel("c", "r")).await;
    let options =
        ChannelOptions { metadata: BTreeMap::from([("k".into(), "v".into())]), ..ChannelOptions::default() };
    let none = ChannelChange::default();
    let changes = [
        none.clone(),
        ChannelChange { address: Some("https://other.example/".into()), ..none.clone() },
        ChannelChange { token: Some(Some("t".into())), ..none.clone() },
        ChannelChange { format: Some(Format::Raw), ..none.clone() },
        ChannelChange { payload: Some(false), ..none.clone() },
        ChannelChange { catch_up: Some(CatchUp::Latest), ..none.clone() },
        ChannelChange { expires_at: Some(at(9_999)), ..none.clone() },
        ChannelChange { options: Some(options.clone()), ..none.clone() },
        ChannelChange { token: Some(None), ..none.clone() },
    ];
    let mut expected = opened.clone();
    for change in changes {
        assert!(changed(&store, opened.key, change.clone(), at(5)).await.unwrap());
        expected.rev += 1;
        expected.address = change.address.unwrap_or(expected.address);
        expected.token = change.token.unwrap_or(expected.token);
        expected.format = change.format.unwrap_or(expected.format);
        expected.payload = change.payload.unwrap_or(expected.payload);
        expected.catch_up = change.catch_up.unwrap_or(expected.catch_up);
        if change.expires_at.is_some() {
            expected.granted_at = at(5);
        }
        expected.expires_at = change.expires_at.unwrap_or(expected.expires_at);
        expected.options = change.options.unwrap_or(expected.options);
        let found = view(&store, "c").await;
        assert_eq!(format!("{:?}", found.channel), format!("{expected:?}"));
        assert_eq!((found.cursor.moved, found.cursor.failing.due_at), (0, Some(at(0))), "the cursor stays");
    }
}

async fn what_is_unknown_or_ended_does_not_change(base: Base) {
    let store = base.store().await;
    let change =
        || ChannelChange { token: Some(Some("t".into())), expires_at: Some(at(9_999)), ..Default::default() };
    assert!(!changed(&store, ChannelKey(77), change(), at(0)).await.unwrap());
    for state in [ChannelState::Stopped, ChannelState::Gone] {
        let channel = opened(&store, channel(state.as_str(), "r")).await;
        assert!(store.end_channel(channel.key, state, at(1)).await.unwrap());
        assert!(!changed(&store, channel.key, change(), at(2)).await.unwrap());
        let found = view(&store, state.as_str()).await.channel;
        assert_eq!((found.token, found.state, found.rev), (None, state, 2));
    }
    let over = opened(&store, channel("over", "r")).await;
    store.expire_channels(at(3_600)).await.unwrap();
    let no_renewal = ChannelChange { token: Some(None), ..Default::default() };
    assert!(!changed(&store, over.key, no_renewal, at(3_601)).await.unwrap());
    store.close_expired_channels(at(3_600)).await.unwrap();
    assert!(!changed(&store, over.key, change(), at(3_602)).await.unwrap(), "its grace is over");
    assert_eq!(view(&store, "over").await.channel.state, ChannelState::Expired);
}

async fn a_channel_revives_within_its_grace(base: Base) {
    let store = base.store().await;
    let channel = level(&store, "c", "r").await;
    assert_eq!(store.expire_channels(at(3_600)).await.unwrap(), [channel.key]);
    crate::build::grow(&store, "r", 2).await;
    let before = view(&store, "c").await;
    assert_eq!((before.cursor.seq, before.cursor.behind), (0, true));
    assert_eq!(before.cursor.failing.due_at, None);
    let renewal = ChannelChange { expires_at: Some(at(9_999)), ..Default::default() };
    assert!(changed(&store, channel.key, renewal, at(4_000)).await.unwrap());
    let after = view(&store, "c").await;
    assert_eq!((after.channel.state, after.channel.ended_at), (ChannelState::Active, None));
    assert_eq!((after.channel.expires_at, after.channel.rev), (at(9_999), 3));
    assert_eq!((after.cursor.seq, after.head), (0, 2), "what came in between is delivered");
    assert_eq!(after.cursor.failing.due_at, Some(at(4_000)));
    assert!(after.cursor.moved > before.cursor.moved, "no older checkpoint takes the due time away");
    assert_eq!(store.due_channels(at(4_000), None, 10).await.unwrap(), [(at(4_000), channel.key)]);
}

async fn a_channel_whose_end_went_unnoticed_goes_on(base: Base) {
    let store = base.store().await;
    let channel = level(&store, "c", "r").await;
    let renewal = ChannelChange { expires_at: Some(at(9_999)), ..Default::default() };
    assert!(changed(&store, channel.key, renewal, at(4_000)).await.unwrap());
    assert_eq!(store.expire_channels(at(4_001)).await.unwrap(), []);
    let found = view(&store, "c").await;
    assert_eq!((found.channel.state, found.cursor.behind), (ChannelState::Active, false));
}

#[tokio::test(flavor = "multi_thread")]
async fn each_change_leaves_word_once() {
    let base = Base::postgres();
    let store = base.store().await;
    let one = opened(&store, channel("one", "r")).await;
    let other = opened(&store, channel("other", "r")).await;
    assert_eq!(store.take_changed_channels().await.unwrap(), [], "a new channel is found by its work");
    for _ in 0..2 {
        changed(&store, one.key, ChannelChange::default(), at(1)).await.unwrap();
    }
    store.end_channel(other.key, ChannelState::Stopped, at(1)).await.unwrap();
    assert_eq!(base.open().await.take_changed_channels().await.unwrap(), [one.key, other.key]);
    assert_eq!(store.take_changed_channels().await.unwrap(), []);
    assert!(!store.end_channel(other.key, ChannelState::Stopped, at(1)).await.unwrap());
    assert_eq!(store.take_changed_channels().await.unwrap(), [], "nothing changed");
    store.expire_channels(at(3_600)).await.unwrap();
    assert_eq!(store.take_changed_channels().await.unwrap(), [one.key]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_single_node_leaves_no_word() {
    let base = Base::sqlite();
    let store = base.store().await;
    let one = opened(&store, channel("one", "r")).await;
    changed(&store, one.key, ChannelChange::default(), at(1)).await.unwrap();
    assert_eq!(store.take_changed_channels().await.unwrap(), []);
}

/// A row that somebody keeps locked is a store that cannot be reached, and no fault of the request.
#[tokio::test(flavor = "multi_thread")]
async fn a_row_locked_for_too_long_is_unavailable() {
    let base = Base::postgres();
    let store = base.store().await;
    let channel = opened(&store, channel("c", "r")).await;
    let mut client = base.client().await;
    let holder = client.transaction().await.unwrap();
    holder.execute("select 1 from channels for update", &[]).await.unwrap();
    let refused = in_time("the lock timeout", changed(&store, channel.key, ChannelChange::default(), at(1)));
    let refused = refused.await;
    assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{refused:?}");
    holder.rollback().await.unwrap();
    assert!(changed(&store, channel.key, ChannelChange::default(), at(1)).await.unwrap());
}
