//! `Retry-After` as a stranger sends it: never a panic, and never a wait outside the band.

use std::time::Duration;

use watchpost::domain::{
    backoff::{RETRY_AFTER_MAX, RETRY_AFTER_MIN, Schedule, parse_retry_after, wait},
    time::Timestamp,
};

/// A date is read against different clocks: one that was never set, ours, and one far ahead.
const CLOCKS: [i64; 3] = [0, 1_767_225_600_123, i64::MAX];

pub fn check(input: &[u8]) {
    // What an HTTP client hands on as the text of a header.
    let Ok(value) = http::HeaderValue::from_bytes(input) else { return };
    let Ok(text) = value.to_str() else { return };
    for now in CLOCKS.map(Timestamp::from_millis) {
        let asked = parse_retry_after(text, now);
        assert_eq!(parse_retry_after(&format!(" {text} "), now), asked, "{text}");
        let Some(asked) = asked else { continue };
        assert!((RETRY_AFTER_MIN..=RETRY_AFTER_MAX).contains(&asked), "{text}: {asked:?}");
        if let Some(expected) = seconds(text.trim()) {
            assert_eq!(asked, expected, "{text}");
        }
        let schedule = Schedule::new(vec![Duration::from_secs(5)]).unwrap();
        let waited = wait(&schedule, 1, Some(asked), 0.0);
        assert!(waited >= asked && waited <= schedule.longest_wait(), "{text}: {waited:?}");
    }
}

/// A number of seconds counted up digit by digit, for which "very long" is as long as it gets.
fn seconds(text: &str) -> Option<Duration> {
    let mut seconds = 0;
    for byte in text.bytes() {
        if !byte.is_ascii_digit() {
            return None;
        }
        seconds = (seconds * 10 + u64::from(byte - b'0')).min(RETRY_AFTER_MAX.as_secs());
    }
    Some(Duration::from_secs(seconds.max(RETRY_AFTER_MIN.as_secs())))
}
