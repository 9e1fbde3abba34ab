//! Which fields have to go on, in which order, and what has to be added to them.

use std::net::IpAddr;

use bestguess::http::rewrite::Forwarding;

use super::grammar::number;
use super::message::{Framing, Request, Response};
use super::relay::{DATE, HOST_DEFAULT};
use super::{Field, elements, has, values};

/// Fields that stay whatever Connection says, for framing, routing and identity depend on them, or
/// because what becomes of them is decided by other rules.
const PROTECTED: &str = "host content-length transfer-encoding via date expect cookie authorization \
    cache-control content-type content-encoding";
/// Fields that do not cross, and what servers say of their load. `upgrade` and `te` are looked at for
/// themselves.
const HOP_BY_HOP: &str = "connection keep-alive proxy-connection te trailer upgrade \
    endpoint-load-metrics endpoint-load-metrics-bin";
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

/// The fields that are not of a connection.
pub fn end_to_end(fields: &[Field]) -> Vec<Field> {
    let all = fields.iter();
    all.filter(|field| !is_among(HOP_BY_HOP, &field.key()))
        .cloned()
        .collect()
}

/// The framing fields are written anew: one spelling, and no zeros before a number.
fn canonical(mut fields: Vec<Field>) -> Vec<Field> {
    for one in &mut fields {
        match one.key().as_str() {
            "transfer-encoding" => *one = field("Transfer-Encoding", "chunked"),
            "content-length" => {
                let length = number(&one.value).unwrap_or_default();
                *one = field("Content-Length", length.to_string());
            }
            _ => {}
        }
    }
    fields
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
pub fn forwarded_fields(request: &Request, forwarding: &Forwarding<'_>) -> Vec<Field> {
    let named = named(&request.fields);
    let host = &request.target.authority;
    // RFC 9110 §10.1.1: nobody waits for leave to send nothing.
    let has_content = !matches!(request.framing, Framing::None | Framing::Length(0));
    let mut expected: Vec<Field> = Vec::new();
    expected.extend(host.as_ref().map(|host| field("Host", host)));
    for received in canonical(end_to_end(&request.fields)) {
        let key = received.key();
        let dashed = key.replace(|letter: char| !letter.is_ascii_alphanumeric(), "-");
        let is_lookalike = dashed != key && (is_among(OURS, &dashed) || dashed == "max-forwards");
        let is_dropped = named.contains(&key)
            || is_lookalike
            || key == "http2-settings"
            || key == "proxy"
            || FORWARDING.contains(&key.as_str())
            || (key == "host" && host.is_some())
            || (key == "expect"
                && (!has_content
                    || request.minor == 0
                    || received.value.is_empty()
                    || has(&expected, "expect")));
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

/// What a client has to get of `response`'s fields, without those of the connection.
pub fn answered_fields(response: &Response, framing: Framing) -> Vec<Field> {
    let named = named(&response.fields);
    let mut expected = canonical(end_to_end(&response.fields));
    let has_no_framing = matches!(response.status, 100..=199 | 204);
    expected.retain(|field| {
        let key = field.key();
        let is_unchunked = key == "transfer-encoding" && framing != Framing::Chunked;
        let is_dropped = named.contains(&key)
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

fn is_among(list: &str, key: &str) -> bool {
    list.split_ascii_whitespace().any(|one| one == key)
}
