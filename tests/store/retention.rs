//! What is older than it is kept goes, by age alone; whoever stood inside it is told what has expired.

use std::time::Duration;

use tokio::task::JoinSet;
use watchpost::{
    domain::{
        channel::{Channel, ChannelState, ResourceKey},
        claim::Reminders,
        cursor::{Cursor, Failing},
        time::Timestamp,
    },
    store::{
        AttemptFilter, Checkpoint, Cutoff, ExpiredSlice, NewChannel, Old, Parked, Publish, Reminding, Store,
    },
};

use crate::{
    base::Base,
    build::{
        accepted, all, at, attempt, channel, checkpoint, cursor, event, fan, grow, key_of, keyed, level, log,
        opened, publish, seqs, settle, view,
    },
};

on_both!(
    old_events_go_and_no_seq_comes_back,
    the_first_young_event_keeps_what_follows_it,
    a_cursor_inside_a_slice_moves_to_its_end,
    a_level_cursor_moves_as_well,
    frozen_channels_move_and_stopped_ones_stay,
    nobody_moves_past_the_own_end,
    a_pending_sync_stays_pending,
    ranges_grow_slice_by_slice,
    a_run_that_reaches_past_the_slice_is_not_over,
    a_parked_notification_lives_as_long_as_its_event,
    work_is_bounded,
    what_is_said_of_events_goes_with_them,
    the_ledger_goes_by_its_own_age,
    first_answers_go_after_a_day,
    publishes_and_openings_meet_retention,
);

async fn publish_at(store: &Store, resource: &str, count: usize, seconds: u64) -> i64 {
    let events = (0..count).map(|number| event(&format!("e{seconds}-{number}"), &[resource])).collect();
    accepted(store, Publish { now: at(seconds), ..publish(events) }).await.last().unwrap().seq
}

/// Everything up to `seconds` goes.
async fn expire(store: &Store, resource: ResourceKey, seconds: u64) -> ExpiredSlice {
    let mut total = ExpiredSlice::default();
    while !total.is_done {
        let one = store.expire_slice(resource, Cutoff(at(seconds)), at(seconds + 1)).await.unwrap();
        total.events += one.events;
        total.moved.extend(one.moved);
        total.is_done = one.is_done;
    }
    total
}

async fn ranges(base: &Base, channel: &Channel) -> (i64, i64, i64) {
    let of = |what: &str| {
        format!(
            "select coalesce({what}, 0) from ranges where channel = {} and kind = 'expired'",
            channel.key.0
        )
    };
    let first = base.number(&of("min(from_seq)")).await;
    (base.number(&of("count(*)")).await, first, base.number(&of("max(to_seq)")).await)
}

fn reminding() -> Reminding {
    let schedule = Reminders::new(vec![Duration::from_hours(24)]).unwrap();
    Reminding { schedule: std::sync::Arc::new(schedule), kept_for: Duration::from_hours(720) }
}

async fn failing(store: &Store, id: &str, seq: i64, pinned: i64) -> Channel {
    let channel = opened(store, channel(id, "r")).await;
    let failing = Failing {
        attempts: 3,
        client_errors: 2,
        since: Some(at(5)),
        due_at: Some(at(500)),
        pinned: Some(pinned),
        failures: 7,
        refusals: 2,
    };
    settle(store, Cursor { seq, behind: true, failing, ..cursor(&channel) }).await;
    channel
}

async fn old_events_go_and_no_seq_comes_back(base: Base) {
    let store = base.store().await;
    publish_at(&store, "r", 3, 10).await;
    let resource = key_of(&store, "r").await;
    assert_eq!(store.events(resource, 0, 3, 9).await.unwrap().len(), 3, "they are in memory");
    let page = store.aged_resources(ResourceKey(0), 10, Cutoff(at(9))).await.unwrap();
    assert_eq!(page, (vec![], Some(resource)));
    assert_eq!(expire(&store, resource, 9).await.events, 0);
    let page = store.aged_resources(ResourceKey(0), 10, Cutoff(at(10))).await.unwrap();
    assert_eq!(page, (vec![resource], Some(resource)));
    assert_eq!(expire(&store, resource, 10).await.events, 3);
    assert_eq!(log(&store, "r").await.len(), 0, "also not from memory");
    assert_eq!(
        (store.earliest_seq(resource).await.unwrap(), expire(&store, resource, 10).await.events),
        (None, 0)
    );
    assert_eq!(store.hole_after(resource, 0).await.unwrap(), Some(3));
    assert_eq!(store.hole_after(resource, 3).await.unwrap(), None);
    assert_eq!(publish_at(&store, "r", 1, 11).await, 4);
    assert_eq!(store.hole_after(resource, 1).await.unwrap(), Some(3));
}

