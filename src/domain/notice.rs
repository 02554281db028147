//! Notices: what a channel is told of its own life, outside the log and without a number.

use std::time::Duration;

use super::channel::words;

words! {
    /// What a notice tells, as `Watchpost-Notice` and the type `watchpost.channel.<kind>` say it.
    NoticeKind {
        /// Its owner, or the server, looks whether the receiver answers: it goes to the channel's address, whatever is
        /// told elsewhere.
        Ping = "ping",
        /// A fifth, then a twentieth of its life is left.
        Expiring = "expiring",
        Renewed = "renewed",
        /// Best effort, after its time is over.
        Expired = "expired",
        Suspended = "suspended",
        /// Something is left to claim.
        Claim = "claim",
    }
}

/// Names a notice: the same on every attempt.
pub fn notice_id(channel_uid: &str, kind: NoticeKind, n: i64) -> String {
    format!("ntc_{channel_uid}_{}_{n}", kind.as_str())
}

/// The waits between the three attempts that a notice gets.
const WAITS: [Duration; 2] = [Duration::from_secs(30), Duration::from_mins(5)];

/// The wait after `attempts` failed ones; `None` when it has had all of them.
pub fn wait_after(attempts: u32) -> Option<Duration> {
    let at = usize::try_from(attempts).unwrap_or(usize::MAX).checked_sub(1)?;
    WAITS.get(at).copied()
}

/// The longest that a notice waits.
pub const fn longest_wait() -> Duration {
    WAITS[WAITS.len() - 1]
}
