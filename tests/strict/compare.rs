//! What the balancer sends on must be what it received, as the second reading has both.
//!
//! Each function takes a fuzzer's input, of which the first byte chooses the circumstances, panics
//! where the two readings differ, and tells how many messages went on whole.

use std::net::IpAddr;

use bestguess::http::head::{FIELDS_MAX, HEAD_MAX, OPTIONS_MAX, Refusal, TARGET_MAX};
use bestguess::http::rewrite::Forwarding;

use super::chunks::{chunks as read_chunks, is_barred};
use super::grammar::number;
use super::message::{self, Asked, Framing, Request, Response};
use super::relay::{self, Cuts, DATE, End, HOST_DEFAULT, Relayed, Sent};
use super::wires::blank_lines;
use super::{Field, Manner, Stop, elements, has, show, values};

/// Interim responses that a server may send before it is taken for mad.
const INTERIMS_MAX: usize = 16;

/// Fields that stay whatever Connection says, for framing, routing and identity depend on them, or
/// because what becomes of them is decided by other rules.
const PROTECTED: &str = "host content-length transfer-encoding via date expect cookie authorization \
    cache-control content-type content-encoding";
/// Fields that never cross, in either direction. `upgrade` and `te` are looked at for themselves.
const HOP_BY_HOP: &str = "connection keep-alive proxy-connection te trailer upgrade";
/// Fields of requests that mean something to this proxy, or to servers because of it: written with
/// underscores they are dropped (what hands fields on as variables can not tell them apart).
const OURS: &str = "te via host date expect upgrade trailer forwarded connection keep-alive \
    content-length http2-settings x-forwarded-for x-forwarded-host x-forwarded-proto \
    proxy-connection transfer-encoding";
/// What the proxy says of the client: what the client says of itself is replaced.
const FORWARDING: [&str; 4] = [
    "x-forwarded-for",
    "x-forwarded-proto",
    "x-forwarded-host",
    "forwarded",
];

fn is_among(list: &str, key: &str) -> bool {
    list.split_ascii_whitespace().any(|one| one == key)
}

/// Bytes from a client. The first byte: bits 0 and 1 the client's address, 2 whether it is trusted,
/// 3 whether `Forwarded` is sent, and all of it how the rest is cut.
pub fn requests(input: &[u8]) -> usize {
    let Some((choice, wire)) = input.split_first() else {
        return 0;
    };
    let peers = ["192.0.2.7", "2001:db8::7", "::ffff:192.0.2.7"];
    let peer = peers.get(usize::from(choice & 3));
    let forwarding = Forwarding {
        peer: peer.map(|peer| peer.parse().expect("an address")),
        host_default: HOST_DEFAULT,
        trust: choice & 4 != 0,
        forwarded: choice & 8 != 0,
    };
    let whole = relay::requests(wire, Cuts::Whole, &forwarding);
    let cut = relay::requests(wire, Cuts::Seeded(u64::from(*choice)), &forwarding);
    same_in_pieces(&whole, &cut);
    compare_requests(wire, &whole, &forwarding);
    whole.sent.iter().filter(|sent| sent.is_whole).count()
}

/// `relayed` is what is in `wire`: its requests one by one, then what can not be one.
fn compare_requests(wire: &[u8], relayed: &Relayed, forwarding: &Forwarding<'_>) {
    let mut at = 0;
    for sent in &relayed.sent {
        at += blank_lines(&wire[at..]);
        let received = message::request(&wire[at..], Manner::Received);
        if !sent.is_whole {
            let received = received.map(|(one, _)| one.trailers);
            return unfinished(received, sent, relayed.end, |bytes| {
                message::request(bytes, Manner::Sent).map(drop)
            });
        }
        let (received, length) = match received {
            Ok(received) => received,
            Err(Stop::Either(_)) => return,
            Err(stop) => panic!("{stop:?} was sent on as {}", show(&sent.bytes)),
        };
        at += length;
        check_request(&received, sent, forwarding);
    }
    if relayed.end == End::Over {
        return assert_eq!(relayed.used, at, "another end");
    }
    at += blank_lines(&wire[at..]);
    let next = message::request(&wire[at..], Manner::Received);
    match (relayed.end, &next) {
        (End::Waiting | End::Refused(_), Err(_)) => {}
        (End::Refused(refusal), Ok((request, _))) if is_policy(refusal, request, &wire[at..]) => {}
        (end, _) => panic!("{end:?} where there is {next:?}"),
    }
}

fn drop_length<T>((_, length): (T, usize)) -> usize {
    length
}

