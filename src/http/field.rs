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
    /// The field of `name`, in any case.
    pub fn of(name: &[u8]) -> Field {
        let candidates: &[(&[u8], Field)] = match name.len() {
            2 => &[(b"te", Field::Te)],
            3 => &[(b"via", Field::Via)],
            5 => &[(b"proxy", Field::Proxy)],
            4 => &[(b"host", Field::Host), (b"date", Field::Date)],
            6 => &[(b"expect", Field::Expect), (b"cookie", Field::Kept)],
            7 => &[(b"upgrade", Field::Upgrade), (b"trailer", Field::Trailer)],
            9 => &[(b"forwarded", Field::Forwarded)],
            10 => &[
                (b"connection", Field::Connection),
                (b"keep-alive", Field::KeepAlive),
            ],
            11 => &[(b"retry-after", Field::RetryAfter)],
            12 => &[
                (b"content-type", Field::Kept),
                (b"max-forwards", Field::MaxForwards),
            ],
            13 => &[
                (b"authorization", Field::Kept),
                (b"cache-control", Field::Kept),
            ],
            14 => &[
                (b"content-length", Field::ContentLength),
                (b"http2-settings", Field::HttpSettings),
            ],
            15 => &[(b"x-forwarded-for", Field::XForwardedFor)],
            16 => &[
                (b"proxy-connection", Field::ProxyConnection),
                (b"x-forwarded-host", Field::XForwardedHost),
                (b"content-encoding", Field::Kept),
            ],
            17 => &[
                (b"transfer-encoding", Field::TransferEncoding),
                (b"x-forwarded-proto", Field::XForwardedProto),
            ],
            21 => &[(b"endpoint-load-metrics", Field::LoadMetrics)],
            25 => &[(b"endpoint-load-metrics-bin", Field::LoadMetricsBinary)],
            _ => return Field::Other,
        };
        for (candidate, field) in candidates {
            if is_word(name, candidate) {
                return *field;
            }
        }
        let is_alike = |(candidate, field): &(&[u8], Field)| {
            !matches!(
                field,
                Field::Kept | Field::RetryAfter | Field::LoadMetrics | Field::LoadMetricsBinary
            ) && name.iter().zip(*candidate).all(|(byte, wanted)| {
                byte.eq_ignore_ascii_case(wanted)
                    || (*wanted == b'-' && !byte.is_ascii_alphanumeric())
            })
        };
        if candidates.iter().any(is_alike) {
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
