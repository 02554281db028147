//! What is older than it is kept goes, by age alone. A sweep: safe to run twice, late, or beside itself on another node.

use std::time::Duration;

use super::App;
use crate::{
    domain::{
        channel::{ChannelKey, ResourceKey},
        time::Timestamp,
    },
    store::{Cutoff, Old, StoreError},
};

/// How long the first answers of publishes are kept, at least: whoever repeats one does so within this time.
const FIRST_ANSWERS_KEPT: Duration = Duration::from_hours(24);
/// Resources whose oldest event is looked at by one query.
const RESOURCES_PAGE: i64 = 500;
/// Transactions on logs in one run, so that it ends: what is left goes in the next one.
const SLICES_MAX: usize = 10_000;
/// Of these on one log before the others have had their turn.
const SLICES_IN_A_ROW: usize = 100;

/// How long things are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    pub events: Duration,
    pub attempts: Duration,
}

/// What one run deleted, or would have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retired {
    pub events: u64,
    pub attempts: u64,
    pub notices: u64,
    pub first_answers: u64,
    /// Signing secrets that were replaced and have had their time.
    pub secrets: u64,
    /// The server's own signing keys, likewise.
    pub signing_keys: u64,
}

impl App {
    /// Deletes what is no longer kept.
    pub async fn retire(&self) -> Result<Retired, StoreError> {
        let now = self.now();
        let events = self.retire_events(now).await?;
        let secrets = self.retire_secrets(now, Old::Delete).await?;
        let signing_keys = self.store.old_signing_keys(now, Old::Delete).await?;
        Ok(Retired { events, secrets, signing_keys, ..self.retire_ledger(now, Old::Delete).await? })
    }

    /// What a run would delete now.
    pub async fn count_retired(&self) -> Result<Retired, StoreError> {
        let now = self.now();
        let events = self.count_events(now).await?;
        let secrets = self.retire_secrets(now, Old::Count).await?;
        let signing_keys = self.store.old_signing_keys(now, Old::Count).await?;
        Ok(Retired { events, secrets, signing_keys, ..self.retire_ledger(now, Old::Count).await? })
    }

    fn events_cutoff(&self, now: Timestamp) -> Cutoff {
        Cutoff(now.minus(self.settings.retention.events))
    }

    async fn retire_events(&self, now: Timestamp) -> Result<u64, StoreError> {
        let cutoff = self.events_cutoff(now);
        let (mut events, mut slices) = (0, 0);
        // Again until a whole walk finds nothing: a large log gives way to the others now and then.
        loop {
            let (mut after, mut found_any) = (ResourceKey(0), false);
            loop {
                let (aged, last) = self.store.aged_resources(after, RESOURCES_PAGE, cutoff).await?;
                found_any |= !aged.is_empty();
                for resource in aged {
                    for _ in 0..SLICES_IN_A_ROW {
                        if slices == SLICES_MAX {
                            return Ok(events);
                        }
                        slices += 1;
                        let expired = self.store.expire_slice(resource, cutoff, now).await?;
                        events += expired.events;
                        if !expired.moved.is_empty() {
                            self.bells.changed(expired.moved).await;
                        }
                        if expired.is_done {
                            break;
                        }
                    }
                }
                let Some(last) = last else { break };
                after = last;
            }
            if !found_any {
                return Ok(events);
            }
        }
    }

    async fn count_events(&self, now: Timestamp) -> Result<u64, StoreError> {
        let cutoff = self.events_cutoff(now);
        let (mut events, mut slices, mut after) = (0, 0, ResourceKey(0));
        loop {
            let (aged, last) = self.store.aged_resources(after, RESOURCES_PAGE, cutoff).await?;
            for resource in aged {
                let mut through = i64::MIN;
                while slices < SLICES_MAX
                    && let Some(slice) = self.store.aged_slice(resource, through, cutoff).await?
                {
                    slices += 1;
                    events += slice.events;
                    through = slice.through;
                }
            }
            let Some(last) = last else { return Ok(events) };
            after = last;
        }
    }

    /// Secrets go by the overlap that each was given, not by a setting.
    async fn retire_secrets(&self, now: Timestamp, old: Old) -> Result<u64, StoreError> {
        let (mut secrets, mut after) = (0, ChannelKey(0));
        for _ in 0..SLICES_MAX {
            let Some((count, last)) = self.store.old_secrets(after, now, old).await? else { break };
            secrets += count;
            after = last;
        }
        Ok(secrets)
    }

    async fn retire_ledger(&self, now: Timestamp, old: Old) -> Result<Retired, StoreError> {
        let cutoff = Cutoff(now.minus(self.settings.retention.attempts));
        let mut retired = Retired::default();
        let mut after = 0;
        for _ in 0..SLICES_MAX {
            let Some((count, last)) = self.store.old_attempts(after, cutoff, old).await? else { break };
            retired.attempts += count;
            after = last;
        }
        after = 0;
        for _ in 0..SLICES_MAX {
            let Some((count, last)) = self.store.old_notices(after, cutoff, old).await? else { break };
            retired.notices += count;
            after = last;
        }
        let cutoff = Cutoff(now.minus(FIRST_ANSWERS_KEPT));
        for _ in 0..SLICES_MAX {
            let count = self.store.old_keys(cutoff, old).await?;
            retired.first_answers += count;
            if count == 0 || old == Old::Count {
                break;
            }
        }
        Ok(retired)
    }
}