/// Whether a request that nothing is wrong with was refused for being too much.
fn is_policy(refusal: Refusal, request: &Request, wire: &[u8]) -> bool {
    let head = message::request_head(wire, Manner::Received).map_or(0, drop_length);
    let target = wire
        .split(|byte| *byte == b' ')
        .nth(1)
        .map_or(0, <[u8]>::len);
    let options = elements(&request.fields, "connection").len();
    match refusal {
        Refusal::HeadTooLong => head > HEAD_MAX,
        Refusal::TargetTooLong => target > TARGET_MAX,
        Refusal::TooManyFields => request.fields.len() > FIELDS_MAX || options > OPTIONS_MAX,
        _ => is_counted(request),
    }
}

/// A message of which not all came, or not all was right: what went on of it is no whole message, and
/// may still become one.
fn unfinished(
    received: Result<Vec<Field>, Stop>,
    sent: &Sent,
    end: End,
    read: impl Fn(&[u8]) -> Result<(), Stop>,
) {
    match (end, received) {
        (End::Waiting | End::Cut, Err(Stop::Open | Stop::Either(_))) => {}
        (End::Refused(_), Err(_)) => {}
        (End::Refused(Refusal::Trailer), Ok(trailers)) if trailers.iter().any(is_barred) => {}
        (end, received) => panic!("{end:?} within {received:?}"),
    }
    let again = read(&sent.bytes);
    assert_eq!(again, Err(Stop::Open), "{}", show(&sent.bytes));
}

/// Whatever the pieces, the same goes on; but of what is refused, the part before may not.
fn same_in_pieces(whole: &Relayed, cut: &Relayed) {
    assert_eq!(whole.end, cut.end);
    let count = whole.sent.len();
    assert_eq!(count, cut.sent.len());
    for (whole, cut) in whole.sent.iter().zip(&cut.sent) {
        assert_eq!((whole.is_whole, whole.head), (cut.is_whole, cut.head));
        if whole.is_whole {
            assert_eq!(show(&whole.bytes), show(&cut.bytes));
        }
    }
    if matches!(whole.end, End::Refused(_)) {
        return;
    }
    assert_eq!(whole.used, cut.used);
    assert_eq!(whole.sent, cut.sent);
}

/// `sent` is one message, and says what `received` says.
fn check_request(received: &Request, sent: &Sent, forwarding: &Forwarding<'_>) {
    let again = message::request(&sent.bytes, Manner::Sent);
    let Ok((again, length)) = again else {
        panic!("{again:?}: {}", show(&sent.bytes));
    };
    assert_eq!(length, sent.bytes.len(), "more than one message");
    assert_eq!(again.method, received.method);
    assert_eq!(show(&again.target.path), show(&received.target.path));
    assert_eq!((again.minor, again.framing), (1, received.framing));
    assert_eq!(show(&again.content), show(&received.content));
    assert_trailers(&again.trailers, &received.trailers);
    let mut expected = forwarded_fields(received, forwarding);
    let mut found = end_to_end(&again.fields);
    if is_counted(received) {
        check_count(&expected, &found);
        expected.retain(|field| field.key() != "max-forwards");
        found.retain(|field| field.key() != "max-forwards");
    }
    found.retain(|field| field.key() != "max_forwards");
    assert_eq!(told(&found), told(&expected), "{}", show(&sent.bytes));
    // What belongs to the connection is the proxy's own word.
    assert!(again.persists(), "a link that ends for no reason");
    let upgrades = received.asks_for_upgrade();
    let expected = if upgrades {
        values(&received.fields, "upgrade")
    } else {
        Vec::new()
    };
    assert_eq!(values(&again.fields, "upgrade"), expected);
    let asks_trailers = received.asked().trailers;
    assert!(
        asks_trailers || !has(&again.fields, "te"),
        "a TE from nowhere"
    );
}

/// Whether proxies count on the way of `request` (RFC 9110 §7.6.2).
fn is_counted(request: &Request) -> bool {
    let is_counted = request.method == b"TRACE" || request.method == b"OPTIONS";
    is_counted && has(&request.fields, "max-forwards")
}

/// The count goes on as it is, or one less.
fn check_count(received: &[Field], sent: &[Field]) {
    let count = |fields| {
        values(fields, "max-forwards")
            .first()
            .copied()
            .and_then(number)
    };
    if let (Some(received), Some(sent)) = (count(received), count(sent)) {
        assert!(
            sent == received || sent + 1 == received,
            "{sent} of {received}"
        );
    }
}

