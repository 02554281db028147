//! The rules by which the sources are laid out, held by reading them: which layer may use which, who may use which
//! library, how long a file may be. A rule that nobody checks is a wish.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// Modules without a layer of their own, which know no layer either.
const LEAVES: [&str; 3] = ["clock", "entropy", "runtime"];

/// What each part may use of the crate, beside itself. `cli` puts everything together and may use all of it.
const USES: [(&str, &[&str]); 14] = [
    ("domain", &[]),
    ("clock", &["domain"]),
    ("entropy", &[]),
    ("runtime", &[]),
    ("wake", &["domain"]),
    ("config", &["domain"]),
    ("telemetry", &["config"]),
    ("store", &["domain", "runtime"]),
    ("signing", &["domain"]),
    ("outbound", &["domain", "clock", "entropy", "runtime"]),
    ("engine", &["store", "signing", "outbound", "wake", "domain", "clock", "entropy", "runtime"]),
    (
        "app",
        &[
            "store",
            "signing",
            "wake",
            "domain",
            "clock",
            "entropy",
            "runtime",
            // The address is judged when a channel is opened; that is no I/O.
            "outbound::EgressPolicy",
            "outbound::Refusal",
            // Who says who callers are is asked through the same gate.
            "outbound::Fetcher",
            "outbound::FetchError",
        ],
    ),
    ("jobs", &["app", "engine", "store", "domain"]),
    // A face words the refusals of the policy as well as all other errors.
    ("web", &["app", "jobs", "store", "domain", "clock", "outbound::Refusal"]),
];

/// Libraries, and where alone they may be used.
const LIBRARIES: [(&[&str], &[&str]); 6] = [
    (&["reqwest"], &["src/outbound/", "src/cli/client.rs"]),
    (&["tokio_cron_scheduler"], &["src/jobs/scheduler.rs"]),
    (&["diesel", "diesel_async", "diesel_migrations", "tokio_postgres", "deadpool"], &["src/store/"]),
    (&["actix_web", "actix_http"], &["src/web/", "src/cli/listener.rs", "src/cli/dev/bin.rs"]),
    (&["jsonwebtoken"], &["src/signing/", "src/cli/mod.rs"]),
    (&["clap"], &["src/cli/", "src/config/flags.rs"]),
];

/// What has no place in pure types and decisions.
const IMPURE_WORDS: [&str; 9] =
    ["async", "await", "tokio", "futures_util", "rand", "tracing", "unsafe", "println", "eprintln"];
const IMPURE_STD: [&str; 10] = [
    "fs",
    "io",
    "env",
    "process",
    "thread",
    "time::SystemTime",
    "time::Instant",
    "net::TcpStream",
    "net::TcpListener",
    "net::UdpSocket",
];

const LINES_MAX: usize = 400;

/// What of a source is neither comment nor text: those are blanked, line by line.
fn code_of(source: &str) -> String {
    let mut code = String::with_capacity(source.len());
    let mut rest = source;
    // The end of a text that was opened, and whether a backslash means something in it.
    let mut inside: Option<(String, bool)> = None;
    while let Some(letter) = rest.chars().next() {
        let mut taken = letter.len_utf8();
        if let Some((end, escapes)) = &inside {
            if *escapes && letter == '\\' {
                taken += rest[1..].chars().next().map_or(0, char::len_utf8);
            } else if rest.starts_with(end.as_str()) {
                taken = end.len();
                inside = None;
            }
            code.extend(rest[..taken].chars().filter(|letter| *letter == '\n'));
        } else if rest.starts_with("//") {
            taken = rest.find('\n').unwrap_or(rest.len());
        } else if rest.starts_with("/*") {
            inside = Some(("*/".to_owned(), false));
            taken = 2;
        } else if let Some(quote) = ["'\"'", "'\\\"'", "b'\"'"].iter().find(|quote| rest.starts_with(**quote))
        {
            taken = quote.len();
        } else if letter == '"' {
            inside = Some(("\"".to_owned(), true));
        } else if let Some(hashes) = raw_text(rest, &code) {
            inside = Some((format!("\"{}", "#".repeat(hashes)), false));
            taken = hashes + 2;
        } else {
            code.push(letter);
        }
        rest = &rest[taken..];
    }
    code
}

/// The number of hashes, where a raw text begins.
fn raw_text(rest: &str, before: &str) -> Option<usize> {
    let hashes = rest.strip_prefix('r')?;
    let count = hashes.len() - hashes.trim_start_matches('#').len();
    let in_word = before.ends_with(|letter: char| letter.is_alphanumeric() && letter != 'b');
    (!in_word && hashes[count..].starts_with('"')).then_some(count)
}

