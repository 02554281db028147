//! Channels are opened once, read and listed.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
};

use tokio::task::JoinSet;
use watchpost::{
    domain::channel::{CatchUp, ChannelOptions, ChannelState, Face, Format},
    store::{ChannelFilter, NewChannel, OpenOutcome, Owner},
};

use crate::{
    base::Base,
    build::{accepted, all, at, channel, event, everybody, grow, opened, path, publish, subject, view},
};

on_both!(
    a_channel_starts_at_the_head_with_its_sync_due,
    a_channel_comes_back_as_it_was_opened,
    an_id_is_taken_for_ever,
    one_of_many_at_once_gets_the_id,
    opening_among_publishes_splits_the_log_cleanly,
    an_owner_sees_its_own,
    an_id_goes_before_a_uid,
    lists_go_from_the_newest_page_by_page,
    lists_are_narrowed_by_labels,
);

async fn a_channel_starts_at_the_head_with_its_sync_due(base: Base) {
    let store = base.store().await;
    let fresh = opened(&store, channel("fresh", "never/published")).await;
    assert_eq!(fresh.start_seq, 0);
    assert_eq!(store.head("p", &path("never/published")).await.unwrap().unwrap().seq, 0);
    grow(&store, "r", 3).await;
    let channel = opened(&store, channel("c", "r")).await;
    assert_eq!((channel.start_seq, channel.end_seq, channel.rev), (3, None, 1));
    assert_eq!(channel.state, ChannelState::Active);
    assert_eq!((channel.created_at, channel.ended_at), (at(0), None));
    let view = view(&store, "c").await;
    assert_eq!((view.cursor.seq, view.cursor.behind, view.cursor.moved, view.head), (2, true, 0, 3));
    assert_eq!(view.cursor.failing.due_at, Some(at(0)));
    assert_eq!(channel.number_of(view.cursor.seq + 1), 1, "the sync is number 1");
}

async fn a_channel_comes_back_as_it_was_opened(base: Base) {
    let store = base.store().await;
    let new = NewChannel {
        face: Face::Google,
        token: Some("t=1&x=y".into()),
        format: Format::Google,
        payload: false,
        catch_up: CatchUp::Latest,
        options: ChannelOptions {
            headers: BTreeMap::from([("X-Team".to_owned(), "a \"quoted\" one".to_owned())]),
            retry_schedule_ms: vec![1, 2, u64::MAX],
            metadata: BTreeMap::from([("k".to_owned(), "ü".to_owned())]),
            signatures: vec!["v1".into()],
            ..ChannelOptions::default()
        },
        sealed_secret: Some((0..=u8::MAX).collect()),
        ..channel("c", "calendar/v3/calendars/a b@x/events")
    };
    opened(&store, new.clone()).await;
    let read = view(&base.open().await, "c").await.channel;
    assert_eq!((read.uid, read.project, read.id, read.subject), (new.uid, new.project, new.id, new.subject));
    assert_eq!(read.resource_path, new.resource);
    assert_eq!(read.resource_id, new.resource.resource_id("p"));
    assert_eq!((read.resource_uri, read.address, read.token), (new.resource_uri, new.address, new.token));
    assert_eq!((read.face, read.format, read.payload), (new.face, new.format, new.payload));
    assert_eq!((read.catch_up, read.expires_at), (new.catch_up, new.expires_at));
    assert_eq!(read.options, new.options);
    assert_eq!(read.sealed_secret, new.sealed_secret);
}

async fn an_id_is_taken_for_ever(base: Base) {
    let store = base.store().await;
    let first = opened(&store, channel("c", "r")).await;
    let again = || NewChannel { uid: "another".into(), ..channel("c", "elsewhere") };
    assert!(matches!(store.open_channel(again(), at(1)).await.unwrap(), OpenOutcome::IdTaken));
    assert!(store.end_channel(first.key, ChannelState::Stopped, at(1)).await.unwrap());
    assert!(matches!(store.open_channel(again(), at(2)).await.unwrap(), OpenOutcome::IdTaken));
    opened(&store, NewChannel { project: "q".into(), ..again() }).await;
    assert_eq!(view(&store, "c").await.channel.uid, first.uid);
    assert_eq!(base.number("select count(*) from cursors").await, 2);
}

