//! SQLite: one synchronous closure per batch on the only writing connection.

use std::collections::HashMap;

use diesel::{
    RunQueryDsl, SqliteConnection,
    prelude::*,
    result::{Error as DieselError, QueryResult},
    upsert::excluded,
};

use crate::{
    domain::{
        channel::{ChannelKey, ResourceKey},
        time::Timestamp,
    },
    store::{
        attempts::NewAttemptRow,
        checkpoint::{Checkpoint, Checkpointed, Parked},
        cursors::CursorRow,
        events::NewEventRow,
        exceptions::{ExceptionRow, REDRIVE, RETRY},
        idempotency::{KeyRow, stored},
        journal::{self, Appended, Key, Placement, Publish, Stored},
        ranges::RangeRow,
        retries::RetryRow,
        schema::{
            attempts, channels, cursors, events, exceptions, idempotency_keys, notices, ranges, reminders,
            resources, work,
        },
    },
};

/// Appends a batch of publishes inside the caller's transaction.
pub(in crate::store) fn append(c: &mut SqliteConnection, publishes: &[Publish]) -> QueryResult<Appended> {
    let mut first_answers = HashMap::new();
    for key in journal::keys(publishes).into_keys() {
        if let Some(found) = first_answer(c, &key)? {
            first_answers.insert(key, found);
        }
    }
    let resolution = journal::resolve(publishes, &first_answers);
    let mut heads = HashMap::new();
    for (project, path) in resolution.resources() {
        let now = publishes.first().map(|publish| publish.now).unwrap_or_default();
        let row = super::super::resources::NewResourceRow::new(project, path, now);
        diesel::insert_into(resources::table).values(&row).on_conflict_do_nothing().execute(c)?;
        let (key, head): (i64, i64) = resources::table
            .filter(resources::project.eq(project))
            .filter(resources::path.eq(path.as_str()))
            .select((resources::id, resources::head_seq))
            .first(c)?;
        heads.insert((project.to_owned(), path.as_str().to_owned()), (ResourceKey(key), head));
    }
    let placement = resolution.place(&heads).ok_or(DieselError::NotFound)?;
    write(c, &placement)?;
    Ok(placement.into())
}

fn first_answer(c: &mut SqliteConnection, key: &Key) -> QueryResult<Option<Stored>> {
    let found: Option<(Vec<u8>, String)> = idempotency_keys::table
        .find((&key.project, key.scope, &key.key))
        .select((idempotency_keys::fingerprint, idempotency_keys::answer))
        .first(c)
        .optional()?;
    found.map(|(fingerprint, answer)| stored(fingerprint, &answer)).transpose()
}

fn write(c: &mut SqliteConnection, placement: &Placement) -> QueryResult<()> {
    for placed in &placement.events {
        diesel::insert_into(events::table).values(NewEventRow::from(placed)).execute(c)?;
    }
    for (key, raised) in &placement.heads {
        diesel::update(resources::table.find(key.0)).set(resources::head_seq.eq(raised.to)).execute(c)?;
        // No work row means that everybody had the log up to the old head.
        diesel::insert_into(work::table)
            .values((
                work::resource.eq(key.0),
                work::head_seq.eq(raised.to),
                work::fanned_seq.eq(raised.from),
            ))
            .on_conflict(work::resource)
            .do_update()
            .set(work::head_seq.eq(raised.to))
            .execute(c)?;
    }
    for first in &placement.answers {
        diesel::insert_into(idempotency_keys::table).values(KeyRow::new(first)?).execute(c)?;
    }
    Ok(())
}

