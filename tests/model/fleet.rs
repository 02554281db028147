//! Many lives side by side on one server: they share its clock, its store and its receiver, and nothing else. In every
//! round each of them has its turn, then time passes and the jobs run; whenever nothing is under way any more, what the
//! receiver saw, what callers heard and where the channels stand is what the models say.

use std::collections::HashMap;

use futures_util::{StreamExt as _, stream};
use watchpost::{domain::time::Timestamp, jobs::JobName};

use crate::{
    base::Kind,
    calls::Handle,
    channel::Model,
    command::{Command, Seen},
    coverage::Coverage,
    history::{Answer, History, ROUNDS, Weeks},
    judge::{Broken, Life},
    world::{World, answer},
};

/// Lives on one server.
pub const FLEET: u64 = 250;
/// Rounds from one run of the retention job to the next: it walks all logs.
const RETIRED_EVERY: usize = 3;
/// Calls under way at a time.
const CALLS: usize = 16;

/// Which lives of a seed share a server: those that a failing one is told of can be lived again without the others.
pub async fn live(kind: Kind, seed: u64, fleet: u64, indices: Vec<u64>) -> Result<Coverage, Broken> {
    let weeks = Weeks::new(seed, fleet);
    let histories = weeks.histories(seed, &indices);
    let mut fleet = Fleet::open(kind, weeks, histories).await;
    for round in 0..ROUNDS {
        fleet.round(round).await;
        if let Some(broken) = fleet.first_broken(kind) {
            return Err(broken);
        }
    }
    fleet.end().await;
    match fleet.first_broken(kind) {
        Some(broken) => Err(broken),
        None => {
            let coverage = fleet.lives.iter().map(|life| life.coverage).sum();
            fleet.world.stop().await;
            Ok(coverage)
        }
    }
}

fn is_same(sent: &[(Seen, Answer)], seen: &[Seen]) -> bool {
    sent.iter().map(|(seen, _)| seen).eq(seen)
}

struct Fleet {
    world: World,
    weeks: Weeks,
    lives: Vec<Life>,
    handles: Vec<Handle>,
    /// When each round began.
    moments: Vec<Timestamp>,
}

impl Fleet {
    async fn open(kind: Kind, weeks: Weeks, histories: Vec<History>) -> Self {
        let world = World::start(kind, histories.clone()).await;
        let now = world.now();
        let ids: Vec<String> = histories.iter().map(|history| format!("h{}", history.index)).collect();
        let before = histories.iter().zip(&ids);
        let before = before.map(|(history, id)| (id.clone(), vec![0; history.opening.before])).collect();
        let openings = histories
            .iter()
            .enumerate()
            .map(|(slot, history)| (ids[slot].clone(), world.address(slot, 0), history.opening.clone()));
        let (caller, openings) = (world.caller(), openings.collect::<Vec<_>>());
        let handles = world.run(async move {
            caller.publish(before).await;
            let opened = stream::iter(openings).map(|(id, address, opening)| {
                let caller = caller.clone();
                async move { caller.open(id, address, &opening).await }
            });
            opened.buffered(CALLS).collect::<Vec<_>>().await
        });
        let handles = handles.await;
        world.settle().await;
        let lives = histories.into_iter().map(|history| {
            let model = Model::open(&history.opening, vec![0; history.opening.before], now);
            Life::new(history, model)
        });
        let lives = lives.collect();
        let mut fleet = Self { world, weeks, lives, handles, moments: Vec::new() };
        fleet.drain(0);
        fleet
    }

    async fn round(&mut self, round: usize) {
        self.world.begin_round(round);
        self.moments.push(self.world.now());
        self.turn(round).await;
        if self.weeks.midway_crash == round {
            self.crash("the server crashes with requests under way, and starts again").await;
            self.drain_around_crash(round);
        } else {
            self.world.settle().await;
            self.drain(round);
        }
        if self.weeks.still_crash == round {
            self.crash("the server crashes and starts again").await;
            self.drain(round);
        }
        self.world.advance(self.weeks.steps[round]).await;
        self.note(&format!("{:?} pass, it is {}", self.weeks.steps[round], self.world.now().to_rfc3339()));
        // What a crash has left in the store alone is found by the sweep.
        self.world.ring(JobName::Retry).await;
        self.drain(round);
        for job in [JobName::Expiry, JobName::Renewal, JobName::Claims, JobName::Retry] {
            self.world.ring(job).await;
        }
        let now = self.world.now();
        for life in &mut self.lives {
            life.model.expire(now);
        }
        self.drain(round);
        if round % RETIRED_EVERY == RETIRED_EVERY - 1 {
            self.world.ring(JobName::Retention).await;
            for life in &mut self.lives {
                life.model.retire(now);
            }
            self.drain(round);
        }
        self.look().await;
    }

    async fn crash(&mut self, how: &str) {
        self.world.crash().await;
        self.note(how);
        for life in &mut self.lives {
            life.model.pings_unread = !life.model.pings.is_empty();
            life.model.redrove = false;
        }
    }

