//! Channels near their end: renewed where they renew themselves and their receiver answers, else warned. Each mark of a
//! channel's life is acted on once, in the transaction that sets the next time to look.

use std::time::Duration;

use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use serde_json::json;

use super::{
    Store,
    channels::{Locked, announce, lock, revise, tell_renewed},
    connection::{Connection, on},
    error::StoreResult,
    notices,
    own::{self, Told},
    schema::{attempts, channels, cursors, notices as notice_rows},
};
use crate::domain::{
    channel::{ChannelKey, ChannelState, Renewal},
    notice::NoticeKind,
    outcome::Verdict,
    renewal::{Life, Mark, RENEWED_MIN},
    time::Timestamp,
};

/// How soon a channel is looked at again that waits for a probe's answer: by the next run of the job.
const PROBED_AGAIN: Duration = Duration::from_secs(30);
/// A failing channel is looked at this often in a life, so that it is renewed once it has recovered.
const LOOKS_PER_LIFE: u32 = 100;

/// What a look at a channel came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Looked {
    Renewed,
    /// Its receiver is asked whether it is there.
    Probed,
    /// Its owner, and its receiver if it asked, know that it ends.
    Warned,
    Nothing,
}

impl Store {
    /// Channels to be looked at by `by`, in key order after `after`; at most `limit`.
    pub async fn due_looks(
        &self,
        by: Timestamp,
        after: ChannelKey,
        limit: i64,
    ) -> StoreResult<Vec<ChannelKey>> {
        self.read(move |connection| {
            Box::pin(async move {
                let keys: Vec<i64> = on!(connection, c => {
                    channels::table
                        .filter(channels::look_at_ms.is_not_null())
                        .filter(channels::look_at_ms.le(by.as_millis()))
                        .filter(channels::id.gt(after.0))
                        .order(channels::id)
                        .limit(limit)
                        .select(channels::id)
                        .load(c)
                        .await
                })?;
                Ok(keys.into_iter().map(ChannelKey).collect())
            })
        })
        .await
    }

    /// Looks at a channel that may be near its end. `longest` bounds a renewed life.
    pub async fn look_at_channel(
        &self,
        key: ChannelKey,
        longest: Duration,
        now: Timestamp,
    ) -> StoreResult<Looked> {
        self.write(move |connection| Box::pin(async move { look(connection, key, longest, now).await })).await
    }
}

async fn look(
    connection: &mut Connection,
    key: ChannelKey,
    longest: Duration,
    now: Timestamp,
) -> StoreResult<Looked> {
    let Some(locked) = lock(connection, key).await? else { return Ok(Looked::Nothing) };
    let look_at: Option<i64> =
        on!(connection, c => channels::table.find(key.0).select(channels::look_at_ms).first(c).await)?;
    let Some(look_at) = look_at.map(Timestamp::from_millis).filter(|at| *at <= now) else {
        return Ok(Looked::Nothing);
    };
    let renewal = locked.options.renewal;
    let life = Life { granted_at: locked.granted_at, expires_at: locked.expires_at, renewal };
    let passed = life.passed(now).filter(|_| locked.state.is_living() && now < locked.expires_at);
    let Some((mark, marked_at)) = passed else {
        let next = life.next_look(now).filter(|_| locked.state.is_living());
        set_look(connection, key, next).await?;
        return Ok(Looked::Nothing);
    };
    // A look between two marks is not the first one after its mark.
    let first = look_at <= marked_at;
    if renewal != Renewal::Auto || locked.state != ChannelState::Active {
        set_look(connection, key, life.next_look(now)).await?;
        return if first && mark != Mark::LastThird {
            warn(connection, key, &locked, now).await?;
            Ok(Looked::Warned)
        } else {
            Ok(Looked::Nothing)
        };
    }
    let (failing, last_sent) = last_outcome(connection, key, &locked).await?;
    let answers = last_sent.is_some_and(|(at, delivered)| delivered && at >= life.last_third_at());
    if !failing && answers {
        renew(connection, key, &locked, life.length().max(RENEWED_MIN).min(longest), now).await?;
        return Ok(Looked::Renewed);
    }
    let asked = failing || last_sent.is_some_and(|(at, _)| at >= life.last_third_at());
    let outcome = if first {
        probe(connection, key, &locked, mark, failing, now).await?
    } else if !asked {
        // It began to renew itself, or went on, between two marks.
        ask(connection, key, &locked, now).await?
    } else {
        Looked::Nothing
    };
    // The nearer the end, the more often.
    let every = (life.length() / LOOKS_PER_LIFE).min(locked.expires_at.since(now) / 4);
    let again = if failing { every } else { Duration::ZERO }.max(PROBED_AGAIN);
    let next = life.next_look(now).map_or(now.plus(again), |mark| mark.min(now.plus(again)));
    set_look(connection, key, Some(next)).await?;
    Ok(outcome)
}

