//! What the engine loads: channels that have work, with their place in the log. Cost follows work: every query
//! here is bounded and answered by an index that holds only rows with something to do.

use std::collections::HashMap;

use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use super::{
    Store,
    channels::{ChannelRow, ChannelView, view, views},
    connection::{Connection, Handle, on},
    cursors::CursorRow,
    error::StoreResult,
    exceptions::{self, WaitingRedrive},
    notices::Notice,
    retries::{self, WaitingRetry},
    schema::{self, channels, cursors, notices, work},
};
use crate::domain::{
    channel::{Channel, ChannelKey, ChannelState, ResourceKey},
    cursor::Cursor,
    time::Timestamp,
};

/// A channel, its effective cursor and its resource's head.
#[derive(Clone, Debug)]
pub struct LoadedLane {
    pub channel: Channel,
    pub cursor: Cursor,
    pub head: i64,
    /// What every level channel of the resource has had.
    pub fanned: i64,
    /// What the channel is to be told, oldest first. Read with single channels alone: a level page leaves it out.
    pub notices: Vec<Notice>,
    /// What was parked and gets another attempt; left out likewise.
    pub redrives: Vec<WaitingRedrive>,
    /// What failed and waits for its own attempts; left out likewise, for no level channel has any.
    pub retries: Vec<WaitingRetry>,
}

impl From<ChannelView> for LoadedLane {
    fn from(view: ChannelView) -> Self {
        Self {
            channel: view.channel,
            cursor: view.cursor,
            head: view.head,
            fanned: view.fanned,
            notices: Vec::new(),
            redrives: Vec::new(),
            retries: Vec::new(),
        }
    }
}

impl Store {
    /// The level channels of a resource that are active, after `after` in key order; at most `limit`.
    pub async fn level_lanes(
        &self,
        resource: ResourceKey,
        after: ChannelKey,
        limit: i64,
    ) -> StoreResult<Vec<LoadedLane>> {
        self.read(move |connection| {
            Box::pin(async move {
                let rows = on!(connection, c => {
                    level_query!(resource.0, after.0, limit).load(c).await
                })?;
                rows.into_iter().map(|row| view(row).map(Into::into)).collect()
            })
        })
        .await
    }

    /// These channels, whatever their state.
    pub async fn lanes(&self, keys: Vec<ChannelKey>) -> StoreResult<Vec<LoadedLane>> {
        let keys: Vec<i64> = keys.into_iter().map(|key| key.0).collect();
        self.read(move |connection| {
            Box::pin(async move {
                let rows = on!(connection, c => {
                    views!().filter(channels::id.eq_any(keys.clone())).load(c).await
                })?;
                let lanes = rows.into_iter().map(|row| view(row).map(LoadedLane::from));
                let mut lanes = lanes.collect::<StoreResult<Vec<_>>>()?;
                let mut notices =
                    by_channel(super::notices::waiting(connection, &keys).await?, |notice| notice.channel);
                let mut redrives =
                    by_channel(exceptions::redrives(connection, &keys).await?, |redrive| redrive.channel);
                let mut retries =
                    by_channel(retries::retries(connection, &keys).await?, |retry| retry.channel);
                for lane in &mut lanes {
                    lane.retries = retries.remove(&lane.channel.key).unwrap_or_default();
                    lane.notices = notices.remove(&lane.channel.key).unwrap_or_default();
                    lane.redrives = redrives.remove(&lane.channel.key).unwrap_or_default();
                }
                Ok(lanes)
            })
        })
        .await
    }

    /// Channels that time wakes by `now`, in the order of their due times, after `after`; at most `limit`.
    pub async fn due_channels(
        &self,
        now: Timestamp,
        after: Option<(Timestamp, ChannelKey)>,
        limit: i64,
    ) -> StoreResult<Vec<(Timestamp, ChannelKey)>> {
        self.read(move |connection| {
            Box::pin(async move { load_due!(connection, cursors, now, after, limit) })
        })
        .await
    }

    /// Takes the word that other nodes left about channels they changed.
    pub async fn take_changed_channels(&self) -> StoreResult<Vec<ChannelKey>> {
        self.write(move |connection| {
            Box::pin(async move {
                let Handle::Postgres(c) = &mut connection.handle else { return Ok(Vec::new()) };
                // Locked in order, as those who leave word for several channels lock them.
                let keys: Vec<i64> = schema::changed_channels::table
                    .select(schema::changed_channels::channel)
                    .order(schema::changed_channels::channel)
                    .for_update()
                    .load(&mut **c)
                    .await?;
                diesel::delete(schema::changed_channels::table)
                    .filter(schema::changed_channels::channel.eq_any(&keys))
                    .execute(&mut **c)
                    .await?;
                Ok(keys.into_iter().map(ChannelKey).collect())
            })
        })
        .await
    }

    /// How the database would run the queries of start-up and sweep, one plan per query.
    pub async fn sweep_plans(&self) -> StoreResult<Vec<(&'static str, String)>> {
        self.read(move |connection| {
            Box::pin(async move {
                let statements = match connection.handle {
                    Handle::Sqlite(_) => sweep_statements!(diesel::sqlite::Sqlite),
                    Handle::Postgres(_) => sweep_statements!(diesel::pg::Pg),
                };
                let mut plans = Vec::new();
                for (name, statement) in statements {
                    plans.push((name, explain(connection, &statement).await?));
                }
                Ok(plans)
            })
        })
        .await
    }
}

