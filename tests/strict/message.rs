//! Whole messages: how their content ends, and what a proxy may send.

use super::chunks::chunks;
use super::grammar::{self, Target, fields, host, line};
use super::{Field, Manner, Read, Stop, elements, has, values};

/// How the content of a message ends (RFC 9112 §6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// There is none, and no field says that there is.
    None,
    /// After so many bytes.
    Length(u64),
    /// With the last chunk.
    Chunked,
    /// With the stream.
    UntilClose,
}

/// A request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    pub method: Vec<u8>,
    pub target: Target,
    /// The minor version: 0 or 1.
    pub minor: u8,
    pub fields: Vec<Field>,
    pub framing: Framing,
    pub content: Vec<u8>,
    pub trailers: Vec<Field>,
}

/// A response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    pub status: u16,
    pub reason: Vec<u8>,
    /// The minor version: 0 or 1.
    pub minor: u8,
    pub fields: Vec<Field>,
    pub framing: Framing,
    pub content: Vec<u8>,
    pub trailers: Vec<Field>,
}

/// What has to be known of a request to read its response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked {
    /// Whether it was a HEAD.
    pub head: bool,
    /// The minor version of who asked.
    pub minor: u8,
    /// Whether it asked for an upgrade.
    pub upgrade: bool,
    /// Whether it would take trailers.
    pub trailers: bool,
}

impl Request {
    /// What its response has to be read by.
    pub fn asked(&self) -> Asked {
        Asked {
            head: self.method == b"HEAD",
            minor: self.minor,
            upgrade: self.asks_for_upgrade(),
            trailers: elements(&self.fields, "te").contains(&"trailers".to_owned()),
        }
    }

    /// Whether the sender would like its connection to go on (RFC 9112 §9.3).
    pub fn persists(&self) -> bool {
        persists(&self.fields, self.minor)
    }

    /// Whether it asks for an upgrade that a proxy can carry through (RFC 9110 §7.8): a 1.1 client
    /// that names it in Connection. One with content would leave open where the new protocol begins,
    /// and one to h2c is no more (RFC 9113 §3.1).
    pub fn asks_for_upgrade(&self) -> bool {
        self.minor == 1
            && has(&self.fields, "upgrade")
            && elements(&self.fields, "connection").contains(&"upgrade".to_owned())
            && elements(&self.fields, "upgrade")
                .iter()
                .all(|one| is_protocol(one))
            && !elements(&self.fields, "upgrade").is_empty()
            && matches!(self.framing, Framing::None | Framing::Length(0))
    }
}

impl Response {
    /// Whether the sender would take another request.
    pub fn persists(&self) -> bool {
        persists(&self.fields, self.minor) && self.framing != Framing::UntilClose
    }
}

/// `protocol-name [ "/" protocol-version ]` (RFC 9110 §7.8) and not HTTP/2 (RFC 9113 §3.1).
fn is_protocol(text: &str) -> bool {
    // A letter beyond ASCII is a byte that no token has.
    let is_token = |part: &str| grammar::is_token(part.as_bytes());
    let (name, version) = text.split_once('/').unwrap_or((text, "1"));
    is_token(name) && is_token(version) && name != "h2c"
}

fn persists(fields: &[Field], minor: u8) -> bool {
    let options = elements(fields, "connection");
    let says = |option: &str| options.iter().any(|one| one == option);
    !says("close") && (minor == 1 || says("keep-alive"))
}

/// The request that `bytes` begin with.
pub fn request(bytes: &[u8], manner: Manner) -> Read<Request> {
    let (mut request, at) = request_head(bytes, manner)?;
    let ((content, trailers), length) = content(&bytes[at..], request.framing, manner, false)?;
    (request.content, request.trailers) = (content, trailers);
    Ok((request, at + length))
}

