//! The Cookie field of requests (RFC 6265 §4.2.1): one cookie of it, and the field without that one.

/// The value of the first cookie `name` in a field's `value`.
pub fn find<'v>(value: &'v [u8], name: &[u8]) -> Option<&'v [u8]> {
    pairs(value).find_map(|pair| value_of(pair, name))
}

/// Appends a Cookie field with all cookies of `value` but those called `name`; none if none is left.
pub fn write_without(out: &mut Vec<u8>, value: &[u8], name: &[u8]) {
    let mut before: &[u8] = b"Cookie: ";
    for pair in pairs(value) {
        if value_of(pair, name).is_none() && !pair.is_empty() {
            out.extend_from_slice(before);
            out.extend_from_slice(pair);
            before = b"; ";
        }
    }
    if before == b"; " {
        out.extend_from_slice(b"\r\n");
    }
}

fn pairs(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b';').map(<[u8]>::trim_ascii)
}

fn value_of<'p>(pair: &'p [u8], name: &[u8]) -> Option<&'p [u8]> {
    pair.strip_prefix(name)?.strip_prefix(b"=")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cookie_is_found_by_its_whole_name() {
        for (value, found) in [
            ("b=1", Some("1")),
            ("a=0; b=1; b=2", Some("1")),
            ("a=b=1;b=3", Some("3")),
            ("xb=1; B=2; b", None),
            ("b=", Some("")),
            ("", None),
        ] {
            assert_eq!(
                find(value.as_bytes(), b"b"),
                found.map(str::as_bytes),
                "{value}"
            );
        }
    }

    #[test]
    fn the_others_stay_in_their_order() {
        for (value, left) in [
            ("b=1", ""),
            ("a=0; b=1; c=\"x y\"; b=2", "Cookie: a=0; c=\"x y\"\r\n"),
            ("b=1;; a=0", "Cookie: a=0\r\n"),
        ] {
            let mut out = Vec::new();
            write_without(&mut out, value.as_bytes(), b"b");
            assert_eq!(out, left.as_bytes(), "{value}");
        }
    }
}
