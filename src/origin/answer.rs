//! Answers: what is said, and the writing of it, piece by piece as there is room.
//!
//! A body is a source that is asked for its next piece; whatever its size, no more of it is in
//! memory than what the connection would take. Knows no socket.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::time::{Duration, SystemTime};

use crate::buffer::Block;
use crate::http::head::Version;
use crate::http::reply;

/// The type of texts.
pub(super) const TEXT: &str = "text/plain; charset=utf-8";
/// The type of pages.
pub(super) const HTML: &str = "text/html; charset=utf-8";

/// One line of the pattern, so that a person sees what is missing.
const LINE: &[u8; 64] = b"the quick brown fox jumps over the lazy dog; 0123456789ABCDEFGH\n";
/// Bytes of the pattern that are ready to be copied: lines, and one more for the phase.
const PATTERN_BYTES: usize = (16 << 10) + LINE.len();
/// Data bytes of one chunk at most.
const CHUNK: usize = 16 << 10;

static PATTERN: [u8; PATTERN_BYTES] = {
    let mut bytes = [0; PATTERN_BYTES];
    let mut at = 0;
    while at < PATTERN_BYTES {
        bytes[at] = LINE[at % LINE.len()];
        at += 1;
    }
    bytes
};

/// What is said to one request.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    /// The type of its content.
    pub(super) content_type: &'static str,
    /// Further field lines, each with its CR LF.
    pub(super) fields: String,
    pub(super) body: Body,
}

/// A source of content.
#[derive(Debug)]
pub(super) enum Body {
    /// Bytes in memory, of which so many are written.
    Text(Vec<u8>, usize),
    /// A file from one offset to another.
    File { file: File, at: u64, end: u64 },
    /// The pattern from one offset to another.
    Pattern { at: u64, end: u64 },
    /// The same in chunks; behind `end` comes the last one.
    Chunks { at: u64, end: u64 },
}

/// What the head of an answer says of its connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Framing {
    /// The version that the client speaks.
    pub(super) version: Version,
    /// Whether the connection goes on behind the answer.
    pub(super) keep_alive: bool,
}

/// The fields that are in every head, written anew when a second is over.
#[derive(Debug)]
pub(super) struct Common {
    second: Option<u64>,
    date: String,
}

impl Answer {
    /// A text of one line.
    pub(super) fn text(status: u16, text: &str) -> Answer {
        Answer {
            status,
            content_type: TEXT,
            fields: String::new(),
            body: Body::Text(format!("{text}\n").into_bytes(), 0),
        }
    }

    /// No content.
    pub(super) fn bare(status: u16) -> Answer {
        Answer {
            status,
            content_type: TEXT,
            fields: String::new(),
            body: Body::Text(Vec::new(), 0),
        }
    }

    /// The same with a further field.
    pub(super) fn with(mut self, name: &str, value: &str) -> Answer {
        self.fields.push_str(name);
        self.fields.push_str(": ");
        self.fields.push_str(value);
        self.fields.push_str("\r\n");
        self
    }

    /// Whether its status allows content at all (RFC 9110 §6.4.1).
    pub(super) fn may_have_content(&self) -> bool {
        !matches!(self.status, 100..=199 | 204 | 304)
    }

    /// Appends the head to `out`.
    pub(super) fn write_head(
        &self,
        out: &mut Vec<u8>,
        server: &str,
        common: &Common,
        framing: Framing,
    ) {
        let mut number = itoa::Buffer::new();
        let mut put = |part: &str| out.extend_from_slice(part.as_bytes());
        put("HTTP/1.1 ");
        put(number.format(self.status));
        put(" ");
        put(phrase(self.status));
        put("\r\nServer: ");
        put(server);
        put("\r\nDate: ");
        put(&common.date);
        put("\r\n");
        if self.may_have_content() {
            match self.body.length() {
                Some(length) => {
                    if length > 0 {
                        put("Content-Type: ");
                        put(self.content_type);
                        put("\r\n");
                    }
                    put("Content-Length: ");
                    put(number.format(length));
                    put("\r\n");
                }
                None => {
                    put("Content-Type: ");
                    put(self.content_type);
                    put("\r\n");
                    if framing.version == Version::Http11 {
                        put("Transfer-Encoding: chunked\r\n");
                    }
                }
            }
        }
        put(&self.fields);
        match (framing.keep_alive, framing.version) {
            (false, _) => put("Connection: close\r\n"),
            (true, Version::Http10) => put("Connection: keep-alive\r\n"),
            (true, Version::Http11) => {}
        }
        put("\r\n");
    }
}

impl Body {
    /// How many bytes it has; none: it is sent in chunks.
    fn length(&self) -> Option<u64> {
        match self {
            Body::Text(text, _) => Some(text.len() as u64),
            Body::File { at, end, .. } | Body::Pattern { at, end } => Some(end - at),
            Body::Chunks { .. } => None,
        }
    }

    /// Whether its end is told by chunks.
    pub(super) fn is_chunked(&self) -> bool {
        matches!(self, Body::Chunks { .. })
    }

    /// The same content for a receiver that does not know chunks.
    pub(super) fn unchunked(self) -> Body {
        match self {
            Body::Chunks { at, end } => Body::Pattern { at, end },
            other => other,
        }
    }

