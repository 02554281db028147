mod beside;
mod failures;
mod filtered;
mod moved;
mod order;

use std::{sync::Arc, time::Duration};

use super::{deciding::OURS_WAIT, *};
use crate::domain::{
    backoff::Schedule,
    channel::{CatchUp, OnExhausted, RateLimit},
    outcome::Verdict,
};

pub(super) const NOW: Timestamp = Timestamp::from_millis(1_000_000);

pub(super) fn terms() -> Terms {
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

/// Fails the head at `now`, as soon as it may be tried.
fn fail(lane: &mut Lane, now: Timestamp) -> Vec<Action> {
    lane.step(Input::Time, now);
    send(lane, now);
    let actions = lane.step(outcome(10, Verdict::Failed), now);
    lane.step(Input::Saved(u64::MAX), now);
    actions
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

fn waiting(id: i64, attempts: u32) -> Input {
    let notice = Waiting { id, attempts, due_at: NOW, after_expiry: false, to_receiver: true };
    Input::Waiting { notices: vec![notice], redrives: Vec::new() }
}
