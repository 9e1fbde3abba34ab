//! Times counted by how long they were: exactly at the bounds that are published, and finely enough
//! between them to tell any quantile within one sixteenth.
//!
//! Log-linear, as in HDR histograms: eight buckets for each doubling. A time costs a shift, two looks
//! into tables and three additions. Nothing is allocated, nothing is ever forgotten.

use std::time::Duration;

/// The upper bounds that are published, in nanoseconds: 0.1 ms to 5 ms, then to 10 s.
pub(super) const BOUNDS: [u64; 16] = [
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    2_500_000_000,
    5_000_000_000,
    10_000_000_000,
];
/// The same as Prometheus reads them, in seconds.
pub const BOUND_NAMES: [&str; 16] = [
    "0.0001", "0.00025", "0.0005", "0.001", "0.0025", "0.005", "0.01", "0.025", "0.05", "0.1",
    "0.25", "0.5", "1", "2.5", "5", "10",
];

/// Times are told apart in steps of 2 to this many nanoseconds where they are short.
const UNIT_BITS: u32 = 10;
/// Each doubling has 2 to this many buckets.
const FINE_BITS: u32 = 3;
/// Times of 2 to this many units, 137 s, and longer ones are all alike.
const MOST_BITS: u32 = 27;
const BUCKETS: usize = (((MOST_BITS - FINE_BITS) << FINE_BITS) + (1 << FINE_BITS)) as usize;

/// For each bucket the first bound that is not below its least time.
const FIRST_BOUND: [u8; BUCKETS] = first_bounds();

/// How often times of each length were seen.
#[derive(Debug, Clone)]
pub struct Histogram {
    buckets: [u64; BUCKETS],
    /// Times up to each bound but not up to the one before; the last: longer than all.
    bounded: [u64; BOUNDS.len() + 1],
    nanos: u64,
}

impl Default for Histogram {
    fn default() -> Histogram {
        Histogram {
            buckets: [0; BUCKETS],
            bounded: [0; BOUNDS.len() + 1],
            nanos: 0,
        }
    }
}

/// What a histogram comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Summary {
    /// Times counted, at least one.
    pub count: u64,
    /// Their mean.
    pub mean: Duration,
    /// Half of them took at most this long, within one sixteenth; so do the others.
    pub p50: Duration,
    /// Nine of ten took at most this long.
    pub p90: Duration,
    /// Ninety-nine of a hundred took at most this long.
    pub p99: Duration,
    /// The longest.
    pub max: Duration,
}

impl Histogram {
    /// Counts one `time`.
    #[inline]
    pub fn record(&mut self, time: Duration) {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let index = index(nanos);
        if let Some(bucket) = self.buckets.get_mut(index) {
            *bucket += 1;
        }
        let bound = FIRST_BOUND
            .get(index)
            .map_or(0, |bound| usize::from(*bound));
        let is_beyond = BOUNDS.get(bound).is_some_and(|most| nanos > *most);
        if let Some(bounded) = self.bounded.get_mut(bound + usize::from(is_beyond)) {
            *bounded += 1;
        }
        self.nanos = self.nanos.saturating_add(nanos);
    }

    /// Times counted.
    pub fn count(&self) -> u64 {
        self.bounded.iter().sum()
    }

    /// All of them together.
    pub fn sum(&self) -> Duration {
        Duration::from_nanos(self.nanos)
    }

    /// How many times were at most each bound long, in the order of `BOUND_NAMES`.
    pub fn cumulative(&self) -> impl Iterator<Item = u64> {
        let mut sum = 0;
        self.bounded.iter().take(BOUNDS.len()).map(move |count| {
            sum += count;
            sum
        })
    }

    /// What was counted since `before`, an earlier state of the same histogram; `before` is then what
    /// this is now.
    pub fn since(&self, before: &mut Histogram) -> Histogram {
        let mut delta = self.clone();
        for (now, then) in delta.buckets.iter_mut().zip(&before.buckets) {
            *now = now.saturating_sub(*then);
        }
        for (now, then) in delta.bounded.iter_mut().zip(&before.bounded) {
            *now = now.saturating_sub(*then);
        }
        delta.nanos = self.nanos.saturating_sub(before.nanos);
        before.clone_from(self);
        delta
    }

    /// Counts what `other` has counted as well.
    pub fn merge(&mut self, other: &Histogram) {
        for (mine, theirs) in self.buckets.iter_mut().zip(&other.buckets) {
            *mine += theirs;
        }
        for (mine, theirs) in self.bounded.iter_mut().zip(&other.bounded) {
            *mine += theirs;
        }
        self.nanos = self.nanos.saturating_add(other.nanos);
    }

    /// What it comes to; none: nothing was counted.
    pub fn summary(&self) -> Option<Summary> {
        let count = self.count();
        if count == 0 {
            return None;
        }
        Some(Summary {
            count,
            mean: self.sum() / u32::try_from(count).unwrap_or(u32::MAX),
            p50: self.quantile(count, 0.5),
            p90: self.quantile(count, 0.9),
            p99: self.quantile(count, 0.99),
            max: self.quantile(count, 1.0),
        })
    }

