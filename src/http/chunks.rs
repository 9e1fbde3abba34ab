//! Chunked content (RFC 9112 §7.1), byte by byte, whatever the pieces it comes in.
//!
//! Strict in what it takes, canonical in what goes on: sizes without padding, no extensions, and
//! trailers only where they are taken. Works in place.

use super::field::{InTrailers, in_trailers};
use super::grammar;
use super::rules::Refusal;

/// The longest chunk size line, extensions included, in bytes.
const SIZE_LINE_MAX: u16 = 4096;
/// Bytes of extensions that a message may have beyond as many as its data has: who sends more of them
/// does not send content.
const EXTENSIONS_MAX: u64 = 16 << 10;
/// The most digits of a chunk size: what 64 bits hold.
const DIGITS_MAX: u8 = 16;
/// The longest trailer section, in bytes.
const TRAILERS_MAX: u16 = 16 << 10;
/// The longest field name that trailers are searched for; longer ones are not among the barred.
const NAME_MAX: usize = 20;

/// Where in chunked content the meter is.
#[derive(Debug, Clone)]
pub struct Chunked {
    state: State,
    /// In `Size`: the size so far; in `Data`: the bytes that the chunk still has.
    left: u64,
    /// Digits of the size so far.
    digits: u8,
    /// Bytes of this size line, or of the trailer section.
    line: u16,
    name: [u8; NAME_MAX],
    name_len: u8,
    /// What is sent on: chunks, or only the data in them.
    keep: Keep,
    /// Bytes of extensions so far, less those of data.
    extensions: u64,
    /// The trailer section so far, if it is to go on.
    section: Vec<u8>,
}

/// What of chunked content goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// Canonical chunks.
    Chunks,
    /// The same, and the trailers behind them.
    Trailers,
    /// The data alone, for a receiver that does not know chunks.
    Data,
}

/// What became of the bytes that a meter was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Passed {
    /// How many of them belong to the message; what is behind them does not, or waits for room.
    pub read: usize,
    /// How many bytes, now at the front, go on to the receiver.
    pub kept: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Size,
    SizeBlank,
    Extension { quoted: bool, escaped: bool },
    SizeLineEnd,
    Data,
    DataReturn,
    DataLineEnd,
    TrailerStart,
    TrailerName,
    TrailerValue,
    TrailerLineEnd,
    LastLineEnd,
}

impl Chunked {
    /// Before the first chunk, of which `keep` goes on.
    pub fn new(keep: Keep) -> Chunked {
        Chunked {
            state: State::Size,
            left: 0,
            digits: 0,
            line: 0,
            name: [0; NAME_MAX],
            name_len: 0,
            keep,
            extensions: 0,
            section: Vec::new(),
        }
    }

