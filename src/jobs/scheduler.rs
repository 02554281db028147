//! The pulse: tokio-cron-scheduler rings jobs, and does nothing else. The only user of that library.
//!
//! Its known weaknesses are kept out: cron jobs only (repeated ones stop for good after a stall), a large channel
//! (the default drops rings), UTC, overlap guarded by the jobs themselves, and nobody depends on a ring.

use std::sync::Arc;

use tokio_cron_scheduler::{Job, JobScheduler, JobSchedulerError};

use super::{JobName, Jobs};

const CHANNEL_SIZE: usize = 4_096;

/// Rings until it is stopped.
pub struct Pulse(JobScheduler);

impl std::fmt::Debug for Pulse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Pulse")
    }
}

impl Pulse {
    /// Starts ringing; each entry is a job and its six-field cron expression.
    pub async fn start(jobs: &Arc<Jobs>, schedule: &[(JobName, &str)]) -> Result<Self, JobSchedulerError> {
        let scheduler = JobScheduler::new_with_channel_size(CHANNEL_SIZE).await?;
        for (name, cron) in schedule {
            let (jobs, name) = (Arc::clone(jobs), *name);
            let ring = move |_id, _scheduler| -> std::pin::Pin<Box<dyn Future<Output = ()> + Send>> {
                let jobs = Arc::clone(&jobs);
                Box::pin(async move { jobs.ring(name).await })
            };
            scheduler.add(Job::new_async(*cron, ring)?).await?;
        }
        scheduler.start().await?;
        Ok(Self(scheduler))
    }

    pub async fn stop(mut self) {
        if let Err(error) = self.0.shutdown().await {
            tracing::warn!(error = %error, "the scheduler did not shut down");
        }
    }
}
