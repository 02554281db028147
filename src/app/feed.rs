//! The change feed: a resource's log, read in order. What a Google client gets by `list` with a sync token.

use std::{sync::Arc, time::Duration};

use super::{AccessError, App, Principal, Scope, authorizer::Action};
use crate::{
    domain::{
        channel::ResourceKey,
        event::Event,
        invalid::{FieldError, InField, Invalid},
        place::{read_sync_token, sync_token},
        resource::ResourcePath,
    },
    store::StoreError,
};

pub const PAGE_MAX: usize = 500;
/// A page ends early once its payloads are this large together.
pub const PAGE_BYTES_MAX: usize = 4 * 1_024 * 1_024;
pub const WAIT_MAX: Duration = Duration::from_secs(25);
/// Events read at a time.
const STEP: usize = 50;
/// How often a waiting reader looks by itself: another node's appends ring no bell here.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Where to begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum From {
    Seq(i64),
    SyncToken(String),
}

#[derive(Clone, Debug)]
pub struct FeedRequest {
    pub resource: String,
    pub from: From,
    pub limit: usize,
    /// How long to wait for a first event.
    pub wait: Duration,
}

#[derive(Clone, Debug)]
pub struct FeedPage {
    pub resource: ResourcePath,
    pub resource_id: String,
    pub events: Vec<Arc<Event>>,
    /// Continues after the last event of this page.
    pub next_sync_token: String,
    /// Whether the log holds more than this page.
    pub has_more: bool,
}

#[derive(Debug, thiserror::Error)]
pub enum FeedError {
    #[error(transparent)]
    Access(#[from] AccessError),
    #[error(transparent)]
    Field(#[from] FieldError),
    /// Retention has made a hole after the place where the reader stood.
    #[error("the log begins at {earliest_seq} now")]
    Hole { earliest_seq: i64 },
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl App {
    pub async fn feed(&self, principal: &Principal, request: FeedRequest) -> Result<FeedPage, FeedError> {
        principal.require(Scope::Channels)?;
        let resource = ResourcePath::parse_for(&request.resource, &principal.subject).in_field("resource")?;
        self.require_resource(principal, Action::Read, &resource).await?;
        let resource_id = resource.resource_id(&principal.project);
        let after = match &request.from {
            From::Seq(seq) if *seq < 0 => {
                return Err(FieldError::new("after", Invalid::Rule("be at least 0")).into());
            }
            From::Seq(seq) => *seq,
            From::SyncToken(token) => {
                let wrong = Invalid::Rule("be a sync token that this resource's feed has given");
                read_sync_token(token, &resource_id).ok_or_else(|| FieldError::new("syncToken", wrong))?
            }
        };
        let limit = request.limit.clamp(1, PAGE_MAX);
        let mut appends = self.bells.appends();
        let deadline = self.clock.monotonic() + request.wait.min(WAIT_MAX);
        let (events, head) = loop {
            let page = self.page(&principal.project, &resource, after, limit).await?;
            let left = deadline.saturating_sub(self.clock.monotonic());
            if !page.0.is_empty() || left.is_zero() {
                break page;
            }
            tokio::select! {
                _ = appends.recv() => {}
                () = self.clock.sleep(left.min(LOOK_EVERY)) => {}
            }
        };
        let last = events.last().map_or(after, |event| event.seq);
        Ok(FeedPage {
            next_sync_token: sync_token(&resource_id, last),
            has_more: last < head,
            resource,
            resource_id,
            events,
        })
    }

    async fn page(
        &self,
        project: &str,
        resource: &ResourcePath,
        after: i64,
        limit: usize,
    ) -> Result<(Vec<Arc<Event>>, i64), FeedError> {
        let Some(head) = self.store.head(project, resource).await? else { return Ok((Vec::new(), after)) };
        if after >= head.seq {
            return Ok((Vec::new(), head.seq));
        }
        let events = self.read_log(head.key, after, head.seq, limit, PAGE_BYTES_MAX).await?;
        if events.first().is_none_or(|event| event.seq != after + 1) {
            let earliest_seq = self.store.earliest_seq(head.key).await?.unwrap_or(head.seq + 1);
            return Err(FeedError::Hole { earliest_seq });
        }
        Ok((events, head.seq))
    }

    /// Events after `after`, in order: at most `limit`, and none more once they hold `bytes_max` together.
    pub(super) async fn read_log(
        &self,
        resource: ResourceKey,
        mut after: i64,
        through: i64,
        limit: usize,
        bytes_max: usize,
    ) -> Result<Vec<Arc<Event>>, StoreError> {
        self.store.heed_erasures().await?;
        let mut events: Vec<Arc<Event>> = Vec::new();
        let mut bytes = 0;
        while events.len() < limit && bytes < bytes_max && after < through {
            let step = self.store.events(resource, after, through, STEP.min(limit - events.len())).await?;
            let (Some(first), Some(last)) = (step.first(), step.last()) else { break };
            // Retention has overtaken this reader: what it has is whole, what follows is the next page's.
            if !events.is_empty() && first.seq != after + 1 {
                break;
            }
            after = last.seq;
            for event in step {
                bytes += event.payload.as_ref().map_or(0, |payload| payload.bytes.len());
                events.push(event);
            }
        }
        Ok(events)
    }
}
