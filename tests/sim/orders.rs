//! What the operator orders at the admin listener: changes that are made, and attempts that must come
//! to nothing.

use bestguess::config::{AdminConfig, ServerConfig};
use bestguess::proxy::Change;

use super::rng::Rng;
use super::world::{anywhere, tcp_address};

/// Who may order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    /// Whoever is on this machine.
    Loopback,
    /// Who knows the token.
    Token,
    /// Nobody: others can connect, and there is no token.
    Wide,
}

const TOKEN: &str = "sesame";

impl Door {
    /// How the balancer is told of it.
    pub fn config(self) -> AdminConfig {
        AdminConfig {
            listen: match self {
                Door::Wide => anywhere(1001),
                Door::Loopback | Door::Token => tcp_address(1001),
            },
            token: (self == Door::Token).then(|| TOKEN.to_owned()),
        }
    }

    /// The field that opens it, if there is one.
    pub fn key(self) -> &'static str {
        match self {
            Door::Token => "Authorization: Bearer sesame\r\n",
            Door::Loopback | Door::Wide => "",
        }
    }
}

/// A request that makes `change`, and the status that says that it was made.
pub fn order(change: &Change, door: Door, rng: &mut Rng) -> (Vec<u8>, u16) {
    let deed = |name: &str, deed| ("POST", format!("/servers/{}/{deed}", escaped(name)));
    let ((method, target), content, status) = match change {
        Change::Drain(name) => (deed(name, "drain"), String::new(), 200),
        Change::Enable(name) => (deed(name, "enable"), String::new(), 200),
        Change::Disable(name) => (deed(name, "disable"), String::new(), 200),
        Change::Weigh(name, weight) => (deed(name, "weight"), format!("{weight}\n"), 200),
        Change::Remove(name) if rng.chance(500) => {
            let target = format!("/servers/{}", escaped(name));
            (("DELETE", target), String::new(), 200)
        }
        Change::Remove(name) => (deed(name, "remove"), String::new(), 200),
        Change::Add(config) => (("POST", "/servers".to_owned()), written(config), 201),
        Change::Limit(..) | Change::Replace(_) => unreachable!("no order says that"),
    };
    let fields = door.key();
    let bytes = match rng.below(3) {
        0 if !content.is_empty() => {
            let length = content.len();
            format!(
                "{method} {target} HTTP/1.1\r\nHost: localhost\r\n{fields}Transfer-Encoding: chunked\r\n\r\n{length:x}\r\n{content}\r\n0\r\n\r\n"
            )
        }
        1 => request(
            method,
            &target,
            &format!("{fields}Expect: 100-continue\r\n"),
            &content,
        ),
        _ => request(method, &target, fields, &content),
    };
    (bytes.into_bytes(), status)
}

/// An attempt to change something of the server `name`, which is there, that must come to nothing.
pub fn attempt(name: &str, door: Door, rng: &mut Rng) -> Vec<u8> {
    let server = format!("/servers/{}", escaped(name));
    let key = door.key();
    let foreign = rng.pick(&[
        "Origin: http://elsewhere.example\r\n",
        "Origin: null\r\n",
        "Sec-Fetch-Site: cross-site\r\n",
    ]);
    let deed = rng.pick(&["drain", "disable", "remove"]);
    let text = match rng.below(10) {
        0 => request(
            "POST",
            &format!("{server}/{deed}"),
            &format!("{key}{foreign}"),
            "",
        ),
        1 if door == Door::Token => request(
            "POST",
            &format!("{server}/{deed}"),
            rng.pick(&["", "Authorization: Bearer sesam\r\n"]),
            "",
        ),
        2 => {
            let weight = rng.pick(&["0", "-1", "NaN", "1e9", "", "two", "1\0", "1 2"]);
            request("POST", &format!("{server}/weight"), key, weight)
        }
        3 => {
            let text = rng.pick(&[
                "",
                "no server",
                "127.0.0.1:99999",
                "9001\n9002",
                "\u{7f}",
                "9001,max=0",
            ]);
            request("POST", "/servers", key, text)
        }
        4 => request("POST", "/servers", key, name),
        5 => request(
            "POST",
            &format!("{server}/weight"),
            key,
            &"1".repeat(rng.range(4097, 9000) as usize),
        ),
        6 => request("POST", &format!("/servers/nobody/{deed}"), key, ""),
        7 => request("GET", &format!("{server}/{deed}"), key, ""),
        8 => format!(
            "POST {server}/{deed} HTTP/1.1\r\nHost: localhost\r\n{key}Transfer-Encoding: chunked\r\n\r\nfour\r\n"
        ),
        _ => format!(
            "POST {server}/{deed} HTTP/1.1\r\nHost: localhost\r\n{key}Content-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
        ),
    };
    let mut bytes = text.into_bytes();
    if rng.chance(100) && bytes.ends_with(b"two") {
        bytes.truncate(bytes.len() - 3);
        bytes.extend_from_slice(&[0xff, 0xfe, 0x80]);
    }
    bytes
}

/// A server as the command line has it.
fn written(config: &ServerConfig) -> String {
    let max = config
        .max
        .map_or(String::new(), |max| format!(",max={max}"));
    format!("{},weight={}{max}", config.address, config.weight)
}

fn request(method: &str, target: &str, fields: &str, content: &str) -> String {
    let length = content.len();
    format!(
        "{method} {target} HTTP/1.1\r\nHost: localhost\r\n{fields}Content-Length: {length}\r\n\r\n{content}"
    )
}

/// A name as a part of a path.
fn escaped(name: &str) -> String {
    let escape = |byte: u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b':' => {
            char::from(byte).to_string()
        }
        _ => format!("%{byte:02X}"),
    };
    name.bytes().map(escape).collect()
}
