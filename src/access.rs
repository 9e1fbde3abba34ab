//! The access log: one line for each exchange, in the combined format that log tools read.
//!
//! Lines are gathered in memory, in the turn in which the exchange ends; whoever drives the loop
//! takes them from there. Writes nothing itself, and costs nothing while it is off.

use std::fmt;
use std::net::SocketAddr;

use crate::http::head::{Field, Request, Version};

/// Bytes that may be waiting to be taken; lines beyond are counted instead.
const WAITING_MAX: usize = 1 << 20;

/// The lines that were not taken yet.
#[derive(Debug, Default)]
pub struct Access {
    is_on: bool,
    lines: Vec<u8>,
    lost: u64,
    must_reopen: bool,
}

/// What a line says of the request, noted while its head is at hand.
#[derive(Debug, Default, Clone)]
pub struct Record {
    request_line: Vec<u8>,
    agent: Vec<u8>,
}

impl Record {
    /// The request line, as far as it is kept, for people.
    pub fn request_line(&self) -> impl fmt::Display + '_ {
        self.request_line.escape_ascii()
    }
}

/// How an exchange ended.
#[derive(Debug, Clone, Copy)]
pub struct Ended<'e> {
    /// The client; none on a unix socket.
    pub peer: Option<SocketAddr>,
    /// What its request was; none if its head was never whole.
    pub record: Option<&'e Record>,
    /// When it ended, as `Date` has it.
    pub date: &'e str,
    /// The status that the client got; 0: none.
    pub status: u16,
    /// Bytes of the response, its head not counted.
    pub bytes: u64,
}

impl Access {
    /// A log that is on or off for good.
    pub fn new(is_on: bool) -> Access {
        Access {
            is_on,
            ..Access::default()
        }
    }

    /// Whether lines are wanted.
    pub fn is_on(&self) -> bool {
        self.is_on
    }

    /// Adds the line of an exchange that has ended.
    pub fn add(&mut self, ended: &Ended<'_>) {
        if !self.is_on {
            return;
        }
        if self.lines.len() > WAITING_MAX {
            self.lost += 1;
            return;
        }
        let out = &mut self.lines;
        match ended.peer {
            Some(peer) => out.extend_from_slice(peer.ip().to_canonical().to_string().as_bytes()),
            None => out.push(b'-'),
        }
        // "Sun, 22 Nov 2026 16:07:22 GMT" has all the parts, in another order.
        let part = |range: std::ops::Range<usize>| ended.date.get(range).unwrap_or_default();
        let stamp = format!(
            " - - [{}/{}/{}:{} +0000] \"",
            part(5..7),
            part(8..11),
            part(12..16),
            part(17..25)
        );
        out.extend_from_slice(stamp.as_bytes());
        out.extend_from_slice(ended.record.map_or(b"-", |record| &record.request_line));
        out.extend_from_slice(format!("\" {} {} ", ended.status, ended.bytes).as_bytes());
        out.extend_from_slice(ended.record.map_or(b"\"-\" \"-\"", |record| &record.agent));
        out.push(b'\n');
    }

    /// The file was moved away: the lines of the turns to come belong to a new one in its place.
    pub fn reopen(&mut self) {
        self.must_reopen = true;
    }

    /// Whether that was said since the last call.
    pub fn take_reopen(&mut self) -> bool {
        std::mem::take(&mut self.must_reopen)
    }

    /// The lines since the last call, and how many more were lost for lack of room.
    pub fn take(&mut self) -> (Vec<u8>, u64) {
        (
            std::mem::take(&mut self.lines),
            std::mem::take(&mut self.lost),
        )
    }
}

impl Record {
    /// What a line will say of `request`.
    pub fn of(request: &Request<'_>) -> Record {
        let mut request_line = Vec::with_capacity(request.target.len() + 32);
        request_line.extend_from_slice(request.method_name);
        request_line.push(b' ');
        if let Some(authority) = request.authority {
            request_line.extend_from_slice(b"http://");
            request_line.extend_from_slice(authority);
        }
        request_line.extend_from_slice(request.target);
        request_line.extend_from_slice(match request.version {
            Version::Http10 => b" HTTP/1.0",
            Version::Http11 => b" HTTP/1.1",
        });
        let mut agent = Vec::new();
        for name in [b"referer".as_slice(), b"user-agent"] {
            agent.extend_from_slice(if agent.is_empty() { b"\"" } else { b" \"" });
            let found = request
                .fields
                .iter()
                .find(|line| line.kind == Field::Other && line.name.eq_ignore_ascii_case(name));
            escape(&mut agent, found.map_or(b"-", |line| line.value));
            agent.push(b'"');
        }
        Record {
            request_line,
            agent,
        }
    }
}

/// Appends `value` so that it can not be taken for the end of its quotes or of the line.
fn escape(out: &mut Vec<u8>, value: &[u8]) {
    for byte in value {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', *byte]),
            b' '..=0x7e => out.push(*byte),
            _ => out.extend_from_slice(format!("\\x{byte:02X}").as_bytes()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::head;

    #[test]
    fn a_line_is_in_the_combined_format_and_can_not_be_forged() {
        let head = b"GET /a?b HTTP/1.1\r\nHost: x\r\nUser-Agent: a\"b\xff\\\r\n\r\n";
        let mut slots = head::slots();
        let record = Record::of(&head::request(head, &mut slots).ok().unwrap());
        let mut access = Access::new(true);
        access.add(&Ended {
            peer: Some("192.0.2.7:99".parse().unwrap()),
            record: Some(&record),
            date: "Thu, 01 Jan 1970 00:00:00 GMT",
            status: 200,
            bytes: 12,
        });
        let expected = "192.0.2.7 - - [01/Jan/1970:00:00:00 +0000] \"GET /a?b HTTP/1.1\" 200 12 \"-\" \"a\\\"b\\xFF\\\\\"\n";
        assert_eq!(String::from_utf8(access.take().0).unwrap(), expected);
    }

    #[test]
    fn lines_that_nobody_takes_are_counted_not_kept() {
        let mut access = Access::new(true);
        let ended = Ended {
            peer: None,
            record: None,
            date: "Thu, 01 Jan 1970 00:00:00 GMT",
            status: 400,
            bytes: 0,
        };
        for _ in 0..30_000 {
            access.add(&ended);
        }
        let (lines, lost) = access.take();
        let kept = lines.iter().filter(|byte| **byte == b'\n').count() as u64;
        assert_eq!(kept + lost, 30_000);
        assert!(lost > 0 && lines.len() < 2 * WAITING_MAX);
    }
}
