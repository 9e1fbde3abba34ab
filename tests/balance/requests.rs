//! Requests in every shape and in any number of pieces.

use std::thread;

use crate::peer::{Peer, echoes, reply, tells_target};
use crate::program::Balancer;
use crate::watch::Watch;
use crate::wire::{Client, chunks, request};

const CHUNKED: &[&str] = &["Transfer-Encoding: chunked"];

/// A POST in chunks of `size` bytes.
fn chunked_post(target: &str, content: &[u8], size: usize) -> Vec<u8> {
    let head = request("GET", target, CHUNKED, b"");
    [b"POST".as_slice(), &head[3..], &chunks(content, size)].concat()
}

fn echoing() -> (Peer, Balancer) {
    let peer = Peer::start(echoes);
    let balancer = Balancer::before([&peer], &["-X", "600"]);
    (peer, balancer)
}

#[test]
fn one_connection_serves_many_requests_over_one_link() {
    let (peer, balancer) = echoing();
    let mut client = balancer.client();
    for index in 0..50 {
        let target = format!("/{index}");
        assert_eq!(client.get(&target).field("X-Target"), Some(&*target));
        assert_eq!(client.post(&target, b"content").text(), "content");
    }
    // The other one is the check's.
    assert!(peer.connections() <= 2, "{}", peer.connections());
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let (_peer, balancer) = echoing();
    let mut stream = Vec::new();
    let mut wanted = Vec::new();
    for index in 0..20 {
        let content = format!("content {index}");
        let get = format!("/get/{index}");
        stream.extend(request("GET", &get, &[], b""));
        wanted.push((get, String::new()));
        let post = format!("/post/{index}");
        stream.extend(request("POST", &post, &[], content.as_bytes()));
        wanted.push((post, content.clone()));
        let chunked = format!("/chunked/{index}");
        stream.extend(chunked_post(&chunked, content.as_bytes(), 3));
        wanted.push((chunked, content));
    }
    let mut client = balancer.client();
    client.send(stream);
    for (target, content) in wanted {
        let response = client.response();
        assert_eq!(response.status, 200);
        assert_eq!(response.field("X-Target"), Some(&*target));
        assert_eq!(response.text(), content);
    }
    assert!(client.has_heard_nothing());
}

#[test]
fn pipelined_requests_go_out_one_at_a_time() {
    let is_open = std::sync::Arc::new(Watch::new(false));
    let theirs = std::sync::Arc::clone(&is_open);
    let peer = Peer::start(move |talk| {
        theirs.until("the gate opens", |is_open| is_open.then_some(()));
        tells_target(talk)
    });
    let balancer = Balancer::near([&peer], &[]);
    let mut client = balancer.client();
    client.send(
        [
            request("GET", "/1", &[], b""),
            request("GET", "/2", &[], b""),
        ]
        .concat(),
    );
    peer.await_requests(1);
    balancer.catch_up();
    assert_eq!(peer.targets(), ["/1"]);
    is_open.change(|is_open| *is_open = true);
    assert_eq!(client.response().text(), "/1");
    assert_eq!(client.response().text(), "/2");
}

#[test]
fn requests_in_single_bytes_arrive_whole() {
    let peer = Peer::start(echoes);
    let balancer = Balancer::near([&peer], &[]);
    let mut client = balancer.client();
    let extended = "5;a=b\r\nhello\r\n00A\r\n0123456789\r\n0;c\r\nX-Trailer: yes\r\n\r\n";
    for (bytes, content) in [
        (request("GET", "/get", &["Accept: */*"], b""), ""),
        (request("POST", "/length", &[], b"content"), "content"),
        (chunked_post("/chunked", b"a few chunks", 5), "a few chunks"),
        (
            [
                chunked_post("/extended", b"", 1)
                    .strip_suffix(b"0\r\n\r\n")
                    .unwrap(),
                extended.as_bytes(),
            ]
            .concat(),
            "hello0123456789",
        ),
    ] {
        for byte in bytes {
            client.send([byte]);
            balancer.catch_up();
        }
        let response = client.response();
        assert_eq!((response.status, response.text()), (200, content));
    }
}

