//! API keys, each by the hash of its text. Looked up afresh for every request, so that one that is revoked on one node
//! is refused on all of them at once.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use super::{
    Store,
    connection::on,
    error::{StoreError, StoreResult},
    schema::api_keys,
};
use crate::domain::time::Timestamp;

/// A key as it may be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiKey {
    /// Its place in lists.
    pub row: i64,
    pub project: String,
    pub id: String,
    pub name: Option<String>,
    pub subject: String,
    /// Words, separated by spaces.
    pub scopes: String,
    /// Patterns of what may be watched; `None` is the whole project.
    pub resources: Option<Vec<String>>,
    pub created_at: Timestamp,
    /// `None` where it lives until it is revoked.
    pub expires_at: Option<Timestamp>,
    /// Not later than this by more than the coarseness with which it is written.
    pub last_used_at: Option<Timestamp>,
}

#[derive(Clone, Debug)]
pub struct NewApiKey {
    pub project: String,
    pub id: String,
    pub name: Option<String>,
    pub subject: String,
    pub scopes: String,
    pub resources: Option<Vec<String>>,
    pub expires_at: Option<Timestamp>,
    pub hash: [u8; 32],
}

#[derive(Debug, Queryable, Selectable)]
#[diesel(table_name = api_keys)]
struct Row {
    id: i64,
    project: String,
    key_id: String,
    name: Option<String>,
    subject: String,
    scopes: String,
    resources: Option<String>,
    created_at_ms: i64,
    expires_at_ms: Option<i64>,
    last_used_at_ms: Option<i64>,
}

impl TryFrom<Row> for ApiKey {
    type Error = StoreError;

    fn try_from(row: Row) -> StoreResult<Self> {
        let resources = row.resources.map(|text| serde_json::from_str(&text)).transpose();
        Ok(Self {
            row: row.id,
            project: row.project,
            id: row.key_id,
            name: row.name,
            subject: row.subject,
            scopes: row.scopes,
            resources: resources.map_err(|_| StoreError::Unreadable("resources"))?,
            created_at: Timestamp::from_millis(row.created_at_ms),
            expires_at: row.expires_at_ms.map(Timestamp::from_millis),
            last_used_at: row.last_used_at_ms.map(Timestamp::from_millis),
        })
    }
}

impl Store {
    pub async fn add_api_key(&self, new: NewApiKey, now: Timestamp) -> StoreResult<ApiKey> {
        let resources = new.resources.as_ref().map(serde_json::to_string).transpose();
        let resources = resources.map_err(|_| StoreError::Unwritable("resources"))?;
        self.write(move |connection| {
            let (new, resources) = (new.clone(), resources.clone());
            Box::pin(async move {
                on!(connection, c => {
                    diesel::insert_into(api_keys::table)
                        .values((
                            api_keys::project.eq(&new.project),
                            api_keys::key_id.eq(&new.id),
                            api_keys::name.eq(&new.name),
                            api_keys::subject.eq(&new.subject),
                            api_keys::scopes.eq(&new.scopes),
                            api_keys::resources.eq(&resources),
                            api_keys::hash.eq(new.hash.as_slice()),
                            api_keys::created_at_ms.eq(now.as_millis()),
                            api_keys::expires_at_ms.eq(new.expires_at.map(Timestamp::as_millis)),
                        ))
                        .execute(c)
                        .await
                })?;
                let row: Row = on!(connection, c => {
                    api_keys::table
                        .filter(api_keys::project.eq(&new.project).and(api_keys::key_id.eq(&new.id)))
                        .select(Row::as_select())
                        .first(c)
                        .await
                })?;
                row.try_into()
            })
        })
        .await
    }

    /// The key with this hash, unless it has expired. The one query without a project: the key says which it is.
    pub async fn api_key_by_hash(&self, hash: [u8; 32], now: Timestamp) -> StoreResult<Option<ApiKey>> {
        self.read(move |connection| {
            Box::pin(async move {
                let row: Option<Row> = on!(connection, c => {
                    let lives = api_keys::expires_at_ms
                        .is_null()
                        .or(api_keys::expires_at_ms.assume_not_null().gt(now.as_millis()));
                    api_keys::table
                        .filter(api_keys::hash.eq(hash.as_slice()).and(lives))
                        .select(Row::as_select())
                        .first(c)
                        .await
                        .optional()
                })?;
                row.map(TryInto::try_into).transpose()
            })
        })
        .await
    }

    /// A page of a project's keys, newest first, before the one of `before`.
    pub async fn api_keys(&self, project: &str, before: Option<i64>, limit: i64) -> StoreResult<Vec<ApiKey>> {
        let project = project.to_owned();
        self.read(move |connection| {
            Box::pin(async move {
                let rows: Vec<Row> = on!(connection, c => {
                    api_keys::table
                        .filter(
                            api_keys::project.eq(&project).and(api_keys::id.lt(before.unwrap_or(i64::MAX))),
                        )
                        .order(api_keys::id.desc())
                        .limit(limit)
                        .select(Row::as_select())
                        .load(c)
                        .await
                })?;
                rows.into_iter().map(TryInto::try_into).collect()
            })
        })
        .await
    }

    /// Whether there was such a key. Once this returns no node takes it any more.
    pub async fn delete_api_key(&self, project: &str, id: &str) -> StoreResult<bool> {
        let (project, id) = (project.to_owned(), id.to_owned());
        self.write(move |connection| {
            let (project, id) = (project.clone(), id.clone());
            Box::pin(async move {
                let deleted = on!(connection, c => {
                    diesel::delete(
                        api_keys::table.filter(api_keys::project.eq(&project).and(api_keys::key_id.eq(&id))),
                    )
                    .execute(c)
                    .await
                })?;
                Ok(deleted > 0)
            })
        })
        .await
    }

    /// Remembers that a key was used.
    pub async fn use_api_key(&self, project: &str, row: i64, now: Timestamp) -> StoreResult<()> {
        let project = project.to_owned();
        self.write(move |connection| {
            let project = project.clone();
            Box::pin(async move {
                on!(connection, c => {
                    diesel::update(
                        api_keys::table.filter(api_keys::project.eq(&project).and(api_keys::id.eq(row))),
                    )
                    .set(api_keys::last_used_at_ms.eq(now.as_millis()))
                    .execute(c)
                    .await
                })?;
                Ok(())
            })
        })
        .await
    }
}
