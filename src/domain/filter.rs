//! Which events a channel wants: globs over their names.
//!
//! `*` stands for one segment, a last `**` for any number of them: `calendar.event.*`, `calendar.**`. Read when a
//! channel is opened or changed, evaluated by the engine before it sends and by the app when it tells where an event
//! went: both must come to the same.

use super::{
    event::{Event, NAME_BYTES_MAX},
    invalid::Invalid,
};

pub const GLOBS_MAX: usize = 16;

/// A channel's filter. Equal filters are evaluated once per event.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EventFilter {
    globs: Vec<String>,
}

impl EventFilter {
    /// `None`: everything is wanted. `globs` were checked when they were written.
    pub fn new(globs: &[String]) -> Option<Self> {
        (!globs.is_empty()).then(|| Self { globs: globs.to_vec() })
    }

    pub fn matches(&self, event: &Event) -> bool {
        self.globs.iter().any(|glob| glob_matches(glob, &event.name))
    }
}

/// `events`: up to 16 globs, each a name whose segments may be `*` and whose last may be `**`.
pub fn check_globs(globs: &[String]) -> Result<(), (usize, Invalid)> {
    if globs.len() > GLOBS_MAX {
        return Err((GLOBS_MAX, Invalid::TooMany { max: GLOBS_MAX }));
    }
    globs.iter().enumerate().try_for_each(|(at, glob)| check_glob(glob).map_err(|invalid| (at, invalid)))
}

fn check_glob(glob: &str) -> Result<(), Invalid> {
    if glob.len() > NAME_BYTES_MAX {
        return Err(Invalid::TooLong { max: NAME_BYTES_MAX, unit: "characters" });
    }
    let is_word = |word: &str| {
        !word.is_empty()
            && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
    };
    let mut segments = glob.split('.').peekable();
    while let Some(segment) = segments.next() {
        let any_rest = segment == "**" && segments.peek().is_none();
        if !(is_word(segment) || segment == "*" || any_rest) {
            return Err(Invalid::Rule(
                "be event names in which a segment may be * and the last one **, such as calendar.event.*",
            ));
        }
    }
    Ok(())
}

fn glob_matches(glob: &str, name: &str) -> bool {
    let mut words = name.split('.');
    for segment in glob.split('.') {
        match (segment, words.next()) {
            ("**", _) => return true,
            ("*", Some(_)) => {}
            (segment, Some(word)) if segment == word => {}
            _ => return false,
        }
    }
    words.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs_match_by_segment() {
        for (glob, name, matches) in [
            ("calendar.event.created", "calendar.event.created", true),
            ("calendar.event.*", "calendar.event.created", true),
            ("calendar.event.*", "calendar.event", false),
            ("calendar.event.*", "calendar.event.created.twice", false),
            ("*.event.created", "drive.event.created", true),
            ("calendar.**", "calendar.event.created", true),
            ("calendar.**", "calendar", true),
            ("**", "a.b", true),
            ("calendar.**", "calendars.event", false),
        ] {
            assert_eq!(glob_matches(glob, name), matches, "{glob} {name}");
        }
    }

    #[test]
    fn what_is_no_glob_is_refused() {
        let one = |glob: &str| check_globs(&[glob.to_owned()]);
        for good in ["a.b", "a.*", "*.b", "a.**", "**", "*"] {
            assert_eq!(one(good), Ok(()), "{good}");
        }
        for bad in ["", "a..b", "a.b*", "**.b", "a.***", "a b.c", "é.b", &"a".repeat(129)] {
            assert!(one(bad).is_err(), "{bad}");
        }
        assert!(check_globs(&vec!["a.b".to_owned(); GLOBS_MAX + 1]).is_err());
    }
}
