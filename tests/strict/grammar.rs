//! The grammar's small parts: lines, tokens, hosts, targets, numbers.

use std::net::Ipv6Addr;

use super::{Field, Manner, Read, Stop};

/// The longest method that anybody has to bear.
const METHOD_MAX: usize = 64;

/// The line that `bytes` begin with, without its CR LF, and how far it reaches with it. A bare CR, a
/// bare LF and every other control but the tab make it no line (RFC 9112 §2.2, RFC 9110 §5.5).
pub fn line(bytes: &[u8]) -> Read<&[u8]> {
    for (at, byte) in bytes.iter().enumerate() {
        match byte {
            b'\r' => {
                return match bytes.get(at + 1) {
                    Some(b'\n') => Ok((&bytes[..at], at + 2)),
                    Some(_) => Err(Stop::Bad("a bare CR")),
                    None => Err(Stop::Open),
                };
            }
            b'\n' => return Err(Stop::Bad("a bare LF")),
            b'\t' => {}
            0..=0x1f | 0x7f => return Err(Stop::Bad("a control byte")),
            _ => {}
        }
    }
    Err(Stop::Open)
}

/// Field lines up to the empty one, that included (RFC 9112 §5).
pub fn fields(bytes: &[u8], manner: Manner) -> Read<Vec<Field>> {
    let mut fields = Vec::new();
    let mut at = 0;
    loop {
        let (text, length) = line(&bytes[at..])?;
        at += length;
        if text.is_empty() {
            return Ok((fields, at));
        }
        fields.push(field(text, manner)?);
    }
}

/// `field-line = field-name ":" OWS field-value OWS` (RFC 9112 §5). No name begins or ends with a
/// blank, so neither a folded line nor a blank before the colon passes (§5.1, §5.2).
fn field(line: &[u8], manner: Manner) -> Result<Field, Stop> {
    let colon = line.iter().position(|byte| *byte == b':');
    let (name, rest) = line.split_at(colon.ok_or(Stop::Bad("a field line without a colon"))?);
    if !is_token(name) {
        return Err(Stop::Bad("a field name that is no token"));
    }
    let value = trim(&rest[1..]);
    let is_canonical = rest[1..].strip_prefix(b" ") == Some(value);
    if manner == Manner::Sent && !is_canonical {
        return Err(Stop::Bad("blanks around a field value"));
    }
    Ok(Field {
        name: name.to_vec(),
        value: value.to_vec(),
    })
}

/// `token = 1*tchar` (RFC 9110 §5.6.2).
pub fn is_token(bytes: &[u8]) -> bool {
    let is_tchar = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    !bytes.is_empty() && bytes.iter().all(is_tchar)
}

/// Without the optional white space at both ends (RFC 9110 §5.6.3).
pub fn trim(bytes: &[u8]) -> &[u8] {
    let is_solid = |byte: &u8| !b" \t".contains(byte);
    let Some(start) = bytes.iter().position(is_solid) else {
        return &[];
    };
    let end = bytes.iter().rposition(is_solid).unwrap_or(start);
    &bytes[start..=end]
}

/// `method` (RFC 9110 §9.1).
pub fn method(bytes: &[u8]) -> Result<Vec<u8>, Stop> {
    if !is_token(bytes) {
        return Err(Stop::Bad("a method that is no token"));
    }
    if bytes.len() > METHOD_MAX {
        return Err(Stop::Either("a long method"));
    }
    Ok(bytes.to_vec())
}

/// `HTTP-version = "HTTP/" DIGIT "." DIGIT` (RFC 9112 §2.3): its minor one.
pub fn version(bytes: &[u8], manner: Manner) -> Result<u8, Stop> {
    match (manner, bytes) {
        (_, b"HTTP/1.1") => Ok(1),
        (Manner::Received, b"HTTP/1.0") => Ok(0),
        _ => Err(Stop::Bad("the version")),
    }
}

/// `1*DIGIT` below 2^63 (RFC 9110 §8.6).
pub fn number(digits: &[u8]) -> Option<u64> {
    let is_number = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    let text = std::str::from_utf8(digits).ok().filter(|_| is_number)?;
    let significant = text.trim_start_matches('0');
    let value: i64 = if significant.is_empty() {
        0
    } else {
        significant.parse().ok()?
    };
    u64::try_from(value).ok()
}

/// What a target asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The authority of an absolute-form target.
    pub authority: Option<Vec<u8>>,
    /// Path and query in origin-form, or `*`.
    pub path: Vec<u8>,
}