    /// The trailer section, once the last byte has passed, if it is to go on.
    pub(super) fn take_section(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.section)
    }

    /// Reads along with `bytes`, as `Meter::pass` does; tells besides whether the message is over.
    pub(super) fn pass(&mut self, bytes: &mut [u8]) -> Result<(Passed, bool), Refusal> {
        let mut read = 0;
        let mut kept = 0;
        while let Some(byte) = bytes.get(read).copied() {
            if self.state == State::Data {
                let here = usize::try_from(self.left)
                    .unwrap_or(usize::MAX)
                    .min(bytes.len() - read);
                if kept != read {
                    bytes.copy_within(read..read + here, kept);
                }
                (read, kept) = (read + here, kept + here);
                self.left -= here as u64;
                self.extensions = self.extensions.saturating_sub(here as u64);
                if self.left == 0 {
                    self.state = State::DataReturn;
                }
                continue;
            }
            let (goes_on, done) = self.step(byte)?;
            read += 1;
            if goes_on {
                if let Some(place) = bytes.get_mut(kept) {
                    *place = byte;
                }
                kept += 1;
            }
            if done {
                return Ok((Passed { read, kept }, true));
            }
        }
        Ok((Passed { read, kept }, false))
    }

    /// Takes one byte of framing: whether it goes on, and whether it was the last of the message.
    fn step(&mut self, byte: u8) -> Result<(bool, bool), Refusal> {
        let chunks = self.keep != Keep::Data;
        match self.state {
            State::Size => return self.size(byte, chunks),
            State::SizeBlank => {
                self.bounded(SIZE_LINE_MAX, Refusal::Chunk)?;
                match byte {
                    b' ' | b'\t' => {}
                    b';' => {
                        self.state = State::Extension {
                            quoted: false,
                            escaped: false,
                        }
                    }
                    b'\r' => {
                        self.state = State::SizeLineEnd;
                        return Ok((chunks, false));
                    }
                    _ => return Err(Refusal::Chunk),
                }
                return Ok((false, false));
            }
            State::Extension { quoted, escaped } => {
                self.bounded(SIZE_LINE_MAX, Refusal::Chunk)?;
                self.extensions += 1;
                if self.extensions > EXTENSIONS_MAX {
                    return Err(Refusal::Chunk);
                }
                self.state = match byte {
                    b'\r' if !quoted => State::SizeLineEnd,
                    b'\t' | b' '..=0x7e | 0x80.. => State::Extension {
                        quoted: if escaped {
                            quoted
                        } else {
                            quoted != (byte == b'"')
                        },
                        escaped: quoted && !escaped && byte == b'\\',
                    },
                    _ => return Err(Refusal::Chunk),
                };
                return Ok((self.state == State::SizeLineEnd && chunks, false));
            }
            State::SizeLineEnd if byte == b'\n' => {
                self.line = 0;
                self.digits = 0;
                self.state = if self.left == 0 {
                    State::TrailerStart
                } else {
                    State::Data
                };
            }
            State::DataReturn if byte == b'\r' => self.state = State::DataLineEnd,
            State::DataLineEnd if byte == b'\n' => self.state = State::Size,
            // The empty line comes behind the trailers, and they go on later.
            State::TrailerStart if byte == b'\r' => {
                self.state = State::LastLineEnd;
                return Ok((chunks && self.section.is_empty(), false));
            }
            State::LastLineEnd if byte == b'\n' => {
                return Ok((chunks && self.section.is_empty(), true));
            }
            State::TrailerStart
            | State::TrailerName
            | State::TrailerValue
            | State::TrailerLineEnd => {
                self.trailer(byte)?;
                return Ok((false, false));
            }
            _ => return Err(Refusal::Chunk),
        }
        Ok((chunks, false))
    }

    /// Takes one byte of a chunk size (RFC 9112 §7.1): hexadecimal digits, then CR or an extension.
    fn size(&mut self, byte: u8, chunks: bool) -> Result<(bool, bool), Refusal> {
        self.bounded(SIZE_LINE_MAX, Refusal::Chunk)?;
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            b'A'..=b'F' => byte - b'A' + 10,
            b'\r' if self.digits > 0 => {
                self.state = State::SizeLineEnd;
                return Ok((chunks, false));
            }
            b';' if self.digits > 0 => {
                self.state = State::Extension {
                    quoted: false,
                    escaped: false,
                };
                return Ok((false, false));
            }
            // Blanks before a semicolon are bad whitespace that a recipient has to bear, and old
            // senders pad sizes with them; nothing else may follow.
            b' ' | b'\t' if self.digits > 0 => {
                self.state = State::SizeBlank;
                return Ok((false, false));
            }
            _ => return Err(Refusal::Chunk),
        };
        self.digits += 1;
        if self.digits > DIGITS_MAX || self.left >> 59 != 0 {
            return Err(Refusal::Chunk);
        }
        self.left = self.left << 4 | u64::from(digit);
        Ok((chunks, false))
    }

    /// Takes one byte of a trailer field line; none of it goes on as it is.
    fn trailer(&mut self, byte: u8) -> Result<(), Refusal> {
        self.bounded(TRAILERS_MAX, Refusal::Trailer)?;
        if self.keep == Keep::Trailers {
            self.section.push(byte);
        }
        match (self.state, byte) {
            (State::TrailerStart, _) if grammar::is_token(&[byte]) => {
                self.name[0] = byte;
                self.name_len = 1;
                self.state = State::TrailerName;
            }
            (State::TrailerName, b':') => {
                let name = self
                    .name
                    .get(..usize::from(self.name_len))
                    .unwrap_or_default();
                if in_trailers(name) == InTrailers::Refused {
                    return Err(Refusal::Trailer);
                }
                self.state = State::TrailerValue;
            }
            (State::TrailerName, _) if grammar::is_token(&[byte]) => {
                if let Some(place) = self.name.get_mut(usize::from(self.name_len)) {
                    *place = byte;
                }
                // One past the end stands for every longer name: none of those is barred.
                self.name_len = (self.name_len + 1).min(NAME_MAX as u8 + 1);
            }
            (State::TrailerValue, b'\t' | b' '..=0x7e | 0x80..) => {}
            (State::TrailerValue, b'\r') => self.state = State::TrailerLineEnd,
            (State::TrailerLineEnd, b'\n') => self.state = State::TrailerStart,
            _ => return Err(Refusal::Trailer),
        }
        Ok(())
    }

    fn bounded(&mut self, most: u16, refusal: Refusal) -> Result<(), Refusal> {
        self.line += 1;
        if self.line > most {
            Err(refusal)
        } else {
            Ok(())
        }
    }
}

