//! How it went lately: answers and errors per second, and the share of the workers that were busy.
//!
//! Counts in slices of half a second, of which the last ten are kept, so that the figures are those
//! of about five seconds. Knows no clock: the loop says what time it is, once in each turn.

use std::time::Duration;

use crate::net::Time;

/// How many slices are kept.
const SLICES: usize = 10;
/// How long one is, in nanoseconds.
const SLICE_NS: u64 = 500_000_000;
/// Figures of a shorter time than this are given as if it had been this long.
const SPAN_MIN: Duration = Duration::from_secs(1);

/// What happened in one slice of time.
#[derive(Debug, Clone, Copy, Default)]
struct Slice {
    answers: u64,
    errors: u64,
    /// How long workers were busy, in nanoseconds of one.
    busy: u64,
    /// How long there were workers.
    room: u64,
}

/// The account of the last seconds.
#[derive(Debug)]
pub(super) struct Lately {
    /// The newest is that of the moment; each is in the place that its number has in the ring.
    slices: [Slice; SLICES],
    began: Time,
    now: Time,
}

/// Figures of the last seconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Rates {
    /// Answers per second.
    pub(super) answers: f64,
    /// Those of them that were errors.
    pub(super) errors: f64,
    /// The share of the workers that were busy; none: their number had no limit.
    pub(super) utilization: Option<f64>,
}

impl Lately {
    /// Nothing has happened before `now`.
    pub(super) fn new(now: Time) -> Lately {
        Lately {
            slices: [Slice::default(); SLICES],
            began: now,
            now,
        }
    }

    /// It is `now`, and since the last call `busy` workers were busy out of `workers`.
    /// O(slices).
    pub(super) fn advance(&mut self, now: Time, busy: usize, workers: usize) {
        if now <= self.now {
            return;
        }
        // What is longer ago than all slices would be forgotten at once.
        let oldest = now.0.saturating_sub(SLICE_NS * SLICES as u64);
        self.now = Time(self.now.0.max(oldest));
        while self.now < now {
            let border = (self.now.0 / SLICE_NS + 1) * SLICE_NS;
            let until = border.min(now.0);
            let span = until - self.now.0;
            let slice = self.slice();
            slice.busy = slice.busy.saturating_add(span.saturating_mul(busy as u64));
            slice.room = slice
                .room
                .saturating_add(span.saturating_mul(workers as u64));
            self.now = Time(until);
            if until == border {
                *self.slice() = Slice::default();
            }
        }
    }

    /// A request was answered.
    pub(super) fn answered(&mut self, is_error: bool) {
        let slice = self.slice();
        slice.answers += 1;
        slice.errors += u64::from(is_error);
    }

    /// The figures.
    pub(super) fn rates(&self) -> Rates {
        let newest = self.now.0 / SLICE_NS;
        let oldest = (newest + 1).saturating_sub(SLICES as u64) * SLICE_NS;
        let span = self.now.since(Time(oldest).max(self.began)).max(SPAN_MIN);
        let sum = |part: fn(&Slice) -> u64| self.slices.iter().map(part).sum::<u64>() as f64;
        let room = sum(|slice| slice.room);
        Rates {
            answers: sum(|slice| slice.answers) / span.as_secs_f64(),
            errors: sum(|slice| slice.errors) / span.as_secs_f64(),
            utilization: (room > 0.0).then(|| sum(|slice| slice.busy) / room),
        }
    }

    /// The slice of this moment.
    fn slice(&mut self) -> &mut Slice {
        let place = (self.now.0 / SLICE_NS) % SLICES as u64;
        &mut self.slices[place as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Time {
        Time(ms * 1_000_000)
    }

    #[test]
    fn rates_are_those_of_the_last_seconds() {
        let mut lately = Lately::new(at(0));
        // 100 answers a second, every tenth of them an error, and 3 of 4 workers busy.
        for turn in 1..=2000 {
            lately.advance(at(turn * 10), 3, 4);
            lately.answered(turn % 10 == 0);
        }
        let rates = lately.rates();
        assert!((rates.answers - 100.0).abs() < 1.0, "{rates:?}");
        assert!((rates.errors - 10.0).abs() < 0.5, "{rates:?}");
        assert!((rates.utilization.unwrap() - 0.75).abs() < 1e-9);
        // Two idle seconds later it is three fifths of that, and after five nothing.
        lately.advance(at(22_000), 0, 4);
        let rates = lately.rates();
        assert!((rates.answers - 60.0).abs() < 10.0, "{rates:?}");
        assert!((rates.utilization.unwrap() - 0.45).abs() < 0.08);
        lately.advance(at(1_000_000), 0, 4);
        let nothing = Rates {
            answers: 0.0,
            errors: 0.0,
            utilization: Some(0.0),
        };
        assert_eq!(lately.rates(), nothing);
    }

    #[test]
    fn the_first_answers_are_no_flood() {
        let mut lately = Lately::new(at(7_300));
        lately.advance(at(7_301), 0, 0);
        lately.answered(true);
        let rates = lately.rates();
        assert_eq!((rates.answers, rates.errors), (1.0, 1.0));
        assert_eq!(rates.utilization, None);
    }

    #[test]
    fn time_that_goes_back_changes_nothing() {
        let mut lately = Lately::new(at(5_000));
        lately.answered(false);
        lately.advance(at(4_000), 1, 1);
        assert_eq!(lately.rates().answers, 1.0);
    }
}