/// Its head: `request-line CRLF *( field-line CRLF ) CRLF` (RFC 9112 §2.1, §3).
pub fn request_head(bytes: &[u8], manner: Manner) -> Read<Request> {
    let (text, at) = line(bytes)?;
    let parts: Vec<&[u8]> = text.split(|byte| *byte == b' ').collect();
    let &[method, target, version] = parts.as_slice() else {
        return Err(Stop::Bad("a request line that is not three words"));
    };
    let request = Request {
        method: grammar::method(method)?,
        target: grammar::target(target, method, manner)?,
        minor: grammar::version(version, manner)?,
        fields: Vec::new(),
        framing: Framing::None,
        content: Vec::new(),
        trailers: Vec::new(),
    };
    let (fields, length) = fields(&bytes[at..], manner)?;
    let framing = framing(&fields, request.minor)?;
    let request = Request {
        framing: framing.unwrap_or(Framing::None),
        fields,
        ..request
    };
    // RFC 9110 §9.3.8.
    if request.method == b"TRACE" && !matches!(framing, None | Some(Framing::Length(0))) {
        return Err(Stop::Bad("a TRACE with content"));
    }
    judge_host(&request)?;
    judge_expect(&request)?;
    if manner == Manner::Sent {
        sent_by_proxy(&request.fields, false)?;
        if has(&request.fields, "http2-settings") {
            return Err(Stop::Bad("a field of the connection before"));
        }
        if has(&request.fields, "trailer") && request.framing != Framing::Chunked {
            return Err(Stop::Bad("a Trailer where there can be none"));
        }
        let te = elements(&request.fields, "te");
        let names_te = elements(&request.fields, "connection").contains(&"te".to_owned());
        if !te.is_empty() && (te != ["trailers"] || !names_te) {
            return Err(Stop::Bad("a TE that is not trailers, or not named"));
        }
    }
    Ok((request, at + length))
}

/// RFC 9112 §3.2: one Host in 1.1, not two in any, and it is a host.
fn judge_host(request: &Request) -> Result<(), Stop> {
    match values(&request.fields, "host").as_slice() {
        [] if request.minor == 0 => Ok(()),
        [] => Err(Stop::Bad("no Host")),
        [one] => host(one),
        _ => Err(Stop::Bad("two Hosts")),
    }
}

/// RFC 9110 §10.1.1: there is one expectation. Any other may be refused or not be understood; an empty
/// list has none.
fn judge_expect(request: &Request) -> Result<(), Stop> {
    let mut all = values(&request.fields, "expect").into_iter();
    if all.all(|one| one.is_empty() || one.eq_ignore_ascii_case(b"100-continue")) {
        Ok(())
    } else {
        Err(Stop::Bad("an expectation that nobody knows"))
    }
}

/// The response that `bytes` begin with, to a request of which `asked` tells; `is_ended`: nothing
/// comes behind them.
pub fn response(bytes: &[u8], asked: Asked, is_ended: bool, manner: Manner) -> Read<Response> {
    let (mut response, at) = response_head(bytes, asked, manner)?;
    let ((content, trailers), length) = content(&bytes[at..], response.framing, manner, is_ended)?;
    (response.content, response.trailers) = (content, trailers);
    if manner == Manner::Sent && !response.trailers.is_empty() && !asked.trailers {
        return Err(Stop::Bad("trailers for one who did not ask for them"));
    }
    Ok((response, at + length))
}

/// Its head: `status-line CRLF *( field-line CRLF ) CRLF` (RFC 9112 §2.1, §4).
///
/// Tolerated when received: no blank behind the status where there is no reason.
pub fn response_head(bytes: &[u8], asked: Asked, manner: Manner) -> Read<Response> {
    let (text, at) = line(bytes)?;
    let (version, rest) = text.split_at(text.len().min(8));
    let (status, reason) = match rest {
        [b' ', status @ .., b' '] if status.len() == 3 => (status, &b""[..]),
        [b' ', a, b, c, b' ', reason @ ..] => (&[*a, *b, *c][..], reason),
        [b' ', status @ ..] if status.len() == 3 && manner == Manner::Received => {
            (status, &b""[..])
        }
        _ => return Err(Stop::Bad("a status line that is none")),
    };
    let is_status = matches!(status[0], b'1'..=b'9') && status.iter().all(u8::is_ascii_digit);
    let status = grammar::number(status).filter(|_| is_status);
    let status = status.ok_or(Stop::Bad("a status that is none"))? as u16;
    let minor = grammar::version(version, manner)?;
    let reason = reason.to_vec();
    let (fields, length) = fields(&bytes[at..], manner)?;
    let framed = framing(&fields, minor)?;
    let framing = match status {
        100..=199 | 204 | 304 => Framing::None,
        _ if asked.head => Framing::None,
        _ => framed.unwrap_or(Framing::UntilClose),
    };
    let response = Response {
        status,
        reason,
        minor,
        fields,
        framing,
        content: Vec::new(),
        trailers: Vec::new(),
    };
    if manner == Manner::Sent {
        sent_by_proxy(&response.fields, status == 426)?;
        sent_to_client(&response, asked)?;
    }
    Ok((response, at + length))
}

