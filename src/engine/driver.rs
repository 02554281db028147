//! The driver: one task that owns all lanes and carries out what their machines decide. Everything that waits –
//! requests, reads, writes – happens in tasks of its own, which report back through the inbox.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use tokio::sync::{mpsc, oneshot};

use super::{
    Command, Context, Seen,
    checkpoint::{Batch, Entry, Outbox},
    delivery::{self, Attempted, End, Report},
    lanes::{Lanes, Loading, Resident},
    lease::Guard,
    machine::{Action, Input, Lane, Outcome, Record, Terms},
    slots::{Feedback, Slots},
    target::Target,
};
use crate::{
    domain::{
        backoff::Schedule,
        channel::{ChannelKey, ChannelState, ResourceKey},
        outcome::Verdict,
        time::Timestamp,
    },
    runtime::Tasks,
    store::{BusyResource, Checkpointed, LoadedLane, StoreError},
    wake::{Bells, Changed, Ear},
};

/// Rows that one read brings into memory.
const PAGE: i64 = 1_000;
/// Reads under way at once; the others wait in a queue without rows of their own.
const READS_MAX: usize = 8;
/// Messages handled before bells and timers get their turn.
const MESSAGES_PER_TURN: usize = 256;
/// How long a resource rests in memory after its last event.
const IDLE: Duration = Duration::from_mins(1);
/// Waiting lanes stay in memory when they are due within this time, and always while there is room. A sweep brings
/// them in as early, so that a retry is on time although the server has restarted since.
const FAR: Duration = Duration::from_mins(1);
const ROOMY: usize = 100_000;
/// How often another node's words are looked for on a shared store.
const POLL_EVERY: Duration = Duration::from_millis(500);
/// The wait before a failed read or write is tried again.
const STORE_RETRY: Duration = Duration::from_secs(1);
/// How long the last requests and checkpoints may take after a stop.
const STOP_WITHIN: Duration = Duration::from_secs(17);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    Stopped,
    /// Another node has the lease.
    Lost,
}

/// What tasks report.
enum Message {
    Delivered(Report),
    Checkpointed(Batch, Result<Checkpointed, StoreError>),
    /// A page of the level lanes of a resource.
    Level {
        resource: ResourceKey,
        fanned: i64,
        head: i64,
        lanes: Vec<LoadedLane>,
        done: bool,
    },
    Lanes(Vec<LoadedLane>),
    /// Changed channels as they are now, and whom to tell that they were taken.
    Changed {
        asked: Vec<ChannelKey>,
        lanes: Vec<LoadedLane>,
        taken: Option<oneshot::Sender<()>>,
    },
    /// Channels that another node changed.
    ChangedElsewhere(Vec<LoadedLane>),
    /// What a sweep found.
    Found {
        busy: Vec<BusyResource>,
        due: Vec<ChannelKey>,
        done: bool,
    },
    Poll,
}

/// A read that waits for its turn.
enum Read {
    Level {
        resource: ResourceKey,
        head: i64,
    },
    Lanes(Vec<ChannelKey>),
    Changed {
        channels: Vec<ChannelKey>,
        taken: Option<oneshot::Sender<()>>,
    },
    /// `foreign`: other nodes may have left word as well. `ahead`: how soon to be due counts as due.
    Sweep {
        foreign: bool,
        ahead: Duration,
    },
}

struct Driver {
    context: Arc<Context>,
    guard: Arc<Guard>,
    tasks: Tasks,
    lanes: Lanes,
    slots: Slots,
    outbox: Outbox,
    timers: BinaryHeap<Reverse<(Timestamp, ChannelKey)>>,
    reads: VecDeque<Read>,
    reading: usize,
    sweeping: bool,
    writing: bool,
    /// Lanes whose turn came while no request may start.
    held: Vec<ChannelKey>,
    /// Lanes that are being read, so that no second read is made for them.
    expected: HashSet<ChannelKey>,
    settlers: Vec<oneshot::Sender<()>>,
    stopping: bool,
    inbox: mpsc::UnboundedSender<Message>,
}

