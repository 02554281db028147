//! Notices and redriven notifications.

use super::*;

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
fn a_redrive_that_arrives_is_a_sign_of_life() {
    let mut lane = Lane::load(1, 10, 9, Failing::default(), None, Terms { max_attempts: Some(2), ..terms() });
    let mut now = NOW;
    let mut fail = |lane: &mut Lane| {
        lane.step(Input::Time, now);
        assert_eq!(send(lane, now).first, 10);
        let actions = lane.step(outcome(10, Verdict::Failed), now);
        lane.step(Input::Saved(lane.outcomes()), now);
        now = now.plus(Duration::from_mins(1));
        actions.iter().any(|action| matches!(action, Action::Suspend { .. }))
    };
    assert!(!fail(&mut lane));
    lane.step(Input::Waiting { notices: Vec::new(), redrives: vec![Redrive { seq: 5, attempts: 1 }] }, NOW);
    assert!(send(&mut lane, NOW).redriven);
    lane.step(outcome(5, Verdict::Delivered), NOW);
    assert!(!fail(&mut lane), "the first since its last 2xx");
    assert!(fail(&mut lane));
}

#[test]
fn what_is_sent_again_from_the_log_begins_to_count_anew() {
    let redrive =
        |attempts| Input::Waiting { notices: vec![], redrives: vec![Redrive { seq: 11, attempts }] };
    for before in [true, false] {
        let mut lane = idle();
        lane.step(redrive(8), NOW);
        send(&mut lane, NOW);
        if before {
            lane.step(outcome(11, Verdict::Delivered), NOW);
        }
        lane.step(Input::Rewound(10), NOW);
        lane.step(Input::Waiting { notices: vec![], redrives: vec![] }, NOW);
        if !before {
            lane.step(outcome(11, Verdict::Failed), NOW);
        }
        assert_eq!(send(&mut lane, NOW).first, 11);
        lane.step(outcome(11, Verdict::Refused), NOW);
        assert_eq!(send(&mut lane, NOW).first, 12);
        lane.step(outcome(12, Verdict::Delivered), NOW);
        lane.step(redrive(1), NOW);
        assert!(send(&mut lane, NOW).redriven, "parked and redriven as any other");
    }
}

#[test]
fn redrives_and_the_head_take_turns() {
    let mut lane = Lane::load(1, 10, 8, Failing::default(), None, terms());
    let redrives = (2..6).map(|seq| Redrive { seq, attempts: 1 }).collect();
    lane.step(Input::Waiting { notices: Vec::new(), redrives }, NOW);
    let mut left = Vec::new();
    while lane.is_queued() {
        let send = send(&mut lane, NOW);
        left.push(send.first);
        lane.step(outcome(send.through, Verdict::Delivered), NOW);
        lane.step(Input::Saved(lane.outcomes()), NOW);
    }
    assert_eq!(left, [2, 9, 3, 10, 4, 5]);
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
    for end in [Input::NotTold, outcome(10, Verdict::Ours), outcome(10, Verdict::Failed)] {
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
    for end in [Input::NotSent(5), outcome(5, Verdict::Ours)] {
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
fn a_410_to_a_notice_ends_the_channel_where_the_receiver_itself_said_it() {
    let told = |notice: Waiting, readdressed: bool, now: Timestamp| {
        let mut lane = idle();
        lane.step(Input::Waiting { notices: vec![notice], redrives: Vec::new() }, now);
        assert_eq!(lane.step(Input::Slot, now), [Action::Tell { notice: 1, attempt: 1 }]);
        if readdressed {
            lane.step(Input::Changed { terms: terms(), readdressed }, now);
        }
        let actions = lane.step(outcome(12, Verdict::Gone), now);
        (actions.contains(&Action::EndGone), lane.has_notices())
    };
    let notice = Waiting { id: 1, attempts: 0, due_at: NOW, after_expiry: true, to_receiver: true };
    assert_eq!(told(notice, false, NOW), (true, false));
    assert_eq!(told(notice, true, NOW), (false, true), "by one that the channel has left");
    assert_eq!(told(Waiting { to_receiver: false, ..notice }, false, NOW), (false, true));
    assert!(!told(notice, false, terms().expires_at).0, "it is over already");
}
