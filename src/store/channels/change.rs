//! A channel is changed or ended. Both raise `rev`, and leave word for a delivering node elsewhere.

use std::sync::Arc;

use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use serde_json::json;

use super::{
    by_key,
    locked::{Locked, lock, lock_with_resource},
    refilter::replace_filter,
};
use crate::{
    domain::{
        channel::{CatchUp, Channel, ChannelKey, ChannelOptions, ChannelState, Format, ResourceKey},
        cursor::Cursor,
        notice::NoticeKind,
        renewal::Life,
        time::Timestamp,
    },
    store::{
        Store,
        connection::{Connection, Handle, on},
        cursors::hold,
        error::{StoreError, StoreResult},
        notices,
        own::{self, Told},
        reminders, retries,
        schema::{self, channels, cursors, work},
    },
};

/// New values for a channel. `None` leaves a field alone.
#[derive(Clone, Debug, Default)]
pub struct ChannelChange {
    pub address: Option<String>,
    pub token: Option<Option<String>>,
    pub format: Option<Format>,
    pub payload: Option<bool>,
    pub catch_up: Option<CatchUp>,
    pub expires_at: Option<Timestamp>,
    pub options: Option<ChannelOptions>,
}

/// What came of a change.
#[derive(Debug)]
pub enum ChangeOutcome<E> {
    Changed,
    /// There is no such channel any more.
    Ended,
    /// `decide` refused.
    Refused(E),
}

impl Store {
    /// Changes a channel that has not ended into what `decide` makes of it, which sees it as it is with nobody else
    /// changing it. A new expiration revives one that expired within its grace.
    pub async fn change_channel<E: Send + 'static>(
        &self,
        key: ChannelKey,
        decide: impl Fn(&Channel) -> Result<ChannelChange, E> + Send + Sync + 'static,
        now: Timestamp,
    ) -> StoreResult<ChangeOutcome<E>> {
        let decide = Arc::new(decide);
        self.write(move |connection| {
            let decide = Arc::clone(&decide);
            Box::pin(async move { change(connection, key, &*decide, now).await })
        })
        .await
    }

    /// Ends a channel in `state`. False when it had ended before.
    pub async fn end_channel(
        &self,
        key: ChannelKey,
        state: ChannelState,
        now: Timestamp,
    ) -> StoreResult<bool> {
        self.write(move |connection| Box::pin(async move { end(connection, key, state, now).await })).await
    }

    /// Takes over where a receiver has moved to, unless the channel has left the one that said so. Nothing is
    /// tried sooner for it: two addresses that send each other their visitors must not be run between.
    pub async fn readdress_channel(&self, key: ChannelKey, from: String, to: String) -> StoreResult<bool> {
        self.write(move |connection| {
            let (from, to) = (from.clone(), to.clone());
            Box::pin(async move {
                let Some(locked) = lock(connection, key).await? else { return Ok(false) };
                if !locked.lives() {
                    return Ok(false);
                }
                let changed = on!(connection, c => {
                    diesel::update(channels::table.find(key.0).filter(channels::address.eq(&from)))
                        .set((channels::address.eq(&to), channels::rev.eq(channels::rev + 1)))
                        .execute(c)
                        .await
                })?;
                if changed > 0 {
                    announce(connection, key).await?;
                }
                Ok(changed > 0)
            })
        })
        .await
    }
}

#[derive(AsChangeset)]
#[diesel(table_name = channels)]
struct ChangedColumns<'a> {
    address: Option<&'a str>,
    token: Option<Option<&'a str>>,
    format: Option<&'a str>,
    payload: Option<bool>,
    catch_up: Option<&'a str>,
    expires_at_ms: Option<i64>,
    options: Option<String>,
    state: Option<&'a str>,
    ended_at_ms: Option<Option<i64>>,
    granted_at_ms: Option<i64>,
    look_at_ms: Option<Option<i64>>,
}

async fn change<E>(
    connection: &mut Connection,
    key: ChannelKey,
    decide: &(impl Fn(&Channel) -> Result<ChannelChange, E> + Sync),
    now: Timestamp,
) -> StoreResult<ChangeOutcome<E>> {
    let Some(locked) = lock(connection, key).await? else { return Ok(ChangeOutcome::Ended) };
    let Some(current) = by_key(connection, key).await? else { return Ok(ChangeOutcome::Ended) };
    let change = match decide(&current.channel) {
        Ok(change) => change,
        Err(refusal) => return Ok(ChangeOutcome::Refused(refusal)),
    };
    if !locked.is_changeable(change.expires_at.is_some(), now) {
        return Ok(ChangeOutcome::Ended);
    }
    apply(connection, key, &locked, &change, now).await?;
    Ok(ChangeOutcome::Changed)
}

