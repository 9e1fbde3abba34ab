//! Content: how a message's end is found, byte by byte, whatever the pieces it comes in.
//!
//! A `Meter` reads along as content passes. It judges chunked content strictly and makes it
//! canonical in place: extensions are dropped, and trailers but for a receiver that takes them, so
//! what goes on has one reading.

use super::field::{InTrailers, in_trailers};
use super::grammar;
use super::rules::Refusal;

/// How the content of a message ends (RFC 9112 §6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// There is none.
    None,
    /// After so many bytes, at least one.
    Length(u64),
    /// With the last chunk and its trailer section.
    Chunked,
    /// With the connection. Responses only.
    UntilClose,
}

/// What is changed of a response's framing, because the client knows another way to see its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Reframing {
    /// Nothing.
    #[default]
    None,
    /// Content that ends with the connection is put into chunks: the client sees whether it is
    /// whole, and its connection goes on.
    Chunk,
    /// Chunks are taken off: the client does not know them.
    Unchunk,
}

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

/// Follows one message's content to its end.
#[derive(Debug, Clone)]
pub enum Meter {
    /// Nothing more belongs to the message.
    Done,
    /// Nothing more belongs to it, but its trailer section has still to go on: its lines as they
    /// came, each with its CR LF.
    Trailed(Vec<u8>),
    /// So many bytes more, at least one.
    Length(u64),
    /// Chunks.
    Chunked(Chunked),
    /// All that comes.
    UntilClose,
}

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

/// What became of the bytes that a meter was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Passed {
    /// How many of them belong to the message; what is behind them does not, or waits for room.
    pub read: usize,
    /// How many bytes, now at the front, go on to the receiver.
    pub kept: usize,
}

impl Meter {
    /// The meter for content of `framing`, of which `keep` goes on if it is chunked.
    pub fn new(framing: Framing, keep: Keep) -> Meter {
        match framing {
            Framing::None | Framing::Length(0) => Meter::Done,
            Framing::Length(left) => Meter::Length(left),
            Framing::UntilClose => Meter::UntilClose,
            Framing::Chunked => Meter::Chunked(Chunked {
                state: State::Size,
                left: 0,
                digits: 0,
                line: 0,
                name: [0; NAME_MAX],
                name_len: 0,
                keep,
                extensions: 0,
                section: Vec::new(),
            }),
        }
    }

    /// Whether the message has ended.
    pub fn is_done(&self) -> bool {
        matches!(self, Meter::Done | Meter::Trailed(_))
    }

    /// Whether the message may end with its stream, and so has ended when that does.
    pub fn ends_with_stream(&self) -> bool {
        matches!(self, Meter::Done | Meter::Trailed(_) | Meter::UntilClose)
    }

    /// Reads along with `bytes`, the next of the stream, and moves to their front what goes on.
    /// Stops behind the message's last byte. O(bytes). What it leaves `Trailed` has gone on as far as
    /// its last chunk: `trailers` writes the rest.
    ///
    /// # Errors
    /// `Chunk` or `Trailer`: the content is malformed; the stream is of no more use.
    pub fn pass(&mut self, bytes: &mut [u8]) -> Result<Passed, Refusal> {
        match self {
            Meter::Done | Meter::Trailed(_) => Ok(Passed { read: 0, kept: 0 }),
            Meter::UntilClose => Ok(Passed {
                read: bytes.len(),
                kept: bytes.len(),
            }),
            Meter::Length(left) => {
                let here = usize::try_from(*left)
                    .unwrap_or(usize::MAX)
                    .min(bytes.len());
                *left -= here as u64;
                if *left == 0 {
                    *self = Meter::Done;
                }
                Ok(Passed {
                    read: here,
                    kept: here,
                })
            }
            Meter::Chunked(chunked) => {
                let (passed, done) = chunked.pass(bytes)?;
                if done {
                    let section = std::mem::take(&mut chunked.section);
                    *self = if section.is_empty() {
                        Meter::Done
                    } else {
                        Meter::Trailed(section)
                    };
                }
                Ok(passed)
            }
        }
    }
}

impl Chunked {
    fn pass(&mut self, bytes: &mut [u8]) -> Result<(Passed, bool), Refusal> {
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
    fn what_can_end_with_its_stream_is_told() {
        for (framing, ends) in [
            (Framing::None, true),
            (Framing::UntilClose, true),
            (Framing::Length(1), false),
            (Framing::Chunked, false),
        ] {
            assert_eq!(
                Meter::new(framing, Keep::Chunks).ends_with_stream(),
                ends,
                "{framing:?}"
            );
        }
        let mut meter = Meter::new(Framing::UntilClose, Keep::Chunks);
        assert_eq!(meter.pass(&mut [0; 3]), Ok(Passed { read: 3, kept: 3 }));
        assert!(!meter.is_done());
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

    #[test]
    fn a_length_ends_exactly() {
        let mut meter = Meter::new(Framing::Length(5), Keep::Chunks);
        assert_eq!(meter.pass(&mut [0; 3]), Ok(Passed { read: 3, kept: 3 }));
        assert_eq!(meter.pass(&mut [0; 3]), Ok(Passed { read: 2, kept: 2 }));
        assert!(meter.is_done());
        assert_eq!(meter.pass(&mut [0; 3]), Ok(Passed { read: 0, kept: 0 }));
    }
}