/// Appends the end of chunked content with the trailer section that a meter left `Trailed`: names
/// and values as they came, without blanks around them, and without the fields that only mean
/// something in a head (RFC 9110 §6.5.1).
pub fn trailers(out: &mut Vec<u8>, section: &[u8]) {
    for line in section.split(|byte| *byte == b'\n') {
        let Some(colon) = memchr::memchr(b':', line) else {
            continue;
        };
        let (name, value) = line.split_at(colon);
        if in_trailers(name) == InTrailers::Kept {
            let value = value.get(1..).unwrap_or_default();
            let value = grammar::trim(value.strip_suffix(b"\r").unwrap_or(value));
            for part in [name, b": ", value, b"\r\n"] {
                out.extend_from_slice(part);
            }
        }
    }
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::body::{Framing, Meter};

    /// Feeds `wire` in pieces of `step` bytes: what went on, and what is behind the message.
    fn feed(wire: &[u8], keep: Keep, step: usize) -> Result<(Vec<u8>, usize, bool), Refusal> {
        let mut meter = Meter::new(Framing::Chunked, keep);
        let (mut out, mut read) = (Vec::new(), 0);
        for piece in wire.chunks(step) {
            let mut piece = piece.to_vec();
            let passed = meter.pass(&mut piece)?;
            out.extend_from_slice(&piece[..passed.kept]);
            read += passed.read;
            if meter.is_done() {
                break;
            }
        }
        Ok((out, read, meter.is_done()))
    }

    #[test]
    fn chunks_read_the_same_in_pieces_of_every_size() {
        let wire = b"5\r\nhello\r\n1A;name=\"a;\\\"b\"\r\nabcdefghijklmnopqrstuvwxyz\r\n0\r\nX-Sum: 7\r\n\r\nNEXT";
        for step in 1..=wire.len() {
            let (out, read, done) = feed(wire, Keep::Chunks, step).unwrap();
            assert_eq!(
                out, b"5\r\nhello\r\n1A\r\nabcdefghijklmnopqrstuvwxyz\r\n0\r\n\r\n",
                "step {step}"
            );
            assert_eq!((read, done), (wire.len() - 4, true));
            let (data, _, _) = feed(wire, Keep::Data, step).unwrap();
            assert_eq!(data, b"helloabcdefghijklmnopqrstuvwxyz");
        }
    }

    #[test]
    fn malformed_chunks_are_refused_whatever_the_pieces() {
        for bad in [
            "\r\n",
            "g\r\n",
            "-1\r\n",
            "+1\r\n",
            "0x1\r\n",
            " 1\r\n",
            "1\n",
            "1\rx",
            "1\r\nab",
            "1\r\na\n",
            "1\r\na\rb",
            "11111111111111111\r\n",
            "00000000000000001\r\n",
            "ffffffffffffffff\r\n",
            "8000000000000000\r\n",
            "1;\x01\r\n",
            "1;\x7f\r\n",
            "1;a\n",
            "1;\"\r\n",
            "1;\"\\\"\r\n",
            "1\r\r\n",
            ";\r\n",
            "1 1\r\n",
            "1 \n",
            "1\t-\r\n",
            "1\0\r\n",
        ] {
            for step in [1, 2, 64] {
                assert_eq!(
                    feed(bad.as_bytes(), Keep::Chunks, step),
                    Err(Refusal::Chunk),
                    "{bad:?}"
                );
            }
        }
        for bad in [
            "0\r\n\n",
            "0\r\n\rx",
            "0\r\na\r\n",
            "0\r\n:\r\n",
            "0\r\na: \n",
            "0\r\na: \rb",
            "0\r\na: \0",
        ] {
            let refusal = feed(bad.as_bytes(), Keep::Chunks, 1).unwrap_err();
            assert!(
                matches!(refusal, Refusal::Chunk | Refusal::Trailer),
                "{bad:?}"
            );
        }
    }

    #[test]
    fn a_padded_size_goes_on_without_its_padding() {
        for good in ["1  \r\na\r\n0\t\r\n\r\n", "1 ;x=y\r\na\r\n0;\r\n\r\n"] {
            let (out, read, done) = feed(good.as_bytes(), Keep::Chunks, 1).unwrap();
            assert_eq!(
                (out.as_slice(), read, done),
                (b"1\r\na\r\n0\r\n\r\n".as_slice(), good.len(), true)
            );
        }
    }

    #[test]
    fn the_largest_chunk_is_what_63_bits_hold() {
        assert!(!feed(b"7fffffffffffffff\r\nab", Keep::Chunks, 1).unwrap().2);
        assert!(
            feed(b"0000000000000000\r\n\r\n", Keep::Chunks, 1)
                .unwrap()
                .2
        );
    }

    #[test]
    fn trailers_that_frame_or_route_are_refused() {
        for bad in [
            "Content-Length: 1",
            "transfer-encoding: chunked",
            "Host: a",
            "Authorization: b",
            " a: b",
            "a : b",
        ] {
            let wire = format!("0\r\n{bad}\r\n\r\n");
            assert_eq!(
                feed(wire.as_bytes(), Keep::Chunks, 3),
                Err(Refusal::Trailer),
                "{bad}"
            );
        }
        let long = format!("0\r\n{}: 1\r\n\r\n", "content-length".repeat(30));
        assert!(feed(long.as_bytes(), Keep::Chunks, 7).unwrap().2);
    }

    #[test]
    fn trailers_go_on_behind_the_last_chunk_where_they_are_taken() {
        let wire =
            b"2;x\r\nhi\r\n0\r\nX-Sum:  7 \t\r\nDate: now\r\nEmpty:\r\nRetry-After: 3\r\n\r\nNEXT";
        for step in 1..=wire.len() {
            let mut meter = Meter::new(Framing::Chunked, Keep::Trailers);
            let (mut out, mut read) = (Vec::new(), 0);
            for piece in wire.chunks(step) {
                let mut piece = piece.to_vec();
                let passed = meter.pass(&mut piece).unwrap();
                out.extend_from_slice(&piece[..passed.kept]);
                read += passed.read;
            }
            let Meter::Trailed(section) = meter else {
                panic!("step {step}: no trailers")
            };
            trailers(&mut out, &section);
            assert_eq!(
                (out.as_slice(), read),
                (
                    b"2\r\nhi\r\n0\r\nX-Sum: 7\r\nEmpty: \r\n\r\n".as_slice(),
                    wire.len() - 4
                ),
                "step {step}"
            );
        }
        let (out, _, done) = feed(b"0\r\n\r\n", Keep::Trailers, 1).unwrap();
        assert_eq!((out.as_slice(), done), (b"0\r\n\r\n".as_slice(), true));
    }

    #[test]
    fn many_long_extensions_are_refused_unless_their_chunks_are_as_long() {
        let chunk =
            |data: usize| format!("{data:x};{}\r\n{}\r\n", "a".repeat(1000), "d".repeat(data));
        assert!(feed(chunk(1000).repeat(100).as_bytes(), Keep::Chunks, 999).is_ok());
        assert!(feed(chunk(1).repeat(16).as_bytes(), Keep::Chunks, 999).is_ok());
        assert_eq!(
            feed(chunk(1).repeat(17).as_bytes(), Keep::Chunks, 999),
            Err(Refusal::Chunk)
        );
    }

    #[test]
    fn endless_extensions_and_trailers_are_refused() {
        let extension = format!("1;{}", "a".repeat(5000));
        assert_eq!(
            feed(extension.as_bytes(), Keep::Chunks, 100),
            Err(Refusal::Chunk)
        );
        let trailers = format!("0\r\n{}", "a: b\r\n".repeat(5000));
        assert_eq!(
            feed(trailers.as_bytes(), Keep::Chunks, 100),
            Err(Refusal::Trailer)
        );
    }
}