/// Tests stand at the end of a file, or in one of their own.
fn without_tests(code: &str) -> String {
    let mut rest = code;
    while let Some(at) = rest.find("#[cfg(test)]") {
        rest = &rest[at + 12..];
        let Some(module) = rest.trim_start().strip_prefix("mod ") else { continue };
        let ends = module.find([';', '{']);
        if ends.is_some_and(|end| module[end..].starts_with('{')) {
            return code[..code.len() - rest.len() - 12].to_owned();
        }
    }
    code.to_owned()
}

fn is_word(letter: char) -> bool {
    letter.is_alphanumeric() || letter == '_'
}

/// Whether `word` stands in the code by itself.
fn has_word(code: &str, word: &str) -> bool {
    code.match_indices(word)
        .any(|(at, _)| !code[..at].ends_with(is_word) && !code[at + word.len()..].starts_with(is_word))
}

/// Every path that begins with `root::`, with the braces of `use` resolved.
fn paths(code: &str, root: &str) -> Vec<String> {
    let start = format!("{root}::");
    let starts = code
        .match_indices(&start)
        .filter(|(at, _)| !code[..*at].ends_with(|letter: char| is_word(letter) || letter == ':'));
    let mut found = Vec::new();
    for (at, _) in starts {
        tree(&code[at + start.len()..], "", &mut found);
    }
    found
}

/// Reads one branch of a `use` tree; returns what stands behind it.
fn tree<'c>(code: &'c str, before: &str, found: &mut Vec<String>) -> &'c str {
    let mut code = code.trim_start();
    let mut path = before.to_owned();
    loop {
        if let Some(mut inner) = code.strip_prefix('{') {
            loop {
                inner = inner.trim_start();
                if let Some(rest) = inner.strip_prefix('}') {
                    return rest;
                }
                if inner.is_empty() {
                    return inner;
                }
                let rest = tree(inner, &path, found).trim_start();
                // An `as` and whatever else is not of the path.
                let stop = rest.find([',', '}']).unwrap_or(rest.len());
                inner = rest[stop..].strip_prefix(',').unwrap_or(&rest[stop..]);
            }
        }
        let end = code.find(|letter| !is_word(letter) && letter != '*').unwrap_or(code.len());
        path.push_str(&code[..end]);
        code = &code[end..];
        match code.strip_prefix("::") {
            Some(rest) if end > 0 => {
                path.push_str("::");
                code = rest.trim_start();
            }
            _ => {
                found.push(path);
                return code;
            }
        }
    }
}

/// `store::journal` for `src/store/journal.rs`, `store` for `src/store/mod.rs`.
fn module_of(file: &str) -> Vec<String> {
    let path = file.trim_start_matches("src/").trim_end_matches(".rs").trim_end_matches("/mod");
    path.split('/').map(str::to_owned).collect()
}

/// Paths of the crate, whether written from its root or from a parent.
fn crate_paths(file: &str, code: &str) -> Vec<String> {
    let (sources, tests) = code.split_at(without_tests(code).len());
    let module = module_of(file);
    let mut found = paths_from(&module, sources);
    // Tests at the end of a file stand in a module of their own.
    found.extend(paths_from(&[module, vec!["tests".to_owned()]].concat(), tests));
    found
}

fn paths_from(module: &[String], code: &str) -> Vec<String> {
    let from_parent = paths(code, "super").into_iter().map(|path| {
        let mut rest = path.as_str();
        let mut levels = 1;
        while let Some(more) = rest.strip_prefix("super::") {
            (rest, levels) = (more, levels + 1);
        }
        let mut whole = module[..module.len().saturating_sub(levels)].to_vec();
        whole.push(rest.to_owned());
        whole.join("::")
    });
    paths(code, "crate").into_iter().chain(from_parent).collect()
}

