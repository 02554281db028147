//! What a channel's owner sees of the ledger: its attempts, and what was set aside.

use super::{App, Principal, channels::ChannelError};
use crate::{
    domain::channel::Channel,
    store::{AttemptFilter, AttemptPage, ParkedNotification},
};

pub const PAGE_MAX: i64 = 500;
pub const PARKED_PAGE_MAX: i64 = 200;

impl App {
    /// A page of a channel's attempts, newest first, older than `before`.
    pub async fn attempts(
        &self,
        principal: &Principal,
        id_or_uid: &str,
        filter: AttemptFilter,
        before: Option<i64>,
        limit: i64,
    ) -> Result<AttemptPage, ChannelError> {
        let channel = self.channel(principal, id_or_uid).await?.channel;
        Ok(self.store.attempts(channel.key, filter, before, limit).await?)
    }

    /// A page of a channel's parked notifications, oldest first, after message number `after`.
    pub async fn parked(
        &self,
        principal: &Principal,
        id_or_uid: &str,
        after: Option<i64>,
        limit: i64,
    ) -> Result<(Channel, Vec<ParkedNotification>), ChannelError> {
        let channel = self.channel(principal, id_or_uid).await?.channel;
        let after = after.map_or(i64::MIN, |number| channel.seq_of(number));
        let parked = self.store.parked(channel.key, channel.resource, after, limit).await?;
        Ok((channel, parked))
    }
}
