//! One end of a connection that looks at every byte, and a client on it.

use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::time::Duration;

use bestguess::config::Address;
use socket2::{Domain, SockAddr, Socket, Type};

use crate::watch::PATIENCE;

/// A connection, with the bytes that came and were not asked for yet.
pub(crate) struct Wire {
    socket: Socket,
    ahead: Vec<u8>,
}

/// The first line of a message and its fields.
#[derive(Debug, Clone)]
pub(crate) struct Head {
    pub(crate) first: String,
    pub(crate) fields: Vec<(String, String)>,
}

impl Wire {
    pub(crate) fn new(socket: Socket) -> Wire {
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.set_write_timeout(Some(PATIENCE)).unwrap();
        if socket.domain().unwrap() != Domain::UNIX {
            socket.set_tcp_nodelay(true).unwrap();
        }
        Wire {
            socket,
            ahead: Vec::new(),
        }
    }

    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.socket.write_all(bytes.as_ref())
    }

    pub(crate) fn end_sending(&self) {
        // The other side may have gone.
        let _ = self.socket.shutdown(Shutdown::Write);
    }

    /// The next head; none if the other side ended before its first byte.
    pub(crate) fn head(&mut self) -> io::Result<Option<Head>> {
        let mut searched = 0;
        let end = loop {
            let found = self.ahead[searched..]
                .windows(4)
                .position(|window| window == b"\r\n\r\n");
            if let Some(place) = found {
                break searched + place + 4;
            }
            searched = self.ahead.len().saturating_sub(3);
            if !self.fill()? {
                return match self.ahead.is_empty() {
                    true => Ok(None),
                    false => Err(broken(format!("ended in a head: {:?}", self.ahead_text()))),
                };
            }
        };
        let head = self.take(end);
        let text = String::from_utf8_lossy(&head[..end - 4]).into_owned();
        let mut lines = text.split("\r\n").map(str::to_owned);
        let first = lines.next().unwrap_or_default();
        let fields = lines
            .map(|line| match line.split_once(':') {
                Some((name, value)) => Ok((name.to_owned(), value.trim().to_owned())),
                None => Err(broken(format!("no field: {line}"))),
            })
            .collect::<io::Result<Vec<_>>>()?;
        Ok(Some(Head { first, fields }))
    }

    pub(crate) fn exactly(&mut self, count: usize) -> io::Result<Vec<u8>> {
        while self.ahead.len() < count {
            if !self.fill()? {
                let text = format!("ended after {} bytes of {count}", self.ahead.len());
                return Err(broken(text));
            }
        }
        Ok(self.take(count))
    }

    /// Content in chunks, its trailers thrown away.
    pub(crate) fn chunked(&mut self) -> io::Result<Vec<u8>> {
        let mut content = Vec::new();
        loop {
            let line = self.line()?;
            let digits = line.split(';').next().unwrap_or_default().trim_end();
            let size = usize::from_str_radix(digits, 16)
                .map_err(|_| broken(format!("no size of a chunk: {line:?}")))?;
            if size == 0 {
                while !self.line()?.is_empty() {}
                return Ok(content);
            }
            content.extend(self.exactly(size)?);
            if self.exactly(2)? != b"\r\n" {
                return Err(broken("no line end behind a chunk".to_owned()));
            }
        }
    }

    /// Everything until the other side ends its stream in good order.
    pub(crate) fn until_end(&mut self) -> io::Result<Vec<u8>> {
        while self.fill()? {}
        Ok(std::mem::take(&mut self.ahead))
    }

    /// The bytes that have come, at least one; none: the other side has ended its stream.
    pub(crate) fn some(&mut self) -> io::Result<Option<Vec<u8>>> {
        if self.ahead.is_empty() && !self.fill()? {
            return Ok(None);
        }
        Ok(Some(std::mem::take(&mut self.ahead)))
    }

    fn line(&mut self) -> io::Result<String> {
        loop {
            if let Some(place) = self.ahead.windows(2).position(|pair| pair == b"\r\n") {
                let line = self.take(place + 2);
                return Ok(String::from_utf8_lossy(&line[..place]).into_owned());
            }
            if !self.fill()? {
                return Err(broken("ended in a line".to_owned()));
            }
        }
    }

    /// Waits for bytes; false: the stream has ended.
    fn fill(&mut self) -> io::Result<bool> {
        let mut room = [0; 64 << 10];
        let count = self.socket.read(&mut room)?;
        self.ahead.extend_from_slice(&room[..count]);
        Ok(count > 0)
    }

    fn take(&mut self, count: usize) -> Vec<u8> {
        let rest = self.ahead.split_off(count);
        std::mem::replace(&mut self.ahead, rest)
    }

    fn ahead_text(&self) -> String {
        String::from_utf8_lossy(&self.ahead).into_owned()
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        // A program that another test starts at this moment holds a copy of every descriptor until
        // it runs; closing ours would not yet end the connection.
        let _ = self.socket.shutdown(Shutdown::Both);
    }
}

impl Head {
    /// The value of a field that may be there once.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let mut found = self
            .fields
            .iter()
            .filter(|(found, _)| found.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str());
        let value = found.next();
        assert_eq!(found.next(), None, "{name} twice in {self:?}");
        value
    }

    /// Whether the connection ends behind this message.
    pub(crate) fn closes(&self) -> bool {
        self.field("Connection")
            .is_some_and(|value| value.eq_ignore_ascii_case("close"))
    }
}

