//! The curve: how long an answer takes at each number of requests in flight.
//!
//! Learned from all servers together, because one server alone answers too little to tell. Its shape
//! is what a queue has: it never falls (isotonic regression, Ayer et al. 1955). No model of workers or
//! processors is assumed: the curve of a server with four workers is flat up to four by itself.

use super::noise::Mean;
use crate::math::{exp, ln};

/// Numbers in flight that have a bucket of their own.
const EXACT: usize = 16;
/// Buckets per doubling above that.
const PER_DOUBLING: usize = 4;
/// Doublings above `EXACT`: the curve ends at about a million in flight.
const DOUBLINGS: usize = 16;
/// All buckets.
pub(super) const BUCKETS: usize = EXACT + PER_DOUBLING * DOUBLINGS;
/// The last knot.
const IN_FLIGHT_MAX: f64 = (EXACT << (DOUBLINGS - 1)) as f64;
/// Answers after which a bucket forgets the oldest.
const BUCKET_MOST: f64 = 2048.0;
/// Expected answer times, in nanoseconds, by requests in flight.
#[derive(Debug)]
pub(super) struct Curve {
    /// Logarithms of answer times, the server's own slowness taken out.
    buckets: [Mean; BUCKETS],
    /// The fitted logarithm at the lower edge of each bucket.
    logs: [f64; BUCKETS],
    /// The same as a time.
    times: [f64; BUCKETS],
    /// One more than the number in flight at the lower edge of each bucket, and its logarithm.
    grown: [(f64, f64); BUCKETS],
    /// Behind the last bucket that any answer is in.
    end: usize,
    /// Answers since the last fit, and how many make the next one due.
    fresh: u32,
    due: u32,
    due_most: u32,
    is_known: bool,
}

/// Where a number in flight lies on the curve.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    bucket: usize,
    /// How far in, from 0 to 1.
    part: f64,
}

impl Curve {
    /// A curve for `servers` servers. Of which nothing is known: it grows with the number in flight.
    pub(super) fn new(servers: usize) -> Curve {
        let mut curve = Curve {
            buckets: [Mean::default(); BUCKETS],
            logs: [0.0; BUCKETS],
            times: [0.0; BUCKETS],
            grown: std::array::from_fn(|bucket| {
                let grown = knot(bucket) + 1.0;
                (grown, ln(grown))
            }),
            end: 0,
            fresh: 0,
            due: 1,
            due_most: (servers as u32).max(64),
            is_known: false,
        };
        curve.draw(0, 0.0);
        curve
    }

    /// Whether an answer was ever seen.
    pub(super) fn is_known(&self) -> bool {
        self.is_known
    }

    /// An answer came after e^`log` nanoseconds, its server's slowness taken out, from a server that
    /// had so many in flight when it was sent. Constant work; a fit now and then, which is told.
    pub(super) fn learn(&mut self, at: Place, log: f64) -> bool {
        let nearest = (at.bucket + usize::from(at.part >= 0.5)).min(BUCKETS - 1);
        if let Some(bucket) = self.buckets.get_mut(nearest) {
            bucket.add(log, BUCKET_MOST);
            self.end = self.end.max(nearest + 1);
        }
        self.fresh += 1;
        let is_due = self.fresh >= self.due;
        if is_due {
            // The first few answers are soon outweighed: they may be slow ones.
            self.due = (2 * self.due).min(self.due_most);
            self.fit();
        }
        is_due
    }

    /// The logarithm of the expected time there.
    pub(super) fn log(&self, at: Place) -> f64 {
        at.between(&self.logs)
    }

    /// The expected time there in nanoseconds.
    pub(super) fn time(&self, at: Place) -> f64 {
        at.between(&self.times)
    }

    /// The expected time with nothing in flight in nanoseconds.
    pub(super) fn least(&self) -> f64 {
        self.times[0]
    }

