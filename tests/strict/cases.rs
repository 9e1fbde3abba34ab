//! The second reading itself: what it takes and what it refuses, rule by rule.

use super::chunks::chunks;
use super::message::{Asked, Framing, request, response};
use super::{Manner, Stop, show};

const ASKED: Asked = Asked {
    head: false,
    minor: 1,
    upgrade: false,
    trailers: false,
};

/// A request with these field lines behind a Host.
fn with(fields: &str) -> String {
    format!("POST /p?q HTTP/1.1\r\nHost: a\r\n{fields}\r\n")
}

fn is_request(text: &str, manner: Manner) -> bool {
    matches!(request(text.as_bytes(), manner), Ok((_, length)) if length == text.len())
}

fn is_bad(text: &str) -> bool {
    matches!(
        request(text.as_bytes(), Manner::Received),
        Err(Stop::Bad(_))
    )
}

fn is_response(text: &str, asked: Asked) -> bool {
    let read = response(text.as_bytes(), asked, true, Manner::Sent);
    matches!(read, Ok((_, length)) if length == text.len())
}

/// Requests that anybody may send, and whether this proxy may.
const REQUESTS: &[(&str, &str, bool)] = &[
    ("RFC 9112 §3.2.1", "GET / HTTP/1.1\r\nHost: a\r\n\r\n", true),
    (
        "RFC 9112 §3.2.1",
        "GET //x/../y?a=b&c HTTP/1.1\r\nHost: a\r\n\r\n",
        true,
    ),
    (
        "RFC 9112 §3.2.2",
        "GET http://a HTTP/1.1\r\nHost: b\r\n\r\n",
        false,
    ),
    (
        "RFC 9112 §3.2.4",
        "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
        true,
    ),
    ("RFC 9112 §3.2", "GET / HTTP/1.1\r\nHost: \r\n\r\n", true),
    (
        "RFC 9110 §9.1",
        "M-SEARCH / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n",
        true,
    ),
    ("RFC 9112 §2.3", "GET / HTTP/1.0\r\n\r\n", false),
    ("RFC 9112 §5", "GET / HTTP/1.1\r\nhOST:a\r\n\r\n", false),
    (
        "RFC 9112 §5",
        "GET / HTTP/1.1\r\nHost: \t a \r\n\r\n",
        false,
    ),
    (
        "RFC 9110 §5.5",
        "GET / HTTP/1.1\r\nHost: a\r\nX: \u{e9} \t b\r\n\r\n",
        true,
    ),
    (
        "RFC 9110 §5.5",
        "GET / HTTP/1.1\r\nHost: a\r\nX: \r\n\r\n",
        true,
    ),
    (
        "RFC 9112 §6.2",
        "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc",
        true,
    ),
    (
        "RFC 9112 §7.1",
        "PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
        true,
    ),
    (
        "RFC 9112 §7.1.1",
        "PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1;x=\"\\\"\"\r\na\r\n0\r\n\r\n",
        false,
    ),
    (
        "RFC 9112 §7.1.2",
        "PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX-Sum: 1\r\n\r\n",
        true,
    ),
    (
        "RFC 9110 §7.8",
        "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: b\r\nConnection: Upgrade\r\n\r\n",
        true,
    ),
    (
        "RFC 9110 §10.1.4",
        "GET / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nConnection: TE\r\n\r\n",
        true,
    ),
    (
        "RFC 9110 §10.1.1",
        "PUT / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n\r\n",
        true,
    ),
    (
        "RFC 9110 §7.6.1",
        "GET / HTTP/1.1\r\nHost: a\r\nX: a\r\nConnection: x\r\n\r\n",
        false,
    ),
    (
        "RFC 9110 §7.6.1",
        "GET / HTTP/1.1\r\nHost: a\r\nKeep-Alive: a\r\n\r\n",
        false,
    ),
    (
        "RFC 9110 §7.6.1",
        "GET / HTTP/1.1\r\nHost: a\r\nProxy-Connection: close\r\n\r\n",
        false,
    ),
    (
        "RFC 9110 §10.1.4",
        "GET / HTTP/1.1\r\nHost: a\r\nTE: gzip\r\nConnection: TE\r\n\r\n",
        false,
    ),
    (
        "RFC 9110 §7.8",
        "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: b\r\n\r\n",
        false,
    ),
];

#[test]
fn a_request_that_the_grammar_allows_is_read() {
    for (section, text, may_be_sent) in REQUESTS {
        assert!(is_request(text, Manner::Received), "{section}: {text:?}");
        assert_eq!(
            is_request(text, Manner::Sent),
            *may_be_sent,
            "{section}: {text:?}"
        );
    }
}

