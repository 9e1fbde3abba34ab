//! What the choice of a server is worth: times and errors that clients see, policy by policy, while
//! servers are slow, fail, stand still or restart.
//!
//!     cargo bench --bench scenarios
//!     cargo bench --bench scenarios -- hang pauses
//!
//! Everything is simulated on virtual time (`world`), so the figures follow from the seeds alone and
//! not from the machine: what differs after a change, the change did. Only the guess is the real
//! thing, told of everything in the order in which the balancer tells it. Every policy meets the same
//! requests: they come at the same moments and need the same work.

#[path = "scenarios/machine.rs"]
mod machine;
#[path = "scenarios/world.rs"]
mod world;

use std::process::ExitCode;

use bestguess::config::Policy;
use machine::{Change, Spread};
use world::{Scenario, Tally};

const POLICIES: [Policy; 6] = [
    Policy::BestGuess,
    Policy::LeastLoad,
    Policy::RoundRobin,
    Policy::LeastConn,
    Policy::Random,
    Policy::PowerOfTwo,
];
/// All requests together, as a share of the capacity that the disturbance leaves.
const LOADS: [f64; 2] = [0.6, 0.9];
const OVERLOAD: [f64; 1] = [1.15];
/// Runs of each row, whose requests are counted together.
const SEEDS: [u64; 3] = [1, 2, 3];
/// Servers, and the mean time that each works on a request, unless the scenario says otherwise.
const SERVERS: usize = 6;
const MEAN_MS: f64 = 8.0;

fn main() -> ExitCode {
    // Cargo adds options of its own harness.
    let wanted: Vec<String> = std::env::args()
        .skip(1)
        .filter(|argument| !argument.starts_with('-'))
        .collect();
    let (normal, overload) = (scenarios(), overload());
    let all = || normal.iter().chain([&overload]);
    for name in &wanted {
        if all().all(|scenario| scenario.name != name) {
            let names: Vec<&str> = all().map(|scenario| scenario.name).collect();
            complain(&format!(
                "no scenario is called {name}: there are {}",
                names.join(", ")
            ));
            return ExitCode::from(2);
        }
    }
    let is_wanted =
        |scenario: &&Scenario| wanted.is_empty() || wanted.iter().any(|name| name == scenario.name);
    let normal: Vec<&Scenario> = normal.iter().filter(is_wanted).collect();
    if !normal.is_empty() {
        table(&normal, &LOADS);
    }
    if is_wanted(&&overload) {
        // Without an empty line Markdown takes two tables for one.
        write_line("");
        table(&[&overload], &OVERLOAD);
    }
    ExitCode::SUCCESS
}

/// Servers of one speed; `changes` leave the share `left` of their capacity.
fn equal(name: &'static str, left: f64, changes: Vec<(f64, usize, Change)>) -> Scenario {
    Scenario {
        name,
        means_ms: vec![MEAN_MS; SERVERS],
        spread: Spread::Exponential,
        changes,
        left,
        foreign: (0, 0.0),
    }
}

fn scenarios() -> Vec<Scenario> {
    let all_but = |away: f64| 1.0 - away / SERVERS as f64;
    let pauses = (1..10).map(|round| (3.0 * f64::from(round), 0, Change::Pause(300)));
    vec![
        equal("uniform", 1.0, Vec::new()),
        Scenario {
            means_ms: vec![8.0, 8.0, 8.0, 8.0, 16.0, 32.0],
            spread: Spread::Lognormal(1.0),
            ..equal("mixed", 1.0, Vec::new())
        },
        equal(
            "sinkhole",
            all_but(1.0),
            vec![(5.0, 0, Change::Break), (25.0, 0, Change::Mend)],
        ),
        equal("hang", all_but(1.0), vec![(5.0, 0, Change::Pause(15_000))]),
        equal(
            "restart",
            all_but(1.0),
            vec![
                (5.3, 0, Change::Kill(3000)),
                (12.7, 1, Change::Kill(3000)),
                (20.1, 2, Change::Kill(3000)),
            ],
        ),
        equal("pauses", all_but(0.1), pauses.collect()),
        Scenario {
            spread: Spread::Lognormal(1.0),
            foreign: (3, 0.4),
            ..equal("foreign", 1.0, Vec::new())
        },
    ]
}

fn overload() -> Scenario {
    equal("overload", 1.0, Vec::new())
}

/// Prints the table of these scenarios at these loads, as Markdown.
fn table(scenarios: &[&Scenario], loads: &[f64]) {
    let mut head = row("scenario", "policy");
    for load in loads {
        let p50 = format!("{:.0} %: p50", 100.0 * load);
        head += &format!(" {p50:>10} | {:>7} | {:>8} |", "p99", "errors");
    }
    write_line(&head);
    let rule = "-----------:|--------:|---------:|".repeat(loads.len());
    write_line(&format!("|----------|-------------|{rule}"));
    for scenario in scenarios {
        for policy in POLICIES {
            let mut line = row(scenario.name, &policy.to_string());
            for load in loads {
                let mut tally = Tally::default();
                for seed in SEEDS {
                    tally.add(scenario.run(policy, *load, seed));
                }
                line += &figures(&mut tally);
            }
            write_line(&line);
        }
    }
}

fn row(scenario: &str, policy: &str) -> String {
    format!("| {scenario:<8} | {policy:<11} |")
}

fn figures(tally: &mut Tally) -> String {
    format!(
        " {:>10.1} | {:>7.1} | {:>6.2} % |",
        tally.quantile_ms(0.5),
        tally.quantile_ms(0.99),
        tally.errors_percent()
    )
}

#[allow(clippy::print_stdout)] // figures are what a benchmark is for
fn write_line(text: &str) {
    println!("{text}");
}

#[allow(clippy::print_stderr)]
fn complain(text: &str) {
    eprintln!("scenarios: {text}");
}
