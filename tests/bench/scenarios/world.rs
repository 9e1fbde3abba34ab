//! The simulated world: clients, one balancer around the real guess, servers, and time.
//!
//! A heap of events in the order of time. The balancer's part is `pick_for` and what follows from an
//! answer: it does with the guess what `Proxy` does, for requests that may be repeated and links that
//! were used before. Left out are its limit N and its queue.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use bestguess::config::{Address, Policy, ServerConfig};
use bestguess::guess::{Failure, Guess, Outcome, Pick, Ticket, random};
use bestguess::health::{Health, Standing};
use bestguess::net::Time;
use bestguess::report::Answer;

use crate::machine::{Change, Job, Machine, Reached, Spread, exponential};

const MILLI: u64 = 1_000_000;
const SECOND: u64 = 1000 * MILLI;
/// From the balancer to a server, or back: half a millisecond for both.
const WAY: u64 = MILLI / 4;
/// A check's counts are so old when they leave the server.
const CHECK_WORK: u64 = 5 * MILLI;
/// X: how often servers are checked.
const CHECK_EVERY: u64 = SECOND;
const CHECK_TIMEOUT: u64 = 5 * SECOND;
/// A request that was not answered by then has failed; all that fail count as this long.
const TIMEOUT: u64 = 5 * SECOND;
/// Requests come until the end; those that come before the start are not counted.
const START: u64 = 2 * SECOND;
const END: u64 = 30 * SECOND;
const WORKERS: usize = 4;

/// What the servers are and what happens to them.
pub(super) struct Scenario {
    pub(super) name: &'static str,
    /// Each server's mean time of work, in milliseconds.
    pub(super) means_ms: Vec<f64>,
    pub(super) spread: Spread,
    /// When, in seconds, what happens to which server.
    pub(super) changes: Vec<(f64, usize, Change)>,
    /// The share of the capacity that is left by that.
    pub(super) left: f64,
    /// Another balancer sends to so many of the servers, by chance, this share of their capacity.
    pub(super) foreign: (usize, f64),
}

/// What clients saw.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Microseconds.
    times: Vec<u32>,
    errors: usize,
}

#[derive(Debug)]
enum Event {
    /// A client sends a request.
    Arrival,
    /// The other balancer does.
    Foreign,
    /// It reaches its server.
    Reach(usize, Job),
    /// The server, in this one of its lives, is done with it.
    Done(usize, u32, Job),
    /// The balancer learns what became of it.
    Back(Job, Reply),
    /// It is overdue.
    Late(Job),
    /// All servers are asked.
    Round,
    /// A check, by its number, reaches a server.
    Check(usize, u64),
    /// The balancer has its answer; none: refused.
    Checked(usize, u64, Option<Answer>),
    /// It is overdue.
    CheckLate(usize, u64),
    Change(usize, Change),
}

#[derive(Debug, Clone, Copy)]
enum Reply {
    Status(u16),
    Refused,
    /// The connection, which had served before, broke.
    Cut,
}

/// An event at its time; among those of one moment, the one that was foreseen first comes first.
#[derive(Debug)]
struct Timed {
    at: u64,
    number: u64,
    event: Event,
}

/// A client's request.
struct Request {
    came: u64,
    work: f64,
    tried: Vec<u16>,
    /// The attempt that is under way.
    open: Option<(Ticket, usize, u64)>,
}

/// What the balancer keeps of one server's checks.
#[derive(Default)]
struct Checks {
    health: Health,
    /// The number of the check that is under way.
    open: Option<u64>,
}

struct World<'a> {
    scenario: &'a Scenario,
    now: u64,
    events: BinaryHeap<Timed>,
    /// Events, jobs and checks so far.
    numbers: u64,
    guess: Guess,
    checks: Vec<Checks>,
    machines: Vec<Machine>,
    requests: Vec<Request>,
    /// Requests that are not over.
    open: usize,
    tally: Tally,
    /// Our requests and foreign ones a second, and the generators behind both.
    rate: f64,
    rate_foreign: f64,
    seed: u64,
    seed_foreign: u64,
}

impl PartialEq for Timed {
    fn eq(&self, other: &Timed) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Timed {}

impl PartialOrd for Timed {
    fn partial_cmp(&self, other: &Timed) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Timed {
    /// The heap gives the greatest first, so the earliest is the greatest.
    fn cmp(&self, other: &Timed) -> Ordering {
        (other.at, other.number).cmp(&(self.at, self.number))
    }
}

impl Tally {
    /// Adds what was seen in another run.
    pub(super) fn add(&mut self, other: Tally) {
        self.times.extend(other.times);
        self.errors += other.errors;
    }

    /// The time that this share of the requests did not exceed, in milliseconds.
    pub(super) fn quantile_ms(&mut self, share: f64) -> f64 {
        let rank = (share * (self.times.len() - 1) as f64).round() as usize;
        let (_, time, _) = self.times.select_nth_unstable(rank);
        f64::from(*time) / 1000.0
    }

