//! Heads: where one ends, what it says, and the judge of what may pass.
//!
//! httparse makes the first cut; it is lenient where RFC 9112 is not, so everything is judged again
//! here. `Refusal` and its table in `rules` are the whole law: each row has its status, its text and
//! the section it comes from. What is accepted has exactly one reading. Linear in the head's length.

use std::mem::MaybeUninit;
use std::sync::LazyLock;

use memchr::memmem::Finder;

use super::body::Framing;
pub use super::field::{FIELDS_MAX, Field, FieldLine, Fields};
use super::grammar::{TOKEN, decimal, is_host, is_target, is_token, is_word, list};
pub use super::rules::{RULES, Refusal, Rule};
use crate::mutant::{self, Mutant};

/// The longest head, in bytes, request or response.
pub const HEAD_MAX: usize = 16 << 10;
/// The longest request target, in bytes.
pub const TARGET_MAX: usize = 8 << 10;
/// The most options that the Connection fields of a head may list.
pub const OPTIONS_MAX: usize = 100;
/// The longest method, in bytes: no registered one has half as many.
pub const METHOD_MAX: usize = 64;
/// How often a request may have come through bestguess before.
const PASSES_MAX: usize = 8;
/// The longest that can stand behind the target: the version and the line's end.
const VERSION_MAX: usize = b"HTTP/1.1\r\n".len();

/// The version that a message states.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// HTTP/1.0.
    Http10,
    /// HTTP/1.1.
    Http11,
}

/// What of a method matters to a relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// HEAD: its response has no content.
    Head,
    /// Another idempotent one (RFC 9110 §9.2.2): it may be sent again.
    Idempotent,
    /// Any other: what may have reached a server is not sent again.
    Other,
}

/// A request head that may pass.
pub struct Request<'b> {
    /// Its method as it was written.
    pub method_name: &'b [u8],
    /// What of the method matters.
    pub method: Method,
    /// The target in origin-form, or `*`.
    pub target: &'b [u8],
    /// The authority of an absolute-form target: it wins over Host.
    pub authority: Option<&'b [u8]>,
    /// The version that the client speaks.
    pub version: Version,
    /// How its content ends.
    pub framing: Framing,
    /// Whether the client would like to send another request.
    pub keep_alive: bool,
    /// Whether the client waits for a 100 before it sends content.
    pub expects_continue: bool,
    /// Whether it asks for an upgrade of the connection.
    pub upgrade: bool,
    /// Whether the client takes trailers behind the content of the response (RFC 9110 §10.1.4).
    pub takes_trailers: bool,
    /// How many more hops it may go, of an OPTIONS or TRACE that says so (RFC 9110 §7.6.2).
    pub hops: Option<u64>,
    /// Its fields.
    pub fields: Fields<'b>,
}

/// A response head that may pass.
pub struct Response<'b> {
    /// Its status, 100 to 999; above 599 none is defined, and it counts as a server's error.
    pub status: u16,
    /// The reason phrase as it came, perhaps empty.
    pub reason: &'b [u8],
    /// The version that the server speaks.
    pub version: Version,
    /// How its content ends.
    pub framing: Framing,
    /// Whether the server would take another request.
    pub keep_alive: bool,
    /// Whether its Connection field names fields, in the head or the trailers, that end here.
    pub names_fields: bool,
    /// What the server says of its load, in the field's form (ORCA).
    pub metrics: Option<&'b [u8]>,
    /// Whether it says when to come again.
    pub retry_after: bool,
    /// Its fields.
    pub fields: Fields<'b>,
}

/// Room for httparse's cut: lent by the caller, so that nothing is allocated.
pub type Slots<'b> = [MaybeUninit<httparse::Header<'b>>; FIELDS_MAX];

/// Empty slots for one head.
pub fn slots<'b>() -> Slots<'b> {
    [const { MaybeUninit::uninit() }; FIELDS_MAX]
}

/// The end of the head that `bytes` begin with, behind its empty line, if it is there; the first
/// `seen` bytes were searched before, in vain.
pub fn find_end(bytes: &[u8], seen: usize) -> Option<usize> {
    static FINDER: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\r\n\r\n"));
    let from = seen.saturating_sub(3);
    FINDER
        .find(bytes.get(from..)?)
        .map(|found| from + found + 4)
}