async fn the_first_young_event_keeps_what_follows_it(base: Base) {
    let store = base.store().await;
    for seconds in [10, 30, 20, 40] {
        publish_at(&store, "r", 1, seconds).await;
    }
    let resource = key_of(&store, "r").await;
    assert_eq!(expire(&store, resource, 25).await.events, 1, "a log keeps its end, whatever clocks say");
    let kept: Vec<i64> = log(&store, "r").await.iter().map(|event| event.seq).collect();
    assert_eq!(kept, [2, 3, 4]);
}

async fn a_cursor_inside_a_slice_moves_to_its_end(base: Base) {
    let store = base.store().await;
    let channel = failing(&store, "c", 1, 2).await;
    let far = failing(&store, "far", 4, 5).await;
    publish_at(&store, "r", 4, 10).await;
    publish_at(&store, "r", 2, 20).await;
    fan(&store, channel.resource, 6).await;
    let expired = expire(&store, channel.resource, 10).await;
    assert_eq!((expired.events, expired.moved), (4, vec![channel.key]));
    let found = view(&store, "c").await;
    assert_eq!((found.cursor.seq, found.cursor.behind, found.cursor.moved), (4, true, 1));
    assert_eq!(found.channel.rev, 2);
    let trouble = Failing { since: Some(at(5)), due_at: Some(at(500)), failures: 7, ..Failing::default() };
    assert_eq!(found.cursor.failing, trouble, "the head is over, the channel's trouble is not");
    assert_eq!(ranges(&base, &channel).await, (1, 2, 4));
    let found = view(&store, "far").await;
    assert_eq!((found.cursor.seq, found.cursor.moved, found.channel.rev), (4, 0, 1), "it stood at the end");
    assert_eq!(ranges(&base, &far).await, (0, 0, 0));
    let older = Cursor { seq: 2, ..cursor(&channel) };
    let written = checkpoint(&store, Checkpoint { cursors: vec![older], ..Checkpoint::default() }).await;
    assert_eq!(written.moved, [channel.key], "no checkpoint from before sets it back");
    let changed = store.take_changed_channels().await.unwrap();
    assert!(changed.contains(&channel.key) || !store.is_shared());
}

async fn a_level_cursor_moves_as_well(base: Base) {
    let store = base.store().await;
    let channel = level(&store, "c", "r").await;
    publish_at(&store, "r", 4, 10).await;
    publish_at(&store, "r", 2, 20).await;
    fan(&store, channel.resource, 1).await;
    assert_eq!(expire(&store, channel.resource, 10).await.moved, [channel.key]);
    let found = view(&store, "c").await;
    assert_eq!((found.cursor.seq, found.cursor.behind, found.head), (4, false, 6));
    assert_eq!(ranges(&base, &channel).await, (1, 2, 4), "what the others had, it had");
    fan(&store, channel.resource, 6).await;
    assert_eq!(expire(&store, channel.resource, 20).await.moved, [], "it has had everything");
    assert_eq!(ranges(&base, &channel).await, (1, 2, 4));
    assert_eq!(view(&store, "c").await.cursor.seq, 6);
}

async fn frozen_channels_move_and_stopped_ones_stay(base: Base) {
    let store = base.store().await;
    let mut channels = Vec::new();
    for id in ["paused", "suspended", "gone", "expired", "stopped"] {
        let expires_at = if id == "expired" { at(15) } else { at(3_600) };
        let channel = opened(&store, NewChannel { expires_at, ..channel(id, "r") }).await;
        settle(&store, cursor(&channel)).await;
        channels.push(channel);
    }
    publish_at(&store, "r", 3, 10).await;
    let key = |at: usize| channels[at].key;
    assert!(store.pause_channel(key(0)).await.unwrap());
    assert!(store.suspend_channel(key(1), at(900), reminding(), at(11)).await.unwrap());
    assert!(store.end_channel(key(2), ChannelState::Gone, at(12)).await.unwrap());
    assert!(store.end_channel(key(4), ChannelState::Stopped, at(12)).await.unwrap());
    assert_eq!(store.expire_channels(at(15)).await.unwrap(), [key(3)]);
    let expired = expire(&store, channels[0].resource, 10).await;
    assert_eq!((expired.events, expired.moved), (3, (0..4).map(key).collect()));
    for (at, id) in ["paused", "suspended", "gone", "expired"].into_iter().enumerate() {
        assert_eq!(view(&store, id).await.cursor.seq, 3, "{id}");
        assert_eq!(ranges(&base, &channels[at]).await, (1, 1, 3), "{id}");
    }
    assert_eq!(view(&store, "suspended").await.cursor.failing.due_at, Some(at(900)), "still probed then");
    assert_eq!(view(&store, "paused").await.cursor.failing.due_at, None);
    assert_eq!(view(&store, "stopped").await.cursor.seq, 0, "what it had not had is cancelled");
    assert_eq!(ranges(&base, &channels[4]).await, (0, 0, 0));
}

