//! Outcomes are written in batches, and never over a cursor that was moved from outside.

use watchpost::{
    domain::{
        cursor::{Cursor, Failing},
        settled::SettledMap,
    },
    store::{Attempt, AttemptFilter, BusyResource, Checkpoint, Parked, Retrying, StoreError},
};

use crate::{
    base::Base,
    build::{
        accepted, at, attempt, channel, checkpoint, cursor, event, fan, grow, level, opened, publish, seqs,
        settle, view,
    },
};

on_both!(
    cursor_rows_come_back_as_written,
    a_moved_cursor_is_reported_and_its_attempts_kept,
    fanned_rises_and_the_work_goes_when_it_has_caught_up,
    a_level_cursor_counts_as_fanned,
    parked_rows_are_written_once,
    what_came_of_a_redrive_leaves_alone_what_waits_anew,
    attempts_are_listed_from_the_newest,
    a_bad_checkpoint_harms_nobody_else,
    an_empty_checkpoint_is_no_failure,
);

async fn cursor_rows_come_back_as_written(base: Base) {
    let store = base.store().await;
    let one = opened(&store, channel("one", "r")).await;
    let other = opened(&store, channel("other", "r")).await;
    grow(&store, "r", 9).await;
    let mut settled = SettledMap::above(4);
    settled.insert(6);
    settled.insert(260);
    let failing = Cursor {
        seq: 4,
        behind: true,
        failing: Failing {
            attempts: u32::MAX,
            client_errors: 2,
            since: Some(at(1)),
            due_at: Some(at(2)),
            pinned: Some(7),
            refusals: 8,
            failures: 9,
        },
        last_success_at: Some(at(3)),
        settled,
        ..cursor(&one)
    };
    let fine = Cursor { seq: 9, settled: SettledMap::above(9), ..cursor(&other) };
    let both = Checkpoint { cursors: vec![fine.clone(), failing.clone()], ..Default::default() };
    assert!(checkpoint(&store, both).await.moved.is_empty());
    assert_eq!(view(&store, "one").await.cursor, failing);
    assert_eq!(view(&store, "other").await.cursor, fine, "what was set is cleared as well");
    let twice = vec![Cursor { seq: 5, ..failing.clone() }, Cursor { seq: 6, ..failing.clone() }];
    checkpoint(&store, Checkpoint { cursors: twice, ..Default::default() }).await;
    assert_eq!(view(&store, "one").await.cursor.seq, 6, "the later of two rows holds");
}

async fn a_moved_cursor_is_reported_and_its_attempts_kept(base: Base) {
    let store = base.store().await;
    let moved = opened(&store, channel("moved", "r")).await;
    let same = opened(&store, channel("same", "r")).await;
    base.run("update cursors set moved = moved + 1 where channel = (select min(channel) from cursors)").await;
    let before = view(&store, "moved").await.cursor;
    let written = checkpoint(
        &store,
        Checkpoint {
            cursors: vec![cursor(&same), cursor(&moved)],
            attempts: vec![attempt(moved.key, 1), attempt(same.key, 1)],
            ..Default::default()
        },
    )
    .await;
    assert_eq!(written.moved, [moved.key]);
    assert_eq!(view(&store, "moved").await.cursor, before);
    assert_eq!(view(&store, "same").await.cursor, cursor(&same));
    for channel in [moved.key, same.key] {
        assert_eq!(
            store.attempts(channel, AttemptFilter::default(), None, 10).await.unwrap().attempts.len(),
            1
        );
    }
    settle(&store, Cursor { moved: 1, ..cursor(&moved) }).await;
}

