//! Request ids: one for each request, kept if it came from someone who may give one, else made here.
//!
//! Made from the process's random seed and a count, so that no request costs a system call. They are
//! unlike each other, not secret: who knows one can compute others.

use crate::chance::{GOLDEN, mix};

/// The longest id that is taken from a client, in bytes.
const LENGTH_MAX: usize = 128;
/// Digits of an id that is made here.
const DIGITS: usize = 32;

/// The ids of one process.
#[derive(Debug)]
pub(super) struct Ids {
    seed: u64,
    count: u64,
}

impl Ids {
    /// Other seeds give other ids.
    pub(super) fn new(seed: u64) -> Ids {
        Ids { seed, count: 0 }
    }

    /// The next one: 32 hexadecimal digits, as the trace ids of W3C Trace Context are. None comes
    /// twice: the first half is another for every count, as each step of it can be undone.
    pub(super) fn next(&mut self) -> [u8; DIGITS] {
        self.count = self.count.wrapping_add(1);
        let high = mix(self.seed.wrapping_add(self.count.wrapping_mul(GOLDEN)));
        // Two processes whose first halves meet have other seeds, and so other second halves.
        let low = mix(high ^ mix(self.seed ^ GOLDEN));
        let mut digits = [0; DIGITS];
        let parts = [
            (high >> 32) as u32,
            high as u32,
            (low >> 32) as u32,
            low as u32,
        ];
        for (eight, part) in digits.as_chunks_mut().0.iter_mut().zip(parts) {
            *eight = hex(part);
        }
        digits
    }
}

/// The eight hexadecimal digits of `bits`, the highest first.
fn hex(bits: u32) -> [u8; 8] {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    // Each digit in a byte of its own.
    let mut spread = u64::from(bits);
    spread = (spread | spread << 16) & 0x0000_ffff_0000_ffff;
    spread = (spread | spread << 8) & 0x00ff_00ff_00ff_00ff;
    spread = (spread | spread << 4) & 0x0f0f_0f0f_0f0f_0f0f;
    // Above 9 it is a letter, and those begin 39 behind the digits' end.
    let letters = ((spread + ONES * 6) >> 4) & ONES;
    (spread + ONES * u64::from(b'0') + letters * u64::from(b'a' - b'0' - 10)).to_be_bytes()
}

/// Whether `id`, which came from outside, is fit to be passed on and written down: not empty, not
/// long, and of letters, digits and the marks that ids are made of, so that no log has to escape it.
pub(super) fn is_sane(id: &[u8]) -> bool {
    let is_mark = |byte: &u8| b"-_.:=+/@".contains(byte);
    (1..=LENGTH_MAX).contains(&id.len())
        && id
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || is_mark(byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn no_id_comes_twice_in_a_process_or_in_its_neighbours() {
        let mut seen = HashSet::new();
        for seed in [0, 1, 2, u64::MAX, GOLDEN] {
            let mut ids = Ids::new(seed);
            for _ in 0..20_000 {
                let id = ids.next();
                assert!(is_sane(&id) && id.iter().all(u8::is_ascii_hexdigit));
                assert!(seen.insert(id), "twice: {}", id.escape_ascii());
            }
        }
    }

    #[test]
    fn digits_are_those_of_the_number() {
        for bits in [
            0,
            0x0123_4567,
            0x89ab_cdef,
            0xdead_beef,
            0x9a9a_9a9a,
            u32::MAX,
        ] {
            assert_eq!(hex(bits), *format!("{bits:08x}").as_bytes());
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_ids() {
        let (mut one, mut two) = (Ids::new(7), Ids::new(7));
        assert_eq!([one.next(), one.next()], [two.next(), two.next()]);
        assert_ne!(Ids::new(8).next(), Ids::new(7).next());
    }

    #[test]
    fn ids_from_outside_are_short_and_harmless() {
        for sane in [
            "a",
            "7b0a3f2e-52d1-4c0e-9f57-0c5a1f4f6e11",
            "Root=1-67891233-abcdef012345678912345678",
            "CAFE:0001_02.03/04+05=@x",
        ] {
            assert!(is_sane(sane.as_bytes()), "{sane}");
        }
        assert!(is_sane(&[b'a'; LENGTH_MAX]));
        assert!(!is_sane(&[b'a'; LENGTH_MAX + 1]));
        for other in [
            &b""[..],
            b"a b",
            b"a\"b",
            b"a\\b",
            b"<a>",
            b"a'b",
            b"$(a)",
            b"a\tb",
            b"a%b",
            b"a,b",
            b"a;b",
            "é".as_bytes(),
            b"\xff",
        ] {
            assert!(!is_sane(other), "{}", other.escape_ascii());
        }
    }
}
