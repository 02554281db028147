//! An outcome changes the channel itself: what the machine says of it is carried out in the store, and read back.
//!
//! One change of a channel at a time, in the order in which its machine said them: a suspension must not overtake the
//! resumption that it follows. Until the last of them is in the store the lane is right about itself, and what was read
//! of it before is not.

use std::{collections::VecDeque, sync::Arc};

use serde_json::Value;

use super::{
    Driver, Message, Read,
    reading::{read_lanes, until_done},
};
use crate::{
    domain::{
        channel::{ChannelKey, ChannelState},
        notice::NoticeKind,
        time::Timestamp,
    },
    engine::Context,
    store::LoadedLane,
};

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

impl Driver {
    /// Changes a channel; its lane hears of it as of any other change.
    pub(super) fn change_state(&mut self, key: ChannelKey, state: NewState) {
        self.reading += 1;
        if let Some(resident) = self.lanes.get_mut(key) {
            match &state {
                NewState::Readdressed { to, .. } => resident.redirected_to = Some(to.clone()),
                NewState::Suspended { .. } => resident.turning = Some(true),
                NewState::Resumed => resident.turning = Some(false),
                NewState::Gone | NewState::Parked | NewState::Pinged => {}
            }
        }
        if let Some(waiting) = self.turning.get_mut(&key) {
            waiting.push_back(state);
        } else {
            self.turning.insert(key, VecDeque::new());
            self.start_change(key, state);
        }
    }

    fn start_change(&self, key: ChannelKey, state: NewState) {
        let (context, inbox) = (Arc::clone(&self.context), self.inbox.clone());
        self.tasks.spawn("change of a channel's state", async move {
            let changed = carry_out(&context, key, state).await;
            let lanes = if changed.is_some() { read_lanes(&context, vec![key]).await } else { None };
            let _ = inbox.send(lanes.map_or(Message::StoreClosed, |lanes| Message::Changed {
                asked: vec![key],
                lanes,
                taken: None,
                turned: Some(key),
            }));
        });
    }

    /// A change of the lane's own is in the store. After the last one the lane hears what the store says.
    pub(super) fn has_turned(&mut self, key: ChannelKey, lanes: &[LoadedLane]) {
        if let Some(next) = self.turning.get_mut(&key).and_then(VecDeque::pop_front) {
            self.start_change(key, next);
            return;
        }
        self.turning.remove(&key);
        let turning = self.lanes.get_mut(key).and_then(|resident| resident.turning.take());
        if turning.is_some() && lanes.iter().any(|loaded| self.is_outdated(loaded)) {
            // A later read came first, and was taken with the lane's own word for its state: read again.
            self.reads.push_front(Read::Changed { channels: vec![key], taken: None });
        }
    }
}

/// `None`: the store is closed.
async fn carry_out(context: &Context, key: ChannelKey, state: NewState) -> Option<()> {
    let (store, now) = (&context.store, context.clock.now());
    let reminding = || context.settings.reminding.clone();
    match state {
        NewState::Gone => {
            until_done(context, || store.end_channel(key, ChannelState::Gone, now)).await.map(drop)
        }
        NewState::Parked => until_done(context, || store.remind(key, reminding(), now)).await.map(drop),
        NewState::Pinged => {
            let ping = || store.create_notice(key, NoticeKind::Ping, Value::Null, now);
            until_done(context, ping).await.map(drop)
        }
        NewState::Readdressed { from, to } => {
            until_done(context, || store.readdress_channel(key, from.clone(), to.clone())).await.map(drop)
        }
        NewState::Suspended { probe_at } => {
            until_done(context, || store.suspend_channel(key, probe_at, reminding(), now)).await.map(drop)
        }
        NewState::Resumed => until_done(context, || store.end_suspension(key, now)).await.map(drop),
    }
}
