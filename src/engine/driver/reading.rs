//! Reads of the store: level lanes of a resource, single lanes, changed channels, what filters want, and the sweep that finds work no
//! bell told of. A few run at once; the others wait in a queue that holds no rows.

use std::{sync::Arc, time::Duration};

use tokio::sync::{mpsc, oneshot};

use super::{
    BusyResource, Driver, Found, Input, Message, StoreError,
    filtering::{Stretch, read_stretch},
};
use crate::{
    domain::channel::{ChannelKey, ResourceKey},
    engine::{Context, lease::Guard},
    store::LoadedLane,
};

/// Rows that one read brings into memory.
const PAGE: i64 = 1_000;
/// Reads under way at once.
pub(super) const READS_MAX: usize = 8;
/// Waiting lanes stay in memory when they are due within this time, and always while there is room. A sweep brings
/// them in as early, so that a retry is on time although the server has restarted since.
pub(super) const FAR: Duration = Duration::from_mins(1);
/// The wait before a failed read or write is tried again.
pub(super) const STORE_RETRY: Duration = Duration::from_secs(1);

/// A read that waits for its turn.
pub(super) enum Read {
    Level {
        resource: ResourceKey,
        head: i64,
    },
    Lanes(Vec<ChannelKey>),
    Changed {
        channels: Vec<ChannelKey>,
        taken: Option<oneshot::Sender<()>>,
    },
    Scan(Stretch),
    /// `first`: nothing was swept before. `foreign`: other nodes may have left word as well. `ahead`: how soon to be due
    /// counts as due.
    Sweep {
        first: bool,
        foreign: bool,
        ahead: Duration,
    },
}

impl Read {
    /// What a term begins with.
    pub(super) const fn at_start() -> Self {
        Self::Sweep { first: true, foreign: true, ahead: FAR }
    }
}

impl Driver {
    /// Looks for work that no bell told of.
    pub(super) fn sweep(&mut self) {
        self.start_sweep(self.context.store.is_shared(), FAR);
        self.take_held();
    }

    /// On a shared store other nodes append and change channels too.
    pub(super) fn poll(&mut self) {
        self.start_sweep(true, Duration::ZERO);
    }

    fn start_sweep(&mut self, foreign: bool, ahead: Duration) {
        if !self.sweeping && !self.stopping {
            self.sweeping = true;
            self.reads.push_back(Read::Sweep { first: false, foreign, ahead });
        }
    }

    /// Takes what a sweep found: resources that have grown, and channels that time wakes.
    pub(super) fn take_found(&mut self, busy: Vec<BusyResource>, due: Vec<ChannelKey>) {
        for found in busy {
            if self.lanes.is_news(found.resource, found.head) {
                self.grow(found.resource, found.head);
            }
            self.outbox.stir(found.resource);
        }
        let mut unknown = Vec::new();
        for key in due {
            if self.lanes.contains(key) {
                // Its timer may have been lost to a clock that jumped.
                self.step(key, Input::Time, None);
            } else if self.expected.insert(key) {
                unknown.push(key);
            }
        }
        if !unknown.is_empty() {
            self.reads.push_back(Read::Lanes(unknown));
        }
    }

    /// Takes channels that are to be told something: what exactly is read with them.
    pub(super) fn take_told(&mut self, told: Vec<ChannelKey>) {
        let mut unread = Vec::new();
        for key in told {
            match self.lanes.get(key) {
                Some(resident) if resident.lane.has_notices() => {
                    self.step(key, Input::Time, None);
                }
                _ if self.expected.insert(key) => unread.push(key),
                _ => {}
            }
        }
        if !unread.is_empty() {
            self.reads.push_back(Read::Changed { channels: unread, taken: None });
        }
    }

    pub(super) fn start_read(&mut self, read: Read) {
        self.reading += 1;
        let (context, guard, inbox) =
            (Arc::clone(&self.context), Arc::clone(&self.guard), self.inbox.clone());
        self.tasks.spawn("engine read", async move {
            let done = match read {
                Read::Level { resource, head } => read_level(&context, &inbox, resource, head).await,
                Read::Lanes(asked) => read_lanes(&context, asked.clone()).await.map(|lanes| {
                    let _ = inbox.send(Message::Lanes { asked, lanes });
                }),
                Read::Changed { channels, taken } => {
                    read_lanes(&context, channels.clone()).await.map(|lanes| {
                        let _ = inbox.send(Message::Changed { asked: channels, lanes, taken, turned: None });
                    })
                }
                Read::Scan(stretch) => read_stretch(&context, &inbox, stretch).await,
                Read::Sweep { first, foreign, ahead } => {
                    let retrying = if first { read_retrying(&context, &inbox).await } else { Some(()) };
                    match retrying {
                        Some(()) => read_work(&context, &guard, &inbox, foreign, ahead).await,
                        None => None,
                    }
                }
            };
            if done.is_none() {
                let _ = inbox.send(Message::StoreClosed);
            }
        });
    }

