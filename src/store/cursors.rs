//! Cursor rows, read and written.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use super::{
    connection::{Connection, Handle},
    error::StoreResult,
    schema::cursors,
};
use crate::domain::{
    channel::{ChannelKey, ResourceKey},
    cursor::{Cursor, Failing},
    settled::SettledMap,
    time::Timestamp,
};

#[derive(Clone, Debug, Queryable, Selectable, Insertable, AsChangeset)]
#[diesel(table_name = cursors, treat_none_as_null = true)]
pub(super) struct CursorRow {
    pub channel: i64,
    pub resource: i64,
    pub seq: i64,
    pub moved: i64,
    pub behind: bool,
    pub due_at_ms: Option<i64>,
    pub attempts: i64,
    pub client_errors: i64,
    pub failing_since_ms: Option<i64>,
    pub pinned_seq: Option<i64>,
    pub last_success_at_ms: Option<i64>,
    pub failures: i64,
    pub refusals: i64,
    pub settled_map: Option<Vec<u8>>,
}

impl From<&Cursor> for CursorRow {
    fn from(cursor: &Cursor) -> Self {
        Self {
            channel: cursor.channel.0,
            resource: cursor.resource.0,
            seq: cursor.seq,
            moved: cursor.moved,
            behind: cursor.behind,
            due_at_ms: cursor.failing.due_at.map(Timestamp::as_millis),
            attempts: i64::from(cursor.failing.attempts),
            client_errors: i64::from(cursor.failing.client_errors),
            failing_since_ms: cursor.failing.since.map(Timestamp::as_millis),
            pinned_seq: cursor.failing.pinned,
            last_success_at_ms: cursor.last_success_at.map(Timestamp::as_millis),
            failures: i64::from(cursor.failing.failures),
            refusals: i64::from(cursor.failing.refusals),
            settled_map: cursor.settled.to_bytes(),
        }
    }
}

impl From<CursorRow> for Cursor {
    fn from(row: CursorRow) -> Self {
        let time = |millis: Option<i64>| millis.map(Timestamp::from_millis);
        Self {
            channel: ChannelKey(row.channel),
            resource: ResourceKey(row.resource),
            seq: row.seq,
            moved: row.moved,
            behind: row.behind,
            failing: Failing {
                attempts: u32::try_from(row.attempts).unwrap_or(u32::MAX),
                client_errors: u32::try_from(row.client_errors).unwrap_or(u32::MAX),
                refusals: u32::try_from(row.refusals).unwrap_or(u32::MAX),
                failures: u32::try_from(row.failures).unwrap_or(u32::MAX),
                since: time(row.failing_since_ms),
                due_at: time(row.due_at_ms),
                pinned: row.pinned_seq,
            },
            last_success_at: time(row.last_success_at_ms),
            settled: row
                .settled_map
                .map_or(SettledMap::above(row.seq), |bytes| SettledMap::from_bytes(&bytes, row.seq)),
        }
    }
}

/// Reads the cursor and holds it for the transaction. Checkpoints lock it too; SQLite's writer is alone.
pub(super) async fn hold(connection: &mut Connection, key: ChannelKey) -> StoreResult<Cursor> {
    let row = cursors::table.find(key.0);
    let row: CursorRow = match &mut connection.handle {
        Handle::Sqlite(c) => row.select(CursorRow::as_select()).first(&mut **c).await,
        Handle::Postgres(c) => row.select(CursorRow::as_select()).for_update().first(&mut **c).await,
    }?;
    Ok(row.into())
}