async fn apply(
    connection: &mut Connection,
    key: ChannelKey,
    locked: &Locked,
    change: &ChannelChange,
    now: Timestamp,
) -> StoreResult<()> {
    // The job may not have noticed yet that the channel is over: then this is its revival all the same.
    let revived = locked.state == ChannelState::Expired
        || (change.expires_at.is_some() && locked.state == ChannelState::Active && locked.expires_at <= now);
    // One that expired while it was paused or suspended is so again.
    let state = match locked.state {
        ChannelState::Expired => locked.state_before.unwrap_or(ChannelState::Active),
        state => state,
    };
    let life = Life {
        granted_at: if change.expires_at.is_some() { now } else { locked.granted_at },
        expires_at: change.expires_at.unwrap_or(locked.expires_at),
        renewal: change.options.as_ref().unwrap_or(&locked.options).renewal,
    };
    let lives_anew = change.expires_at.is_some() || life.renewal != locked.options.renewal;
    if let Some(options) = &change.options {
        replace_filter(connection, key, locked, options, now).await?;
    }
    let options = match &change.options {
        Some(options) => Some(serde_json::to_string(options).map_err(|_| StoreError::Unwritable("options"))?),
        None => None,
    };
    let columns = ChangedColumns {
        address: change.address.as_deref(),
        token: change.token.as_ref().map(Option::as_deref),
        format: change.format.map(Format::as_str),
        payload: change.payload,
        catch_up: change.catch_up.map(CatchUp::as_str),
        expires_at_ms: change.expires_at.map(Timestamp::as_millis),
        options,
        state: revived.then_some(state.as_str()),
        ended_at_ms: revived.then_some(None),
        granted_at_ms: Some(life.granted_at.as_millis()),
        // A mark that has passed and was not looked at yet is not forgotten by a change of something else.
        look_at_ms: lives_anew.then(|| life.look_from(now).map(Timestamp::as_millis)),
    };
    if let Some(address) = &change.address {
        hurry_if_readdressed(connection, key, address, now).await?;
    }
    on!(connection, c => {
        diesel::update(channels::table.find(key.0))
            .set((channels::rev.eq(channels::rev + 1), columns))
            .execute(c)
            .await
    })?;
    if locked.state == ChannelState::Expired {
        set_due(connection, key, state.sends().then_some(now)).await?;
    }
    let lifecycle = change.options.as_ref().unwrap_or(&locked.options).lifecycle;
    if state == ChannelState::Suspended {
        wake_suspended(connection, key, locked, lifecycle, now).await?;
    }
    announce(connection, key).await?;
    if change.expires_at.is_some() {
        tell_renewed(connection, key, lifecycle && state.sends(), now).await?;
        own::tell(connection, key, Told::Renewed, json!({}), now).await?;
    }
    Ok(())
}

/// A new receiver need not wait for what the old one has earned, whether or not the channel is in memory.
async fn hurry_if_readdressed(
    connection: &mut Connection,
    key: ChannelKey,
    address: &str,
    now: Timestamp,
) -> StoreResult<()> {
    let readdressed: Option<i64> = on!(connection, c => {
        channels::table
            .find(key.0)
            .filter(channels::address.ne(address))
            .select(channels::id)
            .first(c)
            .await
            .optional()
    })?;
    if readdressed.is_none() {
        return Ok(());
    }
    on!(connection, c => {
        diesel::update(cursors::table.find(key.0).filter(cursors::due_at_ms.gt(now.as_millis())))
            .set(cursors::due_at_ms.eq(Some(now.as_millis())))
            .execute(c)
            .await
    })?;
    retries::hurry_retries(connection, key, now).await
}

/// When time wakes the channel, whatever a checkpoint made before says.
async fn set_due(connection: &mut Connection, key: ChannelKey, due: Option<Timestamp>) -> StoreResult<()> {
    on!(connection, c => {
        diesel::update(cursors::table.find(key.0))
            .set((cursors::due_at_ms.eq(due.map(Timestamp::as_millis)), cursors::moved.eq(cursors::moved + 1)))
            .execute(c)
            .await
    })?;
    Ok(())
}

/// A suspended channel is woken by its reminders where it asked for notices, else by time: by the one that it has now.
async fn wake_suspended(
    connection: &mut Connection,
    key: ChannelKey,
    locked: &Locked,
    lifecycle: bool,
    now: Timestamp,
) -> StoreResult<()> {
    let switched = lifecycle != locked.options.lifecycle;
    if switched {
        set_due(connection, key, (!lifecycle).then_some(now)).await?;
    }
    // While it was expired there was nothing to remind of.
    if switched || locked.state == ChannelState::Expired {
        reminders::wake(connection, key, now).await?;
    }
    Ok(())
}

