//! Guesses at claim URLs, counted per peer. A guess cannot succeed; many of them are only load, so their answers say so.
//! Whoever holds a URL is never counted, whatever others behind the same address do.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use super::v1::Problem;
use crate::app::{App, claims::ClaimError};

/// Wrong URLs that a peer may try within a minute.
const GUESSES_MAX: u32 = 20;
const WINDOW: Duration = Duration::from_mins(1);
/// Peers that are remembered; beyond, those whose minute is over are forgotten first, then all.
const PEERS_MAX: usize = 10_000;

/// How often each peer was wrong since when, on the monotonic clock.
#[derive(Clone, Debug, Default)]
pub struct Guesses(Arc<Mutex<HashMap<IpAddr, (Duration, u32)>>>);

impl Guesses {
    /// Lets an outcome pass, and counts it if it was a wrong guess.
    pub fn weigh<T>(
        &self,
        client: Option<IpAddr>,
        app: &App,
        outcome: Result<T, ClaimError>,
    ) -> Result<T, Problem> {
        let wrong = matches!(outcome, Err(ClaimError::NotFound));
        match client.filter(|_| wrong).and_then(|peer| self.count(peer, app.clock.monotonic())) {
            Some(wait) => Err(Problem::too_many("too many wrong claim URLs", wait)),
            None => Ok(outcome?),
        }
    }

    /// Counts a wrong guess; how long to wait when there were too many.
    fn count(&self, peer: IpAddr, now: Duration) -> Option<Duration> {
        let mut peers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if peers.len() >= PEERS_MAX && !peers.contains_key(&peer) {
            peers.retain(|_, (since, _)| now < *since + WINDOW);
            if peers.len() >= PEERS_MAX {
                peers.clear();
            }
        }
        let (since, guesses) = peers.entry(peer).or_insert((now, 0));
        if now >= *since + WINDOW {
            (*since, *guesses) = (now, 0);
        }
        *guesses = guesses.saturating_add(1);
        (*guesses > GUESSES_MAX).then(|| (*since + WINDOW).saturating_sub(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_twenty_first_guess_within_a_minute_has_to_wait() {
        let guesses = Guesses::default();
        let peer = |last: u8| IpAddr::from([192, 0, 2, last]);
        for _ in 0..GUESSES_MAX {
            assert_eq!(guesses.count(peer(1), Duration::ZERO), None);
        }
        assert_eq!(guesses.count(peer(1), Duration::from_secs(10)), Some(Duration::from_secs(50)));
        assert_eq!(guesses.count(peer(2), Duration::from_secs(10)), None, "others are not concerned");
        assert_eq!(guesses.count(peer(1), Duration::from_mins(1)), None, "a minute later");
    }
}