/// Delivers until stopped or until the lease is lost.
pub async fn run(
    context: Arc<Context>,
    guard: Arc<Guard>,
    bells: &Bells,
    tasks: Tasks,
    commands: &mut mpsc::Receiver<Command>,
) -> Ended {
    let (ear, mut changes) = bells.listen();
    // Bounded by what reports into it: slots, reads and one checkpoint.
    let (inbox, mut messages) = mpsc::unbounded_channel();
    let slots = Slots::new(context.settings.host_window);
    let mut driver = Driver {
        context: Arc::clone(&context),
        guard: Arc::clone(&guard),
        tasks: tasks.clone(),
        lanes: Lanes::default(),
        slots,
        outbox: Outbox::default(),
        timers: BinaryHeap::new(),
        reads: VecDeque::from([Read::Sweep { foreign: true, ahead: FAR }]),
        reading: 0,
        sweeping: true,
        writing: false,
        held: Vec::new(),
        expected: HashSet::new(),
        settlers: Vec::new(),
        stopping: false,
        inbox,
    };
    let poller = context
        .store
        .is_shared()
        .then(|| tasks.spawn("engine poll", poll(Arc::clone(&context), driver.inbox.clone())));
    let ended = driver.turn_until_end(&ear, &mut changes, &mut messages, commands).await;
    if let Some(poller) = poller {
        poller.abort();
    }
    ended
}

/// On a shared store other nodes append and change channels too: their words are looked for, not waited for.
async fn poll(context: Arc<Context>, inbox: mpsc::UnboundedSender<Message>) {
    loop {
        context.clock.sleep(POLL_EVERY).await;
        if inbox.send(Message::Poll).is_err() {
            return;
        }
    }
}

impl Driver {
    async fn turn_until_end(
        &mut self,
        ear: &Ear,
        changes: &mut mpsc::Receiver<Changed>,
        messages: &mut mpsc::UnboundedReceiver<Message>,
        commands: &mut mpsc::Receiver<Command>,
    ) -> Ended {
        let guard = Arc::clone(&self.guard);
        let mut stop_by = None;
        loop {
            self.work();
            if self.is_settled() {
                for settled in self.settlers.drain(..) {
                    let _ = settled.send(());
                }
                if self.stopping {
                    return Ended::Stopped;
                }
            }
            let timer = self.next_timer(stop_by);
            tokio::select! {
                biased;
                () = guard.lost() => return Ended::Lost,
                Some(message) = messages.recv() => {
                    self.on_message(message);
                    for _ in 0..MESSAGES_PER_TURN {
                        let Ok(message) = messages.try_recv() else { break };
                        self.on_message(message);
                    }
                }
                Some(Changed { channels, taken }) = changes.recv() => {
                    self.reads.push_front(Read::Changed { channels, taken: Some(taken) });
                }
                () = ear.rung() => {}
                command = commands.recv() => match command {
                    Some(Command::Sweep) => self.sweep(),
                    Some(Command::Settle(settled)) => self.settlers.push(settled),
                    Some(Command::Stop) | None => {
                        self.stopping = true;
                        stop_by = Some(self.context.clock.monotonic() + STOP_WITHIN);
                    }
                },
                () = timer => {}
            }
            // Whatever woke the loop: a bell that rang meanwhile counts before anything is called settled.
            for (resource, head) in ear.take() {
                self.grow(resource, head);
            }
            self.ring_timers();
            if stop_by.is_some_and(|by| self.context.clock.monotonic() >= by) {
                tracing::warn!(in_flight = self.slots.in_flight(), "stopping with requests in flight");
                return Ended::Stopped;
            }
        }
    }

    /// Starts what can start.
    fn work(&mut self) {
        self.grant_slots();
        self.start_checkpoint();
        while self.reading < READS_MAX && !self.stopping {
            let Some(read) = self.reads.pop_front() else { break };
            self.start_read(read);
        }
        if self.stopping {
            self.drop_reads();
        }
    }

