//! Who may ask what: the token, pages of other origins, names of other sites.
//!
//! Pure. A browser is the reader's own, but the pages in it are not: any page may send a request to
//! any address, this one included, and behind a name that points here (DNS rebinding) even read the
//! answer. So changes are refused that another origin asks for, and on loopback, where no token need
//! be, so is every Host that could be anybody's.

use super::ask::{Denied, Kind};
use crate::config::Address;
use crate::http::head::{Field, Request};
use crate::mutant::{self, Mutant};

/// What the listener knows of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Guard {
    reach: Reach,
    token: Option<String>,
}

/// Who can connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reach {
    /// Who may open the socket's file; no browser does.
    File,
    /// Programs on this machine, browsers among them.
    Loopback,
    /// Others.
    Wide,
}

impl Guard {
    /// The guard of a listener at `listen`; where there is a `token` it is asked for.
    pub fn new(listen: &Address, token: Option<String>) -> Guard {
        let reach = match listen {
            Address::Unix(_) => Reach::File,
            Address::Tcp(address) if address.ip().to_canonical().is_loopback() => Reach::Loopback,
            Address::Tcp(_) => Reach::Wide,
        };
        Guard {
            reach,
            token: token.filter(|token| !token.is_empty()),
        }
    }

    /// Whether a token is asked for.
    pub fn has_token(&self) -> bool {
        self.token.is_some()
    }

    /// Whether `request`, which asks for something of this `kind`, may have it.
    ///
    /// # Errors
    /// Why not.
    pub fn judge(&self, request: &Request<'_>, kind: Kind) -> Result<(), Denied> {
        let host = host(request);
        if self.reach == Reach::Loopback && self.token.is_none() && !is_loopback_name(host) {
            return Err(Denied::new(
                421,
                "Host is not a name of this machine's loopback, such as localhost or 127.0.0.1",
            ));
        }
        if kind != Kind::Open
            && let Some(token) = &self.token
            && !is_alike(bearer(request), token.as_bytes())
        {
            return Err(Denied::new(
                401,
                "Authorization: Bearer TOKEN is needed, with the value of --admin-token",
            ));
        }
        if kind == Kind::Change {
            if self.reach == Reach::Wide && self.token.is_none() {
                return Err(Denied::new(
                    403,
                    "changes need --admin-token where others than this machine can connect",
                ));
            }
            if is_foreign(request, host) && !mutant::is(Mutant::ForeignPageObeyed) {
                return Err(Denied::new(
                    403,
                    "a page of another origin asks for a change",
                ));
            }
        }
        Ok(())
    }
}

/// The site that the request is for.
fn host<'b>(request: &Request<'b>) -> &'b [u8] {
    let mut lines = request.fields.iter();
    let host = lines.find(|line| line.kind == Field::Host);
    request
        .authority
        .or(host.map(|line| line.value))
        .unwrap_or_default()
}

/// Whether a name, with a port or without, is of loopback and can never be anybody else's.
fn is_loopback_name(host: &[u8]) -> bool {
    // HTTP/1.0 has no Host, and browsers do not speak that.
    let Ok(host) = std::str::from_utf8(host) else {
        return false;
    };
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let address = name.trim_start_matches('[').trim_end_matches(']');
    let is_loopback = |address: std::net::IpAddr| address.to_canonical().is_loopback();
    name.is_empty()
        || name.eq_ignore_ascii_case("localhost")
        || address.parse().is_ok_and(is_loopback)
}

/// Whether a browser says that the page behind the request is not one of ours.
fn is_foreign(request: &Request<'_>, host: &[u8]) -> bool {
    request.fields.iter().any(|line| {
        if line.name.eq_ignore_ascii_case(b"sec-fetch-site") {
            return !matches!(line.value, b"same-origin" | b"none");
        }
        if !line.name.eq_ignore_ascii_case(b"origin") {
            return false;
        }
        // A TLS terminator may stand before us, so that either scheme is ours.
        let site = line
            .value
            .strip_prefix(b"http://")
            .or(line.value.strip_prefix(b"https://"));
        !site.is_some_and(|site| site.eq_ignore_ascii_case(host))
    })
}

/// The token that the request brings.
fn bearer<'b>(request: &Request<'b>) -> &'b [u8] {
    let line = request
        .fields
        .iter()
        .find(|line| line.name.eq_ignore_ascii_case(b"authorization"));
    let value = line.map_or(b"".as_slice(), |line| line.value);
    match value.split_at_checked(b"Bearer ".len()) {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case(b"Bearer ") => token.trim_ascii(),
        _ => b"",
    }
}

