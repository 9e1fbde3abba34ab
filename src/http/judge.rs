//! The judge of what a head says: its target, its fields, and what they mean together.
//!
//! Where a head ends is `head`'s, whether its lines are lines `field`'s. Every refusal names its
//! row of the table in `rules`.

use super::body::Framing;
use super::field::{Field, Fields};
use super::grammar::{decimal, is_host, is_target, is_token, is_word, list};
use super::message::{Method, OPTIONS_MAX, Request, Response, TARGET_MAX, Version};
use super::rules::Refusal;
use crate::mutant::{self, Mutant};

/// How often a request may have come through bestguess before.
const PASSES_MAX: usize = 8;

/// Judges the target's form (RFC 9112 §3.2) and takes an absolute one apart.
pub(super) fn target(request: &mut Request<'_>) -> Result<(), Refusal> {
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

    /// Marks the `fields` that were named, of those that `may_go`: some nobody may remove.
    fn mark_named(&self, fields: &mut Fields<'_>, may_go: impl Fn(Field) -> bool) {
        if !self.names_fields {
            return;
        }
        let connections = fields
            .headers
            .iter()
            .filter(|header| Field::of(header.name.as_bytes()) == Field::Connection);
        for option in connections.flat_map(|header| list(header.value)) {
            for (header, mark) in fields.headers.iter().zip(fields.marks.iter_mut()) {
                if may_go(mark.kind) && header.name.as_bytes().eq_ignore_ascii_case(option) {
                    mark.kind = Field::Named;
                }
            }
        }
    }

    /// Whether the connection goes on behind this message (RFC 9112 §9.3).
    fn persists(&self, version: Version) -> bool {
        !self.close && (version == Version::Http11 || self.keep_alive)
    }
}

/// Judges the fields of a request one by one and together, and takes from them what it asks for.
pub(super) fn request_fields(request: &mut Request<'_>) -> Result<(), Refusal> {
    let mut framings = Framings::default();
    let mut options = Options::default();
    let mut has_host = false;
    let mut has_upgrade = false;
    let mut is_barred = false;
    let mut passes = 0;
    request.fields.judge(|line| {
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
        Ok(())
    })?;
    if !has_host && request.version == Version::Http11 {
        return Err(Refusal::NoHost);
    }
    // TE belongs to HTTP/1.1, as chunked content does.
    request.takes_trailers &= request.version == Version::Http11;
    request.framing = framings.agree(request.version)?.unwrap_or(Framing::None);
    // Without content there is nothing to wait for (RFC 9110 §10.1.1).
    request.expects_continue &= request.framing != Framing::None;
    if request.framing != Framing::None && request.method_name == b"TRACE" {
        return Err(Refusal::TraceContent);
    }
    request.keep_alive = options.persists(request.version);
    // What is only known from responses means nothing in a request.
    options.mark_named(&mut request.fields, |kind| {
        matches!(
            kind,
            Field::Other | Field::RetryAfter | Field::LoadMetrics | Field::LoadMetricsBinary
        )
    });
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

/// What `Keep-Alive: timeout=5, max=100` says of the time (RFC 2068 §19.7.1.1, in use ever since).
fn idle_seconds(value: &[u8]) -> Option<u64> {
    list(value).find_map(|parameter| {
        let (name, seconds) = parameter.split_at_checked(b"timeout=".len())?;
        name.eq_ignore_ascii_case(b"timeout=")
            .then(|| decimal(seconds))?
    })
}

/// Judges the fields of a response to a request of `method`, and takes from them what it means.
pub(super) fn response_fields(response: &mut Response<'_>, method: Method) -> Result<(), Refusal> {
    let mut framings = Framings::default();
    let mut options = Options::default();
    response.fields.judge(|line| {
        match line.kind {
            Field::LoadMetrics => response.metrics = Some(line.value),
            Field::RetryAfter => response.retry_after = true,
            Field::KeepAlive => response.idle_seconds = idle_seconds(line.value),
            Field::ContentLength => framings.length(line.value)?,
            Field::TransferEncoding => framings.encoding(line.value)?,
            Field::Connection => options.take(line.value)?,
            _ => {}
        }
        Ok(())
    })?;
    response.keep_alive = options.persists(response.version);
    response.names_fields = options.names_fields;
    // What is written anew in requests means nothing in a response.
    options.mark_named(&mut response.fields, |kind| {
        !matches!(
            kind,
            Field::Kept
                | Field::Date
                | Field::Via
                | Field::Upgrade
                | Field::ContentLength
                | Field::TransferEncoding
        )
    });
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
