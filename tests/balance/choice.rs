//! Which server is chosen: by reports, by policy, by what was dispatched since.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crate::peer::{Peer, Talk, answers_as, hangs, tells_target};
use crate::program::{Balancer, Origin};
use crate::watch::Stop;
use crate::wire::{Client, request};

/// No round begins by time in a test of it.
const NO_TIME: [&str; 2] = ["-X", "600"];

fn count(names: impl IntoIterator<Item = String>) -> HashMap<String, usize> {
    let mut counts = HashMap::new();
    for name in names {
        *counts.entry(name).or_default() += 1;
    }
    counts
}

fn reporting(name: &'static str, errors: u64, load: u64) -> Peer {
    Peer::near_reporting(answers_as(name), Some((errors, load)))
}

pub(crate) fn name_of(response: &crate::wire::Response) -> String {
    assert_eq!(response.status, 200, "{response:?}");
    response.field("Server").unwrap().to_owned()
}

/// Waits until every peer was checked `rounds` times and the balancer has read the reports.
fn await_round(balancer: &Balancer, peers: &[Peer], rounds: usize) {
    for peer in peers {
        peer.await_checks(rounds);
    }
    balancer.catch_up();
}

/// The servers of requests that are sent one after the other, each when the round that the one
/// before has started is over.
fn sequential(peers: &[Peer], policy: &str) -> Vec<String> {
    let options = ["-R", "1", "-X", "600", "--policy", policy];
    let balancer = Balancer::near(peers, &options);
    let mut client = balancer.client();
    let mut served = Vec::new();
    for index in 0..12 {
        await_round(&balancer, peers, index + 1);
        served.push(name_of(&client.get("/")));
    }
    served
}

#[test]
fn the_least_load_wins_then_the_fewest_errors() {
    for policy in ["best-guess", "least-load"] {
        let peers = [
            reporting("a", 0, 10),
            reporting("b", 0, 5),
            reporting("c", 3, 5),
        ];
        assert_eq!(sequential(&peers, policy), vec!["b"; 12], "{policy}");
        let peers = [reporting("a", 1, 5), reporting("b", 0, 5)];
        assert_eq!(sequential(&peers, policy), vec!["b"; 12], "{policy}");
    }
}

#[test]
fn a_server_that_fails_at_times_stands_in_where_all_others_are_busy() {
    let start = |name, fails| {
        let manner = ["--delay", "20ms", "--fail", fails];
        Origin::start("127.0.0.1:0", name, None, &manner)
    };
    let origins = [start("a", "0%"), start("b", "0%"), start("c", "10%")];
    let options = ["--retry-status", "500", "--explain", "-X", "600"];
    let balancer = Balancer::before(&origins, &options);
    for origin in &origins {
        balancer.await_valid(0, origin);
    }
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..100 {
            scope.spawn(|| {
                let mut client = balancer.client();
                while !is_over.load(Ordering::Relaxed) {
                    // Whoever asks it, no failure is seen.
                    assert_eq!(client.get("/").status, 200);
                }
            });
        }
        let _stop = Stop(&is_over);
        let line = balancer.log().holding(0, ", a detour");
        let of_c = format!("guess for GET / HTTP/1.1: {}: ", origins[2]);
        assert!(line.contains(&of_c), "{line}");
    });
}

#[test]
fn a_detour_that_fails_is_not_the_one_bad_answer_that_is_turned_from() {
    static IS_FIRST: AtomicBool = AtomicBool::new(true);
    let busy = |talk: &mut Talk<'_>| match (&*talk.method, &*talk.target) {
        ("POST", _) => hangs(talk),
        // Whichever of the two is asked for it first fails.
        (_, "/x") if IS_FIRST.swap(false, Ordering::Relaxed) => talk.reply(500, &[], ""),
        _ => tells_target(talk),
    };
    let peers = [
        Peer::start(busy),
        Peer::start(busy),
        Peer::start(|talk| talk.reply(500, &[], "")),
    ];
    let options = ["--retry-status", "500", "--explain", "-X", "600"];
    let balancer = Balancer::before(&peers, &options);
    for peer in &peers {
        balancer.await_valid(0, peer);
    }
    // The third is found out, and the others get more to do than it is worth to wait for.
    let mut client = balancer.client();
    for _ in 0..200 {
        assert_eq!(client.get("/").text(), "/");
    }
    assert!(!peers[2].targets().is_empty());
    let _held: Vec<Client> = (0..40)
        .map(|_| {
            let (mark, mut client) = (balancer.log().mark(), balancer.client());
            client.send(request("POST", "/", &[], b""));
            balancer.log().holding(mark, "guess for POST / ");
            client
        })
        .collect();
    assert_eq!(client.get("/x").text(), "/x");
    let line = balancer.log().holding(0, ", a detour");
    assert!(line.contains("GET /x "), "{line}");
}

