//! Responses in every shape: framed, unframed, in single bytes, broken and cut.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, OnceLock};

use bestguess::config::Address;

use crate::peer::{Peer, Talk, hangs, reply};
use crate::program::{Balancer, catch_up};

/// A response: target, bytes, whether the server keeps its connection then, status and content.
type Row = (&'static str, String, bool, u16, String);

fn rows() -> Vec<Row> {
    let hello = || "hello".to_owned();
    let big = "0123456789".repeat(30_000);
    let big_chunks = format!("186A0\r\n{}\r\n", &big[..100_000]).repeat(3);
    let rows = [
        ("/length", "1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello".to_owned(), true, 200, hello()),
        ("/empty", "1.1 200 OK\r\nContent-Length: 0\r\n\r\n".to_owned(), true, 200, String::new()),
        ("/no-reason", "1.1 200 \r\nContent-Length: 5\r\n\r\nhello".to_owned(), true, 200, hello()),
        (
            "/chunked",
            "1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;a=b\r\nhe\r\n3\r\nllo\r\n0\r\nX-T: t\r\n\r\n".to_owned(),
            true,
            200,
            hello(),
        ),
        ("/until-close", "1.1 200 OK\r\n\r\nhello".to_owned(), false, 200, hello()),
        ("/until-close-said", "1.1 200 OK\r\nConnection: close\r\n\r\nhello".to_owned(), false, 200, hello()),
        ("/1.0", "1.0 200 OK\r\n\r\nhello".to_owned(), false, 200, hello()),
        ("/1.0-length", "1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello".to_owned(), false, 200, hello()),
        (
            "/1.0-kept",
            "1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 5\r\n\r\nhello".to_owned(),
            true,
            200,
            hello(),
        ),
        ("/204", "1.1 204 No Content\r\n\r\n".to_owned(), true, 204, String::new()),
        ("/304", "1.1 304 Not Modified\r\nContent-Length: 5000\r\n\r\n".to_owned(), true, 304, String::new()),
        ("/404", "1.1 404 Not Found\r\nContent-Length: 5\r\n\r\nhello".to_owned(), true, 404, hello()),
        (
            "/103",
            "1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello".to_owned(),
            true,
            200,
            hello(),
        ),
        ("/big", format!("1.1 200 OK\r\nContent-Length: {}\r\n\r\n{big}", big.len()), true, 200, big.clone()),
        (
            "/big-chunked",
            format!("1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{big_chunks}0\r\n\r\n"),
            true,
            200,
            big.clone(),
        ),
        ("/big-until-close", format!("1.1 200 OK\r\n\r\n{big}"), false, 200, big),
    ];
    rows.into()
}

/// Answers by its rows, with the bytes of the head only to a HEAD.
fn scripted(rows: Vec<Row>) -> impl Fn(&mut Talk<'_>) -> io::Result<bool> + Send + Sync {
    let rows: HashMap<_, _> = rows
        .into_iter()
        .map(|row| (row.0, (row.1, row.2)))
        .collect();
    move |talk| {
        talk.content()?;
        let (bytes, keeps) = &rows[&*talk.target];
        let bytes = format!("HTTP/{bytes}");
        let end = match &*talk.method {
            "HEAD" => bytes.find("\r\n\r\n").unwrap() + 4,
            _ => bytes.len(),
        };
        talk.wire.send(&bytes[..end])?;
        Ok(*keeps)
    }
}

fn before_script() -> (Peer, Balancer) {
    let peer = Peer::start(scripted(rows()));
    let balancer = Balancer::before([&peer], &["-X", "600"]);
    (peer, balancer)
}

#[test]
fn every_framing_arrives_whole_and_the_client_s_connection_goes_on() {
    let (_peer, balancer) = before_script();
    let mut client = balancer.client();
    for (target, _, _, status, content) in rows() {
        let response = client.get(target);
        assert_eq!(response.status, status, "{target}");
        assert!(response.content == content.as_bytes(), "{target}");
        // What the server says of its connection is not said of the client's: what ended with the
        // one comes in chunks on the other.
        assert!(!response.head.closes(), "{target}: {:?}", response.head);
        let is_chunked = response.field("Transfer-Encoding").is_some();
        let is_sized = response.field("Content-Length").is_some() || status == 204;
        assert!(is_chunked != is_sized, "{target}: {:?}", response.head);
    }
}

#[test]
fn content_whose_end_does_not_come_is_cut_not_ended() {
    let peer = Peer::start(|talk| {
        talk.wire.send("HTTP/1.1 200 OK\r\n\r\nsome")?;
        hangs(talk)
    });
    let balancer = Balancer::before([&peer], &["-X", "600", "--response-timeout", "300ms"]);
    let mut client = balancer.client();
    client.ask("GET", "/");
    assert!(client.response_to("GET").is_err());
}

#[test]
fn head_has_no_content_whatever_its_fields_say() {
    let (_peer, balancer) = before_script();
    let mut client = balancer.client();
    for (target, length) in [
        ("/length", Some("5")),
        ("/big", Some("300000")),
        ("/chunked", None),
        ("/304", Some("5000")),
        ("/204", None),
    ] {
        client.ask("HEAD", target);
        let response = client.response_to("HEAD").unwrap();
        assert_eq!(response.field("Content-Length"), length, "{target}");
        assert_eq!(client.get("/length").text(), "hello", "behind {target}");
    }
}

#[test]
fn interim_responses_come_before_the_final_one() {
    let (_peer, balancer) = before_script();
    let response = balancer.get("/103");
    assert_eq!(response.interim.len(), 1);
    assert_eq!(response.interim[0].field("Link"), Some("</a>"));
    assert!(response.interim[0].first.starts_with("HTTP/1.1 103 "));
}

#[test]
fn a_1_0_client_gets_no_chunks_and_no_interim_response() {
    let (_peer, balancer) = before_script();
    for (target, _, _, status, content) in rows() {
        let mut client = balancer.client();
        client.send(format!("GET {target} HTTP/1.0\r\n\r\n"));
        let response = client.response();
        assert_eq!(
            (response.status, response.interim.len()),
            (status, 0),
            "{target}"
        );
        assert_eq!(response.field("Transfer-Encoding"), None, "{target}");
        assert!(response.content == content.as_bytes(), "{target}");
        assert!(client.is_ended(), "{target}");
    }
}

#[test]
fn responses_in_single_bytes_arrive_whole() {
    let small: Vec<Row> = rows().into_iter().filter(|row| row.1.len() < 200).collect();
    let place: Arc<OnceLock<Address>> = Arc::new(OnceLock::new());
    let theirs = Arc::clone(&place);
    let answers = small.clone();
    let peer = Peer::near(move |talk| {
        let row = answers.iter().find(|row| row.0 == talk.target).unwrap();
        for byte in format!("HTTP/{}", row.1).bytes() {
            talk.wire.send([byte])?;
            catch_up(theirs.get().unwrap());
        }
        Ok(row.2)
    });
    let balancer = Balancer::near([&peer], &["-X", "600"]);
    place.set(balancer.address.clone()).unwrap();
    for (target, _, _, status, content) in small {
        let response = balancer.get(target);
        assert_eq!(
            (response.status, response.text()),
            (status, &*content),
            "{target}"
        );
    }
}

#[test]
fn a_broken_response_is_502() {
    let rows = [
        ("/garbage", "this is not HTTP at all\r\n\r\n"),
        ("/nothing", ""),
        ("/closed-head", "HTTP/1.1 200 OK\r\nContent-Le"),
        ("/bare-lf", "HTTP/1.1 200 OK\nContent-Length: 0\n\n"),
        (
            "/two-lengths",
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
        ),
        (
            "/length-and-chunked",
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        ),
        (
            "/bad-length",
            "HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nhello",
        ),
        (
            "/folded",
            "HTTP/1.1 200 OK\r\nX-A: b\r\n c\r\nContent-Length: 0\r\n\r\n",
        ),
        (
            "/status-099",
            "HTTP/1.1 099 Low\r\nContent-Length: 0\r\n\r\n",
        ),
        ("/version-2", "HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n"),
        (
            "/bad-chunk",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        ),
        (
            "/bad-trailer",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nHost: b\r\n\r\n",
        ),
        (
            "/unasked",
            "HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n",
        ),
    ];
    let peer = Peer::start(move |talk| {
        talk.content()?;
        let bytes = rows.iter().find(|row| row.0 == talk.target).unwrap().1;
        talk.wire.send(bytes)?;
        Ok(false)
    });
    let balancer = Balancer::before([&peer], &["-X", "600"]);
    let mut client = balancer.client();
    for (target, _) in rows {
        // A method that is never repeated: the verdict is on this one response.
        let response = client.post(target, b"");
        assert_eq!(response.status, 502, "{target}");
        assert!(!response.text().trim().is_empty(), "{target}");
    }
}

#[test]
fn a_response_that_breaks_off_cuts_the_client() {
    let rows = [
        (
            "/length",
            "HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\nsome",
        ),
        (
            "/chunked",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        ),
        (
            "/inside",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nFF\r\nhello",
        ),
    ];
    let peer = Peer::start(move |talk| {
        let bytes = rows.iter().find(|row| row.0 == talk.target).unwrap().1;
        talk.wire.send(bytes)?;
        Ok(false)
    });
    let balancer = Balancer::before([&peer], &["-X", "600"]);
    for (target, _) in rows {
        let mut client = balancer.client();
        client.ask("GET", target);
        assert!(client.response_to("GET").is_err(), "{target}");
    }
}

#[test]
fn a_cut_response_looks_whole_to_no_1_0_client() {
    // Only the end of the connection tells a 1.0 client where these end: it has to be a reset.
    let rows = [
        (
            "/chunked",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n5\r\nhe",
        ),
        ("/late", "HTTP/1.1 200 OK\r\n\r\nhello"),
    ];
    let peer = Peer::start(move |talk| {
        let bytes = rows.iter().find(|row| row.0 == talk.target).unwrap().1;
        talk.wire.send(bytes)?;
        match &*talk.target {
            "/late" => hangs(talk),
            _ => Ok(false),
        }
    });
    let balancer = Balancer::before([&peer], &["-X", "600", "--response-timeout", "300ms"]);
    for (target, _) in rows {
        let mut client = balancer.client();
        client.send(format!("GET {target} HTTP/1.0\r\n\r\n"));
        let fault = client.response_to("GET").map(drop).unwrap_err();
        assert_eq!(fault.kind(), io::ErrorKind::ConnectionReset, "{target}");
    }
}

#[test]
fn a_link_behind_an_early_response_is_never_used_again() {
    // The response begins before the request's content comes, and ends after it has come.
    let peer = Peer::start(|talk| {
        if talk.method == "GET" {
            talk.wire.send(reply(200, &[], "own"))?;
            return Ok(true);
        }
        talk.wire
            .send("HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nhalf")?;
        let content = talk.content()?;
        assert_eq!(content.len(), 5);
        talk.wire.send("half")?;
        Ok(true)
    });
    let balancer = Balancer::before([&peer], &["-X", "600", "-R", "1000000"]);
    let mut client = balancer.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n");
    client.await_some();
    client.send("12345");
    assert_eq!(client.response().text(), "halfhalf");
    assert_eq!(balancer.get("/").text(), "own");
    // A link for each, and the one of the checks.
    assert_eq!(peer.connections(), 3);
}

#[test]
fn bytes_behind_a_response_reach_no_other_client() {
    let peer = Peer::start(|talk| {
        let own = reply(200, &[], &talk.target);
        let smuggled = reply(200, &[], "smuggled");
        talk.wire.send([own, smuggled].concat())?;
        Ok(true)
    });
    let balancer = Balancer::before([&peer], &["-X", "600"]);
    let mut kept = balancer.client();
    for index in 0..10 {
        let target = format!("/{index}");
        assert_eq!(kept.get(&target).text(), target);
        assert_eq!(balancer.get(&target).text(), target);
    }
}
