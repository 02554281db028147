//! The fuzz targets as ordinary tests: every file of their corpus, and inputs mutated from it. What a target checks
//! stands in `fuzz/targets`, and `cargo fuzz` runs the very same functions; what it finds is added to the corpus.
//!
//! The mutations are those of one seed, the same in every run; `CORPUS_SEED` chooses another.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::as_conversions,
    clippy::print_stderr,
    reason = "test code: a broken expectation is a failed test"
)]

#[path = "../../fuzz/targets/address.rs"]
mod address;
#[allow(dead_code, reason = "the model throws them in more ways")]
#[path = "../model/dice.rs"]
mod dice;
#[path = "../../fuzz/targets/expiration.rs"]
mod expiration;
#[path = "../../fuzz/targets/globs.rs"]
mod globs;
#[path = "../../fuzz/targets/headers.rs"]
mod headers;
mod mutation;
#[path = "../../fuzz/targets/retry_after.rs"]
mod retry_after;
#[path = "../../fuzz/targets/signatures.rs"]
mod signatures;
#[path = "../../fuzz/targets/tokens.rs"]
mod tokens;

use std::{fs, panic, path::Path};

use self::{dice::Dice, mutation::mutated};

const SEED: u64 = 20_261_124;
const MUTATIONS: u64 = 10_000;

#[test]
fn addresses() {
    let vectors = include_str!("../it/egress/vectors.tsv").lines().filter(|line| !line.starts_with('#'));
    let address = |line: &str| -> String { serde_json::from_str(line.split('\t').nth(2).unwrap()).unwrap() };
    run("address", address::check, vectors.map(address).map(String::into_bytes).collect());
}

#[test]
fn retry_after() {
    run("retry_after", retry_after::check, Vec::new());
}

#[test]
fn expirations() {
    run("expiration", expiration::check, Vec::new());
}

#[test]
fn owners_headers() {
    run("headers", headers::check, Vec::new());
}

#[test]
fn globs_over_event_names() {
    run("globs", globs::check, Vec::new());
}

#[test]
fn tokens_keys_and_places() {
    run("tokens", tokens::check, Vec::new());
}

#[test]
fn secrets_and_signatures() {
    run("signatures", signatures::check, Vec::new());
}

/// Every file of the target's corpus, what is `more` of it, and mutations of both.
fn run(target: &str, check: fn(&[u8]), more: Vec<Vec<u8>>) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut files: Vec<_> = fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.unwrap().path())
        .collect();
    // However the folder lists them, so that a seed says what is mutated.
    files.sort();
    assert!(!files.is_empty(), "{} is empty", folder.display());
    let mut corpus: Vec<Vec<u8>> = Vec::new();
    for file in files {
        let input = fs::read(&file).unwrap();
        passes(check, &input, &file.display().to_string());
        corpus.push(input);
    }
    for input in more {
        passes(check, &input, "a vector");
        corpus.push(input);
    }

    let seed = seed();
    eprintln!("{target}: CORPUS_SEED={seed}, {MUTATIONS} mutations of {} inputs", corpus.len());
    for number in 0..MUTATIONS {
        let mut dice = Dice::new(&[seed, number]);
        passes(check, &mutated(&corpus, &mut dice), &format!("mutation {number} of CORPUS_SEED={seed}"));
    }
}

fn passes(check: fn(&[u8]), input: &[u8], what: &str) {
    let passed = panic::catch_unwind(|| check(input)).is_ok();
    assert!(passed, "{what} fails: b\"{}\"", input.escape_ascii());
}

#[expect(
    clippy::disallowed_methods,
    reason = "a test's own switch, which the program's settings do not know"
)]
fn seed() -> u64 {
    let chosen = std::env::var("CORPUS_SEED").ok();
    chosen.map_or(SEED, |text| text.parse().unwrap_or_else(|_| panic!("CORPUS_SEED is no number: {text}")))
}
