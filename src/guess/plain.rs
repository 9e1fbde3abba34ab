//! The plain policies: each looks at every server once and keeps no score.

use super::server::Server;
use super::{Guess, Pick, random};
use crate::config::Policy;
use crate::health::Standing;
use crate::net::Time;

impl Guess {
    /// Chooses by a plain policy.
    pub(super) fn pick_plain(&mut self, now: Time, tried: &[u16]) -> Pick {
        let may = |(index, server): &(usize, &Server)| {
            server.standing() != Standing::Invalid && !tried.contains(&(*index as u16))
        };
        let Some(best_standing) = self
            .servers
            .iter()
            .enumerate()
            .filter(may)
            .map(|(_, server)| server.standing())
            .min()
        else {
            return Pick::Nobody;
        };
        let open = |entry: &(usize, &Server)| may(entry) && entry.1.standing() == best_standing;
        let free = |entry: &(usize, &Server)| open(entry) && entry.1.has_room();
        let free = self.servers.iter().enumerate().filter(free);
        // Backups stand by until no other has room.
        let is_backup = free.clone().all(|(_, server)| server.is_backup);
        let candidates = free.filter(|(_, server)| server.is_backup == is_backup);
        let weight = |server: &Server| server.weight * server.risen(now);
        let by_conn = |server: &Server| {
            (
                f64::from(server.in_flight) / weight(server),
                server.picked as f64,
            )
        };
        let chosen = match self.policy {
            // To the letter: what was dispatched since the report is not looked at.
            Policy::BestGuess | Policy::LeastLoad => least(candidates, |server| {
                (
                    server.counts.reported_load() as f64 / server.weight,
                    server.counts.errors() as f64,
                )
            }),
            Policy::LeastConn => least(candidates, by_conn),
            Policy::RoundRobin => least(candidates, |server| (server.spent, server.picked as f64)),
            Policy::Random => any(candidates, weight, &mut self.seed),
            Policy::PowerOfTwo => {
                let first = any(candidates.clone(), weight, &mut self.seed);
                let others = candidates
                    .clone()
                    .filter(|(index, _)| Some(*index) != first);
                let second = any(others, weight, &mut self.seed);
                let two =
                    |(index, _): &(usize, &Server)| Some(*index) == first || Some(*index) == second;
                least(candidates.filter(two), by_conn)
            }
        };
        chosen.map_or(Pick::Full, Pick::Server)
    }
}

/// The first of the `candidates` with the least key.
fn least<'s>(
    candidates: impl Iterator<Item = (usize, &'s Server)>,
    key: impl Fn(&Server) -> (f64, f64),
) -> Option<usize> {
    let mut best: Option<(usize, (f64, f64))> = None;
    for (index, server) in candidates {
        let key = key(server);
        if best.is_none_or(|(_, least)| key < least) {
            best = Some((index, key));
        }
    }
    best.map(|(index, _)| index)
}

/// Any of the `candidates`, with chances as their weights.
fn any<'s>(
    candidates: impl Iterator<Item = (usize, &'s Server)> + Clone,
    weight: impl Fn(&Server) -> f64,
    seed: &mut u64,
) -> Option<usize> {
    let total: f64 = candidates.clone().map(|(_, server)| weight(server)).sum();
    let mut left = random(seed) * total;
    let mut last = None;
    for (index, server) in candidates {
        last = Some(index);
        left -= weight(server);
        if left < 0.0 {
            break;
        }
    }
    last
}
