//! An own reading of HTTP/1.1, for the checker only: small, strict, and nothing of the balancer's.
//!
//! It reads what the balancer wrote, and the balancer has to write canonically: one blank behind a
//! colon, chunks without extensions; trailers are handed out as they came. Content is a function of its key and position.

use std::sync::OnceLock;

/// A prime: positions of different keys never fall into step.
const PATTERN: usize = 65_521;

fn pattern() -> &'static [u8] {
    static BYTES: OnceLock<Vec<u8>> = OnceLock::new();
    BYTES.get_or_init(|| {
        let mut rng = super::rng::Rng::new(7);
        let once: Vec<u8> = (0..PATTERN).map(|_| (rng.next() >> 32) as u8).collect();
        [once.as_slice(), once.as_slice()].concat()
    })
}

/// Appends `count` bytes of the content with this `key`, from `position` on, to `out`.
pub fn write_content(out: &mut Vec<u8>, key: u64, position: u64, count: usize) {
    let (mut at, mut left) = (offset(key, position), count);
    while left > 0 {
        let here = left.min(PATTERN);
        out.extend_from_slice(&pattern()[at..at + here]);
        at = (at + here) % PATTERN;
        left -= here;
    }
}

/// Whether `bytes` are those of the content with this `key` from `position` on.
pub fn is_content(bytes: &[u8], key: u64, position: u64) -> bool {
    let mut at = offset(key, position);
    bytes.chunks(PATTERN).all(|piece| {
        let same = piece == &pattern()[at..at + piece.len()];
        at = (at + piece.len()) % PATTERN;
        same
    })
}

/// The ids of the requests whose heads stand whole in `bytes`.
pub fn ids(bytes: &[u8]) -> Vec<usize> {
    let text = String::from_utf8_lossy(bytes);
    text.split("X-Sim-Id: ")
        .skip(1)
        .filter_map(|rest| rest.split("\r\n").next()?.parse().ok())
        .collect()
}

fn offset(key: u64, position: u64) -> usize {
    ((key.wrapping_mul(40_503) + position) % PATTERN as u64) as usize
}

/// A head: its first line and its fields, names in lower case.
#[derive(Debug, Clone)]
pub struct Head {
    pub line: String,
    pub fields: Vec<(String, String)>,
}

impl Head {
    fn parse(bytes: &[u8]) -> Option<Head> {
        let text = std::str::from_utf8(bytes).ok()?.strip_suffix("\r\n\r\n")?;
        let mut lines = text.split("\r\n");
        let line = lines.next()?.to_owned();
        let fields = lines
            .map(|line| {
                let (name, value) = line.split_once(": ").or_else(|| line.split_once(":"))?;
                let is_plain = !name.is_empty()
                    && !name.contains([' ', '\r', '\n'])
                    && !value.contains(['\r', '\n']);
                is_plain.then(|| (name.to_ascii_lowercase(), value.to_owned()))
            })
            .collect::<Option<Vec<_>>>()?;
        Some(Head { line, fields })
    }

    /// The value of the only field `name`; none if it is not there, or there twice.
    pub fn get(&self, name: &str) -> Option<&str> {
        let mut found = self.fields.iter().filter(|(field, _)| field == name);
        let (_, value) = found.next()?;
        found.next().is_none().then_some(value)
    }

    /// The number in the only field `name`.
    pub fn number(&self, name: &str) -> Option<u64> {
        self.get(name)?.parse().ok()
    }

    /// Whether there is a field `name`.
    pub fn has(&self, name: &str) -> bool {
        self.fields.iter().any(|(field, _)| field == name)
    }
}

/// How content ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Body {
    None,
    Length(u64),
    Chunked,
    /// With the stream, or never: until close, and behind a switch.
    Endless,
}

