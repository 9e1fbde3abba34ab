//! The grammar's smallest parts: classes of bytes, tokens, lists and numbers.
//!
//! Classes are lookup tables of 256 entries, made by the compiler. Every function is linear in the
//! bytes that it is given and allocates nothing.

use std::net::Ipv6Addr;

/// A set of bytes, as a table of what each byte outside it spoils.
pub struct Class([u8; 256]);

impl Class {
    /// Letters, digits and `bytes`.
    const fn of(bytes: &[u8]) -> Class {
        let mut table = [1; 256];
        let mut byte = 0;
        while byte < 256 {
            table[byte] = !(byte as u8).is_ascii_alphanumeric() as u8;
            byte += 1;
        }
        let mut index = 0;
        while index < bytes.len() {
            table[bytes[index] as usize] = 0;
            index += 1;
        }
        Class(table)
    }

    /// Whether every one of `bytes` is in the class. Looks at all of them, in eights: most words are
    /// good, and what need not stop is quicker.
    #[inline]
    pub fn has_all(&self, bytes: &[u8]) -> bool {
        let spoils = |spoilt: u8, byte: &u8| spoilt | self.0[usize::from(*byte)];
        let (eights, rest) = bytes.as_chunks::<8>();
        let spoilt = eights
            .iter()
            .fold(0, |spoilt, eight| eight.iter().fold(spoilt, spoils));
        rest.iter().fold(spoilt, spoils) == 0
    }
}

/// What a token is made of (RFC 9110 §5.6.2).
pub static TOKEN: Class = Class::of(b"!#$%&'*+-.^_`|~");
/// What a request target may be made of: RFC 3986 §3.3 and §3.4, and the brackets, braces, bar,
/// caret and backtick that browsers send unescaped in queries and that mean nothing to framing.
static TARGET: Class = Class::of(b"/?:@-._~%!$&'()*+,;=[]{}|^`");
/// The same of its query, where browsers leave a backslash too.
static QUERY: Class = Class::of(b"/?:@-._~%!$&'()*+,;=[]{}|^`\\");
/// What a registered name or an IPv4 address may be made of (RFC 3986 §3.2.2) beside escapes, but for
/// the comma: a host with one would read as two in X-Forwarded-Host, or where equal fields are joined.
static NAME: Class = Class::of(b"-._~!$&'()*+;=");
/// The same with escapes.
static ESCAPED: Class = Class::of(b"-._~!$&'()*+;=%");
/// What stands between the brackets of an IP literal.
static LITERAL: Class = Class::of(b"-._~!$&'()*+;=:");

/// Whether `target` is made of what a request target may be made of. A backslash is a part of a query
/// only: in a path some take it for a slash.
pub fn is_target(target: &[u8]) -> bool {
    if TARGET.has_all(target) {
        return true;
    }
    let query = memchr::memchr(b'?', target).unwrap_or(target.len());
    let (path, query) = target.split_at(query);
    TARGET.has_all(path) && QUERY.has_all(query)
}

/// Whether `bytes` is a token: not empty, and token characters only.
pub fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && TOKEN.has_all(bytes)
}

/// Whether `host` is what a Host field may say: a name, an IPv4 address or a bracketed IP literal,
/// perhaps with a port (RFC 9110 §7.2, RFC 3986 §3.2.2). An empty one is, but not a port alone (RFC
/// 9110 §4.2.1).
pub fn is_host(host: &[u8]) -> bool {
    match without_port(host) {
        [] => host.is_empty(),
        [b'[', literal @ .., b']'] => LITERAL.has_all(literal) && is_ip_literal(literal),
        name => NAME.has_all(name) || ESCAPED.has_all(name) && are_escapes_whole(name),
    }
}

/// `host` without the colon and the port that it may end in.
fn without_port(host: &[u8]) -> &[u8] {
    let mut name = host;
    loop {
        match name {
            [before @ .., b':'] => return before,
            [before @ .., b'0'..=b'9'] => name = before,
            _ => return host,
        }
    }
}

/// Whether two hexadecimal digits stand behind each percent sign (RFC 3986 §2.1).
fn are_escapes_whole(text: &[u8]) -> bool {
    memchr::memchr_iter(b'%', text).all(|percent| {
        let digits = text.get(percent + 1..percent + 3).unwrap_or_default();
        digits.len() == 2 && digits.iter().all(u8::is_ascii_hexdigit)
    })
}

/// Whether `literal` is what stands between brackets: an IPv6 address, or an address of a version to
/// come (RFC 3986 §3.2.2).
fn is_ip_literal(literal: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(literal) else {
        return false;
    };
    if let Some((version, address)) = text
        .strip_prefix(['v', 'V'])
        .and_then(|rest| rest.split_once('.'))
    {
        return !version.is_empty()
            && version.bytes().all(|byte| byte.is_ascii_hexdigit())
            && !address.is_empty()
            && !address.contains(['[', ']', '%']);
    }
    text.parse::<Ipv6Addr>().is_ok()
}

