//! What leaves, and what its outcome makes of the channel.

use std::time::Duration;

use watchpost::domain::{cursor::Failing, time::Timestamp};

use crate::{
    channel::{Model, Parked, Ping, State},
    command::{About, Seen},
    history::Answer,
};

/// A sync that was refused this often is set aside.
const SYNC_REFUSALS_MAX: u32 = 3;
/// A suspended channel is probed after these times, then daily.
const PROBES: [Duration; 3] = [Duration::from_hours(1), Duration::from_hours(8), Duration::from_hours(24)];
const DAY: Duration = Duration::from_hours(24);
/// A ping is tried again after these waits, then given up.
const PING_WAITS: [Duration; 2] = [Duration::from_secs(30), Duration::from_mins(5)];

/// What may leave.
#[derive(Clone, Copy, Debug)]
enum Cargo {
    Ping(usize),
    Redriven(i64),
    Head { through: i64 },
}

impl Model {
    /// Sends everything that may leave now, and takes the answers. Returns the requests in their order.
    pub fn drain(&mut self, now: Timestamp, answer: impl Fn(&Seen) -> Answer) -> Vec<(Seen, Answer)> {
        let mut sent = Vec::new();
        while let Some(cargo) = self.next(now) {
            let seen = self.request(cargo);
            let answer = answer(&seen);
            self.note_redrive(cargo);
            sent.push((seen, answer));
            self.conclude(cargo, answer, now);
            self.go_free();
        }
        self.go_free();
        sent
    }

    /// As a server does that does not know yet of the pings that wait: they come last.
    pub fn drain_pings_last(
        &mut self,
        now: Timestamp,
        answer: impl Fn(&Seen) -> Answer,
    ) -> Vec<(Seen, Answer)> {
        let pings = std::mem::take(&mut self.pings);
        let mut sent = self.drain(now, &answer);
        if self.sends() {
            self.pings = pings;
        }
        sent.extend(self.drain(now, answer));
        sent
    }

    fn note_redrive(&mut self, cargo: Cargo) {
        match cargo {
            Cargo::Redriven(seq) => {
                self.redriven += 1;
                self.redrove = self.parked.iter().any(|(other, parked)| *other != seq && parked.redriven);
            }
            Cargo::Head { .. } => self.redrove = false,
            Cargo::Ping(_) => {}
        }
    }

    fn next(&mut self, now: Timestamp) -> Option<Cargo> {
        if !self.sends() || now >= self.expires_at {
            return None;
        }
        // The one that has been due the longest; of equals the oldest.
        let ping = self.pings.iter().enumerate().min_by_key(|(_, ping)| (ping.due_at, ping.n));
        if let Some((at, _)) = ping.filter(|(_, ping)| ping.due_at <= now) {
            return Some(Cargo::Ping(at));
        }
        let redriven = self.parked.iter().find(|(_, parked)| parked.redriven).map(|(seq, _)| *seq);
        let redriven = redriven.filter(|_| self.state == State::Active).map(Cargo::Redriven);
        if !self.redrove && redriven.is_some() {
            return redriven;
        }
        self.next_head(now).or(redriven)
    }

    fn next_head(&mut self, now: Timestamp) -> Option<Cargo> {
        // A channel whose sync was pending when its first events went meets the hole only now.
        if self.cursor >= self.start {
            self.pass_hole();
        }
        let waits = self.failing.due_at.is_some_and(|due| due > now);
        if self.state == State::Active || !waits {
            self.pass_unwanted();
        }
        (!waits && self.cursor < self.head).then(|| Cargo::Head { through: self.run_of_head() })
    }

    /// What a filter does not want ends without a request. A sync is always wanted.
    fn pass_unwanted(&mut self) {
        let past = self.past_unwanted(self.cursor);
        if past > self.cursor {
            self.cursor = past;
            self.wait_for_a_head();
        }
    }

    /// The last seq that the head's notification stands for.
    fn run_of_head(&self) -> i64 {
        let first = self.cursor + 1;
        if let Some(pinned) = self.failing.pinned {
            return pinned;
        }
        if !self.latest || first == self.start {
            return first;
        }
        let equal = (first..=self.head).take_while(|seq| self.kind(*seq) == self.kind(first));
        equal.last().unwrap_or(first)
    }

    fn request(&self, cargo: Cargo) -> Seen {
        let replayed = self.replayed_through.is_some_and(|through| self.cursor < through);
        let (about, seq, attempts, replayed) = match cargo {
            // A ping has no number of its own and repeats the last one.
            Cargo::Ping(at) => (About::Ping, self.cursor.max(self.start), self.pings[at].attempts, false),
            Cargo::Redriven(seq) => (About::Notification, seq, self.parked[&seq].attempts, true),
            Cargo::Head { through } => (About::Notification, through, self.failing.attempts, replayed),
        };
        let attempt = i64::from(attempts) + 1;
        Seen { address: self.address, about, number: self.number(seq), attempt, replayed }
    }

