//! The judge, row by row: every rule has a head that only it refuses.

use super::*;
use crate::exchange::Exchange;
use crate::http::body::{Framing, Keep, Meter};

/// What of a request the tests compare.
#[derive(Debug, PartialEq)]
struct Asked {
    target: Vec<u8>,
    authority: Option<Vec<u8>>,
    framing: Framing,
    keep_alive: bool,
    expects_continue: bool,
    upgrade: bool,
    fields: Vec<(Field, Vec<u8>)>,
}

fn ask(head: &[u8]) -> Result<Asked, Refusal> {
    request(head, &mut slots()).map(|request| asked(&request))
}

fn ask_next(bytes: &[u8], seen: usize) -> Result<Option<Asked>, Refusal> {
    let mut slots = slots();
    let request = next_request(bytes, seen, &mut slots)?;
    Ok(request.map(|request| asked(&request)))
}

fn asked(request: &Request<'_>) -> Asked {
    Asked {
        target: request.target.to_vec(),
        authority: request.authority.map(<[u8]>::to_vec),
        framing: request.framing,
        keep_alive: request.keep_alive,
        expects_continue: request.expects_continue,
        upgrade: request.upgrade,
        fields: request
            .fields
            .iter()
            .map(|line| (line.kind, line.value.to_vec()))
            .collect(),
    }
}

/// What of a response the tests compare: status, reason, framing, whether the link is kept.
type Heard = (u16, Vec<u8>, Framing, bool);

fn hear(head: &[u8], method: Method) -> Result<Heard, Refusal> {
    response(head, method, &mut slots()).map(|response| heard(&response))
}

fn hear_next(bytes: &[u8], seen: usize) -> Result<Option<Heard>, Refusal> {
    let mut slots = slots();
    let response = next_response(bytes, seen, Method::Idempotent, &mut slots)?;
    Ok(response.map(|response| heard(&response)))
}

fn heard(response: &Response<'_>) -> Heard {
    (
        response.status,
        response.reason.to_vec(),
        response.framing,
        response.keep_alive,
    )
}

/// The verdict on a peer that sends `bytes` in such pieces; none: more is awaited.
fn in_pieces<T>(
    bytes: &[u8],
    piece: usize,
    next: impl Fn(&[u8], usize) -> Result<Option<T>, Refusal>,
) -> Option<Result<T, Refusal>> {
    let mut seen = 0;
    while seen < bytes.len() {
        let come = &bytes[..bytes.len().min(seen.saturating_add(piece))];
        if let Some(verdict) = next(come, seen).transpose() {
            return Some(verdict);
        }
        seen = come.len();
    }
    None
}

/// The verdict on a client, which must not depend on the pieces.
fn verdict(bytes: &[u8]) -> Option<Result<Asked, Refusal>> {
    let at_once = in_pieces(bytes, usize::MAX, ask_next);
    for piece in [1, 2, 3, 1000] {
        if bytes.len() / piece < 20_000 {
            assert_eq!(
                in_pieces(bytes, piece, ask_next),
                at_once,
                "{piece}: {}",
                shown(bytes)
            );
        }
    }
    at_once
}

fn shown(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string().chars().take(120).collect()
}

fn head(lines: &[&str]) -> Vec<u8> {
    format!("{}\r\n\r\n", lines.join("\r\n")).into_bytes()
}

/// A GET with these field lines behind its Host.
fn get(fields: &[&str]) -> Vec<u8> {
    head(&[&["GET / HTTP/1.1", "Host: a"], fields].concat())
}

fn post(fields: &[&str]) -> Vec<u8> {
    head(&[&["POST / HTTP/1.1", "Host: a"], fields].concat())
}

/// A head of exactly `length` bytes.
fn sized(length: usize) -> Vec<u8> {
    let rest = get(&["X: "]).len();
    get(&[&format!("X: {}", "x".repeat(length - rest))])
}

fn targeted(length: usize) -> Vec<u8> {
    head(&[
        &format!("GET /{} HTTP/1.1", "a".repeat(length - 1)),
        "Host: a",
    ])
}

fn many(count: usize) -> Vec<u8> {
    let lines: Vec<String> = (1..count).map(|number| format!("X-{number}: 1")).collect();
    get(&lines.iter().map(String::as_str).collect::<Vec<_>>())
}