    /// The time that `share` of the `count` times did not exceed: the middle of its bucket.
    fn quantile(&self, count: u64, share: f64) -> Duration {
        let wanted = ((count as f64 * share).ceil() as u64).clamp(1, count);
        let mut seen = 0;
        let found = self.buckets.iter().position(|bucket| {
            seen += bucket;
            seen >= wanted
        });
        let index = found.unwrap_or(BUCKETS - 1);
        Duration::from_nanos(least(index).midpoint(least(index + 1)))
    }
}

/// The bucket of a time of so many nanoseconds.
#[inline]
const fn index(nanos: u64) -> usize {
    const MOST: u64 = (1 << MOST_BITS) - 1;
    let units = nanos >> UNIT_BITS;
    let units = if units < MOST { units } else { MOST };
    // The number of low bits that do not count: none for the first two doublings.
    let low = (u64::BITS - 1 - (units | 1 << FINE_BITS).leading_zeros()) - FINE_BITS;
    ((low << FINE_BITS) as u64 + (units >> low)) as usize
}

/// The least time of a bucket, in nanoseconds.
const fn least(index: usize) -> u64 {
    let fine = 1 << FINE_BITS;
    if index < 2 * fine {
        return (index as u64) << UNIT_BITS;
    }
    let low = index / fine - 1;
    ((index - low * fine) as u64) << low << UNIT_BITS
}

const fn first_bounds() -> [u8; BUCKETS] {
    let mut first = [0; BUCKETS];
    let mut index = 0;
    let mut bound = 0;
    while index < BUCKETS {
        while bound < BOUNDS.len() && BOUNDS[bound] < least(index) {
            bound += 1;
        }
        first[index] = bound as u8;
        index += 1;
    }
    first
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guess::random;

    #[test]
    fn buckets_follow_one_another_without_a_gap() {
        for bucket in 0..BUCKETS {
            assert_eq!(index(least(bucket)), bucket);
            assert_eq!(index(least(bucket + 1) - 1), bucket);
        }
        assert_eq!(index(u64::MAX), BUCKETS - 1);
        assert_eq!(index(0), 0);
    }

    #[test]
    fn every_time_is_counted_exactly_at_every_bound() {
        let mut all = Histogram::default();
        let mut times = vec![0, 1, u64::MAX >> 8];
        for bound in BOUNDS {
            times.extend([bound - 1, bound, bound + 1]);
        }
        let mut seed = 7;
        times.extend((0..2000).map(|_| 10_f64.powf(random(&mut seed) * 11.0) as u64));
        for time in &times {
            all.record(Duration::from_nanos(*time));
        }
        for (bound, counted) in BOUNDS.iter().zip(all.cumulative()) {
            let true_count = times.iter().filter(|time| **time <= *bound).count();
            assert_eq!(counted, true_count as u64, "{bound}");
        }
        assert_eq!(all.count(), times.len() as u64);
    }

    #[test]
    fn a_quantile_is_within_one_sixteenth_of_the_truth() {
        let mut seed = 11;
        for scale in [2e4, 1e6, 3e8] {
            let mut all = Histogram::default();
            let mut times: Vec<u64> = (0..999)
                .map(|_| (scale * (1.0 + random(&mut seed) * 300.0)) as u64)
                .collect();
            times
                .iter()
                .for_each(|time| all.record(Duration::from_nanos(*time)));
            times.sort_unstable();
            let found = all.summary().unwrap();
            for (found, share) in [
                (found.p50, 0.5),
                (found.p90, 0.9),
                (found.p99, 0.99),
                (found.max, 1.0),
            ] {
                let truth = times[(999.0_f64 * share).ceil() as usize - 1] as f64;
                let error = (found.as_nanos() as f64 - truth).abs() / truth;
                assert!(error <= 1.0 / 16.0, "{share} of {scale}: {error}");
            }
            let mean = times.iter().sum::<u64>() / 999;
            assert_eq!(found.mean, Duration::from_nanos(mean));
        }
    }

    #[test]
    fn what_came_since_is_told_apart() {
        let mut all = Histogram::default();
        let mut before = Histogram::default();
        assert_eq!(all.summary(), None);
        all.record(Duration::from_millis(3));
        assert_eq!(all.since(&mut before).count(), 1);
        all.record(Duration::from_secs(3));
        all.record(Duration::from_secs(4));
        let since = all.since(&mut before);
        assert_eq!((since.count(), since.sum()), (2, Duration::from_secs(7)));
        assert_eq!(all.since(&mut before).summary(), None);
        assert_eq!(all.count(), 3);
    }

    #[test]
    fn names_and_bounds_say_the_same() {
        for (name, bound) in BOUND_NAMES.iter().zip(BOUNDS) {
            let seconds: f64 = name.parse().unwrap();
            assert_eq!((seconds * 1e9).round() as u64, bound);
        }
    }
}
