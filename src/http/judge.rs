//! The judge of what a head says: its target, its fields, and what they mean together.
//!
//! Where a head ends is `head`'s, whether its lines are lines `field`'s. Every refusal names its
//! row of the table in `rules`.

use super::body::Framing;
use super::field::{Field, FieldLine, Fields};
use super::grammar::{decimal, is_host, is_target, is_token, is_word, list};
use super::message::{Method, OPTIONS_MAX, Request, Response, TARGET_MAX, Version};
use super::rules::Refusal;
use crate::mutant::{self, Mutant};

/// How often a request may have come through bestguess before.
const PASSES_MAX: usize = 8;

/// Judges the form of the `target` of a request of `method` (RFC 9112 §3.2). Gives it in origin-form
/// (or `*`), and the authority of an absolute one.
pub(super) fn target<'b>(
    method: &[u8],
    target: &'b [u8],
) -> Result<(&'b [u8], Option<&'b [u8]>), Refusal> {
    if target.len() > TARGET_MAX {
        return Err(Refusal::TargetTooLong);
    }
    if !is_target(target) {
        return Err(Refusal::Target);
    }
    // Only here: what `begun` sees of a line comes first.
    if method == b"CONNECT" {
        return Err(Refusal::Connect);
    }
    if target.starts_with(b"/") || (target == b"*" && method == b"OPTIONS") {
        return Ok((target, None));
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
    // `rewrite` puts the slash before a path that is empty or only a query.
    Ok((path, Some(authority)))
}

/// What the framing fields of a head said, before it is decided what they mean together.
#[derive(Debug, Clone, PartialEq, Default)]
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
#[derive(Debug, Clone, PartialEq, Default)]
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
        let source = fields.source();
        for index in 0..fields.lines.len() {
            // By its name: one that another Connection names is marked by now.
            let line = fields.lines.get(index).map(|line| line.of(source));
            let Some(connection) = line.filter(|line| Field::of(line.name) == Field::Connection)
            else {
                continue;
            };
            for option in list(connection.value) {
                for line in fields.lines.iter_mut() {
                    if may_go(line.kind) && line.of(source).name.eq_ignore_ascii_case(option) {
                        line.kind = Field::Named;
                    }
                }
            }
        }
    }

    /// Whether the connection goes on behind this message (RFC 9112 §9.3).
    fn persists(&self, version: Version) -> bool {
        !self.close && (version == Version::Http11 || self.keep_alive)
    }
}

/// What the fields of a request said so far: `take` judges them one by one, `agree` together.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Asked {
    framings: Framings,
    options: Options,
    has_host: bool,
    has_upgrade: bool,
    is_barred: bool,
    expects_continue: bool,
    takes_trailers: bool,
    passes: usize,
    hops: Option<u64>,
}

impl Asked {
    /// Takes the next field of a request of `method` in.
    #[inline]
    pub(super) fn take(&mut self, method: &[u8], line: FieldLine<'_>) -> Result<(), Refusal> {
        match line.kind {
            Field::Other => {}
            Field::ContentLength => self.framings.length(line.value)?,
            Field::TransferEncoding => self.framings.encoding(line.value)?,
            Field::Connection => self.options.take(line.value)?,
            Field::Host if self.has_host => return Err(Refusal::TwoHosts),
            Field::Host if !is_host(line.value) => return Err(Refusal::Host),
            Field::Host => self.has_host = true,
            Field::Upgrade => {
                self.has_upgrade |= !line.value.is_empty();
                self.is_barred |= list(line.value).any(|protocol| !is_relayed(protocol));
            }
            Field::Expect if line.value.eq_ignore_ascii_case(b"100-continue") => {
                self.expects_continue = true;
            }
            // An empty list of expectations is none.
            Field::Expect if line.value.is_empty() => {}
            Field::Expect => return Err(Refusal::Expectation),
            Field::Via => {
                self.passes += list(line.value)
                    .filter(|hop| hop.ends_with(b" bestguess"))
                    .count();
                if self.passes >= PASSES_MAX {
                    return Err(Refusal::Loop);
                }
            }
            Field::Te => {
                self.takes_trailers |= list(line.value).any(|coding| is_word(coding, b"trailers"));
            }
            Field::MaxForwards if matches!(method, b"OPTIONS" | b"TRACE") => {
                self.hops = Some(hops(method, line.value)?);
            }
            _ => {}
        }
        Ok(())
    }

