use super::*;
use crate::http::head::{self, Method};

const PLAIN: Forwarding<'static> = Forwarding {
    peer: None,
    host_default: "me:80",
    trust: false,
    forwarded: false,
    id: None,
    cookie: None,
};
const ADDED: &str = "Via: 1.1 bestguess\r\nX-Forwarded-Proto: http\r\n";
const KEPT: Answering<'static> = Answering {
    date: None,
    version: Version::Http11,
    close: false,
    reframing: Reframing::None,
    switch: false,
    trailers: false,
    id: None,
    cookie: None,
};

fn sent_with(head: &[u8], forwarding: &Forwarding<'_>) -> Vec<u8> {
    let mut slots = head::slots();
    let asked = head::request(head, &mut slots).ok().unwrap();
    let mut out = Vec::new();
    request(&mut out, &asked, forwarding);
    out
}

/// A request with these lines as it goes on, as text without the last two line ends.
fn sent(lines: &[&str], forwarding: &Forwarding<'_>) -> String {
    let head = format!("{}\r\n\r\n", lines.join("\r\n"));
    String::from_utf8(sent_with(head.as_bytes(), forwarding)).unwrap()
}

fn answered(lines: &[&str], method: Method, answering: Answering<'_>) -> String {
    let head = format!("{}\r\n\r\n", lines.join("\r\n"));
    let mut slots = head::slots();
    let heard = head::response(head.as_bytes(), method, &mut slots)
        .ok()
        .unwrap();
    let mut out = Vec::new();
    response(&mut out, &heard, answering);
    String::from_utf8(out).unwrap()
}

fn from(peer: &str) -> Forwarding<'static> {
    Forwarding {
        peer: Some(peer.parse().unwrap()),
        ..PLAIN
    }
}

#[test]
fn fields_keep_their_order_and_their_bytes() {
    let head = b"PUT /a?b HTTP/1.1\r\nx-One:1\r\nHost:  a:80 \r\nX-TWO: \t2  3\t\r\nX-Empty:\r\nX-Bytes: \x80\xff\"\r\n\
        Content-Length: 5\r\nX-Two: 4\r\n\r\n";
    let expected = b"PUT /a?b HTTP/1.1\r\nx-One: 1\r\nHost: a:80\r\nX-TWO: 2  3\r\nX-Empty: \r\nX-Bytes: \x80\xff\"\r\n\
        Content-Length: 5\r\nX-Two: 4\r\nVia: 1.1 bestguess\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: a:80\r\n\r\n";
    assert_eq!(
        sent_with(head, &PLAIN).escape_ascii().to_string(),
        expected.escape_ascii().to_string()
    );
}

#[test]
fn what_belongs_to_the_connection_stays_behind() {
    let lines = [
        "GET / HTTP/1.1",
        "TE: gzip",
        "Host: a",
        "Connection: close, X-Named, TE, Cookie",
        "X-Named: 1",
        "Keep-Alive: timeout=5",
        "Cookie: kept",
        "Proxy-Connection: keep-alive",
        "x-named: 2",
        "Upgrade: websocket",
        "Trailer: X-Sum",
        "HTTP2-Settings: AA",
        "X-Last: 1",
    ];
    let expected = format!(
        "GET / HTTP/1.1\r\nHost: a\r\nCookie: kept\r\nX-Last: 1\r\n{ADDED}X-Forwarded-Host: a\r\n\r\n"
    );
    assert_eq!(sent(&lines, &PLAIN), expected);
}

#[test]
fn an_upgrade_goes_on_with_its_connection_field() {
    let lines = [
        "GET / HTTP/1.1",
        "Host: a",
        "Connection: upgrade, x",
        "Upgrade: websocket",
        "X: 1",
    ];
    let expected = format!(
        "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n{ADDED}X-Forwarded-Host: a\r\n\r\n"
    );
    assert_eq!(sent(&lines, &PLAIN), expected);
    let h2c = [
        "GET / HTTP/1.1",
        "Host: a",
        "Connection: upgrade, http2-settings",
        "Upgrade: h2c",
        "HTTP2-Settings: A",
    ];
    assert_eq!(
        sent(&h2c, &PLAIN),
        format!("GET / HTTP/1.1\r\nHost: a\r\n{ADDED}X-Forwarded-Host: a\r\n\r\n")
    );
}