async fn fanned_rises_and_the_work_goes_when_it_has_caught_up(base: Base) {
    let store = base.store().await;
    let resource = level(&store, "c", "r").await.resource;
    let busy = async || crate::build::busy(&store).await;
    assert_eq!(busy().await, []);
    grow(&store, "r", 3).await;
    assert_eq!(busy().await, [BusyResource { resource, head: 3, fanned: 0 }]);
    grow(&store, "r", 2).await;
    fan(&store, resource, 2).await;
    assert_eq!(busy().await, [BusyResource { resource, head: 5, fanned: 2 }]);
    fan(&store, resource, 1).await;
    assert_eq!(busy().await, [BusyResource { resource, head: 5, fanned: 2 }], "it never sinks");
    let twice = Checkpoint { fanned: vec![(resource, 4), (resource, 3)], ..Default::default() };
    checkpoint(&store, twice).await;
    assert_eq!(busy().await, [BusyResource { resource, head: 5, fanned: 4 }]);
    fan(&store, resource, 5).await;
    assert_eq!(busy().await, []);
    fan(&store, resource, 5).await;
    grow(&store, "r", 1).await;
    assert_eq!(busy().await, [BusyResource { resource, head: 6, fanned: 5 }]);
}

async fn a_level_cursor_counts_as_fanned(base: Base) {
    let store = base.store().await;
    let even = level(&store, "even", "r").await;
    let late = level(&store, "late", "r").await;
    grow(&store, "r", 6).await;
    let seq = async |id: &str| {
        let viewed = view(&store, id).await.cursor.seq;
        let key = view(&store, id).await.channel.key;
        let loaded = store.lanes(vec![key]).await.unwrap();
        assert_eq!((loaded[0].cursor.seq, loaded[0].head), (viewed, 6));
        viewed
    };
    assert_eq!(seq("even").await, 0);
    fan(&store, even.resource, 2).await;
    assert_eq!(seq("even").await, 2);
    settle(&store, Cursor { seq: 4, ..cursor(&even) }).await;
    assert_eq!(seq("even").await, 4, "it may be ahead of fanned");
    settle(&store, Cursor { seq: 1, behind: true, ..cursor(&late) }).await;
    assert_eq!(seq("late").await, 1, "one that is behind stands where it says");
    fan(&store, even.resource, 6).await;
    assert_eq!(seq("even").await, 6, "without work everybody level is at the head");
    assert_eq!(seq("late").await, 1);
    let lanes =
        store.level_lanes(even.resource, watchpost::domain::channel::ChannelKey(0), 10).await.unwrap();
    assert_eq!(lanes.iter().map(|lane| lane.channel.key).collect::<Vec<_>>(), [even.key]);
    assert_eq!(lanes[0].cursor.seq, 6);
}

async fn parked_rows_are_written_once(base: Base) {
    let store = base.store().await;
    let channel = opened(&store, channel("c", "r")).await;
    let parked = |seq, status| Parked {
        channel: channel.key,
        seq,
        status,
        error: None,
        attempts: 3,
        reason: "poison",
        again: false,
        at: at(5),
    };
    for _ in 0..2 {
        let rows = vec![parked(1, Some(400)), parked(2, None)];
        checkpoint(&store, Checkpoint { parked: rows, ..Default::default() }).await;
    }
    assert_eq!(base.number("select count(*) from exceptions where kind = 'parked'").await, 2);
    assert_eq!(base.number("select status from exceptions where seq = 1 and attempts = 3").await, 400);
    let time = base.number("select created_at_ms from exceptions where status is null").await;
    assert_eq!(time, at(5).as_millis());
}

async fn what_came_of_a_redrive_leaves_alone_what_waits_anew(base: Base) {
    let store = base.store().await;
    let channel = opened(&store, channel("c", "r")).await;
    let (key, seqs) = (channel.key, [1, 2]);
    // A replay has taken both back meanwhile, and each has failed since.
    let waits = |seq| Retrying {
        channel: key,
        seq,
        attempts: 1,
        status: Some(503),
        error: None,
        since: at(1),
        due_at: at(2),
    };
    checkpoint(&store, Checkpoint { retrying: seqs.map(waits).to_vec(), ..Default::default() }).await;
    let again = Parked {
        channel: key,
        seq: 1,
        status: Some(500),
        error: None,
        attempts: 9,
        reason: "redriveFailed",
        again: true,
        at: at(5),
    };
    let late = Checkpoint { parked: vec![again], redriven: vec![(key, 2)], ..Default::default() };
    checkpoint(&store, late).await;
    assert_eq!(base.number("select count(*) from exceptions where kind = 'retry' and attempts = 1").await, 2);
}

