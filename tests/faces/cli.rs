//! The commands, as the real binary runs them: what they print, how they end, and that they work beside a server.

use std::{
    io::{BufRead as _, BufReader, Read as _},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
    time::Duration,
};

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use watchpost::clock::{Clock as _, SystemClock};

use crate::{http::Ask, server::folder, support::postgres::database};

/// How long a server may take from SIGTERM to its end.
const STOP_WITHIN: Duration = Duration::from_secs(20);

/// A folder in which commands run, with the settings that they find.
pub struct Place {
    pub folder: PathBuf,
    pub settings: Vec<(String, String)>,
}

struct Ended {
    code: i32,
    stdout: String,
    stderr: String,
}

impl Place {
    pub fn new(settings: &[(&str, &str)]) -> Self {
        let settings = settings.iter().map(|(key, value)| (format!("WATCHPOST_{key}"), (*value).to_owned()));
        Self { folder: folder(), settings: settings.collect() }
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_watchpost"));
        // Nothing of this process's settings gets through.
        command.env_clear().envs(self.settings.iter().cloned());
        command.args(arguments).current_dir(&self.folder).stdin(Stdio::null());
        command
    }

    fn run(&self, arguments: &[&str]) -> Ended {
        let output = self.command(arguments).output().unwrap();
        let ended = Ended {
            code: output.status.code().expect("no signal"),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        };
        let both = format!("{}{}", ended.stdout, ended.stderr);
        assert!(!both.to_lowercase().contains("locked"), "{arguments:?}: {both}");
        assert!(!both.contains("panicked"), "{arguments:?}: {both}");
        ended
    }

    /// Runs what must succeed and reads its one line of JSON.
    pub fn json(&self, arguments: &[&str]) -> Value {
        let ended = self.run(&[arguments, &["--json"]].concat());
        assert_eq!(ended.code, 0, "{arguments:?}: {}", ended.stderr);
        serde_json::from_str(&ended.stdout).unwrap_or_else(|error| panic!("{error}: {}", ended.stdout))
    }

    fn fails(&self, arguments: &[&str], code: i32, told: &str) {
        let ended = self.run(arguments);
        assert_eq!(ended.code, code, "{arguments:?}: {}{}", ended.stdout, ended.stderr);
        assert!(ended.stderr.contains(told), "{arguments:?}: {}", ended.stderr);
    }

    /// Makes, lists and revokes a key; what was made.
    fn goes_through_a_key(&self) -> Value {
        let create = ["apikeys", "create", "--project", "p", "--subject", "s", "--name", "n", "--ttl", "1h"];
        let made = self.json(&create);
        let again = self.run(&[&create[..], &["--scope", "admin", "--resources", "a/**"]].concat()).stdout;
        assert!(made["key"].as_str().unwrap().starts_with("wpk_") && again.starts_with("wpk_"), "{again}");
        let list = ["apikeys", "list", "--project", "p"];
        let listed = self.json(&list);
        let items = listed["items"].as_array().unwrap();
        assert_eq!((items.len(), &items[1]["id"]), (2, &made["id"]), "{listed}");
        assert_eq!((&items[0]["scopes"][0], &items[0]["resources"][0]), (&"admin".into(), &"a/**".into()));
        assert!(!listed.to_string().contains("wpk_"), "{listed}");
        assert_eq!(self.run(&list).stdout.lines().count(), 2);
        assert_eq!(self.json(&["apikeys", "list", "--project", "q"])["items"], Value::Array(vec![]));
        let revoke = ["apikeys", "revoke", items[0]["id"].as_str().unwrap(), "--project"];
        assert_eq!(self.run(&[&revoke[..], &["q"]].concat()).code, 1, "another project's");
        assert_eq!(self.run(&[&revoke[..], &["p"]].concat()).code, 0);
        assert_eq!(self.json(&list)["items"].as_array().unwrap().len(), 1);
        made
    }

