//! Channels near their end: those that renew themselves go on while their receiver answers, the others are warned.
//! Called by the renewal job.

use super::App;
use crate::{
    domain::channel::ChannelKey,
    store::{Looked, StoreError},
};

/// Channels read at a time, and pages that one run takes, so that it ends.
const PAGE: i64 = 500;
const PAGES_MAX: usize = 1_000;

/// What one run did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Renewals {
    pub renewed: u64,
    pub probed: u64,
    pub warned: u64,
}

impl App {
    pub async fn look_after_channels(&self) -> Result<Renewals, StoreError> {
        let now = self.now();
        let (mut done, mut after) = (Renewals::default(), ChannelKey(0));
        for _ in 0..PAGES_MAX {
            let due = self.store.due_looks(now, after, PAGE).await?;
            let Some(last) = due.last() else { break };
            after = *last;
            let mut changed = Vec::new();
            for key in due {
                let count = match self.store.look_at_channel(key, self.settings.lifetimes.max, now).await? {
                    Looked::Renewed => &mut done.renewed,
                    Looked::Probed => &mut done.probed,
                    Looked::Warned => &mut done.warned,
                    Looked::Nothing => continue,
                };
                *count += 1;
                changed.push(key);
            }
            if !changed.is_empty() {
                self.bells.changed(changed).await;
            }
        }
        Ok(done)
    }
}
