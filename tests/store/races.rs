//! Writers that meet on one row.

use tokio::task::JoinSet;
use watchpost::{
    domain::{channel::Channel, cursor::Cursor, time::Timestamp},
    store::{AdvanceOutcome, AdvancedBy, ChangeOutcome, ChannelChange, Checkpoint},
};

use crate::{
    base::{Base, Gate},
    build::{
        accepted, all, at, attempt, changed, channel, checkpoint, cursor, event, fan, grow, level, opened,
        publish, view,
    },
    support::receiver::in_time,
};

on_both!(
    no_work_is_lost_between_publish_and_checkpoint,
    commands_and_checkpoints_do_not_block_each_other,
    an_acknowledgement_takes_nothing_back_that_a_checkpoint_has_written,
    a_change_is_made_of_what_the_channel_is_then,
);

const ROUNDS: i64 = 300;

async fn no_work_is_lost_between_publish_and_checkpoint(base: Base) {
    let nodes = base.nodes().await;
    let resource = level(&nodes[0], "c", "r").await.resource;
    let publisher = nodes[nodes.len() - 1].clone();
    let mut publishing = JoinSet::new();
    publishing.spawn(async move {
        for _ in 0..ROUNDS {
            accepted(&publisher, publish(vec![event("e", &["r"])])).await;
        }
    });
    // The engine: it knows of nothing but the work it finds.
    let store = &nodes[0];
    let mut reached = 0;
    loop {
        let is_over = publishing.try_join_next().is_some() || publishing.is_empty();
        let busy = crate::build::busy(store).await;
        match busy.as_slice() {
            [] if is_over => break,
            [] => tokio::task::yield_now().await,
            [work] => {
                assert_eq!((work.resource, work.fanned), (resource, reached), "fanned is what was recorded");
                assert!(work.head > work.fanned);
                // Now and then not all of it, so that the row is both kept and deleted.
                reached = if work.head % 3 == 0 { work.fanned + 1 } else { work.head };
                fan(store, resource, reached).await;
            }
            more => panic!("{more:?}"),
        }
    }
    assert_eq!(reached, ROUNDS);
    assert_eq!(view(store, "c").await.cursor.seq, ROUNDS);
}

async fn commands_and_checkpoints_do_not_block_each_other(base: Base) {
    let store = base.store().await;
    let channel = opened(&store, channel("c", "r")).await;
    let mut tasks = JoinSet::new();
    let (changer, checkpointer) = (store.clone(), store.clone());
    tasks.spawn(async move {
        for round in 0..60 {
            changer.expire_channels(at(10_000_000)).await.unwrap();
            let renewal = ChannelChange { expires_at: Some(at(3_600 + round)), ..Default::default() };
            assert!(changed(&changer, channel.key, renewal, at(4_000)).await.unwrap());
        }
    });
    tasks.spawn(async move {
        for round in 0..120 {
            let cursors = vec![cursor(&channel)];
            let attempts = vec![attempt(channel.key, round)];
            checkpoint(&checkpointer, Checkpoint { cursors, attempts, ..Default::default() }).await;
        }
    });
    all(tasks).await;
    assert_eq!(view(&store, "c").await.channel.rev, 121);
    assert_eq!(base.number("select count(*) from attempts").await, 120);
}

async fn an_acknowledgement_takes_nothing_back_that_a_checkpoint_has_written(base: Base) {
    let store = base.store().await;
    let channel = opened(&store, channel("c", "r")).await;
    grow(&store, "r", 200).await;
    for round in 1..=60 {
        let seq = 3 * round;
        let moved = view(&store, "c").await.cursor.moved;
        let cursors = vec![Cursor { seq, moved, behind: true, ..cursor(&channel) }];
        let (written, acknowledged) = tokio::join!(
            store.checkpoint(Checkpoint { cursors, ..Default::default() }),
            store.advance_cursor(channel.key, seq - 1, AdvancedBy::Receiver, at(1)),
        );
        assert!(matches!(acknowledged.unwrap(), Some(AdvanceOutcome::At(_))));
        let stands = if written.unwrap().moved.is_empty() { seq } else { seq - 1 };
        assert_eq!(view(&store, "c").await.cursor.seq, stands, "in round {round}");
    }
}

async fn a_change_is_made_of_what_the_channel_is_then(base: Base) {
    let nodes = base.nodes().await;
    let key = opened(&nodes[0], channel("c", "r")).await.key;
    let mut changing = JoinSet::new();
    for writer in 0..4 {
        let store = nodes[writer % nodes.len()].clone();
        changing.spawn(async move {
            for _ in 0..25 {
                let one_more = move |current: &Channel| {
                    let mut options = current.options.clone();
                    options.max_attempts = Some(options.max_attempts.unwrap_or(0) + 1);
                    Ok::<_, ()>(ChannelChange { options: Some(options), ..Default::default() })
                };
                let outcome = store.change_channel(key, one_more, at(1)).await.unwrap();
                assert!(matches!(outcome, ChangeOutcome::Changed), "{outcome:?}");
            }
        });
    }
    all(changing).await;
    assert_eq!(view(&nodes[0], "c").await.channel.options.max_attempts, Some(100));
}

/// A checkpoint holds cursors and refers to channels; a command holds its channel and wants the cursor. Were the
/// reference to wait for the command, the two would deadlock.
#[tokio::test(flavor = "multi_thread")]
async fn a_reference_to_a_channel_does_not_wait_for_its_command() {
    let base = Base::postgres();
    let store = base.store().await;
    let channel = opened(&store, channel("c", "r")).await;
    let mut client = base.client().await;
    let ledger = client.transaction().await.unwrap();
    ledger
        .execute(
            "insert into attempts (channel, number, attempt, started_at_ms, duration_ms, outcome)
             values ($1, 1, 1, $2, 1, 'delivered')",
            &[&channel.key.0, &Timestamp::default().as_millis()],
        )
        .await
        .unwrap();
    let change = ChannelChange { payload: Some(false), ..Default::default() };
    let changed = in_time("the change", changed(&store, channel.key, change, at(1))).await;
    assert!(changed.unwrap());
    ledger.rollback().await.unwrap();
}

/// A word that lies there already may not be taken while a change that adds nothing to it is about to commit.
#[tokio::test(flavor = "multi_thread")]
async fn no_word_of_a_change_is_lost() {
    let base = Base::postgres();
    let (store, taker) = (base.store().await, base.open().await);
    let channel = opened(&store, channel("c", "r")).await;
    assert!(changed(&store, channel.key, ChannelChange::default(), at(1)).await.unwrap());
    let gate = Gate::shut(&base, "channels").await;
    let mut changing = JoinSet::new();
    changing.spawn(async move {
        changed(&store, channel.key, ChannelChange::default(), at(1)).await.unwrap();
    });
    gate.somebody_waits(1).await;
    let mut taking = JoinSet::new();
    taking.spawn(async move {
        let mut seen = 0;
        for _ in 0..2 {
            if !taker.take_changed_channels().await.unwrap().is_empty() {
                seen = taker.lanes(vec![channel.key]).await.unwrap()[0].channel.rev;
            }
        }
        seen
    });
    in_time("the taker to wait or to be through", async {
        while taking.try_join_next().is_none_or(|seen| panic!("took {seen:?} before the change")) {
            if gate.waiting().await >= 2 {
                break;
            }
        }
    })
    .await;
    gate.open().await;
    all(changing).await;
    assert_eq!(all(taking).await, [3]);
}
