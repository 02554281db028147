//! Where everybody writes down how far things are, and waits for others to get there.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crate::clock::Started;

#[derive(Default)]
pub struct Board {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
pub struct State {
    /// The process that runs, or ran last.
    pub incarnation: usize,
    /// Where it listens, while it does.
    pub address: Option<SocketAddr>,
    /// No new work is begun; what is begun is brought to its end.
    pub finishing: bool,
    /// Something broke in a helper: everybody ends.
    pub broken: bool,
    /// The last process that has ended.
    pub ended: Option<usize>,
    /// What this process has answered and delivered.
    pub acknowledged: usize,
    pub delivered: usize,
    /// Changes of channels that were begun.
    pub changes: usize,
    /// The highest acknowledged seq of each resource.
    pub heads: HashMap<String, i64>,
    /// The highest seq that each channel has had, with its resource.
    pub had: HashMap<String, i64>,
    /// All channels ever opened.
    pub opened: Vec<String>,
    /// Channels that keep publishers from running away, with their resources.
    pub watched: Vec<(String, String)>,
}

impl State {
    pub fn is_over(&self) -> bool {
        self.finishing || self.broken
    }

    /// How far the slowest watched channel of a resource is behind its acknowledged head.
    pub fn lag(&self, resource: &str) -> i64 {
        let head = self.heads.get(resource).copied().unwrap_or(0);
        let of_channel = |(channel, watched): &(String, String)| {
            (watched == resource).then(|| head - self.had.get(channel).copied().unwrap_or(0))
        };
        self.watched.iter().filter_map(of_channel).max().unwrap_or(0)
    }
}

impl Board {
    pub fn look<T>(&self, read: impl FnOnce(&State) -> T) -> T {
        read(&self.lock())
    }

    pub fn note<T>(&self, write: impl FnOnce(&mut State) -> T) -> T {
        let written = write(&mut self.lock());
        self.changed.notify_all();
        written
    }

    /// Waits until `condition` gives something; None when it has not within `patience`.
    pub fn wait_for<T>(&self, patience: Duration, condition: impl Fn(&State) -> Option<T>) -> Option<T> {
        let started = Started::now();
        let mut state = self.lock();
        loop {
            if let Some(found) = condition(&state) {
                return Some(found);
            }
            let left = patience.checked_sub(started.elapsed())?;
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells the others when its thread panics, so that nobody waits for it.
pub struct Alarm<'b>(pub &'b Board);

impl Drop for Alarm<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.note(|state| state.broken = true);
        }
    }
}
