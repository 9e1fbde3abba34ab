//! What looks like chance: seeds that nobody foresees, and numbers that are mixed from others.
//!
//! splitmix64 (Steele, Lea and Flood 2014): even and fast, and no secret.

use std::hash::{BuildHasher, Hasher, RandomState};

/// An odd number far from any period: the golden ratio. Steps of it never come back soon.
pub const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// Spreads what differs in `bits` over all of them; can be undone, so no two numbers become one.
#[inline]
pub fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

/// A number that nobody foresees, another one each time.
pub fn seed() -> u64 {
    RandomState::new().build_hasher().finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_splitmix64() {
        // The first three of the generator that begins at 1234567.
        let numbers = [1, 2, 3].map(|step: u64| mix(GOLDEN.wrapping_mul(step) + 1_234_567));
        let known = [
            6_457_827_717_110_365_317,
            3_203_168_211_198_807_973,
            9_817_491_932_198_370_423,
        ];
        assert_eq!(numbers, known);
    }

    #[test]
    fn no_seed_is_the_one_before() {
        assert_ne!(seed(), seed());
    }
}
