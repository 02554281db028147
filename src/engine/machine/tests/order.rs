//! What leaves next, one at a time.

use super::*;

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
fn a_host_that_is_left_alone_holds_the_lane_until_it_leads_elsewhere() {
    let mut lane = opened();
    lane.step(Input::Time, NOW);
    send(&mut lane, NOW);
    let wait = Duration::from_hours(1);
    let (verdict, retry_after) = (Verdict::Ours, Some(wait));
    let left_alone = Outcome { through: 10, verdict, status: None, retry_after, jitter: 0.0 };
    assert_eq!(lane.step(Input::Outcome(left_alone), NOW), [Action::WakeAt(NOW.plus(wait))]);
    let later = NOW.plus(Duration::from_mins(10));
    let changed = Input::Changed { terms: terms(), readdressed: true };
    let soon = later.plus(OURS_WAIT);
    assert_eq!(lane.step(changed, later), [Action::WakeAt(soon)]);
    lane.step(Input::Time, soon);
    assert_eq!(send(&mut lane, soon).attempt, 1);
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
fn a_first_delay_holds_back_what_has_just_come() {
    let schedule = Arc::new(Schedule::new(vec![Duration::from_secs(2), Duration::from_secs(9)]).unwrap());
    let mut lane = Lane::load(0, 3, 3, Failing::default(), None, Terms { schedule, ..terms() });
    let due = NOW.plus(Duration::from_secs(2));
    assert_eq!(lane.step(Input::Head(4), NOW), [Action::WakeAt(due)]);
    assert_eq!(lane.step(Input::Time, due), [Action::AskSlot]);
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
