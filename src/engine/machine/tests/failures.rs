//! What failures make of a head and of its channel.

use super::*;

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