#[test]
fn the_built_in_server_s_fixed_reports_decide_too() {
    let start = |name, errors, load| {
        let report = ["--fixed-report", "--errors", errors, "--load", load];
        Origin::start("127.0.0.1:0", name, None, &report)
    };
    let origins = [
        start("a", "0", "10"),
        start("b", "0", "5"),
        start("c", "3", "5"),
    ];
    let balancer = Balancer::before(&origins, &NO_TIME);
    for origin in &origins {
        balancer.await_valid(0, origin);
    }
    assert_eq!(name_of(&balancer.get("/")), "b");
}

#[test]
fn with_least_load_all_requests_between_two_rounds_go_to_one_server() {
    let every = 50;
    let peers = ["a", "b", "c"].map(|name| Peer::near(answers_as(name)));
    let options = ["--policy", "least-load", "-R", "50", "-X", "600"];
    let balancer = Balancer::near(&peers, &options);
    let mut client = balancer.client();
    let mut optima = Vec::new();
    for round in 0..4 {
        await_round(&balancer, &peers, round + 1);
        let served = count((0..every).map(|_| name_of(&client.get("/"))));
        assert_eq!(served.len(), 1, "round {round}: {served:?}");
        optima.extend(served.into_keys());
    }
    // Each time it is one that had less than the others; then all have had the same.
    optima.truncate(3);
    optima.sort();
    assert_eq!(optima, ["a", "b", "c"]);
}

#[test]
fn best_guess_uses_every_one_of_equal_servers() {
    let origins = Origin::three(None);
    let balancer = Balancer::before(&origins, &["-R", "1000", "-X", "600"]);
    for origin in &origins {
        balancer.await_valid(0, origin);
    }
    let served = thread::scope(|scope| {
        let threads = [(); 4].map(|()| {
            scope.spawn(|| {
                let mut client = balancer.client();
                let names = (0..750).map(|_| name_of(&client.get("/")));
                names.collect::<Vec<_>>()
            })
        });
        count(
            threads
                .into_iter()
                .flat_map(|thread| thread.join().unwrap()),
        )
    });
    assert_eq!(served.values().sum::<usize>(), 3000);
    // Servers that answer within a part of a millisecond are as fast as the scheduler lets them be, so
    // their shares differ on a busy machine: that equal times bring equal shares is held in virtual
    // time, beside the guess.
    assert_eq!(served.len(), 3, "{served:?}");
}

#[test]
fn round_robin_takes_each_in_turn_and_by_weight() {
    let peers = ["a", "b"].map(|name| Peer::start(answers_as(name)));
    let heavy = Peer::start(answers_as("heavy"));
    let servers = [
        peers[0].to_string(),
        format!("{heavy},weight=2"),
        peers[1].to_string(),
    ];
    let balancer = Balancer::before(servers, &["--policy", "round-robin", "-X", "600"]);
    for peer in [&peers[0], &heavy, &peers[1]] {
        balancer.await_valid(0, peer);
    }
    let mut client = balancer.client();
    for _ in 0..10 {
        let served = count((0..4).map(|_| name_of(&client.get("/"))));
        assert_eq!((served["a"], served["heavy"], served["b"]), (1, 2, 1));
    }
}

#[test]
fn least_conn_avoids_a_busy_server() {
    let peers = ["a", "b"].map(|name| {
        Peer::start(move |talk| match talk.target.as_str() {
            "/hold" => hangs(talk),
            _ => answers_as(name)(talk),
        })
    });
    let balancer = Balancer::near(&peers, &["--policy", "least-conn", "-X", "600"]);
    for peer in &peers {
        balancer.await_valid(0, peer);
    }
    let mut holder = balancer.client();
    holder.ask("GET", "/hold");
    balancer.catch_up();
    let mut client = balancer.client();
    let served = count((0..20).map(|_| name_of(&client.get("/"))));
    assert_eq!(served.into_values().collect::<Vec<_>>(), [20]);
}