    /// Every life does what it does in this round.
    async fn turn(&mut self, round: usize) {
        let (now, world) = (self.world.now(), &self.world);
        let mut published = Vec::new();
        let mut calls = Vec::new();
        let mut expected = Vec::new();
        for (slot, life) in self.lives.iter_mut().enumerate() {
            let command = life.model.command(&life.history.turns[round].op, &self.moments);
            let reply = life.model.perform(&command, now);
            life.note(format!(
                "round {round}, {:?}: {command:?} -> {reply:?}",
                life.history.turns[round].weather
            ));
            if let Command::Publish(kinds) = &command {
                published.push((self.handles[slot].id.clone(), kinds.clone()));
            }
            let addresses = [world.address(slot, 0), world.address(slot, 1)];
            calls.push((self.handles[slot].clone(), addresses, command));
            expected.push(reply);
        }
        let caller = world.caller();
        let heard = world.run(async move {
            let heard = stream::iter(calls).map(|(handle, addresses, command)| {
                let caller = caller.clone();
                async move { caller.perform(&handle, &addresses, &command).await }
            });
            let heard = heard.buffered(CALLS).collect::<Vec<_>>().await;
            // Last, so that a crash after the turn finds requests under way.
            caller.publish(published).await;
            heard
        });
        let heard = heard.await;
        for ((life, expected), heard) in self.lives.iter_mut().zip(expected).zip(heard) {
            life.hears("the caller hears", expected, heard);
        }
    }

    /// The models send what may leave, which the receiver has seen by now.
    fn drain(&mut self, round: usize) {
        let now = self.world.now();
        for (slot, life) in self.lives.iter_mut().enumerate() {
            let Life { model, history, .. } = life;
            let seen = self.world.take_seen(slot);
            let mut unaware = model.clone();
            let mut sent = model.drain(now, |seen| answer(history, round, seen));
            if unaware.pings_unread && !is_same(&sent, &seen) {
                let sent_late = unaware.drain_pings_last(now, |seen| answer(history, round, seen));
                if is_same(&sent_late, &seen) {
                    (*model, sent) = (unaware, sent_late);
                }
            }
            life.sees(&sent, &seen);
        }
    }

    /// As `drain`, but what a crash has cut off from its outcome may have been repeated.
    fn drain_around_crash(&mut self, round: usize) {
        let now = self.world.now();
        for (slot, life) in self.lives.iter_mut().enumerate() {
            let Life { model, history, .. } = life;
            let before = model.state;
            let sent = model.drain(now, |seen| answer(history, round, seen));
            life.sees_around_crash(before, &sent, &self.world.take_seen(slot));
        }
    }

    fn note(&mut self, what: &str) {
        for life in &mut self.lives {
            life.note(what.to_owned());
        }
    }

    /// Every channel stands where its model does.
    async fn look(&mut self) {
        let views = self.world.views().await;
        let views: HashMap<_, _> = views.into_iter().map(|view| (view.channel.key, view)).collect();
        let caller = self.world.caller();
        let changed = self.lives.iter_mut().zip(&self.handles).map(|(life, handle)| {
            life.stands(&views[&handle.key]);
            (life.parked_has_changed(), handle.clone())
        });
        let changed: Vec<_> = changed.collect();
        let parked = self.world.run(async move {
            let parked = stream::iter(changed).map(|(changed, handle)| {
                let caller = caller.clone();
                async move { if changed { Some(caller.parked(&handle).await) } else { None } }
            });
            parked.buffered(CALLS).collect::<Vec<_>>().await
        });
        for (life, parked) in self.lives.iter_mut().zip(parked.await) {
            if let Some(parked) = parked {
                life.is("parked", &life.model.parked.keys().copied().collect::<Vec<_>>(), &parked);
            }
        }
    }

    /// At the end: what is left to claim, and the ledger against what the receiver saw.
    async fn end(&mut self) {
        let (caller, handles) = (self.world.caller(), self.handles.clone());
        let found = self.world.run(async move {
            let found = stream::iter(handles).map(|handle| {
                let caller = caller.clone();
                let nowhere = [String::new(), String::new()];
                async move {
                    let left = caller.perform(&handle, &nowhere, &Command::Pull).await;
                    (left, caller.parked(&handle).await, caller.attempts(&handle).await)
                }
            });
            found.buffered(CALLS).collect::<Vec<_>>().await
        });
        let now = self.world.now();
        for (life, (left, parked, attempts)) in self.lives.iter_mut().zip(found.await) {
            let expected = life.model.perform(&Command::Pull, now);
            life.hears("at the end there is left", expected, left);
            life.is("parked at the end", &life.model.parked.keys().copied().collect::<Vec<_>>(), &parked);
            life.has_in_ledger(&attempts);
        }
    }

    fn first_broken(&self, kind: Kind) -> Option<Broken> {
        let broken: Vec<&Life> = self.lives.iter().filter(|life| life.is_broken()).collect();
        broken.first().map(|life| life.broken(kind, broken.len()))
    }
}
