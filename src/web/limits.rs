//! How fast one caller may ask. Held against every request once it is known who asks, before anything is done for it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use crate::domain::{channel::RateLimit, rate::Bucket, room::make_room, time::Timestamp};

/// Callers that are remembered; beyond, all are forgotten, which lets a few ask once more.
const CALLERS_MAX: usize = 10_000;

/// A bucket for each subject of each project.
#[derive(Clone, Debug, Default)]
pub struct Limits {
    limit: Option<RateLimit>,
    buckets: Arc<Mutex<HashMap<(String, String), Bucket>>>,
}

impl Limits {
    /// None is no limit.
    pub fn new(limit: Option<RateLimit>) -> Self {
        Self { limit, buckets: Arc::default() }
    }

    /// Counts a request; how long to wait when it comes too soon.
    pub fn take(&self, project: &str, subject: &str, now: Timestamp) -> Option<Duration> {
        let limit = self.limit?;
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let caller = (project.to_owned(), subject.to_owned());
        make_room(&mut buckets, &caller, CALLERS_MAX, |_| false);
        let bucket = buckets.entry(caller).or_insert_with(|| Bucket::new(limit, now));
        let wait = bucket.next_at(now).since(now);
        if wait.is_zero() {
            bucket.take(now);
            return None;
        }
        Some(wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_caller_has_a_bucket_of_their_own() {
        let limits = Limits::new(Some(RateLimit { per_second: 2, burst: 4 }));
        let at = Timestamp::from_millis;
        for _ in 0..4 {
            assert_eq!(limits.take("p", "s", at(1_000)), None);
        }
        let wait = limits.take("p", "s", at(1_000)).unwrap();
        assert!((500..510).contains(&wait.as_millis()), "{wait:?}");
        assert_eq!(limits.take("p", "t", at(1_000)), None);
        assert_eq!(limits.take("q", "s", at(1_000)), None);
        assert_eq!(limits.take("p", "s", at(1_600)), None, "half a second later");
        assert!(limits.take("p", "s", at(1_600)).is_some());
        assert_eq!(Limits::default().take("p", "s", at(0)), None, "without a limit");
    }
}
