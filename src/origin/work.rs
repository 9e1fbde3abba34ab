//! The work: which requests are there, which of them a worker has, and which wait in the line.
//!
//! A worker is a place, not a thread: who has one is served for the service time, and the rest wait,
//! first in first out. Knows no connection but by its token, and no clock but what the loop says.

use std::collections::VecDeque;
use std::fmt::Write;
use std::time::Duration;

use super::lately::Lately;
use crate::chance;
use crate::cli::Service;
use crate::math::ln;
use crate::net::{Time, Token};

/// The poll sleeps for whole milliseconds, so a worker is seen to be free that much too late. Whoever
/// waited for it is taken to have begun in time, by no more than this: else a server of short service
/// times would have less than its capacity.
const GRAIN: Duration = Duration::from_millis(2);
/// So many who have left the line may still be in it.
const LEFT_MAX: usize = 64;

/// What a request holds while it is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Claim {
    /// Nothing: there is none, or it is a check.
    #[default]
    None,
    /// It is counted.
    Counted,
    /// It has a worker, until this moment.
    Worker(Time),
}

/// Requests, workers, and the line.
#[derive(Debug)]
pub(super) struct Work {
    service: Service,
    dice: Dice,
    lately: Lately,
    in_flight: usize,
    busy: usize,
    /// Who waits for a worker; some may have left.
    line: VecDeque<Token>,
    /// When the workers became free that somebody waited for.
    freed: VecDeque<Time>,
    now: Time,
}

impl Work {
    /// Nothing to do yet. The same `seed` brings the same chances; none: any.
    pub(super) fn new(service: Service, seed: Option<u64>, now: Time) -> Work {
        let seed = seed.unwrap_or_else(chance::seed);
        Work {
            service,
            dice: Dice(seed),
            lately: Lately::new(now),
            in_flight: 0,
            busy: 0,
            line: VecDeque::new(),
            freed: VecDeque::new(),
            now,
        }
    }

    /// A turn begins.
    pub(super) fn begin_turn(&mut self, now: Time) {
        self.now = now;
        self.lately.advance(now, self.busy, self.service.workers);
    }

    /// How requests are served.
    pub(super) fn service(&self) -> Service {
        self.service
    }

    /// Requests that begin from now on are served by `service`.
    pub(super) fn change(&mut self, service: Service) {
        self.service = service;
    }

    /// Whether the next request is one of those that fail.
    pub(super) fn draws_failure(&mut self) -> bool {
        self.service.fail > 0.0 && self.dice.roll() < self.service.fail
    }

    /// A request is there.
    pub(super) fn enter(&mut self) -> Claim {
        self.in_flight += 1;
        Claim::Counted
    }

    /// Whether a newcomer gets a worker at once; else it has to join the line.
    pub(super) fn is_free(&self) -> bool {
        self.line.is_empty() && self.has_worker()
    }

    /// A request joins the line.
    pub(super) fn join(&mut self, token: Token) {
        self.line.push_back(token);
    }

    /// Whether somebody in the line can be called.
    pub(super) fn may_call(&self) -> bool {
        !self.line.is_empty() && self.has_worker()
    }

    /// How many are in the line at most.
    pub(super) fn line_len(&self) -> usize {
        self.line.len()
    }

    /// Who is to begin now, if there is still somebody; whoever does has to `begin`.
    pub(super) fn call(&mut self) -> Option<Token> {
        if self.may_call() {
            self.line.pop_front()
        } else {
            self.freed.clear();
            None
        }
    }

    /// A worker takes a request that has been there `since` then, and that takes `extra` longer than
    /// others. Tells when it will be done.
    pub(super) fn begin(&mut self, since: Time, extra: Duration) -> Time {
        self.busy += 1;
        let free = self.freed.pop_front().unwrap_or(self.now).min(self.now);
        let begun = free.max(since).max(earlier(self.now, GRAIN));
        let noise = match self.service.jitter {
            Duration::ZERO => Duration::ZERO,
            mean => mean.mul_f64(-ln(1.0 - self.dice.roll())),
        };
        begun
            + self
                .service
                .delay
                .saturating_add(noise)
                .saturating_add(extra)
    }

