//! Claims: what a receiver has not had, pulled and acknowledged under a URL that is the key. Push and pull share one
//! cursor, so what is acknowledged here is not sent any more.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{
    App, Principal,
    authorizer::Action,
    channels::ChannelError,
    feed::{PAGE_BYTES_MAX, PAGE_MAX},
};
use crate::{
    domain::{
        channel::{Channel, ChannelState},
        event::Event,
        id,
        invalid::{FieldError, Invalid},
        settled::AHEAD_MAX,
    },
    signing::ClaimKey,
    store::{AdvanceOutcome, AdvancedBy, ChannelView, ResumeOutcome, ResumedBy, StoreError},
};

/// Events that one page looks through for a filtered channel: beyond them it may come back empty, with more to come.
const LOOKED_AT_MAX: usize = 10_000;

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

/// What a receiver has not had, oldest first: what was parked or waits by itself, then the log past the cursor.
#[derive(Clone, Debug)]
pub struct ClaimPage {
    pub channel: Channel,
    pub items: Vec<ClaimItem>,
    /// The number of the oldest notification that is left, or of the next one to come.
    pub earliest_number: i64,
    /// Everything up to this seq was looked at.
    pub through: i64,
    pub has_more: bool,
}

#[derive(Clone, Debug)]
pub struct ClaimItem {
    pub event: Arc<Event>,
    /// It was set aside, and is settled by its id alone.
    pub parked: bool,
}

impl App {
    /// The channel's claim URL. Whoever has it may read and acknowledge: it is never logged.
    pub fn claim_url(&self, channel: &Channel) -> String {
        self.keys.claim.url(&self.settings.public_url, &channel.uid, channel.claim_rotation)
    }

    /// Replaces a channel's claim URL; the old ones are void from now on.
    pub async fn rotate_claim(&self, principal: &Principal, id_or_uid: &str) -> Result<String, ChannelError> {
        let mut channel = self.channel(principal, id_or_uid).await?.channel;
        // Whoever has the URL reads the resource's events.
        self.require_resource(principal, Action::Change, &channel.resource_path).await?;
        channel.claim_rotation = self.store.rotate_claim(channel.key).await?;
        Ok(self.claim_url(&channel))
    }

    /// A page of what is left, after message number `after` or from the oldest on.
    pub async fn pull_claim(
        &self,
        capability: &str,
        after: Option<i64>,
        limit: usize,
    ) -> Result<ClaimPage, ClaimError> {
        let ChannelView { channel, cursor, head, .. } = self.claimed(capability).await?;
        let limit = limit.clamp(1, PAGE_MAX);
        // The sync has nothing to read: what is left begins after it.
        let stands = cursor.seq.max(channel.start_seq);
        // Nor has what has expired: the cursor of a channel whose sync is pending still stands before it.
        let hole = self.store.hole_after(channel.resource, stands).await?;
        let stands = hole.map_or(stands, |end| end.min(head).max(stands));
        // What overtook others has been had, but for what failed and waits by itself.
        let ahead = stands.saturating_add(AHEAD_MAX);
        let aside = self.store.aside(channel.key, stands, ahead, AHEAD_MAX).await?;
        let aside: BTreeMap<i64, bool> = aside.into_iter().collect();
        let overtook: BTreeSet<i64> = cursor.settled.seqs().filter(|seq| !aside.contains_key(seq)).collect();
        let after = after.map_or(channel.start_seq, |number| channel.seq_of(number));
        let (mut items, mut through, mut has_more) = self.aside_page(&channel, after, stands, limit).await?;
        if !has_more && items.len() < limit {
            let (from, room) = (after.max(stands), limit - items.len());
            let (events, looked) = self.read_wanted(&channel, from, head, room, &overtook).await?;
            has_more = from < looked && looked < head;
            through = looked;
            items.extend(events.into_iter().map(|event| {
                let parked = aside.get(&event.seq).copied().unwrap_or_default();
                ClaimItem { event, parked }
            }));
        } else {
            has_more |= stands < head;
        }
        let first_aside = self.store.aside(channel.key, channel.start_seq, stands, 1).await?.pop();
        let earliest = first_aside.map_or_else(|| stands.saturating_add(1), |(seq, _)| seq);
        Ok(ClaimPage { earliest_number: channel.number_of(earliest), through, has_more, channel, items })
    }

