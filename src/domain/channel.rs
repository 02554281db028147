//! Channels: an expiring subscription of one address to one resource.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{
    auth::ReceiverAuth,
    invalid::{Invalid, header_safe},
    resource::ResourcePath,
    secret::RetiringSecret,
    time::Timestamp,
};

pub const ID_BYTES_MAX: usize = 64;
pub const TOKEN_BYTES_MAX: usize = 256;
pub const METADATA_ENTRIES_MAX: usize = 16;
pub const METADATA_BYTES_MAX: usize = 256;

/// A row's key in the store, never shown outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChannelKey(pub i64);

/// A resource's key in the store, never shown outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ResourceKey(pub i64);

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$mark:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
        pub enum $name { $($(#[$mark])* #[serde(rename = $word)] $variant),+ }

        impl $name {
            /// The word on the wire and in the store.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }

            pub fn parse(word: &str) -> Option<Self> {
                match word { $($word => Some(Self::$variant),)+ _ => None }
            }

            /// Every word, for error texts.
            pub const WORDS: &[&str] = &[$($word),+];

            /// Every one of them.
            pub const ALL: &[Self] = &[$(Self::$variant),+];
        }
    };
}

pub(super) use words;

words! {
    /// Where a channel is in its life. `Active` and `Paused` are the living ones.
    ChannelState {
        Active = "active",
        Paused = "paused",
        Suspended = "suspended",
        Gone = "gone",
        Expired = "expired",
        Stopped = "stopped",
    }
}

impl ChannelState {
    /// The states of a channel that has not ended.
    pub const LIVING: [Self; 3] = [Self::Active, Self::Paused, Self::Suspended];

    /// Whether the channel has not ended.
    pub fn is_living(self) -> bool {
        Self::LIVING.contains(&self)
    }

    /// Whether notifications may leave: all of them, or probes alone.
    pub fn sends(self) -> bool {
        matches!(self, Self::Active | Self::Suspended)
    }
}

words! {
    /// How a notification is written on the wire.
    Format { Google = "google", Standard = "standard", Raw = "raw" }
}

words! {
    /// What happens to a run of equal events that is waiting: all are sent, or only the newest.
    CatchUp { All = "all", Latest = "latest" }
}

words! {
    /// Whether notifications wait for each other.
    #[derive(Default)]
    Ordering {
        /// One request at a time; the head blocks.
        #[default]
        Fifo = "fifo",
        /// Several at a time, in any order.
        None = "none",
    }
}

words! {
    /// Who prolongs a channel's life: its owner, or the server as long as the receiver answers.
    #[derive(Default)]
    Renewal { #[default] None = "none", Auto = "auto" }
}

words! {
    /// What a 3xx means: a failure, the end of this notification's attempts, or (301, 308) a new address.
    #[derive(Default)]
    Redirects { #[default] Retry = "retry", Fail = "fail", Update = "update" }
}

words! {
    /// What happens at the end of a channel's retry window.
    #[derive(Default)]
    OnExhausted {
        /// The channel is suspended, and everything from its cursor on can be claimed.
        #[default]
        Suspend = "suspend",
        /// The head is parked, and the channel goes on.
        Continue = "continue",
    }
}

words! {
    /// Which face opened the channel.
    Face { Google = "google", Native = "v1" }
}

words! {
    /// A signature scheme that a channel asked for.
    SignatureScheme {
        /// HMAC under the channel's own secret.
        V1 = "v1",
        /// Ed25519 under the server's keys.
        V1a = "v1a",
        /// A token under the server's keys.
        Jwt = "jwt",
    }
}

/// A channel as it is stored. Its position in the log is its cursor's business.
#[derive(Clone, Debug)]
pub struct Channel {
    pub key: ChannelKey,
    pub uid: String,
    pub project: String,
    /// Chosen by the client, unique in the project for ever.
    pub id: String,
    /// The owner.
    pub subject: String,
    pub resource: ResourceKey,
    pub resource_path: ResourcePath,
    pub resource_id: String,
    /// The watched URL as it was written.
    pub resource_uri: String,
    pub face: Face,
    pub address: String,
    /// Sealed; shown to the owner and the receiver.
    pub token: Option<String>,
    pub format: Format,
    /// Whether notifications carry the event's data.
    pub payload: bool,
    pub catch_up: CatchUp,
    pub state: ChannelState,
    /// The resource's head when the channel was opened: the virtual seq of its sync.
    pub start_seq: i64,
    /// The resource's head when the channel ended: nothing after it was ever meant for the channel.
    pub end_seq: Option<i64>,
    /// Raised by every change of the channel.
    pub rev: i64,
    pub expires_at: Timestamp,
    pub created_at: Timestamp,
    pub ended_at: Option<Timestamp>,
    pub options: ChannelOptions,
    /// The signing secret, sealed under the master key.
    pub sealed_secret: Option<Vec<u8>>,
    /// Those before it that sign as well.
    pub retiring_secrets: Vec<RetiringSecret>,
    /// How often the claim URL was replaced.
    pub claim_rotation: i64,
    /// When the channel's present life began: at its opening or its last renewal.
    pub granted_at: Timestamp,
    /// The latest replay and the seq up to which notifications belong to it.
    pub replay: Option<Replay>,
    /// How often the channel was replayed: its cursor went back that many times.
    pub replays: i64,
}

/// A replay: notifications up to `through` say that they belong to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replay {
    pub id: String,
    pub through: i64,
}

impl Channel {
    /// Message number of the notification at `seq`; the sync is number 1.
    pub const fn number_of(&self, seq: i64) -> i64 {
        seq - self.start_seq + 1
    }

    /// The seq that a message number stands for.
    pub const fn seq_of(&self, number: i64) -> i64 {
        self.start_seq.saturating_add(number).saturating_sub(1)
    }
}

/// What is rarely set, kept as JSON in one column.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ChannelOptions {
    /// Extra request headers: the names as written by the owner, the values sealed.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// Retry steps in milliseconds; empty means the server's own schedule.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub retry_schedule_ms: Vec<u64>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
    /// Signature schemes by their words.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub signatures: Vec<String>,
    /// How long failures may last before the channel is exhausted; `None` is the server's own window.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_window_ms: Option<u64>,
    /// How many failures in a row exhaust the channel, however soon.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_attempts: Option<u32>,
    pub on_exhausted: OnExhausted,
    pub ordering: Ordering,
    /// Globs over event names; empty means all events.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<String>,
    /// States as the watched Google API words them (`event=add`); empty means all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub event_states: Vec<String>,
    /// `eventType`s of Calendar's events; empty means all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub event_types: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate_limit: Option<RateLimit>,
    pub renewal: Renewal,
    /// Whether the channel is told of its own life: `expiring`, `suspended`, `claim`, …
    pub lifecycle: bool,
    /// Where it is told, if not at its address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lifecycle_address: Option<String>,
    pub redirects: Redirects,
    /// How the server proves itself to the receiver.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auth: Option<ReceiverAuth<String>>,
    /// Whether the ledger keeps the beginning of each answer.
    pub excerpts: bool,
}

impl ChannelOptions {
    /// Whether there is a secret that is meant for the present receiver alone.
    pub fn has_auth_secret(&self) -> bool {
        self.auth.as_ref().is_some_and(|auth| auth.secret().is_some())
    }
}

/// How fast notifications may leave for one channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RateLimit {
    pub per_second: u32,
    /// How many may leave at once after a rest.
    pub burst: u32,
}

