//! Which requests of a lane with a window may leave: what is tried again, what was parked, and the log, in turns, each as
//! soon as it may, whatever the others do. One at a time where nothing has succeeded for long, or the channel is probed.

use super::{FAILURES_UNTIL_SLOW, RETRIES_MAX, WINDOW, Window};
use crate::{
    domain::{channel::CatchUp, settled::AHEAD_MAX, time::Timestamp},
    engine::machine::{Action, Cargo, Flight, Lane, Phase, Send, deciding::Wait},
};

/// What was tried before, in flight at once, so that those that hang leave room for the log.
const AGAIN_IN_FLIGHT_MAX: usize = WINDOW / 2;

impl Lane {
    /// Asks for as many slots as are of use, or says when to look again.
    pub(in crate::engine::machine) fn go_on_beside(&mut self, now: Timestamp) -> Vec<Action> {
        let mut actions = Vec::new();
        self.join_queue();
        let mut wake = None;
        if self.phase == Phase::Resting {
            match self.wait_of_notice(now) {
                Ok(Cargo::Notice(id)) => actions.extend(self.ask_for_notice(id)),
                Err(Wait::Until(at)) => wake = Some(at),
                _ => {}
            }
        }
        match self.wait_of_log(now) {
            Ok(_) => actions.extend(self.ask_slots(now)),
            Err(Wait::Until(at)) => wake = wake.map_or(Some(at), |wake| Some(wake.min(at))),
            Err(Wait::ForInput | Wait::ForNext) => {}
        }
        // Beside what may leave already: the answer may let another one follow.
        if self.wants_next(now) {
            actions.extend(self.ask());
        }
        actions.extend(wake.map(Action::WakeAt));
        actions
    }

    /// A slot that was asked for while the lane was a fifo one is one of the window's.
    fn join_queue(&mut self) {
        let Phase::Queued(cargo) = self.phase else { return };
        self.phase = Phase::Resting;
        if let Some(window) = &mut self.window {
            match cargo {
                Cargo::Notice(id) => window.asked_for_notice = Some(id),
                _ => window.asked += 1,
            }
        }
    }

    fn ask_for_notice(&mut self, id: i64) -> Option<Action> {
        let asked = &mut self.window.as_mut()?.asked_for_notice;
        asked.is_none().then(|| {
            *asked = Some(id);
            Action::AskNoticeSlot
        })
    }

    fn ask_slots(&mut self, now: Timestamp) -> Vec<Action> {
        let wanted = self.slots_of_use(now);
        let Some(window) = &mut self.window else { return Vec::new() };
        let more = wanted.saturating_sub(window.asked);
        window.asked += more;
        vec![Action::AskSlot; more]
    }

    /// Uses a slot for a notification; nothing where it is of no use any more.
    pub(in crate::engine::machine) fn use_slot(&mut self, now: Timestamp) -> Option<Action> {
        self.join_queue();
        let window = self.window.as_mut()?;
        window.asked = window.asked.saturating_sub(1);
        let cargo = self.wait_of_log(now).ok()?;
        let send = self.send_beside(cargo)?;
        self.hold_until = None;
        self.redrove = cargo != Cargo::Head;
        if let Some(bucket) = &mut self.bucket {
            bucket.take(now);
        }
        if let Some(window) = &mut self.window {
            window.flying.insert(send.first, Flight::new(send));
        }
        Some(Action::Send(send))
    }

    /// Uses a slot for a notice.
    pub(in crate::engine::machine) fn use_notice_slot(&mut self, now: Timestamp) -> Option<Action> {
        self.join_queue();
        let asked = self.window.as_mut()?.asked_for_notice.take()?;
        if self.phase != Phase::Resting {
            return None;
        }
        // Another one may go elsewhere: it asks for a slot there.
        let cargo = self.wait_of_notice(now).ok().filter(|cargo| *cargo == Cargo::Notice(asked))?;
        Some(self.depart(cargo, now))
    }

