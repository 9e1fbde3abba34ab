//! The whole loop under arbitrary bytes and events.
//!
//! The network here keeps no promise: it is made of the input alone. Whatever comes, nothing may
//! panic, a turn ends, and when the input is over and every socket has broken, nothing is left. What
//! was written on each connection by then is, to a strict reader, whole messages and at most one that
//! was cut.

#![no_main]
#![allow(dead_code)] // the second reading, of which not all is needed here

#[path = "../../tests/strict/mod.rs"]
mod strict;

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use bestguess::config::{Address, CheckMode, Config, Policy, ServerConfig};
use bestguess::net::{Event, Net, Ready, Signal, Socket, Time, Token};
use bestguess::proxy::{Census, Flow, Proxy};
use libfuzzer_sys::fuzz_target;

/// Turns after the input's end within which all has to be over.
const TURNS_TO_END: usize = 200;

/// What is left of the input, and what the balancer has made of the network.
struct World {
    input: Vec<u8>,
    at: usize,
    now: Time,
    /// Tokens that were watched, of dead sockets too.
    watched: Vec<Token>,
    open: usize,
    is_listening: bool,
    stops: u32,
    wires: Vec<Wire>,
}

/// What one connection carried.
struct Wire {
    is_server: bool,
    received: Vec<u8>,
    sent: Vec<u8>,
}

impl World {
    fn is_over(&self) -> bool {
        self.at >= self.input.len()
    }

    /// The next byte; 0 behind the end.
    fn byte(&mut self) -> u8 {
        let byte = self.input.get(self.at).copied().unwrap_or(0);
        self.at += 1;
        byte
    }
}

#[derive(Clone)]
struct FuzzNet(Rc<RefCell<World>>);

/// A socket, and the place of its wire.
struct FuzzSocket(Rc<RefCell<World>>, usize);

impl Drop for FuzzSocket {
    fn drop(&mut self) {
        self.0.borrow_mut().open -= 1;
    }
}

impl FuzzNet {
    fn open(&self, is_server: bool) -> FuzzSocket {
        let mut world = self.0.borrow_mut();
        world.open += 1;
        world.wires.push(Wire {
            is_server,
            received: Vec::new(),
            sent: Vec::new(),
        });
        FuzzSocket(Rc::clone(&self.0), world.wires.len() - 1)
    }
}

impl Socket for FuzzSocket {
    type Pipe = std::convert::Infallible;

