//! Chance by seed. What a seed decides – payloads, moments, answers – is the same in every run with it; how the
//! operating system interleaves the processes is not.

use std::hash::{BuildHasher, Hasher, RandomState};

const VARIABLE: &str = "CRASH_SEED";

/// The seed of this run: from `CRASH_SEED`, or a fresh one.
#[expect(
    clippy::disallowed_methods,
    reason = "a test's own switch, which the program's settings do not know"
)]
pub fn seed() -> u64 {
    match std::env::var(VARIABLE) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{VARIABLE} is no number: {text}")),
        Err(_) => RandomState::new().build_hasher().finish() >> 16,
    }
}

/// `splitmix64`: small, good enough, and the same everywhere.
#[derive(Clone)]
pub struct Dice(u64);

impl Dice {
    /// Each purpose has dice of its own, so that one more throw here changes nothing there.
    pub fn new(seed: u64, purpose: &str) -> Self {
        let mixed = purpose.bytes().fold(seed ^ 0xcbf2_9ce4_8422_2325, |mixed, byte| {
            (mixed ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        Self(mixed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// `from..=to`
    pub fn between(&mut self, from: u64, to: u64) -> u64 {
        from + self.next() % (to - from + 1)
    }

    pub fn index(&mut self, length: usize) -> usize {
        usize::try_from(self.between(0, u64::try_from(length).unwrap() - 1)).unwrap()
    }

    pub fn one_in(&mut self, times: u64) -> bool {
        self.between(1, times) == 1
    }
}
