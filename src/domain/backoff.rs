//! When a failed notification is tried again.

use std::time::Duration;

use super::time::Timestamp;

/// `Retry-After` is clamped into this band.
pub const RETRY_AFTER_MIN: Duration = Duration::from_secs(1);
pub const RETRY_AFTER_MAX: Duration = Duration::from_hours(6);
/// Jitter is only added: a wait is `base × U(1.0, 1.25)`, never shorter than promised.
pub const JITTER_MAX: f64 = 0.25;
/// Longest `Retry-After` text that is read at all.
const RETRY_AFTER_BYTES_MAX: usize = 64;

/// A channel's retry schedule: the first entry is the delay of a first attempt, the k-th retry waits entry
/// k + 1, the last one repeats. Never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule(Vec<Duration>);

impl Schedule {
    /// `None` when `steps` is empty.
    pub fn new(steps: Vec<Duration>) -> Option<Self> {
        (!steps.is_empty()).then_some(Self(steps))
    }

    pub fn first_delay(&self) -> Duration {
        self.step(0)
    }

    /// The wait after `failures` failed attempts in a row (from 1), without jitter.
    pub fn after(&self, failures: u32) -> Duration {
        self.step(usize::try_from(failures).unwrap_or(usize::MAX))
    }

    /// The longest wait this schedule can ask for, jitter and `Retry-After` included. A due time further away
    /// than this was written by a clock that has since been set back.
    pub fn longest_wait(&self) -> Duration {
        let longest = self.0.iter().copied().max().unwrap_or_default();
        stretched(longest.max(RETRY_AFTER_MAX), 1.0)
    }

    pub fn steps(&self) -> &[Duration] {
        &self.0
    }

    fn step(&self, index: usize) -> Duration {
        self.0.get(index).or(self.0.last()).copied().unwrap_or_default()
    }
}

/// The wait before the next attempt: the jittered step, or what the receiver asked for where that is longer.
/// `unit` is a random number in `[0, 1)`.
pub fn wait(schedule: &Schedule, failures: u32, retry_after: Option<Duration>, unit: f64) -> Duration {
    stretched(schedule.after(failures), unit).max(retry_after.unwrap_or_default())
}

fn stretched(base: Duration, unit: f64) -> Duration {
    let factor = 1.0 + JITTER_MAX * unit.clamp(0.0, 1.0);
    Duration::try_from_secs_f64(base.as_secs_f64() * factor).unwrap_or(base)
}

/// Reads `Retry-After` (RFC 9110 §10.2.3): seconds or a date, clamped. Junk is `None` and changes nothing.
pub fn parse_retry_after(text: &str, now: Timestamp) -> Option<Duration> {
    let text = text.trim();
    if text.is_empty() || text.len() > RETRY_AFTER_BYTES_MAX {
        return None;
    }
    let asked = if text.bytes().all(|byte| byte.is_ascii_digit()) {
        // More digits than a u64 holds still mean "very long".
        Duration::from_secs(text.parse().unwrap_or(u64::MAX))
    } else {
        Timestamp::parse_http_date(text)?.since(now)
    };
    Some(asked.clamp(RETRY_AFTER_MIN, RETRY_AFTER_MAX))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn schedule() -> Schedule {
        Schedule::new([0, 5, 30].map(Duration::from_secs).to_vec()).unwrap()
    }

    #[test]
    fn the_kth_retry_waits_entry_k_plus_one_and_the_last_repeats() {
        let waits: Vec<u64> =
            (1..6).map(|failures| wait(&schedule(), failures, None, 0.0).as_secs()).collect();
        assert_eq!(waits, [5, 30, 30, 30, 30]);
        assert_eq!(schedule().first_delay(), Duration::ZERO);
    }

    #[test]
    fn retry_after_is_a_floor() {
        let asked = Some(Duration::from_secs(10));
        assert_eq!(wait(&schedule(), 1, asked, 0.0).as_secs(), 10);
        assert_eq!(wait(&schedule(), 2, asked, 0.0).as_secs(), 30);
    }

    #[test]
    fn retry_after_reads_both_forms_and_clamps() {
        let now = Timestamp::parse_http_date("Tue, 19 Nov 2013 01:00:00 GMT").unwrap();
        let read = |text: &str| parse_retry_after(text, now).map(|wait| wait.as_secs());
        assert_eq!(read("120"), Some(120));
        assert_eq!(read(" 0 "), Some(1));
        assert_eq!(read("99999999999999999999"), Some(6 * 3_600));
        assert_eq!(read("Tue, 19 Nov 2013 01:10:00 GMT"), Some(600));
        assert_eq!(read("Tue, 19 Nov 2013 00:10:00 GMT"), Some(1), "a date in the past");
        assert_eq!(read("Fri, 31 Dec 9999 23:59:59 GMT"), Some(6 * 3_600));
        for junk in ["", "-1", "NaN", "inf", "1e308", "1.5", "soon", "+5", &"9".repeat(10_000)] {
            assert_eq!(read(junk), None, "{junk:.20}");
        }
    }

    proptest! {
        #[test]
        fn waits_are_never_shorter_than_promised_nor_much_longer(failures in 0_u32.., unit in 0.0_f64..1.0) {
            let promised = schedule().after(failures);
            let wait = wait(&schedule(), failures, None, unit);
            prop_assert!(wait >= promised && wait <= promised.mul_f64(1.0 + JITTER_MAX));
        }

        #[test]
        fn no_header_panics(text in ".{0,80}", now in any::<i64>()) {
            if let Some(wait) = parse_retry_after(&text, Timestamp::from_millis(now)) {
                prop_assert!((RETRY_AFTER_MIN..=RETRY_AFTER_MAX).contains(&wait));
            }
        }
    }
}
