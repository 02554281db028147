//! A channel's signing secret is replaced. The answer shows the new one, once; those before it sign beside it for a
//! while, so that the receiver can switch whenever it likes.

use std::time::Duration;

use super::{App, Principal, authorizer::Action, channels::ChannelError};
use crate::{
    domain::{
        channel::Channel,
        hidden::Hidden,
        invalid::{FieldError, InField, Invalid},
        secret::{OVERLAP_DEFAULT, OVERLAP_MAX},
        time::Timestamp,
    },
    signing::{SigningSecret, secret_place},
    store::{RotateOutcome, SecretRotation, StoreError},
};

/// What a client asks for.
#[derive(Clone, Debug, Default)]
pub struct RotateRequest {
    /// A secret that the client brings along; one is made up where there is none.
    pub secret: Option<Hidden>,
    /// How long the secrets before it go on; nothing makes them void at once.
    pub overlap: Option<Duration>,
}

/// What the owner sees only once.
#[derive(Debug)]
pub struct Rotated {
    pub secret: SigningSecret,
    /// From then on the new secret signs alone; it does so already where this is none.
    pub overlap_ends_at: Option<Timestamp>,
}

impl App {
    /// Replaces a channel's secret. Once this returns, every request that leaves is signed under the new one too. Asking
    /// again with the same secret changes nothing but the overlap.
    pub async fn rotate_secret(
        &self,
        principal: &Principal,
        id_or_uid: &str,
        request: RotateRequest,
    ) -> Result<Rotated, ChannelError> {
        let channel = self.channel(principal, id_or_uid).await?.channel;
        // Whoever has the secret speaks for the server to the receiver.
        self.require_resource(principal, Action::Change, &channel.resource_path).await?;
        let overlap = request.overlap.unwrap_or(OVERLAP_DEFAULT);
        if overlap > OVERLAP_MAX {
            return Err(FieldError::new("overlap", Invalid::Rule("be at most 30d")).into());
        }
        let secret = match &request.secret {
            Some(text) => SigningSecret::parse(text.reveal()).in_field("secret")?,
            None => SigningSecret::from_bytes(self.entropy.bytes::<32>().to_vec()),
        };
        let is_present = self.has_secret(&channel, &secret);
        let now = self.now();
        let rotation = SecretRotation {
            sealed: if is_present {
                None
            } else {
                Some(self.seal_secret(&channel.project, &channel.uid, &secret)?)
            },
            overlap_ends_at: now.plus(overlap),
        };
        match self.store.rotate_secret(channel.key, rotation, now).await? {
            RotateOutcome::Rotated { overlap_ends_at } => {
                self.bells.changed(vec![channel.key]).await;
                Ok(Rotated { secret, overlap_ends_at })
            }
            RotateOutcome::Ended => Err(ChannelError::Ended),
            RotateOutcome::Unsigned => Err(ChannelError::Unsigned),
            RotateOutcome::TooMany { first_gone_at } => Err(ChannelError::TooManySecrets { first_gone_at }),
        }
    }

    /// A signing secret as it is stored.
    pub(super) fn seal_secret(
        &self,
        project: &str,
        uid: &str,
        secret: &SigningSecret,
    ) -> Result<Vec<u8>, StoreError> {
        let sealed =
            self.keys.sealer.seal(secret.as_bytes(), &secret_place(project, uid), self.entropy.bytes());
        sealed.map_err(|_| StoreError::Unwritable("secret"))
    }

    fn has_secret(&self, channel: &Channel, secret: &SigningSecret) -> bool {
        let place = secret_place(&channel.project, &channel.uid);
        let sealed = channel.sealed_secret.as_deref();
        sealed.and_then(|sealed| self.keys.sealer.open(sealed, &place).ok()).as_deref()
            == Some(secret.as_bytes())
    }
}
