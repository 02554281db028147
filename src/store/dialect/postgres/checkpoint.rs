//! Writing a checkpoint, fenced by the lease's epoch.

use std::collections::BTreeMap;

use diesel::{
    prelude::*,
    result::QueryResult,
    sql_types::{Array, BigInt, Binary, Bool, Nullable, Text},
    upsert::excluded,
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use crate::{
    domain::{
        channel::{ChannelKey, ResourceKey},
        time::Timestamp,
    },
    store::{
        attempts::NewAttemptRow,
        checkpoint::{Attempt, Checkpoint, Checkpointed, EndedRange, OUTCOMES_MAX, Parked},
        cursors::CursorRow,
        exceptions::{ExceptionRow, REDRIVE, RETRY},
        ranges::RangeRow,
        retries::RetryRow,
        schema::{exceptions, notices, ranges, reminders},
    },
};

/// Writes a checkpoint up to, but not including, its commit. `None`: the lease has another epoch.
pub(in crate::store) async fn checkpoint(
    c: &mut AsyncPgConnection,
    checkpoint: &Checkpoint,
) -> QueryResult<Option<Checkpointed>> {
    let leases = diesel::sql_query("select epoch from lease where id = 1 and epoch = $1 for share")
        .bind::<BigInt, _>(checkpoint.epoch)
        .execute(c)
        .await?;
    if leases == 0 {
        return Ok(None);
    }
    let moved = update_cursors(c, checkpoint).await?;
    raise_fanned(c, &checkpoint.fanned).await?;
    if !(checkpoint.repeated && is_in_ledger(c, &checkpoint.attempts).await?) {
        insert_attempts(c, &checkpoint.attempts).await?;
    }
    write_retries(c, checkpoint, &moved).await?;
    write_parked(c, &checkpoint.parked, &moved).await?;
    for (channel, seq) in &checkpoint.redriven {
        let redriven = exceptions::table.find((channel.0, *seq)).filter(exceptions::kind.eq(REDRIVE));
        diesel::delete(redriven).execute(c).await?;
    }
    for notice in &checkpoint.notices {
        diesel::update(notices::table.find(notice.id).filter(notices::due_at_ms.is_not_null()))
            .set((
                notices::attempts.eq(i64::from(notice.attempts)),
                notices::due_at_ms.eq(notice.due_at.map(Timestamp::as_millis)),
            ))
            .execute(c)
            .await?;
    }
    upsert_ranges(c, &checkpoint.ranges, &moved).await?;
    Ok(Some(Checkpointed { moved }))
}

async fn update_cursors(c: &mut AsyncPgConnection, checkpoint: &Checkpoint) -> QueryResult<Vec<ChannelKey>> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = BigInt)]
        channel: i64,
    }
    if checkpoint.cursors.is_empty() {
        return Ok(Vec::new());
    }
    // Of two rows for one channel the later holds; UPDATE … FROM would take any.
    let rows: BTreeMap<i64, CursorRow> =
        checkpoint.cursors.iter().map(|cursor| (cursor.channel.0, cursor.into())).collect();
    let rows: Vec<CursorRow> = rows.into_values().collect();
    let channels: Vec<i64> = rows.iter().map(|row| row.channel).collect();
    // UPDATE … FROM locks in the order of its plan; locking first keeps the order fixed.
    diesel::sql_query("select channel from cursors where channel = any($1) order by channel for update")
        .bind::<Array<BigInt>, _>(&channels)
        .execute(c)
        .await?;
    macro_rules! column {
        ($field:ident) => {
            &rows.iter().map(|row| row.$field.clone()).collect::<Vec<_>>()
        };
    }
    let applied: Vec<Row> = diesel::sql_query(
        "update cursors c
         set seq = u.seq, behind = u.behind, due_at_ms = u.due_at_ms, attempts = u.attempts,
             client_errors = u.client_errors, failing_since_ms = u.failing_since_ms,
             pinned_seq = u.pinned_seq, last_success_at_ms = u.last_success_at_ms,
             failures = u.failures, refusals = u.refusals, settled_map = u.settled_map
         from unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
           as u (channel, moved, seq, behind, due_at_ms, attempts, client_errors, failing_since_ms,
                 pinned_seq, last_success_at_ms, failures, refusals, settled_map)
         where c.channel = u.channel and c.moved = u.moved
         returning c.channel",
    )
    .bind::<Array<BigInt>, _>(&channels)
    .bind::<Array<BigInt>, _>(column!(moved))
    .bind::<Array<BigInt>, _>(column!(seq))
    .bind::<Array<Bool>, _>(column!(behind))
    .bind::<Array<Nullable<BigInt>>, _>(column!(due_at_ms))
    .bind::<Array<BigInt>, _>(column!(attempts))
    .bind::<Array<BigInt>, _>(column!(client_errors))
    .bind::<Array<Nullable<BigInt>>, _>(column!(failing_since_ms))
    .bind::<Array<Nullable<BigInt>>, _>(column!(pinned_seq))
    .bind::<Array<Nullable<BigInt>>, _>(column!(last_success_at_ms))
    .bind::<Array<BigInt>, _>(column!(failures))
    .bind::<Array<BigInt>, _>(column!(refusals))
    .bind::<Array<Nullable<Binary>>, _>(column!(settled_map))
    .load(c)
    .await?;
    let applied: std::collections::HashSet<i64> = applied.into_iter().map(|row| row.channel).collect();
    Ok(channels.into_iter().filter(|channel| !applied.contains(channel)).map(ChannelKey).collect())
}