/// A whole response.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) head: Head,
    pub(crate) content: Vec<u8>,
    /// The interim responses before it.
    pub(crate) interim: Vec<Head>,
}

impl Response {
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.head.field(name)
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.content).unwrap()
    }
}

/// A client. Whatever goes wrong fails the test, unless the method says otherwise.
pub(crate) struct Client {
    pub(crate) wire: Wire,
}

impl Client {
    pub(crate) fn new(address: &Address) -> Client {
        let socket = stream_socket(address);
        socket.connect(&sock_addr(address)).unwrap();
        Client {
            wire: Wire::new(socket),
        }
    }

    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.wire.send(bytes).unwrap();
    }

    pub(crate) fn get(&mut self, target: &str) -> Response {
        self.ask("GET", target);
        self.response()
    }

    pub(crate) fn post(&mut self, target: &str, content: &[u8]) -> Response {
        self.send(request("POST", target, &[], content));
        self.response()
    }

    /// Sends a request without content.
    pub(crate) fn ask(&mut self, method: &str, target: &str) {
        self.send(request(method, target, &[], b""));
    }

    pub(crate) fn response(&mut self) -> Response {
        self.response_to("GET").unwrap()
    }

    /// The response to a request of this method, whole and in its framing.
    pub(crate) fn response_to(&mut self, method: &str) -> io::Result<Response> {
        let mut interim = Vec::new();
        loop {
            let Some(head) = self.wire.head()? else {
                return Err(broken("ended without a response".to_owned()));
            };
            let status = head
                .first
                .strip_prefix("HTTP/1.1 ")
                .filter(|rest| rest.as_bytes().get(3) == Some(&b' '))
                .and_then(|rest| rest[..3].parse().ok());
            let Some(status) = status else {
                return Err(broken(format!("no status line: {}", head.first)));
            };
            if (100..200).contains(&status) && status != 101 {
                interim.push(head);
                continue;
            }
            let content = if method == "HEAD" || matches!(status, 101 | 204 | 304) {
                Vec::new()
            } else if let Some(coding) = head.field("Transfer-Encoding") {
                assert_eq!(coding, "chunked");
                assert_eq!(head.field("Content-Length"), None);
                self.wire.chunked()?
            } else if let Some(length) = head.field("Content-Length") {
                self.wire.exactly(length.parse().map_err(|_| {
                    let text = format!("no length: {length}");
                    broken(text)
                })?)?
            } else {
                self.wire.until_end()?
            };
            return Ok(Response {
                status,
                head,
                content,
                interim,
            });
        }
    }

    /// Waits for the first bytes of an answer, which stay ahead.
    pub(crate) fn await_some(&mut self) {
        if self.wire.ahead.is_empty() {
            assert!(self.wire.fill().unwrap(), "ended without an answer");
        }
    }

    /// Whether the other side ends the connection, in any way, without another byte.
    pub(crate) fn is_ended(&mut self) -> bool {
        match self.wire.until_end() {
            Ok(rest) => rest.is_empty(),
            Err(error) => error.kind() == ErrorKind::ConnectionReset && self.wire.ahead.is_empty(),
        }
    }

    /// Leaves with a reset. A mere close could be that of a client that only sends no more.
    pub(crate) fn abort(self) {
        let socket = &self.wire.socket;
        socket.set_linger(Some(Duration::ZERO)).unwrap();
    }

    /// Whether nothing has come so far, not even the end.
    pub(crate) fn has_heard_nothing(&mut self) -> bool {
        self.wire.socket.set_nonblocking(true).unwrap();
        let outcome = self.wire.fill();
        self.wire.socket.set_nonblocking(false).unwrap();
        self.wire.ahead.is_empty()
            && outcome.is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
    }
}

/// A socket that can connect to `address`, or listen there.
pub(crate) fn stream_socket(address: &Address) -> Socket {
    let domain = match address {
        Address::Tcp(address) => Domain::for_address(*address),
        Address::Unix(_) => Domain::UNIX,
    };
    Socket::new(domain, Type::STREAM, None).unwrap()
}

pub(crate) fn sock_addr(address: &Address) -> SockAddr {
    match address {
        Address::Tcp(address) => (*address).into(),
        Address::Unix(path) => SockAddr::unix(path).unwrap(),
    }
}

/// A request with a length if it has content.
pub(crate) fn request(method: &str, target: &str, fields: &[&str], content: &[u8]) -> Vec<u8> {
    let mut bytes = format!("{method} {target} HTTP/1.1\r\nHost: test\r\n").into_bytes();
    for field in fields {
        bytes.extend_from_slice(field.as_bytes());
        bytes.extend_from_slice(b"\r\n");
    }
    if !content.is_empty() || method == "POST" || method == "PUT" {
        bytes.extend_from_slice(format!("Content-Length: {}\r\n", content.len()).as_bytes());
    }
    bytes.extend_from_slice(b"\r\n");
    bytes.extend_from_slice(content);
    bytes
}

/// `content` in chunks of `size` bytes, with the last one.
pub(crate) fn chunks(content: &[u8], size: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    for chunk in content.chunks(size) {
        bytes.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        bytes.extend_from_slice(chunk);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"0\r\n\r\n");
    bytes
}

fn broken(text: String) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, text)
}
