//! One recorded request, read the way a receiver of notifications reads it.

use std::fmt;

/// A request as it came, complete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// Its place in the transcript, from 0. There is no time in it: order is what counts.
    pub at: usize,
    /// The connection it came on, from 1.
    pub connection: u64,
    pub method: String,
    /// The request target: path and query.
    pub path: String,
    /// In the order they came, names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Received {
    /// The first header of this name (written in any case).
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    fn number(&self, name: &str) -> Option<u64> {
        self.header(name)
            .map(|value| value.parse().unwrap_or_else(|_| panic!("{name}: {value} is no number")))
    }

    /// `X-Goog-Channel-ID`.
    pub fn channel_id(&self) -> Option<&str> {
        self.header("x-goog-channel-id")
    }

    /// The channel's uid, from `webhook-id`: `msg_<uid>_<number>` or `ntc_<uid>_<kind>_<n>`.
    pub fn channel_uid(&self) -> Option<&str> {
        let id = self.webhook_id()?;
        let rest = id.strip_prefix("msg_").or_else(|| id.strip_prefix("ntc_"))?;
        rest.split_once('_').map(|(uid, _)| uid)
    }

    /// Everything that names the channel of this request.
    pub fn channel_keys(&self) -> impl Iterator<Item = &str> {
        [self.channel_uid(), self.channel_id()].into_iter().flatten()
    }

    /// `Watchpost-Message`, else `X-Goog-Message-Number`.
    pub fn message_number(&self) -> Option<u64> {
        self.number("watchpost-message").or_else(|| self.number("x-goog-message-number"))
    }

    /// `Watchpost-Previous-Message`.
    pub fn previous_message(&self) -> Option<u64> {
        self.number("watchpost-previous-message")
    }

    /// `Watchpost-Sequence`: the event's place in its resource's log.
    pub fn sequence(&self) -> Option<u64> {
        self.number("watchpost-sequence")
    }

    /// `Watchpost-Attempt`, from 1.
    pub fn attempt(&self) -> Option<u64> {
        self.number("watchpost-attempt")
    }

    /// `X-Goog-Resource-State`.
    pub fn state(&self) -> Option<&str> {
        self.header("x-goog-resource-state")
    }

    /// `X-Goog-Resource-ID`.
    pub fn resource_id(&self) -> Option<&str> {
        self.header("x-goog-resource-id")
    }

    /// `X-Goog-Resource-URI`.
    pub fn resource_uri(&self) -> Option<&str> {
        self.header("x-goog-resource-uri")
    }

    /// `X-Goog-Channel-Token`.
    pub fn token(&self) -> Option<&str> {
        self.header("x-goog-channel-token")
    }

    /// `X-Goog-Channel-Expiration`.
    pub fn expiration(&self) -> Option<&str> {
        self.header("x-goog-channel-expiration")
    }

    /// `X-Goog-Changed`.
    pub fn changed(&self) -> Option<&str> {
        self.header("x-goog-changed")
    }

    /// `Watchpost-Event`: the event's name.
    pub fn event(&self) -> Option<&str> {
        self.header("watchpost-event")
    }

    /// `Watchpost-Event-Id`.
    pub fn event_id(&self) -> Option<&str> {
        self.header("watchpost-event-id")
    }

    /// `Watchpost-Replay`: which replay sent it again.
    pub fn replay(&self) -> Option<&str> {
        self.header("watchpost-replay")
    }

    /// `Watchpost-Notice`: the kind, on what is not a notification.
    pub fn notice(&self) -> Option<&str> {
        self.header("watchpost-notice")
    }

    pub fn webhook_id(&self) -> Option<&str> {
        self.header("webhook-id")
    }

    pub fn webhook_timestamp(&self) -> Option<&str> {
        self.header("webhook-timestamp")
    }

    pub fn webhook_signature(&self) -> Option<&str> {
        self.header("webhook-signature")
    }

    /// What has to come back before this receiver is sent anything.
    pub fn challenge(&self) -> Option<String> {
        let body: serde_json::Value = serde_json::from_slice(&self.body).ok()?;
        let challenge =
            body["challenge"].as_str().filter(|_| body["type"] == "watchpost.channel.challenge")?;
        Some(challenge.to_owned())
    }

    /// The body as text.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("a body of text")
    }

    /// The body as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("a body of JSON in {self}: {error}"))
    }
}

/// One line of a transcript.
impl fmt::Display for Received {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}] {} {}", self.at, self.method, self.path)?;
        let shown = [
            "x-goog-channel-id",
            "webhook-id",
            "x-goog-message-number",
            "x-goog-resource-state",
            "watchpost-event",
            "watchpost-sequence",
            "watchpost-attempt",
            "watchpost-notice",
        ];
        for name in shown {
            if let Some(value) = self.header(name) {
                write!(f, " {name}={value}")?;
            }
        }
        write!(f, " ({} bytes)", self.body.len())
    }
}
