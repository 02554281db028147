//! Appending a batch of publishes: a handful of statements whatever its size.

use std::collections::{BTreeMap, HashMap};

use diesel::{
    prelude::*,
    result::{Error as DieselError, QueryResult},
    sql_types::{Array, BigInt, Binary, Nullable, SmallInt, Text},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl, SimpleAsyncConnection};

use crate::{
    domain::{channel::ResourceKey, resource::ResourcePath, time::Timestamp},
    store::{
        idempotency::{answer_text, stored},
        journal::{
            self, Appended, Fingerprint, FirstAnswer, Key, PlacedEvent, Placement, Publish, Raised, Stored,
        },
        schema::{events, resources},
    },
};

/// Writes a batch up to, but not including, its commit.
pub(in crate::store) async fn append(
    c: &mut AsyncPgConnection,
    publishes: &[Publish],
) -> QueryResult<Appended> {
    let keys = journal::keys(publishes);
    let first_answers = claim(c, &keys).await?;
    let resolution = journal::resolve(publishes, &first_answers);
    let wanted: Vec<(&str, &ResourcePath)> = resolution.resources().into_iter().collect();
    let now = publishes.first().map(|publish| publish.now).unwrap_or_default();
    let heads = lock_resources(c, &wanted, now).await?;
    let placement = resolution.place(&heads).ok_or(DieselError::NotFound)?;
    insert_events(c, &placement.events).await?;
    raise_heads(c, &placement).await?;
    answer_keys(c, &placement.answers).await?;
    release_unanswered(c, &keys, &placement.answers, &first_answers).await?;
    Ok(placement.into())
}

/// Takes the keys that nobody has, waiting for whoever is just taking one, and reads the others' answers.
async fn claim(
    c: &mut AsyncPgConnection,
    keys: &BTreeMap<Key, Fingerprint>,
) -> QueryResult<HashMap<Key, Stored>> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Text)]
        project: String,
        #[diesel(sql_type = SmallInt)]
        scope: i16,
        #[diesel(sql_type = Text)]
        key: String,
        #[diesel(sql_type = Binary)]
        fingerprint: Vec<u8>,
        #[diesel(sql_type = Text)]
        answer: String,
    }
    if keys.is_empty() {
        return Ok(HashMap::new());
    }
    let (projects, scopes, names) = columns(keys.keys());
    let fingerprints: Vec<&[u8]> = keys.values().map(<[u8; 32]>::as_slice).collect();
    diesel::sql_query(
        "insert into idempotency_keys (project, scope, key, fingerprint, answer, created_at_ms)
         select project, scope, key, fingerprint, '', 0
         from unnest($1, $2, $3, $4) as k (project, scope, key, fingerprint)
         on conflict do nothing",
    )
    .bind::<Array<Text>, _>(&projects)
    .bind::<Array<SmallInt>, _>(&scopes)
    .bind::<Array<Text>, _>(&names)
    .bind::<Array<Binary>, _>(&fingerprints)
    .execute(c)
    .await?;
    // Our own claims are the rows without an answer: anybody else's are committed, so they have one.
    let rows: Vec<Row> = diesel::sql_query(
        "select i.project, i.scope, i.key, i.fingerprint, i.answer
         from idempotency_keys i
         join unnest($1, $2, $3) as k (project, scope, key) using (project, scope, key)
         where i.answer <> ''",
    )
    .bind::<Array<Text>, _>(&projects)
    .bind::<Array<SmallInt>, _>(&scopes)
    .bind::<Array<Text>, _>(&names)
    .load(c)
    .await?;
    rows.into_iter()
        .map(|row| {
            let key = Key { project: row.project, scope: row.scope, key: row.key };
            Ok((key, stored(row.fingerprint, &row.answer)?))
        })
        .collect()
}

fn columns<'k>(keys: impl Iterator<Item = &'k Key>) -> (Vec<&'k str>, Vec<i16>, Vec<&'k str>) {
    let mut columns = (Vec::new(), Vec::new(), Vec::new());
    for key in keys {
        columns.0.push(key.project.as_str());
        columns.1.push(key.scope);
        columns.2.push(key.key.as_str());
    }
    columns
}

type Heads = HashMap<(String, String), (ResourceKey, i64)>;

