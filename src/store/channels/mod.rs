//! Channel rows, read: by id, by page, with their place in the log. What writes them stands beside: `open`,
//! `change` and `expiry`, each command one transaction that locks resource, channel and cursor in that order and
//! raises `rev`.

mod change;
mod expiry;
mod locked;
mod moves;
mod open;
mod refilter;
mod replay;
mod secrets;
mod stop_all;

use diesel::{
    prelude::*,
    sql_types::{Bool, Text},
};
use diesel_async::RunQueryDsl;

pub use self::{
    change::{ChangeOutcome, ChannelChange},
    moves::{AdvanceOutcome, AdvancedBy, ResumeOutcome, ResumedBy},
    open::{NewChannel, OpenOutcome},
    refilter::PastFilter,
    replay::ReplayOutcome,
    secrets::{RotateOutcome, SecretRotation},
};
pub(super) use self::{
    change::{announce, freeze, head_and_fanned, revise, stand_where_fanned_is, tell_renewed},
    expiry::{expiring_query, grace_query},
    locked::{Locked, lock},
    secrets::{read as read_retiring, write as write_retiring},
};
use super::{
    Store,
    connection::{Connection, on},
    cursors::CursorRow,
    dialect,
    error::{StoreError, StoreResult},
    schema::{self, channels, cursors, work},
};
use crate::domain::{
    channel::{CatchUp, Channel, ChannelKey, ChannelState, Face, Format, Replay, ResourceKey},
    cursor::Cursor,
    resource::ResourcePath,
    time::Timestamp,
};

#[derive(Debug, Queryable, Selectable)]
#[diesel(table_name = channels)]
pub(super) struct ChannelRow {
    id: i64,
    uid: String,
    project: String,
    channel_id: String,
    subject: String,
    resource: i64,
    resource_uri: String,
    face: String,
    address: String,
    token: Option<String>,
    format: String,
    payload: bool,
    catch_up: String,
    state: String,
    start_seq: i64,
    end_seq: Option<i64>,
    rev: i64,
    expires_at_ms: i64,
    created_at_ms: i64,
    ended_at_ms: Option<i64>,
    options: String,
    sealed_secret: Option<Vec<u8>>,
    claim_rotation: i64,
    granted_at_ms: i64,
    replay_id: Option<String>,
    replay_through: Option<i64>,
    replays: i64,
    retiring_secrets: Option<String>,
}

impl ChannelRow {
    pub(super) fn into_channel(self, path: String, resource_id: String) -> StoreResult<Channel> {
        let unreadable = StoreError::Unreadable;
        Ok(Channel {
            key: ChannelKey(self.id),
            uid: self.uid,
            project: self.project,
            id: self.channel_id,
            subject: self.subject,
            resource: ResourceKey(self.resource),
            resource_path: ResourcePath::from_stored(path),
            resource_id,
            resource_uri: self.resource_uri,
            face: Face::parse(&self.face).ok_or(unreadable("face"))?,
            address: self.address,
            token: self.token,
            format: Format::parse(&self.format).ok_or(unreadable("format"))?,
            payload: self.payload,
            catch_up: CatchUp::parse(&self.catch_up).ok_or(unreadable("catch_up"))?,
            state: ChannelState::parse(&self.state).ok_or(unreadable("state"))?,
            start_seq: self.start_seq,
            end_seq: self.end_seq,
            rev: self.rev,
            expires_at: Timestamp::from_millis(self.expires_at_ms),
            created_at: Timestamp::from_millis(self.created_at_ms),
            ended_at: self.ended_at_ms.map(Timestamp::from_millis),
            options: serde_json::from_str(&self.options).map_err(|_| unreadable("options"))?,
            sealed_secret: self.sealed_secret,
            retiring_secrets: read_retiring(self.retiring_secrets.as_deref())?,
            claim_rotation: self.claim_rotation,
            granted_at: Timestamp::from_millis(self.granted_at_ms),
            replay: self.replay_id.zip(self.replay_through).map(|(id, through)| Replay { id, through }),
            replays: self.replays,
        })
    }
}

/// Whose channels a caller may see: all of a project's, or one subject's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    pub project: String,
    pub subject: Option<String>,
}

/// A channel with its place in the log.
#[derive(Clone, Debug)]
pub struct ChannelView {
    pub channel: Channel,
    /// `seq` is the effective one: a level cursor counts as `max(seq, fanned)`, and never past the end.
    pub cursor: Cursor,
    /// The newest seq that is meant for the channel.
    pub head: i64,
    /// What every level channel of the resource has had.
    pub fanned: i64,
}

/// What a list shows.
#[derive(Clone, Debug, Default)]
pub struct ChannelFilter {
    pub resource: Option<ResourcePath>,
    pub state: Option<ChannelState>,
    pub subject: Option<String>,
    /// Labels that the channel must have, each with this value.
    pub metadata: Vec<(String, String)>,
    /// Only channels opened before this one: lists go from the newest to the oldest.
    pub before: Option<ChannelKey>,
    pub limit: i64,
}

