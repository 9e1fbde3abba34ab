//! What an exchange takes from the heap: nothing, once everything has been used before.
//!
//! The balancer runs over real sockets in a thread of its own, before two built-in servers, and every
//! turn of it is counted by an allocator that counts for each thread apart. Pools and heaps still grow
//! now and then, when more comes together than ever before, and what was long unused is given back
//! once a second: so not every series of exchanges has to go by without an allocation, but one soon.
//! What an exchange took for itself would show in each of them, hundreds of times.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use bestguess::access::writer;
use bestguess::cli;
use bestguess::config::{Address, CheckMode, Config, LogFormat, LogTarget, ServerConfig};
use bestguess::net::mio::MioNet;
use bestguess::origin::Origin;
use bestguess::proxy::{Flow, Proxy};

const SERVERS: usize = 2;
const CLIENTS_MAX: usize = 64;
/// Exchanges of one series.
const SERIES: usize = 200;
/// Series of which one at the latest must go by without an allocation.
const SERIES_MAX: usize = 20;
/// Nothing here takes longer, unless it hangs.
const PATIENCE: Duration = Duration::from_secs(20);

/// A balancer that counts its allocations, before servers that nobody sees.
struct Counted {
    address: SocketAddr,
    allocations: Arc<AtomicU64>,
    turns: Arc<AtomicU64>,
}