    /// Requests that failed, in per cent.
    pub(super) fn errors_percent(&self) -> f64 {
        100.0 * self.errors as f64 / self.times.len() as f64
    }
}

impl Scenario {
    /// Requests a second that these servers can serve.
    fn capacity(means_ms: &[f64]) -> f64 {
        means_ms.iter().map(|mean| 1000.0 / mean).sum::<f64>() * WORKERS as f64
    }

    /// What clients see at this load, all balancers together, as a share of the capacity left.
    pub(super) fn run(&self, policy: Policy, load: f64, seed: u64) -> Tally {
        let (shared, share) = self.foreign;
        let rate_foreign = share * Scenario::capacity(&self.means_ms[..shared]);
        let count = self.means_ms.len();
        let config = ServerConfig::new(Address::Tcp(([127, 0, 0, 1], 9001).into()));
        let mut world = World {
            scenario: self,
            now: 0,
            events: BinaryHeap::new(),
            numbers: 0,
            guess: Guess::new(policy, &vec![config; count], seed),
            checks: (0..count).map(|_| Checks::default()).collect(),
            machines: self
                .means_ms
                .iter()
                .map(|mean| Machine::new(WORKERS, *mean))
                .collect(),
            requests: Vec::new(),
            open: 0,
            tally: Tally::default(),
            rate: load * self.left * Scenario::capacity(&self.means_ms) - rate_foreign,
            rate_foreign,
            // Neighbouring states begin alike; a large odd factor takes them apart.
            seed: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
            seed_foreign: seed.wrapping_mul(0xd1b5_4a32_d192_ed03) | 1,
        };
        world.run();
        world.tally
    }
}

impl World<'_> {
    fn run(&mut self) {
        self.after(0, Event::Round);
        self.after(WAY, Event::Arrival);
        if self.rate_foreign > 0.0 {
            self.after(WAY, Event::Foreign);
        }
        for (at, server, change) in &self.scenario.changes {
            self.after((at * 1e9) as u64, Event::Change(*server, *change));
        }
        while (self.now < END || self.open > 0)
            && let Some(Timed { at, event, .. }) = self.events.pop()
        {
            self.now = at;
            self.step(event);
        }
    }

    fn after(&mut self, span: u64, event: Event) {
        self.numbers += 1;
        self.events.push(Timed {
            at: self.now + span,
            number: self.numbers,
            event,
        });
    }

    fn step(&mut self, event: Event) {
        // A server that stands still does nothing before it goes on.
        if let Event::Reach(server, _) | Event::Done(server, ..) | Event::Check(server, _) = event {
            let pause = self.machines[server].paused_until.saturating_sub(self.now);
            if pause > 0 {
                return self.after(pause, event);
            }
        }
        match event {
            Event::Arrival => self.arrive(),
            Event::Foreign => self.arrive_elsewhere(),
            Event::Reach(server, job) => self.reach(server, job),
            Event::Done(server, life, job) => self.done(server, life, job),
            Event::Back(job, reply) => self.back(job, reply),
            Event::Late(job) => self.late(job),
            Event::Round => {
                for server in 0..self.machines.len() {
                    self.start_check(server);
                }
                self.after(CHECK_EVERY, Event::Round);
            }
            Event::Check(server, number) => {
                let answer = self.machines[server].check(self.now);
                let work = if answer.is_some() { CHECK_WORK } else { 0 };
                self.after(work + WAY, Event::Checked(server, number, answer));
            }
            Event::Checked(server, number, answer) => self.checked(server, number, answer),
            Event::CheckLate(server, number) => self.check_late(server, number),
            Event::Change(server, change) => {
                for job in self.machines[server].change(self.now, change) {
                    self.after(WAY, Event::Back(job, Reply::Cut));
                }
            }
        }
    }

    // Clients and servers.

    fn arrive(&mut self) {
        if self.now >= END {
            return;
        }
        let gap = exponential(&mut self.seed) / self.rate;
        self.after((gap * 1e9) as u64, Event::Arrival);
        self.requests.push(Request {
            came: self.now,
            work: self.scenario.spread.draw(&mut self.seed),
            tried: Vec::new(),
            open: None,
        });
        self.open += 1;
        self.pick_for(self.requests.len() - 1);
    }

    fn arrive_elsewhere(&mut self) {
        let gap = exponential(&mut self.seed_foreign) / self.rate_foreign;
        self.after((gap * 1e9) as u64, Event::Foreign);
        self.numbers += 1;
        let job = Job {
            number: self.numbers,
            request: None,
            work: self.scenario.spread.draw(&mut self.seed_foreign),
        };
        let server = random(&mut self.seed_foreign) * self.scenario.foreign.0 as f64;
        self.after(WAY, Event::Reach(server as usize, job));
    }

