use super::*;

fn event(id: &str, given: Option<u8>, resources: &[&str]) -> NewEvent {
    NewEvent {
        id: id.into(),
        given: given.map(|byte| [byte; 32]),
        resources: resources.iter().map(|path| ResourcePath::parse(path).unwrap()).collect(),
        name: "a.b".into(),
        state: "exists".into(),
        changed: None,
        payload: None,
    }
}

fn publish(events: Vec<NewEvent>, key: Option<(&str, u8)>) -> Publish {
    let idempotency = key.map(|(key, byte)| (key.to_owned(), [byte; 32]));
    Publish { project: "p".into(), events, idempotency, now: Timestamp::default() }
}

fn run(publishes: &[Publish], stored: &HashMap<Key, Stored>) -> Placement {
    let resolution = resolve(publishes, stored);
    let heads = resolution
        .resources()
        .into_iter()
        .enumerate()
        .map(|(at, (project, path))| {
            ((project.to_owned(), path.as_str().to_owned()), (ResourceKey(i64::try_from(at).unwrap()), 10))
        })
        .collect();
    resolution.place(&heads).unwrap()
}

fn seqs(outcome: &PublishOutcome) -> Vec<i64> {
    let PublishOutcome::Accepted(placed) = outcome else { panic!("{outcome:?}") };
    placed.iter().map(|placed| placed.seq).collect()
}

#[test]
fn seqs_are_dense_per_resource_over_the_whole_batch() {
    let placement = run(
        &[
            publish(vec![event("1", None, &["x"]), event("2", None, &["x", "y"])], None),
            publish(vec![event("3", None, &["x"])], None),
        ],
        &HashMap::new(),
    );
    assert_eq!(seqs(&placement.outcomes[0]), [11, 12, 11]);
    assert_eq!(seqs(&placement.outcomes[1]), [13]);
    let raised: Vec<_> = placement.heads.values().map(|raised| (raised.from, raised.to)).collect();
    assert_eq!(raised, [(10, 13), (10, 11)]);
    assert!(placement.answers.is_empty());
}

#[test]
fn an_event_without_a_place_fails_the_batch() {
    let publishes = [publish(vec![event("1", None, &["x", "y"])], None)];
    let heads = HashMap::from([(("p".to_owned(), "x".to_owned()), (ResourceKey(1), 10))]);
    assert!(resolve(&publishes, &HashMap::new()).place(&heads).is_none());
}

#[test]
fn repeats_within_a_batch_get_the_first_answer() {
    let placement = run(
        &[
            publish(vec![event("id", Some(1), &["x"])], Some(("k", 1))),
            publish(vec![event("id", Some(1), &["x"])], Some(("k", 1))),
            publish(vec![event("id", Some(1), &["x"]), event("new", None, &["x"])], None),
            publish(vec![event("id", Some(2), &["x"])], None),
            publish(vec![event("z", None, &["x"])], Some(("k", 2))),
        ],
        &HashMap::new(),
    );
    assert_eq!(placement.outcomes[1], placement.outcomes[0]);
    assert_eq!(seqs(&placement.outcomes[2]), [11, 12]);
    assert_eq!(placement.outcomes[3], PublishOutcome::IdConflict { event: 0 });
    assert_eq!(placement.outcomes[4], PublishOutcome::KeyConflict);
    assert_eq!(placement.events.len(), 2);
    assert_eq!(placement.answers.len(), 2, "one for the id, one for the key");
}

#[test]
fn a_refused_publish_claims_nothing() {
    let stored =
        HashMap::from([(Key::of_event("p", "old"), Stored { fingerprint: vec![9; 32], answer: Vec::new() })]);
    let placement = run(
        &[
            publish(vec![event("fresh", Some(1), &["x"]), event("old", Some(1), &["x"])], Some(("k", 1))),
            publish(vec![event("fresh", Some(2), &["x"])], Some(("k", 2))),
        ],
        &stored,
    );
    assert_eq!(placement.outcomes[0], PublishOutcome::IdConflict { event: 1 });
    assert_eq!(seqs(&placement.outcomes[1]), [11]);
}

#[test]
fn an_id_twice_in_one_publish_is_one_event() {
    let placement = run(
        &[publish(vec![event("id", Some(1), &["x"]), event("id", Some(1), &["x"])], None)],
        &HashMap::new(),
    );
    assert_eq!(seqs(&placement.outcomes[0]), [11, 11]);
    assert_eq!(placement.events.len(), 1);
}
