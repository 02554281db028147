//! Channels: an expiring subscription of one address to one resource.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{
    invalid::{Invalid, header_safe},
    resource::ResourcePath,
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
    ($(#[$doc:meta])* $name:ident { $($variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name { $($variant),+ }

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
        }
    };
}

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
    /// Which face opened the channel.
    Face { Google = "google", Native = "v1" }
}

words! {
    /// A signature scheme that a channel asked for.
    SignatureScheme { V1 = "v1" }
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
    /// How often the claim URL was replaced.
    pub claim_rotation: i64,
}

impl Channel {
    /// Message number of the notification at `seq`; the sync is number 1.
    pub const fn number_of(&self, seq: i64) -> i64 {
        seq - self.start_seq + 1
    }
}

/// What is rarely set, kept as JSON in one column.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ChannelOptions {
    /// Extra request headers, as written by the owner.
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
