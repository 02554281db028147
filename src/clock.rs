//! The only reader of the system's clocks. Held by the engine, the app, the jobs and the web layer; every
//! decision below them takes `now` as an argument. Tests hold a [`ManualClock`] and advance it.

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::watch;

use crate::domain::time::{Timestamp, millis_of};

/// A boxed future, so that the clock can be held behind `dyn`.
pub type Sleep = Pin<Box<dyn Future<Output = ()> + Send>>;

pub trait Clock: Send + Sync {
    /// Wall-clock time.
    fn now(&self) -> Timestamp;

    /// Time since an arbitrary origin that never goes backwards: for durations and deadlines.
    fn monotonic(&self) -> Duration;

    /// Ends once `duration` has passed on this clock.
    fn sleep(&self, duration: Duration) -> Sleep;
}

pub type SharedClock = Arc<dyn Clock>;

/// The operating system's clocks.
#[derive(Debug)]
pub struct SystemClock {
    origin: Instant,
}

impl SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the monotonic clock")]
    pub fn new() -> Self {
        Self { origin: Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the wall clock")]
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(chrono::Utc::now().timestamp_millis())
    }

    fn monotonic(&self) -> Duration {
        self.origin.elapsed()
    }

    #[expect(clippy::disallowed_methods, reason = "the one place that sleeps")]
    fn sleep(&self, duration: Duration) -> Sleep {
        Box::pin(tokio::time::sleep(duration))
    }
}

/// A clock that moves only when told to. Sleepers wake as soon as it has passed their deadline.
#[derive(Debug)]
pub struct ManualClock {
    start: Timestamp,
    elapsed: watch::Sender<Duration>,
    /// How far the wall clock was set away from `start + elapsed`, in milliseconds.
    skew_ms: Mutex<i64>,
}

impl ManualClock {
    pub fn at(start: Timestamp) -> Arc<Self> {
        Arc::new(Self { start, elapsed: watch::Sender::new(Duration::ZERO), skew_ms: Mutex::new(0) })
    }

    pub fn advance(&self, by: Duration) {
        self.elapsed.send_modify(|elapsed| *elapsed = elapsed.saturating_add(by));
    }

    /// How many wait for this clock to move: tests let them lie down before they move it.
    pub fn sleepers(&self) -> usize {
        self.elapsed.receiver_count()
    }

    /// Moves the wall clock alone, as an administrator or NTP would.
    pub fn set_wall_clock_back(&self, by: Duration) {
        *self.skew() -= millis_of(by);
    }

    fn skew(&self) -> MutexGuard<'_, i64> {
        self.skew_ms.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        let time = self.start.plus(*self.elapsed.borrow());
        Timestamp::from_millis(time.as_millis().saturating_add(*self.skew()))
    }

    fn monotonic(&self) -> Duration {
        *self.elapsed.borrow()
    }

    fn sleep(&self, duration: Duration) -> Sleep {
        let mut elapsed = self.elapsed.subscribe();
        let deadline = elapsed.borrow().saturating_add(duration);
        Box::pin(async move {
            // An error means that the clock is gone, and with it anybody who could advance it.
            if elapsed.wait_for(|elapsed| *elapsed >= deadline).await.is_err() {
                std::future::pending::<()>().await;
            }
        })
    }
}
