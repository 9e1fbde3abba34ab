//! Field lines: which of them the judge and the rewriting know, and where they stand in the head.

use super::grammar::is_word;
use super::rules::Refusal;

/// The longest head, in bytes, request or response.
pub const HEAD_MAX: usize = 16 << 10;
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
    /// The name of one exchange in all logs: ours to give only where the options say so.
    XRequestId,
    XForwardedFor,
    XForwardedHost,
    XForwardedProto,
    ProxyConnection,
    TransferEncoding,
    /// Other fields that a Connection field must not be able to remove.
    Kept,
    /// Any other field that a Connection field of the same head names: it ends here.
    Named,
    /// `XRequestId` written with underscores or dots for its dashes: like `Lookalike` where ids are ours
    /// to give, else any other field.
    FeignedId,
    /// A field of ours written with underscores or dots for its dashes: what hands fields on as
    /// variables (CGI, WSGI) can not tell the two apart.
    Lookalike,
}

impl Field {
    /// The field of `name`, in any case. Length and first letter leave one candidate at most, so that
    /// a name that is none of ours costs hardly more than that look: less than a call.
    #[inline(always)]
    pub fn of(name: &[u8]) -> Field {
        // The bit that tells a small letter from a capital.
        let first = name.first().map_or(0, |first| first | 0x20);
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
            (12, b'x') => Field::if_called(name, b"x-request-id", Field::XRequestId),
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
        if is_alike && self == Field::XRequestId {
            Field::FeignedId
        } else if is_alike && !is_harmless {
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
        | Field::XRequestId
        | Field::FeignedId
        | Field::RetryAfter
        | Field::LoadMetrics
        | Field::LoadMetricsBinary => InTrailers::Dropped,
        _ => InTrailers::Refused,
    }
}

/// Room for what is noted of one head's field lines: lent by the caller, so that nothing is allocated.
#[derive(Debug)]
pub struct Slots {
    pub(super) lines: [Line; FIELDS_MAX],
}

/// Empty slots for one head after the other.
pub fn slots() -> Slots {
    Slots {
        lines: [Line::NONE; FIELDS_MAX],
    }
}

/// Where in its head a field line stands, and what it is. No head is longer than a `u16` counts.
#[derive(Debug, Clone, Copy)]
pub(super) struct Line {
    pub(super) kind: Field,
    pub(super) is_plain: bool,
    /// Where it begins, with its name.
    pub(super) start: u16,
    /// Where its name ends.
    pub(super) name: u16,
    /// Where its value begins and ends.
    pub(super) value: (u16, u16),
    /// Where the next line begins.
    pub(super) next: u16,
}

impl Line {
    const NONE: Line = Line {
        kind: Field::Other,
        is_plain: false,
        start: 0,
        name: 0,
        value: (0, 0),
        next: 0,
    };

    /// The line in its head, `source`.
    #[inline]
    pub(super) fn of<'b>(&self, source: &'b [u8]) -> FieldLine<'b> {
        let part = |from: u16, to: u16| {
            source
                .get(usize::from(from)..usize::from(to))
                .unwrap_or_default()
        };
        FieldLine {
            kind: self.kind,
            name: part(self.start, self.name),
            value: part(self.value.0, self.value.1),
            is_plain: self.is_plain,
            span: (self.start, self.next),
        }
    }
}

/// Where in its bytes a head has what.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Place {
    /// Where the fields begin.
    pub(super) start: usize,
    /// How many they are.
    pub(super) count: usize,
    /// Where the head ends.
    pub(super) end: usize,
}

/// The fields of one head, with what each is.
pub struct Fields<'b> {
    pub(super) lines: &'b mut [Line],
    /// The head that they are in.
    source: &'b [u8],
    /// Where in it the first one begins.
    start: usize,
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
    /// Whether it stands in the head as it should: one blank behind the colon, a value, no blanks at
    /// the end.
    pub(super) is_plain: bool,
    /// Where in the head it begins and the next one does.
    pub(super) span: (u16, u16),
}

