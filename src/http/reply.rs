//! Replies of the balancer itself: short, in plain text, with what was wrong and why.

use super::head::Version;

/// Appends a whole response with a text body to `out`. The body is left out, not its length, if the
/// request was a HEAD (RFC 9110 §9.3.2).
pub fn write(out: &mut Vec<u8>, reply: &Reply<'_>) {
    let mut number = itoa::Buffer::new();
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(number.format(reply.status).as_bytes());
    out.extend_from_slice(b" ");
    out.extend_from_slice(reason(reply.status).as_bytes());
    out.extend_from_slice(b"\r\nDate: ");
    out.extend_from_slice(reply.date.as_bytes());
    out.extend_from_slice(b"\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: ");
    out.extend_from_slice(number.format(reply.text.len() + 1).as_bytes());
    if let Some(id) = reply.id {
        out.extend_from_slice(b"\r\nX-Request-Id: ");
        out.extend_from_slice(id);
    }
    if let Some(seconds) = reply.retry_after {
        out.extend_from_slice(b"\r\nRetry-After: ");
        out.extend_from_slice(number.format(seconds).as_bytes());
    }
    out.extend_from_slice(match (reply.close, reply.version) {
        (true, _) => b"\r\nConnection: close",
        (false, Version::Http10) => b"\r\nConnection: keep-alive",
        (false, Version::Http11) => b"".as_slice(),
    });
    out.extend_from_slice(b"\r\n\r\n");
    if !reply.to_head {
        out.extend_from_slice(reply.text.as_bytes());
        out.extend_from_slice(b"\n");
    }
}

/// What a reply says.
#[derive(Debug, Clone)]
pub struct Reply<'t> {
    /// Its status.
    pub status: u16,
    /// One line for a person.
    pub text: &'t str,
    /// When it was made, as `Date` has it.
    pub date: &'t str,
    /// The version that the client speaks.
    pub version: Version,
    /// Whether the connection ends behind it.
    pub close: bool,
    /// Whether it answers a HEAD.
    pub to_head: bool,
    /// Seconds after which another try may succeed.
    pub retry_after: Option<u32>,
    /// The `X-Request-Id` of the request, if it has one.
    pub id: Option<&'t [u8]>,
}

/// The interim response that lets a client send its content.
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// The reason phrase of a status that a balancer or the built-in origin sends.
pub fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        204 => "No Content",
        400 => "Bad Request",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        411 => "Length Required",
        413 => "Content Too Large",
        414 => "URI Too Long",
        417 => "Expectation Failed",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        507 => "Insufficient Storage",
        508 => "Loop Detected",
        _ => "Unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_is_a_whole_response_with_its_text() {
        let mut out = Vec::new();
        let reply = Reply {
            status: 500,
            text: "every server failed",
            date: "Thu, 01 Jan 1970 00:00:00 GMT",
            version: Version::Http11,
            close: true,
            to_head: false,
            retry_after: Some(3),
            id: None,
        };
        write(&mut out, &reply);
        let expected = "HTTP/1.1 500 Internal Server Error\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\n\
            Content-Type: text/plain; charset=utf-8\r\nContent-Length: 20\r\nRetry-After: 3\r\n\
            Connection: close\r\n\r\nevery server failed\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn a_reply_to_head_keeps_the_length_and_leaves_out_the_body() {
        let mut out = Vec::new();
        let reply = Reply {
            status: 404,
            text: "none",
            date: "Thu, 01 Jan 1970 00:00:00 GMT",
            version: Version::Http10,
            close: false,
            to_head: true,
            retry_after: None,
            id: Some(b"4f"),
        };
        write(&mut out, &reply);
        let text = String::from_utf8(out).unwrap();
        assert!(
            text.contains("Content-Length: 5\r\nX-Request-Id: 4f\r\nConnection: keep-alive\r\n")
                && text.ends_with("\r\n\r\n")
        );
    }
}