/// Bytes of empty lines before a request line, which are skipped (RFC 9112 §2.2).
pub fn blank_lines(bytes: &[u8]) -> usize {
    bytes
        .chunks_exact(2)
        .take_while(|pair| pair == b"\r\n")
        .count()
        * 2
}

/// Judges a request head that is not whole yet, so that nobody waits for the rest of what can not
/// become right; the first `seen` bytes were judged before. What it refuses, `request` refuses for
/// the same reason, however the head was cut into pieces.
///
/// # Errors
/// The first that is wrong with it: of the request line, the line ends, the length.
pub fn begun(bytes: &[u8], seen: usize) -> Result<(), Refusal> {
    let head = bytes.get(..HEAD_MAX).unwrap_or(bytes);
    let (old, new) = head.split_at(seen.min(head.len()));
    let is_line_over = |old: &[u8]| memchr::memchr(b'\n', old).is_some();
    let mut ends =
        memchr::memchr_iter(b'\n', new).map(|end| head.get(..=old.len() + end).unwrap_or_default());
    match ends.next() {
        Some(lines) if is_line_over(old) => ends_in_crlf(lines)?,
        Some(line) => request_line(line)?,
        None if is_line_over(old) => {}
        None => request_line_begun(head)?,
    }
    ends.try_for_each(ends_in_crlf)?;
    if bytes.len() > HEAD_MAX {
        Err(Refusal::HeadTooLong)
    } else {
        Ok(())
    }
}

/// Judges a response head that is not whole yet, as `begun` does a request's.
///
/// # Errors
/// The first that is wrong with it: of its first bytes, the line ends, the length.
pub fn response_begun(bytes: &[u8], seen: usize) -> Result<(), Refusal> {
    const START: &[u8] = b"HTTP/1.";
    if bytes.iter().zip(START).any(|(byte, wanted)| byte != wanted) {
        return Err(Refusal::StatusLine);
    }
    let head = bytes.get(..HEAD_MAX).unwrap_or(bytes);
    let (old, new) = head.split_at(seen.min(head.len()));
    memchr::memchr_iter(b'\n', new)
        .map(|end| head.get(..=old.len() + end).unwrap_or_default())
        .try_for_each(ends_in_crlf)?;
    if bytes.len() > HEAD_MAX {
        Err(Refusal::HeadTooLong)
    } else {
        Ok(())
    }
}

fn ends_in_crlf(lines: &[u8]) -> Result<(), Refusal> {
    if lines.ends_with(b"\r\n") {
        Ok(())
    } else {
        Err(Refusal::LineEnd)
    }
}

/// Judges a whole request head: `head` ends behind its empty line.
///
/// # Errors
/// The row of the table that it breaks.
pub fn request<'b>(head: &'b [u8], slots: &'b mut Slots<'b>) -> Result<Request<'b>, Refusal> {
    // What `begun` would refuse of a part is refused for the same reason here.
    let refused = |refusal| begun(head, 0).err().unwrap_or(refusal);
    if head.len() > HEAD_MAX {
        return Err(refused(Refusal::HeadTooLong));
    }
    let mut parsed = httparse::Request::new(&mut []);
    match parsed.parse_with_uninit_headers(head, slots) {
        Ok(httparse::Status::Complete(length)) if length == head.len() => {}
        Ok(_) => return Err(refused(Refusal::LineEnd)),
        Err(error) => return Err(refused(cut_failed(error))),
    }
    let (Some(method), Some(target)) = (parsed.method, parsed.path) else {
        return Err(refused(Refusal::RequestLine));
    };
    let version = if parsed.version == Some(1) {
        Version::Http11
    } else {
        Version::Http10
    };
    // httparse skips blank lines and takes a bare LF for a line's end: neither has a place here.
    let line = method.len() + target.len() + b"  HTTP/1.1\r\n".len();
    if method.len() > METHOD_MAX || head.as_ptr() != method.as_ptr() {
        return Err(refused(Refusal::RequestLine));
    }
    let fields = judge_lines(parsed.headers, head, line).map_err(refused)?;
    let mut request = Request {
        method_name: method.as_bytes(),
        method: method_of(method.as_bytes()),
        target: target.as_bytes(),
        authority: None,
        version,
        framing: Framing::None,
        keep_alive: version == Version::Http11,
        expects_continue: false,
        upgrade: false,
        takes_trailers: false,
        hops: None,
        fields,
    };
    judge_target(&mut request)?;
    judge_request_fields(&mut request)?;
    Ok(request)
}

