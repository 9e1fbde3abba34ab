//! The guess: which server gets the next request.
//!
//! Pure: no clock, no sockets; it is told what was dispatched, answered, failed and reported, and
//! picks. Everything that a policy may know comes in here, and nothing but a pick goes out.
//! A pick looks at every server once and allocates nothing.

use std::time::Duration;

use crate::config::{Policy, ServerConfig};
use crate::health::{Report, Standing};
use crate::net::Time;

/// The choice of a server among all.
#[derive(Debug)]
pub struct Guess {
    policy: Policy,
    servers: Vec<Server>,
    /// Requests dispatched so far.
    turn: u64,
    /// How far round-robin has got: the account of the server that was chosen last.
    round: f64,
    /// The state of the generator behind `Policy::Random`.
    seed: u64,
}

/// What is known of one server.
#[derive(Debug)]
struct Server {
    standing: Standing,
    weight: f64,
    max: u32,
    in_flight: u32,
    report: Report,
    /// Added to the reported load: what the others were ahead when it came back.
    level: f64,
    /// Dispatched since the last report was asked for, and since the one before.
    since: u64,
    since_asked: u64,
    /// The number of the pick that chose it last.
    picked: u64,
    /// Round-robin's account: each request adds what it costs, less for a higher weight.
    spent: f64,
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

/// What an exchange came to, seen from its server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It answered with this status, its first byte after this time.
    Answered(u16, Duration),
    /// It refused, broke off, or was too late.
    Failed,
    /// The client left: it tells nothing of the server.
    Abandoned,
}

impl Guess {
    /// A guess among `servers` (at least one); `seed` decides what chance decides.
    pub fn new(policy: Policy, servers: &[ServerConfig], seed: u64) -> Guess {
        let servers = servers
            .iter()
            .map(|config| Server {
                standing: Standing::Unknown,
                weight: config.weight,
                max: config.max.unwrap_or(u32::MAX),
                in_flight: 0,
                report: Report::default(),
                level: 0.0,
                since: 0,
                since_asked: 0,
                picked: 0,
                spent: 0.0,
            })
            .collect();
        Guess {
            policy,
            servers,
            turn: 0,
            round: 0.0,
            seed: seed | 1,
        }
    }

    /// Chooses a server for one request that `tried` have failed already. `_now` is for policies
    /// that look at the clock.
    pub fn pick(&mut self, _now: Time, tried: &[u16]) -> Pick {
        let may = |(index, server): &(usize, &Server)| {
            server.standing != Standing::Invalid && !tried.contains(&(*index as u16))
        };
        let Some(best_standing) = self
            .servers
            .iter()
            .enumerate()
            .filter(may)
            .map(|(_, server)| server.standing)
            .min()
        else {
            return Pick::Nobody;
        };
        let open = |entry: &(usize, &Server)| may(entry) && entry.1.standing == best_standing;
        let free = |entry: &(usize, &Server)| open(entry) && entry.1.in_flight < entry.1.max;
        let candidates = self.servers.iter().enumerate().filter(free);
        let chosen = match self.policy {
            Policy::BestGuess => least(candidates, |server| {
                (
                    server.estimate(),
                    server.report.errors as f64,
                    server.picked as f64,
                )
            }),
            // To the letter: what was dispatched since the report is not looked at.
            Policy::LeastLoad => least(candidates, |server| {
                (
                    server.report.load as f64 / server.weight,
                    server.report.errors as f64,
                    0.0,
                )
            }),
            Policy::LeastConn => least(candidates, |server| {
                (
                    f64::from(server.in_flight) / server.weight,
                    server.picked as f64,
                    0.0,
                )
            }),
            Policy::RoundRobin => least(candidates, |server| {
                (server.spent, server.picked as f64, 0.0)
            }),
            Policy::Random => {
                let total: f64 = candidates.clone().map(|(_, server)| server.weight).sum();
                let mut left = random(&mut self.seed) * total;
                let mut last = None;
                for (index, server) in candidates {
                    last = Some(index);
                    left -= server.weight;
                    if left < 0.0 {
                        break;
                    }
                }
                last
            }
        };
        chosen.map_or(Pick::Full, Pick::Server)
    }

