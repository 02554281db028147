//! Bells. They carry no data that matters: losing one costs latency, never an event, because start-up and sweep
//! find the same work in the store.
//!
//! The *append bell* tells the engine that a log has grown, coalesced per resource. The *control bell* tells it
//! that a channel has changed, and is acknowledged: the command that rings it answers after this node's engine
//! has taken the change. Without an engine on this node both are silent.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{Notify, broadcast, mpsc, oneshot};

use crate::domain::channel::{ChannelKey, ResourceKey};

/// Changes that wait for the engine before commands have to.
const CHANGES_MAX: usize = 1_024;
/// Appends that a waiting feed reader may fall behind before it simply looks again.
const APPENDS_MAX: usize = 256;

/// Channels that changed, and where to say that the engine knows.
#[derive(Debug)]
pub struct Changed {
    pub channels: Vec<ChannelKey>,
    pub taken: oneshot::Sender<()>,
}

#[derive(Clone, Debug)]
pub struct Bells(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// Rung resources and their heads; `None` while no engine listens.
    heads: Mutex<Option<HashMap<ResourceKey, i64>>>,
    rung: Notify,
    changes: Mutex<Option<mpsc::Sender<Changed>>>,
    appends: broadcast::Sender<ResourceKey>,
}

impl Default for Bells {
    fn default() -> Self {
        Self(Arc::new(Shared {
            heads: Mutex::new(None),
            rung: Notify::new(),
            changes: Mutex::new(None),
            appends: broadcast::Sender::new(APPENDS_MAX),
        }))
    }
}

impl Bells {
    /// The log of `resource` has grown to `head`.
    pub fn appended(&self, resource: ResourceKey, head: i64) {
        // Nobody may be waiting.
        let _ = self.0.appends.send(resource);
        if let Some(heads) = &mut *locked(&self.0.heads) {
            let known = heads.entry(resource).or_insert(head);
            *known = head.max(*known);
            self.0.rung.notify_one();
        }
    }

    /// These channels have changed. Returns once this node's engine acts on it.
    pub async fn changed(&self, channels: Vec<ChannelKey>) {
        let Some(changes) = locked(&self.0.changes).clone() else { return };
        let (taken, told) = oneshot::channel();
        if changes.send(Changed { channels, taken }).await.is_ok() {
            let _ = told.await;
        }
    }

    /// Appends to any resource of this node, for readers that wait for more.
    pub fn appends(&self) -> broadcast::Receiver<ResourceKey> {
        self.0.appends.subscribe()
    }

    /// Makes the caller the one engine that listens, until the ear is dropped.
    pub fn listen(&self) -> (Ear, mpsc::Receiver<Changed>) {
        let (sender, changes) = mpsc::channel(CHANGES_MAX);
        *locked(&self.0.heads) = Some(HashMap::new());
        *locked(&self.0.changes) = Some(sender);
        (Ear(Arc::clone(&self.0)), changes)
    }
}

/// The engine's side of the append bell.
#[derive(Debug)]
pub struct Ear(Arc<Shared>);

impl Ear {
    /// Waits until a log has grown.
    pub async fn rung(&self) {
        self.0.rung.notified().await;
    }

    /// The resources that have grown since the last call, with their heads.
    pub fn take(&self) -> HashMap<ResourceKey, i64> {
        locked(&self.0.heads).as_mut().map(std::mem::take).unwrap_or_default()
    }
}

impl Drop for Ear {
    fn drop(&mut self) {
        *locked(&self.0.heads) = None;
        *locked(&self.0.changes) = None;
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
