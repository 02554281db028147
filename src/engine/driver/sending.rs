//! From a free slot to a request, and from its report back to the machine.

use std::sync::Arc;

use super::{Driver, Input, Message, Report};
use crate::{
    domain::{channel::ChannelKey, outcome::Verdict},
    engine::{
        delivery::{self, Attempted, End, Telling},
        machine::{Outcome, Send},
        slots::Feedback,
    },
    outbound::Origin,
};

impl Driver {
    pub(super) fn on_report(&mut self, report: Report) {
        if let End::Attempted(Attempted { reached: Some(reached), .. }) = &report.end {
            self.slots.learn(&report.origin, reached);
        }
        self.slots.release(&report.origin, report.feedback);
        let jitter = self.context.entropy.unit();
        let answer = if report.first.is_some() { Input::Outcome } else { Input::Told };
        let (input, attempted) = match report.end {
            End::NotSent => (report.first.map_or(Input::NotSent, Input::Withdrawn), None),
            End::Hole { through } => {
                let has_window = self.lanes.get(report.channel).is_some_and(|it| it.lane.has_window());
                if let Some(first) = report.first.filter(|_| has_window) {
                    self.step(report.channel, Input::Withdrawn(first), None);
                }
                self.step(report.channel, Input::Hole(through), None);
                self.write_place(report.channel);
                return;
            }
            End::Ours { through } => {
                let outcome =
                    Outcome { through, verdict: Verdict::Ours, status: None, retry_after: None, jitter };
                (answer(outcome), None)
            }
            End::Attempted(attempted) => {
                let outcome = Outcome {
                    through: attempted.through,
                    verdict: attempted.verdict,
                    status: attempted.attempt.status,
                    retry_after: attempted.retry_after,
                    jitter,
                };
                (answer(outcome), Some(attempted))
            }
        };
        self.step(report.channel, input, attempted);
    }

    pub(super) fn grant_slots(&mut self) {
        if self.stopping {
            return;
        }
        while let Some((origin, key)) = self.slots.next(self.context.clock.monotonic()) {
            let sends = self.use_slot(&origin, key);
            if !sends {
                self.slots.release(&origin, Feedback::Neutral);
            }
        }
    }

    /// Whether a request takes the slot with it.
    fn use_slot(&mut self, origin: &Origin, key: ChannelKey) -> bool {
        let Some(resident) = self.lanes.get(key) else { return false };
        // The address may have changed while it waited: then it has queued anew where it belongs.
        let Some(input) = resident.use_of_slot(origin) else { return false };
        if !self.guard.may_start(self.context.clock.monotonic()) {
            self.held.push((origin.clone(), key));
            return false;
        }
        self.step(key, input, None)
    }

    pub(super) fn send(&mut self, key: ChannelKey, send: Send) {
        let Some(resident) = self.lanes.get(key) else { return };
        let (context, guard) = (Arc::clone(&self.context), Arc::clone(&self.guard));
        let (target, inbox) = (Arc::clone(&resident.target), self.inbox.clone());
        let (previous, replay) = (resident.lane.last_told(), resident.replay_of(send));
        self.tasks.spawn("delivery", async move {
            let report = delivery::deliver(&context, &guard, key, target, send, previous, replay).await;
            let _ = inbox.send(Message::Delivered(report));
        });
    }

    pub(super) fn tell(&mut self, key: ChannelKey, notice: i64, attempt: u32) {
        let Some(resident) = self.lanes.get(key) else { return };
        let Some(notice) = resident.notices.iter().find(|known| known.id == notice).cloned() else { return };
        let (context, guard) = (Arc::clone(&self.context), Arc::clone(&self.guard));
        let (target, inbox) = (Arc::clone(&resident.target), self.inbox.clone());
        let telling = Telling { notice, attempt, seq: resident.lane.settled() };
        self.tasks.spawn("notice", async move {
            let report = delivery::tell(&context, &guard, key, target, telling).await;
            let _ = inbox.send(Message::Delivered(report));
        });
    }

    /// Those whose turn came while the lease was too short queue again.
    pub(super) fn take_held(&mut self) {
        if self.held.is_empty() || !self.guard.may_start(self.context.clock.monotonic()) {
            return;
        }
        for (origin, key) in std::mem::take(&mut self.held) {
            self.slots.ask(&origin, key);
        }
    }
}