#[test]
fn content_larger_than_any_buffer_passes_both_ways() {
    let peer = Peer::start(|talk| {
        // In the framing in which it came.
        let is_chunked = talk.head.field("Transfer-Encoding").is_some();
        let content = talk.content()?;
        match is_chunked {
            true => {
                talk.wire
                    .send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")?;
                talk.wire.send(chunks(&content, 50_001))?;
            }
            false => talk.wire.send(reply(200, &[], content))?,
        }
        Ok(true)
    });
    let balancer = Balancer::before([&peer], &[]);
    let content = crate::program::Chance::new().base64(3 << 20);
    let mut client = balancer.client();
    for bytes in [
        request("POST", "/", &[], &content),
        chunked_post("/", &content, 70_001),
    ] {
        client.send(bytes);
        assert!(client.response().content == content);
    }
}

#[test]
fn connection_close_is_honoured() {
    let (peer, balancer) = echoing();
    let mut client = balancer.client();
    client.send(request("GET", "/", &["Connection: close"], b""));
    let response = client.response();
    assert!(response.status == 200 && response.head.closes());
    assert!(client.is_ended());
    // It is the client's own affair.
    assert_eq!(peer.request().field("Connection"), None);
}

#[test]
fn an_http_1_0_client_is_served_and_closed_unless_it_asks_to_stay() {
    let (_peer, balancer) = echoing();
    let mut client = balancer.client();
    client.send("GET /old HTTP/1.0\r\n\r\n");
    assert_eq!(client.response().field("X-Target"), Some("/old"));
    assert!(client.is_ended());
    let mut client = balancer.client();
    for _ in 0..3 {
        client.send("GET /kept HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
        let response = client.response();
        let stays = response.field("Connection").unwrap().to_owned();
        assert!(stays.eq_ignore_ascii_case("keep-alive"), "{stays}");
    }
}

#[test]
fn an_expectation_is_passed_on_and_met() {
    let (_peer, balancer) = echoing();
    for (framing, content) in [
        ("Content-Length: 7", b"content".to_vec()),
        ("Transfer-Encoding: chunked", chunks(b"content", 3)),
    ] {
        let mut client = balancer.client();
        let fields = [framing, "Expect: 100-continue"];
        client.send([b"PUT".as_slice(), &request("GET", "/", &fields, b"")[3..]].concat());
        let head = client.wire.head().unwrap().unwrap();
        assert!(head.first.starts_with("HTTP/1.1 100 "), "{head:?}");
        client.send(content);
        let response = client.response();
        assert_eq!((response.status, response.text()), (200, "content"));
        assert!(response.interim.is_empty());
    }
}

#[test]
fn a_refusal_comes_instead_of_continue() {
    let peer = Peer::start(|talk| {
        talk.wire.send(reply(403, &[], "no"))?;
        Ok(true)
    });
    let balancer = Balancer::before([&peer], &[]);
    let mut client = balancer.client();
    let fields = ["Content-Length: 1000000", "Expect: 100-continue"];
    client.send([b"PUT".as_slice(), &request("GET", "/", &fields, b"")[3..]].concat());
    let response = client.response();
    assert_eq!((response.status, response.text()), (403, "no"));
    assert!(response.interim.is_empty() && response.head.closes());
    assert!(client.is_ended());
}

#[test]
fn a_client_that_sends_no_more_still_gets_its_answer() {
    let (_peer, balancer) = echoing();
    let mut client = balancer.client();
    client.send(request("POST", "/half", &[], b"content"));
    client.wire.end_sending();
    assert_eq!(client.response().text(), "content");
    assert!(client.is_ended());
}

#[test]
fn what_a_leaving_client_sent_is_never_taken_for_a_whole_request() {
    let is_whole = std::sync::Arc::new(Watch::new(0));
    let theirs = std::sync::Arc::clone(&is_whole);
    let peer = Peer::start(move |talk| {
        talk.content()?;
        theirs.change(|count| *count += 1);
        talk.wire.send(reply(200, &[], "ok"))?;
        Ok(true)
    });
    let balancer = Balancer::before([&peer], &["-N", "1"]);
    for bytes in [
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\nsome",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nsome\r\n",
    ] {
        balancer.client().send(bytes);
        // Its place is free, and no one else's request is the rest of it.
        assert_eq!(balancer.get("/").text(), "ok");
    }
    assert_eq!(is_whole.look(|count| *count), 2);
}

#[test]
fn what_could_be_read_in_two_ways_is_refused_and_reaches_no_server() {
    let (peer, balancer) = echoing();
    for (bytes, status) in [
        (
            "POST /bad HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            400,
        ),
        (
            "POST /bad HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
            400,
        ),
        (
            "POST /bad HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: frob\r\n\r\n",
            501,
        ),
        ("GET /bad HTTP/1.1\nHost: a\n\n", 400),
        ("GET /bad HTTP/1.1\r\nHost: a\r\nX-A: b\r\n c\r\n\r\n", 400),
        ("GET /bad HTTP/1.1\r\nHost : a\r\n\r\n", 400),
        ("GET /bad HTTP/1.1\r\n\r\n", 400),
        ("GET /bad HTTP/2.0\r\nHost: a\r\n\r\n", 505),
    ] {
        let mut client = balancer.client();
        client.send(bytes);
        assert_eq!(client.response().status, status, "{bytes:?}");
        assert!(client.is_ended(), "{bytes:?}");
    }
    let mut client = balancer.client();
    client.send(format!(
        "GET /{} HTTP/1.1\r\nHost: a\r\n\r\n",
        "a".repeat(9 << 10)
    ));
    assert_eq!(client.response().status, 414);
    let mut client = balancer.client();
    client.send(format!(
        "GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n",
        "a".repeat(17 << 10)
    ));
    assert_eq!(client.response().status, 431);
    assert_eq!(peer.targets(), [""; 0]);
}

#[test]
fn hop_by_hop_fields_do_not_cross_and_servers_hear_of_the_client() {
    let (peer, balancer) = echoing();
    let mut client = balancer.client();
    client.send(request(
        "GET",
        "/",
        &[
            "Connection: keep-alive, X-Hop",
            "Keep-Alive: timeout=5",
            "X-Hop: secret",
            "X-End: kept",
            "X-Forwarded-For: 6.6.6.6",
        ],
        b"",
    ));
    assert_eq!(client.response().status, 200);
    let head = peer.request();
    for gone in ["Connection", "Keep-Alive", "X-Hop"] {
        assert_eq!(head.field(gone), None, "{head:?}");
    }
    assert_eq!(head.field("X-End"), Some("kept"));
    assert_eq!(head.field("X-Forwarded-For"), Some("127.0.0.1"));
    assert_eq!(head.field("X-Forwarded-Host"), Some("test"));
    assert!(head.field("Via").unwrap().starts_with("1.1 "));
}

#[test]
fn clients_at_once_get_their_own_answers() {
    let (_peer, balancer) = echoing();
    thread::scope(|scope| {
        for number in 0..8 {
            let balancer = &balancer;
            scope.spawn(move || {
                let mut client: Client = balancer.client();
                for index in 0..50 {
                    let content = format!("{number} {index}").repeat(index * 20);
                    let response = client.post("/", content.as_bytes());
                    assert!(response.text() == content);
                }
            });
        }
    });
}

#[test]
fn a_head_of_the_largest_size_passes() {
    let peer = Peer::start(|talk| {
        let length = talk.head.field("X-Large").unwrap().len();
        talk.wire.send(reply(200, &[], length.to_string()))?;
        Ok(true)
    });
    let balancer = Balancer::before([&peer], &[]);
    let field = format!("X-Large: {}", "a".repeat(15 << 10));
    let mut client = balancer.client();
    client.send(request("GET", "/", &[&field], b""));
    assert_eq!(client.response().text(), (15 << 10).to_string());
}
