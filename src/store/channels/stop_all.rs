//! Everything of one subject is stopped: a channel at a time, each in a transaction of its own, as by its owner.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use serde_json::json;

use super::{
    super::{
        Store,
        connection::on,
        error::StoreResult,
        own::{self, Told},
        schema::channels,
    },
    change::end,
};
use crate::domain::{
    channel::{ChannelKey, ChannelState},
    expiry::GRACE,
    time::Timestamp,
};

impl Store {
    /// Channels of a subject that send, or could be made to: the oldest first.
    pub async fn stoppable_channels(
        &self,
        project: &str,
        subject: &str,
        now: Timestamp,
        limit: i64,
    ) -> StoreResult<Vec<ChannelKey>> {
        let (project, subject) = (project.to_owned(), subject.to_owned());
        self.read(move |connection| {
            Box::pin(async move {
                // Whatever can be revived counts as well; what is past its grace has ended, swept or not.
                let states = [
                    ChannelState::Active,
                    ChannelState::Paused,
                    ChannelState::Suspended,
                    ChannelState::Expired,
                ];
                let states = states.map(ChannelState::as_str);
                let keys: Vec<i64> = on!(connection, c => {
                    channels::table
                        .filter(channels::project.eq(&project).and(channels::subject.eq(&subject)))
                        .filter(channels::state.eq_any(states).and(channels::end_seq.is_null()))
                        .filter(channels::expires_at_ms.gt(now.minus(GRACE).as_millis()))
                        .order(channels::id)
                        .limit(limit)
                        .select(channels::id)
                        .load(c)
                        .await
                })?;
                Ok(keys.into_iter().map(ChannelKey).collect())
            })
        })
        .await
    }

    /// Stops a channel whose owner did not ask for it, and tells the project so. Whether it was one that could be.
    pub async fn stop_for_owner(&self, key: ChannelKey, now: Timestamp) -> StoreResult<bool> {
        self.write(move |connection| {
            Box::pin(async move {
                let stopped = end(connection, key, ChannelState::Stopped, now).await?;
                if stopped {
                    own::tell(connection, key, Told::Stopped, json!({}), now).await?;
                }
                Ok(stopped)
            })
        })
        .await
    }
}
