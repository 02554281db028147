//! From a free slot to a request, and from its report back to the machine.

use std::sync::Arc;

use super::{Driver, Input, Message, Report};
use crate::{
    domain::{channel::ChannelKey, outcome::Verdict},
    engine::{
        delivery::{self, Attempted, End, Telling},
        machine::{Outcome, Send},
        slots::{Feedback, Line, Slot},
    },
};

impl Driver {
    pub(super) fn on_report(&mut self, report: Report) {
        if let End::Attempted(Attempted { reached: Some(reached), .. })
        | End::Asked { reached: Some(reached) } = &report.end
        {
            self.slots.learn(&report.slot.origin, reached);
        }
        self.slots.release(&report.slot, report.end.feedback());
        if let (End::Attempted(attempted), Some(resident)) = (&report.end, self.lanes.get_mut(report.channel))
        {
            resident.line = Line::of(attempted.attempt.status.is_some(), attempted.took);
        }
        let jitter = self.context.entropy.unit();
        let answer = if report.first.is_some() { Input::Outcome } else { Input::Told };
        let ours = |through, retry_after| {
            answer(Outcome { through, verdict: Verdict::Ours, status: None, retry_after, jitter })
        };
        let (input, attempted) = match report.end {
            End::NotSent | End::Asked { .. } => (report.first.map_or(Input::NotTold, Input::NotSent), None),
            End::Hole { through } => {
                let Some(first) = report.first else { return };
                self.step(report.channel, Input::Hole { first, through }, None);
                self.write_place(report.channel);
                return;
            }
            End::Ours { through } => (ours(through, None), None),
            End::LeftAlone { through, wait } => (ours(through, Some(wait)), None),
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
        while let Some((slot, key)) = self.slots.next(self.context.clock.monotonic()) {
            self.use_slot(slot, key);
            // No request took it with it.
            if let Some(slot) = self.granted.take() {
                self.slots.release(&slot, Feedback::Neutral);
            }
        }
    }

    fn use_slot(&mut self, slot: Slot, key: ChannelKey) {
        let granted = self.granted.insert(slot);
        let Some(resident) = self.lanes.get(key) else { return };
        // The address may have changed while it waited: then it has queued anew where it belongs.
        let Some(input) = resident.use_of_slot(&granted.origin) else { return };
        if self.guard.may_start(self.context.clock.monotonic()) {
            self.step(key, input, None);
        } else {
            self.held.push((granted.origin.clone(), key));
        }
    }

    pub(super) fn send(&mut self, key: ChannelKey, send: Send) {
        let Some(resident) = self.lanes.get(key) else { return };
        // INVARIANT: a machine lets something leave only when it is given a slot.
        let Some(slot) = self.granted.take() else { return };
        let (context, guard) = (Arc::clone(&self.context), Arc::clone(&self.guard));
        let (target, inbox) = (Arc::clone(&resident.target), self.inbox.clone());
        let (previous, replay) = (resident.lane.last_told(), resident.replay_of(send));
        self.tasks.spawn("delivery", async move {
            let end = delivery::deliver(&context, &guard, &target, send, previous, replay).await;
            let _ =
                inbox.send(Message::Delivered(Report { channel: key, first: Some(send.first), slot, end }));
        });
    }

    pub(super) fn tell(&mut self, key: ChannelKey, notice: i64, attempt: u32) {
        let Some(resident) = self.lanes.get(key) else { return };
        let Some(notice) = resident.notices.iter().find(|known| known.id == notice).cloned() else { return };
        let Some(slot) = self.granted.take() else { return };
        let (context, guard) = (Arc::clone(&self.context), Arc::clone(&self.guard));
        let (target, inbox) = (Arc::clone(&resident.target), self.inbox.clone());
        let telling = Telling { notice, attempt, seq: resident.lane.settled() };
        self.tasks.spawn("notice", async move {
            let end = delivery::tell(&context, &guard, &target, telling).await;
            let _ = inbox.send(Message::Delivered(Report { channel: key, first: None, slot, end }));
        });
    }

    /// Those whose turn came while the lease was too short queue again.
    pub(super) fn take_held(&mut self) {
        if self.held.is_empty() || !self.guard.may_start(self.context.clock.monotonic()) {
            return;
        }
        for (origin, key) in std::mem::take(&mut self.held) {
            if let Some(resident) = self.lanes.get(key) {
                self.slots.ask(&origin, key, resident.line);
            }
        }
    }
}
