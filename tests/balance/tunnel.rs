//! Upgrades: behind 101 the connection is a tunnel, in each direction until that one has ended.

use std::sync::Arc;
use std::thread;

use crate::peer::{Peer, Talk, tells_target};
use crate::program::{Balancer, Chance};
use crate::watch::Watch;
use crate::wire::{Client, request};

const SWITCH: &str = "HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n";
const ASK: [&str; 2] = ["Connection: Upgrade", "Upgrade: echo"];

/// Switches, echoes all bytes, and says goodbye when the client has ended its stream.
fn switches(talk: &mut Talk<'_>) -> std::io::Result<bool> {
    if talk.head.field("Upgrade") != Some("echo") {
        return tells_target(talk);
    }
    talk.wire.send(SWITCH)?;
    while let Some(bytes) = talk.wire.some()? {
        talk.wire.send(bytes)?;
    }
    talk.wire.send("bye")?;
    Ok(false)
}

fn switched(balancer: &Balancer) -> Client {
    let mut client = balancer.client();
    client.send(request("GET", "/tunnel", &ASK, b""));
    let response = client.response();
    assert_eq!(response.status, 101);
    assert_eq!(response.field("Upgrade"), Some("echo"));
    let connection = response.field("Connection").unwrap();
    assert!(connection.eq_ignore_ascii_case("upgrade"), "{connection}");
    client
}

#[test]
fn raw_bytes_go_both_ways_until_the_client_has_ended_and_the_server_has_answered() {
    let peer = Peer::start(switches);
    let balancer = Balancer::before([&peer], &[]);
    let mut client = switched(&balancer);
    for message in ["hello", "GET / HTTP/1.1\r\n\r\n", "\n", "\0\u{ff}"] {
        client.send(message);
        let echo = client.wire.exactly(message.len()).unwrap();
        assert_eq!(echo, message.as_bytes());
    }
    client.wire.end_sending();
    assert_eq!(client.wire.until_end().unwrap(), b"bye");
}

#[test]
fn a_client_may_go_on_sending_when_the_server_has_ended() {
    let heard = Arc::new(Watch::new(None));
    let theirs = Arc::clone(&heard);
    let peer = Peer::start(move |talk| {
        talk.wire.send(SWITCH)?;
        talk.wire.send("over")?;
        talk.wire.end_sending();
        let rest = talk.wire.until_end()?;
        theirs.change(|heard| *heard = Some(rest));
        Ok(false)
    });
    let balancer = Balancer::before([&peer], &[]);
    let mut client = switched(&balancer);
    assert_eq!(client.wire.until_end().unwrap(), b"over");
    client.send("late");
    client.wire.end_sending();
    let rest = heard.until("the server hears the rest", Option::take);
    assert_eq!(rest, b"late");
}

#[test]
fn much_goes_both_ways_at_once() {
    let peer = Peer::start(switches);
    let balancer = Balancer::before([&peer], &[]);
    let mut client = switched(&balancer);
    let content = Chance::new().base64(2 << 20);
    let (sent, theirs) = (content.clone(), balancer.address.clone());
    // A second tunnel at the same time, so that neither starves the other.
    let other = thread::spawn(move || {
        let mut client = Client::new(&theirs);
        client.send(request("GET", "/tunnel", &ASK, b""));
        assert_eq!(client.response().status, 101);
        for piece in sent.chunks(16 << 10) {
            client.send(piece);
            assert!(client.wire.exactly(piece.len()).unwrap() == piece);
        }
    });
    for piece in content.chunks(64 << 10) {
        client.send(piece);
        assert!(client.wire.exactly(piece.len()).unwrap() == piece);
    }
    other.join().unwrap();
}

#[test]
fn bytes_sent_ahead_of_the_switch_arrive() {
    let peer = Peer::start(switches);
    let balancer = Balancer::before([&peer], &[]);
    let mut client = balancer.client();
    client.send([request("GET", "/", &ASK, b""), b"early".to_vec()].concat());
    assert_eq!(client.response().status, 101);
    assert_eq!(client.wire.exactly(5).unwrap(), b"early");
}

#[test]
fn a_tunnel_that_is_left_frees_its_place() {
    let peer = Peer::start(switches);
    let balancer = Balancer::before([&peer], &["-N", "1"]);
    for _ in 0..3 {
        drop(switched(&balancer));
        assert_eq!(balancer.get("/plain").text(), "/plain");
    }
}

#[test]
fn a_server_may_decline_an_upgrade() {
    let peer = Peer::start(tells_target);
    let balancer = Balancer::before([&peer], &[]);
    let mut client = balancer.client();
    client.send(request("GET", "/declined", &ASK, b""));
    assert_eq!(client.response().text(), "/declined");
    assert_eq!(client.get("/next").text(), "/next");
}
