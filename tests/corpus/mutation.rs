//! Inputs that are nearly those of a corpus.

use crate::dice::Dice;

const BYTES_MAX: usize = 4_096;
const STEPS_MAX: u64 = 6;
/// Bytes that mean something to at least one of the parsers.
const TELLING: &[u8] = b"\0\t\n\r \"#%*+,-./0159:;=?@ZaefxZ[\\]_{}~\x7f\x80\xff";

/// One input of the corpus after a few random steps.
pub fn mutated(corpus: &[Vec<u8>], dice: &mut Dice) -> Vec<u8> {
    let mut input = one_of(corpus, dice).clone();
    for _ in 0..dice.between(1, STEPS_MAX) {
        step(&mut input, corpus, dice);
        input.truncate(BYTES_MAX);
    }
    input
}

fn step(input: &mut Vec<u8>, corpus: &[Vec<u8>], dice: &mut Dice) {
    let at = index(input.len() + 1, dice);
    let to = at + index(input.len() - at + 1, dice);
    match dice.below(6) {
        0 if at < input.len() => input[at] ^= 1 << dice.below(8),
        1 if at < input.len() => input[at] = dice.one_of(TELLING),
        2 => input.insert(at, dice.one_of(TELLING)),
        3 => drop(input.drain(at..to)),
        4 => {
            let twice = input[at..to].to_vec();
            drop(input.splice(at..at, twice));
        }
        _ => {
            let other = one_of(corpus, dice);
            let from = index(other.len() + 1, dice);
            drop(input.splice(at.., other[from..].iter().copied()));
        }
    }
}

fn one_of<'c>(corpus: &'c [Vec<u8>], dice: &mut Dice) -> &'c Vec<u8> {
    &corpus[index(corpus.len(), dice)]
}

fn index(below: usize, dice: &mut Dice) -> usize {
    usize::try_from(dice.below(below as u64)).unwrap()
}
