//! Lanes that do not want every event.

use super::*;
use crate::domain::settled::SettledMap;

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
    lane.look_again_after(10, SettledMap::above(10));
    assert_eq!(lane.settled(), 10);
    assert_eq!(lane.step(Input::Time, NOW), [Action::AskNext]);
    lane.step(next(15), NOW);
    send(&mut lane, NOW);
    lane.look_again_after(10, SettledMap::above(10));
    assert_eq!(lane.settled(), 14, "not beside a request");
    lane.step(outcome(15, Verdict::Delivered), NOW);
    lane.look_again_after(10, SettledMap::above(10));
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
    assert_eq!(lane.step(Input::NotTold, NOW), [Action::AskSlot]);
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
