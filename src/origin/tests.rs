//! The server on a network of virtual time: what takes minutes elsewhere, and the worst of sockets.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::SystemTime;

use super::*;
use crate::config::Address;
use crate::net::{Ready, Socket};

fn settings() -> cli::Origin {
    cli::Origin::new(Address::Tcp(([127, 0, 0, 1], 0).into()))
}

/// One connection, seen from both ends.
#[derive(Debug, Default)]
struct Wire {
    token: Option<Token>,
    /// What the client has sent; none: its end.
    to_server: VecDeque<Option<u8>>,
    to_client: Vec<u8>,
    /// How much more the client's side takes.
    room: usize,
    is_shut: bool,
    is_broken: bool,
}

/// The server's end. Dropping it closes the connection.
#[derive(Debug)]
struct End(Rc<RefCell<Wire>>);

impl Socket for End {
    type Pipe = std::convert::Infallible;

    fn recv(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut wire = self.0.borrow_mut();
        let mut count = 0;
        while let (Some(place), Some(Some(byte))) = (buffer.get_mut(count), wire.to_server.front())
        {
            *place = *byte;
            count += 1;
            wire.to_server.pop_front();
        }
        match (count, wire.to_server.front()) {
            (0, None) => Err(io::ErrorKind::WouldBlock.into()),
            _ => Ok(count),
        }
    }

