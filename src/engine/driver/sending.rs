//! From a free slot to a request, and from its report back to the machine.

use std::sync::Arc;

use super::{Driver, Input, Message, Report, reading::until_done};
use crate::{
    domain::{
        channel::{ChannelKey, ChannelState},
        outcome::Verdict,
    },
    engine::{
        delivery::{self, End},
        machine::{Outcome, Send},
        slots::Feedback,
    },
    outbound::Origin,
};

impl Driver {
    pub(super) fn on_report(&mut self, report: Report) {
        self.slots.release(&report.origin, report.feedback);
        let jitter = self.context.entropy.unit();
        let (input, attempted) = match report.end {
            End::NotSent => (Input::NotSent, None),
            End::Ours { through } => {
                let outcome =
                    Outcome { through, verdict: Verdict::Ours, status: None, retry_after: None, jitter };
                (Input::Outcome(outcome), None)
            }
            End::Attempted(attempted) => {
                let outcome = Outcome {
                    through: attempted.through,
                    verdict: attempted.verdict,
                    status: attempted.attempt.status,
                    retry_after: attempted.retry_after,
                    jitter,
                };
                (Input::Outcome(outcome), Some(attempted))
            }
        };
        self.step(report.channel, input, attempted);
    }

    pub(super) fn grant_slots(&mut self) {
        if self.stopping {
            return;
        }
        while let Some((origin, key)) = self.slots.next() {
            let sends = self.use_slot(&origin, key);
            if !sends {
                self.slots.release(&origin, Feedback::Neutral);
            }
        }
    }

    /// Whether a request takes the slot with it.
    fn use_slot(&mut self, origin: &Origin, key: ChannelKey) -> bool {
        let Some(resident) = self.lanes.get(key) else { return false };
        if !resident.lane.is_queued() {
            return false;
        }
        if resident.target.origin() != origin {
            // The address changed while it waited: it has queued anew where it belongs.
            return false;
        }
        if !self.guard.may_start(self.context.clock.monotonic()) {
            self.held.push(key);
            return false;
        }
        self.step(key, Input::Slot, None);
        self.lanes.get(key).is_some_and(|resident| resident.lane.is_in_flight())
    }

    pub(super) fn send(&mut self, key: ChannelKey, send: Send) {
        let Some(resident) = self.lanes.get(key) else { return };
        let (context, guard) = (Arc::clone(&self.context), Arc::clone(&self.guard));
        let (target, inbox) = (Arc::clone(&resident.target), self.inbox.clone());
        self.tasks.spawn("delivery", async move {
            let report = delivery::deliver(&context, &guard, key, target, send).await;
            let _ = inbox.send(Message::Delivered(report));
        });
    }

    /// Those whose turn came while the lease was too short queue again.
    pub(super) fn take_held(&mut self) {
        if self.held.is_empty() || !self.guard.may_start(self.context.clock.monotonic()) {
            return;
        }
        for key in std::mem::take(&mut self.held) {
            if let Some(resident) = self.lanes.get(key) {
                self.slots.ask(resident.target.origin(), key);
            }
        }
    }

    /// A 410 ends the channel for good; the lane hears of it as of any other change.
    pub(super) fn end_gone(&mut self, key: ChannelKey) {
        let (context, inbox) = (Arc::clone(&self.context), self.inbox.clone());
        self.reading += 1;
        self.tasks.spawn("end of a gone channel", async move {
            let now = context.clock.now();
            until_done(&context, || context.store.end_channel(key, ChannelState::Gone, now)).await;
            let lanes = until_done(&context, || context.store.lanes(vec![key])).await.unwrap_or_default();
            let _ = inbox.send(Message::Changed { asked: vec![key], lanes, taken: None });
        });
    }
}