async fn nobody_moves_past_the_own_end(base: Base) {
    let store = base.store().await;
    let channel = level(&store, "c", "r").await;
    publish_at(&store, "r", 2, 10).await;
    assert!(store.end_channel(channel.key, ChannelState::Gone, at(12)).await.unwrap());
    publish_at(&store, "r", 2, 13).await;
    assert_eq!(expire(&store, channel.resource, 13).await.moved, [channel.key]);
    assert_eq!(view(&store, "c").await.cursor.seq, 2);
    assert_eq!(ranges(&base, &channel).await.2, 0, "it ended long ago: nobody asks any more");
    publish_at(&store, "r", 1, 14).await;
    assert_eq!(expire(&store, channel.resource, 14).await.moved, []);
}

async fn a_pending_sync_stays_pending(base: Base) {
    let store = base.store().await;
    grow(&store, "r", 2).await;
    let channel = opened(&store, channel("c", "r")).await;
    publish_at(&store, "r", 3, 10).await;
    publish_at(&store, "r", 3, 20).await;
    fan(&store, channel.resource, 8).await;
    for (seconds, through) in [(10, 5), (20, 8)] {
        let expired = expire(&store, channel.resource, seconds).await;
        assert_eq!(expired.moved, []);
        let found = view(&store, "c").await;
        assert_eq!((found.cursor.seq, found.cursor.moved), (1, 0), "its sync is not in the log");
        assert_eq!(ranges(&base, &channel).await, (1, 3, through));
    }
    // A later one has nothing behind it.
    let late = opened(&store, crate::build::channel("late", "r")).await;
    assert_eq!((late.start_seq, ranges(&base, &late).await), (8, (0, 0, 0)));
}

async fn ranges_grow_slice_by_slice(base: Base) {
    let store = base.store().await;
    let channel = opened(&store, channel("c", "r")).await;
    settle(&store, Cursor { behind: true, ..cursor(&channel) }).await;
    publish_at(&store, "r", 1_900, 10).await;
    publish_at(&store, "r", 600, 20).await;
    let slice = store.aged_slice(channel.resource, 0, Cutoff(at(20))).await.unwrap().unwrap();
    assert_eq!((slice.through, slice.events), (1_000, 1_000));
    let first = store.expire_slice(channel.resource, Cutoff(at(20)), at(21)).await.unwrap();
    assert_eq!((first.events, first.is_done), (1_000, false));
    assert_eq!(ranges(&base, &channel).await, (1, 1, 1_000));
    assert_eq!(expire(&store, channel.resource, 10).await.events, 900);
    assert_eq!(ranges(&base, &channel).await, (1, 1, 1_900));
    assert_eq!(expire(&store, channel.resource, 20).await.events, 600);
    assert_eq!(ranges(&base, &channel).await, (1, 1, 2_500));
    publish_at(&store, "r", 2, 30).await;
    settle(&store, Cursor { seq: 2_501, moved: 3, behind: true, ..cursor(&channel) }).await;
    publish_at(&store, "r", 2, 40).await;
    expire(&store, channel.resource, 40).await;
    assert_eq!(ranges(&base, &channel).await, (2, 1, 2_504), "what it had in between is not lost");
}

async fn a_run_that_reaches_past_the_slice_is_not_over(base: Base) {
    let store = base.store().await;
    let channel = failing(&store, "c", 0, 5).await;
    publish_at(&store, "r", 3, 10).await;
    publish_at(&store, "r", 3, 20).await;
    expire(&store, channel.resource, 10).await;
    let found = view(&store, "c").await.cursor;
    assert_eq!((found.seq, found.failing.attempts, found.failing.pinned), (3, 3, Some(5)));
}

