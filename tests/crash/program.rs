//! The program under test: the real binary with settings from its environment alone, a child of this process.

use std::{
    fs::OpenOptions,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, ExitStatus, Stdio},
};

use base64::{Engine, prelude::BASE64_STANDARD};

use crate::board::Board;

/// Its `User-Agent`, followed by the number of the process: so each request tells who sent it.
pub const AGENT: &str = "crash-test/";

/// What every process of a campaign is started with.
pub struct Program {
    folder: PathBuf,
    settings: Vec<(&'static str, String)>,
}

impl Program {
    /// Everything it keeps, its log included, is in `folder`.
    pub fn new(folder: &Path, database_url: &str) -> Self {
        let settings = vec![
            ("WATCHPOST_DATABASE_URL", database_url.to_owned()),
            ("WATCHPOST_LISTEN", "127.0.0.1:0".to_owned()),
            ("WATCHPOST_EGRESS_ALLOW", "127.0.0.0/8".to_owned()),
            ("WATCHPOST_RETRY_SCHEDULE", "0s,50ms,100ms,200ms".to_owned()),
            ("WATCHPOST_CRON_RETRY", "* * * * * *".to_owned()),
            ("WATCHPOST_MASTER_KEY", BASE64_STANDARD.encode([7; 32])),
            // A restarted node finds its identity here and takes its own lease back at once.
            ("WATCHPOST_STATE_DIR", folder.join("state").display().to_string()),
        ];
        Self { folder: folder.to_owned(), settings }
    }

    /// Nothing of this process's environment reaches it.
    fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_watchpost"));
        command.env_clear().envs(self.settings.iter().map(|(name, value)| (name, value)));
        command.current_dir(&self.folder).stdin(Stdio::null());
        command
    }

    /// A token that may open channels and publish.
    pub fn token(&self) -> String {
        let arguments =
            ["token", "mint", "--project", "crash", "--subject", "judge", "--scope", "channels events"];
        let minted = self.command().args(arguments).output().unwrap();
        assert!(minted.status.success(), "{}", String::from_utf8_lossy(&minted.stderr));
        String::from_utf8(minted.stdout).unwrap().trim_end().to_owned()
    }

    pub fn spawn(&self, incarnation: usize) -> Process {
        let log = OpenOptions::new().create(true).append(true).open(self.folder.join("log")).unwrap();
        let mut command = self.command();
        command.arg("serve").env("WATCHPOST_USER_AGENT", format!("{AGENT}{incarnation}"));
        let mut child = command.stdout(Stdio::piped()).stderr(log).spawn().unwrap();
        let stdout = child.stdout.take();
        Process { child, stdout }
    }
}

pub struct Process {
    child: Child,
    stdout: Option<ChildStdout>,
}

impl Process {
    /// What it says, for [`announce`].
    pub fn stdout(&mut self) -> ChildStdout {
        self.stdout.take().unwrap()
    }

    /// `kill -9`; returns once it is gone.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM; how it takes that is to be waited for.
    pub fn terminate(&self) {
        let told =
            Command::new("sh").args(["-c", "kill -TERM \"$1\"", "sh", &self.child.id().to_string()]).status();
        assert!(told.unwrap().success());
    }

    /// Of a process that has closed its output, which it does by ending.
    pub fn status(&mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // A failing test leaves nothing running; an ended process is no failure.
        let _killed = self.child.kill();
        let _ended = self.child.wait();
    }
}

/// Tells everybody where a process listens, and when it has ended.
pub fn announce(stdout: ChildStdout, incarnation: usize, board: &Board) {
    for line in BufReader::new(stdout).lines().map_while(Result::ok) {
        if let Some(address) = line.strip_prefix("listening on http://") {
            let address = address.parse().unwrap();
            board.note(|state| {
                if state.incarnation == incarnation {
                    state.address = Some(address);
                }
            });
        }
    }
    board.note(|state| state.ended = state.ended.max(Some(incarnation)));
}
