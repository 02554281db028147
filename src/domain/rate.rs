//! A token bucket: how fast something may leave. Pure; `now` is an argument.

use std::time::Duration;

use super::{channel::RateLimit, time::Timestamp};

/// What is left of a rate limit's burst.
#[derive(Clone, Debug, PartialEq)]
pub struct Bucket {
    limit: RateLimit,
    tokens: f64,
    filled_at: Timestamp,
}

impl Bucket {
    /// A full bucket.
    pub fn new(limit: RateLimit, now: Timestamp) -> Self {
        Self { limit, tokens: f64::from(limit.burst), filled_at: now }
    }

    pub const fn limit(&self) -> RateLimit {
        self.limit
    }

    /// When the next one may leave: `now` or earlier if at once.
    pub fn next_at(&self, now: Timestamp) -> Timestamp {
        let missing = 1.0 - self.tokens_at(now);
        if missing <= 0.0 {
            return now;
        }
        let wait = Duration::from_secs_f64(missing / f64::from(self.limit.per_second));
        // Whole milliseconds, upwards: a timer that rings too early would find nothing.
        now.plus(wait).plus(Duration::from_millis(1))
    }

    pub fn take(&mut self, now: Timestamp) {
        self.tokens = (self.tokens_at(now) - 1.0).max(0.0);
        self.filled_at = now;
    }

    fn tokens_at(&self, now: Timestamp) -> f64 {
        let gained = now.since(self.filled_at).as_secs_f64() * f64::from(self.limit.per_second);
        (self.tokens + gained).min(f64::from(self.limit.burst))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_leaves_at_once_and_the_rest_at_its_pace() {
        let limit = RateLimit { per_second: 2, burst: 3 };
        let start = Timestamp::from_millis(1_000_000);
        let mut bucket = Bucket::new(limit, start);
        let (mut now, mut left) = (start, Vec::new());
        for _ in 0..7 {
            now = bucket.next_at(now);
            bucket.take(now);
            left.push(now.since(start).as_millis());
        }
        assert_eq!(left[..3], [0, 0, 0]);
        for (at, expected) in left[3..].iter().zip([500, 1_000, 1_500, 2_000]) {
            assert!((expected..expected + 20).contains(at), "{left:?}");
        }
        assert!(
            bucket.next_at(Timestamp::from_millis(0)) <= now,
            "a clock that was set back waits no longer"
        );
    }
}