/// The fields that are not of a connection.
fn end_to_end(fields: &[Field]) -> Vec<Field> {
    let all = fields.iter();
    all.filter(|field| !is_among(HOP_BY_HOP, &field.key()))
        .cloned()
        .collect()
}

fn told(fields: &[Field]) -> Vec<String> {
    let line = |field: &Field| format!("{}: {}", show(&field.name), show(&field.value));
    fields.iter().map(line).collect()
}

/// Trailers may be dropped, but not invented.
fn assert_trailers(sent: &[Field], received: &[Field]) {
    for trailer in sent {
        assert!(received.contains(trailer), "{trailer:?} from nowhere");
    }
}

/// The options of Connection that name fields to be removed (RFC 9110 §7.6.1).
fn named(fields: &[Field]) -> Vec<String> {
    let mut options = elements(fields, "connection");
    options.retain(|option| !is_among(PROTECTED, option));
    options
}

fn field(name: &str, value: impl AsRef<[u8]>) -> Field {
    Field {
        name: name.as_bytes().to_vec(),
        value: value.as_ref().to_vec(),
    }
}

/// What a server has to get of `request`'s fields, without those of the connection, and what it has
/// to be told of the client.
fn forwarded_fields(request: &Request, forwarding: &Forwarding<'_>) -> Vec<Field> {
    let named = named(&request.fields);
    let host = &request.target.authority;
    let mut expected: Vec<Field> = Vec::new();
    expected.extend(host.as_ref().map(|host| field("Host", host)));
    for received in end_to_end(&request.fields) {
        let key = received.key();
        let dashed = key.replace('_', "-");
        let is_lookalike = dashed != key && (is_among(OURS, &dashed) || dashed == "max-forwards");
        let is_dropped = named.contains(&key)
            || is_lookalike
            || key == "http2-settings"
            || FORWARDING.contains(&key.as_str())
            || (key == "host" && host.is_some())
            || (key == "expect" && request.minor == 0);
        if !is_dropped {
            expected.push(received);
        }
    }
    if !has(&expected, "host") {
        expected.push(field("Host", HOST_DEFAULT));
    }
    expected.push(field("Via", format!("1.{} bestguess", request.minor)));
    let received_host = values(&request.fields, "host")
        .first()
        .map(|host| host.to_vec());
    let host = host
        .clone()
        .or(received_host)
        .filter(|host| !host.is_empty());
    expected.extend(told_of_client(request, forwarding, host));
    expected
}

/// `X-Forwarded-*` and `Forwarded` (RFC 7239).
fn told_of_client(
    request: &Request,
    forwarding: &Forwarding<'_>,
    host: Option<Vec<u8>>,
) -> Vec<Field> {
    let trusted = |name: &str| {
        let mut told = values(&request.fields, name);
        told.retain(|value| forwarding.trust && !value.is_empty());
        told
    };
    let mut fields = Vec::new();
    let peer = forwarding.peer.map(|peer| peer.to_canonical());
    let address = peer.map(|peer| peer.to_string());
    let mut chain = trusted("x-forwarded-for");
    chain.extend(address.as_ref().map(String::as_bytes));
    if !chain.is_empty() {
        fields.push(field("X-Forwarded-For", chain.join(b", ".as_slice())));
    }
    let proto = trusted("x-forwarded-proto")
        .first()
        .copied()
        .unwrap_or(b"http");
    fields.push(field("X-Forwarded-Proto", proto));
    let told_host = trusted("x-forwarded-host")
        .first()
        .map(|host| host.to_vec());
    fields.extend(
        told_host
            .or(host.clone())
            .map(|host| field("X-Forwarded-Host", host)),
    );
    let chain = trusted("forwarded");
    fields.extend(chain.into_iter().map(|one| field("Forwarded", one)));
    if forwarding.forwarded {
        let node = match peer {
            None => "unknown".to_owned(),
            Some(IpAddr::V4(peer)) => peer.to_string(),
            Some(IpAddr::V6(peer)) => format!("\"[{peer}]\""),
        };
        let host = host.map(|host| [b";host=\"", host.as_slice(), b"\""].concat());
        let host = host.unwrap_or_default();
        let value = [b"for=", node.as_bytes(), &host, b";proto=http"].concat();
        fields.push(field("Forwarded", value));
    }
    fields
}

