//! What clients sent, as text that a line of the log can hold: nothing in it ends the line, its quotes
//! or the terminal's patience.
//!
//! Nearly all of it is plain, and is looked at in one sweep and copied in one piece.

use crate::http::scan;

/// Appends `value` as the inside of a quoted string of the combined format: quotes and backslashes
/// with a backslash before them, what is not printable ASCII as `\xHH`.
#[inline]
pub(super) fn quoted(out: &mut Vec<u8>, value: &[u8]) {
    match is_plain(value) {
        true => out.extend_from_slice(value),
        false => quoted_escaped(out, value),
    }
}

#[cold]
fn quoted_escaped(out: &mut Vec<u8>, value: &[u8]) {
    for byte in value {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', *byte]),
            b' '..=b'~' => out.push(*byte),
            _ => {
                let [high, low] = hex(*byte, b"0123456789ABCDEF");
                out.extend_from_slice(&[b'\\', b'x', high, low]);
            }
        }
    }
}

/// Appends `value` as the inside of a JSON string (RFC 8259 §7): what is UTF-8 as it is, but for
/// quotes, backslashes and controls. Any other byte becomes the character that it is in ISO-8859-1,
/// which is what fields were in before (RFC 9110 §5.5), written as `\u00hh`.
#[inline]
pub(super) fn json(out: &mut Vec<u8>, value: &[u8]) {
    match is_plain(value) {
        true => out.extend_from_slice(value),
        false => json_escaped(out, value),
    }
}

#[cold]
fn json_escaped(out: &mut Vec<u8>, value: &[u8]) {
    for chunk in value.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '"' => out.extend_from_slice(b"\\\""),
                '\\' => out.extend_from_slice(b"\\\\"),
                // The last control is U+009F.
                _ if character.is_control() => escape(out, character as u8),
                _ => {
                    let mut bytes = [0; 4];
                    out.extend_from_slice(character.encode_utf8(&mut bytes).as_bytes());
                }
            }
        }
        for byte in chunk.invalid() {
            escape(out, *byte);
        }
    }
}

/// Appends `key`, which ends with the quote that a JSON string begins with, then `value` and the quote
/// behind it; or null, and no quotes.
#[inline]
pub(super) fn json_member<const BYTES: usize>(
    out: &mut Vec<u8>,
    key: &[u8; BYTES],
    value: Option<&[u8]>,
) {
    match value {
        Some(value) => {
            out.extend_from_slice(key);
            json(out, value);
            out.push(b'"');
        }
        None => null_member(out, key),
    }
}

/// The same of what has nothing to escape.
#[inline]
pub(super) fn plain_member<const BYTES: usize>(
    out: &mut Vec<u8>,
    key: &[u8; BYTES],
    value: Option<&[u8]>,
) {
    match value {
        Some(value) => {
            out.extend_from_slice(key);
            out.extend_from_slice(value);
            out.push(b'"');
        }
        None => null_member(out, key),
    }
}

#[inline]
fn null_member<const BYTES: usize>(out: &mut Vec<u8>, key: &[u8; BYTES]) {
    out.extend_from_slice(key.strip_suffix(b"\"").unwrap_or(key));
    out.extend_from_slice(b"null");
}

/// Appends the character `code` of the first 256 by its number.
fn escape(out: &mut Vec<u8>, code: u8) {
    let [high, low] = hex(code, b"0123456789abcdef");
    out.extend_from_slice(&[b'\\', b'u', b'0', b'0', high, low]);
}

/// The two hexadecimal digits of `byte`.
fn hex(byte: u8, digits: &[u8; 16]) -> [u8; 2] {
    [
        digits[usize::from(byte >> 4)],
        digits[usize::from(byte & 15)],
    ]
}

/// Whether `value` is the same in every format: printable ASCII without quotes and backslashes.
fn is_plain(value: &[u8]) -> bool {
    scan::has_none(value, |byte| {
        let is_printable = byte.wrapping_sub(b' ') <= b'~' - b' ';
        !is_printable | (byte == b'"') | (byte == b'\\')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(format: fn(&mut Vec<u8>, &[u8]), value: &[u8]) -> String {
        let mut out = Vec::new();
        format(&mut out, value);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn printable_ascii_stays_as_it_is() {
        let plain: Vec<u8> = (b' '..=b'~')
            .filter(|byte| !b"\"\\".contains(byte))
            .collect();
        let as_text = std::str::from_utf8(&plain).unwrap();
        assert_eq!(text(quoted, &plain), as_text);
        assert_eq!(text(json, &plain), as_text);
        assert_eq!((text(quoted, b""), text(json, b"")), Default::default());
    }

    #[test]
    fn a_quoted_text_has_no_quote_control_or_byte_beyond_ascii() {
        assert_eq!(
            text(quoted, b"a\"b\\c\td\n\x00\x1f\x7f\x80\xff"),
            r#"a\"b\\c\x09d\x0A\x00\x1F\x7F\x80\xFF"#
        );
    }

    #[test]
    fn a_json_text_keeps_utf_8_and_names_all_other_bytes() {
        assert_eq!(
            text(json, b"a\"b\\c\td\n\x00\x1f\x7f"),
            r#"a\"b\\c\u0009d\u000a\u0000\u001f\u007f"#
        );
        assert_eq!(text(json, "é€😀".as_bytes()), "é€😀");
        // A control of the second half, in UTF-8 and as a byte; a byte alone; a cut sequence; one
        // that is too long for what it says; a surrogate.
        assert_eq!(text(json, b"\xc2\x9b|\x9b"), r"\u009b|\u009b");
        assert_eq!(text(json, b"caf\xe9!"), r"caf\u00e9!");
        assert_eq!(text(json, b"\xe2\x82"), r"\u00e2\u0082");
        assert_eq!(text(json, b"\xc0\xaf"), r"\u00c0\u00af");
        assert_eq!(text(json, b"\xed\xa0\x80"), r"\u00ed\u00a0\u0080");
    }

    #[test]
    fn every_byte_is_looked_at_wherever_it_stands() {
        for length in 1..70 {
            for at in 0..length {
                for byte in 0..=255 {
                    let is_odd = !matches!(byte, b' '..=b'~') || b"\"\\".contains(&byte);
                    for other in [b' ', b'~'] {
                        let mut value = vec![other; length];
                        value[at] = byte;
                        assert_eq!(is_plain(&value), !is_odd, "{byte} at {at} of {length}");
                    }
                }
            }
        }
    }
}
