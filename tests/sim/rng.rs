//! Chance, from a seed: the same seed gives the same world on every machine.

use std::cell::RefCell;

thread_local! {
    /// What decides before the seed does, byte by byte from its end: a fuzzer's input.
    static TAPE: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Lets `tape` decide the next numbers of this thread, one byte each. For the fuzz target only.
#[allow(dead_code)]
pub fn play(tape: &[u8]) {
    TAPE.set(tape.iter().rev().copied().collect());
}

/// A generator of 64-bit numbers: splitmix64 (Steele, Lea and Flood 2014).
#[derive(Debug, Clone)]
pub struct Rng(u64);

impl Rng {
    pub fn new(seed: u64) -> Rng {
        Rng(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        match TAPE.with_borrow_mut(Vec::pop) {
            // The highest bits decide.
            Some(byte) => u64::from(byte) << 56 | mixed >> 8,
            None => mixed,
        }
    }

    /// Below `bound`, which is at least 1.
    pub fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }

    /// From `low` to `high`, both included.
    pub fn range(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high - low + 1)
    }

    /// True with a chance of `permille` in a thousand.
    pub fn chance(&mut self, permille: u64) -> bool {
        permille > 0 && self.below(1000) < permille
    }

    /// One of `items`.
    pub fn pick<T: Copy>(&mut self, items: &[T]) -> T {
        items[self.below(items.len() as u64) as usize]
    }

    /// The length of a content, up to `most`; where large ones are wanted, half are large.
    pub fn content(&mut self, most: u64) -> u64 {
        if most >= 1 << 20 && self.chance(500) {
            return self.range(1 << 20, most);
        }
        self.size(most)
    }

    /// A size from 0 to `most`: small ones are as likely as large ones, by powers of two.
    pub fn size(&mut self, most: u64) -> u64 {
        let bits = 64 - most.leading_zeros() as u64;
        let bound = 1_u64 << self.range(0, bits);
        self.below(bound.min(most + 1))
    }
}
