//! Heads: where one ends, and what it says in lines that may pass; what they mean is for `judge`.
//!
//! Nearly all heads go through `plain`, in one pass. For all others httparse makes the first cut; it is
//! lenient where RFC 9112 is not, so everything is judged again here. `Refusal` and its table in `rules` are the whole law: each row has its status, its text and
//! the section it comes from. What is accepted has exactly one reading. Linear in the head's length.

use std::mem::MaybeUninit;
use std::sync::LazyLock;

use memchr::memmem::Finder;

use super::field::Place;
pub use super::field::{FIELDS_MAX, Field, FieldLine, Fields, HEAD_MAX, Slots, slots};
use super::grammar::{TOKEN, is_target, is_token};
pub use super::message::{Method, OPTIONS_MAX, Request, Response, TARGET_MAX, Version};
use super::plain::{self, CutRequest, CutResponse};
pub use super::rules::{RULES, Refusal, Rule};
use super::{field, judge};

/// The longest method, in bytes: no registered one has half as many.
pub const METHOD_MAX: usize = 64;
/// The longest that can stand behind the target: the version and the line's end.
const VERSION_MAX: usize = b"HTTP/1.1\r\n".len();

/// The end of the head that `bytes` begin with, behind its empty line, if it is there; the first
/// `seen` bytes were searched before, in vain.
pub fn find_end(bytes: &[u8], seen: usize) -> Option<usize> {
    static FINDER: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\r\n\r\n"));
    let from = seen.saturating_sub(3);
    FINDER
        .find(bytes.get(from..)?)
        .map(|found| from + found + 4)
}

/// Bytes of empty lines before a request line, which are skipped (RFC 9112 §2.2).
pub fn blank_lines(bytes: &[u8]) -> usize {
    bytes
        .chunks_exact(2)
        .take_while(|pair| pair == b"\r\n")
        .count()
        * 2
}

/// Judges a request head that is not whole yet, so that nobody waits for the rest of what can not
/// become right; the first `seen` bytes were judged before. What it refuses, `request` refuses for
/// the same reason, however the head was cut into pieces.
///
/// # Errors
/// The first that is wrong with it: of the request line, the line ends, the length.
pub fn begun(bytes: &[u8], seen: usize) -> Result<(), Refusal> {
    let head = bytes.get(..HEAD_MAX).unwrap_or(bytes);
    let (old, new) = head.split_at(seen.min(head.len()));
    let is_line_over = |old: &[u8]| memchr::memchr(b'\n', old).is_some();
    let mut ends =
        memchr::memchr_iter(b'\n', new).map(|end| head.get(..=old.len() + end).unwrap_or_default());
    match ends.next() {
        Some(lines) if is_line_over(old) => ends_in_crlf(lines)?,
        Some(line) => request_line(line)?,
        None if is_line_over(old) => {}
        None => request_line_begun(head)?,
    }
    ends.try_for_each(ends_in_crlf)?;
    if bytes.len() > HEAD_MAX {
        Err(Refusal::HeadTooLong)
    } else {
        Ok(())
    }
}

/// Judges a response head that is not whole yet, as `begun` does a request's.
///
/// # Errors
/// The first that is wrong with it: of its first bytes, the line ends, the length.
pub fn response_begun(bytes: &[u8], seen: usize) -> Result<(), Refusal> {
    const START: &[u8] = b"HTTP/1.";
    if bytes.iter().zip(START).any(|(byte, wanted)| byte != wanted) {
        return Err(Refusal::StatusLine);
    }
    let head = bytes.get(..HEAD_MAX).unwrap_or(bytes);
    let (old, new) = head.split_at(seen.min(head.len()));
    memchr::memchr_iter(b'\n', new)
        .map(|end| head.get(..=old.len() + end).unwrap_or_default())
        .try_for_each(ends_in_crlf)?;
    if bytes.len() > HEAD_MAX {
        Err(Refusal::HeadTooLong)
    } else {
        Ok(())
    }
}

fn ends_in_crlf(lines: &[u8]) -> Result<(), Refusal> {
    if lines.ends_with(b"\r\n") {
        Ok(())
    } else {
        Err(Refusal::LineEnd)
    }
}

/// Judges a whole request head: `head` ends behind its empty line.
///
/// # Errors
/// The row of the table that it breaks.
pub fn request<'b>(head: &'b [u8], slots: &'b mut Slots) -> Result<Request<'b>, Refusal> {
    next_request(head, 0, slots)?
        .filter(|request| request.fields.source().len() == head.len())
        .ok_or(Refusal::LineEnd)
}

/// Judges the request head that `bytes` begin with; none: it is not whole, and may become right. The
/// first `seen` bytes were judged before. Linear in the head's length, and in its pieces' too: a head
/// that comes whole is not searched for its end, one that does not is not cut before it is there.
///
/// # Errors
/// The row of the table that it breaks, the same however the head was cut into pieces.
pub fn next_request<'b>(
    bytes: &'b [u8],
    seen: usize,
    slots: &'b mut Slots,
) -> Result<Option<Request<'b>>, Refusal> {
    if seen > 0 && find_end(bytes, seen).is_none() {
        return begun(bytes, seen).map(|()| None);
    }
    match judged_request(bytes, slots) {
        Ok(request) => {
            debug_assert_eq!(find_end(bytes, 0), Some(request.fields.source().len()));
            Ok(Some(request))
        }
        Err(refusal) => not_cut(bytes, refusal, begun).map(|()| None),
    }
}

