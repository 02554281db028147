//! Runs of notifications with one end other than delivery. Written by checkpoints and by the commands that end a run,
//! read by `fates`. A run that begins where an earlier one did takes its place.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use super::{
    checkpoint::EndedRange,
    connection::{Connection, on},
    error::StoreResult,
    schema::ranges,
};

#[derive(Debug, Insertable, AsChangeset)]
#[diesel(table_name = ranges)]
pub(super) struct RangeRow {
    channel: i64,
    from_seq: i64,
    to_seq: i64,
    kind: &'static str,
    created_at_ms: i64,
}

impl From<&EndedRange> for RangeRow {
    fn from(range: &EndedRange) -> Self {
        Self {
            channel: range.channel.0,
            from_seq: range.from,
            to_seq: range.to,
            kind: range.kind.as_str(),
            created_at_ms: range.at.as_millis(),
        }
    }
}

/// Writes a range in the caller's transaction.
pub(super) async fn write(connection: &mut Connection, range: &EndedRange) -> StoreResult<()> {
    on!(connection, c => {
        diesel::insert_into(ranges::table)
            .values(RangeRow::from(range))
            .on_conflict((ranges::channel, ranges::from_seq))
            .do_update()
            .set(RangeRow::from(range))
            .execute(c)
            .await
    })?;
    Ok(())
}
