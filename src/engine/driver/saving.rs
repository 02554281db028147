//! Outcomes become durable: one checkpoint at a time, the next as soon as the last is written.

use std::{
    collections::{BTreeSet, HashSet},
    sync::Arc,
};

use super::{
    Attempted, Batch, Checkpointed, Driver, Entry, Input, Message, NewState, Read, Record, Seen, StoreError,
    reading::STORE_RETRY,
};
use crate::{domain::channel::ChannelKey, engine::Context, store::Checkpoint};

impl Driver {
    /// Queues an outcome for the next checkpoint, and shows it to whoever watches.
    pub(super) fn record(&mut self, key: ChannelKey, place: Record, attempted: Option<Attempted>) {
        let Some(resident) = self.lanes.get(key) else { return };
        let channel = &resident.target.channel;
        if let Some(attempted) = &attempted
            && self.context.seen.receiver_count() > 0
        {
            let _ = self.context.seen.send(Seen {
                channel_id: channel.id.clone(),
                channel_uid: channel.uid.clone(),
                project: channel.project.clone(),
                number: attempted.attempt.number,
                notice: attempted.attempt.notice,
                attempt: attempted.attempt.attempt,
                name: attempted.name.clone(),
                state: attempted.state.clone(),
                outcome: attempted.attempt.outcome,
                status: attempted.attempt.status,
                error: attempted.attempt.error,
                duration_ms: attempted.attempt.duration_ms,
                next_at: place.failing.due_at,
            });
        }
        let resource = channel.resource;
        self.outbox.push(Entry {
            channel: key,
            resource,
            place,
            attempt: attempted.map(|attempted| attempted.attempt),
            moved: resident.moved,
        });
    }

    pub(super) fn start_checkpoint(&mut self) {
        if self.writing {
            return;
        }
        let now = self.context.clock.now();
        let Some(mut batch) = self.outbox.take(&mut self.lanes, self.guard.lease.epoch, now) else { return };
        self.writing = true;
        let (context, inbox) = (Arc::clone(&self.context), self.inbox.clone());
        self.tasks.spawn("checkpoint", async move {
            let written = if batch.checkpoint.is_empty() {
                Ok(Checkpointed::default())
            } else {
                write(&context, &mut batch.checkpoint).await
            };
            let _ = inbox.send(Message::Checkpointed(batch, written));
        });
    }

    pub(super) fn on_checkpoint(&mut self, batch: Batch, written: Result<Checkpointed, StoreError>) {
        self.writing = false;
        match written {
            Ok(checkpointed) => {
                if !checkpointed.moved.is_empty() {
                    // The change may not have been told yet: what it made of the row is read before the lane's
                    // place is written again. Its attempts are in the ledger.
                    let channels = checkpointed.moved.clone();
                    self.reads.push_front(Read::Changed { channels, taken: None });
                }
                let moved: HashSet<ChannelKey> = checkpointed.moved.into_iter().collect();
                let parked = batch.checkpoint.parked.iter().map(|parked| parked.channel);
                for channel in parked.collect::<BTreeSet<_>>() {
                    self.change_state(channel, NewState::Parked);
                }
                for (channel, outcome) in batch.saved {
                    if moved.contains(&channel) {
                        if let Some(resident) = self.lanes.get_mut(channel) {
                            resident.stored_behind = true;
                        }
                    } else {
                        self.step(channel, Input::Saved(outcome), None);
                        self.follow(channel);
                        self.let_go_if_ended(channel);
                    }
                }
            }
            Err(StoreError::Fenced) => self.guard.give_up(),
            // Only a closed store ends up here: everything else is retried.
            Err(_) => self.stopping = true,
        }
    }
}

/// Writes a checkpoint, again and again until it is durable, the lease is lost or the store is closed.
async fn write(context: &Context, checkpoint: &mut Checkpoint) -> Result<Checkpointed, StoreError> {
    loop {
        match context.store.checkpoint(checkpoint.clone()).await {
            Err(error) if !matches!(error, StoreError::Fenced | StoreError::Closed) => {
                checkpoint.repeated |= matches!(error, StoreError::CommitUnknown);
                tracing::warn!(error = %error, "a checkpoint was not written; trying again");
                context.clock.sleep(STORE_RETRY).await;
            }
            written => return written,
        }
    }
}
