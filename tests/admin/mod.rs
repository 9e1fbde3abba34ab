//! The admin listener under arbitrary bytes: one connection that says what the input is, in pieces of
//! one size, to a balancer of three servers.
//!
//! Whatever comes, nothing panics, every answer is whole and none is a fault of ours, where others can
//! connect without a token nothing is changed, there is always a server, and in the end nothing is left.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use bestguess::cli;
use bestguess::config::{Address, AdminConfig, CheckMode, Config, ServerConfig};
use bestguess::net::{Event, Net, Ready, Signal, Socket, Time, Token};
use bestguess::proxy::{Flow, Proxy};

/// Turns behind the input's end within which all has to be over.
const TURNS_TO_END: usize = 50;

/// What the connection says, and what it was told.
#[derive(Default)]
struct Wire {
    pieces: VecDeque<Vec<u8>>,
    told: Vec<u8>,
    is_accepted: bool,
    token: Option<Token>,
    now: u64,
}

struct OneNet(Rc<RefCell<Wire>>);

struct OneSocket(Rc<RefCell<Wire>>);

impl Drop for OneSocket {
    fn drop(&mut self) {
        self.0.borrow_mut().token = None;
    }
}

impl Socket for OneSocket {
    type Pipe = std::convert::Infallible;

    fn recv(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut wire = self.0.borrow_mut();
        let Some(piece) = wire.pieces.front_mut() else {
            return Ok(0);
        };
        if piece.is_empty() {
            // The next one comes with the next turn.
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let count = piece.len().min(buffer.len());
        buffer[..count].copy_from_slice(&piece[..count]);
        piece.drain(..count);
        Ok(count)
    }

    fn send(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().told.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn abort(&mut self) {}

    fn connected(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Net for OneNet {
    type Socket = OneSocket;

    fn now(&self) -> Time {
        Time(self.0.borrow().now)
    }

    fn date(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_nanos(self.0.borrow().now)
    }

    fn poll(&mut self, _: Option<Duration>, events: &mut Vec<Event>) -> io::Result<()> {
        let mut wire = self.0.borrow_mut();
        wire.now += 1_000_000;
        if !wire.is_accepted {
            let (token, ready) = (Token::ADMIN_DOOR, Ready::READABLE);
            events.push(Event { token, ready });
        }
        if wire.pieces.front().is_some_and(Vec::is_empty) {
            wire.pieces.pop_front();
        }
        if let Some(token) = wire.token {
            let mut ready = Ready::READABLE.with(Ready::WRITABLE);
            if wire.pieces.is_empty() {
                ready.add(Ready::PEER_CLOSED);
            }
            events.push(Event { token, ready });
        }
        Ok(())
    }

    fn accept(&mut self) -> io::Result<(OneSocket, Option<SocketAddr>)> {
        Err(io::ErrorKind::WouldBlock.into())
    }

    fn accept_admin(&mut self) -> io::Result<(OneSocket, Option<SocketAddr>)> {
        match std::mem::replace(&mut self.0.borrow_mut().is_accepted, true) {
            true => Err(io::ErrorKind::WouldBlock.into()),
            false => Ok((OneSocket(Rc::clone(&self.0)), None)),
        }
    }

    fn close_listener(&mut self) {}

    fn connect(&mut self, _: &Address) -> io::Result<OneSocket> {
        Err(io::ErrorKind::ConnectionRefused.into())
    }

    fn watch(&mut self, _: &mut OneSocket, token: Token) -> io::Result<()> {
        self.0.borrow_mut().token = Some(token);
        Ok(())
    }

    fn signal(&mut self) -> Option<Signal> {
        None
    }
}

fn tcp(port: u16) -> Address {
    Address::Tcp(SocketAddr::from(([127, 0, 0, 1], port)))
}

/// Who may ask: on loopback, with a token, anybody who connects, and who may open a file.
fn door(number: u8) -> AdminConfig {
    let listen = match number {
        0 | 1 => tcp(9000),
        2 => Address::Tcp(SocketAddr::from(([0, 0, 0, 0], 9000))),
        _ => Address::Unix("/admin".into()),
    };
    AdminConfig {
        listen,
        token: (number == 1).then(|| "t".to_owned()),
    }
}

/// Says what is in `input` behind its first byte, which chooses the door and the size of the pieces;
/// the statuses that came.
pub fn ask(input: &[u8]) -> Vec<u16> {
    let Some((choice, bytes)) = input.split_first() else {
        return Vec::new();
    };
    let size = [20_000, 1, 7, 100][usize::from(choice / 4 % 4)];
    let pieces: VecDeque<Vec<u8>> = bytes.chunks(size).map(<[u8]>::to_vec).collect();
    let turns = pieces.len() + TURNS_TO_END;
    let wire = Rc::new(RefCell::new(Wire {
        pieces,
        ..Wire::default()
    }));
    let servers = (9001..9004).map(|port| ServerConfig::new(tcp(port)));
    let mut config = Config::new(tcp(8000), servers.collect());
    config.check.mode = CheckMode::Off;
    config.admin = Some(door(choice % 4));
    let mut proxy = Proxy::new(OneNet(Rc::clone(&wire)), config, 10, 1);
    proxy.read_servers_by(cli::server);
    let before = servers_of(&proxy);
    for _ in 0..turns {
        assert_eq!(
            proxy.turn().expect("the poll does not fail"),
            Flow::Continue
        );
    }
    let census = proxy.census();
    assert_eq!((census.admins, census.bugs), (0, 0), "something is left");
    let after = servers_of(&proxy);
    assert!(!after.is_empty(), "no server is left");
    if choice % 4 == 2 {
        assert_eq!(before, after, "something was changed without a token");
    }
    judge(&wire.borrow().told).unwrap_or_else(|wrong| {
        let told = wire.borrow().told.escape_ascii().to_string();
        panic!("{wrong} in {told}");
    })
}

fn servers_of(proxy: &Proxy<OneNet>) -> Vec<String> {
    let present = proxy.servers().filter(|it| it.setting.is_present());
    let text = |server: bestguess::proxy::ServerView<'_>| {
        let weight = server.config.weight;
        assert!(weight.is_finite() && weight > 0.0, "a weight of {weight}");
        format!("{} {:?} {weight}", server.name, server.setting)
    };
    present.map(text).collect()
}

/// Reads answers one behind the other.
fn judge(mut rest: &[u8]) -> Result<Vec<u16>, String> {
    let mut statuses = Vec::new();
    while !rest.is_empty() {
        let end = rest.windows(4).position(|four| four == b"\r\n\r\n");
        let (head, behind) = rest.split_at(end.ok_or("half a head")? + 4);
        let head = std::str::from_utf8(head).map_err(|_| "a head that is no text")?;
        let status = head.strip_prefix("HTTP/1.1 ").and_then(|it| it.get(..3));
        let status: u16 = status
            .and_then(|it| it.parse().ok())
            .ok_or_else(|| format!("a strange head {head:?}"))?;
        if !matches!(status, 100 | 200 | 201 | 400..=499 | 501 | 505) {
            return Err(format!("a {status}"));
        }
        statuses.push(status);
        rest = behind;
        if status == 100 {
            continue;
        }
        if head.contains("text/event-stream") {
            let is_whole = rest.is_empty() || rest.ends_with(b"\n\n");
            return is_whole
                .then_some(statuses)
                .ok_or("half an event".to_owned());
        }
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("Content-Length: "));
        let length: usize = length
            .and_then(|it| it.parse().ok())
            .ok_or("an answer without a length")?;
        // What answers a HEAD says how long it would be.
        let is_of_head = rest.is_empty() || rest.starts_with(b"HTTP/1.1 ");
        if !is_of_head {
            rest = rest.get(length..).ok_or("half an answer")?;
        }
    }
    Ok(statuses)
}
