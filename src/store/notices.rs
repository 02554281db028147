//! Notices: one row each, made once in the transaction that gives cause for it, due until it is through. The lane sends
//! them; a checkpoint writes what became of them.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use serde_json::Value;

use super::{
    Store,
    channels::{lock, revise},
    connection::{Connection, on},
    error::{StoreError, StoreResult},
    lanes::{due_query, load_due},
    schema::notices,
};
use crate::domain::{channel::ChannelKey, notice::NoticeKind, time::Timestamp};

/// A notice that waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    pub id: i64,
    pub channel: ChannelKey,
    pub kind: NoticeKind,
    /// Counts the channel's notices of this kind, from 1.
    pub n: i64,
    /// What it says, as JSON.
    pub body: String,
    pub attempts: u32,
    pub due_at: Timestamp,
}

/// Where a notice stands after an attempt; without a due time it is through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoticeProgress {
    pub id: i64,
    pub attempts: u32,
    pub due_at: Option<Timestamp>,
}

#[derive(Debug, Queryable, Selectable)]
#[diesel(table_name = notices)]
pub(super) struct NoticeRow {
    id: i64,
    channel: i64,
    kind: String,
    n: i64,
    body: String,
    attempts: i64,
    due_at_ms: Option<i64>,
}

impl NoticeRow {
    fn into_notice(self) -> StoreResult<Notice> {
        Ok(Notice {
            id: self.id,
            channel: ChannelKey(self.channel),
            kind: NoticeKind::parse(&self.kind).ok_or(StoreError::Unreadable("kind"))?,
            n: self.n,
            body: self.body,
            attempts: u32::try_from(self.attempts).unwrap_or(u32::MAX),
            due_at: Timestamp::from_millis(self.due_at_ms.unwrap_or_default()),
        })
    }
}

impl Store {
    /// Makes a notice that is due at once. Returns its count among those of its kind; `None`: nothing may leave.
    pub async fn create_notice(
        &self,
        key: ChannelKey,
        kind: NoticeKind,
        body: Value,
        now: Timestamp,
    ) -> StoreResult<Option<i64>> {
        self.write(move |connection| {
            let body = body.clone();
            Box::pin(async move {
                let locked = lock(connection, key).await?;
                if !locked.is_some_and(|locked| locked.state.sends()) {
                    return Ok(None);
                }
                let n = create(connection, key, kind, &body, now).await?;
                revise(connection, key).await?;
                Ok(Some(n))
            })
        })
        .await
    }

    /// Channels with a notice that is due by `by`, after `after` in the order of due times; at most `limit`.
    pub async fn due_notices(
        &self,
        by: Timestamp,
        after: Option<(Timestamp, ChannelKey)>,
        limit: i64,
    ) -> StoreResult<Vec<(Timestamp, ChannelKey)>> {
        self.read(move |connection| Box::pin(async move { load_due!(connection, notices, by, after, limit) }))
            .await
    }
}

/// The notices of these channels that wait, oldest first.
pub(super) async fn waiting(connection: &mut Connection, keys: &[i64]) -> StoreResult<Vec<Notice>> {
    let rows: Vec<NoticeRow> = on!(connection, c => {
        notices::table
            .filter(notices::channel.eq_any(keys.to_vec()))
            .filter(notices::due_at_ms.is_not_null())
            .order(notices::id)
            .select(NoticeRow::as_select())
            .load(c)
            .await
    })?;
    rows.into_iter().map(NoticeRow::into_notice).collect()
}

/// Makes a notice. The caller holds the channel's lock and leaves word of the change.
pub(super) async fn create(
    connection: &mut Connection,
    key: ChannelKey,
    kind: NoticeKind,
    body: &Value,
    now: Timestamp,
) -> StoreResult<i64> {
    let last: Option<i64> = on!(connection, c => {
        notices::table
            .filter(notices::channel.eq(key.0))
            .filter(notices::kind.eq(kind.as_str()))
            .select(diesel::dsl::max(notices::n))
            .first(c)
            .await
    })?;
    let n = last.unwrap_or_default() + 1;
    on!(connection, c => {
        diesel::insert_into(notices::table)
            .values((
                notices::channel.eq(key.0),
                notices::kind.eq(kind.as_str()),
                notices::n.eq(n),
                notices::body.eq(body.to_string()),
                notices::attempts.eq(0_i64),
                notices::due_at_ms.eq(Some(now.as_millis())),
                notices::created_at_ms.eq(now.as_millis()),
            ))
            .execute(c)
            .await
    })?;
    Ok(n)
}

/// Takes back what waits: it is not true any more, or nothing may leave.
pub(super) async fn take_back(
    connection: &mut Connection,
    key: ChannelKey,
    kinds: &[NoticeKind],
) -> StoreResult<()> {
    let kinds: Vec<&str> = kinds.iter().map(|kind| kind.as_str()).collect();
    on!(connection, c => {
        diesel::update(
            notices::table
                .filter(notices::channel.eq(key.0))
                .filter(notices::due_at_ms.is_not_null())
                .filter(notices::kind.eq_any(&kinds)),
        )
        .set(notices::due_at_ms.eq(None::<i64>))
        .execute(c)
        .await
    })?;
    Ok(())
}
