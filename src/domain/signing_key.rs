//! The server's own Ed25519 keys, which sign for every project: `v1a` signatures and tokens. One succeeds the other
//! with an overlap: a new key is published before it signs alone, an old one stays published after.

use std::time::Duration;

use super::time::Timestamp;

/// Keys that are published at a time: each adds a `v1a` signature to a notification that asked for them.
pub const KEYS_MAX: usize = 4;
/// How long a key is published before tokens are signed with it: whoever keeps the published keys looks again by then.
pub const PUBLISHED_AHEAD: Duration = Duration::from_mins(10);
/// How long whoever fetches the published keys may keep them.
pub const KEPT_FOR: Duration = Duration::from_mins(5);
/// How long a token holds: about as long as the receivers of Standard Webhooks take a timestamp for new.
pub const TOKEN_LIFETIME: Duration = Duration::from_mins(5);
/// How long replaced keys go on where nobody says how long.
pub const OVERLAP_DEFAULT: Duration = Duration::from_hours(24);
/// A shorter overlap than this, other than none, would end before the last tokens do.
pub const OVERLAP_MIN: Duration = Duration::from_hours(1);
pub const OVERLAP_MAX: Duration = Duration::from_hours(90 * 24);

/// A key as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SigningKeyRecord {
    /// Its place in the succession: 1, 2, …
    pub n: i64,
    pub kid: String,
    /// The private half, under the master key.
    pub sealed: Vec<u8>,
    pub public_key: Vec<u8>,
    pub created_at: Timestamp,
    pub signs_from: Timestamp,
    /// When it is gone; none for the newest.
    pub until: Option<Timestamp>,
}

impl SigningKeyRecord {
    /// Whether the public half is shown, and the private one makes `v1a` signatures.
    pub fn is_published(&self, now: Timestamp) -> bool {
        self.until.is_none_or(|until| now < until)
    }
}

/// The key that tokens are signed with: the newest that has been published for long enough. Where none has, such as on
/// a node whose clock is behind, the oldest.
pub fn signer(keys: &[SigningKeyRecord], now: Timestamp) -> Option<&SigningKeyRecord> {
    let published = || keys.iter().filter(|key| key.is_published(now));
    let ready = published().filter(|key| key.signs_from <= now).max_by_key(|key| key.n);
    ready.or_else(|| published().min_by_key(|key| key.n))
}

/// From when a key that is made at `now` signs tokens. Without an overlap there is nobody to wait for.
pub fn signs_from(overlap: Duration, now: Timestamp) -> Timestamp {
    now.plus(PUBLISHED_AHEAD.min(overlap))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_key_succeeds_the_other() {
        let at = |minutes: u64| Timestamp::from_millis(0).plus(Duration::from_mins(minutes));
        let key = |n, from, until: Option<u64>| SigningKeyRecord {
            n,
            kid: n.to_string(),
            sealed: Vec::new(),
            public_key: Vec::new(),
            created_at: at(0),
            signs_from: at(from),
            until: until.map(at),
        };
        let hour = Duration::from_hours(1);
        assert_eq!((signs_from(hour, at(5)), signs_from(Duration::ZERO, at(5))), (at(15), at(5)));
        let keys = [key(1, 0, Some(65)), key(2, 15, None)];
        for (minute, n, published) in [(5, 1, 2), (14, 1, 2), (15, 2, 2), (64, 2, 2), (65, 2, 1)] {
            assert_eq!(signer(&keys, at(minute)).unwrap().n, n, "{minute}");
            assert_eq!(keys.iter().filter(|key| key.is_published(at(minute))).count(), published, "{minute}");
        }
        assert_eq!(signer(&keys[1..], at(5)).unwrap().n, 2, "better early than never");
        assert_eq!(signer(&[], at(0)), None);
    }
}
