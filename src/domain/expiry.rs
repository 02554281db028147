//! When a channel expires: the most restrictive of what was asked for and what the server allows.
//!
//! Too long is clamped, as Google does; the past is refused. Results are whole seconds, since that is what
//! `X-Goog-Channel-Expiration` can carry.

use std::time::Duration;

use super::{invalid::Invalid, time::Timestamp};

/// Smaller expirations are almost certainly seconds, or a lifetime.
const SMALLEST_MILLIS: i64 = 10_000_000_000;
/// How long after its expiry a channel can be renewed without losing what came in between.
pub const GRACE: Duration = Duration::from_hours(24);

/// Lifetimes that the server grants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetimes {
    pub default: Duration,
    pub max: Duration,
}

/// What a request asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// A moment: Google's `expiration`, `/v1`'s `expiresAt`.
    pub at: Option<Timestamp>,
    /// A lifetime in seconds: Google's `params.ttl`, `/v1`'s `ttlSeconds`.
    pub ttl_seconds: Option<i64>,
}

/// Which of the two was wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExpiryError {
    At(Invalid),
    Ttl(Invalid),
}

impl Lifetimes {
    /// Where both are given the smaller one counts.
    pub fn resolve(&self, asked: Asked, now: Timestamp) -> Result<Timestamp, ExpiryError> {
        let latest = now.plus(self.max);
        let mut expires_at = if asked == Asked::default() { now.plus(self.default) } else { latest };
        if let Some(at) = asked.at {
            if at.as_millis() < SMALLEST_MILLIS {
                return Err(ExpiryError::At(Invalid::Rule("be Unix time in milliseconds")));
            }
            if at.floor_to_second() <= now {
                return Err(ExpiryError::At(Invalid::Rule("lie in the future, by at least a second")));
            }
            expires_at = expires_at.min(at);
        }
        if let Some(seconds) = asked.ttl_seconds {
            let Some(seconds @ 1..) = u64::try_from(seconds).ok() else {
                return Err(ExpiryError::Ttl(Invalid::Rule("be at least 1 second")));
            };
            expires_at = expires_at.min(now.plus(Duration::from_secs(seconds)));
        }
        // Rounding up to a second of a channel opened within it would promise more than was asked; rounding
        // down a lifetime of one second would leave none.
        Ok(expires_at.min(latest).floor_to_second().max(now.floor_to_second().plus(Duration::from_secs(1))))
    }
}

/// Integers up to here are exact in an `f64`.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// A whole number as clients write it: `3600`, `"3600"` without its quotes, or an integral float such as `3600.0`.
pub fn parse_whole_number(text: &str) -> Result<i64, Invalid> {
    let number = parse_number(text).ok_or(Invalid::Type("a whole number"))?;
    if number.fract() == 0.0 { Ok(truncated(number)) } else { Err(Invalid::Type("a whole number")) }
}

/// A moment in milliseconds. `googleapiclient.channel` always sends a float, and one with a fraction when its
/// caller's time had microseconds, so a fraction of a millisecond is dropped instead of refused.
pub fn parse_millis(text: &str) -> Result<i64, Invalid> {
    parse_number(text).map(truncated).ok_or(Invalid::Type("a number of milliseconds"))
}

/// A finite decimal number that an `f64` holds without losing its integral part; `NaN`, `inf` and hex are none.
fn parse_number(text: &str) -> Option<f64> {
    let text = text.trim();
    let looks_numeric =
        text.len() <= 40 && text.bytes().all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(&byte));
    text.parse::<f64>().ok().filter(|number| looks_numeric && number.abs() <= EXACT)
}

#[expect(clippy::cast_possible_truncation, clippy::as_conversions, reason = "finite and within 2^53")]
fn truncated(number: f64) -> i64 {
    number.trunc() as i64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIFETIMES: Lifetimes =
        Lifetimes { default: Duration::from_hours(7 * 24), max: Duration::from_hours(30 * 24) };
    const NOW: Timestamp = Timestamp::from_millis(1_767_225_600_123);

    fn resolve(at: Option<i64>, ttl_seconds: Option<i64>) -> Result<i64, ExpiryError> {
        let asked = Asked { at: at.map(Timestamp::from_millis), ttl_seconds };
        LIFETIMES.resolve(asked, NOW).map(Timestamp::as_millis)
    }

    #[test]
    fn numbers_as_clients_write_them() {
        for (text, number) in [
            ("3600", 3_600),
            ("1767225600123.0", 1_767_225_600_123),
            ("1.7672256e12", 1_767_225_600_000),
            ("-5", -5),
            (" 7 ", 7),
        ] {
            assert_eq!(parse_whole_number(text), Ok(number), "{text}");
        }
        assert_eq!(
            parse_millis("1767225600123.75"),
            Ok(1_767_225_600_123),
            "a Python datetime with microseconds"
        );
        assert!(parse_millis("soon").is_err() && parse_millis("1e300").is_err());
        for junk in ["", "1.5", "NaN", "inf", "1e308", "0x10", "1_000", "soon", "99999999999999999999"] {
            assert!(parse_whole_number(junk).is_err(), "{junk}");
        }
    }

    #[test]
    fn the_most_restrictive_counts() {
        let floor = NOW.floor_to_second().as_millis();
        assert_eq!(resolve(None, None), Ok(floor + 7 * 86_400_000));
        assert_eq!(
            resolve(Some(NOW.as_millis() + 90_000_000_000), None),
            Ok(floor + 30 * 86_400_000),
            "clamped"
        );
        assert_eq!(resolve(None, Some(9_007_199_254_740_992)), Ok(floor + 30 * 86_400_000), "clamped");
        assert_eq!(resolve(Some(NOW.as_millis() + 7_200_000), Some(3_600)), Ok(floor + 3_600_000));
        assert_eq!(resolve(Some(NOW.as_millis() + 1_800_000), Some(3_600)), Ok(floor + 1_800_000));
        assert_eq!(resolve(None, Some(1)), Ok(floor + 1_000));
    }

    #[test]
    fn the_past_and_seconds_are_refused() {
        assert!(matches!(resolve(Some(3_600), None), Err(ExpiryError::At(_))), "seconds");
        assert!(matches!(resolve(Some(NOW.as_millis()), None), Err(ExpiryError::At(_))));
        assert!(
            matches!(resolve(Some(NOW.as_millis() + 10), None), Err(ExpiryError::At(_))),
            "this very second"
        );
        assert!(matches!(resolve(None, Some(0)), Err(ExpiryError::Ttl(_))));
        assert!(matches!(resolve(None, Some(-1)), Err(ExpiryError::Ttl(_))));
    }

    proptest! {
        #[test]
        fn results_lie_ahead_and_within_the_limit(at in proptest::option::of(any::<i64>()), ttl in proptest::option::of(any::<i64>())) {
            if let Ok(expires_at) = resolve(at, ttl) {
                prop_assert!(expires_at > NOW.as_millis());
                prop_assert!(expires_at <= NOW.plus(LIFETIMES.max).as_millis());
                prop_assert_eq!(expires_at % 1_000, 0);
            }
        }

        #[test]
        fn any_text_is_read_without_panic(text in ".{0,60}") {
            let _ = parse_whole_number(&text);
        }
    }
}
