//! Whose receiver is reminded of what it has to claim. A row is made by whatever parks a notification or suspends a
//! channel, and goes once nothing is left to claim. Called by the claims job and, right after something was parked, by
//! the engine.

use std::{sync::Arc, time::Duration};

use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use serde_json::{Value, json};

use super::{
    Store,
    channels::{Locked, head_and_fanned, lock, revise},
    connection::{Connection, on},
    cursors::CursorRow,
    error::StoreResult,
    exceptions::{PARKED, RETRY},
    notices,
    own::{self, Told},
    schema::{channels, cursors, events, exceptions, reminders},
};
use crate::domain::{
    channel::{ChannelKey, ChannelState},
    claim::Reminders,
    cursor::Cursor,
    notice::NoticeKind,
    settled::AHEAD_MAX,
    time::Timestamp,
};

/// How reminding is done.
#[derive(Clone, Debug)]
pub struct Reminding {
    pub schedule: Arc<Reminders>,
    /// How long events are kept.
    pub kept_for: Duration,
}

/// What is left to claim of one channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Left {
    /// Notifications after the cursor, where nothing is pushed any more.
    waiting: i64,
    parked: i64,
    oldest_seq: i64,
}

impl Store {
    /// Channels whose reminder is due by `by`, in key order after `after`; at most `limit`.
    pub async fn due_reminders(
        &self,
        by: Timestamp,
        after: ChannelKey,
        limit: i64,
    ) -> StoreResult<Vec<ChannelKey>> {
        self.read(move |connection| {
            Box::pin(async move {
                let keys: Vec<i64> = on!(connection, c => {
                    reminders::table
                        .filter(reminders::due_at_ms.le(by.as_millis()))
                        .filter(reminders::channel.gt(after.0))
                        .order(reminders::channel)
                        .limit(limit)
                        .select(reminders::channel)
                        .load(c)
                        .await
                })?;
                Ok(keys.into_iter().map(ChannelKey).collect())
            })
        })
        .await
    }

    /// Tells the owner what was parked, and reminds the receiver if that is due and it asked for notices. Returns
    /// whether a notice was made.
    pub async fn remind(&self, key: ChannelKey, reminding: Reminding, now: Timestamp) -> StoreResult<bool> {
        self.write(move |connection| {
            let reminding = reminding.clone();
            Box::pin(async move { remind(connection, key, &reminding, now).await })
        })
        .await
    }
}

async fn remind(
    connection: &mut Connection,
    key: ChannelKey,
    reminding: &Reminding,
    now: Timestamp,
) -> StoreResult<bool> {
    let Some(locked) = lock(connection, key).await? else { return Ok(false) };
    let untold = take_untold(connection, key).await?;
    let row: Option<(i64, i64)> = on!(connection, c => {
        reminders::table
            .find(key.0)
            .select((reminders::since_ms, reminders::due_at_ms))
            .first(c)
            .await
            .optional()
    })?;
    let mut noticed = false;
    if let Some((since, due)) = row
        && due <= now.as_millis()
    {
        let left = left(connection, key, &locked).await?;
        noticed =
            follow_up(connection, key, &locked, left, Timestamp::from_millis(since), reminding, now).await?;
    }
    if untold > 0 {
        own::tell(connection, key, Told::Parked, json!({ "parked": untold }), now).await?;
    }
    Ok(noticed)
}

/// Makes the reminder that is due, and sets the next; or ends reminding where nothing is left.
async fn follow_up(
    connection: &mut Connection,
    key: ChannelKey,
    locked: &Locked,
    left: Option<Left>,
    since: Timestamp,
    reminding: &Reminding,
    now: Timestamp,
) -> StoreResult<bool> {
    let Some(left) = left else {
        if locked.state == ChannelState::Suspended {
            // Its reminders are all that wakes it: there will be something to claim again.
            let next = reminding.schedule.next_after(since, now);
            set_due(connection, key, next).await?;
        } else {
            on!(connection, c => diesel::delete(reminders::table.find(key.0)).execute(c).await)?;
        }
        return Ok(false);
    };
    let oldest: Option<i64> = on!(connection, c => {
        events::table
            .filter(events::resource.eq(locked.resource.0))
            .filter(events::seq.ge(left.oldest_seq))
            .order(events::seq)
            .select(events::published_at_ms)
            .first(c)
            .await
            .optional()
    })?;
    let oldest = oldest.map(Timestamp::from_millis);
    let lost_at = oldest.map(|at| at.plus(reminding.kept_for));
    let next = reminding.schedule.next_before_loss(since, lost_at, now);
    set_due(connection, key, next).await?;
    if !may_be_told(locked) {
        return Ok(false);
    }
    // A reminder that still waits says nothing that this one does not.
    notices::take_back(connection, key, &[NoticeKind::Claim]).await?;
    if now >= locked.expires_at {
        // No notice leaves any more: one that is gone is reminded while its time lasts.
        return Ok(false);
    }
    let body = claim_body(locked.state, left, oldest, lost_at);
    notices::create(connection, key, NoticeKind::Claim, &body, now).await?;
    revise(connection, key).await?;
    Ok(true)
}

