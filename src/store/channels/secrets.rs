//! A channel's signing secret is replaced, and what was replaced is destroyed once it has had its time. The store sees
//! sealed bytes alone.

use base64::{Engine, prelude::BASE64_STANDARD};
use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{change::revise, locked::lock};
use crate::{
    domain::{
        channel::ChannelKey,
        secret::{RETIRING_MAX, RetiringSecret, retire},
        time::Timestamp,
    },
    store::{
        Store,
        connection::{Connection, on},
        error::{StoreError, StoreResult},
        own::{self, Told},
        retention::Old,
        schema::channels,
    },
};

/// Channels whose replaced secrets are looked at by one transaction.
const SLICE_CHANNELS: i64 = 256;

/// What becomes of a channel's secrets.
#[derive(Clone, Debug)]
pub struct SecretRotation {
    /// The new secret; none keeps the present one and only shortens the overlap.
    pub sealed: Option<Vec<u8>>,
    /// No earlier secret signs from this moment on.
    pub overlap_ends_at: Timestamp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RotateOutcome {
    /// With the moment from which the new secret signs alone, where others still sign.
    Rotated {
        overlap_ends_at: Option<Timestamp>,
    },
    Ended,
    /// The channel is signed by no secret.
    Unsigned,
    /// Too many secrets are on their way out; the first of them is gone at this moment.
    TooMany {
        first_gone_at: Timestamp,
    },
}

impl Store {
    /// Replaces a channel's signing secret, and tells its owner. What is replaced signs until the overlap ends.
    pub async fn rotate_secret(
        &self,
        key: ChannelKey,
        rotation: SecretRotation,
        now: Timestamp,
    ) -> StoreResult<RotateOutcome> {
        self.write(move |connection| {
            let rotation = rotation.clone();
            Box::pin(async move { rotate(connection, key, rotation, now).await })
        })
        .await
    }

