//! One channel in full: what is too dear for a list. Every query is bounded and begins at a key.

use super::{App, Principal, channels::ChannelError};
use crate::{
    domain::{
        consent::NO_CONSENT,
        time::Timestamp,
        waiting::{Waiting, waiting_for},
    },
    store::{AttemptFilter, ChannelView, RecordedAttempt, StoreError},
};

/// Events past the cursor among which the oldest is looked for that the channel wants.
const LOOKED_AT_MAX: usize = 20;

/// A channel, its place, and how it fares.
#[derive(Clone, Debug)]
pub struct ChannelDetail {
    pub view: ChannelView,
    pub last_attempt: Option<RecordedAttempt>,
    /// The failure that the channel is getting over.
    pub last_error: Option<RecordedAttempt>,
    /// How long the next notification has been waiting.
    pub oldest_pending_at: Option<Timestamp>,
    pub waiting: Waiting,
    /// How many notifications are parked, counted up to `store::PARKED_COUNTED_MAX`.
    pub parked: i64,
}

impl App {
    /// A channel that the caller may see, in full.
    pub async fn channel_detail(
        &self,
        principal: &Principal,
        id_or_uid: &str,
    ) -> Result<ChannelDetail, ChannelError> {
        let view = self.channel(principal, id_or_uid).await?;
        let (channel, cursor) = (&view.channel, &view.cursor);
        let newest = self.store.attempts(channel.key, AttemptFilter::default(), None, 1).await?;
        let last_error = if cursor.failing.attempts > 0 || cursor.failing.since.is_some() {
            self.store.last_attempt(channel.key).await?.filter(RecordedAttempt::failed)
        } else {
            None
        };
        let waiting =
            waiting_for(channel.state, channel.expires_at, cursor, view.head - cursor.seq, self.now());
        let is_held_back = last_error.as_ref().is_some_and(|last| last.error.as_deref() == Some(NO_CONSENT));
        Ok(ChannelDetail {
            last_attempt: newest.attempts.into_iter().next(),
            last_error,
            oldest_pending_at: self.oldest_pending_at(&view).await?,
            waiting: if matches!(waiting, Waiting::BackingOff | Waiting::Due) && is_held_back {
                Waiting::Unverified
            } else {
                waiting
            },
            parked: self.store.parked_count(channel.key).await?,
            view,
        })
    }

    /// When the next event was published that the channel wants, as far as the log is looked through; a sync waits since
    /// the channel was opened.
    async fn oldest_pending_at(&self, view: &ChannelView) -> Result<Option<Timestamp>, StoreError> {
        let (channel, cursor) = (&view.channel, &view.cursor);
        if cursor.seq < channel.start_seq {
            return Ok(Some(channel.created_at));
        }
        if cursor.seq >= view.head {
            return Ok(None);
        }
        let next = self.store.events(channel.resource, cursor.seq, view.head, LOOKED_AT_MAX).await?;
        let filter = channel.options.filter(&channel.resource_path);
        Ok(next
            .iter()
            .find(|event| filter.as_ref().is_none_or(|filter| filter.matches(event)))
            .map(|event| event.published_at))
    }
}
