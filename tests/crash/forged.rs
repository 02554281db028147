//! The checker, tested on forged histories: an honest one passes, and each single lie is caught by its rule.

use std::collections::BTreeMap;

use crate::{
    checker::{Rule, check},
    history::{Answer, Attempt, Channel, End, Event, Fate, FeedEvent, History, Publish, Request, Stop},
};

const RESOURCE: &str = "orders/1";
const OK: Answer = Answer::Status(200);
const DOWN: Answer = Answer::Status(503);

fn event(n: i64) -> Event {
    Event { id: format!("e{n}"), resource: RESOURCE.to_owned(), data: format!("{{\"n\": {n}}}") }
}

fn request(incarnation: usize, channel: &str, number: i64, attempt: u32, answer: Answer) -> Request {
    let (full, seq) = (channel == "full", number - 1);
    Request {
        incarnation,
        channel: channel.to_owned(),
        number,
        seq,
        attempt,
        previous: (number > 1).then_some(number - 1),
        event: (number > 1).then(|| event(seq).id),
        data: (full && number > 1).then(|| event(seq).data),
        signed: full,
        token: usize::from(incarnation > 0),
        fault: None,
        answer,
    }
}

/// Twelve events, the last of them a batch of two; a refused and an unknown publish; two kills and an orderly
/// stop; failures; the most that kills may repeat; a third channel that is stopped early.
fn honest() -> History {
    let single = |n: i64| Publish { publisher: 0, events: vec![event(n)], fate: Fate::Acknowledged(vec![n]) };
    let mut publishes: Vec<Publish> = (1..=10).map(single).collect();
    publishes.push(Publish {
        publisher: 1,
        events: vec![event(11), event(12)],
        fate: Fate::Acknowledged(vec![11, 12]),
    });
    publishes.push(Publish { publisher: 1, events: vec![event(90)], fate: Fate::Refused });
    publishes.push(Publish { publisher: 1, events: vec![event(91), event(92)], fate: Fate::Unknown });
    let channel = |id: &str, stop| Channel {
        id: id.to_owned(),
        resource: RESOURCE.to_owned(),
        full: id == "full",
        start: Some(0),
        tokens: vec![0, 0],
        stop,
    };
    let mut requests = Vec::new();
    for channel in ["full", "thin"] {
        let mut send = |process, number, attempt, answer| {
            requests.push(request(process, channel, number, attempt, answer));
        };
        (1..=4).for_each(|number| send(0, number, 1, OK));
        send(0, 5, 1, DOWN);
        send(0, 5, 2, Answer::Reset);
        send(0, 5, 3, OK);
        send(0, 6, 1, OK);
        send(0, 7, 1, OK);
        // Killed with four unsaved and one in flight.
        (3..=8).for_each(|number| send(1, number, 1, OK));
        // Killed at once after that: the durable place has not moved.
        (4..=10).for_each(|number| send(2, number, 1, OK));
        // Stopped in order.
        (11..=13).for_each(|number| send(3, number, 1, OK));
    }
    requests.push(request(0, "brief", 1, 1, OK));
    requests.push(request(0, "brief", 2, 1, DOWN));
    let stop = Stop { incarnation: 0, requests: requests.len() };
    // In flight when its end was acknowledged.
    requests.push(request(0, "brief", 2, 2, OK));
    let mut ledgers: BTreeMap<String, Vec<Attempt>> = BTreeMap::new();
    for request in &requests {
        ledgers.entry(request.channel.clone()).or_default().push(Attempt {
            number: request.number,
            attempt: request.attempt,
            status: request.answer.status(),
        });
    }
    // What the first kill cut off.
    ledgers.get_mut("full").unwrap().drain(4..9);
    let feed = (1..=12).map(|seq| FeedEvent { seq, id: event(seq).id }).collect();
    History {
        ends: vec![End::Killed, End::Killed, End::Stopped, End::Stopped],
        publishes,
        channels: vec![channel("full", None), channel("thin", None), channel("brief", Some(stop))],
        requests,
        feeds: BTreeMap::from([(RESOURCE.to_owned(), feed)]),
        ledgers,
    }
}

/// The honest history with one lie in it breaks this rule.
#[track_caller]
fn caught(rule: Rule, lie: impl FnOnce(&mut History)) {
    let mut history = honest();
    lie(&mut history);
    let (violations, _) = check(&history);
    assert!(
        violations.iter().any(|violation| violation.rule == rule),
        "{rule:?} is not among {violations:#?}"
    );
}

/// The place of a request of the channel `full`.
fn at(history: &History, incarnation: usize, number: i64) -> usize {
    let is_it = |request: &Request| {
        request.channel == "full" && request.incarnation == incarnation && request.number == number
    };
    history.requests.iter().position(is_it).unwrap()
}

fn feed(history: &mut History) -> &mut Vec<FeedEvent> {
    history.feeds.get_mut(RESOURCE).unwrap()
}

fn ledger(history: &mut History) -> &mut Vec<Attempt> {
    history.ledgers.get_mut("full").unwrap()
}

#[test]
fn an_honest_history_passes() {
    let (violations, figures) = check(&honest());
    assert!(violations.is_empty(), "{violations:#?}");
    assert_eq!((figures.acknowledged, figures.unknown, figures.delivered), (12, 1, 28));
    assert_eq!((figures.duplicates, figures.repeats_most, figures.not_in_ledger), (20, 5, 5));
}

#[test]
fn a_request_read_late_is_no_lie() {
    let mut history = honest();
    // The last words of the killed process are read after the first ones of its successor.
    let (late, early) = (at(&history, 0, 7), at(&history, 1, 3));
    history.requests.swap(late, early);
    assert!(check(&history).0.is_empty());
}

