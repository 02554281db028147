//! What is known of an event: where it stands, and what each channel's rows say of it.

use watchpost::{
    domain::{
        channel::{Channel, ChannelKey, ChannelState, ResourceKey},
        cursor::{Cursor, Failing},
        fate::RangeKind,
    },
    store::{AdvanceOutcome, AdvancedBy, Attempt, Checkpoint, EndedRange, Parked, Publish, Store, Trace},
};

use crate::{
    base::Base,
    build::{
        PROJECT, accepted, at, attempt, channel, checkpoint, cursor, event, everybody, fan, grow, key_of,
        level, opened, path, publish, settle, subject,
    },
};

on_both!(
    an_event_is_found_in_every_log_that_has_it,
    an_id_that_is_used_again_means_its_latest_use,
    each_channel_has_its_own_traces,
    the_latest_range_that_begins_before_counts,
    a_range_is_written_once_however_often,
    a_skip_cancels_and_an_acknowledgement_does_not,
    a_past_filter_is_the_first_that_was_replaced_after,
    channels_come_in_pages_and_by_owner,
    parked_notifications_come_in_pages,
);

async fn traces(store: &Store, resource: &str, seq: i64) -> Vec<Trace> {
    let key = key_of(store, resource).await;
    store.traces(everybody(), key, seq, ChannelKey(0), 100).await.unwrap()
}

async fn trace_of(store: &Store, channel: &Channel, seq: i64) -> Trace {
    let found = traces(store, channel.resource_path.as_str(), seq).await;
    found.into_iter().find(|trace| trace.view.channel.key == channel.key).unwrap()
}

fn range(channel: &Channel, from: i64, to: i64, kind: RangeKind) -> EndedRange {
    EndedRange { channel: channel.key, from, to, kind, at: at(4) }
}

fn parked(channel: &Channel, seq: i64) -> Parked {
    Parked {
        channel: channel.key,
        seq,
        status: Some(400),
        error: None,
        attempts: 3,
        reason: "exhausted",
        again: false,
        at: at(5),
    }
}

async fn write(store: &Store, ranges: Vec<EndedRange>) {
    checkpoint(store, Checkpoint { ranges, ..Default::default() }).await;
}

async fn an_event_is_found_in_every_log_that_has_it(base: Base) {
    let store = base.store().await;
    grow(&store, "b", 2).await;
    accepted(&store, publish(vec![event("both", &["b", "a"]), event("one", &["b"])])).await;
    let entries = store.event_entries(PROJECT.to_owned(), "both".to_owned(), 8).await.unwrap();
    let found: Vec<_> = entries
        .iter()
        .map(|entry| (entry.resource.as_str(), entry.event.seq, entry.event.name.as_str()))
        .collect();
    assert_eq!(found, [("b", 3, "thing.changed"), ("a", 1, "thing.changed")]);
    assert_eq!(entries[0].key, key_of(&store, "b").await);
    assert_eq!(entries[0].resource_id, path("b").resource_id(PROJECT));
    for (project, id) in [("other", "both"), (PROJECT, "nothing")] {
        assert!(store.event_entries(project.to_owned(), id.to_owned(), 8).await.unwrap().is_empty());
    }
}

async fn an_id_that_is_used_again_means_its_latest_use(base: Base) {
    let store = base.store().await;
    accepted(&store, publish(vec![event("again", &["a", "b"])])).await;
    let later = Publish { now: at(90_000), ..publish(vec![event("again", &["a", "c"])]) };
    accepted(&store, later).await;
    let entries = store.event_entries(PROJECT.to_owned(), "again".to_owned(), 8).await.unwrap();
    let found: Vec<_> = entries.iter().map(|entry| (entry.resource.as_str(), entry.event.seq)).collect();
    assert_eq!(found, [("a", 2), ("c", 1)]);
}

