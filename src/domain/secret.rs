//! A channel's signing secret while it is replaced: the new one signs at once, those before it sign as well until the
//! receiver has switched. Sealed wherever it stands; only `signing` opens it.

use std::time::Duration;

use super::time::Timestamp;

/// Secrets that may be on their way out at a time: every one of them adds a signature to each notification.
pub const RETIRING_MAX: usize = 4;
/// How long earlier secrets go on where nobody says how long.
pub const OVERLAP_DEFAULT: Duration = Duration::from_hours(24);
pub const OVERLAP_MAX: Duration = Duration::from_hours(30 * 24);

/// A secret that was replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetiringSecret {
    /// Under the master key, as the present one is.
    pub sealed: Vec<u8>,
    /// It signs up to this moment, and is destroyed some time after.
    pub until: Timestamp,
}

impl RetiringSecret {
    pub fn signs(&self, now: Timestamp) -> bool {
        now < self.until
    }
}

/// What is on its way out once `replaced` has joined it: nothing outlives `overlap_ends_at`, and what has had its time
/// is left out.
pub fn retire(
    retiring: Vec<RetiringSecret>,
    replaced: Option<Vec<u8>>,
    overlap_ends_at: Timestamp,
    now: Timestamp,
) -> Vec<RetiringSecret> {
    let replaced = replaced.map(|sealed| RetiringSecret { sealed, until: overlap_ends_at });
    let all = retiring.into_iter().chain(replaced);
    let shortened = all.map(|secret| RetiringSecret { until: secret.until.min(overlap_ends_at), ..secret });
    shortened.filter(|secret| secret.signs(now)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_outlives_the_overlap_that_was_asked_for_last() {
        let at = |seconds: i64| Timestamp::from_millis(seconds * 1_000);
        let secret = |name: u8, until| RetiringSecret { sealed: vec![name], until: at(until) };
        let first = retire(Vec::new(), Some(vec![1]), at(100), at(0));
        assert_eq!(first, [secret(1, 100)]);
        let second = retire(first.clone(), Some(vec![2]), at(110), at(10));
        assert_eq!(second, [secret(1, 100), secret(2, 110)], "a longer one lengthens nothing");
        let third = retire(second.clone(), Some(vec![3]), at(50), at(20));
        assert_eq!(third, [secret(1, 50), secret(2, 50), secret(3, 50)]);
        assert_eq!(retire(second.clone(), None, at(105), at(100)), [secret(2, 105)], "its time is over");
        assert_eq!(retire(second, Some(vec![3]), at(20), at(20)), [], "no overlap, no earlier secret");
    }
}
