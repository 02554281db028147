use std::time::Duration;

use super::*;
use crate::{
    domain::{
        channel::{CatchUp, RateLimit},
        cursor::Failing,
        outcome::Verdict,
    },
    engine::machine::{
        Action, Input, Outcome, ParkReason, Record, Redrive, Send, Terms, Waiting,
        tests::{self as in_order, NOW},
    },
};

/// Of a channel whose payloads may be at fault, and that lives through every retry.
fn terms() -> Terms {
    let expires_at = NOW.plus(Duration::from_hours(24 * 365));
    Terms { judges_payload: true, expires_at, ..in_order::terms() }
}

/// A lane that has had its sync, 10, with a log up to `head`.
fn lane(head: i64, terms: Terms) -> Lane {
    let mut lane = Lane::load(10, head, 10, Failing::default(), None, terms);
    lane.open_window(SettledMap::above(10), &[]);
    lane
}

/// Lets everything leave that has asked.
fn leave(lane: &mut Lane, input: Input, now: Timestamp) -> Vec<Send> {
    lane.step(input, now);
    let mut left = Vec::new();
    while lane.is_queued() || lane.slots_asked().0 > 0 {
        let actions = lane.step(Input::Slot, now);
        left.extend(actions.iter().filter_map(|action| match action {
            Action::Send(send) => Some(*send),
            _ => None,
        }));
    }
    left
}

fn firsts(sent: &[Send]) -> Vec<i64> {
    sent.iter().map(|send| send.first).collect()
}

fn answer(lane: &mut Lane, through: i64, status: u16, now: Timestamp) -> Vec<Action> {
    let verdict = crate::domain::outcome::of_status(status);
    let status = Some(status);
    lane.step(Input::Outcome(Outcome { through, verdict, status, retry_after: None, jitter: 0.0 }), now)
}

fn record(actions: &[Action]) -> &Record {
    match actions.first() {
        Some(Action::Record(record)) => record,
        _ => panic!("{actions:?}"),
    }
}

fn save(lane: &mut Lane) {
    let outcomes = lane.outcomes();
    lane.step(Input::Saved(outcomes), NOW);
}

#[test]
fn a_window_is_filled_and_no_more() {
    let mut lane = lane(500, terms());
    let sent = leave(&mut lane, Input::Time, NOW);
    assert_eq!(firsts(&sent), (11..75).collect::<Vec<_>>());
    // Unsaved outcomes count like requests in flight.
    answer(&mut lane, 40, 200, NOW);
    assert_eq!(leave(&mut lane, Input::Time, NOW), []);
    assert_eq!(firsts(&leave(&mut lane, Input::Saved(1), NOW)), [75]);
}

#[test]
fn nothing_is_begun_further_ahead_than_the_map_reaches() {
    let mut lane = lane(500, terms());
    let mut flying = firsts(&leave(&mut lane, Input::Time, NOW));
    while let Some(seq) = flying.pop().filter(|seq| *seq > 11) {
        answer(&mut lane, seq, 200, NOW);
        save(&mut lane);
        flying.extend(firsts(&leave(&mut lane, Input::Time, NOW)));
    }
    assert_eq!(lane.settled(), 10);
    assert_eq!(lane.place().beside.unwrap().settled.seqs().max(), Some(266));
    let actions = answer(&mut lane, 11, 200, NOW);
    assert_eq!(record(&actions).seq, 266, "the mark moves over everything at once");
    assert!(!record(&actions).beside.as_ref().unwrap().is_open);
}

#[test]
fn a_failure_waits_by_itself_and_its_change_is_told_until_it_is_durable() {
    let mut lane = lane(13, terms());
    leave(&mut lane, Input::Time, NOW);
    let actions = answer(&mut lane, 11, 503, NOW);
    let due_at = NOW.plus(Duration::from_secs(5));
    let retry = Retry { seq: 11, attempts: 1, status: Some(503), since: NOW, due_at };
    let change = Changed { seq: 11, outcome: 1, change: Change::Retry(retry) };
    assert_eq!((record(&actions).seq, record(&actions).failing.due_at), (11, None), "the log has more");
    assert_eq!(record(&actions).beside.as_ref().unwrap().changes, [change]);
    let actions = answer(&mut lane, 12, 200, NOW);
    assert_eq!(record(&actions).beside.as_ref().unwrap().changes, [change], "not durable yet");
    lane.step(Input::Saved(2), NOW);
    let actions = answer(&mut lane, 13, 200, NOW);
    assert_eq!((record(&actions).seq, record(&actions).failing.due_at), (13, Some(due_at)));
    assert!(record(&actions).beside.as_ref().unwrap().changes.is_empty());
    assert_eq!(leave(&mut lane, Input::Saved(3), NOW), [], "not before it is due");
    let again = Send { first: 11, through: 11, pinned: true, attempt: 2, redriven: false };
    assert_eq!(leave(&mut lane, Input::Time, due_at), [again]);
    let actions = answer(&mut lane, 11, 200, due_at);
    assert_eq!(record(&actions).beside.as_ref().unwrap().changes[0].change, Change::Settled);
    save(&mut lane);
    assert!(lane.is_at_rest() && !lane.is_failing());
}