    fn is_settled(&self) -> bool {
        let quiet = self.slots.in_flight() == 0 && !self.writing && self.outbox.is_empty();
        quiet && (self.stopping || (self.reading == 0 && self.reads.is_empty()))
    }

    // ---- messages ----

    fn on_message(&mut self, message: Message) {
        match message {
            Message::Delivered(report) => self.on_report(report),
            Message::Checkpointed(batch, written) => self.on_checkpoint(batch, written),
            Message::Level { resource, fanned, head, lanes, done } => {
                let now = self.context.clock.monotonic();
                let state = self.lanes.touch(resource, head, fanned, now);
                if done {
                    state.loading = Loading::Done;
                    self.reading -= 1;
                }
                for lane in lanes {
                    self.admit(lane);
                }
                if done {
                    self.outbox.stir(resource);
                    // It may have grown while it was being read.
                    let head = self.lanes.resource(resource).map_or(head, |state| state.head);
                    self.tell_members(resource, head);
                }
            }
            Message::Lanes(lanes) => {
                self.reading -= 1;
                for lane in lanes {
                    self.expected.remove(&lane.channel.key);
                    self.admit(lane);
                }
            }
            Message::Changed { asked, lanes, taken } => {
                self.reading -= 1;
                for lane in lanes {
                    self.change(lane);
                }
                for key in asked {
                    self.expected.remove(&key);
                }
                if let Some(taken) = taken {
                    let _ = taken.send(());
                }
            }
            Message::ChangedElsewhere(lanes) => {
                for lane in lanes {
                    self.change(lane);
                }
            }
            Message::Found { busy, due, done } => {
                for found in busy {
                    self.grow(found.resource, found.head);
                }
                let unknown: Vec<ChannelKey> = due
                    .into_iter()
                    .filter(|key| !self.lanes.contains(*key) && self.expected.insert(*key))
                    .collect();
                if !unknown.is_empty() {
                    self.reads.push_back(Read::Lanes(unknown));
                }
                if done {
                    self.reading -= 1;
                    self.sweeping = false;
                    self.tidy();
                }
            }
            Message::Poll => {
                if !self.sweeping && !self.stopping {
                    self.sweeping = true;
                    self.reads.push_back(Read::Sweep { foreign: true, ahead: Duration::ZERO });
                }
                self.take_held();
            }
        }
    }

    fn on_report(&mut self, report: Report) {
        self.slots.release(&report.origin, report.feedback);
        let jitter = self.context.entropy.unit();
        let (input, attempted) = match report.end {
            End::NotSent => (Input::NotSent, None),
            End::Ours { through } => {
                let outcome =
                    Outcome { through, verdict: Verdict::Ours, status: None, retry_after: None, jitter };
                (Input::Outcome(outcome), None)
            }
            End::Attempted(attempted) => {
                let outcome = Outcome {
                    through: attempted.through,
                    verdict: attempted.verdict,
                    status: attempted.attempt.status,
                    retry_after: attempted.retry_after,
                    jitter,
                };
                (Input::Outcome(outcome), Some(attempted))
            }
        };
        self.step(report.channel, input, attempted);
    }

    fn on_checkpoint(&mut self, batch: Batch, written: Result<Checkpointed, StoreError>) {
        self.writing = false;
        match written {
            Ok(checkpointed) => {
                if !checkpointed.moved.is_empty() {
                    // The change may not have been told yet: what it made of the row is read before the lane's
                    // place is written again. Its attempts are in the ledger.
                    let channels = checkpointed.moved.clone();
                    self.reads.push_front(Read::Changed { channels, taken: None });
                }
                let moved: HashSet<ChannelKey> = checkpointed.moved.into_iter().collect();
                for (channel, outcome) in batch.saved {
                    if moved.contains(&channel) {
                        if let Some(resident) = self.lanes.get_mut(channel) {
                            resident.stored_behind = true;
                        }
                    } else {
                        self.step(channel, Input::Saved(outcome), None);
                        self.let_go_if_ended(channel);
                    }
                }
            }
            Err(StoreError::Fenced) => self.guard.give_up(),
            // Only a closed store ends up here: everything else is retried.
            Err(_) => self.stopping = true,
        }
    }

