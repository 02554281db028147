//! What was sent is sent again: from a message number or a time on (the cursor goes back), or one by one what was
//! parked. And a ping, which asks the receiver whether it is there.

use serde_json::{Value, json};

use super::{App, Principal, authorizer::Action, channels::ChannelError};
use crate::{
    domain::{
        channel::Channel,
        event, id,
        invalid::{FieldError, InField, Invalid},
        notice::{NoticeKind, notice_id},
        time::Timestamp,
    },
    store::{ChannelView, ParkedChoice, ReplayOutcome},
};

/// Where a replay begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplayFrom {
    Number(i64),
    /// The first event published at this time or later.
    Time(Timestamp),
}

/// Which parked notifications get another attempt, by message number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Redriven {
    All,
    Numbers(Vec<i64>),
    Range { from: i64, through: i64 },
}

/// What a ping says.
#[derive(Clone, Debug, Default)]
pub struct Ping {
    pub name: Option<String>,
    pub data: Option<Value>,
}

pub const NUMBERS_MAX: usize = 500;
/// A ping's data, as JSON.
pub const PING_BYTES_MAX: usize = 16 * 1_024;

impl App {
    /// Sets the cursor back: everything from there on is sent again, in order, marked with the replay's id.
    pub async fn replay(
        &self,
        principal: &Principal,
        id_or_uid: &str,
        from: ReplayFrom,
    ) -> Result<(String, ChannelView), ChannelError> {
        let channel = self.channel(principal, id_or_uid).await?.channel;
        self.require_resource(principal, Action::Change, &channel.resource_path).await?;
        let (field, seq) = match from {
            ReplayFrom::Number(number) if number < 1 => {
                return Err(FieldError::new("fromNumber", Invalid::Rule("be at least 1")).into());
            }
            // The sync is no event: what is replayed begins after it.
            ReplayFrom::Number(number) => ("fromNumber", channel.seq_of(number).max(channel.start_seq + 1)),
            ReplayFrom::Time(time) => {
                let first = self.store.first_seq_since(channel.resource, channel.start_seq, time).await?;
                ("fromTime", first.unwrap_or(i64::MAX))
            }
        };
        let replay_id = id::replay_id(self.now(), self.entropy.bytes());
        match self.store.replay_channel(channel.key, seq, replay_id.clone(), self.now()).await? {
            ReplayOutcome::Replayed => Ok((replay_id, self.tell_change(channel.key).await?)),
            ReplayOutcome::Ended => Err(ChannelError::Ended),
            ReplayOutcome::Beyond => Err(FieldError::new(
                field,
                Invalid::Rule("not lie beyond what the channel has had: there is nothing to send again"),
            )
            .into()),
            ReplayOutcome::Lost { earliest_seq } => {
                Err(ChannelError::Lost { earliest_number: channel.number_of(earliest_seq) })
            }
        }
    }

    /// Gives parked notifications another attempt each, beside the log. Returns the replay's id and how many.
    pub async fn redrive(
        &self,
        principal: &Principal,
        id_or_uid: &str,
        which: Redriven,
    ) -> Result<(String, usize), ChannelError> {
        let channel = self.channel(principal, id_or_uid).await?.channel;
        self.require_resource(principal, Action::Change, &channel.resource_path).await?;
        if !channel.state.is_living() {
            return Err(ChannelError::Ended);
        }
        let replay_id = id::replay_id(self.now(), self.entropy.bytes());
        let choice = chosen(&channel, which);
        let redriven = self.store.redrive(channel.key, choice, replay_id.clone(), self.now()).await?;
        if redriven > 0 {
            self.bells.changed(vec![channel.key]).await;
        }
        Ok((replay_id, redriven))
    }

    /// Sends a ping, ahead of a head that waits. Returns the notice's id, under which the ledger has its attempts.
    pub async fn ping(
        &self,
        principal: &Principal,
        id_or_uid: &str,
        ping: Ping,
    ) -> Result<String, ChannelError> {
        let channel = self.channel(principal, id_or_uid).await?.channel;
        self.require_resource(principal, Action::Change, &channel.resource_path).await?;
        if !channel.state.is_living() {
            return Err(ChannelError::Ended);
        }
        if !channel.state.sends() {
            return Err(ChannelError::Paused);
        }
        if let Some(name) = &ping.name {
            event::check_name(name).in_field("name")?;
        }
        if ping.data.as_ref().is_some_and(|data| data.to_string().len() > PING_BYTES_MAX) {
            return Err(
                FieldError::new("data", Invalid::TooLong { max: PING_BYTES_MAX, unit: "bytes" }).into()
            );
        }
        let body = json!({ "name": ping.name, "data": ping.data });
        let made = self.store.create_notice(channel.key, NoticeKind::Ping, body, self.now()).await?;
        let n = made.ok_or(ChannelError::Paused)?;
        self.bells.changed(vec![channel.key]).await;
        Ok(notice_id(&channel.uid, NoticeKind::Ping, n))
    }
}

fn chosen(channel: &Channel, which: Redriven) -> ParkedChoice {
    match which {
        Redriven::All => ParkedChoice::All,
        Redriven::Numbers(numbers) => {
            ParkedChoice::Seqs(numbers.into_iter().map(|number| channel.seq_of(number)).collect())
        }
        Redriven::Range { from, through } => {
            ParkedChoice::Range(channel.seq_of(from), channel.seq_of(through))
        }
    }
}
