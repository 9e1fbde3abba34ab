//! How long anybody is waited for, in virtual time: each phase has its limit, its status or its cut.
//!
//! The balancer runs over a network of queues that this file keeps: what clients and servers do is
//! planned for moments, and time only passes while everybody waits. So every limit is exact.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use bestguess::config::{Address, CheckMode, Config, ServerConfig};
use bestguess::net::{Event, Net, Ready, Signal, Socket, Time, Token};
use bestguess::proxy::Proxy;

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// What happens at its moment.
enum Act {
    /// Bytes reach the balancer.
    Say(usize, Vec<u8>),
    /// So many more bytes of the balancer's are taken.
    Take(usize, usize),
    /// The other side ends its stream.
    End(usize),
    Arrive(usize),
}

/// What a server does on a connection once it has read a request's head.
#[derive(Clone)]
enum Manner {
    /// It does not even take the connection.
    Deaf,
    Silent,
    Says(Vec<u8>),
    /// The same, and nothing ever after.
    SaysOnce(Vec<u8>),
    /// One byte at a time, with this pause.
    Drips(Vec<u8>, Duration),
}

/// One socket of the balancer's and what is at its other end.
#[derive(Default)]
struct End {
    token: Option<Token>,
    inbox: VecDeque<u8>,
    /// What the balancer has sent.
    got: Vec<u8>,
    /// In how many sends.
    sends: usize,
    /// How much of it was not taken yet at most; none: all is taken at once.
    room: Option<usize>,
    has_ended: bool,
    is_deaf: bool,
    manner: Option<Manner>,
    /// When the balancer said that no more would come, or let go of the socket.
    over: Option<Time>,
    has_news: bool,
}

struct World {
    now: Time,
    ends: Vec<End>,
    backlog: VecDeque<usize>,
    plan: BTreeMap<(Time, usize), Act>,
    planned: usize,
    manner: Manner,
    /// Links for which there are descriptors.
    links_max: usize,
}

#[derive(Clone)]
struct Queues(Rc<RefCell<World>>);

struct Wire(Queues, usize);

impl World {
    fn at(&mut self, after: Duration, act: Act) {
        self.planned += 1;
        self.plan.insert((self.now + after, self.planned), act);
    }

    fn happen(&mut self, act: Act) {
        let (Act::Say(index, _) | Act::Take(index, _) | Act::End(index) | Act::Arrive(index)) = act;
        let end = &mut self.ends[index];
        end.has_news = true;
        match act {
            Act::Say(_, bytes) => end.inbox.extend(bytes),
            Act::Take(_, count) => end.room = end.room.map(|room| room + count),
            Act::End(_) => end.has_ended = true,
            Act::Arrive(_) => self.backlog.push_back(index),
        }
    }

    /// A server answers once it has read a head.
    fn answer(&mut self, index: usize) {
        let end = &mut self.ends[index];
        if !end.got.ends_with(b"\r\n\r\n") {
            return;
        }
        let manner = end.manner.clone();
        if matches!(manner, Some(Manner::SaysOnce(_))) {
            end.manner = Some(Manner::Silent);
        }
        match manner {
            Some(Manner::Says(bytes) | Manner::SaysOnce(bytes)) => {
                self.at(Duration::ZERO, Act::Say(index, bytes))
            }
            Some(Manner::Drips(bytes, pause)) => {
                for (number, byte) in bytes.into_iter().enumerate() {
                    self.at(pause * number as u32, Act::Say(index, vec![byte]));
                }
            }
            Some(Manner::Silent | Manner::Deaf) | None => {}
        }
    }
}

impl Socket for Wire {
    type Pipe = std::convert::Infallible;

