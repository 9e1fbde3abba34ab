//! What is noted of one exchange while it runs: who asked for what, and when it got how far.
//!
//! A record is lent to a task and taken back at its end, memory and all, so that in the long run none is
//! allocated. The request's part of a line is written while its head is at hand.

use std::fmt;

use super::ids::{self, Ids};
use super::text;
use crate::config::LogFormat;
use crate::guess::Rule;
use crate::http::grammar::is_word;
use crate::http::head::{Field, Request, Version};
use crate::net::Time;

/// A record that grew beyond this is not kept for the next, in bytes.
const KEPT_MAX: usize = 4 << 10;

/// What of a request is to be noted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wants {
    /// Its part of a line of the access log.
    pub(super) format: Option<LogFormat>,
    /// Its first line, for people.
    pub(super) line: bool,
    /// Its id.
    pub(super) id: bool,
    /// Whether clients may give ids.
    pub(super) trust: bool,
}

/// One exchange as it is written down.
#[derive(Debug, Default)]
pub struct Record {
    /// The request line, if it is wanted, then the request's part of a line of the log.
    text: Vec<u8>,
    /// Where in `text` the request line ends.
    line_end: usize,
    /// Its id; empty: none is wanted.
    id: Vec<u8>,
    /// When the first bytes of its head came.
    began: Time,
    /// When its head was whole; none: it is not.
    asked: Option<Time>,
    /// When it first had a server.
    placed: Option<Time>,
    /// Servers that it was given to.
    tries: u32,
    /// The last of them, and how that one did.
    last: Option<Try>,
}

/// One server's try at it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Try {
    pub(super) server: usize,
    /// What decided for the server, if that is wanted.
    pub(super) rule: Option<Rule>,
    placed: Time,
    /// When the first byte of the request could be sent.
    connected: Option<Time>,
    /// When the head of the final response was whole.
    answered: Option<Time>,
}

/// How many microseconds what took; none: it never came to that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Spans {
    /// From the whole head to the first server, or the end.
    pub(super) queue: Option<u64>,
    /// From the choice of the last server to the first byte sent to it.
    pub(super) connect: Option<u64>,
    /// From there to its answer.
    pub(super) response: Option<u64>,
    /// From the first byte of the head to the end of the exchange.
    pub(super) total: u64,
}

/// The microseconds from `earlier` to `later`, cut.
fn micros(earlier: Time, later: Time) -> u64 {
    later.0.saturating_sub(earlier.0) / 1000
}

