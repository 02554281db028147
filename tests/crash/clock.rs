//! The real clock: processes are started, killed and timed on nothing else.

use std::time::Duration;

/// A moment to measure from.
#[derive(Clone, Copy)]
pub struct Started(std::time::Instant);

impl Started {
    #[expect(clippy::disallowed_methods, reason = "real processes live on the real clock")]
    pub fn now() -> Self {
        Self(std::time::Instant::now())
    }

    #[expect(clippy::disallowed_methods, reason = "real processes live on the real clock")]
    pub fn elapsed(self) -> Duration {
        std::time::Instant::now().saturating_duration_since(self.0)
    }
}

/// Lets the program run on for a while before it is struck: the one wait here that is for no condition.
#[expect(clippy::disallowed_methods, reason = "the moment of a kill is a moment on the real clock")]
pub fn let_run(duration: Duration) {
    std::thread::sleep(duration);
}
