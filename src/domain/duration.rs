//! Durations as people write them in settings and on the command line: `250ms`, `30s`, `2m`, `1h`, `7d`.
//!
//! One whole number and one unit; no fractions, no sums, so that a value has one reading.

use std::time::Duration;

/// Nothing that is configured waits or lives longer, and sums of a few such durations cannot overflow.
pub const DURATION_MAX: Duration = Duration::from_hours(400 * 24);

/// Units with their milliseconds, longest first.
const UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    #[error("`{0}` is not a duration: write a whole number and a unit, such as 250ms, 30s, 2m, 1h or 7d")]
    Malformed(String),
    #[error("`{0}` is longer than {max}", max = format_duration(DURATION_MAX))]
    TooLong(String),
}

/// Reads a whole number followed by `ms`, `s`, `m`, `h` or `d`, up to [`DURATION_MAX`].
pub fn parse_duration(text: &str) -> Result<Duration, DurationError> {
    let malformed = || DurationError::Malformed(text.to_owned());
    let too_long = || DurationError::TooLong(text.to_owned());

    let unit_start = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(malformed)?;
    let (digits, unit) = text.split_at(unit_start);
    let (_, unit_ms) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(malformed)?;
    if digits.is_empty() {
        return Err(malformed());
    }
    // Digits alone can only fail to parse by being too many.
    let count: u64 = digits.parse().map_err(|_| too_long())?;
    let duration = Duration::from_millis(count.checked_mul(*unit_ms).ok_or_else(too_long)?);
    if duration > DURATION_MAX { Err(too_long()) } else { Ok(duration) }
}

/// The shortest text that [`parse_duration`] reads as the same number of milliseconds.
pub fn format_duration(duration: Duration) -> String {
    let millis = duration.as_millis();
    if millis == 0 {
        return "0s".to_owned();
    }
    UNITS.iter().find(|(_, unit_ms)| millis.is_multiple_of(u128::from(*unit_ms))).map_or_else(
        || format!("{millis}ms"),
        |(unit, unit_ms)| format!("{}{unit}", millis / u128::from(*unit_ms)),
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_every_unit() {
        for (text, millis) in [
            ("0s", 0),
            ("250ms", 250),
            ("5s", 5_000),
            ("2m", 120_000),
            ("1h", 3_600_000),
            ("7d", 604_800_000),
            ("400d", 34_560_000_000),
        ] {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(millis)), "{text}");
            assert_eq!(format_duration(Duration::from_millis(millis)), text);
        }
    }

    #[test]
    fn refuses_what_has_no_single_reading() {
        for text in ["", "5", "s", "1.5s", "-1s", "+1s", " 1s", "1 s", "1s ", "1h30m", "1S", "1w", "٣s"] {
            assert_eq!(parse_duration(text), Err(DurationError::Malformed(text.to_owned())), "{text}");
        }
    }

    #[test]
    fn refuses_what_is_too_long() {
        for text in ["401d", "34560000001ms", "18446744073709551615d", "99999999999999999999999s"] {
            assert_eq!(parse_duration(text), Err(DurationError::TooLong(text.to_owned())), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_shown_is_read_back(millis in 0_u64..=34_560_000_000) {
            let duration = Duration::from_millis(millis);
            prop_assert_eq!(parse_duration(&format_duration(duration)), Ok(duration));
        }

        #[test]
        fn no_text_panics(text in ".{0,24}") {
            let _ = parse_duration(&text);
        }
    }
}
