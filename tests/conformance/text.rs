//! Lines of the data files: which bytes they stand for, and how bytes are shown to people.

/// A piece of a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Token {
    Bytes(Vec<u8>),
    Mark(String),
}

/// The pieces of a line behind its arrow, CR LF included unless it ends in a backslash or is a mark.
pub(crate) fn tokens(line: &str) -> Result<Vec<Token>, String> {
    let (line, mut has_end) = match line.strip_suffix('\\') {
        // An escaped backslash is one.
        Some(rest) if (line.len() - line.trim_end_matches('\\').len()) % 2 == 1 => (rest, false),
        _ => (line, true),
    };
    let mut tokens = Vec::new();
    let mut bytes = Vec::new();
    let mut rest = line;
    while let Some(first) = rest.chars().next() {
        let behind = &rest[first.len_utf8()..];
        match first {
            '\\' => rest = escape(behind, &mut bytes)?,
            '{' => {
                let (mark, after) = behind.split_once('}').ok_or("a { without its }")?;
                rest = after;
                if let Some((count, text)) = mark.split_once(" x ") {
                    let count: usize = count.parse().map_err(|_| format!("no number: {count}"))?;
                    let mut unit = Vec::new();
                    let mut text = text;
                    while let Some(first) = text.chars().next() {
                        let behind = &text[first.len_utf8()..];
                        text = if first == '\\' {
                            escape(behind, &mut unit)?
                        } else {
                            unit.extend(first.to_string().as_bytes());
                            behind
                        };
                    }
                    bytes.extend(unit.repeat(count));
                } else {
                    has_end &= mark != line.trim_matches(['{', '}']);
                    if !bytes.is_empty() {
                        tokens.push(Token::Bytes(std::mem::take(&mut bytes)));
                    }
                    tokens.push(Token::Mark(mark.to_owned()));
                }
            }
            '}' => return Err("a } without its {".to_owned()),
            _ => {
                bytes.extend(first.to_string().as_bytes());
                rest = behind;
            }
        }
    }
    if has_end {
        bytes.extend(b"\r\n");
    }
    if !bytes.is_empty() {
        tokens.push(Token::Bytes(bytes));
    }
    Ok(tokens)
}

/// Appends the byte that stands behind a backslash; what is behind it.
fn escape<'l>(rest: &'l str, bytes: &mut Vec<u8>) -> Result<&'l str, String> {
    let wrong = || format!("no escape: \\{}", rest.chars().take(3).collect::<String>());
    let byte = match rest.bytes().next() {
        Some(b'r') => b'\r',
        Some(b'n') => b'\n',
        Some(b't') => b'\t',
        Some(b'0') => 0,
        Some(byte @ (b'\\' | b'{' | b'}')) => byte,
        Some(b'x') => {
            let digits = rest.get(1..3).ok_or_else(wrong)?;
            bytes.push(u8::from_str_radix(digits, 16).map_err(|_| wrong())?);
            return Ok(&rest[3..]);
        }
        _ => return Err(wrong()),
    };
    bytes.push(byte);
    Ok(&rest[1..])
}

/// Bytes as a data file has them, one line per LF.
pub(crate) fn shown(bytes: &[u8]) -> Vec<String> {
    let mut lines = Vec::new();
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        let (text, end) = match line.strip_suffix(b"\r\n") {
            Some(text) => (text, ""),
            None => (line, "\\"),
        };
        let mut shown = String::new();
        for byte in text {
            match byte {
                b'\\' => shown.push_str("\\\\"),
                b'\r' => shown.push_str("\\r"),
                b'\n' => shown.push_str("\\n"),
                b'\t' => shown.push_str("\\t"),
                b' '..=0x7e => shown.push(char::from(*byte)),
                _ => shown.push_str(&format!("\\x{byte:02x}")),
            }
        }
        // Long runs would hide what matters.
        if shown.len() > 300 {
            shown = format!(
                "{} … {} bytes",
                shown.chars().take(200).collect::<String>(),
                text.len()
            );
        }
        shown.push_str(end);
        lines.push(shown);
    }
    lines
}