/// Whether `word` is `lower`, a word of lower-case letters, digits and dashes, in any case. A `word`
/// with control bytes may be mistaken: field names and values have none. Where `lower` is a constant
/// it comes down to a few loads.
#[inline(always)]
pub fn is_word(word: &[u8], lower: &[u8]) -> bool {
    // The bit that tells a small letter from a capital is set in digits and dashes too.
    let eight = |bytes: &[u8; 8]| u64::from_ne_bytes(*bytes) | 0x2020_2020_2020_2020;
    let four = |bytes: &[u8; 4]| u32::from_ne_bytes(*bytes) | 0x2020_2020;
    if word.len() != lower.len() {
        return false;
    }
    // The last bytes overlap those before them, so that whole loads do for any length.
    let ((eights, _), (lower_eights, _)) = (word.as_chunks(), lower.as_chunks());
    if let (Some(last), Some(lower_last)) = (word.last_chunk(), lower.last_chunk()) {
        let mut pairs = eights.iter().zip(lower_eights);
        return pairs.all(|(word, lower)| eight(word) == eight(lower))
            && eight(last) == eight(lower_last);
    }
    if let (Some(first), Some(last), Some(lower_first), Some(lower_last)) = (
        word.first_chunk(),
        word.last_chunk(),
        lower.first_chunk(),
        lower.last_chunk(),
    ) {
        return four(first) == four(lower_first) && four(last) == four(lower_last);
    }
    word.eq_ignore_ascii_case(lower)
}

/// The elements of a comma-separated list, without the blanks around them; empty ones are left out
/// (RFC 9110 §5.6.1.2).
pub fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value
        .split(|byte| *byte == b',')
        .map(trim)
        .filter(|element| !element.is_empty())
}

/// `bytes` without the blanks and tabs at both ends.
pub fn trim(bytes: &[u8]) -> &[u8] {
    let mut bytes = bytes;
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = bytes {
        bytes = rest;
    }
    bytes
}

/// The number that `digits` writes: digits only, at least one, below 2^63. Anything else is none
/// (RFC 9110 §8.6: not a sign, not a list, not a blank).
pub fn decimal(digits: &[u8]) -> Option<u64> {
    // So many digits fit in any case.
    let (safe, more) = digits.split_at(digits.len().min(18));
    let mut number = 0;
    for digit in safe {
        let value = digit.wrapping_sub(b'0');
        if value > 9 {
            return None;
        }
        number = number * 10 + u64::from(value);
    }
    for digit in more {
        if !digit.is_ascii_digit() {
            return None;
        }
        number = number
            .checked_mul(10)?
            .checked_add(u64::from(digit - b'0'))?;
    }
    (!digits.is_empty() && number < 1 << 63).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_told_from_what_only_looks_like_one() {
        for good in [
            "",
            "a",
            "a.b:80",
            "127.0.0.1:9001",
            "[::1]",
            "[::1]:80",
            "[2001:db8::7:1.2.3.4]",
            "[v1.a:b]",
            "xn--a_b",
            "a:",
            "a:000080",
            "a%2Db",
        ] {
            assert!(is_host(good.as_bytes()), "{good}");
        }
        for bad in [
            "a b",
            "a/b",
            "a@b",
            "a:b",
            "[::1",
            "[]",
            "[::1]x",
            "a%zz",
            "a%2",
            "%",
            "::1",
            "a?b",
            "a,b:c",
            "a,b",
            ":",
            ":80",
            "[a",
            "a]",
            "a[b]",
            "[::1]:x",
            "[[::1]]",
            "[a]",
            "[1]",
            "[:::]",
            "[v.a]",
            "[v1.]",
            "[::1%25a]",
            "a:80:80",
        ] {
            assert!(!is_host(bad.as_bytes()), "{bad}");
        }
    }

    #[test]
    fn a_backslash_is_part_of_a_query_only() {
        for (target, is_good) in [
            ("/a?b=\\c", true),
            ("/a\\b", false),
            ("/a\\b?c\\", false),
            ("/a?", true),
        ] {
            assert_eq!(is_target(target.as_bytes()), is_good, "{target}");
        }
    }

    #[test]
    fn a_number_is_digits_and_fits() {
        assert_eq!(decimal(b"0"), Some(0));
        assert_eq!(decimal(b"007"), Some(7));
        assert_eq!(decimal(b"9223372036854775807"), Some(i64::MAX as u64));
        for bad in [
            "",
            "+1",
            "-1",
            "1 ",
            "0x1",
            "1,1",
            "9223372036854775808",
            "99999999999999999999",
        ] {
            assert_eq!(decimal(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn a_list_has_no_empty_elements_and_no_blanks() {
        let elements: Vec<&[u8]> = list(b" a ,, b\t,c d ,").collect();
        assert_eq!(elements, [b"a".as_slice(), b"b", b"c d"]);
    }

    #[test]
    fn words_are_the_same_in_any_case_and_nothing_else_is() {
        for lower in [
            "te",
            "via",
            "host",
            "cookie",
            "upgrade",
            "forwarded",
            "keep-alive",
            "http2-settings",
            "x-forwarded-host",
            "transfer-encoding",
        ] {
            let lower = lower.as_bytes();
            assert!(is_word(lower, lower) && is_word(&lower.to_ascii_uppercase(), lower));
            assert!(!is_word(&lower[1..], lower) && !is_word(b"", lower));
            for (index, byte) in
                (0..lower.len()).flat_map(|index| (b' '..=255).map(move |byte| (index, byte)))
            {
                let mut word = lower.to_vec();
                word[index] = byte;
                assert_eq!(
                    is_word(&word, lower),
                    word.eq_ignore_ascii_case(lower),
                    "{word:?}"
                );
            }
        }
    }
}
