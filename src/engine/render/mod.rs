//! How notifications look on the wire. One file per format; what all of them share stands here.

mod google;
mod raw;
mod signed;
mod standard;

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, header::CONTENT_TYPE};
use serde_json::Value;

pub use self::signed::Signer;
use super::target::Target;
use crate::{
    domain::{
        channel::Format,
        event::{Event, Payload},
        id,
        notice::{NoticeKind, notice_id},
        time::Timestamp,
    },
    signing::JwtError,
    store::Notice,
};

/// One notification, about to be sent.
#[derive(Debug)]
pub struct Notification<'n> {
    pub target: &'n Target,
    /// The message number: 1 is the sync.
    pub number: i64,
    /// The number of the last notification that was delivered or parked, where it is known; 0 before the sync.
    pub previous: Option<i64>,
    pub seq: i64,
    pub subject: Subject,
    pub attempt: u32,
    /// The replay that it belongs to.
    pub replay: Option<String>,
    pub now: Timestamp,
}

impl Notification<'_> {
    /// Which notice it is, if it is one.
    pub fn notice(&self) -> Option<NoticeKind> {
        match &self.subject {
            Subject::Notice(told) => Some(told.kind),
            Subject::Sync | Subject::Event { .. } => None,
        }
    }
}

/// What it tells.
#[derive(Clone, Debug)]
pub enum Subject {
    Sync,
    /// An event, with what changed in it and in the run that it stands for.
    Event {
        event: Arc<Event>,
        changed: Option<String>,
    },
    /// The channel is told of itself.
    Notice(Told),
}

/// A notice, as its formats show it.
#[derive(Clone, Debug)]
pub struct Told {
    pub kind: NoticeKind,
    pub n: i64,
    /// The type in a body, and what `Watchpost-Event` says: `watchpost.channel.<kind>`, or a ping's own name.
    pub event_type: String,
    /// What it says, as JSON: a ping's own data, or members beside the channel's.
    pub data: Value,
    /// Where the receiver finds what it has not had. Not on a ping, which may be answered by anybody.
    pub claim_url: Option<String>,
}

impl Told {
    pub fn new(notice: &Notice, claim_url: String) -> Self {
        let mut body: Value = serde_json::from_str(&notice.body).unwrap_or_default();
        let own_name = body.get("name").and_then(Value::as_str).map(str::to_owned);
        let is_ping = notice.kind == NoticeKind::Ping;
        let data = if is_ping { body.get_mut("data").map(Value::take).unwrap_or_default() } else { body };
        Self {
            kind: notice.kind,
            n: notice.n,
            event_type: own_name
                .filter(|_| is_ping)
                .unwrap_or_else(|| format!("watchpost.channel.{}", notice.kind.as_str())),
            data,
            claim_url: (!is_ping).then_some(claim_url),
        }
    }
}

#[derive(Debug)]
pub struct Rendered {
    pub headers: HeaderMap,
    pub body: Bytes,
}

const WEBHOOK_ID: HeaderName = HeaderName::from_static("webhook-id");
const WEBHOOK_TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
const WEBHOOK_SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");

