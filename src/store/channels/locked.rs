//! A channel's row, held by the transaction that decides about it: every command and job that changes a channel takes it,
//! after the row of its resource where it needs both, and before its cursor. A checkpoint locks cursors alone.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use crate::{
    domain::{
        channel::{ChannelKey, ChannelOptions, ChannelState, ResourceKey},
        expiry::GRACE,
        time::Timestamp,
    },
    store::{
        connection::{Connection, Handle, on},
        error::{StoreError, StoreResult},
        resources::{self, Head},
        schema::channels,
    },
};

/// What decides about a change, as the locked row says it.
pub(in crate::store) struct Locked {
    pub(in crate::store) resource: ResourceKey,
    pub(in crate::store) state: ChannelState,
    pub(in crate::store) end_seq: Option<i64>,
    pub(in crate::store) expires_at: Timestamp,
    pub(in crate::store) granted_at: Timestamp,
    pub(in crate::store) options: ChannelOptions,
    /// What an expired channel was before.
    pub(in crate::store) state_before: Option<ChannelState>,
}

impl Locked {
    /// Whether the channel's state says that it lives.
    pub(super) fn lives(&self) -> bool {
        self.state.is_living()
    }

    /// Whether the channel lives, or can be revived by a new expiration. Time alone ends the grace, whether or
    /// not the job has got round to it.
    pub(super) fn is_changeable(&self, renews: bool, now: Timestamp) -> bool {
        let can_be_revived = renews && self.state == ChannelState::Expired && self.end_seq.is_none();
        (self.lives() || can_be_revived) && now < self.expires_at.plus(GRACE)
    }
}

type LockedRow = (i64, String, Option<i64>, i64, i64, String, Option<String>);

/// Locks the channel's row (against changes, not against references: a checkpoint's attempts refer to it while
/// this command may wait for the checkpoint's cursors) and reads what decides about a change: its resource, state,
/// end and expiration.
pub(in crate::store) async fn lock(
    connection: &mut Connection,
    key: ChannelKey,
) -> StoreResult<Option<Locked>> {
    let row = channels::table.find(key.0).select((
        channels::resource,
        channels::state,
        channels::end_seq,
        channels::expires_at_ms,
        channels::granted_at_ms,
        channels::options,
        channels::state_before,
    ));
    let found: Option<LockedRow> = match &mut connection.handle {
        Handle::Sqlite(c) => row.first(&mut **c).await.optional(),
        Handle::Postgres(c) => row.for_no_key_update().first(&mut **c).await.optional(),
    }?;
    let Some((resource, state, end_seq, expires_at, granted_at, options, state_before)) = found else {
        return Ok(None);
    };
    let state = ChannelState::parse(&state).ok_or(StoreError::Unreadable("state"))?;
    Ok(Some(Locked {
        resource: ResourceKey(resource),
        state,
        end_seq,
        expires_at: Timestamp::from_millis(expires_at),
        granted_at: Timestamp::from_millis(granted_at),
        options: serde_json::from_str(&options).map_err(|_| StoreError::Unreadable("options"))?,
        state_before: state_before.as_deref().and_then(ChannelState::parse),
    }))
}

/// Locks the channel's resource, so that its head stays, and then the channel: whatever needs both takes them in this
/// order.
pub(in crate::store) async fn lock_with_resource(
    connection: &mut Connection,
    key: ChannelKey,
) -> StoreResult<Option<(Head, Locked)>> {
    let resource: Option<i64> = on!(connection, c => {
        channels::table.find(key.0).select(channels::resource).first(c).await.optional()
    })?;
    let Some(resource) = resource else { return Ok(None) };
    let head = resources::lock(connection, ResourceKey(resource)).await?;
    Ok(lock(connection, key).await?.map(|locked| (head, locked)))
}
