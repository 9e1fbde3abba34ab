//! The grammar of addresses: `[HOST:]PORT`, `[v6]:PORT`, `unix:/path`, and for servers a range of
//! ports and the suffixes `,weight=W`, `,max=M` and `,backup`.
//!
//! Pure: a host name stays a name here, the parent has it resolved.

use super::Resolver;
use super::value::{self, Expected};
use crate::config::{Address, ServerConfig};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV6};
use std::path::PathBuf;

/// The longest path of a unix socket in bytes, its closing zero not counted (unix(7)).
const UNIX_PATH_BYTES_MAX: usize = if cfg!(target_os = "linux") { 107 } else { 103 };
/// The longest host name in bytes (RFC 1035 §2.3.4).
const HOST_BYTES_MAX: usize = 253;
/// At most this many exchanges at once on one server.
const MAX_MAX: u64 = 1_000_000;

/// A host as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Host {
    /// A literal address; its port is 0.
    Literal(SocketAddr),
    /// A name that is still to be resolved.
    Name(String),
}

/// One address or a range of ports on one host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// The absolute path of a unix socket.
    Unix(PathBuf),
    /// One or more ports of a host.
    Tcp {
        /// The host.
        host: Host,
        /// The host as it was written, brackets included; a bare port's host is filled in.
        written: String,
        /// The first port.
        first: u16,
        /// The last port, not below the first.
        last: u16,
    },
}

/// One SERVER argument.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Servers {
    /// Where they listen.
    pub(super) place: Place,
    /// The weight of each.
    pub(super) weight: f64,
    /// The bound of each.
    pub(super) max: Option<u32>,
    /// Whether each only stands by.
    pub(super) backup: bool,
}

impl Servers {
    /// Number `offset`, below the count of the place, which was `found` there.
    pub(super) fn config(&self, found: &Found, offset: usize) -> ServerConfig {
        ServerConfig {
            name: self.place.name(offset),
            weight: self.weight,
            max: self.max,
            backup: self.backup,
            ..ServerConfig::new(found.address(offset))
        }
    }
}

/// Where a place is, once its name has been looked up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Found {
    /// The path of a unix socket.
    Unix(PathBuf),
    /// A host with the first port.
    Tcp(SocketAddr),
}

impl Place {
    /// How many addresses it stands for, at least 1.
    pub(super) fn count(&self) -> usize {
        match self {
            Place::Unix(_) => 1,
            Place::Tcp { first, last, .. } => 1 + usize::from(last.saturating_sub(*first)),
        }
    }

    /// What its address number `offset`, below the count, is called.
    pub(super) fn name(&self, offset: usize) -> String {
        match self {
            Place::Unix(path) => format!("unix:{}", path.display()),
            Place::Tcp { written, first, .. } => {
                format!("{written}:{}", usize::from(*first) + offset)
            }
        }
    }

    /// Looks its name up, once for all ports; a literal needs no lookup.
    ///
    /// # Errors
    ///
    /// What the resolver returns.
    pub(super) fn look_up(&self, resolver: &Resolver<'_>) -> io::Result<Found> {
        match self {
            Place::Unix(path) => Ok(Found::Unix(path.clone())),
            Place::Tcp { host, first, .. } => {
                let mut address = match host {
                    Host::Literal(address) => *address,
                    Host::Name(name) => resolver(name)?,
                };
                address.set_port(*first);
                Ok(Found::Tcp(address))
            }
        }
    }
}

impl Found {
    /// The address number `offset` of the place, below its count.
    pub(super) fn address(&self, offset: usize) -> Address {
        match self {
            Found::Unix(path) => Address::Unix(path.clone()),
            Found::Tcp(first) => {
                let mut address = *first;
                address.set_port(
                    first
                        .port()
                        .saturating_add(u16::try_from(offset).unwrap_or(u16::MAX)),
                );
                Address::Tcp(address)
            }
        }
    }
}

/// An address to listen at; a bare port stands on `bare`, port 0 means any free one.
pub(super) fn listener(text: &str, bare: Ipv4Addr) -> Result<Place, Expected> {
    let place = place(text, bare)?;
    match place {
        Place::Tcp { first, last, .. } if first != last => {
            Err("one port to listen at; ranges are for servers".to_owned())
        }
        _ => Ok(place),
    }
}