/// Judges a whole response head to a request of `method`: `head` ends behind its empty line.
///
/// # Errors
/// The row of the table that it breaks.
pub fn response<'b>(
    head: &'b [u8],
    method: Method,
    slots: &'b mut Slots<'b>,
) -> Result<Response<'b>, Refusal> {
    let refused = |refusal| response_begun(head, 0).err().unwrap_or(refusal);
    if head.len() > HEAD_MAX {
        return Err(refused(Refusal::HeadTooLong));
    }
    let mut parsed = httparse::Response::new(&mut []);
    let outcome = httparse::ParserConfig::default().parse_response_with_uninit_headers(
        &mut parsed,
        head,
        slots,
    );
    match outcome {
        Ok(httparse::Status::Complete(length)) if length == head.len() => {}
        Ok(_) => return Err(refused(Refusal::LineEnd)),
        Err(httparse::Error::Version | httparse::Error::Status) => {
            return Err(refused(Refusal::StatusLine));
        }
        Err(error) => return Err(refused(cut_failed(error))),
    }
    let status = parsed.code.unwrap_or(0);
    // httparse skips blank lines before it, and takes any three digits.
    if !(100..1000).contains(&status) || !head.starts_with(b"HTTP/1.") {
        return Err(refused(Refusal::StatusLine));
    }
    let version = if parsed.version == Some(1) {
        Version::Http11
    } else {
        Version::Http10
    };
    let line = first_line(head);
    let reason = line
        .get(13..line.len().saturating_sub(2))
        .unwrap_or_default();
    let fields = judge_lines(parsed.headers, head, line.len()).map_err(refused)?;
    let mut response = Response {
        status,
        reason,
        version,
        framing: Framing::None,
        keep_alive: version == Version::Http11,
        names_fields: false,
        metrics: None,
        retry_after: false,
        fields,
    };
    judge_response_fields(&mut response, method)?;
    Ok(response)
}

/// The first line of `head`, with its line end.
fn first_line(head: &[u8]) -> &[u8] {
    match memchr::memchr(b'\n', head) {
        Some(end) => head.get(..=end).unwrap_or_default(),
        None => head,
    }
}

/// What a failed cut of httparse means.
fn cut_failed(error: httparse::Error) -> Refusal {
    match error {
        httparse::Error::HeaderName => Refusal::FieldName,
        httparse::Error::HeaderValue => Refusal::FieldValue,
        httparse::Error::NewLine => Refusal::LineEnd,
        httparse::Error::TooManyHeaders => Refusal::TooManyFields,
        httparse::Error::Version => Refusal::Version,
        httparse::Error::Token | httparse::Error::Status => Refusal::RequestLine,
    }
}

/// Judges what has come of a request line: what is refused here stays refused whatever follows.
/// One search for the target's end.
fn request_line_begun(line: &[u8]) -> Result<(), Refusal> {
    // Perhaps the start of an empty line.
    if line == b"\r" {
        return Ok(());
    }
    let start = line.get(..METHOD_MAX + 1).unwrap_or(line);
    let method = start.split(|byte| *byte == b' ').next().unwrap_or_default();
    if !TOKEN.has_all(method) || method.len() > METHOD_MAX || line.starts_with(b" ") {
        return Err(Refusal::RequestLine);
    }
    let rest = line.get(method.len() + 1..).unwrap_or_default();
    if rest.len() <= VERSION_MAX {
        return Ok(());
    }
    match memchr::memchr(b' ', rest) {
        Some(target) if target > TARGET_MAX => Err(Refusal::TargetTooLong),
        Some(target) if rest.len() - target - 1 > VERSION_MAX => Err(Refusal::RequestLine),
        None if rest.len() > TARGET_MAX => Err(Refusal::TargetTooLong),
        _ => Ok(()),
    }
}

