//! Strict readers of both ends: where a request or a response ends, and what the response says.
//!
//! Independent of the balancer's own parser, and stricter than RFC 9112 asks a recipient to be:
//! what the balancer sends has to be in the one canonical form.

use std::time::{Duration, SystemTime};

/// How far a request has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Came {
    /// Its head is not whole.
    Nothing,
    /// Its head is whole.
    Head,
    /// It is whole: so many bytes.
    All(usize),
}

/// How far the request came that `bytes` begin with.
///
/// # Errors
/// No server could read it in only one way.
pub(crate) fn request(bytes: &[u8]) -> Result<Came, String> {
    let Some(end) = head_end(bytes) else {
        return Ok(Came::Nothing);
    };
    let (line, fields) = head(&bytes[..end])?;
    let words: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
    let is_target = |target: &[u8]| target.starts_with(b"/") || target == b"*";
    match words[..] {
        [method, target, b"HTTP/1.1"] if is_token(method) && is_target(target) => {}
        _ => return Err("no request line in origin-form".to_owned()),
    }
    if values(&fields, "Host").count() != 1 {
        return Err("not one Host".to_owned());
    }
    let content = &bytes[end..];
    let length = match framing(&fields)? {
        Framing::Chunked => match chunked(content)? {
            Some(chunks) if !chunks.trailers.is_empty() => {
                return Err("trailers in a request".to_owned());
            }
            Some(chunks) => chunks.length,
            None => return Ok(Came::Head),
        },
        Framing::Length(length) if content.len() < length => return Ok(Came::Head),
        Framing::Length(length) => length,
        Framing::None => 0,
    };
    Ok(Came::All(end + length))
}

/// A response as far as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Response {
    /// Head and content without chunks, the present date as `{date}`; trailers behind `{trailers}`.
    pub(crate) text: Vec<u8>,
    /// Where in the text the content begins.
    pub(crate) content: usize,
    pub(crate) is_interim: bool,
    pub(crate) is_whole: bool,
    /// How many bytes it took.
    pub(crate) length: usize,
}

impl Response {
    pub(crate) fn content(&self) -> &[u8] {
        &self.text[self.content..]
    }
}

/// The response that `bytes` begin with; none: there is not even one byte of it.
/// `has_no_content`: it answers a HEAD; `has_ended`: nothing follows `bytes`.
///
/// # Errors
/// No client could read it in only one way.
pub(crate) fn response(
    bytes: &[u8],
    has_no_content: bool,
    has_ended: bool,
) -> Result<Option<Response>, String> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let Some(end) = head_end(bytes) else {
        return Ok(Some(Response {
            text: bytes.to_vec(),
            content: bytes.len(),
            is_interim: false,
            is_whole: false,
            length: bytes.len(),
        }));
    };
    let (line, fields) = head(&bytes[..end])?;
    let status = match line {
        [
            b'H',
            b'T',
            b'T',
            b'P',
            b'/',
            b'1',
            b'.',
            b'1',
            b' ',
            digits @ ..,
        ] if digits.get(3) == Some(&b' ') => {
            let digits = std::str::from_utf8(&digits[..3]).unwrap_or_default();
            digits.parse::<u16>().map_err(|_| "no status")?
        }
        _ => return Err("no status line".to_owned()),
    };
    let framing = framing(&fields)?;
    let is_interim = (100..200).contains(&status) && status != 101;
    if (is_interim || status == 204) && framing != Framing::None {
        return Err(format!("a {status} with a framing field"));
    }
    let behind = &bytes[end..];
    let (content, is_whole, length) = if is_interim || has_no_content || matches!(status, 204 | 304)
    {
        (Vec::new(), true, 0)
    } else {
        match framing {
            Framing::Chunked => match chunked(behind)? {
                Some(mut chunks) => {
                    if !chunks.trailers.is_empty() {
                        chunks.content.extend(b"{trailers}\r\n");
                        chunks.content.extend(chunks.trailers);
                    }
                    (chunks.content, true, chunks.length)
                }
                None => (chunked_so_far(behind), false, behind.len()),
            },
            Framing::Length(length) => {
                let here = length.min(behind.len());
                (behind[..here].to_vec(), here == length, here)
            }
            Framing::None => (behind.to_vec(), has_ended, behind.len()),
        }
    };
    let mut text = dated(&bytes[..end]);
    let head_length = text.len();
    text.extend(content);
    Ok(Some(Response {
        text,
        content: head_length,
        is_interim,
        is_whole,
        length: end + length,
    }))
}

/// The head with its `Date` as `{date}`, if that is about now.
fn dated(head: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for line in head.split_inclusive(|byte| *byte == b'\n') {
        let date = line.strip_prefix(b"Date: ").and_then(|date| {
            let text = std::str::from_utf8(date.strip_suffix(b"\r\n")?).ok()?;
            httpdate::parse_http_date(text).ok()
        });
        match date {
            Some(date) if is_present(date) => out.extend(b"Date: {date}\r\n"),
            _ => out.extend(line),
        }
    }
    out
}

/// Whether a date is about now, of this world or of the simulated one, which began in 1970.
fn is_present(date: SystemTime) -> bool {
    let around = Duration::from_secs(600);
    [SystemTime::UNIX_EPOCH, SystemTime::now()]
        .iter()
        .any(|now| date + around > *now && date < *now + around)
}

fn head_end(bytes: &[u8]) -> Option<usize> {
    let found = memchr::memmem::find(bytes, b"\r\n\r\n");
    found.map(|place| place + 4)
}

