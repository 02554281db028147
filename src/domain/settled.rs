//! What is settled above a low-water mark, one bit per seq: what a channel whose notifications may overtake each other
//! keeps besides its cursor, so that a crash repeats only what was in flight.
//!
//! The map knows the mark that it was made for. A command that moves the cursor on need not know of the map.

/// Seqs above the low-water mark that a map knows of; nothing further ahead is started.
pub const AHEAD_MAX: i64 = 256;

const WORD_BITS: usize = 64;
const WORDS: usize = 4;
const WORD_BYTES: usize = 8;

// The map knows exactly as far ahead as may be started.
const _: () = assert!(AHEAD_MAX == 256 && WORDS * WORD_BITS == 256);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SettledMap {
    /// The low-water mark: bit 0 is the seq after it.
    base: i64,
    bits: [u64; WORDS],
}

impl SettledMap {
    /// Nothing is settled above `base`.
    pub const fn above(base: i64) -> Self {
        Self { base, bits: [0; WORDS] }
    }

    fn place(&self, seq: i64) -> Option<(usize, u64)> {
        let at = usize::try_from(seq.checked_sub(self.base)?.checked_sub(1)?).ok()?;
        (at < WORDS * WORD_BITS).then(|| (at / WORD_BITS, 1_u64 << (at % WORD_BITS)))
    }

    pub fn contains(&self, seq: i64) -> bool {
        self.place(seq).is_some_and(|(word, bit)| self.bits.get(word).is_some_and(|bits| bits & bit != 0))
    }

    /// Settles a seq. What the map does not reach is left alone.
    pub fn insert(&mut self, seq: i64) {
        if let Some((word, bit)) = self.place(seq)
            && let Some(bits) = self.bits.get_mut(word)
        {
            *bits |= bit;
        }
    }

    pub fn is_empty(&self) -> bool {
        self.bits == [0; WORDS]
    }

    /// The same above another low-water mark.
    #[must_use]
    pub fn moved_to(&self, base: i64) -> Self {
        if base == self.base {
            return *self;
        }
        let mut moved = Self::above(base);
        if self.is_empty() {
            return moved;
        }
        for seq in self.seqs() {
            moved.insert(seq);
        }
        moved
    }

    /// The settled seqs, in order.
    pub fn seqs(&self) -> impl Iterator<Item = i64> {
        let map = *self;
        (1..=AHEAD_MAX).map(move |ahead| map.base.saturating_add(ahead)).filter(move |seq| map.contains(*seq))
    }

    /// As it is stored; nothing where nothing is settled.
    pub fn to_bytes(self) -> Option<Vec<u8>> {
        let words = std::iter::once(self.base.to_be_bytes()).chain(self.bits.map(u64::to_be_bytes));
        (!self.is_empty()).then(|| words.flatten().collect())
    }

    /// Reads what is stored with a cursor that stands at `seq`. What cannot be read says that nothing is settled: then
    /// it is sent again, and nothing is lost.
    pub fn from_bytes(bytes: &[u8], seq: i64) -> Self {
        let words: Vec<[u8; WORD_BYTES]> = bytes.as_chunks::<WORD_BYTES>().0.to_vec();
        let [base, bits @ ..] = words.as_slice() else { return Self::above(seq) };
        let Ok(bits) = <[[u8; WORD_BYTES]; WORDS]>::try_from(bits) else { return Self::above(seq) };
        Self { base: i64::from_be_bytes(*base), bits: bits.map(u64::from_be_bytes) }.moved_to(seq)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(base: i64, seqs: &[i64]) -> SettledMap {
        let mut map = SettledMap::above(base);
        for seq in seqs {
            map.insert(*seq);
        }
        map
    }

    #[test]
    fn a_map_reaches_from_its_mark_to_its_end() {
        let map = map(10, &[9, 10, 11, 75, 266, 267]);
        assert_eq!(map.seqs().collect::<Vec<_>>(), [11, 75, 266]);
        assert!(!map.contains(i64::MIN) && !map.contains(i64::MAX) && !map.contains(10));
    }

    #[test]
    fn a_mark_that_was_moved_by_somebody_else_is_no_trouble() {
        let bytes = map(10, &[12, 14, 200]).to_bytes().unwrap();
        assert_eq!(bytes.len(), 40);
        assert_eq!(SettledMap::from_bytes(&bytes, 10), map(10, &[12, 14, 200]));
        assert_eq!(SettledMap::from_bytes(&bytes, 12), map(12, &[14, 200]));
        assert_eq!(SettledMap::from_bytes(&bytes, 500), map(500, &[]));
        assert_eq!(map(500, &[]).to_bytes(), None);
    }

    #[test]
    fn what_cannot_be_read_settles_nothing() {
        for bytes in [&[][..], &[1; 7], &[255; 39], &[255; 48]] {
            assert_eq!(SettledMap::from_bytes(bytes, 3), map(3, &[]), "{bytes:?}");
        }
    }
}