async fn raise_fanned(c: &mut AsyncPgConnection, fanned: &[(ResourceKey, i64)]) -> QueryResult<()> {
    if fanned.is_empty() {
        return Ok(());
    }
    let mut highest = BTreeMap::new();
    for (key, seq) in fanned {
        let seq = *seq;
        highest.entry(key.0).and_modify(|highest: &mut i64| *highest = seq.max(*highest)).or_insert(seq);
    }
    let (keys, seqs): (Vec<i64>, Vec<i64>) = highest.into_iter().unzip();
    diesel::sql_query("select resource from work where resource = any($1) order by resource for update")
        .bind::<Array<BigInt>, _>(&keys)
        .execute(c)
        .await?;
    diesel::sql_query(
        "update work w set fanned_seq = greatest(w.fanned_seq, u.fanned_seq)
         from unnest($1, $2) as u (resource, fanned_seq) where w.resource = u.resource",
    )
    .bind::<Array<BigInt>, _>(&keys)
    .bind::<Array<BigInt>, _>(&seqs)
    .execute(c)
    .await?;
    diesel::sql_query("delete from work where resource = any($1) and head_seq <= fanned_seq")
        .bind::<Array<BigInt>, _>(&keys)
        .execute(c)
        .await?;
    Ok(())
}

/// Whether an earlier try of this checkpoint was committed: one of its attempts tells for all. Everything else in
/// a checkpoint comes to the same when it is written twice. Nobody has written a checkpoint in between, so only
/// the newest rows have to be looked at.
async fn is_in_ledger(c: &mut AsyncPgConnection, attempts: &[Attempt]) -> QueryResult<bool> {
    #[derive(QueryableByName)]
    struct Found {
        #[diesel(sql_type = Bool)]
        found: bool,
    }
    let Some(first) = attempts.first() else { return Ok(false) };
    let first = NewAttemptRow::from(first);
    let Found { found } = diesel::sql_query(
        "select exists (
           select 1
           from (select number, attempt, started_at_ms from attempts
                 where channel = $1 order by id desc limit $5) as newest
           where number = $2 and attempt = $3 and started_at_ms = $4
         ) as found",
    )
    .bind::<BigInt, _>(first.channel)
    .bind::<BigInt, _>(first.number)
    .bind::<BigInt, _>(first.attempt)
    .bind::<BigInt, _>(first.started_at_ms)
    .bind::<BigInt, _>(i64::try_from(OUTCOMES_MAX).unwrap_or(i64::MAX))
    .get_result(c)
    .await?;
    Ok(found)
}

async fn insert_attempts(c: &mut AsyncPgConnection, attempts: &[Attempt]) -> QueryResult<()> {
    if attempts.is_empty() {
        return Ok(());
    }
    let mut rows: Vec<NewAttemptRow> = attempts.iter().map(Into::into).collect();
    forget_erased(c, &mut rows).await?;
    diesel::insert_into(crate::store::schema::attempts::table).values(&rows).execute(c).await?;
    Ok(())
}