    fn send_beside(&mut self, cargo: Cargo) -> Option<Send> {
        let window = self.window.as_ref()?;
        Some(match cargo {
            Cargo::Retry(seq) => {
                let waits = window.retries.get(&seq)?;
                let attempt = waits.retry.attempts.saturating_add(1);
                Send { first: waits.first, through: seq, pinned: true, attempt, redriven: false }
            }
            Cargo::Redrive(seq) => {
                let attempt = self.redrives.remove(&seq).unwrap_or_default().saturating_add(1);
                Send { first: seq, through: seq, pinned: true, attempt, redriven: true }
            }
            Cargo::Head => {
                let first = self.next_open(window)?;
                let through = match self.terms.catch_up {
                    CatchUp::All => first,
                    CatchUp::Latest => self.run_end(window, first),
                };
                Send { first, through, pinned: false, attempt: 1, redriven: false }
            }
            Cargo::Notice(_) => return None,
        })
    }

    /// How far a run may go that begins at `first`: up to the next one that has settled or is on its way.
    fn run_end(&self, window: &Window, first: i64) -> i64 {
        let open = (first..=self.reach()).take_while(|seq| *seq == first || window.is_open(*seq));
        open.last().unwrap_or(first)
    }

    /// The last seq that may be started.
    fn reach(&self) -> i64 {
        self.head.min(self.settled.saturating_add(AHEAD_MAX))
    }

    /// The first seq of the log that is neither settled nor on its way.
    fn next_open(&self, window: &Window) -> Option<i64> {
        (self.settled.saturating_add(1)..=self.reach()).find(|seq| window.is_open(*seq))
    }

    /// After which seq the next wanted event is looked for.
    pub fn asks_after(&self) -> i64 {
        let next = self.open().and_then(|window| self.next_open(window));
        next.map_or(self.settled, |next| next.saturating_sub(1))
    }

    /// What may leave now, or how long nothing may.
    fn wait_of_log(&self, now: Timestamp) -> Result<Cargo, Wait> {
        let Some(window) = self.open() else { return Err(Wait::ForInput) };
        if !self.may_send(now) || self.waits_for_life() || self.room(window) == 0 {
            return Err(Wait::ForInput);
        }
        let lane_waits = self.hold_until.max(self.next_token_at(now)).max(self.probe_at());
        if let Some(until) = lane_waits.filter(|until| *until > now) {
            // Only if there is something to wait for.
            return Err(if self.has_cargo(window) { Wait::Until(until) } else { Wait::ForInput });
        }
        let waiting =
            window.retries.values().map(|waits| waits.retry).filter(|retry| !window.flies(retry.seq));
        let may_again = window.again_in_flight() < AGAIN_IN_FLIGHT_MAX;
        let next_retry = waiting.map(|retry| (retry.due_at, retry.seq)).min().filter(|_| may_again);
        let may_begin = self.may_begin(window);
        // Where one leaves at a time, what fails for ever must not hold up what would succeed.
        if may_begin && self.redrove {
            return Ok(Cargo::Head);
        }
        if let Some((due, seq)) = next_retry
            && (due <= now || self.terms.probing)
        {
            return Ok(Cargo::Retry(seq));
        }
        if let Some((seq, _)) = self.redrives.first_key_value().filter(|_| may_again && !self.terms.probing) {
            return Ok(Cargo::Redrive(*seq));
        }
        if may_begin {
            return Ok(Cargo::Head);
        }
        next_retry.map_or(Err(Wait::ForInput), |(due, _)| Err(Wait::Until(due)))
    }

    /// When a suspended channel is probed.
    fn probe_at(&self) -> Option<Timestamp> {
        self.failing.due_at.filter(|_| self.terms.probing)
    }

    fn has_cargo(&self, window: &Window) -> bool {
        let waits = window.retries.keys().any(|seq| !window.flies(*seq));
        waits || !self.redrives.is_empty() || self.may_begin(window) || self.next_open(window).is_some()
    }