/// Request lines that are none.
const REQUEST_LINES: &[(&str, &str)] = &[
    ("RFC 9112 §3", "GET /"),
    ("RFC 9112 §3", "GET  / HTTP/1.1"),
    ("RFC 9112 §3", " GET / HTTP/1.1"),
    ("RFC 9112 §3", "GET / HTTP/1.1 "),
    ("RFC 9112 §3", "GET\t/ HTTP/1.1"),
    ("RFC 9112 §3", "GET / HTTP/1.1 x"),
    ("RFC 9110 §9.1", "G(T / HTTP/1.1"),
    ("RFC 9110 §9.1", "\u{e9} / HTTP/1.1"),
    ("RFC 9112 §3.2", "GET a HTTP/1.1"),
    ("RFC 9112 §3.2", "GET * HTTP/1.1"),
    ("RFC 9112 §3.2", "GET /a#b HTTP/1.1"),
    ("RFC 9112 §3.2", "GET /\"<> HTTP/1.1"),
    ("RFC 9112 §3.2", "GET /\\ HTTP/1.1"),
    ("RFC 9112 §3.2", "GET /\u{e9} HTTP/1.1"),
    ("RFC 9110 §4.2.1", "GET http:///x HTTP/1.1"),
    ("RFC 9110 §4.2.4", "GET http://u@a/ HTTP/1.1"),
    ("RFC 9110 §4.2", "GET ftp://a/ HTTP/1.1"),
    ("RFC 9112 §3.2.3", "CONNECT a:80 HTTP/1.1"),
    ("RFC 9112 §2.3", "GET / HTTP/1.2"),
    ("RFC 9112 §2.3", "GET / HTTP/2.0"),
    ("RFC 9112 §2.3", "GET / HTTP/01.1"),
    ("RFC 9112 §2.3", "GET / http/1.1"),
    ("RFC 9112 §2.3", "GET / HTTP/1.1\u{b}"),
];

#[test]
fn a_request_line_that_is_none_is_refused() {
    for (section, line) in REQUEST_LINES {
        let text = format!("{line}\r\nHost: a\r\n\r\n");
        assert!(is_bad(&text), "{section}: {text:?}");
    }
}

/// Fields that no request may have, behind a Host.
const REQUEST_FIELDS: &[(&str, &str)] = &[
    ("RFC 9112 §2.2", "X: a\n"),
    ("RFC 9112 §2.2", "X: a\rb\r\n"),
    ("RFC 9112 §2.2", " X: a\r\n"),
    ("RFC 9112 §5.1", "X : a\r\n"),
    ("RFC 9112 §5.1", ": a\r\n"),
    ("RFC 9112 §5.1", "X\r\n"),
    ("RFC 9112 §5.2", "X: a\r\n b\r\n"),
    ("RFC 9112 §5.2", "X: a\r\n\tb: c\r\n"),
    ("RFC 9110 §5.1", "X(: a\r\n"),
    ("RFC 9110 §5.1", "\u{e9}: a\r\n"),
    ("RFC 9110 §5.5", "X: a\0b\r\n"),
    ("RFC 9110 §5.5", "X: \u{7f}\r\n"),
    ("RFC 9110 §5.5", "X: \u{1b}\r\n"),
    ("RFC 9112 §3.2", "Host: a\r\n"),
    (
        "RFC 9112 §6.3",
        "Content-Length: 0\r\nContent-Length: 0\r\n",
    ),
    ("RFC 9112 §6.3", "Content-Length: 0, 0\r\n"),
    ("RFC 9110 §8.6", "Content-Length: +0\r\n"),
    ("RFC 9110 §8.6", "Content-Length: 0x0\r\n"),
    ("RFC 9110 §8.6", "Content-Length: \r\n"),
    ("RFC 9110 §8.6", "Content-Length: 0 0\r\n"),
    ("RFC 9110 §8.6", "Content-Length: 9223372036854775808\r\n"),
    (
        "RFC 9112 §6.1",
        "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n",
    ),
    (
        "RFC 9112 §6.1",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
    ),
    ("RFC 9112 §6.3", "Transfer-Encoding: gzip\r\n"),
    ("RFC 9112 §6.1", "Transfer-Encoding: gzip, chunked\r\n"),
    ("RFC 9112 §6.3", "Transfer-Encoding: chunked, identity\r\n"),
    ("RFC 9112 §7", "Transfer-Encoding: chunked;a=b\r\n"),
    ("RFC 9112 §7", "Transfer-Encoding: \"chunked\"\r\n"),
    ("RFC 9110 §10.1.1", "Expect: 200-ok\r\n"),
];

#[test]
fn a_field_that_no_request_may_have_is_refused() {
    for (section, fields) in REQUEST_FIELDS {
        for content in ["", "0\r\n\r\n"] {
            let text = format!("{}{content}", with(fields));
            assert!(is_bad(&text), "{section}: {text:?}");
        }
    }
}