/// Requests, each with the rule that refuses it.
fn refused_requests() -> Vec<(Refusal, Vec<u8>)> {
    use Refusal::*;
    let long_line = |target: usize| format!("GET /{}", "a".repeat(target - 1)).into_bytes();
    let raw = |bytes: &[u8]| bytes.to_vec();
    let line = |line: &str| head(&[line, "Host: a"]);
    let options = |count: usize| format!("Connection: {}", vec!["a"; count].join(","));
    vec![
        (RequestLine, line("GET /")),
        (RequestLine, raw(b"GET /\r\n")),
        (RequestLine, line("GET  / HTTP/1.1")),
        (RequestLine, line("GET /  HTTP/1.1")),
        (RequestLine, line("GET / HTTP/1.1 ")),
        (RequestLine, line("GET / a HTTP/1.1")),
        (RequestLine, line("GET /\tHTTP/1.1")),
        (RequestLine, line("GET\t/ HTTP/1.1")),
        (RequestLine, line(" GET / HTTP/1.1")),
        (RequestLine, line(" / HTTP/1.1")),
        (RequestLine, line("G@T / HTTP/1.1")),
        (RequestLine, line("GET: / HTTP/1.1")),
        (RequestLine, line("/ HTTP/1.1")),
        (RequestLine, line("GET / http/1.1")),
        (RequestLine, line("GET / HTTP/1.10")),
        (RequestLine, line("GET / HTTP/1.")),
        (RequestLine, line("GET / HTTP/11")),
        (RequestLine, line("GET / RTSP/1.0")),
        (RequestLine, line("GET /\r HTTP/1.1\r")),
        (
            RequestLine,
            line(&format!("{} / HTTP/1.1", "A".repeat(METHOD_MAX + 1))),
        ),
        (RequestLine, raw(b"A".repeat(METHOD_MAX + 1).as_slice())),
        (
            RequestLine,
            raw(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
        ),
        (RequestLine, raw(b"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n")),
        (RequestLine, raw(b"\nGET / HTTP/1.1\r\nHost: a\r\n\r\n")),
        (RequestLine, raw(b"\rGET / HTTP/1.1\r\nHost: a\r\n\r\n")),
        (
            RequestLine,
            raw(b"\xef\xbb\xbfGET / HTTP/1.1\r\nHost: a\r\n\r\n"),
        ),
        (Target, line("GET a HTTP/1.1")),
        (Target, line("GET * HTTP/1.1")),
        (Target, line("OPTIONS ** HTTP/1.1")),
        (Target, line("GET a:80 HTTP/1.1")),
        (Target, line("GET ftp://a/ HTTP/1.1")),
        (Target, line("GET http:///b HTTP/1.1")),
        (Target, line("GET http://:80/b HTTP/1.1")),
        (Target, line("GET http://user@a/ HTTP/1.1")),
        (Target, line("GET http://a:b/ HTTP/1.1")),
        (Target, line("GET /a#b HTTP/1.1")),
        (Target, line("CONNECT a#b HTTP/1.1")),
        (Target, line("GET /a\"b HTTP/1.1")),
        (Target, line("GET /a<b HTTP/1.1")),
        (Target, line("GET /a\\b HTTP/1.1")),
        (Target, line("GET /a\u{e4} HTTP/1.1")),
        (Target, raw(b"GET /a\xff HTTP/1.1\r\nHost: a\r\n\r\n")),
        (Target, line("GET /a\0b HTTP/1.1")),
        (Target, line("GET /a\x7fb HTTP/1.1")),
        (Target, line("GET /\r HTTP/1.1")),
        (TargetTooLong, targeted(TARGET_MAX + 1)),
        (TargetTooLong, targeted(20 << 10)),
        (TargetTooLong, long_line(TARGET_MAX + 1)),
        (TargetTooLong, long_line(20 << 10)),
        (Version, line("GET / HTTP/2.0")),
        (Version, line("GET / HTTP/1.2")),
        (Version, line("GET / HTTP/0.9")),
        (Version, raw(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")),
        (LineEnd, raw(b"GET / HTTP/1.1\nHost: a\r\n\r\n")),
        (LineEnd, raw(b"GET / HTTP/1.1\nHost: a\n\n")),
        (LineEnd, raw(b"GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n")),
        (LineEnd, raw(b"GET / HTTP/1.1\r\nHost: a\n\r\n\r\n")),
        (LineEnd, raw(b"GET / HTTP/1.1\r\nHost: a\r\n\n")),
        (LineEnd, raw(b"GET / HTTP/1.1\r\nHost: a\r\nX:\n\r\n")),
        (LineEnd, raw(b"GET / HTTP/1.1\r\nHost: a\r\nX: \n\r\n\r\n")),
        (
            LineEnd,
            raw(b"GET / HTTP/1.1\r\nHost: a\r\n\nGET /b HTTP/1.1\r\n\r\n"),
        ),
        (
            LineEnd,
            raw(b"GET / HTTP/1.1\r\nbad name: b\r\nX: b\nY: c\r\n\r\n"),
        ),
        (FieldName, get(&["X : b"])),
        (FieldName, get(&["X\t: b"])),
        (FieldName, get(&["X Y: b"])),
        (FieldName, get(&[": b"])),
        (FieldName, get(&["X"])),
        (FieldName, get(&["X/Y: b"])),
        (FieldName, get(&["\"X\": b"])),
        (FieldName, get(&["X\u{e4}: b"])),
        (FieldName, get(&["X\0: b"])),
        (FieldName, get(&["X: b", " c"])),
        (FieldName, get(&["X: b", "\tc: d"])),
        (FieldName, get(&["X:", " b"])),
        (FieldName, head(&["GET / HTTP/1.1", " Host: a"])),
        (FieldName, head(&["GET / HTTP/1.1", "\tHost: a", "Host: a"])),
        (FieldName, post(&["Content-Length : 5"])),
        (FieldName, post(&["Transfer-Encoding\x0b: chunked"])),
        (FieldValue, get(&["X: b\0"])),
        (FieldValue, get(&["X: \x01"])),
        (FieldValue, get(&["X: b\x7f"])),
        (FieldValue, get(&["X: b\x0bc"])),
        (FieldValue, get(&["X: b\rc"])),
        (FieldValue, get(&["X: b\rY: c"])),
        (FieldValue, get(&["X:\rb"])),
        (FieldValue, get(&["X: b\r"])),
        (FieldValue, post(&["Transfer-Encoding: \x0bchunked"])),
        (FieldValue, post(&["Transfer-Encoding: chunked\x0c"])),
        (HeadTooLong, sized(HEAD_MAX + 1)),
        (HeadTooLong, sized(HEAD_MAX + 100)),
        (HeadTooLong, sized(HEAD_MAX + 100)[..HEAD_MAX + 50].to_vec()),
        (TooManyFields, many(FIELDS_MAX + 1)),
        (TooManyFields, get(&[&options(OPTIONS_MAX + 1)])),
        (TooManyFields, get(&[&options(60), &options(60)])),
        (NoHost, head(&["GET / HTTP/1.1"])),
        (NoHost, head(&["GET / HTTP/1.1", "X-Host: a"])),
        (NoHost, head(&["GET http://a/ HTTP/1.1"])),
        (TwoHosts, get(&["Host: a"])),
        (TwoHosts, get(&["hOST: b"])),
        (TwoHosts, head(&["GET / HTTP/1.0", "Host: a", "Host:"])),
        (Host, head(&["GET / HTTP/1.1", "Host: a b"])),
        (Host, head(&["GET / HTTP/1.1", "Host: a/b"])),
        (Host, head(&["GET / HTTP/1.1", "Host: u@a"])),
        (Host, head(&["GET / HTTP/1.1", "Host: a,b"])),
        (Host, head(&["GET / HTTP/1.1", "Host: a:b"])),
        (Host, head(&["GET / HTTP/1.1", "Host: http://a"])),
        (Host, head(&["GET / HTTP/1.1", "Host: a\"b"])),
        (Host, head(&["GET http://a/ HTTP/1.1", "Host: a b"])),
        (ContentLength, post(&["Content-Length: +5"])),
        (ContentLength, post(&["Content-Length: -5"])),
        (ContentLength, post(&["Content-Length: 0x5"])),
        (ContentLength, post(&["Content-Length: 5, 5"])),
        (ContentLength, post(&["Content-Length: 5 5"])),
        (ContentLength, post(&["Content-Length: 5.0"])),
        (ContentLength, post(&["Content-Length:"])),
        (
            ContentLength,
            post(&["Content-Length: 9223372036854775808"]),
        ),
        (
            ContentLength,
            post(&["Content-Length: 18446744073709551621"]),
        ),
        (ContentLength, post(&["Content-Length: \u{b2}"])),
        (
            TwoLengths,
            post(&["Content-Length: 5", "Content-Length: 6"]),
        ),
        (
            TwoLengths,
            post(&["Content-Length: 5", "content-length: 5"]),
        ),
        (
            TwoLengths,
            post(&["Content-Length: 0", "Content-Length: 0"]),
        ),
        (
            LengthAndEncoding,
            post(&["Content-Length: 5", "Transfer-Encoding: chunked"]),
        ),
        (
            LengthAndEncoding,
            post(&["Transfer-Encoding: chunked", "Content-Length: 0"]),
        ),
        (
            TwoEncodings,
            post(&["Transfer-Encoding: chunked", "Transfer-Encoding: chunked"]),
        ),
        (
            TwoEncodings,
            post(&["Transfer-Encoding: chunked", "Transfer-Encoding: identity"]),
        ),
        (Encoding, post(&["Transfer-Encoding: chunked, chunked"])),
        (Encoding, post(&["Transfer-Encoding: chunked,"])),
        (Encoding, post(&["Transfer-Encoding: ,chunked"])),
        (Encoding, post(&["Transfer-Encoding: identity"])),
        (Encoding, post(&["Transfer-Encoding: identity, chunked"])),
        (Encoding, post(&["Transfer-Encoding:"])),
        (Encoding, post(&["Transfer-Encoding: chunked;q=1"])),
        (Encoding, post(&["Transfer-Encoding: \"chunked\""])),
        (Encoding, post(&["Transfer-Encoding: chun\tked"])),
        (EncodingUnknown, post(&["Transfer-Encoding: gzip, chunked"])),
        (EncodingUnknown, post(&["Transfer-Encoding: gzip"])),
        (EncodingUnknown, post(&["Transfer-Encoding: xchunked"])),
        (
            EncodingUnknown,
            post(&["Transfer-Encoding: gzip", "Transfer-Encoding: chunked"]),
        ),
        (
            EncodingIn10,
            head(&["POST / HTTP/1.0", "Host: a", "Transfer-Encoding: chunked"]),
        ),
        (Expectation, post(&["Expect: 100-continue, x"])),
        (Expectation, post(&["Expect: more"])),
        (
            TraceContent,
            head(&["TRACE / HTTP/1.1", "Host: a", "Content-Length: 1"]),
        ),
        (
            Loop,
            get(&[
                "Via: 1.1 bestguess, 1.0 bestguess, 1.1 a, 1.1 bestguess",
                "via: 1.1 bestguess,1.1 bestguess,1.1 bestguess",
                "Via: 1.1 bestguess,, 1.1 bestguess",
            ]),
        ),
        (
            MaxForwards,
            head(&["TRACE / HTTP/1.1", "Host: a", "Max-Forwards: -1"]),
        ),
        (
            MaxForwards,
            head(&["OPTIONS * HTTP/1.1", "Host: a", "Max-Forwards: 1, 2"]),
        ),
        (
            LastHop,
            head(&["OPTIONS * HTTP/1.1", "Host: a", "Max-Forwards: 0"]),
        ),
        (
            Trace,
            head(&["TRACE / HTTP/1.1", "Host: a", "Max-Forwards: 00"]),
        ),
        (Connect, line("CONNECT a:80 HTTP/1.1")),
        (Connect, line("CONNECT / HTTP/1.1")),
    ]
}

/// Responses to a GET, each with the rule that refuses it.
fn refused_responses() -> Vec<(Refusal, Vec<u8>)> {
    use Refusal::*;
    let ok = |fields: &[&str]| head(&[&["HTTP/1.1 200 OK"], fields].concat());
    let raw = |bytes: &[u8]| bytes.to_vec();
    vec![
        (StatusLine, head(&["HTTP/1.1 099 Low"])),
        (StatusLine, head(&["HTTP/1.1 000 Lowest"])),
        (StatusLine, head(&["HTTP/1.1 20 OK"])),
        (StatusLine, head(&["HTTP/1.1 2000 OK"])),
        (StatusLine, head(&["HTTP/1.1  200 OK"])),
        (StatusLine, head(&["HTTP/1.1 200\tOK"])),
        (StatusLine, head(&["HTTP/1.1 +20 OK"])),
        (StatusLine, head(&["HTTP/1.1"])),
        (StatusLine, head(&["HTTP/1.1 200 O\0K"])),
        (StatusLine, head(&["HTTP/1.1 200 O\rK"])),
        (StatusLine, head(&["HTTP/2.0 200 OK"])),
        (StatusLine, head(&["HTTP/1.2 200 OK"])),
        (StatusLine, head(&["ICY 200 OK"])),
        (StatusLine, raw(b"\r\nHTTP/1.1 200 OK\r\n\r\n")),
        (StatusLine, raw(b"SSH-2.0-x\r\n")),
        (LineEnd, raw(b"HTTP/1.1 200 OK\nX: a\r\n\r\n")),
        (LineEnd, raw(b"HTTP/1.1 200\nX: a\r\n\r\n")),
        (LineEnd, raw(b"HTTP/1.1 200 OK\r\nX: a\n\r\n\r\n")),
        (LineEnd, raw(b"HTTP/1.1 200 OK\r\nX: a\n\n")),
        (FieldName, ok(&["X : a"])),
        (FieldName, ok(&["X: a", " b"])),
        (FieldName, ok(&[" X: a"])),
        (FieldValue, ok(&["X: a\x01"])),
        (FieldValue, ok(&["X: a\rb"])),
        (HeadTooLong, ok(&[&format!("X: {}", "x".repeat(HEAD_MAX))])),
        (TooManyFields, ok(&["X: 1"; FIELDS_MAX + 1])),
        (
            TooManyFields,
            ok(&[&format!("Connection: {}", "a,".repeat(OPTIONS_MAX + 1))]),
        ),
        (ContentLength, ok(&["Content-Length: 5, 5"])),
        (TwoLengths, ok(&["Content-Length: 5", "Content-Length: 5"])),
        (
            LengthAndEncoding,
            ok(&["Content-Length: 5", "Transfer-Encoding: chunked"]),
        ),
        (
            TwoEncodings,
            ok(&["Transfer-Encoding: chunked", "Transfer-Encoding: chunked"]),
        ),
        (Encoding, ok(&["Transfer-Encoding: chunked, chunked"])),
        (EncodingUnknown, ok(&["Transfer-Encoding: gzip, chunked"])),
        (
            EncodingIn10,
            head(&["HTTP/1.0 200 OK", "Transfer-Encoding: chunked"]),
        ),
    ]
}

/// Refusals that do not come from one head: of content, and of the place of a response.
fn refused_later() -> Vec<Refusal> {
    let content = |wire: &[u8]| {
        Meter::new(Framing::Chunked, Keep::Chunks)
            .pass(&mut wire.to_vec())
            .unwrap_err()
    };
    let hear = |status: &str| {
        let head = head(&[&format!("HTTP/1.1 {status}")]);
        let mut exchange = Exchange::default();
        (0..200)
            .find_map(|_| {
                exchange
                    .hear(
                        &response(&head, Method::Other, &mut slots()).ok().unwrap(),
                        true,
                    )
                    .err()
            })
            .unwrap()
    };
    vec![
        content(b"x\r\n"),
        content(b"0\r\nHost: a\r\n"),
        hear("101 Switch"),
        hear("103 Hint"),
    ]
}

#[test]
fn every_refused_request_is_refused_for_its_own_reason_whatever_the_pieces() {
    for (refusal, bytes) in refused_requests() {
        assert_eq!(verdict(&bytes), Some(Err(refusal)), "{}", shown(&bytes));
    }
}

#[test]
fn every_refused_response_is_refused_for_its_own_reason_whatever_the_pieces() {
    for (refusal, bytes) in refused_responses() {
        for piece in [1, 7, usize::MAX] {
            let outcome = in_pieces(&bytes, piece, hear_next);
            assert_eq!(outcome, Some(Err(refusal)), "{piece}: {}", shown(&bytes));
        }
    }
}

#[test]
fn every_rule_has_its_row_in_order_and_a_message_that_breaks_it() {
    for (index, rule) in RULES.iter().enumerate() {
        assert_eq!(rule.refusal as usize, index, "{:?}", rule.refusal);
        assert_eq!(rule.refusal.rule().refusal, rule.refusal);
        let is_end = rule.refusal == Refusal::LastHop;
        assert!(is_end || (400..=508).contains(&rule.status) && rule.section.starts_with("RFC "));
    }
    let all = refused_requests().into_iter().chain(refused_responses());
    let broken: Vec<Refusal> = all
        .map(|(refusal, _)| refusal)
        .chain(refused_later())
        .collect();
    for rule in &RULES {
        assert!(
            broken.contains(&rule.refusal),
            "{:?} is never tested",
            rule.refusal
        );
    }
}

#[test]
fn what_is_right_passes_whatever_the_pieces() {
    let good = [
        get(&[]),
        get(&["X:", "Y: \t ", "Z:\tz \t", "X: a:b \"c\" \u{e4}"]),
        get(&["X: \u{80}\u{ff}"]),
        targeted(TARGET_MAX),
        sized(HEAD_MAX),
        many(FIELDS_MAX),
        head(&["GET / HTTP/1.0"]),
        head(&["GET / HTTP/1.1", "Host:"]),
        head(&["GET / HTTP/1.1", "Host: [::1]:80"]),
        head(&["GET /a%20b?c={d}|e&f=[g]^`h;i:j@k HTTP/1.1", "Host: a"]),
        head(&["OPTIONS * HTTP/1.1", "Host: a"]),
        head(&[&format!("{} / HTTP/1.1", "A".repeat(METHOD_MAX)), "Host: a"]),
        head(&["M-SEARCH!#$%&'*+.^_`|~ / HTTP/1.1", "Host: a"]),
        post(&["Content-Length: 9223372036854775807"]),
        post(&["transfer-encoding:CHUNKED"]),
        get(&[&format!(
            "Connection: {}",
            vec!["a"; OPTIONS_MAX].join(" , ,")
        )]),
    ];
    for bytes in good {
        assert!(matches!(verdict(&bytes), Some(Ok(_))), "{}", shown(&bytes));
        assert!(ask(&bytes).is_ok());
        // What comes behind it makes no difference.
        let more = [bytes.as_slice(), b"\nrest\r\n\r\n"].concat();
        assert_eq!(in_pieces(&more, 1, ask_next), verdict(&bytes));
        assert_eq!(in_pieces(&more, usize::MAX, ask_next), verdict(&bytes));
    }
}

#[test]
fn a_head_is_waited_for_until_it_can_not_become_right() {
    let line = format!("GET /{} HTTP/1.1\r", "a".repeat(TARGET_MAX - 1));
    for unfinished in [
        "",
        "\r",
        "G",
        "GET",
        "GET ",
        "GET /",
        "GET / HTTP/1.1",
        "GET / HTTP/1.1\r\nHost: a\r\n\r",
        &line,
    ] {
        assert_eq!(
            verdict(unfinished.as_bytes()),
            None,
            "{}",
            shown(unfinished.as_bytes())
        );
    }
    let almost = sized(HEAD_MAX + 1);
    assert_eq!(begun(&almost[..HEAD_MAX], 0), Ok(()));
    assert_eq!(
        begun(&almost[..=HEAD_MAX], HEAD_MAX),
        Err(Refusal::HeadTooLong)
    );
    assert_eq!(response_begun(b"HTT", 0), Ok(()));
}

#[test]
fn a_long_line_of_its_own_right_is_no_long_target() {
    let line = format!(
        "{} /{} HTTP/1.1\r\nHost: a\r\n",
        "A".repeat(METHOD_MAX),
        "a".repeat(TARGET_MAX - 1)
    );
    let bytes = [line.as_bytes(), b"X: ", "x".repeat(HEAD_MAX).as_bytes()].concat();
    assert_eq!(verdict(&bytes), Some(Err(Refusal::HeadTooLong)));
}

#[test]
fn blank_lines_before_a_request_are_skipped() {
    for (count, skipped) in [(0, 0), (1, 2), (4, 8), (10_000, 20_000)] {
        let bytes = [b"\r\n".repeat(count).as_slice(), b"GET"].concat();
        assert_eq!(blank_lines(&bytes), skipped);
    }
    assert_eq!(blank_lines(b"\r"), 0);
    assert_eq!(blank_lines(b"\n\n"), 0);
}

#[test]
fn the_end_of_a_head_is_found_wherever_the_search_was_left() {
    let head = b"GET / HTTP/1.1\r\nA: \r\n\r\nmore\r\n\r\n";
    for seen in 0..=22 {
        assert_eq!(find_end(head, seen), Some(23), "{seen}");
    }
    assert_eq!(find_end(b"\r\n\r", 0), None);
    assert_eq!(find_end(b"ab", 9), None);
}

#[test]
fn the_target_is_taken_apart() {
    for (target, authority, path) in [
        ("/", None, "/"),
        ("//b/c", None, "//b/c"),
        ("/http://b", None, "/http://b"),
        ("http://b", Some("b"), ""),
        ("HTTP://b:81/c?d", Some("b:81"), "/c?d"),
        ("https://[::1]?d/e", Some("[::1]"), "?d/e"),
        ("http://b/c://d", Some("b"), "/c://d"),
    ] {
        let asked = ask(&head(&[&format!("GET {target} HTTP/1.1"), "Host: a"])).unwrap();
        assert_eq!(asked.target, path.as_bytes(), "{target}");
        assert_eq!(
            asked.authority.as_deref(),
            authority.map(str::as_bytes),
            "{target}"
        );
    }
}

#[test]
fn the_connection_goes_on_as_version_and_options_say() {
    for (version, options, keeps) in [
        ("1.1", "", true),
        ("1.1", "close", false),
        ("1.1", "x, CLOSE", false),
        ("1.1", "keep-alive, close", false),
        ("1.0", "", false),
        ("1.0", "Keep-Alive", true),
        ("1.0", "close, keep-alive", false),
        ("1.1", "closed", true),
    ] {
        let asked = ask(&head(&[
            &format!("GET / HTTP/{version}"),
            "Host: a",
            &format!("Connection: {options}"),
        ]));
        assert_eq!(asked.unwrap().keep_alive, keeps, "{version} {options}");
        let heard = hear(
            &head(&[
                &format!("HTTP/{version} 200 OK"),
                &format!("Connection: {options}"),
            ]),
            Method::Other,
        );
        assert_eq!(heard.unwrap().3, keeps, "{version} {options}");
    }
    assert!(
        !ask(&get(&["Connection: a", "Connection: close"]))
            .unwrap()
            .keep_alive
    );
}

#[test]
fn an_upgrade_is_asked_for_in_1_1_with_both_fields_and_without_content() {
    for (upgrades, bytes) in [
        (
            true,
            get(&["Connection: keep-alive, Upgrade", "Upgrade: websocket"]),
        ),
        (false, get(&["Upgrade: websocket"])),
        (false, get(&["Connection: upgrade"])),
        (
            false,
            post(&["Connection: upgrade", "Upgrade: x", "Content-Length: 1"]),
        ),
        (
            true,
            post(&["Connection: upgrade", "Upgrade: x", "Content-Length: 0"]),
        ),
        (
            false,
            head(&["GET / HTTP/1.0", "Connection: upgrade", "Upgrade: x"]),
        ),
        (
            false,
            get(&[
                "Connection: upgrade, http2-settings",
                "Upgrade: h2c",
                "HTTP2-Settings: AA",
            ]),
        ),
        (
            false,
            get(&["Connection: upgrade", "Upgrade: websocket, H2C"]),
        ),
        (false, get(&["Connection: upgrade", "Upgrade: h2c/1"])),
        (false, get(&["Connection: upgrade", "Upgrade: \"h2c\""])),
        (false, get(&["Connection: upgrade", "Upgrade: "])),
        (false, get(&["Connection: upgrade", "Upgrade: a b"])),
        (true, get(&["Connection: upgrade", "Upgrade: a/1, b/2"])),
    ] {
        assert_eq!(ask(&bytes).unwrap().upgrade, upgrades, "{}", shown(&bytes));
    }
}

#[test]
fn only_a_1_1_client_waits_for_a_100() {
    assert!(
        ask(&post(&["Expect: 100-Continue", "Content-Length: 5"]))
            .unwrap()
            .expects_continue
    );
    assert!(
        !ask(&get(&["Expect: 100-continue"]))
            .unwrap()
            .expects_continue,
        "there is no content to wait with"
    );
    assert!(
        !ask(&head(&[
            "POST / HTTP/1.0",
            "Expect: 100-continue",
            "Content-Length: 5"
        ]))
        .unwrap()
        .expects_continue
    );
}

#[test]
fn content_ends_as_the_fields_say() {
    assert_eq!(ask(&get(&[])).unwrap().framing, Framing::None);
    assert_eq!(
        ask(&post(&["Content-Length: 007"])).unwrap().framing,
        Framing::Length(7)
    );
    assert_eq!(
        ask(&post(&["Content-Length: 0"])).unwrap().framing,
        Framing::None
    );
    assert_eq!(
        ask(&post(&["Transfer-Encoding: Chunked"])).unwrap().framing,
        Framing::Chunked
    );
}

#[test]
fn a_response_ends_as_its_status_and_the_method_say_before_its_fields() {
    use Framing::{Chunked, Length, UntilClose};
    let length: &[&str] = &["Content-Length: 5"];
    let chunked: &[&str] = &["Transfer-Encoding: chunked"];
    for (status, method, fields, framing, keeps) in [
        (200, Method::Other, length, Length(5), true),
        (200, Method::Other, chunked, Chunked, true),
        (200, Method::Other, &[], UntilClose, true),
        (
            200,
            Method::Other,
            &["Content-Length: 0"],
            Framing::None,
            true,
        ),
        (205, Method::Other, length, Length(5), true),
        (200, Method::Head, length, Framing::None, true),
        (200, Method::Head, chunked, Framing::None, true),
        (404, Method::Head, &[], Framing::None, true),
        (304, Method::Idempotent, length, Framing::None, true),
        (304, Method::Idempotent, chunked, Framing::None, true),
        (204, Method::Idempotent, &[], Framing::None, true),
        (
            204,
            Method::Idempotent,
            &["Content-Length: 0"],
            Framing::None,
            true,
        ),
        (204, Method::Idempotent, length, Framing::None, false),
        (204, Method::Idempotent, chunked, Framing::None, false),
        (100, Method::Other, length, Framing::None, false),
        (101, Method::Other, &[], Framing::None, true),
        (599, Method::Other, &[], UntilClose, true),
    ] {
        let head = head(&[&[format!("HTTP/1.1 {status} x").as_str()], fields].concat());
        let (found, _, ending, keep_alive) = hear(&head, method).unwrap();
        assert_eq!(
            (found, ending, keep_alive),
            (status, framing, keeps),
            "{status} {method:?} {fields:?}"
        );
    }
}

#[test]
fn a_reason_may_be_missing_empty_or_beyond_ascii() {
    for (line, reason) in [
        (b"HTTP/1.1 200".as_slice(), b"".as_slice()),
        (b"HTTP/1.1 200 ", b""),
        (b"HTTP/1.0 200 OK", b"OK"),
        (b"HTTP/1.1 404 not\tf\xfcnd ", b"not\tf\xfcnd "),
    ] {
        let (_, found, _, _) = hear(
            &[line, b"\r\nContent-Length: 0\r\n\r\n"].concat(),
            Method::Other,
        )
        .unwrap();
        assert_eq!(found, reason);
    }
}

#[test]
fn connection_names_only_what_it_may_remove() {
    let named = "Connection: x-a, Host, content-length, Cookie, via, X-Forwarded-For, Date, X-None";
    let asked = ask(&post(&[
        "X-A: 1",
        "X-B: 2",
        named,
        "Content-Length: 5",
        "Cookie: c",
        "x-a: 3",
        "Via: v",
    ]))
    .unwrap();
    let kinds: Vec<Field> = asked.fields.iter().map(|(kind, _)| *kind).collect();
    use Field::{Connection, ContentLength, Host, Kept, Named, Other, Via};
    assert_eq!(
        kinds,
        [
            Host,
            Named,
            Other,
            Connection,
            ContentLength,
            Kept,
            Named,
            Via
        ]
    );
}

#[test]
fn fields_are_known_in_any_case_and_with_underscores_for_what_they_feign() {
    for (name, field) in [
        ("HOST", Field::Host),
        ("content-LENGTH", Field::ContentLength),
        ("x-forwarded-for", Field::XForwardedFor),
        ("X_Forwarded_For", Field::Lookalike),
        ("X-Forwarded_Proto", Field::Lookalike),
        ("x_forwarded-host", Field::Lookalike),
        ("Content_Length", Field::Lookalike),
        ("Transfer_Encoding", Field::Lookalike),
        ("Content_Type", Field::Other),
        ("user-agent", Field::Other),
        ("", Field::Other),
    ] {
        assert_eq!(Field::of(name.as_bytes()), field, "{name}");
    }
}

#[test]
fn methods_are_told_by_case_and_by_whether_they_may_be_sent_again() {
    for (name, method) in [
        ("HEAD", Method::Head),
        ("GET", Method::Idempotent),
        ("PUT", Method::Idempotent),
        ("DELETE", Method::Idempotent),
        ("OPTIONS", Method::Idempotent),
        ("TRACE", Method::Idempotent),
        ("POST", Method::Other),
        ("PATCH", Method::Other),
        ("head", Method::Other),
        ("get", Method::Other),
    ] {
        assert_eq!(Method::of(name.as_bytes()), method, "{name}");
    }
}
