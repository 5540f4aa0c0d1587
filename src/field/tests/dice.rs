//! A small deterministic generator (splitmix64, S. Vigna) and the damage that it does to documents.

/// Chance from a seed.
pub(super) struct Dice(pub(super) u64);

impl Dice {
    pub(super) fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    /// Below `n`.
    pub(super) fn below(&mut self, n: usize) -> usize {
        (self.roll() % n as u64) as usize
    }

    pub(super) fn one<'a, T: ?Sized>(&mut self, of: &[&'a T]) -> &'a T {
        of[self.below(of.len())]
    }

    /// Cuts, flips, removes, doubles or inserts some bytes.
    pub(super) fn damage(&mut self, document: &mut Vec<u8>, likely: &[u8]) {
        for _ in 0..=self.below(3) {
            let at = self.below(document.len().max(1)).min(document.len());
            match self.below(6) {
                0 => document.truncate(at),
                1 if at < document.len() => document[at] ^= 1 << self.below(8),
                2 if at < document.len() => drop(document.remove(at)),
                3 if at < document.len() => {
                    let end = (at + 1 + self.below(6)).min(document.len());
                    let piece = document[at..end].to_vec();
                    document.splice(at..at, piece);
                }
                4 if at < document.len() => document[at] = likely[self.below(likely.len())],
                _ => document.insert(at, likely[self.below(likely.len())]),
            }
        }
    }
}
