//! A campaign: load, blows at moments that the seed chooses, healing, and judgement.

use std::{
    fmt::Write as _,
    io::Write as _,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    thread::Scope,
    time::Duration,
};

use serde_json::Value;

use crate::{
    board::{Alarm, Board, State},
    checker::{Figures, check},
    clock::{Started, let_run},
    dice::Dice,
    history::{Attempt, End, FeedEvent, History},
    http::Client,
    journal::Journal,
    load::{Owner, RESOURCES, publish},
    program::{Process, Program, announce},
    receiver::Receiver,
    support::postgres::Cluster,
};

const PUBLISHERS: usize = 4;
/// Load is flowing once one process has done this much.
const ACKNOWLEDGED_FLOWING: usize = 8;
const DELIVERED_FLOWING: usize = 20;
const FLOWING_WITHIN: Duration = Duration::from_mins(1);
const READY_WITHIN: Duration = Duration::from_secs(30);
const HEALED_WITHIN: Duration = Duration::from_mins(1);
/// A promise of the program.
const STOPPED_WITHIN: Duration = Duration::from_secs(20);
const VIOLATIONS_SHOWN: usize = 20;

#[derive(Clone, Copy, Debug)]
pub enum Blow {
    /// `kill -9` while everything flows.
    Kill,
    /// `kill -9` during start-up and recovery.
    KillStarting,
    /// `kill -9` while a channel is being opened, changed or stopped.
    KillChanging,
    /// SIGTERM while everything flows.
    Stop,
    /// `kill -9` of the database server, which is started again; the program lives on.
    KillDatabase,
}

pub struct Campaign<'c> {
    pub name: &'static str,
    pub seed: u64,
    pub database_url: DatabaseUrl<'c>,
    pub blows: Vec<Blow>,
}

#[derive(Clone, Copy)]
pub enum DatabaseUrl<'c> {
    /// A file in the campaign's own folder.
    Sqlite,
    Postgres(&'c str),
    /// A cluster that blows may fall on.
    Owned(&'c str, &'c Cluster),
}

struct Run<'s, 'e> {
    scope: &'s Scope<'s, 'e>,
    board: &'e Board,
    program: &'e Program,
    process: Process,
    ends: Vec<End>,
    times: Times,
    dice: Dice,
}

/// How a campaign went, besides what was judged.
#[derive(Clone, Copy, Default)]
struct Times {
    slowest_start: Duration,
    slowest_stop: Duration,
    /// Kills that came before the program listened.
    killed_before_up: usize,
}

impl Campaign<'_> {
    /// Panics with everything that was broken.
    pub fn run(&self) {
        let started = Started::now();
        say(&format!("{}: seed {}, repeat with CRASH_SEED={}", self.name, self.seed, self.seed));
        let folder = new_folder(self.name);
        let url = match self.database_url {
            DatabaseUrl::Sqlite => format!("sqlite:{}", folder.join("store.db").display()),
            DatabaseUrl::Postgres(url) | DatabaseUrl::Owned(url, _) => url.to_owned(),
        };
        let program = Program::new(&folder, &url);
        let board = Arc::new(Board::default());
        let receiver = Arc::new(Receiver::start(self.seed, Arc::clone(&board)));
        let token = program.token();
        let mut journals: Vec<Journal> =
            (0..PUBLISHERS).map(|number| Journal::new(&folder, number)).collect();
        let mut owner = Owner::new(Arc::clone(&board), &token, self.seed, Arc::clone(&receiver));
        let mut history = History::default();
        let mut times = Times::default();
        std::thread::scope(|scope| {
            let _alarm = Alarm(&board);
            let mut run = Run::start(scope, &board, &program, Dice::new(self.seed, self.name));
            run.until_up();
            owner.open_lasting();
            let mut helpers = Vec::new();
            for (number, journal) in journals.iter_mut().enumerate() {
                let (board, token) = (Arc::clone(&board), &token);
                helpers.push(scope.spawn(move || publish(board, token, self.seed, number, journal)));
            }
            helpers.push(scope.spawn(|| owner.churn()));
            for blow in &self.blows {
                run.strike(*blow, self.database_url);
            }
            run.until_flowing();
            board.note(|state| state.finishing = true);
            for helper in helpers {
                helper.join().expect("see the message of the thread that panicked");
            }
            run.heal(&token);
            run.stop();
            // Whoever starts after an orderly stop has nothing to send, and a ledger without gaps.
            run.start_next();
            run.until_up();
            run.ask(&token, &mut history);
            run.stop();
            history.ends.clone_from(&run.ends);
            times = run.times;
        });
        history.publishes = journals.iter().flat_map(Journal::read).collect();
        history.channels = owner.into_channels();
        history.requests = receiver.requests();
        let (violations, figures) = check(&history);
        say(&self.summary(&history, &figures, times, started.elapsed()));
        let shown = violations.iter().take(VIOLATIONS_SHOWN).fold(String::new(), |mut shown, violation| {
            writeln!(shown, "  {:?}: {}", violation.rule, violation.detail).unwrap();
            shown
        });
        assert!(
            violations.is_empty(),
            "{} with CRASH_SEED={}: {} violations\n{shown}everything is kept in {}",
            self.name,
            self.seed,
            violations.len(),
            folder.display(),
        );
        std::fs::remove_dir_all(&folder).unwrap();
    }

    fn summary(&self, history: &History, figures: &Figures, times: Times, took: Duration) -> String {
        let killed = history.ends.iter().filter(|end| **end == End::Killed).count();
        format!(
            "{}: {killed} kills ({} before it listened), {} orderly stops, {} database kills | {} events acknowledged, {} publishes left \
             unknown | {} channels, {} requests, {} delivered, {} duplicates (at most {} per channel and kill), \
             {} not in the ledger | slowest start {} ms, stop {} ms | {:.1} s",
            self.name,
            times.killed_before_up,
            history.ends.len() - killed,
            self.blows.iter().filter(|blow| matches!(blow, Blow::KillDatabase)).count(),
            figures.acknowledged,
            figures.unknown,
            history.channels.len(),
            figures.requests,
            figures.delivered,
            figures.duplicates,
            figures.repeats_most,
            figures.not_in_ledger,
            times.slowest_start.as_millis(),
            times.slowest_stop.as_millis(),
            took.as_secs_f64(),
        )
    }
}

