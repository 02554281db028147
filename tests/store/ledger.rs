//! The ledger of attempts: everything that was recorded comes back, filtered or not, a bounded number of rows at a
//! time.

use bytes::Bytes;
use watchpost::{
    domain::{channel::ChannelKey, outcome::Verdict},
    store::{Attempt, AttemptFilter, Checkpoint, Store},
};

use crate::{
    base::Base,
    build::{at, attempt, channel, checkpoint, opened},
};

on_both!(
    phases_and_excerpts_come_back_as_written,
    every_filter_narrows_and_all_of_them_together,
    a_filtered_page_looks_at_so_many_and_says_where_to_go_on,
    the_last_attempt_is_that_of_a_notification,
);

async fn numbers(store: &Store, channel: ChannelKey, filter: AttemptFilter) -> Vec<i64> {
    let page = store.attempts(channel, filter, None, 100).await.unwrap();
    assert_eq!(page.next, None);
    page.attempts.iter().map(|attempt| attempt.number).collect()
}

async fn phases_and_excerpts_come_back_as_written(base: Base) {
    let store = base.store().await;
    let c = opened(&store, channel("c", "r")).await.key;
    let bytes = Bytes::from_static(b"\x00\xff busy");
    let attempts = vec![
        Attempt { answer_ms: Some(7), excerpt: Some(bytes.clone()), ..attempt(c, 1) },
        Attempt { answer_ms: None, excerpt: None, ..attempt(c, 2) },
        Attempt { excerpt: Some(Bytes::new()), ..attempt(c, 3) },
    ];
    checkpoint(&store, Checkpoint { attempts, ..Default::default() }).await;
    let told = store.attempts(c, AttemptFilter::default(), None, 9).await.unwrap().attempts;
    let told: Vec<_> = told.iter().map(|told| (told.answer_ms, told.excerpt.as_deref())).collect();
    assert_eq!(told, [(Some(9), Some(&[][..])), (None, None), (Some(7), Some(&bytes[..]))]);
}

async fn every_filter_narrows_and_all_of_them_together(base: Base) {
    let store = base.store().await;
    let c = opened(&store, channel("c", "r")).await.key;
    let other = opened(&store, channel("other", "r")).await.key;
    let made = |number, outcome: Verdict, seconds| Attempt {
        outcome: outcome.as_str(),
        started_at: at(seconds),
        ..attempt(c, number)
    };
    let attempts = vec![
        made(1, Verdict::Delivered, 10),
        made(2, Verdict::Failed, 20),
        made(2, Verdict::Overloaded, 30),
        made(2, Verdict::Delivered, 40),
        made(3, Verdict::Failed, 50),
        Attempt { outcome: "failed", ..attempt(other, 2) },
    ];
    checkpoint(&store, Checkpoint { attempts, ..Default::default() }).await;
    let all = AttemptFilter::default;
    for (filter, expected) in [
        (all(), vec![3, 2, 2, 2, 1]),
        (AttemptFilter { outcome: Some(Verdict::Failed), ..all() }, vec![3, 2]),
        (AttemptFilter { outcome: Some(Verdict::Gone), ..all() }, vec![]),
        (AttemptFilter { number: Some(2), ..all() }, vec![2, 2, 2]),
        (AttemptFilter { after: Some(at(30)), ..all() }, vec![3, 2]),
        (AttemptFilter { before: Some(at(20)), ..all() }, vec![1]),
        (
            AttemptFilter {
                outcome: Some(Verdict::Failed),
                number: Some(2),
                after: Some(at(10)),
                before: Some(at(30)),
            },
            vec![2],
        ),
    ] {
        assert_eq!(numbers(&store, c, filter.clone()).await, expected, "{filter:?}");
    }
}

async fn a_filtered_page_looks_at_so_many_and_says_where_to_go_on(base: Base) {
    let store = base.store().await;
    let c = opened(&store, channel("c", "r")).await.key;
    checkpoint(&store, Checkpoint { attempts: vec![attempt(c, 77)], ..Default::default() }).await;
    base.run(
        "with recursive many (n) as (select 1 union all select n + 1 from many where n < 10000)
         insert into attempts (channel, number, attempt, started_at_ms, duration_ms, outcome)
         select channel, 5, 1, 1, 1, 'delivered' from many cross join cursors",
    )
    .await;
    let rare = AttemptFilter { number: Some(77), ..AttemptFilter::default() };
    let first = store.attempts(c, rare.clone(), None, 10).await.unwrap();
    assert_eq!(first.attempts.len(), 0);
    assert!(first.next.is_some());
    let second = store.attempts(c, rare, first.next, 10).await.unwrap();
    assert_eq!((second.attempts.len(), second.next), (1, None));
    let common = AttemptFilter { number: Some(5), ..AttemptFilter::default() };
    let page = store.attempts(c, common.clone(), None, 10).await.unwrap();
    assert_eq!(page.attempts.len(), 10);
    assert_eq!(page.next, page.attempts.last().map(|attempt| attempt.id));
    let after = store.attempts(c, common, page.next, 10).await.unwrap();
    assert_eq!(after.attempts[0].id, page.next.unwrap() - 1, "nothing between the pages is lost");
}

async fn the_last_attempt_is_that_of_a_notification(base: Base) {
    let store = base.store().await;
    let c = opened(&store, channel("c", "r")).await.key;
    assert_eq!(store.last_attempt(c).await.unwrap(), None);
    let attempts = vec![Attempt { outcome: "failed", status: Some(500), ..attempt(c, 1) }, attempt(c, 1)];
    checkpoint(&store, Checkpoint { attempts, ..Default::default() }).await;
    base.run("update attempts set notice = 'claim' where status = 204").await;
    let last = store.last_attempt(c).await.unwrap().unwrap();
    assert_eq!((last.status, last.failed()), (Some(500), true));
    let newest = store.attempts(c, AttemptFilter::default(), None, 1).await.unwrap();
    assert_eq!(newest.attempts[0].notice.as_deref(), Some("claim"));
}
