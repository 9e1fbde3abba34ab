//! What a request to the admin listener asks for, or why it does not get it.
//!
//! Pure. A target is taken apart here, once; whatever else is asked of it is refused with a text.

use std::borrow::Cow;

use crate::http::head::Request;

/// What is asked for.
#[derive(Debug, Clone, PartialEq)]
pub enum Ask {
    /// The dashboard.
    Page,
    /// Our own report.
    Health,
    /// Metrics for Prometheus.
    Metrics,
    /// What can be asked for.
    OpenApi,
    /// All that is known.
    Status,
    /// The last choices, at most so many.
    Guesses {
        /// As a table for people.
        as_text: bool,
        /// At most so many.
        limit: usize,
    },
    /// What happens from now on.
    Events,
    /// All servers.
    Servers,
    /// One of them.
    Server(String),
    /// One more; the content says which.
    Add,
    /// Something else of the server of this name.
    Change(String, Deed),
}

/// What is to be done with a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deed {
    /// It gets no new requests.
    Drain,
    /// It serves again.
    Enable,
    /// It gets no new requests and no checks.
    Disable,
    /// It has the weight that the content says.
    Weigh,
    /// It goes once it is drained.
    Remove,
}

/// What kind of thing that is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Anybody may know it.
    Open,
    /// It tells what goes on here.
    Read,
    /// It changes something.
    Change,
}

/// A request that gets something else than it asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denied {
    /// The status that says so.
    pub status: u16,
    /// One line for a person.
    pub text: Cow<'static, str>,
    /// The methods that would do, where only the method is wrong.
    pub allow: Option<&'static str>,
}

impl Denied {
    /// Refused with `status`, and why.
    pub fn new(status: u16, text: impl Into<Cow<'static, str>>) -> Denied {
        Denied {
            status,
            text: text.into(),
            allow: None,
        }
    }
}

/// The most choices that are told of.
pub const GUESSES_MAX: usize = 1000;
/// The longest name of a server, decoded, in bytes.
const NAME_MAX: usize = 1024;

impl Ask {
    /// What `request` asks for.
    ///
    /// # Errors
    /// There is no such thing (404), not by this method (405), or not with this query (400).
    pub fn of(request: &Request<'_>) -> Result<Ask, Denied> {
        let target = request.target;
        let at = target.iter().position(|byte| *byte == b'?');
        let (path, query) = target.split_at(at.unwrap_or(target.len()));
        let query = query.get(1..).unwrap_or_default();
        let method = match request.method_name {
            b"HEAD" => b"GET",
            method => method,
        };
        // An empty path is that of an absolute target.
        let path = path.strip_prefix(b"/").unwrap_or(path);
        let is_get = method == b"GET";
        let ask = match path {
            b"" => Ask::Page,
            b"healthcheck" => Ask::Health,
            b"metrics" => Ask::Metrics,
            b"openapi.json" => Ask::OpenApi,
            b"status" => Ask::Status,
            b"guesses" => Ask::guesses(query, accepts_text(request))?,
            b"events" => Ask::Events,
            b"servers" if method == b"POST" => return Ok(Ask::Add),
            b"servers" if !is_get => return Err(wrong_method("GET, HEAD, POST")),
            b"servers" => Ask::Servers,
            _ => return Ask::of_server(method, path),
        };
        if is_get {
            Ok(ask)
        } else {
            Err(wrong_method("GET, HEAD"))
        }
    }

    /// What is asked of one server: `servers/NAME` or `servers/NAME/DEED`.
    fn of_server(method: &[u8], path: &[u8]) -> Result<Ask, Denied> {
        let unknown = || {
            Denied::new(
                404,
                "there is nothing here; /openapi.json says what there is",
            )
        };
        let mut parts = path.split(|byte| *byte == b'/');
        if parts.next() != Some(b"servers") {
            return Err(unknown());
        }
        let (name, deed) = (parts.next().unwrap_or_default(), parts.next());
        if parts.next().is_some() || name.is_empty() {
            return Err(unknown());
        }
        let name = decoded(name)?;
        let deed = match deed {
            None => {
                return match method {
                    b"GET" => Ok(Ask::Server(name)),
                    b"DELETE" => Ok(Ask::Change(name, Deed::Remove)),
                    _ => Err(wrong_method("GET, HEAD, DELETE")),
                };
            }
            Some(b"drain") => Deed::Drain,
            Some(b"enable") => Deed::Enable,
            Some(b"disable") => Deed::Disable,
            Some(b"weight") => Deed::Weigh,
            Some(b"remove") => Deed::Remove,
            Some(_) => return Err(unknown()),
        };
        if method == b"POST" {
            Ok(Ask::Change(name, deed))
        } else {
            Err(wrong_method("POST"))
        }
    }

