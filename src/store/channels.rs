//! Channel rows: opened, read, listed, changed and ended. Each command is one transaction that locks resource,
//! channel and cursor in that order and raises `rev`.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use super::{
    Store,
    connection::{Connection, on},
    cursors::CursorRow,
    error::{StoreError, StoreResult},
    resources,
    schema::{self, channels, cursors, work},
};
use crate::domain::{
    channel::{CatchUp, Channel, ChannelKey, ChannelOptions, ChannelState, Face, Format, ResourceKey},
    cursor::Cursor,
    expiry::GRACE,
    resource::ResourcePath,
    time::Timestamp,
};

/// Channels that one expiry sweep ends per transaction.
pub const EXPIRY_BATCH: i64 = 200;

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
        })
    }
}

/// A channel to be opened.
#[derive(Clone, Debug)]
pub struct NewChannel {
    pub uid: String,
    pub project: String,
    pub id: String,
    pub subject: String,
    pub resource: ResourcePath,
    pub resource_uri: String,
    pub face: Face,
    pub address: String,
    pub token: Option<String>,
    pub format: Format,
    pub payload: bool,
    pub catch_up: CatchUp,
    pub expires_at: Timestamp,
    pub options: ChannelOptions,
    pub sealed_secret: Option<Vec<u8>>,
}

#[derive(Debug)]
pub enum OpenOutcome {
    Opened(Box<Channel>),
    /// The id was used before, perhaps by a channel that ended long ago.
    IdTaken,
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
    /// Only channels opened before this one: lists go from the newest to the oldest.
    pub before: Option<ChannelKey>,
    pub limit: i64,
}

/// New values for a channel. `None` leaves a field alone.
#[derive(Clone, Debug, Default)]
pub struct ChannelChange {
    pub address: Option<String>,
    pub token: Option<Option<String>>,
    pub format: Option<Format>,
    pub payload: Option<bool>,
    pub catch_up: Option<CatchUp>,
    pub expires_at: Option<Timestamp>,
    pub options: Option<ChannelOptions>,
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

// The states are literals: a bound value cannot prove that a partial index holds every row in question.
macro_rules! expiring_query {
    ($now:expr, $limit:expr) => {
        channels::table
            .filter(diesel::dsl::sql::<diesel::sql_types::Bool>(
                "channels.state in ('active', 'paused', 'suspended')",
            ))
            .filter(channels::expires_at_ms.le($now))
            .order(channels::expires_at_ms)
            .limit($limit)
    };
}
pub(super) use expiring_query;

macro_rules! grace_query {
    ($expired_by:expr, $limit:expr) => {
        channels::table
            .filter(diesel::dsl::sql::<diesel::sql_types::Bool>("channels.state = 'expired'"))
            .filter(channels::end_seq.is_null())
            .filter(channels::expires_at_ms.le($expired_by))
            .order(channels::expires_at_ms)
            .limit($limit)
    };
}
pub(super) use grace_query;

pub(super) fn view((channel, cursor, path, resource_id, head, fanned): ViewRow) -> StoreResult<ChannelView> {
    let channel = channel.into_channel(path, resource_id)?;
    let mut cursor = Cursor::from(cursor);
    // No work row means that every level channel has had the whole log.
    let fanned = fanned.unwrap_or(head);
    let head = channel.end_seq.unwrap_or(head).min(head);
    if !cursor.behind {
        cursor.seq = cursor.seq.max(fanned).min(head);
    }
    Ok(ChannelView { channel, cursor, head, fanned })
}

impl Store {
    /// Opens a channel: its sync is the notification at the resource's present head.
    pub async fn open_channel(&self, new: NewChannel, now: Timestamp) -> StoreResult<OpenOutcome> {
        let new = std::sync::Arc::new(new);
        let opened = {
            let new = std::sync::Arc::clone(&new);
            self.write(move |connection| {
                let new = std::sync::Arc::clone(&new);
                Box::pin(async move { insert(connection, &new, now).await })
            })
            .await?
        };
        if !opened {
            return Ok(OpenOutcome::IdTaken);
        }
        let owner = Owner { project: new.project.clone(), subject: None };
        let opened = self.channel(owner, new.id.clone()).await?.ok_or(StoreError::Unreadable("channel"))?;
        Ok(OpenOutcome::Opened(Box::new(opened.channel)))
    }

