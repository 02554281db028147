//! Channels whose time is over. Exactness is the machine's business: it lets nothing out after `expires_at`. This
//! sweep makes the state say so, and fixes the end once the grace for a late renewal is over.

use super::App;
use crate::{domain::expiry::GRACE, store::StoreError};

/// Batches that one run takes, so that it ends.
const BATCHES_MAX: usize = 1_000;

/// What one sweep did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Expired {
    pub expired: usize,
    /// Channels whose grace ended.
    pub closed: usize,
    /// Channels of deleted resources that have had everything.
    pub stopped: usize,
}

impl App {
    pub async fn expire_channels(&self) -> Result<Expired, StoreError> {
        let now = self.now();
        let mut done = Expired::default();
        for _ in 0..BATCHES_MAX {
            let expired = self.store.expire_channels(now).await?;
            if expired.is_empty() {
                break;
            }
            done.expired += expired.len();
            self.bells.changed(expired).await;
        }
        for _ in 0..BATCHES_MAX {
            let closed = self.store.close_expired_channels(now.minus(GRACE)).await?;
            if closed == 0 {
                break;
            }
            done.closed += closed;
        }
        for _ in 0..BATCHES_MAX {
            let stopped = self.store.stop_finished_channels(now).await?;
            if stopped.is_empty() {
                break;
            }
            done.stopped += stopped.len();
            self.bells.changed(stopped).await;
        }
        Ok(done)
    }
}
