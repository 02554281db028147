//! The driver: one task that owns all lanes and carries out what their machines decide. Everything that waits –
//! requests, reads, writes – happens in tasks of its own, which report back through the inbox.
//!
//! This file is the loop and what it hears. `residence` brings lanes into memory and lets them go, `sending` gives
//! out slots, `reading` and `saving` talk to the store, `turning` changes channels by outcomes, `filtering` finds the
//! next event of a filtered lane, `timers` keeps the time.

mod filtering;
mod reading;
mod residence;
mod saving;
mod sending;
mod timers;
mod turning;

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use tokio::sync::{mpsc, oneshot};

use self::{
    filtering::{Scans, Stretch},
    reading::Read,
    timers::Timers,
    turning::NewState,
};
use super::{
    Command, Context, Seen,
    checkpoint::{Batch, Entry, Outbox},
    delivery::{Attempted, Report},
    lanes::{Lanes, Loading},
    lease::Guard,
    machine::{Action, Input, Record},
    scan::Chunk,
    slots::{Slot, Slots},
};
use crate::{
    domain::channel::{ChannelKey, ResourceKey},
    outbound::Origin,
    runtime::Tasks,
    store::{BusyResource, Checkpointed, LoadedLane, StoreError},
    wake::{Bells, Changed, Ear},
};

/// Messages handled before bells and timers get their turn.
const MESSAGES_PER_TURN: usize = 256;
/// How often another node's words are looked for on a shared store.
const POLL_EVERY: Duration = Duration::from_millis(500);
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
    Lanes {
        asked: Vec<ChannelKey>,
        lanes: Vec<LoadedLane>,
    },
    /// Changed channels as they are now, and whom to tell that they were taken.
    Changed {
        asked: Vec<ChannelKey>,
        lanes: Vec<LoadedLane>,
        taken: Option<oneshot::Sender<()>>,
        /// The channel, where it was changed by an outcome of its lane.
        turned: Option<ChannelKey>,
    },
    /// Channels that another node changed.
    ChangedElsewhere(Vec<LoadedLane>),
    /// What a filter wants of a stretch of a log.
    Scanned {
        stretch: Stretch,
        chunks: Vec<Chunk>,
    },
    Found(Found),
    Poll,
    /// A read found the store closed: nothing can be found or made durable any more.
    StoreClosed,
}

/// What a sweep found: page by page, the last one empty and `done`.
#[derive(Default)]
struct Found {
    busy: Vec<BusyResource>,
    due: Vec<ChannelKey>,
    /// Channels that are to be told something.
    told: Vec<ChannelKey>,
    done: bool,
}

