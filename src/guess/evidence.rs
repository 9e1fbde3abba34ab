//! Evidence: how sure it is that a server is at fault.
//!
//! Two things follow from failures. Each server's share of errors, as far as it is above the pool's,
//! makes it dearer: a failure costs as much as a hundred answers. And a sequential test (Wald 1945)
//! of "it fails half of all" against "it fails as all do" benches a server when that is nearly
//! certain: after one failure where nobody fails, after three where a tenth fails, never where all do.

use std::time::Duration;

use super::noise::Mean;
use crate::math::ln;
use crate::net::Time;

/// What a faulty server is taken to fail of its requests.
const FAULTY: f64 = 0.5;
/// The pool's share of errors is taken to be at least this: nobody is perfect.
const POOL_LEAST: f64 = 0.005;
/// Evidence for a bench: odds of a hundred to one.
const BENCH_AT: f64 = 4.6;
/// Evidence is never more than this, so that a recovery shows soon.
const MOST: f64 = 12.0;
/// Outcomes that a server's share of errors remembers, and the pool's.
const OWN_MOST: f64 = 128.0;
const POOL_MOST: f64 = 1024.0;
/// The pool begins as if it had served so many: one failure is no outage.
const POOL_PRIOR: f64 = 256.0;
/// Where more than this fails everywhere, no server is to blame.
pub(super) const POOL_OUTAGE: f64 = 0.05;
/// The first bench lasts so long, each following one twice as long, up to the most.
const BENCH_FIRST: Duration = Duration::from_secs(1);
const BENCH_MOST: Duration = Duration::from_secs(30);
/// What others saw counts as at most so many outcomes per report.
const HEARSAY_MOST: f64 = 8.0;
/// Successes of others, without a failure, that end a bench.
const HEARSAY_PARDON: f64 = 3.0;

/// The errors of all servers together.
#[derive(Debug)]
pub(super) struct PoolErrors {
    share: Mean,
}

impl Default for PoolErrors {
    fn default() -> PoolErrors {
        PoolErrors {
            share: Mean::of_zeros(POOL_PRIOR),
        }
    }
}

impl PoolErrors {
    /// The share of errors among the last answers of all.
    pub(super) fn share(&self) -> f64 {
        self.share.value()
    }

    pub(super) fn learn(&mut self, has_failed: bool) {
        self.share.add(f64::from(u8::from(has_failed)), POOL_MOST);
    }
}

/// What speaks against one server.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Evidence {
    share: Mean,
    weight: f64,
    bench_until: Time,
    bench_next: Duration,
}

impl Evidence {
    /// An outcome that counts. Whether a bench is called for now.
    pub(super) fn learn(&mut self, has_failed: bool, pool: &PoolErrors) -> bool {
        self.share.add(f64::from(u8::from(has_failed)), OWN_MOST);
        if !has_failed && self.weight == 0.0 {
            // Nothing speaks against it, which is how it mostly is.
            self.bench_next = BENCH_FIRST;
            return false;
        }
        self.weigh(
            f64::from(u8::from(has_failed)),
            f64::from(u8::from(!has_failed)),
            pool,
        );
        if !has_failed && self.weight == 0.0 {
            self.bench_next = BENCH_FIRST;
        }
        has_failed && self.weight > BENCH_AT && pool.share() < POOL_OUTAGE
    }

    fn weigh(&mut self, failures: f64, successes: f64, pool: &PoolErrors) {
        let usual = pool.share().clamp(POOL_LEAST, FAULTY);
        let against = failures * ln(FAULTY / usual);
        let for_it = successes * ln(FAULTY / (1.0 - usual));
        self.weight = (self.weight + against + for_it).clamp(0.0, MOST);
    }

    /// It is not chosen for a while.
    pub(super) fn bench(&mut self, now: Time) {
        let span = self.bench_next.max(BENCH_FIRST);
        self.bench_until = now + span;
        self.bench_next = (span * 2).min(BENCH_MOST);
    }

    /// Whether it is on the bench.
    pub(super) fn is_benched(&self, now: Time) -> bool {
        now < self.bench_until
    }

    /// Whether nothing speaks against it.
    pub(super) fn is_clear(&self, now: Time, pool: &PoolErrors) -> bool {
        self.weight == 0.0 && !self.is_benched(now) && self.surplus(pool) == 0.0
    }

