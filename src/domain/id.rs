//! Identifiers that Watchpost makes itself: time-ordered, 128 bits, lower-case hex, so header-safe and free of
//! the dots that would make a signed string ambiguous.

use uuid::Builder;

use super::time::Timestamp;

/// Prefix of the event ids that the server gives. A publisher's own ids may not begin with it.
pub const EVENT_ID_PREFIX: &str = "evt_";

/// A channel's `uid`: 32 hex digits.
pub fn channel_uid(now: Timestamp, random: [u8; 10]) -> String {
    time_ordered(now, random)
}

/// The id of an event whose publisher gave none.
pub fn event_id(now: Timestamp, random: [u8; 10]) -> String {
    format!("{EVENT_ID_PREFIX}{}", time_ordered(now, random))
}

/// `webhook-id` of a notification: the same on every attempt and on replay.
pub fn webhook_id(channel_uid: &str, number: i64) -> String {
    format!("msg_{channel_uid}_{number}")
}

/// The number in a `webhook-id` of this channel.
pub fn number_of_webhook_id(channel_uid: &str, id: &str) -> Option<i64> {
    let number = id.strip_prefix("msg_")?.strip_prefix(channel_uid)?.strip_prefix('_')?;
    number.parse().ok().filter(|number| *number >= 1)
}

/// Names a replay or a redrive.
pub fn replay_id(now: Timestamp, random: [u8; 10]) -> String {
    format!("rpl_{}", time_ordered(now, random))
}

/// Names an API key; it is no secret.
pub fn api_key_id(now: Timestamp, random: [u8; 10]) -> String {
    format!("key_{}", time_ordered(now, random))
}

fn time_ordered(now: Timestamp, random: [u8; 10]) -> String {
    let millis = u64::try_from(now.as_millis()).unwrap_or(0);
    Builder::from_unix_timestamp_millis(millis, &random).into_uuid().simple().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_sort_by_time_and_fit_a_webhook_id() {
        let early = channel_uid(Timestamp::from_millis(1), [0xff; 10]);
        let late = channel_uid(Timestamp::from_millis(2), [0; 10]);
        assert!(early < late);
        let id = webhook_id(&late, i64::MAX);
        assert!(id.len() <= 64 && !id.contains('.'), "{id}");
    }
}
