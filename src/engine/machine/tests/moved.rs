//! A cursor that is moved from outside: by an acknowledgement, a replay or age.

use super::*;

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
    assert_eq!(lane.step(Input::Hole { first: 11, through: 15 }, NOW), [Action::AskSlot]);
    assert_eq!(send(&mut lane, NOW).first, 16);
    let redrives = [4, 19].map(|seq| Redrive { seq, attempts: 3 }).into();
    lane.step(Input::Waiting { notices: Vec::new(), redrives }, NOW);
    lane.step(outcome(16, Verdict::Delivered), NOW);
    assert_eq!(send(&mut lane, NOW).first, 4);
    lane.step(Input::Hole { first: 4, through: 15 }, NOW);
    assert_eq!(lane.place().seq, 16, "what was parked before the hole is no place of the lane's");
    assert_eq!(send(&mut lane, NOW).first, 17);
    lane.step(outcome(17, Verdict::Delivered), NOW);
    assert_eq!(send(&mut lane, NOW).first, 19, "the one that is gone does not come back");
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
fn a_run_that_ended_before_a_move_was_heard_of_is_told_again_until_it_is_durable() {
    let latest = Terms { catch_up: CatchUp::Latest, ..terms() };
    let mut lane = Lane::load(0, 9, 5, Failing::default(), None, latest);
    lane.step(Input::Time, NOW);
    send(&mut lane, NOW);
    lane.step(outcome(9, Verdict::Delivered), NOW);
    let superseded = |lane: &Lane| lane.way_here().filter_map(|record| record.superseded).collect::<Vec<_>>();
    lane.step(Input::Moved(5), NOW);
    assert_eq!(superseded(&lane), [(6, 8)]);
    assert_eq!(lane.way_here().last().map(|record| record.seq), Some(9), "the place comes last");
    lane.step(Input::Saved(1), NOW);
    assert_eq!(superseded(&lane), []);
}