#[test]
fn an_expectation_goes_on_if_the_client_waits() {
    let lines = |version| {
        sent(
            &[
                version,
                "Host: a",
                "Expect: 100-continue",
                "Content-Length: 1",
            ],
            &PLAIN,
        )
    };
    assert!(lines("POST / HTTP/1.1").contains("Expect: 100-continue\r\n"));
    assert!(!lines("POST / HTTP/1.0").contains("Expect"));
}

#[test]
fn the_target_goes_on_in_origin_form_and_its_authority_as_host() {
    for (line, goes) in [
        ("GET http://b:81/c?d HTTP/1.1", "GET /c?d"),
        ("GET http://b:81 HTTP/1.1", "GET /"),
        ("GET http://b:81?d HTTP/1.1", "GET /?d"),
        ("OPTIONS http://b:81 HTTP/1.1", "OPTIONS *"),
        ("OPTIONS http://b:81/ HTTP/1.1", "OPTIONS /"),
        ("OPTIONS http://b:81?d HTTP/1.1", "OPTIONS /?d"),
    ] {
        let expected = format!(
            "{goes} HTTP/1.1\r\nHost: b:81\r\nX: 1\r\n{ADDED}X-Forwarded-Host: b:81\r\n\r\n"
        );
        assert_eq!(sent(&[line, "X: 1", "Host: a"], &PLAIN), expected);
    }
    assert!(
        sent(&["OPTIONS * HTTP/1.1", "Host: a"], &PLAIN)
            .starts_with("OPTIONS * HTTP/1.1\r\nHost: a\r\n")
    );
}

#[test]
fn a_1_0_request_goes_on_as_1_1_with_a_host() {
    let expected = "GET / HTTP/1.1\r\nX: 1\r\nHost: me:80\r\nVia: 1.0 bestguess\r\nX-Forwarded-Proto: http\r\n\r\n";
    assert_eq!(
        sent(
            &["GET / HTTP/1.0", "Connection: keep-alive", "X: 1"],
            &PLAIN
        ),
        expected
    );
    let named = sent(&["GET / HTTP/1.0", "Host: a"], &PLAIN);
    assert!(named.contains("Host: a\r\n") && !named.contains("me:80"));
    let empty = sent(&["GET / HTTP/1.1", "Host:"], &PLAIN);
    assert!(
        empty.starts_with("GET / HTTP/1.1\r\nHost: \r\nVia") && !empty.contains("Forwarded-Host")
    );
}

const TOLD: [&str; 9] = [
    "GET / HTTP/1.1",
    "X-Forwarded-For: 1.1.1.1",
    "Host: a",
    "x-forwarded-for:",
    "X-Forwarded-For: 2.2.2.2, 3.3.3.3",
    "X-Forwarded-Proto: https",
    "X-Forwarded-Host: b\";for=x",
    "Forwarded: for=1.1.1.1",
    "X_Forwarded_For: 6.6.6.6",
];

#[test]
fn what_clients_say_of_other_clients_is_replaced() {
    let expected = "GET / HTTP/1.1\r\nHost: a\r\nVia: 1.1 bestguess\r\nX-Forwarded-For: 192.0.2.7\r\n\
        X-Forwarded-Proto: http\r\nX-Forwarded-Host: a\r\n\r\n";
    assert_eq!(sent(&TOLD, &from("192.0.2.7")), expected);
}

