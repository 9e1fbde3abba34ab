//! Heads as they go on: written anew from what was understood, never copied from what was not.
//!
//! Fields keep their order and their bytes; what belongs to one connection only stays behind, and
//! what a server or client has to know of the other side is added (RFC 9110 §7.6). One pass over the
//! fields; what stays as it is goes over in one copy, from one line that does not to the next.

use std::net::IpAddr;

use super::body::{Framing, Reframing};
use super::cookie;
use super::grammar::{is_word, list};
use super::head::{Field, FieldLine, Fields, Request, Response, Version};

/// What a request gets beside its own fields.
#[derive(Debug, Clone, Copy)]
pub struct Forwarding<'c> {
    /// The client's address; none on a unix socket.
    pub peer: Option<IpAddr>,
    /// The Host of a request that came without one (HTTP/1.0).
    pub host_default: &'c str,
    /// Whether forwarding fields that came from the client are kept and appended to.
    pub trust: bool,
    /// Whether `Forwarded` (RFC 7239) is sent too.
    pub forwarded: bool,
    /// The `X-Request-Id` that it gets in place of any other; none: what came of such goes on.
    pub id: Option<&'c [u8]>,
    /// The name of the cookie that is ours, and so stays here.
    pub cookie: Option<&'c [u8]>,
}

/// How a response goes to a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answering<'d> {
    /// The `Date` that a final response gets if it came without one (RFC 9110 §6.6.1).
    pub date: Option<&'d str>,
    /// The version that the client speaks.
    pub version: Version,
    /// Whether the connection ends behind the response.
    pub close: bool,
    /// What is changed of its framing.
    pub reframing: Reframing,
    /// Whether this is the 101 of an upgrade.
    pub switch: bool,
    /// Whether the trailers of its content go on.
    pub trailers: bool,
    /// The `X-Request-Id` that a final response gets in place of any other; none: what the server
    /// sent of such goes on.
    pub id: Option<&'d [u8]>,
    /// The `Set-Cookie` that it gets beside those of the server.
    pub cookie: Option<&'d [u8]>,
}

/// Whether this is a Cookie field that holds the cookie `name`.
pub fn has_cookie(field: &FieldLine<'_>, name: &[u8]) -> bool {
    field.name.eq_ignore_ascii_case(b"cookie") && cookie::find(field.value, name).is_some()
}

/// Appends `request` as it goes to a server to `out`, which must have room for it (it grows if not).
pub fn request(out: &mut Vec<u8>, request: &Request<'_>, forwarding: &Forwarding<'_>) {
    let mut has_told = false;
    let mut expects = request.expects_continue;
    let mut copy = Copy::of(&request.fields);
    if request.version == Version::Http10 || request.authority.is_some() {
        request_line(out, request);
        copy.leave_first_line();
    }
    let mut has_host = request.authority.is_some();
    let mut host = request.authority;
    for field in request.fields.iter() {
        let stays = match field.kind {
            Field::Kept
                if forwarding
                    .cookie
                    .is_some_and(|name| has_cookie(&field, name)) =>
            {
                copy.leave(out, &field);
                cookie::write_without(out, field.value, forwarding.cookie.unwrap_or_default());
                continue;
            }
            Field::Other
            | Field::Kept
            | Field::Date
            | Field::Via
            | Field::RetryAfter
            | Field::LoadMetrics
            | Field::LoadMetricsBinary => true,
            Field::ContentLength | Field::TransferEncoding => {
                copy.frame(out, &field);
                continue;
            }
            Field::Host => {
                has_host = true;
                host = host.or(Some(field.value));
                // A Host that disagrees with the target loses; an empty one says nothing.
                request.authority.is_none()
            }
            Field::Te
            | Field::Connection
            | Field::KeepAlive
            | Field::ProxyConnection
            | Field::HttpSettings => false,
            Field::Named | Field::Lookalike | Field::Proxy | Field::Trailer => false,
            Field::Upgrade => request.upgrade,
            // Written anew for the next hop, one less.
            Field::MaxForwards => request.hops.is_none(),
            Field::XRequestId | Field::FeignedId => forwarding.id.is_none(),
            Field::Expect => !field.value.is_empty() && std::mem::take(&mut expects),
            Field::Forwarded
            | Field::XForwardedFor
            | Field::XForwardedHost
            | Field::XForwardedProto => {
                has_told = true;
                false
            }
        };
        if !stays {
            copy.leave(out, &field);
        } else if !field.is_plain {
            copy.replace(out, &field, field.name, field.value);
        }
    }
    copy.end(out);
    if !has_host {
        line(out, b"Host", forwarding.host_default.as_bytes());
    }
    for_next_hop(out, request);
    if let Some(id) = forwarding.id {
        line(out, b"X-Request-Id", id);
    }
    let host = host.filter(|host| !host.is_empty());
    if has_told && forwarding.trust {
        go_on_telling(out, forwarding.peer, host, &request.fields);
    } else {
        tell(out, forwarding.peer, host);
    }
    if forwarding.forwarded {
        // The host that this request named, which was judged, not what others say of it.
        forwarded(out, forwarding.peer, host);
    }
    out.extend_from_slice(b"\r\n");
}

