//! How often a host that has not agreed is challenged, over all projects: whoever opens channels must not be able to
//! make this server knock at a stranger's door without end. Asked by `consent` alone, at the start of each challenge.
//!
//! Only what came to nothing counts, or may yet. Times are the monotonic clock's.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use crate::domain::room::make_room;

/// Of one host, within [`PERIOD`].
const CHALLENGES_MAX: usize = 5;
const PERIOD: Duration = Duration::from_hours(1);
/// A challenge that is under way for longer was given up half-way: its channel is gone.
const UNDER_WAY_MAX: Duration = Duration::from_mins(1);
/// Hosts that are remembered. To have one forgotten, and challenged five times more, takes challenges of as many others.
const HOSTS_MAX: usize = 10_000;

/// Why no challenge may begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Until it is known what comes of those that are under way.
    ForOthers,
    For(Duration),
}

#[derive(Debug)]
struct Challenge {
    began: Duration,
    is_over: bool,
}

#[derive(Debug, Default)]
pub struct Challenges {
    /// The last ones of each host, the oldest first.
    hosts: HashMap<String, VecDeque<Challenge>>,
}

impl Challenges {
    /// Counts a challenge that begins now, if one may.
    pub fn begin(&mut self, host: &str, now: Duration) -> Result<(), Wait> {
        let is_over = |challenges: &VecDeque<Challenge>| {
            challenges.back().is_none_or(|last| now >= last.began + PERIOD)
        };
        make_room(&mut self.hosts, host, HOSTS_MAX, is_over);
        let challenges = self.hosts.entry(host.to_owned()).or_default();
        challenges.retain(|challenge| now < challenge.began + PERIOD);
        if challenges.len() < CHALLENGES_MAX {
            challenges.push_back(Challenge { began: now, is_over: false });
            return Ok(());
        }
        let is_under_way =
            |challenge: &Challenge| !challenge.is_over && now < challenge.began + UNDER_WAY_MAX;
        if challenges.iter().any(is_under_way) {
            return Err(Wait::ForOthers);
        }
        let free_at = challenges.front().map_or(now, |oldest| oldest.began + PERIOD);
        Err(Wait::For(free_at.saturating_sub(now)))
    }

    /// A challenge came to nothing.
    pub fn end(&mut self, host: &str) {
        let challenges = self.hosts.get_mut(host).into_iter().flatten();
        if let Some(challenge) = challenges.into_iter().find(|challenge| !challenge.is_over) {
            challenge.is_over = true;
        }
    }

    /// A challenge was agreed to, or never left: it does not count.
    pub fn take_back(&mut self, host: &str) {
        let Some(challenges) = self.hosts.get_mut(host) else { return };
        if let Some(at) = challenges.iter().position(|challenge| !challenge.is_over) {
            challenges.remove(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_hours(9);
    const MINUTE: Duration = Duration::from_mins(1);

    #[test]
    fn a_host_is_challenged_five_times_an_hour() {
        let mut challenges = Challenges::default();
        for at in 0..5 {
            assert_eq!(challenges.begin("shop.com", NOW + MINUTE * at), Ok(()));
            challenges.end("shop.com");
        }
        let later = NOW + MINUTE * 10;
        let until_the_first_is_an_hour_old = Wait::For(MINUTE * 50);
        assert_eq!(challenges.begin("shop.com", later), Err(until_the_first_is_an_hour_old));
        assert_eq!(challenges.begin("other.com", later), Ok(()));
        assert_eq!(challenges.begin("shop.com", NOW + PERIOD), Ok(()));
        challenges.end("shop.com");
        assert_eq!(challenges.begin("shop.com", NOW + PERIOD), Err(Wait::For(MINUTE)));
    }

    #[test]
    fn who_agrees_is_challenged_as_often_as_it_takes() {
        let mut challenges = Challenges::default();
        for _ in 0..20 {
            for _ in 0..5 {
                assert_eq!(challenges.begin("shop.com", NOW), Ok(()));
            }
            assert_eq!(challenges.begin("shop.com", NOW), Err(Wait::ForOthers));
            for _ in 0..5 {
                challenges.take_back("shop.com");
            }
        }
    }

    #[test]
    fn one_that_was_given_up_is_not_waited_for() {
        let mut challenges = Challenges::default();
        for _ in 0..5 {
            assert_eq!(challenges.begin("shop.com", NOW), Ok(()));
        }
        assert_eq!(challenges.begin("shop.com", NOW + MINUTE), Err(Wait::For(MINUTE * 59)));
    }

    #[test]
    fn hosts_do_not_pile_up() {
        let mut challenges = Challenges::default();
        for at in 0..50_000_u32 {
            challenges.begin(&at.to_string(), NOW).unwrap();
            assert!(challenges.hosts.len() <= HOSTS_MAX);
        }
    }
}