    /// What was parked or waits by itself after `after` and up to the cursor, how far was looked, and whether there is more
    /// of it.
    async fn aside_page(
        &self,
        channel: &Channel,
        after: i64,
        stands: i64,
        limit: usize,
    ) -> Result<(Vec<ClaimItem>, i64, bool), ClaimError> {
        let rows = i64::try_from(limit).unwrap_or(i64::MAX).saturating_add(1);
        let mut seqs = self.store.aside(channel.key, after, stands, rows).await?;
        let has_more = seqs.len() > limit;
        seqs.truncate(limit);
        let through = seqs.last().map_or(after, |(seq, _)| *seq);
        let mut items = Vec::with_capacity(seqs.len());
        for (seq, parked) in seqs {
            // A parked sync has nothing to read.
            let found = self.store.events(channel.resource, seq - 1, seq, 1).await?;
            items.extend(found.into_iter().map(|event| ClaimItem { event, parked }));
        }
        Ok((items, through, has_more))
    }

    /// Settles parked notifications by their ids, as they were pushed and are pulled. What is settled already is
    /// passed over. Returns how many were parked.
    pub async fn settle_claims(&self, capability: &str, ids: &[String]) -> Result<usize, ClaimError> {
        let channel = self.claimed(capability).await?.channel;
        if ids.len() > PAGE_MAX {
            return Err(FieldError::new("ids", Invalid::TooMany { max: PAGE_MAX }).into());
        }
        let seq_of = |(at, text): (usize, &String)| {
            let number = id::number_of_webhook_id(&channel.uid, text);
            let wrong = || {
                FieldError::new(
                    format!("ids[{at}]"),
                    Invalid::Rule("be the id of one of the channel's notifications"),
                )
            };
            number.map(|number| channel.seq_of(number)).ok_or_else(wrong)
        };
        let seqs = ids.iter().enumerate().map(seq_of).collect::<Result<Vec<_>, _>>()?;
        let settled = self.store.settle_parked(channel.key, seqs).await?;
        self.bells.changed(vec![channel.key]).await;
        Ok(settled)
    }

    /// What a channel wants after `from` and has not had, at most `limit`, and how far its log was looked through.
    async fn read_wanted(
        &self,
        channel: &Channel,
        from: i64,
        head: i64,
        limit: usize,
        overtook: &BTreeSet<i64>,
    ) -> Result<(Vec<Arc<Event>>, i64), StoreError> {
        let filter = channel.options.filter(&channel.resource_path);
        let (mut through, mut looked_at) = (from, 0);
        loop {
            let mut events = self.read_log(channel.resource, through, head, limit, PAGE_BYTES_MAX).await?;
            let Some(last) = events.last() else { return Ok((events, through)) };
            through = last.seq;
            looked_at += events.len();
            events.retain(|event| !overtook.contains(&event.seq));
            events.retain(|event| filter.as_ref().is_none_or(|filter| filter.matches(event)));
            if !events.is_empty() || looked_at >= LOOKED_AT_MAX {
                return Ok((events, through));
            }
        }
    }

    /// Acknowledges everything up to message number `through`. Idempotent, and never goes back. Returns the number
    /// that the cursor stands at.
    pub async fn acknowledge_claim(&self, capability: &str, through: i64) -> Result<i64, ClaimError> {
        let channel = self.claimed(capability).await?.channel;
        self.advance(&channel, through, "through", AdvancedBy::Receiver).await
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
        by: AdvancedBy,
    ) -> Result<i64, ClaimError> {
        if number < 1 {
            return Err(FieldError::new(field, Invalid::Rule("be at least 1")).into());
        }
        match self.store.advance_cursor(channel.key, channel.seq_of(number), by, self.now()).await? {
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
        // What a stopped channel has not had is cancelled: its URL is void.
        let holds = found.channel.state != ChannelState::Stopped;
        if self.keys.claim.verify(capability, uid, found.channel.claim_rotation) && holds {
            Ok(found)
        } else {
            Err(ClaimError::NotFound)
        }
    }
}
