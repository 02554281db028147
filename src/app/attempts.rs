//! What a channel's owner sees of the ledger.

use super::{App, Principal, channels::ChannelError};
use crate::{domain::channel::Channel, store::RecordedAttempt};

pub const PAGE_MAX: i64 = 500;

impl App {
    /// A page of a channel's attempts, newest first, older than `before`.
    pub async fn attempts(
        &self,
        principal: &Principal,
        id_or_uid: &str,
        before: Option<i64>,
        limit: i64,
    ) -> Result<Vec<RecordedAttempt>, ChannelError> {
        let channel = self.channel(principal, id_or_uid).await?.channel;
        Ok(self.store.attempts(channel.key, before, limit).await?)
    }

    /// The latest attempt of a channel that the caller has read.
    pub async fn last_attempt(&self, channel: &Channel) -> Result<Option<RecordedAttempt>, ChannelError> {
        Ok(self.store.attempts(channel.key, None, 1).await?.pop())
    }
}
