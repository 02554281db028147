//! Cost follows work, never the number of stored channels.

use std::time::Duration;

use watchpost::{
    clock::{Clock as _, SystemClock},
    domain::channel::{ChannelKey, ResourceKey},
    store::Location,
};

use crate::{
    base::Base,
    build::{at, grow, key_of},
};

/// Four empty sweeps take a few milliseconds; reading 100,000 rows four times takes far more, also on a loaded
/// machine.
const SWEEPS_WITHIN: Duration = Duration::from_millis(400);

on_both!(idle_channels_cost_the_sweeps_nothing);

/// Writes level channels without work, spread over resources, that expire after `expires` seconds.
pub async fn seed(base: &Base, channels: usize, resources: usize, expires: u64) {
    let series = |count| {
        format!(
            "(with recursive g (n) as (select 1 union all select n + 1 from g where n < {count}) select n from g) s"
        )
    };
    let expires = at(expires).as_millis();
    base.run(&format!(
        "begin;
         insert into resources (project, path, resource_id, shard, head_seq, created_at_ms)
         select 'p', 'seed/' || n, 'seed-' || n, 0, 5, 0 from {};
         insert into channels (uid, project, channel_id, subject, resource, resource_uri, face, address, format,
           payload, catch_up, state, start_seq, rev, expires_at_ms, created_at_ms, options)
         select 'seed-uid-' || n, 'p', 'seed-' || n, 'alice', first.id + n % {resources}, 'u', 'v1',
           'https://receiver.example/', 'standard', false, 'all', 'active', 0, 1, {expires}, 0, '{{}}'
         from {}, (select min(id) as id from resources where path like 'seed/%') first;
         insert into cursors (channel, resource, seq, moved, behind, attempts, client_errors)
         select id, resource, 5, 0, false, 0, 0 from channels where channel_id like 'seed-%';
         insert into notices (channel, kind, n, body, attempts, due_at_ms, created_at_ms)
         select channel, 'ping', 1, '', 1, {expires}, 0 from cursors;
         commit; analyze;",
        series(resources),
        series(channels),
    ))
    .await;
}

async fn idle_channels_cost_the_sweeps_nothing(base: Base) {
    let store = base.store().await;
    seed(&base, 100_000, 1_000, 3_600).await;
    base.run("insert into work select id, 6, 5 from resources; analyze work").await;
    let plans = store.sweep_plans().await.unwrap();
    base.run("delete from work").await;
    let indexes = [
        ("due", "cursors_due_idx"),
        ("level", "cursors_level_idx"),
        ("expiring", "channels_expiring_idx"),
        ("grace", "channels_grace_idx"),
        ("notices", "notices_due_idx"),
    ];
    for (name, index) in indexes {
        let (_, plan) = plans.iter().find(|(found, _)| *found == name).unwrap();
        assert!(plan.contains(index), "{name}: {plan}");
    }
    let (_, busy) = plans.iter().find(|(found, _)| *found == "busy").unwrap();
    let key = if matches!(base.location, Location::Sqlite(_)) { "INTEGER PRIMARY KEY" } else { "work_pkey" };
    assert!(busy.contains(key), "busy: {busy}");
    for (name, plan) in &plans {
        for scan in ["SCAN ", "Seq Scan", "TEMP B-TREE"] {
            assert!(!plan.contains(scan), "{name}: {plan}");
        }
    }
    // As executed, with bound values: an index that only the shown plan uses would take these far longer.
    let clock = SystemClock::new();
    let begun = clock.monotonic();
    assert_eq!(store.due_channels(at(100), None, 100).await.unwrap(), []);
    assert_eq!(store.busy_resources(ResourceKey(0), 100).await.unwrap(), []);
    assert_eq!(store.expire_channels(at(100)).await.unwrap(), []);
    assert_eq!(store.close_expired_channels(at(100)).await.unwrap(), 0);
    let took = clock.monotonic().saturating_sub(begun);
    assert!(took < SWEEPS_WITHIN, "{took:?}");
    grow(&store, "seed/7", 1).await;
    assert_eq!(store.busy_resources(ResourceKey(0), 100).await.unwrap().len(), 1);
    let resource = key_of(&store, "seed/7").await;
    let lanes = store.level_lanes(resource, ChannelKey(0), 1_000).await.unwrap();
    assert_eq!(lanes.len(), 100);
}
