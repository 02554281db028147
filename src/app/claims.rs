//! Claims: what a receiver has not had, pulled and acknowledged under a URL that is the key. Push and pull share one
//! cursor, so what is acknowledged here is not sent any more.

use std::sync::Arc;

use super::{
    App, Principal,
    channels::ChannelError,
    feed::{PAGE_BYTES_MAX, PAGE_MAX},
};
use crate::{
    domain::{
        channel::Channel,
        event::Event,
        invalid::{FieldError, Invalid},
    },
    signing::ClaimKey,
    store::{AdvanceOutcome, ChannelView, ResumeOutcome, ResumedBy, StoreError},
};

#[derive(Debug, thiserror::Error)]
pub enum ClaimError {
    /// Unknown, replaced or misspelt: nobody learns which.
    #[error("there is no such claim")]
    NotFound,
    #[error(transparent)]
    Field(#[from] FieldError),
    #[error("the channel has ended")]
    Ended,
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What a receiver has not had, oldest first.
#[derive(Clone, Debug)]
pub struct ClaimPage {
    pub channel: Channel,
    pub events: Vec<Arc<Event>>,
    /// The number of the oldest notification that is left, or of the next one to come.
    pub earliest_number: i64,
    pub has_more: bool,
}

impl App {
    /// The channel's claim URL. Whoever has it may read and acknowledge: it is never logged.
    pub fn claim_url(&self, channel: &Channel) -> String {
        let base = self.settings.public_url.as_str().trim_end_matches('/');
        format!("{base}/claims/{}", self.keys.claim.capability(&channel.uid, channel.claim_rotation))
    }

    /// Replaces a channel's claim URL; the old ones are void from now on.
    pub async fn rotate_claim(&self, principal: &Principal, id_or_uid: &str) -> Result<String, ChannelError> {
        let mut channel = self.channel(principal, id_or_uid).await?.channel;
        channel.claim_rotation = self.store.rotate_claim(channel.key).await?;
        Ok(self.claim_url(&channel))
    }

    /// A page of what is left, after message number `after` or from where the cursor stands.
    pub async fn pull_claim(
        &self,
        capability: &str,
        after: Option<i64>,
        limit: usize,
    ) -> Result<ClaimPage, ClaimError> {
        let ChannelView { channel, cursor, head, .. } = self.claimed(capability).await?;
        // The sync has nothing to read: what is left begins after it.
        let stands = cursor.seq.max(channel.start_seq);
        let from = after.map_or(stands, |number| seq_of(&channel, number).max(stands));
        let events =
            self.read_log(channel.resource, from, head, limit.clamp(1, PAGE_MAX), PAGE_BYTES_MAX).await?;
        Ok(ClaimPage {
            earliest_number: channel.number_of(stands.saturating_add(1)),
            has_more: events.last().is_some_and(|event| event.seq < head),
            channel,
            events,
        })
    }

    /// Acknowledges everything up to message number `through`. Idempotent, and never goes back. Returns the number
    /// that the cursor stands at.
    pub async fn acknowledge_claim(&self, capability: &str, through: i64) -> Result<i64, ClaimError> {
        let channel = self.claimed(capability).await?.channel;
        self.advance(&channel, through, "through").await
    }

    /// Proof of life from the receiver: a channel that was paused by nobody but us goes on.
    pub async fn resume_claim(&self, capability: &str) -> Result<(), ClaimError> {
        let channel = self.claimed(capability).await?.channel;
        match self.store.resume_channel(channel.key, ResumedBy::Receiver, self.now()).await? {
            ResumeOutcome::Ended => Err(ClaimError::Ended),
            // What its owner paused, its owner resumes.
            ResumeOutcome::Paused => Ok(()),
            ResumeOutcome::Resumed | ResumeOutcome::Active => {
                self.bells.changed(vec![channel.key]).await;
                Ok(())
            }
        }
    }

    /// Moves a cursor on to message number `number`, and says which one it stands at.
    pub(super) async fn advance(
        &self,
        channel: &Channel,
        number: i64,
        field: &str,
    ) -> Result<i64, ClaimError> {
        if number < 1 {
            return Err(FieldError::new(field, Invalid::Rule("be at least 1")).into());
        }
        match self.store.advance_cursor(channel.key, seq_of(channel, number), self.now()).await? {
            None => Err(ClaimError::NotFound),
            Some(AdvanceOutcome::Beyond(_)) => {
                Err(FieldError::new(field, Invalid::Rule("not lie beyond the newest notification")).into())
            }
            Some(AdvanceOutcome::At(seq)) => {
                self.bells.changed(vec![channel.key]).await;
                Ok(channel.number_of(seq))
            }
        }
    }

    async fn claimed(&self, capability: &str) -> Result<ChannelView, ClaimError> {
        let uid = ClaimKey::uid_of(capability).ok_or(ClaimError::NotFound)?;
        let found = self.store.channel_by_uid(uid.to_owned()).await?.ok_or(ClaimError::NotFound)?;
        if self.keys.claim.verify(capability, uid, found.channel.claim_rotation) {
            Ok(found)
        } else {
            Err(ClaimError::NotFound)
        }
    }
}

/// The seq that a message number stands for.
const fn seq_of(channel: &Channel, number: i64) -> i64 {
    channel.start_seq.saturating_add(number).saturating_sub(1)
}
