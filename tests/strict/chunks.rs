//! The chunked coding (RFC 9112 §7.1) and trailers, line by line.

use super::grammar::{fields, line};
use super::{Field, Manner, Read, Stop};

/// The longest size line that anybody has to bear.
const SIZE_LINE_MAX: usize = 4000;
/// The longest trailer section that anybody has to bear.
const TRAILERS_MAX: usize = 16_000;

/// Fields that no trailer section may hold (RFC 9110 §6.5.1): they frame the message, route it,
/// authenticate, modify the request, control the response or its caching, or say what the content is.
const BARRED: &str = "transfer-encoding content-length trailer te connection keep-alive \
    proxy-connection upgrade host max-forwards expect range if-match if-none-match if-modified-since \
    if-unmodified-since if-range authorization www-authenticate proxy-authenticate \
    proxy-authorization cookie set-cookie cache-control pragma age expires date location retry-after \
    vary content-encoding content-type content-range forwarded x-forwarded-for \
    x-forwarded-host x-forwarded-proto http2-settings";

/// Those of them that a recipient has to refuse rather than drop: where they are believed, another
/// message is read.
const DANGEROUS: [&str; 4] = [
    "transfer-encoding",
    "content-length",
    "host",
    "authorization",
];

/// What chunks hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Chunked {
    /// The data, all chunks' together.
    pub data: Vec<u8>,
    /// The fields behind them.
    pub trailers: Vec<Field>,
}

/// `chunked-body = *chunk last-chunk trailer-section CRLF` at the start of `bytes`.
pub fn chunks(bytes: &[u8], manner: Manner) -> Read<Chunked> {
    let mut data = Vec::new();
    let mut at = 0;
    loop {
        let (text, length) = line(&bytes[at..])?;
        let size = size(text, manner)?;
        at += length;
        if size == 0 {
            break;
        }
        let size = usize::try_from(size).map_err(|_| Stop::Open)?;
        let rest = &bytes[at..];
        let chunk = rest.get(..size).ok_or(Stop::Open)?;
        data.extend_from_slice(chunk);
        match rest[size..] {
            [b'\r', b'\n', ..] => at += size + 2,
            [] | [b'\r'] => return Err(Stop::Open),
            _ => return Err(Stop::Bad("no CR LF behind a chunk")),
        }
    }
    let (trailers, length) = fields(&bytes[at..], manner)?;
    if length > TRAILERS_MAX {
        return Err(Stop::Either("a long trailer section"));
    }
    for trailer in &trailers {
        let is_exact = BARRED
            .split_ascii_whitespace()
            .any(|one| one == trailer.key());
        if manner == Manner::Sent && is_exact {
            return Err(Stop::Bad("a trailer that none may be"));
        }
        if DANGEROUS.contains(&trailer.key().as_str()) {
            return Err(Stop::Bad("a trailer that frames, routes or authorises"));
        }
    }
    Ok((Chunked { data, trailers }, at + length))
}

/// `chunk-size [ chunk-ext ]`: up to 16 digits and below 2^63.
///
/// Received, an extension is any text with its quotes closed: it is dropped, so nobody will read it
/// in another way. Blanks may pad a size, as old senders do.
fn size(line: &[u8], manner: Manner) -> Result<u64, Stop> {
    let is_digit = |byte: &&u8| byte.is_ascii_hexdigit();
    let (digits, behind) = line.split_at(line.iter().take_while(is_digit).count());
    let text = std::str::from_utf8(digits).unwrap_or_default();
    if digits.is_empty() || digits.len() > 16 {
        return Err(Stop::Bad("a chunk size that is none"));
    }
    let size = u64::from_str_radix(text, 16).map_err(|_| Stop::Bad("a chunk size"))?;
    if size > i64::MAX as u64 {
        return Err(Stop::Bad("a chunk of more than 63 bits"));
    }
    let padding = behind
        .iter()
        .take_while(|byte| b" \t".contains(byte))
        .count();
    let extension = &behind[padding..];
    match (manner, extension) {
        (Manner::Sent, _) if !behind.is_empty() => Err(Stop::Bad("a chunk with an extension")),
        _ if line.len() > SIZE_LINE_MAX => Err(Stop::Either("a long chunk size line")),
        (_, []) => Ok(size),
        (_, [b';', text @ ..]) if are_quotes_closed(text) => Ok(size),
        _ => Err(Stop::Bad("a chunk extension that is none")),
    }
}

/// Whether every `quoted-string` in `text` ends (RFC 9110 §5.6.4).
fn are_quotes_closed(text: &[u8]) -> bool {
    let mut is_quoted = false;
    let mut bytes = text.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => is_quoted = !is_quoted,
            b'\\' if is_quoted && bytes.next().is_none() => return false,
            _ => {}
        }
    }
    !is_quoted
}

/// Whether no trailer may have this name; with underscores for dashes some read the same name. Who
/// receives it anyway may drop it or refuse the message.
pub fn is_barred(trailer: &Field) -> bool {
    let dashed = trailer
        .key()
        .replace(|letter: char| !letter.is_ascii_alphanumeric(), "-");
    BARRED
        .split_ascii_whitespace()
        .any(|barred| barred == dashed)
}
