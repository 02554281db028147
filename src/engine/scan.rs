//! What one filter wants of one resource's log, as far as it was looked through. Shared by all lanes with an equal
//! filter, so that it is evaluated once per event; pure, fed by the driver's reads.
//!
//! A page stands for 64 adjacent seqs. Their number is bounded, and those that nobody asked for the longest go first:
//! lanes at different places of a long log do not push each other out.

use std::collections::BTreeMap;

use super::machine::Input;
use crate::domain::event::Event;

/// Seqs of one page: one bit each.
pub const PAGE_SEQS: usize = 64;
/// 4,096 seqs.
const PAGES_MAX: usize = 64;

/// Adjacent seqs of one page, and which of them are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chunk {
    pub from: i64,
    pub through: i64,
    bits: u64,
}

#[derive(Debug, Default)]
pub struct Scan {
    pages: BTreeMap<i64, Page>,
    /// Counts what was asked and learnt.
    turns: u64,
}

#[derive(Debug)]
struct Page {
    known: Chunk,
    used: u64,
}

/// The last seq of the page that holds `seq`.
pub fn page_end(seq: i64) -> i64 {
    seq | (seqs() - 1)
}

fn seqs() -> i64 {
    i64::try_from(PAGE_SEQS).unwrap_or(i64::MAX)
}

fn bit(seq: i64) -> u64 {
    1 << (seq & (seqs() - 1))
}

impl Chunk {
    /// What was read after `after`, no further than its page. `None`: the log holds none of it.
    pub fn read(after: i64, events: &[impl AsRef<Event>], wants: impl Fn(&Event) -> bool) -> Option<Self> {
        let through = events.last()?.as_ref().seq;
        let wanted = events.iter().map(AsRef::as_ref).filter(|event| wants(event));
        // What is missing in front has left the log, and nobody can want it.
        Some(Self {
            from: after.saturating_add(1),
            through,
            bits: wanted.fold(0, |bits, event| bits | bit(event.seq)),
        })
    }

    pub const fn wants_any(&self) -> bool {
        self.bits != 0
    }

    /// Both together where they touch; else the newer one.
    fn with(self, newer: Self) -> Self {
        if newer.from.saturating_sub(1) > self.through || self.from.saturating_sub(1) > newer.through {
            return newer;
        }
        Self {
            from: self.from.min(newer.from),
            through: self.through.max(newer.through),
            bits: self.bits | newer.bits,
        }
    }
}

impl Scan {
    /// The first wanted seq after `after`, as far as it is known; `None` when nothing is known right there.
    pub fn next(&mut self, after: i64, head: i64) -> Option<Input> {
        self.turns += 1;
        let mut through = after;
        while through < head {
            let seq = through + 1;
            let Some(page) = self.pages.get_mut(&page_end(seq)) else { break };
            let known = page.known;
            if !(known.from..=known.through).contains(&seq) {
                break;
            }
            page.used = self.turns;
            if let Some(wanted) = (seq..=known.through.min(head)).find(|seq| known.bits & bit(*seq) != 0) {
                return Some(Input::Next { wanted: Some(wanted), through: wanted });
            }
            through = known.through.min(head);
        }
        (through > after).then_some(Input::Next { wanted: None, through })
    }

    pub fn learn(&mut self, chunk: Chunk) {
        self.turns += 1;
        let page = self.pages.entry(page_end(chunk.from)).or_insert(Page { known: chunk, used: 0 });
        page.known = page.known.with(chunk);
        page.used = self.turns;
        if self.pages.len() > PAGES_MAX {
            let oldest = self.pages.iter().min_by_key(|(_, page)| page.used).map(|(end, _)| *end);
            oldest.and_then(|end| self.pages.remove(&end));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(from: i64, through: i64, wanted: &[i64]) -> Chunk {
        Chunk { from, through, bits: wanted.iter().fold(0, |bits, seq| bits | bit(*seq)) }
    }

    const fn wanted(seq: i64) -> Input {
        Input::Next { wanted: Some(seq), through: seq }
    }

    const fn none(through: i64) -> Input {
        Input::Next { wanted: None, through }
    }

    #[test]
    fn what_is_known_is_told_and_no_more() {
        let mut scan = Scan::default();
        assert_eq!(scan.next(0, 10), None);
        scan.learn(chunk(1, 10, &[3, 7]));
        assert_eq!(scan.next(0, 10), Some(wanted(3)));
        assert_eq!(scan.next(3, 10), Some(wanted(7)));
        assert_eq!(scan.next(3, 6), Some(none(6)), "not past the head");
        assert_eq!(scan.next(7, 20), Some(none(10)));
        assert_eq!(scan.next(10, 20), None, "the rest is not known");
        scan.learn(chunk(11, 63, &[63]));
        scan.learn(chunk(64, 100, &[]));
        assert_eq!(scan.next(7, 100), Some(wanted(63)));
        assert_eq!(scan.next(63, 100), Some(none(100)));
    }

    #[test]
    fn a_place_before_what_is_known_is_joined_to_it() {
        let mut scan = Scan::default();
        scan.learn(chunk(30, 40, &[35]));
        assert_eq!(scan.next(10, 40), None);
        scan.learn(chunk(11, 29, &[]));
        assert_eq!(scan.next(10, 40), Some(wanted(35)));
        scan.learn(chunk(50, 60, &[]));
        assert_eq!(scan.next(10, 60), None, "a gap is not known");
    }

    #[test]
    fn two_places_far_apart_do_not_push_each_other_out() {
        let mut scan = Scan::default();
        scan.learn(chunk(1, 60, &[5]));
        for at in 0..1_000 {
            let from = (100 + at) * 64;
            scan.learn(chunk(from, from + 63, &[from + 1]));
            assert_eq!(scan.next(0, 60), Some(wanted(5)));
            assert_eq!(scan.next(from - 1, from + 63), Some(wanted(from + 1)));
        }
        assert_eq!(scan.pages.len(), PAGES_MAX);
        assert_eq!(scan.next(100 * 64 - 1, 101 * 64), None, "forgotten");
    }

    #[test]
    fn the_ends_of_numbers_are_places_too() {
        let mut scan = Scan::default();
        scan.learn(chunk(i64::MAX - 3, i64::MAX, &[i64::MAX]));
        assert_eq!(scan.next(i64::MAX - 4, i64::MAX), Some(wanted(i64::MAX)));
        assert_eq!(scan.next(i64::MAX, i64::MAX), None);
        assert_eq!(page_end(i64::MAX), i64::MAX);
        assert_eq!(page_end(64), 127);
        assert_eq!(page_end(63), 63);
    }
}