/// Writes a checkpoint inside the caller's transaction.
pub(in crate::store) fn checkpoint(
    c: &mut SqliteConnection,
    checkpoint: &Checkpoint,
) -> QueryResult<Checkpointed> {
    let mut moved = Vec::new();
    for cursor in &checkpoint.cursors {
        let row = CursorRow::from(cursor);
        let same =
            cursors::table.filter(cursors::channel.eq(row.channel)).filter(cursors::moved.eq(row.moved));
        if diesel::update(same).set(&row).execute(c)? == 0 {
            moved.push(ChannelKey(row.channel));
        }
    }
    for (resource, fanned) in &checkpoint.fanned {
        let row = work::table.find(resource.0);
        diesel::update(row.filter(work::fanned_seq.lt(fanned)))
            .set(work::fanned_seq.eq(fanned))
            .execute(c)?;
        diesel::delete(row.filter(work::head_seq.le(work::fanned_seq))).execute(c)?;
    }
    for attempt in &checkpoint.attempts {
        let mut row = NewAttemptRow::from(attempt);
        if row.excerpt.is_some() && is_erased(c, &row)? {
            row.excerpt = None;
        }
        diesel::insert_into(attempts::table).values(row).execute(c)?;
    }
    write_retries(c, checkpoint, &moved)?;
    write_parked(c, &checkpoint.parked, &moved)?;
    for (channel, seq) in &checkpoint.redriven {
        let redriven = exceptions::table.find((channel.0, *seq)).filter(exceptions::kind.eq(REDRIVE));
        diesel::delete(redriven).execute(c)?;
    }
    for notice in &checkpoint.notices {
        diesel::update(notices::table.find(notice.id).filter(notices::due_at_ms.is_not_null()))
            .set((
                notices::attempts.eq(i64::from(notice.attempts)),
                notices::due_at_ms.eq(notice.due_at.map(Timestamp::as_millis)),
            ))
            .execute(c)?;
    }
    // A cursor that was moved meanwhile has passed them in another way.
    for range in checkpoint.ranges.iter().filter(|range| !moved.contains(&range.channel)) {
        diesel::insert_into(ranges::table)
            .values(RangeRow::from(range))
            .on_conflict((ranges::channel, ranges::from_seq))
            .do_update()
            .set(RangeRow::from(range))
            .execute(c)?;
    }
    Ok(Checkpointed { moved })
}

/// Whether what an attempt carried was erased while it was on its way: then nothing of its answer is kept.
fn is_erased(c: &mut SqliteConnection, attempt: &NewAttemptRow) -> QueryResult<bool> {
    let event = channels::table
        .inner_join(events::table.on(events::resource.eq(channels::resource)))
        .filter(channels::id.eq(attempt.channel))
        .filter(events::seq.eq(channels::start_seq + attempt.number - 1))
        .filter(events::erased_at_ms.is_not_null());
    diesel::select(diesel::dsl::exists(event)).get_result(c)
}

/// What waits for its own attempts, and what waits no longer. A cursor that was moved meanwhile is told again.
fn write_retries(c: &mut SqliteConnection, checkpoint: &Checkpoint, moved: &[ChannelKey]) -> QueryResult<()> {
    for (channel, seq) in checkpoint.retried.iter().filter(|(channel, _)| !moved.contains(channel)) {
        diesel::delete(exceptions::table.find((channel.0, *seq)).filter(exceptions::kind.eq(RETRY)))
            .execute(c)?;
    }
    for retrying in checkpoint.retrying.iter().filter(|retrying| !moved.contains(&retrying.channel)) {
        diesel::insert_into(exceptions::table)
            .values(RetryRow::from(retrying))
            .on_conflict((exceptions::channel, exceptions::seq))
            .do_update()
            .set((
                exceptions::kind.eq(excluded(exceptions::kind)),
                exceptions::status.eq(excluded(exceptions::status)),
                exceptions::attempts.eq(excluded(exceptions::attempts)),
                exceptions::error.eq(excluded(exceptions::error)),
                exceptions::due_at_ms.eq(excluded(exceptions::due_at_ms)),
            ))
            .execute(c)?;
    }
    Ok(())
}

/// What was set aside. A cursor that was moved meanwhile has passed it in another way.
fn write_parked(c: &mut SqliteConnection, parked: &[Parked], moved: &[ChannelKey]) -> QueryResult<()> {
    for parked in parked {
        let row = ExceptionRow::from(parked);
        if parked.again {
            let redriven =
                exceptions::table.find((row.channel, row.seq)).filter(exceptions::kind.eq(REDRIVE));
            diesel::update(redriven).set(row.clone()).execute(c)?;
        } else if !moved.contains(&parked.channel) {
            diesel::insert_into(exceptions::table).values(&row).on_conflict_do_nothing().execute(c)?;
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
            .execute(c)?;
    }
    Ok(())
}