#[test]
fn what_trusted_clients_say_is_gone_on_from() {
    let forwarding = Forwarding {
        trust: true,
        forwarded: true,
        ..from("192.0.2.7")
    };
    let expected = "GET / HTTP/1.1\r\nHost: a\r\nVia: 1.1 bestguess\r\n\
        X-Forwarded-For: 1.1.1.1, 2.2.2.2, 3.3.3.3, 192.0.2.7\r\nX-Forwarded-Proto: https\r\n\
        X-Forwarded-Host: b\";for=x\r\nForwarded: for=1.1.1.1\r\n\
        Forwarded: for=192.0.2.7;host=\"a\";proto=http\r\n\r\n";
    assert_eq!(sent(&TOLD, &forwarding), expected);
    let nothing = sent(
        &[
            "GET / HTTP/1.1",
            "Host: a",
            "X-Forwarded-For:",
            "X-Forwarded-Proto: ",
        ],
        &Forwarding {
            trust: true,
            ..PLAIN
        },
    );
    assert_eq!(
        nothing,
        format!("GET / HTTP/1.1\r\nHost: a\r\n{ADDED}X-Forwarded-Host: a\r\n\r\n")
    );
}

#[test]
fn addresses_are_written_as_forwarded_wants_them() {
    for (peer, plain, quoted) in [
        ("192.0.2.7", "192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7", "192.0.2.7"),
        ("2001:db8::7", "2001:db8::7", "\"[2001:db8::7]\""),
    ] {
        let head = sent(
            &["GET / HTTP/1.1", "Host: a"],
            &Forwarding {
                forwarded: true,
                ..from(peer)
            },
        );
        assert!(
            head.contains(&format!("X-Forwarded-For: {plain}\r\n")),
            "{head}"
        );
        assert!(
            head.contains(&format!(
                "Forwarded: for={quoted};host=\"a\";proto=http\r\n"
            )),
            "{head}"
        );
    }
    let head = sent(
        &["GET / HTTP/1.0"],
        &Forwarding {
            forwarded: true,
            ..PLAIN
        },
    );
    assert!(
        head.contains("Forwarded: for=unknown;proto=http\r\n") && !head.contains("X-Forwarded-For")
    );
}

#[test]
fn a_response_keeps_its_fields_but_those_of_the_connection() {
    let lines = [
        "HTTP/1.1 200 fine",
        "Set-Cookie: a=1",
        "Connection: keep-alive, X-Named, Set-Cookie2",
        "Set-Cookie: b=2",
        "Keep-Alive: timeout=5",
        "X-Named: 1",
        "Upgrade: h2c",
        "Trailer: X-Sum",
        "Transfer-Encoding: chunked",
        "Date:now ",
        "Proxy-Connection: close",
    ];
    let expected = "HTTP/1.1 200 fine\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\nTransfer-Encoding: chunked\r\n\
        Date: now\r\n\r\n";
    assert_eq!(answered(&lines, Method::Other, KEPT), expected);
    let unchunked = Answering {
        date: Some("later"),
        version: Version::Http10,
        close: true,
        reframing: Reframing::Unchunk,
        switch: false,
        trailers: false,
        id: None,
        cookie: None,
    };
    let expected = "HTTP/1.1 200 fine\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\nDate: now\r\nConnection: close\r\n\r\n";
    assert_eq!(answered(&lines, Method::Other, unchunked), expected);
}

#[test]
fn what_frames_content_has_one_spelling() {
    for (field, spelt) in [
        ("Content-Length: 5", "Content-Length: 5"),
        ("content-length: 5", "Content-Length: 5"),
        ("CONTENT-length: 5", "Content-Length: 5"),
        ("Content-Length: 0005", "Content-Length: 5"),
        ("Content-Length:5", "Content-Length: 5"),
        ("Content-Length: 000", "Content-Length: 0"),
        ("Content-Length: 0", "Content-Length: 0"),
        ("transfer-encoding: chunked", "Transfer-Encoding: chunked"),
        ("tRANSFER-eNCODING: chunked", "Transfer-Encoding: chunked"),
        ("Transfer-Encoding: Chunked", "Transfer-Encoding: chunked"),
    ] {
        let text = sent(&["POST / HTTP/1.1", "Host: a", field, "X: 1"], &PLAIN);
        let expected = format!(
            "POST / HTTP/1.1\r\nHost: a\r\n{spelt}\r\nX: 1\r\n{ADDED}X-Forwarded-Host: a\r\n\r\n"
        );
        assert_eq!(text, expected);
        let text = answered(&["HTTP/1.1 200 OK", field, "X: 1"], Method::Other, KEPT);
        assert_eq!(text, format!("HTTP/1.1 200 OK\r\n{spelt}\r\nX: 1\r\n\r\n"));
    }
}

