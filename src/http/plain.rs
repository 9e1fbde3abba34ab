//! The quick way through a head that is as nearly all heads are: one pass that cuts and judges.
//!
//! It takes only what it understands in full: an ordinary method, lines that end in CR LF, a colon and
//! one blank behind each name, no tabs, no blanks at the ends. Of anything else it says nothing at all,
//! and `head` goes the long way, by httparse, whose verdict counts. So nothing is refused here, and
//! what is taken here would be taken there with the same meaning: a test and the fuzz targets compare
//! the two. Linear in the head's length; eight bytes at a step.

use super::field::{Field, FieldLine, HEAD_MAX, Line, Place, Slots};
use super::grammar::is_token;
use super::judge::{self, Answered, Asked};
use super::message::Version;
use super::rules::Refusal;

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
    let end = find::<{ b' ' + 1 }, 0x7f>(bytes, length + 1);
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
    let end = find::<b' ', 0x7f>(bytes, b"HTTP/1.1 200 ".len());
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
        let colon = find::<{ b' ' + 1 }, b':'>(bytes, at);
        let rest = bytes.get(colon..)?;
        // One blank, and a value behind it.
        let Some([b':', b' ', b'!'..=0xff]) = rest.first_chunk() else {
            let is_over = colon == at && rest.starts_with(b"\r\n");
            let end = at + b"\r\n".len();
            return is_over.then_some(Place { start, count, end });
        };
        let value = colon + b": ".len();
        let end = find::<b' ', 0x7f>(bytes, value);
        // No blank at the value's end, and a whole line's end.
        let [b'!'..=0xff, b'\r', b'\n'] = *bytes.get(end - 1..)?.first_chunk::<3>()? else {
            return None;
        };
        let name = bytes.get(at..colon)?;
        let kind = Field::of(name);
        // A name that is known is a token: there is neither control byte nor blank in it.
        if matches!(kind, Field::Other | Field::Lookalike | Field::FeignedId) && !is_token(name) {
            return None;
        }
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

/// Where from `at` on the first byte is that is less than `BELOW`, at most 0x80, or is `ALSO`; the end
/// if there is none.
#[inline(always)]
fn find<const BELOW: u8, const ALSO: u8>(bytes: &[u8], at: usize) -> usize {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    const HIGHS: u64 = ONES << 7;
    let rest = bytes.get(at..).unwrap_or_default();
    let (eights, last) = rest.as_chunks::<8>();
    let mut at = at;
    for eight in eights {
        let eight = u64::from_le_bytes(*eight);
        // The highest bit of a byte of each is set where the byte is less, or becomes zero. Borrowing
        // can set it wrongly only above such a byte (Warren, Hacker's Delight, §6-1).
        let less = eight.wrapping_sub(ONES * BELOW as u64) & !eight;
        let other = eight ^ (ONES * ALSO as u64);
        let same = other.wrapping_sub(ONES) & !other;
        let found = (less | same) & HIGHS;
        if found != 0 {
            return at + found.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    let is_found = |byte: &u8| *byte < BELOW || *byte == ALSO;
    at + last.iter().position(is_found).unwrap_or(last.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_byte_that_is_less_or_the_other_is_found_wherever_it_stands() {
        let slowly = |bytes: &[u8], at: usize| {
            let found = bytes
                .iter()
                .skip(at)
                .position(|byte| *byte < b' ' || *byte == 0x7f);
            found.map_or(bytes.len(), |found| at + found)
        };
        let mut bytes = vec![b'a'; 40];
        assert_eq!(find::<b' ', 0x7f>(&bytes, 3), 40);
        assert_eq!(find::<b' ', 0x7f>(&bytes, 41), 41);
        for byte in 0..=255 {
            for place in 0..40 {
                for (other, next) in [(0x80, 0xff), (b' ', 0x7f), (0xff, 0x00), (0x21, 0x1f)] {
                    bytes.fill(b'a');
                    bytes[place] = byte;
                    bytes[(place + 39) % 40] = other;
                    bytes[(place + 1) % 40] = next;
                    for at in [0, 1, 5, 8, 17] {
                        assert_eq!(find::<b' ', 0x7f>(&bytes, at), slowly(&bytes, at));
                    }
                }
            }
        }
    }
}