/// Appends `response` as it goes to a client to `out`, which must have room for it (it grows if not).
pub fn response(out: &mut Vec<u8>, response: &Response<'_>, answering: Answering<'_>) {
    let mut copy = Copy::of(&response.fields);
    // A status line may lack the blank before a reason that is not there.
    let has_reason = response.fields.source().get(b"HTTP/1.1 200".len()) == Some(&b' ');
    if response.version == Version::Http10 || !has_reason {
        status_line(out, response);
        copy.leave_first_line();
    }
    // RFC 9112 §6.1 and RFC 9110 §8.6: no framing where there can be no content.
    let has_framing = !matches!(response.status, 100..=199 | 204);
    // RFC 9110 §15.5.22: a 426 says what to.
    let upgrades = answering.switch || response.status == 426;
    let mut has_upgrade = false;
    let mut has_date = response.status < 200;
    for field in response.fields.iter() {
        let stays = match field.kind {
            Field::Date => {
                has_date = true;
                true
            }
            Field::Connection | Field::KeepAlive | Field::ProxyConnection | Field::Te => false,
            Field::Named | Field::LoadMetrics | Field::LoadMetricsBinary => false,
            Field::XRequestId => answering.id.is_none(),
            Field::Trailer => answering.trailers && response.status >= 200,
            Field::Upgrade => {
                has_upgrade |= upgrades;
                upgrades
            }
            Field::ContentLength if has_framing => {
                copy.frame(out, &field);
                continue;
            }
            Field::TransferEncoding
                if response.framing == Framing::Chunked
                    && answering.reframing == Reframing::None =>
            {
                copy.frame(out, &field);
                continue;
            }
            Field::ContentLength | Field::TransferEncoding => false,
            _ => true,
        };
        if !stays {
            copy.leave(out, &field);
        } else if !field.is_plain {
            copy.replace(out, &field, field.name, field.value);
        }
    }
    copy.end(out);
    if let (false, Some(date)) = (has_date, answering.date) {
        line(out, b"Date", date.as_bytes());
    }
    if let Some(id) = answering.id
        && (response.status >= 200 || answering.switch)
    {
        line(out, b"X-Request-Id", id);
    }
    if let Some(cookie) = answering.cookie
        && (response.status >= 200 || answering.switch)
    {
        line(out, b"Set-Cookie", cookie);
        // It is for this client alone: no cache may give it to others.
        if !bars_shared_caches(&response.fields) {
            line(out, b"Cache-Control", b"private");
        }
    }
    if answering.reframing == Reframing::Chunk {
        out.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
    }
    if has_upgrade {
        out.extend_from_slice(b"Connection: Upgrade\r\n");
    }
    if response.status >= 200 {
        match (answering.close, answering.version) {
            (true, _) => out.extend_from_slice(b"Connection: close\r\n"),
            (false, Version::Http10) => out.extend_from_slice(b"Connection: keep-alive\r\n"),
            (false, Version::Http11) => {}
        }
    }
    out.extend_from_slice(b"\r\n");
}

/// Whether these fields say that no shared cache may store the response (RFC 9111 §5.2.2). What is
/// less, or in quotes, is not enough; of directives that conflict the most restrictive counts (§4.2.1),
/// so that another one may be added to any.
fn bars_shared_caches(fields: &Fields<'_>) -> bool {
    let is_bar =
        |directive: &[u8]| is_word(directive, b"private") || is_word(directive, b"no-store");
    fields
        .iter()
        .filter(|field| is_word(field.name, b"cache-control"))
        .any(|field| !field.value.contains(&b'"') && list(field.value).any(is_bar))
}

