//! The server's own signing keys as the engine signs with them: opened once, looked for again every few seconds, so
//! that a rotation on whatever node is taken up long before a new key signs alone.

use std::{sync::Arc, time::Duration};

use tokio::sync::Mutex;

use crate::{
    clock::Clock,
    domain::{
        signing_key::{SigningKeyRecord, signer},
        time::Timestamp,
    },
    signing::{Sealer, SigningKey},
    store::Store,
};

/// How old the keys may be that something is signed with.
const FRESH: Duration = Duration::from_secs(5);

/// The keys, opened. Those that do not open under the master key are left out.
#[derive(Debug, Default)]
pub struct KeySet {
    records: Vec<SigningKeyRecord>,
    keys: Vec<SigningKey>,
}

impl KeySet {
    /// Every key whose public half is published: a receiver may know any of them.
    pub fn published(&self, now: Timestamp) -> impl Iterator<Item = &SigningKey> {
        let both = self.records.iter().zip(&self.keys);
        both.filter(move |(record, _)| record.is_published(now)).map(|(_, key)| key)
    }

    /// The one key that tokens are signed with.
    pub fn signer(&self, now: Timestamp) -> Option<&SigningKey> {
        let kid = &signer(&self.records, now)?.kid;
        self.keys.iter().find(|key| key.kid == *kid)
    }

    fn open(records: Vec<SigningKeyRecord>, sealer: &Sealer) -> Self {
        let mut set = Self::default();
        for record in records {
            match SigningKey::open(&record.sealed, &record.kid, sealer) {
                Ok(key) => {
                    set.keys.push(key);
                    set.records.push(record);
                }
                Err(error) => {
                    tracing::error!(key.kid = record.kid, error = %error, "a signing key is unusable");
                }
            }
        }
        set
    }
}

#[derive(Debug, Default)]
pub struct Keyring(Mutex<Option<(Duration, Arc<KeySet>)>>);

impl Keyring {
    /// The keys; those known so far where the store does not answer. `None`: none are known yet.
    pub async fn keys(&self, store: &Store, sealer: &Sealer, clock: &dyn Clock) -> Option<Arc<KeySet>> {
        let mut held = self.0.lock().await;
        let now = clock.monotonic();
        if let Some((read_at, keys)) = &*held
            && now.saturating_sub(*read_at) < FRESH
        {
            return Some(Arc::clone(keys));
        }
        match store.signing_keys().await {
            Ok(records) => {
                let keys = Arc::new(KeySet::open(records, sealer));
                *held = Some((now, Arc::clone(&keys)));
                Some(keys)
            }
            Err(error) => {
                tracing::warn!(error = %error, "the signing keys could not be read");
                held.as_ref().map(|(_, keys)| Arc::clone(keys))
            }
        }
    }
}
