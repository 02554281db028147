//! When a receiver is reminded of what it has to claim, or probed where it did not ask to be reminded.

use std::time::Duration;

use super::time::Timestamp;

/// After the last step of the schedule, reminders go on at its length.
const LAST_STEP_MIN: Duration = Duration::from_mins(1);
/// The last warning before retention takes what was not claimed.
const BEFORE_LOSS: Duration = Duration::from_hours(48);

/// The steps of reminding: times since there is something to claim, rising; the last one repeats as an interval.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reminders(Vec<Duration>);

impl Default for Reminders {
    /// At once, after an hour, after eight, and daily.
    fn default() -> Self {
        Self([0, 1, 8, 24].map(Duration::from_hours).to_vec())
    }
}

impl Reminders {
    /// `None` unless there is a step, they rise, and the last is at least a minute.
    pub fn new(steps: Vec<Duration>) -> Option<Self> {
        let rises = steps.windows(2).all(|pair| pair.first() < pair.last());
        (rises && steps.last().is_some_and(|last| *last >= LAST_STEP_MIN)).then_some(Self(steps))
    }

    /// The first reminder after `now` of what is there since `since`.
    pub fn next_after(&self, since: Timestamp, now: Timestamp) -> Timestamp {
        let step = self.0.iter().map(|step| since.plus(*step)).find(|at| *at > now);
        step.unwrap_or_else(|| {
            let every = self.longest_wait();
            let times = now.since(since).as_secs() / every.as_secs().max(1) + 1;
            since.plus(every.saturating_mul(u32::try_from(times).unwrap_or(u32::MAX)))
        })
    }

    /// As [`next_after`](Self::next_after), or the last warning before the loss at `lost_at` where that is sooner.
    pub fn next_before_loss(
        &self,
        since: Timestamp,
        lost_at: Option<Timestamp>,
        now: Timestamp,
    ) -> Timestamp {
        let next = self.next_after(since, now);
        let warning = lost_at.map(|lost_at| lost_at.minus(BEFORE_LOSS)).filter(|warning| *warning > now);
        warning.map_or(next, |warning| warning.min(next))
    }

    /// The longest that a reminder may be away.
    pub fn longest_wait(&self) -> Duration {
        self.0.last().copied().unwrap_or(LAST_STEP_MIN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SINCE: Timestamp = Timestamp::from_millis(1_000_000);

    fn after(hours: u64) -> Timestamp {
        SINCE.plus(Duration::from_hours(hours))
    }

    #[test]
    fn at_once_after_an_hour_after_eight_and_then_daily() {
        let mut now = SINCE.minus(Duration::from_secs(1));
        for expected in [0, 1, 8, 24, 48, 72] {
            now = Reminders::default().next_after(SINCE, now);
            assert_eq!(now, after(expected));
        }
        assert_eq!(
            Reminders::default().next_after(SINCE, after(30)),
            after(48),
            "a late one is not made up for"
        );
    }

    #[test]
    fn the_last_warning_comes_two_days_before_the_loss() {
        let lost_at = Some(after(100));
        assert_eq!(Reminders::default().next_before_loss(SINCE, lost_at, after(48)), after(52));
        assert_eq!(Reminders::default().next_before_loss(SINCE, lost_at, after(52)), after(72));
        assert_eq!(Reminders::default().next_before_loss(SINCE, None, after(48)), after(72));
    }

    #[test]
    fn a_schedule_rises_and_ends_with_an_interval() {
        let hours = |hours: &[u64]| Reminders::new(hours.iter().copied().map(Duration::from_hours).collect());
        assert!(hours(&[1]).is_some() && hours(&[]).is_none() && hours(&[0]).is_none());
        assert!(hours(&[8, 1]).is_none() && hours(&[1, 1]).is_none());
    }
}
