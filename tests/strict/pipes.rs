//! The whole balancer between clients and servers made of bytes.
//!
//! The network here is kind: what is sent arrives, in pieces of any size, and every edge is told. The
//! actors are not: they send whatever the input says, and end their streams where it ends. Time passes
//! when nothing else happens. At the end every connection's bytes are read by `wires`.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use bestguess::config::{Address, CheckMode, Config, Policy, ServerConfig};
use bestguess::net::{Event, Net, Ready, Signal, Socket, Time, Token};
use bestguess::proxy::{Flow, Proxy};

use super::generate::Rng;
use super::message::{self, Asked};
use super::{Manner, wires};

/// What stands between two parts of the input.
const BETWEEN: &[u8] = b"\n==\n";
/// Clients of one input at most.
const CLIENTS_MAX: usize = 6;
/// Turns within which all has to be over.
const TURNS_MAX: usize = 20_000;
/// Turns without any progress behind which the balancer is told to stop.
const QUIET_TURNS: usize = 12;

/// Methods whose requests may be sent again.
const IDEMPOTENT: [&[u8]; 6] = [b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"PUT", b"DELETE"];

/// What a server takes a request for that it has not read.
const ANYTHING: Asked = Asked {
    head: false,
    minor: 1,
    upgrade: true,
    trailers: true,
};

/// One connection, and the actor at its other end.
struct Pipe {
    is_server: bool,
    /// What the actor sends.
    script: Vec<u8>,
    /// How much of it has arrived.
    arrived: usize,
    /// How much of it was received.
    received: usize,
    /// Whether the actor ends its stream behind its script.
    ends: bool,
    /// What the balancer sent.
    sent: Vec<u8>,
    /// How much of that the actor has read, in whole requests.
    read: usize,
    /// Where its last response ends. What is behind that arrives with it: later it could be taken for
    /// the response to the next request, by anybody.
    solid: usize,
    /// Whether it has read a part for a whole.
    is_lost: bool,
    /// Whether the balancer has reset it.
    is_aborted: bool,
    token: Option<Token>,
    is_held: bool,
}

struct World {
    now: Time,
    rng: Rng,
    pipes: Vec<Pipe>,
    /// Clients that wait to be accepted.
    waiting: VecDeque<usize>,
    answers: VecDeque<Vec<u8>>,
    has_moved: bool,
    stops: u32,
}

impl World {
    fn open(&mut self, is_server: bool, script: &[u8]) -> usize {
        self.pipes.push(Pipe {
            is_server,
            script: script.to_vec(),
            arrived: 0,
            received: 0,
            ends: !is_server && self.rng.once_in(3),
            sent: Vec::new(),
            read: 0,
            solid: 0,
            is_lost: false,
            is_aborted: false,
            token: None,
            is_held: is_server,
        });
        self.pipes.len() - 1
    }

    /// Lets servers answer and bytes arrive.
    fn go_on(&mut self) {
        for pipe in self.pipes.iter_mut().filter(|pipe| pipe.is_held) {
            let is_idle = pipe.arrived == pipe.script.len() && !pipe.ends;
            let unread = &pipe.sent[pipe.read..];
            if pipe.is_server && is_idle && !unread.is_empty() {
                let request = message::request(unread, Manner::Sent);
                // Now and then a server answers before it has read all, and is lost from there on.
                if request.is_ok() || self.rng.once_in(40) {
                    pipe.is_lost |= request.is_err();
                    pipe.read += request.as_ref().map_or(unread.len(), |(_, length)| *length);
                    let (tag, asked) = match request {
                        Ok((request, _)) if !pipe.is_lost => {
                            (wires::key(&request), request.asked())
                        }
                        _ => (wires::UNSURE.to_owned(), ANYTHING),
                    };
                    let answer = self.answers.pop_front();
                    pipe.ends = answer.is_none() || self.rng.once_in(6);
                    let answer = tagged(&answer.unwrap_or_default(), &tag);
                    pipe.solid = pipe.script.len() + end_of_response(&answer, asked);
                    pipe.script.extend(answer);
                    self.has_moved = true;
                }
            }
            let left = pipe.script.len() - pipe.arrived;
            if left > 0 && !self.rng.once_in(4) {
                let most = [1, 5, 80, 2000, 70_000][self.rng.below(5)];
                pipe.arrived += (1 + self.rng.below(most)).min(left);
                if pipe.is_server && pipe.arrived >= pipe.solid {
                    pipe.arrived = pipe.script.len();
                }
                self.has_moved = true;
            }
        }
    }

