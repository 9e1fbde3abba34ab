//! Means, and what of a difference is more than noise.

use crate::net::Time;

/// Added to every answer time, in nanoseconds. What is finer comes from turns of our own loop and from
/// the scheduler rather than from a server, and is not worth a preference.
pub(super) const GRAIN: f64 = 200_000.0;

/// A mean that forgets: all values count alike until there are `most` of them, then each new one
/// counts for one in `most`.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Mean {
    count: f64,
    mean: f64,
}

impl Mean {
    /// Takes one value; `most` is at least 1.
    pub(super) fn add(&mut self, value: f64, most: f64) {
        self.count = (self.count + 1.0).min(most);
        self.mean += (value - self.mean) / self.count;
    }

    /// A mean that begins as if it had seen `count` zeros.
    pub(super) fn of_zeros(count: f64) -> Mean {
        Mean { count, mean: 0.0 }
    }

    /// Its values count for `part` of what they did, 0 to 1.
    pub(super) fn forget(&mut self, part: f64) {
        self.count *= part;
    }

    /// The mean; 0 of nothing.
    pub(super) fn value(&self) -> f64 {
        self.mean
    }

    /// Of how many values it is, never more than `most`.
    pub(super) fn count(&self) -> f64 {
        self.count
    }
}

/// Nanoseconds from `earlier` to `now`; 0 if it is not yet past.
pub(super) fn nanos(now: Time, earlier: Time) -> f64 {
    now.0.saturating_sub(earlier.0) as f64
}

/// What is left of the difference `m` where differences up to `t` may be noise: nothing up to `t`,
/// nearly all far above it (the non-negative garrote, Breiman 1995). In units of `m`.
pub(super) fn shrink(m: f64, t: f64) -> f64 {
    if m.abs() > t {
        m * (1.0 - t * t / (m * m))
    } else {
        0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mean_is_plain_first_and_forgets_later() {
        let mut mean = Mean::default();
        for value in [1.0, 2.0, 6.0] {
            mean.add(value, 4.0);
        }
        assert!((mean.value() - 3.0).abs() < 1e-12);
        for _ in 0..100 {
            mean.add(7.0, 4.0);
        }
        assert!((mean.value() - 7.0).abs() < 1e-9);
        assert!((mean.count() - 4.0).abs() < f64::EPSILON);
    }

    #[test]
    fn noise_is_shrunk_to_nothing_and_a_large_difference_is_kept() {
        assert_eq!(shrink(0.2, 0.2), 0.0);
        assert_eq!(shrink(-0.1, 0.2), 0.0);
        assert!((shrink(-2.0, 0.2) + 1.98).abs() < 1e-9);
        assert!((shrink(0.4, 0.2) - 0.3).abs() < 1e-9);
    }
}
