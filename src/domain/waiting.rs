//! Why a channel's next notification is not there yet, in one stable word: what its owner wants to know first.

use super::{channel::ChannelState, cursor::Cursor, time::Timestamp};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waiting {
    /// There is nothing to send.
    Idle,
    /// It is on its way, or about to be.
    Due,
    /// It failed, and waits for its next attempt.
    BackingOff,
    /// The receiver was asked whether it wants notifications, and has not agreed. It is asked again.
    Unverified,
    Paused,
    /// The channel is only probed, after a window of failures.
    Suspended,
    Expired,
    Gone,
    Stopped,
}

impl Waiting {
    /// The word on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Due => "due",
            Self::BackingOff => "backingOff",
            Self::Unverified => "unverified",
            Self::Paused => "paused",
            Self::Suspended => "suspended",
            Self::Expired => "expired",
            Self::Gone => "gone",
            Self::Stopped => "stopped",
        }
    }
}

/// What a channel in `state` with `lag` notifications to come waits for. `cursor` is its effective one.
pub fn waiting_for(
    state: ChannelState,
    expires_at: Timestamp,
    cursor: &Cursor,
    lag: i64,
    now: Timestamp,
) -> Waiting {
    match state {
        ChannelState::Paused => Waiting::Paused,
        ChannelState::Gone => Waiting::Gone,
        ChannelState::Stopped => Waiting::Stopped,
        ChannelState::Expired => Waiting::Expired,
        // Time alone ends a channel, whether or not the job has got round to it.
        _ if expires_at <= now => Waiting::Expired,
        ChannelState::Suspended => Waiting::Suspended,
        ChannelState::Active if lag <= 0 => Waiting::Idle,
        ChannelState::Active => {
            let waits = cursor.failing.attempts > 0 && cursor.failing.due_at.is_some_and(|due| due > now);
            if waits { Waiting::BackingOff } else { Waiting::Due }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{
        channel::{ChannelKey, ResourceKey},
        cursor::Failing,
    };

    #[test]
    fn every_channel_waits_for_one_thing() {
        let at = Timestamp::from_millis;
        let failing = |due| Failing { attempts: 2, due_at: Some(at(due)), ..Failing::default() };
        let fine = Failing::default;
        for (state, expires, failing, lag, expected) in [
            (ChannelState::Active, 100, fine(), 0, "idle"),
            (ChannelState::Active, 100, fine(), 1, "due"),
            (ChannelState::Active, 100, failing(11), 1, "backingOff"),
            (ChannelState::Active, 100, failing(10), 1, "due"),
            (ChannelState::Active, 100, failing(11), 0, "idle"),
            (ChannelState::Active, 10, failing(11), 1, "expired"),
            (ChannelState::Suspended, 100, failing(11), 1, "suspended"),
            (ChannelState::Suspended, 10, failing(11), 1, "expired"),
            (ChannelState::Paused, 10, failing(11), 1, "paused"),
            (ChannelState::Expired, 10, fine(), 1, "expired"),
            (ChannelState::Gone, 100, failing(11), 1, "gone"),
            (ChannelState::Stopped, 100, fine(), 1, "stopped"),
        ] {
            let cursor = Cursor {
                channel: ChannelKey(1),
                resource: ResourceKey(1),
                seq: 5,
                moved: 0,
                behind: false,
                failing,
                last_success_at: None,
                settled: crate::domain::settled::SettledMap::default(),
            };
            let told = waiting_for(state, at(expires), &cursor, lag, at(10));
            assert_eq!(told.as_str(), expected, "{state:?} {lag}");
        }
    }
}
