//! Ends channels whose time is over, and fixes the end of those whose grace is.

use super::Report;
use crate::{app::App, store::StoreError};

pub(super) async fn run_once(app: &App) -> Result<Report, StoreError> {
    let done = app.expire_channels().await?;
    let count = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
    Ok(Report::from([
        ("expired", count(done.expired)),
        ("closed", count(done.closed)),
        ("stopped", count(done.stopped)),
    ]))
}