    fn start(&self, arguments: &[&str]) -> Running {
        let mut child =
            self.command(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        Running { child, lines, said: String::new() }
    }

    pub fn path(&self, name: &str) -> String {
        std::path::absolute(self.folder.join(name)).unwrap().display().to_string()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _removed = std::fs::remove_dir_all(&self.folder);
    }
}

/// A command that stays.
pub struct Running {
    pub child: Child,
    pub lines: BufReader<ChildStdout>,
    pub said: String,
}

impl Running {
    /// Reads until a line begins with `start`, and returns what follows in it.
    pub fn until(&mut self, start: &str) -> String {
        loop {
            let mut line = String::new();
            if self.lines.read_line(&mut line).unwrap() == 0 {
                let mut stderr = String::new();
                self.child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
                panic!("ended before {start:?}: {}{stderr}", self.said);
            }
            self.said.push_str(&line);
            if let Some(rest) = line.strip_prefix(start) {
                return rest.trim().to_owned();
            }
        }
    }

    /// Ends it as a supervisor does.
    pub fn terminate(mut self) {
        let clock = SystemClock::new();
        let asked = clock.monotonic();
        let killed = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status().unwrap();
        assert!(killed.success());
        let status = self.child.wait().unwrap();
        assert_eq!(status.code(), Some(0), "{status}: {}", self.said);
        assert!(clock.monotonic() < asked + STOP_WITHIN);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _status = self.child.wait();
    }
}

#[test]
fn dev_tells_its_story_the_second_time_as_the_first() {
    let place = Place::new(&[]);
    for _ in 0..2 {
        let ended = place.run(&["dev", "--once"]);
        assert_eq!(ended.code, 0, "{}{}", ended.stdout, ended.stderr);
        let lines: Vec<&str> = ended.stdout.lines().collect();
        assert!(lines[0].starts_with("watchpost dev  http://127.0.0.1:"), "{}", ended.stdout);
        assert!(lines[0].contains(&place.path(".watchpost/watchpost.db")), "{}", ended.stdout);
        for (at, start) in [
            (1, "1 watch   calendar/v3/calendars/primary/events → 200, expires in 7d"),
            (2, "2 sync    #1 sync"),
            (3, "3 change  #2 exists  calendar.event.created"),
            (4, "4 outage  #3 → 503, next in 1 s … 503, next in 2 s … 200   #4 → 200   order kept"),
            (5, "5 claim   curl http://127.0.0.1:"),
        ] {
            assert!(lines[at].starts_with(start), "{start:?} in {}", ended.stdout);
        }
        assert_eq!((lines.len(), ended.stderr.as_str()), (6, ""), "{}", ended.stdout);
    }
}

#[test]
fn a_second_dev_names_the_one_that_runs_and_commands_work_beside_it() {
    let place = Place::new(&[]);
    let mut first = place.start(&["dev"]);
    let at = first.until("watchpost dev  http://").split(' ').next().unwrap().to_owned();
    place.fails(&["dev"], 1, &format!("another watchpost uses this store (listening on {at}"));
    place.fails(&["dev", "--once"], 1, &at);
    let beside = Place {
        folder: place.folder.clone(),
        settings: vec![("WATCHPOST_DATABASE_URL".into(), "sqlite:./.watchpost/watchpost.db".into())],
    };
    assert_eq!(beside.json(&["job", "run", "expiry"])["report"]["expired"], 0);
    // In the middle of the story or after it, it leaves in order.
    first.terminate();
    assert_eq!(beside.json(&["job", "run", "expiry"])["report"]["expired"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn dev_shows_what_is_tried_and_warns_only_of_what_is_missed() {
    let place = Place::new(&[]);
    let mut dev = place.start(&["dev"]);
    let address = dev.until("watchpost dev  http://").split(' ').next().unwrap().parse().unwrap();
    let token = dev.until("  export TOKEN=");
    dev.until("Notifications as they happen");
    let post = |path: &str, body: Value| {
        let ask = Ask::new(address, "POST", path).token(&token).body(body.to_string());
        async move { ask.send().await }
    };
    let bin = format!("http://{address}/dev/bin/demo");
    let opening = json!({ "id": "mine", "resource": "orders/17", "address": bin });
    assert_eq!(post("/v1/channels", opening).await.status, 201);
    assert!(dev.until("  mine  ").starts_with("#1 sync  "), "{}", dev.said);
    assert_eq!(post("/v1/channels/mine/ping", json!({})).await.status, 202);
    assert!(dev.until("  mine  ").starts_with("notice  ping  "), "{}", dev.said);
    let change = |resource: &str| json!({ "resource": resource, "name": "order.changed" });
    assert_eq!(post("/v1/events", change("orders/18")).await.status, 200);
    assert_eq!(dev.until("  ! nobody watches "), "orders/18, so nothing was sent");
    assert_eq!(post("/v1/events", change("orders/17")).await.status, 200);
    assert!(dev.until("  mine  ").starts_with("#2 exists  order.changed  "), "{}", dev.said);
    assert_eq!(dev.said.matches("nobody watches").count(), 1, "{}", dev.said);
    dev.terminate();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_says_where_it_is_and_is_no_obstacle_to_commands() {
    let place = Place::new(&[
        ("LISTEN", "127.0.0.1:0"),
        ("DATABASE_URL", "sqlite:./data/here.db"),
        ("EGRESS_ALLOW", "127.0.0.0/8,10.0.0.0/8:9000"),
        ("EGRESS_HTTP", "true"),
    ]);
    let mut server = place.start(&["serve"]);
    let at = server.until("listening on http://");
    let said = server.said.clone();
    assert!(said.starts_with(&format!("watchpost {}\n", env!("CARGO_PKG_VERSION"))), "{said}");
    assert!(said.contains(&format!("store {} (SQLite 3.", place.path("data/here.db"))), "{said}");
    for hole in ["EGRESS_ALLOW 127.0.0.0/8", "EGRESS_ALLOW 10.0.0.0/8:9000", "EGRESS_HTTP: "] {
        assert!(said.contains(&format!("open in the egress policy: {hole}")), "{said}");
    }
    let address = at.parse().unwrap();

    let minted = place.json(&["token", "mint", "--project", "p", "--subject", "s", "--ttl", "1m"]);
    assert_eq!((&minted["project"], &minted["scope"]), (&"p".into(), &"channels events".into()));
    let token = place.run(&["token", "mint", "--project", "p", "--subject", "s"]).stdout;
    for token in [minted["token"].as_str().unwrap(), token.trim()] {
        assert_eq!(Ask::new(address, "GET", "/v1/channels").token(token).send().await.status, 200);
    }
    let key = place.goes_through_a_key();
    let key = key["key"].as_str().unwrap();
    assert_eq!(Ask::new(address, "GET", "/v1/channels").token(key).send().await.status, 200);
    for job in ["expiry", "retry"] {
        let report = place.json(&["job", "run", job]);
        assert_eq!(report["job"], job);
        assert!(report["report"].as_object().unwrap().values().all(Value::is_u64), "{report}");
        assert!(place.run(&["job", "run", job]).stdout.starts_with(&format!("{job}: ")));
    }
    assert_eq!(place.json(&["migrate", "--check"])["pending"], Value::Array(vec![]));
    assert_eq!(place.json(&["migrate"])["applied"], Value::Array(vec![]));
    assert_eq!(place.json(&["config"])["LISTEN"]["from"], "WATCHPOST_LISTEN");
    place.fails(&["serve"], 1, &format!("another watchpost uses this store (listening on {at}"));
    place.fails(&["serve", "--listen", &at], 1, "cannot be listened on");

    // A reader that waits is no reason to stay.
    let mut waiting = tokio::net::TcpStream::connect(&at).await.unwrap();
    let request = format!(
        "GET /v1/events?resource=a&wait=25s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n\r\n",
        token.trim()
    );
    waiting.write_all(request.as_bytes()).await.unwrap();
    assert_eq!(Ask::new(address, "GET", "/readyz").send().await.status, 200);
    server.terminate();
}

#[tokio::test(flavor = "multi_thread")]
async fn probes_move_to_a_listener_of_their_own() {
    let place = Place::new(&[("LISTEN", "127.0.0.1:0"), ("OPS_LISTEN", "0.0.0.0:0")]);
    let mut server = place.start(&["serve"]);
    let told = server.until("probes on http://");
    let (probes, open) = told.split_once(", ").unwrap();
    assert_eq!(open, "open beyond loopback");
    let probes = probes.replace("0.0.0.0", "127.0.0.1").parse().unwrap();
    let faces = server.until("listening on http://").parse().unwrap();
    for (method, target) in [("GET", "/healthz"), ("HEAD", "/healthz"), ("GET", "/readyz")] {
        assert_eq!(Ask::new(probes, method, target).send().await.status, 200, "{method} {target}");
        assert_eq!(Ask::new(faces, method, target).send().await.status, 404, "{method} {target}");
    }
    for (target, status) in [("/", 200), ("/openapi.json", 200), ("/v1/channels", 401)] {
        assert_eq!(Ask::new(faces, "GET", target).send().await.status, status, "{target}");
        assert_eq!(Ask::new(probes, "GET", target).send().await.status, 404, "{target}");
    }
    let taken = faces.to_string();
    let other = Place::new(&[("LISTEN", "127.0.0.1:0"), ("OPS_LISTEN", &taken)]);
    other.fails(&["serve"], 1, "WATCHPOST_OPS_LISTEN or --ops-listen");
    server.terminate();
}

#[test]
fn before_the_first_start_commands_say_what_is_missing() {
    let place = Place::new(&[("DATABASE_URL", "sqlite:./data/here.db")]);
    let mint = ["token", "mint", "--project", "p", "--subject", "s"];
    place.fails(&mint, 1, "start the server once, or set WATCHPOST_MASTER_KEY");
    place.fails(&["job", "run", "expiry"], 1, "run `watchpost migrate` first");
    place.fails(&["apikeys", "list", "--project", "p"], 1, "run `watchpost migrate` first");
    place.fails(&["migrate", "--check"], 1, "pending");
    let checked = place.run(&["migrate", "--check", "--json"]);
    let pending: Value = serde_json::from_str(&checked.stdout).unwrap();
    assert!(checked.code == 1 && !pending["pending"].as_array().unwrap().is_empty(), "{pending}");
    assert!(!Path::new(&place.path("data")).exists(), "nothing was written");

    let migrated = place.json(&["migrate"]);
    assert_eq!(migrated["applied"], pending["pending"]);
    assert_eq!(migrated["store"], place.path("data/here.db"));
    assert_eq!(place.json(&["migrate"])["applied"], Value::Array(vec![]));
    assert_eq!(place.run(&["migrate", "--check"]).code, 0);
    for job in ["expiry", "retry"] {
        assert_eq!(place.json(&["job", "run", job])["job"], job);
    }
    assert_eq!(place.run(&mint).code, 0, "the job has made the key");
    place.goes_through_a_key();
}

#[test]
fn a_store_starts_under_its_own_key_alone() {
    let place = Place::new(&[("LISTEN", "127.0.0.1:0"), ("DATABASE_URL", "sqlite:./w.db")]);
    let mut server = place.start(&["serve"]);
    server.until("listening on ");
    server.terminate();
    let other = format!("--master-key={}", "A".repeat(43) + "=");
    place.fails(&["serve", &other], 1, "is not the key that this store was made with");
    place.fails(&["job", "run", "expiry", &other], 1, "is not the key that this store was made with");
    let kept = std::fs::read(place.path("w.db.key")).unwrap();
    std::fs::remove_file(place.path("w.db.key")).unwrap();
    place.fails(&["serve"], 1, "master key is gone");
    assert!(!Path::new(&place.path("w.db.key")).exists(), "no new one in its place");
    std::fs::write(place.path("w.db.key"), kept).unwrap();
    let mut server = place.start(&["serve"]);
    server.until("listening on ");
    server.terminate();
}

#[test]
fn a_store_gets_a_new_master_key() {
    let place = Place::new(&[("LISTEN", "127.0.0.1:0"), ("DATABASE_URL", "sqlite:./w.db")]);
    let new = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
    std::fs::write(place.path("next.key"), format!("{new}\n")).unwrap();
    let rewrap = ["keys", "rewrap", "--to", "next.key"];
    place.fails(&rewrap, 1, "run `watchpost migrate` first");
    let mut server = place.start(&["serve"]);
    server.until("listening on ");
    place.fails(&rewrap, 1, "another watchpost uses this store");
    server.terminate();
    let old = std::fs::read_to_string(place.path("w.db.key")).unwrap();
    place.fails(&["keys", "rewrap", "--to", "no.key"], 2, "--to: no.key");

    let said = place.run(&rewrap).stdout;
    assert!(said.starts_with("sealed anew: 0 channels, 1 signing keys\n"), "{said}");
    assert!(said.contains("claim URLs"), "{said}");
    let read = |name: &str| std::fs::read_to_string(place.path(name)).unwrap();
    assert_eq!((read("w.db.key").trim(), read("w.db.key.old")), (new, old.clone()));
    // Again, and after it was interrupted before the key was in its place.
    assert_eq!(place.json(&rewrap)["signingKeys"], 0);
    assert_eq!(read("w.db.key.old"), old);
    std::fs::write(place.path("w.db.key"), &old).unwrap();
    place.fails(&["serve"], 1, "is not the key that this store was made with");
    assert_eq!(place.json(&rewrap)["signingKeys"], 0);
    assert_eq!((read("w.db.key").trim(), read("w.db.key.old")), (new, old));
    let mut server = place.start(&["serve"]);
    server.until("listening on ");
    assert_eq!(place.json(&["keys", "list"])[0]["use"], "signing");
    server.terminate();
}

#[test]
fn dev_reaches_its_own_bin_whatever_else_is_opened() {
    let place = Place::new(&[("EGRESS_ALLOW", "10.0.0.0/8"), ("RETRY_SCHEDULE", "0s,1s")]);
    let ended = place.run(&["dev", "--once"]);
    assert_eq!(ended.code, 0, "{}{}", ended.stdout, ended.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_rotated_and_read_beside_a_server_and_without_one() {
    let place = Place::new(&[("LISTEN", "127.0.0.1:0"), ("DATABASE_URL", "sqlite:./here.db")]);
    for command in ["rotate", "list", "jwks"] {
        place.fails(&["keys", command], 1, "run `watchpost migrate` first");
    }
    let mut server = place.start(&["serve"]);
    let address = server.until("listening on http://").parse().unwrap();
    let uses = |keys: &Value| -> Vec<String> {
        keys.as_array().unwrap().iter().map(|key| key["use"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(uses(&place.json(&["keys", "list"])), ["signing"]);
    let rotated = place.json(&["keys", "rotate", "--overlap", "1h"]);
    assert_eq!(uses(&rotated), ["signing", "next"]);
    assert!(rotated[0]["publicKey"].as_str().unwrap().starts_with("whpk_"), "{rotated}");
    let served = Ask::new(address, "GET", "/.well-known/jwks.json").send().await;
    assert!(served.has_header("cache-control: public, max-age=300"), "{served:?}");
    let printed: Value = serde_json::from_str(&place.run(&["keys", "jwks"]).stdout).unwrap();
    assert_eq!(printed["keys"].as_array().unwrap().len(), 2);
    assert_eq!(served.json(), printed);
    server.terminate();

    assert_eq!(uses(&place.json(&["keys", "rotate"])), ["signing", "next", "next"]);
    assert_eq!(
        uses(&place.json(&["keys", "rotate", "--overlap", "0s"])),
        ["gone", "gone", "gone", "signing"]
    );
    let listed = place.run(&["keys", "list"]).stdout;
    assert_eq!(listed.lines().count(), 4, "{listed}");
    place.fails(&["keys", "rotate", "--overlap", "1m"], 1, "overlap must be 0s, or lie between 1h and 90d");
}

#[test]
fn wrong_usage_is_named_and_ends_with_2() {
    let place = Place::new(&[("LISTN", "127.0.0.1:0")]);
    let mint = ["token", "mint", "--project", "p", "--subject", "s"];
    let commands: [&[&str]; 7] = [
        &["serve"],
        &["dev", "--once"],
        &["config"],
        &["config", "--json"],
        &["migrate", "--check"],
        &["job", "run", "expiry"],
        &mint,
    ];
    for command in commands {
        place.fails(command, 2, "WATCHPOST_LISTN");
    }
    let place = Place::new(&[]);
    let long = "p".repeat(257);
    let cases: [(&[&str], &str); 15] = [
        (
            &["job", "run", "tidy"],
            "there is no job tidy; known are expiry, renewal, retry, claims, retention",
        ),
        (&["job", "run", "tidy", "--json"], "there is no job tidy"),
        (&["job", "run"], "NAME"),
        (&[], "Usage"),
        (&["srve"], "srve"),
        (&["serve", "--listn", "x"], "--listn"),
        (&["serve", "--listen", "nowhere"], "--listen"),
        (&["serve", "--listen", "0.0.0.0:0"], "PUBLIC_URL"),
        (&["serve", "--listen", "0.0.0.0:0", "--public-url", "https://x.example", "--auth", "off"], "AUTH"),
        (&["config", "--database-url", "mysql://x"], "--database-url"),
        (&["migrate", "--database-url", "postgres://u@127.0.0.1:1/x"], "MASTER_KEY"),
        (&["token", "mint", "--project", "", "--subject", "s"], "--project"),
        (&["token", "mint", "--project", "p", "--subject", "a\nb"], "--subject"),
        (&["token", "mint", "--project", &long, "--subject", "s"], "--project"),
        (&["token", "mint", "--project", "p"], "--subject"),
    ];
    for (arguments, told) in cases {
        place.fails(arguments, 2, told);
    }
    for (flag, value) in
        [("--scope", "channels root"), ("--scope", ""), ("--ttl", "0s"), ("--ttl", "401d"), ("--ttl", "1")]
    {
        place.fails(&[&mint[..], &[flag, value]].concat(), 2, flag);
    }
    std::fs::write(place.folder.join("watchpost.toml"), "listn = \"x\"\n").unwrap();
    place.fails(&["config"], 2, "listn");
    assert_eq!(place.run(&["--version"]).stdout, format!("watchpost {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn secrets_are_told_to_nobody() {
    let key = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
    let secret = "correct horse battery staple, and more";
    let place = Place::new(&[
        ("DATABASE_URL", "postgres://u:hunter2@127.0.0.1:1/x"),
        ("MASTER_KEY", key),
        ("JWT_SECRET", secret),
    ]);
    let shown = place.json(&["config"]);
    assert_eq!(
        (&shown["JWT_SECRET"]["value"], &shown["MASTER_KEY"]["value"]),
        (&"(set)".into(), &"(set)".into())
    );
    assert!(shown["DATABASE_URL"]["value"].as_str().unwrap().contains("127.0.0.1:1/x"));
    let commands: [&[&str]; 6] = [
        &["config"],
        &["config", "--json"],
        &["migrate", "--check"],
        &["migrate"],
        &["job", "run", "expiry"],
        &["serve", "--listen", "127.0.0.1:0"],
    ];
    for command in commands {
        let ended = place.run(command);
        assert_eq!(ended.code, i32::from(command[0] != "config"), "{command:?}: {}", ended.stderr);
        let both = ended.stdout + &ended.stderr;
        for hidden in ["hunter2", key, secret] {
            assert!(!both.contains(hidden), "{command:?}: {both}");
        }
        assert!(
            command[0] == "config" || both.starts_with("error: ") || both.contains("\nerror: "),
            "{both}"
        );
    }
}

#[test]
fn commands_work_beside_a_shared_store() {
    let database = database();
    let place = Place::new(&[
        ("LISTEN", "127.0.0.1:0"),
        ("DATABASE_URL", database.url()),
        ("MASTER_KEY", "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="),
        ("STATE_DIR", "./state"),
    ]);
    place.fails(&["job", "run", "retry"], 1, "run `watchpost migrate` first");
    assert_eq!(place.run(&["migrate", "--check"]).code, 1);
    let mut server = place.start(&["serve"]);
    server.until("listening on http://");
    assert!(
        server.said.contains(&format!("store postgres://127.0.0.1/{} (PostgreSQL, ", database.name())),
        "{}",
        server.said
    );
    assert_eq!(place.run(&["migrate", "--check"]).code, 0);
    assert_eq!(place.json(&["job", "run", "retry"])["report"]["due"], 0);
    assert_eq!(place.run(&["token", "mint", "--project", "p", "--subject", "s"]).code, 0);
    place.goes_through_a_key();
    server.terminate();
}

/// A log that cannot be written, because its disk is full or its reader is gone, stops nobody.
#[test]
fn a_server_without_a_log_works_and_stops_in_order() {
    let place =
        Place::new(&[("LISTEN", "127.0.0.1:0"), ("DATABASE_URL", "sqlite:./here.db"), ("LOG", "debug")]);
    let mut command = place.command(&["serve"]);
    command.stderr(std::fs::File::create("/dev/full").unwrap()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap());
    let mut server = Running { child, lines, said: String::new() };
    server.until("listening on http://");
    server.terminate();
}