/// Drops what answers quoted of events that were erased while the attempts were on their way. The events are locked:
/// an erasure that comes later finds the rows.
async fn forget_erased(c: &mut AsyncPgConnection, rows: &mut [NewAttemptRow]) -> QueryResult<()> {
    #[derive(QueryableByName)]
    struct Carried {
        #[diesel(sql_type = BigInt)]
        channel: i64,
        #[diesel(sql_type = BigInt)]
        number: i64,
        #[diesel(sql_type = Bool)]
        erased: bool,
    }
    let quoted = rows.iter().filter(|row| row.excerpt.is_some());
    let (channels, numbers): (Vec<i64>, Vec<i64>) = quoted.map(|row| (row.channel, row.number)).unzip();
    if channels.is_empty() {
        return Ok(());
    }
    let carried: Vec<Carried> = diesel::sql_query(
        "select u.channel, u.number, e.erased_at_ms is not null as erased
         from unnest($1, $2) as u (channel, number)
         join channels c on c.id = u.channel
         join events e on e.resource = c.resource and e.seq = c.start_seq + u.number - 1
         order by e.resource, e.seq for share of e",
    )
    .bind::<Array<BigInt>, _>(&channels)
    .bind::<Array<BigInt>, _>(&numbers)
    .load(c)
    .await?;
    for erased in carried.iter().filter(|carried| carried.erased) {
        let its = rows.iter_mut().filter(|row| (row.channel, row.number) == (erased.channel, erased.number));
        its.for_each(|row| row.excerpt = None);
    }
    Ok(())
}

/// What waits for its own attempts, and what waits no longer. A cursor that was moved meanwhile is told again.
async fn write_retries(
    c: &mut AsyncPgConnection,
    checkpoint: &Checkpoint,
    moved: &[ChannelKey],
) -> QueryResult<()> {
    let (channels, seqs): (Vec<i64>, Vec<i64>) = checkpoint
        .retried
        .iter()
        .filter(|(channel, _)| !moved.contains(channel))
        .map(|(channel, seq)| (channel.0, *seq))
        .unzip();
    if !channels.is_empty() {
        diesel::sql_query(
            "delete from exceptions e using unnest($1, $2) as u (channel, seq)
             where e.channel = u.channel and e.seq = u.seq and e.kind = $3",
        )
        .bind::<Array<BigInt>, _>(&channels)
        .bind::<Array<BigInt>, _>(&seqs)
        .bind::<Text, _>(RETRY)
        .execute(c)
        .await?;
    }
    let retrying = checkpoint.retrying.iter().filter(|retrying| !moved.contains(&retrying.channel));
    let rows: Vec<RetryRow> = retrying.map(Into::into).collect();
    for rows in rows.chunks(OUTCOMES_MAX) {
        diesel::insert_into(exceptions::table)
            .values(rows.to_vec())
            .on_conflict((exceptions::channel, exceptions::seq))
            .do_update()
            .set((
                exceptions::kind.eq(excluded(exceptions::kind)),
                exceptions::status.eq(excluded(exceptions::status)),
                exceptions::attempts.eq(excluded(exceptions::attempts)),
                exceptions::error.eq(excluded(exceptions::error)),
                exceptions::due_at_ms.eq(excluded(exceptions::due_at_ms)),
            ))
            .execute(c)
            .await?;
    }
    Ok(())
}

/// What was set aside. A cursor that was moved meanwhile has passed it in another way.
async fn write_parked(c: &mut AsyncPgConnection, parked: &[Parked], moved: &[ChannelKey]) -> QueryResult<()> {
    for parked in parked {
        let row = ExceptionRow::from(parked);
        if parked.again {
            let redriven =
                exceptions::table.find((row.channel, row.seq)).filter(exceptions::kind.eq(REDRIVE));
            diesel::update(redriven).set(row.clone()).execute(c).await?;
        } else if !moved.contains(&parked.channel) {
            diesel::insert_into(exceptions::table).values(&row).on_conflict_do_nothing().execute(c).await?;
        } else {
            continue;
        }
        diesel::insert_into(reminders::table)
            .values((
                reminders::channel.eq(row.channel),
                reminders::since_ms.eq(row.created_at_ms),
                reminders::due_at_ms.eq(row.created_at_ms),
            ))
            .on_conflict_do_nothing()
            .execute(c)
            .await?;
    }
    Ok(())
}

/// What ended otherwise than by delivery. A cursor that was moved meanwhile has passed it in another way.
async fn upsert_ranges(
    c: &mut AsyncPgConnection,
    ended: &[EndedRange],
    moved: &[ChannelKey],
) -> QueryResult<()> {
    for range in ended.iter().filter(|range| !moved.contains(&range.channel)) {
        diesel::insert_into(ranges::table)
            .values(RangeRow::from(range))
            .on_conflict((ranges::channel, ranges::from_seq))
            .do_update()
            .set(RangeRow::from(range))
            .execute(c)
            .await?;
    }
    Ok(())
}