fn by_channel<T>(rows: Vec<T>, channel: impl Fn(&T) -> ChannelKey) -> HashMap<ChannelKey, Vec<T>> {
    let mut grouped: HashMap<ChannelKey, Vec<T>> = HashMap::new();
    for row in rows {
        grouped.entry(channel(&row)).or_default().push(row);
    }
    grouped
}

macro_rules! level_query {
    ($resource:expr, $after:expr, $limit:expr) => {
        views!()
            .filter(cursors::resource.eq($resource))
            .filter(diesel::dsl::not(cursors::behind))
            .filter(cursors::channel.gt($after))
            .filter(channels::state.eq(ChannelState::Active.as_str()))
            .order(cursors::channel)
            .limit($limit)
    };
}
use level_query;

/// Rows of `$table` that time wakes, in the order of their due times.
macro_rules! due_query {
    ($table:ident, $now:expr, $due:expr, $channel:expr, $limit:expr) => {
        $table::table
            .filter($table::due_at_ms.le($now))
            // Implied by the next one, but this one an index can begin at.
            .filter($table::due_at_ms.ge($due))
            .filter(
                $table::due_at_ms.gt($due).or($table::due_at_ms.eq($due).and($table::channel.gt($channel))),
            )
            .order(($table::due_at_ms, $table::channel))
            .limit($limit)
            .select(($table::due_at_ms, $table::channel))
    };
}
pub(super) use due_query;

/// Reads a page of [`due_query`].
macro_rules! load_due {
    ($connection:expr, $table:ident, $by:expr, $after:expr, $limit:expr) => {{
        let (due, channel) = $after.map_or((i64::MIN, 0), |(due, key)| (due.as_millis(), key.0));
        let rows: Vec<(Option<i64>, i64)> = on!($connection, c => {
            due_query!($table, $by.as_millis(), due, channel, $limit).load(c).await
        })?;
        let found =
            rows.into_iter().filter_map(|(due, key)| Some((Timestamp::from_millis(due?), ChannelKey(key))));
        Ok(found.collect())
    }};
}
pub(super) use load_due;

macro_rules! sweep_statements {
    ($backend:ty) => {{
        let due = due_query!(cursors, 1_i64, 0_i64, 0_i64, 1_i64);
        let busy = super::work::busy_query!(0_i64, 1_i64);
        let level = level_query!(1_i64, 0_i64, 1_i64);
        let expiring = super::channels::expiring_query!(1_i64, 1_i64).select(channels::id);
        let grace = super::channels::grace_query!(1_i64, 1_i64).select(channels::id);
        let notices = due_query!(notices, 1_i64, 0_i64, 0_i64, 1_i64);
        [
            ("due", diesel::debug_query::<$backend, _>(&due).to_string()),
            ("busy", diesel::debug_query::<$backend, _>(&busy).to_string()),
            ("level", diesel::debug_query::<$backend, _>(&level).to_string()),
            ("expiring", diesel::debug_query::<$backend, _>(&expiring).to_string()),
            ("notices", diesel::debug_query::<$backend, _>(&notices).to_string()),
            ("grace", diesel::debug_query::<$backend, _>(&grace).to_string()),
        ]
    }};
}
use sweep_statements;

/// `debug_query` shows places and their values apart; a plan needs them in one text.
async fn explain(connection: &mut Connection, statement: &str) -> StoreResult<String> {
    #[derive(QueryableByName)]
    struct SqliteStep {
        #[diesel(sql_type = diesel::sql_types::Text)]
        detail: String,
    }
    #[derive(QueryableByName)]
    struct PostgresStep {
        #[diesel(sql_type = diesel::sql_types::Text)]
        #[diesel(column_name = "QUERY PLAN")]
        step: String,
    }
    let (statement, binds) = statement.split_once(" -- binds: ").unwrap_or((statement, ""));
    let values: Vec<String> = serde_json::from_str::<Vec<serde_json::Value>>(binds)
        .unwrap_or_default()
        .iter()
        .map(|value| value.to_string().replace('"', "'"))
        .collect();
    let mut text = statement.to_owned();
    for (at, value) in values.iter().enumerate().rev() {
        text = text.replace(&format!("${}", at + 1), value);
    }
    for value in &values {
        text = text.replacen('?', value, 1);
    }
    Ok(match &mut connection.handle {
        Handle::Sqlite(c) => {
            let steps: Vec<SqliteStep> =
                diesel::sql_query(format!("explain query plan {text}")).load(&mut **c).await?;
            steps.into_iter().map(|step| step.detail).collect::<Vec<_>>().join("\n")
        }
        Handle::Postgres(c) => {
            let steps: Vec<PostgresStep> =
                diesel::sql_query(format!("explain {text}")).load(&mut **c).await?;
            steps.into_iter().map(|step| step.step).collect::<Vec<_>>().join("\n")
        }
    })
}
