//! TERM and INT: what runs is finished, nothing new is taken; a second signal ends it at once.

use std::io::ErrorKind;
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::peer::{Peer, reply};
use crate::program::Balancer;
use crate::watch::Watch;
use crate::wire::{Client, request};

/// A request for `/held` is answered once this is true.
type Gate = Arc<Watch<bool>>;

fn held_server() -> (Gate, Peer) {
    let gate = Gate::default();
    let theirs = Arc::clone(&gate);
    let peer = Peer::start(move |talk| {
        let content = talk.content()?;
        if talk.target == "/held" {
            theirs.until("the gate opens", |is_open| is_open.then_some(()));
        }
        talk.wire.send(reply(200, &[], content))?;
        Ok(true)
    });
    (gate, peer)
}

fn open(gate: &Gate) {
    gate.change(|is_open| *is_open = true);
}

/// A balancer that was told to stop while a request runs, with that request's client.
fn draining(peer: &Peer, signal: Signal, options: &[&str]) -> (Balancer, Client) {
    let mut balancer = Balancer::before([peer], options);
    let mut busy = balancer.client();
    busy.send(request("POST", "/held", &[], b"content"));
    peer.await_requests(1);
    balancer.signal(signal);
    balancer.log().holding(0, "draining: ");
    let refused = TcpStream::connect(balancer.address.to_string()).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    (balancer, busy)
}

#[test]
fn what_runs_is_finished_and_the_exit_is_clean() {
    for signal in [Signal::TERM, Signal::INT] {
        let (gate, peer) = held_server();
        let (mut balancer, mut busy) = draining(&peer, signal, &[]);
        assert!(busy.has_heard_nothing());
        open(&gate);
        let response = busy.response();
        assert_eq!((response.status, response.text()), (200, "content"));
        assert!(response.head.closes() && busy.is_ended());
        assert_eq!(balancer.ended().code(), Some(0));
        assert_eq!(balancer.log().count(0, "stopped"), 1);
    }
}

#[test]
fn idle_clients_are_let_go_after_the_grace() {
    let (_gate, peer) = held_server();
    let mut balancer = Balancer::before([&peer], &["--drain-grace", "300ms"]);
    let mut idle: Vec<Client> = (0..10).map(|_| balancer.client()).collect();
    for client in &mut idle {
        assert_eq!(client.post("/", b"x").status, 200);
    }
    let start = Instant::now();
    balancer.signal(Signal::TERM);
    assert_eq!(balancer.ended().code(), Some(0));
    assert!(start.elapsed() >= Duration::from_millis(300));
    assert_eq!(balancer.log().count(0, "cut off"), 0);
    for client in &mut idle {
        assert!(client.is_ended());
    }
}

#[test]
fn who_was_told_that_the_connection_goes_on_may_ask_once_more() {
    let (gate, peer) = held_server();
    let options = ["--drain-grace", "20s"];
    let mut balancer = Balancer::before([&peer], &options);
    let mut idle: Vec<Client> = (0..3).map(|_| balancer.client()).collect();
    for client in &mut idle {
        assert!(!client.post("/", b"x").head.closes());
    }
    let mut busy = balancer.client();
    busy.ask("GET", "/held");
    peer.await_requests(4);
    balancer.signal(Signal::TERM);
    balancer.log().holding(0, "draining: ");
    for client in &mut idle {
        let last = client.post("/", b"y");
        assert_eq!((last.status, last.text()), (200, "y"));
        assert!(last.head.closes() && client.is_ended());
    }
    open(&gate);
    assert!(busy.response().head.closes() && busy.is_ended());
    assert_eq!(balancer.ended().code(), Some(0));
}

#[test]
fn what_waits_in_the_queue_is_served_too() {
    let (gate, peer) = held_server();
    let mut balancer = Balancer::near([&peer], &["-N", "1"]);
    let (mut first, mut second) = (balancer.client(), balancer.client());
    first.ask("GET", "/held");
    peer.await_requests(1);
    second.ask("GET", "/waits");
    balancer.catch_up();
    balancer.signal(Signal::TERM);
    let line = balancer.log().holding(0, "draining: ");
    assert!(line.contains("1 requests under way, 1 waiting"), "{line}");
    open(&gate);
    assert_eq!(first.response().status, 200);
    assert_eq!(second.response().status, 200);
    assert_eq!(balancer.ended().code(), Some(0));
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let (_gate, peer) = held_server();
    let (mut balancer, mut busy) = draining(&peer, Signal::TERM, &[]);
    let start = Instant::now();
    balancer.signal(Signal::TERM);
    // It ends by itself, not by the signal.
    assert!(balancer.ended().code().is_some());
    assert!(start.elapsed() < Duration::from_secs(10));
    assert!(busy.is_ended());
}

#[test]
fn what_does_not_finish_is_cut_after_the_drain_timeout() {
    let (_gate, peer) = held_server();
    let start = Instant::now();
    let options = ["--drain-timeout", "300ms"];
    let (mut balancer, mut busy) = draining(&peer, Signal::TERM, &options);
    assert_eq!(balancer.ended().code(), Some(0));
    assert!(start.elapsed() >= Duration::from_millis(300));
    assert_eq!(balancer.log().count(0, "drain timeout"), 1);
    assert!(busy.is_ended());
}

#[test]
fn a_signal_to_reopen_files_ends_nothing() {
    let (gate, peer) = held_server();
    let mut balancer = Balancer::near([&peer], &[]);
    let mut busy = balancer.client();
    busy.ask("GET", "/held");
    peer.await_requests(1);
    for _ in 0..3 {
        balancer.signal(Signal::USR1);
        balancer.catch_up();
    }
    open(&gate);
    assert_eq!(busy.response().status, 200);
    balancer.signal(Signal::TERM);
    assert_eq!(balancer.ended().code(), Some(0));
}