    // ---- lanes ----

    /// Takes a loaded lane into memory, unless it is there already.
    fn admit(&mut self, loaded: LoadedLane) {
        let key = loaded.channel.key;
        if self.lanes.contains(key) {
            return;
        }
        let now = self.context.clock.monotonic();
        let resource = loaded.channel.resource;
        let head = self.lanes.touch(resource, loaded.head, loaded.fanned, now).head;
        let level = !loaded.cursor.behind;
        let mut lane = Lane::load(
            loaded.channel.start_seq,
            loaded.channel.end_seq.unwrap_or(head),
            loaded.cursor.seq,
            loaded.cursor.failing,
            loaded.cursor.last_success_at,
            self.terms(&loaded.channel),
        );
        lane.delay_first_attempt(self.context.clock.now());
        let resident = Resident {
            recorded: lane.settled(),
            moved: loaded.cursor.moved,
            stored_behind: loaded.cursor.behind,
            level,
            timer: None,
            target: Arc::new(self.target(loaded.channel)),
            lane,
        };
        // A row that says "wake me" although nothing is to be done is put right, or every sweep would find it.
        let idle = !resident.lane.is_pending() || !resident.lane.is_active();
        let stale_row = resident.stored_behind && !resident.lane.is_failing() && idle;
        self.lanes.insert(key, resident);
        if stale_row {
            self.write_place(key);
        }
        self.step(key, Input::Time, None);
    }

    /// Applies a channel's new revision.
    fn change(&mut self, loaded: LoadedLane) {
        let key = loaded.channel.key;
        let terms = self.terms(&loaded.channel);
        let active = terms.active;
        let Some(resident) = self.lanes.get_mut(key) else {
            if active {
                self.admit(loaded);
            }
            return;
        };
        resident.target.make_stale();
        let readdressed = resident.target.channel.address != loaded.channel.address;
        // Ends and revivals raise `moved` so that no older row undoes them. They leave the place itself alone, so
        // what is in memory is ahead of the row, never behind it: it is written again under the new `moved`.
        let moved = resident.moved != loaded.cursor.moved;
        resident.moved = loaded.cursor.moved;
        resident.stored_behind |= loaded.cursor.behind;
        let target = Arc::new(self.target(loaded.channel));
        if let Some(resident) = self.lanes.get_mut(key) {
            resident.target = target;
        }
        self.step(key, Input::Changed { terms, readdressed }, None);
        // A row that a checkpoint did not write is written now, so that the lane learns that it is saved.
        if moved || !active || self.lanes.get(key).is_some_and(|resident| !resident.lane.is_at_rest()) {
            self.write_place(key);
        }
    }

    fn terms(&self, channel: &crate::domain::channel::Channel) -> Terms {
        let own =
            channel.options.retry_schedule_ms.iter().map(|millis| Duration::from_millis(*millis)).collect();
        Terms {
            active: channel.state == ChannelState::Active,
            expires_at: channel.expires_at,
            catch_up: channel.catch_up,
            schedule: Schedule::new(own)
                .map_or_else(|| Arc::clone(&self.context.settings.schedule), Arc::new),
        }
    }

    fn target(&self, channel: crate::domain::channel::Channel) -> Target {
        let context = &self.context;
        Target::new(channel, &context.policy, &context.keys.sealer, &context.settings.header_prefix)
    }

    /// Queues the lane's place for the next checkpoint, without an attempt.
    fn write_place(&mut self, key: ChannelKey) {
        let Some(resident) = self.lanes.get(key) else { return };
        self.outbox.push(Entry {
            channel: key,
            resource: resident.target.channel.resource,
            place: resident.lane.place(),
            attempt: None,
        });
    }

    fn let_go_if_ended(&mut self, key: ChannelKey) {
        let ended = self.lanes.get(key).is_some_and(|resident| {
            !resident.lane.is_active()
                && resident.lane.is_at_rest()
                && !resident.level
                && resident.recorded == resident.lane.settled()
        });
        if ended {
            self.lanes.remove(key);
        }
    }