/// The names that begin with `WATCHPOST_HEADER_PREFIX`.
#[derive(Debug)]
pub struct OwnHeaders {
    event: HeaderName,
    event_id: HeaderName,
    sequence: HeaderName,
    attempt: HeaderName,
    message: HeaderName,
    previous: HeaderName,
    channel_id: HeaderName,
    channel_token: HeaderName,
    notice: HeaderName,
    replay: HeaderName,
    claim_url: HeaderName,
    token: HeaderName,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the header prefix cannot begin a header name")]
pub struct BadPrefix;

impl OwnHeaders {
    pub fn new(prefix: &str) -> Result<Self, BadPrefix> {
        let name = |rest: &str| HeaderName::try_from(format!("{prefix}{rest}")).map_err(|_| BadPrefix);
        Ok(Self {
            event: name("Event")?,
            event_id: name("Event-Id")?,
            sequence: name("Sequence")?,
            attempt: name("Attempt")?,
            message: name("Message")?,
            previous: name("Previous-Message")?,
            channel_id: name("Channel-Id")?,
            channel_token: name("Channel-Token")?,
            notice: name("Notice")?,
            replay: name("Replay")?,
            claim_url: name("Claim-Url")?,
            token: name("Token")?,
        })
    }
}

/// Renders a notification in its channel's format, signed where the channel asked for it. What cannot be signed is not
/// rendered.
pub fn render(
    notification: &Notification<'_>,
    own: &OwnHeaders,
    signer: Signer<'_>,
) -> Result<Rendered, JwtError> {
    let target = notification.target;
    let mut rendered = match target.channel.format {
        Format::Google => google::render(notification),
        Format::Standard => standard::render(notification),
        Format::Raw => raw::render(notification),
    };
    let headers = &mut rendered.headers;
    let webhook_id = match &notification.subject {
        Subject::Notice(told) => notice_id(&target.channel.uid, told.kind, told.n),
        Subject::Sync | Subject::Event { .. } => id::webhook_id(&target.channel.uid, notification.number),
    };
    put(headers, WEBHOOK_ID, &webhook_id);
    if !target.channel.options.signatures.is_empty() || target.channel.format != Format::Google {
        put(headers, WEBHOOK_TIMESTAMP, &notification.now.as_seconds().to_string());
    }
    common(notification, own, headers);
    for (name, value) in target.headers(notification.notice()).into_iter().flatten() {
        headers.insert(name.clone(), value.clone());
    }
    signed::sign(notification, signer, own, &webhook_id, &rendered.body, headers)?;
    Ok(rendered)
}

fn common(notification: &Notification<'_>, own: &OwnHeaders, headers: &mut HeaderMap) {
    let channel = &notification.target.channel;
    match &notification.subject {
        Subject::Sync => put(headers, own.event.clone(), standard::SYNC_TYPE),
        Subject::Event { event, .. } => {
            put(headers, own.event.clone(), &event.name);
            put(headers, own.event_id.clone(), &event.id);
        }
        Subject::Notice(told) => {
            put(headers, own.event.clone(), &told.event_type);
            put(headers, own.notice.clone(), told.kind.as_str());
            // Where the body does not say it.
            if let Some(url) = told.claim_url.as_deref().filter(|_| channel.format != Format::Standard) {
                put(headers, own.claim_url.clone(), url);
            }
        }
    }
    if let Some(replay) = &notification.replay {
        put(headers, own.replay.clone(), replay);
    }
    headers.insert(own.sequence.clone(), HeaderValue::from(notification.seq));
    headers.insert(own.attempt.clone(), HeaderValue::from(notification.attempt));
    headers.insert(own.message.clone(), HeaderValue::from(notification.number));
    if let Some(previous) = notification.previous.filter(|number| *number > 0) {
        headers.insert(own.previous.clone(), HeaderValue::from(previous));
    }
    if channel.format != Format::Google {
        put(headers, own.channel_id.clone(), &channel.id);
        if let Some(token) = notification.target.token() {
            put(headers, own.channel_token.clone(), token);
        }
    }
}

/// Sets a header. Everything that gets here was checked when it was written; what is not header-safe after
/// all is left out rather than changed.
fn put(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    let Ok(value) = HeaderValue::try_from(value) else {
        tracing::warn!(header.name = %name, "a header value is not header-safe and is left out");
        return;
    };
    headers.insert(name, value);
}

/// The data as it was published, with its media type; nothing where the channel does not want it.
fn data_body(notification: &Notification<'_>) -> Option<Payload> {
    match &notification.subject {
        Subject::Event { event, .. } if notification.target.channel.payload => event.payload.clone(),
        _ => None,
    }
}

fn with_body(headers: &mut HeaderMap, payload: Payload) -> Bytes {
    put(headers, CONTENT_TYPE, &payload.content_type);
    payload.bytes
}
