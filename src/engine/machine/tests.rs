use std::{sync::Arc, time::Duration};

use super::{deciding::OURS_WAIT, *};
use crate::domain::{
    backoff::Schedule,
    channel::{CatchUp, OnExhausted, RateLimit},
    outcome::Verdict,
};

const NOW: Timestamp = Timestamp::from_millis(1_000_000);

fn terms() -> Terms {
    Terms {
        active: true,
        probing: false,
        reminded: false,
        reminders: Arc::default(),
        max_attempts: None,
        on_exhausted: OnExhausted::Suspend,
        judges_payload: false,
        rate_limit: None,
        window: Duration::from_hours(72),
        expires_at: NOW.plus(Duration::from_hours(24)),
        catch_up: CatchUp::All,
        schedule: Arc::new(Schedule::new([0, 5, 30].map(Duration::from_secs).to_vec()).unwrap()),
        filtered: false,
    }
}

/// A channel opened at head 10: its sync, seq 10, is pending.
fn opened() -> Lane {
    Lane::load(10, 10, 9, Failing::default(), None, terms())
}

fn outcome(through: i64, verdict: Verdict) -> Input {
    Input::Outcome(Outcome { through, verdict, status: None, retry_after: None, jitter: 0.0 })
}

fn refused(through: i64, status: u16) -> Input {
    Input::Outcome(Outcome {
        through,
        verdict: Verdict::Failed,
        status: Some(status),
        retry_after: None,
        jitter: 0.0,
    })
}

