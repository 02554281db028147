//! What a store knows of itself.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use super::{Store, connection::on, error::StoreResult, schema::facts};

/// A fingerprint of the master key that the store's secrets are sealed under.
pub(super) const MASTER_KEY: &str = "master_key_fingerprint";

impl Store {
    /// The fingerprint of the master key that the store was first used with.
    pub async fn master_key_fingerprint(&self) -> StoreResult<Option<String>> {
        self.read(move |connection| {
            Box::pin(async move {
                Ok(on!(connection, c => {
                    facts::table.find(MASTER_KEY).select(facts::value).first(c).await.optional()
                })?)
            })
        })
        .await
    }

    /// Remembers the master key's fingerprint unless one is known, and returns the one that is.
    pub async fn remember_master_key(&self, fingerprint: String) -> StoreResult<String> {
        self.write(move |connection| {
            let fingerprint = fingerprint.clone();
            Box::pin(async move {
                on!(connection, c => {
                    diesel::insert_into(facts::table)
                        .values((facts::name.eq(MASTER_KEY), facts::value.eq(&fingerprint)))
                        .on_conflict_do_nothing()
                        .execute(c)
                        .await
                })?;
                Ok(on!(connection, c => facts::table.find(MASTER_KEY).select(facts::value).first(c).await)?)
            })
        })
        .await
    }
}
