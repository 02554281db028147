//! Who may use whom, read from the sources: `crate::…` paths for layers, names of libraries for gates. `cli` may use
//! everything, since it puts the server together. Unit tests are looked at as well: they keep the same directions.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// A module of `src` and what it may use of the others.
const LAYERS: &[(&str, &[&str])] = &[
    ("domain", &[]),
    ("clock", &["domain"]),
    ("entropy", &[]),
    ("runtime", &[]),
    ("wake", &["domain"]),
    ("config", &["domain"]),
    ("telemetry", &["config"]),
    ("signing", &["domain"]),
    ("outbound", &["domain", "clock"]),
    ("store", &["domain", "runtime"]),
    ("engine", &["store", "signing", "outbound", "wake", "domain", "clock", "entropy", "runtime"]),
    ("app", &["store", "signing", "outbound", "wake", "domain", "clock", "entropy"]),
    ("jobs", &["app", "engine", "store", "domain"]),
    // Of `store` the types in the app's answers, of `outbound` the reason why an address was refused.
    ("web", &["app", "jobs", "store", "outbound", "domain", "clock"]),
];

/// A library and the only places that may name it.
const GATES: &[(&str, &[&str])] = &[
    ("reqwest", &["outbound/", "cli/client.rs"]),
    ("diesel", &["store/"]),
    ("actix_web", &["web/", "cli/server.rs", "cli/dev/bin.rs"]),
    ("tokio_cron_scheduler", &["jobs/scheduler.rs"]),
    ("jsonwebtoken", &["signing/jwt.rs", "cli/mod.rs"]),
];

fn sources(folder: &Path, found: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|kind| kind == "rs") {
            let name = path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned();
            let text = fs::read_to_string(&path).unwrap();
            let code = text.lines().map(|line| line.split("//").next().unwrap_or_default());
            found.push((name, code.collect::<Vec<_>>().join("\n")));
        }
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

fn all() -> Vec<(String, String)> {
    let mut found = Vec::new();
    sources(&root(), &mut found);
    assert!(found.len() > 50, "the sources are not where they were");
    found
}

/// The modules that `crate::one::…` and `crate::{one::…, two}` name.
fn used(code: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for rest in code.split("crate::").skip(1) {
        let Some(group) = rest.strip_prefix('{') else {
            names.insert(first_word(rest));
            continue;
        };
        let mut depth = 1;
        let mut item = String::new();
        for letter in group.chars() {
            depth += match letter {
                '{' => 1,
                '}' => -1,
                _ => 0,
            };
            if depth == 0 || (depth == 1 && letter == ',') {
                names.insert(first_word(item.trim()));
                item.clear();
            } else {
                item.push(letter);
            }
            if depth == 0 {
                break;
            }
        }
    }
    names.remove("");
    names
}

fn first_word(text: &str) -> String {
    text.chars().take_while(|letter| letter.is_ascii_alphanumeric() || *letter == '_').collect()
}

#[test]
fn layers_are_used_in_one_direction() {
    for (file, code) in all() {
        let module = first_word(&file);
        let Some((_, allowed)) = LAYERS.iter().find(|(name, _)| *name == module) else {
            assert!(matches!(module.as_str(), "cli" | "lib" | "main"), "{module} is in no layer");
            continue;
        };
        for name in used(&code) {
            let is_layer = name == "cli" || LAYERS.iter().any(|(layer, _)| *layer == name);
            let may = name == module || allowed.contains(&name.as_str()) || !is_layer;
            assert!(may, "src/{file} uses {name}, which {module} must not");
        }
    }
}

#[test]
fn each_library_has_its_gate() {
    for (file, code) in all() {
        for (library, places) in GATES {
            let named = code.contains(&format!("{library}::")) || code.contains(&format!("use {library}"));
            let may = places.iter().any(|place| file.starts_with(place));
            assert!(!named || may, "src/{file} names {library}");
        }
    }
}
