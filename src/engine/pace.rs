//! How fast requests may leave to one destination, over all projects and channels. Asked by the slots alone: what is
//! too fast waits there, and is never dropped.
//!
//! A request that may not leave at once is given a time, and nobody else gets the same: so a destination with many
//! origins costs one look per request, however many wait for it. Times are the monotonic clock's.

use std::{collections::HashMap, num::NonZeroU32, time::Duration};

use crate::outbound::Destination;

/// As many leave at once after a rest as otherwise in this time.
const BURST: Duration = Duration::from_secs(1);
/// Destinations remembered before those are forgotten that nobody has to wait for.
const DESTINATIONS_MAX: usize = 10_000;

#[derive(Debug)]
pub struct Paces {
    /// Between two requests. `None`: no limit.
    interval: Option<Duration>,
    /// Until when the times of a destination are given away.
    taken: HashMap<Destination, Duration>,
    tidy_at: usize,
}

impl Paces {
    pub fn new(per_second: Option<NonZeroU32>) -> Self {
        Self {
            interval: per_second.map(|rate| Duration::from_secs(1) / rate.get()),
            taken: HashMap::new(),
            tidy_at: DESTINATIONS_MAX,
        }
    }

    /// When the next request to all of these may leave: `now`, or later. That time is taken.
    pub fn take<'a>(
        &mut self,
        destinations: impl Iterator<Item = &'a Destination>,
        now: Duration,
    ) -> Duration {
        let Some(interval) = self.interval else { return now };
        let mut at = now;
        for destination in destinations {
            let taken = self.taken.entry(destination.clone()).or_default();
            *taken = (*taken).max(now).saturating_add(interval);
            at = at.max(taken.saturating_sub(BURST));
        }
        if self.taken.len() > self.tidy_at {
            self.taken.retain(|_, taken| *taken > now);
            // Those that are left have all been sent to within the last second.
            self.tidy_at = DESTINATIONS_MAX.max(self.taken.len().saturating_mul(2));
        }
        at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn domain(name: &str) -> Destination {
        Destination::Domain(name.into())
    }

    #[test]
    fn a_burst_leaves_at_once_and_the_rest_at_its_pace() {
        let mut paces = Paces::new(NonZeroU32::new(4));
        let now = Duration::from_hours(1);
        let mut times = Vec::new();
        for _ in 0..8 {
            times.push(paces.take([domain("a")].iter(), now).saturating_sub(now).as_millis());
        }
        assert_eq!(times, [0, 0, 0, 0, 250, 500, 750, 1_000]);
        let address = Destination::of_ip([8, 8, 8, 8].into());
        assert_eq!(paces.take([domain("b")].iter(), now), now, "another destination");
        let both = [domain("b"), domain("a")];
        let at = now + Duration::from_millis(1_250);
        assert_eq!(paces.take(both.iter(), now), at, "the slower one counts");
        assert_eq!(paces.take([address].iter(), now), now);
        let later = now + Duration::from_secs(3);
        assert_eq!(paces.take([domain("a")].iter(), later), later, "after a rest");
    }

    #[test]
    fn what_rests_is_forgotten_and_no_rate_is_no_limit() {
        let mut paces = Paces::new(NonZeroU32::new(50));
        for at in 0..100_000_u32 {
            let now = Duration::from_millis(u64::from(at));
            paces.take([domain(&at.to_string())].iter(), now);
            assert!(paces.taken.len() <= DESTINATIONS_MAX + 1);
        }
        let mut paces = Paces::new(None);
        for _ in 0..1_000 {
            assert_eq!(paces.take([domain("a")].iter(), Duration::ZERO), Duration::ZERO);
        }
        assert!(paces.taken.is_empty());
    }
}
