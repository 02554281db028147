//! Globs over event names: an event's name in the first line, a glob in each further one. They match as the plainest
//! reading of their rule says.

use watchpost::domain::{
    event::{Event, check_name},
    filter::{EventFilter, GLOBS_MAX, Selection, check_globs},
    resource::ResourcePath,
    time::Timestamp,
};

pub fn check(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let (name, globs) = text.split_once('\n').unwrap_or((text, ""));
    let globs: Vec<String> = globs.split('\n').filter(|glob| !glob.is_empty()).map(str::to_owned).collect();
    let are_globs = check_globs(&globs).is_ok();
    assert!(
        !are_globs || globs.len() <= GLOBS_MAX && globs.iter().all(|glob| glob.len() <= 128),
        "{globs:?}"
    );

    // A row may be older than a rule, so what is no glob must be taken as well.
    let selection = Selection { events: globs.clone(), ..Selection::default() };
    let path = ResourcePath::from_stored("a/b".to_owned());
    let Some(filter) = EventFilter::new(selection, &path) else {
        assert!(globs.is_empty());
        return;
    };
    let event = Event {
        seq: 1,
        id: "e".to_owned(),
        name: name.to_owned(),
        state: "exists".to_owned(),
        changed: None,
        payload: None,
        published_at: Timestamp::default(),
    };
    let matches = filter.matches(&event);
    if are_globs && check_name(name).is_ok() {
        let name: Vec<&str> = name.split('.').collect();
        let expected = globs.iter().any(|glob| is_like(&glob.split('.').collect::<Vec<_>>(), &name));
        assert_eq!(matches, expected, "{globs:?} and {name:?}");
    }
}

/// `*` is one segment, `**` any number of them, everything else itself.
fn is_like(glob: &[&str], name: &[&str]) -> bool {
    match (glob, name) {
        ([], rest) => rest.is_empty(),
        (["**", glob @ ..], name) => (0..=name.len()).any(|skipped| is_like(glob, &name[skipped..])),
        ([segment, glob @ ..], [word, name @ ..]) => {
            (*segment == "*" || segment == word) && is_like(glob, name)
        }
        ([..], []) => false,
    }
}
