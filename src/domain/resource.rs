//! Resources: what can be watched, named by a canonical path.
//!
//! Both faces name a resource by the same path, so `calendar/v3/calendars/a%20b@x/events` and `…/a b@x/events`
//! must be one resource: each segment is percent-decoded and encoded again in one form.

use std::fmt;

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use sha2::{Digest, Sha256};

use super::invalid::Invalid;

pub const PATH_BYTES_MAX: usize = 1_024;
pub const SEGMENTS_MAX: usize = 32;

/// Paths under this segment are Watchpost's own: nobody publishes there.
pub const OWN_NAMESPACE: &str = "watchpost";
/// Where a project hears of its channels.
pub const OWN_CHANNELS: &str = "watchpost/channels";

/// RFC 3986 `pchar` stays as it is, everything else is encoded.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b'!')
    .remove(b'$')
    .remove(b'&')
    .remove(b'\'')
    .remove(b'(')
    .remove(b')')
    .remove(b'*')
    .remove(b'+')
    .remove(b',')
    .remove(b';')
    .remove(b'=')
    .remove(b':')
    .remove(b'@');

/// A canonical resource path: no leading slash, no query, no trailing `watch`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ResourcePath(String);

impl ResourcePath {
    /// Reads a path as a publisher or a watch request writes it.
    pub fn parse(written: &str) -> Result<Self, Invalid> {
        if written.is_empty() {
            return Err(Invalid::Rule("not be empty"));
        }
        if written.starts_with('/') {
            return Err(Invalid::Rule("not begin with a slash"));
        }
        if written.contains(['?', '#']) {
            return Err(Invalid::Rule("be a path without query or fragment"));
        }
        let segments = written.split('/').map(decode_segment).collect::<Result<Vec<_>, _>>()?;
        if segments.len() > SEGMENTS_MAX {
            return Err(Invalid::TooMany { max: SEGMENTS_MAX });
        }
        if segments.last().is_some_and(|last| last == "watch") {
            return Err(Invalid::Rule("name the resource without a trailing /watch"));
        }
        Self(join(&segments)).bounded()
    }

    /// Reads a path with the aliases of `subject`: what every request of that subject names.
    pub fn parse_for(written: &str, subject: &str) -> Result<Self, Invalid> {
        // The subject may be longer than its alias.
        Self::parse(written)?.resolve_aliases(subject).bounded()
    }

    fn bounded(self) -> Result<Self, Invalid> {
        if self.0.len() > PATH_BYTES_MAX {
            return Err(Invalid::TooLong { max: PATH_BYTES_MAX, unit: "bytes" });
        }
        Ok(self)
    }

    /// A path that was canonical when it was stored.
    pub fn from_stored(path: String) -> Self {
        Self(path)
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn segments(&self) -> impl Iterator<Item = &str> {
        self.0.split('/')
    }

    /// The resource on which a project hears of its channels.
    pub fn own_channels() -> Self {
        Self(OWN_CHANNELS.to_owned())
    }

    /// Whether the path lies in Watchpost's own namespace.
    pub fn is_own(&self) -> bool {
        self.segments().next() == Some(OWN_NAMESPACE)
    }

    /// Replaces Google's aliases by the subject they mean: `calendars/primary` and `users/me`.
    #[must_use]
    pub fn resolve_aliases(&self, subject: &str) -> Self {
        let own = encode_segment(subject);
        let mut previous = "";
        let mut segments = Vec::new();
        for segment in self.segments() {
            let alias = matches!((previous, segment), ("calendars", "primary") | ("users", "me"));
            segments.push(if alias { own.as_str() } else { segment });
            previous = segment;
        }
        Self(segments.join("/"))
    }

    /// The stable opaque id: 27 base64url characters (20 bytes) from project and canonical path.
    pub fn resource_id(&self, project: &str) -> String {
        let mut hash = Sha256::new();
        hash.update(project.len().to_be_bytes());
        hash.update(project);
        hash.update(&self.0);
        let mut id = BASE64_URL_SAFE_NO_PAD.encode(hash.finalize());
        id.truncate(27);
        id
    }

    /// Which of 256 shards the resource belongs to, for the day when several nodes deliver.
    pub fn shard(&self, project: &str) -> i16 {
        let mut hash = Sha256::new();
        hash.update(project);
        hash.update([0]);
        hash.update(&self.0);
        i16::from(hash.finalize()[0])
    }
}

impl fmt::Display for ResourcePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A pattern of a token's `resources` claim: `*` is one segment, a last `**` is any rest (also none), and
/// `{subject}` is the token's subject, never a wildcard itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResourcePattern(Vec<PatternSegment>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum PatternSegment {
    Is(String),
    Any,
    Rest,
}

impl ResourcePattern {
    pub fn parse(pattern: &str, subject: &str) -> Self {
        let own = encode_segment(subject);
        let literal = |segment: &str| {
            let written = segment.replace("{subject}", &own);
            decode_segment(&written).map_or(written, |plain| encode_segment(&plain))
        };
        let segments = pattern.trim_start_matches('/').split('/').map(|segment| match segment {
            "*" => PatternSegment::Any,
            "**" => PatternSegment::Rest,
            _ => PatternSegment::Is(literal(segment)),
        });
        Self(segments.collect())
    }

