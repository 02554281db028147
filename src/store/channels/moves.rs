//! A channel is paused or resumed, and its cursor is moved on from outside: by an acknowledgement or a skip. Every
//! one of these raises `moved`, so that no checkpoint made before undoes it.

use std::collections::BTreeSet;

use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use serde_json::json;

use super::{
    change::{announce, freeze, revise, stand_where_fanned_is},
    locked::{Locked, lock, lock_with_resource},
};
use crate::{
    domain::{
        channel::{ChannelKey, ChannelState},
        cursor::Cursor,
        fate::RangeKind,
        notice::NoticeKind,
        renewal::Life,
        settled::AHEAD_MAX,
        time::Timestamp,
    },
    store::{
        Store,
        checkpoint::EndedRange,
        connection::{Connection, on},
        error::StoreResult,
        notices,
        own::{self, Told},
        ranges,
        reminders::{self, Reminding},
        retries,
        schema::{channels, cursors},
    },
};

/// Who lets a channel go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResumedBy {
    Owner,
    /// Whoever holds its claim URL.
    Receiver,
}

/// Who moves a cursor on, which says what becomes of what it passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AdvancedBy {
    /// It has had them: they count as delivered.
    Receiver,
    /// The receiver need not have them: they are cancelled.
    Owner,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResumeOutcome {
    Resumed,
    /// It was active already.
    Active,
    /// Its owner paused it, and somebody else asked.
    Paused,
    /// It has ended, or its time is over.
    Ended,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AdvanceOutcome {
    /// The cursor stands at this seq now: what was asked for, or further on if it was there already.
    At(i64),
    /// The log does not go that far; this is its end for the channel.
    Beyond(i64),
}

impl Store {
    /// Lets nothing more out until the channel is resumed. False when there is nothing to pause.
    pub async fn pause_channel(&self, key: ChannelKey) -> StoreResult<bool> {
        self.write(move |connection| Box::pin(async move { pause(connection, key).await })).await
    }

    /// A channel that has failed for too long is only probed from now on. False when it is not active.
    pub async fn suspend_channel(
        &self,
        key: ChannelKey,
        probe_at: Timestamp,
        reminding: Reminding,
        now: Timestamp,
    ) -> StoreResult<bool> {
        self.write(move |connection| {
            let reminding = reminding.clone();
            Box::pin(async move { suspend(connection, key, probe_at, &reminding, now).await })
        })
        .await
    }

    /// A probe succeeded. What its owner paused or stopped meanwhile stays so: false then.
    pub async fn end_suspension(&self, key: ChannelKey, now: Timestamp) -> StoreResult<bool> {
        self.write(move |connection| Box::pin(async move { end_suspension(connection, key, now).await }))
            .await
    }

    /// Lets a suspended or gone channel go on from its cursor; one that is paused only for its owner.
    pub async fn resume_channel(
        &self,
        key: ChannelKey,
        by: ResumedBy,
        now: Timestamp,
    ) -> StoreResult<ResumeOutcome> {
        self.write(move |connection| Box::pin(async move { resume(connection, key, by, now).await })).await
    }

    /// Moves the cursor on to `seq`: never back, never past what the log holds for the channel.
    pub async fn advance_cursor(
        &self,
        key: ChannelKey,
        seq: i64,
        by: AdvancedBy,
        now: Timestamp,
    ) -> StoreResult<Option<AdvanceOutcome>> {
        self.write(move |connection| Box::pin(async move { advance(connection, key, seq, by, now).await }))
            .await
    }

    /// Makes every claim URL that was given out so far void. Returns the new rotation count.
    pub async fn rotate_claim(&self, key: ChannelKey) -> StoreResult<i64> {
        self.write(move |connection| {
            Box::pin(async move {
                Ok(on!(connection, c => {
                    diesel::update(channels::table.find(key.0))
                        .set(channels::claim_rotation.eq(channels::claim_rotation + 1))
                        .returning(channels::claim_rotation)
                        .get_result(c)
                        .await
                })?)
            })
        })
        .await
    }
}

async fn pause(connection: &mut Connection, key: ChannelKey) -> StoreResult<bool> {
    let Some(locked) = lock(connection, key).await? else { return Ok(false) };
    if !locked.state.sends() {
        return Ok(false);
    }
    set_state(connection, key, ChannelState::Paused).await?;
    notices::take_back(connection, key, NoticeKind::ALL).await?;
    freeze(connection, key, locked.resource).await?;
    announce(connection, key).await?;
    Ok(true)
}

async fn suspend(
    connection: &mut Connection,
    key: ChannelKey,
    probe_at: Timestamp,
    reminding: &Reminding,
    now: Timestamp,
) -> StoreResult<bool> {
    let Some(locked) = lock(connection, key).await? else { return Ok(false) };
    if locked.state != ChannelState::Active {
        return Ok(false);
    }
    set_state(connection, key, ChannelState::Suspended).await?;
    // As when it is paused, but woken by time: it must not be carried along by `fanned`. One that asked for notices
    // is woken by its reminders instead.
    freeze(connection, key, locked.resource).await?;
    if !locked.options.lifecycle {
        on!(connection, c => {
            diesel::update(cursors::table.find(key.0))
                .set(cursors::due_at_ms.eq(Some(probe_at.as_millis())))
                .execute(c)
                .await
        })?;
    }
    reminders::begin_suspended(connection, key, reminding, now).await?;
    announce(connection, key).await?;
    own::tell(connection, key, Told::Suspended, json!({}), now).await?;
    Ok(true)
}

async fn end_suspension(connection: &mut Connection, key: ChannelKey, now: Timestamp) -> StoreResult<bool> {
    let Some(locked) = lock(connection, key).await? else { return Ok(false) };
    if locked.state != ChannelState::Suspended {
        return Ok(false);
    }
    set_state(connection, key, ChannelState::Active).await?;
    on!(connection, c => {
        diesel::update(channels::table.find(key.0))
            .set(channels::look_at_ms.eq(look_after(&locked, now)))
            .execute(c)
            .await
    })?;
    // Time has to wake it again: one that was reminded was not probed. Where a time is set, it may be that of a head that
    // has failed again meanwhile.
    on!(connection, c => {
        diesel::update(cursors::table.find(key.0).filter(cursors::due_at_ms.is_null()))
            .set(cursors::due_at_ms.eq(Some(now.as_millis())))
            .execute(c)
            .await
    })?;
    forget_suspension(connection, key).await?;
    announce(connection, key).await?;
    own::tell(connection, key, Told::Resumed, json!({}), now).await?;
    Ok(true)
}

/// When the renewal job looks at a channel that goes on.
fn look_after(locked: &Locked, now: Timestamp) -> Option<i64> {
    let Locked { granted_at, expires_at, .. } = *locked;
    let life = Life { granted_at, expires_at, renewal: locked.options.renewal };
    life.look_from(now).map(Timestamp::as_millis)
}

/// A channel that goes on is not told any more that it does not. Its parked notifications stay to be claimed: the
/// next reminder finds out whether there are any.
async fn forget_suspension(connection: &mut Connection, key: ChannelKey) -> StoreResult<()> {
    notices::take_back(connection, key, &[NoticeKind::Suspended, NoticeKind::Claim]).await
}

async fn set_state(connection: &mut Connection, key: ChannelKey, state: ChannelState) -> StoreResult<()> {
    on!(connection, c => {
        diesel::update(channels::table.find(key.0))
            .set((channels::state.eq(state.as_str()), channels::rev.eq(channels::rev + 1)))
            .execute(c)
            .await
    })?;
    Ok(())
}

async fn resume(
    connection: &mut Connection,
    key: ChannelKey,
    by: ResumedBy,
    now: Timestamp,
) -> StoreResult<ResumeOutcome> {
    let Some(locked) = lock(connection, key).await? else { return Ok(ResumeOutcome::Ended) };
    match locked.state {
        ChannelState::Active => return Ok(ResumeOutcome::Active),
        ChannelState::Paused if by == ResumedBy::Receiver => return Ok(ResumeOutcome::Paused),
        ChannelState::Expired | ChannelState::Stopped => return Ok(ResumeOutcome::Ended),
        _ if locked.expires_at <= now => return Ok(ResumeOutcome::Ended),
        ChannelState::Paused | ChannelState::Suspended | ChannelState::Gone => {}
    }
    // One that lives has an end only where its resource was deleted, and keeps it.
    let end_seq = locked.end_seq.filter(|_| locked.lives());
    on!(connection, c => {
        diesel::update(channels::table.find(key.0))
            .set((
                channels::state.eq(ChannelState::Active.as_str()),
                channels::end_seq.eq(end_seq),
                channels::ended_at_ms.eq(None::<i64>),
                channels::rev.eq(channels::rev + 1),
                channels::look_at_ms.eq(look_after(&locked, now)),
            ))
            .execute(c)
            .await
    })?;
    forget_suspension(connection, key).await?;
    // The receiver gets a fresh start: what it refused before is tried at once, with a window of its own. The
    // attempts go on counting.
    on!(connection, c => {
        diesel::update(cursors::table.find(key.0))
            .set((
                cursors::behind.eq(true),
                cursors::due_at_ms.eq(Some(now.as_millis())),
                cursors::failing_since_ms.eq(None::<i64>),
                cursors::failures.eq(0_i64),
                cursors::moved.eq(cursors::moved + 1),
            ))
            .execute(c)
            .await
    })?;
    retries::hurry_retries(connection, key, now).await?;
    announce(connection, key).await?;
    own::tell(connection, key, Told::Resumed, json!({}), now).await?;
    Ok(ResumeOutcome::Resumed)
}

async fn advance(
    connection: &mut Connection,
    key: ChannelKey,
    seq: i64,
    by: AdvancedBy,
    now: Timestamp,
) -> StoreResult<Option<AdvanceOutcome>> {
    let Some((head, locked)) = lock_with_resource(connection, key).await? else { return Ok(None) };
    let last = locked.end_seq.unwrap_or(head.seq);
    if seq > last {
        return Ok(Some(AdvanceOutcome::Beyond(last)));
    }
    let Cursor { seq: stood, settled, .. } = stand_where_fanned_is(connection, key, locked.resource).await?;
    let waited = retries::settle_retries(connection, key, seq).await?;
    if seq <= stood && waited.is_empty() {
        return Ok(Some(AdvanceOutcome::At(stood)));
    }
    if by == AdvancedBy::Owner {
        // Nothing has settled further ahead than the map reaches.
        let near = seq.min(stood + AHEAD_MAX);
        let open = (stood + 1..=near).filter(|seq| !settled.contains(*seq));
        let singles: BTreeSet<i64> = open.chain(waited).collect();
        let runs = singles.into_iter().map(|seq| (seq, seq)).chain([(near + 1, seq)]);
        cancel(connection, key, runs, now).await?;
    }
    let seq = seq.max(stood);
    // Due at once where anything may still leave: the engine makes the channel level again.
    let due = locked.state.sends().then(|| now.as_millis());
    if seq > stood {
        forget_failures(connection, key).await?;
    }
    on!(connection, c => {
        diesel::update(cursors::table.find(key.0))
            .set((
                cursors::seq.eq(seq),
                cursors::behind.eq(true),
                cursors::due_at_ms.eq(due),
                cursors::moved.eq(cursors::moved + 1),
            ))
            .execute(c)
            .await
    })?;
    revise(connection, key).await?;
    Ok(Some(AdvanceOutcome::At(seq)))
}

/// What failed was passed.
async fn forget_failures(connection: &mut Connection, key: ChannelKey) -> StoreResult<()> {
    on!(connection, c => {
        diesel::update(cursors::table.find(key.0))
            .set((
                cursors::attempts.eq(0),
                cursors::client_errors.eq(0),
                cursors::refusals.eq(0),
                cursors::failures.eq(0),
                cursors::failing_since_ms.eq(None::<i64>),
                cursors::pinned_seq.eq(None::<i64>),
            ))
            .execute(c)
            .await
    })?;
    Ok(())
}

/// Says of these runs that they were cancelled. They rise; those that touch are one.
async fn cancel(
    connection: &mut Connection,
    key: ChannelKey,
    seqs: impl Iterator<Item = (i64, i64)>,
    now: Timestamp,
) -> StoreResult<()> {
    let mut runs: Vec<(i64, i64)> = Vec::new();
    for (from, to) in seqs.filter(|(from, to)| from <= to) {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == from => *last = to,
            _ => runs.push((from, to)),
        }
    }
    for (from, to) in runs {
        let kind = RangeKind::Cancelled;
        ranges::write(connection, &EndedRange { channel: key, from, to, kind, at: now }).await?;
    }
    Ok(())
}