    fn recv(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let world = &mut *self.0.0.borrow_mut();
        let end = &mut world.ends[self.1];
        if end.inbox.is_empty() && !end.has_ended {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let count = buffer.len().min(end.inbox.len());
        for (place, byte) in buffer.iter_mut().zip(end.inbox.drain(..count)) {
            *place = byte;
        }
        Ok(count)
    }

    fn send(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let world = &mut *self.0.0.borrow_mut();
        let end = &mut world.ends[self.1];
        let count = end.room.unwrap_or(usize::MAX).min(bytes.len());
        if count == 0 || end.is_deaf {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        end.room = end.room.map(|room| room - count);
        end.got.extend_from_slice(&bytes[..count]);
        end.sends += 1;
        world.answer(self.1);
        Ok(count)
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        let world = &mut *self.0.0.borrow_mut();
        world.ends[self.1].over.get_or_insert(world.now);
        Ok(())
    }

    fn abort(&mut self) {}

    fn connected(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        let world = &mut *self.0.0.borrow_mut();
        let end = &mut world.ends[self.1];
        end.over.get_or_insert(world.now);
        end.token = None;
    }
}

impl Net for Queues {
    type Socket = Wire;

    fn now(&self) -> Time {
        self.0.borrow().now
    }

    fn date(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH
    }

    fn poll(&mut self, timeout: Option<Duration>, events: &mut Vec<Event>) -> io::Result<()> {
        let world = &mut *self.0.borrow_mut();
        let until = timeout.map_or(Time::NEVER, |timeout| world.now + timeout);
        let has_news = |world: &World| {
            world
                .ends
                .iter()
                .any(|end| end.token.is_some() && end.has_news)
        };
        if !has_news(world) {
            let next = world.plan.first_key_value().map(|((at, _), _)| *at);
            assert!(
                next.is_some() || timeout.is_some(),
                "nothing will ever happen"
            );
            world.now = until.min(next.unwrap_or(Time::NEVER)).max(world.now);
        }
        while let Some(entry) = world.plan.first_entry()
            && entry.key().0 <= world.now
        {
            let act = entry.remove();
            world.happen(act);
        }
        if !world.backlog.is_empty() {
            let token = Token::new(bestguess::net::Owner::Listener, 0, 0);
            events.push(Event {
                token,
                ready: Ready::READABLE,
            });
        }
        for end in &mut world.ends {
            if let Some(token) = end.token
                && std::mem::take(&mut end.has_news)
            {
                let mut ready = Ready::READABLE.with(Ready::WRITABLE);
                if end.has_ended {
                    ready.add(Ready::PEER_CLOSED);
                }
                events.push(Event { token, ready });
            }
        }
        Ok(())
    }

    fn accept(&mut self) -> io::Result<(Wire, Option<SocketAddr>)> {
        let next = self.0.borrow_mut().backlog.pop_front();
        let index = next.ok_or(io::ErrorKind::WouldBlock)?;
        let peer = SocketAddr::from(([127, 0, 0, 1], 40_000));
        Ok((Wire(self.clone(), index), Some(peer)))
    }

    fn close_listener(&mut self) {}

    fn connect(&mut self, _address: &Address) -> io::Result<Wire> {
        let world = &mut *self.0.borrow_mut();
        let is_link = |end: &&End| end.manner.is_some() && end.over.is_none();
        if world.ends.iter().filter(is_link).count() >= world.links_max {
            return Err(io::Error::from_raw_os_error(24));
        }
        let is_deaf = matches!(world.manner, Manner::Deaf);
        world.ends.push(End {
            manner: Some(world.manner.clone()),
            is_deaf,
            ..End::default()
        });
        Ok(Wire(self.clone(), world.ends.len() - 1))
    }

    fn watch(&mut self, socket: &mut Wire, token: Token) -> io::Result<()> {
        let end = &mut self.0.borrow_mut().ends[socket.1];
        end.token = Some(token);
        end.has_news = !end.is_deaf;
        Ok(())
    }

    fn signal(&mut self) -> Option<Signal> {
        None
    }
}

/// A balancer with the limits of the command line before one server, and its clients.
struct Scene {
    queues: Queues,
    proxy: Proxy<Queues>,
}

impl Scene {
    fn new(manner: Manner, change: impl FnOnce(&mut Config)) -> Scene {
        let at = |port| Address::Tcp(SocketAddr::from(([127, 0, 0, 1], port)));
        let mut config = Config::new(at(1), vec![ServerConfig::new(at(2))]);
        config.check.mode = CheckMode::Off;
        change(&mut config);
        let queues = Queues(Rc::new(RefCell::new(World {
            now: Time(1_000_000_000),
            ends: Vec::new(),
            backlog: VecDeque::new(),
            plan: BTreeMap::new(),
            planned: 0,
            manner,
            links_max: usize::MAX,
        })));
        Scene {
            proxy: Proxy::new(queues.clone(), config, 100, 1),
            queues,
        }
    }

    /// A client that comes now, and sends these bytes.
    fn client(&mut self, bytes: &str) -> usize {
        let world = &mut *self.queues.0.borrow_mut();
        world.ends.push(End::default());
        let client = world.ends.len() - 1;
        world.at(Duration::ZERO, Act::Arrive(client));
        if !bytes.is_empty() {
            world.at(Duration::ZERO, Act::Say(client, bytes.as_bytes().to_vec()));
        }
        client
    }

    /// The client does so every `pause`, `times` times.
    fn every(&mut self, pause: Duration, times: u32, act: impl Fn() -> Act) {
        let world = &mut *self.queues.0.borrow_mut();
        for time in 1..=times {
            world.at(pause * time, act());
        }
    }

    /// Lets time pass until the balancer ends the client's connection: after how long it did, and
    /// what the client got.
    fn ended(&mut self, client: usize) -> (Duration, String) {
        let start = self.queues.now();
        loop {
            self.proxy.turn().unwrap();
            let world = self.queues.0.borrow();
            let end = &world.ends[client];
            if let Some(over) = end.over {
                return (over - start, String::from_utf8_lossy(&end.got).into_owned());
            }
            assert!(world.now - start < HOUR * 30, "it never ends");
        }
    }

    /// Lets time pass until the client has got `text`: after how long.
    fn got(&mut self, client: usize, text: &str) -> Duration {
        let start = self.queues.now();
        loop {
            self.proxy.turn().unwrap();
            let world = self.queues.0.borrow();
            let end = &world.ends[client];
            if memchr::memmem::find(&end.got, text.as_bytes()).is_some() {
                return world.now - start;
            }
            let got = String::from_utf8_lossy(&end.got);
            assert!(end.over.is_none(), "it ended with {got:?}");
        }
    }
}

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);

/// Polls round up to milliseconds, and one limit may be the sum of a few.
fn is_about(found: Duration, meant: Duration) -> bool {
    found >= meant && found - meant < Duration::from_millis(20)
}

#[track_caller]
fn assert_ends(scene: &mut Scene, client: usize, after: Duration, with: &str) {
    let (found, got) = scene.ended(client);
    assert!(is_about(found, after), "after {found:?} with {got:?}");
    assert!(
        got.starts_with(with) && got.is_empty() == with.is_empty(),
        "{got:?}"
    );
}

fn says(text: &str) -> Manner {
    Manner::Says(text.as_bytes().to_vec())
}

const POST: &str = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n";
const TIMEOUT: &str = "HTTP/1.1 408 ";

#[test]
fn a_client_that_says_nothing_is_let_go_without_a_word() {
    let mut scene = Scene::new(says(OK), |_| {});
    let client = scene.client("");
    assert_ends(&mut scene, client, 30 * SECOND, "");
}

#[test]
fn a_head_that_comes_byte_by_byte_has_30_seconds_in_all() {
    let mut scene = Scene::new(says(OK), |_| {});
    let client = scene.client("GET / HTTP/1.1\r\nX: ");
    scene.every(SECOND, 100, || Act::Say(client, b"x".to_vec()));
    assert_ends(&mut scene, client, 30 * SECOND, TIMEOUT);
}

#[test]
fn content_that_stops_has_30_seconds() {
    let mut scene = Scene::new(Manner::Silent, |_| {});
    let client = scene.client(POST);
    assert_ends(&mut scene, client, 30 * SECOND, TIMEOUT);
}

#[test]
fn content_that_trickles_has_hardly_more() {
    let mut scene = Scene::new(Manner::Silent, |_| {});
    let client = scene.client(POST);
    scene.every(SECOND, 10_000, || Act::Say(client, vec![b'x'; 24]));
    // Each second brings a tenth of the 240 bytes that it costs: 30 s last for 33.
    let (after, got) = scene.ended(client);
    assert!(got.starts_with(TIMEOUT), "{got}");
    assert!(after >= 33 * SECOND && after < 35 * SECOND, "{after:?}");
}

#[test]
fn content_at_the_minimum_rate_may_take_its_time() {
    let head = POST.replace("1000000", "240000");
    let mut scene = Scene::new(Manner::Silent, |config| config.timeouts.response = HOUR);
    let client = scene.client(&head);
    scene.every(20 * SECOND, 50, || Act::Say(client, vec![b'x'; 4800]));
    // All of it arrives, and then it is the server that is waited for.
    let after = scene.got(client, "HTTP/1.1 504 ");
    assert!(is_about(after, 1000 * SECOND + HOUR), "{after:?}");
}

#[test]
fn a_reader_that_stops_is_cut_after_30_seconds() {
    let answer = format!(
        "HTTP/1.1 200 OK\r\nContent-Length: 9000\r\n\r\n{}",
        "x".repeat(9000)
    );
    let mut scene = Scene::new(says(&answer), |_| {});
    let client = scene.client(GET);
    scene.queues.0.borrow_mut().ends[client].room = Some(100);
    assert_ends(&mut scene, client, 30 * SECOND, "HTTP/1.1 200 ");
}

#[test]
fn a_reader_that_trickles_has_hardly_more_and_one_at_the_minimum_rate_gets_all() {
    let answer = format!(
        "HTTP/1.1 200 OK\r\nContent-Length: 240000\r\n\r\n{}",
        "x".repeat(240_000)
    );
    let mut scene = Scene::new(says(&answer), |_| {});
    let client = scene.client(GET);
    scene.queues.0.borrow_mut().ends[client].room = Some(100);
    scene.every(SECOND, 10_000, || Act::Take(client, 24));
    let (after, _) = scene.ended(client);
    assert!(after >= 33 * SECOND && after < 35 * SECOND, "{after:?}");
    let mut scene = Scene::new(says(&(answer + "!")), |_| {});
    let client = scene.client(GET);
    scene.queues.0.borrow_mut().ends[client].room = Some(100);
    scene.every(20 * SECOND, 60, || Act::Take(client, 4800));
    let all = "x".repeat(240_000);
    let after = scene.got(client, &all);
    assert!(is_about(after, 1000 * SECOND), "{after:?}");
}

#[test]
fn an_idle_client_has_75_seconds_behind_its_answer() {
    let mut scene = Scene::new(says(OK), |_| {});
    let client = scene.client(GET);
    assert_ends(&mut scene, client, 75 * SECOND, "HTTP/1.1 200 ");
}

#[test]
fn a_server_has_60_seconds_to_answer_however_it_drips_its_head() {
    for manner in [
        Manner::Silent,
        Manner::Drips(
            format!("HTTP/1.1 200 OK\r\nX: {}", "x".repeat(1000)).into(),
            SECOND,
        ),
    ] {
        let mut scene = Scene::new(manner, |_| {});
        let client = scene.client(GET);
        assert!(is_about(scene.got(client, "HTTP/1.1 504 "), 60 * SECOND));
    }
}

#[test]
fn a_server_that_stops_in_its_content_has_60_seconds_from_there() {
    let mut scene = Scene::new(says(&OK.replace("Length: 2", "Length: 3")), |_| {});
    let client = scene.client(GET);
    assert_ends(&mut scene, client, 60 * SECOND, "HTTP/1.1 200 ");
    // Slow content of a server is no fault: it may be a stream of events.
    let drips = Manner::Drips(
        format!("{}k", OK.replace("Length: 2", "Length: 3")).into(),
        50 * SECOND,
    );
    let mut scene = Scene::new(drips, |config| config.timeouts.response = HOUR);
    let client = scene.client(GET);
    scene.got(client, "okk");
}

#[test]
fn a_server_that_does_not_take_the_connection_has_a_second() {
    let mut scene = Scene::new(Manner::Deaf, |_| {});
    let client = scene.client(GET);
    assert!(is_about(scene.got(client, "HTTP/1.1 500 "), SECOND));
}

#[test]
fn who_waits_for_a_100_waits_for_the_server() {
    let mut scene = Scene::new(Manner::Silent, |_| {});
    let client = scene.client(&POST.replace("Host: a", "Host: a\r\nExpect: 100-continue"));
    assert!(is_about(scene.got(client, "HTTP/1.1 504 "), 60 * SECOND));
}

#[test]
fn a_request_in_the_queue_has_30_seconds() {
    let mut scene = Scene::new(Manner::Silent, |config| config.parallel = 1);
    let first = scene.client(GET);
    let second = scene.client(GET);
    assert!(is_about(scene.got(second, "HTTP/1.1 503 "), 30 * SECOND));
    assert!(is_about(scene.got(first, "HTTP/1.1 504 "), 30 * SECOND));
}

#[test]
fn a_tunnel_has_an_hour_and_a_half_closed_one_a_minute() {
    let switch = "HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: sim\r\n\r\n";
    let ask = "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: sim\r\n\r\n";
    let mut scene = Scene::new(says(switch), |_| {});
    let client = scene.client(ask);
    assert_ends(&mut scene, client, HOUR, "HTTP/1.1 101 ");
    let mut scene = Scene::new(says(switch), |_| {});
    let client = scene.client(ask);
    scene.every(100 * SECOND, 1, || Act::End(client));
    assert_ends(&mut scene, client, 160 * SECOND, "HTTP/1.1 101 ");
}

/// A response that goes on to its client as it is.
const DATED: &str =
    "HTTP/1.1 200 OK\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\nContent-Length: 2\r\n\r\nok";

#[test]
fn responses_that_come_soon_reach_a_pipelining_client_in_one_send() {
    let mut scene = Scene::new(Manner::Says(DATED.into()), |_| {});
    let client = scene.client(&GET.repeat(5));
    scene.got(client, &DATED.repeat(5));
    assert_eq!(scene.queues.0.borrow().ends[client].sends, 1);
}

#[test]
fn a_whole_response_waits_a_moment_for_the_next_one_and_no_longer() {
    let mut scene = Scene::new(Manner::SaysOnce(DATED.into()), |_| {});
    let client = scene.client(&GET.repeat(2));
    let waited = scene.got(client, DATED);
    let moment = bestguess::pair::gather::MOMENT;
    assert!(waited >= moment && waited <= 2 * moment, "{waited:?}");
    // What comes of the second request stands behind it.
    let (_, got) = scene.ended(client);
    let (first, second) = got.split_at(DATED.len());
    assert_eq!(first, DATED);
    assert!(second.starts_with("HTTP/1.1 504 "), "{second}");
}

#[test]
fn a_response_waits_for_no_other_where_servers_take_their_time() {
    let slow = Manner::Drips(DATED.into(), Duration::from_millis(1));
    let mut scene = Scene::new(slow, |_| {});
    let client = scene.client(&GET.repeat(2));
    scene.got(client, &DATED.repeat(2));
    assert!(scene.queues.0.borrow().ends[client].sends > 1);
}

#[test]
fn who_finds_no_descriptor_for_a_link_waits_for_one_in_the_order_of_arrival() {
    let answer = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok";
    let drips = Manner::Drips(answer.into(), SECOND / 10);
    let span = SECOND / 10 * (answer.len() as u32 - 1);
    let mut scene = Scene::new(drips, |_| {});
    scene.queues.0.borrow_mut().links_max = 1;
    let clients = [(); 3].map(|()| scene.client(GET));
    for client in clients {
        let after = scene.got(client, "\r\n\r\nok");
        assert!(is_about(after, span), "{after:?}");
    }
}

#[test]
fn a_descriptor_that_never_comes_free_is_waited_for_like_a_place() {
    let mut scene = Scene::new(says(OK), |_| {});
    scene.queues.0.borrow_mut().links_max = 0;
    let client = scene.client(GET);
    let after = scene.got(client, "the balancer has no descriptors left");
    assert!(is_about(after, 30 * SECOND), "{after:?}");
}