    /// A request has been answered, or has gone.
    pub(super) fn leave(&mut self, claim: Claim) {
        match claim {
            Claim::None => return,
            Claim::Counted => {}
            Claim::Worker(due) => {
                self.busy = self.busy.saturating_sub(1);
                if !self.line.is_empty() {
                    self.freed.push_back(due);
                }
            }
        }
        self.in_flight = self.in_flight.saturating_sub(1);
    }

    /// An answer is on its way.
    pub(super) fn answered(&mut self, is_error: bool) {
        self.lately.answered(is_error);
    }

    /// How many requests are there: with a worker, or in the line.
    pub(super) fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// The figures as a value of the field `endpoint-load-metrics`, in the text form of ORCA (Open
    /// Request Cost Aggregation). Without a limit of workers nothing can be said of utilization.
    pub(super) fn metrics(&self) -> String {
        let rates = self.lately.rates();
        let mut text = format!("TEXT named_metrics.in_flight={}", self.in_flight);
        let utilization = rates.utilization.filter(|_| self.service.workers > 0);
        if let Some(utilization) = utilization {
            let _ = write!(text, ", application_utilization={utilization:.4}");
        }
        let (answers, errors) = (rates.answers, rates.errors);
        let _ = write!(text, ", rps_fractional={answers:.2}, eps={errors:.2}");
        text
    }

    /// Drops those from the line who are not there any more, if they are many. O(line).
    pub(super) fn shrink(&mut self, is_there: impl Fn(Token) -> bool) {
        if self.line.len() > self.in_flight + LEFT_MAX {
            self.line.retain(|token| is_there(*token));
        }
        if self.line.capacity() > 4 * self.line.len() + LEFT_MAX {
            self.line.shrink_to(2 * self.line.len());
        }
    }

    fn has_worker(&self) -> bool {
        self.service.workers == 0 || self.busy < self.service.workers
    }
}

fn earlier(now: Time, span: Duration) -> Time {
    let span = u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
    Time(now.0.saturating_sub(span))
}

/// Chance, from a seed.
#[derive(Debug)]
struct Dice(u64);