    /// A request goes to `server`.
    pub fn dispatched(&mut self, _now: Time, server: usize) {
        self.turn += 1;
        if let Some(server) = self.servers.get_mut(server) {
            server.in_flight += 1;
            server.since += 1;
            server.since_asked += 1;
            server.picked = self.turn;
            // Start-time fair queueing (Goyal 1996): who was away gets no share for that time.
            self.round = server.spent.max(self.round);
            server.spent = self.round + 1.0 / server.weight;
        }
    }

    /// A request that went to `server` is over.
    pub fn finished(&mut self, _now: Time, server: usize, _outcome: Outcome) {
        if let Some(server) = self.servers.get_mut(server) {
            debug_assert!(server.in_flight > 0);
            server.in_flight = server.in_flight.saturating_sub(1);
        }
    }

    /// A report of `server` is asked for: what is dispatched from now on may not be in it.
    pub fn asked(&mut self, server: usize) {
        if let Some(server) = self.servers.get_mut(server) {
            server.since_asked = 0;
        }
    }

    /// `server` has reported.
    pub fn reported(&mut self, server: usize, report: Report) {
        let others = self.estimate_of_others(server, Standing::Valid);
        if let Some(server) = self.servers.get_mut(server) {
            let before = server.estimate();
            let restarted = report.load < server.report.load;
            server.report = report;
            server.since = server.since_asked;
            if restarted {
                server.level = 0.0;
                server.rise_to(others.unwrap_or(before));
            }
        }
    }

    /// The standing of `server` is now this.
    pub fn stand(&mut self, server: usize, standing: Standing) {
        let others = self.estimate_of_others(server, standing);
        if let Some(server) = self.servers.get_mut(server) {
            let was_away = matches!(server.standing, Standing::Refusing | Standing::Invalid);
            server.standing = standing;
            if was_away
                && matches!(standing, Standing::Valid | Standing::Unknown)
                && let Some(others) = others
            {
                server.rise_to(others);
            }
        }
    }

    /// Requests that are at `server` now.
    pub fn in_flight(&self, server: usize) -> u32 {
        self.servers
            .get(server)
            .map_or(0, |server| server.in_flight)
    }

    /// The least estimate among those but `server` that stand as well as `standing` or better.
    fn estimate_of_others(&self, server: usize, standing: Standing) -> Option<f64> {
        self.servers
            .iter()
            .enumerate()
            .filter(|(index, other)| *index != server && other.standing <= standing)
            .map(|(_, other)| other.estimate())
            .reduce(f64::min)
    }
}

impl Server {
    /// The load that it has by now, as far as one can tell.
    fn estimate(&self) -> f64 {
        (self.report.load as f64 + self.level + self.since as f64) / self.weight
    }

    /// Sees to it that its estimate is not below `least`. A count that began anew, or stood still
    /// while the server was away, would draw every request until it has caught up with the others:
    /// it goes on beside them instead.
    fn rise_to(&mut self, least: f64) {
        self.level += ((least - self.estimate()) * self.weight).max(0.0);
    }
}

/// The first of the `candidates` with the least key.
fn least<'s>(
    candidates: impl Iterator<Item = (usize, &'s Server)>,
    key: impl Fn(&Server) -> (f64, f64, f64),
) -> Option<usize> {
    let mut best: Option<(usize, (f64, f64, f64))> = None;
    for (index, server) in candidates {
        let key = key(server);
        if best.is_none_or(|(_, least)| key < least) {
            best = Some((index, key));
        }
    }
    best.map(|(index, _)| index)
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
mod tests;
