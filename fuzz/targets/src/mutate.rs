//! Inputs from seeds, without coverage to guide: deterministic from one number, so that a finding can be made again.
//!
//! - The generator is splitmix64 (Steele, Lea, Flood 2014); the same seed and corpus give the same inputs on every machine.
//! - A mutation cuts, flips, doubles, splices, inserts words of the target's language, or puts numbers at the edges of types.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// How a target's inputs are made.
#[derive(Clone, Copy)]
pub struct Recipe {
    /// Longest input.
    pub bytes_max: usize,
    /// Words of the language that it reads.
    pub words: &'static [&'static [u8]],
}

/// Chance from a seed.
#[derive(Clone, Debug)]
pub struct Dice(pub u64);

impl Dice {
    /// Any number.
    pub const fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    /// Below `n`; 0 if `n` is 0.
    pub const fn below(&mut self, n: usize) -> usize {
        if n == 0 { 0 } else { (self.roll() % n as u64) as usize }
    }
}

/// Numbers at the edges of types, as bytes in either order.
const EDGES: [u64; 14] = [
    0,
    1,
    0x7f,
    0x80,
    0xff,
    0x7fff,
    0xffff,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    0x7fff_ffff_ffff_ffff,
    0x8000_0000_0000_0000,
    0xffff_ffff_ffff_ffff,
    0x7ff8_0000_0000_0000,
];

/// The next input: some mutations of one seed, or of nothing.
#[must_use]
pub fn input(dice: &mut Dice, seeds: &[Vec<u8>], recipe: &Recipe) -> Vec<u8> {
    let mut input = match seeds.len() {
        0 => Vec::new(),
        count => seeds[dice.below(count)].clone(),
    };
    input.truncate(recipe.bytes_max);
    // Mostly few: what is far from every seed is mostly refused at once.
    let most = dice.below(6);
    let mutations = 1 + dice.below(1 << most);
    for _ in 0..mutations {
        mutate(dice, &mut input, seeds, recipe);
        input.truncate(recipe.bytes_max);
    }
    input
}

fn mutate(dice: &mut Dice, input: &mut Vec<u8>, seeds: &[Vec<u8>], recipe: &Recipe) {
    let at = dice.below(input.len() + 1);
    let room = input.len() - at;
    let most = dice.below(10);
    let some = at + dice.below(room.min(1 << most) + 1);
    match dice.below(12) {
        0 if room > 0 => input[at] ^= 1 << dice.below(8),
        1 if room > 0 => input[at] = dice.roll() as u8,
        2 => input.insert(at, dice.roll() as u8),
        3 => drop(input.drain(at..some)),
        4 => {
            let piece = input[at..some].to_vec();
            let to = dice.below(input.len() + 1);
            input.splice(to..to, piece);
        }
        5 => {
            // The same piece many times: lengths, depths and counts.
            let piece = input[at..some.min(at + 32)].to_vec();
            let times = 1 << dice.below(9);
            let piece = piece.repeat(times.min(recipe.bytes_max / piece.len().max(1)));
            input.splice(at..at, piece);
        }
        6 | 7 if !recipe.words.is_empty() => {
            let word = recipe.words[dice.below(recipe.words.len())];
            let over = if dice.below(2) == 0 { at } else { (at + word.len()).min(input.len()) };
            input.splice(at..over, word.iter().copied());
        }
        8 => {
            let number = EDGES[dice.below(EDGES.len())].wrapping_add(dice.below(3) as u64).wrapping_sub(1);
            let width = 1 << dice.below(4);
            let bytes = if dice.below(2) == 0 { number.to_le_bytes() } else { number.swap_bytes().to_le_bytes() };
            let bytes = if dice.below(2) == 0 { &bytes[..width] } else { &bytes[8 - width..] };
            let over = (at + width).min(input.len());
            input.splice(at..over, bytes.iter().copied());
        }
        9 if !seeds.is_empty() => {
            // The front of this and the back of another.
            let other = &seeds[dice.below(seeds.len())];
            let from = dice.below(other.len() + 1);
            input.truncate(at);
            input.extend_from_slice(&other[from..]);
        }
        10 => input.truncate(at),
        _ if room > 0 => {
            let other = dice.below(input.len());
            input.swap(at, other);
        }
        _ => {}
    }
}

/// The folder of a target's seeds, in the repository.
#[must_use]
pub fn corpus_dir(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../corpus").join(name)
}

/// The seeds of a target, by file name. A name that ends in `.hex` holds hexadecimal digits, with comments from `#` to the line's end.
///
/// # Panics
/// If there is no readable folder.
#[must_use]
pub fn corpus(name: &str) -> BTreeMap<String, Vec<u8>> {
    let dir = corpus_dir(name);
    let entries = std::fs::read_dir(&dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
    entries
        .map(|entry| {
            let path = entry.expect("a folder that was opened is listed").path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            let bytes = if name.ends_with(".hex") { unhex(&bytes) } else { bytes };
            (name, bytes)
        })
        .collect()
}

fn unhex(text: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(text);
    let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default());
    let digits: Vec<u32> = lines.flat_map(str::chars).filter_map(|c| c.to_digit(16)).collect();
    digits.chunks_exact(2).map(|pair| (pair[0] << 4 | pair[1]) as u8).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_inputs_within_the_bound() {
        let seeds = [b"{\"a\":1}".to_vec(), vec![0xff; 300]];
        let recipe = Recipe { bytes_max: 200, words: &[b"true"] };
        let draw = || {
            let mut dice = Dice(7);
            (0..500).map(|_| input(&mut dice, &seeds, &recipe)).collect::<Vec<_>>()
        };
        let inputs = draw();
        assert_eq!(inputs, draw());
        assert!(inputs.iter().all(|input| input.len() <= 200));
        let different: std::collections::BTreeSet<_> = inputs.iter().collect();
        assert!(different.len() > 400);
    }

    #[test]
    fn hexadecimal_seeds_have_comments() {
        assert_eq!(unhex(b"30 04 # a publish, with f's\n00 01"), [0x30, 4, 0, 1]);
    }
}
