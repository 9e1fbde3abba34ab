//! The guess: which server gets the next request.
//!
//! Pure: no clock, no sockets; it is told what was dispatched, answered, failed and reported, and
//! picks. Everything that a policy may know comes in here, and nothing but a pick goes out. Nothing is
//! allocated once it stands, but for a server that comes.
//!
//! # How it guesses
//!
//! We learn from all traffic how long an answer takes at each number of requests in flight
//! (`curve`), and how much slower each server is (`slowness`). Differences count only beyond the noise
//! (`noise`). A server that goes silent is expected to take as long as it has been silent (`silence`).
//! A failure weighs as much as a hundred answers, and near-certain faults are benched, but never in an
//! outage that all share (`evidence`). A server that turns work away while as busy as the rest is
//! full, not broken, so it gets a cap (`cap`). Where servers look equal, the original rule decides
//! (`report`): least reported load, then fewest errors, then the longest unused; but where others send
//! to them too (`others`), chance decides, so that balancers do not herd.
//!
//! | room | what it knows |
//! |---|---|
//! | `best` | the score, its parts, the pick |
//! | `curve`, `price` | the time at so many in flight; what being busy costs those behind |
//! | `slowness`, `silence`, `evidence`, `cap`, `others` | one server's speed, hang, faults, room, foreign work |
//! | `report`, `server` | what servers say of themselves; what every policy knows of one |
//! | `members` | servers that come and go |
//! | `tree`, `noise` | the least of many at hand; means and what they hide |
//! | `plain` | the policies that keep no score |
//! | `reasons` | a guess explained |
//!
//! # The life of a request here
//!
//! [`Guess::pick`], then [`Guess::explain`] for who wants to know why, [`Guess::dispatched`] which
//! gives a [`Ticket`], [`Guess::answered`] at the response's head, [`Guess::finished`] at its end or at
//! any other. Between them, at any time: [`Guess::asked`], [`Guess::reported`], [`Guess::told`],
//! [`Guess::stand`], and for the operator [`Guess::add`], [`Guess::retire`], [`Guess::drain`],
//! [`Guess::enable`], [`Guess::configure`] and [`Guess::settle`].

mod best;
mod cap;
mod curve;
mod detour;
mod evidence;
mod members;
mod noise;
mod others;
mod plain;
mod price;
mod reasons;
mod report;
mod server;
mod silence;
mod slowness;
mod tree;

use std::time::Duration;

use crate::config::{Policy, ServerConfig};
use crate::health::Standing;
use crate::net::Time;
use crate::report::{Report, Said};
use best::Best;
use server::Server;

pub use reasons::{Fitness, Reason, Reasons, Rule};

/// Servers that are looked at per request, on average and at most, for what silences leave behind.
const LEVELLED_PER_REQUEST: u64 = 16;

/// The choice of a server among all.
#[derive(Debug)]
pub struct Guess {
    policy: Policy,
    servers: Vec<Server>,
    best: Best,
    /// Over so long the weight of a server that is back rises.
    slow_start: Duration,
    /// Statuses that a request which may be repeated is not left with: another server is asked.
    repeated: Vec<u16>,
    /// What has decided in this guess's stead.
    given: Option<Rule>,
    /// Requests dispatched so far.
    turn: u64,
    /// The number of the request from which on a silence is looked at for the load again.
    level_next: u64,
    /// How far round-robin has got: the account of the server that was chosen last.
    round: f64,
    /// The state of the generator behind the plain policies of chance.
    seed: u64,
}

/// The outcome of a pick.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pick {
    /// This one.
    Server(usize),
    /// None has room: every one that may be chosen serves its most already.
    Full,
    /// None may be chosen: every one is invalid, or failed this request before.
    Nobody,
}

/// What is remembered of a request while it is at its server.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ticket {
    sent: Time,
    server: u32,
    /// How busy the server was when it was sent.
    busy: f32,
    is_answered: bool,
}

/// How a server failed a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// No connection came about.
    Refused,
    /// The connection broke.
    Reset,
    /// Nothing came in time.
    TimedOut,
    /// What came is no valid response.
    Broken,
}

/// Whether a server that answers with `status` has failed the request (RFC 9110 §15.6): other errors
/// say more of the request than of the server.
pub fn is_failure(status: u16) -> bool {
    matches!(status, 500 | 502 | 503 | 504)
}

/// What an exchange came to, seen from its server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The response, of which `answered` told, is over.
    Served,
    /// The server failed it.
    Failed(Failure),
    /// The client left, or the request never got there: it tells nothing of the server.
    Abandoned,
}

impl Ticket {
    /// How long the request has been at its server by now; none once that has answered.
    pub fn waits(&self, now: Time) -> Option<Duration> {
        (!self.is_answered).then(|| now.since(self.sent))
    }