/// What is to be said of `bytes` that could not be cut because of `refusal`: nothing, if the head is
/// not whole and what came of it may stand. What `begun` refuses of a part comes first.
#[cold]
fn not_cut(
    bytes: &[u8],
    refusal: Refusal,
    begun: fn(&[u8], usize) -> Result<(), Refusal>,
) -> Result<(), Refusal> {
    match find_end(bytes, 0) {
        Some(end) => begun(bytes.get(..end).unwrap_or(bytes), 0).and(Err(refusal)),
        None => begun(bytes, 0),
    }
}

/// The head that httparse made out in the first bytes of `bytes`.
fn cut(bytes: &[u8], outcome: httparse::Result<usize>) -> Result<&[u8], Refusal> {
    match outcome {
        Ok(httparse::Status::Complete(length)) if length > HEAD_MAX => Err(Refusal::HeadTooLong),
        Ok(httparse::Status::Complete(length)) => bytes.get(..length).ok_or(Refusal::LineEnd),
        Ok(httparse::Status::Partial) => Err(Refusal::LineEnd),
        Err(httparse::Error::HeaderName) => Err(Refusal::FieldName),
        Err(httparse::Error::HeaderValue) => Err(Refusal::FieldValue),
        Err(httparse::Error::NewLine) => Err(Refusal::LineEnd),
        Err(httparse::Error::TooManyHeaders) => Err(Refusal::TooManyFields),
        Err(httparse::Error::Version) => Err(Refusal::Version),
        Err(httparse::Error::Token | httparse::Error::Status) => Err(Refusal::RequestLine),
    }
}

#[inline]
fn judged_request<'b>(bytes: &'b [u8], slots: &'b mut Slots) -> Result<Request<'b>, Refusal> {
    let mut asked = judge::Asked::default();
    let cut = match plain::request(bytes, slots, &mut asked) {
        Some(cut) => {
            debug_assert_eq!(
                cut_request(bytes, &mut field::slots()),
                Ok((cut.clone(), asked.clone()))
            );
            cut
        }
        None => {
            let cut;
            (cut, asked) = cut_request(bytes, slots)?;
            cut
        }
    };
    let fields = Fields::new(&cut.place, bytes, slots);
    let mut request = Request::new(cut.method, cut.target, cut.version, fields);
    request.authority = cut.authority;
    asked.agree(&mut request)?;
    Ok(request)
}

/// The long way through a request head.
fn cut_request<'b>(
    bytes: &'b [u8],
    slots: &mut Slots,
) -> Result<(CutRequest<'b>, judge::Asked), Refusal> {
    let mut headers = [const { MaybeUninit::uninit() }; FIELDS_MAX];
    let mut parsed = httparse::Request::new(&mut []);
    let head = cut(bytes, parsed.parse_with_uninit_headers(bytes, &mut headers))?;
    let (Some(method), Some(target)) = (parsed.method, parsed.path) else {
        return Err(Refusal::RequestLine);
    };
    // httparse skips blank lines and takes a bare LF for a line's end: neither has a place here.
    let start = method.len() + target.len() + b"  HTTP/1.1\r\n".len();
    if method.len() > METHOD_MAX || head.as_ptr() != method.as_ptr() {
        return Err(Refusal::RequestLine);
    }
    let (method, target) = (method.as_bytes(), target.as_bytes());
    let (target, authority) = judge::target(method, target)?;
    let mut asked = judge::Asked::default();
    field::judge_lines(parsed.headers, head, start, &mut slots.lines, |line| {
        asked.take(method, line)
    })?;
    let place = Place {
        start,
        count: parsed.headers.len(),
        end: head.len(),
    };
    let cut = CutRequest {
        method,
        target,
        authority,
        version: version_of(parsed.version),
        place,
    };
    Ok((cut, asked))
}

/// Judges a whole response head to a request of `method`: `head` ends behind its empty line.
///
/// # Errors
/// The row of the table that it breaks.
pub fn response<'b>(
    head: &'b [u8],
    method: Method,
    slots: &'b mut Slots,
) -> Result<Response<'b>, Refusal> {
    next_response(head, 0, method, slots)?
        .filter(|response| response.fields.source().len() == head.len())
        .ok_or(Refusal::LineEnd)
}

