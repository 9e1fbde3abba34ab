//! N and the queue: never too many at the servers, first in first out, none lost, none served who
//! left.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::peer::{Peer, Talk, reply};
use crate::program::Balancer;
use crate::watch::Watch;
use crate::wire::{Client, request};

/// Where requests are held at the servers until the test lets them go.
#[derive(Debug, Default)]
struct Gate {
    arrived: Vec<String>,
    inside: usize,
    most: usize,
    permits: usize,
}

#[derive(Clone, Default)]
struct Servers(Arc<Watch<Gate>>);

impl Servers {
    fn peer(&self) -> Peer {
        let servers = self.clone();
        Peer::start(move |talk| servers.answer(talk))
    }

    fn answer(&self, talk: &mut Talk<'_>) -> io::Result<bool> {
        let content = talk.content()?;
        self.0.change(|gate| {
            gate.arrived.push(talk.target.clone());
            gate.inside += 1;
            gate.most = gate.most.max(gate.inside);
        });
        // Counted out before the answer can free the place.
        self.0.until("a permit", |gate| {
            gate.permits = gate.permits.checked_sub(1)?;
            gate.inside -= 1;
            Some(())
        });
        let answer = [talk.target.as_bytes(), &content].concat();
        talk.wire.send(reply(200, &[], answer))?;
        Ok(true)
    }

    fn permit(&self, count: usize) {
        self.0.change(|gate| gate.permits += count);
    }

    fn await_arrivals(&self, count: usize) {
        self.0.until(&format!("{count} requests arrive"), |gate| {
            (gate.arrived.len() >= count).then_some(())
        });
    }

    fn arrived(&self) -> Vec<String> {
        self.0.look(|gate| gate.arrived.clone())
    }

    fn most(&self) -> usize {
        self.0.look(|gate| gate.most)
    }
}

fn targets(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|index| format!("/{index}")).collect()
}

/// Clients whose requests have arrived at the balancer one after the other.
fn line_up(balancer: &Balancer, count: usize) -> Vec<Client> {
    let clients = (0..count).map(|index| {
        let mut client = balancer.client();
        client.ask("GET", &format!("/{index}"));
        balancer.catch_up();
        client
    });
    clients.collect()
}

#[test]
fn fifty_slow_requests_are_served_two_at_a_time_in_order_of_arrival() {
    let servers = Servers::default();
    let peers = [servers.peer(), servers.peer(), servers.peer()];
    let balancer = Balancer::near(&peers, &["-N", "2"]);
    let mut clients = line_up(&balancer, 50);
    servers.await_arrivals(2);
    for done in 1..=50 {
        // One leaves, one enters: so the order in which they enter is that of the queue.
        servers.permit(1);
        servers.await_arrivals((done + 2).min(50));
    }
    let mut arrived = servers.arrived();
    arrived[..2].sort();
    assert_eq!(arrived, targets(0..50));
    for (client, target) in clients.iter_mut().zip(targets(0..50)) {
        assert_eq!(client.response().text(), target);
    }
    assert_eq!(servers.most(), 2);
}

#[test]
fn of_a_crowd_at_once_none_is_lost() {
    let servers = Servers::default();
    let peers = [servers.peer(), servers.peer(), servers.peer()];
    let balancer = Balancer::before(&peers, &["-N", "2"]);
    let mut clients = Vec::new();
    for target in targets(0..50) {
        let mut client = balancer.client();
        client.ask("GET", &target);
        clients.push((client, target));
    }
    servers.await_arrivals(2);
    servers.permit(50);
    for (client, target) in &mut clients {
        assert_eq!(client.response().text(), target);
    }
    assert_eq!((servers.most(), servers.arrived().len()), (2, 50));
}

#[test]
fn a_waiting_client_that_goes_away_is_skipped() {
    let servers = Servers::default();
    let peer = servers.peer();
    let balancer = Balancer::near([&peer], &["-N", "1"]);
    let mut clients = line_up(&balancer, 5);
    servers.await_arrivals(1);
    // Under load a client that ends its stream has left, and does not only send no more.
    clients[3].wire.end_sending();
    assert!(clients.remove(3).is_ended());
    drop(clients.remove(1));
    balancer.catch_up();
    servers.permit(5);
    for (client, target) in clients.iter_mut().zip(["/0", "/2", "/4"]) {
        assert_eq!(client.response().text(), target);
    }
    assert_eq!(servers.arrived(), ["/0", "/2", "/4"]);
}

#[test]
fn a_served_client_that_goes_away_frees_its_place() {
    let servers = Servers::default();
    let peer = servers.peer();
    let balancer = Balancer::before([&peer], &["-N", "1"]);
    let (mut first, mut second) = (balancer.client(), balancer.client());
    first.ask("GET", "/0");
    servers.await_arrivals(1);
    second.ask("GET", "/1");
    first.abort();
    servers.await_arrivals(2);
    servers.permit(2);
    assert_eq!(second.response().text(), "/1");
}

#[test]
fn a_waiting_post_keeps_its_content() {
    let servers = Servers::default();
    let peer = servers.peer();
    let balancer = Balancer::near([&peer], &["-N", "1"]);
    let mut first = line_up(&balancer, 1);
    servers.await_arrivals(1);
    let content = vec![b'x'; 300_000];
    let mut second = balancer.client();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            balancer.catch_up();
            servers.permit(2);
        });
        second.send(request("POST", "/post", &[], &content));
    });
    assert_eq!(first[0].response().text(), "/0");
    let answer = second.response().content;
    assert!(answer.strip_prefix(b"/post") == Some(&content));
}

#[test]
fn who_waits_too_long_gets_503_and_reaches_no_server() {
    let servers = Servers::default();
    let peer = servers.peer();
    let balancer = Balancer::near([&peer], &["-N", "1", "--queue-timeout", "300ms"]);
    let start = Instant::now();
    let mut clients = line_up(&balancer, 2);
    let response = clients[1].response();
    assert_eq!(response.status, 503);
    assert!(start.elapsed() >= Duration::from_millis(300));
    assert!(!response.text().trim().is_empty());
    servers.permit(2);
    assert_eq!(clients[0].response().text(), "/0");
    // Its connection goes on.
    assert_eq!(clients[1].get("/after").text(), "/after");
    assert_eq!(servers.arrived(), ["/0", "/after"]);
}

#[test]
fn a_server_s_own_limit_is_kept() {
    let (limited, free) = (Servers::default(), Servers::default());
    let peers = [limited.peer(), free.peer()];
    let addresses = [format!("{},max=1", peers[0]), peers[1].to_string()];
    let balancer = Balancer::near(addresses, &["--policy", "round-robin"]);
    for peer in &peers {
        balancer.await_valid(0, peer);
    }
    let mut clients = line_up(&balancer, 6);
    limited.await_arrivals(1);
    free.await_arrivals(5);
    limited.permit(1);
    free.permit(5);
    for (client, target) in clients.iter_mut().zip(targets(0..6)) {
        assert_eq!(client.response().text(), target);
    }
    assert_eq!((limited.most(), free.most()), (1, 5));
}
