//! Channels whose time is over: ended in batches, and closed for good once their grace is over.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use serde_json::json;

use super::{
    change::{announce, freeze},
    locked::lock,
};
use crate::{
    domain::{
        channel::{ChannelKey, ChannelState, ResourceKey},
        notice::NoticeKind,
        time::Timestamp,
    },
    store::{
        Store,
        connection::{Connection, on},
        error::StoreResult,
        notices,
        own::{self, Told},
        resources,
        schema::channels,
    },
};

/// Channels that one expiry sweep ends per transaction.
const EXPIRY_BATCH: i64 = 200;

macro_rules! expiring_query {
    ($now:expr, $limit:expr) => {
        channels::table
            .filter(diesel::dsl::sql::<diesel::sql_types::Bool>(
                "channels.state in ('active', 'paused', 'suspended')",
            ))
            .filter(channels::expires_at_ms.le($now))
            .order(channels::expires_at_ms)
            .limit($limit)
    };
}
pub(in crate::store) use expiring_query;

macro_rules! grace_query {
    ($expired_by:expr, $limit:expr) => {
        channels::table
            .filter(diesel::dsl::sql::<diesel::sql_types::Bool>("channels.state = 'expired'"))
            .filter(channels::end_seq.is_null())
            .filter(channels::expires_at_ms.le($expired_by))
            .order(channels::expires_at_ms)
            .limit($limit)
    };
}
pub(in crate::store) use grace_query;

impl Store {
    /// Ends up to one batch of the channels whose time is over, and tells which.
    pub async fn expire_channels(&self, now: Timestamp) -> StoreResult<Vec<ChannelKey>> {
        self.write(move |connection| Box::pin(async move { expire(connection, now).await })).await
    }

    /// Fixes the end of up to one batch of the channels that expired at or before `expired_by`. Tells how many.
    pub async fn close_expired_channels(&self, expired_by: Timestamp) -> StoreResult<usize> {
        self.write(move |connection| Box::pin(async move { close_expired(connection, expired_by).await }))
            .await
    }
}

async fn expire(connection: &mut Connection, now: Timestamp) -> StoreResult<Vec<ChannelKey>> {
    let mut due: Vec<i64> = on!(connection, c => {
        expiring_query!(now.as_millis(), EXPIRY_BATCH).select(channels::id).load(c).await
    })?;
    due.sort_unstable();
    let mut expired = Vec::with_capacity(due.len());
    for key in due.into_iter().map(ChannelKey) {
        // Locked and looked at again: another node may have renewed it a moment ago.
        let Some(locked) = lock(connection, key).await? else { continue };
        if !locked.lives() || locked.expires_at > now {
            continue;
        }
        on!(connection, c => {
            diesel::update(channels::table.find(key.0))
                .set((
                    channels::state.eq(ChannelState::Expired.as_str()),
                    channels::ended_at_ms.eq(Some(locked.expires_at.as_millis())),
                    channels::state_before.eq(Some(locked.state.as_str())),
                    channels::look_at_ms.eq(None::<i64>),
                    channels::rev.eq(channels::rev + 1),
                ))
                .execute(c)
                .await
        })?;
        freeze(connection, key, locked.resource).await?;
        notices::take_back(connection, key, NoticeKind::ALL).await?;
        if locked.options.lifecycle && locked.state.sends() {
            notices::create(connection, key, NoticeKind::Expired, &json!({}), now).await?;
        }
        announce(connection, key).await?;
        expired.push(key);
    }
    // After all the channels' locks: the projects' own logs are locked last.
    for key in &expired {
        own::tell(connection, *key, Told::Expired, json!({}), now).await?;
    }
    Ok(expired)
}

async fn close_expired(connection: &mut Connection, expired_by: Timestamp) -> StoreResult<usize> {
    let mut due: Vec<(i64, i64)> = on!(connection, c => {
        grace_query!(expired_by.as_millis(), EXPIRY_BATCH)
            .select((channels::resource, channels::id))
            .load(c)
            .await
    })?;
    due.sort_unstable();
    let mut closed = 0;
    for (resource, channel) in due {
        let head = resources::lock(connection, ResourceKey(resource)).await?;
        closed += on!(connection, c => {
            diesel::update(
                channels::table
                    .find(channel)
                    .filter(channels::state.eq(ChannelState::Expired.as_str()))
                    .filter(channels::expires_at_ms.le(expired_by.as_millis())),
            )
            .set((channels::end_seq.eq(Some(head.seq)), channels::rev.eq(channels::rev + 1)))
            .execute(c)
            .await
        })?;
    }
    Ok(closed)
}
