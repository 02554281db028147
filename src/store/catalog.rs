//! Resources as their project sees them: listed, read, declared. That a resource exists is `resources`' business.

use std::collections::HashSet;

use diesel::{
    prelude::*,
    sql_types::{BigInt, Bool, Nullable, Text},
};
use diesel_async::RunQueryDsl;

use super::{
    Store,
    connection::{Connection, on},
    error::{StoreError, StoreResult},
    resources,
    schema::resources as rows,
};
use crate::domain::{channel::ResourceKey, resource::ResourcePath, time::Timestamp};

/// A resource with what its log holds and how many watch it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResourceView {
    pub key: ResourceKey,
    pub path: ResourcePath,
    pub resource_id: String,
    pub head_seq: i64,
    /// `None` when the log holds nothing (any more).
    pub oldest_seq: Option<i64>,
    /// Channels that have not ended.
    pub channels: i64,
    pub declared: bool,
    pub created_at: Timestamp,
}

#[derive(Debug, QueryableByName)]
struct Row {
    #[diesel(sql_type = BigInt)]
    id: i64,
    #[diesel(sql_type = Text)]
    path: String,
    #[diesel(sql_type = Text)]
    resource_id: String,
    #[diesel(sql_type = BigInt)]
    head_seq: i64,
    #[diesel(sql_type = Bool)]
    declared: bool,
    #[diesel(sql_type = BigInt)]
    created_at_ms: i64,
    #[diesel(sql_type = Nullable<BigInt>)]
    oldest_seq: Option<i64>,
    #[diesel(sql_type = BigInt)]
    channels: i64,
}

impl From<Row> for ResourceView {
    fn from(row: Row) -> Self {
        Self {
            key: ResourceKey(row.id),
            path: ResourcePath::from_stored(row.path),
            resource_id: row.resource_id,
            head_seq: row.head_seq,
            oldest_seq: row.oldest_seq,
            channels: row.channels,
            declared: row.declared,
            created_at: Timestamp::from_millis(row.created_at_ms),
        }
    }
}

macro_rules! views {
    ($which:literal) => {
        diesel::sql_query(concat!(
            "select r.id, r.path, r.resource_id, r.head_seq, r.declared, r.created_at_ms,
                    (select min(e.seq) from events e where e.resource = r.id) as oldest_seq,
                    (select count(*) from channels c where c.resource = r.id
                       and c.state in ('active', 'paused', 'suspended')) as channels
             from resources r where r.project = $1 and ",
            $which
        ))
    };
}

impl Store {
    pub async fn resource(&self, project: &str, resource_id: &str) -> StoreResult<Option<ResourceView>> {
        let (project, resource_id) = (project.to_owned(), resource_id.to_owned());
        self.read(move |connection| Box::pin(async move { find(connection, &project, &resource_id).await }))
            .await
    }

    /// A page of a project's resources in the order of their paths, after the one of `after`.
    pub async fn resources(
        &self,
        project: &str,
        after: Option<ResourceKey>,
        limit: i64,
    ) -> StoreResult<Vec<ResourceView>> {
        let project = project.to_owned();
        self.read(move |connection| {
            Box::pin(async move {
                // The key of another project's resource names no place in this list.
                let after = after.map_or(0, |after| after.0);
                let rows: Vec<Row> = on!(connection, c => {
                    views!(
                        "r.path > coalesce((select path from resources where id = $2 and project = r.project), '')
                         order by r.path limit $3"
                    )
                    .bind::<Text, _>(&project)
                    .bind::<BigInt, _>(after)
                    .bind::<BigInt, _>(limit)
                    .load(c)
                    .await
                })?;
                Ok(rows.into_iter().map(Into::into).collect())
            })
        })
        .await
    }

    /// Makes a resource exist, and says whether it did not before.
    pub async fn declare_resource(
        &self,
        project: &str,
        path: &ResourcePath,
        now: Timestamp,
    ) -> StoreResult<(ResourceView, bool)> {
        let (project, path) = (project.to_owned(), path.clone());
        self.write(move |connection| {
            let (project, path) = (project.clone(), path.clone());
            Box::pin(async move {
                let head = resources::lock_or_create(connection, &project, &path, now).await?;
                let declared = on!(connection, c => {
                    diesel::update(rows::table.find(head.key.0).filter(rows::declared.eq(false)))
                        .set(rows::declared.eq(true))
                        .execute(c)
                        .await
                })?;
                let found = find(connection, &project, &path.resource_id(&project)).await?;
                Ok((found.ok_or(StoreError::Unreadable("resource"))?, declared > 0))
            })
        })
        .await
    }

    /// Which of these paths are declared.
    pub async fn declared_resources(
        &self,
        project: &str,
        paths: Vec<ResourcePath>,
    ) -> StoreResult<HashSet<ResourcePath>> {
        let project = project.to_owned();
        self.read(move |connection| {
            Box::pin(async move {
                let paths: Vec<&str> = paths.iter().map(ResourcePath::as_str).collect();
                let found: Vec<String> = on!(connection, c => {
                    rows::table
                        .filter(rows::project.eq(&project))
                        .filter(rows::path.eq_any(paths))
                        .filter(rows::declared.eq(true))
                        .select(rows::path)
                        .load(c)
                        .await
                })?;
                Ok(found.into_iter().map(ResourcePath::from_stored).collect())
            })
        })
        .await
    }
}

async fn find(
    connection: &mut Connection,
    project: &str,
    resource_id: &str,
) -> StoreResult<Option<ResourceView>> {
    let row: Option<Row> = on!(connection, c => {
        views!("r.resource_id = $2")
            .bind::<Text, _>(project)
            .bind::<Text, _>(resource_id)
            .get_result(c)
            .await
            .optional()
    })?;
    Ok(row.map(Into::into))
}
