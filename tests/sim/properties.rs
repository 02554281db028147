//! What holds for every history: one function per promise, each over the transcript alone.

use std::collections::{BTreeMap, BTreeSet};

use watchpost::{
    domain::{channel::CatchUp, cursor::Failing, outcome::Verdict},
    engine::machine::UNSAVED_MAX,
};

use crate::{
    ledger::walk,
    transcript::{Event, Transcript},
};

type Kept = Result<(), String>;
type Property = fn(&Transcript) -> Kept;

/// Every promise by its name.
pub const ALL: [(&str, Property); 13] = [
    ("one request in flight, each on its own slot", one_request_in_flight),
    ("in order, nothing skipped", in_order),
    ("the sync first and alone", sync_first_and_alone),
    ("a filter passes what it does not want, and nothing else", filters_are_kept),
    ("only equal events are collapsed, and all of them", only_equal_events_collapse),
    ("once attempted, a notification keeps its number", attempted_keeps_its_number),
    ("no duplicate without a crash, few with one", few_duplicates),
    ("few outcomes ahead of the durable cursor", few_unsaved),
    ("nothing leaves an inactive or expired channel", nothing_leaves_after_the_end),
    ("no retry too early", no_retry_too_early),
    ("attempt numbers rise", attempt_numbers_rise),
    ("every outcome is recorded as it was", honest_records),
    ("after all, everything is terminal and durable", live_at_last),
];

/// Fails with what was found.
macro_rules! ensure {
    ($holds:expr, $($found:tt)+) => {
        if !$holds {
            return Err(format!($($found)+));
        }
    };
}

fn one_request_in_flight(transcript: &Transcript) -> Kept {
    let mut granted = false;
    walk(transcript, |known, line| {
        match &line.event {
            Event::Asked => ensure!(known.flight.is_none(), "asks for a slot beside {:?}", known.flight),
            Event::Sent(request) => {
                ensure!(known.flight.is_none(), "{request:?} leaves beside {:?}", known.flight);
                ensure!(granted, "{request:?} leaves without a slot");
            }
            _ => {}
        }
        granted = matches!(line.event, Event::Granted);
        Ok(())
    })
}

fn in_order(transcript: &Transcript) -> Kept {
    walk(transcript, |known, line| {
        if let Event::Sent(request) = &line.event {
            let (first, through) = (request.send.first, request.through);
            ensure!(first == known.live.settled + 1, "{first} is sent, {} is terminal", known.live.settled);
            ensure!(first <= through && through <= known.head, "{first}..={through} of {}", known.head);
        }
        Ok(())
    })
}

fn sync_first_and_alone(transcript: &Transcript) -> Kept {
    let start_seq = transcript.start_seq;
    let mut settled = false;
    walk(transcript, |known, line| {
        settled |= known.live.settled >= start_seq;
        if let Event::Sent(request) = &line.event {
            ensure!(settled || request.send.first == start_seq, "{request:?} leaves before the sync");
            let alone = request.send.through == start_seq && request.through == start_seq;
            ensure!(request.send.first > start_seq || alone, "{request:?} collapses the sync");
        }
        Ok(())
    })
}

fn filters_are_kept(transcript: &Transcript) -> Kept {
    walk(transcript, |known, line| {
        let wanted = |seq: i64| seq == transcript.start_seq || transcript.kind_of(seq) == known.filter;
        let filtered = known.filter.is_some();
        match &line.event {
            Event::Sent(request) if filtered => {
                let mut run = request.send.first..=request.through;
                ensure!(run.all(wanted), "{request:?} is not wanted");
            }
            Event::Passed(seq) if *seq > known.live.settled => {
                ensure!(filtered, "passes up to {seq} without a filter");
                ensure!(known.flight.is_none(), "passes up to {seq} beside {:?}", known.flight);
                ensure!(known.may_send(line.at), "passes up to {seq} although frozen");
                let mut passed = known.live.settled + 1..=*seq;
                ensure!(!passed.any(wanted), "passes what it wants up to {seq}");
            }
            _ => {}
        }
        Ok(())
    })
}

fn only_equal_events_collapse(transcript: &Transcript) -> Kept {
    walk(transcript, |known, line| {
        let Event::Sent(request) = &line.event else { return Ok(()) };
        let first = request.send.first;
        let kind = transcript.kind_of(first);
        let equal = (first..=request.through).all(|seq| transcript.kind_of(seq) == kind);
        ensure!(equal, "{first}..={} differ", request.through);
        if known.live.attempted.is_none() && first > transcript.start_seq {
            let collapsing = known.terms.as_ref().is_some_and(|terms| terms.catch_up == CatchUp::Latest);
            let offered = if collapsing { known.head } else { first };
            ensure!(request.send.through == offered, "{:?} offered, not {offered}", request.send);
        }
        Ok(())
    })
}

fn attempted_keeps_its_number(transcript: &Transcript) -> Kept {
    walk(transcript, |known, line| {
        if let Event::Sent(request) = &line.event {
            let attempted = known.live.attempted;
            ensure!(request.send.pinned == attempted.is_some(), "{request:?} after {attempted:?}");
            ensure!(attempted.is_none_or(|seq| seq == request.through), "{request:?} after {attempted:?}");
        }
        Ok(())
    })
}