fn is_within(path: &str, place: &str) -> bool {
    path.strip_prefix(place).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

/// Which layers and libraries a source uses against the rules. Tests keep the same directions.
fn directions(file: &str, code: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    let part = module_of(file)[0].clone();
    let root = ["lib", "main"].contains(&part.as_str());
    if !root && part != "cli" {
        match USES.iter().find(|(known, _)| *known == part) {
            None => wrong.push(format!("{file}: {part} is no part of the design")),
            Some((_, uses)) => {
                for path in crate_paths(file, code) {
                    if !is_within(&path, &part) && !uses.iter().any(|place| is_within(&path, place)) {
                        wrong.push(format!("{file}: {part} must not use {path}"));
                    }
                }
            }
        }
    }
    for (libraries, places) in LIBRARIES {
        if !places.iter().any(|place| file.starts_with(place)) {
            let used = libraries.iter().filter(|library| has_word(code, library));
            wrong.extend(used.map(|library| format!("{file}: {library} belongs to {}", places.join(", "))));
        }
    }
    wrong
}

/// What is wrong with a source of the crate.
fn violations(file: &str, source: &str) -> Vec<String> {
    let code = code_of(source);
    let mut wrong = directions(file, &code);
    if is_test(file) {
        return wrong;
    }
    let code = without_tests(&code);
    let part = module_of(file)[0].clone();
    let std_paths = paths(&code, "std");
    if part != "config" && std_paths.iter().any(|path| is_within(path, "env")) {
        wrong.push(format!("{file}: only config reads the environment"));
    }
    if part == "domain" {
        wrong.extend(
            IMPURE_WORDS.iter().filter(|word| has_word(&code, word)).map(|word| format!("{file}: {word}")),
        );
        for path in std_paths.iter().filter(|path| IMPURE_STD.iter().any(|impure| is_within(path, impure))) {
            wrong.push(format!("{file}: std::{path}"));
        }
        if code.contains("Utc::now") || code.contains("Local::now") {
            wrong.push(format!("{file}: a clock"));
        }
    }
    if !source.starts_with("//! ") {
        wrong.push(format!("{file}: begins without its module's doc"));
    }
    let lines = code.trim_end().lines().count();
    if lines > LINES_MAX {
        wrong.push(format!("{file}: {lines} lines, {LINES_MAX} are allowed"));
    }
    wrong
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Rust sources under a folder, by their paths in the repository.
fn sources(folder: &str) -> Vec<(String, String)> {
    let mut folders: Vec<PathBuf> = vec![root().join(folder)];
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned();
                found.push((name, fs::read_to_string(path).unwrap()));
            }
        }
    }
    found.sort();
    found
}

fn is_test(file: &str) -> bool {
    file.ends_with("/tests.rs") || file.contains("/tests/")
}

#[test]
fn every_source_keeps_to_its_place() {
    let sources = sources("src");
    assert!(sources.len() > 50, "{}", sources.len());
    let wrong: Vec<_> = sources.iter().flat_map(|(file, source)| violations(file, source)).collect();
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    for leaf in LEAVES {
        let (_, uses) = USES.iter().find(|(part, _)| *part == leaf).unwrap();
        assert!(uses.iter().all(|used| *used == "domain"), "{leaf}");
    }
}

#[test]
fn every_test_says_what_it_is_about() {
    for (file, source) in sources("tests") {
        assert!(source.starts_with("//! "), "{file}");
    }
}