    pub fn matches(&self, path: &ResourcePath) -> bool {
        let mut segments = path.segments();
        for (index, wanted) in self.0.iter().enumerate() {
            match (wanted, segments.next()) {
                (PatternSegment::Rest, _) if index + 1 == self.0.len() => return true,
                (PatternSegment::Any | PatternSegment::Rest, Some(_)) => {}
                (PatternSegment::Is(literal), Some(segment)) if literal == segment => {}
                _ => return false,
            }
        }
        segments.next().is_none()
    }
}

fn decode_segment(segment: &str) -> Result<String, Invalid> {
    let bytes = segment.as_bytes();
    let well_formed = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'%').all(|(at, _)| {
        bytes.get(at + 1..at + 3).is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    });
    if !well_formed {
        return Err(Invalid::Rule("use % only before two hex digits"));
    }
    let plain = percent_decode_str(segment)
        .decode_utf8()
        .map_err(|_| Invalid::Rule("be UTF-8 once percent-decoded"))?;
    if plain.is_empty() || plain == "." || plain == ".." {
        return Err(Invalid::Rule("have no empty, . or .. segment"));
    }
    if plain.chars().any(char::is_control) {
        return Err(Invalid::Rule("contain no control characters"));
    }
    Ok(plain.into_owned())
}

fn encode_segment(plain: &str) -> String {
    utf8_percent_encode(plain, SEGMENT).to_string()
}

fn join(segments: &[String]) -> String {
    segments.iter().map(|segment| encode_segment(segment)).collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(written: &str) -> ResourcePath {
        ResourcePath::parse(written).unwrap()
    }

    #[test]
    fn one_resource_has_one_spelling() {
        let canonical = path("calendar/v3/calendars/a%20b@x/events");
        for written in ["calendar/v3/calendars/a b@x/events", "calendar/v3/calendars/%61%20b%40x/events"] {
            assert_eq!(path(written), canonical);
        }
        assert_eq!(canonical.as_str(), "calendar/v3/calendars/a%20b@x/events");
        assert_eq!(path("a/b%2Fc").as_str(), "a/b%2Fc", "an encoded slash stays inside its segment");
        assert_eq!(path(canonical.as_str()), canonical, "canonical is a fixed point");
    }

    #[test]
    fn refuses_what_names_nothing() {
        for written in [
            "",
            "/a",
            "a//b",
            "a/",
            "a/../b",
            "a/%2e%2e/b",
            "a?b",
            "a#b",
            "a/%zz",
            "a/%f",
            "a/%ff",
            "a/%00",
            "a/\u{7}",
            "a/watch",
            "a/%77atch",
        ] {
            assert!(ResourcePath::parse(written).is_err(), "{written:?}");
        }
        assert!(ResourcePath::parse(&"a".repeat(PATH_BYTES_MAX + 1)).is_err());
        assert!(ResourcePath::parse(&"a/".repeat(SEGMENTS_MAX)).is_err());
    }

    #[test]
    fn aliases_mean_the_subject() {
        assert_eq!(
            path("calendar/v3/calendars/primary/events").resolve_aliases("a@x").as_str(),
            "calendar/v3/calendars/a@x/events"
        );
        assert_eq!(
            path("calendar/v3/users/me/settings").resolve_aliases("a/b").as_str(),
            "calendar/v3/users/a%2Fb/settings"
        );
        assert_eq!(path("drive/v3/files/primary").resolve_aliases("a").as_str(), "drive/v3/files/primary");
    }

    #[test]
    fn resource_ids_are_stable_opaque_and_of_one_project() {
        let resource = path("drive/v3/changes");
        assert_eq!(resource.resource_id("p").len(), 27);
        assert_eq!(resource.resource_id("p"), path("drive/v3/changes").resource_id("p"));
        assert_ne!(resource.resource_id("p"), resource.resource_id("q"));
        assert_ne!(path("b").resource_id("a"), path("ab").resource_id(""), "lengths are bound in");
    }

    #[test]
    fn patterns_match_by_segment() {
        let pattern = ResourcePattern::parse("calendar/v3/calendars/{subject}/**", "a b@x");
        assert!(pattern.matches(&path("calendar/v3/calendars/a b@x/events")));
        assert!(!pattern.matches(&path("calendar/v3/calendars/other/events")));
        assert!(ResourcePattern::parse("drive/*/changes", "s").matches(&path("drive/v3/changes")));
        assert!(!ResourcePattern::parse("drive/*", "s").matches(&path("drive/v3/changes")));
        assert!(ResourcePattern::parse("**", "s").matches(&path("x")));
        let tricky = ResourcePattern::parse("u/{subject}/**", "*");
        assert!(
            !tricky.matches(&path("u/somebody/x")) && tricky.matches(&path("u/*/x")),
            "a subject is never a wildcard"
        );
    }
}