fn few_duplicates(transcript: &Transcript) -> Kept {
    // What the receiver has taken, and what of it crashes have made the lane forget.
    let (mut taken, mut forgotten) = (BTreeSet::<i64>::new(), BTreeSet::<i64>::new());
    walk(transcript, |known, line| {
        match &line.event {
            Event::Sent(request) => {
                let through = request.through;
                let repeats = taken.contains(&through) && !forgotten.contains(&through);
                ensure!(!repeats, "{through} is sent again without a crash");
            }
            Event::Concluded(request, outcome) if outcome.verdict == Verdict::Delivered => {
                taken.insert(request.through);
                forgotten.remove(&request.through);
            }
            Event::Crashed { seen } => {
                taken.extend(known.flight.filter(|_| *seen).map(|request| request.through));
                let before = forgotten.len();
                forgotten.extend(taken.range(known.durable.settled + 1..));
                let more = forgotten.len() - before;
                let bound = usize::try_from(UNSAVED_MAX).unwrap_or(0) + usize::from(*seen);
                ensure!(more <= bound, "one crash makes the lane repeat {more}");
            }
            _ => {}
        }
        Ok(())
    })
}

fn few_unsaved(transcript: &Transcript) -> Kept {
    walk(transcript, |known, line| {
        match &line.event {
            Event::Sent(request) => {
                ensure!(known.untold < UNSAVED_MAX, "{request:?} with {} unsaved", known.untold);
            }
            Event::Unloaded => ensure!(known.untold == 0, "unloaded with {} unsaved", known.untold),
            _ => {}
        }
        Ok(())
    })
}

fn nothing_leaves_after_the_end(transcript: &Transcript) -> Kept {
    walk(transcript, |known, line| {
        if let Event::Sent(request) = &line.event {
            ensure!(known.may_send(line.at), "{request:?} leaves under {:?}", known.terms);
        }
        Ok(())
    })
}

fn no_retry_too_early(transcript: &Transcript) -> Kept {
    walk(transcript, |known, line| {
        if let Event::Sent(request) = &line.event {
            let earliest = known.live.retry_at_ms.unwrap_or(0).max(known.held_until_ms);
            ensure!(line.elapsed_ms >= earliest, "{request:?} leaves before {earliest} ms");
        }
        Ok(())
    })
}

fn attempt_numbers_rise(transcript: &Transcript) -> Kept {
    // The last number of each head that left this node, for which the durable one stands after a crash.
    let mut last: BTreeMap<i64, u32> = BTreeMap::new();
    walk(transcript, |known, line| {
        match &line.event {
            Event::Loaded { .. } => {
                last.clear();
                last.insert(known.durable.settled + 1, known.durable.attempts);
            }
            Event::Concluded(request, outcome) if outcome.verdict != Verdict::Ours => {
                let (first, number) = (request.send.first, request.send.attempt);
                let before = last.insert(first, number).unwrap_or(0);
                ensure!(number > before, "attempt {number} of {first} after {before}");
            }
            Event::Sent(request) => {
                let expected = known.live.attempts + 1;
                ensure!(request.send.attempt == expected, "{request:?} is attempt {expected}");
            }
            _ => {}
        }
        Ok(())
    })
}

fn honest_records(transcript: &Transcript) -> Kept {
    let mut expected = None;
    let mut outcomes = 0;
    let mut last_success_at = None;
    walk(transcript, |known, line| {
        if let Event::Recorded(record) = &line.event {
            let Some(attempt) = expected.take() else { return Err(format!("{record:?} of nothing")) };
            outcomes += 1;
            let place = &known.live;
            ensure!(record.outcome == outcomes, "{record:?} is outcome {outcomes}");
            ensure!(record.attempt == attempt, "{record:?} of attempt {attempt}");
            ensure!(record.seq == place.settled, "{record:?} at {}", place.settled);
            ensure!(record.parked.is_some() == place.parked, "{record:?}, parked: {}", place.parked);
            let Failing { attempts, client_errors, since, due_at, pinned, .. } = &record.failing;
            let failures = (*attempts, *client_errors, *since, *pinned);
            let own = (place.attempts, place.client_errors, place.since, place.attempted);
            ensure!(failures == own, "{record:?} after {own:?}");
            ensure!(due_at.is_some() == (place.attempts > 0), "{record:?} with {} failures", place.attempts);
            ensure!(last_success_at.is_none_or(|at| record.last_success_at == Some(at)), "{record:?}");
            return Ok(());
        }
        ensure!(expected.is_none(), "attempt {expected:?} is not recorded");
        match &line.event {
            Event::Loaded { .. } => (outcomes, last_success_at) = (0, None),
            Event::Concluded(request, outcome) if outcome.verdict != Verdict::Ours => {
                expected = Some(request.send.attempt);
                if outcome.verdict == Verdict::Delivered {
                    last_success_at = Some(line.at);
                }
            }
            _ => {}
        }
        Ok(())
    })
}

fn live_at_last(transcript: &Transcript) -> Kept {
    let head = transcript.head();
    let mut rests = 0;
    walk(transcript, |known, line| {
        if matches!(line.event, Event::Rested) {
            rests += 1;
            if known.may_send(line.at) {
                ensure!(known.live.settled == head, "{} is terminal, {head} is the head", known.live.settled);
                ensure!(known.durable == known.live, "{:?} is durable, not {:?}", known.durable, known.live);
            } else {
                ensure!(rests == 1, "the channel did not come back to life");
            }
        }
        Ok(())
    })?;
    ensure!(rests == 2, "{rests} rests");
    Ok(())
}
