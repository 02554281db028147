//! What whoever authorizes has said a moment ago, for `authorizer` alone.
//!
//! Yes and no are kept apart, each bounded: whoever makes credentials up is refused, and so pushes out refusals and
//! nobody's yes. Times are the monotonic clock's.

use std::{collections::HashMap, time::Duration};

use super::Verdict;
use crate::domain::room::make_room;

/// Beyond these, answers that are over are forgotten first, then all of the kind.
const GRANTED_MAX: usize = 10_000;
const REFUSED_MAX: usize = 1_000;

/// A question's keyed hash.
pub type Key = [u8; 32];

#[derive(Debug, Default)]
pub struct Answers {
    granted: HashMap<Key, (Verdict, Duration)>,
    refused: HashMap<Key, (Verdict, Duration)>,
}

impl Answers {
    pub fn known(&self, key: &Key, now: Duration) -> Option<Verdict> {
        let kept = [&self.granted, &self.refused].into_iter().find_map(|answers| answers.get(key));
        kept.filter(|(_, until)| now < *until).map(|(verdict, _)| verdict.clone())
    }

    /// Replaces what was said before.
    pub fn remember(&mut self, key: Key, verdict: Verdict, kept: Duration, now: Duration) {
        self.granted.remove(&key);
        self.refused.remove(&key);
        let (answers, max) = match &verdict {
            Ok(_) => (&mut self.granted, GRANTED_MAX),
            Err(_) => (&mut self.refused, REFUSED_MAX),
        };
        make_room(answers, &key, max, |(_, until)| now >= *until);
        answers.insert(key, (verdict, now + kept));
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{AccessError, Granted},
        *,
    };

    const NOW: Duration = Duration::from_hours(9);
    const KEPT: Duration = Duration::from_mins(1);

    fn key(of: u64) -> Key {
        let mut key = Key::default();
        key[..8].copy_from_slice(&of.to_be_bytes());
        key
    }

    #[test]
    fn refusals_push_out_nobodys_yes() {
        let mut answers = Answers::default();
        answers.remember(key(0), Ok(Granted::default()), KEPT, NOW);
        for stranger in 1..50_000 {
            answers.remember(key(stranger), Err(AccessError::Invalid), KEPT, NOW);
            assert!(answers.refused.len() <= REFUSED_MAX);
        }
        assert_eq!(answers.known(&key(0), NOW), Some(Ok(Granted::default())));
        assert_eq!(answers.known(&key(49_999), NOW), Some(Err(AccessError::Invalid)));
        for caller in 0..50_000 {
            answers.remember(key(caller), Ok(Granted::default()), KEPT, NOW);
            assert!(answers.granted.len() <= GRANTED_MAX);
        }
    }

    #[test]
    fn the_last_answer_counts_for_as_long_as_it_is_kept() {
        let mut answers = Answers::default();
        answers.remember(key(0), Ok(Granted::default()), KEPT, NOW);
        answers.remember(key(0), Err(AccessError::Resource), KEPT, NOW);
        assert_eq!(answers.known(&key(0), NOW), Some(Err(AccessError::Resource)));
        answers.remember(key(0), Ok(Granted::default()), KEPT, NOW);
        assert_eq!(answers.known(&key(0), NOW), Some(Ok(Granted::default())));
        assert_eq!(answers.known(&key(0), NOW + KEPT), None);
    }
}