#[test]
fn the_sync_goes_first_and_alone_and_three_refusals_park_it() {
    let mut lane = Lane::load(10, 20, 9, Failing::default(), None, terms());
    lane.open_window(SettledMap::above(9), &[]);
    let mut now = NOW;
    for refusal in 1..=3 {
        assert_eq!(firsts(&leave(&mut lane, Input::Time, now)), [10]);
        let actions = answer(&mut lane, 10, 404, now);
        let parked = record(&actions).parked.map(|parked| parked.reason);
        assert_eq!(parked, (refusal == 3).then_some(ParkReason::SyncRefused));
        now = now.plus(Duration::from_mins(1));
    }
    assert_eq!(firsts(&leave(&mut lane, Input::Time, now)), (11..=20).collect::<Vec<_>>());
}

#[test]
fn after_many_failures_one_leaves_at_a_time_until_a_success() {
    let mut lane = lane(40, terms());
    let sent = leave(&mut lane, Input::Time, NOW);
    for send in &sent[..16] {
        answer(&mut lane, send.first, 500, NOW);
    }
    save(&mut lane);
    let later = NOW.plus(Duration::from_mins(5));
    assert_eq!(leave(&mut lane, Input::Time, later), [], "the others are still on their way");
    for send in &sent[16..] {
        answer(&mut lane, send.first, 500, later);
    }
    save(&mut lane);
    assert_eq!(firsts(&leave(&mut lane, Input::Time, later)), [11], "what has waited longest");
    assert_eq!(leave(&mut lane, Input::Time, later), []);
    answer(&mut lane, 11, 200, later);
    let rest = leave(&mut lane, Input::Time, later);
    assert_eq!(rest.len(), 15, "what is due, and not what failed just now");
}

#[test]
fn what_fails_for_ever_does_not_hold_up_the_log() {
    let rate_limit = Some(RateLimit { per_second: 1, burst: 1 });
    for rate_limit in [None, rate_limit] {
        let mut lane = lane(30, Terms { rate_limit, ..terms() });
        let mut now = NOW;
        for _ in 0..20 {
            for send in leave(&mut lane, Input::Time, now) {
                answer(&mut lane, send.first, 500, now);
            }
            save(&mut lane);
            now = now.plus(Duration::from_mins(10));
        }
        // All are due again whenever one has left.
        lane.step(Input::Head(31), now);
        let mut left = Vec::new();
        for _ in 0..2 {
            let [send] = leave(&mut lane, Input::Time, now)[..] else { panic!("one at a time") };
            answer(&mut lane, send.first, 500, now);
            save(&mut lane);
            left.push(send.attempt);
            now = now.plus(Duration::from_mins(10));
        }
        assert!(left.contains(&1), "{left:?}");
    }
}

#[test]
fn with_all_places_for_retries_taken_nothing_new_is_begun() {
    let due_at = NOW.plus(Duration::from_hours(1));
    let retry = |seq| Retry { seq, attempts: 3, status: None, since: NOW, due_at };
    let mut lane = Lane::load(10, 400, 300, Failing::default(), None, terms());
    let retries: Vec<Retry> = (20..20 + 255).map(retry).collect();
    lane.open_window(SettledMap::above(300), &retries);
    assert_eq!(firsts(&leave(&mut lane, Input::Time, NOW)), [301], "one may still fail");
    answer(&mut lane, 301, 500, NOW);
    assert_eq!(leave(&mut lane, Input::Saved(1), NOW), []);
    assert_eq!(lane.place().failing.due_at, Some(NOW.plus(Duration::from_secs(5))));
    lane.step(Input::Moved(350), NOW);
    assert!(!lane.has_retries(), "everything up to there is settled");
    assert_eq!(leave(&mut lane, Input::Time, NOW).len(), 50);
}

