use super::*;
use crate::outbound::EgressPolicy;

fn origin(name: &str) -> Origin {
    Origin::named(name)
}

fn drain(slots: &mut Slots) -> Vec<(Slot, ChannelKey)> {
    std::iter::from_fn(|| slots.next(Duration::ZERO)).collect()
}

#[test]
fn a_full_origin_stops_nobody_else() {
    let mut slots = Slots::new(64, None);
    for key in 0..100 {
        slots.ask(&origin("busy"), ChannelKey(key), Line::Quick);
    }
    slots.ask(&origin("idle"), ChannelKey(1_000), Line::Quick);
    let granted = drain(&mut slots);
    assert_eq!(granted.len(), 17, "16 of the busy one's window, and the idle one");
    assert_eq!(granted[1].1, ChannelKey(1_000), "origins take turns");
    slots.release(&granted[0].0, Feedback::Healthy);
    assert_eq!(
        slots.next(Duration::ZERO).map(|(_, key)| key),
        Some(ChannelKey(16)),
        "first come, first served"
    );
    assert_eq!(slots.next(Duration::ZERO), None);
}

#[test]
fn windows_grow_slowly_and_halve_at_once() {
    let mut slots = Slots::new(20, None);
    let host = origin("h");
    for key in 0..10_000 {
        slots.ask(&host, ChannelKey(key), Line::Quick);
    }
    let mut granted = drain(&mut slots);
    assert_eq!(granted.len(), 16);
    for (slot, _) in granted.drain(..) {
        slots.release(&slot, Feedback::Overloaded);
    }
    granted = drain(&mut slots);
    assert_eq!(granted.len(), 1, "never below one");
    for _ in 0..2_000 {
        let (slot, _) = granted.remove(0);
        slots.release(&slot, Feedback::Healthy);
        granted.extend(drain(&mut slots));
    }
    assert_eq!((granted.len(), slots.in_flight()), (20, 20), "and never above the limit");
}

#[test]
fn the_global_limit_holds() {
    let mut slots = Slots::new(64, None);
    for key in 0..2_000 {
        slots.ask(&origin(&format!("h{key}")), ChannelKey(key), Line::Quick);
    }
    let granted = drain(&mut slots);
    assert_eq!(granted.len(), GLOBAL_MAX);
    slots.release(&granted[0].0, Feedback::Healthy);
    assert!(slots.next(Duration::ZERO).is_some());
}

#[test]
fn those_that_stall_leave_room_for_those_that_answer() {
    let mut slots = Slots::new(16, None);
    for key in 0..5_000 {
        slots.ask(&origin(&format!("h{}", key % 200)), ChannelKey(key), Line::Slow);
    }
    assert_eq!(drain(&mut slots).len(), GLOBAL_SLOW_MAX, "not all there is");
    for key in 5_000..5_100 {
        slots.ask(&origin(&format!("h{}", key % 200)), ChannelKey(key), Line::Quick);
    }
    assert_eq!(drain(&mut slots).len(), 100, "also at the same origins");
}

#[test]
fn an_origin_has_its_limit_over_both_lines_and_a_window_for_each() {
    let mut slots = Slots::new(16, None);
    let host = origin("h");
    for key in 0..100 {
        let line = if key % 2 == 0 { Line::Slow } else { Line::Quick };
        slots.ask(&host, ChannelKey(key), line);
    }
    let granted = drain(&mut slots);
    assert_eq!(granted.len(), 16);
    for (slot, _) in granted {
        let feedback = if slot.line == Line::Slow { Feedback::Overloaded } else { Feedback::Healthy };
        slots.release(&slot, feedback);
    }
    let lines = drain(&mut slots).into_iter().map(|(slot, _)| slot.line);
    let quick = lines.filter(|line| *line == Line::Quick).count();
    assert_eq!((quick, slots.in_flight()), (15, 16), "overload is told of those that cause it");
}

#[test]
fn a_destination_has_its_pace_over_all_its_origins_and_nobody_loses_a_turn() {
    let mut slots = Slots::new(64, NonZeroU32::new(2));
    let policy = EgressPolicy::default();
    let of = |host: &str| policy.judge(&format!("https://{host}/")).unwrap().origin().clone();
    let hosts = ["a.victim.com", "b.victim.com", "c.victim.com"].map(of);
    for key in 0..9 {
        slots.ask(&hosts[usize::try_from(key % 3).unwrap()], ChannelKey(key), Line::Quick);
    }
    slots.ask(&of("shop.com"), ChannelKey(100), Line::Quick);
    slots.ask(&origin("opened by the operator"), ChannelKey(101), Line::Quick);
    let mut now = Duration::from_hours(1);
    let drain = |slots: &mut Slots, now| {
        std::iter::from_fn(|| slots.next(now)).map(|(_, key)| key.0).collect::<Vec<_>>()
    };
    assert_eq!(drain(&mut slots, now), [0, 1, 100, 101], "a burst, and who goes elsewhere");
    let mut left = Vec::new();
    let start = now;
    while let Some(until) = slots.paused_until() {
        now = until;
        left.extend(
            drain(&mut slots, now).into_iter().map(|key| (key, now.saturating_sub(start).as_millis())),
        );
    }
    let times: Vec<u128> = left.iter().map(|(_, at)| *at).collect();
    assert_eq!(times, [500, 1_000, 1_500, 2_000, 2_500, 3_000, 3_500]);
    let mut keys: Vec<i64> = left.iter().map(|(key, _)| *key).collect();
    keys.sort_unstable();
    assert_eq!(keys, [2, 3, 4, 5, 6, 7, 8]);
}

#[test]
fn names_that_lead_to_one_address_share_its_pace() {
    let mut slots = Slots::new(64, NonZeroU32::new(1));
    let policy = EgressPolicy::default();
    let of = |host: &str| policy.judge(&format!("https://{host}/")).unwrap().origin().clone();
    let (one, two) = (of("one.com"), of("two.com"));
    let now = Duration::from_hours(1);
    for (host, key) in [(&one, 1), (&two, 2)] {
        slots.ask(host, ChannelKey(key), Line::Quick);
        assert!(slots.next(now).is_some());
        slots.learn(host, &Destination::of_ip([8, 8, 8, 8].into()));
    }
    let now = now + Duration::from_secs(10);
    slots.ask(&one, ChannelKey(3), Line::Quick);
    slots.ask(&two, ChannelKey(4), Line::Quick);
    assert!(slots.next(now).is_some() && slots.next(now).is_none());
    assert_eq!(slots.paused_until(), Some(now + Duration::from_secs(1)));
    for host in [&one, &two] {
        slots.learn(host, &Destination::Inside);
    }
    slots.ask(&one, ChannelKey(5), Line::Quick);
    assert!(slots.next(now).is_some(), "the operator has opened what it leads to");
}
