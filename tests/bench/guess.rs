//! What a guess costs: nanoseconds per pick, and per request for all the work of the policy.
//!
//!     cargo bench --bench guess
//!
//! Each figure is the least of several runs, so that what else the machine does shows little. A
//! request is a pick, its dispatch, its answer and its end; a pick is measured as what a request with
//! two picks costs more, so each pick meets a state that has changed since the last.

use std::hint::black_box;
use std::time::{Duration, Instant};

use bestguess::config::{Address, Policy, ServerConfig};
use bestguess::guess::{Guess, Outcome, Pick, Ticket, random};
use bestguess::health::Standing;
use bestguess::net::Time;

/// Servers in each row.
const SIZES: [usize; 6] = [1, 2, 3, 16, 100, 1000];
/// Requests per run, and runs.
const REQUESTS: u64 = 200_000;
const RUNS: usize = 7;
/// Requests in flight per server.
const BUSY: usize = 4;

fn main() {
    let policies = [
        Policy::BestGuess,
        Policy::LeastLoad,
        Policy::RoundRobin,
        Policy::LeastConn,
        Policy::Random,
        Policy::PowerOfTwo,
    ];
    let row = |name: &str, cells: Vec<String>| {
        let cells: String = cells.iter().map(|cell| format!("{cell:>9}")).collect();
        write_line(&format!("{name:<24}{cells}"));
    };
    row("ns, by servers", SIZES.map(|size| size.to_string()).into());
    for policy in policies {
        let times = SIZES.map(|size| {
            let once = least(policy, size, 1);
            (once, least(policy, size, 2) - once)
        });
        row(
            &format!("{policy}, pick"),
            times.map(|(_, pick)| format!("{pick:.0}")).into(),
        );
        row(
            &format!("{policy}, request"),
            times.map(|(all, _)| format!("{all:.0}")).into(),
        );
    }
}

#[allow(clippy::print_stdout)] // figures are what a benchmark is for
fn write_line(text: &str) {
    println!("{text}");
}

/// Nanoseconds per request with `picks` picks each, the least of all runs.
fn least(policy: Policy, servers: usize, picks: u32) -> f64 {
    let mut least = f64::MAX;
    for _ in 0..RUNS {
        least = least.min(run(policy, servers, picks));
    }
    least
}

fn run(policy: Policy, servers: usize, picks: u32) -> f64 {
    let config = ServerConfig::new(Address::Tcp(([127, 0, 0, 1], 9001).into()));
    let mut guess = Guess::new(policy, &vec![config; servers], 1);
    for server in 0..servers {
        guess.stand(Time(0), server, Standing::Valid);
    }
    let mut now = Time(0);
    let mut seed = 7;
    // Which request ends next, and when a request comes, is drawn before the clock runs.
    let draws: Vec<(usize, Duration)> = (0..4096)
        .map(|_| {
            let ends = (random(&mut seed) * (servers * BUSY) as f64) as usize;
            let after = 2e6 * random(&mut seed) / servers as f64;
            (ends, Duration::from_nanos(after as u64))
        })
        .collect();
    let mut tickets: Vec<Ticket> = Vec::new();
    while tickets.len() < servers * BUSY {
        let Pick::Server(server) = guess.pick(now, &[]) else {
            unreachable!("all servers are valid");
        };
        tickets.push(guess.dispatched(now, server));
    }
    let mut started = Instant::now();
    for request in 0..REQUESTS + REQUESTS / 4 {
        if request == REQUESTS / 4 {
            started = Instant::now();
        }
        let (ends, after) = draws[request as usize % draws.len()];
        now = now + after;
        for _ in 1..picks {
            black_box(guess.pick(now, &[]));
        }
        let Pick::Server(server) = guess.pick(now, &[]) else {
            unreachable!("all servers are valid");
        };
        let mut ticket = std::mem::replace(&mut tickets[ends], guess.dispatched(now, server));
        guess.answered(now, &mut ticket, 200, false);
        guess.finished(now, &ticket, Outcome::Served);
    }
    started.elapsed().as_nanos() as f64 / REQUESTS as f64
}