#[test]
fn nothing_that_is_committed_knows_this_machine() {
    let listed = Command::new("git").args(["ls-files", "-z"]).current_dir(root()).output();
    let Some(listed) = listed.ok().filter(|output| output.status.success()) else {
        // A source archive has no index: what is in it was committed.
        return;
    };
    // Taken apart, so that this file does not hold them.
    let hidden = [
        ("/wo", "rk/"),
        ("/ro", "ot/"),
        ("/ho", "me/"),
        ("/Us", "ers/"),
        ("bash_", "jobs"),
        ("index.crates", ".io"),
        ("static.crates", ".io"),
        ("files.python", "hosted.org"),
        ("artifact", "ory"),
    ];
    let mut wrong = Vec::new();
    for file in String::from_utf8(listed.stdout).unwrap().split('\0').filter(|file| !file.is_empty()) {
        // Deleted but not committed yet, or not text.
        let Ok(text) = fs::read_to_string(root().join(file)) else { continue };
        for (number, line) in text.lines().enumerate() {
            for (left, right) in hidden {
                if line.contains(&format!("{left}{right}")) {
                    wrong.push(format!("{file}:{}: {left}{right}", number + 1));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn a_forged_source_is_found_out() {
    let told = |file: &str, body: &str| violations(file, &format!("//! A doc.\n{body}")).join("\n");
    for (file, body) in [
        ("src/domain/x.rs", "use crate::domain::{a, b::{self, c}};\nuse super::time::Timestamp;"),
        ("src/domain/x.rs", "// crate::store, tokio, async\nconst A: &str = \"crate::store \\\" tokio\";"),
        (
            "src/domain/x.rs",
            "const A: &str = r#\"crate::store \" tokio\"#; const B: char = '\"'; use std::fmt;",
        ),
        ("src/domain/x.rs", "use std::{net::IpAddr, time::Duration};"),
        ("src/domain/x.rs", "#[cfg(test)]\nmod tests { use crate::domain::time; use tokio::spawn; }"),
        ("src/app/x.rs", "use crate::{outbound::{EgressPolicy, Refusal}, store::Store};"),
        ("src/web/v1/x.rs", "use super::super::body; use crate::outbound::Refusal;"),
        ("src/cli/x.rs", "use crate::{engine::Engine, web::Web};"),
        ("src/config/x.rs", "use std::env;"),
        ("src/lib.rs", "pub mod app;"),
        ("src/wake.rs", "#[cfg(test)]\nmod tests { use super::*; }"),
    ] {
        assert_eq!(told(file, body), "", "{body}");
    }
    for (file, body, wrong) in [
        ("src/domain/x.rs", "use crate::store::Store;", "domain must not use store::Store"),
        (
            "src/domain/x.rs",
            "use crate::{domain::time, clock::{self, Clock as C}};",
            "must not use clock::self",
        ),
        ("src/domain/x.rs", "fn f() -> crate::app::App { todo!() }", "must not use app::App"),
        ("src/domain/x.rs", "use super::super::store::Store;", "must not use store::Store"),
        ("src/domain/x.rs", "pub async fn f() {}", "async"),
        ("src/domain/x.rs", "use std::{fmt, time::{Duration, SystemTime}};", "std::time::SystemTime"),
        ("src/domain/x.rs", "fn f() { std::fs::read(\"x\"); }", "std::fs::read"),
        ("src/domain/x.rs", "fn f() { Utc::now(); }", "a clock"),
        ("src/domain/x.rs", "use tokio::sync::Mutex;", "tokio"),
        ("src/domain/x.rs", "#[cfg(test)]\nmod tests;\nuse crate::web::Web;", "must not use web::Web"),
        ("src/domain/x.rs", "#[cfg(test)]\nmod tests { use crate::app::App; }", "must not use app::App"),
        ("src/wake.rs", "#[cfg(test)]\nmod tests { use super::super::app::App; }", "must not use app::App"),
        ("src/domain/x/tests.rs", "use crate::app::App;", "must not use app::App"),
        ("src/store/x.rs", "use crate::{app, domain};", "store must not use app"),
        ("src/signing/x.rs", "use crate::store::Store;", "signing must not use store::Store"),
        ("src/outbound/x.rs", "use crate::engine::Engine;", "outbound must not use engine::Engine"),
        ("src/engine/x.rs", "use crate::app::App;", "engine must not use app::App"),
        ("src/engine/x/y.rs", "use super::super::super::web::Web;", "engine must not use web::Web"),
        ("src/app/x.rs", "use crate::engine::Engine;", "app must not use engine::Engine"),
        ("src/app/x.rs", "use crate::outbound::{EgressPolicy, Sender};", "app must not use outbound::Sender"),
        ("src/app/x.rs", "use crate::outbound::*;", "app must not use outbound::*"),
        ("src/jobs/x.rs", "use crate::web::Web;", "jobs must not use web::Web"),
        ("src/web/x.rs", "use crate::engine::Engine;", "web must not use engine::Engine"),
        ("src/web/x.rs", "use diesel::prelude::*;", "diesel belongs to src/store/"),
        ("src/engine/x.rs", "use reqwest::Client;", "reqwest belongs to src/outbound/"),
        ("src/jobs/expiry.rs", "use tokio_cron_scheduler::Job;", "belongs to src/jobs/scheduler.rs"),
        ("src/app/x.rs", "use actix_web::web;", "actix_web belongs to"),
        ("src/cli/x.rs", "fn f() { std::env::var(\"X\"); }", "only config reads the environment"),
        ("src/store/x.rs", "use std::{env::vars, fmt};", "only config reads the environment"),
        ("src/helpers.rs", "", "helpers is no part of the design"),
    ] {
        assert!(told(file, body).contains(wrong), "{body} was let through: {}", told(file, body));
    }
    assert!(violations("src/wake.rs", "use std::fmt;\n")[0].contains("doc"));
    let long = "fn f() {}\n".repeat(LINES_MAX + 1);
    assert!(told("src/wake.rs", &long).contains(" lines, 400 are allowed"));
    let tested = format!("{}#[cfg(test)]\nmod tests {{\n{long}}}\n", "fn f() {}\n".repeat(LINES_MAX - 1));
    assert_eq!(told("src/wake.rs", &tested), "", "tests do not count");
}