/// Bytes from a server. The first byte: bits 0 and 1 the method, 2 whether the client speaks 1.0, 3
/// whether it asks for close (1.1) or does not ask to be kept (1.0), 4 whether it asks for an upgrade,
/// 5 whether the stream ends behind the bytes, and all of it how they are cut.
pub fn responses(input: &[u8]) -> usize {
    let Some((choice, wire)) = input.split_first() else {
        return 0;
    };
    let method = ["HEAD", "GET", "POST", "OPTIONS"][usize::from(choice & 3)];
    let minor = u8::from(choice & 4 == 0);
    let connection = match (minor, choice & 8 != 0, choice & 16 != 0) {
        (0, false, _) => "keep-alive",
        (1, true, false) => "close, TE",
        (1, false, true) => "Upgrade",
        (1, true, true) => "upgrade, close",
        _ => "TE",
    };
    let upgrade = if choice & 16 == 0 {
        ""
    } else {
        "Upgrade: websocket\r\n"
    };
    let request = format!(
        "{method} / HTTP/1.{minor}\r\nHost: a\r\nTE: trailers\r\n{upgrade}Connection: {connection}\r\n\r\n"
    );
    let asked = message::request_head(request.as_bytes(), Manner::Received);
    let asked = asked.expect("a request").0.asked();
    let is_ended = choice & 32 != 0;
    let request = request.as_bytes();
    let (whole, keeps) = relay::responses(wire, Cuts::Whole, request, is_ended);
    check_responses(wire, &whole, asked, is_ended, keeps);
    let cuts = Cuts::Seeded(u64::from(*choice));
    let (cut, keeps) = relay::responses(wire, cuts, request, is_ended);
    check_responses(wire, &cut, asked, is_ended, keeps);
    assert_eq!((whole.end, whole.sent.len()), (cut.end, cut.sent.len()));
    whole.sent.iter().filter(|sent| sent.is_whole).count()
}

/// `relayed` is what is in `wire`: interim responses, and the final one or what there is of it.
fn check_responses(wire: &[u8], relayed: &Relayed, asked: Asked, is_ended: bool, keeps: bool) {
    let mut at = 0;
    let mut interims = 0;
    let mut all = relayed.sent.iter();
    loop {
        let received = message::response(&wire[at..], asked, is_ended, Manner::Received);
        let is_interim = matches!(&received, Ok((one, _)) if one.status < 200 && one.status != 101);
        if is_interim && interims < INTERIMS_MAX {
            interims += 1;
            let (received, length) = received.expect("an interim response");
            if let End::Refused(refusal) = relayed.end
                && all.len() == 0
                && is_response_policy(refusal, &received, asked, &wire[at..])
            {
                return;
            }
            at += length;
            if asked.minor == 1 {
                let sent = all.next().expect("the interim response");
                check_response(&received, sent, asked, true);
            }
            continue;
        }
        let Some(sent) = all.next() else {
            match (relayed.end, &received) {
                (End::Refused(_) | End::Waiting | End::Cut, Err(_)) => {}
                (End::Refused(refusal), Ok((one, _)))
                    if is_response_policy(refusal, one, asked, &wire[at..]) => {}
                (end, received) => panic!("{end:?} where there is {received:?}"),
            }
            return;
        };
        if !sent.is_whole {
            let received = received.map(|(one, _)| one.trailers);
            return unfinished(received, sent, relayed.end, |bytes| {
                message::response(bytes, asked, false, Manner::Sent).map(drop)
            });
        }
        let (received, length) = match received {
            Ok(received) => received,
            Err(Stop::Either(_)) => return,
            Err(stop) => panic!("{stop:?} was sent on as {}", show(&sent.bytes)),
        };
        assert_eq!(
            (relayed.end, relayed.used),
            (End::Over, at + length),
            "another end"
        );
        return check_response(&received, sent, asked, keeps);
    }
}

/// Whether a response that nothing is wrong with by itself was refused for being too much, or for not
/// being asked for.
fn is_response_policy(refusal: Refusal, response: &Response, asked: Asked, wire: &[u8]) -> bool {
    let head = message::response_head(wire, asked, Manner::Received).map_or(0, drop_length);
    let options = elements(&response.fields, "connection").len();
    match refusal {
        Refusal::HeadTooLong => head > HEAD_MAX,
        Refusal::TooManyFields => response.fields.len() > FIELDS_MAX || options > OPTIONS_MAX,
        Refusal::Switch => {
            let is_bare = !has(&response.fields, "upgrade");
            response.status == 101 && (!asked.upgrade || response.minor == 0 || is_bare)
        }
        Refusal::Interim => response.status < 200,
        _ => false,
    }
}

