//! A channel is opened: its row and its cursor, in the transaction that reads the head it starts from.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use serde_json::json;

use super::Owner;
use crate::{
    domain::{
        channel::{CatchUp, Channel, ChannelKey, ChannelOptions, ChannelState, Face, Format},
        cursor::{Cursor, Failing},
        renewal::Life,
        resource::ResourcePath,
        settled::SettledMap,
        time::Timestamp,
    },
    store::{
        Store,
        connection::{Connection, on},
        cursors::CursorRow,
        error::{StoreError, StoreResult},
        own::{self, Told},
        resources,
        schema::{channels, cursors},
    },
};

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
}

async fn insert(connection: &mut Connection, new: &NewChannel, now: Timestamp) -> StoreResult<bool> {
    // Looked at first, so that a refused opening leaves no resource behind; the constraint decides a race.
    let taken: i64 = on!(connection, c => {
        channels::table
            .filter(channels::project.eq(&new.project))
            .filter(channels::channel_id.eq(&new.id))
            .count()
            .get_result(c)
            .await
    })?;
    if taken > 0 {
        return Ok(false);
    }
    let head = resources::lock_or_create(connection, &new.project, &new.resource, now).await?;
    let life = Life { granted_at: now, expires_at: new.expires_at, renewal: new.options.renewal };
    let options = serde_json::to_string(&new.options).map_err(|_| StoreError::Unwritable("options"))?;
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
                channels::granted_at_ms.eq(now.as_millis()),
                channels::look_at_ms.eq(life.look_from(now).map(Timestamp::as_millis)),
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
        failing: Failing { due_at: Some(now), ..Default::default() },
        last_success_at: None,
        settled: SettledMap::default(),
    };
    on!(connection, c => {
        diesel::insert_into(cursors::table).values(CursorRow::from(&cursor)).execute(c).await
    })?;
    own::tell(connection, ChannelKey(id), Told::Opened, json!({}), now).await?;
    Ok(true)
}