/// Whether the head fails, and when the last request left and whether it was answered with a 2xx.
async fn last_outcome(
    connection: &mut Connection,
    key: ChannelKey,
    locked: &Locked,
) -> StoreResult<(bool, Option<(Timestamp, bool)>)> {
    let (head_attempts, since): (i64, Option<i64>) = on!(connection, c => {
        cursors::table.find(key.0).select((cursors::attempts, cursors::failing_since_ms)).first(c).await
    })?;
    // What an address for notices alone says proves nothing of the receiver.
    let elsewhere = locked.options.lifecycle_address.is_some();
    let last: Option<(i64, String)> = on!(connection, c => {
        let mut query = attempts::table
            .filter(attempts::channel.eq(key.0))
            .order(attempts::id.desc())
            .select((attempts::started_at_ms, attempts::outcome))
            .into_boxed();
        if elsewhere {
            query = query
                .filter(attempts::notice.is_null().or(attempts::notice.eq(Some(NoticeKind::Ping.as_str()))));
        }
        query.first(c).await.optional()
    })?;
    let last = last.map(|(at, outcome)| (Timestamp::from_millis(at), outcome == Verdict::Delivered.as_str()));
    Ok((head_attempts > 0 || since.is_some(), last))
}

async fn renew(
    connection: &mut Connection,
    key: ChannelKey,
    locked: &Locked,
    lifetime: Duration,
    now: Timestamp,
) -> StoreResult<()> {
    let expires_at = now.plus(lifetime).floor_to_second().max(locked.expires_at);
    let life = Life { granted_at: now, expires_at, renewal: locked.options.renewal };
    on!(connection, c => {
        diesel::update(channels::table.find(key.0))
            .set((
                channels::expires_at_ms.eq(expires_at.as_millis()),
                channels::granted_at_ms.eq(now.as_millis()),
                channels::look_at_ms.eq(life.look_from(now).map(Timestamp::as_millis)),
                channels::rev.eq(channels::rev + 1),
            ))
            .execute(c)
            .await
    })?;
    tell_renewed(connection, key, locked.options.lifecycle, now).await?;
    announce(connection, key).await?;
    own::tell(connection, key, Told::Renewed, json!({}), now).await
}

/// Asks the receiver of a self-renewing channel whether it is there: by a warning where it asked for notices, else by a
/// ping, unless its head is tried anyway.
async fn probe(
    connection: &mut Connection,
    key: ChannelKey,
    locked: &Locked,
    mark: Mark,
    failing: bool,
    now: Timestamp,
) -> StoreResult<Looked> {
    let warned = mark != Mark::LastThird;
    if warned {
        own::tell(connection, key, Told::Expiring, json!({}), now).await?;
    }
    let elsewhere = locked.options.lifecycle_address.is_some();
    if warned
        && locked.options.lifecycle
        && elsewhere
        && !waits(connection, key, NoticeKind::Expiring).await?
    {
        notices::create(connection, key, NoticeKind::Expiring, &json!({}), now).await?;
        revise(connection, key).await?;
    }
    if failing && (!locked.options.lifecycle || elsewhere) {
        return Ok(if warned { Looked::Warned } else { Looked::Nothing });
    }
    ask(connection, key, locked, now).await
}

/// Asks the receiver itself, unless that is on its way already.
async fn ask(
    connection: &mut Connection,
    key: ChannelKey,
    locked: &Locked,
    now: Timestamp,
) -> StoreResult<Looked> {
    let told = locked.options.lifecycle && locked.options.lifecycle_address.is_none();
    let kind = if told { NoticeKind::Expiring } else { NoticeKind::Ping };
    if !waits(connection, key, kind).await? {
        notices::create(connection, key, kind, &json!({}), now).await?;
        revise(connection, key).await?;
    }
    Ok(Looked::Probed)
}

async fn warn(
    connection: &mut Connection,
    key: ChannelKey,
    locked: &Locked,
    now: Timestamp,
) -> StoreResult<()> {
    if locked.options.lifecycle && locked.state.sends() {
        notices::take_back(connection, key, &[NoticeKind::Expiring]).await?;
        notices::create(connection, key, NoticeKind::Expiring, &json!({}), now).await?;
        revise(connection, key).await?;
    }
    own::tell(connection, key, Told::Expiring, json!({}), now).await
}

/// Whether a notice of this kind is on its way already.
async fn waits(connection: &mut Connection, key: ChannelKey, kind: NoticeKind) -> StoreResult<bool> {
    let waiting: i64 = on!(connection, c => {
        notice_rows::table
            .filter(notice_rows::channel.eq(key.0))
            .filter(notice_rows::kind.eq(kind.as_str()))
            .filter(notice_rows::due_at_ms.is_not_null())
            .count()
            .get_result(c)
            .await
    })?;
    Ok(waiting > 0)
}

async fn set_look(connection: &mut Connection, key: ChannelKey, at: Option<Timestamp>) -> StoreResult<()> {
    on!(connection, c => {
        diesel::update(channels::table.find(key.0))
            .set(channels::look_at_ms.eq(at.map(Timestamp::as_millis)))
            .execute(c)
            .await
    })?;
    Ok(())
}
