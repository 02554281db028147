//! The server's own signing keys, as sealed bytes. Few, read whole.

use std::time::Duration;

use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use super::{
    Old, Store,
    connection::{Connection, on},
    error::StoreResult,
    schema::signing_keys,
};
use crate::domain::{
    signing_key::{KEYS_MAX, SigningKeyRecord, signs_from},
    time::Timestamp,
};

/// More rows than are ever published; what is gone waits for the job.
const ROWS_MAX: i64 = 1_000;

/// A key to be added to the succession.
#[derive(Clone, Debug)]
pub struct NewSigningKey {
    pub kid: String,
    pub sealed: Vec<u8>,
    pub public_key: Vec<u8>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RotateKeysOutcome {
    /// The keys as they are now, oldest first.
    Rotated(Vec<SigningKeyRecord>),
    /// Too many are published; the first of them is gone at this moment.
    TooMany { first_gone_at: Timestamp },
    /// Somebody else was faster.
    Raced,
}

#[derive(Debug, Queryable, Selectable, Insertable)]
#[diesel(table_name = signing_keys)]
struct KeyRow {
    n: i64,
    kid: String,
    sealed: Vec<u8>,
    public_key: Vec<u8>,
    created_at_ms: i64,
    signs_from_ms: i64,
    until_ms: Option<i64>,
}

impl From<KeyRow> for SigningKeyRecord {
    fn from(row: KeyRow) -> Self {
        Self {
            n: row.n,
            kid: row.kid,
            sealed: row.sealed,
            public_key: row.public_key,
            created_at: Timestamp::from_millis(row.created_at_ms),
            signs_from: Timestamp::from_millis(row.signs_from_ms),
            until: row.until_ms.map(Timestamp::from_millis),
        }
    }
}

impl Store {
    /// All keys, oldest first, those that are gone but not destroyed yet among them.
    pub async fn signing_keys(&self) -> StoreResult<Vec<SigningKeyRecord>> {
        self.read(move |connection| Box::pin(async move { all(connection).await })).await
    }

    /// Adds a key to the succession: it is published now, and whatever was before is gone once `overlap` has passed.
    pub async fn rotate_signing_keys(
        &self,
        new: NewSigningKey,
        overlap: Duration,
        now: Timestamp,
    ) -> StoreResult<RotateKeysOutcome> {
        self.write(move |connection| {
            let new = new.clone();
            Box::pin(async move { rotate(connection, new, overlap, now).await })
        })
        .await
    }

    /// Makes `new` the first key, unless there is one.
    pub async fn begin_signing_keys(&self, new: NewSigningKey, now: Timestamp) -> StoreResult<()> {
        self.write(move |connection| {
            let new = new.clone();
            Box::pin(async move { insert(connection, row_of(new, 1, now, now)).await.map(drop) })
        })
        .await
    }

    /// Destroys, or counts, the keys that are gone.
    pub async fn old_signing_keys(&self, now: Timestamp, old: Old) -> StoreResult<u64> {
        if old == Old::Count {
            let keys = self.signing_keys().await?;
            let gone = keys.iter().filter(|key| !key.is_published(now)).count();
            return Ok(u64::try_from(gone).unwrap_or(0));
        }
        self.write(move |connection| {
            Box::pin(async move {
                let destroyed = on!(connection, c => {
                    diesel::delete(signing_keys::table)
                        .filter(signing_keys::until_ms.le(now.as_millis()))
                        .execute(c)
                        .await
                })?;
                Ok(u64::try_from(destroyed).unwrap_or(0))
            })
        })
        .await
    }
}

async fn all(connection: &mut Connection) -> StoreResult<Vec<SigningKeyRecord>> {
    let rows: Vec<KeyRow> = on!(connection, c => {
        signing_keys::table
            .order(signing_keys::n)
            .limit(ROWS_MAX)
            .select(KeyRow::as_select())
            .load(c)
            .await
    })?;
    Ok(rows.into_iter().map(SigningKeyRecord::from).collect())
}

async fn rotate(
    connection: &mut Connection,
    new: NewSigningKey,
    overlap: Duration,
    now: Timestamp,
) -> StoreResult<RotateKeysOutcome> {
    let before = all(connection).await?;
    let ends_at = now.plus(overlap);
    // What is still there once the new key is.
    let published: Vec<_> = before.iter().filter(|key| key.is_published(now) && now < ends_at).collect();
    if published.len() >= KEYS_MAX {
        let first = published.iter().filter_map(|key| key.until).min();
        return Ok(RotateKeysOutcome::TooMany { first_gone_at: first.unwrap_or(ends_at) });
    }
    let n = before.last().map_or(1, |key| key.n + 1);
    let signs_from = if published.is_empty() { now } else { signs_from(overlap, now) };
    // INVARIANT: who inserts `n` is alone in ending what came before it.
    if !insert(connection, row_of(new, n, signs_from, now)).await? {
        return Ok(RotateKeysOutcome::Raced);
    }
    on!(connection, c => {
        diesel::update(signing_keys::table)
            .filter(signing_keys::n.lt(n))
            .filter(signing_keys::until_ms.is_null().or(signing_keys::until_ms.gt(ends_at.as_millis())))
            .set(signing_keys::until_ms.eq(Some(ends_at.as_millis())))
            .execute(c)
            .await
    })?;
    all(connection).await.map(RotateKeysOutcome::Rotated)
}

fn row_of(new: NewSigningKey, n: i64, signs_from: Timestamp, now: Timestamp) -> KeyRow {
    KeyRow {
        n,
        kid: new.kid,
        sealed: new.sealed,
        public_key: new.public_key,
        created_at_ms: now.as_millis(),
        signs_from_ms: signs_from.as_millis(),
        until_ms: None,
    }
}

async fn insert(connection: &mut Connection, row: KeyRow) -> StoreResult<bool> {
    let inserted = on!(connection, c => {
        diesel::insert_into(signing_keys::table).values(&row).on_conflict_do_nothing().execute(c).await
    })?;
    Ok(inserted > 0)
}
