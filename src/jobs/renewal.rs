//! Looks at channels near their end: renews, probes or warns.

use super::Report;
use crate::{app::App, store::StoreError};

pub(super) async fn run_once(app: &App) -> Result<Report, StoreError> {
    let done = app.look_after_channels().await?;
    Ok(Report::from([("renewed", done.renewed), ("probed", done.probed), ("warned", done.warned)]))
}