/// Appends the first line of `request` as a server gets it: in origin-form, and in HTTP/1.1; and the
/// Host that an absolute-form target brought along.
fn request_line(out: &mut Vec<u8>, request: &Request<'_>) {
    out.extend_from_slice(request.method_name);
    out.extend_from_slice(b" ");
    if !matches!(request.target.first(), Some(b'/' | b'*')) {
        let is_bare_options = request.target.is_empty() && request.method_name == b"OPTIONS";
        out.extend_from_slice(if is_bare_options { b"*" } else { b"/" });
    }
    out.extend_from_slice(request.target);
    out.extend_from_slice(b" HTTP/1.1\r\n");
    if let Some(authority) = request.authority {
        line(out, b"Host", authority);
    }
}

/// Appends what is written anew for each hop: how many more there may be, the options of the
/// connection to the server, and whom the request came through.
fn for_next_hop(out: &mut Vec<u8>, request: &Request<'_>) {
    if let Some(hops) = request.hops {
        let mut number = itoa::Buffer::new();
        line(out, b"Max-Forwards", number.format(hops - 1).as_bytes());
    }
    out.extend_from_slice(match (request.upgrade, request.takes_trailers) {
        (true, _) => b"Connection: Upgrade\r\n",
        (false, true) => b"TE: trailers\r\nConnection: TE\r\n".as_slice(),
        (false, false) => b"",
    });
    out.extend_from_slice(match request.version {
        Version::Http11 => b"Via: 1.1 bestguess\r\n",
        Version::Http10 => b"Via: 1.0 bestguess\r\n",
    });
}

/// Appends the status line of `response` as a client gets it: in HTTP/1.1, and with the blank before
/// its reason even if there is none.
fn status_line(out: &mut Vec<u8>, response: &Response<'_>) {
    let mut number = itoa::Buffer::new();
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(number.format(response.status).as_bytes());
    out.extend_from_slice(b" ");
    out.extend_from_slice(response.reason);
    out.extend_from_slice(b"\r\n");
}

/// Copies a head as it stands, but for lines that are left out or written anew.
struct Copy<'h, 'b> {
    fields: &'h Fields<'b>,
    /// Where in the head that begins which was neither copied nor left out.
    from: usize,
}

impl<'h, 'b> Copy<'h, 'b> {
    fn of(fields: &'h Fields<'b>) -> Copy<'h, 'b> {
        Copy { fields, from: 0 }
    }

    /// Leaves out the first line: as the first thing that is done.
    fn leave_first_line(&mut self) {
        self.from = self.fields.start();
    }

    /// Copies what stands before `field` and leaves it out.
    fn leave(&mut self, out: &mut Vec<u8>, field: &FieldLine<'_>) {
        let (start, next) = field.span;
        let before = self.fields.source().get(self.from..usize::from(start));
        out.extend_from_slice(before.unwrap_or_default());
        self.from = usize::from(next);
    }

    /// Writes `field` anew where it stands.
    fn replace(&mut self, out: &mut Vec<u8>, field: &FieldLine<'_>, name: &[u8], value: &[u8]) {
        self.leave(out, field);
        line(out, name, value);
    }

    /// Sees to the field that frames the content: it goes on in one spelling only, whatever it came
    /// in, since a receiver that reads it otherwise would find another end.
    fn frame(&mut self, out: &mut Vec<u8>, field: &FieldLine<'_>) {
        let is_encoding = field.kind == Field::TransferEncoding;
        let is_canonical = if is_encoding {
            field.name == b"Transfer-Encoding" && field.value == b"chunked"
        } else {
            field.name == b"Content-Length"
                && (field.value == b"0" || !field.value.starts_with(b"0"))
        };
        match (is_canonical && field.is_plain, is_encoding) {
            (true, _) => {}
            (false, true) => self.replace(out, field, b"Transfer-Encoding", b"chunked"),
            (false, false) => {
                self.replace(out, field, b"Content-Length", digits(field.value));
            }
        }
    }

    /// Copies the rest, but for the empty line.
    fn end(self, out: &mut Vec<u8>) {
        let source = self.fields.source();
        let end = source.len().saturating_sub(b"\r\n".len());
        out.extend_from_slice(source.get(self.from..end).unwrap_or_default());
    }
}

/// The number that `value` writes, without zeros before it.
fn digits(value: &[u8]) -> &[u8] {
    let mut digits = value;
    while let [b'0', rest @ ..] = digits
        && !rest.is_empty()
    {
        digits = rest;
    }
    digits
}