/// Judges the head of a response to a request of `method` that `bytes` begin with, as `next_request`
/// does a request's.
///
/// # Errors
/// The row of the table that it breaks, the same however the head was cut into pieces.
pub fn next_response<'b>(
    bytes: &'b [u8],
    seen: usize,
    method: Method,
    slots: &'b mut Slots,
) -> Result<Option<Response<'b>>, Refusal> {
    if seen > 0 && find_end(bytes, seen).is_none() {
        return response_begun(bytes, seen).map(|()| None);
    }
    match judged_response(bytes, method, slots) {
        Ok(response) => {
            debug_assert_eq!(find_end(bytes, 0), Some(response.fields.source().len()));
            Ok(Some(response))
        }
        Err(refusal) => not_cut(bytes, refusal, response_begun).map(|()| None),
    }
}

#[inline]
fn judged_response<'b>(
    bytes: &'b [u8],
    method: Method,
    slots: &'b mut Slots,
) -> Result<Response<'b>, Refusal> {
    let mut answered = judge::Answered::default();
    let cut = match plain::response(bytes, slots, &mut answered) {
        Some(cut) => {
            debug_assert_eq!(
                cut_response(bytes, &mut field::slots()),
                Ok((cut.clone(), answered.clone()))
            );
            cut
        }
        None => {
            let cut;
            (cut, answered) = cut_response(bytes, slots)?;
            cut
        }
    };
    let fields = Fields::new(&cut.place, bytes, slots);
    let mut response = Response::new(cut.status, cut.version, fields);
    answered.agree(&mut response, method)?;
    Ok(response)
}

/// The long way through a response head.
fn cut_response<'b>(
    bytes: &'b [u8],
    slots: &mut Slots,
) -> Result<(CutResponse, judge::Answered<'b>), Refusal> {
    let mut headers = [const { MaybeUninit::uninit() }; FIELDS_MAX];
    let mut parsed = httparse::Response::new(&mut []);
    let config = httparse::ParserConfig::default();
    let outcome = config.parse_response_with_uninit_headers(&mut parsed, bytes, &mut headers);
    let head = match outcome {
        Err(httparse::Error::Version | httparse::Error::Status) => Err(Refusal::StatusLine),
        outcome => cut(bytes, outcome),
    }?;
    let status = parsed.code.unwrap_or(0);
    // httparse skips blank lines before it, and takes any three digits.
    if !(100..1000).contains(&status) || !head.starts_with(b"HTTP/1.") {
        return Err(Refusal::StatusLine);
    }
    // The first line ends where the fields begin.
    let start = match parsed.headers.first() {
        Some(header) => (header.name.as_ptr() as usize).wrapping_sub(head.as_ptr() as usize),
        None => head.len().saturating_sub(b"\r\n".len()),
    };
    let mut answered = judge::Answered::default();
    field::judge_lines(parsed.headers, head, start, &mut slots.lines, |line| {
        answered.take(line)
    })?;
    let place = Place {
        start,
        count: parsed.headers.len(),
        end: head.len(),
    };
    let cut = CutResponse {
        status,
        version: version_of(parsed.version),
        place,
    };
    Ok((cut, answered))
}

/// The version by its minor number, of which httparse knows two.
fn version_of(minor: Option<u8>) -> Version {
    if minor == Some(1) {
        Version::Http11
    } else {
        Version::Http10
    }
}

/// Judges what has come of a request line: what is refused here stays refused whatever follows.
/// One search for the target's end.
fn request_line_begun(line: &[u8]) -> Result<(), Refusal> {
    // Perhaps the start of an empty line.
    if line == b"\r" {
        return Ok(());
    }
    let start = line.get(..METHOD_MAX + 1).unwrap_or(line);
    let method = start.split(|byte| *byte == b' ').next().unwrap_or_default();
    if !TOKEN.has_all(method) || method.len() > METHOD_MAX || line.starts_with(b" ") {
        return Err(Refusal::RequestLine);
    }
    let rest = line.get(method.len() + 1..).unwrap_or_default();
    if rest.len() <= VERSION_MAX {
        return Ok(());
    }
    match memchr::memchr(b' ', rest) {
        Some(target) if target > TARGET_MAX => Err(Refusal::TargetTooLong),
        Some(target) if rest.len() - target - 1 > VERSION_MAX => Err(Refusal::RequestLine),
        None if rest.len() > TARGET_MAX => Err(Refusal::TargetTooLong),
        _ => Ok(()),
    }
}

/// Judges a request line on its own, CR LF included: the first thing that can be wrong.
fn request_line(line: &[u8]) -> Result<(), Refusal> {
    request_line_begun(line)?;
    let line = line.strip_suffix(b"\r\n").ok_or(Refusal::LineEnd)?;
    let mut words = line.splitn(3, |byte| *byte == b' ');
    let (Some(method), Some(target), Some(version)) = (words.next(), words.next(), words.next())
    else {
        return Err(Refusal::RequestLine);
    };
    debug_assert!(is_token(method));
    match version {
        b"HTTP/1.1" | b"HTTP/1.0" => {}
        [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
            if major.is_ascii_digit() && minor.is_ascii_digit() =>
        {
            return Err(Refusal::Version);
        }
        _ => return Err(Refusal::RequestLine),
    }
    if target.is_empty() || !is_target(target) {
        return Err(Refusal::Target);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