struct Driver {
    context: Arc<Context>,
    guard: Arc<Guard>,
    tasks: Tasks,
    lanes: Lanes,
    slots: Slots,
    outbox: Outbox,
    timers: Timers,
    scans: Scans,
    reads: VecDeque<Read>,
    reading: usize,
    sweeping: bool,
    writing: bool,
    /// The slot that was just given out, until a request takes it with it.
    granted: Option<Slot>,
    /// Lanes whose turn came while no request may start.
    held: Vec<(Origin, ChannelKey)>,
    /// Lanes that are being read, so that no second read is made for them.
    expected: HashSet<ChannelKey>,
    /// The newest revision known of channels that changed while something was being read: what an older read
    /// brings of them is out of date.
    newest: HashMap<ChannelKey, i64>,
    /// Channels that are being changed by outcomes, and what is to follow.
    turning: HashMap<ChannelKey, VecDeque<NewState>>,
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
    let slots = Slots::new(context.settings.host_window, context.settings.destination_rate);
    let mut driver = Driver {
        context: Arc::clone(&context),
        guard: Arc::clone(&guard),
        tasks: tasks.clone(),
        lanes: Lanes::default(),
        slots,
        outbox: Outbox::default(),
        timers: Timers::default(),
        scans: Scans::default(),
        reads: VecDeque::from([Read::at_start()]),
        reading: 0,
        sweeping: true,
        writing: false,
        granted: None,
        held: Vec::new(),
        expected: HashSet::new(),
        newest: HashMap::new(),
        turning: HashMap::new(),
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
    if ended == Ended::Lost {
        driver.let_all_end(&mut messages).await;
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
        while self.reading < reading::READS_MAX && !self.stopping {
            let Some(read) = self.reads.pop_front() else { break };
            self.start_read(read);
        }
        if self.stopping {
            self.drop_reads();
        }
        if self.reading == 0 {
            self.newest.clear();
        }
    }

    fn is_settled(&self) -> bool {
        let quiet = self.slots.in_flight() == 0 && !self.writing && self.outbox.is_empty();
        quiet && (self.stopping || (self.reading == 0 && self.reads.is_empty()))
    }

    /// After the lease is lost: what left or was read under it ends before anything can under a new one. Nothing new
    /// starts: slots and checkpoints are given out by the loop that has ended.
    async fn let_all_end(&mut self, messages: &mut mpsc::UnboundedReceiver<Message>) {
        let mut late = self.context.clock.sleep(self.context.settings.attempt_timeout);
        while self.slots.in_flight() > 0 || self.reading > 0 {
            tokio::select! {
                Some(message) = messages.recv() => self.on_message(message),
                () = &mut late => return,
            }
        }
    }

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
            Message::Lanes { asked, lanes } => {
                self.reading -= 1;
                for lane in lanes {
                    self.admit(lane);
                }
                for key in asked {
                    self.expected.remove(&key);
                }
            }
            Message::Changed { asked, lanes, taken, turned } => {
                self.reading -= 1;
                if let Some(key) = turned {
                    self.has_turned(key, &lanes);
                }
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
            Message::Scanned { stretch, chunks } => self.on_scanned(stretch, chunks),
            Message::Found(Found { busy, due, told, done }) => {
                self.take_found(busy, due);
                self.take_told(told);
                if done {
                    self.reading -= 1;
                    self.sweeping = false;
                    self.tidy();
                }
            }
            Message::Poll => {
                self.poll();
                self.take_held();
            }
            Message::StoreClosed => self.stopping = true,
        }
    }

    /// Lets a machine decide and does what it says.
    fn step(&mut self, key: ChannelKey, input: Input, mut attempted: Option<Attempted>) {
        let now = self.context.clock.now();
        let moved_to = attempted.as_ref().and_then(|attempted| attempted.moved_to.clone());
        let Some(resident) = self.lanes.get_mut(key) else { return };
        let actions = resident.lane.step(input, now);
        for action in actions {
            match action {
                Action::AskSlot => {
                    if let Some(resident) = self.lanes.get(key) {
                        self.slots.ask(resident.origin(), key, resident.line);
                    }
                }
                Action::AskNoticeSlot => {
                    if let Some(resident) = self.lanes.get(key)
                        && let (_, Some(notice)) = resident.lane.slots_asked()
                    {
                        self.slots.ask(resident.origin_of_notice(notice), key, resident.line);
                    }
                }
                Action::AskNext => self.ask_next(key),
                Action::Send(send) => self.send(key, send),
                Action::Tell { notice, attempt } => self.tell(key, notice, attempt),
                Action::Record(record) => self.record(key, record, attempted.take()),
                Action::WakeAt(at) => self.set_timer(key, at),
                Action::EndGone => self.change_state(key, NewState::Gone),
                Action::Suspend { probe_at } => self.change_state(key, NewState::Suspended { probe_at }),
                Action::Resume => self.change_state(key, NewState::Resumed),
                Action::Ping => self.change_state(key, NewState::Pinged),
                Action::Readdress => {
                    // Where the request went: had the address changed since, this would be no move.
                    let from = self.lanes.get(key).map(|resident| resident.target.channel.address.clone());
                    if let (Some(from), Some(to)) = (from, moved_to.clone()) {
                        self.change_state(key, NewState::Readdressed { from, to });
                    }
                }
            }
        }
    }
}
