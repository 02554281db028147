//! The release binary under load, in a folder of its own, and what the system says that it used.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

/// Clock ticks a second in `/proc/PID/stat`: Linux has no other value on the machines that this runs on.
const TICKS: u64 = 100;
const JWT_SECRET: &str = "a secret of the harness, long enough to be one";

pub(crate) struct Server {
    process: Child,
    pub url: String,
    pub token: String,
    folder: PathBuf,
}

/// What a process has used since it started.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Used {
    pub cpu: Duration,
    pub peak_rss_bytes: u64,
    pub written_bytes: u64,
}

impl Server {
    /// Starts one on an embedded store, with these settings beside what the harness needs.
    pub(crate) fn start(settings: &[(&str, &str)]) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("watchpost-load-{}-{number}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let command = |arguments: &[&str]| {
            let mut command = Command::new(env!("CARGO_BIN_EXE_watchpost"));
            command.args(arguments).current_dir(&folder);
            for (key, value) in [
                ("LISTEN", "127.0.0.1:0"),
                ("DATABASE_URL", "sqlite:./watchpost.db"),
                ("JWT_SECRET", JWT_SECRET),
                ("EGRESS_ALLOW", "127.0.0.0/8"),
                ("REQUEST_RATE", "off"),
                ("LOG", "error"),
            ]
            .iter()
            .chain(settings)
            {
                command.env(format!("WATCHPOST_{key}"), value);
            }
            command
        };
        let mut process = command(&["serve"]).stdout(Stdio::piped()).spawn().expect("the server starts");
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let url = lines
            .by_ref()
            .map_while(Result::ok)
            .find_map(|line| line.split_once("listening on ").map(|(_, url)| url.trim().to_owned()))
            .expect("it says where it listens");
        std::thread::spawn(move || lines.for_each(drop));
        let mint = ["token", "mint", "--project", "load", "--subject", "load", "--ttl", "12h"];
        let minted = command(&mint).output().expect("a token is minted");
        assert!(minted.status.success(), "{}", String::from_utf8_lossy(&minted.stderr));
        let token = String::from_utf8(minted.stdout).unwrap().trim().to_owned();
        Self { process, url, token, folder }
    }

    pub(crate) fn used(&self) -> Used {
        let read = |name: &str| fs::read_to_string(format!("/proc/{}/{name}", self.process.id())).unwrap();
        let stat = read("stat");
        // The name of the program stands in brackets and may hold anything; what is wanted comes behind it.
        let ticks = stat.rsplit_once(')').unwrap().1.split_ascii_whitespace().skip(11).take(2);
        let ticks: u64 = ticks.map(|ticks| ticks.parse::<u64>().unwrap()).sum();
        let number = |text: &str, name: &str| -> u64 {
            let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.split_ascii_whitespace().next().unwrap().parse().unwrap()
        };
        Used {
            cpu: Duration::from_millis(ticks * 1_000 / TICKS),
            peak_rss_bytes: number(&read("status"), "VmHWM:") * 1_024,
            written_bytes: number(&read("io"), "write_bytes:"),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}
