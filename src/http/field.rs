//! Field lines: which of them the judge and the rewriting know, and where they stand in the head.

use super::grammar::is_word;

/// The most fields that a head may have.
pub const FIELDS_MAX: usize = 100;

/// The fields that the judge or the rewriting looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)] // named like the fields
pub enum Field {
    Other,
    Te,
    Via,
    Date,
    Host,
    Expect,
    Upgrade,
    Trailer,
    Forwarded,
    KeepAlive,
    Connection,
    ContentLength,
    HttpSettings,
    /// Handed on as a variable it would be HTTP_PROXY, by which programs choose their own proxy.
    Proxy,
    MaxForwards,
    RetryAfter,
    /// What a server says of its load (ORCA), in text; it is meant for us.
    LoadMetrics,
    /// The same in a form that is not read here.
    LoadMetricsBinary,
    XForwardedFor,
    XForwardedHost,
    XForwardedProto,
    ProxyConnection,
    TransferEncoding,
    /// Other fields that a Connection field must not be able to remove.
    Kept,
    /// Any other field that a Connection field of the same head names: it ends here.
    Named,
    /// A field of ours written with underscores or dots for its dashes: what hands fields on as
    /// variables (CGI, WSGI) can not tell the two apart.
    Lookalike,
}

impl Field {
    /// The field of `name`, in any case. Length and first letter leave one candidate at most, so that
    /// a name that is none of ours costs hardly more than that look.
    pub fn of(name: &[u8]) -> Field {
        let first = name.first().map_or(0, u8::to_ascii_lowercase);
        match (name.len(), first) {
            (2, b't') => Field::if_called(name, b"te", Field::Te),
            (3, b'v') => Field::if_called(name, b"via", Field::Via),
            (4, b'h') => Field::if_called(name, b"host", Field::Host),
            (4, b'd') => Field::if_called(name, b"date", Field::Date),
            (5, b'p') => Field::if_called(name, b"proxy", Field::Proxy),
            (6, b'e') => Field::if_called(name, b"expect", Field::Expect),
            (6, b'c') => Field::if_called(name, b"cookie", Field::Kept),
            (7, b'u') => Field::if_called(name, b"upgrade", Field::Upgrade),
            (7, b't') => Field::if_called(name, b"trailer", Field::Trailer),
            (9, b'f') => Field::if_called(name, b"forwarded", Field::Forwarded),
            (10, b'c') => Field::if_called(name, b"connection", Field::Connection),
            (10, b'k') => Field::if_called(name, b"keep-alive", Field::KeepAlive),
            (11, b'r') => Field::if_called(name, b"retry-after", Field::RetryAfter),
            (12, b'c') => Field::if_called(name, b"content-type", Field::Kept),
            (12, b'm') => Field::if_called(name, b"max-forwards", Field::MaxForwards),
            (13, b'a') => Field::if_called(name, b"authorization", Field::Kept),
            (13, b'c') => Field::if_called(name, b"cache-control", Field::Kept),
            (14, b'c') => Field::if_called(name, b"content-length", Field::ContentLength),
            (14, b'h') => Field::if_called(name, b"http2-settings", Field::HttpSettings),
            (15, b'x') => Field::if_called(name, b"x-forwarded-for", Field::XForwardedFor),
            (16, b'p') => Field::if_called(name, b"proxy-connection", Field::ProxyConnection),
            (16, b'x') => Field::if_called(name, b"x-forwarded-host", Field::XForwardedHost),
            (16, b'c') => Field::if_called(name, b"content-encoding", Field::Kept),
            (17, b't') => Field::if_called(name, b"transfer-encoding", Field::TransferEncoding),
            (17, b'x') => Field::if_called(name, b"x-forwarded-proto", Field::XForwardedProto),
            (21, b'e') => Field::if_called(name, b"endpoint-load-metrics", Field::LoadMetrics),
            (25, b'e') => {
                Field::if_called(name, b"endpoint-load-metrics-bin", Field::LoadMetricsBinary)
            }
            _ => Field::Other,
        }
    }