impl Record {
    /// The request line for people, as far as it is kept; nothing in it forges a log.
    pub fn request_line(&self) -> impl fmt::Display + '_ {
        self.line().escape_ascii()
    }

    /// The id of the request: what the server and the client get as X-Request-Id.
    pub fn id(&self) -> Option<&[u8]> {
        (!self.id.is_empty()).then_some(&self.id)
    }

    /// It was given to `server`; `rule` decided, if that is wanted.
    pub fn placed(&mut self, now: Time, server: usize, rule: Option<Rule>) {
        self.placed = self.placed.or(Some(now));
        self.tries = self.tries.saturating_add(1);
        self.last = Some(Try {
            server,
            rule,
            placed: now,
            connected: None,
            answered: None,
        });
    }

    /// By now its server has taken a byte of it, or has answered.
    pub fn came_on(&mut self, now: Time, is_sent: bool, is_answered: bool) {
        if let Some(last) = &mut self.last {
            if is_sent && last.connected.is_none() {
                last.connected = Some(now);
            }
            if is_answered && last.answered.is_none() {
                last.answered = Some(now);
            }
        }
    }

    /// Whether its head was ever whole.
    pub(super) fn is_asked(&self) -> bool {
        self.asked.is_some()
    }

    /// Starts anew: the first bytes of a head have come.
    pub(super) fn begin(&mut self, now: Time) {
        let (mut text, mut id) = (std::mem::take(&mut self.text), std::mem::take(&mut self.id));
        text.clear();
        id.clear();
        *self = Record {
            text,
            id,
            began: now,
            ..Record::default()
        };
    }

    /// Its head is whole.
    pub(super) fn ask(&mut self, now: Time, request: &Request<'_>, wants: Wants, ids: &mut Ids) {
        self.asked = Some(now);
        let found = Found::of(request, wants);
        if wants.id {
            let given = found.id.filter(|id| ids::is_sane(id));
            match given {
                Some(given) => self.id.extend_from_slice(given),
                None => self.id.extend_from_slice(&ids.next()),
            }
        }
        if wants.line || wants.format == Some(LogFormat::Combined) {
            text::quoted(&mut self.text, request.line());
        }
        self.line_end = self.text.len();
        match wants.format {
            Some(LogFormat::Combined) => self.write_combined(&found),
            Some(LogFormat::Json) => self.write_json(request, &found),
            None => {}
        }
    }

    /// A request that could not be read gets an id all the same.
    pub(super) fn identify(&mut self, ids: &mut Ids) {
        if self.id.is_empty() {
            self.id.extend_from_slice(&ids.next());
        }
    }

    /// The request line as it was written, in the combined format's escapes.
    pub(super) fn line(&self) -> &[u8] {
        self.text.get(..self.line_end).unwrap_or_default()
    }

    /// The request's part of a line of the log.
    pub(super) fn part(&self) -> &[u8] {
        self.text.get(self.line_end..).unwrap_or_default()
    }

    pub(super) fn tries(&self) -> u32 {
        self.tries
    }

    pub(super) fn last(&self) -> Option<&Try> {
        self.last.as_ref()
    }

    /// How long everything took, if it ended `now`.
    pub(super) fn spans(&self, now: Time) -> Spans {
        let last = self.last.as_ref();
        let connected = last.and_then(|last| last.connected);
        let answered = last.and_then(|last| last.answered);
        Spans {
            queue: self
                .asked
                .map(|asked| micros(asked, self.placed.unwrap_or(now))),
            connect: last.and_then(|last| Some(micros(last.placed, last.connected?))),
            response: connected.and_then(|connected| Some(micros(connected, answered?))),
            total: micros(self.began, now),
        }
    }

    /// Whether its memory is worth keeping for another.
    pub(super) fn is_small(&self) -> bool {
        self.text.capacity() <= KEPT_MAX
    }

    /// ` "referer" "user agent"` and the line's end.
    fn write_combined(&mut self, found: &Found<'_>) {
        let out = &mut self.text;
        match (found.referer, found.agent) {
            (None, None) => out.extend_from_slice(NO_REFERER_AND_AGENT),
            (referer, agent) => {
                out.extend_from_slice(b" \"");
                text::quoted(out, referer.unwrap_or(b"-"));
                out.extend_from_slice(b"\" \"");
                text::quoted(out, agent.unwrap_or(b"-"));
                out.extend_from_slice(b"\"\n");
            }
        }
    }

    fn write_json(&mut self, request: &Request<'_>, found: &Found<'_>) {
        let out = &mut self.text;
        // A token has nothing to escape.
        let method = request.method_name;
        out.extend_from_slice(b",\"method\":\"");
        out.extend_from_slice(method);
        out.extend_from_slice(b"\",\"target\":\"");
        // As it was written, absolute or not.
        let line = request.line();
        let end = line.len().saturating_sub(b" HTTP/1.1".len());
        let target = line.get(method.len() + 1..end).unwrap_or_default();
        text::json(out, target);
        out.extend_from_slice(match request.version {
            Version::Http10 => b"\",\"version\":\"HTTP/1.0\"",
            Version::Http11 => b"\",\"version\":\"HTTP/1.1\"",
        });
        // What may be a host has nothing to escape.
        text::plain_member(out, b",\"host\":\"", request.authority.or(found.host));
        text::json_member(out, b",\"referer\":\"", found.referer);
        text::json_member(out, b",\"user_agent\":\"", found.agent);
    }
}

/// What `write_combined` writes of most requests of programs.
pub(super) const NO_REFERER_AND_AGENT: &[u8] = b" \"-\" \"-\"\n";

/// The fields that are noted: the first of each.
#[derive(Default)]
struct Found<'b> {
    host: Option<&'b [u8]>,
    referer: Option<&'b [u8]>,
    agent: Option<&'b [u8]>,
    /// The only one: of two, none is believed.
    id: Option<&'b [u8]>,
}

impl<'b> Found<'b> {
    fn of(request: &Request<'b>, wants: Wants) -> Found<'b> {
        let mut found = Found::default();
        let mut ids = 0;
        // By the lengths of names first, which rule most fields out.
        const REFERER_AND_AGENT: u32 = 1 << b"referer".len() | 1 << b"user-agent".len();
        const HOST: u32 = 1 << b"host".len();
        let of_format = match wants.format {
            None => 0,
            Some(LogFormat::Combined) => REFERER_AND_AGENT,
            Some(LogFormat::Json) => REFERER_AND_AGENT | HOST,
        };
        let of_id = u32::from(wants.id && wants.trust) << b"x-request-id".len();
        request
            .fields
            .each_named(of_format | of_id, |line| match line.kind {
                Field::Host => found.host = Some(line.value),
                Field::XRequestId => {
                    ids += 1;
                    found.id = Some(line.value).filter(|_| ids == 1);
                }
                _ if is_word(line.name, b"referer") => {
                    found.referer = found.referer.or(Some(line.value));
                }
                _ if is_word(line.name, b"user-agent") => {
                    found.agent = found.agent.or(Some(line.value));
                }
                _ => {}
            });
        found
    }
}