/// Warnings of an end that is off are not true any more.
pub(in crate::store) async fn tell_renewed(
    connection: &mut Connection,
    key: ChannelKey,
    asked: bool,
    now: Timestamp,
) -> StoreResult<()> {
    notices::take_back(connection, key, &[NoticeKind::Expiring, NoticeKind::Expired]).await?;
    if asked {
        notices::create(connection, key, NoticeKind::Renewed, &json!({}), now).await?;
    }
    Ok(())
}

pub(super) async fn end(
    connection: &mut Connection,
    key: ChannelKey,
    state: ChannelState,
    now: Timestamp,
) -> StoreResult<bool> {
    let Some((head, locked)) = lock_with_resource(connection, key).await? else { return Ok(false) };
    if !locked.is_changeable(true, now) {
        return Ok(false);
    }
    on!(connection, c => {
        diesel::update(channels::table.find(key.0))
            .set((
                channels::state.eq(state.as_str()),
                channels::end_seq.eq(Some(head.seq)),
                channels::ended_at_ms.eq(Some(now.as_millis())),
                channels::rev.eq(channels::rev + 1),
            ))
            .execute(c)
            .await
    })?;
    notices::take_back(connection, key, NoticeKind::ALL).await?;
    freeze(connection, key, locked.resource).await?;
    announce(connection, key).await?;
    if state == ChannelState::Gone {
        own::tell(connection, key, Told::Gone, json!({}), now).await?;
    }
    Ok(true)
}

/// Makes the cursor stand where it is: behind, with nothing to wake it, before `fanned` can carry it further.
/// `moved` rises, so that no checkpoint made before makes it level again.
pub(in crate::store) async fn freeze(
    connection: &mut Connection,
    key: ChannelKey,
    resource: ResourceKey,
) -> StoreResult<()> {
    stand_where_fanned_is(connection, key, resource).await?;
    on!(connection, c => {
        diesel::update(cursors::table.find(key.0))
            .set((
                cursors::behind.eq(true),
                cursors::due_at_ms.eq(None::<i64>),
                cursors::moved.eq(cursors::moved + 1),
            ))
            .execute(c)
            .await
    })?;
    Ok(())
}

/// A resource's head, and what every level channel of it has had.
pub(in crate::store) async fn head_and_fanned(
    connection: &mut Connection,
    resource: ResourceKey,
) -> StoreResult<(i64, i64)> {
    // One statement: between two a publish could raise the head, and its event would count as had.
    let (head, fanned): (i64, Option<i64>) = on!(connection, c => {
        schema::resources::table
            .left_join(work::table)
            .filter(schema::resources::id.eq(resource.0))
            .select((schema::resources::head_seq, work::fanned_seq.nullable()))
            .first(c)
            .await
    })?;
    // No work row means that every level channel has had the whole log.
    Ok((head, fanned.unwrap_or(head)))
}

/// Holds the cursor, where it stands: a level one counts as `max(seq, fanned)`, which is written down before it is made to
/// stand by itself.
pub(in crate::store) async fn stand_where_fanned_is(
    connection: &mut Connection,
    key: ChannelKey,
    resource: ResourceKey,
) -> StoreResult<Cursor> {
    let cursor = hold(connection, key).await?;
    let (_, fanned) = head_and_fanned(connection, resource).await?;
    if cursor.behind || cursor.seq >= fanned {
        return Ok(cursor);
    }
    on!(connection, c => {
        diesel::update(cursors::table.find(key.0)).set(cursors::seq.eq(fanned)).execute(c).await
    })?;
    Ok(Cursor { seq: fanned, settled: cursor.settled.moved_to(fanned), ..cursor })
}

/// Says that something about the channel has changed besides its own columns: the engine looks at revisions to tell an
/// old read from a new one.
pub(in crate::store) async fn revise(connection: &mut Connection, key: ChannelKey) -> StoreResult<()> {
    on!(connection, c => {
        diesel::update(channels::table.find(key.0)).set(channels::rev.eq(channels::rev + 1)).execute(c).await
    })?;
    announce(connection, key).await
}

/// Leaves word for the delivering node, which may be another one. SQLite has one node, whose bell is enough.
pub(in crate::store) async fn announce(connection: &mut Connection, key: ChannelKey) -> StoreResult<()> {
    if let Handle::Postgres(c) = &mut connection.handle {
        diesel::insert_into(schema::changed_channels::table)
            .values(schema::changed_channels::channel.eq(key.0))
            // A word that lies there may be taken before this change commits: updating it makes the taker wait.
            .on_conflict(schema::changed_channels::channel)
            .do_update()
            .set(schema::changed_channels::channel.eq(key.0))
            .execute(&mut **c)
            .await?;
    }
    Ok(())
}