async fn lock_resources(
    c: &mut AsyncPgConnection,
    wanted: &[(&str, &ResourcePath)],
    now: Timestamp,
) -> QueryResult<Heads> {
    if wanted.is_empty() {
        return Ok(Heads::new());
    }
    let projects: Vec<&str> = wanted.iter().map(|(project, _)| *project).collect();
    let paths: Vec<&str> = wanted.iter().map(|(_, path)| path.as_str()).collect();
    let mut locked = lock_existing(c, &projects, &paths).await?;
    if locked.len() < wanted.len() {
        let ids: Vec<String> = wanted.iter().map(|(project, path)| path.resource_id(project)).collect();
        let shards: Vec<i16> = wanted.iter().map(|(project, path)| path.shard(project)).collect();
        diesel::sql_query(
            "insert into resources (project, path, resource_id, shard, head_seq, created_at_ms)
             select project, path, resource_id, shard, 0, $5
             from unnest($1, $2, $3, $4) as r (project, path, resource_id, shard)
             on conflict do nothing",
        )
        .bind::<Array<Text>, _>(&projects)
        .bind::<Array<Text>, _>(&paths)
        .bind::<Array<Text>, _>(&ids)
        .bind::<Array<SmallInt>, _>(&shards)
        .bind::<BigInt, _>(now.as_millis())
        .execute(c)
        .await?;
        locked = lock_existing(c, &projects, &paths).await?;
    }
    Ok(locked)
}

async fn lock_existing(c: &mut AsyncPgConnection, projects: &[&str], paths: &[&str]) -> QueryResult<Heads> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Text)]
        project: String,
        #[diesel(sql_type = Text)]
        path: String,
        #[diesel(sql_type = BigInt)]
        id: i64,
        #[diesel(sql_type = BigInt)]
        head_seq: i64,
    }
    let rows: Vec<Row> = diesel::sql_query(
        "select r.project, r.path, r.id, r.head_seq
         from resources r
         join unnest($1, $2) as w (project, path) using (project, path)
         order by r.id
         for update of r",
    )
    .bind::<Array<Text>, _>(projects)
    .bind::<Array<Text>, _>(paths)
    .load(c)
    .await?;
    Ok(rows.into_iter().map(|row| ((row.project, row.path), (ResourceKey(row.id), row.head_seq))).collect())
}

async fn insert_events(c: &mut AsyncPgConnection, placed: &[PlacedEvent]) -> QueryResult<()> {
    if placed.is_empty() {
        return Ok(());
    }
    let resources: Vec<i64> = placed.iter().map(|placed| placed.resource.0).collect();
    let seqs: Vec<i64> = placed.iter().map(|placed| placed.event.seq).collect();
    let projects: Vec<&str> = placed.iter().map(|placed| placed.project.as_str()).collect();
    let ids: Vec<&str> = placed.iter().map(|placed| placed.event.id.as_str()).collect();
    let names: Vec<&str> = placed.iter().map(|placed| placed.event.name.as_str()).collect();
    let states: Vec<&str> = placed.iter().map(|placed| placed.event.state.as_str()).collect();
    let changed: Vec<Option<&str>> = placed.iter().map(|placed| placed.event.changed.as_deref()).collect();
    let types: Vec<Option<&str>> = placed
        .iter()
        .map(|placed| placed.event.payload.as_ref().map(|payload| payload.content_type.as_str()))
        .collect();
    let payloads: Vec<Option<&[u8]>> = placed
        .iter()
        .map(|placed| placed.event.payload.as_ref().map(|payload| payload.bytes.as_ref()))
        .collect();
    let times: Vec<i64> = placed.iter().map(|placed| placed.event.published_at.as_millis()).collect();
    diesel::sql_query(
        "insert into events
           (resource, seq, project, event_id, name, state, changed, content_type, payload, published_at_ms)
         select * from unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
    )
    .bind::<Array<BigInt>, _>(&resources)
    .bind::<Array<BigInt>, _>(&seqs)
    .bind::<Array<Text>, _>(&projects)
    .bind::<Array<Text>, _>(&ids)
    .bind::<Array<Text>, _>(&names)
    .bind::<Array<Text>, _>(&states)
    .bind::<Array<Nullable<Text>>, _>(&changed)
    .bind::<Array<Nullable<Text>>, _>(&types)
    .bind::<Array<Nullable<Binary>>, _>(&payloads)
    .bind::<Array<BigInt>, _>(&times)
    .execute(c)
    .await?;
    Ok(())
}

