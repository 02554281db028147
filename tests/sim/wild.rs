//! Inputs without sense, at extreme times and places: nothing panics, and order holds all the same.

use std::{sync::Arc, time::Duration};

use proptest::{collection, option, prelude::*, sample};
use watchpost::{
    domain::{
        backoff::Schedule,
        channel::{CatchUp, OnExhausted},
        cursor::Failing,
        outcome::Verdict,
        time::Timestamp,
    },
    engine::machine::{Action, Input, Lane, Outcome, Send, Terms, UNSAVED_MAX},
};

/// Numbers where arithmetic breaks, and a few that lie together.
fn numbers() -> impl Strategy<Value = i64> {
    let near = prop_oneof![Just(i64::MIN), Just(-1), Just(0), Just(i64::MAX)];
    prop_oneof![
        3 => (near, -3_i64..=3).prop_map(|(at, by)| at.saturating_add(by)),
        1 => any::<i64>(),
    ]
}

fn times() -> impl Strategy<Value = Timestamp> {
    numbers().prop_map(Timestamp::from_millis)
}

fn counts() -> impl Strategy<Value = u32> {
    prop_oneof![0_u32..4, u32::MAX - 2..=u32::MAX]
}

fn durations() -> impl Strategy<Value = Duration> {
    prop_oneof![(0_u64..10).prop_map(Duration::from_secs), Just(Duration::MAX), any::<Duration>()]
}

fn terms() -> impl Strategy<Value = Terms> {
    let schedules =
        collection::vec(durations(), 1..4).prop_filter_map("a step", Schedule::new).prop_map(Arc::new);
    let catch_ups = sample::select(vec![CatchUp::All, CatchUp::Latest]);
    let flags = (prop::bool::weighted(0.9), any::<bool>(), any::<bool>());
    (flags, durations(), times(), catch_ups, schedules).prop_map(
        |((active, probing, filtered), window, expires_at, catch_up, schedule)| Terms {
            active,
            probing,
            reminded: false,
            reminders: Arc::default(),
            max_attempts: None,
            on_exhausted: OnExhausted::Suspend,
            judges_payload: false,
            rate_limit: None,
            window,
            expires_at,
            catch_up,
            schedule,
            filtered,
        },
    )
}

fn lanes() -> impl Strategy<Value = Lane> {
    let failing = (counts(), counts(), option::of(times()), option::of(times()), option::of(numbers()))
        .prop_map(|(attempts, client_errors, since, due_at, pinned)| Failing {
            attempts,
            client_errors,
            since,
            due_at,
            pinned,
            ..Failing::default()
        });
    (numbers(), numbers(), numbers(), failing, option::of(times()), terms()).prop_map(
        |(start_seq, head, settled, failing, last_success_at, terms)| {
            Lane::load(start_seq, head, settled, failing, last_success_at, terms)
        },
    )
}

fn outcomes() -> impl Strategy<Value = Outcome> {
    let verdicts = sample::select(vec![
        Verdict::Delivered,
        Verdict::Failed,
        Verdict::Overloaded,
        Verdict::Gone,
        Verdict::Forbidden,
        Verdict::Ours,
    ]);
    let statuses = prop_oneof![400_u16..430, any::<u16>()];
    let jitters = prop_oneof![0.0..1.0, any::<f64>(), Just(f64::NAN)];
    (numbers(), verdicts, option::of(statuses), option::of(durations()), jitters).prop_map(
        |(through, verdict, status, retry_after, jitter)| Outcome {
            through,
            verdict,
            status,
            retry_after,
            jitter,
        },
    )
}

/// An input; an outcome may be made to fit what was sent.
fn inputs() -> impl Strategy<Value = (Input, bool)> {
    let input = prop_oneof![
        2 => numbers().prop_map(Input::Head),
        6 => Just(Input::Slot),
        1 => numbers().prop_map(Input::NotSent),
        1 => numbers().prop_map(Input::Moved),
        6 => outcomes().prop_map(Input::Outcome),
        2 => prop_oneof![0_u64..10, any::<u64>()].prop_map(Input::Saved),
        2 => Just(Input::Time),
        4 => (option::of(numbers()), numbers()).prop_map(|(wanted, through)| Input::Next { wanted, through }),
        1 => (terms(), any::<bool>()).prop_map(|(terms, readdressed)| Input::Changed { terms, readdressed }),
    ];
    (input, any::<bool>())
}

proptest! {
    #![proptest_config(crate::config(2_000))]

    #[test]
    fn no_input_panics_or_breaks_the_order(
        mut lane in lanes(),
        inputs in collection::vec((inputs(), times()), 1..60),
    ) {
        let mut sent: Option<Send> = None;
        let (mut recorded, mut saved) = (0, 0);
        for ((mut input, fit), now) in inputs {
            if let (Input::Outcome(outcome), Some(send), true) = (&mut input, sent, fit) {
                outcome.through = send.through;
            }
            if let Input::Saved(outcome) = input {
                saved = recorded.min(outcome).max(saved);
            }
            let settled = lane.settled();
            let given = input.clone();
            let queued = lane.is_queued();
            let actions = lane.step(input, now);
            prop_assert!(lane.settled() >= settled, "{:?} moves the lane back to {}", given, lane.settled());
            let ends = match &given {
                Input::NotSent(_) => true,
                Input::Outcome(outcome) => {
                    sent.is_some_and(|send| (send.first..=send.through).contains(&outcome.through))
                }
                _ => false,
            };
            if ends {
                sent = None;
            }
            for action in actions {
                match action {
                    Action::Send(send) => {
                        prop_assert!(given == Input::Slot && queued && sent.is_none(), "{:?} after {:?}", send, given);
                        prop_assert_eq!(send.first, lane.settled() + 1);
                        prop_assert!(send.first <= send.through, "{:?}", send);
                        prop_assert!(lane.may_send(now));
                        prop_assert!(recorded - saved < UNSAVED_MAX);
                        sent = Some(send);
                    }
                    Action::AskSlot => {
                        let given_back = given == Input::Slot;
                        prop_assert!(sent.is_none() && (!queued || given_back), "asks after {:?}", given);
                    }
                    Action::AskNext => prop_assert!(sent.is_none(), "asks for an event after {:?}", given),
                    Action::WakeAt(at) => prop_assert!(at > now),
                    Action::AskNoticeSlot | Action::Tell { .. } => prop_assert!(false, "nothing is to be told"),
                    Action::Ping | Action::Readdress => {}
                    Action::Record(record) => {
                        prop_assert!(ends, "{:?} after {:?}", record, given);
                        prop_assert_eq!(record.seq, lane.settled());
                        recorded += 1;
                    }
                    Action::EndGone | Action::Suspend { .. } | Action::Resume => {
                        prop_assert!(ends, "{:?} after {:?}", action, given);
                    }
                }
            }
        }
    }
}