impl RateLimit {
    pub const PER_SECOND_MAX: u32 = 10_000;
    pub const BURST_MAX: u32 = 10_000;
}

/// `id`: what Google documents, 1–64 of `[A-Za-z0-9\-_+/=]`.
pub fn check_id(id: &str) -> Result<(), Invalid> {
    if id.is_empty() {
        return Err(Invalid::Rule("not be empty"));
    }
    if id.len() > ID_BYTES_MAX {
        return Err(Invalid::TooLong { max: ID_BYTES_MAX, unit: "characters" });
    }
    if !id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_+/=".contains(&byte)) {
        return Err(Invalid::Rule("be letters, digits and - _ + / ="));
    }
    Ok(())
}

/// `token`: what a header can carry, echoed in every notification.
pub fn check_token(token: &str) -> Result<(), Invalid> {
    header_safe(token, TOKEN_BYTES_MAX)
}

/// `metadata`: the owner's own labels.
pub fn check_metadata(metadata: &BTreeMap<String, String>) -> Result<(), Invalid> {
    if metadata.len() > METADATA_ENTRIES_MAX {
        return Err(Invalid::TooMany { max: METADATA_ENTRIES_MAX });
    }
    for text in metadata.keys().chain(metadata.values()) {
        if text.len() > METADATA_BYTES_MAX {
            return Err(Invalid::TooLong { max: METADATA_BYTES_MAX, unit: "bytes in a key or value" });
        }
        if text.chars().any(char::is_control) {
            return Err(Invalid::Rule("contain no control characters"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_and_tokens_are_header_safe() {
        for good in ["a", "83bc573c-1824", "a+b/c=_", &"x".repeat(64)] {
            assert_eq!(check_id(good), Ok(()), "{good}");
        }
        for bad in ["", "a b", "a.b", "é", "a\r\nb", &"x".repeat(65)] {
            assert!(check_id(bad).is_err(), "{bad}");
        }
        assert!(
            check_token("").is_ok()
                && check_token("t=1&x=y z").is_ok()
                && check_token(&"x".repeat(256)).is_ok()
        );
        for bad in ["a\nb", "é", " a", &"x".repeat(257)] {
            assert!(check_token(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn words_round_trip() {
        for word in ChannelState::WORDS {
            assert_eq!(ChannelState::parse(word).map(ChannelState::as_str), Some(*word));
        }
        assert_eq!(Format::parse("GOOGLE"), None);
    }
}