    /// Fits the curve anew: pools neighbours that fall until none does.
    fn fit(&mut self) {
        self.fresh = 0;
        self.is_known = true;
        // Levels so far: mean, weight, and the bucket that each ends with.
        let mut levels = [(0.0_f64, 0.0_f64, 0_usize); BUCKETS];
        let mut count = 0_usize;
        for (index, bucket) in self.buckets.iter().enumerate().take(self.end) {
            if bucket.count() == 0.0 {
                continue;
            }
            let mut level = (bucket.value(), bucket.count(), index);
            while let Some(before) = count.checked_sub(1).and_then(|last| levels.get(last))
                && before.0 >= level.0
            {
                let weight = before.1 + level.1;
                level = (
                    (before.0 * before.1 + level.0 * level.1) / weight,
                    weight,
                    index,
                );
                count -= 1;
            }
            if let Some(slot) = levels.get_mut(count) {
                *slot = level;
            }
            count += 1;
        }
        let mut levels = levels.iter().take(count);
        let mut level = levels.next();
        let mut known: Option<(usize, f64)> = None;
        for index in 0..self.end {
            if self.buckets.get(index).is_none_or(|it| it.count() == 0.0) {
                continue;
            }
            while let Some(now) = level
                && now.2 < index
            {
                level = levels.next();
            }
            let Some(value) = level.map(|level| level.0) else {
                break;
            };
            self.join(known, (index, value));
            known = Some((index, value));
        }
        if let Some((index, value)) = known {
            self.draw(index, value);
        }
    }

    /// A straight line of logarithms from one bucket with data to the next; before the first, a level.
    fn join(&mut self, from: Option<(usize, f64)>, to: (usize, f64)) {
        let (start, first) = from.unwrap_or((0, to.1));
        let span = (to.0 - start).max(1) as f64;
        for index in start..=to.0 {
            let value = first + (to.1 - first) * (index - start) as f64 / span;
            if let (Some(log), Some(time)) = (self.logs.get_mut(index), self.times.get_mut(index)) {
                *log = value;
                *time = exp(value);
            }
        }
    }

    /// Beyond the last bucket with data each request in flight costs its share: as Q + 1.
    fn draw(&mut self, last: usize, value: f64) {
        let (Some((grown, log)), time) = (self.grown.get(last).copied(), exp(value)) else {
            return;
        };
        let (per_one, from) = (time / grown, value - log);
        let knots = self.logs.iter_mut().zip(&mut self.times).zip(&self.grown);
        for ((log, time), grown) in knots.skip(last) {
            *log = from + grown.1;
            *time = per_one * grown.0;
        }
    }
}

impl Place {
    /// Where so many in flight belong.
    pub(super) fn of(in_flight: f64) -> Place {
        if in_flight < EXACT as f64 {
            let in_flight = in_flight.max(0.0);
            let whole = in_flight as u32;
            return Place {
                bucket: whole as usize,
                part: in_flight - f64::from(whole),
            };
        }
        // The exponent of the number is its doubling, the first two bits of its fraction the quarter.
        let bits = in_flight.min(IN_FLIGHT_MAX).to_bits();
        let doubling = (bits >> 52) as usize - 1023 - EXACT.ilog2() as usize;
        let quarter = (bits >> 50) as usize & 3;
        Place {
            bucket: EXACT + doubling * PER_DOUBLING + quarter,
            part: (bits & ((1 << 50) - 1)) as f64 / (1_u64 << 50) as f64,
        }
    }

    /// What a line through these values at the knots has there.
    pub(super) fn between(self, values: &[f64; BUCKETS]) -> f64 {
        // There is one behind every place: `IN_FLIGHT_MAX` is not in the last bucket.
        let behind = values
            .get(self.bucket..)
            .and_then(|behind| behind.first_chunk());
        let [low, high] = behind.copied().unwrap_or([f64::MAX; 2]);
        low + (high - low) * self.part
    }
}