    /// Whether requests leave one at a time.
    pub(in crate::engine::machine) fn is_slow(&self) -> bool {
        self.terms.probing || self.failing.failures >= FAILURES_UNTIL_SLOW
    }

    /// How many requests may leave beside those that are on their way. What is not durable yet counts like those.
    fn room(&self, window: &Window) -> usize {
        // A sync that was acknowledged on its way is still one request.
        let flying = window.flying.len() + usize::from(matches!(self.phase, Phase::InFlight(_)));
        let unsaved = usize::try_from(self.outcomes.saturating_sub(self.saved)).unwrap_or(usize::MAX);
        let room = WINDOW.saturating_sub(flying.saturating_add(unsaved));
        if self.is_slow() { room.min(1_usize.saturating_sub(flying)) } else { room }
    }

    /// First attempts that may be begun: each may become a retry, and each of a channel that collapses runs has to be
    /// over before the next run is known.
    fn begins(&self, window: &Window) -> usize {
        let firsts = window
            .flying
            .values()
            .filter(|flight| !flight.sent.redriven && !window.retries.contains_key(&flight.sent.through))
            .count();
        let retries = RETRIES_MAX.saturating_sub(window.retries.len().saturating_add(firsts));
        match self.terms.catch_up {
            CatchUp::All => retries,
            CatchUp::Latest => retries.min(1_usize.saturating_sub(firsts)),
        }
    }

    fn may_begin(&self, window: &Window) -> bool {
        self.begins(window) > 0 && self.next_open(window).is_some() && !self.must_ask()
    }

    /// Slots that could be used at once.
    fn slots_of_use(&self, now: Timestamp) -> usize {
        let Some(window) = self.open() else { return 0 };
        if self.bucket.is_some() {
            // How many tokens there are is known one by one.
            return 1;
        }
        let due = |seq: &i64, at: Timestamp| at <= now && !window.flies(*seq);
        let retries = window.retries.iter().filter(|(seq, waits)| due(seq, waits.retry.due_at)).count();
        let begins = if self.must_ask() {
            0
        } else if self.terms.filtered {
            // Which is the one after it is asked once this one is on its way.
            1.min(self.begins(window))
        } else {
            let open = (self.settled.saturating_add(1)..=self.reach()).filter(|seq| window.is_open(*seq));
            open.take(self.begins(window).min(WINDOW)).count()
        };
        let useful = (retries + self.redrives.len()).min(AGAIN_IN_FLIGHT_MAX) + begins;
        // Whoever asks has found one: a probe is not due by itself.
        useful.max(1).min(self.room(window))
    }

    /// Whether the lane has to ask which event is its next one.
    fn wants_next(&self, now: Timestamp) -> bool {
        let Some(window) = self.open() else { return false };
        let stays = self.probe_at().is_some_and(|due| due > now);
        let begins = self.begins(window) > 0 && self.room(window) > 0;
        begins
            && self.may_send(now)
            && !self.waits_for_life()
            && !stays
            && self.next_open(window).is_some()
            && self.must_ask()
    }

    /// The first seq of the log that is the lane's next one, if it wants it.
    pub(in crate::engine::machine) fn next_of_window(&self) -> Option<Option<i64>> {
        self.open().map(|window| self.next_open(window))
    }

    /// Nothing up to `through` is for the lane but what is settled or on its way.
    pub(in crate::engine::machine) fn pass_through(&mut self, through: i64) {
        let Some(first) = self.next_of_window().flatten() else { return };
        let Some(window) = &mut self.window else { return };
        let flying = window.flying.range(first..).next();
        let through = flying.map_or(through, |(seq, _)| through.min(seq.saturating_sub(1)));
        if first == self.settled.saturating_add(1) && through >= first {
            self.settled = through;
        } else {
            for seq in first..=through.min(self.settled.saturating_add(AHEAD_MAX)) {
                window.passed.insert(seq);
            }
        }
        self.absorb();
    }
}
