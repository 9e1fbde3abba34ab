//! Writes JSON (RFC 8259), piece by piece, into bytes.
//!
//! Whoever writes opens, names, fills and closes; commas come by themselves. Text is escaped, bytes
//! that are no UTF-8 are replaced, and a number that JSON does not know is null.

use std::fmt::{Display, Write as _};
use std::time::Duration;

/// A writer of one JSON text.
pub struct Json<'o> {
    out: &'o mut Vec<u8>,
    needs_comma: bool,
}

impl<'o> Json<'o> {
    /// Writes behind what is in `out`.
    pub fn new(out: &'o mut Vec<u8>) -> Json<'o> {
        Json {
            out,
            needs_comma: false,
        }
    }

    /// A value begins.
    fn begin(&mut self) {
        if self.needs_comma {
            self.out.push(b',');
        }
        self.needs_comma = true;
    }

    /// An object, of which `fill` writes the members.
    pub fn object(&mut self, fill: impl FnOnce(&mut Json<'_>)) {
        self.nest(b'{', fill, b'}');
    }

    /// An array, of which `fill` writes the elements.
    pub fn array(&mut self, fill: impl FnOnce(&mut Json<'_>)) {
        self.nest(b'[', fill, b']');
    }

    fn nest(&mut self, open: u8, fill: impl FnOnce(&mut Json<'_>), close: u8) {
        self.begin();
        self.out.push(open);
        fill(&mut Json::new(self.out));
        self.out.push(close);
    }

    /// The name of the member whose value comes next.
    pub fn key(&mut self, name: &str) -> &mut Self {
        self.text(name);
        self.out.push(b':');
        self.needs_comma = false;
        self
    }

    /// A string.
    pub fn text(&mut self, text: &str) {
        self.begin();
        self.out.push(b'"');
        for character in text.chars() {
            match character {
                '"' => self.out.extend_from_slice(b"\\\""),
                '\\' => self.out.extend_from_slice(b"\\\\"),
                '\u{0}'..='\u{1f}' | '\u{7f}' | '\u{2028}' | '\u{2029}' => {
                    self.put(format_args!("\\u{:04x}", u32::from(character)));
                }
                _ => {
                    let mut bytes = [0; 4];
                    self.out
                        .extend_from_slice(character.encode_utf8(&mut bytes).as_bytes());
                }
            }
        }
        self.out.push(b'"');
    }

    /// A string of bytes that came from a peer.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.text(&String::from_utf8_lossy(bytes));
    }

    /// A whole number.
    pub fn whole(&mut self, number: impl TryInto<u64>) {
        self.begin();
        let mut buffer = itoa::Buffer::new();
        let digits = buffer.format(number.try_into().unwrap_or(u64::MAX));
        self.out.extend_from_slice(digits.as_bytes());
    }

    /// A number, to six places behind the point.
    pub fn number(&mut self, number: f64) {
        if !number.is_finite() {
            return self.null();
        }
        self.begin();
        let start = self.out.len();
        self.put(format_args!("{number:.6}"));
        while self.out.len() > start && self.out.ends_with(b"0") {
            self.out.pop();
        }
        if self.out.ends_with(b".") {
            self.out.pop();
        }
    }

    /// A span of time in seconds, to the microsecond.
    pub fn seconds(&mut self, span: Duration) {
        self.number(span.as_secs_f64());
    }

    /// A truth.
    pub fn truth(&mut self, truth: bool) {
        self.begin();
        self.out
            .extend_from_slice(if truth { b"true" } else { b"false" });
    }

    /// Nothing.
    pub fn null(&mut self) {
        self.begin();
        self.out.extend_from_slice(b"null");
    }

    /// What `some` writes of a value that is there; null if it is not.
    pub fn maybe<T>(&mut self, value: Option<T>, some: impl FnOnce(&mut Self, T)) {
        match value {
            Some(value) => some(self, value),
            None => self.null(),
        }
    }

    fn put(&mut self, text: impl Display) {
        let _ = write!(Bytes(self.out), "{text}");
    }
}

/// Bytes that text can be written to; that never fails.
pub struct Bytes<'o>(pub &'o mut Vec<u8>);

impl std::fmt::Write for Bytes<'_> {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        self.0.extend_from_slice(text.as_bytes());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(fill: impl FnOnce(&mut Json<'_>)) -> String {
        let mut out = Vec::new();
        fill(&mut Json::new(&mut out));
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn commas_come_where_they_belong() {
        let text = written(|json| {
            json.object(|json| {
                json.key("a").whole(1_u32);
                json.key("b").array(|json| {
                    json.truth(true);
                    json.null();
                    json.object(|_| {});
                    json.text("x");
                });
                json.key("c")
                    .maybe(None::<u8>, |json, byte| json.whole(byte));
                json.key("d")
                    .maybe(Some(4_u8), |json, byte| json.whole(byte));
            });
        });
        assert_eq!(text, r#"{"a":1,"b":[true,null,{},"x"],"c":null,"d":4}"#);
    }

    #[test]
    fn text_is_escaped_and_stays_on_its_line() {
        let text = written(|json| json.text("a\"b\\c\nd\u{1}é\u{2028}"));
        assert_eq!(text, r#""a\"b\\c\u000ad\u0001é\u2028""#);
        assert_eq!(written(|json| json.bytes(b"\xff/")), "\"\u{fffd}/\"");
    }

    #[test]
    fn numbers_are_short_and_always_numbers() {
        for (number, text) in [
            (0.0, "0"),
            (1.0, "1"),
            (10.0, "10"),
            (0.25, "0.25"),
            (1e-7, "0"),
            (-1.5, "-1.5"),
            (1_764_108_000.123, "1764108000.123"),
            (f64::NAN, "null"),
            (f64::INFINITY, "null"),
        ] {
            assert_eq!(written(|json| json.number(number)), text);
        }
        assert_eq!(
            written(|json| json.seconds(Duration::from_micros(1_500_001))),
            "1.500001"
        );
    }
}