#[test]
fn a_host_that_is_none_is_refused() {
    for host in [
        "a b", "a/b", "u@a", ":80", "[::1", "[]", "[::1]x", "a:b", "a:80:81", "::1", "a?b",
    ] {
        let text = format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
        assert!(is_bad(&text), "RFC 9112 §3.2: {text:?}");
    }
    assert!(is_bad("GET / HTTP/1.1\r\n\r\n"), "RFC 9112 §3.2");
    let text = "PUT / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    assert!(is_bad(text), "RFC 9112 §6.1");
}

/// Chunks: what they hold, or none; and whether they are canonical.
const CHUNKS: &[(&str, &str, Option<&str>, bool)] = &[
    (
        "RFC 9112 §7.1",
        "1\r\na\r\n1A\r\nabcdefghijklmnopqrstuvwxyz\r\n0\r\n\r\n",
        Some("aabcdefghijklmnopqrstuvwxyz"),
        true,
    ),
    ("RFC 9112 §7.1", "000\r\n\r\n", Some(""), true),
    ("RFC 9112 §7.1.2", "0\r\nX: y\r\n\r\n", Some(""), true),
    ("RFC 9112 §7.1.2", "0\r\nX:y\r\n\r\n", Some(""), false),
    (
        "RFC 9112 §7.1.1",
        "1;a\r\nb\r\n0;c=d\r\n\r\n",
        Some("b"),
        false,
    ),
    (
        "RFC 9112 §7.1.1",
        "1 ;a=\"b;\\\"\"\r\nb\r\n0\r\n\r\n",
        Some("b"),
        false,
    ),
    ("RFC 9112 §7.1.1", "1 \r\nb\r\n0\r\n\r\n", Some("b"), false),
    (
        "RFC 9110 §6.5.1",
        "0\r\nSet-Cookie: a\r\n\r\n",
        Some(""),
        false,
    ),
    ("RFC 9112 §7.1.1", "1;\"\r\nb\r\n0\r\n\r\n", None, false),
    ("RFC 9112 §7.1.1", "1;\n\r\nb\r\n0\r\n\r\n", None, false),
    ("RFC 9112 §7.1", "\r\n\r\n", None, false),
    ("RFC 9112 §7.1", "0x1\r\na\r\n0\r\n\r\n", None, false),
    ("RFC 9112 §7.1", "+1\r\na\r\n0\r\n\r\n", None, false),
    ("RFC 9112 §7.1", " 1\r\na\r\n0\r\n\r\n", None, false),
    ("RFC 9112 §7.1", "1\na\r\n0\r\n\r\n", None, false),
    ("RFC 9112 §7.1", "1\r\nab\r\n0\r\n\r\n", None, false),
    ("RFC 9112 §7.1", "1\r\na\n0\r\n\r\n", None, false),
    ("RFC 9112 §7.1", "1\r\na0\r\n\r\n", None, false),
    ("RFC 9112 §7.1", "00000000000000000\r\n\r\n", None, false),
    ("RFC 9112 §7.1", "8000000000000000\r\na", None, false),
    ("RFC 9112 §7.1.2", "0\r\nX : y\r\n\r\n", None, false),
    ("RFC 9112 §7.1.2", "0\r\nX\r\n\r\n", None, false),
    (
        "RFC 9110 §6.5.1",
        "0\r\nContent-Length: 1\r\n\r\n",
        None,
        false,
    ),
    (
        "RFC 9110 §6.5.1",
        "0\r\ntransfer-encoding: chunked\r\n\r\n",
        None,
        false,
    ),
    ("RFC 9110 §6.5.1", "0\r\nHost: a\r\n\r\n", None, false),
    (
        "RFC 9110 §6.5.1",
        "0\r\nAuthorization: a\r\n\r\n",
        None,
        false,
    ),
];

#[test]
fn chunks_are_read_as_their_grammar_has_them() {
    for (section, text, data, is_canonical) in CHUNKS {
        let read = chunks(text.as_bytes(), Manner::Received);
        assert!(read != Err(Stop::Open), "{section}: {text:?}");
        let read = read.ok().filter(|(_, length)| *length == text.len());
        let read = read.map(|(chunked, _)| show(&chunked.data));
        assert_eq!(read.as_deref(), *data, "{section}: {text:?}");
        let read = chunks(text.as_bytes(), Manner::Sent);
        assert_eq!(read.is_ok(), *is_canonical, "{section}: {text:?}");
    }
}

#[test]
fn every_part_of_a_message_is_open_and_none_is_whole() {
    for (_, text, _) in REQUESTS {
        for length in 0..text.len() {
            let read = request(&text.as_bytes()[..length], Manner::Received);
            assert_eq!(read, Err(Stop::Open), "{:?}", &text.as_bytes()[..length]);
        }
    }
}