    /// A slice of the channels after `after` that have replaced secrets: destroys, or counts, those that have had their
    /// time. How many they were and where the next slice begins; `None` after the last one.
    pub async fn old_secrets(
        &self,
        after: ChannelKey,
        now: Timestamp,
        old: Old,
    ) -> StoreResult<Option<(u64, ChannelKey)>> {
        if old == Old::Count {
            return self
                .read(move |connection| {
                    Box::pin(async move {
                        let slice = slice_after(connection, after).await?;
                        let mut count = 0;
                        for (_, text) in &slice {
                            let expired =
                                read(Some(text))?.iter().filter(|secret| !secret.signs(now)).count();
                            count += u64::try_from(expired).unwrap_or(0);
                        }
                        Ok(slice.last().map(|(last, _)| (count, ChannelKey(*last))))
                    })
                })
                .await;
        }
        self.write(move |connection| Box::pin(async move { destroy_slice(connection, after, now).await }))
            .await
    }
}

async fn rotate(
    connection: &mut Connection,
    key: ChannelKey,
    rotation: SecretRotation,
    now: Timestamp,
) -> StoreResult<RotateOutcome> {
    let Some(locked) = lock(connection, key).await? else { return Ok(RotateOutcome::Ended) };
    if !locked.is_changeable(false, now) {
        return Ok(RotateOutcome::Ended);
    }
    let (present, text): (Option<Vec<u8>>, Option<String>) = on!(connection, c => {
        channels::table
            .find(key.0)
            .select((channels::sealed_secret, channels::retiring_secrets))
            .first(c)
            .await
    })?;
    let Some(present) = present else { return Ok(RotateOutcome::Unsigned) };
    let before = read(text.as_deref())?;
    let replaced = rotation.sealed.is_some().then(|| present.clone());
    let retiring = retire(before.clone(), replaced, rotation.overlap_ends_at, now);
    if retiring.len() > RETIRING_MAX {
        let first = retiring.iter().map(|secret| secret.until).min();
        return Ok(RotateOutcome::TooMany { first_gone_at: first.unwrap_or(now) });
    }
    let overlap_ends_at = retiring.iter().map(|secret| secret.until).max();
    if rotation.sealed.is_none() && retiring == before {
        return Ok(RotateOutcome::Rotated { overlap_ends_at });
    }
    let text = write(&retiring)?;
    on!(connection, c => {
        diesel::update(channels::table.find(key.0))
            .set((
                channels::sealed_secret.eq(rotation.sealed.as_ref().unwrap_or(&present)),
                channels::retiring_secrets.eq(&text),
            ))
            .execute(c)
            .await
    })?;
    revise(connection, key).await?;
    let details = json!({ "overlapEndsAt": overlap_ends_at.map(Timestamp::to_rfc3339) });
    own::tell(connection, key, Told::SecretRotated, details, now).await?;
    Ok(RotateOutcome::Rotated { overlap_ends_at })
}

async fn slice_after(connection: &mut Connection, after: ChannelKey) -> StoreResult<Vec<(i64, String)>> {
    Ok(on!(connection, c => {
        channels::table
            .filter(channels::retiring_secrets.is_not_null())
            .filter(channels::id.gt(after.0))
            .order(channels::id)
            .limit(SLICE_CHANNELS)
            .select((channels::id, channels::retiring_secrets.assume_not_null()))
            .load(c)
            .await
    })?)
}

/// Nothing is sent otherwise for it: a secret that has had its time signs no more, whether or not it is still here.
async fn destroy_slice(
    connection: &mut Connection,
    after: ChannelKey,
    now: Timestamp,
) -> StoreResult<Option<(u64, ChannelKey)>> {
    let slice = slice_after(connection, after).await?;
    let mut count = 0;
    for (id, text) in &slice {
        let before = read(Some(text))?;
        let left: Vec<RetiringSecret> = before.iter().filter(|secret| secret.signs(now)).cloned().collect();
        if left.len() == before.len() {
            continue;
        }
        let left_text = write(&left)?;
        // A rotation under way elsewhere has the last word.
        let changed = on!(connection, c => {
            diesel::update(channels::table.find(id).filter(channels::retiring_secrets.eq(text)))
                .set(channels::retiring_secrets.eq(&left_text))
                .execute(c)
                .await
        })?;
        if changed > 0 {
            count += u64::try_from(before.len() - left.len()).unwrap_or(0);
        }
    }
    Ok(slice.last().map(|(last, _)| (count, ChannelKey(*last))))
}

/// A retiring secret as the column has it.
#[derive(Serialize, Deserialize)]
struct Stored {
    sealed: String,
    until: i64,
}

pub(in crate::store) fn read(text: Option<&str>) -> StoreResult<Vec<RetiringSecret>> {
    let unreadable = || StoreError::Unreadable("retiring_secrets");
    let Some(text) = text else { return Ok(Vec::new()) };
    let stored: Vec<Stored> = serde_json::from_str(text).map_err(|_| unreadable())?;
    let secret = |stored: Stored| {
        let sealed = BASE64_STANDARD.decode(stored.sealed).map_err(|_| unreadable())?;
        Ok(RetiringSecret { sealed, until: Timestamp::from_millis(stored.until) })
    };
    stored.into_iter().map(secret).collect()
}

/// `None`, and so no entry in the index, where nothing is on its way out.
pub(in crate::store) fn write(retiring: &[RetiringSecret]) -> StoreResult<Option<String>> {
    if retiring.is_empty() {
        return Ok(None);
    }
    let stored: Vec<Stored> = retiring
        .iter()
        .map(|secret| Stored {
            sealed: BASE64_STANDARD.encode(&secret.sealed),
            until: secret.until.as_millis(),
        })
        .collect();
    serde_json::to_string(&stored).map(Some).map_err(|_| StoreError::Unwritable("retiring_secrets"))
}
