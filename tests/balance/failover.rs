//! Requests whose server fails them: which are tried elsewhere, which never, and what clients hear.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::peer::{Peer, Talk, hangs, reads_and_closes, reply, tells_target};
use crate::program::Balancer;
use crate::watch::Watch;
use crate::wire::request;

/// Requests go to the servers in turn, and no check comes between.
const IN_TURN: [&str; 4] = ["--policy", "round-robin", "-X", "600"];

/// A balancer that has found all `peers` valid.
fn in_turn(peers: &[&Peer]) -> Balancer {
    let balancer = Balancer::before(peers, &IN_TURN);
    for peer in peers {
        balancer.await_valid(0, peer);
    }
    balancer
}

#[test]
fn a_get_that_dies_without_an_answer_is_tried_elsewhere() {
    let (bad, good) = (Peer::start(|_| Ok(false)), Peer::start(tells_target));
    let balancer = in_turn(&[&bad, &good]);
    for _ in 0..10 {
        assert_eq!(balancer.get("/x").text(), "/x");
    }
    assert!(!bad.targets().is_empty());
    assert_eq!(good.targets().len(), 10);
}

#[test]
fn a_small_put_is_tried_elsewhere_with_its_content() {
    let bad = Peer::start(reads_and_closes);
    let good = Peer::start(crate::peer::echoes);
    let balancer = in_turn(&[&bad, &good]);
    for _ in 0..6 {
        let mut client = balancer.client();
        client.send(request("PUT", "/x", &[], b"the content"));
        assert_eq!(client.response().text(), "the content");
    }
    assert!(!bad.targets().is_empty());
    assert_eq!(good.targets().len(), 6);
}

#[test]
fn a_post_that_a_server_may_have_seen_is_never_sent_twice() {
    let peers = [(); 3].map(|()| Peer::start(reads_and_closes));
    let balancer = in_turn(&[&peers[0], &peers[1], &peers[2]]);
    let sent: Vec<String> = (0..6).map(|index| format!("/{index}")).collect();
    for target in &sent {
        let response = balancer.client().post(target, b"pay 5");
        assert_eq!(response.status, 502, "{response:?}");
    }
    let mut seen: Vec<String> = peers.iter().flat_map(Peer::targets).collect();
    seen.sort();
    assert_eq!(seen, sent);
}

#[test]
fn a_post_goes_elsewhere_when_its_server_refuses() {
    let good = Peer::start(tells_target);
    let dead = Peer::asleep(tells_target);
    let balancer = Balancer::before([&dead, &good], &["--check", "off"]);
    for index in 0..6 {
        let target = format!("/{index}");
        assert_eq!(balancer.client().post(&target, b"pay").text(), target);
    }
    assert_eq!(good.targets().len(), 6);
}

#[test]
fn a_get_that_kills_one_server_after_the_other_is_given_up_after_three() {
    let peers = [(); 5].map(|()| Peer::start(|_| Ok(false)));
    let balancer = in_turn(&peers.each_ref());
    assert_eq!(balancer.get("/").status, 502);
    let met: Vec<usize> = peers.iter().map(|peer| peer.targets().len()).collect();
    assert_eq!((met.iter().sum::<usize>(), met.iter().max()), (3, Some(&1)));
}

#[test]
fn a_bad_answer_is_asked_for_elsewhere_once_if_the_operator_wants_it() {
    let bad = |talk: &mut Talk<'_>| {
        talk.content()?;
        talk.wire.send(reply(503, &[], "bad"))?;
        Ok(true)
    };
    let peers = [
        Peer::start(bad),
        Peer::start(bad),
        Peer::start(tells_target),
    ];
    let options = [&IN_TURN[..], &["--retry-status", "500,503"]].concat();
    let balancer = Balancer::before(&peers.each_ref()[1..], &options);
    for peer in &peers[1..] {
        balancer.await_valid(0, peer);
    }
    for _ in 0..4 {
        assert_eq!(balancer.get("/").text(), "/");
        // What may have been done is not done again.
        let posts = [(); 2].map(|()| balancer.client().post("/", b"pay").status);
        assert!(posts.contains(&503), "{posts:?}");
    }
    // What two servers answer alike is the answer, and its content is theirs.
    let balancer = Balancer::before(&peers.each_ref()[..2], &options);
    for peer in &peers[..2] {
        balancer.await_valid(0, peer);
    }
    let before = peers[0].targets().len() + peers[1].targets().len();
    let response = balancer.get("/");
    assert_eq!((response.status, response.text()), (503, "bad"));
    assert_eq!(
        peers[0].targets().len() + peers[1].targets().len(),
        before + 2
    );
    // A single server is not asked twice, and without the option nobody is.
    let balancer = Balancer::before(&peers.each_ref()[..1], &options);
    assert_eq!(balancer.get("/").text(), "bad");
    let balancer = Balancer::before(&peers.each_ref()[..2], &IN_TURN);
    let before = peers[0].targets().len() + peers[1].targets().len();
    assert_eq!(balancer.get("/").text(), "bad");
    assert_eq!(
        peers[0].targets().len() + peers[1].targets().len(),
        before + 1
    );
}

#[test]
fn a_server_that_never_says_continue_is_504_and_not_the_client_s_fault() {
    let peer = Peer::start(hangs);
    let limits = [
        "--client-timeout",
        "100ms",
        "--response-timeout",
        "400ms",
        "-X",
        "600",
    ];
    let balancer = Balancer::before([&peer], &limits);
    let mut client = balancer.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n");
    assert_eq!(client.response().status, 504);
}

