//! What a head that may pass says: values for those who act on it.

use super::body::Framing;
use super::field::Fields;

/// The longest request target, in bytes.
pub const TARGET_MAX: usize = 8 << 10;
/// The most options that the Connection fields of a head may list.
pub const OPTIONS_MAX: usize = 100;

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

impl Method {
    /// What matters of the method called `name`.
    pub(super) fn of(name: &[u8]) -> Method {
        match name {
            b"HEAD" => Method::Head,
            b"GET" | b"OPTIONS" | b"TRACE" | b"PUT" | b"DELETE" => Method::Idempotent,
            _ => Method::Other,
        }
    }
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
    /// For how many seconds the server keeps an idle connection, if it says so.
    pub idle_seconds: Option<u64>,
    /// Its fields.
    pub fields: Fields<'b>,
}

impl<'b> Request<'b> {
    /// A request of which only the first line and where its fields are is known yet.
    pub(super) fn new(
        method_name: &'b [u8],
        target: &'b [u8],
        version: Version,
        fields: Fields<'b>,
    ) -> Request<'b> {
        Request {
            method_name,
            method: Method::of(method_name),
            target,
            authority: None,
            version,
            framing: Framing::None,
            keep_alive: version == Version::Http11,
            expects_continue: false,
            upgrade: false,
            takes_trailers: false,
            hops: None,
            fields,
        }
    }

    /// The request line as it was written, without its end.
    pub fn line(&self) -> &'b [u8] {
        let end = self.fields.start().saturating_sub(b"\r\n".len());
        self.fields.source().get(..end).unwrap_or_default()
    }
}

impl<'b> Response<'b> {
    /// A response of which only the first line and where its fields are is known yet.
    pub(super) fn new(status: u16, version: Version, fields: Fields<'b>) -> Response<'b> {
        // What a parser makes of the reason may leave out what is beyond ASCII.
        let line = fields.start().saturating_sub(b"\r\n".len());
        let reason = fields.source().get(b"HTTP/1.1 200 ".len()..line);
        Response {
            status,
            reason: reason.unwrap_or_default(),
            version,
            framing: Framing::None,
            keep_alive: version == Version::Http11,
            names_fields: false,
            metrics: None,
            retry_after: false,
            idle_seconds: None,
            fields,
        }
    }
}
