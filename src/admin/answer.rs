//! An answer of the admin listener, and the fields that all of them carry.

use super::ask::Denied;
use super::page;
use crate::http::head::Version;
use crate::http::reply::reason;

/// Types of content.
pub const TEXT: &str = "text/plain; charset=utf-8";
/// The same, of JSON.
pub const JSON: &str = "application/json";
/// The same, of the page.
pub const HTML: &str = "text/html; charset=utf-8";
/// The same, of Prometheus.
pub const EXPOSITION: &str = "text/plain; version=0.0.4; charset=utf-8";

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// The methods that would do, if it is a 405.
    pub allow: Option<&'static str>,
    /// What follows the head.
    pub content: Content,
}

/// What follows the head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// These bytes, of this type.
    Whole(&'static str, Vec<u8>),
    /// Events without end, of which these are the first.
    Events(Vec<u8>),
}

/// How an answer is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sending<'s> {
    /// The time, as `Date` has it.
    pub date: &'s str,
    /// The version that the client speaks.
    pub version: Version,
    /// Whether the connection goes on behind it.
    pub keep_alive: bool,
    /// Whether it answers a HEAD.
    pub to_head: bool,
}

impl Answer {
    /// Content of a type, with 200.
    pub fn good(kind: &'static str, content: impl Into<Vec<u8>>) -> Answer {
        Answer {
            status: 200,
            allow: None,
            content: Content::Whole(kind, content.into()),
        }
    }

    /// A text of one line.
    pub fn line(status: u16, text: &str) -> Answer {
        Answer {
            status,
            allow: None,
            content: Content::Whole(TEXT, format!("{text}\n").into_bytes()),
        }
    }

    /// Appends head and content to `out`. Where the answer has no end, neither has the connection.
    pub fn write(&self, out: &mut Vec<u8>, sending: Sending<'_>) {
        let mut line = |parts: &[&str]| {
            parts
                .iter()
                .for_each(|part| out.extend_from_slice(part.as_bytes()));
            out.extend_from_slice(b"\r\n");
        };
        let mut number = itoa::Buffer::new();
        let status = number.format(self.status).to_owned();
        line(&["HTTP/1.1 ", &status, " ", reason(self.status)]);
        line(&["Date: ", sending.date]);
        line(&["Cache-Control: no-store"]);
        line(&["X-Content-Type-Options: nosniff"]);
        line(&["Referrer-Policy: no-referrer"]);
        line(&["Cross-Origin-Resource-Policy: same-origin"]);
        if let Some(allow) = self.allow {
            line(&["Allow: ", allow]);
        }
        if self.status == 401 {
            line(&["WWW-Authenticate: Bearer realm=\"bestguess\""]);
        }
        let keeps = match &self.content {
            Content::Events(_) => {
                line(&["Content-Type: text/event-stream"]);
                false
            }
            Content::Whole(kind, content) => {
                if *kind == HTML {
                    line(&["Content-Security-Policy: ", &page::POLICY]);
                    line(&["X-Frame-Options: DENY"]);
                }
                line(&["Content-Type: ", kind]);
                line(&["Content-Length: ", number.format(content.len())]);
                sending.keep_alive
            }
        };
        match (keeps, sending.version) {
            (false, _) => line(&["Connection: close"]),
            (true, Version::Http10) => line(&["Connection: keep-alive"]),
            (true, Version::Http11) => {}
        }
        line(&[]);
        if !sending.to_head {
            let (Content::Whole(_, content) | Content::Events(content)) = &self.content;
            out.extend_from_slice(content);
        }
    }
}

impl From<Denied> for Answer {
    fn from(denied: Denied) -> Answer {
        Answer {
            allow: denied.allow,
            ..Answer::line(denied.status, &denied.text)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sending(keep_alive: bool, to_head: bool) -> Sending<'static> {
        Sending {
            date: "Thu, 01 Jan 1970 00:00:00 GMT",
            version: Version::Http11,
            keep_alive,
            to_head,
        }
    }

    fn written(answer: &Answer, sending: Sending<'_>) -> String {
        let mut out = Vec::new();
        answer.write(&mut out, sending);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_refusal_says_why_and_what_would_do() {
        let denied = Denied {
            allow: Some("POST"),
            ..Denied::new(405, "this takes POST")
        };
        let text = written(&denied.into(), sending(true, false));
        assert!(
            text.starts_with("HTTP/1.1 405 Method Not Allowed\r\n"),
            "{text}"
        );
        assert!(text.contains("\r\nAllow: POST\r\n"));
        assert!(text.contains("\r\nContent-Length: 16\r\n\r\nthis takes POST\n"));
        let text = written(&Answer::line(401, "no"), sending(true, false));
        assert!(text.contains("\r\nWWW-Authenticate: Bearer "));
    }

    #[test]
    fn the_page_may_ask_nobody_else() {
        let text = written(&Answer::good(HTML, "<p>"), sending(true, false));
        assert!(text.contains("\r\nContent-Security-Policy: default-src 'none'; "));
        for field in [
            "Cache-Control: no-store",
            "X-Content-Type-Options: nosniff",
            "Referrer-Policy: no-referrer",
        ] {
            assert!(text.contains(&format!("\r\n{field}\r\n")), "{field}");
        }
    }

    #[test]
    fn a_head_is_answered_with_a_head() {
        let text = written(&Answer::good(JSON, "{}"), sending(false, true));
        assert!(text.ends_with("\r\nContent-Length: 2\r\nConnection: close\r\n\r\n"));
    }

    #[test]
    fn events_end_with_the_connection() {
        let answer = Answer {
            status: 200,
            allow: None,
            content: Content::Events(b"event: hello\n\n".to_vec()),
        };
        let text = written(&answer, sending(true, false));
        assert!(!text.contains("Content-Length"));
        assert!(text.ends_with("Connection: close\r\n\r\nevent: hello\n\n"));
    }
}