impl Dice {
    /// The next of an even sequence of numbers in [0, 1).
    fn roll(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(chance::GOLDEN);
        (chance::mix(self.0) >> 11) as f64 / (1_u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::Owner;

    const MS: Duration = Duration::from_millis(1);

    fn work(service: Service) -> Work {
        Work::new(service, Some(1), Time(0))
    }

    fn token(slot: u32) -> Token {
        Token::new(Owner::Client, slot, 1)
    }

    fn at(us: u64) -> Time {
        Time(us * 1000)
    }

    #[test]
    fn who_finds_no_worker_waits_first_in_first_out() {
        let mut work = work(Service {
            delay: 4 * MS,
            workers: 2,
            ..Service::default()
        });
        for _ in 0..2 {
            work.enter();
            assert!(work.is_free());
            assert_eq!(work.begin(at(0), Duration::ZERO), at(4000));
        }
        for slot in 3..6 {
            work.enter();
            assert!(!work.is_free());
            work.join(token(slot));
        }
        assert_eq!((work.in_flight(), work.call()), (5, None));
        work.begin_turn(at(4000));
        work.leave(Claim::Worker(at(4000)));
        // A worker is free, but not for a newcomer.
        assert!(!work.is_free() && work.may_call());
        assert_eq!(work.call(), Some(token(3)));
        assert_eq!(work.begin(at(0), MS), at(9000));
        assert_eq!((work.in_flight(), work.call()), (4, None));
    }

    #[test]
    fn a_worker_that_is_free_a_moment_late_has_lost_no_time() {
        let service = Service {
            delay: 4 * MS,
            workers: 1,
            ..Service::default()
        };
        // Seen to be free so late, the next one begins then, in us; it came at 1000.
        for (late, begun) in [(4000, 4000), (4900, 4000), (6000, 4000), (304_000, 302_000)] {
            let mut work = work(service);
            work.enter();
            let due = work.begin(at(0), Duration::ZERO);
            work.enter();
            work.join(token(1));
            work.begin_turn(at(late));
            work.leave(Claim::Worker(due));
            assert_eq!(work.call(), Some(token(1)));
            assert_eq!(work.begin(at(1000), Duration::ZERO), at(begun + 4000));
        }
        // Who came later than the worker was free begins no earlier than that.
        let mut work = work(service);
        work.enter();
        let due = work.begin(at(0), Duration::ZERO);
        work.begin_turn(at(4900));
        work.enter();
        work.join(token(1));
        work.leave(Claim::Worker(due));
        work.call();
        assert_eq!(work.begin(at(4900), Duration::ZERO), at(8900));
    }

    #[test]
    fn the_metrics_are_those_of_the_last_seconds() {
        let mut work = work(Service {
            workers: 4,
            ..Service::default()
        });
        // One worker is busy all the time, and two answers a second are given, one of them an error.
        work.enter();
        work.begin(at(0), 100_000 * MS);
        for half in 1..=60 {
            work.begin_turn(at(500_000 * half));
            work.answered(half % 2 == 0);
        }
        let text = work.metrics();
        let (start, rest) = text.split_once(", rps_fractional=").unwrap();
        assert_eq!(
            start,
            "TEXT named_metrics.in_flight=1, application_utilization=0.2500"
        );
        let (answers, errors) = rest.split_once(", eps=").unwrap();
        let near = |text: &str, wanted: f64| (text.parse::<f64>().unwrap() - wanted).abs() < 0.3;
        assert!(near(answers, 2.0) && near(errors, 1.0), "{text}");
        assert!(
            !Work::new(Service::default(), None, at(0))
                .metrics()
                .contains("utilization")
        );
    }

    #[test]
    fn without_a_limit_nobody_waits() {
        let mut work = work(Service::default());
        for _ in 0..1000 {
            work.enter();
            assert!(work.is_free());
            assert_eq!(work.begin(at(0), Duration::ZERO), at(0));
        }
        assert_eq!(work.in_flight(), 1000);
    }

    #[test]
    fn failures_and_noise_are_as_many_and_as_long_as_said_and_repeatable() {
        let service = Service {
            jitter: 10 * MS,
            fail: 0.3,
            ..Service::default()
        };
        let run = || {
            let mut work = work(service);
            let failed = (0..100_000).filter(|_| work.draws_failure()).count();
            let times = (0..10_000).map(|_| work.begin(at(0), Duration::ZERO).0);
            (failed, times.collect::<Vec<_>>())
        };
        let (failed, mut times) = run();
        assert_eq!((failed, &times), (run().0, &run().1));
        assert!((29_500..30_500).contains(&failed), "{failed}");
        let mean = times.iter().sum::<u64>() as f64 / 1e4 / 1e6;
        assert!((9.6..10.4).contains(&mean), "{mean} ms");
        // The median of an exponential distribution is its mean times ln 2.
        times.sort_unstable();
        let median = times[5000] as f64 / 1e6;
        assert!((6.6..7.3).contains(&median), "{median} ms");
    }

    #[test]
    fn those_who_left_do_not_pile_up_in_the_line() {
        let mut work = work(Service {
            workers: 1,
            ..Service::default()
        });
        work.enter();
        work.begin(at(0), MS);
        for slot in 0..10_000 {
            let claim = work.enter();
            work.join(token(slot));
            if slot != 7 {
                work.leave(claim);
            }
        }
        work.shrink(|one| one == token(7));
        assert_eq!((work.in_flight(), work.line_len()), (2, 1));
        assert!(work.line.capacity() < 1000);
    }
}
