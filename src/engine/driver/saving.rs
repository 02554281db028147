//! Outcomes become durable: one checkpoint at a time, the next as soon as the last is written.

use std::{
    collections::{BTreeSet, HashSet},
    sync::Arc,
};

use super::{Batch, Checkpointed, Driver, Input, Message, NewState, Read, StoreError, reading::STORE_RETRY};
use crate::{domain::channel::ChannelKey, engine::Context, store::Checkpoint};

impl Driver {
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