async fn a_parked_notification_lives_as_long_as_its_event(base: Base) {
    let store = base.store().await;
    let channel = level(&store, "c", "r").await;
    publish_at(&store, "r", 4, 10).await;
    publish_at(&store, "r", 2, 20).await;
    let parked = |seq| Parked {
        channel: channel.key,
        seq,
        status: Some(422),
        error: None,
        attempts: 3,
        reason: "poison",
        again: false,
        at: at(11),
    };
    let batch = Checkpoint { parked: vec![parked(2), parked(5)], ..Checkpoint::default() };
    checkpoint(&store, batch).await;
    fan(&store, channel.resource, 6).await;
    let expired = expire(&store, channel.resource, 10).await;
    assert_eq!((expired.events, expired.moved), (4, vec![]));
    assert_eq!(base.number("select min(seq) from exceptions").await, 5);
    assert_eq!(ranges(&base, &channel).await, (1, 2, 2));
    // One that gets another attempt is in the lane's memory too.
    base.run("update exceptions set kind = 'redrive'").await;
    assert_eq!(expire(&store, channel.resource, 20).await.moved, [channel.key]);
    assert_eq!(base.number("select count(*) from exceptions").await, 0);
    assert_eq!(ranges(&base, &channel).await, (2, 2, 5));
    assert_eq!(view(&store, "c").await.cursor.moved, 1);
}

async fn work_is_bounded(base: Base) {
    let store = base.store().await;
    for number in 0..230 {
        let channel = opened(&store, channel(&format!("c{number}"), "r")).await;
        settle(&store, Cursor { behind: true, ..cursor(&channel) }).await;
    }
    publish_at(&store, "r", 5, 10).await;
    let resource = key_of(&store, "r").await;
    let mut steps = Vec::new();
    loop {
        let one = store.expire_slice(resource, Cutoff(at(10)), at(11)).await.unwrap();
        steps.push((one.moved.len(), one.events));
        if one.is_done {
            break;
        }
    }
    assert_eq!(steps, [(100, 0), (100, 0), (30, 5), (0, 0)], "the slice goes with the last who stood in it");
    assert_eq!(base.number("select count(*) from ranges where from_seq = 1 and to_seq = 5").await, 230);
}

async fn what_is_said_of_events_goes_with_them(base: Base) {
    let store = base.store().await;
    let channel = level(&store, "c", "r").await;
    publish_at(&store, "r", 4, 10).await;
    publish_at(&store, "r", 2, 20).await;
    fan(&store, channel.resource, 6).await;
    let key = channel.key.0;
    base.run(&format!(
        "insert into ranges (channel, from_seq, to_seq, kind, created_at_ms)
         values ({key}, 1, 3, 'superseded', 0), ({key}, 4, 5, 'superseded', 0);
         insert into past_filters (channel, through_seq, filter) values ({key}, 4, 'x'), ({key}, 5, 'y')"
    ))
    .await;
    expire(&store, channel.resource, 10).await;
    assert_eq!(base.number("select min(from_seq) from ranges").await, 4, "one of its events is kept");
    assert_eq!(base.number("select min(through_seq) from past_filters").await, 5);
}