    /// What all fields mean together, for `request` whose line is judged and whose fields these were.
    pub(super) fn agree(self, request: &mut Request<'_>) -> Result<(), Refusal> {
        let is_11 = request.version == Version::Http11;
        if !self.has_host && is_11 {
            return Err(Refusal::NoHost);
        }
        // TE belongs to HTTP/1.1, as chunked content does.
        request.takes_trailers = self.takes_trailers && is_11;
        request.framing = self
            .framings
            .agree(request.version)?
            .unwrap_or(Framing::None);
        // Without content there is nothing to wait for (RFC 9110 §10.1.1).
        request.expects_continue =
            self.expects_continue && is_11 && request.framing != Framing::None;
        if request.framing != Framing::None && request.method_name == b"TRACE" {
            return Err(Refusal::TraceContent);
        }
        request.hops = self.hops;
        request.keep_alive = self.options.persists(request.version);
        // What is only known from responses means nothing in a request.
        self.options.mark_named(&mut request.fields, |kind| {
            matches!(
                kind,
                Field::Other
                    | Field::XRequestId
                    | Field::FeignedId
                    | Field::RetryAfter
                    | Field::LoadMetrics
                    | Field::LoadMetricsBinary
            )
        });
        // An upgrade of a request with content would leave open where the new protocol begins, and
        // behind one to h2c further requests would pass that nobody judges (RFC 9113 §3.1 has no such
        // upgrade any more).
        request.upgrade = self.options.upgrade
            && self.has_upgrade
            && !self.is_barred
            && is_11
            && request.framing == Framing::None;
        Ok(())
    }
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

/// What the fields of a response said so far, as `Asked` for a request.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Answered<'b> {
    framings: Framings,
    options: Options,
    metrics: Option<&'b [u8]>,
    retry_after: bool,
    idle_seconds: Option<u64>,
}

impl<'b> Answered<'b> {
    /// Takes the next field in.
    #[inline]
    pub(super) fn take(&mut self, line: FieldLine<'b>) -> Result<(), Refusal> {
        match line.kind {
            Field::Other => {}
            Field::LoadMetrics => self.metrics = Some(line.value),
            Field::RetryAfter => self.retry_after = true,
            Field::KeepAlive => self.idle_seconds = idle_seconds(line.value),
            Field::ContentLength => self.framings.length(line.value)?,
            Field::TransferEncoding => self.framings.encoding(line.value)?,
            Field::Connection => self.options.take(line.value)?,
            _ => {}
        }
        Ok(())
    }

    /// What all fields mean together, for `response` to a request of `method`.
    pub(super) fn agree(self, response: &mut Response<'b>, method: Method) -> Result<(), Refusal> {
        response.metrics = self.metrics;
        response.retry_after = self.retry_after;
        response.idle_seconds = self.idle_seconds;
        response.keep_alive = self.options.persists(response.version);
        response.names_fields = self.options.names_fields;
        // What is written anew in requests means nothing in a response.
        self.options.mark_named(&mut response.fields, |kind| {
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
        let framed = self.framings.agree(response.version)?;
        // RFC 9112 §6.3: these have no content, whatever their fields say.
        // A server that announces content all the same may send it: behind that nothing is certain.
        let has_none = matches!(response.status, 100..=199 | 204);
        if has_none && !matches!(framed, None | Some(Framing::None)) {
            response.keep_alive = false;
        }
        response.framing = match response.status {
            100..=199 | 204 | 304 => Framing::None,
            _ if method == Method::Head && !mutant::is(Mutant::HeadGivenContent) => Framing::None,
            _ => framed.unwrap_or(Framing::UntilClose),
        };
        Ok(())
    }
}
