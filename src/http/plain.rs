//! The quick way through a head that is as nearly all heads are: one pass that cuts and judges.
//!
//! It takes only what it understands in full: an ordinary method, lines that end in CR LF, names of
//! letters, digits, `-` and `_`, a colon and one blank behind each, no tabs, no blanks at the ends. Of
//! anything else it says nothing at all, and `head` goes the long way, by httparse, whose verdict
//! counts. So nothing is refused here, and what is taken here would be taken there with the same
//! meaning: a test and the fuzz targets compare the two. Linear in the head's length; sixteen bytes at
//! a step.

use super::field::{Field, FieldLine, HEAD_MAX, Line, Place, Slots};
use super::judge::{self, Answered, Asked};
use super::message::Version;
use super::rules::Refusal;
use super::scan;

/// A request head that was cut.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct CutRequest<'b> {
    pub(super) method: &'b [u8],
    pub(super) target: &'b [u8],
    pub(super) authority: Option<&'b [u8]>,
    pub(super) version: Version,
    pub(super) place: Place,
}

/// A response head that was cut.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct CutResponse {
    pub(super) status: u16,
    pub(super) version: Version,
    pub(super) place: Place,
}

/// Cuts the request head that `bytes` begin with, if it is whole and plain; what its fields say one by
/// one is in `asked` then.
#[inline]
pub(super) fn request<'b>(
    bytes: &'b [u8],
    slots: &mut Slots,
    asked: &mut Asked,
) -> Option<CutRequest<'b>> {
    let length = match bytes.first_chunk::<{ "OPTIONS ".len() }>()? {
        [b'G', b'E', b'T', b' ', ..] => 3,
        [b'P', b'O', b'S', b'T', b' ', ..] | [b'H', b'E', b'A', b'D', b' ', ..] => 4,
        [b'P', b'U', b'T', b' ', ..] => 3,
        b"DELETE /" => 6,
        b"OPTIONS " => 7,
        _ => return None,
    };
    let method = bytes.get(..length)?;
    // The blank is the first byte that a target may not have.
    let end = scan::end_of_target(bytes, length + 1);
    let (target, authority) = judge::target(method, bytes.get(length + 1..end)?).ok()?;
    let version = match bytes.get(end..)?.first_chunk()? {
        b" HTTP/1.1\r\n" => Version::Http11,
        b" HTTP/1.0\r\n" => Version::Http10,
        _ => return None,
    };
    let start = end + b" HTTP/1.1\r\n".len();
    Some(CutRequest {
        method,
        target,
        authority,
        version,
        place: lines(bytes, start, slots, |line| asked.take(method, line))?,
    })
}

/// Cuts the response head that `bytes` begin with, if it is whole and plain; what its fields say one
/// by one is in `answered` then.
#[inline]
pub(super) fn response<'b>(
    bytes: &'b [u8],
    slots: &mut Slots,
    answered: &mut Answered<'b>,
) -> Option<CutResponse> {
    let [
        b'H',
        b'T',
        b'T',
        b'P',
        b'/',
        b'1',
        b'.',
        minor @ (b'0' | b'1'),
        b' ',
        code @ ..,
        b' ',
    ] = bytes.first_chunk::<{ b"HTTP/1.1 200 ".len() }>()?
    else {
        return None;
    };
    let digit = |byte: u8| u16::from(byte.wrapping_sub(b'0'));
    let [hundreds, tens, ones] = code.map(digit);
    if !matches!(hundreds, 1..=9) || tens > 9 || ones > 9 {
        return None;
    }
    let end = scan::end_of_value(bytes, b"HTTP/1.1 200 ".len());
    let b"\r\n" = bytes.get(end..)?.first_chunk()? else {
        return None;
    };
    Some(CutResponse {
        status: 100 * hundreds + 10 * tens + ones,
        version: match minor {
            b'1' => Version::Http11,
            _ => Version::Http10,
        },
        place: lines(bytes, end + 2, slots, |line| answered.take(line))?,
    })
}

/// Cuts the field lines that begin at `start`, notes them in `slots` and hands each to `take`.
#[inline(always)]
fn lines<'b>(
    bytes: &'b [u8],
    start: usize,
    slots: &mut Slots,
    mut take: impl FnMut(FieldLine<'b>) -> Result<(), Refusal>,
) -> Option<Place> {
    let bytes = bytes.get(..HEAD_MAX).unwrap_or(bytes);
    let mut at = start;
    let mut count = 0;
    loop {
        let colon = scan::end_of_name(bytes, at);
        let rest = bytes.get(colon..)?;
        // One blank, and a value behind it.
        let Some([b':', b' ', b'!'..=0xff]) = rest.first_chunk() else {
            let is_over = colon == at && rest.starts_with(b"\r\n");
            let end = at + b"\r\n".len();
            return is_over.then_some(Place { start, count, end });
        };
        let value = colon + b": ".len();
        let end = scan::end_of_value(bytes, value);
        // No blank at the value's end, and a whole line's end.
        let [b'!'..=0xff, b'\r', b'\n'] = *bytes.get(end - 1..)?.first_chunk::<3>()? else {
            return None;
        };
        let name = bytes.get(at..colon)?;
        if name.is_empty() {
            return None;
        }
        let kind = Field::of(name);
        let next = end + b"\r\n".len();
        let line = FieldLine {
            kind,
            name,
            value: bytes.get(value..end)?,
            is_plain: true,
            span: (at as u16, next as u16),
        };
        take(line).ok()?;
        *slots.lines.get_mut(count)? = Line {
            kind,
            is_plain: true,
            start: at as u16,
            name: colon as u16,
            value: (value as u16, end as u16),
            next: next as u16,
        };
        count += 1;
        at = next;
    }
}