impl Counted {
    /// Starts all of it; `adjust` changes the configuration.
    fn start(adjust: impl FnOnce(&mut Config)) -> Counted {
        let servers = (0..SERVERS)
            .map(|_| ServerConfig::new(start_origin()))
            .collect();
        let mut net = MioNet::new().unwrap();
        net.listen(&any_port()).unwrap();
        let listening = net.listening().unwrap();
        let Address::Tcp(address) = listening else {
            panic!("{listening} is no TCP address");
        };
        let mut config = Config::new(listening, servers);
        config.check.every = Duration::from_secs(3600);
        config.check.every_requests = u64::MAX;
        adjust(&mut config);
        let allocations = Arc::new(AtomicU64::new(0));
        let turns = Arc::new(AtomicU64::new(0));
        let counted = Counted {
            address,
            allocations: Arc::clone(&allocations),
            turns: Arc::clone(&turns),
        };
        let log = config.access_log.as_ref().map(writer::start);
        let mut proxy = Proxy::new(net, config, CLIENTS_MAX, 1);
        if let Some(log) = log {
            proxy.access().write_to(log.unwrap().0);
        }
        thread::spawn(move || {
            let mut flow = Flow::Continue;
            while flow == Flow::Continue {
                let info = allocation_counter::measure(|| flow = proxy.turn().unwrap());
                allocations.fetch_add(info.count_total, Ordering::SeqCst);
                turns.fetch_add(1, Ordering::SeqCst);
            }
        });
        counted
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// Has series of `exchange` done until one took nothing from the heap, and tells what the last
    /// one took.
    fn count(&self, mut exchange: impl FnMut()) -> u64 {
        let mut taken = u64::MAX;
        for _ in 0..SERIES_MAX {
            let (allocations, turns) = self.now();
            for _ in 0..SERIES {
                exchange();
            }
            let (allocations_now, turns_now) = self.now();
            assert!(turns_now > turns, "the balancer was not asked");
            taken = allocations_now - allocations;
            if taken == 0 {
                break;
            }
        }
        taken
    }

    fn now(&self) -> (u64, u64) {
        (
            self.allocations.load(Ordering::SeqCst),
            self.turns.load(Ordering::SeqCst),
        )
    }
}

fn any_port() -> Address {
    Address::Tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
}

/// A built-in server in a thread that lives as long as the process.
fn start_origin() -> Address {
    let mut net = MioNet::new().unwrap();
    net.listen(&any_port()).unwrap();
    let address = net.listening().unwrap();
    let mut origin = Origin::new(net, &cli::Origin::new(address.clone()), CLIENTS_MAX).unwrap();
    thread::spawn(move || while origin.turn().unwrap() == Flow::Continue {});
    address
}

/// Reads `count` whole answers of status 200, with a length or in chunks.
fn answers(stream: &mut TcpStream, count: usize) {
    let mut bytes = Vec::new();
    for _ in 0..count {
        let head = until(stream, &mut bytes, b"\r\n\r\n");
        let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
        assert!(head.starts_with("http/1.1 200 "), "{head}");
        match head.split("content-length: ").nth(1) {
            Some(rest) => {
                let length = rest.split("\r\n").next().unwrap().parse().unwrap();
                more(stream, &mut bytes, length);
                bytes.drain(..length);
            }
            None => {
                assert!(head.contains("transfer-encoding: chunked"), "{head}");
                until(stream, &mut bytes, b"\r\n0\r\n\r\n");
            }
        }
    }
    assert!(bytes.is_empty(), "more came than was asked for");
}

/// Takes all bytes up to and with `end`.
fn until(stream: &mut TcpStream, bytes: &mut Vec<u8>, end: &[u8]) -> Vec<u8> {
    loop {
        if let Some(at) = bytes.windows(end.len()).position(|window| window == end) {
            return bytes.drain(..at + end.len()).collect();
        }
        more(stream, bytes, bytes.len() + 1);
    }
}

/// Reads until at least `count` bytes are there.
fn more(stream: &mut TcpStream, bytes: &mut Vec<u8>, count: usize) {
    let mut piece = [0; 16 << 10];
    while bytes.len() < count {
        let read = stream.read(&mut piece).unwrap();
        assert!(read > 0, "the connection ended before its answer did");
        bytes.extend_from_slice(&piece[..read]);
    }
}

fn get(target: &str) -> Vec<u8> {
    format!("GET {target} HTTP/1.1\r\nHost: a.example\r\n\r\n").into_bytes()
}

fn post(length: usize) -> Vec<u8> {
    let head =
        format!("POST /form HTTP/1.1\r\nHost: a.example\r\nContent-Length: {length}\r\n\r\n");
    let mut request = head.into_bytes();
    request.resize(request.len() + length, b'x');
    request
}

/// Allocations of exchanges over one kept-alive connection.
fn count_kept(counted: &Counted, request: &[u8], count: usize) -> u64 {
    let mut stream = counted.connect();
    counted.count(|| {
        stream.write_all(request).unwrap();
        answers(&mut stream, count);
    })
}

#[test]
fn the_counter_counts() {
    let info = allocation_counter::measure(|| drop(std::hint::black_box(Box::new(1))));
    assert_eq!(info.count_total, 1);
}

#[test]
fn a_get_on_a_kept_connection_allocates_nothing() {
    let counted = Counted::start(|_| {});
    assert_eq!(count_kept(&counted, &get("/bytes/256"), 1), 0);
}

#[test]
fn a_long_answer_allocates_nothing() {
    let counted = Counted::start(|_| {});
    assert_eq!(count_kept(&counted, &get("/bytes/100000"), 1), 0);
}

#[test]
fn an_answer_in_chunks_allocates_nothing() {
    let counted = Counted::start(|_| {});
    assert_eq!(count_kept(&counted, &get("/chunked/5000"), 1), 0);
}

#[test]
fn a_post_allocates_nothing() {
    let counted = Counted::start(|_| {});
    assert_eq!(count_kept(&counted, &post(1 << 10), 1), 0);
    assert_eq!(count_kept(&counted, &post(100_000), 1), 0);
}

#[test]
fn pipelined_requests_allocate_nothing() {
    let counted = Counted::start(|_| {});
    assert_eq!(count_kept(&counted, &get("/bytes/256").repeat(16), 16), 0);
}

#[test]
fn a_head_that_comes_in_two_pieces_allocates_nothing() {
    let counted = Counted::start(|_| {});
    let mut stream = counted.connect();
    let request = get("/bytes/256");
    let count = counted.count(|| {
        let (turns, (first, second)) = (counted.now().1, request.split_at(20));
        stream.write_all(first).unwrap();
        while counted.now().1 == turns {
            thread::yield_now();
        }
        stream.write_all(second).unwrap();
        answers(&mut stream, 1);
    });
    assert_eq!(count, 0);
}

#[test]
fn many_connections_at_once_allocate_nothing() {
    let counted = Counted::start(|_| {});
    let request = get("/bytes/256");
    let mut streams: Vec<TcpStream> = (0..16).map(|_| counted.connect()).collect();
    let count = counted.count(|| {
        for stream in &mut streams {
            stream.write_all(&request).unwrap();
        }
        for stream in &mut streams {
            answers(stream, 1);
        }
    });
    assert_eq!(count, 0);
}

#[test]
fn waiting_in_the_queue_allocates_nothing() {
    let counted = Counted::start(|config| config.parallel = 2);
    let request = get("/bytes/256");
    let mut streams: Vec<TcpStream> = (0..16).map(|_| counted.connect()).collect();
    let count = counted.count(|| {
        for stream in &mut streams {
            stream.write_all(&request).unwrap();
        }
        for stream in &mut streams {
            answers(stream, 1);
        }
    });
    assert_eq!(count, 0);
}

#[test]
fn a_connection_for_each_request_allocates_nothing() {
    let counted = Counted::start(|_| {});
    let request = get("/bytes/256");
    let count = counted.count(|| {
        let mut stream = counted.connect();
        stream.write_all(&request).unwrap();
        answers(&mut stream, 1);
    });
    assert_eq!(count, 0);
}

#[test]
fn lines_of_the_access_log_and_ids_allocate_nothing() {
    for log_format in [LogFormat::Combined, LogFormat::Json] {
        let counted = Counted::start(|config| {
            config.access_log = Some(LogTarget::File("/dev/null".into()));
            config.log_format = log_format;
            config.request_id = true;
        });
        assert_eq!(count_kept(&counted, &get("/bytes/256"), 1), 0);
        assert_eq!(count_kept(&counted, &get("/bytes/256").repeat(16), 16), 0);
    }
}

#[test]
fn health_checks_allocate_nothing() {
    let counted = Counted::start(|config| {
        config.check.mode = CheckMode::Report;
        config.check.every_requests = 5;
    });
    assert_eq!(count_kept(&counted, &get("/bytes/256"), 1), 0);
}
