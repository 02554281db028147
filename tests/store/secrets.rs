//! Signing secrets are replaced and destroyed; the store sees sealed bytes alone.

use watchpost::{
    domain::{
        channel::{ChannelKey, ChannelState},
        secret::{RETIRING_MAX, RetiringSecret},
    },
    store::{NewChannel, Old, RotateOutcome, SecretRotation, Store},
};

use crate::{
    base::Base,
    build::{at, channel, log, opened, view},
};

on_both!(
    a_rotation_keeps_what_it_replaces_for_its_time,
    only_so_many_secrets_are_kept,
    the_unsigned_and_the_ended_have_none_to_replace,
    what_has_had_its_time_is_destroyed,
);

fn rotation(sealed: Option<u8>, overlap_ends_at: u64) -> SecretRotation {
    SecretRotation { sealed: sealed.map(|byte| vec![byte; 80]), overlap_ends_at: at(overlap_ends_at) }
}

async fn signed(store: &Store, id: &str) -> ChannelKey {
    let new = NewChannel { sealed_secret: Some(vec![1; 80]), ..channel(id, "r") };
    opened(store, new).await.key
}

async fn secrets_of(store: &Store, id: &str) -> (Option<Vec<u8>>, Vec<RetiringSecret>) {
    let channel = view(store, id).await.channel;
    (channel.sealed_secret, channel.retiring_secrets)
}

fn retiring(byte: u8, until: u64) -> RetiringSecret {
    RetiringSecret { sealed: vec![byte; 80], until: at(until) }
}

async fn a_rotation_keeps_what_it_replaces_for_its_time(base: Base) {
    let store = base.store().await;
    let key = signed(&store, "c").await;
    let rev = view(&store, "c").await.channel.rev;
    let rotated = store.rotate_secret(key, rotation(Some(2), 100), at(0)).await.unwrap();
    assert_eq!(rotated, RotateOutcome::Rotated { overlap_ends_at: Some(at(100)) });
    assert_eq!(secrets_of(&store, "c").await, (Some(vec![2; 80]), vec![retiring(1, 100)]));
    assert_eq!(view(&store, "c").await.channel.rev, rev + 1);
    let told = log(&store, "watchpost/channels").await.pop().unwrap();
    assert_eq!(told.name, "channel.secret.rotated");
    let said = String::from_utf8(told.payload.as_ref().unwrap().bytes.to_vec()).unwrap();
    assert!(said.contains(&at(100).to_rfc3339()) && !said.contains("AgIC"), "{said}");

    // The same secret again, by whoever did not see the answer: nothing to do, then a shorter overlap.
    let again = store.rotate_secret(key, rotation(None, 200), at(1)).await.unwrap();
    assert_eq!(again, RotateOutcome::Rotated { overlap_ends_at: Some(at(100)) });
    assert_eq!(view(&store, "c").await.channel.rev, rev + 1);
    store.rotate_secret(key, rotation(None, 50), at(1)).await.unwrap();
    assert_eq!(secrets_of(&store, "c").await, (Some(vec![2; 80]), vec![retiring(1, 50)]));
    let alone = store.rotate_secret(key, rotation(Some(3), 2), at(2)).await.unwrap();
    assert_eq!(alone, RotateOutcome::Rotated { overlap_ends_at: None });
    assert_eq!(secrets_of(&store, "c").await, (Some(vec![3; 80]), vec![]));
}

async fn only_so_many_secrets_are_kept(base: Base) {
    let store = base.store().await;
    let key = signed(&store, "c").await;
    for byte in 0..u8::try_from(RETIRING_MAX).unwrap() {
        let outcome = store.rotate_secret(key, rotation(Some(byte), 100 + u64::from(byte)), at(0)).await;
        assert!(matches!(outcome.unwrap(), RotateOutcome::Rotated { .. }));
    }
    let before = secrets_of(&store, "c").await;
    let refused = store.rotate_secret(key, rotation(Some(9), 200), at(0)).await.unwrap();
    assert_eq!(refused, RotateOutcome::TooMany { first_gone_at: at(100) });
    assert_eq!(secrets_of(&store, "c").await, before);
    // Once the first has had its time there is room; without an overlap there always is.
    let later = store.rotate_secret(key, rotation(Some(9), 200), at(100)).await.unwrap();
    assert_eq!(later, RotateOutcome::Rotated { overlap_ends_at: Some(at(200)) });
    store.rotate_secret(key, rotation(Some(10), 100), at(100)).await.unwrap();
    assert_eq!(secrets_of(&store, "c").await, (Some(vec![10; 80]), vec![]));
}

async fn the_unsigned_and_the_ended_have_none_to_replace(base: Base) {
    let store = base.store().await;
    let unsigned = opened(&store, channel("unsigned", "r")).await.key;
    let outcome = store.rotate_secret(unsigned, rotation(Some(2), 100), at(0)).await.unwrap();
    assert_eq!(outcome, RotateOutcome::Unsigned);
    let ended = signed(&store, "ended").await;
    assert!(store.end_channel(ended, ChannelState::Stopped, at(0)).await.unwrap());
    for key in [ended, ChannelKey(99)] {
        let outcome = store.rotate_secret(key, rotation(Some(2), 100), at(0)).await.unwrap();
        assert_eq!(outcome, RotateOutcome::Ended);
    }
}

async fn what_has_had_its_time_is_destroyed(base: Base) {
    let store = base.store().await;
    for (id, until) in [("a", 100), ("b", 300)] {
        let key = signed(&store, id).await;
        store.rotate_secret(key, rotation(Some(2), until), at(0)).await.unwrap();
        store.rotate_secret(key, rotation(Some(3), 300), at(0)).await.unwrap();
    }
    let rev = view(&store, "a").await.channel.rev;
    let whole = |old| {
        let store = store.clone();
        async move {
            let (found, last) = store.old_secrets(ChannelKey(0), at(100), old).await.unwrap().unwrap();
            assert_eq!(store.old_secrets(last, at(100), old).await.unwrap(), None);
            found
        }
    };
    assert_eq!(whole(Old::Count).await, 1);
    assert_eq!(whole(Old::Delete).await, 1);
    assert_eq!(whole(Old::Delete).await, 0);
    assert_eq!(secrets_of(&store, "a").await, (Some(vec![3; 80]), vec![retiring(2, 300)]));
    assert_eq!(secrets_of(&store, "b").await.1.len(), 2);
    assert_eq!(view(&store, "a").await.channel.rev, rev, "nothing is sent otherwise for it");
    store.old_secrets(ChannelKey(0), at(300), Old::Delete).await.unwrap();
    assert_eq!(store.old_secrets(ChannelKey(0), at(300), Old::Delete).await.unwrap(), None);
}
