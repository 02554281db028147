//! The owner is told: each project's resource `watchpost/channels`, whose events are appended by the transaction that
//! changes a channel. Teams watch it like any other resource; it never reports on its own watchers.

use std::sync::Arc;

use bytes::Bytes;
use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use serde_json::{Value, json};

use super::{
    connection::{Connection, on},
    error::StoreResult,
    events::NewEventRow,
    journal::PlacedEvent,
    resources,
    schema::{channels, events, resources as resource_rows, work},
};
use crate::domain::{
    channel::ChannelKey,
    event::{Event, Payload},
    resource::{OWN_CHANNELS, ResourcePath},
    time::Timestamp,
};

/// What happened to a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    Opened,
    Expiring,
    Renewed,
    Suspended,
    Resumed,
    Gone,
    Expired,
    Parked,
    SecretRotated,
    /// By an admin, with all of its owner's.
    Stopped,
}

impl Told {
    const fn event_name(self) -> &'static str {
        match self {
            Self::Opened => "channel.opened",
            Self::Expiring => "channel.expiring",
            Self::Renewed => "channel.renewed",
            Self::Suspended => "channel.suspended",
            Self::Resumed => "channel.resumed",
            Self::Gone => "channel.gone",
            Self::Expired => "channel.expired",
            Self::Parked => "channel.parked",
            Self::SecretRotated => "channel.secret.rotated",
            Self::Stopped => "channel.stopped",
        }
    }

    const fn state(self) -> &'static str {
        match self {
            Self::Gone | Self::Expired | Self::Stopped => "not_exists",
            _ => "exists",
        }
    }
}

/// What an event tells of its channel: the channel's own columns, and its resource's path and id.
type TellRow = (String, String, String, String, String, i64, String, String);

/// Appends what happened to a channel to its project's own log, in the caller's transaction and as its last lock: whoever
/// holds this one waits for no other. `details` are members beside the channel's own.
pub(super) async fn tell(
    connection: &mut Connection,
    key: ChannelKey,
    told: Told,
    details: Value,
    now: Timestamp,
) -> StoreResult<()> {
    let found: TellRow = on!(connection, c => {
        channels::table
            .inner_join(resource_rows::table)
            .filter(channels::id.eq(key.0))
            .select((
                channels::project,
                channels::subject,
                channels::channel_id,
                channels::uid,
                channels::state,
                channels::expires_at_ms,
                resource_rows::path,
                resource_rows::resource_id,
            ))
            .first(c)
            .await
    })?;
    let (project, subject, id, uid, state, expires_at, watched, resource_id) = found;
    if watched == OWN_CHANNELS {
        return Ok(());
    }
    let mut data = json!({
        "channelId": id,
        "channelUid": uid,
        "subject": subject,
        "resource": watched,
        "resourceId": resource_id,
        "state": state,
        "expiresAt": Timestamp::from_millis(expires_at).to_rfc3339(),
    });
    if let (Some(data), Value::Object(details)) = (data.as_object_mut(), details) {
        data.extend(details);
    }
    let own = resources::lock_or_create(connection, &project, &ResourcePath::own_channels(), now).await?;
    let placed = PlacedEvent {
        resource: own.key,
        event: Arc::new(Event {
            seq: own.seq + 1,
            // Once in its project: the log gives each seq out once.
            id: format!("evt_own_{}_{}", own.key.0, own.seq + 1),
            name: told.event_name().to_owned(),
            state: told.state().to_owned(),
            changed: None,
            payload: Some(Payload {
                content_type: Payload::JSON.to_owned(),
                bytes: Bytes::from(data.to_string()),
            }),
            published_at: now,
        }),
        project,
    };
    append(connection, placed, own.seq).await
}

/// Appends one event to a log whose resource the caller has locked at `head`.
pub(super) async fn append(connection: &mut Connection, placed: PlacedEvent, head: i64) -> StoreResult<()> {
    let (resource, seq) = (placed.resource.0, placed.event.seq);
    on!(connection, c => {
        diesel::insert_into(events::table).values(NewEventRow::from(&placed)).execute(c).await
    })?;
    on!(connection, c => {
        diesel::update(resource_rows::table.find(resource))
            .set(resource_rows::head_seq.eq(seq))
            .execute(c)
            .await
    })?;
    // No work row means that everybody had the log up to the old head.
    on!(connection, c => {
        diesel::insert_into(work::table)
            .values((work::resource.eq(resource), work::head_seq.eq(seq), work::fanned_seq.eq(head)))
            .on_conflict(work::resource)
            .do_update()
            .set(work::head_seq.eq(seq))
            .execute(c)
            .await
    })?;
    connection.appended.push(placed);
    Ok(())
}
