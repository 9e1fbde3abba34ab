//! One simulated server: so many workers, one line before them, and what disturbs it.

use std::collections::VecDeque;
use std::f64::consts::TAU;

use bestguess::guess::random;
use bestguess::report::{Answer, Report, Said};

/// Requests that wait in line; one more is turned away with 503.
const LINE_MAX: usize = 100;

/// A piece of work: one attempt of a request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Job {
    /// No other has it.
    pub(super) number: u64,
    /// Which of ours; none: another balancer sent it.
    pub(super) request: Option<usize>,
    /// Its work, as a multiple of the server's mean.
    pub(super) work: f64,
}

/// How much the work of requests differs; the mean is 1.
#[derive(Debug, Clone, Copy)]
pub(super) enum Spread {
    Exponential,
    /// With this deviation of the logarithm.
    Lognormal(f64),
}

/// What happens to a server at some moment.
#[derive(Debug, Clone, Copy)]
pub(super) enum Change {
    /// It answers everything with 500 at once, except for checks, from now on.
    Break,
    /// It works again.
    Mend,
    /// It stands still for so many milliseconds, and then goes on where it stopped.
    Pause(u64),
    /// It is gone with all that it had, and comes back empty after so many milliseconds.
    Kill(u64),
}

/// What becomes of a request that reaches a server.
#[derive(Debug, Clone, Copy)]
pub(super) enum Reached {
    Refused,
    Answered(u16),
    /// Work on it begins, and takes so many milliseconds.
    Begun(f64),
    InLine,
}

/// One server.
#[derive(Debug)]
pub(super) struct Machine {
    workers: usize,
    mean_ms: f64,
    running: Vec<Job>,
    line: VecDeque<Job>,
    is_broken: bool,
    /// Counted since it started.
    counts: Report,
    /// How often it was killed.
    pub(super) life: u32,
    /// Nothing happens in it before this, in nanoseconds.
    pub(super) paused_until: u64,
    /// Nobody is there before this.
    pub(super) gone_until: u64,
}

impl Spread {
    /// The work of one request.
    pub(super) fn draw(self, seed: &mut u64) -> f64 {
        match self {
            Spread::Exponential => exponential(seed),
            Spread::Lognormal(sigma) => {
                // A normal number out of two even ones (Box and Muller 1958).
                let radius = (2.0 * exponential(seed)).sqrt();
                let normal = radius * (TAU * random(seed)).cos();
                (sigma * normal - sigma * sigma / 2.0).exp()
            }
        }
    }
}

/// A number from the exponential distribution of mean 1.
pub(super) fn exponential(seed: &mut u64) -> f64 {
    -(1.0 - random(seed)).ln()
}

impl Machine {
    pub(super) fn new(workers: usize, mean_ms: f64) -> Machine {
        Machine {
            workers,
            mean_ms,
            running: Vec::new(),
            line: VecDeque::new(),
            is_broken: false,
            counts: Report::default(),
            life: 0,
            paused_until: 0,
            gone_until: 0,
        }
    }

    /// A request comes.
    pub(super) fn reach(&mut self, now: u64, job: Job) -> Reached {
        if now < self.gone_until {
            return Reached::Refused;
        }
        self.counts.load += 1;
        if self.is_broken {
            self.counts.errors += 1;
            return Reached::Answered(500);
        }
        if self.running.len() < self.workers {
            return Reached::Begun(self.begin(job));
        }
        if self.line.len() >= LINE_MAX {
            self.counts.errors += 1;
            return Reached::Answered(503);
        }
        self.line.push_back(job);
        Reached::InLine
    }

    /// The work on `job` is done: who is next, and how long that takes.
    pub(super) fn done(&mut self, job: Job) -> Option<(Job, f64)> {
        self.running.retain(|other| other.number != job.number);
        let next = self.line.pop_front()?;
        Some((next, self.begin(next)))
    }

    fn begin(&mut self, job: Job) -> f64 {
        self.running.push(job);
        job.work * self.mean_ms
    }

    /// The answer to a check; none while nobody is there.
    pub(super) fn check(&self, now: u64) -> Option<Answer> {
        (now >= self.gone_until).then(|| Answer {
            report: Some(self.counts),
            said: Said {
                in_flight: Some((self.running.len() + self.line.len()) as f64),
                ..Said::default()
            },
        })
    }

    /// Something happens to it; the jobs are lost by that.
    pub(super) fn change(&mut self, now: u64, change: Change) -> Vec<Job> {
        match change {
            Change::Break => self.is_broken = true,
            Change::Mend => self.is_broken = false,
            Change::Pause(ms) => self.paused_until = now + ms * 1_000_000,
            Change::Kill(ms) => {
                self.gone_until = now + ms * 1_000_000;
                self.life += 1;
                self.counts = Report::default();
                let mut lost = std::mem::take(&mut self.running);
                lost.extend(std::mem::take(&mut self.line));
                return lost;
            }
        }
        Vec::new()
    }
}
