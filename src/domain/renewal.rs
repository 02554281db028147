//! The marks in a channel's life at which the renewal job looks at it: in its last third where it renews itself, and
//! when a fifth and a twentieth of it is left, where its owner is warned.

use std::time::Duration;

use super::{channel::Renewal, time::Timestamp};

/// What a probe and the look at its answer take, where the job runs every minute: a short life's last third is no
/// shorter.
const ASKING: Duration = Duration::from_mins(3);
/// A channel that renews itself gets no shorter life, or the job could miss its end.
pub const RENEWED_MIN: Duration = Duration::from_mins(5);

/// A channel's present life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Life {
    pub granted_at: Timestamp,
    pub expires_at: Timestamp,
    pub renewal: Renewal,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mark {
    /// The last third begins.
    LastThird,
    FifthLeft,
    TwentiethLeft,
}

impl Life {
    pub fn length(&self) -> Duration {
        self.expires_at.since(self.granted_at)
    }

    /// When the last third begins: a 2xx since then is fresh enough to renew on.
    pub fn last_third_at(&self) -> Timestamp {
        self.at(Mark::LastThird)
    }

    /// The latest mark that has passed, and when.
    pub fn passed(&self, now: Timestamp) -> Option<(Mark, Timestamp)> {
        self.marks().into_iter().rev().find(|(_, at)| *at <= now)
    }

    /// When to look at a channel that was changed or goes on again: at once where it may renew itself.
    pub fn look_from(&self, now: Timestamp) -> Option<Timestamp> {
        let late = self.renewal == Renewal::Auto && self.passed(now).is_some();
        if late { Some(now) } else { self.next_look(now) }
    }

    /// The next time to look at the channel; `None` once all marks have passed.
    pub fn next_look(&self, now: Timestamp) -> Option<Timestamp> {
        self.marks().into_iter().map(|(_, at)| at).find(|at| *at > now)
    }

    fn marks(&self) -> Vec<(Mark, Timestamp)> {
        let marks = [Mark::LastThird, Mark::FifthLeft, Mark::TwentiethLeft];
        let all = marks.into_iter().map(|mark| (mark, self.at(mark)));
        all.filter(|(mark, _)| self.renewal == Renewal::Auto || *mark != Mark::LastThird).collect()
    }

    fn at(&self, mark: Mark) -> Timestamp {
        let left = match mark {
            Mark::LastThird => (self.length() / 3).max(ASKING).min(self.length()),
            Mark::FifthLeft => self.length() / 5,
            Mark::TwentiethLeft => self.length() / 20,
        };
        self.expires_at.minus(left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_pass_one_after_the_other() {
        let granted_at = Timestamp::from_millis(0);
        let at = |hours: u64| granted_at.plus(Duration::from_hours(hours));
        let warned = Life { granted_at, expires_at: at(60), renewal: Renewal::None };
        assert_eq!((warned.next_look(at(0)), warned.next_look(at(48))), (Some(at(48)), Some(at(57))));
        assert_eq!((warned.next_look(at(57)), warned.passed(at(47))), (None, None));
        let auto = Life { renewal: Renewal::Auto, ..warned };
        assert_eq!(auto.next_look(at(0)), Some(at(40)));
        assert_eq!(auto.passed(at(41)), Some((Mark::LastThird, at(40))));
        assert_eq!((auto.look_from(at(1)), auto.look_from(at(59))), (Some(at(40)), Some(at(59))));
        assert_eq!(auto.passed(at(59)), Some((Mark::TwentiethLeft, at(57))));
        let short = Life { expires_at: granted_at.plus(Duration::from_mins(2)), ..auto };
        assert_eq!(short.last_third_at(), granted_at);
        assert_eq!(short.look_from(granted_at), Some(granted_at), "at once");
    }
}