    /// A channel by its id or its uid.
    pub async fn channel(&self, owner: Owner, id_or_uid: String) -> StoreResult<Option<ChannelView>> {
        self.read(move |connection| Box::pin(async move { find(connection, &owner, &id_or_uid).await })).await
    }

    /// Channels from the newest to the oldest.
    pub async fn channels(&self, owner: Owner, filter: ChannelFilter) -> StoreResult<Vec<ChannelView>> {
        self.read(move |connection| {
            Box::pin(async move {
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
                    query.load(c).await
                })?;
                rows.into_iter().map(view).collect()
            })
        })
        .await
    }

    /// Changes a channel that has not ended. A new expiration revives one that expired within its grace.
    pub async fn change_channel(
        &self,
        key: ChannelKey,
        change: ChannelChange,
        now: Timestamp,
    ) -> StoreResult<bool> {
        let change = std::sync::Arc::new(change);
        self.write(move |connection| {
            let change = std::sync::Arc::clone(&change);
            Box::pin(async move { apply(connection, key, &change, now).await })
        })
        .await
    }

    /// Ends a channel in `state`. False when it had ended before.
    pub async fn end_channel(
        &self,
        key: ChannelKey,
        state: ChannelState,
        now: Timestamp,
    ) -> StoreResult<bool> {
        self.write(move |connection| Box::pin(async move { end(connection, key, state, now).await })).await
    }

    /// Ends up to one batch of the channels whose time is over, and tells which.
    pub async fn expire_channels(&self, now: Timestamp) -> StoreResult<Vec<ChannelKey>> {
        self.write(move |connection| Box::pin(async move { expire(connection, now).await })).await
    }

    /// Fixes the end of up to one batch of the channels that expired at or before `expired_by`. Tells how many.
    pub async fn close_expired_channels(&self, expired_by: Timestamp) -> StoreResult<usize> {
        self.write(move |connection| Box::pin(async move { close_expired(connection, expired_by).await }))
            .await
    }
}

async fn insert(connection: &mut Connection, new: &NewChannel, now: Timestamp) -> StoreResult<bool> {
    let head = resources::lock_or_create(connection, &new.project, &new.resource, now).await?;
    let options = serde_json::to_string(&new.options).map_err(|_| StoreError::Unreadable("options"))?;
    let id: Option<i64> = on!(connection, c => {
        diesel::insert_into(channels::table)
            .values((
                channels::uid.eq(&new.uid),
                channels::project.eq(&new.project),
                channels::channel_id.eq(&new.id),
                channels::subject.eq(&new.subject),
                channels::resource.eq(head.key.0),
                channels::resource_uri.eq(&new.resource_uri),
                channels::face.eq(new.face.as_str()),
                channels::address.eq(&new.address),
                channels::token.eq(&new.token),
                channels::format.eq(new.format.as_str()),
                channels::payload.eq(new.payload),
                channels::catch_up.eq(new.catch_up.as_str()),
                channels::state.eq(ChannelState::Active.as_str()),
                channels::start_seq.eq(head.seq),
                channels::rev.eq(1_i64),
                channels::expires_at_ms.eq(new.expires_at.as_millis()),
                channels::created_at_ms.eq(now.as_millis()),
                channels::options.eq(&options),
                channels::sealed_secret.eq(&new.sealed_secret),
            ))
            .on_conflict((channels::project, channels::channel_id))
            .do_nothing()
            .returning(channels::id)
            .get_result(c)
            .await
            .optional()
    })?;
    let Some(id) = id else { return Ok(false) };
    // A new channel starts behind: it has its sync to send.
    let cursor = Cursor {
        channel: ChannelKey(id),
        resource: head.key,
        seq: head.seq - 1,
        moved: 0,
        behind: true,
        failing: crate::domain::cursor::Failing { due_at: Some(now), ..Default::default() },
        last_success_at: None,
    };
    on!(connection, c => {
        diesel::insert_into(cursors::table).values(CursorRow::from(&cursor)).execute(c).await
    })?;
    Ok(true)
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

/// Locks the channel's row (against changes, not against references: a checkpoint's attempts refer to it while
/// this command may wait for the checkpoint's cursors) and reads what decides about a change: its resource, state, end and expiration.
async fn lock(connection: &mut Connection, key: ChannelKey) -> StoreResult<Option<Locked>> {
    let row = channels::table.find(key.0).select((
        channels::resource,
        channels::state,
        channels::end_seq,
        channels::expires_at_ms,
    ));
    let found: Option<(i64, String, Option<i64>, i64)> = match connection {
        Connection::Sqlite(c) => row.first(&mut **c).await.optional(),
        Connection::Postgres(c) => row.for_no_key_update().first(&mut **c).await.optional(),
    }?;
    let Some((resource, state, end_seq, expires_at)) = found else { return Ok(None) };
    let state = ChannelState::parse(&state).ok_or(StoreError::Unreadable("state"))?;
    Ok(Some(Locked {
        resource: ResourceKey(resource),
        state,
        end_seq,
        expires_at: Timestamp::from_millis(expires_at),
    }))
}

struct Locked {
    resource: ResourceKey,
    state: ChannelState,
    end_seq: Option<i64>,
    expires_at: Timestamp,
}

impl Locked {
    /// Whether the channel's state says that it lives.
    fn lives(&self) -> bool {
        matches!(self.state, ChannelState::Active | ChannelState::Paused | ChannelState::Suspended)
    }

    /// Whether the channel lives, or can be revived by a new expiration. Time alone ends the grace, whether or
    /// not the job has got round to it.
    fn is_changeable(&self, renews: bool, now: Timestamp) -> bool {
        let can_be_revived = renews && self.state == ChannelState::Expired && self.end_seq.is_none();
        (self.lives() || can_be_revived) && now < self.expires_at.plus(GRACE)
    }
}

#[derive(AsChangeset)]
#[diesel(table_name = channels)]
struct ChangedColumns<'a> {
    address: Option<&'a str>,
    token: Option<Option<&'a str>>,
    format: Option<&'a str>,
    payload: Option<bool>,
    catch_up: Option<&'a str>,
    expires_at_ms: Option<i64>,
    options: Option<String>,
    state: Option<&'a str>,
    ended_at_ms: Option<Option<i64>>,
}