type Fields<'b> = Vec<(&'b str, &'b [u8])>;

/// The first line and the fields of a whole head, in canonical form.
fn head(bytes: &[u8]) -> Result<(&[u8], Fields<'_>), String> {
    let text = bytes
        .strip_suffix(b"\r\n\r\n")
        .ok_or("no end of the head")?;
    let mut lines = Vec::new();
    let mut rest = text;
    while let Some(end) = memchr::memmem::find(rest, b"\r\n") {
        lines.push(&rest[..end]);
        rest = &rest[end + 2..];
    }
    lines.push(rest);
    let is_text = |line: &[u8]| {
        line.iter()
            .all(|byte| matches!(byte, b'\t' | b' '..=0x7e | 0x80..))
    };
    if let Some(line) = lines.iter().find(|line| !is_text(line)) {
        return Err(format!("a control byte in {}", line.escape_ascii()));
    }
    let fields = lines[1..].iter().map(|line| {
        let wrong = || format!("no canonical field line: {}", line.escape_ascii());
        let colon = memchr::memchr(b':', line).ok_or_else(wrong)?;
        let (name, value) = line.split_at(colon);
        let value = value.strip_prefix(b": ").ok_or_else(wrong)?;
        let has_blank = value.starts_with(b" ") || value.ends_with(b" ") || value.ends_with(b"\t");
        if !is_token(name) || has_blank {
            return Err(wrong());
        }
        Ok((std::str::from_utf8(name).map_err(|_| wrong())?, value))
    });
    Ok((lines[0], fields.collect::<Result<_, String>>()?))
}

fn values<'f>(fields: &'f Fields<'_>, name: &'f str) -> impl Iterator<Item = &'f [u8]> {
    let of_name = fields
        .iter()
        .filter(move |field| field.0.eq_ignore_ascii_case(name));
    of_name.map(|field| field.1)
}

fn is_token(bytes: &[u8]) -> bool {
    let is_token_byte =
        |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    !bytes.is_empty() && bytes.iter().all(is_token_byte)
}

#[derive(Debug, PartialEq, Eq)]
enum Framing {
    None,
    Length(usize),
    Chunked,
}

fn framing(fields: &Fields<'_>) -> Result<Framing, String> {
    let lengths: Vec<&[u8]> = values(fields, "Content-Length").collect();
    let encodings: Vec<&[u8]> = values(fields, "Transfer-Encoding").collect();
    match (&lengths[..], &encodings[..]) {
        ([], []) => Ok(Framing::None),
        ([], [encoding]) if encoding.eq_ignore_ascii_case(b"chunked") => Ok(Framing::Chunked),
        ([digits], []) if !digits.is_empty() && digits.iter().all(u8::is_ascii_digit) => {
            let digits = std::str::from_utf8(digits).unwrap_or_default();
            digits
                .parse()
                .map(Framing::Length)
                .map_err(|_| format!("too long: {digits}"))
        }
        _ => Err("framing that can be read in two ways".to_owned()),
    }
}

/// Chunked content on its own.
struct Chunks {
    content: Vec<u8>,
    /// The lines of the trailer section, each with its CR LF.
    trailers: Vec<u8>,
    /// How many bytes it took.
    length: usize,
}

/// The content of whole chunks; none: the end is still to come.
fn chunked(bytes: &[u8]) -> Result<Option<Chunks>, String> {
    let mut content = Vec::new();
    let mut at = 0;
    loop {
        let rest = &bytes[at..];
        let Some(end) = memchr::memmem::find(rest, b"\r\n") else {
            return Ok(None);
        };
        let digits = std::str::from_utf8(&rest[..end]).unwrap_or_default();
        let is_size =
            (1..=16).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        let size = match usize::from_str_radix(digits, 16) {
            Ok(size) if is_size => size,
            _ => {
                return Err(format!(
                    "no canonical chunk: {}",
                    rest[..end].escape_ascii()
                ));
            }
        };
        if size == 0 {
            return Ok(last_chunk(&rest[end..])?.map(|trailers| Chunks {
                length: at + end + 2 + trailers.len() + 2,
                content,
                trailers,
            }));
        }
        let data = &rest[end + 2..];
        let Some(behind) = data.get(size..).filter(|behind| behind.len() >= 2) else {
            return Ok(None);
        };
        if !behind.starts_with(b"\r\n") {
            return Err("no line end behind a chunk".to_owned());
        }
        content.extend(&data[..size]);
        at += end + 2 + size + 2;
    }
}

/// The trailer section behind a last chunk, of which `rest` begins with the line end.
fn last_chunk(rest: &[u8]) -> Result<Option<Vec<u8>>, String> {
    let Some(end) = head_end(rest) else {
        return Ok(None);
    };
    if end > 4 {
        // Its lines are field lines, as those behind a first line.
        head(&rest[..end])?;
    }
    Ok(Some(rest[2..end - 2].to_vec()))
}

/// The data in chunks of which the last has not come.
fn chunked_so_far(bytes: &[u8]) -> Vec<u8> {
    let mut content = Vec::new();
    let mut rest = bytes;
    while let Some(end) = memchr::memmem::find(rest, b"\r\n") {
        let digits = std::str::from_utf8(&rest[..end]).unwrap_or_default();
        let size = usize::from_str_radix(digits, 16).unwrap_or(0);
        let data = &rest[end + 2..];
        content.extend(&data[..size.min(data.len())]);
        match data.get(size + 2..) {
            Some(behind) => rest = behind,
            None => break,
        }
    }
    content
}