/// Whether both are the same; how long that takes depends on the length of `given` alone.
fn is_alike(given: &[u8], token: &[u8]) -> bool {
    let mut differs = u8::from(given.len() != token.len());
    for (index, byte) in given.iter().enumerate() {
        let wanted = token.get(index % token.len().max(1));
        differs |= std::hint::black_box(byte ^ wanted.copied().unwrap_or_default());
    }
    std::hint::black_box(differs) == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::head::{self, slots};

    const LOOPBACK: &str = "127.0.0.1:9900";
    const WIDE: &str = "10.0.0.1:9900";

    fn judged(listen: &str, token: Option<&str>, fields: &str, kind: Kind) -> u16 {
        let guard = Guard::new(
            &Address::Tcp(listen.parse().unwrap()),
            token.map(str::to_owned),
        );
        let bytes = format!("POST /servers HTTP/1.1\r\n{fields}\r\n");
        let mut slots = slots();
        let request = head::request(bytes.as_bytes(), &mut slots).unwrap();
        guard
            .judge(&request, kind)
            .map_or_else(|denied| denied.status, |()| 200)
    }

    #[test]
    fn a_page_of_another_origin_changes_nothing() {
        for (fields, status) in [
            ("Host: localhost:9900\r\n", 200),
            (
                "Host: localhost:9900\r\nOrigin: http://localhost:9900\r\n",
                200,
            ),
            (
                "Host: localhost:9900\r\nOrigin: https://LOCALHOST:9900\r\n",
                200,
            ),
            (
                "Host: localhost:9900\r\nSec-Fetch-Site: same-origin\r\n",
                200,
            ),
            ("Host: localhost:9900\r\nSec-Fetch-Site: none\r\n", 200),
            (
                "Host: localhost:9900\r\nOrigin: http://localhost:9901\r\n",
                403,
            ),
            (
                "Host: localhost:9900\r\nOrigin: http://127.0.0.1:9900\r\n",
                403,
            ),
            ("Host: localhost:9900\r\nOrigin: null\r\n", 403),
            (
                "Host: localhost:9900\r\nSec-Fetch-Site: cross-site\r\n",
                403,
            ),
            ("Host: localhost:9900\r\nSec-Fetch-Site: same-site\r\n", 403),
            (
                "Host: localhost:9900\r\nOrigin: http://localhost:9900\r\nSec-Fetch-Site: cross-site\r\n",
                403,
            ),
        ] {
            assert_eq!(
                judged(LOOPBACK, None, fields, Kind::Change),
                status,
                "{fields}"
            );
        }
    }

    #[test]
    fn a_name_that_was_pointed_here_reads_nothing() {
        for (host, status) in [
            ("localhost", 200),
            ("localhost:9900", 200),
            ("127.0.0.1:9900", 200),
            ("127.9.9.9", 200),
            ("[::1]:9900", 200),
            ("evil.example:9900", 421),
            ("localhost.evil.example", 421),
            ("127.0.0.1.evil.example:9900", 421),
            ("10.0.0.1", 421),
        ] {
            let fields = format!("Host: {host}\r\n");
            assert_eq!(
                judged(LOOPBACK, None, &fields, Kind::Read),
                status,
                "{host}"
            );
            // A page that has no token reads nothing anyway; and what is open to all has many names.
            assert_eq!(judged(WIDE, None, &fields, Kind::Read), 200);
        }
    }

    #[test]
    fn changes_need_a_token_where_others_can_connect() {
        let host = "Host: lb.example\r\n";
        assert_eq!(judged(WIDE, None, host, Kind::Change), 403);
        assert_eq!(judged("0.0.0.0:1", None, host, Kind::Change), 403);
        assert_eq!(judged(WIDE, None, host, Kind::Read), 200);
        assert_eq!(judged(WIDE, Some(""), host, Kind::Change), 403);
    }

    #[test]
    fn a_token_that_is_set_is_needed_everywhere() {
        for (value, status) in [
            ("Bearer sesame", 200),
            ("bearer  sesame", 200),
            ("Bearer sesam", 401),
            ("Bearer sesamesesame", 401),
            ("Bearer ", 401),
            ("Basic sesame", 401),
            ("sesame", 401),
        ] {
            let fields = format!("Host: localhost\r\nAuthorization: {value}\r\n");
            for listen in [LOOPBACK, WIDE] {
                for kind in [Kind::Read, Kind::Change] {
                    assert_eq!(
                        judged(listen, Some("sesame"), &fields, kind),
                        status,
                        "{value}"
                    );
                }
            }
        }
        let none = "Host: localhost\r\n";
        assert_eq!(judged(LOOPBACK, Some("sesame"), none, Kind::Read), 401);
        assert_eq!(judged(LOOPBACK, Some("sesame"), none, Kind::Open), 200);
    }
}
