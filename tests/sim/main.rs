//! Order, loss and duplicates of one channel under random faults: the machine in a world made of memory.
//!
//! A failing history is shrunk and printed with its transcript, and its seed is written to the `.seeds` file
//! beside the test, which is committed: `cargo test --test sim` runs the seeds there before anything new.

#![allow(missing_debug_implementations, reason = "test code")]

mod history;
mod ledger;
mod properties;
mod transcript;
mod wild;
mod world;

use proptest::{prelude::*, test_runner::FileFailurePersistence};

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig {
        cases,
        max_shrink_iters: 20_000,
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("seeds"))),
        ..ProptestConfig::default()
    }
}

fn judge(history: history::History) -> Result<(), TestCaseError> {
    let transcript = world::live(history);
    for (promise, holds) in properties::ALL {
        holds(&transcript)
            .map_err(|broken| TestCaseError::fail(format!("{promise}: {broken}\n{transcript}")))?;
    }
    Ok(())
}

proptest! {
    #![proptest_config(config(2_000))]

    #[test]
    fn every_history_keeps_every_promise(history in history::histories()) {
        judge(history)?;
    }
}

proptest! {
    #![proptest_config(config(100_000))]

    #[test]
    #[ignore = "minutes: `cargo test --release --test sim -- --ignored`"]
    fn a_great_many_histories_keep_every_promise(history in history::histories()) {
        judge(history)?;
    }
}
