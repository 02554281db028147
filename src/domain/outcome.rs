//! What a receiver's answer means, as one function.

/// What came of one attempt, as the ledger names it and the machine acts on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// 2xx: the notification is terminal.
    Delivered,
    /// Retried on the schedule.
    Failed,
    /// Retried on the schedule, `Retry-After` is a floor, and the host's window shrinks.
    Overloaded,
    /// A redirect where the channel's owner wants it to end the notification's attempts: it is parked.
    Refused,
    /// A redirect to an address that the channel takes over.
    Moved,
    /// 410: the channel ends.
    Gone,
    /// Not sent: the address is forbidden at send time. Retried on the schedule.
    Forbidden,
    /// Our own failure: nothing left this node. Retried soon, never charged to the channel.
    Ours,
}

impl Verdict {
    /// Those that the ledger knows: what is ours to mend is not recorded.
    const RECORDED: [Self; 7] = [
        Self::Delivered,
        Self::Failed,
        Self::Overloaded,
        Self::Refused,
        Self::Moved,
        Self::Gone,
        Self::Forbidden,
    ];

    /// Reads a word of the ledger.
    pub fn parse(word: &str) -> Option<Self> {
        Self::RECORDED.into_iter().find(|verdict| verdict.as_str() == word)
    }

    /// The word in the ledger.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Failed => "failed",
            Self::Overloaded => "overloaded",
            Self::Refused => "refused",
            Self::Moved => "moved",
            Self::Gone => "gone",
            Self::Forbidden => "forbidden",
            Self::Ours => "ours",
        }
    }
}

/// Judges a status line.
pub const fn of_status(status: u16) -> Verdict {
    match status {
        200..=299 => Verdict::Delivered,
        410 => Verdict::Gone,
        408 | 425 | 429 | 503 => Verdict::Overloaded,
        _ => Verdict::Failed,
    }
}

/// Whether the answer finds fault with the payload itself.
pub const fn is_payload_refusal(status: u16) -> bool {
    matches!(status, 400 | 413 | 415 | 422 | 431)
}

/// Whether a redirect says that the address has changed for good.
pub const fn is_permanent_redirect(status: u16) -> bool {
    matches!(status, 301 | 308)
}

/// Whether the receiver refused this very notification: three of these park a sync.
pub const fn is_client_error(status: u16) -> bool {
    matches!(status, 400..=499) && !matches!(status, 408 | 410 | 425 | 429)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_has_one_meaning() {
        for status in 0..=999 {
            let expected = match status {
                200..=299 => Verdict::Delivered,
                410 => Verdict::Gone,
                408 | 425 | 429 | 503 => Verdict::Overloaded,
                _ => Verdict::Failed,
            };
            assert_eq!(of_status(status), expected, "{status}");
        }
        assert!(
            is_client_error(404) && !is_client_error(429) && !is_client_error(410) && !is_client_error(500)
        );
    }
}
