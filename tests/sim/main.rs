//! The loop, proved by simulation: every fault, every order, from a seed.
//!
//! `net` is the balancer's network, over the kernel of `kernel`; `clients` and `servers` are the
//! actors; `changes` is the operator, `admins` are those who come to the
//! admin listener, with `orders` of his; `check` with `asked` and `answered` reads along on every socket; `scenario` makes a seed
//! into trouble; `run` drives one seed through trouble, calm and an empty house, with
//! the processes of `processes`, which take over from one another.
//!
//! - `cargo test --test sim`: the committed seeds, a fixed range, and fresh ones.
//! - `SIM_SEED=7 cargo test --test sim -- --nocapture replay`: one seed; with `SIM_TRACE=1` all of
//!   its events.
//! - `SIM_SECONDS=60 cargo test --release --test sim -- --ignored --nocapture endless`: fresh seeds
//!   for a time (0: without end).
#![forbid(unsafe_code)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    missing_docs,
    unreachable_pub
)]

mod admins;
mod answered;
mod answers;
mod asked;
mod changes;
mod check;
mod clients;
mod kernel;
#[cfg(feature = "mutants")]
mod mutants;
mod net;
mod orders;
mod processes;
mod requests;
mod rng;
mod run;
mod scenario;
mod servers;
mod trace;
mod wire;
mod world;

use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, Once};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use check::Tally;
use run::{Report, run};
use scenario::Scenario;

/// Seeds that `cargo test` runs: the first so many numbers, and as many fresh ones at most.
const FIXED: u64 = 2000;
const FRESH: u64 = 400;

thread_local! {
    static PANIC_PLACE: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Where the last panic of this thread was.
fn take_panic_place() -> String {
    PANIC_PLACE.with(|place| std::mem::take(&mut *place.borrow_mut()))
}

/// Panics in a run are findings, told in one line at the end.
fn hush_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if std::thread::current().name() == Some("seeds") {
                let place = info
                    .location()
                    .map(|place| format!("at {}:{}", place.file(), place.line()));
                PANIC_PLACE.with(|kept| *kept.borrow_mut() = place.unwrap_or_default());
            } else {
                usual(info);
            }
        }));
    });
}

/// What came of many seeds.
#[derive(Debug, Default)]
struct Sum {
    seeds: u64,
    tally: Tally,
    turns: u64,
    failures: Vec<(u64, String)>,
}

/// Runs the seeds that `next` gives on two threads, until it gives none or `failures_max` failed.
fn run_all(next: impl Fn() -> Option<u64> + Sync, failures_max: usize) -> Sum {
    hush_panics();
    let sum = Mutex::new(Sum::default());
    let is_enough = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            let work = || {
                while !is_enough.load(Ordering::Relaxed)
                    && let Some(seed) = next()
                {
                    let report = run(seed, false);
                    let mut sum = sum.lock().unwrap();
                    sum.add(seed, &report);
                    if sum.failures.len() >= failures_max {
                        is_enough.store(true, Ordering::Relaxed);
                    }
                }
            };
            std::thread::Builder::new()
                .name("seeds".to_owned())
                .spawn_scoped(scope, work)
                .unwrap();
        }
    });
    sum.into_inner().unwrap()
}

impl Sum {
    fn add(&mut self, seed: u64, report: &Report) {
        self.seeds += 1;
        self.turns += report.turns;
        let (sum, one) = (&mut self.tally, &report.tally);
        sum.exchanges += one.exchanges;
        sum.whole += one.whole;
        sum.own += one.own;
        sum.cut += one.cut;
        sum.probes += one.probes;
        sum.orders += one.orders;
        sum.takeovers += one.takeovers;
        if let Some(failure) = &report.failure {
            println!("{}", describe(seed, failure, &report.tail));
            self.failures.push((seed, failure.clone()));
        }
    }

    fn print(&self, what: &str, began: Instant) {
        let seconds = began.elapsed().as_secs_f64();
        let Tally {
            exchanges,
            whole,
            own,
            cut,
            probes,
            orders,
            takeovers,
        } = self.tally;
        println!(
            "{what}: {} seeds, {exchanges} exchanges ({whole} whole, {own} refused, {cut} cut), {probes} checks, {orders} orders, {takeovers} takeovers, {} turns in {seconds:.1} s: {:.0} seeds/s, {:.0} exchanges/s",
            self.seeds,
            self.turns,
            self.seeds as f64 / seconds,
            exchanges as f64 / seconds,
        );
    }

