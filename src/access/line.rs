//! One exchange as one line, in either format.

use std::net::SocketAddr;
use std::time::Duration;

use super::clock::Clock;
use super::record::Record;
use super::text;
use crate::http::rewrite;
use crate::net::Time;

/// How an exchange ended.
#[derive(Debug, Clone, Copy)]
pub struct Ended<'e> {
    /// The client; none on a unix socket.
    pub peer: Option<SocketAddr>,
    /// What is known of its request; none if its head was never whole.
    pub record: Option<&'e Record>,
    /// When it ended.
    pub now: Time,
    /// The status that the client got; 0: none.
    pub status: u16,
    /// Bytes of the response, its head not counted.
    pub bytes: u64,
    /// Whether it came to its end, and was not cut before.
    pub is_complete: bool,
}

/// Appends the line of the combined format, which log tools read:
/// `client - - [date] "request line" status bytes "referer" "user agent"`.
pub(super) fn combined(out: &mut Vec<u8>, clock: &mut Clock, ended: &Ended<'_>) {
    match ended.peer {
        Some(peer) => rewrite::address(out, peer.ip()),
        None => out.push(b'-'),
    }
    out.extend_from_slice(b" - - [");
    clock.common(out, ended.now);
    out.extend_from_slice(b"] \"");
    let asked = ended.record.filter(|record| record.is_asked());
    out.extend_from_slice(asked.map_or(b"-", Record::line));
    out.extend_from_slice(b"\" ");
    number(out, u64::from(ended.status));
    out.push(b' ');
    number(out, ended.bytes);
    out.push(b' ');
    out.extend_from_slice(asked.map_or(b"\"-\" \"-\"", Record::part));
    out.push(b'\n');
}

/// Appends a JSON object in one line. Its keys are always there, in this order; what is not known is
/// null. `name` tells what a server is called.
pub(super) fn json<'n>(
    out: &mut Vec<u8>,
    clock: &mut Clock,
    ended: &Ended<'_>,
    name: impl Fn(usize) -> Option<&'n str>,
) {
    out.extend_from_slice(b"{\"time\":\"");
    clock.rfc3339(out, ended.now);
    out.extend_from_slice(b"\",\"client\":");
    match ended.peer {
        Some(peer) => {
            out.push(b'"');
            rewrite::address(out, peer.ip());
            out.extend_from_slice(b"\",\"client_port\":");
            number(out, u64::from(peer.port()));
        }
        None => out.extend_from_slice(b"null,\"client_port\":null"),
    }
    let asked = ended.record.filter(|record| record.is_asked());
    out.extend_from_slice(asked.map_or(NOTHING_ASKED, Record::part));
    out.extend_from_slice(b",\"status\":");
    number(out, u64::from(ended.status));
    out.extend_from_slice(b",\"bytes\":");
    number(out, ended.bytes);
    out.extend_from_slice(match ended.is_complete {
        true => b",\"complete\":true",
        false => b",\"complete\":false",
    });
    let last = ended.record.and_then(Record::last);
    key_text(
        out,
        b",\"server\":",
        last.and_then(|last| name(last.server)),
    );
    out.extend_from_slice(b",\"tries\":");
    number(
        out,
        ended.record.map_or(0, |record| u64::from(record.tries())),
    );
    let rule = last.and_then(|last| last.rule);
    key_text(out, b",\"reason\":", rule.map(|rule| rule.name()));
    let spans = ended.record.map(|record| record.spans(ended.now));
    let spans = spans.unwrap_or_default();
    for (key, span) in [
        (b",\"queue_ms\":".as_slice(), spans.queue),
        (b",\"connect_ms\":", spans.connect),
        (b",\"response_ms\":", spans.response),
        (b",\"total_ms\":", Some(spans.total)),
    ] {
        out.extend_from_slice(key);
        match span {
            Some(span) => millis(out, span),
            None => out.extend_from_slice(b"null"),
        }
    }
    out.extend_from_slice(b",\"request_id\":");
    match ended.record.and_then(Record::id) {
        // An id needs no escape, whoever gave it.
        Some(id) => {
            out.push(b'"');
            out.extend_from_slice(id);
            out.push(b'"');
        }
        None => out.extend_from_slice(b"null"),
    }
    out.extend_from_slice(b"}\n");
}

/// The request's part of a JSON line whose request could not be read.
const NOTHING_ASKED: &[u8] = b",\"method\":null,\"target\":null,\"version\":null,\"host\":null,\"referer\":null,\"user_agent\":null";

/// Appends `key` and the text behind it, or null.
fn key_text(out: &mut Vec<u8>, key: &[u8], value: Option<&str>) {
    out.extend_from_slice(key);
    match value {
        Some(value) => {
            out.push(b'"');
            text::json(out, value.as_bytes());
            out.push(b'"');
        }
        None => out.extend_from_slice(b"null"),
    }
}

fn number(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// Appends milliseconds with three digits behind the point: microseconds, cut.
fn millis(out: &mut Vec<u8>, span: Duration) {
    let micros = span.subsec_micros();
    number(out, span.as_secs() * 1000 + u64::from(micros / 1000));
    let digit = |divisor: u32| b'0' + (micros / divisor % 10) as u8;
    out.extend_from_slice(&[b'.', digit(100), digit(10), digit(1)]);
}