    /// The log of a resource has grown.
    fn grow(&mut self, resource: ResourceKey, head: i64) {
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

    fn tell_members(&mut self, resource: ResourceKey, head: i64) {
        for key in self.lanes.members(resource) {
            self.step(key, Input::Head(head), None);
        }
    }

    /// Lets a machine decide and does what it says.
    fn step(&mut self, key: ChannelKey, input: Input, attempted: Option<Attempted>) {
        let now = self.context.clock.now();
        let Some(resident) = self.lanes.get_mut(key) else { return };
        let actions = resident.lane.step(input, now);
        let mut attempted = attempted;
        for action in actions {
            match action {
                Action::AskSlot => {
                    if let Some(resident) = self.lanes.get(key) {
                        self.slots.ask(resident.target.origin(), key);
                    }
                }
                Action::Send(send) => self.send(key, send),
                Action::Record(record) => self.record(key, record, attempted.take()),
                Action::WakeAt(at) => self.set_timer(key, at),
                Action::EndGone => self.end_gone(key),
            }
        }
    }

    fn record(&mut self, key: ChannelKey, place: Record, attempted: Option<Attempted>) {
        let Some(resident) = self.lanes.get(key) else { return };
        let channel = &resident.target.channel;
        if let Some(attempted) = &attempted
            && self.context.seen.receiver_count() > 0
        {
            let _ = self.context.seen.send(Seen {
                channel_id: channel.id.clone(),
                channel_uid: channel.uid.clone(),
                project: channel.project.clone(),
                number: attempted.attempt.number,
                attempt: attempted.attempt.attempt,
                name: attempted.name.clone(),
                state: attempted.state.clone(),
                outcome: attempted.attempt.outcome,
                status: attempted.attempt.status,
                error: attempted.attempt.error,
                duration_ms: attempted.attempt.duration_ms,
                next_at: place.failing.due_at,
            });
        }
        let resource = channel.resource;
        self.outbox.push(Entry {
            channel: key,
            resource,
            place,
            attempt: attempted.map(|attempted| attempted.attempt),
        });
    }

    // ---- slots and sending ----

    fn grant_slots(&mut self) {
        if self.stopping {
            return;
        }
        while let Some((origin, key)) = self.slots.next() {
            let sends = self.use_slot(&origin, key);
            if !sends {
                self.slots.release(&origin, Feedback::Neutral);
            }
        }
    }

    /// Whether a request takes the slot with it.
    fn use_slot(&mut self, origin: &crate::outbound::Origin, key: ChannelKey) -> bool {
        let Some(resident) = self.lanes.get(key) else { return false };
        if !resident.lane.is_queued() {
            return false;
        }
        if resident.target.origin() != origin {
            // The address changed while it waited: it queues where it belongs now.
            self.slots.ask(resident.target.origin(), key);
            return false;
        }
        if !self.guard.may_start(self.context.clock.monotonic()) {
            self.held.push(key);
            return false;
        }
        let before = self.slots.in_flight();
        let now = self.context.clock.now();
        let Some(resident) = self.lanes.get_mut(key) else { return false };
        let actions = resident.lane.step(Input::Slot, now);
        let mut sends = false;
        for action in actions {
            match action {
                Action::Send(send) => {
                    self.send(key, send);
                    sends = true;
                }
                Action::AskSlot => self.slots.ask(origin, key),
                Action::WakeAt(at) => self.set_timer(key, at),
                Action::Record(_) | Action::EndGone => {}
            }
        }
        debug_assert_eq!(before, self.slots.in_flight(), "a slot is released by its report alone");
        sends
    }

    fn send(&mut self, key: ChannelKey, send: super::machine::Send) {
        let Some(resident) = self.lanes.get(key) else { return };
        let (context, guard) = (Arc::clone(&self.context), Arc::clone(&self.guard));
        let (target, inbox) = (Arc::clone(&resident.target), self.inbox.clone());
        self.tasks.spawn("delivery", async move {
            let report = delivery::deliver(&context, &guard, key, target, send).await;
            let _ = inbox.send(Message::Delivered(report));
        });
    }

    /// Those whose turn came while the lease was too short queue again.
    fn take_held(&mut self) {
        if self.held.is_empty() || !self.guard.may_start(self.context.clock.monotonic()) {
            return;
        }
        for key in std::mem::take(&mut self.held) {
            if let Some(resident) = self.lanes.get(key) {
                self.slots.ask(resident.target.origin(), key);
            }
        }
    }

    fn end_gone(&mut self, key: ChannelKey) {
        let (context, inbox) = (Arc::clone(&self.context), self.inbox.clone());
        self.reading += 1;
        self.tasks.spawn("end of a gone channel", async move {
            let now = context.clock.now();
            until_done(&context, || context.store.end_channel(key, ChannelState::Gone, now)).await;
            let lanes = until_done(&context, || context.store.lanes(vec![key])).await.unwrap_or_default();
            let _ = inbox.send(Message::Changed { asked: vec![key], lanes, taken: None });
        });
    }

    // ---- timers ----

    fn set_timer(&mut self, key: ChannelKey, at: Timestamp) {
        let Some(resident) = self.lanes.get_mut(key) else { return };
        if resident.timer.is_none_or(|set| at < set) {
            resident.timer = Some(at);
            self.timers.push(Reverse((at, key)));
        }
    }

    fn ring_timers(&mut self) {
        let now = self.context.clock.now();
        while let Some(Reverse((at, key))) = self.timers.peek().copied() {
            if at > now {
                break;
            }
            self.timers.pop();
            if let Some(resident) = self.lanes.get_mut(key)
                && resident.timer == Some(at)
            {
                resident.timer = None;
                self.step(key, Input::Time, None);
            }
        }
    }

    fn next_timer(&self, stop_by: Option<Duration>) -> crate::clock::Sleep {
        let clock = &self.context.clock;
        let due = self.timers.peek().map(|Reverse((at, _))| at.since(clock.now()));
        let stop = stop_by.map(|by| by.saturating_sub(clock.monotonic()));
        match due.into_iter().chain(stop).min() {
            Some(wait) => clock.sleep(wait),
            None => Box::pin(std::future::pending()),
        }
    }

    // ---- store ----

    fn start_checkpoint(&mut self) {
        if self.writing {
            return;
        }
        let now = self.context.clock.now();
        let Some(batch) = self.outbox.take(&mut self.lanes, self.guard.lease.epoch, now) else { return };
        self.writing = true;
        let (context, inbox) = (Arc::clone(&self.context), self.inbox.clone());
        self.tasks.spawn("checkpoint", async move {
            let written = if batch.checkpoint.is_empty() {
                Ok(Checkpointed::default())
            } else {
                write(&context, &batch).await
            };
            let _ = inbox.send(Message::Checkpointed(batch, written));
        });
    }

    fn sweep(&mut self) {
        if !self.sweeping && !self.stopping {
            self.sweeping = true;
            self.reads.push_back(Read::Sweep { foreign: self.context.store.is_shared(), ahead: FAR });
        }
        self.take_held();
    }

    /// Lets go of what has been at rest for a while.
    fn tidy(&mut self) {
        let clock = &self.context.clock;
        let far =
            if self.lanes.len() > ROOMY { clock.now().plus(FAR) } else { Timestamp::from_millis(i64::MAX) };
        let Some(idle_since) = clock.monotonic().checked_sub(IDLE) else { return };
        self.lanes.drop_idle(idle_since, far);
    }

    fn start_read(&mut self, read: Read) {
        self.reading += 1;
        let (context, inbox) = (Arc::clone(&self.context), self.inbox.clone());
        self.tasks.spawn("engine read", async move {
            match read {
                Read::Level { resource, head } => read_level(&context, &inbox, resource, head).await,
                Read::Lanes(keys) => {
                    let lanes =
                        until_done(&context, || context.store.lanes(keys.clone())).await.unwrap_or_default();
                    let _ = inbox.send(Message::Lanes(lanes));
                }
                Read::Changed { channels, taken } => {
                    let lanes = until_done(&context, || context.store.lanes(channels.clone()))
                        .await
                        .unwrap_or_default();
                    let _ = inbox.send(Message::Changed { asked: channels, lanes, taken });
                }
                Read::Sweep { foreign, ahead } => read_work(&context, &inbox, foreign, ahead).await,
            }
        });
    }

    /// Whoever waits for a read that is not made any more is told.
    fn drop_reads(&mut self) {
        for read in self.reads.drain(..) {
            if let Read::Changed { taken: Some(taken), .. } = read {
                let _ = taken.send(());
            }
        }
    }
}

async fn read_level(
    context: &Context,
    inbox: &mpsc::UnboundedSender<Message>,
    resource: ResourceKey,
    head: i64,
) {
    let before = ResourceKey(resource.0 - 1);
    let busy = until_done(context, || context.store.busy_resources(before, 1)).await.unwrap_or_default();
    let found = busy.into_iter().find(|busy| busy.resource == resource);
    let (head, fanned) = found.map_or((head, head), |found| (found.head.max(head), found.fanned));
    let mut after = ChannelKey(0);
    loop {
        let page = until_done(context, || context.store.level_lanes(resource, after, PAGE))
            .await
            .unwrap_or_default();
        let done = i64::try_from(page.len()).is_ok_and(|rows| rows < PAGE);
        after = page.last().map_or(after, |lane| lane.channel.key);
        if inbox.send(Message::Level { resource, fanned, head, lanes: page, done }).is_err() || done {
            return;
        }
    }
}

async fn read_work(
    context: &Context,
    inbox: &mpsc::UnboundedSender<Message>,
    foreign: bool,
    ahead: Duration,
) {
    if foreign {
        let keys = until_done(context, || context.store.take_changed_channels()).await.unwrap_or_default();
        if !keys.is_empty() {
            let lanes = until_done(context, || context.store.lanes(keys.clone())).await.unwrap_or_default();
            let _ = inbox.send(Message::ChangedElsewhere(lanes));
        }
    }
    let mut after = ResourceKey(0);
    loop {
        let busy =
            until_done(context, || context.store.busy_resources(after, PAGE)).await.unwrap_or_default();
        let Some(last) = busy.last() else { break };
        after = last.resource;
        let _ = inbox.send(Message::Found { busy, due: Vec::new(), done: false });
    }
    let by = context.clock.now().plus(ahead);
    let mut after = None;
    loop {
        let due =
            until_done(context, || context.store.due_channels(by, after, PAGE)).await.unwrap_or_default();
        let Some(last) = due.last() else { break };
        after = Some(*last);
        let due = due.into_iter().map(|(_, key)| key).collect();
        let _ = inbox.send(Message::Found { busy: Vec::new(), due, done: false });
    }
    let _ = inbox.send(Message::Found { busy: Vec::new(), due: Vec::new(), done: true });
}

/// Repeats a store call until it works. `None`: the store is closed.
async fn until_done<T, F>(context: &Context, call: impl Fn() -> F) -> Option<T>
where
    F: Future<Output = Result<T, StoreError>>,
{
    loop {
        match call().await {
            Ok(value) => return Some(value),
            Err(StoreError::Closed) => return None,
            Err(error) => tracing::warn!(error = %error, "the store did not answer the engine; trying again"),
        }
        context.clock.sleep(STORE_RETRY).await;
    }
}

/// Writes a checkpoint, again and again until it is durable, the lease is lost or the store is closed.
async fn write(context: &Context, batch: &Batch) -> Result<Checkpointed, StoreError> {
    let mut checkpoint = batch.checkpoint.clone();
    loop {
        match context.store.checkpoint(checkpoint.clone()).await {
            Err(error) if !matches!(error, StoreError::Fenced | StoreError::Closed) => {
                checkpoint.repeated |= matches!(error, StoreError::CommitUnknown);
                tracing::warn!(error = %error, "a checkpoint was not written; trying again");
                context.clock.sleep(STORE_RETRY).await;
            }
            written => return written,
        }
    }
}
