//! Erasure: payloads are taken out of the log for good; what stays says only that something happened. Called by `app`.
//!
//! The excerpts of answers go with them. No node shows from memory what was erased: each looks at the store's count of
//! erasures before it shows anything, the delivering one as often as it looks for other nodes' words. On SQLite the bytes
//! leave the file – it overwrites what is deleted, and the WAL is emptied afterwards – on PostgreSQL with its vacuum.

use diesel::{
    prelude::*,
    sql_types::{BigInt, Text},
};
use diesel_async::RunQueryDsl;
use tokio::sync::oneshot;

use super::{
    Backend, Store,
    connection::{Connection, on},
    error::{StoreError, StoreResult},
    schema::{events, facts},
    writer::{self, Command, Job},
};
use crate::domain::{channel::ResourceKey, time::Timestamp};

/// How often payloads were erased, for the memories of all nodes.
const ERASURES: &str = "erasures";
/// How often the WAL is tried when readers are in the way; other writes go in between.
const WAL_TRIES_MAX: usize = 20;

impl Store {
    /// Takes the payload out of every log entry of this event. False when the project has no such event.
    pub async fn erase_event(&self, project: &str, id: &str, now: Timestamp) -> StoreResult<bool> {
        let (project, id) = (project.to_owned(), id.to_owned());
        let erased = self
            .write(move |connection| {
                let (project, id) = (project.clone(), id.clone());
                Box::pin(async move { erase_event(connection, &project, &id, now).await })
            })
            .await?;
        for (resource, seq) in &erased {
            self.cache().forget(*resource, *seq, *seq);
        }
        if !erased.is_empty() {
            self.empty_wal().await?;
        }
        Ok(!erased.is_empty())
    }

    /// Lets go of what is in memory if any node has erased something since the last look. On SQLite this node did it
    /// itself.
    pub async fn heed_erasures(&self) -> StoreResult<()> {
        if !self.is_shared() {
            return Ok(());
        }
        let count: Option<String> = self
            .read(move |connection| {
                Box::pin(async move {
                    Ok(on!(connection, c => {
                        facts::table.find(ERASURES).select(facts::value).first(c).await.optional()
                    })?)
                })
            })
            .await?;
        self.cache().heed(count.and_then(|count| count.parse().ok()).unwrap_or_default());
        Ok(())
    }

    /// Writes the WAL into the database and empties it: erased bytes still stand in it.
    pub(super) async fn empty_wal(&self) -> StoreResult<()> {
        let Backend::Sqlite { writer, .. } = &self.0.backend else { return Ok(()) };
        for _ in 0..WAL_TRIES_MAX {
            let (answer, emptied) = oneshot::channel();
            let command: Command = Box::new(move |connection| {
                Box::pin(async move {
                    let _ = answer.send(writer::empty_wal(connection).await);
                })
            });
            writer.send(Job::Command(command)).await.map_err(|_| StoreError::Closed)?;
            if emptied.await.map_err(|_| StoreError::Closed)?? {
                return Ok(());
            }
        }
        tracing::warn!(
            "erased bytes stay in the WAL until it can be emptied, at the latest at the next stop"
        );
        Ok(())
    }
}

async fn erase_event(
    connection: &mut Connection,
    project: &str,
    id: &str,
    now: Timestamp,
) -> StoreResult<Vec<(ResourceKey, i64)>> {
    let entries: Vec<(i64, i64)> = on!(connection, c => {
        events::table
            .filter(events::project.eq(project))
            .filter(events::event_id.eq(id))
            .order((events::resource, events::seq))
            .select((events::resource, events::seq))
            .load(c)
            .await
    })?;
    for (resource, seq) in &entries {
        erase_entries(connection, ResourceKey(*resource), *seq, *seq, now).await?;
    }
    Ok(entries.into_iter().map(|(resource, seq)| (ResourceKey(resource), seq)).collect())
}

/// Erases the entries of a log from `from` through `through`, with the excerpts of the attempts that carried them. What
/// was erased before keeps its moment.
pub(super) async fn erase_entries(
    connection: &mut Connection,
    resource: ResourceKey,
    from: i64,
    through: i64,
    now: Timestamp,
) -> StoreResult<()> {
    on!(connection, c => {
        diesel::update(events::table)
            .filter(events::resource.eq(resource.0))
            .filter(events::seq.between(from, through))
            .filter(events::erased_at_ms.is_null())
            .set((
                events::payload.eq(None::<Vec<u8>>),
                events::content_type.eq(None::<String>),
                events::erased_at_ms.eq(Some(now.as_millis())),
            ))
            .execute(c)
            .await
    })?;
    on!(connection, c => {
        diesel::sql_query(
            "update attempts set excerpt = null
             where excerpt is not null and id in (
               select a.id
               from channels c join attempts a on a.channel = c.id and a.excerpt is not null
               where c.resource = $1
                 and a.number >= $2 - c.start_seq + 1 and a.number <= $3 - c.start_seq + 1)",
        )
        .bind::<BigInt, _>(resource.0)
        .bind::<BigInt, _>(from)
        .bind::<BigInt, _>(through)
        .execute(c)
        .await
    })?;
    // The last lock: whoever holds it waits for no other.
    on!(connection, c => {
        diesel::sql_query(
            "insert into facts (name, value) values ($1, '1')
             on conflict (name) do update set value = cast(cast(facts.value as bigint) + 1 as text)",
        )
        .bind::<Text, _>(ERASURES)
        .execute(c)
        .await
    })?;
    Ok(())
}
