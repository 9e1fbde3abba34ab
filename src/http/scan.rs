//! Where the parts of a head end: sixteen bytes at a look.
//!
//! Knows no grammar beyond its classes of bytes, and allocates nothing.

/// Bytes of one look.
const WIDTH: usize = 16;

/// Where from `at` on the first byte is that cannot be in a target: a control byte, a blank, DEL. The
/// end of `bytes` if there is none.
#[inline(always)]
pub(super) fn end_of_target(bytes: &[u8], at: usize) -> usize {
    find(bytes, at, |byte| (byte <= b' ') | (byte == 0x7f))
}

/// The same for the first byte that cannot be in a value: a control byte, a tab among them, or DEL.
#[inline(always)]
pub(super) fn end_of_value(bytes: &[u8], at: usize) -> usize {
    find(bytes, at, |byte| (byte < b' ') | (byte == 0x7f))
}

/// The same for the first byte that is not of a plain name: letters, digits, `-` and `_`, all of which
/// make tokens (RFC 9110 §5.6.2).
#[inline(always)]
pub(super) fn end_of_name(bytes: &[u8], at: usize) -> usize {
    find(bytes, at, |byte| {
        // The bit that tells a small letter from a capital.
        let is_letter = (byte | 0x20).wrapping_sub(b'a') < 26;
        let is_digit = byte.wrapping_sub(b'0') < 10;
        !(is_letter | is_digit | (byte == b'-') | (byte == b'_'))
    })
}

/// Whether `is_odd` holds of no byte.
#[inline(always)]
pub(crate) fn has_none(bytes: &[u8], is_odd: impl Fn(u8) -> bool + Copy) -> bool {
    let Some(first) = bytes.first() else {
        return true;
    };
    // Fewer than sixteen are filled up with one of them, which changes nothing.
    let mut filled = [*first; WIDTH];
    if let Some(start) = filled.get_mut(..bytes.len()) {
        start.copy_from_slice(bytes);
    }
    // The last sixteen overlap those before them.
    let last = bytes.last_chunk().unwrap_or(&filled);
    let (sixteens, _) = bytes.as_chunks();
    let odd = sixteens.iter().map(|sixteen| marks(sixteen, is_odd));
    odd.fold(marks(last, is_odd), |all, odd| all | odd) == 0
}

/// Where from `at` on the first byte is that `is_end` holds of.
#[inline(always)]
fn find(bytes: &[u8], at: usize, is_end: impl Fn(u8) -> bool + Copy) -> usize {
    let mut at = at;
    while let Some(sixteen) = bytes.get(at..).and_then(|rest| rest.first_chunk()) {
        if let Some(found) = first(marks(sixteen, is_end)) {
            return at + found;
        }
        at += WIDTH;
    }
    let rest = bytes.get(at..).unwrap_or_default();
    let found = match bytes.last_chunk() {
        _ if rest.is_empty() => None,
        // Fewer are left: they are looked at together with what stands before them.
        Some(sixteen) => first(marks(sixteen, is_end) >> (8 * (WIDTH - rest.len()))),
        None => rest.iter().position(|byte| is_end(*byte)),
    };
    found.map_or(bytes.len(), |found| at + found)
}

/// Marks each byte that `is_end` holds of with 0xff at its place, the first one lowest. All are looked
/// at, without a branch: so the compiler does it by one instruction for all, where there are such.
#[inline(always)]
fn marks(sixteen: &[u8; WIDTH], is_end: impl Fn(u8) -> bool) -> u128 {
    u128::from_le_bytes(sixteen.map(|byte| if is_end(byte) { 0xff } else { 0 }))
}

/// The place of the first mark; by halves, as registers hold them.
#[inline(always)]
fn first(marks: u128) -> Option<usize> {
    let (low, high) = (marks as u64, (marks >> 64) as u64);
    if low != 0 {
        return Some(low.trailing_zeros() as usize / 8);
    }
    (high != 0).then(|| 8 + high.trailing_zeros() as usize / 8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_byte_that_ends_a_part_is_found_wherever_it_stands() {
        let slowly = |bytes: &[u8], at: usize, ends: fn(u8) -> bool| {
            let found = bytes.iter().skip(at).position(|byte| ends(*byte));
            found.map_or(bytes.len(), |found| at + found)
        };
        let ends_value = |byte: u8| byte < b' ' || byte == 0x7f;
        let ends_target = |byte: u8| byte <= b' ' || byte == 0x7f;
        let ends_name = |byte: u8| !byte.is_ascii_alphanumeric() && !matches!(byte, b'-' | b'_');
        for length in [0, 1, 5, 15, 16, 17, 31, 40] {
            let mut bytes = vec![b'a'; length];
            assert_eq!(end_of_value(&bytes, 3), length);
            assert_eq!(end_of_value(&bytes, length + 1), length);
            for place in 0..length {
                for byte in [
                    0, b'\t', b'\r', b' ', b'!', b':', b'_', b'{', 0x7f, 0x80, 0xff,
                ] {
                    bytes.fill(b'a');
                    bytes[place] = byte;
                    for at in 0..=length {
                        assert_eq!(end_of_value(&bytes, at), slowly(&bytes, at, ends_value));
                        assert_eq!(end_of_target(&bytes, at), slowly(&bytes, at, ends_target));
                        assert_eq!(end_of_name(&bytes, at), slowly(&bytes, at, ends_name));
                    }
                }
            }
        }
    }
}