#[test]
fn a_426_says_what_to_upgrade_to() {
    let lines = [
        "HTTP/1.1 426 no",
        "Upgrade: TLS/1.2",
        "Connection: upgrade",
        "Content-Length: 0",
    ];
    let expected =
        "HTTP/1.1 426 no\r\nUpgrade: TLS/1.2\r\nContent-Length: 0\r\nConnection: Upgrade\r\n\r\n";
    assert_eq!(answered(&lines, Method::Other, KEPT), expected);
    let lines = [
        "HTTP/1.1 200 no",
        "Upgrade: h2",
        "Connection: upgrade",
        "Content-Length: 0",
    ];
    let expected = "HTTP/1.1 200 no\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(answered(&lines, Method::Other, KEPT), expected);
}

#[test]
fn an_expectation_without_content_stays_behind() {
    let text = sent(
        &["POST / HTTP/1.1", "Host: a", "Expect: 100-continue"],
        &PLAIN,
    );
    assert!(!text.contains("Expect"));
    let lines = [
        "POST / HTTP/1.1",
        "Host: a",
        "Expect:",
        "Expect: 100-continue",
        "Content-Length: 1",
        "Expect: 100-continue",
    ];
    let text = sent(&lines, &PLAIN);
    assert_eq!(text.matches("Expect").count(), 1);
    assert!(text.contains("Expect: 100-continue\r\n"));
}

#[test]
fn the_trailer_field_goes_with_its_trailers() {
    let lines = [
        "HTTP/1.1 200 OK",
        "Trailer: X-Sum",
        "Transfer-Encoding: chunked",
    ];
    let with = Answering {
        trailers: true,
        ..KEPT
    };
    let expected = "HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(answered(&lines, Method::Other, with), expected);
    let expected = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(answered(&lines, Method::Other, KEPT), expected);
}

#[test]
fn a_server_is_told_of_a_client_that_takes_trailers() {
    for (te, told) in [
        ("TE: trailers", true),
        ("te: gzip;q=0.5, Trailers", true),
        ("TE: gzip", false),
        ("TE: trailers-not", false),
    ] {
        let text = sent(&["GET / HTTP/1.1", "Host: a", te, "Connection: TE"], &PLAIN);
        assert_eq!(text.contains("TE: trailers\r\nConnection: TE\r\n"), told);
        assert_eq!(text.matches("TE").count(), if told { 2 } else { 0 }, "{te}");
    }
    let lines = [
        "GET / HTTP/1.1",
        "Host: a",
        "TE: trailers",
        "Connection: TE, Upgrade",
        "Upgrade: websocket",
    ];
    let text = sent(&lines, &PLAIN);
    assert!(text.contains("Connection: Upgrade\r\n") && !text.contains("TE"));
}

#[test]
fn a_trace_has_one_hop_less_to_go() {
    for (method, hops, passed) in [
        ("TRACE", "10", "Max-Forwards: 9\r\n"),
        ("OPTIONS", "01", "Max-Forwards: 0\r\n"),
        ("GET", "7", "Max-Forwards: 7\r\n"),
    ] {
        let line = format!("{method} / HTTP/1.1");
        let field = format!("Max-Forwards: {hops}");
        let text = sent(&[&line, "Host: a", &field], &PLAIN);
        assert_eq!(text.matches("Max-Forwards").count(), 1);
        assert!(text.contains(passed), "{text}");
    }
}

#[test]
fn a_client_is_told_whether_its_connection_goes_on() {
    for (version, close, told) in [
        (Version::Http11, false, ""),
        (Version::Http11, true, "Connection: close\r\n"),
        (Version::Http10, false, "Connection: keep-alive\r\n"),
        (Version::Http10, true, "Connection: close\r\n"),
    ] {
        let head = answered(
            &["HTTP/1.0 404 no", "Content-Length: 0", "Connection: close"],
            Method::Other,
            Answering {
                version,
                close,
                ..KEPT
            },
        );
        assert_eq!(
            head,
            format!("HTTP/1.1 404 no\r\nContent-Length: 0\r\n{told}\r\n")
        );
    }
}

