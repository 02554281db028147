//! From a free slot to a request, and from its report back to the machine.

use std::sync::Arc;

use serde_json::Value;

use super::{
    Driver, Input, Message, Report,
    reading::{read_lanes, until_done},
};
use crate::{
    domain::{
        channel::{ChannelKey, ChannelState},
        notice::NoticeKind,
        outcome::Verdict,
        time::Timestamp,
    },
    engine::{
        delivery::{self, End, Telling},
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
            End::Hole { through } => {
                self.step(report.channel, Input::Hole(through), None);
                self.write_place(report.channel);
                return;
            }
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
        if resident.origin() != origin {
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
        for key in std::mem::take(&mut self.held) {
            if let Some(resident) = self.lanes.get(key) {
                self.slots.ask(resident.origin(), key);
            }
        }
    }

    /// An outcome changes the channel itself; the lane hears of it as of any other change.
    pub(super) fn change_state(&mut self, key: ChannelKey, state: NewState) {
        if let (NewState::Readdressed { to, .. }, Some(resident)) = (&state, self.lanes.get_mut(key)) {
            resident.redirected_to = Some(to.clone());
        }
        if let Some(suspended) = state.turns() {
            if let Some(resident) = self.lanes.get_mut(key) {
                resident.turning = Some(suspended);
            }
            let turns = self.turns.entry(key).or_default();
            turns.push_back(state.clone());
            if turns.len() > 1 {
                return;
            }
        }
        self.write_state(key, state);
    }

    /// A turn is written: the next one may be.
    pub(super) fn next_turn(&mut self, key: ChannelKey) {
        let Some(turns) = self.turns.get_mut(&key) else { return };
        turns.pop_front();
        match turns.front().cloned() {
            Some(next) => self.write_state(key, next),
            None => drop(self.turns.remove(&key)),
        }
    }

    fn write_state(&mut self, key: ChannelKey, state: NewState) {
        let (context, inbox) = (Arc::clone(&self.context), self.inbox.clone());
        self.reading += 1;
        let turned = state.turns();
        self.tasks.spawn("change of a channel's state", async move {
            let now = context.clock.now();
            let store = &context.store;
            let reminding = || context.settings.reminding.clone();
            let changed = match state {
                NewState::Gone => {
                    until_done(&context, || store.end_channel(key, ChannelState::Gone, now)).await
                }
                NewState::Parked => until_done(&context, || store.remind(key, reminding(), now)).await,
                NewState::Pinged => {
                    let ping = || store.create_notice(key, NoticeKind::Ping, Value::Null, now);
                    until_done(&context, ping).await.map(|_| true)
                }
                NewState::Readdressed { from, to } => {
                    until_done(&context, || store.readdress_channel(key, from.clone(), to.clone())).await
                }
                NewState::Suspended { probe_at } => {
                    until_done(&context, || store.suspend_channel(key, probe_at, reminding(), now)).await
                }
                NewState::Resumed => until_done(&context, || store.end_suspension(key, now)).await,
            };
            let lanes = if changed.is_some() { read_lanes(&context, vec![key]).await } else { None };
            let _ = inbox.send(lanes.map_or(Message::StoreClosed, |lanes| Message::Changed {
                asked: vec![key],
                lanes,
                taken: None,
                turned: turned.map(|suspended| (key, suspended)),
            }));
        });
    }
}

/// What an outcome makes of a channel.
#[derive(Clone, Debug)]
pub enum NewState {
    /// After a 410.
    Gone,
    /// After its window; probed at this moment.
    Suspended { probe_at: Timestamp },
    /// After a probe that succeeded.
    Resumed,
    /// Something was set aside: its owner is told, and its receiver reminded.
    Parked,
    /// Whether the receiver works is to be found out.
    Pinged,
    /// After a redirect that the channel takes over.
    Readdressed { from: String, to: String },
}

impl NewState {
    /// Whether it suspends the channel or lets it go on, if it does either.
    const fn turns(&self) -> Option<bool> {
        match self {
            Self::Suspended { .. } => Some(true),
            Self::Resumed => Some(false),
            _ => None,
        }
    }
}
