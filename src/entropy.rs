//! The only source of randomness: ids, secrets and jitter. Tests hold a [`SeededEntropy`] and replay it.

use std::sync::{Arc, Mutex, PoisonError};

use rand::{Rng, SeedableRng, rngs::StdRng};

pub trait Entropy: Send + Sync {
    /// Fills `bytes` with random bytes.
    fn fill(&self, bytes: &mut [u8]);
}

pub type SharedEntropy = Arc<dyn Entropy>;

impl dyn Entropy + '_ {
    pub fn bytes<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        self.fill(&mut bytes);
        bytes
    }

    /// A number in `[0, 1)` with 53 random bits, for jitter.
    #[expect(clippy::cast_precision_loss, clippy::as_conversions, reason = "53 bits fit an f64 exactly")]
    pub fn unit(&self) -> f64 {
        (u64::from_le_bytes(self.bytes()) >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// The operating system's generator, fit for secrets.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemEntropy;

impl Entropy for SystemEntropy {
    #[expect(clippy::disallowed_methods, reason = "the one place that draws randomness")]
    fn fill(&self, bytes: &mut [u8]) {
        rand::rng().fill_bytes(bytes);
    }
}

/// The same bytes for the same seed.
#[derive(Debug)]
pub struct SeededEntropy(Mutex<StdRng>);

impl SeededEntropy {
    pub fn new(seed: u64) -> Arc<Self> {
        Arc::new(Self(Mutex::new(StdRng::seed_from_u64(seed))))
    }
}

impl Entropy for SeededEntropy {
    fn fill(&self, bytes: &mut [u8]) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).fill_bytes(bytes);
    }
}
