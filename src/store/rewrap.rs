//! What is sealed under the master key, walked once to be sealed under another. The store sees sealed bytes alone; who
//! opens and seals them is `app::rewrap`.
//!
//! While a walk is under way a fact says to which key it goes, and no server starts. So it can end anywhere and be begun
//! again: what has the new key already is told from what does not by trying.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use super::{
    Store,
    channels::{read_retiring, write_retiring},
    connection::on,
    error::{StoreError, StoreResult},
    facts::MASTER_KEY,
    schema::{channels, facts, signing_keys},
};
use crate::domain::{
    channel::{ChannelKey, ChannelOptions},
    secret::RetiringSecret,
};

/// The fingerprint of the key that a walk under way goes to.
const REWRAP_TO: &str = "rewrap_to";

/// Channels that one transaction reads or writes.
const SLICE_CHANNELS: i64 = 256;

/// All that is sealed of one channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedOfChannel {
    pub key: ChannelKey,
    pub project: String,
    pub uid: String,
    pub token: Option<String>,
    pub secret: Option<Vec<u8>>,
    pub retiring: Vec<RetiringSecret>,
    pub options: ChannelOptions,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RewrapBegun {
    Begun,
    /// The store is under that key already.
    Done,
    /// A walk to another key is under way.
    Another,
}

type SealedRow = (i64, String, String, Option<String>, Option<Vec<u8>>, Option<String>, String);

impl Store {
    /// Begins a walk to the key with the fingerprint `to`, or goes on with it.
    pub async fn begin_rewrap(&self, to: String) -> StoreResult<RewrapBegun> {
        self.write(move |connection| {
            let to = to.clone();
            Box::pin(async move {
                let master: Option<String> = on!(connection, c => {
                    facts::table.find(MASTER_KEY).select(facts::value).first(c).await.optional()
                })?;
                if master.as_ref() == Some(&to) {
                    return Ok(RewrapBegun::Done);
                }
                on!(connection, c => {
                    diesel::insert_into(facts::table)
                        .values((facts::name.eq(REWRAP_TO), facts::value.eq(&to)))
                        .on_conflict_do_nothing()
                        .execute(c)
                        .await
                })?;
                let under_way: String =
                    on!(connection, c => facts::table.find(REWRAP_TO).select(facts::value).first(c).await)?;
                Ok(if under_way == to { RewrapBegun::Begun } else { RewrapBegun::Another })
            })
        })
        .await
    }

    /// Whether a walk has begun and not ended.
    pub async fn is_rewrapping(&self) -> StoreResult<bool> {
        self.read(move |connection| {
            Box::pin(async move {
                let to: Option<String> = on!(connection, c => {
                    facts::table.find(REWRAP_TO).select(facts::value).first(c).await.optional()
                })?;
                Ok(to.is_some())
            })
        })
        .await
    }

    /// Ends the walk: from now on the store is under the key with the fingerprint `to`.
    pub async fn finish_rewrap(&self, to: String) -> StoreResult<()> {
        self.write(move |connection| {
            let to = to.clone();
            Box::pin(async move {
                on!(connection, c => {
                    diesel::update(facts::table.find(MASTER_KEY)).set(facts::value.eq(&to)).execute(c).await
                })?;
                on!(connection, c => diesel::delete(facts::table.find(REWRAP_TO)).execute(c).await)?;
                Ok(())
            })
        })
        .await
    }

    /// A slice of all channels after `after`, ended ones among them. Empty after the last one.
    pub async fn sealed_of_channels(&self, after: ChannelKey) -> StoreResult<Vec<SealedOfChannel>> {
        self.read(move |connection| {
            Box::pin(async move {
                let rows: Vec<SealedRow> = on!(connection, c => {
                    channels::table
                        .filter(channels::id.gt(after.0))
                        .order(channels::id)
                        .limit(SLICE_CHANNELS)
                        .select((
                            channels::id,
                            channels::project,
                            channels::uid,
                            channels::token,
                            channels::sealed_secret,
                            channels::retiring_secrets,
                            channels::options,
                        ))
                        .load(c)
                        .await
                })?;
                rows.into_iter().map(sealed).collect()
            })
        })
        .await
    }

    /// Writes a slice of channels as they are sealed now.
    pub async fn reseal_channels(&self, resealed: Vec<SealedOfChannel>) -> StoreResult<()> {
        let resealed = std::sync::Arc::new(resealed);
        self.write(move |connection| {
            let resealed = std::sync::Arc::clone(&resealed);
            Box::pin(async move {
                for channel in resealed.iter() {
                    let options = serde_json::to_string(&channel.options)
                        .map_err(|_| StoreError::Unwritable("options"))?;
                    let retiring = write_retiring(&channel.retiring)?;
                    on!(connection, c => {
                        diesel::update(channels::table.find(channel.key.0))
                            .set((
                                channels::token.eq(&channel.token),
                                channels::sealed_secret.eq(&channel.secret),
                                channels::retiring_secrets.eq(&retiring),
                                channels::options.eq(&options),
                            ))
                            .execute(c)
                            .await
                    })?;
                }
                Ok(())
            })
        })
        .await
    }

    /// Writes a signing key as it is sealed now.
    pub async fn reseal_signing_key(&self, n: i64, sealed: Vec<u8>) -> StoreResult<()> {
        self.write(move |connection| {
            let sealed = sealed.clone();
            Box::pin(async move {
                on!(connection, c => {
                    diesel::update(signing_keys::table.find(n))
                        .set(signing_keys::sealed.eq(&sealed))
                        .execute(c)
                        .await
                })?;
                Ok(())
            })
        })
        .await
    }
}

fn sealed((key, project, uid, token, secret, retiring, options): SealedRow) -> StoreResult<SealedOfChannel> {
    Ok(SealedOfChannel {
        key: ChannelKey(key),
        project,
        uid,
        token,
        secret,
        retiring: read_retiring(retiring.as_deref())?,
        options: serde_json::from_str(&options).map_err(|_| StoreError::Unreadable("options"))?,
    })
}
