//! Receivers are reminded of what they have to claim, and owners told what was parked. Called by the claims job.

use super::App;
use crate::{domain::channel::ChannelKey, store::StoreError};

/// Channels read at a time, and pages that one run takes, so that it ends.
const PAGE: i64 = 500;
const PAGES_MAX: usize = 1_000;

/// What one run did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reminded {
    /// Channels that were due.
    pub due: u64,
    /// Notices made for them.
    pub notices: u64,
}

impl App {
    pub async fn remind_receivers(&self) -> Result<Reminded, StoreError> {
        let now = self.now();
        let (mut done, mut after) = (Reminded::default(), ChannelKey(0));
        for _ in 0..PAGES_MAX {
            let due = self.store.due_reminders(now, after, PAGE).await?;
            let Some(last) = due.last() else { break };
            after = *last;
            let mut changed = Vec::new();
            for key in due {
                done.due += 1;
                if self.store.remind(key, self.settings.reminding.clone(), now).await? {
                    done.notices += 1;
                    changed.push(key);
                }
            }
            if !changed.is_empty() {
                self.bells.changed(changed).await;
            }
        }
        Ok(done)
    }
}
