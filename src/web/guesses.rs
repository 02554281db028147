//! Guesses at what only its holder knows, claim URLs and credentials, counted per client. A guess cannot succeed; many of
//! them are only load, so their answers say so. Whoever holds the real thing is never counted, whatever others behind the
//! same address do.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use crate::domain::room::make_room;

/// Wrong claim URLs that a client may try within a minute.
pub const WRONG_CLAIMS_MAX: u32 = 20;
/// Wrong credentials likewise.
pub const WRONG_CREDENTIALS_MAX: u32 = 30;
const WINDOW: Duration = Duration::from_mins(1);
/// Clients that are remembered; beyond, those whose minute is over are forgotten first, then all.
const CLIENTS_MAX: usize = 10_000;

/// How often each client was wrong since when, on the monotonic clock.
#[derive(Clone, Debug)]
pub struct Guesses {
    max: u32,
    clients: Arc<Mutex<HashMap<IpAddr, (Duration, u32)>>>,
}

impl Guesses {
    /// At most `max` within a minute.
    pub fn new(max: u32) -> Self {
        Self { max, clients: Arc::default() }
    }

    /// Counts a wrong guess; how long to wait when there were too many.
    pub fn count(&self, client: IpAddr, now: Duration) -> Option<Duration> {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        make_room(&mut clients, &client, CLIENTS_MAX, |(since, _)| now >= *since + WINDOW);
        let (since, guesses) = clients.entry(client).or_insert((now, 0));
        if now >= *since + WINDOW {
            (*since, *guesses) = (now, 0);
        }
        *guesses = guesses.saturating_add(1);
        (*guesses > self.max).then(|| (*since + WINDOW).saturating_sub(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_guess_after_the_last_within_a_minute_has_to_wait() {
        let guesses = Guesses::new(20);
        let client = |last: u8| IpAddr::from([192, 0, 2, last]);
        for _ in 0..20 {
            assert_eq!(guesses.count(client(1), Duration::ZERO), None);
        }
        assert_eq!(guesses.count(client(1), Duration::from_secs(10)), Some(Duration::from_secs(50)));
        assert_eq!(guesses.count(client(2), Duration::from_secs(10)), None, "others are not concerned");
        assert_eq!(guesses.count(client(1), Duration::from_mins(1)), None, "a minute later");
    }

    #[test]
    fn no_more_clients_are_remembered_than_there_is_room_for() {
        let guesses = Guesses::new(1);
        for client in 0..=u32::try_from(CLIENTS_MAX).unwrap() {
            guesses.count(std::net::Ipv4Addr::from_bits(client).into(), Duration::ZERO);
        }
        assert!(guesses.clients.lock().unwrap().len() <= CLIENTS_MAX);
    }
}
