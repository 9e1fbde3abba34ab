//! What crossed one connection of the balancer's, read to its end: whole messages and at most one
//! that is not, and nothing that belongs to no message.

use super::message::{self, Asked, Request, Response};
use super::{Field, Manner, Stop, has, show, values};

/// The most empty lines before a request that are skipped (RFC 9112 §2.2 asks for one at least).
const BLANK_LINES_MAX: usize = 4;

/// How a client is answered whose request can not be read.
const UNKNOWN: Asked = Asked {
    head: false,
    minor: 1,
    upgrade: false,
    trailers: false,
};

/// The field by which a server says which request it answers.
pub const TAG: &str = "X-Of";
/// Its value where the server did not wait for the end of the request.
pub const UNSURE: &str = "?";

/// What tells a request from others, on both sides of the balancer.
pub fn key(request: &Request) -> String {
    // FNV-1a: any function will do that takes all of the content in.
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
    let hash = request.content.iter().fold(0xcbf2_9ce4_8422_2325, step);
    let (method, path) = (show(&request.method), show(&request.target.path));
    format!("{method} {path} {hash:x}")
}

/// Reads what a server got on one connection, on which it sent `answered`: the whole requests.
pub fn server(got: &[u8], answered: &[u8]) -> Vec<Request> {
    let is_switched = answered.windows(5).any(|five| five == b" 101 ");
    let mut at = 0;
    let mut whole = Vec::new();
    while at < got.len() {
        match message::request(&got[at..], Manner::Sent) {
            Ok((request, length)) => {
                at += length;
                let may_switch = is_switched && request.asks_for_upgrade();
                whole.push(request);
                if may_switch {
                    // Behind this it may be another protocol.
                    break;
                }
            }
            Err(Stop::Open) => break,
            Err(stop) => panic!("{stop:?}: a server got {}", show(&got[at..])),
        }
    }
    whole
}

/// The whole requests that a client sent.
pub fn asked(sent: &[u8]) -> Vec<Request> {
    let mut at = 0;
    let mut whole = Vec::new();
    loop {
        at += blank_lines(&sent[at..]);
        let Ok((request, length)) = message::request(&sent[at..], Manner::Received) else {
            return whole;
        };
        at += length;
        whole.push(request);
    }
}

/// Reads what a client got on one connection that is closed now, and on which it sent `asked`. Tells
/// how many whole final responses there were. `is_ended`: it ended in good order; `is_tagged`: whether servers say what they answer.
pub fn client(asked: &[u8], got: &[u8], is_ended: bool, is_tagged: bool) -> usize {
    let (mut asked_at, mut got_at, mut whole) = (0, 0, 0);
    while got_at < got.len() {
        asked_at += blank_lines(&asked[asked_at..]);
        let head = message::request_head(&asked[asked_at..], Manner::Received);
        let unknown = Asked {
            head: asked[asked_at..].starts_with(b"HEAD "),
            ..UNKNOWN
        };
        let circumstances = head.map_or(unknown, |(request, _)| request.asked());
        let request = message::request(&asked[asked_at..], Manner::Received);
        let response = loop {
            match message::response(&got[got_at..], circumstances, is_ended, Manner::Sent) {
                Err(Stop::Open) => return whole,
                Err(stop) => panic!("{stop:?}: a client got {}", show(&got[got_at..])),
                Ok((response, length)) => {
                    got_at += length;
                    if is_tagged {
                        check_tag(&response, request.as_ref().ok().map(|(request, _)| request));
                    }
                    if response.status >= 200 || response.status == 101 {
                        break response;
                    }
                }
            }
            if got_at == got.len() {
                return whole;
            }
        };
        whole += 1;
        if response.status == 101 {
            return whole;
        }
        let rest = &got[got_at..];
        if !response.persists() {
            assert!(rest.is_empty(), "behind the last response: {}", show(rest));
        }
        match request {
            Ok((_, length)) => asked_at += length,
            Err(stop) => assert!(rest.is_empty(), "{stop:?} was answered: {}", show(rest)),
        }
    }
    whole
}

/// `response` is the balancer's own, or a server's to this very request.
fn check_tag(response: &Response, request: Option<&Request>) {
    let tags = values(&response.fields, &TAG.to_ascii_lowercase());
    let is_for_proxy = request.is_some_and(|request| has(&request.fields, "max-forwards"));
    if is_own(response) || is_for_proxy || tags.first() == Some(&UNSURE.as_bytes()) {
        return;
    }
    let expected = request.map(key);
    let tag = tags
        .first()
        .map(|tag| String::from_utf8_lossy(tag).into_owned());
    assert!(tag.is_some(), "a response of nobody's: {response:?}");
    assert_eq!(tag, expected, "the answer to another request");
}

/// Whether it looks like what the balancer answers in a server's stead.
fn is_own(response: &Response) -> bool {
    let own = [
        "date",
        "content-type",
        "content-length",
        "retry-after",
        "connection",
    ];
    let is_own = |field: &Field| own.contains(&field.key().as_str());
    response.status >= 400
        && response.fields.iter().all(is_own)
        && values(&response.fields, "content-type") == [b"text/plain; charset=utf-8"]
}

/// The length of the empty lines that `bytes` begin with.
pub fn blank_lines(bytes: &[u8]) -> usize {
    let lines = bytes.chunks(2).take_while(|pair| *pair == b"\r\n");
    lines.take(BLANK_LINES_MAX).count() * 2
}