    fn tell(&mut self, events: &mut Vec<Event>) {
        for pipe in self.pipes.iter().filter(|pipe| pipe.is_held) {
            let Some(token) = pipe.token else { continue };
            let mut ready = Ready::WRITABLE;
            let has_ended = pipe.ends && pipe.arrived == pipe.script.len();
            if pipe.received < pipe.arrived || has_ended {
                ready.add(Ready::READABLE);
            }
            if has_ended {
                ready.add(Ready::PEER_CLOSED);
            }
            events.push(Event { token, ready });
        }
    }
}

struct PipeNet(Rc<RefCell<World>>);

struct PipeSocket {
    world: Rc<RefCell<World>>,
    at: usize,
}

impl Drop for PipeSocket {
    fn drop(&mut self) {
        let mut world = self.world.borrow_mut();
        world.pipes[self.at].is_held = false;
        world.has_moved = true;
    }
}

impl Socket for PipeSocket {
    type Pipe = std::convert::Infallible;

    fn recv(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut world = self.world.borrow_mut();
        let pipe = &mut world.pipes[self.at];
        let count = (pipe.arrived - pipe.received).min(buffer.len());
        if count == 0 {
            return match pipe.ends && pipe.received == pipe.script.len() {
                true => Ok(0),
                false => Err(io::ErrorKind::WouldBlock.into()),
            };
        }
        let bytes = &pipe.script[pipe.received..pipe.received + count];
        buffer[..count].copy_from_slice(bytes);
        pipe.received += count;
        world.has_moved = true;
        Ok(count)
    }

