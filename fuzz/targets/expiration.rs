//! When a channel shall expire, as clients write it: Google's `expiration` and `ttl`, `/v1`'s `expiresAt` and
//! `ttlSeconds`. One line each: a moment in milliseconds, a lifetime in seconds, a moment in RFC 3339.

use std::time::Duration;

use watchpost::domain::{
    expiry::{Asked, Lifetimes, parse_millis, parse_whole_number},
    time::Timestamp,
};

const LIFETIMES: Lifetimes =
    Lifetimes { default: Duration::from_hours(7 * 24), max: Duration::from_hours(30 * 24) };
const NOW: Timestamp = Timestamp::from_millis(1_767_225_600_123);
const SECOND: Duration = Duration::from_secs(1);
/// Integers up to here are exact in JSON's numbers.
const EXACT: i64 = 1 << 53;
/// The years that both wire forms can write.
const YEAR_1000: i64 = -30_610_224_000_000;
const YEAR_10000: i64 = 253_402_300_800_000;

pub fn check(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let mut lines = text.split('\n');
    let mut line = || lines.next().unwrap_or_default();
    let (millis, ttl, time) = (line(), line(), line());

    let at = check_number(parse_millis(millis).ok(), millis);
    let ttl_seconds = check_number(parse_whole_number(ttl).ok(), ttl);
    if let (Ok(whole), Ok(cut)) = (parse_whole_number(millis), parse_millis(millis)) {
        assert_eq!(whole, cut, "{millis}");
    }
    let time = Timestamp::parse_rfc3339(time);
    if let Some(time) = time {
        check_wire_forms(time);
    }
    for at in [at.map(Timestamp::from_millis), time] {
        check_resolved(Asked { at, ttl_seconds });
    }
}

/// What is read as a number says the same as its digits, where it is nothing but digits.
fn check_number(read: Option<i64>, text: &str) -> Option<i64> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    if (1..=15).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit()) {
        assert_eq!(read, text.parse().ok(), "{text}");
    }
    if let Some(number) = read {
        assert!((-EXACT..=EXACT).contains(&number), "{text}");
        assert_eq!(parse_whole_number(&number.to_string()), Ok(number));
    }
    read
}

fn check_wire_forms(time: Timestamp) {
    if !(YEAR_1000..YEAR_10000).contains(&time.as_millis()) {
        return;
    }
    assert_eq!(Timestamp::parse_rfc3339(&time.to_rfc3339()), Some(time));
    assert_eq!(Timestamp::parse_http_date(&time.to_http_date()), Some(time.floor_to_second()));
}

fn check_resolved(asked: Asked) {
    let Ok(expires_at) = LIFETIMES.resolve(asked, NOW) else {
        assert_ne!(asked, Asked::default(), "whoever asks for nothing gets the default");
        return;
    };
    assert!(expires_at > NOW && expires_at <= NOW.plus(LIFETIMES.max), "{asked:?}: {expires_at:?}");
    assert_eq!(expires_at.floor_to_second(), expires_at, "{asked:?}");
    // Never longer than asked, but for the second that every channel lives.
    let shortest = NOW.floor_to_second().plus(SECOND);
    if let Some(at) = asked.at {
        assert!(expires_at <= at.max(shortest), "{asked:?}: {expires_at:?}");
    }
    if let Some(seconds) = asked.ttl_seconds {
        let end = NOW.plus(Duration::from_secs(u64::try_from(seconds).unwrap()));
        assert!(expires_at <= end.max(shortest), "{asked:?}: {expires_at:?}");
    }
}