#[test]
fn where_there_is_no_content_nothing_frames_it() {
    let fields = ["Content-Length: 5"];
    for (line, method, expected) in [
        ("HTTP/1.1 204 x", Method::Other, ""),
        ("HTTP/1.1 103 x", Method::Other, ""),
        ("HTTP/1.1 304 x", Method::Other, "Content-Length: 5\r\n"),
        ("HTTP/1.1 200 x", Method::Head, "Content-Length: 5\r\n"),
    ] {
        let head = answered(&[&[line], fields.as_slice()].concat(), method, KEPT);
        assert_eq!(head, format!("{line}\r\n{expected}\r\n"));
        let head = answered(&[line, "Transfer-Encoding: chunked"], method, KEPT);
        assert_eq!(head, format!("{line}\r\n\r\n"));
    }
}

#[test]
fn an_interim_response_says_nothing_of_the_connection() {
    let close = Answering {
        close: true,
        ..KEPT
    };
    assert_eq!(
        answered(&["HTTP/1.1 100", "Connection: close"], Method::Other, close),
        "HTTP/1.1 100 \r\n\r\n"
    );
}

#[test]
fn a_switch_keeps_its_upgrade() {
    let lines = [
        "HTTP/1.1 101 Switch",
        "Connection: Upgrade",
        "Upgrade: websocket",
    ];
    let switch = Answering {
        switch: true,
        ..KEPT
    };
    let expected = "HTTP/1.1 101 Switch\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";
    assert_eq!(answered(&lines, Method::Other, switch), expected);
}

#[test]
fn a_rewritten_request_is_rewritten_to_itself_but_for_what_each_hop_adds() {
    let lines = [
        "POST / HTTP/1.1",
        "Host: a",
        "X-A: 1",
        "Transfer-Encoding: chunked",
        "Connection: x-a",
    ];
    let once = sent(&lines, &PLAIN);
    let twice = String::from_utf8(sent_with(once.as_bytes(), &PLAIN)).unwrap();
    let others = |head: &str| -> Vec<String> {
        head.lines()
            .filter(|line| !line.starts_with("Via") && !line.starts_with("X-F"))
            .map(str::to_owned)
            .collect()
    };
    assert_eq!(others(&once), others(&twice));
}

#[test]
fn a_response_without_a_date_gets_one_and_an_interim_one_does_not() {
    let answering = Answering {
        date: Some("now"),
        ..KEPT
    };
    let lines = ["HTTP/1.1 200 OK", "Content-Length: 1"];
    let expected = "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nDate: now\r\n\r\n";
    assert_eq!(answered(&lines, Method::Other, answering), expected);
    let interim = answered(&["HTTP/1.1 103 Early Hints"], Method::Other, answering);
    assert_eq!(interim, "HTTP/1.1 103 Early Hints\r\n\r\n");
}

#[test]
fn content_until_close_is_announced_in_chunks() {
    let answering = Answering {
        reframing: Reframing::Chunk,
        ..KEPT
    };
    let lines = ["HTTP/1.0 200 OK", "X: y"];
    let expected = "HTTP/1.1 200 OK\r\nX: y\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(answered(&lines, Method::Other, answering), expected);
}

