//! Resources: the heads of the logs.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use super::{
    Store,
    connection::{Connection, Handle, on},
    error::StoreResult,
    schema::{channels, resources},
};
use crate::domain::{
    channel::{ChannelState, ResourceKey},
    resource::ResourcePath,
    time::Timestamp,
};

#[derive(Debug, Insertable)]
#[diesel(table_name = resources)]
pub(super) struct NewResourceRow<'a> {
    pub project: &'a str,
    pub path: &'a str,
    pub resource_id: String,
    pub shard: i16,
    pub head_seq: i64,
    pub created_at_ms: i64,
}

impl<'a> NewResourceRow<'a> {
    pub(super) fn new(project: &'a str, path: &'a ResourcePath, now: Timestamp) -> Self {
        Self {
            project,
            path: path.as_str(),
            resource_id: path.resource_id(project),
            shard: path.shard(project),
            head_seq: 0,
            created_at_ms: now.as_millis(),
        }
    }
}

/// A resource's row key and head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    pub key: ResourceKey,
    pub seq: i64,
}

/// Makes the resource if need be and locks its row: until the transaction ends nobody appends to it.
pub(super) async fn lock_or_create(
    connection: &mut Connection,
    project: &str,
    path: &ResourcePath,
    now: Timestamp,
) -> StoreResult<Head> {
    on!(connection, c => {
        diesel::insert_into(resources::table)
            .values(NewResourceRow::new(project, path, now))
            .on_conflict_do_nothing()
            .execute(c)
            .await
    })?;
    let key: i64 = on!(connection, c => {
        resources::table
            .filter(resources::project.eq(project))
            .filter(resources::path.eq(path.as_str()))
            .select(resources::id)
            .first(c)
            .await
    })?;
    lock(connection, ResourceKey(key)).await
}

/// Locks a resource's row and reads its head. SQLite's writer is alone, so there the read is enough.
pub(super) async fn lock(connection: &mut Connection, key: ResourceKey) -> StoreResult<Head> {
    let row = resources::table.find(key.0).select(resources::head_seq);
    let seq = match &mut connection.handle {
        Handle::Sqlite(c) => row.first(&mut **c).await,
        Handle::Postgres(c) => row.for_update().first(&mut **c).await,
    }?;
    Ok(Head { key, seq })
}

impl Store {
    /// The path of a resource and how many channels watch it that have not ended.
    pub async fn watchers(&self, key: ResourceKey) -> StoreResult<Option<(ResourcePath, i64)>> {
        self.read(move |connection| {
            Box::pin(async move {
                let path: Option<String> = on!(connection, c => {
                    resources::table.find(key.0).select(resources::path).first(c).await.optional()
                })?;
                let count: i64 = on!(connection, c => {
                    channels::table
                        .filter(channels::resource.eq(key.0))
                        .filter(channels::state.eq_any(ChannelState::LIVING.map(ChannelState::as_str)))
                        .count()
                        .get_result(c)
                        .await
                })?;
                Ok(path.map(|path| (ResourcePath::from_stored(path), count)))
            })
        })
        .await
    }

    /// The head of a resource, if anybody ever watched it or published to it.
    pub async fn head(&self, project: &str, path: &ResourcePath) -> StoreResult<Option<Head>> {
        let (project, path) = (project.to_owned(), path.clone());
        self.read(move |connection| {
            Box::pin(async move {
                let found: Option<(i64, i64)> = on!(connection, c => {
                    resources::table
                        .filter(resources::project.eq(&project))
                        .filter(resources::path.eq(path.as_str()))
                        .select((resources::id, resources::head_seq))
                        .first(c)
                        .await
                        .optional()
                })?;
                Ok(found.map(|(key, seq)| Head { key: ResourceKey(key), seq }))
            })
        })
        .await
    }
}
