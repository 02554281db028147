//! What a notification tells: the sync, an event of the log, or the newest of a run of like ones. Looked up by each
//! delivery when its turn has come, so that a run is as long as it can be.

use std::sync::Arc;

use super::{Context, machine::Send, render::Subject, target::Target};
use crate::domain::{
    channel::CatchUp,
    event::{Event, newest_of_run},
};

/// Events read at a time to find the newest of a run.
const PAGE: usize = 100;
/// Events that one notification may stand for: a longer run is told by several.
const RUN_EVENTS_MAX: i64 = 10_000;

/// What a look at the log brings.
pub enum Found {
    /// What to tell, and the seq that it stands for.
    Subject(i64, Subject),
    /// Retention was faster.
    Hole {
        through: i64,
    },
    Unreadable,
}

/// What `send` is to tell.
pub async fn subject_of(context: &Context, target: &Target, send: Send) -> Found {
    let channel = &target.channel;
    if send.first == channel.start_seq {
        return Found::Subject(send.first, Subject::Sync);
    }
    let tells_one = !send.pinned && channel.catch_up != CatchUp::Latest;
    let limit = if tells_one { 1 } else { PAGE };
    let Some(mut events) = page_of(context, target, send.first - 1, send.through, limit).await else {
        return Found::Unreadable;
    };
    // INVARIANT: the log is dense but for what retention took from its beginning, so the cursor's next event is the
    // first of the range, or all that lies before the first is gone.
    if events.first().is_none_or(|event| event.seq != send.first) {
        return hole_at(context, target, send.first).await;
    }
    if tells_one {
        let event = events.swap_remove(0);
        let changed = event.changed.clone();
        return Found::Subject(event.seq, Subject::Event { event, changed });
    }
    let last = send.through.min(send.first.saturating_add(RUN_EVENTS_MAX - 1));
    newest_of(context, target, events, last)
        .await
        .map_or(Found::Unreadable, |(seq, subject)| Found::Subject(seq, subject))
}

/// A channel whose sync was pending when its first events expired meets the hole only now. What expired for it is
/// recorded already.
async fn hole_at(context: &Context, target: &Target, seq: i64) -> Found {
    match context.store.hole_after(target.channel.resource, seq - 1).await {
        Ok(Some(through)) => Found::Hole { through },
        Ok(None) => {
            tracing::error!(channel.uid = %target.channel.uid, event.seq = seq, "an event is missing from the log");
            Found::Unreadable
        }
        Err(error) => {
            tracing::warn!(error = %error, "the log's beginning could not be read for a delivery");
            Found::Unreadable
        }
    }
}

/// The newest of the run that begins with `events`, and the seq that it stands for.
async fn newest_of(
    context: &Context,
    target: &Target,
    mut events: Vec<Arc<Event>>,
    last: i64,
) -> Option<(i64, Subject)> {
    loop {
        let (run, changed) = newest_of_run(&events, |event| target.wants(event));
        let event = Arc::clone(events.get(run.checked_sub(1)?)?);
        let goes_on = run == events.len() && event.seq < last;
        if !goes_on {
            return Some((event.seq, Subject::Event { event, changed }));
        }
        // The run may go on past this page: what is known of it stands in front of the next one.
        let next = page_of(context, target, event.seq, last, PAGE).await?;
        if next.is_empty() {
            return Some((event.seq, Subject::Event { event, changed }));
        }
        events = vec![Arc::new(Event { changed, ..Event::clone(&event) })];
        events.extend(next);
    }
}

/// Events of the channel's resource after `after`, at most `limit`. `None`: the log could not be read.
async fn page_of(
    context: &Context,
    target: &Target,
    after: i64,
    through: i64,
    limit: usize,
) -> Option<Vec<Arc<Event>>> {
    let read = context.store.events(target.channel.resource, after, through, limit).await;
    read.inspect_err(|error| tracing::warn!(error = %error, "events could not be read for a delivery")).ok()
}