    /// `field`, if `name` is `lower` in any case. Inlined, so that each length has its own compare.
    #[inline(always)]
    fn if_called(name: &[u8], lower: &[u8], field: Field) -> Field {
        if is_word(name, lower) {
            field
        } else {
            field.if_alike(name, lower)
        }
    }

    /// Whether `name`, which is not `lower`, only feigns it: with other marks for its dashes.
    #[cold]
    fn if_alike(self, name: &[u8], lower: &[u8]) -> Field {
        let is_harmless = matches!(
            self,
            Field::Kept | Field::RetryAfter | Field::LoadMetrics | Field::LoadMetricsBinary
        );
        let is_alike = name.iter().zip(lower).all(|(byte, wanted)| {
            byte.eq_ignore_ascii_case(wanted) || (*wanted == b'-' && !byte.is_ascii_alphanumeric())
        });
        if is_alike && !is_harmless {
            Field::Lookalike
        } else {
            Field::Other
        }
    }
}

/// What becomes of a field in a trailer section.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InTrailers {
    /// It goes on where trailers are taken.
    Kept,
    /// It steers how a message is handled from its beginning, so it comes too late to mean anything.
    Dropped,
    /// It frames, routes or authorises: nobody may ever merge it into the head.
    Refused,
}

/// Fields that authorise, which the judge of heads need not know.
const CREDENTIALS: [&str; 4] = [
    "set-cookie",
    "www-authenticate",
    "proxy-authenticate",
    "proxy-authorization",
];
/// Fields that steer what is done with a message from its beginning.
const CONTROLS: [&str; 13] = [
    "age",
    "vary",
    "range",
    "pragma",
    "expires",
    "warning",
    "if-match",
    "if-range",
    "location",
    "content-range",
    "if-none-match",
    "if-modified-since",
    "if-unmodified-since",
];

/// What becomes of the field of `name` in a trailer section (RFC 9110 §6.5.1).
pub fn in_trailers(name: &[u8]) -> InTrailers {
    let is_any = |names: &[&str]| {
        names
            .iter()
            .any(|known| name.eq_ignore_ascii_case(known.as_bytes()))
    };
    match Field::of(name) {
        Field::Other | Field::Via if is_any(&CREDENTIALS) => InTrailers::Refused,
        Field::Other | Field::Via if is_any(&CONTROLS) => InTrailers::Dropped,
        Field::Other | Field::Via | Field::Proxy => InTrailers::Kept,
        Field::Date
        | Field::MaxForwards
        | Field::RetryAfter
        | Field::LoadMetrics
        | Field::LoadMetricsBinary => InTrailers::Dropped,
        _ => InTrailers::Refused,
    }
}

/// The fields of one head, as httparse cut them, with what each is.
pub struct Fields<'b> {
    pub(super) headers: &'b [httparse::Header<'b>],
    pub(super) kinds: [Field; FIELDS_MAX],
    /// The bytes that all of them point into.
    pub(super) source: &'b [u8],
}

/// One field line.
#[derive(Clone, Copy)]
pub struct FieldLine<'b> {
    /// What it is.
    pub kind: Field,
    /// Its name, a token.
    pub name: &'b [u8],
    /// Its value, without blanks around it.
    pub value: &'b [u8],
}

impl<'b> Fields<'b> {
    /// The field lines in their order.
    pub fn iter(&self) -> impl Iterator<Item = FieldLine<'b>> + '_ {
        self.headers
            .iter()
            .zip(&self.kinds)
            .map(|(header, kind)| FieldLine {
                kind: *kind,
                name: header.name.as_bytes(),
                value: header.value,
            })
    }

    /// Where in the head `part`, a name or value of it, begins.
    pub fn offset(&self, part: &[u8]) -> usize {
        (part.as_ptr() as usize).wrapping_sub(self.source.as_ptr() as usize)
    }

    /// The head that they are in.
    pub fn source(&self) -> &'b [u8] {
        self.source
    }
}
