//! Detours: what a server that fails at times is worth to a request that may be repeated.
//!
//! Nobody sees a failure that another server makes up for. It costs the time of the detour, not the
//! hundred answers that `evidence` charges. So where all others are busy, and only there, such requests
//! go to a suspect as well: to one that is expected to be clearly sooner although it serves only a
//! part of what it is asked. One that fails everything serves no part, and gets nothing.

use super::best::{Best, FIT, PLACES};
use super::noise::Mean;
use super::server::Server;
use crate::health::Standing;
use crate::net::Time;

/// A detour is worth it where the best of all others is expected to take so many times as long.
const WORTH: f64 = 1.5;
/// Outcomes that tell which part a suspect serves.
const LATELY_MOST: f64 = 16.0;

/// What a server has lately done for those who asked it although it had failed.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Lately {
    /// The share of failures; counts nothing while it is no suspect.
    failures: Mean,
    /// It has failed in a way that no other server makes up for.
    is_final: bool,
}

impl Lately {
    /// It has failed a request; `is_final`: one that may be repeated is not saved from that.
    pub(super) fn failed(&mut self, is_final: bool) {
        if !self.is_suspect() {
            self.failures = Mean::of_zeros(LATELY_MOST);
        }
        self.failures.add(1.0, LATELY_MOST);
        self.is_final |= is_final;
    }

    /// It has served a request.
    pub(super) fn served(&mut self) {
        if self.is_suspect() {
            self.failures.add(0.0, LATELY_MOST);
        }
    }

    /// Whether it has failed, and may still be at fault.
    fn is_suspect(&self) -> bool {
        self.failures.count() > 0.0
    }

    /// The part that it serves, 0 to 1; 0 where a failure is final.
    fn part(&self) -> f64 {
        match self.is_final {
            true => 0.0,
            false => 1.0 - self.failures.value(),
        }
    }
}

/// The servers that have failed and may still be at fault.
#[derive(Debug, Default)]
pub(super) struct Suspects(Vec<usize>);

impl Suspects {
    pub(super) fn add(&mut self, server: usize) {
        if !self.0.contains(&server) {
            self.0.push(server);
        }
    }

    /// One of them, another with each pick.
    fn at(&self, turn: u64) -> Option<usize> {
        let place = turn.checked_rem(self.0.len() as u64)?;
        self.0.get(place as usize).copied()
    }

    fn remove(&mut self, server: usize) {
        self.0.retain(|suspect| *suspect != server);
    }
}

impl Best {
    /// A suspect that a request which may be repeated should rather ask than `winner`, the best of
    /// all. Looks at one of them with each pick, in turn.
    pub(super) fn detour(
        &mut self,
        now: Time,
        servers: &[Server],
        turn: u64,
        winner: usize,
    ) -> Option<usize> {
        let suspect = self.suspects.at(turn)?;
        if self.servers[suspect].evidence.is_clear(now, &self.errors) {
            self.servers[suspect].lately = Lately::default();
            self.suspects.remove(suspect);
            return None;
        }
        let (server, learned) = (&servers[suspect], &self.servers[suspect]);
        let may = server.standing() == Standing::Valid
            && server.has_room()
            && !server.is_backup
            && !learned.cap.is_reached(server.in_flight);
        let is_fit = self.key(winner).class() == PLACES * Standing::Valid as u32 + FIT;
        if !may || !is_fit || suspect == winner || !self.knows_times() {
            return None;
        }
        let time = self.parts(now, server, learned, turn).time();
        let usual = self.parts(now, &servers[winner], &self.servers[winner], turn);
        (WORTH * time < learned.lately.part() * usual.score()).then_some(suspect)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_part_that_a_suspect_serves_is_that_of_its_last_few_answers() {
        let mut lately = Lately::default();
        lately.served();
        assert!(!lately.is_suspect());
        // A first failure is one among those that it had not.
        lately.failed(false);
        assert!(lately.is_suspect());
        assert!((0.9..1.0).contains(&lately.part()), "{}", lately.part());
        for _ in 0..100 {
            lately.failed(false);
        }
        assert!(lately.part() < 0.01, "{}", lately.part());
        for _ in 0..40 {
            for _ in 0..3 {
                lately.served();
            }
            lately.failed(false);
        }
        assert!((0.65..0.8).contains(&lately.part()), "{}", lately.part());
    }

    #[test]
    fn who_fails_for_good_serves_no_part() {
        let mut lately = Lately::default();
        lately.failed(true);
        lately.served();
        assert_eq!(lately.part(), 0.0);
    }

    #[test]
    fn suspects_take_turns_and_are_listed_once() {
        let mut suspects = Suspects::default();
        assert_eq!(suspects.at(3), None);
        for server in [5, 2, 5] {
            suspects.add(server);
        }
        assert_eq!(
            [0, 1, 2].map(|turn| suspects.at(turn)),
            [Some(5), Some(2), Some(5)]
        );
        suspects.remove(5);
        assert_eq!(suspects.at(1), Some(2));
    }
}