#[test]
fn what_was_settled_from_outside_is_told_by_what_the_store_has_left() {
    let mut lane = lane(13, terms());
    leave(&mut lane, Input::Time, NOW);
    for seq in 11..=13 {
        answer(&mut lane, seq, 503, NOW);
    }
    lane.step(Input::Saved(2), NOW);
    lane.keep_retries(10, &[12].into());
    let left: Vec<i64> = lane.window.as_ref().unwrap().retries.keys().copied().collect();
    assert_eq!(left, [12, 13], "11 is gone, and 13 is not in the store yet");
}

#[test]
fn what_was_acknowledged_before_the_store_heard_of_its_failure_is_settled() {
    let mut lane = lane(13, terms());
    leave(&mut lane, Input::Time, NOW);
    for seq in 11..=13 {
        answer(&mut lane, seq, 503, NOW);
    }
    lane.keep_retries(12, &[].into());
    lane.step(Input::Moved(12), NOW);
    let window = lane.window.as_ref().unwrap();
    assert!(window.retries.keys().eq(&[13]) && window.changes.keys().eq(&[13]), "{window:?}");
}

#[test]
fn a_run_has_to_end_before_the_next_is_known() {
    let mut lane = lane(20, Terms { catch_up: CatchUp::Latest, ..terms() });
    let sent = leave(&mut lane, Input::Time, NOW);
    assert_eq!(sent, [Send { first: 11, through: 20, pinned: false, attempt: 1, redriven: false }]);
    let actions = answer(&mut lane, 14, 503, NOW);
    assert_eq!((record(&actions).seq, record(&actions).superseded), (14, Some((11, 13))));
    assert_eq!(firsts(&leave(&mut lane, Input::Time, NOW)), [15], "the next run does not wait for it");
    let later = NOW.plus(Duration::from_secs(5));
    let again = Send { first: 11, through: 14, pinned: true, attempt: 2, redriven: false };
    assert_eq!(leave(&mut lane, Input::Time, later), [again], "it stands for the same run");
}

#[test]
fn a_run_whose_beginning_has_expired_goes_on_with_the_rest() {
    let mut lane = lane(14, Terms { catch_up: CatchUp::Latest, ..terms() });
    leave(&mut lane, Input::Time, NOW);
    answer(&mut lane, 14, 503, NOW);
    save(&mut lane);
    let later = NOW.plus(Duration::from_secs(5));
    assert_eq!(leave(&mut lane, Input::Time, later).len(), 1);
    let rest = Send { first: 13, through: 14, pinned: true, attempt: 2, redriven: false };
    assert_eq!(leave(&mut lane, Input::Hole { first: 11, through: 12 }, later), [rest]);
}

#[test]
fn a_payload_is_poison_where_others_arrive() {
    let mut lane = lane(11, terms());
    let mut now = NOW;
    for refusal in 1..=8 {
        assert_eq!(firsts(&leave(&mut lane, Input::Time, now)), [11]);
        let actions = answer(&mut lane, 11, 422, now);
        assert_eq!(actions.contains(&Action::Ping), refusal == 8, "no evidence yet, or too much");
        save(&mut lane);
        now = now.plus(Duration::from_mins(10));
    }
    assert_eq!(firsts(&leave(&mut lane, Input::Head(12), now)), [12, 11], "the log's turn");
    answer(&mut lane, 12, 200, now);
    let actions = answer(&mut lane, 11, 422, now);
    let change = record(&actions).beside.as_ref().unwrap().changes[0].change;
    assert!(matches!(change, Change::Parked(parking) if parking.reason == ParkReason::Poison), "{change:?}");
    assert!(!lane.is_failing());
}

