//! Jobs: idempotent sweeps. Cron only rings; each job can be called from a test or the command line, run twice or
//! run late.

mod claims;
mod expiry;
mod renewal;
mod retention;
mod retry;
pub mod scheduler;

use std::sync::Arc;

use tokio::sync::Mutex;

use crate::{app::App, engine::Engine, store::StoreError};

/// The names on the command line and in settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobName {
    Expiry,
    Renewal,
    Retry,
    Claims,
    Retention,
}

impl JobName {
    pub const ALL: &[Self] = &[Self::Expiry, Self::Renewal, Self::Retry, Self::Claims, Self::Retention];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Expiry => "expiry",
            Self::Renewal => "renewal",
            Self::Retry => "retry",
            Self::Claims => "claims",
            Self::Retention => "retention",
        }
    }

    /// Whether the job has a dry run.
    pub fn counts(self) -> bool {
        self == Self::Retention
    }

    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|job| job.as_str() == name)
    }
}

/// Whether a run does what it finds, or only counts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Run {
    Real,
    /// Only for jobs that can count.
    Dry,
}

/// What a run did, in counts by their names.
pub type Report = std::collections::BTreeMap<&'static str, u64>;

/// The jobs with what they work on. Without an engine – on the command line – the retry job only counts.
#[derive(Debug)]
pub struct Jobs {
    app: App,
    engine: Option<Arc<Engine>>,
    /// One run of a job at a time: a second ring while it runs is not for it.
    expiry: Mutex<()>,
    renewal: Mutex<()>,
    retry: Mutex<()>,
    claims: Mutex<()>,
    retention: Mutex<()>,
}

impl Jobs {
    pub fn new(app: App, engine: Option<Arc<Engine>>) -> Self {
        let alone = || Mutex::new(());
        Self {
            app,
            engine,
            expiry: alone(),
            renewal: alone(),
            retry: alone(),
            claims: alone(),
            retention: alone(),
        }
    }

    /// Runs a job to its end, waiting for a run that is under way.
    pub async fn run_once(&self, job: JobName) -> Result<Report, StoreError> {
        self.run(job, Run::Real).await
    }

    /// The same, or only a count of what it would do.
    pub async fn run(&self, job: JobName, run: Run) -> Result<Report, StoreError> {
        let _alone = self.alone(job).lock().await;
        match job {
            JobName::Expiry => expiry::run_once(&self.app).await,
            JobName::Renewal => renewal::run_once(&self.app).await,
            JobName::Retry => retry::run_once(&self.app, self.engine.as_deref()).await,
            JobName::Claims => claims::run_once(&self.app).await,
            JobName::Retention => retention::run_once(&self.app, run).await,
        }
    }

    /// A ring of the cron: passes by where the last one's run is still under way.
    pub async fn ring(&self, job: JobName) {
        if self.alone(job).try_lock().is_err() {
            return;
        }
        if let Err(error) = self.run_once(job).await {
            tracing::warn!(job = job.as_str(), error = %error, "a job failed; the next ring tries again");
        }
    }

    const fn alone(&self, job: JobName) -> &Mutex<()> {
        match job {
            JobName::Expiry => &self.expiry,
            JobName::Renewal => &self.renewal,
            JobName::Retry => &self.retry,
            JobName::Claims => &self.claims,
            JobName::Retention => &self.retention,
        }
    }
}
