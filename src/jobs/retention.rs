//! Deletes what is older than it is kept, or tells how much that would be.

use super::{Report, Run};
use crate::{app::App, store::StoreError};

pub(super) async fn run_once(app: &App, run: Run) -> Result<Report, StoreError> {
    let retired = match run {
        Run::Real => app.retire().await?,
        Run::Dry => app.count_retired().await?,
    };
    Ok(Report::from([
        ("events", retired.events),
        ("attempts", retired.attempts),
        ("notices", retired.notices),
        ("firstAnswers", retired.first_answers),
        ("secrets", retired.secrets),
        ("signingKeys", retired.signing_keys),
    ]))
}
