//! The server's own signing keys: the first is made by itself, the operator replaces them, everybody may see the public
//! halves.

use std::time::Duration;

use serde_json::{Value, json};

use super::{AccessError, App, Principal, Scope};
use crate::{
    domain::{
        invalid::{FieldError, Invalid},
        signing_key::{OVERLAP_DEFAULT, OVERLAP_MAX, OVERLAP_MIN, SigningKeyRecord, signer},
        time::Timestamp,
    },
    signing::{SigningKey, jwk},
    store::{NewSigningKey, RotateKeysOutcome, StoreError},
};

#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    #[error(transparent)]
    Access(#[from] AccessError),
    #[error(transparent)]
    Field(#[from] FieldError),
    #[error(
        "as many keys as may be are published, the first of them until {}: wait, or rotate without an overlap",
        first_gone_at.to_rfc3339()
    )]
    TooMany { first_gone_at: Timestamp },
    #[error("the keys are being rotated by somebody else: look at them before you try again")]
    Raced,
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What a key is good for at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyUse {
    /// Published, and not signing tokens yet.
    Next,
    /// Tokens are signed with it.
    Signing,
    /// Published for a while, so that what it has signed can be verified.
    Retiring,
    /// No longer published.
    Gone,
}

impl KeyUse {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Next => "next",
            Self::Signing => "signing",
            Self::Retiring => "retiring",
            Self::Gone => "gone",
        }
    }
}

/// What each of the keys is good for at `now`.
pub fn uses(keys: &[SigningKeyRecord], now: Timestamp) -> Vec<(&SigningKeyRecord, KeyUse)> {
    let signing = signer(keys, now).map(|key| key.n);
    let use_of = |key: &SigningKeyRecord| match signing {
        _ if !key.is_published(now) => KeyUse::Gone,
        Some(n) if key.n == n => KeyUse::Signing,
        Some(n) if key.n < n => KeyUse::Retiring,
        _ => KeyUse::Next,
    };
    keys.iter().map(|key| (key, use_of(key))).collect()
}

/// The JSON Web Key Set of what is published at `now`.
pub fn key_set(keys: &[SigningKeyRecord], now: Timestamp) -> Value {
    let published = keys.iter().filter(|key| key.is_published(now));
    json!({ "keys": published.map(|key| jwk(&key.public_key, &key.kid)).collect::<Vec<_>>() })
}

impl App {
    /// The public keys, for whoever verifies.
    pub async fn published_keys(&self) -> Result<Value, StoreError> {
        Ok(key_set(&self.store.signing_keys().await?, self.now()))
    }

    /// Makes the first key of a store that has none.
    pub async fn ensure_signing_key(&self) -> Result<(), StoreError> {
        if self.store.signing_keys().await?.is_empty() {
            self.store.begin_signing_keys(self.new_key()?, self.now()).await?;
        }
        Ok(())
    }

    /// Replaces the signing key; only for the operator. The keys as they are then, oldest first.
    pub async fn rotate_signing_keys(
        &self,
        principal: &Principal,
        overlap: Option<Duration>,
    ) -> Result<Vec<SigningKeyRecord>, KeysError> {
        principal.require(Scope::Operator)?;
        self.succeed_signing_key(overlap).await
    }

    /// The same for whoever holds the store itself.
    pub async fn succeed_signing_key(
        &self,
        overlap: Option<Duration>,
    ) -> Result<Vec<SigningKeyRecord>, KeysError> {
        let overlap = overlap.unwrap_or(OVERLAP_DEFAULT);
        if !overlap.is_zero() && !(OVERLAP_MIN..=OVERLAP_MAX).contains(&overlap) {
            return Err(FieldError::new("overlap", Invalid::Rule("be 0s, or lie between 1h and 90d")).into());
        }
        match self.store.rotate_signing_keys(self.new_key()?, overlap, self.now()).await? {
            RotateKeysOutcome::Rotated(keys) => Ok(keys),
            RotateKeysOutcome::TooMany { first_gone_at } => Err(KeysError::TooMany { first_gone_at }),
            RotateKeysOutcome::Raced => Err(KeysError::Raced),
        }
    }

    fn new_key(&self) -> Result<NewSigningKey, StoreError> {
        let unwritable = |_| StoreError::Unwritable("signing_keys");
        let key = SigningKey::from_seed(self.entropy.bytes()).map_err(unwritable)?;
        let sealed = key.seal(&self.keys.sealer, self.entropy.bytes()).map_err(unwritable)?;
        Ok(NewSigningKey { sealed, public_key: key.public_key().to_vec(), kid: key.kid })
    }
}
