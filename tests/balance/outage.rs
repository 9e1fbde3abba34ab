//! Servers that are down, or stopped.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::peer::{Peer, tells_target};
use crate::program::{Balancer, Origin};
use crate::watch::Stop;

/// How much longer than it has to something may take on a slow machine.
const SLACK: Duration = Duration::from_secs(4);

#[test]
fn all_servers_down_is_500_with_a_text_at_once() {
    let peers = [(); 3].map(|()| Peer::asleep(tells_target));
    let balancer = Balancer::before(&peers, &["-X", "600"]);
    let mut client = balancer.client();
    for round in 0..3 {
        let start = Instant::now();
        let response = client.get("/");
        assert!(start.elapsed() < SLACK);
        assert_eq!(response.status, 500, "{round}");
        assert_eq!(response.text(), "every server has failed\n");
        let kind = response.field("Content-Type").unwrap();
        assert!(kind.starts_with("text/plain"), "{kind}");
        assert!(response.field("Retry-After").is_some());
        // A POST is told the same: no server has seen it.
        assert_eq!(client.post("/", b"pay").status, 500);
    }
    for peer in &peers {
        assert_eq!(balancer.await_invalid(0, peer), "connection refused");
    }
}

#[test]
fn the_status_of_an_outage_can_be_503() {
    let peer = Peer::asleep(tells_target);
    let balancer = Balancer::before([&peer], &["--down-status", "503"]);
    assert_eq!(balancer.get("/").status, 503);
}

#[test]
fn the_first_server_back_serves_within_one_round() {
    let peers = [(); 2].map(|()| Peer::asleep(tells_target));
    let balancer = Balancer::before(&peers, &["-X", "0.5"]);
    let mut kept = balancer.client();
    assert_eq!(kept.get("/").status, 500);
    for peer in &peers {
        balancer.await_invalid(0, peer);
    }
    let mark = balancer.log().mark();
    let start = Instant::now();
    peers[1].wake();
    balancer.await_valid(mark, &peers[1]);
    assert!(start.elapsed() < Duration::from_millis(500) + SLACK);
    for _ in 0..5 {
        assert_eq!(balancer.get("/new").status, 200);
        assert_eq!(kept.get("/kept").status, 200);
    }
    assert_eq!(
        balancer
            .log()
            .count(mark, &format!("{} is valid", peers[0])),
        0
    );
}

#[test]
fn a_state_and_its_reason_are_logged_once_per_change() {
    let peer = Peer::asleep(tells_target);
    let other = Peer::start(tells_target);
    let balancer = Balancer::before([&peer, &other], &["-X", "0.05"]);
    other.await_checks(10);
    let line = format!("server {peer} is invalid: connection refused");
    assert_eq!(balancer.log().count(0, &line), 1);
    peer.wake();
    peer.await_checks(5);
    balancer.await_valid(0, &peer);
    assert_eq!(balancer.log().count(0, &format!("server {peer} is")), 2);
}

#[test]
fn unchecked_servers_that_refuse_cost_no_request() {
    let dead = [(); 2].map(|()| Peer::asleep(tells_target));
    let good = Peer::start(tells_target);
    let balancer = Balancer::before([&dead[0], &good, &dead[1]], &["--check", "off"]);
    for _ in 0..10 {
        assert_eq!(balancer.get("/").status, 200);
        assert_eq!(balancer.client().post("/", b"pay").status, 200);
    }
    assert_eq!((good.targets().len(), good.checks()), (20, 0));
}

/// One GET: when it began and ended, and its status.
type Sent = (Instant, Instant, u16);

#[test]
fn a_stopped_server_is_found_out_and_returns_when_it_continues() {
    let origins = Origin::three(None);
    let stopped = &origins[1];
    let times = ["--response-timeout", "1s", "--connect-timeout", "1s"];
    let checks = ["--check-timeout", "500ms", "-X", "0.2"];
    let policy = ["--policy", "round-robin"];
    let balancer = Balancer::before(&origins, &[&times[..], &checks, &policy].concat());
    for origin in &origins {
        balancer.await_valid(0, origin);
    }
    let must_stop = AtomicBool::new(false);
    let get_on = || {
        let mut sent: Vec<Sent> = Vec::new();
        while !must_stop.load(Ordering::Relaxed) {
            let start = Instant::now();
            let status = balancer.get("/").status;
            sent.push((start, Instant::now(), status));
        }
        sent
    };
    thread::scope(|scope| {
        let stop = Stop(&must_stop);
        let threads = [(); 4].map(|()| scope.spawn(get_on));
        let mark = balancer.log().mark();
        let stopped_at = Instant::now();
        stopped.program.signal(Signal::STOP);
        let reason = balancer.await_invalid(mark, stopped);
        let invalid_at = Instant::now();
        let mark = balancer.log().mark();
        for _ in 0..9 {
            let response = balancer.get("/");
            assert_eq!(response.status, 200);
            assert_ne!(response.field("Server"), Some("b"));
        }
        stopped.program.signal(Signal::CONT);
        balancer.await_valid(mark, stopped);
        drop(stop);

        assert_eq!(reason, "no answer to the check within 500ms");
        assert!(invalid_at - stopped_at < Duration::from_millis(700) + SLACK);
        for (began, ended, status) in threads.into_iter().flat_map(|one| one.join().unwrap()) {
            let span = ended - began;
            assert!(span < Duration::from_secs(2) + SLACK, "{span:?}");
            if ended < stopped_at || began > invalid_at {
                assert_eq!(status, 200, "in {span:?}");
            } else {
                assert!(matches!(status, 200 | 504), "{status} in {span:?}");
            }
        }
    });
    let mut names = [(); 3].map(|()| balancer.get("/").field("Server").unwrap().to_owned());
    names.sort();
    assert_eq!(names, ["a", "b", "c"]);
}

#[test]
fn checks_keep_their_connection() {
    for _ in 0..20 {
        let peer = Peer::near(tells_target);
        let balancer = Balancer::near([&peer], &["-X", "0.01"]);
        peer.await_checks(4);
        drop(balancer);
        assert_eq!(peer.connections(), 1);
    }
}
