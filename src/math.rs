//! Logarithms and powers of e, near enough for what is measured here, in a few steps each.
//!
//! Those of the C library are exact to the last bit; for that it takes a library more, which costs
//! every process of ours the better part of a megabyte of mapped memory.

use std::f64::consts::{FRAC_1_SQRT_2, LN_2, LOG2_E};

/// The natural logarithm of `x`, a positive normal number, to within 1e-9. It grows with `x`, and is
/// exactly 0 of 1.
#[inline]
pub fn ln(x: f64) -> f64 {
    const LEAST: u64 = FRAC_1_SQRT_2.to_bits();
    const FRACTION: u64 = (1 << 52) - 1;
    // x = 2^exponent m, with m from √½ to √2.
    let bits = x.to_bits().wrapping_sub(LEAST);
    let exponent = (bits as i64 >> 52) as i32;
    let m = f64::from_bits((bits & FRACTION) + LEAST);
    // m = (1 + s) / (1 - s); a series in s, which is small.
    let s = (m - 1.0) / (m + 1.0);
    let square = s * s;
    let series = 1.0 / 7.0 + square * (1.0 / 9.0);
    let series = 1.0 / 3.0 + square * (1.0 / 5.0 + square * series);
    f64::from(exponent) * LN_2 + 2.0 * s * (1.0 + square * series)
}

/// e^`x` for `x` from -700 to 700, to within a part in a hundred million; exactly 1 of 0.
#[inline]
pub fn exp(x: f64) -> f64 {
    // e^x = 2^k e^rest, with a rest of at most half a power of two.
    let powers = (x * LOG2_E + 1024.5) as u32;
    let rest = x - (f64::from(powers) - 1024.0) * LN_2;
    let series = (2..=7)
        .rev()
        .fold(1.0, |series, term| 1.0 + rest * series / f64::from(term));
    let series = 1.0 + rest * series;
    // 2^k by its bits.
    series * f64::from_bits(u64::from(powers - 1) << 52)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logarithms_are_near_enough_and_grow() {
        let mut last = f64::NEG_INFINITY;
        for step in 0..200_000 {
            let x = 1e-3 * 1.0002_f64.powi(step);
            let log = ln(x);
            assert!((log - x.ln()).abs() < 1e-9, "{x}");
            assert!(log > last, "{x}");
            last = log;
        }
        assert_eq!(ln(1.0), 0.0);
        assert!(ln(1.0_f64.next_down()) < 0.0 && ln(f64::MIN_POSITIVE) < -708.0);
    }

    #[test]
    fn powers_are_near_enough() {
        for step in -20_000..20_000 {
            let x = f64::from(step) / 1000.0;
            assert!((exp(x) / x.exp() - 1.0).abs() < 1e-8, "{x}");
        }
        assert_eq!(exp(0.0), 1.0);
        assert!(exp(-700.0) > 0.0 && exp(700.0) < f64::INFINITY);
    }
}