#[test]
fn notices_and_redrives_go_beside() {
    let mut lane = lane(12, terms());
    leave(&mut lane, Input::Time, NOW);
    let notice = Waiting { id: 1, attempts: 0, due_at: NOW, after_expiry: false, to_receiver: true };
    let redrives = vec![Redrive { seq: 5, attempts: 3 }];
    let actions = lane.step(Input::Waiting { notices: vec![notice], redrives }, NOW);
    assert_eq!(actions, [Action::AskNoticeSlot, Action::AskSlot]);
    let actions = lane.step(Input::NoticeSlot, NOW);
    assert_eq!(actions, [Action::Tell { notice: 1, attempt: 1 }]);
    let again = Send { first: 5, through: 5, pinned: true, attempt: 4, redriven: true };
    assert_eq!(lane.step(Input::Slot, NOW), [Action::Send(again)]);
    let delivered =
        Outcome { through: 12, verdict: Verdict::Delivered, status: None, retry_after: None, jitter: 0.0 };
    let actions = lane.step(Input::Told(delivered), NOW);
    assert_eq!(record(&actions).notice.map(|mark| mark.id), Some(1));
    assert_eq!(lane.settled(), 10, "a notice's answer is none of a notification's");
    let actions = answer(&mut lane, 5, 200, NOW);
    assert_eq!(record(&actions).redriven, Some(5));
    assert!(lane.is_in_flight());
}

#[test]
fn a_rate_limit_spaces_what_leaves() {
    let rate_limit = Some(RateLimit { per_second: 1, burst: 2 });
    let mut lane = lane(20, Terms { rate_limit, ..terms() });
    assert_eq!(firsts(&leave(&mut lane, Input::Time, NOW)), [11, 12]);
    let later = NOW.plus(Duration::from_secs(2));
    assert_eq!(firsts(&leave(&mut lane, Input::Time, later)), [13, 14]);
}

#[test]
fn gone_ends_the_channel_and_what_waits_stays() {
    let mut lane = lane(12, terms());
    leave(&mut lane, Input::Time, NOW);
    let actions = answer(&mut lane, 11, 410, NOW);
    assert!(actions.contains(&Action::EndGone));
    assert!(lane.has_retries());
    answer(&mut lane, 12, 200, NOW);
    assert_eq!(lane.place().seq, 12, "what was on its way counts");
}

#[test]
fn what_was_acknowledged_before_its_failure_was_durable_is_not_sent_again() {
    let mut lane = lane(13, terms());
    leave(&mut lane, Input::Time, NOW);
    for seq in 11..=13 {
        answer(&mut lane, seq, if seq == 12 { 503 } else { 200 }, NOW);
    }
    // The checkpoint met a cursor that the acknowledgement had moved.
    lane.keep_retries(13, &[].into());
    lane.step(Input::Moved(13), NOW);
    let again = leave(&mut lane, Input::Time, NOW.plus(Duration::from_secs(5)));
    assert_eq!(again, []);
    assert_eq!(lane.place().beside.map(|beside| beside.changes.len()), Some(0));
}

#[test]
fn one_at_a_time_redrives_and_the_log_take_turns() {
    let failing = Failing { failures: FAILURES_UNTIL_SLOW, since: Some(NOW), ..Failing::default() };
    let mut lane = Lane::load(10, 40, 39, failing, None, terms());
    lane.open_window(SettledMap::above(39), &[]);
    let redrives = (11..31).map(|seq| Redrive { seq, attempts: 3 }).collect();
    let left = leave(&mut lane, Input::Waiting { notices: Vec::new(), redrives }, NOW);
    assert_eq!(left.iter().map(|send| send.first).collect::<Vec<_>>(), [11]);
    answer(&mut lane, 11, 503, NOW);
    save(&mut lane);
    let left = leave(&mut lane, Input::Time, NOW.plus(Duration::from_secs(10)));
    assert_eq!(left.iter().map(|send| send.first).collect::<Vec<_>>(), [40]);
}

#[test]
fn a_ping_that_was_taken_back_is_asked_for_again() {
    let mut lane = lane(11, terms());
    let refuse = |lane: &mut Lane, at: u64| {
        let now = NOW.plus(Duration::from_mins(10) * u32::try_from(at).unwrap());
        leave(lane, Input::Time, now);
        let pinged = answer(lane, 11, 422, now).contains(&Action::Ping);
        save(lane);
        pinged
    };
    let pings = (0..8).filter(|at| refuse(&mut lane, *at)).count();
    assert_eq!(pings, 1);
    let paused = Terms { active: false, ..terms() };
    lane.step(Input::Changed { terms: paused, readdressed: false }, NOW);
    lane.step(Input::Changed { terms: terms(), readdressed: false }, NOW);
    assert!((8..16).any(|at| refuse(&mut lane, at)));
}