    fn reach(&mut self, server: usize, job: Job) {
        let machine = &mut self.machines[server];
        let reply = match machine.reach(self.now, job) {
            Reached::Refused => Reply::Refused,
            Reached::Answered(status) => Reply::Status(status),
            Reached::Begun(time_ms) => return self.work(server, job, time_ms),
            Reached::InLine => return,
        };
        self.after(WAY, Event::Back(job, reply));
    }

    fn work(&mut self, server: usize, job: Job, time_ms: f64) {
        let life = self.machines[server].life;
        self.after((time_ms * 1e6) as u64, Event::Done(server, life, job));
    }

    fn done(&mut self, server: usize, life: u32, job: Job) {
        let machine = &mut self.machines[server];
        if machine.life != life {
            return;
        }
        if let Some((next, time_ms)) = machine.done(job) {
            self.work(server, next, time_ms);
        }
        self.after(WAY, Event::Back(job, Reply::Status(200)));
    }

    // The balancer.

    fn pick_for(&mut self, index: usize) {
        let (now, request) = (Time(self.now), &mut self.requests[index]);
        let Pick::Server(server) = self.guess.pick(now, &request.tried) else {
            return self.over(index, false);
        };
        let ticket = self.guess.dispatched(now, server);
        self.numbers += 1;
        request.open = Some((ticket, server, self.numbers));
        let job = Job {
            number: self.numbers,
            request: Some(index),
            work: request.work,
        };
        self.after(WAY, Event::Reach(server, job));
        self.after(TIMEOUT, Event::Late(job));
    }

    /// The attempt that `job` is, if it is still under way; it is not any more.
    fn take(&mut self, job: Job) -> Option<(usize, Ticket, usize)> {
        let index = job.request?;
        let open = &mut self.requests[index].open;
        let (ticket, server, _) = open.take_if(|(_, _, number)| *number == job.number)?;
        Some((index, ticket, server))
    }

    fn back(&mut self, job: Job, reply: Reply) {
        let Some((index, mut ticket, server)) = self.take(job) else {
            return;
        };
        let now = Time(self.now);
        match reply {
            Reply::Status(status) => {
                self.guess.answered(now, &mut ticket, status, false);
                self.guess.finished(now, &ticket, Outcome::Served);
                self.over(index, status == 200);
            }
            Reply::Refused => {
                let refused = Outcome::Failed(Failure::Refused);
                self.guess.finished(now, &ticket, refused);
                self.requests[index].tried.push(server as u16);
                let health = &mut self.checks[server].health;
                let is_news = health.condemn("refused", true);
                self.guess.stand(now, server, health.standing());
                if is_news {
                    self.start_check(server);
                }
                self.pick_for(index);
            }
            // That a used connection ends tells nothing: only a new one will tell.
            Reply::Cut => {
                self.guess.finished(now, &ticket, Outcome::Abandoned);
                self.pick_for(index);
            }
        }
    }

    fn late(&mut self, job: Job) {
        if let Some((index, ticket, _)) = self.take(job) {
            let late = Outcome::Failed(Failure::TimedOut);
            self.guess.finished(Time(self.now), &ticket, late);
            self.over(index, false);
        }
    }

    fn over(&mut self, index: usize, is_well: bool) {
        self.open -= 1;
        let came = self.requests[index].came;
        if came < START {
            return;
        }
        let time = if is_well { self.now - came } else { TIMEOUT };
        self.tally.times.push((time / 1000) as u32);
        self.tally.errors += usize::from(!is_well);
    }

    // Its checks.

    fn start_check(&mut self, server: usize) {
        if self.checks[server].open.is_some() {
            return;
        }
        self.numbers += 1;
        let number = self.numbers;
        self.checks[server].open = Some(number);
        self.guess.asked(server);
        self.after(WAY, Event::Check(server, number));
        self.after(CHECK_TIMEOUT, Event::CheckLate(server, number));
    }

    fn checked(&mut self, server: usize, number: u64, answer: Option<Answer>) {
        let checks = &mut self.checks[server];
        if checks.open.take_if(|open| *open == number).is_none() {
            return;
        }
        let now = Time(self.now);
        if let Some(answer) = answer {
            if let Some(report) = answer.report {
                self.guess.reported(now, server, report);
            }
            self.guess.told(now, server, &answer.said);
            checks.health.passed(1);
        } else {
            checks.health.failed("refused", true, 1);
        }
        self.guess.stand(now, server, checks.health.standing());
    }

    fn check_late(&mut self, server: usize, number: u64) {
        let checks = &mut self.checks[server];
        if checks.open.take_if(|open| *open == number).is_some() {
            checks.health.failed("late", false, 1);
            debug_assert_eq!(checks.health.standing(), Standing::Invalid);
            self.guess.stand(Time(self.now), server, Standing::Invalid);
        }
    }
}
