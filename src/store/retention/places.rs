//! Whoever stands inside a slice that is about to go: cursors, and notifications that were set aside.
//!
//! In the slice's own transactions, under the resource's lock. A channel's lock comes before its cursor's, both by
//! their ids, as everywhere. Every move raises `moved` and `rev`, and leaves word for a delivering node elsewhere.

use diesel::{
    prelude::*,
    sql_types::{BigInt, Bool, Nullable, Text},
};
use diesel_async::RunQueryDsl;

use super::Cutoff;
use crate::{
    domain::{
        channel::{ChannelKey, ResourceKey},
        time::Timestamp,
    },
    store::{
        channels::revise,
        connection::{Connection, Handle, on},
        error::StoreResult,
        exceptions::PARKED,
        resources::Head,
        schema::{channels, cursors, exceptions, ranges, work},
    },
};

/// Channels that one transaction moves.
const CHANNELS_MAX: i64 = 100;
/// Notifications that were set aside that one transaction lets go.
const EXCEPTIONS_MAX: i64 = 200;
/// The kind of range that retention writes.
const EXPIRED: &str = "expired";

/// A channel that stands inside the slice. What a channel was stopped before is cancelled, and stays so.
#[derive(Debug, QueryableByName)]
struct Standing {
    #[diesel(sql_type = BigInt)]
    channel: i64,
    #[diesel(sql_type = BigInt)]
    start_seq: i64,
    #[diesel(sql_type = Nullable<BigInt>)]
    end_seq: Option<i64>,
    #[diesel(sql_type = BigInt)]
    seq: i64,
    #[diesel(sql_type = Bool)]
    behind: bool,
    #[diesel(sql_type = Nullable<BigInt>)]
    pinned_seq: Option<i64>,
}

/// Moves a batch of the channels that stand inside the slice to its end. True when that was the last batch.
pub(super) async fn move_on(
    connection: &mut Connection,
    head: Head,
    through: i64,
    now: Timestamp,
    moved: &mut Vec<ChannelKey>,
) -> StoreResult<bool> {
    let found = standing(connection, head, through).await?.0;
    let is_last = i64::try_from(found.len()).is_ok_and(|rows| rows < CHANNELS_MAX);
    let keys: Vec<i64> = found.iter().map(|standing| standing.channel).collect();
    if keys.is_empty() {
        return Ok(true);
    }
    lock(connection, &keys).await?;
    // Read again under the locks: a checkpoint may have carried some of them past the slice.
    let (found, fanned) = standing(connection, head, through).await?;
    for standing in found.into_iter().filter(|standing| keys.contains(&standing.channel)) {
        let end = standing.end_seq.map_or(through, |end| end.min(through));
        let place = if standing.behind { standing.seq } else { standing.seq.max(fanned) };
        // The sync is the channel's own and not in the log: it does not expire, and what comes after it does.
        let from = place.max(standing.start_seq) + 1;
        expire_range(connection, standing.channel, from, end, now).await?;
        if place < standing.start_seq {
            continue;
        }
        set_place(connection, &standing, end).await?;
        revise(connection, ChannelKey(standing.channel)).await?;
        moved.push(ChannelKey(standing.channel));
    }
    Ok(is_last)
}

/// A batch of the channels whose place lies before the slice's end, by their ids, and what every level one has had.
/// One whose sync is pending counts until its range reaches the end.
async fn standing(
    connection: &mut Connection,
    head: Head,
    through: i64,
) -> StoreResult<(Vec<Standing>, i64)> {
    let fanned: Option<i64> = on!(connection, c => {
        work::table.find(head.key.0).select(work::fanned_seq).first(c).await.optional()
    })?;
    // No work row means that every level channel has had the whole log.
    let fanned = fanned.unwrap_or(head.seq);
    let rows = on!(connection, c => {
        diesel::sql_query(
            "select c.id as channel, c.start_seq, c.end_seq, u.seq, u.behind, u.pinned_seq
             from channels c join cursors u on u.channel = c.id
             where c.resource = $1 and c.state <> 'stopped'
               and u.seq < $2 and (c.end_seq is null or u.seq < c.end_seq)
               and ((u.behind and u.seq >= c.start_seq)
                 or (not u.behind and $3 < $2)
                 or (u.behind and u.seq < c.start_seq and c.start_seq < $2
                   and (c.end_seq is null or c.start_seq < c.end_seq)
                   and not exists (
                     select 1 from ranges r
                     where r.channel = c.id and r.kind = $4 and r.from_seq = c.start_seq + 1
                       and (r.to_seq >= $2 or r.to_seq >= c.end_seq))))
             order by c.id limit $5",
        )
        .bind::<BigInt, _>(head.key.0)
        .bind::<BigInt, _>(through)
        .bind::<BigInt, _>(fanned)
        .bind::<Text, _>(EXPIRED)
        .bind::<BigInt, _>(CHANNELS_MAX)
        .load(c)
        .await
    })?;
    Ok((rows, fanned))
}

/// Channels, then cursors, each by id. SQLite's writer is alone.
async fn lock(connection: &mut Connection, keys: &[i64]) -> StoreResult<()> {
    let Handle::Postgres(c) = &mut connection.handle else { return Ok(()) };
    let _: Vec<i64> = channels::table
        .filter(channels::id.eq_any(keys))
        .order(channels::id)
        .select(channels::id)
        .for_no_key_update()
        .load(&mut **c)
        .await?;
    let _: Vec<i64> = cursors::table
        .filter(cursors::channel.eq_any(keys))
        .order(cursors::channel)
        .select(cursors::channel)
        .for_update()
        .load(&mut **c)
        .await?;
    Ok(())
}