async fn apply(
    connection: &mut Connection,
    key: ChannelKey,
    change: &ChannelChange,
    now: Timestamp,
) -> StoreResult<bool> {
    let Some(locked) = lock(connection, key).await? else { return Ok(false) };
    if !locked.is_changeable(change.expires_at.is_some(), now) {
        return Ok(false);
    }
    // The job may not have noticed yet that the channel is over: then this is its revival all the same.
    let revived = locked.state == ChannelState::Expired
        || (change.expires_at.is_some() && locked.state == ChannelState::Active && locked.expires_at <= now);
    let options = match &change.options {
        Some(options) => Some(serde_json::to_string(options).map_err(|_| StoreError::Unreadable("options"))?),
        None => None,
    };
    let columns = ChangedColumns {
        address: change.address.as_deref(),
        token: change.token.as_ref().map(Option::as_deref),
        format: change.format.map(Format::as_str),
        payload: change.payload,
        catch_up: change.catch_up.map(CatchUp::as_str),
        expires_at_ms: change.expires_at.map(Timestamp::as_millis),
        options,
        state: revived.then_some(ChannelState::Active.as_str()),
        ended_at_ms: revived.then_some(None),
    };
    on!(connection, c => {
        diesel::update(channels::table.find(key.0))
            .set((channels::rev.eq(channels::rev + 1), columns))
            .execute(c)
            .await
    })?;
    if locked.state == ChannelState::Expired {
        on!(connection, c => {
            diesel::update(cursors::table.find(key.0))
                .set((cursors::due_at_ms.eq(Some(now.as_millis())), cursors::moved.eq(cursors::moved + 1)))
                .execute(c)
                .await
        })?;
    }
    announce(connection, key).await?;
    Ok(true)
}

async fn end(
    connection: &mut Connection,
    key: ChannelKey,
    state: ChannelState,
    now: Timestamp,
) -> StoreResult<bool> {
    let resource: Option<i64> = on!(connection, c => {
        channels::table.find(key.0).select(channels::resource).first(c).await.optional()
    })?;
    let Some(resource) = resource else { return Ok(false) };
    let head = resources::lock(connection, ResourceKey(resource)).await?;
    let Some(locked) = lock(connection, key).await? else { return Ok(false) };
    if !locked.is_changeable(true, now) {
        return Ok(false);
    }
    on!(connection, c => {
        diesel::update(channels::table.find(key.0))
            .set((
                channels::state.eq(state.as_str()),
                channels::end_seq.eq(Some(head.seq)),
                channels::ended_at_ms.eq(Some(now.as_millis())),
                channels::rev.eq(channels::rev + 1),
            ))
            .execute(c)
            .await
    })?;
    freeze(connection, key, locked.resource).await?;
    announce(connection, key).await?;
    Ok(true)
}