async fn set_due(connection: &mut Connection, key: ChannelKey, due: Timestamp) -> StoreResult<()> {
    on!(connection, c => {
        diesel::update(reminders::table.find(key.0))
            .set(reminders::due_at_ms.eq(due.as_millis()))
            .execute(c)
            .await
    })?;
    Ok(())
}

/// Lets the next run of the job look at the channel.
pub(super) async fn wake(connection: &mut Connection, key: ChannelKey, now: Timestamp) -> StoreResult<()> {
    on!(connection, c => {
        diesel::insert_into(reminders::table)
            .values((
                reminders::channel.eq(key.0),
                reminders::since_ms.eq(now.as_millis()),
                reminders::due_at_ms.eq(now.as_millis()),
            ))
            .on_conflict(reminders::channel)
            .do_update()
            .set(reminders::due_at_ms.eq(now.as_millis()))
            .execute(c)
            .await
    })?;
    Ok(())
}

/// Begins to remind of a suspended channel: at once, by two notices where it asked for them.
pub(super) async fn begin_suspended(
    connection: &mut Connection,
    key: ChannelKey,
    reminding: &Reminding,
    now: Timestamp,
) -> StoreResult<()> {
    wake(connection, key, now).await?;
    let Some(locked) = lock(connection, key).await? else { return Ok(()) };
    if may_be_told(&locked) {
        notices::create(connection, key, NoticeKind::Suspended, &json!({ "state": "suspended" }), now)
            .await?;
    }
    let left = left(connection, key, &locked).await?;
    follow_up(connection, key, &locked, left, now, reminding, now).await?;
    Ok(())
}

/// Whether a notice may leave: the channel asked, and there is somebody to tell.
fn may_be_told(locked: &Locked) -> bool {
    let elsewhere = locked.options.lifecycle_address.is_some();
    locked.options.lifecycle
        && match locked.state {
            ChannelState::Active | ChannelState::Suspended => true,
            ChannelState::Gone => elsewhere,
            ChannelState::Paused | ChannelState::Expired | ChannelState::Stopped => false,
        }
}

/// Marks what was parked and not told yet, and counts it.
async fn take_untold(connection: &mut Connection, key: ChannelKey) -> StoreResult<usize> {
    Ok(on!(connection, c => {
        diesel::update(
            exceptions::table
                .filter(exceptions::channel.eq(key.0))
                .filter(diesel::dsl::not(exceptions::told)),
        )
        .set(exceptions::told.eq(true))
        .execute(c)
        .await
    })?)
}

/// What is left to claim; `None` when nothing is. What an active or paused channel has not had yet is on its way.
async fn left(connection: &mut Connection, key: ChannelKey, locked: &Locked) -> StoreResult<Option<Left>> {
    let start_seq: i64 =
        on!(connection, c => channels::table.find(key.0).select(channels::start_seq).first(c).await)?;
    let (parked, oldest_parked): (i64, Option<i64>) = on!(connection, c => {
        exceptions::table
            .filter(exceptions::channel.eq(key.0))
            .filter(exceptions::kind.eq(PARKED))
            // A parked sync has nothing to claim.
            .filter(exceptions::seq.gt(start_seq))
            .select((diesel::dsl::count_star(), diesel::dsl::min(exceptions::seq)))
            .first(c)
            .await
    })?;
    // What waits for its own attempts counts as settled for the cursor, and the receiver has not had it.
    let (retries, oldest_retry): (i64, Option<i64>) = on!(connection, c => {
        exceptions::table
            .filter(exceptions::channel.eq(key.0))
            .filter(exceptions::kind.eq(RETRY))
            .select((diesel::dsl::count_star(), diesel::dsl::min(exceptions::seq)))
            .first(c)
            .await
    })?;
    let row: CursorRow = on!(connection, c => {
        cursors::table.find(key.0).select(CursorRow::as_select()).first(c).await
    })?;
    let Cursor { seq, behind, settled, .. } = row.into();
    let overtook = i64::try_from(settled.seqs().count()).unwrap_or(AHEAD_MAX);
    let (head, fanned) = head_and_fanned(connection, locked.resource).await?;
    let seq = if behind { seq } else { seq.max(fanned) };
    let no_longer_pushed = matches!(locked.state, ChannelState::Suspended | ChannelState::Gone);
    let after = (locked.end_seq.unwrap_or(head) - seq - overtook).max(0);
    let waiting = if no_longer_pushed { after + retries } else { 0 };
    if waiting == 0 && parked == 0 {
        return Ok(None);
    }
    let oldest_waiting = (waiting > 0).then(|| oldest_retry.map_or(seq + 1, |oldest| oldest.min(seq + 1)));
    let oldest_seq = oldest_parked.into_iter().chain(oldest_waiting).min().unwrap_or(head);
    Ok(Some(Left { waiting, parked, oldest_seq }))
}

fn claim_body(
    state: ChannelState,
    left: Left,
    oldest: Option<Timestamp>,
    lost_at: Option<Timestamp>,
) -> Value {
    json!({
        "state": state.as_str(),
        "waiting": left.waiting,
        "parked": left.parked,
        "oldestAt": oldest.map(Timestamp::to_rfc3339),
        "lostAt": lost_at.map(Timestamp::to_rfc3339),
    })
}