/// Judges a request line on its own, CR LF included: the first thing that can be wrong.
fn request_line(line: &[u8]) -> Result<(), Refusal> {
    request_line_begun(line)?;
    let line = line.strip_suffix(b"\r\n").ok_or(Refusal::LineEnd)?;
    let mut words = line.splitn(3, |byte| *byte == b' ');
    let (Some(method), Some(target), Some(version)) = (words.next(), words.next(), words.next())
    else {
        return Err(Refusal::RequestLine);
    };
    debug_assert!(is_token(method));
    match version {
        b"HTTP/1.1" | b"HTTP/1.0" => {}
        [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
            if major.is_ascii_digit() && minor.is_ascii_digit() =>
        {
            return Err(Refusal::Version);
        }
        _ => return Err(Refusal::RequestLine),
    }
    if target.is_empty() || !is_target(target) {
        return Err(Refusal::Target);
    }
    Ok(())
}

/// Judges the field lines: each begins where the one before ended in CR LF, and its name is a token.
fn judge_lines<'b>(
    headers: &'b [httparse::Header<'b>],
    head: &'b [u8],
    first_line: usize,
) -> Result<Fields<'b>, Refusal> {
    let mut fields = Fields {
        headers,
        kinds: [Field::Other; FIELDS_MAX],
        source: head,
    };
    let mut line_start = first_line;
    if !head
        .get(..first_line)
        .is_some_and(|line| line.ends_with(b"\r\n"))
    {
        return Err(Refusal::LineEnd);
    }
    for (header, kind) in headers.iter().zip(&mut fields.kinds) {
        let name = header.name.as_bytes();
        let start = (name.as_ptr() as usize).wrapping_sub(head.as_ptr() as usize);
        if start != line_start || name.is_empty() {
            return Err(Refusal::FieldName);
        }
        *kind = Field::of(name);
        // Behind the value may come blanks, then nothing but CR LF. An empty value points to where
        // httparse stopped, so the search starts behind the colon.
        let value = if header.value.is_empty() {
            start + name.len() + 1
        } else {
            (header.value.as_ptr() as usize).wrapping_sub(head.as_ptr() as usize)
                + header.value.len()
        };
        let mut behind = head.get(value..).unwrap_or_default();
        while let [b' ' | b'\t', rest @ ..] = behind {
            behind = rest;
        }
        match behind {
            [b'\r', b'\n', rest @ ..] => line_start = head.len() - rest.len(),
            _ => return Err(Refusal::LineEnd),
        }
    }
    // The empty line, and nothing behind it.
    if head.get(line_start..) != Some(b"\r\n") {
        return Err(Refusal::LineEnd);
    }
    Ok(fields)
}

fn method_of(name: &[u8]) -> Method {
    match name {
        b"HEAD" => Method::Head,
        b"GET" | b"OPTIONS" | b"TRACE" | b"PUT" | b"DELETE" => Method::Idempotent,
        _ => Method::Other,
    }
}

/// Judges the target's form (RFC 9112 §3.2) and takes an absolute one apart.
fn judge_target(request: &mut Request<'_>) -> Result<(), Refusal> {
    let target = request.target;
    if target.len() > TARGET_MAX {
        return Err(Refusal::TargetTooLong);
    }
    if !is_target(target) {
        return Err(Refusal::Target);
    }
    // Only here: what `begun` sees of a line comes first.
    if request.method_name == b"CONNECT" {
        return Err(Refusal::Connect);
    }
    if target.starts_with(b"/") || (target == b"*" && request.method_name == b"OPTIONS") {
        return Ok(());
    }
    let scheme_end = memchr::memmem::find(target, b"://").ok_or(Refusal::Target)?;
    let (scheme, rest) = target.split_at(scheme_end);
    if !scheme.eq_ignore_ascii_case(b"http") && !scheme.eq_ignore_ascii_case(b"https") {
        return Err(Refusal::Target);
    }
    let rest = rest.get(3..).unwrap_or_default();
    let path = rest
        .iter()
        .position(|byte| matches!(byte, b'/' | b'?'))
        .unwrap_or(rest.len());
    let (authority, path) = rest.split_at(path);
    if authority.is_empty() || !is_host(authority) {
        return Err(Refusal::Target);
    }
    request.authority = Some(authority);
    // `rewrite` puts the slash before a path that is empty or only a query.
    request.target = path;
    Ok(())
}