    fn send(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut world = self.world.borrow_mut();
        let count = match world.rng.below(8) {
            0 => return Err(io::ErrorKind::WouldBlock.into()),
            1 => 1,
            2 => 1 + world.rng.below(bytes.len()),
            _ => bytes.len(),
        };
        world.pipes[self.at].sent.extend_from_slice(&bytes[..count]);
        world.has_moved = true;
        Ok(count)
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn abort(&mut self) {
        self.world.borrow_mut().pipes[self.at].is_aborted = true;
    }

    fn connected(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Net for PipeNet {
    type Socket = PipeSocket;

    fn now(&self) -> Time {
        self.0.borrow().now
    }

    fn date(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH
    }

    fn poll(&mut self, timeout: Option<Duration>, events: &mut Vec<Event>) -> io::Result<()> {
        let mut world = self.0.borrow_mut();
        let had_moved = std::mem::take(&mut world.has_moved);
        world.go_on();
        // Nobody has anything to say: that is when time passes.
        let span = match had_moved || world.has_moved {
            true => Duration::from_micros(10),
            false => timeout.unwrap_or(Duration::from_secs(1)),
        };
        world.now = world.now + span;
        world.tell(events);
        Ok(())
    }

    fn accept(&mut self) -> io::Result<(PipeSocket, Option<SocketAddr>)> {
        let mut world = self.0.borrow_mut();
        let at = world.waiting.pop_front();
        let at = at.ok_or(io::ErrorKind::WouldBlock)?;
        world.pipes[at].is_held = true;
        let peer = SocketAddr::from(([192, 0, 2, 1], 7));
        let world = Rc::clone(&self.0);
        Ok((PipeSocket { world, at }, Some(peer)))
    }

    fn close_listener(&mut self) {
        self.0.borrow_mut().waiting.clear();
    }

    fn connect(&mut self, _: &Address) -> io::Result<PipeSocket> {
        let at = self.0.borrow_mut().open(true, b"");
        let world = Rc::clone(&self.0);
        Ok(PipeSocket { world, at })
    }

    fn watch(&mut self, socket: &mut PipeSocket, token: Token) -> io::Result<()> {
        self.0.borrow_mut().pipes[socket.at].token = Some(token);
        Ok(())
    }

    fn signal(&mut self) -> Option<Signal> {
        let mut world = self.0.borrow_mut();
        world.stops = world.stops.checked_sub(1)?;
        Some(Signal::Stop)
    }
}

fn config(choice: u8) -> Config {
    let address = |port| Address::Tcp(SocketAddr::from(([127, 0, 0, 1], port)));
    let servers = (0..1 + u16::from(choice & 1))
        .map(|index| ServerConfig::new(address(9001 + index)))
        .collect();
    let mut config = Config::new(address(8080), servers);
    config.check.mode = CheckMode::Off;
    config.policy = Policy::RoundRobin;
    config.parallel = 1 + usize::from(choice >> 1 & 3);
    config.trust_forwarded = choice & 8 != 0;
    config.forwarded = choice & 16 != 0;
    if choice & 32 != 0 {
        config.budgets.turn_bytes = 1;
        config.budgets.turn_exchanges = 1;
        config.budgets.wide_bytes = 0;
    }
    config
}

/// Runs a balancer between the actors that `input` describes: a byte of circumstances, a byte that
/// seeds chance, then parts with an empty-looking line of two equals signs between them. A part that
/// begins with `<` is what a server answers to the next request, any other all that one client sends.
/// Tells how many requests and responses crossed whole.
pub fn pipes(input: &[u8]) -> usize {
    let [choice, seed, parts @ ..] = input else {
        return 0;
    };
    let mut world = World {
        now: Time(1),
        rng: Rng::new(u64::from(*seed)),
        pipes: Vec::new(),
        waiting: VecDeque::new(),
        answers: VecDeque::new(),
        has_moved: true,
        stops: 0,
    };
    for part in split(parts) {
        match part {
            [b'<', answer @ ..] => world.answers.push_back(answer.to_vec()),
            script if world.waiting.len() < CLIENTS_MAX => {
                let at = world.open(false, script);
                world.waiting.push_back(at);
            }
            _ => {}
        }
    }
    let world = Rc::new(RefCell::new(world));
    let net = PipeNet(Rc::clone(&world));
    let mut proxy = Proxy::new(net, config(*choice), 50, 1);
    run(&mut proxy, &world);
    assert_eq!(
        proxy.census().bugs,
        0,
        "a panic that cost a client its connection"
    );
    drop(proxy);
    judge(&world.borrow().pipes)
}

/// Every wire has whole messages on it; what servers got is what clients sent, and no more often than
/// it may be sent (RFC 9110 §9.2.2); and who asked got the answer to that.
fn judge(pipes: &[Pipe]) -> usize {
    let mut whole = 0;
    let mut asked = Vec::new();
    for pipe in pipes.iter().filter(|pipe| !pipe.is_server) {
        let script = &pipe.script[..pipe.received];
        whole += wires::client(script, &pipe.sent, !pipe.is_aborted, true);
        asked.extend(wires::asked(script).iter().map(wires::key));
    }
    for pipe in pipes.iter().filter(|pipe| pipe.is_server) {
        for request in wires::server(&pipe.sent, &pipe.script) {
            whole += 1;
            let key = wires::key(&request);
            let at = asked.iter().position(|one| *one == key);
            let at = at.unwrap_or_else(|| panic!("nobody asked so, or not so often: {key}"));
            if !IDEMPOTENT.contains(&request.method.as_slice()) {
                asked.remove(at);
            }
        }
    }
    whole
}

/// How far the final response in `answer` reaches.
fn end_of_response(answer: &[u8], asked: Asked) -> usize {
    let mut at = 0;
    loop {
        match message::response(&answer[at..], asked, false, Manner::Received) {
            Ok((response, length)) if response.status < 200 && response.status != 101 => {
                at += length
            }
            Ok((_, length)) => return at + length,
            Err(_) => return answer.len(),
        }
    }
}

/// `answer` with the tag of the request that it answers in each head up to the final one.
fn tagged(answer: &[u8], tag: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = answer;
    loop {
        let head = message::response_head(rest, ANYTHING, Manner::Received);
        let line = rest.windows(2).position(|two| two == b"\r\n");
        let (line, behind) = rest.split_at(line.map_or(rest.len(), |end| end + 2));
        out.extend_from_slice(line);
        out.extend_from_slice(format!("{}: {tag}\r\n", wires::TAG).as_bytes());
        match head {
            Ok((head, length)) if head.status < 200 && head.status != 101 => {
                out.extend_from_slice(&rest[line.len()..length]);
                rest = &rest[length..];
            }
            _ => {
                out.extend_from_slice(behind);
                return out;
            }
        }
    }
}

fn split(mut parts: &[u8]) -> Vec<&[u8]> {
    let mut all = Vec::new();
    let is_between = |window: &[u8]| window == BETWEEN;
    while let Some(end) = parts.windows(BETWEEN.len()).position(is_between) {
        all.push(&parts[..end]);
        parts = &parts[end + BETWEEN.len()..];
    }
    all.push(parts);
    all
}

/// Turns until nothing moves any more, then until the balancer has stopped.
fn run(proxy: &mut Proxy<PipeNet>, world: &Rc<RefCell<World>>) {
    let mut quiet = 0;
    for _ in 0..TURNS_MAX {
        let flow = proxy.turn().expect("a turn");
        if flow == Flow::Stop {
            return;
        }
        quiet = if world.borrow().has_moved {
            0
        } else {
            quiet + 1
        };
        if quiet == QUIET_TURNS {
            world.borrow_mut().stops = 1;
        }
    }
    panic!("no end after {TURNS_MAX} turns");
}
