//! A real PostgreSQL for the tests. One throw-away cluster per test process, started on first use and gone
//! with the process even after a SIGKILL (`postgres-keeper.sh` waits for the end of a pipe that this process
//! holds); in it an empty database per [`database`]. Crash tests own a [`Cluster`] that they can kill.
//!
//! A machine without PostgreSQL fails these tests. It never skips them.

use std::{
    io::{BufRead, BufReader, Write as _},
    net::{Ipv4Addr, TcpListener},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::{
        Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

const KEEPER: &str = include_str!("postgres-keeper.sh");

/// Another process may take the port between our look and the server's bind.
const PORT_TRIES: usize = 5;

/// As a careful production server has them: a promise that holds only with `fsync` off is no promise.
const SETTINGS: [(&str, &str); 9] = [
    ("listen_addresses", "127.0.0.1"),
    ("max_connections", "200"),
    ("shared_buffers", "64MB"),
    ("fsync", "on"),
    ("synchronous_commit", "on"),
    ("full_page_writes", "on"),
    ("timezone", "UTC"),
    ("lc_messages", "C"),
    ("log_statement", "none"),
];

/// A new, empty database in the cluster that this process's tests share.
pub fn database() -> TestDatabase {
    static SHARED: OnceLock<Cluster> = OnceLock::new();
    SHARED.get_or_init(Cluster::new).database()
}

/// One PostgreSQL server with its data folder.
pub struct Cluster {
    port: u16,
    bin: PathBuf,
    keeper: Mutex<Keeper>,
}

impl Cluster {
    /// A running cluster of the caller's own, for tests that stop or kill it.
    pub fn new() -> Self {
        Self::with_settings(&[])
    }

    /// The same with settings added to the usual ones or put in their place (`("fsync", "off")`).
    pub fn with_settings(settings: &[(&str, &str)]) -> Self {
        let bin = server_programs();
        let options = SETTINGS
            .iter()
            .chain(settings)
            .flat_map(|(name, value)| ["-c".to_owned(), format!("{name}={value}")])
            .collect::<Vec<_>>();
        let mut keeper = Keeper::new(&bin, &options);
        let port = (0..PORT_TRIES)
            .map(|_| free_port())
            .find(|port| keeper.ask(&format!("start {port}")) == "ready")
            .unwrap_or_else(|| panic!("PostgreSQL does not start: {}", keeper.log()));
        Self { port, bin, keeper: Mutex::new(keeper) }
    }

    /// Starts the server again on the port it had, recovering if it was killed, and waits until it answers.
    pub fn start(&self) {
        let mut keeper = self.keeper();
        let answer = keeper.ask(&format!("start {}", self.port));
        assert_eq!(answer, "ready", "PostgreSQL does not start again: {}", keeper.log());
    }

    /// Aborts the server without a checkpoint (`pg_ctl stop -m immediate`): the next start recovers from the
    /// log. Every connection breaks; new ones are refused. Returns once the server is gone.
    pub fn stop_immediate(&self) {
        self.stop("QUIT");
    }

    /// Ends the server in order (`pg_ctl stop -m fast`): as a planned restart.
    pub fn stop_fast(&self) {
        self.stop("INT");
    }

    /// `kill -9` of the server and all its processes, as a power cut would.
    pub fn kill(&self) {
        self.stop("KILL");
    }

    fn stop(&self, signal: &str) {
        let answer = self.keeper().ask(&format!("stop {signal}"));
        assert_eq!(answer, "stopped", "the keeper of the PostgreSQL cluster is gone");
    }

    /// A new, empty database. The cluster must be running.
    pub fn database(&self) -> TestDatabase {
        static NUMBER: AtomicU64 = AtomicU64::new(1);
        let name = format!("test_{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        // template0, because a background worker that looks at template1 makes CREATE DATABASE wait.
        let made = self.client("createdb").args(["--template=template0", &name]).output().unwrap();
        assert!(made.status.success(), "createdb {name}: {}", String::from_utf8_lossy(&made.stderr));
        TestDatabase { drop: self.client("dropdb"), url: self.url(&name), name }
    }

    /// The connection URL of a database by name; `postgres` always exists.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://watchpost@127.0.0.1:{}/{database}", self.port)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// What the server logged, for the message of a failing test.
    pub fn log(&self) -> String {
        self.keeper().log()
    }

    fn client(&self, program: &str) -> Command {
        let mut command = Command::new(self.bin.join(program));
        command.args(["--host=127.0.0.1", "--username=watchpost", "--no-password"]);
        command.arg(format!("--port={}", self.port));
        command.env_remove("PGOPTIONS").env_remove("PGSERVICE").env_remove("PGHOSTADDR");
        command.stdin(Stdio::null());
        command
    }

    fn keeper(&self) -> MutexGuard<'_, Keeper> {
        self.keeper.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An empty database of one test. Dropped with this value, whoever is still connected.
pub struct TestDatabase {
    name: String,
    url: String,
    drop: Command,
}

impl TestDatabase {
    /// `postgres://watchpost@127.0.0.1:PORT/NAME`.
    pub fn url(&self) -> &str {
        &self.url
    }

    pub fn name(&self) -> &str {
        &self.name
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        // Saves disk while the process runs; the cluster goes with it anyway, so a stopped one is no failure.
        let _dropped = self.drop.args(["--force", "--if-exists", &self.name]).output();
    }
}

/// The shell that starts, stops and finally removes the cluster.
struct Keeper {
    process: Child,
    commands: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    folder: PathBuf,
}

impl Keeper {
    fn new(bin: &Path, options: &[String]) -> Self {
        let mut command = unprivileged("sh");
        command.args(["-c", KEEPER, "keeper"]).arg(bin).args(options);
        // A process group of its own: Ctrl-C ends the tests, and their end ends the server.
        command.process_group(0).current_dir("/").env("LC_ALL", "C");
        let mut process = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("a POSIX shell starts");
        let commands = process.stdin.take();
        let answers = BufReader::new(process.stdout.take().unwrap());
        let mut keeper = Self { process, commands, answers, folder: PathBuf::new() };
        let made = keeper.answer();
        let (word, folder) = made.split_once(' ').unwrap_or((&made, ""));
        keeper.folder = folder.into();
        assert_eq!(word, "folder", "initdb failed: {}", keeper.log());
        keeper
    }

    fn ask(&mut self, command: &str) -> String {
        let commands = self.commands.as_mut().unwrap();
        writeln!(commands, "{command}").expect("the keeper of the PostgreSQL cluster listens");
        self.answer()
    }

    fn answer(&mut self) -> String {
        let mut line = String::new();
        self.answers.read_line(&mut line).expect("the keeper of the PostgreSQL cluster answers");
        line.trim_end().to_owned()
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        // The end of its input tells it to clean up.
        drop(self.commands.take());
        let _ended = self.process.wait();
    }
}

/// The folder of the server's programs, found by the same script that the set-up uses.
fn server_programs() -> PathBuf {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/postgres-bin.sh");
    let found = Command::new("sh").arg(&script).output().unwrap();
    assert!(
        found.status.success(),
        "no PostgreSQL server (15 or newer) in PATH or /usr/lib/postgresql: the tests need one. \
         `make setup` installs it, or: apt-get install --yes postgresql"
    );
    PathBuf::from(String::from_utf8(found.stdout).unwrap().trim_end())
}

/// A command for `program` under another user where this one is root, which PostgreSQL refuses to run as.
fn unprivileged(program: &str) -> Command {
    let id = |arguments: &[&str]| {
        let output = Command::new("id").args(arguments).output().unwrap();
        output.status.success().then(|| String::from_utf8(output.stdout).unwrap().trim_end().to_owned())
    };
    if id(&["-u"]).as_deref() != Some("0") {
        return Command::new(program);
    }
    let (uid, gid) = ["postgres", "nobody"]
        .into_iter()
        .find_map(|name| Some((id(&["-u", name])?, id(&["-g", name])?)))
        .expect("a user `postgres` or `nobody` to run PostgreSQL as");
    let mut command = Command::new("setpriv");
    command.args(["--reuid", &uid, "--regid", &gid, "--clear-groups", "--", program]);
    command
}

fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr()).unwrap().port()
}
