//! Who is in memory: lanes are admitted on demand, changed when their channel is, and let go when idle.

use std::{sync::Arc, time::Duration};

use super::{Driver, Entry, Input, Loading, Read, reading::FAR};
use crate::{
    domain::{
        backoff::Schedule,
        channel::{Channel, ChannelKey, ChannelState, Face, Ordering, ResourceKey},
        cursor::Failing,
        notice::NoticeKind,
        time::Timestamp,
    },
    engine::{
        lanes::Resident,
        machine::{Lane, Redrive, Retry, Terms, Waiting},
        slots::Line,
        target::Target,
    },
    store::{LoadedLane, Notice, WaitingRedrive, WaitingRetry},
};

/// What a lane hears of what waits beside its log.
fn waiting(channel: &Channel, notices: &[Notice], redrives: &[WaitingRedrive]) -> Input {
    let elsewhere = channel.options.lifecycle_address.is_some();
    let notices = notices.iter().map(|notice| Waiting {
        id: notice.id,
        attempts: notice.attempts,
        due_at: notice.due_at,
        after_expiry: notice.kind == NoticeKind::Expired,
        to_receiver: notice.kind == NoticeKind::Ping || !elsewhere,
    });
    let redrives = redrives.iter().map(|redrive| Redrive { seq: redrive.seq, attempts: redrive.attempts });
    Input::Waiting { notices: notices.collect(), redrives: redrives.collect() }
}

fn retry(waiting: &WaitingRetry) -> Retry {
    let WaitingRetry { seq, attempts, status, since, due_at, .. } = *waiting;
    Retry { seq, attempts, status, since, due_at }
}

/// How long a resource rests in memory after its last event.
const IDLE: Duration = Duration::from_mins(1);
/// Lanes in memory beyond which those that wait for long are let go.
const ROOMY: usize = 100_000;

impl Driver {
    /// Takes a loaded lane into memory, unless it is there already.
    pub(super) fn admit(&mut self, loaded: LoadedLane) {
        let key = loaded.channel.key;
        if self.lanes.contains(key) || self.is_outdated(&loaded) {
            return;
        }
        let now = self.context.clock.monotonic();
        let resource = loaded.channel.resource;
        let head = self.lanes.touch(resource, loaded.head, loaded.fanned, now).head;
        let level = !loaded.cursor.behind;
        let stored_failing = loaded.cursor.failing != Failing::default();
        let has_answered = loaded.cursor.last_success_at.is_some() && !stored_failing;
        let waits_in = if has_answered { Line::Quick } else { Line::Slow };
        let mut lane = Lane::load(
            loaded.channel.start_seq,
            loaded.channel.end_seq.unwrap_or(head),
            loaded.cursor.seq,
            loaded.cursor.failing,
            loaded.cursor.last_success_at,
            self.terms(&loaded.channel),
        );
        if loaded.channel.options.ordering == Ordering::None {
            let retries: Vec<Retry> = loaded.retries.iter().map(retry).collect();
            lane.open_window(loaded.cursor.settled, &retries);
        }
        lane.delay_first_attempt(self.context.clock.now());
        let waiting = waiting(&loaded.channel, &loaded.notices, &loaded.redrives);
        let resident = Resident {
            notices: loaded.notices,
            redrives: loaded.redrives,
            redirected_to: None,
            line: waits_in,
            turning: None,
            recorded: lane.settled(),
            moved: loaded.cursor.moved,
            stored_behind: loaded.cursor.behind,
            stored_failing,
            level,
            timer: None,
            target: Arc::new(self.target(loaded.channel)),
            lane,
        };
        // A row that says "wake me" although nothing is to be done is put right, or every sweep would find it.
        let nothing_beside = resident.redrives.is_empty();
        let idle = (!resident.lane.is_pending() && nothing_beside) || !resident.lane.is_active();
        let stale_row = resident.stored_behind && !resident.lane.is_failing() && idle;
        self.lanes.insert(key, resident);
        if stale_row {
            self.write_place(key);
        }
        self.step(key, waiting, None);
    }