#[test]
fn what_an_unknown_publish_did_once_is_no_lie() {
    let mut history = honest();
    feed(&mut history).extend([91, 92].map(|n| FeedEvent { seq: n - 78, id: event(n).id }));
    assert!(check(&history).0.is_empty());
}

#[test]
fn a_lost_acknowledgement() {
    caught(Rule::AcknowledgedIsStored, |history| drop(feed(history).pop()));
    caught(Rule::AcknowledgedIsStored, |history| {
        feed(history).swap(3, 4);
        (feed(history)[3].seq, feed(history)[4].seq) = (4, 5);
    });
}

#[test]
fn an_event_that_never_arrived() {
    caught(Rule::AcknowledgedIsDelivered, |history| {
        let last = at(history, 3, 13);
        history.requests.remove(last);
    });
    caught(Rule::AcknowledgedIsDelivered, |history| {
        let last = at(history, 3, 13);
        history.requests[last].answer = DOWN;
    });
    caught(Rule::AcknowledgedIsDelivered, |history| {
        history.requests.retain(|request| request.channel != "thin");
    });
}

#[test]
fn phantoms() {
    caught(Rule::NoPhantom, |history| feed(history)[4].id = "nobody".to_owned());
    caught(Rule::NoPhantom, |history| {
        history.requests.push(request(3, "stranger", 1, 1, OK));
    });
    caught(Rule::NoPhantom, |history| {
        let one = at(history, 3, 12);
        history.requests[one].event = Some("nobody".to_owned());
    });
    caught(Rule::RefusedIsNothing, |history| {
        feed(history).push(FeedEvent { seq: 13, id: event(90).id });
    });
}

#[test]
fn twice_or_by_half() {
    caught(Rule::OncePerId, |history| feed(history).push(FeedEvent { seq: 13, id: event(2).id }));
    caught(Rule::BatchIsAtomic, |history| feed(history).push(FeedEvent { seq: 13, id: event(91).id }));
}

#[test]
fn a_log_with_a_hole_or_out_of_order() {
    caught(Rule::LogIsDense, |history| feed(history)[11].seq = 13);
    caught(Rule::PublisherOrder, |history| history.publishes.swap(2, 3));
}

#[test]
fn a_message_left_out_or_sent_too_early() {
    caught(Rule::Order, |history| {
        let one = at(history, 2, 6);
        history.requests.remove(one);
    });
    caught(Rule::Order, |history| {
        // n + 1 although n failed.
        let one = at(history, 2, 9);
        history.requests[one].answer = DOWN;
    });
    caught(Rule::Order, |history| {
        // The successor begins too far ahead.
        let one = at(history, 3, 11);
        history.requests.remove(one);
    });
    caught(Rule::FirstSuccessesRise, |history| {
        let one = at(history, 3, 12);
        history.requests[one].answer = Answer::Reset;
    });
}

#[test]
fn repetitions_that_no_kill_explains() {
    caught(Rule::NoDuplicate, |history| {
        let one = at(history, 3, 12);
        let twice = history.requests[one].clone();
        history.requests.insert(one, twice);
    });
    caught(Rule::NoDuplicate, |history| {
        let one = at(history, 3, 11);
        history.requests.insert(one, request(3, "full", 10, 1, OK));
    });
}

#[test]
fn a_kill_that_repeats_too_much() {
    caught(Rule::RepeatsAreBounded, |history| {
        let one = at(history, 1, 3);
        history.requests.insert(one, request(1, "full", 2, 1, OK));
    });
    caught(Rule::RepeatsAreBounded, |history| {
        // Behind where the killed process itself began.
        let one = at(history, 2, 4);
        history.requests.splice(one..one, [2, 3].map(|number| request(2, "full", number, 1, OK)));
    });
}

#[test]
fn what_a_request_says_wrongly() {
    fn spoilt(rule: Rule, spoil: impl FnOnce(&mut Request)) {
        caught(rule, |history| {
            let one = at(history, 2, 7);
            spoil(&mut history.requests[one]);
        });
    }
    spoilt(Rule::NumberIsSeq, |request| request.seq = 9);
    spoilt(Rule::RightEvent, |request| request.event = Some("e3".to_owned()));
    spoilt(Rule::RightEvent, |request| request.event = None);
    spoilt(Rule::RightPayload, |request| request.data = Some("{\"n\":6}".to_owned()));
    spoilt(Rule::RightPayload, |request| request.data = None);
    spoilt(Rule::Signed, |request| request.signed = false);
    spoilt(Rule::PreviousIsBefore, |request| request.previous = Some(5));
    spoilt(Rule::PreviousIsBefore, |request| request.previous = None);
    spoilt(Rule::AttemptsCount, |request| request.attempt = 2);
    spoilt(Rule::WellFormed, |request| request.fault = Some("no Content-Length".to_owned()));
    spoilt(Rule::ChangesLast, |request| request.token = 0);
}

#[test]
fn a_stop_that_did_not_last() {
    caught(Rule::StopsLast, |history| history.requests.push(request(1, "brief", 3, 1, OK)));
    caught(Rule::StopsLast, |history| history.requests.push(request(0, "brief", 3, 1, OK)));
}

#[test]
fn a_ledger_that_lacks_or_invents() {
    // So long before the kill it had to be durable.
    caught(Rule::LedgerIsComplete, |history| {
        ledger(history).remove(0);
    });
    // A process that was stopped in order leaves nothing out.
    caught(Rule::LedgerIsComplete, |history| {
        ledger(history).pop();
    });
    caught(Rule::LedgerIsTrue, |history| {
        let last = *ledger(history).last().unwrap();
        ledger(history).push(last);
    });
    caught(Rule::LedgerIsTrue, |history| ledger(history)[1].status = None);
}