async fn raise_heads(c: &mut AsyncPgConnection, placement: &Placement) -> QueryResult<()> {
    if placement.heads.is_empty() {
        return Ok(());
    }
    let keys: Vec<i64> = placement.heads.keys().map(|key| key.0).collect();
    let from: Vec<i64> = placement.heads.values().map(|raised: &Raised| raised.from).collect();
    let to: Vec<i64> = placement.heads.values().map(|raised| raised.to).collect();
    diesel::sql_query(
        "update resources r set head_seq = h.head_seq
         from unnest($1, $2) as h (id, head_seq) where r.id = h.id",
    )
    .bind::<Array<BigInt>, _>(&keys)
    .bind::<Array<BigInt>, _>(&to)
    .execute(c)
    .await?;
    // No work row means that everybody had the log up to the old head.
    diesel::sql_query(
        "insert into work (resource, head_seq, fanned_seq)
         select * from unnest($1, $2, $3)
         on conflict (resource) do update set head_seq = excluded.head_seq",
    )
    .bind::<Array<BigInt>, _>(&keys)
    .bind::<Array<BigInt>, _>(&to)
    .bind::<Array<BigInt>, _>(&from)
    .execute(c)
    .await?;
    Ok(())
}

async fn answer_keys(c: &mut AsyncPgConnection, answers: &[FirstAnswer]) -> QueryResult<()> {
    if answers.is_empty() {
        return Ok(());
    }
    let (projects, scopes, names) = columns(answers.iter().map(|first| &first.key));
    let texts = answers.iter().map(answer_text).collect::<QueryResult<Vec<String>>>()?;
    let fingerprints: Vec<&[u8]> = answers.iter().map(|first| first.fingerprint.as_slice()).collect();
    let times: Vec<i64> = answers.iter().map(|first| first.now.as_millis()).collect();
    diesel::sql_query(
        "update idempotency_keys i
         set answer = k.answer, fingerprint = k.fingerprint, created_at_ms = k.created_at_ms
         from unnest($1, $2, $3, $4, $5, $6)
           as k (project, scope, key, answer, fingerprint, created_at_ms)
         where i.project = k.project and i.scope = k.scope and i.key = k.key",
    )
    .bind::<Array<Text>, _>(&projects)
    .bind::<Array<SmallInt>, _>(&scopes)
    .bind::<Array<Text>, _>(&names)
    .bind::<Array<Text>, _>(&texts)
    .bind::<Array<Binary>, _>(&fingerprints)
    .bind::<Array<BigInt>, _>(&times)
    .execute(c)
    .await?;
    Ok(())
}

/// Gives back the keys of refused publishes.
async fn release_unanswered(
    c: &mut AsyncPgConnection,
    keys: &BTreeMap<Key, Fingerprint>,
    answers: &[FirstAnswer],
    first_answers: &HashMap<Key, Stored>,
) -> QueryResult<()> {
    let answered: std::collections::HashSet<&Key> = answers.iter().map(|first| &first.key).collect();
    let unused: Vec<&Key> =
        keys.keys().filter(|key| !answered.contains(key) && !first_answers.contains_key(*key)).collect();
    if unused.is_empty() {
        return Ok(());
    }
    let (projects, scopes, names) = columns(unused.into_iter());
    diesel::sql_query(
        "delete from idempotency_keys i
         using unnest($1, $2, $3) as k (project, scope, key)
         where i.project = k.project and i.scope = k.scope and i.key = k.key and i.answer = ''",
    )
    .bind::<Array<Text>, _>(&projects)
    .bind::<Array<SmallInt>, _>(&scopes)
    .bind::<Array<Text>, _>(&names)
    .execute(c)
    .await?;
    Ok(())
}

/// Whether a batch whose commit got no answer took place. Locking its resource waits for the old transaction
/// to end one way or the other, so what is read afterwards is the truth. A resource that the old transaction
/// makes can be seen by nobody yet: there, claiming its key waits.
pub(in crate::store) async fn is_committed(
    c: &mut AsyncPgConnection,
    event: &PlacedEvent,
) -> QueryResult<bool> {
    c.batch_execute("begin").await?;
    diesel::sql_query(
        "insert into resources (id, project, path, resource_id, shard, head_seq, created_at_ms)
         overriding system value
         values ($1, '', '', '', 0, 0, 0)
         on conflict do nothing",
    )
    .bind::<BigInt, _>(event.resource.0)
    .execute(c)
    .await?;
    let locked: Option<i64> = resources::table
        .find(event.resource.0)
        .select(resources::id)
        .for_update()
        .first(c)
        .await
        .optional()?;
    let found: i64 = events::table
        .filter(events::resource.eq(event.resource.0))
        .filter(events::seq.eq(event.event.seq))
        .filter(events::event_id.eq(&event.event.id))
        .count()
        .get_result(c)
        .await?;
    c.batch_execute("rollback").await?;
    Ok(locked.is_some() && found > 0)
}
