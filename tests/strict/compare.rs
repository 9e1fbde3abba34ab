//! What the balancer sends on must be what it received, as the second reading has both.
//!
//! Each function takes a fuzzer's input, of which the first byte chooses the circumstances, panics
//! where the two readings differ, and tells how many messages went on whole.

use bestguess::http::body::Keep;
use bestguess::http::head::{FIELDS_MAX, HEAD_MAX, OPTIONS_MAX, Refusal, TARGET_MAX};
use bestguess::http::rewrite::Forwarding;

use super::chunks::{chunks as read_chunks, is_barred};
use super::fields::{answered_fields, end_to_end, forwarded_fields};
use super::grammar::number;
use super::message::{self, Asked, Framing, Request, Response};
use super::relay::{self, Cuts, End, HOST_DEFAULT, Relayed, Sent};
use super::wires::blank_lines;
use super::{Field, Manner, Stop, elements, has, show, values};

/// Interim responses that a server may send before it is taken for mad.
const INTERIMS_MAX: usize = 100;

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
        id: None,
        cookie: None,
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

/// The count goes on, one less.
fn check_count(received: &[Field], sent: &[Field]) {
    let count = |fields| {
        values(fields, "max-forwards")
            .first()
            .copied()
            .and_then(number)
    };
    if let (Some(received), Some(sent)) = (count(received), count(sent)) {
        assert!(sent + 1 == received, "{sent} of {received}");
    }
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
            let to = elements(&response.fields, "upgrade");
            let is_asked = asked.upgrade && response.minor == 1 && to == ["websocket"];
            response.status == 101 && !is_asked
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
    let expected = if has(&again.fields, "upgrade") {
        values(&received.fields, "upgrade")
    } else {
        Vec::new()
    };
    assert_eq!(values(&again.fields, "upgrade"), expected);
}

/// Chunks and what is behind them. The first byte: how they are cut.
pub fn chunks(input: &[u8]) -> usize {
    let Some((choice, wire)) = input.split_first() else {
        return 0;
    };
    let expected = read_chunks(wire, Manner::Received);
    let seed = u64::from(*choice);
    let data = relay::chunks(wire, Cuts::Seeded(seed), Keep::Data);
    let keep = if seed & 1 == 0 {
        Keep::Chunks
    } else {
        Keep::Trailers
    };
    let canonical = relay::chunks(wire, Cuts::Seeded(seed + 256), keep);
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