    /// Applies a channel's new revision.
    pub(super) fn change(&mut self, loaded: LoadedLane) {
        let key = loaded.channel.key;
        if self.is_outdated(&loaded) {
            return;
        }
        self.newest.insert(key, loaded.channel.rev);
        let mut terms = self.terms(&loaded.channel);
        let active = terms.active;
        let waiting = waiting(&loaded.channel, &loaded.notices, &loaded.redrives);
        let Some(resident) = self.lanes.get_mut(key) else {
            // One that has ended may still have to be told so.
            if active || !loaded.notices.is_empty() {
                self.admit(loaded);
            }
            return;
        };
        // Read before the lane's own turn was written: that one is no word of somebody else's.
        terms.probing = resident.turning.filter(|_| active).unwrap_or(terms.probing);
        resident.target.make_stale();
        let new_address = &loaded.channel.address;
        let readdressed = resident.target.channel.address != *new_address
            && resident.redirected_to.as_ref() != Some(new_address);
        let rewound = resident.target.channel.replays != loaded.channel.replays;
        let waited_at = resident.waits_at();
        resident.notices = loaded.notices;
        resident.redrives = loaded.redrives;
        // `moved` rises with everything that sets the row from outside, so that no older checkpoint undoes it. The
        // row may be ahead of memory (an acknowledgement) or behind it (outcomes that are not saved yet): the higher
        // place counts, and is written again under the new `moved`.
        let moved = resident.moved != loaded.cursor.moved;
        resident.moved = loaded.cursor.moved;
        resident.stored_behind |= loaded.cursor.behind;
        let target = Arc::new(self.target(loaded.channel));
        if let Some(resident) = self.lanes.get_mut(key) {
            if resident.target.filter != target.filter {
                resident.lane.look_again_after(loaded.cursor.seq, loaded.cursor.settled);
            }
            if moved {
                let stored = loaded.retries.iter().map(|retry| retry.seq).collect();
                resident.lane.keep_retries(loaded.cursor.seq, &stored);
            }
            resident.target = target;
            for (was, is) in waited_at.into_iter().zip(resident.waits_at()) {
                if was != is {
                    // It waits where it belongs now, not behind those of a host that it has left.
                    self.slots.ask(&is, key, resident.line);
                }
            }
        }
        // A channel that was ended knew the log only up to its end.
        self.step(key, Input::Head(loaded.head), None);
        if rewound {
            self.step(key, Input::Rewound(loaded.cursor.seq), None);
        } else if moved {
            // Retention moves a cursor and leaves its trouble as it is; whoever else does ends it.
            let seq = loaded.cursor.seq;
            let expired = loaded.cursor.failing.since.is_some();
            self.step(key, if expired { Input::Expired(seq) } else { Input::Moved(seq) }, None);
        }
        self.step(key, waiting, None);
        self.step(key, Input::Changed { terms, readdressed }, None);
        // A row that a checkpoint did not write is written now, so that the lane learns that it is saved.
        // So is one that says "wake me" although nothing is to be done any more.
        let is_told = self.lanes.get(key).is_none_or(|resident| {
            let lane = &resident.lane;
            let idle = !lane.is_pending() && !lane.has_redrives();
            let stale = resident.stored_behind && !lane.is_failing() && idle;
            lane.is_at_rest() && !stale
        });
        if moved || !active || !is_told {
            self.write_place(key);
        }
    }

    /// Whether a change was taken that this read did not see yet: reads overtake each other.
    pub(super) fn is_outdated(&self, loaded: &LoadedLane) -> bool {
        self.newest.get(&loaded.channel.key).is_some_and(|newest| loaded.channel.rev < *newest)
    }

    fn terms(&self, channel: &Channel) -> Terms {
        let own =
            channel.options.retry_schedule_ms.iter().map(|millis| Duration::from_millis(*millis)).collect();
        let options = &channel.options;
        let settings = &self.context.settings;
        Terms {
            active: channel.state.sends(),
            probing: channel.state == ChannelState::Suspended,
            reminded: options.lifecycle,
            reminders: Arc::clone(&settings.reminding.schedule),
            window: options.retry_window_ms.map_or(settings.retry_window, Duration::from_millis),
            max_attempts: options.max_attempts,
            on_exhausted: options.on_exhausted,
            judges_payload: channel.face == Face::Native && channel.payload,
            rate_limit: options.rate_limit,
            expires_at: channel.expires_at,
            catch_up: channel.catch_up,
            filtered: channel.options.filter(&channel.resource_path).is_some(),
            schedule: Schedule::new(own)
                .map_or_else(|| Arc::clone(&self.context.settings.schedule), Arc::new),
        }
    }

    fn target(&self, channel: Channel) -> Target {
        let context = &self.context;
        Target::new(channel, &context.policy, &context.keys.sealer, &context.settings.header_prefix)
    }

    /// Queues the lane's place for the next checkpoint, without an attempt, but with what ended apart on the way there: a
    /// checkpoint that met a moved cursor has written neither.
    pub(super) fn write_place(&mut self, key: ChannelKey) {
        let Some(resident) = self.lanes.get(key) else { return };
        for place in resident.lane.way_here() {
            self.outbox.push(Entry {
                channel: key,
                resource: resident.target.channel.resource,
                place,
                attempt: None,
                moved: resident.moved,
            });
        }
    }

    /// Only once the change is taken: after a 410 a read that began before it would bring the lane back alive.
    pub(super) fn let_go_if_ended(&mut self, key: ChannelKey) {
        let ended = self.lanes.get(key).is_some_and(|resident| {
            !resident.lane.is_active()
                && !resident.target.channel.state.sends()
                && resident.lane.is_at_rest()
                && !resident.level
                && resident.recorded == resident.lane.settled()
        });
        if ended {
            self.lanes.remove(key);
        }
    }

    /// The log of a resource has grown.
    pub(super) fn grow(&mut self, resource: ResourceKey, head: i64) {
        let now = self.context.clock.monotonic();
        // Not in memory: what has been fanned is read with the lanes. Until then nothing is claimed.
        let state = self.lanes.touch(resource, head, i64::MIN, now);
        if state.loading == Loading::No {
            state.loading = Loading::Pending;
            self.reads.push_back(Read::Level { resource, head });
        }
        self.tell_members(resource, head);
        self.outbox.stir(resource);
    }

    pub(super) fn tell_members(&mut self, resource: ResourceKey, head: i64) {
        for key in self.lanes.members(resource) {
            // What comes after its end was never meant for a channel.
            let end = self.lanes.get(key).and_then(|resident| resident.target.channel.end_seq);
            self.step(key, Input::Head(end.map_or(head, |end| end.min(head))), None);
        }
    }

    /// Lets go of what has been at rest for a while.
    pub(super) fn tidy(&mut self) {
        let clock = &self.context.clock;
        let far =
            if self.lanes.len() > ROOMY { clock.now().plus(FAR) } else { Timestamp::from_millis(i64::MAX) };
        let Some(idle_since) = clock.monotonic().checked_sub(IDLE) else { return };
        self.lanes.drop_idle(idle_since, far);
        self.tidy_scans();
    }
}
