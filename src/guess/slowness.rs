//! Slowness: how much longer than the curve one server takes, beyond the noise.
//!
//! Two means of the same residuals tell two things: the slow one what a server is, the fast one what
//! it has become. A difference that chance explains is none, so equal servers stay exactly equal and
//! the original rule decides among them. What was learned suddenly is forgotten soon when no answer
//! confirms it: a server that is not asked can not show that it has recovered.

use super::noise::{GRAIN, Mean, shrink};
use crate::math::exp;

/// Answers that the slow mean remembers.
const SLOW_MOST: f64 = 256.0;
/// Answers that the fast mean remembers.
const FAST_MOST: f64 = 16.0;
/// Both begin as if the server had answered so often like all others: one answer proves nothing.
const PRIOR: f64 = 8.0;
/// A lasting difference below this (of logarithms: 10 %), or below half a grain, is not looked at …
const SLOW_LEAST: f64 = 0.1;
/// … nor a sudden one below this (49 %), or below a grain.
const FAST_LEAST: f64 = 0.4;
/// Deviations of the mean that a lasting difference has to exceed, and a sudden one.
const SLOW_SIGMAS: f64 = 2.5;
const FAST_SIGMAS: f64 = 4.0;
/// A single answer counts for a change with at most so many deviations: one stall is no change.
const OUTLIER_SIGMAS: f64 = 3.0;

/// One server's residuals: logarithms of its answer times over what the curve said.
#[derive(Debug, Clone, Copy)]
pub(super) struct Slowness {
    slow: Mean,
    fast: Mean,
    /// How many times as long its answers take, by the slow mean, and times that by the fast one.
    lasting: f64,
    sudden: f64,
    /// The logarithm of both together.
    log: f64,
}

impl Default for Slowness {
    fn default() -> Slowness {
        Slowness {
            slow: Mean::of_zeros(PRIOR),
            fast: Mean::of_zeros(PRIOR),
            lasting: 1.0,
            sudden: 1.0,
            log: 0.0,
        }
    }
}

impl Slowness {
    /// An answer took e^`residual` times what the curve said, `time` nanoseconds; `sigma` is how much
    /// single answers of all servers deviate from their server's mean.
    pub(super) fn learn(&mut self, residual: f64, sigma: f64, time: f64) {
        self.slow.add(residual, SLOW_MOST);
        self.learn_excused(residual, sigma);
        let mean = self.slow.value();
        // Mostly there is no difference, and how much noise there is need not be computed.
        let noise = |sigmas: f64, mean: &Mean| sigmas * sigma / mean.count().sqrt();
        let grain = GRAIN / time;
        let mut lasting = 0.0;
        if mean.abs() > SLOW_LEAST {
            let least = SLOW_LEAST.max(grain / 2.0);
            lasting = shrink(mean, least.max(noise(SLOW_SIGMAS, &self.slow)));
        }
        let mut sudden = self.fast.value() - lasting;
        if sudden.abs() > FAST_LEAST {
            let least = FAST_LEAST.max(grain);
            sudden = shrink(sudden, least.max(noise(FAST_SIGMAS, &self.fast)));
        } else {
            sudden = 0.0;
        }
        self.lasting = if lasting == 0.0 { 1.0 } else { exp(lasting) };
        self.sudden = if sudden == 0.0 { 1.0 } else { exp(sudden) };
        self.log = lasting + sudden;
    }

    /// An answer that is late because the server stood still: a sign of a change, but none of what the
    /// server lastingly is. What follows from it the next answer will tell.
    pub(super) fn learn_excused(&mut self, residual: f64, sigma: f64) {
        let mean = self.slow.value();
        let most = OUTLIER_SIGMAS * sigma.max(FAST_LEAST);
        self.fast
            .add(residual.clamp(mean - most, mean + most), FAST_MOST);
    }

    /// It is asked again after a while in which the sudden part has faded to `fresh`: what it was
    /// taken from counts so much less against what comes now.
    pub(super) fn rest(&mut self, fresh: f64) {
        self.fast.forget(fresh);
    }

    /// Whether an answer with this residual is rather that of a slow server than of a usual one.
    pub(super) fn is_confirmed_by(&self, residual: f64) -> bool {
        2.0 * residual >= self.log
    }

    /// The mean residual.
    pub(super) fn mean(&self) -> f64 {
        self.slow.value()
    }