async fn each_channel_has_its_own_traces(base: Base) {
    let store = base.store().await;
    let plain = level(&store, "plain", "r").await;
    let parking = level(&store, "parking", "r").await;
    let retrying = level(&store, "retrying", "r").await;
    let failing = level(&store, "failing", "r").await;
    grow(&store, "r", 6).await;
    fan(&store, plain.resource, 6).await;
    let waits = Failing { attempts: 3, due_at: Some(at(60)), pinned: Some(5), ..Failing::default() };
    settle(&store, Cursor { seq: 3, behind: true, failing: waits.clone(), ..cursor(&failing) }).await;
    let again = |channel: &Channel, number, n| Attempt { attempt: n, ..attempt(channel.key, number) };
    let written = Checkpoint {
        parked: vec![Parked { attempts: 8, ..parked(&parking, 4) }],
        // Seq 4 is number 5.
        attempts: vec![
            again(&retrying, 5, 1),
            again(&retrying, 5, 2),
            again(&retrying, 5, 3),
            again(&retrying, 4, 9),
            again(&plain, 5, 1),
        ],
        ranges: vec![range(&plain, 1, 3, RangeKind::Superseded)],
        ..Default::default()
    };
    checkpoint(&store, written).await;
    base.run("update exceptions set reason = 'poison', error = 'reset'").await;
    base.run(
        "insert into attempts (channel, number, attempt, started_at_ms, duration_ms, outcome, notice)
              select channel, 5, 7, 1, 1, 'failed', 'claim' from cursors",
    )
    .await;

    let found = traces(&store, "r", 4).await;
    let said: Vec<_> = found
        .iter()
        .map(|trace| {
            let parked = trace.exception.as_ref().map(|exception| (exception.parked, exception.attempts));
            (trace.view.channel.id.as_str(), trace.view.cursor.seq, parked, trace.range, trace.attempts)
        })
        .collect();
    assert_eq!(
        said,
        [
            ("plain", 6, None, None, None),
            ("parking", 6, Some((true, 8)), None, None),
            ("retrying", 6, None, None, Some(3)),
            ("failing", 3, None, None, None),
        ]
    );
    let exception = found[1].exception.as_ref().unwrap();
    assert_eq!((exception.reason.as_deref(), exception.error.as_deref()), (Some("poison"), Some("reset")));
    assert_eq!(exception.status, Some(400));
    assert_eq!(found[3].view.cursor.failing, waits);
    assert_eq!(trace_of(&store, &plain, 3).await.range, Some(RangeKind::Superseded));
}

async fn the_latest_range_that_begins_before_counts(base: Base) {
    let store = base.store().await;
    let c = level(&store, "c", "r").await;
    let other = level(&store, "other", "r").await;
    grow(&store, "r", 20).await;
    let ranges = vec![
        range(&c, 3, 12, RangeKind::Superseded),
        range(&c, 5, 7, RangeKind::Cancelled),
        range(&c, 15, 15, RangeKind::Expired),
        range(&other, 1, 1, RangeKind::Expired),
    ];
    write(&store, ranges).await;
    for (seq, expected) in [
        (2, None),
        (3, Some(RangeKind::Superseded)),
        (4, Some(RangeKind::Superseded)),
        (5, Some(RangeKind::Cancelled)),
        (7, Some(RangeKind::Cancelled)),
        // A later life of these seqs began with the second range.
        (8, None),
        (14, None),
        (15, Some(RangeKind::Expired)),
        (16, None),
    ] {
        assert_eq!(trace_of(&store, &c, seq).await.range, expected, "{seq}");
    }
    assert_eq!(trace_of(&store, &other, 3).await.range, None);
}

async fn a_range_is_written_once_however_often(base: Base) {
    let store = base.store().await;
    let c = level(&store, "c", "r").await;
    grow(&store, "r", 9).await;
    for _ in 0..2 {
        write(&store, vec![range(&c, 2, 4, RangeKind::Superseded)]).await;
    }
    assert_eq!(base.number("select count(*) from ranges where to_seq = 4").await, 1);
    assert_eq!(base.number("select created_at_ms from ranges").await, at(4).as_millis());
    // Twice in one checkpoint as well.
    let twice = vec![range(&c, 2, 5, RangeKind::Superseded), range(&c, 2, 6, RangeKind::Cancelled)];
    write(&store, twice).await;
    assert_eq!(trace_of(&store, &c, 6).await.range, Some(RangeKind::Cancelled));
    assert_eq!(base.number("select count(*) from ranges").await, 1);
}