async fn one_of_many_at_once_gets_the_id(base: Base) {
    let nodes = base.nodes().await;
    for round in 0..5 {
        let mut tasks = JoinSet::new();
        for task in 0..12 {
            let store = nodes[task % nodes.len()].clone();
            let new = NewChannel {
                uid: format!("{round}-{task}"),
                ..channel(&round.to_string(), &format!("r/{}", task % 3))
            };
            tasks.spawn(async move { store.open_channel(new, at(0)).await.unwrap() });
        }
        let outcomes = all(tasks).await;
        let won = outcomes.iter().filter(|outcome| matches!(outcome, OpenOutcome::Opened(_))).count();
        assert_eq!(won, 1, "{outcomes:?}");
    }
}

async fn opening_among_publishes_splits_the_log_cleanly(base: Base) {
    let nodes = base.nodes().await;
    let clock = Arc::new(AtomicI64::new(0));
    let mut opening = JoinSet::new();
    let mut publishing = JoinSet::new();
    for task in 0..6 {
        let (store, ticks) = (nodes[task % nodes.len()].clone(), Arc::clone(&clock));
        publishing.spawn(async move {
            let mut times = Vec::new();
            for round in 0..12 {
                let begun = ticks.fetch_add(1, Ordering::SeqCst);
                let placed = accepted(&store, publish(vec![event(&format!("{task}-{round}"), &["r"])])).await;
                times.push((begun, ticks.fetch_add(1, Ordering::SeqCst), placed[0].seq));
            }
            times
        });
        let (store, ticks) = (nodes[(task + 1) % nodes.len()].clone(), Arc::clone(&clock));
        opening.spawn(async move {
            let mut times = Vec::new();
            for round in 0..4 {
                let begun = ticks.fetch_add(1, Ordering::SeqCst);
                let channel = opened(&store, channel(&format!("{task}-{round}"), "r")).await;
                times.push((begun, ticks.fetch_add(1, Ordering::SeqCst), channel.start_seq));
            }
            times
        });
    }
    let published: Vec<_> = all(publishing).await.into_iter().flatten().collect();
    for (open_begun, open_ended, start) in all(opening).await.into_iter().flatten() {
        for (begun, ended, seq) in &published {
            assert!(*ended > open_begun || *seq <= start, "published before, so not the channel's");
            assert!(*begun < open_ended || *seq > start, "published after, so the channel's");
        }
    }
    assert_eq!(published.iter().map(|(.., seq)| *seq).max(), Some(72));
}

async fn an_owner_sees_its_own(base: Base) {
    let store = base.store().await;
    opened(&store, channel("a", "r")).await;
    opened(&store, NewChannel { subject: "bob".into(), ..channel("b", "r") }).await;
    opened(&store, NewChannel { project: "q".into(), uid: "q".into(), ..channel("a", "r") }).await;
    let find = async |owner: &Owner, id: &str| {
        store.channel(owner.clone(), id.into()).await.unwrap().map(|view| view.channel.uid)
    };
    assert_eq!(find(&everybody(), "b").await.as_deref(), Some("uid-b"));
    assert_eq!(find(&subject("bob"), "b").await.as_deref(), Some("uid-b"));
    assert_eq!(find(&subject("bob"), "uid-b").await.as_deref(), Some("uid-b"));
    assert_eq!(find(&subject("alice"), "b").await, None);
    assert_eq!(find(&subject("alice"), "uid-b").await, None);
    assert_eq!(find(&everybody(), "q").await, None, "another project's uid");
    let q = Owner { project: "q".into(), subject: None };
    assert_eq!(find(&q, "a").await.as_deref(), Some("q"));
    assert_eq!(find(&q, "b").await, None);
    let list = async |owner: Owner, subject: Option<&str>| {
        let filter = ChannelFilter { subject: subject.map(Into::into), limit: 10, ..Default::default() };
        let found = store.channels(owner, filter).await.unwrap();
        found.into_iter().map(|view| view.channel.id).collect::<Vec<_>>()
    };
    assert_eq!(list(everybody(), None).await, ["b", "a"]);
    assert_eq!(list(everybody(), Some("bob")).await, ["b"]);
    assert_eq!(list(subject("alice"), None).await, ["a"]);
    assert_eq!(list(subject("alice"), Some("bob")).await, Vec::<String>::new());
}

