//! Who delivers: a keeper that takes the lease, renews it, and knows until when a request may start.
//!
//! Lease 30 s, renewed every 5 s on the database's clock. The deadline is kept on this node's monotonic clock, read
//! *before* the renewal was sent, so it always lies before the database's. No request starts with less left than
//! it may take.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::sync::Notify;

use crate::{
    clock::SharedClock,
    store::{Lease, LeaseTerm, Store},
};

pub const TERM: LeaseTerm = LeaseTerm(Duration::from_secs(30));
const RENEW_EVERY: Duration = Duration::from_secs(5);
/// How often a node that stands by asks for the lease.
pub const TRY_EVERY: Duration = Duration::from_secs(2);
/// What must be left of the lease when a request starts, beyond the attempt's own timeout.
const MARGIN: Duration = Duration::from_secs(5);

/// What the holder of a lease checks before each request.
#[derive(Debug)]
pub struct Guard {
    pub lease: Lease,
    /// Monotonic milliseconds; `u64::MAX` where nobody else could deliver.
    valid_until: AtomicU64,
    attempt_timeout: Duration,
    lost: Notify,
}

impl Guard {
    fn new(lease: Lease, valid_until: u64, attempt_timeout: Duration) -> Arc<Self> {
        Arc::new(Self {
            lease,
            valid_until: AtomicU64::new(valid_until),
            attempt_timeout,
            lost: Notify::new(),
        })
    }

    /// Whether a request that starts now will have ended, one way or the other, while the lease still runs.
    pub fn may_start(&self, now: Duration) -> bool {
        let end = now.saturating_add(self.attempt_timeout).saturating_add(MARGIN);
        millis(end) <= self.valid_until.load(Ordering::Acquire)
    }

    /// Ends when another node has the lease.
    pub async fn lost(&self) {
        self.lost.notified().await;
    }

    pub fn give_up(&self) {
        self.valid_until.store(0, Ordering::Release);
        self.lost.notify_one();
    }
}

/// Tries once to take the lease. Not to be dropped half-way: a lease that was granted would be nobody's.
pub async fn take(
    store: &Store,
    clock: &SharedClock,
    node: &str,
    attempt_timeout: Duration,
) -> Option<Arc<Guard>> {
    let asked = clock.monotonic();
    match store.take_lease(node.to_owned(), TERM).await {
        Ok(lease) => lease.map(|lease| {
            if !store.is_shared() {
                return Guard::new(lease, u64::MAX, attempt_timeout);
            }
            tracing::info!(lease.epoch = lease.epoch, "this node delivers");
            Guard::new(lease, millis(asked + TERM.0), attempt_timeout)
        }),
        Err(error) => {
            tracing::warn!(error = %error, "the lease could not be asked for");
            None
        }
    }
}

/// Renews the lease until it is lost. Without another node there is nothing to renew.
pub async fn keep(store: Store, clock: SharedClock, node: String, guard: Arc<Guard>) {
    if !store.is_shared() {
        return;
    }
    let mut asked = clock.monotonic();
    loop {
        // Counted from the question, not from its answer: a slow database must not make renewals rarer.
        let due = asked + RENEW_EVERY;
        clock.sleep(due.saturating_sub(clock.monotonic())).await;
        asked = clock.monotonic();
        match store.renew_lease(node.clone(), guard.lease, TERM).await {
            Ok(Some(_)) => guard.valid_until.store(millis(asked + TERM.0), Ordering::Release),
            Ok(None) => {
                tracing::warn!("another node took the lease");
                return guard.give_up();
            }
            Err(error) => tracing::warn!(error = %error, "the lease could not be renewed"),
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