    fn send(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut wire = self.0.borrow_mut();
        let count = bytes.len().min(wire.room);
        if wire.is_broken {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        if count == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        wire.room -= count;
        wire.to_client.extend_from_slice(&bytes[..count]);
        Ok(count)
    }

    fn abort(&mut self) {}

    fn shutdown_write(&mut self) -> io::Result<()> {
        self.0.borrow_mut().is_shut = true;
        Ok(())
    }

    fn connected(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A network whose time passes only while the server sleeps.
#[derive(Default)]
struct Virtual {
    now: Time,
    waiting: VecDeque<End>,
    events: Vec<Event>,
    stops: u32,
}

impl Net for Virtual {
    type Socket = End;

    fn now(&self) -> Time {
        self.now
    }

    fn date(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_nanos(self.now.0)
    }

    fn poll(&mut self, timeout: Option<Duration>, events: &mut Vec<Event>) -> io::Result<()> {
        events.append(&mut self.events);
        if events.is_empty() {
            self.now = self.now + timeout.unwrap_or(Duration::from_secs(3600));
        }
        Ok(())
    }

    fn accept(&mut self) -> io::Result<(End, Option<SocketAddr>)> {
        let end = self.waiting.pop_front();
        Ok((end.ok_or(io::ErrorKind::WouldBlock)?, None))
    }

    fn close_listener(&mut self) {}

    fn connect(&mut self, _: &Address) -> io::Result<End> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn watch(&mut self, socket: &mut End, token: Token) -> io::Result<()> {
        socket.0.borrow_mut().token = Some(token);
        Ok(())
    }

    fn signal(&mut self) -> Option<Signal> {
        self.stops = self.stops.checked_sub(1)?;
        Some(Signal::Stop)
    }
}

struct World {
    origin: Origin<Virtual>,
}

impl World {
    fn new(settings: &cli::Origin) -> World {
        let origin = Origin::new(Virtual::default(), settings, 10).unwrap();
        World { origin }
    }

    /// A client that takes `room` bytes.
    fn client(&mut self, room: usize) -> Rc<RefCell<Wire>> {
        let wire = Rc::new(RefCell::new(Wire {
            room,
            ..Wire::default()
        }));
        let net = self.origin.net_mut();
        net.waiting.push_back(End(Rc::clone(&wire)));
        let token = Token::new(Owner::Listener, 0, 0);
        let ready = Ready::READABLE;
        net.events.push(Event { token, ready });
        self.turns(1);
        wire
    }

    fn send(&mut self, wire: &Rc<RefCell<Wire>>, bytes: &[u8]) {
        let bytes = bytes.iter().copied().map(Some);
        wire.borrow_mut().to_server.extend(bytes);
        self.edge(wire, Ready::READABLE.with(Ready::WRITABLE));
    }

    fn edge(&mut self, wire: &Rc<RefCell<Wire>>, ready: Ready) {
        let token = wire.borrow().token.unwrap();
        let net = self.origin.net_mut();
        net.events.push(Event { token, ready });
        self.turns(1);
    }

    fn turns(&mut self, count: usize) {
        for _ in 0..count {
            self.origin.turn().unwrap();
        }
    }

    /// Turns until the connection is closed, and tells how many seconds that took.
    fn seconds_until_closed(&mut self, wire: &Rc<RefCell<Wire>>) -> u64 {
        let began = self.origin.net().now;
        while Rc::strong_count(wire) > 1 {
            self.turns(1);
        }
        (self.origin.net().now - began).as_secs()
    }
}

fn text(wire: &Rc<RefCell<Wire>>) -> String {
    String::from_utf8_lossy(&wire.borrow().to_client).into_owned()
}

#[test]
fn a_silent_client_is_let_go_without_a_word() {
    let mut world = World::new(&settings());
    let wire = world.client(1000);
    assert_eq!(world.seconds_until_closed(&wire), 75);
    assert_eq!(text(&wire), "");
    assert_eq!(world.origin.census(), Census::default());
}

#[test]
fn a_head_or_content_that_stays_away_is_a_408() {
    for begun in [
        "GET / HT",
        "\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nx",
    ] {
        let mut world = World::new(&settings());
        let wire = world.client(1000);
        world.send(&wire, begun.as_bytes());
        // Half a minute for the request, two seconds to read the answer.
        assert_eq!(world.seconds_until_closed(&wire), 32);
        assert!(text(&wire).starts_with("HTTP/1.1 408 "), "{begun}");
        assert!(wire.borrow().is_shut);
        assert_eq!(world.origin.census(), Census::default());
    }
}

#[test]
fn a_reader_that_stops_is_cut_off_and_one_that_goes_on_is_not() {
    let mut world = World::new(&settings());
    let wire = world.client(100);
    world.send(&wire, b"GET /bytes/1000000 HTTP/1.1\r\nHost: a\r\n\r\n");
    for _ in 0..100 {
        world.origin.net_mut().now.0 += 20_000_000_000;
        wire.borrow_mut().room = 100;
        world.edge(&wire, Ready::WRITABLE);
    }
    assert_eq!(wire.borrow().to_client.len(), 100 * 101);
    assert_eq!(world.origin.census().blocks, 1);
    assert_eq!(world.seconds_until_closed(&wire), 30);
    assert_eq!(world.origin.census(), Census::default());
}

#[test]
fn what_one_client_does_not_take_never_reaches_another() {
    let mut world = World::new(&settings());
    let broken = world.client(1000);
    broken.borrow_mut().is_broken = true;
    world.send(&broken, &b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n".repeat(3));
    assert_eq!(Rc::strong_count(&broken), 1);
    let wire = world.client(1000);
    world.send(&wire, b"OPTIONS /b HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(text(&wire).starts_with("HTTP/1.1 204 "));
    assert_eq!(text(&wire).matches("HTTP/1.1").count(), 1);
}

#[test]
fn a_delay_is_exact_and_leaves_no_deadline_behind() {
    let delay = Duration::from_millis(1500);
    let mut settings = settings();
    settings.service.delay = delay;
    let mut world = World::new(&settings);
    let wire = world.client(usize::MAX);
    for _ in 0..1000 {
        let began = world.origin.net().now;
        let before = wire.borrow().to_client.len();
        world.send(&wire, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        while wire.borrow().to_client.len() == before {
            world.turns(1);
        }
        assert_eq!(world.origin.net().now - began, delay);
    }
    assert_eq!(world.seconds_until_closed(&wire), 75);
    assert!(world.origin.deadlines.next().is_none() && world.origin.delays.next().is_none());
}

#[test]
fn a_client_that_has_hung_up_costs_no_delay() {
    let mut world = World::new(&settings());
    let wire = world.client(1000);
    world.send(&wire, b"GET /delay/3600000 HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(world.origin.census().clients, 1);
    world.edge(&wire, Ready::HUNG_UP.with(Ready::PEER_CLOSED));
    assert_eq!(world.origin.census(), Census::default());
}

#[test]
fn a_drain_ends_when_its_time_is_over() {
    let mut world = World::new(&settings());
    let idle = world.client(1000);
    let busy = world.client(1000);
    world.send(&busy, b"GET /delay/3600000 HTTP/1.1\r\nHost: a\r\n\r\n");
    world.origin.net_mut().stops = 1;
    let began = world.origin.net().now;
    world.edge(&idle, Ready::WRITABLE);
    assert_eq!(world.origin.census().clients, 1);
    while world.origin.turn().unwrap() == Flow::Continue {}
    assert_eq!((world.origin.net().now - began).as_secs(), 30);
}

#[test]
fn a_folder_that_is_not_there_is_named() {
    let dir = Some("/nowhere/at/all".into());
    let missing = cli::Origin { dir, ..settings() };
    let error = Origin::new(Virtual::default(), &missing, 1).err().unwrap();
    assert!(error.to_string().contains("/nowhere/at/all"), "{error}");
}

/// How many answers a client has.
fn answers(wire: &Rc<RefCell<Wire>>) -> usize {
    text(wire).matches("HTTP/1.1 ").count()
}

#[test]
fn a_server_of_two_workers_serves_two_at_once_and_the_rest_in_order() {
    let mut settings = settings();
    settings.service.delay = Duration::from_millis(10);
    settings.service.workers = 2;
    let mut world = World::new(&settings);
    let wires: Vec<_> = (0..5).map(|_| world.client(usize::MAX)).collect();
    for wire in &wires {
        world.send(wire, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    }
    let asking = world.client(usize::MAX);
    world.send(&asking, b"GET /healthcheck HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(text(&asking).ends_with("\r\n\r\n0\n5\nin_flight=5\n"));
    let began = world.origin.net().now;
    for (served, ms) in [([1, 1, 0, 0, 0], 10), ([1, 1, 1, 1, 0], 20), ([1; 5], 30)] {
        while answers(&wires[served.iter().sum::<usize>() - 1]) == 0 {
            world.turns(1);
        }
        let found: Vec<usize> = wires.iter().map(answers).collect();
        assert_eq!(found, served);
        assert_eq!((world.origin.net().now - began).as_millis(), ms);
    }
    world.send(&asking, b"GET /healthcheck HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(text(&asking).ends_with("\r\n\r\n0\n5\nin_flight=0\n"));
}

#[test]
fn who_hangs_up_gives_back_the_worker_or_the_place_in_the_line() {
    let mut settings = settings();
    settings.service.delay = Duration::from_secs(20);
    settings.service.workers = 1;
    let mut world = World::new(&settings);
    let wires: Vec<_> = (0..3).map(|_| world.client(usize::MAX)).collect();
    for wire in &wires {
        world.send(wire, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    }
    let gone = Ready::HUNG_UP.with(Ready::PEER_CLOSED);
    world.edge(&wires[1], gone);
    assert_eq!(world.origin.site.work.in_flight(), 2);
    world.edge(&wires[0], gone);
    assert_eq!(world.origin.site.work.in_flight(), 1);
    let began = world.origin.net().now;
    while answers(&wires[2]) == 0 {
        world.turns(1);
    }
    assert_eq!((world.origin.net().now - began).as_secs(), 20);
    assert_eq!(world.origin.site.work.in_flight(), 0);
    assert_eq!(world.origin.census().clients, 1);
}

#[test]
fn pipelined_requests_stand_in_the_line_one_at_a_time() {
    let mut settings = settings();
    settings.service.workers = 1;
    let mut world = World::new(&settings);
    // The first holds the only worker for a second.
    let busy = world.client(usize::MAX);
    world.send(&busy, b"GET /delay/1000 HTTP/1.1\r\nHost: a\r\n\r\n");
    let wires: Vec<_> = (0..3).map(|_| world.client(usize::MAX)).collect();
    for wire in &wires {
        world.send(wire, &b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".repeat(300));
    }
    assert_eq!(world.origin.site.work.in_flight(), 4);
    while wires.iter().any(|wire| answers(wire) < 300) {
        world.turns(1);
    }
    assert_eq!(answers(&busy), 1);
    assert_eq!(world.origin.site.work.in_flight(), 0);
}

#[test]
fn an_answer_that_nobody_reads_keeps_its_worker() {
    let mut settings = settings();
    settings.service.workers = 1;
    let mut world = World::new(&settings);
    let stuck = world.client(100);
    world.send(&stuck, b"GET /bytes/9000000 HTTP/1.1\r\nHost: a\r\n\r\n");
    let next = world.client(usize::MAX);
    world.send(&next, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!((answers(&next), world.origin.site.work.in_flight()), (0, 2));
    // It is cut off after half a minute.
    while answers(&next) == 0 {
        world.turns(1);
    }
    assert_eq!(Rc::strong_count(&stuck), 1);
    assert_eq!(world.origin.site.work.in_flight(), 0);
}