async fn an_id_goes_before_a_uid(base: Base) {
    let store = base.store().await;
    opened(&store, NewChannel { uid: "shared".into(), ..channel("one", "r") }).await;
    assert_eq!(view(&store, "shared").await.channel.id, "one");
    opened(&store, NewChannel { uid: "two".into(), ..channel("shared", "r") }).await;
    assert_eq!(view(&store, "shared").await.channel.uid, "two");
    assert_eq!(view(&store, "one").await.channel.uid, "shared");
}

async fn lists_go_from_the_newest_page_by_page(base: Base) {
    let store = base.store().await;
    for number in 0..7 {
        let resource = if number % 2 == 0 { "even" } else { "odd" };
        opened(&store, channel(&number.to_string(), resource)).await;
    }
    let stopped = view(&store, "6").await.channel.key;
    store.end_channel(stopped, ChannelState::Stopped, at(1)).await.unwrap();
    let mut filter = ChannelFilter { limit: 3, ..Default::default() };
    let mut pages: Vec<Vec<String>> = Vec::new();
    loop {
        let page = store.channels(everybody(), filter.clone()).await.unwrap();
        let Some(oldest) = page.last() else { break };
        filter.before = Some(oldest.channel.key);
        pages.push(page.into_iter().map(|view| view.channel.id).collect());
    }
    assert_eq!(pages, [vec!["6", "5", "4"], vec!["3", "2", "1"], vec!["0"]]);
    let list = async |resource: Option<&str>, state| {
        let filter = ChannelFilter { resource: resource.map(path), state, limit: 10, ..Default::default() };
        let found = store.channels(everybody(), filter).await.unwrap();
        found.into_iter().map(|view| view.channel.id).collect::<Vec<_>>()
    };
    assert_eq!(list(Some("odd"), None).await, ["5", "3", "1"]);
    assert_eq!(list(Some("even"), Some(ChannelState::Active)).await, ["4", "2", "0"]);
    assert_eq!(list(None, Some(ChannelState::Stopped)).await, ["6"]);
    assert_eq!(list(Some("nothing"), None).await, Vec::<String>::new());
}

async fn lists_are_narrowed_by_labels(base: Base) {
    let store = base.store().await;
    let labelled = async |id: &str, labels: &[(&str, &str)]| {
        let metadata = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let options = ChannelOptions { metadata, ..ChannelOptions::default() };
        opened(&store, NewChannel { options, ..channel(id, "r") }).await;
    };
    let strange = "it's $.\"a\".b[0] -> 'x'; -- ü😀 \\ {?}";
    labelled("none", &[]).await;
    labelled("gold", &[("tier", "gold"), ("team", "7")]).await;
    labelled("tin", &[("tier", "tin"), ("team", "7"), ("a.b", "1")]).await;
    labelled("strange", &[(strange, strange), ("", "empty key"), ("empty value", "")]).await;
    // No label, though it looks like one from inside the column.
    let headers = BTreeMap::from([("tier".to_owned(), "gold".to_owned())]);
    let options = ChannelOptions { headers, ..ChannelOptions::default() };
    opened(&store, NewChannel { options, ..channel("headers", "r") }).await;
    for (labels, expected) in [
        (vec![("tier", "gold")], vec!["gold"]),
        (vec![("team", "7")], vec!["tin", "gold"]),
        (vec![("team", "7"), ("tier", "tin")], vec!["tin"]),
        (vec![("team", "7"), ("tier", "silver")], vec![]),
        (vec![("tier", "Gold")], vec![]),
        (vec![("a.b", "1")], vec!["tin"]),
        (vec![("a", "1")], vec![]),
        (vec![(strange, strange)], vec!["strange"]),
        (vec![("", "empty key")], vec!["strange"]),
        (vec![("empty value", "")], vec!["strange"]),
        (vec![("tier", "")], vec![]),
        (vec![("$", "x"), ("' or 1=1 --", "' or 1=1 --")], vec![]),
        (vec![("%", "%")], vec![]),
    ] {
        let metadata = labels.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
        let filter = ChannelFilter { metadata, limit: 10, ..Default::default() };
        let found = store.channels(everybody(), filter).await.unwrap();
        let found: Vec<_> = found.iter().map(|view| view.channel.id.as_str()).collect();
        assert_eq!(found, expected, "{labels:?}");
    }
}