    /// The last of the request's content has gone out: the server's time counts from now, not that
    /// of a client that was slow to send it.
    pub fn sent_whole(&mut self, now: Time) {
        self.sent = now;
    }

    /// How long the request has been at its server.
    pub fn age(&self, now: Time) -> Duration {
        now.since(self.sent)
    }
}

impl Guess {
    /// A guess among `servers` (at least one); `seed` decides what chance decides.
    pub fn new(policy: Policy, servers: &[ServerConfig], seed: u64) -> Guess {
        let weights: f64 = servers.iter().map(|server| server.weight).sum();
        let mean = weights / servers.len() as f64;
        let mut guess = Guess {
            policy,
            servers: servers
                .iter()
                .map(|config| Server::new(config, mean))
                .collect(),
            best: Best::new(servers.len(), seed | 1),
            slow_start: Duration::ZERO,
            repeated: Vec::new(),
            given: None,
            turn: 0,
            level_next: 0,
            round: 0.0,
            seed: seed | 1,
        };
        guess.best.has_backups = servers.iter().any(|server| server.backup);
        for server in 0..servers.len() {
            guess.refresh(Time(0), server);
        }
        guess
    }

    /// The same, where the weight of a server that is back, or new, rises over `span` from a tenth to
    /// all of it.
    pub fn slow_start(mut self, span: Duration) -> Guess {
        self.slow_start = span;
        self
    }

    /// The same, where a request that may be repeated goes on to another server after these statuses.
    pub fn repeated(mut self, statuses: &[u16]) -> Guess {
        self.repeated = statuses.to_vec();
        self
    }

    /// As `pick`. A request that may be repeated can also go to a server that fails at times, where
    /// all others are so busy that this is worth the risk of having to ask one of them after all.
    pub fn choose(&mut self, now: Time, tried: &[u16], is_repeatable: bool) -> Pick {
        let pick = self.pick(now, tried);
        self.given = None;
        if let Pick::Server(winner) = pick
            && is_repeatable
            && tried.is_empty()
            && self.policy == Policy::BestGuess
            && let Some(detour) = self.best.detour(now, &self.servers, self.turn, winner)
        {
            self.given = Some(Rule::Detour);
            return Pick::Server(detour);
        }
        pick
    }

    /// Whether `choose` has just taken a server that fails at times.
    pub fn is_detour(&self) -> bool {
        self.given == Some(Rule::Detour)
    }

    /// Chooses a server for one request that `tried` have failed already. Works in log2 of the number
    /// of servers with the best guess; plain policies, and requests that failed before, look at all.
    pub fn pick(&mut self, now: Time, tried: &[u16]) -> Pick {
        if self.policy != Policy::BestGuess {
            return self.pick_plain(now, tried);
        }
        let found = if tried.is_empty() {
            Some(self.best.pick(now, &self.servers, self.turn))
        } else {
            self.best.pick_besides(now, &self.servers, self.turn, tried)
        };
        match found {
            None | Some((_, best::NEVER)) => Pick::Nobody,
            Some((_, class)) if class % best::PLACES == best::FULL => Pick::Full,
            Some((server, _)) => Pick::Server(server),
        }
    }

    /// A request goes to server `index`. The ticket comes back with `answered` and `finished`.
    pub fn dispatched(&mut self, now: Time, index: usize) -> Ticket {
        let mut ticket = Ticket {
            sent: now,
            server: index as u32,
            busy: 0.0,
            is_answered: false,
        };
        let Some(server) = self.servers.get_mut(index) else {
            return ticket;
        };
        if self.policy == Policy::BestGuess {
            ticket.busy = self.best.dispatched(now, index, server, self.turn) as f32;
        }
        self.turn += 1;
        server.in_flight += 1;
        server.picked = self.turn;
        let worth = server.worth(now);
        server.counts.sent(worth);
        if self.policy == Policy::RoundRobin {
            // Start-time fair queueing (Goyal 1996): who was away gets no share for that time.
            self.round = server.spent.max(self.round);
            server.spent = self.round + server.per_weight * worth;
        }
        self.refresh(now, index);
        ticket
    }

    /// The head of the final response has come, with this status (RFC 9110 §15) and perhaps with
    /// `Retry-After` (§10.2.3). Only the first call for a ticket counts; `finished` still follows.
    pub fn answered(&mut self, now: Time, ticket: &mut Ticket, status: u16, retry_after: bool) {
        let index = ticket.server as usize;
        let Some(server) = self.servers.get_mut(index) else {
            return;
        };
        if std::mem::replace(&mut ticket.is_answered, true) {
            return;
        }
        let is_full = retry_after && matches!(status, 429 | 503);
        let has_failed = !is_full && is_failure(status);
        if has_failed {
            server.counts.failed();
        }
        // Plain policies ask nobody what was learned.
        if self.policy != Policy::BestGuess {
            return;
        }
        let besides = server.in_flight.saturating_sub(1);
        if self.turn >= self.level_next && self.best.is_silent(now, index, server.in_flight) {
            // It stood still, and has no claim on what the others were sent meanwhile. To see what
            // that was takes a look at all, which among many is not for every request.
            self.level_next = self.turn + self.servers.len() as u64 / LEVELLED_PER_REQUEST;
            self.level(index, Standing::Valid);
        }
        if is_full {
            self.best.is_full(now, index, besides);
        } else if has_failed {
            let is_final = !self.repeated.contains(&status);
            self.best
                .failed(now, ticket, Failure::Broken, is_final, besides, self.turn);
        } else {
            self.best.served(now, ticket, besides + 1, self.turn);
        }
    }