/// One SERVER argument; a bare port or range stands on 127.0.0.1, and port 0 is refused.
///
/// The first comma ends the address, so a unix path of a server cannot hold one.
pub(super) fn servers(text: &str) -> Result<Servers, Expected> {
    let mut parts = text.split(',');
    let place = place(parts.next().unwrap_or_default(), Ipv4Addr::LOCALHOST)?;
    if matches!(place, Place::Tcp { first: 0, .. }) {
        return Err("a port from 1 to 65535".to_owned());
    }
    let (mut weight, mut max, mut backup) = (None, None, None);
    for part in parts {
        let again = match part.split_once('=') {
            Some(("weight", number)) => weight.replace(value::weight(number)?).is_some(),
            Some(("max", number)) => max.replace(value::whole(number, 1, MAX_MAX)?).is_some(),
            None if part == "backup" => backup.replace(()).is_some(),
            _ => {
                let expected = "nothing but ,weight=W ,max=M or ,backup behind the address";
                return Err(expected.to_owned());
            }
        };
        if again {
            return Err("each of ,weight= ,max= and ,backup at most once".to_owned());
        }
    }
    Ok(Servers {
        place,
        weight: weight.unwrap_or(1.0),
        max,
        backup: backup.is_some(),
    })
}

fn place(text: &str, bare: Ipv4Addr) -> Result<Place, Expected> {
    if let Some(path) = text.strip_prefix("unix:") {
        return unix(path).map(Place::Unix);
    }
    if text.contains("://") || text.contains('/') {
        return Err(
            "an address without scheme or path, e.g. 127.0.0.1:9001 or unix:/path".to_owned(),
        );
    }
    let (written, ports) = match text.rsplit_once(':') {
        None if text
            .bytes()
            .next()
            .is_some_and(|byte| byte.is_ascii_digit())
            && !text.contains('.') =>
        {
            (bare.to_string(), text)
        }
        None if host(text).is_ok() => {
            return Err(format!("a port behind the host, e.g. {text}:8080"));
        }
        None => {
            return Err("[HOST:]PORT, [IPV6]:PORT or unix:/path, e.g. 127.0.0.1:8080".to_owned());
        }
        // Without brackets the last group of `::1` would pass for a port.
        Some((left, right))
            if left.contains(':') != left.starts_with('[') || right.contains(']') =>
        {
            return Err(
                "an IPv6 address in brackets with a port behind it, e.g. [::1]:8080".to_owned(),
            );
        }
        Some((left, right)) => (left.to_owned(), right),
    };
    let (first, last) = port_range(ports)?;
    Ok(Place::Tcp {
        host: host(&written)?,
        written,
        first,
        last,
    })
}

fn unix(path: &str) -> Result<PathBuf, Expected> {
    if !path.starts_with('/') || path.contains('\0') {
        return Err("an absolute path behind unix:, e.g. unix:/run/app.sock".to_owned());
    }
    if path.len() > UNIX_PATH_BYTES_MAX {
        return Err(format!(
            "a unix socket path of at most {UNIX_PATH_BYTES_MAX} bytes"
        ));
    }
    Ok(PathBuf::from(path))
}

/// Port 0 passes for a single port: whether it may is the caller's to say.
fn port_range(text: &str) -> Result<(u16, u16), Expected> {
    let port = |digits: &str| {
        value::whole::<u16>(digits, 0, 65535).map_err(|_| "a port from 1 to 65535".to_owned())
    };
    match text.split_once('-') {
        None => port(text).map(|port| (port, port)),
        Some((first, last)) => match (port(first)?, port(last)?) {
            (first, last) if first > 0 && first <= last => Ok((first, last)),
            _ => Err("a range of ports from low to high, e.g. 9001-9004".to_owned()),
        },
    }
}