/// Responses that this proxy may send to a GET of a 1.1 client.
const RESPONSES: &[(&str, &str)] = &[
    (
        "RFC 9112 §4",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na",
    ),
    ("RFC 9112 §4", "HTTP/1.1 599 \r\nContent-Length: 0\r\n\r\n"),
    (
        "RFC 9112 §4",
        "HTTP/1.1 200 \u{e9}\tb\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
    ),
    (
        "RFC 9110 §15.2",
        "HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n",
    ),
    ("RFC 9110 §15.3.5", "HTTP/1.1 204 No Content\r\n\r\n"),
    (
        "RFC 9110 §15.4.5",
        "HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n\r\n",
    ),
    (
        "RFC 9112 §7.1",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
    ),
    (
        "RFC 9112 §6.3",
        "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nuntil the end",
    ),
];

/// Responses that it may not send.
const NO_RESPONSES: &[(&str, &str)] = &[
    ("RFC 9112 §4", "HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n"),
    (
        "RFC 9112 §4",
        "HTTP/1.1 000 No\r\nContent-Length: 0\r\n\r\n",
    ),
    (
        "RFC 9112 §4",
        "HTTP/1.1 099 No\r\nContent-Length: 0\r\n\r\n",
    ),
    ("RFC 9112 §4", "HTTP/1.1 20 OK\r\nContent-Length: 0\r\n\r\n"),
    (
        "RFC 9112 §4",
        "HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n",
    ),
    (
        "RFC 9112 §4",
        "HTTP/1.1  200 OK\r\nContent-Length: 0\r\n\r\n",
    ),
    (
        "RFC 9110 §8.6",
        "HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n",
    ),
    (
        "RFC 9112 §6.1",
        "HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n",
    ),
    (
        "RFC 9110 §8.6",
        "HTTP/1.1 100 Continue\r\nContent-Length: 0\r\n\r\n",
    ),
    (
        "RFC 9110 §15.2.2",
        "HTTP/1.1 101 Switch\r\nUpgrade: b\r\nConnection: Upgrade\r\n\r\n",
    ),
    ("RFC 9112 §6.3", "HTTP/1.1 200 OK\r\n\r\nuntil the end"),
    (
        "RFC 9112 §6.3",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
    ),
    (
        "RFC 9112 §7.1.2",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: y\r\n\r\n",
    ),
    (
        "RFC 9110 §7.6.1",
        "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nKeep-Alive: a\r\n\r\n",
    ),
    (
        "RFC 9110 §7.6.1",
        "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: x\r\nX: y\r\n\r\n",
    ),
    (
        "RFC 9110 §7.8",
        "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nUpgrade: b\r\n\r\n",
    ),
    (
        "RFC 9112 §9.3",
        "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close, x\r\n\r\n",
    ),
];

#[test]
fn a_response_is_read_as_a_proxy_may_send_it() {
    for (section, text) in RESPONSES {
        assert!(is_response(text, ASKED), "{section}: {text:?}");
    }
    for (section, text) in NO_RESPONSES {
        let read = response(text.as_bytes(), ASKED, true, Manner::Sent);
        assert!(matches!(read, Err(Stop::Bad(_))), "{section}: {text:?}");
    }
}

#[test]
fn who_asked_decides_how_a_response_is_read() {
    let head = Asked {
        head: true,
        ..ASKED
    };
    let old = Asked { minor: 0, ..ASKED };
    let upgrading = Asked {
        upgrade: true,
        ..ASKED
    };
    let curious = Asked {
        trailers: true,
        ..ASKED
    };
    let length = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n";
    assert!(is_response(length, head) && !is_response(length, ASKED));
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    assert!(is_response(chunked, ASKED) && !is_response(chunked, old));
    let kept = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: keep-alive\r\n\r\n";
    assert!(is_response(kept, old) && !is_response(kept, ASKED));
    let interim = "HTTP/1.1 100 Continue\r\n\r\n";
    assert!(is_response(interim, ASKED) && !is_response(interim, old));
    let switch = "HTTP/1.1 101 S\r\nUpgrade: b\r\nConnection: Upgrade\r\n\r\n";
    assert!(is_response(switch, upgrading) && !is_response(switch, ASKED));
    let trailers = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: y\r\n\r\n";
    assert!(is_response(trailers, curious) && !is_response(trailers, ASKED));
}

#[test]
fn content_that_only_the_stream_ends_is_open_until_then() {
    let text = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nabc";
    assert_eq!(
        response(text, ASKED, false, Manner::Sent).err(),
        Some(Stop::Open)
    );
    let (read, _) = response(text, ASKED, true, Manner::Sent).unwrap();
    assert_eq!(
        (read.framing, read.content.as_slice()),
        (Framing::UntilClose, &b"abc"[..])
    );
    let text = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nabc";
    assert_eq!(
        response(text, ASKED, true, Manner::Sent).err(),
        Some(Stop::Open)
    );
}