    fn recv(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut world = self.0.borrow_mut();
        if world.is_over() {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        let order = world.byte();
        match order {
            0..=15 => Err(io::ErrorKind::WouldBlock.into()),
            16..=19 => Ok(0),
            20 => Err(io::ErrorKind::ConnectionReset.into()),
            21 => Err(io::ErrorKind::Interrupted.into()),
            _ => {
                // As many bytes as the order says, straight from the input.
                let rest = world.input.len() - world.at.min(world.input.len());
                let count = usize::from(order - 21).min(rest).min(buffer.len());
                if count == 0 {
                    return Err(io::ErrorKind::WouldBlock.into());
                }
                let at = world.at;
                buffer[..count].copy_from_slice(&world.input[at..at + count]);
                world.at += count;
                world.wires[self.1]
                    .received
                    .extend_from_slice(&buffer[..count]);
                Ok(count)
            }
        }
    }

    fn send(&mut self, bytes: &[u8]) -> io::Result<usize> {
        assert!(!bytes.is_empty(), "a send of nothing");
        let mut world = self.0.borrow_mut();
        if world.is_over() {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let count = match world.byte() {
            0..=15 => return Err(io::ErrorKind::WouldBlock.into()),
            16..=19 => return Err(io::ErrorKind::BrokenPipe.into()),
            20..=23 => return Err(io::ErrorKind::ConnectionRefused.into()),
            24 => return Err(io::ErrorKind::Interrupted.into()),
            some @ 25..=80 => usize::from(some - 24).min(bytes.len()),
            _ => bytes.len(),
        };
        world.wires[self.1].sent.extend_from_slice(&bytes[..count]);
        Ok(count)
    }

    fn abort(&mut self) {}

    fn shutdown_write(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn connected(&mut self) -> io::Result<()> {
        match self.0.borrow_mut().byte() {
            0..=60 => Err(io::ErrorKind::NotConnected.into()),
            61..=90 => Err(io::ErrorKind::ConnectionRefused.into()),
            _ => Ok(()),
        }
    }
}

impl Net for FuzzNet {
    type Socket = FuzzSocket;

    fn now(&self) -> Time {
        self.0.borrow().now
    }

    fn date(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH
    }

    fn poll(&mut self, timeout: Option<Duration>, events: &mut Vec<Event>) -> io::Result<()> {
        let mut world = self.0.borrow_mut();
        if world.is_over() {
            // Everything breaks, and time passes.
            let span = timeout.unwrap_or(Duration::from_secs(1));
            world.now = world.now + span + Duration::from_millis(1);
            let ready = Ready::READABLE.with(Ready::WRITABLE).with(Ready::HUNG_UP);
            events.extend(world.watched.iter().map(|token| Event {
                token: *token,
                ready,
            }));
            return Ok(());
        }
        let order = world.byte();
        let span = match order >> 5 {
            0 => Duration::ZERO,
            1 => Duration::from_micros(1),
            2 => Duration::from_millis(10),
            3 => Duration::from_secs(1),
            _ => timeout.unwrap_or(Duration::from_secs(40)),
        };
        world.now = world.now + span;
        for _ in 0..order % 8 {
            let (which, how) = (world.byte(), world.byte());
            let mut ready = Ready::NONE;
            for (bit, what) in [
                Ready::READABLE,
                Ready::WRITABLE,
                Ready::PEER_CLOSED,
                Ready::HUNG_UP,
            ]
            .into_iter()
            .enumerate()
            {
                if how & 1 << bit != 0 {
                    ready.add(what);
                }
            }
            // The latest sockets are the likeliest to be alive.
            let index = world.watched.len().wrapping_sub(1 + usize::from(which));
            if let Some(token) = world.watched.get(index) {
                events.push(Event {
                    token: *token,
                    ready,
                });
            } else if which > 200 {
                let token = Token::from_bits(u64::from(which) << 32 | u64::from(how));
                events.push(Event { token, ready });
            }
        }
        Ok(())
    }

    fn accept(&mut self) -> io::Result<(FuzzSocket, Option<SocketAddr>)> {
        let mut world = self.0.borrow_mut();
        if world.is_over() || !world.is_listening {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        match world.byte() {
            0..=120 => Err(io::ErrorKind::WouldBlock.into()),
            121..=125 => Err(io::ErrorKind::ConnectionAborted.into()),
            126..=128 => Err(io::Error::from_raw_os_error(24)),
            other => {
                drop(world);
                let peer = SocketAddr::from(([192, 0, 2, other], 7));
                Ok((self.open(false), (other & 1 == 0).then_some(peer)))
            }
        }
    }

    fn close_listener(&mut self) {
        self.0.borrow_mut().is_listening = false;
    }

    fn connect(&mut self, _: &Address) -> io::Result<FuzzSocket> {
        let order = self.0.borrow_mut().byte();
        match order {
            0..=10 => Err(io::ErrorKind::ConnectionRefused.into()),
            11 => Err(io::Error::from_raw_os_error(24)),
            _ => Ok(self.open(true)),
        }
    }

    fn watch(&mut self, _: &mut FuzzSocket, token: Token) -> io::Result<()> {
        let mut world = self.0.borrow_mut();
        if world.byte() == 255 {
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        world.watched.push(token);
        Ok(())
    }

    fn signal(&mut self) -> Option<Signal> {
        let mut world = self.0.borrow_mut();
        world.stops = world.stops.checked_sub(1)?;
        Some(Signal::Stop)
    }
}

fn config(first: u8, second: u8) -> Config {
    let address = |port| Address::Tcp(SocketAddr::from(([127, 0, 0, 1], port)));
    let servers = (0..1 + u16::from(first % 3))
        .map(|index| ServerConfig {
            max: (first & 64 != 0).then_some(1),
            ..ServerConfig::new(address(9001 + index))
        })
        .collect();
    let mut config = Config::new(address(8080), servers);
    config.parallel = 1 + usize::from(second % 4);
    config.policy = [
        Policy::BestGuess,
        Policy::LeastLoad,
        Policy::RoundRobin,
        Policy::LeastConn,
    ][usize::from(second >> 6)];
    config.check.mode = [
        CheckMode::Off,
        CheckMode::Report,
        CheckMode::Http,
        CheckMode::Tcp,
    ][usize::from(first >> 3 & 3)];
    config.check.every_requests = if first & 32 == 0 { 1000 } else { 1 };
    config.forwarded = first & 128 != 0;
    config.trust_forwarded = second & 32 != 0;
    config.access_log = (second & 16 != 0).then_some(bestguess::config::LogTarget::Stdout);
    if second & 8 != 0 {
        config.budgets.turn_bytes = 1;
        config.budgets.turn_exchanges = 1;
        config.budgets.wide_bytes = 0;
    }
    config
}

fuzz_target!(|input: &[u8]| {
    let [first, second, input @ ..] = input else {
        return;
    };
    let world = Rc::new(RefCell::new(World {
        input: input.to_vec(),
        at: 0,
        now: Time(1),
        watched: Vec::new(),
        open: 0,
        is_listening: true,
        stops: 0,
        wires: Vec::new(),
    }));
    let net = FuzzNet(Rc::clone(&world));
    let mut proxy = Proxy::new(net, config(*first, *second), 50, 1);
    while !world.borrow().is_over() {
        let before = world.borrow().at;
        assert_eq!(proxy.turn().unwrap(), Flow::Continue);
        proxy.access().take();
        let census = proxy.census();
        assert!(census.held <= 1 + usize::from(*second % 4), "{census:?}");
        assert!(
            census.clients <= 50 && census.tasks <= census.clients,
            "{census:?}"
        );
        assert!(
            world.borrow().at > before,
            "every turn takes something of the input"
        );
    }
    world.borrow_mut().stops = 1;
    for _ in 0..TURNS_TO_END {
        if proxy.turn().unwrap() == Flow::Stop {
            break;
        }
    }
    let census = proxy.census();
    let expected = Census {
        links: census.links,
        blocks: census.blocks,
        ..Census::default()
    };
    assert_eq!(census, expected, "left when all was over");
    drop(proxy);
    assert_eq!(world.borrow().open, 0, "sockets that nobody closed");
    for wire in &world.borrow().wires {
        if wire.is_server {
            strict::wires::server(&wire.sent, &wire.received);
        } else {
            strict::wires::client(&wire.received, &wire.sent, true, false);
        }
    }
});
