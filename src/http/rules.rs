//! The judge's table: every reason to refuse a message, with its status, its text and its section.

/// Why a head or a content is refused: one row each, see `RULES`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
#[allow(missing_docs)] // each row of the table below says it
pub enum Refusal {
    RequestLine,
    Target,
    TargetTooLong,
    Version,
    LineEnd,
    FieldName,
    FieldValue,
    HeadTooLong,
    TooManyFields,
    NoHost,
    TwoHosts,
    Host,
    ContentLength,
    TwoLengths,
    LengthAndEncoding,
    TwoEncodings,
    Encoding,
    EncodingUnknown,
    EncodingIn10,
    Expectation,
    Connect,
    MaxForwards,
    LastHop,
    Trace,
    TraceContent,
    Loop,
    Chunk,
    Trailer,
    StatusLine,
    Switch,
    Interim,
}

/// One row of the judge's table.
pub struct Rule {
    /// Which refusal it explains.
    pub refusal: Refusal,
    /// The status that answers it in a request: an error, but for a request that asks for its own end.
    /// In a response every row is a 502.
    pub status: u16,
    /// What was wrong, for the client and the log.
    pub text: &'static str,
    /// Where the rule stands.
    pub section: &'static str,
}

macro_rules! rules {
    ($($refusal:ident $status:literal $section:literal $text:literal)*) => {
        [$(Rule { refusal: Refusal::$refusal, status: $status, text: $text, section: $section }),*]
    };
}

/// The judge's table, in the order of `Refusal`.
#[rustfmt::skip]
pub static RULES: [Rule; 31] = rules! {
    RequestLine       400 "RFC 9112 §3"      "the request line is not METHOD TARGET HTTP/1.1"
    Target            400 "RFC 9112 §3.2"    "the request target has a form or a byte that is not allowed"
    TargetTooLong     414 "RFC 9110 §15.5.15" "the request target is longer than 8 KiB"
    Version           505 "RFC 9110 §15.6.6" "only HTTP/1.0 and HTTP/1.1 are spoken here"
    LineEnd           400 "RFC 9112 §2.2"    "a line of the head does not end in CR LF"
    FieldName         400 "RFC 9112 §5.1"    "a field name is empty, has a blank, or a byte that is not allowed"
    FieldValue        400 "RFC 9110 §5.5"    "a field value has a byte that is not allowed"
    HeadTooLong       431 "RFC 6585 §5"      "the head is longer than 16 KiB"
    TooManyFields     431 "RFC 6585 §5"      "the head has more than 100 fields or connection options"
    NoHost            400 "RFC 9112 §3.2"    "an HTTP/1.1 request needs a Host field"
    TwoHosts          400 "RFC 9112 §3.2"    "more than one Host field"
    Host              400 "RFC 9112 §3.2"    "the Host field is not a host"
    ContentLength     400 "RFC 9110 §8.6"    "the Content-Length is not one decimal number"
    TwoLengths        400 "RFC 9112 §6.3"    "more than one Content-Length"
    LengthAndEncoding 400 "RFC 9112 §6.1"    "both Content-Length and Transfer-Encoding"
    TwoEncodings      400 "RFC 9112 §6.1"    "more than one Transfer-Encoding"
    Encoding          400 "RFC 9112 §6.3"    "the Transfer-Encoding does not end in exactly one chunked"
    EncodingUnknown   501 "RFC 9112 §6.1"    "only the transfer coding chunked is known here"
    EncodingIn10      400 "RFC 9112 §6.1"    "a Transfer-Encoding in HTTP/1.0"
    Expectation       417 "RFC 9110 §10.1.1" "only the expectation 100-continue is known here"
    Connect           501 "RFC 9110 §9.3.6"  "CONNECT is for proxies that clients choose; this is not one"
    MaxForwards       400 "RFC 9110 §7.6.2"  "the Max-Forwards is not one decimal number"
    LastHop           200 "RFC 9110 §7.6.2"  "the request ends here, as its Max-Forwards asks"
    Trace             501 "RFC 9110 §7.6.2"  "a TRACE that ends here, by its Max-Forwards, is not answered"
    TraceContent      400 "RFC 9110 §9.3.8"  "a TRACE has no content"
    Loop              508 "RFC 9110 §7.6.3"  "the request has come through bestguess 8 times: its servers send it back"
    Chunk             400 "RFC 9112 §7.1"    "the chunked content is malformed"
    Trailer           400 "RFC 9110 §6.5.1"  "a trailer field that frames, routes or authorises, or is malformed"
    StatusLine        502 "RFC 9112 §4"      "the status line is not HTTP/1.1 CODE REASON"
    Switch            502 "RFC 9110 §15.2.2" "a 101 that was not asked for"
    Interim           502 "RFC 9110 §15.2"   "too many interim responses"
};

impl Refusal {
    /// Its row.
    pub fn rule(self) -> &'static Rule {
        // The table has a row for every refusal, in order: a test holds them together.
        RULES.get(self as usize).unwrap_or(&RULES[0])
    }
}