/// `request-target` (RFC 9112 §3.2). A proxy sends none in absolute-form to a server (§3.2.1), and
/// nobody but a forward proxy takes an authority-form.
pub fn target(bytes: &[u8], method: &[u8], manner: Manner) -> Result<Target, Stop> {
    if method == b"CONNECT" {
        return Err(Stop::Bad("CONNECT"));
    }
    let origin = |path: &[u8]| Target {
        authority: None,
        path: path.to_vec(),
    };
    if bytes == b"*" && method == b"OPTIONS" {
        return Ok(origin(bytes));
    }
    if bytes.starts_with(b"/") {
        return path_and_query(bytes).map(|()| origin(bytes));
    }
    let lower = bytes.to_ascii_lowercase();
    let scheme = [b"http://".as_slice(), b"https://"];
    let Some(scheme) = scheme.iter().find(|scheme| lower.starts_with(scheme)) else {
        return Err(Stop::Bad("a target of no known form"));
    };
    if manner == Manner::Sent {
        return Err(Stop::Bad("an absolute target sent to a server"));
    }
    let rest = &bytes[scheme.len()..];
    let end = rest.iter().position(|byte| b"/?".contains(byte));
    let (authority, rest) = rest.split_at(end.unwrap_or(rest.len()));
    // RFC 9110 §4.2.1: an empty host is an error; §4.2.4: so is user information.
    if authority.is_empty() {
        return Err(Stop::Bad("an absolute target without a host"));
    }
    host(authority)?;
    path_and_query(rest)?;
    let path = match rest {
        // RFC 9112 §3.2.4: the last proxy asks for all of the server.
        [] if method == b"OPTIONS" => b"*".to_vec(),
        [b'/', ..] => rest.to_vec(),
        _ => [b"/", rest].concat(),
    };
    Ok(Target {
        authority: Some(authority.to_vec()),
        path,
    })
}

/// `path-abempty [ "?" query ]` (RFC 3986 §3.3, §3.4).
///
/// Tolerated, as browsers send it and no framing depends on it: brackets, braces, bar, caret,
/// backtick, in queries backslash, and a percent sign that begins no pair of digits (WHATWG URL, query state).
fn path_and_query(bytes: &[u8]) -> Result<(), Stop> {
    let is_pchar = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@%".contains(byte);
    let is_tolerated = |byte: &u8| b"[]{}|^`".contains(byte);
    let is_path = |byte: &u8| is_pchar(byte) || is_tolerated(byte) || b"/?".contains(byte);
    let query = bytes.iter().position(|byte| *byte == b'?');
    let (path, query) = bytes.split_at(query.unwrap_or(bytes.len()));
    let is_query = |byte: &u8| is_path(byte) || *byte == b'\\';
    if path.iter().all(is_path) && query.iter().all(is_query) {
        Ok(())
    } else {
        Err(Stop::Bad("a byte that no target has"))
    }
}

/// `uri-host [ ":" port ]` (RFC 9110 §7.2, RFC 3986 §3.2.2); an empty one is one.
pub fn host(bytes: &[u8]) -> Result<(), Stop> {
    let bad = Err(Stop::Bad("a host that is none"));
    let (name, port) = match bytes {
        [] => return Ok(()),
        [b'[', rest @ ..] => {
            let Some(end) = rest.iter().position(|byte| *byte == b']') else {
                return bad;
            };
            if !is_literal(&rest[..end]) {
                return bad;
            }
            (&b"literal"[..], &rest[end + 1..])
        }
        _ => bytes.split_at(
            bytes
                .iter()
                .position(|byte| *byte == b':')
                .unwrap_or(bytes.len()),
        ),
    };
    let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=%".contains(byte);
    let is_escape = |at: usize| {
        let digits = name.get(at + 1..at + 3);
        digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    };
    let escapes = (0..name.len()).filter(|at| name[*at] == b'%');
    if name.is_empty() || !name.iter().all(is_name) || !escapes.into_iter().all(is_escape) {
        return bad;
    }
    match port {
        [] => {}
        [b':', digits @ ..] if digits.iter().all(u8::is_ascii_digit) => {}
        _ => return bad,
    }
    if name.contains(&b',') {
        return Err(Stop::Either("a comma in a host"));
    }
    Ok(())
}

/// `IP-literal = "[" ( IPv6address / IPvFuture ) "]"`, what is between the brackets.
fn is_literal(text: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(text) else {
        return false;
    };
    let is_future = |text: &str| {
        let Some((version, address)) = text.split_once('.') else {
            return false;
        };
        let is_part =
            |byte: u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:".contains(&byte);
        !version.is_empty()
            && version.bytes().all(|byte| byte.is_ascii_hexdigit())
            && !address.is_empty()
            && address.bytes().all(is_part)
    };
    match text.strip_prefix(['v', 'V']) {
        Some(future) => is_future(future),
        None => text.parse::<Ipv6Addr>().is_ok(),
    }
}