async fn a_skip_cancels_and_an_acknowledgement_does_not(base: Base) {
    let store = base.store().await;
    let skipped = opened(&store, channel("skipped", "r")).await;
    let acknowledged = opened(&store, channel("acknowledged", "r")).await;
    grow(&store, "r", 5).await;
    for (channel, by) in [(&skipped, AdvancedBy::Owner), (&acknowledged, AdvancedBy::Receiver)] {
        settle(&store, Cursor { seq: 1, behind: true, ..cursor(channel) }).await;
        let moved = store.advance_cursor(channel.key, 3, by, at(9)).await.unwrap();
        assert_eq!(moved, Some(AdvanceOutcome::At(3)));
    }
    for (seq, expected) in
        [(1, None), (2, Some(RangeKind::Cancelled)), (3, Some(RangeKind::Cancelled)), (4, None)]
    {
        assert_eq!(trace_of(&store, &skipped, seq).await.range, expected, "{seq}");
    }
    // Not moved, nothing written.
    store.advance_cursor(skipped.key, 2, AdvancedBy::Owner, at(9)).await.unwrap();
    store.advance_cursor(skipped.key, 77, AdvancedBy::Owner, at(9)).await.unwrap();
    assert_eq!(base.number("select count(*) from ranges").await, 1);
}

async fn a_past_filter_is_the_first_that_was_replaced_after(base: Base) {
    let store = base.store().await;
    let c = level(&store, "c", "r").await;
    grow(&store, "r", 9).await;
    base.run(
        "insert into past_filters (channel, through_seq, filter)
         select channel, 3, '{\"events\":[\"a.b\"]}' from cursors;
         insert into past_filters (channel, through_seq, filter)
         select channel, 6, '{}' from cursors;",
    )
    .await;
    let globs = async |seq| trace_of(&store, &c, seq).await.past_filter.map(|options| options.events);
    assert_eq!(globs(3).await, Some(vec!["a.b".to_owned()]));
    assert_eq!(globs(4).await, Some(Vec::new()));
    assert_eq!(globs(6).await, Some(Vec::new()));
    assert_eq!(globs(7).await, None, "the present one");
}

async fn channels_come_in_pages_and_by_owner(base: Base) {
    let store = base.store().await;
    let mut keys = Vec::new();
    for number in 0..5 {
        keys.push(level(&store, &format!("c-{number}"), "r").await.key);
    }
    level(&store, "elsewhere", "s").await;
    grow(&store, "r", 1).await;
    store.end_channel(keys[1], ChannelState::Stopped, at(1)).await.unwrap();
    let resource = key_of(&store, "r").await;
    let mut after = ChannelKey(0);
    let mut found = Vec::new();
    loop {
        let page = store.traces(everybody(), resource, 1, after, 2).await.unwrap();
        let Some(last) = page.last() else { break };
        after = last.view.channel.key;
        found.extend(page.into_iter().map(|trace| trace.view.channel.key));
    }
    assert_eq!(found, keys);
    for (owner, count) in [
        (subject("alice"), 5),
        (subject("bob"), 0),
        (watchpost::store::Owner { project: "other".to_owned(), subject: None }, 0),
    ] {
        let page = store.traces(owner, resource, 1, ChannelKey(0), 100).await.unwrap();
        assert_eq!(page.len(), count);
    }
    assert!(store.traces(everybody(), ResourceKey(77), 1, ChannelKey(0), 9).await.unwrap().is_empty());
}

async fn parked_notifications_come_in_pages(base: Base) {
    let store = base.store().await;
    grow(&store, "r", 2).await;
    let c = opened(&store, channel("c", "r")).await;
    let other = opened(&store, channel("other", "r")).await;
    grow(&store, "r", 4).await;
    let rows = vec![parked(&c, 6), parked(&c, 2), parked(&c, 4), parked(&other, 5)];
    checkpoint(&store, Checkpoint { parked: rows, ..Default::default() }).await;
    base.run("update exceptions set kind = 'retry' where seq = 6").await;
    base.run("update exceptions set reason = 'poison' where seq = 4").await;
    let first = store.parked(c.key, c.resource, i64::MIN, 1).await.unwrap();
    assert_eq!(first.iter().map(|parked| parked.seq).collect::<Vec<_>>(), [2]);
    let rest = store.parked(c.key, c.resource, 2, 9).await.unwrap();
    assert_eq!(rest.len(), 1);
    assert_eq!(rest[0].event, Some(("thing.changed".to_owned(), "exists".to_owned())));
    assert_eq!((rest[0].seq, rest[0].status, rest[0].attempts), (4, Some(400), 3));
    assert_eq!((rest[0].reason.as_deref(), rest[0].parked_at), (Some("poison"), at(5)));
    assert_eq!(store.parked_count(c.key).await.unwrap(), 2);
    assert_eq!(store.parked_count(ChannelKey(77)).await.unwrap(), 0);
}
