//! Request heads: whatever is accepted goes on as a head with the same one reading.
//!
//! The first byte of the input chooses how it is forwarded and cut; the rest are bytes from a client.
#![no_main]

use std::net::IpAddr;

use bestguess::http::body::Framing;
use bestguess::http::head::{self, Field, Refusal, Version};
use bestguess::http::rewrite::{self, Forwarding};
use libfuzzer_sys::fuzz_target;

/// What a reader of our own output must find again.
#[derive(Debug, PartialEq)]
struct Reading {
    method: Vec<u8>,
    target: Vec<u8>,
    framing: Framing,
    upgrade: bool,
    expects_continue: bool,
    host: Option<Vec<u8>>,
    /// All fields that no hop may touch.
    others: Vec<(Vec<u8>, Vec<u8>)>,
}

fn read(head: &[u8]) -> Result<(Reading, Version), Refusal> {
    let mut slots = head::slots();
    let request = head::request(head, &mut slots)?;
    let mut target = request.target.to_vec();
    if !matches!(target.first(), Some(b'/' | b'*')) {
        let is_bare_options = target.is_empty() && request.method_name == b"OPTIONS";
        target.insert(0, if is_bare_options { b'*' } else { b'/' });
    }
    let host = request
        .fields
        .iter()
        .find(|line| line.kind == Field::Host)
        .map(|line| line.value);
    let is_other = |kind| matches!(kind, Field::Other | Field::Kept);
    let others = request.fields.iter().filter(|line| is_other(line.kind));
    let reading = Reading {
        method: request.method_name.to_vec(),
        target,
        framing: request.framing,
        upgrade: request.upgrade,
        expects_continue: request.expects_continue,
        host: request.authority.or(host).map(<[u8]>::to_vec),
        others: others
            .map(|line| (line.name.to_vec(), line.value.to_vec()))
            .collect(),
    };
    for line in request.fields.iter() {
        assert!(!line.name.is_empty() && line.name.iter().all(|byte| is_token_byte(*byte)));
        assert!(
            line.value
                .iter()
                .all(|byte| *byte == b'\t' || (*byte >= b' ' && *byte != 0x7f))
        );
        assert!(
            !matches!(line.value.first(), Some(b' ' | b'\t'))
                && !matches!(line.value.last(), Some(b' ' | b'\t'))
        );
    }
    Ok((reading, request.version))
}

fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// What a client that sends `bytes` in these pieces is told; none: it is waited for.
fn in_pieces(bytes: &[u8], piece: usize) -> Option<Result<(Reading, Version), Refusal>> {
    let mut seen = 0;
    while seen < bytes.len() {
        let end = (seen + piece).min(bytes.len());
        let come = &bytes[..end];
        if let Some(length) = head::find_end(come, seen) {
            return Some(read(&come[..length]));
        }
        if let Err(refusal) = head::begun(come, seen) {
            return Some(Err(refusal));
        }
        seen = end;
    }
    None
}

fuzz_target!(|input: &[u8]| {
    let Some((choice, bytes)) = input.split_first() else {
        return;
    };
    let bytes = &bytes[head::blank_lines(bytes)..];
    let whole = in_pieces(bytes, usize::MAX);
    let piece = 1 + usize::from(choice >> 4) * 3;
    assert_eq!(in_pieces(bytes, piece), whole, "pieces of {piece}");
    let Some(Ok((reading, version))) = whole else {
        return;
    };
    let end = head::find_end(bytes, 0).unwrap();
    assert!(bytes[..end].ends_with(b"\r\n\r\n"));
    let mut slots = head::slots();
    let request = head::request(&bytes[..end], &mut slots).ok().unwrap();

    let peers: [Option<IpAddr>; 4] = [
        None,
        Some("192.0.2.7".parse().unwrap()),
        Some("2001:db8::7".parse().unwrap()),
        Some("::ffff:192.0.2.7".parse().unwrap()),
    ];
    let trust = choice & 4 != 0;
    let forwarding = Forwarding {
        peer: peers[usize::from(choice & 3)],
        host_default: "default:80",
        trust,
        forwarded: choice & 8 != 0,
    };
    let mut out = Vec::new();
    rewrite::request(&mut out, &request, &forwarding);
    assert_eq!(head::find_end(&out, 0), Some(out.len()), "one head");

    let mut slots = head::slots();
    let again = match head::request(&out, &mut slots) {
        Ok(again) => again,
        // What was added may not fit any more.
        Err(Refusal::HeadTooLong) if out.len() > head::HEAD_MAX => return,
        Err(Refusal::TooManyFields) => return,
        Err(refusal) => panic!("{refusal:?}: {}", String::from_utf8_lossy(&out)),
    };
    assert_eq!((again.version, again.authority), (Version::Http11, None));
    let count = |kind| again.fields.iter().filter(|line| line.kind == kind).count();
    assert_eq!(count(Field::Host), 1);
    for kind in [
        Field::Te,
        Field::Trailer,
        Field::KeepAlive,
        Field::ProxyConnection,
        Field::HttpSettings,
    ] {
        assert_eq!(count(kind), 0, "{kind:?}");
    }
    assert_eq!(count(Field::Named) + count(Field::Lookalike), 0);
    assert_eq!(count(Field::Connection), usize::from(again.upgrade));
    assert_eq!(count(Field::Upgrade) > 0, again.upgrade);
    assert!(count(Field::XForwardedFor) <= 1 && count(Field::XForwardedHost) <= 1);
    assert_eq!(count(Field::XForwardedProto), 1);
    if !trust {
        assert_eq!(count(Field::Forwarded), usize::from(forwarding.forwarded));
    }
    let (found, _) = read(&out).unwrap();
    let mut expected = reading;
    if version == Version::Http10 && expected.host.is_none() {
        expected.host = Some(b"default:80".to_vec());
    }
    assert_eq!(found, expected);
});