    /// When the (last) bench ends.
    pub(super) fn bench_until(&self) -> Time {
        self.bench_until
    }

    /// Others were failed `failures` times and served `successes` times since the last report.
    pub(super) fn hearsay(&mut self, now: Time, failures: f64, successes: f64, pool: &PoolErrors) {
        let all = failures + successes;
        if all <= 0.0 {
            return;
        }
        let part = (HEARSAY_MOST / all).min(1.0);
        self.weigh(failures * part, successes * part, pool);
        if !self.is_benched(now) {
            return;
        }
        if failures == 0.0 && successes >= HEARSAY_PARDON {
            self.bench_until = now;
        } else if failures > 0.0 && self.weight > BENCH_AT {
            self.bench_until = self.bench_until.max(now + BENCH_FIRST);
        }
    }

    /// How far its share of errors is above the pool's, beyond the noise; 0 to 1.
    pub(super) fn surplus(&self, pool: &PoolErrors) -> f64 {
        let own = self.share.value();
        let usual = pool.share().max(POOL_LEAST);
        if own <= usual {
            return 0.0;
        }
        let noise = (usual * (1.0 - usual) / self.share.count().max(1.0)).sqrt();
        (own - usual - 2.0 * noise).max(0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(failures: u32, successes: u32) -> PoolErrors {
        let mut pool = PoolErrors::default();
        for index in 0..failures + successes {
            pool.learn(index < failures);
        }
        pool
    }

    #[test]
    fn one_failure_is_enough_where_nobody_fails() {
        let mut evidence = Evidence::default();
        assert!(evidence.learn(true, &pool(0, 1000)));
    }

    #[test]
    fn where_a_few_in_a_hundred_fail_anyway_it_takes_more() {
        let pool = pool(40, 960);
        let mut evidence = Evidence::default();
        assert!(!evidence.learn(true, &pool));
        assert!(evidence.learn(true, &pool));
        // Successes speak for it.
        let mut evidence = Evidence::default();
        for _ in 0..20 {
            assert!(!evidence.learn(true, &pool));
            for _ in 0..8 {
                evidence.learn(false, &pool);
            }
        }
    }

    #[test]
    fn an_outage_of_all_benches_nobody() {
        let mut evidence = Evidence::default();
        for _ in 0..100 {
            assert!(!evidence.learn(true, &pool(500, 500)));
        }
        assert_eq!(evidence.surplus(&pool(20_000, 0)), 0.0);
    }

    #[test]
    fn benches_double_up_to_the_most_and_a_clean_record_forgets_them() {
        let mut evidence = Evidence::default();
        let mut spans = Vec::new();
        for _ in 0..7 {
            evidence.bench(Time(0));
            spans.push(evidence.bench_until().since(Time(0)).as_secs());
        }
        assert_eq!(spans, [1, 2, 4, 8, 16, 30, 30]);
        assert!(evidence.is_benched(Time(29_999_999_999)));
        assert!(!evidence.is_benched(Time(30_000_000_000)));
        evidence.learn(false, &pool(0, 100));
        evidence.bench(Time(0));
        assert_eq!(evidence.bench_until().since(Time(0)).as_secs(), 1);
    }

    #[test]
    fn others_can_pardon_or_prolong() {
        let pool = pool(0, 1000);
        let mut evidence = Evidence::default();
        evidence.learn(true, &pool);
        evidence.bench(Time(0));
        evidence.hearsay(Time(10), 0.0, 2.0, &pool);
        assert!(evidence.is_benched(Time(10)));
        let mut worse = evidence;
        worse.hearsay(Time(900_000_000), 5.0, 20.0, &pool);
        assert!(worse.is_benched(Time(1_800_000_000)));
        evidence.hearsay(Time(10), 0.0, 3.0, &pool);
        assert!(!evidence.is_benched(Time(10)));
    }

    #[test]
    fn only_more_errors_than_all_have_cost() {
        let pool = pool(10, 990);
        let mut evidence = Evidence::default();
        for index in 0..100 {
            evidence.learn(index % 100 == 0, &pool);
        }
        assert_eq!(evidence.surplus(&pool), 0.0);
        for index in 0..100 {
            evidence.learn(index % 3 == 0, &pool);
        }
        assert!((0.1..0.4).contains(&evidence.surplus(&pool)));
    }
}
