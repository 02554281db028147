//! Background tasks, supervised: a task that panics takes the process down instead of leaving it to limp
//! without its engine or its writer. A crash loses nothing, a zombie would.
//!
//! Everything that must outlive a caller's disconnect runs here and not on a web worker's runtime.

use std::{future::Future, panic::AssertUnwindSafe};

use futures_util::FutureExt;
use tokio::{runtime::Handle, task::JoinHandle};

#[derive(Clone, Debug)]
pub struct Tasks(Handle);

impl Tasks {
    /// Tasks on the runtime that the caller runs on.
    pub fn current() -> Self {
        Self(Handle::current())
    }

    pub fn spawn<F>(&self, name: &'static str, future: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.0.spawn(async move {
            let Ok(output) = AssertUnwindSafe(future).catch_unwind().await else { abort(name) };
            output
        })
    }
}

/// Runs blocking work by the same rule, for where a library would turn its panic into an ordinary error.
pub fn or_abort<T>(name: &'static str, work: impl FnOnce() -> T) -> T {
    std::panic::catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| abort(name))
}

fn abort(name: &'static str) -> ! {
    // Whatever becomes of the words, the process ends.
    let _ = std::panic::catch_unwind(|| {
        tracing::error!(task.name = name, "a task panicked: stopping at once");
    });
    std::process::abort();
}