/// What the framing fields say together (RFC 9112 §6.1, §6.3): at most one of them, once. A
/// Transfer-Encoding is `chunked` and nothing else, and not in 1.0.
fn framing(fields: &[Field], minor: u8) -> Result<Option<Framing>, Stop> {
    let lengths = values(fields, "content-length");
    let encodings = values(fields, "transfer-encoding");
    match (lengths.as_slice(), encodings.as_slice()) {
        ([], []) => Ok(None),
        ([length], []) => match grammar::number(length) {
            Some(length) => Ok(Some(Framing::Length(length))),
            None => Err(Stop::Bad("a Content-Length that is no number")),
        },
        ([], [encoding]) if minor == 1 && encoding.eq_ignore_ascii_case(b"chunked") => {
            Ok(Some(Framing::Chunked))
        }
        _ => Err(Stop::Bad("framing that is not one field")),
    }
}

/// What no proxy may send on, in either direction: fields of the connection that it came by (RFC 9110
/// §7.6.1), and its own ones said otherwise than once and plainly.
fn sent_by_proxy(fields: &[Field], may_lack_upgrade: bool) -> Result<(), Stop> {
    for name in ["keep-alive", "proxy-connection"] {
        if has(fields, name) {
            return Err(Stop::Bad("a field of the connection before"));
        }
    }
    let mut options = elements(fields, "connection");
    options.sort();
    for option in &options {
        match option.as_str() {
            "close" | "keep-alive" => {}
            "te" if has(fields, "te") => {}
            // Tolerated: a 426 without Upgrade, which is a server's fault (RFC 9110 §15.5.22) and
            // not to be mistaken for anything else.
            "upgrade" if has(fields, "upgrade") || may_lack_upgrade => {}
            _ => return Err(Stop::Bad("a connection option that is not the proxy's")),
        }
    }
    let both = [
        ["te", "upgrade"],
        ["close", "upgrade"],
        ["keep-alive", "upgrade"],
    ];
    let is_one = options.len() == 1 || both.iter().any(|both| options == *both);
    if has(fields, "connection") && !is_one {
        return Err(Stop::Bad("connection options that are not one"));
    }
    if has(fields, "upgrade") && !options.contains(&"upgrade".to_owned()) {
        return Err(Stop::Bad("an Upgrade that Connection does not name"));
    }
    Ok(())
}

/// What only holds for responses.
fn sent_to_client(response: &Response, asked: Asked) -> Result<(), Stop> {
    let fields = &response.fields;
    let is_interim = response.status < 200;
    let is_switch = response.status == 101;
    let options = elements(fields, "connection");
    let is_framed = has(fields, "content-length") || has(fields, "transfer-encoding");
    let rules = [
        (
            (is_interim || response.status == 204) && is_framed,
            "framing where no content can be",
        ),
        (
            is_interim && asked.minor == 0,
            "an interim response to a 1.0 client",
        ),
        (
            is_switch && !asked.upgrade,
            "a switch that nobody asked for",
        ),
        (
            response.status != 426 && is_switch != has(fields, "upgrade"),
            "an Upgrade without a switch",
        ),
        (
            is_interim && !is_switch && !options.is_empty(),
            "Connection in an interim response",
        ),
        (has(fields, "te"), "a TE in a response"),
        (
            !is_interim && has(fields, "trailer") && response.framing != Framing::Chunked,
            "a Trailer where there can be none",
        ),
        (
            asked.minor == 0 && has(fields, "transfer-encoding"),
            "a Transfer-Encoding to a 1.0 client",
        ),
        (
            asked.minor == 1 && options.contains(&"keep-alive".to_owned()),
            "keep-alive to a 1.1 client",
        ),
        (
            // Without a word a 1.0 client takes it for the last one, and rightly closes.
            asked.minor == 0 && !is_interim && options.is_empty(),
            "no word to a 1.0 client of whether the connection goes on",
        ),
        (
            response.framing == Framing::UntilClose && !options.contains(&"close".to_owned()),
            "content until close without close",
        ),
    ];
    match rules.iter().find(|(is_broken, _)| *is_broken) {
        Some((_, rule)) => Err(Stop::Bad(rule)),
        None => Ok(()),
    }
}

/// Content and trailers.
fn content(
    bytes: &[u8],
    framing: Framing,
    manner: Manner,
    is_ended: bool,
) -> Read<(Vec<u8>, Vec<Field>)> {
    match framing {
        Framing::None => Ok(((Vec::new(), Vec::new()), 0)),
        Framing::Length(length) => {
            let length = usize::try_from(length).map_err(|_| Stop::Open)?;
            let content = bytes.get(..length).ok_or(Stop::Open)?;
            Ok(((content.to_vec(), Vec::new()), length))
        }
        Framing::Chunked => {
            let (chunked, length) = chunks(bytes, manner)?;
            Ok(((chunked.data, chunked.trailers), length))
        }
        Framing::UntilClose if is_ended => Ok(((bytes.to_vec(), Vec::new()), bytes.len())),
        Framing::UntilClose => Err(Stop::Open),
    }
}