/// The head has expired, so its attempts are over; the channel's own trouble is not: since when it has failed, and when
/// it is tried next, stay. A run that reaches past the slice keeps its number, so it is not over.
async fn set_place(connection: &mut Connection, standing: &Standing, end: i64) -> StoreResult<()> {
    let row = cursors::table.find(standing.channel);
    on!(connection, c => {
        diesel::update(row)
            .set((cursors::seq.eq(end), cursors::moved.eq(cursors::moved + 1)))
            .execute(c)
            .await
    })?;
    if standing.pinned_seq.is_none_or(|pinned| pinned <= end) {
        on!(connection, c => {
            diesel::update(row)
                .set((
                    cursors::attempts.eq(0),
                    cursors::client_errors.eq(0),
                    cursors::refusals.eq(0),
                    cursors::pinned_seq.eq(None::<i64>),
                ))
                .execute(c)
                .await
        })?;
    }
    Ok(())
}

/// Lets go of a batch of the notifications of the slice that were set aside: they live as long as their event. True
/// when that was the last batch.
pub(super) async fn expire_exceptions(
    connection: &mut Connection,
    head: Head,
    through: i64,
    now: Timestamp,
    moved: &mut Vec<ChannelKey>,
) -> StoreResult<bool> {
    let found: Vec<(i64, i64, String)> = on!(connection, c => {
        exceptions::table
            .inner_join(channels::table.on(channels::id.eq(exceptions::channel)))
            .filter(channels::resource.eq(head.key.0))
            .filter(exceptions::seq.le(through))
            .order((exceptions::channel, exceptions::seq))
            .limit(EXCEPTIONS_MAX)
            .select((exceptions::channel, exceptions::seq, exceptions::kind))
            .load(c)
            .await
    })?;
    let is_last = i64::try_from(found.len()).is_ok_and(|rows| rows < EXCEPTIONS_MAX);
    let mut keys: Vec<i64> = found.iter().map(|(channel, ..)| *channel).collect();
    keys.dedup();
    lock(connection, &keys).await?;
    for (channel, seq, kind) in found {
        on!(connection, c => diesel::delete(exceptions::table.find((channel, seq))).execute(c).await)?;
        expire_range(connection, channel, seq, seq, now).await?;
        // One that waits for its own attempts is in the lane's memory too.
        if kind != PARKED && moved.last() != Some(&ChannelKey(channel)) {
            on!(connection, c => {
                diesel::update(cursors::table.find(channel))
                    .set(cursors::moved.eq(cursors::moved + 1))
                    .execute(c)
                    .await
            })?;
            revise(connection, ChannelKey(channel)).await?;
            moved.push(ChannelKey(channel));
        }
    }
    Ok(is_last)
}

/// Says that what lies between `from` and `to` has expired for the channel. One row grows as the log goes slice by
/// slice, and takes in what it meets.
async fn expire_range(
    connection: &mut Connection,
    channel: i64,
    from: i64,
    to: i64,
    now: Timestamp,
) -> StoreResult<()> {
    if from > to {
        return Ok(());
    }
    let touching: Option<(i64, i64)> = on!(connection, c => {
        ranges::table
            .filter(ranges::channel.eq(channel))
            .filter(ranges::kind.eq(EXPIRED))
            .filter(ranges::from_seq.le(from))
            .filter(ranges::to_seq.ge(from - 1))
            .order(ranges::from_seq)
            .select((ranges::from_seq, ranges::to_seq))
            .first(c)
            .await
            .optional()
    })?;
    let (from, to) = touching.map_or((from, to), |(first, last)| (first, to.max(last)));
    on!(connection, c => {
        diesel::delete(ranges::table)
            .filter(ranges::channel.eq(channel))
            .filter(ranges::kind.eq(EXPIRED))
            .filter(ranges::from_seq.gt(from))
            .filter(ranges::to_seq.le(to))
            .execute(c)
            .await
    })?;
    // Where a replay went over ground that had another end before, the later one counts.
    on!(connection, c => {
        diesel::insert_into(ranges::table)
            .values((
                ranges::channel.eq(channel),
                ranges::from_seq.eq(from),
                ranges::to_seq.eq(to),
                ranges::kind.eq(EXPIRED),
                ranges::created_at_ms.eq(now.as_millis()),
            ))
            .on_conflict((ranges::channel, ranges::from_seq))
            .do_update()
            .set((ranges::to_seq.eq(to), ranges::kind.eq(EXPIRED)))
            .execute(c)
            .await
    })?;
    Ok(())
}

/// What is said of events that are gone is of no use: which filter they met, which were superseded. What expired is
/// remembered as long as its channel, and one retention longer.
pub(super) async fn forget_fates(
    connection: &mut Connection,
    resource: ResourceKey,
    through: i64,
    cutoff: Cutoff,
) -> StoreResult<()> {
    on!(connection, c => {
        diesel::sql_query(
            "delete from ranges where to_seq <= $1
               and channel in (select id from channels where resource = $2)
               and (kind <> $3 or channel in (
                 select id from channels where resource = $2 and ended_at_ms <= $4))",
        )
        .bind::<BigInt, _>(through)
        .bind::<BigInt, _>(resource.0)
        .bind::<Text, _>(EXPIRED)
        .bind::<BigInt, _>(cutoff.0.as_millis())
        .execute(c)
        .await
    })?;
    on!(connection, c => {
        diesel::sql_query(
            "delete from past_filters where through_seq <= $1
               and channel in (select id from channels where resource = $2)",
        )
        .bind::<BigInt, _>(through)
        .bind::<BigInt, _>(resource.0)
        .execute(c)
        .await
    })?;
    Ok(())
}