/// What the framing fields of a head said, before it is decided what they mean together.
#[derive(Default)]
struct Framings {
    length: Option<u64>,
    chunked: bool,
}

impl Framings {
    /// Takes one Content-Length in.
    fn length(&mut self, value: &[u8]) -> Result<(), Refusal> {
        let length = decimal(value).ok_or(Refusal::ContentLength)?;
        if self.length.replace(length).is_some() {
            return Err(Refusal::TwoLengths);
        }
        Ok(())
    }

    /// Takes one Transfer-Encoding in.
    fn encoding(&mut self, value: &[u8]) -> Result<(), Refusal> {
        if self.chunked {
            return Err(Refusal::TwoEncodings);
        }
        if value.eq_ignore_ascii_case(b"chunked") {
            self.chunked = true;
            return Ok(());
        }
        let known = |coding: &[u8]| {
            coding.eq_ignore_ascii_case(b"chunked") || coding.eq_ignore_ascii_case(b"identity")
        };
        let is_unknown = list(value).any(|coding| is_token(coding) && !known(coding));
        Err(if is_unknown {
            Refusal::EncodingUnknown
        } else {
            Refusal::Encoding
        })
    }

    /// What they mean together; none: no field frames the content.
    fn agree(&self, version: Version) -> Result<Option<Framing>, Refusal> {
        match (self.chunked, self.length) {
            (true, Some(_)) => Err(Refusal::LengthAndEncoding),
            (true, None) if version == Version::Http10 => Err(Refusal::EncodingIn10),
            (true, None) => Ok(Some(Framing::Chunked)),
            (false, Some(0)) => Ok(Some(Framing::None)),
            (false, Some(length)) => Ok(Some(Framing::Length(length))),
            (false, None) => Ok(None),
        }
    }
}

/// What the Connection fields of a head said.
#[derive(Default)]
struct Options {
    close: bool,
    keep_alive: bool,
    upgrade: bool,
    /// Whether any was none of those: the name of a field.
    names_fields: bool,
    count: usize,
}

impl Options {
    fn take(&mut self, value: &[u8]) -> Result<(), Refusal> {
        for option in list(value) {
            // Each may have to be compared with every field.
            self.count += 1;
            if self.count > OPTIONS_MAX {
                return Err(Refusal::TooManyFields);
            }
            match option.len() {
                5 if is_word(option, b"close") => self.close = true,
                10 if is_word(option, b"keep-alive") => self.keep_alive = true,
                7 if is_word(option, b"upgrade") => self.upgrade = true,
                _ => self.names_fields = true,
            }
        }
        Ok(())
    }

    /// Marks the `fields` that were named, unless they are among those that nobody may remove.
    fn mark_named(&self, fields: &mut Fields<'_>) {
        if !self.names_fields {
            return;
        }
        let connections = fields
            .headers
            .iter()
            .filter(|header| Field::of(header.name.as_bytes()) == Field::Connection);
        for option in connections.flat_map(|header| list(header.value)) {
            for (header, kind) in fields.headers.iter().zip(&mut fields.kinds) {
                let is_of_use = matches!(kind, Field::Other | Field::RetryAfter);
                if is_of_use && header.name.as_bytes().eq_ignore_ascii_case(option) {
                    *kind = Field::Named;
                }
            }
        }
    }

    /// Whether the connection goes on behind this message (RFC 9112 §9.3).
    fn persists(&self, version: Version) -> bool {
        !self.close && (version == Version::Http11 || self.keep_alive)
    }
}