impl<'b> Fields<'b> {
    /// The fields of the head at `place` in `bytes`, which were noted in `slots`.
    #[inline]
    pub(super) fn new(place: &Place, bytes: &'b [u8], slots: &'b mut Slots) -> Fields<'b> {
        Fields {
            lines: slots.lines.get_mut(..place.count).unwrap_or_default(),
            source: bytes.get(..place.end).unwrap_or_default(),
            start: place.start,
        }
    }

    /// The field lines in their order.
    pub fn iter(&self) -> impl Iterator<Item = FieldLine<'b>> + '_ {
        self.lines.iter().map(|line| line.of(self.source))
    }

    /// Hands those to `take` whose names have one of `lengths`, of which bit n is the length n: all
    /// others cost no more than that look.
    #[inline]
    pub fn each_named(&self, lengths: u32, mut take: impl FnMut(FieldLine<'b>)) {
        for line in self.lines.iter() {
            let length = u32::from(line.name - line.start);
            if lengths.checked_shr(length).unwrap_or(0) & 1 != 0 {
                take(line.of(self.source));
            }
        }
    }

    /// The head that they are in.
    pub fn source(&self) -> &'b [u8] {
        self.source
    }

    /// Where in the head the first of them begins.
    pub fn start(&self) -> usize {
        self.start
    }
}

/// Looks at each of the lines of `source` once that httparse took for `headers`, and where it stands;
/// `start` is where the first one begins. Notes it in `lines` and hands it to `take`.
///
/// # Errors
/// `FieldName`, `LineEnd`: the lines do not follow each other from the first line to the empty one,
/// each with its CR LF. Otherwise what `take` says.
pub(super) fn judge_lines<'b>(
    headers: &[httparse::Header<'_>],
    source: &'b [u8],
    start: usize,
    lines: &mut [Line; FIELDS_MAX],
    mut take: impl FnMut(FieldLine<'b>) -> Result<(), Refusal>,
) -> Result<(), Refusal> {
    let (first, mut rest) = source.split_at_checked(start).ok_or(Refusal::LineEnd)?;
    if !first.ends_with(b"\r\n") {
        return Err(Refusal::LineEnd);
    }
    for (header, line) in headers.iter().zip(lines.iter_mut()) {
        let at = source.len() - rest.len();
        let (is_plain, value, behind) = judge_line(header, rest)?;
        rest = behind;
        let place = |offset: usize| u16::try_from(at + offset).map_err(|_| Refusal::HeadTooLong);
        *line = Line {
            kind: Field::of(header.name.as_bytes()),
            is_plain,
            start: place(0)?,
            name: place(header.name.len())?,
            value: (place(value)?, place(value + header.value.len())?),
            next: place(source.len() - rest.len() - at)?,
        };
        take(line.of(source))?;
    }
    // The empty line, and nothing behind it.
    if rest == b"\r\n" {
        Ok(())
    } else {
        Err(Refusal::LineEnd)
    }
}

/// Where in `whole` its `part` begins.
fn offset(whole: &[u8], part: &[u8]) -> usize {
    (part.as_ptr() as usize).wrapping_sub(whole.as_ptr() as usize)
}

/// Judges the line that `rest` begins with, which httparse took for `header`: whether it is plain, where
/// in `rest` its value begins, and what stands behind it.
fn judge_line<'b>(
    header: &httparse::Header<'_>,
    rest: &'b [u8],
) -> Result<(bool, usize, &'b [u8]), Refusal> {
    let name = header.name.as_bytes();
    if name.is_empty() || offset(rest, name) != 0 {
        return Err(Refusal::FieldName);
    }
    // An empty value points to where httparse stopped, so the search starts behind the colon.
    let value = if header.value.is_empty() {
        name.len() + 1
    } else {
        offset(rest, header.value)
    };
    let is_plain = !header.value.is_empty() && rest.get(name.len()..value) == Some(b": ");
    let end = value.wrapping_add(header.value.len());
    let mut behind = rest.get(end..).ok_or(Refusal::LineEnd)?;
    if let [b'\r', b'\n', rest @ ..] = behind {
        return Ok((is_plain, value, rest));
    }
    // Behind the value may come blanks, then nothing but CR LF.
    while let [b' ' | b'\t', rest @ ..] = behind {
        behind = rest;
    }
    match behind {
        [b'\r', b'\n', rest @ ..] => Ok((false, value, rest)),
        _ => Err(Refusal::LineEnd),
    }
}