    /// Appends what comes next to `out`, about `most` bytes of it and never more than fit, and
    /// tells whether that was the end. There must be room for a chunk.
    ///
    /// # Errors
    /// A file could not be read, or is shorter than it was: the answer cannot be finished.
    pub(super) fn write(&mut self, out: &mut Block, most: usize) -> io::Result<bool> {
        let most = most.min(out.room());
        match self {
            Body::Text(text, written) => {
                let rest = text.get(*written..).unwrap_or_default();
                *written += out.append(rest.get(..most).unwrap_or(rest));
                Ok(*written >= text.len())
            }
            Body::File { file, at, end } => {
                let most = most.min(usize::try_from(*end - *at).unwrap_or(usize::MAX));
                if most > 0 {
                    let room = out.spare().get_mut(..most).unwrap_or_default();
                    let count = read_at(file, room, *at)?;
                    out.advance(count);
                    *at += count as u64;
                }
                Ok(at == end)
            }
            Body::Pattern { at, end } => {
                let most = u64::try_from(most).unwrap_or(u64::MAX);
                let stop = (*at).saturating_add(most).min(*end);
                while *at < stop {
                    *at += pattern(out, *at, stop) as u64;
                }
                Ok(at == end)
            }
            Body::Chunks { at, end } => {
                let stop = (*at).saturating_add(CHUNK as u64).min(*end);
                if *at < stop {
                    out.append(format!("{:x}\r\n", stop - *at).as_bytes());
                    while *at < stop {
                        *at += pattern(out, *at, stop) as u64;
                    }
                    out.append(b"\r\n");
                    return Ok(false);
                }
                out.append(b"0\r\n\r\n");
                Ok(true)
            }
        }
    }
}

/// Appends a piece of the pattern from `at` on, which does not reach beyond `stop`; tells its size.
fn pattern(out: &mut Block, at: u64, stop: u64) -> usize {
    let phase = (at % LINE.len() as u64) as usize;
    let ready = PATTERN.get(phase..).unwrap_or_default();
    let most = usize::try_from(stop - at).unwrap_or(usize::MAX);
    out.append(ready.get(..most).unwrap_or(ready))
}

/// Reads once from `at` on; an end is an error, as more was promised.
fn read_at(file: &File, room: &mut [u8], at: u64) -> io::Result<usize> {
    loop {
        match file.read_at(room, at) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

impl Common {
    /// Before any second.
    pub(super) fn new() -> Common {
        Common {
            second: None,
            date: httpdate::fmt_http_date(SystemTime::UNIX_EPOCH),
        }
    }

    /// It is `date` now.
    pub(super) fn set(&mut self, date: SystemTime) {
        let since = date.duration_since(SystemTime::UNIX_EPOCH);
        let second = since.unwrap_or(Duration::ZERO).as_secs();
        // Beyond the year 9999 no date can be written.
        if self.second != Some(second) && second < 253_402_300_800 {
            self.second = Some(second);
            let rounded = SystemTime::UNIX_EPOCH + Duration::from_secs(second);
            self.date = httpdate::fmt_http_date(rounded);
        }
    }
}

/// The reason phrase of a status.
fn phrase(status: u16) -> &'static str {
    match status {
        301 => "Moved Permanently",
        302 => "Found",
        304 => "Not Modified",
        409 => "Conflict",
        418 => "I'm a teapot",
        429 => "Too Many Requests",
        _ => reply::reason(status),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buffer::{Pool, SIZE_MAX};

    /// All that a body writes, in pieces of about `most` bytes.
    fn whole(mut body: Body, most: usize) -> Vec<u8> {
        let mut out = Vec::new();
        loop {
            let mut block = Pool::new(SIZE_MAX).take(SIZE_MAX);
            let is_done = body.write(&mut block, most).unwrap();
            out.extend_from_slice(block.filled());
            if is_done {
                return out;
            }
        }
    }

    #[test]
    fn the_pattern_is_the_same_in_pieces_of_every_size() {
        let end = 100_000;
        let expected: Vec<u8> = LINE.iter().copied().cycle().take(end as usize).collect();
        for most in [1000, 4096, 16 << 10, SIZE_MAX] {
            assert!(whole(Body::Pattern { at: 0, end }, most) == expected);
        }
        assert!(whole(Body::Pattern { at: 0, end: 0 }, 10).is_empty());
    }

    #[test]
    fn chunks_hold_the_pattern() {
        use crate::http::body::{Framing, Keep, Meter};
        for end in [0, 1, 16 << 10, 40_000] {
            let mut wire = whole(Body::Chunks { at: 0, end }, SIZE_MAX);
            let mut meter = Meter::new(Framing::Chunked, Keep::Data);
            let passed = meter.pass(&mut wire).unwrap();
            assert!(meter.is_done());
            assert_eq!(passed.read, wire.len());
            assert!(wire[..passed.kept] == whole(Body::Pattern { at: 0, end }, SIZE_MAX));
        }
    }

    #[test]
    fn a_head_says_what_the_connection_does() {
        let head = |answer: &Answer, version, keep_alive| {
            let mut out = Vec::new();
            let framing = Framing {
                version,
                keep_alive,
            };
            answer.write_head(&mut out, "me", &Common::new(), framing);
            String::from_utf8(out).unwrap()
        };
        let common = "Server: me\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\n";
        assert_eq!(
            head(&Answer::text(200, "yes"), Version::Http11, true),
            format!("HTTP/1.1 200 OK\r\n{common}Content-Type: {TEXT}\r\nContent-Length: 4\r\n\r\n")
        );
        assert_eq!(
            head(
                &Answer::bare(204).with("Allow", "GET"),
                Version::Http10,
                true
            ),
            format!(
                "HTTP/1.1 204 No Content\r\n{common}Allow: GET\r\nConnection: keep-alive\r\n\r\n"
            )
        );
        assert_eq!(
            head(&Answer::bare(201), Version::Http11, false),
            format!(
                "HTTP/1.1 201 Created\r\n{common}Content-Length: 0\r\nConnection: close\r\n\r\n"
            )
        );
    }
}
