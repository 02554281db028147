//! Finds whatever has work and no lane: due channels and busy resources that no bell told of.

use super::Report;
use crate::{app::App, domain::channel::ResourceKey, engine::Engine, store::StoreError};

/// Rows counted for the report; the engine reads all of them, page by page.
const COUNTED_MAX: i64 = 1_000;

pub(super) async fn run_once(app: &App, engine: Option<&Engine>) -> Result<Report, StoreError> {
    let due = app.store.due_channels(app.now(), None, COUNTED_MAX).await?.len();
    let busy = app.store.busy_resources(ResourceKey(0), COUNTED_MAX).await?.len();
    if let Some(engine) = engine {
        engine.sweep().await;
    }
    let count = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
    Ok(Report::from([("due", count(due)), ("busy", count(busy))]))
}