async fn expire(connection: &mut Connection, now: Timestamp) -> StoreResult<Vec<ChannelKey>> {
    let due: Vec<(i64, i64)> = on!(connection, c => {
        expiring_query!(now.as_millis(), EXPIRY_BATCH)
            .select((channels::id, channels::resource))
            .load(c)
            .await
    })?;
    let mut due: Vec<_> =
        due.into_iter().map(|(channel, resource)| (ChannelKey(channel), ResourceKey(resource))).collect();
    due.sort_unstable();
    let mut expired = Vec::with_capacity(due.len());
    for (key, resource) in due {
        // Locked and looked at again: another node may have renewed it a moment ago.
        let Some(locked) = lock(connection, key).await? else { continue };
        if !locked.lives() || locked.expires_at > now {
            continue;
        }
        on!(connection, c => {
            diesel::update(channels::table.find(key.0))
                .set((
                    channels::state.eq(ChannelState::Expired.as_str()),
                    channels::ended_at_ms.eq(Some(locked.expires_at.as_millis())),
                    channels::rev.eq(channels::rev + 1),
                ))
                .execute(c)
                .await
        })?;
        freeze(connection, key, resource).await?;
        announce(connection, key).await?;
        expired.push(key);
    }
    Ok(expired)
}

async fn close_expired(connection: &mut Connection, expired_by: Timestamp) -> StoreResult<usize> {
    let due: Vec<(i64, i64)> = on!(connection, c => {
        grace_query!(expired_by.as_millis(), EXPIRY_BATCH)
            .select((channels::resource, channels::id))
            .load(c)
            .await
    })?;
    let mut due = due;
    due.sort_unstable();
    let mut closed = 0;
    for (resource, channel) in due {
        let head = resources::lock(connection, ResourceKey(resource)).await?;
        closed += on!(connection, c => {
            diesel::update(
                channels::table
                    .find(channel)
                    .filter(channels::state.eq(ChannelState::Expired.as_str()))
                    .filter(channels::expires_at_ms.le(expired_by.as_millis())),
            )
            .set((channels::end_seq.eq(Some(head.seq)), channels::rev.eq(channels::rev + 1)))
            .execute(c)
            .await
        })?;
    }
    Ok(closed)
}

/// Makes the cursor stand where it is: behind, with nothing to wake it, before `fanned` can carry it further.
/// `moved` rises, so that no checkpoint made before makes it level again.
async fn freeze(connection: &mut Connection, key: ChannelKey, resource: ResourceKey) -> StoreResult<()> {
    // One statement: between two a publish could raise the head, and its event would count as had.
    let (head, fanned): (i64, Option<i64>) = on!(connection, c => {
        schema::resources::table
            .left_join(work::table)
            .filter(schema::resources::id.eq(resource.0))
            .select((schema::resources::head_seq, work::fanned_seq.nullable()))
            .first(c)
            .await
    })?;
    let fanned = fanned.unwrap_or(head);
    on!(connection, c => {
        diesel::update(cursors::table.find(key.0).filter(cursors::behind.eq(false)).filter(cursors::seq.lt(fanned)))
            .set(cursors::seq.eq(fanned))
            .execute(c)
            .await
    })?;
    on!(connection, c => {
        diesel::update(cursors::table.find(key.0))
            .set((
                cursors::behind.eq(true),
                cursors::due_at_ms.eq(None::<i64>),
                cursors::moved.eq(cursors::moved + 1),
            ))
            .execute(c)
            .await
    })?;
    Ok(())
}

/// Leaves word for the delivering node, which may be another one. SQLite has one node, whose bell is enough.
async fn announce(connection: &mut Connection, key: ChannelKey) -> StoreResult<()> {
    if let Connection::Postgres(c) = connection {
        diesel::insert_into(schema::changed_channels::table)
            .values(schema::changed_channels::channel.eq(key.0))
            // A word that lies there may be taken before this change commits: updating it makes the taker wait.
            .on_conflict(schema::changed_channels::channel)
            .do_update()
            .set(schema::changed_channels::channel.eq(key.0))
            .execute(&mut **c)
            .await?;
    }
    Ok(())
}