impl<'s, 'e> Run<'s, 'e> {
    fn start(scope: &'s Scope<'s, 'e>, board: &'e Board, program: &'e Program, dice: Dice) -> Self {
        let mut process = program.spawn(0);
        let stdout = process.stdout();
        scope.spawn(move || announce(stdout, 0, board));
        Self { scope, board, program, process, ends: Vec::new(), times: Times::default(), dice }
    }

    /// The next process, on the same store.
    fn start_next(&mut self) {
        let incarnation = self.ends.len();
        self.board.note(|state| {
            state.incarnation = incarnation;
            state.address = None;
            (state.acknowledged, state.delivered, state.changes) = (0, 0, 0);
        });
        self.process = self.program.spawn(incarnation);
        let (stdout, board) = (self.process.stdout(), self.board);
        self.scope.spawn(move || announce(stdout, incarnation, board));
    }

    fn strike(&mut self, blow: Blow, database: DatabaseUrl<'_>) {
        match blow {
            Blow::Kill | Blow::Stop | Blow::KillDatabase => {
                self.until_flowing();
                let_run(Duration::from_millis(self.dice.between(100, 600)));
            }
            Blow::KillStarting if self.dice.one_in(2) => {
                let_run(Duration::from_millis(self.dice.between(0, 80)));
            }
            Blow::KillStarting => {
                self.until_up();
                let_run(Duration::from_millis(self.dice.between(0, 40)));
            }
            Blow::KillChanging => {
                self.until_flowing();
                let before = self.board.look(|state| state.changes);
                self.wait("a channel to be changed", FLOWING_WITHIN, |state| state.changes > before);
                let_run(Duration::from_millis(self.dice.between(0, 15)));
            }
        }
        match (blow, database) {
            (Blow::Stop, _) => self.stop(),
            (Blow::KillDatabase, DatabaseUrl::Owned(_, cluster)) => {
                cluster.kill();
                cluster.start();
                return self.board.note(|state| (state.acknowledged, state.delivered) = (0, 0));
            }
            (Blow::KillDatabase, _) => panic!("{blow:?} needs a cluster of its own"),
            _ => {
                self.times.killed_before_up += usize::from(self.board.look(|state| state.address.is_none()));
                self.process.kill();
                self.ends.push(End::Killed);
            }
        }
        self.start_next();
    }

    fn stop(&mut self) {
        let started = Started::now();
        self.process.terminate();
        let incarnation = self.ends.len();
        let stopped =
            self.board.wait_for(STOPPED_WITHIN, |state| (state.ended >= Some(incarnation)).then_some(()));
        assert!(stopped.is_some(), "the program did not stop within {STOPPED_WITHIN:?}");
        let status = self.process.status();
        self.times.slowest_stop = self.times.slowest_stop.max(started.elapsed());
        assert!(status.success(), "the program ended with {status}");
        self.ends.push(End::Stopped);
    }