/// `sent` is one message, and says what `received` says.
fn check_response(received: &Response, sent: &Sent, asked: Asked, keeps: bool) {
    let again = message::response(&sent.bytes, asked, true, Manner::Sent);
    let Ok((again, length)) = again else {
        panic!("{again:?}: {}", show(&sent.bytes));
    };
    assert_eq!(length, sent.bytes.len(), "more than one message");
    assert_eq!((again.status, again.minor), (received.status, 1));
    assert_eq!(show(&again.reason), show(&received.reason));
    let framing = match (received.framing, asked.minor) {
        (Framing::Chunked, 0) => Framing::UntilClose,
        (Framing::UntilClose, 1) => Framing::Chunked,
        (framing, _) => framing,
    };
    assert_eq!(again.framing, framing);
    assert_eq!(show(&again.content), show(&received.content));
    assert_trailers(&again.trailers, &received.trailers);
    if again.status >= 200 {
        assert_eq!(again.persists(), keeps, "{}", show(&sent.bytes));
        // Without a word a 1.0 client takes it for the last one (RFC 9112 §9.3).
        let is_told = has(&again.fields, "connection");
        assert!(asked.minor == 1 || is_told, "{}", show(&sent.bytes));
    }
    let mut expected = answered_fields(received, framing);
    let mut found = end_to_end(&again.fields);
    // A response without content may say how it would have been framed, or leave it out.
    if framing == Framing::None {
        expected.retain(|field| field.key() != "transfer-encoding");
        found.retain(|field| field.key() != "transfer-encoding");
    }
    assert_eq!(told(&found), told(&expected), "{}", show(&sent.bytes));
    let is_switch = again.status == 101;
    let expected = if is_switch {
        values(&received.fields, "upgrade")
    } else {
        Vec::new()
    };
    assert_eq!(values(&again.fields, "upgrade"), expected);
}

/// What a client has to get of `response`'s fields, without those of the connection.
fn answered_fields(response: &Response, framing: Framing) -> Vec<Field> {
    let named = named(&response.fields);
    let mut expected = end_to_end(&response.fields);
    let has_no_framing = matches!(response.status, 100..=199 | 204);
    expected.retain(|field| {
        let key = field.key();
        let is_unchunked = key == "transfer-encoding" && framing != Framing::Chunked;
        // Tolerated: what only means something in requests stays though Connection names it.
        let is_named = named.contains(&key) && !is_among(OURS, &key.replace('_', "-"));
        let is_dropped = is_named
            || is_unchunked && framing != Framing::None
            || has_no_framing && (key == "content-length" || key == "transfer-encoding");
        !is_dropped
    });
    if response.status >= 200 && !has(&expected, "date") {
        expected.push(field("Date", DATE));
    }
    if framing == Framing::Chunked && response.framing == Framing::UntilClose {
        expected.push(field("Transfer-Encoding", "chunked"));
    }
    expected
}

/// Chunks and what is behind them. The first byte: how they are cut.
pub fn chunks(input: &[u8]) -> usize {
    let Some((choice, wire)) = input.split_first() else {
        return 0;
    };
    let expected = read_chunks(wire, Manner::Received);
    let seed = u64::from(*choice);
    let data = relay::chunks(wire, Cuts::Seeded(seed), false);
    let canonical = relay::chunks(wire, Cuts::Seeded(seed + 256), true);
    match (&expected, &data, &canonical) {
        (Ok((chunked, length)), Ok((data, Some(read))), Ok((canonical, Some(read_too)))) => {
            assert_eq!((read, read_too), (length, length), "another end");
            assert_eq!(show(data), show(&chunked.data));
            let again = read_chunks(canonical, Manner::Sent);
            let Ok((again, length)) = again else {
                panic!("{again:?}: {}", show(canonical));
            };
            assert_eq!(length, canonical.len(), "more than one message");
            assert_eq!(show(&again.data), show(&chunked.data));
            assert_trailers(&again.trailers, &chunked.trailers);
        }
        (Err(Stop::Open), Ok((_, None)), Ok((canonical, None))) => {
            let again = read_chunks(canonical, Manner::Sent);
            assert_eq!(again, Err(Stop::Open), "{}", show(canonical));
        }
        // The meter sees what is wrong at once, a reader of lines at the line's end.
        (Err(_), Err(()), Err(())) => {}
        (Ok((chunked, _)), Err(()), Err(())) if chunked.trailers.iter().any(is_barred) => {}
        (Err(Stop::Either(_)), data, canonical) => {
            assert_eq!(data.is_err(), canonical.is_err());
        }
        different => panic!("{different:?}"),
    }
    usize::from(matches!(canonical, Ok((_, Some(_)))))
}