    /// The logarithm of the factor, nothing faded.
    pub(super) fn log(&self) -> f64 {
        self.log
    }

    /// How well the lasting part is founded: the share of all the answers that could count in it, above
    /// 0 and at most 1.
    pub(super) fn certainty(&self) -> f64 {
        self.slow.count() / SLOW_MOST
    }

    /// Whether there is a difference at all.
    pub(super) fn is_known(&self) -> bool {
        self.log != 0.0
    }

    /// Whether it is slower than the curve, which fades.
    pub(super) fn is_slow(&self) -> bool {
        self.lasting > 1.0 || self.sudden > 1.0
    }

    /// How many times the curve's time its answers take; exactly 1 where nothing else is sure. Being
    /// slow fades, so that it is tried again: of the lasting part `lasting` is left, of the sudden one
    /// `sudden`, both from 0 to 1.
    pub(super) fn factor(&self, lasting: f64, sudden: f64) -> f64 {
        let fade = |factor: f64, left: f64| {
            if factor > 1.0 {
                1.0 + (factor - 1.0) * left
            } else {
                factor
            }
        };
        fade(self.lasting, lasting) * fade(self.sudden, sudden)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guess::random;

    fn after(residuals: impl IntoIterator<Item = f64>, sigma: f64) -> Slowness {
        let mut slowness = Slowness::default();
        for residual in residuals {
            slowness.learn(residual, sigma, 1e9);
        }
        slowness
    }

    #[test]
    fn noise_leaves_a_server_exactly_as_fast_as_all() {
        let mut seed = 3;
        let noise = (0..5000).map(|_| 2.0 * random(&mut seed) - 1.0);
        assert_eq!(after(noise, 0.58).factor(1.0, 1.0), 1.0);
        assert_eq!(after([0.09; 1000], 0.1).factor(1.0, 1.0), 1.0);
    }

    #[test]
    fn a_server_of_half_the_speed_is_found_out_and_so_is_a_fast_one() {
        let twice = 2.0_f64.ln();
        let factor = after([twice; 300], 0.5).factor(1.0, 1.0);
        assert!((1.8..2.1).contains(&factor), "{factor}");
        let factor = after([-twice; 300], 0.5).factor(1.0, 1.0);
        assert!((0.48..0.56).contains(&factor), "{factor}");
    }

    #[test]
    fn differences_finer_than_the_grain_are_none() {
        let mut slowness = Slowness::default();
        for _ in 0..1000 {
            slowness.learn(0.4, 0.2, GRAIN);
        }
        assert_eq!(slowness.factor(1.0, 1.0), 1.0);
    }

    #[test]
    fn a_change_shows_within_sixteen_answers() {
        let steady = [0.0; 1000];
        let slowed = after(steady.into_iter().chain([2.3; 16]), 0.5);
        assert!(slowed.factor(1.0, 1.0) > 2.0);
        // And so does the recovery.
        let healed = after(steady.into_iter().chain([2.3; 16]).chain([0.0; 16]), 0.5);
        assert!(healed.factor(1.0, 1.0) < 1.2);
    }

    #[test]
    fn one_stall_is_no_change() {
        let stalled = after([0.0; 300].into_iter().chain([6.0, 6.0]), 0.4);
        assert_eq!(stalled.factor(1.0, 1.0), 1.0);
    }

    #[test]
    fn the_first_answer_proves_nothing() {
        assert_eq!(after([4.0], 0.6).factor(1.0, 1.0), 1.0);
    }

    #[test]
    fn slowness_fades_and_swiftness_does_not() {
        let slow = after([0.0; 100].into_iter().chain([2.3; 16]), 0.5);
        let factor = slow.factor(1.0, 0.0);
        assert!((1.0..1.5).contains(&factor), "{factor}");
        assert!((slow.factor(0.0, 0.0) - 1.0).abs() < 1e-12);
        let fast = after([-1.0; 300], 0.5);
        assert_eq!(fast.factor(0.0, 0.0), fast.factor(1.0, 1.0));
    }

    #[test]
    fn after_a_rest_one_good_answer_clears_a_sudden_suspicion() {
        let mut slow = after([0.0; 300].into_iter().chain([2.3; 12]), 0.5);
        assert!(slow.factor(1.0, 1.0) > 1.3);
        slow.rest(0.0);
        slow.learn(0.0, 0.5, 1e9);
        assert!(slow.factor(1.0, 1.0) < 1.05);
    }
}