async fn the_ledger_goes_by_its_own_age(base: Base) {
    let store = base.store().await;
    let channel = level(&store, "c", "r").await;
    let tried = |seconds: u64, number| watchpost::store::Attempt {
        started_at: at(seconds),
        ..attempt(channel.key, number)
    };
    // A clock that was set back: what is young stays, what is old goes.
    let attempts = [(10, 1), (30, 2), (20, 3), (40, 4)].map(|(at, number)| tried(at, number));
    checkpoint(&store, Checkpoint { attempts: attempts.into(), ..Checkpoint::default() }).await;
    let millis = |seconds: u64| at(seconds).as_millis();
    let rows: Vec<String> =
        [("claim", 1, 10, false), ("claim", 2, 10, true), ("claim", 3, 12, false), ("ping", 1, 10, false)]
            .into_iter()
            .map(|(kind, n, made, waits)| {
                let due = if waits { "5" } else { "null" };
                format!("({}, '{kind}', {n}, '', 1, {due}, {})", channel.key.0, millis(made))
            })
            .collect();
    base.run(&format!(
        "insert into notices (channel, kind, n, body, attempts, due_at_ms, created_at_ms) values {}",
        rows.join(", ")
    ))
    .await;
    for old in [Old::Count, Old::Delete] {
        assert_eq!(store.old_attempts(0, Cutoff(at(9)), old).await.unwrap(), None);
        let (count, last) = store.old_attempts(0, Cutoff(at(20)), old).await.unwrap().unwrap();
        assert_eq!(count, 2);
        assert_eq!(store.old_attempts(last, Cutoff(at(20)), old).await.unwrap(), None);
        let (count, last) = store.old_notices(0, Cutoff(at(20)), old).await.unwrap().unwrap();
        assert_eq!(count, 1, "one waits, and the newest of each kind gives the next its number");
        assert_eq!(store.old_notices(last, Cutoff(at(20)), old).await.unwrap(), None);
    }
    assert_eq!(store.old_attempts(0, Cutoff(at(20)), Old::Delete).await.unwrap(), None);
    let page = store.attempts(channel.key, AttemptFilter::default(), None, 9).await.unwrap();
    let numbers: Vec<i64> = page.attempts.iter().map(|kept| kept.number).collect();
    assert_eq!(numbers, [4, 2]);
    assert_eq!(base.number("select count(*) from notices").await, 3);
}

async fn first_answers_go_after_a_day(base: Base) {
    let store = base.store().await;
    let first = accepted(&store, keyed("k", 1, vec![event("e", &["r"])])).await;
    let cutoff = |seconds: i64| Cutoff(Timestamp::from_millis(at(0).as_millis() + seconds * 1_000));
    assert_eq!(store.old_keys(cutoff(-1), Old::Delete).await.unwrap(), 0);
    assert_eq!(accepted(&store, keyed("k", 1, vec![event("e", &["r"])])).await, first);
    assert_eq!(store.old_keys(cutoff(0), Old::Count).await.unwrap(), 1);
    assert_eq!(store.old_keys(cutoff(0), Old::Delete).await.unwrap(), 1);
    assert_eq!(store.old_keys(cutoff(0), Old::Delete).await.unwrap(), 0);
    assert_eq!(seqs(&accepted(&store, keyed("k", 1, vec![event("e", &["r"])])).await), [2]);
}

/// Whatever they do at once: no seq twice, nobody left standing before a hole without a word of it.
async fn publishes_and_openings_meet_retention(base: Base) {
    const ROUNDS: usize = 60;
    let nodes = base.nodes().await;
    grow(&nodes[0], "r", 1).await;
    let resource = key_of(&nodes[0], "r").await;
    let mut tasks = JoinSet::new();
    let (publisher, opener, expirer) =
        (nodes[0].clone(), nodes[nodes.len() / 2].clone(), nodes[nodes.len() - 1].clone());
    tasks.spawn(async move {
        for _ in 0..ROUNDS {
            accepted(&publisher, publish(vec![event("e", &["r"]), event("f", &["r"])])).await;
        }
    });
    tasks.spawn(async move {
        for number in 0..ROUNDS {
            let channel = opened(&opener, channel(&format!("c{number}"), "r")).await;
            // Its sync is through, and it lags from then on.
            let cursors = vec![Cursor { behind: true, ..cursor(&channel) }];
            checkpoint(&opener, Checkpoint { cursors, ..Checkpoint::default() }).await;
        }
    });
    tasks.spawn(async move {
        for _ in 0..ROUNDS * 2 {
            expirer.expire_slice(resource, Cutoff(at(0).plus(Duration::from_secs(1))), at(2)).await.unwrap();
        }
    });
    all(tasks).await;
    let store = &nodes[0];
    let head = store.head("p", &crate::build::path("r")).await.unwrap().unwrap().seq;
    assert_eq!(head, 1 + 2 * i64::try_from(ROUNDS).unwrap());
    let oldest = store.earliest_seq(resource).await.unwrap().unwrap_or(head + 1);
    let kept = base.number(&format!("select count(*) from events where resource = {}", resource.0)).await;
    assert_eq!(kept, head - oldest + 1, "dense");
    let stranded = format!(
        "select count(*) from cursors u join channels c on c.id = u.channel
         where c.resource = {} and u.seq < {} and not exists (
           select 1 from ranges r where r.channel = c.id and r.from_seq <= c.start_seq + 1
             and r.to_seq >= {})",
        resource.0,
        oldest - 1,
        oldest - 1
    );
    assert_eq!(base.number(&stranded).await, 0);
}