    /// Whoever waits for a read that is not made any more is told.
    pub(super) fn drop_reads(&mut self) {
        for read in self.reads.drain(..) {
            if let Read::Changed { taken: Some(taken), .. } = read {
                let _ = taken.send(());
            }
        }
    }
}

// `None` from any of these: the store is closed. That is not the same as "nothing there", which would let a resource
// count as loaded without its lanes. An inbox that is closed itself belongs to a term that has ended.

/// These channels as they are now.
pub(super) async fn read_lanes(context: &Context, keys: Vec<ChannelKey>) -> Option<Vec<LoadedLane>> {
    until_done(context, || context.store.lanes(keys.clone())).await
}

async fn read_level(
    context: &Context,
    inbox: &mpsc::UnboundedSender<Message>,
    resource: ResourceKey,
    head: i64,
) -> Option<()> {
    let before = ResourceKey(resource.0 - 1);
    let busy = until_done(context, || context.store.busy_resources(before, 1)).await?;
    let found = busy.into_iter().find(|busy| busy.resource == resource);
    let (head, fanned) = found.map_or((head, head), |found| (found.head.max(head), found.fanned));
    let mut after = ChannelKey(0);
    loop {
        let page = until_done(context, || context.store.level_lanes(resource, after, PAGE)).await?;
        let done = i64::try_from(page.len()).is_ok_and(|rows| rows < PAGE);
        after = page.last().map_or(after, |lane| lane.channel.key);
        if inbox.send(Message::Level { resource, fanned, head, lanes: page, done }).is_err() || done {
            return Some(());
        }
    }
}

/// Channels with retries that nobody waits for: their next event is due although time wakes them later.
async fn read_retrying(context: &Context, inbox: &mpsc::UnboundedSender<Message>) -> Option<()> {
    let mut after = ChannelKey(0);
    loop {
        let due = until_done(context, || context.store.retrying_channels(after, PAGE)).await?;
        let Some(last) = due.last() else { return Some(()) };
        after = *last;
        let _ = inbox.send(Message::Found(Found { due, ..Found::default() }));
    }
}

async fn read_work(
    context: &Context,
    guard: &Guard,
    inbox: &mpsc::UnboundedSender<Message>,
    foreign: bool,
    ahead: Duration,
) -> Option<()> {
    // A term that has ended must not take words that are meant for the next one.
    if foreign && !inbox.is_closed() {
        // Before anything is delivered from memory again. What cannot be looked at now is looked at next time.
        let _ = context.store.heed_erasures().await;
        let taken = context.store.take_changed_channels().await;
        if matches!(taken, Err(StoreError::CommitUnknown)) {
            // The words may be gone and unread: only a term that reads everything anew knows all changes.
            guard.give_up();
        }
        // Words that could not be taken lie there for the next look.
        let keys = taken
            .or_else(|error| if matches!(error, StoreError::Closed) { Err(error) } else { Ok(Vec::new()) })
            .ok()?;
        if !keys.is_empty() {
            let lanes = read_lanes(context, keys).await?;
            let _ = inbox.send(Message::ChangedElsewhere(lanes));
        }
    }
    let mut after = ResourceKey(0);
    loop {
        let busy = until_done(context, || context.store.busy_resources(after, PAGE)).await?;
        let Some(last) = busy.last() else { break };
        after = last.resource;
        let _ = inbox.send(Message::Found(Found { busy, ..Found::default() }));
    }
    let by = context.clock.now().plus(ahead);
    let mut after = None;
    loop {
        let due = until_done(context, || context.store.due_channels(by, after, PAGE)).await?;
        let Some(last) = due.last() else { break };
        after = Some(*last);
        let due = due.into_iter().map(|(_, key)| key).collect();
        let _ = inbox.send(Message::Found(Found { due, ..Found::default() }));
    }
    let mut after = None;
    loop {
        let told = until_done(context, || context.store.due_notices(by, after, PAGE)).await?;
        let Some(last) = told.last() else { break };
        after = Some(*last);
        let told = told.into_iter().map(|(_, key)| key).collect();
        let _ = inbox.send(Message::Found(Found { told, ..Found::default() }));
    }
    let _ = inbox.send(Message::Found(Found { done: true, ..Found::default() }));
    Some(())
}

/// Repeats a store call until it works. `None`: the store is closed.
pub(super) async fn until_done<T, F>(context: &Context, call: impl Fn() -> F) -> Option<T>
where
    F: Future<Output = Result<T, StoreError>>,
{
    loop {
        match call().await {
            Ok(value) => return Some(value),
            Err(StoreError::Closed) => return None,
            Err(error) => tracing::warn!(error = %error, "the store did not answer the engine; trying again"),
        }
        context.clock.sleep(STORE_RETRY).await;
    }
}