#[test]
fn a_request_has_one_id_for_both_sides_if_it_has_one_of_ours() {
    let asked = [
        "GET / HTTP/1.1",
        "Host: x",
        "X-Request-Id: theirs",
        "x_request_id: feigned",
        "Via: 1.1 y",
    ];
    let with = Forwarding {
        id: Some(b"ours"),
        ..PLAIN
    };
    let head = sent(&asked, &with);
    assert!(
        head.starts_with("GET / HTTP/1.1\r\nHost: x\r\nVia: 1.1 y\r\nVia: 1.1 bestguess\r\nX-Request-Id: ours\r\n"),
        "{head}"
    );
    let head = sent(&asked, &PLAIN);
    assert!(
        head.contains("\r\nX-Request-Id: theirs\r\nx_request_id: feigned\r\n"),
        "{head}"
    );
    let with = Answering {
        id: Some(b"ours"),
        ..KEPT
    };
    for (status, answering, expected) in [
        ("200 OK", with, "X-Request-Id: ours\r\n"),
        ("200 OK", KEPT, "x-request-id: theirs\r\n"),
        // An interim response is not the one that is looked for in a log.
        ("103 Early Hints", with, ""),
    ] {
        let lines = [&format!("HTTP/1.1 {status}"), "x-request-id: theirs"];
        let head = answered(&lines, Method::Head, answering);
        assert_eq!(head, format!("HTTP/1.1 {status}\r\n{expected}\r\n"));
    }
    let switch = Answering {
        switch: true,
        ..with
    };
    let lines = ["HTTP/1.1 101 Switching Protocols", "Upgrade: y"];
    let head = answered(&lines, Method::Idempotent, switch);
    assert!(head.contains("\r\nX-Request-Id: ours\r\n"), "{head}");
}

#[test]
fn the_balancers_cookie_stays_here_and_all_others_go_on() {
    let with = Forwarding {
        cookie: Some(b"to"),
        ..PLAIN
    };
    let ask = |forwarding| {
        sent(
            &[
                "GET / HTTP/1.1",
                "Host: a",
                "cookie: a=1; to=x; b=2",
                "Cookie: to=y",
                "X: 1",
            ],
            forwarding,
        )
    };
    assert_eq!(
        ask(&with),
        format!(
            "GET / HTTP/1.1\r\nHost: a\r\nCookie: a=1; b=2\r\nX: 1\r\n{}",
            ADDED.trim_end()
        ) + "\r\nX-Forwarded-Host: a\r\n\r\n"
    );
    assert!(ask(&PLAIN).contains("cookie: a=1; to=x; b=2\r\nCookie: to=y\r\n"));
}

#[test]
fn a_final_response_gets_the_cookie_beside_those_of_the_server() {
    let with = Answering {
        cookie: Some(b"to=x; Path=/"),
        ..KEPT
    };
    let ok = answered(
        &["HTTP/1.1 204 No Content", "Set-Cookie: a=1"],
        Method::Idempotent,
        with,
    );
    assert_eq!(
        ok,
        "HTTP/1.1 204 No Content\r\nSet-Cookie: a=1\r\nSet-Cookie: to=x; Path=/\r\nCache-Control: private\r\n\r\n"
    );
    let early = answered(
        &["HTTP/1.1 103 Early Hints", "Link: </a>"],
        Method::Idempotent,
        with,
    );
    assert!(!early.contains("Set-Cookie"), "{early}");
}

#[test]
fn what_gets_the_cookie_is_kept_from_shared_caches() {
    let with = Answering {
        cookie: Some(b"to=x"),
        ..KEPT
    };
    let is_barred = |fields: &[&str], with: Answering<'_>| {
        let lines = [&["HTTP/1.1 200 fine", "Content-Length: 0"], fields].concat();
        let answered = answered(&lines, Method::Idempotent, with);
        answered.ends_with("\r\nCache-Control: private\r\n\r\n")
    };
    for open in [
        &[][..],
        &["Cache-Control: public, max-age=60, s-maxage=60"],
        &["Cache-Control: no-cache"],
        // Only these fields are barred, if a cache knows this form at all.
        &["Cache-Control: private=\"X-Mine\""],
        &["Cache-Control: no-cache=\"a, no-store, b\""],
        &["Pragma: no-store"],
    ] {
        assert!(is_barred(open, with), "{open:?}");
        assert!(!is_barred(open, KEPT), "{open:?}");
    }
    for barred in [
        &["cache-control: max-age=60,PRIVATE"][..],
        &["Cache-Control: max-age=60", "Cache-Control: No-Store"],
    ] {
        assert!(!is_barred(barred, with), "{barred:?}");
    }
}