/// The number in flight at the lower edge of a bucket.
pub(super) fn knot(bucket: usize) -> f64 {
    match bucket.checked_sub(EXACT) {
        None => bucket as f64,
        Some(above) => {
            let doubling = (EXACT << (above / PER_DOUBLING)) as f64;
            doubling * (1.0 + (above % PER_DOUBLING) as f64 / PER_DOUBLING as f64)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A curve that has seen `count` answers at each of these numbers in flight.
    fn learned(points: &[(f64, f64)], count: usize) -> Curve {
        let mut curve = Curve::new(1);
        for _ in 0..count {
            for (in_flight, time) in points {
                curve.learn(Place::of(*in_flight), time.ln());
            }
        }
        curve
    }

    #[test]
    fn of_what_nothing_is_known_the_time_grows_with_the_number_in_flight() {
        let curve = Curve::new(3);
        assert!(!curve.is_known());
        assert!((curve.time(Place::of(0.0)) - 1.0).abs() < 1e-9);
        assert!((curve.time(Place::of(9.0)) - 10.0).abs() < 1e-6);
    }

    #[test]
    fn one_answer_is_enough_to_begin_with() {
        let curve = learned(&[(0.0, 5e6)], 1);
        assert!(curve.is_known());
        assert!((curve.time(Place::of(0.0)) - 5e6).abs() < 1.0);
        assert!((curve.time(Place::of(3.0)) - 20e6).abs() < 1.0);
    }

    #[test]
    fn it_is_flat_up_to_the_workers_and_grows_behind() {
        let points: Vec<(f64, f64)> = (0..12)
            .map(|q| (f64::from(q), (1.0_f64).max(f64::from(q + 1) / 4.0) * 1e7))
            .collect();
        let curve = learned(&points, 200);
        for (in_flight, time) in points {
            let got = curve.time(Place::of(in_flight));
            assert!((got / time - 1.0).abs() < 0.01, "{in_flight}: {got}");
        }
        assert!((curve.time(Place::of(23.0)) / curve.time(Place::of(11.0)) - 2.0).abs() < 0.05);
    }

    #[test]
    fn it_never_falls_and_fills_its_gaps() {
        let curve = learned(&[(1.0, 30.0), (2.0, 10.0), (6.0, 90.0), (40.0, 80.0)], 100);
        let mut last = 0.0;
        for half in 0..400 {
            let time = curve.time(Place::of(f64::from(half) / 2.0));
            assert!(time >= last - 1e-9, "{half} {time} {last}");
            last = time;
        }
        assert!((curve.time(Place::of(0.0)) / 300.0_f64.sqrt() - 1.0).abs() < 0.02);
        assert!(
            curve.time(Place::of(4.0)) > curve.time(Place::of(2.0))
                && curve.time(Place::of(4.0)) < curve.time(Place::of(6.0))
        );
    }

    #[test]
    fn it_follows_a_change() {
        let mut curve = learned(&[(0.0, 1e6)], 5000);
        for _ in 0..10_000 {
            curve.learn(Place::of(0.0), 4e6_f64.ln());
        }
        assert!((curve.time(Place::of(0.0)) / 4e6 - 1.0).abs() < 0.05);
    }

    #[test]
    fn every_number_has_its_place_between_two_knots() {
        for in_flight in [0.0, 0.3, 15.9, 16.0, 17.0, 31.5, 32.0, 1000.7, 1e5, 1e12] {
            let Place { bucket, part } = Place::of(in_flight);
            assert!(
                bucket < BUCKETS && (0.0..1.0).contains(&part),
                "{in_flight}"
            );
            let low = knot(bucket);
            let back = low + (knot(bucket + 1) - low) * part;
            let clamped = in_flight.min(IN_FLIGHT_MAX);
            assert!(
                (back - clamped).abs() < 1e-6 * clamped.max(1.0),
                "{in_flight} {back}"
            );
        }
    }
}