/// Lets the lane send and returns what left.
fn send(lane: &mut Lane, now: Timestamp) -> Send {
    assert!(lane.is_queued(), "the lane has not asked for a slot: {lane:?}");
    match lane.step(Input::Slot, now).as_slice() {
        [Action::Send(send)] => *send,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_sync_comes_first_and_events_follow_one_by_one() {
    let mut lane = opened();
    assert_eq!(lane.step(Input::Head(12), NOW), [Action::AskSlot]);
    assert_eq!(
        send(&mut lane, NOW),
        Send { first: 10, through: 10, pinned: false, attempt: 1, redriven: false }
    );
    assert_eq!(lane.step(Input::Head(13), NOW), [], "one request in flight");
    let actions = lane.step(outcome(10, Verdict::Delivered), NOW);
    assert!(matches!(actions.as_slice(), [Action::Record(record), Action::AskSlot] if record.seq == 10));
    assert_eq!(send(&mut lane, NOW).first, 11);
}

#[test]
fn the_head_blocks_and_is_retried_on_schedule() {
    let mut lane = opened();
    lane.step(Input::Head(11), NOW);
    send(&mut lane, NOW);
    let due = NOW.plus(Duration::from_secs(5));
    let actions = lane.step(outcome(10, Verdict::Failed), NOW);
    assert!(
        matches!(actions.as_slice(), [Action::Record(_), Action::WakeAt(at)] if *at == due),
        "{actions:?}"
    );
    assert_eq!(lane.step(Input::Head(12), NOW), [Action::WakeAt(due)], "new events do not hurry it");
    assert_eq!(lane.step(Input::Time, due), [Action::AskSlot]);
    assert_eq!(
        send(&mut lane, due),
        Send { first: 10, through: 10, pinned: true, attempt: 2, redriven: false }
    );
}

#[test]
fn a_lane_waits_when_too_much_is_unsaved() {
    let mut lane = opened();
    lane.step(Input::Head(100), NOW);
    for at in 0..4 {
        send(&mut lane, NOW);
        lane.step(outcome(10 + at, Verdict::Delivered), NOW);
    }
    assert!(!lane.is_queued());
    assert_eq!(lane.step(Input::Saved(1), NOW), [Action::AskSlot]);
}

#[test]
fn expiry_stop_and_patch_are_judged_when_the_slot_is_free() {
    let mut lane = opened();
    lane.step(Input::Time, NOW);
    assert_eq!(lane.step(Input::Slot, terms().expires_at), [], "expired while waiting for the slot");

    let mut lane = opened();
    lane.step(Input::Time, NOW);
    let stopped = Terms { active: false, ..terms() };
    lane.step(Input::Changed { terms: stopped, readdressed: false }, NOW);
    assert_eq!(lane.step(Input::Slot, NOW), []);
    let actions = lane.step(Input::Changed { terms: terms(), readdressed: false }, NOW);
    assert_eq!(actions, [Action::AskSlot], "renewed within its grace");
}

#[test]
fn an_outcome_after_the_stop_counts() {
    let mut lane = opened();
    lane.step(Input::Time, NOW);
    send(&mut lane, NOW);
    lane.step(Input::Changed { terms: Terms { active: false, ..terms() }, readdressed: false }, NOW);
    let actions = lane.step(outcome(10, Verdict::Delivered), NOW);
    assert!(matches!(actions.as_slice(), [Action::Record(record)] if record.seq == 10));
}

#[test]
fn a_new_address_is_tried_at_once() {
    let mut lane = opened();
    lane.step(Input::Time, NOW);
    send(&mut lane, NOW);
    lane.step(outcome(10, Verdict::Failed), NOW);
    assert_eq!(lane.step(Input::Changed { terms: terms(), readdressed: true }, NOW), [Action::AskSlot]);
}

#[test]
fn a_new_address_does_not_pay_for_the_old_one() {
    let mut lane = opened();
    lane.step(Input::Time, NOW);
    send(&mut lane, NOW);
    lane.step(Input::Changed { terms: terms(), readdressed: true }, NOW);
    let actions = lane.step(outcome(10, Verdict::Failed), NOW);
    assert!(matches!(actions.as_slice(), [Action::Record(_), Action::AskSlot]), "{actions:?}");
}

#[test]
fn latest_collapses_until_attempted_and_then_keeps_its_number() {
    let mut lane =
        Lane::load(0, 5, 0, Failing::default(), None, Terms { catch_up: CatchUp::Latest, ..terms() });
    lane.step(Input::Time, NOW);
    assert_eq!(
        send(&mut lane, NOW),
        Send { first: 1, through: 5, pinned: false, attempt: 1, redriven: false }
    );
    let superseded = |actions: Vec<Action>| match actions.first() {
        Some(Action::Record(record)) => record.superseded,
        _ => panic!("{actions:?}"),
    };
    assert_eq!(superseded(lane.step(outcome(3, Verdict::Failed), NOW)), None, "nothing has settled");
    lane.step(Input::Head(9), NOW);
    let due = NOW.plus(Duration::from_secs(5));
    lane.step(Input::Time, due);
    assert_eq!(
        send(&mut lane, due),
        Send { first: 1, through: 3, pinned: true, attempt: 2, redriven: false }
    );
    assert_eq!(superseded(lane.step(outcome(3, Verdict::Delivered), due)), Some((1, 2)));
    assert_eq!(
        send(&mut lane, due),
        Send { first: 4, through: 9, pinned: false, attempt: 1, redriven: false }
    );
    // The receiver acknowledged part of the run meanwhile.
    lane.step(Input::Moved(6), due);
    assert_eq!(superseded(lane.step(outcome(9, Verdict::Delivered), due)), Some((7, 8)));
    lane.step(Input::Head(10), due);
    send(&mut lane, due);
    assert_eq!(superseded(lane.step(outcome(10, Verdict::Delivered), due)), None, "it stood for itself");
}

#[test]
fn three_refusals_park_a_sync_and_only_a_sync() {
    let mut lane = opened();
    lane.step(Input::Head(11), NOW);
    let mut now = NOW;
    for refusal in 1..=3 {
        send(&mut lane, now);
        let actions = lane.step(refused(10, 404), now);
        let Some(Action::Record(record)) = actions.first() else { panic!("{actions:?}") };
        assert_eq!(record.parked.is_some(), refusal == 3);
        lane.step(Input::Saved(refusal), now);
        now = now.plus(Duration::from_hours(1));
        lane.step(Input::Time, now);
    }
    for attempt in 1..=10 {
        assert_eq!(
            send(&mut lane, now),
            Send { first: 11, through: 11, pinned: attempt > 1, attempt, redriven: false }
        );
        lane.step(refused(11, 404), now);
        lane.step(Input::Saved(100), now);
        now = now.plus(Duration::from_hours(1));
        lane.step(Input::Time, now);
    }
}

#[test]
fn gone_ends_the_channel() {
    let mut lane = opened();
    lane.step(Input::Time, NOW);
    send(&mut lane, NOW);
    let actions = lane.step(outcome(10, Verdict::Gone), NOW);
    assert!(matches!(actions.as_slice(), [Action::Record(_), Action::EndGone]), "{actions:?}");
}

#[test]
fn an_outcome_of_what_the_cursor_was_moved_past_is_only_told() {
    let mut lane = opened();
    lane.step(Input::Head(15), NOW);
    send(&mut lane, NOW);
    assert_eq!(lane.step(Input::Moved(12), NOW), [], "one request in flight all the same");
    let actions = lane.step(outcome(10, Verdict::Failed), NOW);
    assert!(
        matches!(actions.as_slice(), [Action::Record(record), Action::AskSlot] if record.seq == 12 && record.attempt == 1)
    );
    assert_eq!(
        send(&mut lane, NOW),
        Send { first: 13, through: 13, pinned: false, attempt: 1, redriven: false }
    );
    lane.step(Input::Moved(11), NOW);
    assert_eq!(lane.settled(), 12, "never back");
}

#[test]
fn a_failing_head_that_is_acknowledged_holds_nobody_up() {
    let mut lane = opened();
    lane.step(Input::Head(12), NOW);
    send(&mut lane, NOW);
    lane.step(outcome(10, Verdict::Failed), NOW);
    assert_eq!(lane.step(Input::Moved(11), NOW), [Action::AskSlot]);
    assert_eq!(send(&mut lane, NOW).first, 12);
}

#[test]
fn a_receiver_that_was_left_cannot_end_the_channel() {
    let mut lane = opened();
    lane.step(Input::Time, NOW);
    send(&mut lane, NOW);
    lane.step(Input::Changed { terms: terms(), readdressed: true }, NOW);
    let actions = lane.step(outcome(10, Verdict::Gone), NOW);
    assert!(matches!(actions.as_slice(), [Action::Record(_), Action::AskSlot]), "{actions:?}");
}

#[test]
fn our_own_failure_is_not_charged() {
    let mut lane = opened();
    lane.step(Input::Time, NOW);
    send(&mut lane, NOW);
    assert!(matches!(lane.step(outcome(10, Verdict::Ours), NOW).as_slice(), [Action::WakeAt(_)]));
    assert!(!lane.is_failing());
    lane.step(Input::Time, NOW.plus(OURS_WAIT));
    assert_eq!(send(&mut lane, NOW.plus(OURS_WAIT)).attempt, 1);
}

#[test]
fn a_clock_set_back_freezes_nobody() {
    let failing =
        Failing { attempts: 1, due_at: Some(NOW.plus(Duration::from_hours(24 * 365))), ..Failing::default() };
    let mut lane = Lane::load(0, 5, 2, failing, None, terms());
    let actions = lane.step(Input::Time, NOW);
    let Some(Action::WakeAt(at)) = actions.first() else { panic!("{actions:?}") };
    assert!(at.since(NOW) <= terms().schedule.longest_wait());
    assert_eq!(lane.step(Input::Time, *at), [Action::AskSlot], "the wait ends");
}

#[test]
fn a_clock_set_back_keeps_a_short_hold_short() {
    let mut lane = opened();
    lane.step(Input::Time, NOW);
    send(&mut lane, NOW);
    lane.step(outcome(10, Verdict::Ours), NOW);
    let earlier = NOW.minus(Duration::from_mins(10));
    assert_eq!(lane.step(Input::Time, earlier), [Action::WakeAt(earlier.plus(OURS_WAIT))]);
}

#[test]
fn an_outcome_of_something_else_does_not_count() {
    let mut lane = opened();
    lane.step(Input::Head(11), NOW);
    send(&mut lane, NOW);
    lane.step(outcome(10, Verdict::Delivered), NOW);
    send(&mut lane, NOW);
    for stale in [10, 12] {
        assert_eq!(lane.step(outcome(stale, Verdict::Delivered), NOW), []);
    }
    lane.step(outcome(11, Verdict::Delivered), NOW);
    assert_eq!(lane.settled(), 11);
}

#[test]
fn a_parked_sync_leaves_the_first_failure_where_it_was() {
    let failing =
        Failing { attempts: 2, client_errors: 2, since: Some(NOW), pinned: Some(10), ..Failing::default() };
    let mut lane = Lane::load(10, 11, 9, failing, None, terms());
    let later = NOW.plus(Duration::from_mins(1));
    lane.step(Input::Time, later);
    send(&mut lane, later);
    let actions = lane.step(refused(10, 404), later);
    let Some(Action::Record(record)) = actions.first() else { panic!("{actions:?}") };
    assert!(record.parked.is_some());
    assert_eq!(record.failing, Failing { since: Some(NOW), failures: 1, ..Failing::default() });
}

#[test]
fn a_run_left_behind_by_a_moved_cursor_is_forgotten() {
    let failing = Failing { attempts: 1, pinned: Some(4), ..Failing::default() };
    let mut lane = Lane::load(0, 9, 6, failing, None, terms());
    lane.step(Input::Time, NOW);
    assert_eq!(
        send(&mut lane, NOW),
        Send { first: 7, through: 7, pinned: false, attempt: 2, redriven: false }
    );
}

#[test]
fn a_first_delay_holds_back_what_has_just_come() {
    let schedule = Arc::new(Schedule::new(vec![Duration::from_secs(2), Duration::from_secs(9)]).unwrap());
    let mut lane = Lane::load(0, 3, 3, Failing::default(), None, Terms { schedule, ..terms() });
    let due = NOW.plus(Duration::from_secs(2));
    assert_eq!(lane.step(Input::Head(4), NOW), [Action::WakeAt(due)]);
    assert_eq!(lane.step(Input::Time, due), [Action::AskSlot]);
}

/// Fails the head at `now`, as soon as it may be tried.
fn fail(lane: &mut Lane, now: Timestamp) -> Vec<Action> {
    lane.step(Input::Time, now);
    send(lane, now);
    let actions = lane.step(outcome(10, Verdict::Failed), now);
    lane.step(Input::Saved(u64::MAX), now);
    actions
}

#[test]
fn after_its_window_a_channel_is_suspended_and_probed_until_a_success() {
    let expires_at = NOW.plus(Duration::from_hours(24 * 365));
    let mut lane = Lane::load(10, 10, 9, Failing::default(), None, Terms { expires_at, ..terms() });
    fail(&mut lane, NOW);
    let almost = NOW.plus(Duration::from_hours(71));
    assert_eq!(fail(&mut lane, almost).len(), 2, "recorded, and a timer");
    let ended_at = NOW.plus(Duration::from_hours(72));
    let mut now = ended_at.plus(Duration::from_mins(5));
    let probe_at = ended_at.plus(Duration::from_hours(1));
    let actions = fail(&mut lane, now);
    assert!(
        matches!(actions.as_slice(), [Action::Record(_), Action::Suspend { probe_at: at }, Action::WakeAt(_)] if *at == probe_at),
        "{actions:?}"
    );
    for hours in [1, 8, 24, 48] {
        let due = ended_at.plus(Duration::from_hours(hours));
        assert_eq!(lane.step(Input::Time, now), [Action::WakeAt(due)]);
        now = due;
        assert_eq!(fail(&mut lane, now).len(), 2, "suspended once");
    }
    now = ended_at.plus(Duration::from_hours(72));
    lane.step(Input::Time, now);
    send(&mut lane, now);
    let actions = lane.step(outcome(10, Verdict::Delivered), now);
    assert!(matches!(actions.as_slice(), [Action::Record(_), Action::Resume]), "{actions:?}");
}

#[test]
fn who_is_resumed_gets_a_window_of_its_own() {
    let failing = Failing {
        attempts: 9,
        since: Some(NOW),
        due_at: Some(NOW.plus(Duration::from_hours(96))),
        ..Failing::default()
    };
    let now = NOW.plus(Duration::from_hours(80));
    let expires_at = NOW.plus(Duration::from_hours(24 * 365));
    let live = Terms { expires_at, ..terms() };
    let mut lane = Lane::load(10, 10, 9, failing, None, Terms { probing: true, ..live.clone() });
    assert!(matches!(lane.step(Input::Time, now).as_slice(), [Action::WakeAt(_)]));
    assert_eq!(lane.step(Input::Changed { terms: live, readdressed: false }, now), [Action::AskSlot]);
    assert!(
        matches!(fail(&mut lane, now).as_slice(), [Action::Record(_), Action::WakeAt(_)]),
        "not suspended at once"
    );
}

#[test]
fn who_is_resumed_from_a_pause_is_tried_at_once_with_a_window_of_its_own() {
    let mut lane = opened();
    lane.step(Input::Time, NOW);
    send(&mut lane, NOW);
    lane.step(outcome(10, Verdict::Failed), NOW);
    lane.step(Input::Changed { terms: Terms { active: false, ..terms() }, readdressed: false }, NOW);
    let actions = lane.step(Input::Changed { terms: terms(), readdressed: false }, NOW);
    assert_eq!(actions, [Action::AskSlot]);
    assert_eq!(lane.place().failing.since, None);
}

fn next(wanted: i64) -> Input {
    Input::Next { wanted: Some(wanted), through: wanted }
}

fn nothing(through: i64) -> Input {
    Input::Next { wanted: None, through }
}

/// A filtered lane whose sync is through.
fn filtered(head: i64) -> Lane {
    Lane::load(10, head, 10, Failing::default(), None, Terms { filtered: true, ..terms() })
}

#[test]
fn a_filtered_lane_asks_once_and_passes_what_it_does_not_want() {
    let mut lane = filtered(20);
    assert_eq!(lane.step(Input::Time, NOW), [Action::AskNext]);
    assert_eq!(lane.step(Input::Head(30), NOW), [], "asked already");
    assert_eq!(lane.step(nothing(15), NOW), [Action::AskNext], "nothing so far");
    assert_eq!((lane.settled(), lane.is_at_rest()), (15, true), "and no outcome of it");
    assert_eq!(lane.step(next(18), NOW), [Action::AskSlot]);
    assert_eq!(
        send(&mut lane, NOW),
        Send { first: 18, through: 18, pinned: false, attempt: 1, redriven: false }
    );
    assert_eq!(lane.last_told(), Some(10), "the sync");
    let actions = lane.step(outcome(18, Verdict::Delivered), NOW);
    assert!(matches!(actions.as_slice(), [Action::Record(record), Action::AskNext] if record.seq == 18));
    assert_eq!(lane.step(nothing(30), NOW), []);
    assert_eq!((lane.settled(), lane.last_told()), (30, Some(18)));
    assert_eq!(lane.step(Input::Head(31), NOW), [Action::AskNext]);
    assert_eq!(filtered(31).last_told(), Some(10));
    let later = Terms { filtered: true, ..terms() };
    assert_eq!(Lane::load(10, 31, 30, Failing::default(), None, later).last_told(), None, "not known");
}

#[test]
fn a_sync_is_no_filters_business() {
    let mut lane = Lane::load(10, 12, 9, Failing::default(), None, Terms { filtered: true, ..terms() });
    assert_eq!(lane.step(Input::Time, NOW), [Action::AskSlot]);
    assert_eq!(send(&mut lane, NOW).first, 10);
}

#[test]
fn nothing_is_passed_in_flight_nor_by_a_lane_that_may_not_send() {
    let mut lane = filtered(20);
    lane.step(Input::Time, NOW);
    lane.step(next(11), NOW);
    send(&mut lane, NOW);
    assert_eq!(lane.step(nothing(20), NOW), []);
    assert_eq!(lane.settled(), 10);

    let mut lane = filtered(20);
    lane.step(Input::Time, NOW);
    let still = Terms { active: false, filtered: true, ..terms() };
    lane.step(Input::Changed { terms: still, readdressed: false }, NOW);
    lane.step(nothing(20), NOW);
    assert_eq!(lane.settled(), 10, "frozen");
    let on = Terms { filtered: true, ..terms() };
    let actions = lane.step(Input::Changed { terms: on, readdressed: false }, NOW);
    assert_eq!(actions, [Action::AskNext], "the answer that it did not take is asked for again");

    let mut lane = filtered(20);
    lane.step(Input::Time, NOW);
    lane.step(nothing(20), terms().expires_at);
    assert_eq!(lane.settled(), 10, "expired");
}

#[test]
fn a_failing_head_stays_until_a_new_filter_passes_it() {
    let mut lane = filtered(20);
    lane.step(Input::Time, NOW);
    lane.step(next(12), NOW);
    send(&mut lane, NOW);
    let actions = lane.step(outcome(12, Verdict::Failed), NOW);
    assert!(matches!(actions.as_slice(), [Action::Record(record), Action::AskNext] if record.seq == 11));
    let due = NOW.plus(Duration::from_secs(5));
    assert_eq!(lane.step(next(12), NOW), [Action::WakeAt(due)], "the same head waits");
    let other = Terms { filtered: true, ..terms() };
    assert_eq!(lane.step(Input::Changed { terms: other, readdressed: false }, NOW), [Action::AskNext]);
    assert_eq!(lane.step(next(14), NOW), [Action::AskSlot], "another head waits for nothing");
    assert_eq!(lane.place().failing, Failing { since: Some(NOW), failures: 1, ..Failing::default() });
    assert_eq!(
        send(&mut lane, NOW),
        Send { first: 14, through: 14, pinned: false, attempt: 1, redriven: false }
    );
}

#[test]
fn a_suspended_head_is_looked_at_when_it_is_probed() {
    let due = NOW.plus(Duration::from_hours(1));
    let failing = Failing { attempts: 9, since: Some(NOW), due_at: Some(due), ..Failing::default() };
    let suspended = Terms { probing: true, filtered: true, ..terms() };
    let mut lane = Lane::load(10, 20, 14, failing, None, suspended);
    assert_eq!(lane.step(Input::Time, NOW), [Action::WakeAt(due)]);
    assert_eq!(lane.step(Input::Time, due), [Action::AskNext]);
    assert_eq!(lane.step(next(15), due), [Action::AskSlot]);
}

#[test]
fn a_run_begins_at_a_wanted_event() {
    let latest = Terms { catch_up: CatchUp::Latest, filtered: true, ..terms() };
    let mut lane = Lane::load(0, 9, 0, Failing::default(), None, latest);
    lane.step(Input::Time, NOW);
    lane.step(next(3), NOW);
    assert_eq!(
        send(&mut lane, NOW),
        Send { first: 3, through: 9, pinned: false, attempt: 1, redriven: false }
    );
    lane.step(outcome(5, Verdict::Failed), NOW);
    let due = NOW.plus(Duration::from_secs(5));
    lane.step(next(3), NOW);
    lane.step(Input::Time, due);
    assert_eq!(
        send(&mut lane, due),
        Send { first: 3, through: 5, pinned: true, attempt: 2, redriven: false }
    );
}

#[test]
fn a_new_filter_looks_again_at_what_only_the_old_one_has_passed() {
    let mut lane = filtered(20);
    lane.step(Input::Time, NOW);
    lane.step(nothing(20), NOW);
    lane.look_again_after(10);
    assert_eq!(lane.settled(), 10);
    assert_eq!(lane.step(Input::Time, NOW), [Action::AskNext]);
    lane.step(next(15), NOW);
    send(&mut lane, NOW);
    lane.look_again_after(10);
    assert_eq!(lane.settled(), 14, "not beside a request");
    lane.step(outcome(15, Verdict::Delivered), NOW);
    lane.look_again_after(10);
    assert_eq!(lane.settled(), 15, "nor before its outcome is durable");
}

#[test]
fn an_answer_beside_a_notice_is_asked_for_again() {
    let mut lane = filtered(20);
    assert_eq!(lane.step(Input::Time, NOW), [Action::AskNext]);
    let notice = Waiting { id: 1, attempts: 0, due_at: NOW, after_expiry: false, to_receiver: true };
    let waiting = Input::Waiting { notices: vec![notice], redrives: Vec::new() };
    assert_eq!(lane.step(waiting, NOW), [Action::AskSlot]);
    assert_eq!(lane.step(nothing(20), NOW), []);
    assert_eq!(lane.step(Input::Slot, NOW), [Action::Tell { notice: 1, attempt: 1 }]);
    assert_eq!(lane.step(Input::NotSent, NOW), [Action::AskSlot]);
    lane.step(Input::Slot, NOW);
    let actions = lane.step(outcome(0, Verdict::Delivered), NOW);
    assert!(matches!(actions.as_slice(), [Action::Record(_), Action::AskNext]), "{actions:?}");
    assert_eq!((lane.step(nothing(20), NOW), lane.settled()), (Vec::new(), 20));
}

#[test]
fn a_filtered_lane_that_is_set_back_asks_anew() {
    let mut lane = filtered(20);
    lane.step(Input::Time, NOW);
    lane.step(nothing(20), NOW);
    assert_eq!(lane.step(Input::Rewound(12), NOW), [Action::AskNext]);
    assert_eq!(lane.last_told(), None, "it may be any");
    assert_eq!(lane.step(next(15), NOW), [Action::AskSlot]);
    assert_eq!(send(&mut lane, NOW).first, 15);
}

fn waiting(id: i64, attempts: u32) -> Input {
    let notice = Waiting { id, attempts, due_at: NOW, after_expiry: false, to_receiver: true };
    Input::Waiting { notices: vec![notice], redrives: Vec::new() }
}

/// A lane that has nothing to do but what the test gives it.
fn idle() -> Lane {
    Lane::load(10, 12, 12, Failing::default(), None, terms())
}

#[test]
fn a_notice_goes_ahead_of_a_head_that_waits_and_counts_nothing_against_it() {
    let mut lane = opened();
    lane.step(Input::Time, NOW);
    send(&mut lane, NOW);
    lane.step(outcome(10, Verdict::Failed), NOW);
    let failing = lane.place().failing;
    assert_eq!(lane.step(waiting(1, 0), NOW), [Action::AskSlot]);
    assert_eq!(lane.step(Input::Slot, NOW), [Action::Tell { notice: 1, attempt: 1 }]);
    let actions = lane.step(outcome(9, Verdict::Failed), NOW);
    let Some(Action::Record(record)) = actions.first() else { panic!("{actions:?}") };
    assert_eq!(record.failing, failing);
    let again = NOW.plus(Duration::from_secs(30));
    assert_eq!(record.notice, Some(NoticeMark { id: 1, attempts: 1, due_at: Some(again) }));
}

#[test]
fn a_read_that_is_older_than_an_outcome_brings_no_notice_back() {
    let mut lane = idle();
    lane.step(waiting(1, 0), NOW);
    lane.step(Input::Slot, NOW);
    lane.step(outcome(12, Verdict::Failed), NOW);
    lane.step(Input::Saved(1), NOW);
    let due = NOW.plus(Duration::from_secs(30));
    assert_eq!(lane.step(waiting(1, 0), NOW), [Action::WakeAt(due)], "its own wait");
    lane.step(Input::Time, due);
    assert_eq!(lane.step(Input::Slot, due), [Action::Tell { notice: 1, attempt: 2 }]);
    lane.step(outcome(12, Verdict::Delivered), due);
    lane.step(Input::Saved(2), due);
    assert_eq!(lane.step(waiting(1, 1), due), [], "it is through");
    assert!(lane.is_at_rest());
}

#[test]
fn a_redrive_has_one_attempt_beside_the_log() {
    let redrive =
        |attempts| Input::Waiting { notices: Vec::new(), redrives: vec![Redrive { seq: 11, attempts }] };
    let mut lane = idle();
    assert_eq!(lane.step(redrive(8), NOW), [Action::AskSlot]);
    assert_eq!(
        send(&mut lane, NOW),
        Send { first: 11, through: 11, pinned: true, attempt: 9, redriven: true }
    );
    let actions = lane.step(outcome(11, Verdict::Failed), NOW);
    let Some(Action::Record(record)) = actions.first() else { panic!("{actions:?}") };
    assert_eq!((record.seq, record.parked.map(|parked| (parked.seq, parked.attempts))), (12, Some((11, 9))));
    assert_eq!(lane.step(redrive(8), NOW), [], "an older read");
    assert_eq!(lane.step(redrive(9), NOW), [Action::AskSlot], "redriven again");
}

#[test]
fn a_replay_goes_back_whatever_is_under_way() {
    let mut lane = Lane::load(10, 20, 18, Failing::default(), None, terms());
    lane.step(Input::Time, NOW);
    assert_eq!(send(&mut lane, NOW).first, 19);
    lane.step(Input::Rewound(12), NOW);
    lane.step(outcome(19, Verdict::Delivered), NOW);
    assert_eq!(lane.settled(), 12, "an outcome of what is not the head is only told");
    assert_eq!(send(&mut lane, NOW).first, 13);
}

#[test]
fn a_rate_limit_spaces_what_leaves() {
    let rate_limit = Some(RateLimit { per_second: 1, burst: 1 });
    let mut lane = Lane::load(10, 12, 10, Failing::default(), None, Terms { rate_limit, ..terms() });
    assert_eq!(lane.step(Input::Time, NOW), [Action::AskSlot]);
    send(&mut lane, NOW);
    let actions = lane.step(outcome(11, Verdict::Delivered), NOW);
    let Some(Action::WakeAt(at)) = actions.get(1) else { panic!("{actions:?}") };
    assert!(at.since(NOW) >= Duration::from_secs(1));
    assert_eq!(lane.step(Input::Time, *at), [Action::AskSlot]);
}

#[test]
fn what_expired_is_over_and_its_trouble_is_not() {
    let failing = Failing {
        attempts: 3,
        since: Some(NOW),
        due_at: Some(NOW.plus(OURS_WAIT)),
        pinned: Some(11),
        failures: 3,
        refusals: 1,
        ..Failing::default()
    };
    let mut lane = Lane::load(10, 20, 10, failing.clone(), None, terms());
    lane.step(Input::Expired(9), NOW);
    assert_eq!(lane.place().seq, 10, "nothing of it");
    assert_eq!(lane.step(Input::Expired(15), NOW), [Action::WakeAt(NOW.plus(OURS_WAIT))], "no sooner");
    let left = Failing { attempts: 0, client_errors: 0, refusals: 0, pinned: None, ..failing.clone() };
    assert_eq!((lane.place().seq, lane.place().failing), (15, left));
    let mut run = Lane::load(10, 20, 10, Failing { pinned: Some(18), ..failing.clone() }, None, terms());
    run.step(Input::Expired(15), NOW);
    assert_eq!(
        (run.place().seq, run.place().attempt),
        (15, 3),
        "a run that reaches further keeps its number"
    );
}

#[test]
fn a_hole_is_passed_without_a_request() {
    let mut lane = Lane::load(10, 20, 10, Failing::default(), None, terms());
    lane.step(Input::Time, NOW);
    assert_eq!(send(&mut lane, NOW).first, 11);
    assert_eq!(lane.step(Input::Hole(15), NOW), [Action::AskSlot]);
    assert_eq!(send(&mut lane, NOW).first, 16);
    let redrives = [4, 19].map(|seq| Redrive { seq, attempts: 3 }).into();
    lane.step(Input::Waiting { notices: Vec::new(), redrives }, NOW);
    lane.step(outcome(16, Verdict::Delivered), NOW);
    assert_eq!(send(&mut lane, NOW).first, 4);
    lane.step(Input::Hole(15), NOW);
    assert_eq!(lane.place().seq, 16, "what was parked before the hole is no place of the lane's");
    assert_eq!(send(&mut lane, NOW).first, 19, "the one that is gone does not come back");
}

#[test]
fn a_notice_that_is_taken_back_on_its_way_is_not_told_again() {
    let notice = Waiting { id: 1, attempts: 0, due_at: NOW, after_expiry: false, to_receiver: true };
    let telling = || {
        let mut lane = Lane::load(10, 10, 10, Failing::default(), None, terms());
        lane.step(Input::Waiting { notices: vec![notice], redrives: Vec::new() }, NOW);
        assert_eq!(lane.step(Input::Slot, NOW), [Action::Tell { notice: 1, attempt: 1 }]);
        lane.step(Input::Waiting { notices: Vec::new(), redrives: Vec::new() }, NOW);
        lane
    };
    for end in [Input::NotSent, outcome(10, Verdict::Ours), outcome(10, Verdict::Failed)] {
        let mut lane = telling();
        lane.step(end.clone(), NOW);
        assert!(!lane.has_notices(), "{end:?}: {lane:?}");
    }
    // One that still waits there gets its further attempts.
    let mut lane = telling();
    lane.step(Input::Waiting { notices: vec![notice], redrives: Vec::new() }, NOW);
    lane.step(outcome(10, Verdict::Failed), NOW);
    assert!(lane.has_notices());
}

#[test]
fn a_redrive_that_is_settled_on_its_way_is_not_tried_again() {
    for end in [Input::NotSent, outcome(5, Verdict::Ours)] {
        let mut lane = Lane::load(1, 10, 10, Failing::default(), None, terms());
        let redrive = Redrive { seq: 5, attempts: 1 };
        lane.step(Input::Waiting { notices: Vec::new(), redrives: vec![redrive] }, NOW);
        assert!(send(&mut lane, NOW).redriven);
        lane.step(Input::Waiting { notices: Vec::new(), redrives: Vec::new() }, NOW);
        lane.step(end, NOW);
        assert!(!lane.has_redrives(), "{lane:?}");
    }
}

#[test]
fn where_everything_expired_nothing_waits_for_a_time_that_the_row_does_not_have() {
    let failing = Failing {
        attempts: 3,
        since: Some(NOW),
        due_at: Some(NOW.plus(OURS_WAIT)),
        failures: 3,
        ..Failing::default()
    };
    let left = Failing { since: Some(NOW), failures: 3, ..Failing::default() };
    let mut lane = Lane::load(10, 12, 10, failing.clone(), None, terms());
    assert_eq!(lane.step(Input::Expired(12), NOW), []);
    assert_eq!(lane.place().failing, left);
    assert_eq!(lane.step(Input::Head(13), NOW), [Action::AskSlot]);
    let mut filtered = Lane::load(10, 20, 10, failing, None, Terms { filtered: true, ..terms() });
    filtered.step(Input::Expired(15), NOW);
    let due = NOW.plus(OURS_WAIT);
    assert_eq!(filtered.step(next(18), NOW), [Action::WakeAt(due)], "unwanted events cut no wait short");
}

#[test]
fn a_sync_that_is_set_aside_suspends_nobody() {
    let mut lane = Lane::load(0, 1, -1, Failing::default(), None, Terms { max_attempts: Some(3), ..terms() });
    let mut now = NOW;
    for _ in 0..3 {
        lane.step(Input::Time, now);
        send(&mut lane, now);
        let refused = Input::Outcome(Outcome {
            through: 0,
            verdict: Verdict::Failed,
            status: Some(404),
            retry_after: None,
            jitter: 0.0,
        });
        let actions = lane.step(refused, now);
        assert!(!actions.iter().any(|action| matches!(action, Action::Suspend { .. })), "{actions:?}");
        now = now.plus(Duration::from_mins(1));
    }
    assert_eq!(lane.place().seq, 0, "and the lane goes on");
}