/// One thing that was read.
#[derive(Debug)]
pub enum Item<'b> {
    /// A head; `Reader::body` has to say how its content ends.
    Head(Head),
    /// Some content.
    Data(&'b [u8]),
    /// The message is over.
    End,
    /// This is no HTTP.
    Bad(&'static str),
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    Head,
    Length(u64),
    Size(u64, u8),
    SizeEnd(u64),
    Chunk(u64),
    ChunkEnd(u8),
    Last(u8),
    Trailer,
    Endless,
    Over,
    Bad,
}

/// Reads one direction of one connection, in whatever pieces it comes.
#[derive(Debug)]
pub struct Reader {
    state: State,
    head: Vec<u8>,
    trailers: Vec<u8>,
}

impl Default for Reader {
    fn default() -> Reader {
        Reader {
            state: State::Head,
            head: Vec::new(),
            trailers: Vec::new(),
        }
    }
}

impl Reader {
    /// The trailer section of the message that is just over.
    pub fn take_trailers(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.trailers)
    }

    /// Says how the content behind the head that was just read ends.
    pub fn body(&mut self, body: Body) {
        self.state = match body {
            Body::None | Body::Length(0) => State::Over,
            Body::Length(left) => State::Length(left),
            Body::Chunked => State::Size(0, 0),
            Body::Endless => State::Endless,
        };
    }

    /// Whether it is between two messages.
    pub fn is_between(&self) -> bool {
        self.state == State::Head && self.head.is_empty()
    }

    /// Whether only the end of the stream ends the message.
    pub fn is_endless(&self) -> bool {
        self.state == State::Endless
    }

    /// The stream is over, and with it the endless message.
    pub fn end_of_stream(&mut self) {
        self.state = State::Head;
    }

    /// The next thing in `input`, which loses what was read; none: all is read.
    pub fn next<'b>(&mut self, input: &mut &'b [u8]) -> Option<Item<'b>> {
        loop {
            if self.state == State::Over {
                self.state = State::Head;
                return Some(Item::End);
            }
            if input.is_empty() {
                return None;
            }
            match self.state {
                State::Head => return self.read_head(input),
                State::Length(left) => {
                    let data = take(input, left);
                    let left = left - data.len() as u64;
                    self.state = if left == 0 {
                        State::Over
                    } else {
                        State::Length(left)
                    };
                    return Some(Item::Data(data));
                }
                State::Chunk(left) => {
                    let data = take(input, left);
                    let left = left - data.len() as u64;
                    self.state = if left == 0 {
                        State::ChunkEnd(0)
                    } else {
                        State::Chunk(left)
                    };
                    return Some(Item::Data(data));
                }
                State::Endless => return Some(Item::Data(take(input, u64::MAX))),
                State::Bad => {
                    *input = &[];
                    return None;
                }
                _ => {
                    let byte = take(input, 1)[0];
                    if !self.frame(byte) {
                        self.state = State::Bad;
                        return Some(Item::Bad("broken chunks"));
                    }
                }
            }
        }
    }

    fn read_head<'b>(&mut self, input: &mut &'b [u8]) -> Option<Item<'b>> {
        while let Some((byte, rest)) = input.split_first() {
            self.head.push(*byte);
            *input = rest;
            if *byte == b'\n' && self.head.ends_with(b"\r\n\r\n") {
                let head = Head::parse(&self.head);
                self.head.clear();
                return Some(match head {
                    Some(head) => Item::Head(head),
                    None => {
                        self.state = State::Bad;
                        Item::Bad("a head that is none")
                    }
                });
            }
            if self.head.len() > 64 << 10 {
                self.state = State::Bad;
                return Some(Item::Bad("a head without end"));
            }
        }
        None
    }

    /// Takes one byte of chunk framing; false: it is wrong.
    fn frame(&mut self, byte: u8) -> bool {
        self.state = match (&self.state, byte) {
            (State::Size(size, digits), b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F')
                if *digits < 16 =>
            {
                let digit = (byte as char).to_digit(16).unwrap_or(0);
                State::Size(size << 4 | u64::from(digit), digits + 1)
            }
            (State::Size(size, 1..), b'\r') => State::SizeEnd(*size),
            (State::SizeEnd(0), b'\n') => State::Last(0),
            (State::SizeEnd(size), b'\n') => State::Chunk(*size),
            (State::ChunkEnd(0), b'\r') => State::ChunkEnd(1),
            (State::ChunkEnd(1), b'\n') => State::Size(0, 0),
            (State::Last(0), b'\r') => State::Last(1),
            (State::Last(0) | State::Trailer, _) => {
                self.trailers.push(byte);
                if byte == b'\n' {
                    State::Last(0)
                } else {
                    State::Trailer
                }
            }
            (State::Last(1), b'\n') => State::Over,
            _ => return false,
        };
        true
    }
}

fn take<'b>(input: &mut &'b [u8], most: u64) -> &'b [u8] {
    let here = usize::try_from(most).unwrap_or(usize::MAX).min(input.len());
    let (data, rest) = input.split_at(here);
    *input = rest;
    data
}