    fn judge(&self) {
        let lines: Vec<String> = self
            .failures
            .iter()
            .map(|(seed, failure)| line(*seed, failure))
            .collect();
        assert!(
            lines.is_empty(),
            "{} seeds failed:\n{}",
            lines.len(),
            lines.join("\n")
        );
    }
}

fn line(seed: u64, failure: &str) -> String {
    format!("SIM_SEED={seed} cargo test --test sim -- --nocapture replay   # {failure}")
}

fn describe(seed: u64, failure: &str, tail: &str) -> String {
    format!("{tail}  {}\n{}", Scenario::new(seed), line(seed, failure))
}

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn fresh_base() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    rng::Rng::new(since.as_nanos() as u64).next() >> 16
}

#[test]
fn known_seeds_hold() {
    if variable("SIM_SEED").is_some() {
        return;
    }
    let began = Instant::now();
    let mended: Vec<u64> = include_str!("regressions.txt")
        .lines()
        .filter_map(|line| line.split_whitespace().next()?.parse().ok())
        .collect();
    let next = AtomicU64::new(0);
    let sum = run_all(
        || {
            let index = next.fetch_add(1, Ordering::Relaxed);
            match mended.get(index as usize) {
                Some(seed) => Some(*seed),
                None => Some(index - mended.len() as u64).filter(|seed| *seed < FIXED),
            }
        },
        10,
    );
    sum.print("known seeds", began);
    let (orders, takeovers) = (sum.tally.orders, sum.tally.takeovers);
    assert!(
        orders > 0 && takeovers > 0,
        "{orders} orders, {takeovers} takeovers"
    );
    sum.judge();
}

#[test]
fn fresh_seeds_hold() {
    if variable("SIM_SEED").is_some() {
        return;
    }
    let began = Instant::now();
    let base = fresh_base();
    println!("fresh seeds from {base}");
    let next = AtomicU64::new(base);
    let sum = run_all(
        || {
            Some(next.fetch_add(1, Ordering::Relaxed))
                .filter(|seed| *seed < base + FRESH && began.elapsed() < Duration::from_secs(20))
        },
        10,
    );
    sum.print("fresh seeds", began);
    sum.judge();
}

#[test]
fn the_same_seed_is_the_same_run() {
    for seed in 0..20 {
        let (one, two) = (run(seed, false), run(seed, false));
        assert_eq!(
            (one.hash, one.turns, one.failure),
            (two.hash, two.turns, two.failure),
            "seed {seed}"
        );
    }
}

#[test]
fn replay() {
    let Some(seed) = variable("SIM_SEED") else {
        return;
    };
    let is_loud = variable("SIM_TRACE").is_some();
    let report = run(seed, is_loud);
    println!(
        "{}\n{:?}, {} turns, {} virtual ms, hash {:x}",
        Scenario::new(seed),
        report.tally,
        report.turns,
        report.virtual_ns / 1_000_000,
        report.hash
    );
    if let Some(failure) = &report.failure {
        panic!("{}", describe(seed, failure, &report.tail));
    }
}

#[test]
#[ignore = "runs for as long as SIM_SECONDS says; 0: without end"]
fn endless() {
    let began = Instant::now();
    let seconds = variable("SIM_SECONDS").unwrap_or(0);
    let base = variable("SIM_BASE").unwrap_or_else(fresh_base);
    let most = variable("SIM_COUNT").unwrap_or(u64::MAX);
    println!("seeds from {base}");
    let next = AtomicU64::new(base);
    let sum = run_all(
        || {
            let is_time = seconds == 0 || began.elapsed() < Duration::from_secs(seconds);
            let seed = next.fetch_add(1, Ordering::Relaxed);
            (is_time && seed - base < most).then_some(seed)
        },
        variable("SIM_FAILURES").unwrap_or(10) as usize,
    );
    sum.print("endless", began);
    sum.judge();
}
