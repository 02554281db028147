//! Reminds receivers of what they have to claim.

use super::Report;
use crate::{app::App, store::StoreError};

pub(super) async fn run_once(app: &App) -> Result<Report, StoreError> {
    let done = app.remind_receivers().await?;
    Ok(Report::from([("due", done.due), ("notices", done.notices)]))
}