    fn until_up(&mut self) {
        let started = Started::now();
        self.wait("the program to listen", READY_WITHIN, |state| state.address.is_some());
        self.times.slowest_start = self.times.slowest_start.max(started.elapsed());
    }

    fn until_flowing(&mut self) {
        self.until_up();
        self.wait("load to flow", FLOWING_WITHIN, |state| {
            state.acknowledged >= ACKNOWLEDGED_FLOWING && state.delivered >= DELIVERED_FLOWING
        });
    }

    /// Until every open channel has had all that the log holds.
    fn heal(&self, token: &str) {
        let mut reader = self.reader(token);
        for resource in RESOURCES {
            let head = reader.feed(resource).last().map_or(0, |event| event.seq);
            self.board.note(|state| {
                let known = state.heads.entry(resource.to_owned()).or_default();
                *known = head.max(*known);
            });
        }
        self.wait("everything acknowledged to arrive", HEALED_WITHIN, |state| {
            RESOURCES.iter().all(|resource| state.lag(resource) <= 0)
        });
    }

    /// The program's own account: its log and its ledger.
    fn ask(&self, token: &str, history: &mut History) {
        let mut reader = self.reader(token);
        for resource in RESOURCES {
            history.feeds.insert(resource.to_owned(), reader.feed(resource));
        }
        for channel in self.board.look(|state| state.opened.clone()) {
            let ledger = reader.ledger(&channel);
            history.ledgers.insert(channel, ledger);
        }
    }

    fn reader(&self, token: &str) -> Reader {
        let address = self.board.look(|state| state.address).unwrap();
        Reader { client: Client::new(token), address }
    }

    fn wait(&self, what: &str, patience: Duration, condition: impl Fn(&State) -> bool) {
        let incarnation = self.ends.len();
        let reached = self.board.wait_for(patience, |state| {
            assert!(!state.broken, "a part of the test failed while this one waited for {what}");
            assert!(state.ended < Some(incarnation), "the program ended by itself, instead of {what}");
            condition(state).then_some(())
        });
        assert!(reached.is_some(), "waited {patience:?} for {what}");
    }
}

/// Reads what the program keeps.
struct Reader {
    client: Client,
    address: SocketAddr,
}

impl Reader {
    fn get(&mut self, path: &str) -> Value {
        let response = self.client.send(self.address, "GET", path, "").unwrap();
        assert_eq!(response.status, 200, "{path}: {}", response.body);
        response.body
    }

    fn feed(&mut self, resource: &str) -> Vec<FeedEvent> {
        let mut events: Vec<FeedEvent> = Vec::new();
        loop {
            let after = events.last().map_or(0, |event| event.seq);
            let page = self.get(&format!("/v1/events?resource={resource}&after={after}&limit=500"));
            events.extend(page["items"].as_array().unwrap().iter().map(|event| FeedEvent {
                seq: event["seq"].as_i64().unwrap(),
                id: event["id"].as_str().unwrap().to_owned(),
            }));
            if page["hasMore"] == false {
                return events;
            }
        }
    }

    fn ledger(&mut self, channel: &str) -> Vec<Attempt> {
        let mut attempts = Vec::new();
        let mut token = String::new();
        loop {
            let page = self.get(&format!("/v1/channels/{channel}/attempts?limit=500{token}"));
            attempts.extend(page["items"].as_array().unwrap().iter().map(|attempt| Attempt {
                number: attempt["number"].as_i64().unwrap(),
                attempt: u32::try_from(attempt["attempt"].as_u64().unwrap()).unwrap(),
                status: attempt["status"].as_u64().map(|status| u16::try_from(status).unwrap()),
            }));
            let Some(next) = page["nextPageToken"].as_str() else { return attempts };
            token = format!("&pageToken={next}");
        }
    }
}

/// Where a campaign keeps everything; it is removed when the campaign has found nothing.
fn new_folder(name: &str) -> PathBuf {
    let folder = format!("crash-{}-{}", std::process::id(), name.replace(' ', "-"));
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(folder);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

/// Past the test harness, which shows what passing tests print to nobody.
fn say(line: &str) {
    let mut stderr = std::io::stderr().lock();
    writeln!(stderr, "{line}").unwrap();
}
