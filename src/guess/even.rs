//! Facts about equal servers: whatever noise their answers have, each gets its share.

use super::tests::{server, valid};
use super::*;

const MILLI: f64 = 1e6;
const SERVERS: usize = 3;
const REQUESTS: usize = 3000;
const SEEDS: u64 = 200;
/// An answer takes this long, and by chance longer, exponentially with this mean; in milliseconds.
const WORK_MS: f64 = 1.0;
const NOISE_MS: f64 = 0.3;
/// Every so often on average one server, whichever, stands still for so long.
const HICCUP_EVERY_MS: f64 = 100.0;
const HICCUP_MS: f64 = 5.0;
/// Servers are checked once a second.
const CHECK_EVERY: u64 = 1_000_000_000;

/// A request under way.
struct Open {
    due: u64,
    client: usize,
    ticket: Ticket,
}

/// Equal servers with hiccups, and time.
struct Fleet {
    guess: Guess,
    seed: u64,
    now: u64,
    open: Vec<Open>,
    got: [usize; SERVERS],
    still_until: [u64; SERVERS],
    hiccup_at: u64,
    check_at: u64,
}

impl Fleet {
    fn new(seed: u64, has_hiccups: bool) -> Fleet {
        Fleet {
            guess: valid(Policy::BestGuess, &vec![server(1.0, None); SERVERS]),
            // Neighbouring states begin alike; a large odd factor takes them apart.
            seed: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
            now: 0,
            open: Vec::new(),
            got: [0; SERVERS],
            still_until: [0; SERVERS],
            hiccup_at: if has_hiccups { 0 } else { u64::MAX },
            check_at: 0,
        }
    }

    /// So many clients, each of which sends its next request when it has an answer, 3,000 requests
    /// in all: how many each server got.
    fn run(mut self, clients: usize) -> [usize; SERVERS] {
        for client in 0..clients {
            self.send(client);
        }
        while let Some(client) = self.next_answer() {
            if self.got.iter().sum::<usize>() < REQUESTS {
                self.send(client);
            }
        }
        self.got
    }

    fn exponential(&mut self, mean_ms: f64) -> u64 {
        (-(1.0 - random(&mut self.seed)).ln() * mean_ms * MILLI) as u64
    }

    fn send(&mut self, client: usize) {
        let Pick::Server(server) = self.guess.pick(Time(self.now), &[]) else {
            panic!("nobody")
        };
        self.got[server] += 1;
        let ticket = self.guess.dispatched(Time(self.now), server);
        let due = self.now + (WORK_MS * MILLI) as u64 + self.exponential(NOISE_MS);
        self.open.push(Open {
            due,
            client,
            ticket,
        });
    }

    /// Whose request is answered next; none: nothing is under way.
    fn next_answer(&mut self) -> Option<usize> {
        loop {
            let first = (0..self.open.len()).min_by_key(|index| self.open[*index].due)?;
            let due = self.open[first].due;
            if due >= self.hiccup_at || due >= self.check_at {
                self.disturb();
                continue;
            }
            let server = self.open[first].ticket.server as usize;
            if due < self.still_until[server] {
                self.open[first].due = self.still_until[server];
                continue;
            }
            self.now = due;
            let mut open = self.open.swap_remove(first);
            self.guess.answered(Time(due), &mut open.ticket, 200, false);
            self.guess
                .finished(Time(due), &open.ticket, Outcome::Served);
            return Some(open.client);
        }
    }

    /// What comes before the next answer: a hiccup, or a check.
    fn disturb(&mut self) {
        if self.hiccup_at < self.check_at {
            self.now = self.hiccup_at;
            if self.now > 0 {
                let server = (random(&mut self.seed) * SERVERS as f64) as usize;
                self.still_until[server] = self.now + (HICCUP_MS * MILLI) as u64;
            }
            self.hiccup_at = self.now + self.exponential(HICCUP_EVERY_MS) + 1;
            return;
        }
        self.now = self.check_at;
        self.check_at += CHECK_EVERY;
        for server in 0..SERVERS {
            let report = Report {
                errors: 0,
                load: self.got[server] as u64,
            };
            let told = Said {
                in_flight: Some(f64::from(self.guess.in_flight(server))),
                ..Said::default()
            };
            let now = Time(self.now);
            self.guess.asked(server);
            self.guess.reported(now, server, report);
            self.guess.told(now, server, &told);
        }
    }
}

/// Runs of all these seeds in which one server got over 10 % more than another.
fn uneven(has_hiccups: bool, clients: usize) -> Vec<(u64, [usize; SERVERS])> {
    (1..=SEEDS)
        .map(|seed| (seed, Fleet::new(seed, has_hiccups).run(clients)))
        .filter(|(_, got)| {
            assert_eq!(got.iter().sum::<usize>(), REQUESTS);
            let most = got.iter().max().map_or(0, |most| 10 * most);
            got.iter().any(|got| 11 * got < most)
        })
        .collect()
}

#[test]
fn noise_prefers_no_server_to_its_equals() {
    for clients in [1, 16] {
        let uneven = uneven(false, clients);
        assert!(
            uneven.is_empty(),
            "{clients} clients, {} of {SEEDS} seeds: {uneven:?}",
            uneven.len()
        );
    }
}

/// A few hiccups in a row look like a slow server, and rarely hit one in its first answers.
#[test]
fn hiccups_of_equal_servers_are_held_against_one_in_a_hundred_runs_at_most() {
    for clients in [1, 16] {
        let uneven = uneven(true, clients);
        assert!(
            uneven.len() as u64 <= SEEDS / 100,
            "{clients} clients, {} of {SEEDS} seeds: {uneven:?}",
            uneven.len()
        );
    }
}

#[test]
fn a_slow_first_answer_makes_nobody_swift() {
    let mut guess = valid(Policy::BestGuess, &vec![server(1.0, None); SERVERS]);
    let mut got = [0; SERVERS];
    let mut now = 0;
    for request in 0..REQUESTS {
        let Pick::Server(server) = guess.pick(Time(now), &[]) else {
            panic!("nobody")
        };
        got[server] += 1;
        let mut ticket = guess.dispatched(Time(now), server);
        now += if request == 0 { 6_000_000 } else { 1_000_000 };
        guess.answered(Time(now), &mut ticket, 200, false);
        guess.finished(Time(now), &ticket, Outcome::Served);
    }
    assert!(got.iter().all(|got| (950..1050).contains(got)), "{got:?}");
}