fn host(text: &str) -> Result<Host, Expected> {
    if text.starts_with('[') {
        // The standard library reads a numeric zone as well: [fe80::1%2].
        return format!("{text}:0")
            .parse::<SocketAddrV6>()
            .map(|address| Host::Literal(SocketAddr::V6(address)))
            .map_err(|_| "an IPv6 address in the brackets, e.g. [::1]:8080".to_owned());
    }
    if let Ok(address) = text.parse::<Ipv4Addr>() {
        return Ok(Host::Literal(SocketAddr::new(IpAddr::V4(address), 0)));
    }
    // A resolver would take 127.1 or 300 for some address that nobody meant.
    if text
        .bytes()
        .all(|byte| byte.is_ascii_digit() || byte == b'.')
    {
        return Err(
            "a host name or an IPv4 address of four numbers, e.g. 127.0.0.1:8080".to_owned(),
        );
    }
    let label_is_plain = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    let labels = text.strip_suffix('.').unwrap_or(text);
    if text.len() <= HOST_BYTES_MAX && labels.split('.').all(label_is_plain) {
        Ok(Host::Name(text.to_owned()))
    } else {
        Err("a host name of ascii letters, digits, - and dots, e.g. app.example:8080".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(host: &str, first: u16, last: u16) -> Place {
        Place::Tcp {
            host: super::host(host).unwrap(),
            written: host.to_owned(),
            first,
            last,
        }
    }

    #[test]
    fn every_form_of_address_is_read() {
        let server = |text| servers(text).unwrap().place;
        assert_eq!(
            listener("8080", Ipv4Addr::UNSPECIFIED).unwrap(),
            tcp("0.0.0.0", 8080, 8080)
        );
        assert_eq!(
            listener("0", Ipv4Addr::LOCALHOST).unwrap(),
            tcp("127.0.0.1", 0, 0)
        );
        assert_eq!(server("9001"), tcp("127.0.0.1", 9001, 9001));
        assert_eq!(server("9001-9004"), tcp("127.0.0.1", 9001, 9004));
        assert_eq!(server("10.0.0.7:80"), tcp("10.0.0.7", 80, 80));
        assert_eq!(server("[::1]:80-81"), tcp("[::1]", 80, 81));
        assert_eq!(
            server("my-app.example_x:65535"),
            tcp("my-app.example_x", 65535, 65535)
        );
        assert_eq!(
            server("unix:/run/a b.sock"),
            Place::Unix("/run/a b.sock".into())
        );
        assert!(
            matches!(server("app:80"), Place::Tcp { host: Host::Name(name), .. } if name == "app")
        );
    }

    #[test]
    fn addresses_that_nobody_meant_are_refused() {
        for text in [
            "",
            ":",
            ":80",
            "app",
            "app:",
            "app:0",
            "0",
            "9001-",
            "-9004",
            "9004-9001",
            "0-9",
            "65536",
            "app:+80",
            "::1",
            "::1:80",
            "[::1]",
            "[::1]80",
            "[::1:80",
            "::1]:80",
            "[::g]:80",
            "[127.0.0.1]:80",
            "[]:80",
            "1:2:3",
            "127.1:80",
            "300.0.0.1:80",
            "127.0.0.1",
            "1.2.3.4.5:80",
            "a..b:80",
            "-a:80",
            "a-:80",
            "é:80",
            "a b:80",
            "http://app:80",
            "app:80/",
            "unix:",
            "unix:run.sock",
            "unix:/a\0b",
            "9001-9002-9003",
            "9001 ",
            "*:80",
            "app:80-",
            "app:http",
        ] {
            assert!(servers(text).is_err(), "{text} became {:?}", servers(text));
        }
        assert!(servers(&format!("unix:/{}", "x".repeat(UNIX_PATH_BYTES_MAX))).is_err());
        assert!(servers(&format!("{}.example:80", "x".repeat(64))).is_err());
        assert!(listener("8080-8081", Ipv4Addr::LOCALHOST).is_err());
        assert!(listener("8080,weight=1", Ipv4Addr::LOCALHOST).is_err());
    }

    #[test]
    fn weight_and_max_stand_behind_a_server() {
        let read = servers("9001-9002,weight=0.5,max=10").unwrap();
        assert_eq!((read.weight, read.max), (0.5, Some(10)));
        let read = servers("unix:/run/app.sock,max=1").unwrap();
        assert_eq!((read.weight, read.max), (1.0, Some(1)));
        assert!(servers("9001,backup,max=2").unwrap().backup);
        assert!(!servers("9001,max=2").unwrap().backup);
        for suffix in [
            ",",
            ",backup=1",
            ",backup,backup",
            ",Backup",
            ",weight",
            ",weight=",
            ",weight=0",
            ",max=0",
            ",max=-1",
            ",min=1",
            ",max=1,max=2",
            "weight=1",
        ] {
            assert!(servers(&format!("9001{suffix}")).is_err(), "{suffix}");
        }
    }

    #[test]
    fn a_refusal_says_what_was_missing() {
        assert!(servers("app").unwrap_err().contains("app:8080"));
        assert!(servers("::1:80").unwrap_err().contains("[::1]:8080"));
        assert!(servers("9004-9001").unwrap_err().contains("low to high"));
    }
}
