//! A channel's owner holds it, lets it go on, or skips what the receiver need not have.

use super::{App, Principal, authorizer::Action, channels::ChannelError, claims::ClaimError};
use crate::store::{AdvancedBy, ChannelView, ResumeOutcome, ResumedBy};

impl App {
    /// Lets nothing more out: once this returns, no request leaves.
    pub async fn pause_channel(
        &self,
        principal: &Principal,
        id_or_uid: &str,
    ) -> Result<ChannelView, ChannelError> {
        let channel = self.channel(principal, id_or_uid).await?.channel;
        self.require_resource(principal, Action::Change, &channel.resource_path).await?;
        if !self.store.pause_channel(channel.key).await? && !channel.state.is_living() {
            return Err(ChannelError::Ended);
        }
        self.tell_change(channel.key).await
    }

    /// Goes on from where the cursor stands: after a pause, a suspension, or a 410.
    pub async fn resume_channel(
        &self,
        principal: &Principal,
        id_or_uid: &str,
    ) -> Result<ChannelView, ChannelError> {
        let channel = self.channel(principal, id_or_uid).await?.channel;
        self.require_resource(principal, Action::Change, &channel.resource_path).await?;
        if self.store.resume_channel(channel.key, ResumedBy::Owner, self.now()).await? == ResumeOutcome::Ended
        {
            return Err(ChannelError::Ended);
        }
        self.tell_change(channel.key).await
    }

    /// Moves the cursor past message number `through_number`: what it passes is not sent any more.
    pub async fn skip(
        &self,
        principal: &Principal,
        id_or_uid: &str,
        through_number: i64,
    ) -> Result<ChannelView, ChannelError> {
        let channel = self.channel(principal, id_or_uid).await?.channel;
        self.require_resource(principal, Action::Change, &channel.resource_path).await?;
        self.advance(&channel, through_number, "throughNumber", AdvancedBy::Owner).await.map_err(
            |error| match error {
                ClaimError::Field(error) => ChannelError::Field(error),
                ClaimError::Store(error) => ChannelError::Store(error),
                ClaimError::NotFound | ClaimError::Ended => ChannelError::NotFound,
            },
        )?;
        self.store.channel_by_key(channel.key).await?.ok_or(ChannelError::NotFound)
    }
}