fn judge_request_fields(request: &mut Request<'_>) -> Result<(), Refusal> {
    let mut framings = Framings::default();
    let mut options = Options::default();
    let mut has_host = false;
    let mut has_upgrade = false;
    let mut is_barred = false;
    let mut passes = 0;
    for line in request.fields.iter() {
        match line.kind {
            Field::ContentLength => framings.length(line.value)?,
            Field::TransferEncoding => framings.encoding(line.value)?,
            Field::Connection => options.take(line.value)?,
            Field::Host if has_host => return Err(Refusal::TwoHosts),
            Field::Host if !is_host(line.value) => return Err(Refusal::Host),
            Field::Host => has_host = true,
            Field::Upgrade => {
                has_upgrade |= !line.value.is_empty();
                is_barred |= list(line.value).any(|protocol| !is_relayed(protocol));
            }
            Field::Expect if line.value.eq_ignore_ascii_case(b"100-continue") => {
                request.expects_continue = request.version == Version::Http11;
            }
            // An empty list of expectations is none.
            Field::Expect if line.value.is_empty() => {}
            Field::Expect => return Err(Refusal::Expectation),
            Field::Via => {
                passes += list(line.value)
                    .filter(|hop| hop.ends_with(b" bestguess"))
                    .count();
                if passes >= PASSES_MAX {
                    return Err(Refusal::Loop);
                }
            }
            Field::Te => {
                request.takes_trailers |=
                    list(line.value).any(|coding| is_word(coding, b"trailers"))
            }
            Field::MaxForwards if matches!(request.method_name, b"OPTIONS" | b"TRACE") => {
                request.hops = Some(hops(request.method_name, line.value)?);
            }
            _ => {}
        }
    }
    if !has_host && request.version == Version::Http11 {
        return Err(Refusal::NoHost);
    }
    // TE belongs to HTTP/1.1, as chunked content does.
    request.takes_trailers &= request.version == Version::Http11;
    request.framing = framings.agree(request.version)?.unwrap_or(Framing::None);
    // Without content there is nothing to wait for (RFC 9110 §10.1.1).
    request.expects_continue &= request.framing != Framing::None;
    request.keep_alive = options.persists(request.version);
    options.mark_named(&mut request.fields);
    // An upgrade of a request with content would leave open where the new protocol begins, and
    // behind one to h2c further requests would pass that nobody judges (RFC 9113 §3.1 has no such
    // upgrade any more).
    request.upgrade = options.upgrade
        && has_upgrade
        && !is_barred
        && request.version == Version::Http11
        && request.framing == Framing::None;
    Ok(())
}

/// Whether an upgrade to `protocol` may be asked for: `name` or `name/version` (RFC 9110 §7.8), and
/// not HTTP/2.
fn is_relayed(protocol: &[u8]) -> bool {
    let mut parts = protocol.splitn(2, |byte| *byte == b'/');
    let name = parts.next().unwrap_or_default();
    is_token(name) && parts.next().is_none_or(is_token) && !name.eq_ignore_ascii_case(b"h2c")
}

/// How many more hops an OPTIONS or TRACE may go (RFC 9110 §7.6.2), at least one.
fn hops(method: &[u8], value: &[u8]) -> Result<u64, Refusal> {
    match decimal(value) {
        None => Err(Refusal::MaxForwards),
        Some(0) if method == b"TRACE" => Err(Refusal::Trace),
        Some(0) => Err(Refusal::LastHop),
        Some(hops) => Ok(hops),
    }
}

fn judge_response_fields(response: &mut Response<'_>, method: Method) -> Result<(), Refusal> {
    let mut framings = Framings::default();
    let mut options = Options::default();
    for line in response.fields.iter() {
        match line.kind {
            Field::LoadMetrics => response.metrics = Some(line.value),
            Field::RetryAfter => response.retry_after = true,
            Field::ContentLength => framings.length(line.value)?,
            Field::TransferEncoding => framings.encoding(line.value)?,
            Field::Connection => options.take(line.value)?,
            _ => {}
        }
    }
    response.keep_alive = options.persists(response.version);
    response.names_fields = options.names_fields;
    options.mark_named(&mut response.fields);
    let framed = framings.agree(response.version)?;
    // RFC 9112 §6.3: these have no content, whatever their fields say.
    // A server that announces content all the same may send it: behind that nothing is certain.
    if matches!(response.status, 100..=199 | 204) && !matches!(framed, None | Some(Framing::None)) {
        response.keep_alive = false;
    }
    response.framing = match response.status {
        100..=199 | 204 | 304 => Framing::None,
        _ if method == Method::Head && !mutant::is(Mutant::HeadGivenContent) => Framing::None,
        _ => framed.unwrap_or(Framing::UntilClose),
    };
    Ok(())
}

#[cfg(test)]
mod tests;