    /// A request that went to a server is over.
    pub fn finished(&mut self, now: Time, ticket: &Ticket, outcome: Outcome) {
        let index = ticket.server as usize;
        let Some(server) = self.servers.get_mut(index) else {
            return;
        };
        debug_assert!(server.in_flight > 0);
        server.in_flight = server.in_flight.saturating_sub(1);
        if let Outcome::Failed(kind) = outcome {
            server.counts.failed();
            if self.policy == Policy::BestGuess {
                let is_final = matches!(kind, Failure::TimedOut | Failure::Broken);
                self.best
                    .failed(now, ticket, kind, is_final, server.in_flight, self.turn);
            }
        }
        self.refresh(now, index);
    }

    /// A report of server `index` is asked for: what is dispatched from now on may not be in it.
    pub fn asked(&mut self, index: usize) {
        if let Some(server) = self.servers.get_mut(index) {
            server.counts.asked();
        }
    }

    /// Server `index` has reported. Looks at all servers.
    pub fn reported(&mut self, now: Time, index: usize, report: Report) {
        let Some(server) = self.servers.get_mut(index) else {
            return;
        };
        let before = server.load();
        let delta = server.counts.reported(now, report);
        if delta.has_restarted {
            let others = self.load_of_others(index, Standing::Valid);
            if let Some(server) = self.servers.get_mut(index) {
                server.rise_to(others.unwrap_or(before));
            }
        }
        self.best.reported(now, index, delta);
        self.refresh(now, index);
    }

    /// Server `index` says this of itself.
    pub fn told(&mut self, now: Time, index: usize, told: &Said) {
        let Some(server) = self.servers.get_mut(index) else {
            return;
        };
        server.told(told);
        if let Some(in_flight) = told.in_flight.filter(|count| count.is_finite()) {
            self.best
                .told_in_flight(now, index, in_flight, server.in_flight);
        }
        self.refresh(now, index);
    }

    /// The standing of server `index` is now this. Looks at all servers.
    pub fn stand(&mut self, now: Time, index: usize, standing: Standing) {
        let Some(server) = self.servers.get_mut(index) else {
            return;
        };
        server.was_away |= matches!(server.standing, Standing::Refusing | Standing::Invalid);
        server.standing = standing;
        if server.was_away && matches!(standing, Standing::Valid | Standing::Unknown) {
            server.was_away = false;
            server.start_slowly(now, self.slow_start);
            self.level(index, standing);
        }
        self.refresh(now, index);
    }

    /// Whether server `index` itself asks for no new requests.
    pub fn asks_to_drain(&self, index: usize) -> bool {
        self.servers
            .get(index)
            .is_some_and(|server| server.is_draining)
    }

    /// Requests that are at server `index` now.
    pub fn in_flight(&self, index: usize) -> u32 {
        self.servers.get(index).map_or(0, |server| server.in_flight)
    }

    /// Something of the server has changed.
    fn refresh(&mut self, now: Time, index: usize) {
        if self.policy == Policy::BestGuess {
            self.best.change(now, &self.servers, index, self.turn);
        }
    }

    /// Server `index` was away: its load is not below those of all others that stand as well as
    /// `standing`. Looks at all servers.
    fn level(&mut self, index: usize, standing: Standing) {
        let others = self.load_of_others(index, standing);
        if let (Some(server), Some(others)) = (self.servers.get_mut(index), others) {
            server.rise_to(others);
        }
    }

    /// The least load per weight of those but `server` that stand as well as `standing` or better.
    fn load_of_others(&self, server: usize, standing: Standing) -> Option<f64> {
        self.servers
            .iter()
            .enumerate()
            .filter(|(index, other)| *index != server && other.standing() <= standing)
            .map(|(_, other)| other.load())
            .reduce(f64::min)
    }
}

/// The next of an even sequence of numbers in [0, 1): xorshift64* (Vigna 2016).
pub fn random(state: &mut u64) -> f64 {
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    let bits = state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11;
    bits as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod even;
#[cfg(test)]
mod life;
#[cfg(test)]
mod standby;
#[cfg(test)]
mod tests;