async fn attempts_are_listed_from_the_newest(base: Base) {
    let store = base.store().await;
    let mine = opened(&store, channel("mine", "r")).await;
    let other = opened(&store, channel("other", "r")).await;
    let failed = Attempt {
        attempt: 7,
        outcome: "failed",
        status: None,
        error: Some("timeout"),
        ..attempt(mine.key, 1)
    };
    let mut rows = vec![failed];
    rows.extend((2..=5).map(|number| attempt(mine.key, number)));
    rows.push(attempt(other.key, 99));
    checkpoint(&store, Checkpoint { attempts: rows, ..Default::default() }).await;
    let mut before = None;
    let mut pages: Vec<Vec<i64>> = Vec::new();
    loop {
        let page = store.attempts(mine.key, AttemptFilter::default(), before, 2).await.unwrap().attempts;
        let Some(oldest) = page.last() else { break };
        before = Some(oldest.id);
        pages.push(page.iter().map(|attempt| attempt.number).collect());
    }
    assert_eq!(pages, [vec![5, 4], vec![3, 2], vec![1]]);
    let all = store.attempts(mine.key, AttemptFilter::default(), None, 100).await.unwrap().attempts;
    let (newest, oldest) = (&all[0], &all[4]);
    assert_eq!((newest.status, newest.error.as_deref(), newest.attempt), (Some(204), None, 1));
    assert_eq!((newest.started_at, newest.duration_ms, newest.outcome.as_str()), (at(1), 12, "delivered"));
    assert_eq!((oldest.status, oldest.error.as_deref(), oldest.attempt), (None, Some("timeout"), 7));
}

async fn a_bad_checkpoint_harms_nobody_else(base: Base) {
    let store = base.store().await;
    let channel = opened(&store, channel("c", "r")).await;
    for round in 1..=10 {
        let nobody = attempt(watchpost::domain::channel::ChannelKey(77), 1);
        let bad = Checkpoint {
            attempts: vec![attempt(channel.key, 1), nobody],
            fanned: vec![(channel.resource, 100)],
            ..Default::default()
        };
        let good = Checkpoint { attempts: vec![attempt(channel.key, round)], ..Default::default() };
        let (refused, written, placed) = tokio::join!(
            store.checkpoint(bad),
            store.checkpoint(good),
            accepted(&store, publish(vec![event("e", &["r"])])),
        );
        assert!(matches!(refused, Err(StoreError::Database(_))), "{refused:?}");
        assert!(written.unwrap().moved.is_empty());
        assert_eq!(seqs(&placed), [round]);
    }
    assert_eq!(
        store.attempts(channel.key, AttemptFilter::default(), None, 100).await.unwrap().attempts.len(),
        10
    );
    assert_eq!(
        store.busy_resources(watchpost::domain::channel::ResourceKey(0), 9).await.unwrap()[0].fanned,
        0
    );
}

async fn an_empty_checkpoint_is_no_failure(base: Base) {
    let store = base.store().await;
    assert!(Checkpoint::default().is_empty());
    assert!(checkpoint(&store, Checkpoint::default()).await.moved.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_checkpoint_writes_its_attempts_once() {
    let base = Base::postgres();
    let store = base.store().await;
    let channel = opened(&store, channel("c", "r")).await;
    let numbers = |from| (from..from + 3).map(|number| attempt(channel.key, number)).collect();
    let first = Checkpoint { attempts: numbers(1), ..Default::default() };
    checkpoint(&store, first.clone()).await;
    // Its answer was lost, its commit was not.
    checkpoint(&store, Checkpoint { repeated: true, ..first }).await;
    // Both were lost.
    checkpoint(&store, Checkpoint { attempts: numbers(4), repeated: true, ..Default::default() }).await;
    let mut told = store.attempts(channel.key, AttemptFilter::default(), None, 100).await.unwrap().attempts;
    told.reverse();
    assert_eq!(told.iter().map(|attempt| attempt.number).collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6]);
}