/// Appends one field line.
#[inline]
fn line(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// Appends what the server has to know of the client.
fn tell(out: &mut Vec<u8>, peer: Option<IpAddr>, host: Option<&[u8]>) {
    if let Some(peer) = peer {
        out.extend_from_slice(b"X-Forwarded-For: ");
        address(out, peer);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"X-Forwarded-Proto: http\r\n");
    if let Some(host) = host {
        line(out, b"X-Forwarded-Host", host);
    }
}

/// The same for a client that is trusted: from what its own `fields` tell it is gone on.
fn go_on_telling(
    out: &mut Vec<u8>,
    peer: Option<IpAddr>,
    host: Option<&[u8]>,
    fields: &Fields<'_>,
) {
    // An empty value tells nothing, and would leave a hole in a list.
    let told = |kind: Field| {
        let fields = fields.iter();
        fields.filter(move |field| field.kind == kind && !field.value.is_empty())
    };
    if peer.is_some() || told(Field::XForwardedFor).next().is_some() {
        out.extend_from_slice(b"X-Forwarded-For: ");
        let mut comma = false;
        for field in told(Field::XForwardedFor) {
            out.extend_from_slice(if comma { b", " } else { b"" });
            out.extend_from_slice(field.value);
            comma = true;
        }
        if let Some(peer) = peer {
            out.extend_from_slice(if comma { b", " } else { b"" });
            address(out, peer);
        }
        out.extend_from_slice(b"\r\n");
    }
    let proto = told(Field::XForwardedProto).next();
    line(
        out,
        b"X-Forwarded-Proto",
        proto.map_or(b"http", |field| field.value),
    );
    let told_host = told(Field::XForwardedHost).next().map(|field| field.value);
    if let Some(host) = told_host.or(host) {
        line(out, b"X-Forwarded-Host", host);
    }
    for field in told(Field::Forwarded) {
        line(out, b"Forwarded", field.value);
    }
}

/// Appends a `Forwarded` of one element (RFC 7239 §4 and §6).
fn forwarded(out: &mut Vec<u8>, peer: Option<IpAddr>, host: Option<&[u8]>) {
    out.extend_from_slice(b"Forwarded: for=");
    match peer.map(|peer| peer.to_canonical()) {
        None => out.extend_from_slice(b"unknown"),
        Some(peer @ IpAddr::V4(_)) => address(out, peer),
        Some(peer @ IpAddr::V6(_)) => {
            out.extend_from_slice(b"\"[");
            address(out, peer);
            out.extend_from_slice(b"]\"");
        }
    }
    if let Some(host) = host {
        // A host holds neither quotes nor backslashes: the judge saw to that.
        out.extend_from_slice(b";host=\"");
        out.extend_from_slice(host);
        out.extend_from_slice(b"\"");
    }
    out.extend_from_slice(b";proto=http\r\n");
}

/// Each octet of an IPv4 address as text with the dot behind it, and the length of that.
static OCTETS: [([u8; 4], u8); 256] = {
    let mut table = [([0; 4], 0); 256];
    let mut octet = 0;
    while octet < 256 {
        let [hundreds, tens, ones] = [octet / 100, octet / 10 % 10, octet % 10];
        let [hundreds, tens, ones] = [hundreds as u8 + b'0', tens as u8 + b'0', ones as u8 + b'0'];
        table[octet] = match octet {
            0..10 => ([ones, b'.', 0, 0], 2),
            10..100 => ([tens, ones, b'.', 0], 3),
            _ => ([hundreds, tens, ones, b'.'], 4),
        };
        octet += 1;
    }
    table
};

/// Appends an address; an IPv4 one that came in IPv6's clothes as IPv4.
pub fn address(out: &mut Vec<u8>, address: IpAddr) {
    match address.to_canonical() {
        IpAddr::V4(address) => {
            let mut text = [0; 4 * 4];
            let mut end = 0;
            for octet in address.octets() {
                let (with_dot, length) = OCTETS[usize::from(octet)];
                if let Some(room) = text.get_mut(end..end + 4) {
                    room.copy_from_slice(&with_dot);
                }
                end += usize::from(length);
            }
            // All of it, and then less: a copy whose length is known takes no call.
            let end = out.len() + end - 1;
            out.extend_from_slice(&text);
            out.truncate(end);
        }
        IpAddr::V6(address) => {
            use std::io::Write;
            // A vector takes all that is written into it.
            let _ = write!(out, "{address}");
        }
    }
}

#[cfg(test)]
mod tests;