/// The columns every channel query reads, with its resource and its place in the log.
type ViewRow = (ChannelRow, CursorRow, String, String, i64, Option<i64>);

macro_rules! views {
    () => {
        channels::table
            .inner_join(schema::resources::table.left_join(work::table))
            .inner_join(cursors::table.on(cursors::channel.eq(channels::id)))
            .select((
                ChannelRow::as_select(),
                CursorRow::as_select(),
                schema::resources::path,
                schema::resources::resource_id,
                schema::resources::head_seq,
                work::fanned_seq.nullable(),
            ))
    };
}
pub(super) use views;

pub(super) fn view((channel, cursor, path, resource_id, head, fanned): ViewRow) -> StoreResult<ChannelView> {
    let channel = channel.into_channel(path, resource_id)?;
    let mut cursor = Cursor::from(cursor);
    // No work row means that every level channel has had the whole log.
    let fanned = fanned.unwrap_or(head);
    let head = channel.end_seq.unwrap_or(head).min(head);
    if !cursor.behind {
        cursor.seq = cursor.seq.max(fanned).min(head);
        cursor.settled = cursor.settled.moved_to(cursor.seq);
    }
    Ok(ChannelView { channel, cursor, head, fanned })
}

impl Store {
    /// A channel by its id or its uid.
    pub async fn channel(&self, owner: Owner, id_or_uid: String) -> StoreResult<Option<ChannelView>> {
        self.read(move |connection| Box::pin(async move { find(connection, &owner, &id_or_uid).await })).await
    }

    /// A channel by its key.
    pub async fn channel_by_key(&self, key: ChannelKey) -> StoreResult<Option<ChannelView>> {
        self.read(move |connection| Box::pin(by_key(connection, key))).await
    }

    /// A channel by its `uid`, of whatever project.
    pub async fn channel_by_uid(&self, uid: String) -> StoreResult<Option<ChannelView>> {
        self.read(move |connection| {
            Box::pin(async move {
                let row: Option<ViewRow> =
                    on!(connection, c => views!().filter(channels::uid.eq(uid)).first(c).await.optional())?;
                row.map(view).transpose()
            })
        })
        .await
    }

    /// Channels from the newest to the oldest.
    pub async fn channels(&self, owner: Owner, filter: ChannelFilter) -> StoreResult<Vec<ChannelView>> {
        self.read(move |connection| {
            Box::pin(async move {
                let [before_key, before_value, end] = dialect::has_metadata(connection.is_postgres());
                let rows: Vec<ViewRow> = on!(connection, c => {
                    let mut query = views!()
                        .filter(channels::project.eq(owner.project))
                        .filter(channels::id.lt(filter.before.map_or(i64::MAX, |before| before.0)))
                        .order(channels::id.desc())
                        .limit(filter.limit)
                        .into_boxed();
                    if let Some(subject) = owner.subject {
                        query = query.filter(channels::subject.eq(subject));
                    }
                    if let Some(subject) = filter.subject {
                        query = query.filter(channels::subject.eq(subject));
                    }
                    if let Some(path) = filter.resource {
                        query = query.filter(schema::resources::path.eq(path.as_str().to_owned()));
                    }
                    if let Some(state) = filter.state {
                        query = query.filter(channels::state.eq(state.as_str()));
                    }
                    for (key, value) in filter.metadata {
                        query = query.filter(
                            diesel::dsl::sql::<Bool>(before_key)
                                .bind::<Text, _>(key)
                                .sql(before_value)
                                .bind::<Text, _>(value)
                                .sql(end),
                        );
                    }
                    query.load(c).await
                })?;
                rows.into_iter().map(view).collect()
            })
        })
        .await
    }
}

async fn by_key(connection: &mut Connection, key: ChannelKey) -> StoreResult<Option<ChannelView>> {
    let row: Option<ViewRow> =
        on!(connection, c => views!().filter(channels::id.eq(key.0)).first(c).await.optional())?;
    row.map(view).transpose()
}

async fn find(
    connection: &mut Connection,
    owner: &Owner,
    id_or_uid: &str,
) -> StoreResult<Option<ChannelView>> {
    let row: Option<ViewRow> = on!(connection, c => {
        let mut query = views!()
            .filter(channels::project.eq(&owner.project))
            .filter(channels::channel_id.eq(id_or_uid).or(channels::uid.eq(id_or_uid)))
            // Somebody may have chosen another channel's uid as an id: the id wins.
            .order(channels::channel_id.ne(id_or_uid))
            .into_boxed();
        if let Some(subject) = &owner.subject {
            query = query.filter(channels::subject.eq(subject));
        }
        query.first(c).await.optional()
    })?;
    row.map(view).transpose()
}