#[test]
fn empty_lines_between_requests_are_no_request() {
    let peer = Peer::start(tells_target);
    let limits = [
        "--client-timeout",
        "100ms",
        "--idle-timeout",
        "400ms",
        "-X",
        "600",
    ];
    let balancer = Balancer::before([&peer], &limits);
    let mut client = balancer.client();
    client.send("GET /1 HTTP/1.1\r\nHost: a\r\n\r\n\r\n");
    assert_eq!(client.response().text(), "/1");
    client.send("\r\n\r");
    client.send("\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n\r\n");
    assert_eq!(client.response().text(), "/2");
    // An idle client is let go without a word, not with a 408.
    assert!(client.is_ended());
}

#[test]
fn a_link_that_was_closed_while_idle_costs_no_request() {
    let peer = Peer::near(|talk| {
        talk.reply(200, &[], "x")?;
        // It did not say that it would.
        Ok(false)
    });
    let balancer = Balancer::near([&peer], &IN_TURN);
    let mut client = balancer.client();
    for round in 0..20 {
        assert_eq!(client.get("/").status, 200);
        peer.await_closed(2 * round + 1);
        balancer.catch_up();
        assert_eq!(client.post("/", b"pay").status, 200);
        peer.await_closed(2 * round + 2);
        balancer.catch_up();
    }
    assert_eq!(peer.targets().len(), 40);
}

#[test]
fn a_post_is_not_given_to_a_link_that_was_closed_a_moment_ago() {
    let must_close = Arc::new(Watch::new(false));
    let theirs = Arc::clone(&must_close);
    let peer = Peer::near(move |talk| {
        tells_target(talk)?;
        theirs.until("the word to close", |must_close| must_close.then_some(()));
        Ok(false)
    });
    let balancer = Balancer::near([&peer], &IN_TURN);
    let mut client = balancer.client();
    assert_eq!(client.get("/first").text(), "/first");
    // The balancer finds both at once, and the request before the end of the link.
    balancer.program.freeze();
    client.send(request("POST", "/second", &[], b"pay"));
    must_close.change(|must_close| *must_close = true);
    peer.await_closed(1);
    balancer.program.signal(Signal::CONT);
    assert_eq!(client.response().text(), "/second");
}

#[test]
fn no_answer_in_time_is_504_and_the_link_is_closed() {
    let peer = Peer::start(|talk| match talk.target.as_str() {
        "/half" => {
            talk.wire.send("HTTP/1.1 200 OK\r\nContent-")?;
            hangs(talk)
        }
        "/hang" => hangs(talk),
        _ => tells_target(talk),
    });
    let balancer = Balancer::before([&peer], &["--response-timeout", "300ms", "-X", "600"]);
    for (method, target) in [("GET", "/hang"), ("POST", "/hang"), ("GET", "/half")] {
        let start = Instant::now();
        let mut client = balancer.client();
        client.ask(method, target);
        let response = client.response();
        assert_eq!(response.status, 504, "{method} {target}: {response:?}");
        assert!(start.elapsed() >= Duration::from_millis(300));
        assert_eq!(client.get("/next").text(), "/next");
    }
}

#[test]
fn a_server_that_stops_in_its_content_cuts_the_client() {
    let peer = Peer::start(|talk| {
        talk.wire
            .send("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nsome")?;
        hangs(talk)
    });
    let balancer = Balancer::before([&peer], &["--response-timeout", "300ms"]);
    let mut client = balancer.client();
    client.ask("GET", "/");
    assert!(client.response_to("GET").is_err());
}

#[test]
fn a_slow_head_is_408_and_the_connection_ends() {
    let peer = Peer::start(tells_target);
    let balancer = Balancer::before([&peer], &["--client-timeout", "300ms"]);
    for begun in [
        "GET / HTTP/1.1\r\nHost: a\r\nX-A:",
        "G",
        "GET / HTTP/1.1\r\n",
    ] {
        let start = Instant::now();
        let mut client = balancer.client();
        client.send(begun);
        assert_eq!(client.response().status, 408, "{begun:?}");
        assert!(client.is_ended());
        assert!(start.elapsed() >= Duration::from_millis(300));
    }
    let mut client = balancer.client();
    assert_eq!(client.get("/first").status, 200);
    client.send("GET /second HTTP/1.1\r\n");
    assert_eq!(client.response().status, 408);
    assert!(client.is_ended());
    assert_eq!(peer.targets(), ["/first"]);
}

#[test]
fn slow_content_is_408_and_the_connection_ends() {
    let peer = Peer::start(tells_target);
    let balancer = Balancer::before([&peer], &["--client-timeout", "300ms"]);
    let mut client = balancer.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc");
    assert_eq!(client.response().status, 408);
    assert!(client.is_ended());
}

#[test]
fn an_idle_client_is_let_go_without_a_word() {
    let peer = Peer::start(tells_target);
    let balancer = Balancer::before([&peer], &["--idle-timeout", "300ms"]);
    let mut client = balancer.client();
    assert_eq!(client.get("/").status, 200);
    let start = Instant::now();
    assert!(client.is_ended());
    assert!(start.elapsed() >= Duration::from_millis(250));
}
