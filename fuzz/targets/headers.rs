//! Headers that a channel's owner may set, one a line: what is accepted goes over the wire as it is, changes nothing of
//! the request that carries it, and is nobody else's.

use std::collections::BTreeMap;

use http::{HeaderName, HeaderValue};
use watchpost::domain::headers::check as accepted;

const OWN_PREFIX: &str = "Hooks-";
/// What decides where a request ends, where it goes, or who is believed to have sent it.
const NOBODYS: [&str; 15] = [
    "connection",
    "content-length",
    "content-type",
    "expect",
    "forwarded",
    "hooks-signature",
    "host",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "webhook-signature",
    "x-forwarded-for",
    "x-goog-channel-token",
];

pub fn check(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let lines = text.split('\n').filter_map(|line| line.split_once(':'));
    let headers: BTreeMap<String, String> =
        lines.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    if accepted(&headers, OWN_PREFIX).is_err() {
        return;
    }
    assert!(headers.len() <= 16);
    let mut wire = String::new();
    let mut total = 0;
    for (name, value) in &headers {
        let lower = name.to_ascii_lowercase();
        assert!(!NOBODYS.contains(&lower.as_str()), "{name}");
        assert_eq!(HeaderName::from_bytes(name.as_bytes()).unwrap().as_str(), lower);
        assert_eq!(HeaderValue::from_str(value).unwrap().to_str().unwrap(), value);
        wire.extend([name, ": ", value, "\r\n"]);
        total += name.len() + value.len();
    }
    assert!(total <= 8 * 1_024);

    // Whoever reads the lines back finds these headers and no others, each once.
    let read: Vec<(&str, &str)> = wire
        .split(['\r', '\n'])
        .filter_map(|line| line.split_once(':'))
        .map(|(n, v)| (n, v.trim()))
        .collect();
    assert_eq!(read, headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect::<Vec<_>>());
    let mut names: Vec<String> = headers.keys().map(|name| name.to_ascii_lowercase()).collect();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), headers.len(), "{headers:?}");
}