    fn conclude(&mut self, cargo: Cargo, answer: Answer, now: Timestamp) {
        let (status, asked_wait) = match answer {
            Answer::Status(status) => (Some(status), Duration::ZERO),
            Answer::Busy(seconds) => (Some(503), Duration::from_secs(seconds)),
            Answer::Reset => (None, Duration::ZERO),
        };
        let delivered = status.is_some_and(|status| (200..300).contains(&status));
        self.alive &= !matches!(cargo, Cargo::Head { .. });
        match cargo {
            Cargo::Ping(at) => {
                self.conclude_ping(at, delivered, now);
                if status == Some(410) {
                    self.end_as(State::Gone);
                }
            }
            Cargo::Redriven(seq) if delivered => {
                self.parked.remove(&seq);
                (self.failing.since, self.failing.failures) = (None, 0);
            }
            Cargo::Redriven(seq) => {
                let attempts = self.parked[&seq].attempts + 1;
                self.parked.insert(seq, Parked { attempts, redriven: false });
                if status == Some(410) {
                    self.end_as(State::Gone);
                }
            }
            Cargo::Head { through } if delivered => {
                self.cursor = through;
                self.failing = Failing::default();
                self.state = State::Active;
            }
            Cargo::Head { through } => self.fail(through, status, asked_wait, now),
        }
    }

    /// One that is alive and has nothing to be tried with goes on.
    fn go_free(&mut self) {
        if std::mem::take(&mut self.alive) && self.state == State::Suspended {
            if self.cursor < self.last() {
                self.alive = true;
                return;
            }
            self.state = State::Active;
            self.failing.since = None;
            self.failing.failures = 0;
        }
    }

    /// A ping counts against nobody, but a 2xx is a sign of life: the head is tried at once.
    fn conclude_ping(&mut self, at: usize, delivered: bool, now: Timestamp) {
        let ping = self.pings.remove(at);
        if !delivered {
            let attempts = ping.attempts + 1;
            let wait = PING_WAITS.get(usize::try_from(attempts).unwrap() - 1);
            self.pings.extend(wait.map(|wait| Ping { attempts, due_at: now.plus(*wait), ..ping }));
        } else if self.state == State::Suspended {
            self.alive = true;
            self.try_at_once(now);
        }
    }

    fn fail(&mut self, through: i64, status: Option<u16>, asked_wait: Duration, now: Timestamp) {
        let failing = &mut self.failing;
        failing.attempts += 1;
        failing.failures += 1;
        failing.pinned = Some(through);
        let since = *failing.since.get_or_insert(now);
        // A 4xx that is about this notification, and one that is about its payload.
        failing.client_errors +=
            u32::from(matches!(status, Some(400..=499)) && !matches!(status, Some(408 | 410 | 425 | 429)));
        failing.refusals =
            if matches!(status, Some(400 | 413 | 415 | 422 | 431)) { failing.refusals + 1 } else { 0 };
        let attempts = failing.attempts;
        if status == Some(410) {
            self.end_as(State::Gone);
            return;
        }
        let window_ends_at = since.plus(self.retry.window);
        let exhausted =
            now >= window_ends_at || self.retry.max_attempts.is_some_and(|max| failing.failures >= max);
        if through == self.start && failing.client_errors >= SYNC_REFUSALS_MAX {
            // The receiver may know no sync: the channel goes on, but nobody has said 2xx yet.
            let failing = Failing { since: Some(since), failures: failing.failures, ..Failing::default() };
            self.park(through, attempts, failing);
        } else if exhausted && self.retry.continues {
            self.park(through, attempts, Failing::default());
        } else {
            if exhausted {
                self.state = State::Suspended;
            }
            let wait = if self.state == State::Suspended {
                next_probe(if now >= window_ends_at { window_ends_at } else { since }, now).since(now)
            } else {
                self.step(attempts)
            };
            self.failing.due_at = Some(now.plus(wait.max(asked_wait)));
        }
    }

    fn park(&mut self, seq: i64, attempts: u32, failing: Failing) {
        self.parked.insert(seq, Parked { attempts, redriven: false });
        self.cursor = seq;
        self.failing = failing;
    }

    /// The wait after this many attempts.
    fn step(&self, attempts: u32) -> Duration {
        let steps = self.retry.schedule;
        let at = usize::try_from(attempts).unwrap().min(steps.len() - 1);
        Duration::from_secs(steps[at])
    }
}

fn next_probe(since: Timestamp, now: Timestamp) -> Timestamp {
    let days = (1..).map(|days| since.plus(DAY * days));
    PROBES.map(|step| since.plus(step)).into_iter().chain(days).find(|at| *at > now).unwrap_or(now)
}
