//! What makes a notification authentic: signatures over id, time and body, and a token that also says what stands in
//! headers alone.

use http::{HeaderMap, header::AUTHORIZATION};

use super::{Notification, OwnHeaders, Subject, WEBHOOK_SIGNATURE, put};
use crate::{
    domain::{
        channel::{Format, SignatureScheme},
        google_state::resource_state,
        notice::NoticeKind,
    },
    engine::{auth::Proof, keyring::KeySet},
    signing::{self, JwtError, NotificationClaims},
};

/// Whose name is on a notification.
#[derive(Clone, Copy, Debug)]
pub struct Signer<'k> {
    /// The server's own keys, for channels that ask for what they sign.
    pub keys: Option<&'k KeySet>,
    /// The server, by its public URL.
    pub issuer: &'k str,
}

/// Adds what the channel asked for. An error means that the notification must not leave: it would be unsigned.
pub(super) fn sign(
    notification: &Notification<'_>,
    signer: Signer<'_>,
    own: &OwnHeaders,
    webhook_id: &str,
    body: &[u8],
    headers: &mut HeaderMap,
) -> Result<(), JwtError> {
    let (target, now) = (notification.target, notification.now);
    let mut signatures: Vec<String> =
        target.secrets(now).map(|secret| signing::sign(secret, webhook_id, now, body)).collect();
    if target.asks_for(SignatureScheme::V1a) {
        let keys = signer.keys.ok_or(JwtError::Mint)?;
        let before = signatures.len();
        signatures.extend(keys.published(now).map(|key| key.sign(webhook_id, now, body)));
        // Keys that do not open sign nothing, and an unsigned notification must not pass for a signed one.
        if signatures.len() == before {
            return Err(JwtError::Mint);
        }
    }
    if !signatures.is_empty() {
        put(headers, WEBHOOK_SIGNATURE, &signatures.join(" "));
    }
    if target.asks_for(SignatureScheme::Jwt) {
        put(headers, own.token.clone(), &token(notification, signer, webhook_id, body, None)?);
    }
    match target.proof(notification.notice()) {
        Some(Proof::Fixed(name, value)) => {
            headers.insert(name.clone(), value.clone());
        }
        Some(Proof::Token { audience }) => {
            let token = token(notification, signer, webhook_id, body, Some(audience))?;
            put(headers, AUTHORIZATION, &format!("Bearer {token}"));
        }
        None => {}
    }
    Ok(())
}

/// A token of this notification, for an audience where the owner has named one.
fn token(
    notification: &Notification<'_>,
    signer: Signer<'_>,
    webhook_id: &str,
    body: &[u8],
    audience: Option<&str>,
) -> Result<String, JwtError> {
    let (channel, now) = (&notification.target.channel, notification.now);
    let claims = NotificationClaims {
        iss: signer.issuer,
        aud: audience,
        sub: &channel.uid,
        jti: webhook_id,
        channel: &channel.id,
        number: notification.number,
        state: state_of(notification),
        event_id: match &notification.subject {
            Subject::Event { event, .. } => Some(&event.id),
            Subject::Sync | Subject::Notice(_) => None,
        },
        notice: notification.notice().map(NoticeKind::as_str),
        body_sha256: &signing::body_digest(body),
    };
    let key = signer.keys.and_then(|keys| keys.signer(now)).ok_or(JwtError::Mint)?;
    signing::mint_notification(key, &claims, now)
}

/// The state as the notification itself words it.
fn state_of<'n>(notification: &'n Notification<'_>) -> &'n str {
    let channel = &notification.target.channel;
    let google = channel.format == Format::Google;
    match &notification.subject {
        Subject::Sync => "sync",
        Subject::Event { event, .. } if google => resource_state(channel.resource_path.as_str(), event),
        Subject::Event { event, .. } => &event.state,
        Subject::Notice(told) if google => told.kind.as_str(),
        Subject::Notice(_) => channel.state.as_str(),
    }
}
