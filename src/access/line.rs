//! One exchange as one line, in either format.

use std::net::SocketAddr;

use super::clock::{Clock, three_digits};
use super::record::{self, Record, Spans};
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
    out.extend_from_slice(clock.common(ended.now));
    out.extend_from_slice(b"] \"");
    let asked = ended.record.filter(|record| record.is_asked());
    out.extend_from_slice(asked.map_or(b"-", Record::line));
    out.extend_from_slice(b"\" ");
    status(out, ended.status);
    out.push(b' ');
    number(out, ended.bytes);
    out.extend_from_slice(asked.map_or(record::NO_REFERER_AND_AGENT, Record::part));
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
    out.extend_from_slice(clock.rfc3339(ended.now));
    match ended.peer {
        Some(peer) => {
            out.extend_from_slice(b"\",\"client\":\"");
            rewrite::address(out, peer.ip());
            out.extend_from_slice(b"\",\"client_port\":");
            number(out, u64::from(peer.port()));
        }
        None => out.extend_from_slice(b"\",\"client\":null,\"client_port\":null"),
    }
    let asked = ended.record.filter(|record| record.is_asked());
    out.extend_from_slice(asked.map_or(NOTHING_ASKED, Record::part));
    out.extend_from_slice(b",\"status\":");
    status(out, ended.status);
    out.extend_from_slice(b",\"bytes\":");
    number(out, ended.bytes);
    let last = ended.record.and_then(Record::last);
    let server = last.and_then(|last| name(last.server));
    let server = server.map(str::as_bytes);
    match ended.is_complete {
        true => text::json_member(out, b",\"complete\":true,\"server\":\"", server),
        false => text::json_member(out, b",\"complete\":false,\"server\":\"", server),
    }
    out.extend_from_slice(b",\"tries\":");
    number(out, ended.record.map_or(0, Record::tries).into());
    let rule = last.and_then(|last| last.rule);
    let rule = rule.map(|rule| rule.name().as_bytes());
    text::plain_member(out, b",\"reason\":\"", rule);
    let spans = ended.record.map(|record| record.spans(ended.now));
    durations(out, &spans.unwrap_or_default());
    let id = ended.record.and_then(Record::id);
    text::plain_member(out, b",\"request_id\":\"", id);
    out.extend_from_slice(b"}\n");
}

/// The request's part of a JSON line whose request could not be read.
const NOTHING_ASKED: &[u8] = b",\"method\":null,\"target\":null,\"version\":null,\"host\":null,\"referer\":null,\"user_agent\":null";

/// Appends how long everything took.
fn durations(out: &mut Vec<u8>, spans: &Spans) {
    out.extend_from_slice(b",\"queue_ms\":");
    millis(out, spans.queue);
    out.extend_from_slice(b",\"connect_ms\":");
    millis(out, spans.connect);
    out.extend_from_slice(b",\"response_ms\":");
    millis(out, spans.response);
    out.extend_from_slice(b",\"total_ms\":");
    millis(out, Some(spans.total));
}

/// Appends a status: three digits, or the 0 of none.
#[inline]
fn status(out: &mut Vec<u8>, status: u16) {
    match status {
        0 => out.push(b'0'),
        _ => out.extend_from_slice(&three_digits(u32::from(status))),
    }
}

fn number(out: &mut Vec<u8>, number: u64) {
    if number < 10 {
        return out.push(b'0' + number as u8);
    }
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// Appends `micros` as milliseconds with three digits behind the point; or null.
fn millis(out: &mut Vec<u8>, micros: Option<u64>) {
    let Some(micros) = micros else {
        return out.extend_from_slice(b"null");
    };
    let [hundreds, tens, ones] = three_digits((micros % 1000) as u32);
    match micros / 1000 {
        // Nearly all waits are short.
        millis @ 0..10 => {
            let digit = b'0' + millis as u8;
            out.extend_from_slice(&[digit, b'.', hundreds, tens, ones]);
        }
        millis => {
            number(out, millis);
            out.extend_from_slice(&[b'.', hundreds, tens, ones]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_times_are_written_as_they_are() {
        let near = |power: u32| {
            let power = 10_u64.pow(power);
            [power - 1, power, power + 1, 3 * (power / 2)]
        };
        let numbers = (0..11_111).chain((0..20).flat_map(near));
        for micros in numbers.chain([u64::MAX]) {
            let mut out = Vec::new();
            number(&mut out, micros);
            out.push(b' ');
            millis(&mut out, Some(micros));
            let expected = format!("{micros} {}.{:03}", micros / 1000, micros % 1000);
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
    }
}