    fn guesses(query: &[u8], mut as_text: bool) -> Result<Ask, Denied> {
        let mut limit = GUESSES_MAX;
        for pair in query.split(|byte| *byte == b'&') {
            let at = pair.iter().position(|byte| *byte == b'=');
            let (name, value) = pair.split_at(at.unwrap_or(pair.len()));
            match (name, value.get(1..).unwrap_or_default()) {
                (b"format", b"text") => as_text = true,
                (b"format", b"json") => as_text = false,
                (b"format", _) => return Err(Denied::new(400, "format is json or text")),
                (b"limit", value) => {
                    let wanted = crate::http::grammar::decimal(value)
                        .filter(|wanted| (1..=GUESSES_MAX as u64).contains(wanted));
                    limit = wanted
                        .ok_or_else(|| Denied::new(400, "limit is a whole number from 1 to 1000"))?
                        as usize;
                }
                _ => {}
            }
        }
        Ok(Ask::Guesses { as_text, limit })
    }

    /// Whether it means the process that is in charge, and not one that was replaced.
    pub fn needs_charge(&self) -> bool {
        matches!(self, Ask::Events) || self.kind() == Kind::Change
    }

    /// What kind of thing it is.
    pub fn kind(&self) -> Kind {
        match self {
            Ask::Page | Ask::Health | Ask::OpenApi => Kind::Open,
            Ask::Add | Ask::Change(..) => Kind::Change,
            _ => Kind::Read,
        }
    }
}

fn wrong_method(allow: &'static str) -> Denied {
    Denied {
        allow: Some(allow),
        ..Denied::new(405, format!("this takes {allow}"))
    }
}

/// Whether the request would rather have text than JSON.
fn accepts_text(request: &Request<'_>) -> bool {
    request.fields.iter().any(|line| {
        line.name.eq_ignore_ascii_case(b"accept")
            && line
                .value
                .get(..10)
                .is_some_and(|start| start.eq_ignore_ascii_case(b"text/plain"))
    })
}

/// A part of a path without its escapes (RFC 3986 §2.1).
fn decoded(part: &[u8]) -> Result<String, Denied> {
    let wrong = || Denied::new(400, "the name of the server is not percent-encoded UTF-8");
    let mut bytes = Vec::with_capacity(part.len());
    let mut rest = part;
    while let Some((first, behind)) = rest.split_first() {
        rest = behind;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let digits = behind.split_at_checked(2).ok_or_else(wrong)?;
        rest = digits.1;
        let number = digits.0.iter().try_fold(0, |number, digit| {
            Some(number * 16 + char::from(*digit).to_digit(16)?)
        });
        bytes.push(number.ok_or_else(wrong)? as u8);
    }
    if bytes.len() > NAME_MAX {
        return Err(Denied::new(404, "no server has so long a name"));
    }
    String::from_utf8(bytes).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::head::{self, slots};

    fn asked(method: &str, target: &str) -> Result<Ask, u16> {
        let bytes = format!("{method} {target} HTTP/1.1\r\nHost: a\r\n\r\n");
        let mut slots = slots();
        let request = head::request(bytes.as_bytes(), &mut slots).unwrap();
        Ask::of(&request).map_err(|denied| denied.status)
    }

    #[test]
    fn every_path_has_its_meaning() {
        for (method, target, ask) in [
            ("GET", "/", Ask::Page),
            ("GET", "/?x", Ask::Page),
            ("HEAD", "/status", Ask::Status),
            ("GET", "http://a", Ask::Page),
            ("GET", "/metrics", Ask::Metrics),
            ("GET", "/servers", Ask::Servers),
            ("POST", "/servers", Ask::Add),
            (
                "GET",
                "/servers/127.0.0.1:9001",
                Ask::Server("127.0.0.1:9001".to_owned()),
            ),
            (
                "POST",
                "/servers/unix%3A%2Ftmp%2fa%20b/drain",
                Ask::Change("unix:/tmp/a b".to_owned(), Deed::Drain),
            ),
            (
                "DELETE",
                "/servers/a",
                Ask::Change("a".to_owned(), Deed::Remove),
            ),
        ] {
            assert_eq!(asked(method, target), Ok(ask), "{method} {target}");
        }
    }

    #[test]
    fn what_there_is_not_is_refused() {
        for (method, target, status) in [
            ("GET", "/nothing", 404),
            ("GET", "//", 404),
            ("GET", "/status/", 404),
            ("GET", "/servers/", 404),
            ("POST", "/servers//drain", 404),
            ("POST", "/servers/a/b", 404),
            ("POST", "/servers/a/drain/", 404),
            ("POST", "/status", 405),
            ("PUT", "/servers", 405),
            ("GET", "/servers/a/drain", 405),
            ("POST", "/servers/a", 405),
            ("OPTIONS", "*", 404),
            ("GET", "/guesses?limit=0", 400),
            ("GET", "/guesses?limit=1001", 400),
            ("GET", "/guesses?format=xml", 400),
            ("POST", "/servers/%4/drain", 400),
            ("POST", "/servers/%zz/drain", 400),
            ("POST", "/servers/%ff/drain", 400),
        ] {
            assert_eq!(asked(method, target), Err(status), "{method} {target}");
        }
    }

    #[test]
    fn choices_come_as_wanted() {
        let guesses = |target: &str| asked("GET", target).unwrap();
        assert_eq!(
            guesses("/guesses"),
            Ask::Guesses {
                as_text: false,
                limit: 1000
            }
        );
        assert_eq!(
            guesses("/guesses?format=text&limit=7"),
            Ask::Guesses {
                as_text: true,
                limit: 7
            }
        );
    }
}
