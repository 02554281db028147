//! Where an event went: to which resources' logs, and what became of it for each channel. The verdict is
//! `domain::fate`'s; here its evidence is gathered, for those who may see it.

use super::{AccessError, App, Principal, Scope};
use crate::{
    domain::{
        channel::ChannelKey,
        event::{self, Event},
        fate::{Exception, Fate, Standing, Traces, fate_of},
        filter::{EventFilter, Selection},
        resource::ResourcePath,
    },
    store::{ChannelView, EventEntry, ExceptionTrace, Owner, StoreError, Trace},
};

/// Channels on one page.
pub const PAGE_MAX: i64 = 200;
/// Places of one event: a publish may name this many resources.
pub const ENTRIES_MAX: i64 = 8;

/// Where a page goes on: after this channel of the event's place of this rank.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FatePlace {
    pub entry: usize,
    pub channel: ChannelKey,
}

#[derive(Clone, Debug)]
pub struct EventFates {
    /// Where it stands, in the order of the resources' keys; one at least.
    pub entries: Vec<EventEntry>,
    pub channels: Vec<ChannelFate>,
    pub next: Option<FatePlace>,
}

/// What became of the event for one channel.
#[derive(Clone, Debug)]
pub struct ChannelFate {
    pub view: ChannelView,
    pub resource: ResourcePath,
    pub seq: i64,
    pub fate: Fate,
    pub attempts: Option<i64>,
    /// The evidence, where it was set aside or waits by itself.
    pub exception: Option<ExceptionTrace>,
}

#[derive(Debug, thiserror::Error)]
pub enum EventError {
    #[error(transparent)]
    Access(#[from] AccessError),
    #[error("there is no such event")]
    NotFound,
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl App {
    /// An event and a page of what became of it. Publishers see all channels; others see the event where they may watch
    /// its resource, and their own channels.
    pub async fn event_fates(
        &self,
        principal: &Principal,
        id: &str,
        after: Option<FatePlace>,
        limit: i64,
    ) -> Result<EventFates, EventError> {
        let publishes = principal.require(Scope::Events).is_ok();
        if !publishes {
            principal.require(Scope::Channels)?;
        }
        // What no event can be called is not looked up: not every store takes every text.
        event::check_id(id).map_err(|_| EventError::NotFound)?;
        let mut entries =
            self.store.event_entries(principal.project.clone(), id.to_owned(), ENTRIES_MAX).await?;
        // That an event is somewhere else as well is none of a watcher's business.
        entries.retain(|entry| publishes || principal.may_watch(&entry.resource));
        if entries.is_empty() {
            return Err(EventError::NotFound);
        }
        let owner = if publishes {
            Owner { project: principal.project.clone(), subject: None }
        } else {
            principal.owner()
        };
        let (channels, next) = self.fates(&owner, &entries, after, limit.clamp(1, PAGE_MAX)).await?;
        Ok(EventFates { entries, channels, next })
    }

    async fn fates(
        &self,
        owner: &Owner,
        entries: &[EventEntry],
        after: Option<FatePlace>,
        limit: i64,
    ) -> Result<(Vec<ChannelFate>, Option<FatePlace>), StoreError> {
        let (begin, mut after) = after.map_or((0, ChannelKey(0)), |place| (place.entry, place.channel));
        let mut channels = Vec::new();
        let mut left = limit;
        for (rank, entry) in entries.iter().enumerate().skip(begin) {
            let seq = entry.event.seq;
            let traces = self.store.traces(owner.clone(), entry.key, seq, after, left).await?;
            let read = i64::try_from(traces.len()).unwrap_or(left);
            let last = traces.last().map(|trace| (trace.view.channel.key, trace.view.channel.start_seq));
            channels.extend(traces.into_iter().filter_map(|trace| judge(entry, trace)));
            left -= read;
            // Channels are opened under their resource's lock, so later ones begin later: once one has begun after the
            // event, so have all that follow.
            let all_later = last.is_some_and(|(_, start_seq)| start_seq >= seq);
            if let Some((channel, _)) = last.filter(|_| left <= 0 && !all_later) {
                return Ok((channels, Some(FatePlace { entry: rank, channel })));
            }
            after = ChannelKey(0);
            if left <= 0 && rank + 1 < entries.len() {
                return Ok((channels, Some(FatePlace { entry: rank + 1, channel: after })));
            }
        }
        Ok((channels, None))
    }
}

fn judge(entry: &EventEntry, trace: Trace) -> Option<ChannelFate> {
    let Trace { view, exception, range, past_filter, attempts } = trace;
    let (channel, cursor) = (&view.channel, &view.cursor);
    let standing = Standing {
        state: channel.state,
        start_seq: channel.start_seq,
        end_seq: channel.end_seq,
        cursor: cursor.seq,
        overtook: cursor.settled.contains(entry.event.seq),
        attempts: i64::from(cursor.failing.attempts),
        pinned: cursor.failing.pinned,
    };
    let wants = |selection| is_wanted(selection, &channel.resource_path, &entry.event);
    let wanted_now = wants(Selection::from(&channel.options));
    let traces = Traces {
        exception: exception
            .as_ref()
            .map(|exception| Exception { parked: exception.parked, attempts: exception.attempts }),
        range,
        wanted_now,
        wanted_then: past_filter.map_or(wanted_now, wants),
        attempts,
    };
    let (fate, attempts) = fate_of(entry.event.seq, &standing, &traces)?;
    Some(ChannelFate {
        resource: entry.resource.clone(),
        seq: entry.event.seq,
        fate,
        attempts,
        exception,
        view,
    })
}

/// Whether somebody who watches `path` with this selection asks for the event.
fn is_wanted(selection: Selection, path: &ResourcePath, event: &Event) -> bool {
    EventFilter::new(selection, path).is_none_or(|filter| filter.matches(event))
}
