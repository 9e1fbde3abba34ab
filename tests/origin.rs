//! The built-in server over real sockets, with a small client that looks at every byte.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use bestguess::cli;
use bestguess::config::Address;
use bestguess::net::mio::MioNet;
use bestguess::origin::Origin;
use bestguess::proxy::Flow;

/// Nothing here takes longer, unless something is broken.
const PATIENCE: Duration = Duration::from_secs(10);

/// A folder of one test, which goes with it.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Folder {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("bestguess-origin-{}-{count}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(path.join("www")).unwrap();
        fs::write(path.join("secret"), "secret").unwrap();
        Folder(path)
    }

    fn www(&self) -> PathBuf {
        self.0.join("www")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn settings() -> cli::Origin {
    cli::Origin::new(Address::Tcp(([127, 0, 0, 1], 0).into()))
}

/// Starts a server in a thread, which lives as long as the tests.
fn start(settings: &cli::Origin) -> SocketAddr {
    let mut net = MioNet::new().unwrap();
    net.listen(&settings.listen).unwrap();
    let Some(Address::Tcp(address)) = net.listening() else {
        panic!("no address")
    };
    let mut origin = Origin::new(net, settings, 1000).unwrap();
    std::thread::spawn(move || while origin.turn().unwrap() == Flow::Continue {});
    address
}

fn start_plain() -> SocketAddr {
    start(&settings())
}

fn start_in(folder: &Folder) -> SocketAddr {
    let dir = Some(folder.www());
    start(&cli::Origin { dir, ..settings() })
}

#[derive(Debug)]
struct Response {
    status: u16,
    head: String,
    content: Vec<u8>,
}

impl Response {
    fn field(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (found, value) = line.split_once(": ")?;
            found.eq_ignore_ascii_case(name).then_some(value)
        })
    }

    fn text(&self) -> &str {
        std::str::from_utf8(&self.content).unwrap()
    }
}

struct Client(BufReader<TcpStream>);

impl Client {
    fn new(address: SocketAddr) -> Client {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Client(BufReader::new(stream))
    }

    fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.get_mut().write_all(bytes.as_ref()).unwrap();
    }

    /// A head, without its empty line.
    fn head(&mut self) -> (u16, String) {
        let mut head = String::new();
        loop {
            let mut line = String::new();
            assert!(
                self.0.read_line(&mut line).unwrap() > 0,
                "ended in {head:?}"
            );
            assert!(line.ends_with("\r\n"), "{line:?}");
            if line == "\r\n" {
                break;
            }
            head.push_str(&line);
        }
        let status = head
            .strip_prefix("HTTP/1.1 ")
            .and_then(|rest| rest.get(..3));
        (status.unwrap().parse().unwrap(), head)
    }

    fn exactly(&mut self, count: usize) -> Vec<u8> {
        let mut content = vec![0; count];
        self.0.read_exact(&mut content).unwrap();
        content
    }

    /// The response to anything but a HEAD.
    fn response(&mut self) -> Response {
        let (status, head) = self.head();
        let mut response = Response {
            status,
            head,
            content: Vec::new(),
        };
        if let Some(length) = response.field("Content-Length") {
            response.content = self.exactly(length.parse().unwrap());
        } else if response.field("Transfer-Encoding") == Some("chunked") {
            loop {
                let mut line = String::new();
                self.0.read_line(&mut line).unwrap();
                let size = usize::from_str_radix(line.trim_end(), 16).unwrap();
                response.content.extend(self.exactly(size));
                assert_eq!(self.exactly(2), b"\r\n");
                if size == 0 {
                    break;
                }
            }
        }
        response
    }

    fn get(&mut self, target: &str) -> Response {
        self.ask(&format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n"))
    }

    fn ask(&mut self, request: &str) -> Response {
        self.send(request);
        self.response()
    }

    fn put(&mut self, target: &str, content: &[u8]) -> Response {
        let length = content.len();
        self.send(format!(
            "PUT {target} HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n"
        ));
        self.send(content);
        self.response()
    }

    /// All that comes until the end of the connection.
    fn rest(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        self.0.read_to_end(&mut rest).unwrap();
        rest
    }
}

/// Content that shows where a byte is missing.
fn noise(count: usize) -> Vec<u8> {
    let mut state = 1_u32;
    let step = |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..count).map(step).collect()
}

#[test]
fn a_file_arrives_whole_with_its_type_and_date() {
    let folder = Folder::new();
    let content = noise(3_000_000);
    fs::write(folder.www().join("a file.png"), &content).unwrap();
    let mut client = Client::new(start_in(&folder));
    for _ in 0..3 {
        let response = client.get("/a%20file.png?query=/../x");
        assert_eq!(response.status, 200);
        assert_eq!(response.field("Content-Type"), Some("image/png"));
        assert_eq!(response.field("Server"), Some("bestguess-origin"));
        assert!(response.field("Last-Modified").unwrap().ends_with(" GMT"));
        assert!(response.field("Date").unwrap().ends_with(" GMT"));
        assert!(response.content == content);
    }
}

#[test]
fn a_head_is_that_of_the_get_without_the_content() {
    let folder = Folder::new();
    fs::write(folder.www().join("file.txt"), "content").unwrap();
    let address = start_in(&folder);
    let mut client = Client::new(address);
    for target in ["/file.txt", "/none", "/", "/chunked/5", "/healthcheck"] {
        client.send(format!("HEAD {target} HTTP/1.1\r\nHost: a\r\n\r\n"));
        let (status, head) = client.head();
        let response = Client::new(address).get(target);
        let undated = |head: &str| {
            let lines = head.lines().filter(|line| !line.starts_with("Date: "));
            lines.map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(
            (status, undated(&head)),
            (response.status, undated(&response.head))
        );
    }
}

#[test]
fn a_folder_is_its_index_or_a_listing() {
    let folder = Folder::new();
    fs::create_dir(folder.www().join("sub")).unwrap();
    fs::write(folder.www().join("sub/x&y"), "1").unwrap();
    let mut client = Client::new(start_in(&folder));
    let moved = client.get("/sub");
    assert_eq!(
        (moved.status, moved.field("Location")),
        (301, Some("/sub/"))
    );
    let listing = client.get("/sub/");
    assert_eq!(
        listing.field("Content-Type"),
        Some("text/html; charset=utf-8")
    );
    assert!(listing.text().contains("<a href=\"./x%26y\">x&amp;y</a>"));
    fs::write(folder.www().join("sub/index.html"), "index").unwrap();
    assert_eq!(client.get("/sub/").content, b"index");
}

#[test]
fn nothing_outside_the_folder_is_given_away() {
    let folder = Folder::new();
    symlink("../secret", folder.www().join("link")).unwrap();
    symlink("..", folder.www().join("up")).unwrap();
    let address = start_in(&folder);
    for target in [
        "/../secret",
        "/%2e%2e/secret",
        "/..%2fsecret",
        "/a/../../secret",
        "/link",
        "/up/secret",
        "//etc/hostname",
        "/%2fetc%2fhostname",
        "/secret%00",
        "/%",
        "http://a/../secret",
    ] {
        let response = Client::new(address).get(target);
        assert!(
            matches!(response.status, 400 | 404),
            "{target}: {response:?}"
        );
        assert!(!response.text().contains("secret"), "{target}");
    }
    let put = Client::new(address).put("/../new", b"x");
    assert_eq!(put.status, 400);
    assert_eq!(Client::new(address).put("/up/new", b"x").status, 404);
    assert!(!folder.0.join("new").exists());
}

#[test]
fn a_put_creates_then_replaces() {
    let folder = Folder::new();
    let mut client = Client::new(start_in(&folder));
    let content = noise(1_000_000);
    assert_eq!(client.put("/new", &content).status, 201);
    assert!(fs::read(folder.www().join("new")).unwrap() == content);
    assert!(client.get("/new").content == content);
    assert_eq!(client.put("/new", b"").status, 204);
    assert_eq!(client.get("/new").content, b"");
    let names: Vec<_> = fs::read_dir(folder.www()).unwrap().collect();
    assert_eq!(names.len(), 1);
}

#[test]
fn a_put_that_breaks_off_changes_nothing() {
    let folder = Folder::new();
    fs::write(folder.www().join("file"), "before").unwrap();
    let address = start_in(&folder);
    let mut client = Client::new(address);
    client.send("PUT /file HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n12345");
    drop(client);
    let mut client = Client::new(address);
    client.send("PUT /file HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nx");
    assert_eq!(client.response().status, 400);
    drop(client);
    let began = Instant::now();
    while fs::read_dir(folder.www()).unwrap().count() > 1 {
        assert!(began.elapsed() < PATIENCE);
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(fs::read(folder.www().join("file")).unwrap(), b"before");
}

#[test]
fn chunked_uploads_are_kept_without_their_chunks() {
    let folder = Folder::new();
    let mut client = Client::new(start_in(&folder));
    let wire = "PUT /file HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\
                5;a=b\r\nhello\r\n6\r\n world\r\n0\r\nX: y\r\n\r\n";
    for byte in wire.as_bytes() {
        client.send([*byte]);
    }
    assert_eq!(client.response().status, 201);
    assert_eq!(client.get("/file").content, b"hello world");
}

#[test]
fn a_client_that_expects_it_is_told_to_continue() {
    let folder = Folder::new();
    let mut client = Client::new(start_in(&folder));
    let ask = |target: &str| {
        format!(
            "PUT {target} HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"
        )
    };
    client.send(ask("/file"));
    assert_eq!(client.head(), (100, "HTTP/1.1 100 Continue\r\n".to_owned()));
    client.send("12345");
    assert_eq!(client.response().status, 201);
    // Content that is there already needs no leave; what would be refused gets none.
    client.send(ask("/file") + "54321");
    assert_eq!(client.response().status, 204);
    client.send(ask("/"));
    let refused = client.response();
    assert_eq!(
        (refused.status, refused.field("Connection")),
        (409, Some("close"))
    );
}

#[test]
fn a_post_says_how_much_came() {
    let mut client = Client::new(start_plain());
    client.send("POST /any HTTP/1.1\r\nHost: a\r\nContent-Length: 2000000\r\n\r\n");
    client.send(noise(2_000_000));
    assert_eq!(client.response().text(), "2000000 bytes of content\n");
    let response =
        client.ask("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\na\r\n0123456789\r\n0\r\n\r\n");
    assert_eq!(response.text(), "10 bytes of content\n");
    assert_eq!(
        client.ask("POST / HTTP/1.1\r\nHost: a\r\n\r\n").text(),
        "0 bytes of content\n"
    );
}

#[test]
fn pipelined_requests_are_answered_in_order_whatever_the_pieces() {
    let address = start_plain();
    let wire: String = (0..200)
        .map(|index| match index % 4 {
            0 => format!("GET /bytes/{index} HTTP/1.1\r\nHost: a\r\n\r\n"),
            1 => format!(
                "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {index}\r\n\r\n{}",
                "x".repeat(index)
            ),
            2 => format!("\r\nGET /chunked/{index} HTTP/1.1\r\nHost: a\r\n\r\n"),
            _ => format!("GET /status/{} HTTP/1.1\r\nHost: a\r\n\r\n", 200 + index),
        })
        .collect();
    for piece in [7, 1000, wire.len()] {
        let mut client = Client::new(address);
        for piece in wire.as_bytes().chunks(piece) {
            client.send(piece);
        }
        for index in 0..200 {
            let response = client.response();
            match index % 4 {
                0 | 2 => assert_eq!((response.status, response.content.len()), (200, index)),
                1 => assert_eq!(response.text(), format!("{index} bytes of content\n")),
                _ => assert_eq!(usize::from(response.status), 200 + index),
            }
        }
    }
}

#[test]
fn many_answers_wait_for_a_slow_reader() {
    let mut client = Client::new(start_plain());
    let count = 64;
    let wire = "GET /bytes/300000 HTTP/1.1\r\nHost: a\r\n\r\n".repeat(count);
    client.send(wire);
    std::thread::sleep(Duration::from_millis(200));
    let first = client.response();
    for _ in 1..count {
        assert!(client.response().content == first.content);
    }
    assert_eq!(client.get("/hello").text(), "hello from bestguess-origin\n");
}

#[test]
fn http_1_0_closes_unless_asked_to_stay() {
    let address = start_plain();
    let mut client = Client::new(address);
    client.send("GET /bytes/10 HTTP/1.0\r\n\r\n");
    let response = client.response();
    assert_eq!(
        (response.content.len(), response.field("Connection")),
        (10, Some("close"))
    );
    assert!(client.rest().is_empty());
    let mut client = Client::new(address);
    for _ in 0..2 {
        let response = client.ask("GET /bytes/10 HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
        assert_eq!(response.field("Connection"), Some("keep-alive"));
    }
    // Whoever does not know chunks gets the content until the end of the connection.
    client.send("GET /chunked/100000 HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    let (_, head) = client.head();
    assert!(!head.contains("chunked") && head.contains("Connection: close\r\n"));
    assert_eq!(client.rest().len(), 100_000);
}

#[test]
fn a_client_may_end_its_stream_behind_the_last_request() {
    let mut client = Client::new(start_plain());
    client
        .send("GET /delay/30 HTTP/1.1\r\nHost: a\r\n\r\nGET /bytes/5 HTTP/1.1\r\nHost: a\r\n\r\n");
    client.0.get_mut().shutdown(Shutdown::Write).unwrap();
    assert_eq!(client.response().status, 200);
    assert_eq!(client.response().content.len(), 5);
    assert!(client.rest().is_empty());
}

#[test]
fn the_report_counts_requests_and_errors_but_no_checks() {
    let settings = cli::Origin {
        errors: 3,
        load: 7,
        ..settings()
    };
    let mut client = Client::new(start(&settings));
    assert_eq!(client.get("/healthcheck").text(), "3\n7\nin_flight=0\n");
    client.get("/");
    client.get("/status/503");
    client.ask("POST / HTTP/1.1\r\nHost: a\r\n\r\n");
    let report = client.get("/healthcheck");
    assert_eq!(report.text(), "4\n10\nin_flight=0\n");
    assert_eq!(
        report.field("Content-Type"),
        Some("text/plain; charset=utf-8")
    );
}

#[test]
fn a_fixed_report_stays() {
    let settings = cli::Origin {
        errors: 3,
        load: 7,
        fixed_report: true,
        ..settings()
    };
    let mut client = Client::new(start(&settings));
    client.get("/status/500");
    assert_eq!(client.get("/healthcheck").text(), "3\n7\n");
}

#[test]
fn delays_hold_back_answers_but_not_each_other_nor_checks() {
    let delay = Duration::from_millis(100);
    let mut settings = settings();
    settings.service.delay = delay;
    let address = start(&settings);
    let began = Instant::now();
    let mut clients: Vec<Client> = (0..20).map(|_| Client::new(address)).collect();
    for client in &mut clients {
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    }
    let mut late = Client::new(address);
    late.send("GET /delay/200 HTTP/1.1\r\nHost: a\r\n\r\n");
    Client::new(address).get("/healthcheck");
    assert!(began.elapsed() < delay);
    for client in &mut clients {
        assert_eq!(client.response().status, 200);
    }
    assert!(began.elapsed() >= delay);
    assert!(began.elapsed() < 10 * delay);
    late.response();
    assert!(began.elapsed() >= 3 * delay);
    // On one connection answers keep their order.
    late.send(
        "GET /delay/50 HTTP/1.1\r\nHost: a\r\n\r\nGET /healthcheck HTTP/1.1\r\nHost: a\r\n\r\n",
    );
    assert!(late.response().text().starts_with("hello"));
    assert_eq!(late.response().text(), "0\n22\nin_flight=0\n");
}

#[test]
fn two_workers_serve_two_at_once_while_a_check_says_how_many_are_there() {
    let mut settings = settings();
    settings.service.delay = Duration::from_millis(100);
    settings.service.workers = 2;
    let address = start(&settings);
    let mut clients: Vec<Client> = (0..6).map(|_| Client::new(address)).collect();
    let began = Instant::now();
    for client in &mut clients {
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    }
    let mut asking = Client::new(address);
    while asking.get("/healthcheck").text() != "0\n6\nin_flight=6\n" {
        assert!(began.elapsed() < PATIENCE);
    }
    let mut times = Vec::new();
    for client in &mut clients {
        assert_eq!(client.response().status, 200);
        times.push(began.elapsed());
    }
    for (place, time) in times.iter().enumerate() {
        let least = Duration::from_millis(100 * (place as u64 / 2 + 1));
        assert!(*time >= least, "{times:?}");
    }
    assert_eq!(asking.get("/healthcheck").text(), "0\n6\nin_flight=0\n");
}

#[test]
fn a_share_of_the_requests_fails_at_once() {
    let mut settings = settings();
    settings.service.fail = 0.5;
    settings.seed = Some(3);
    let address = start(&settings);
    let mut client = Client::new(address);
    let post = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx";
    // The connection goes on behind a failure.
    let answers: Vec<u16> = (0..20).map(|_| client.ask(post).status).collect();
    let failed = answers.iter().filter(|status| **status == 500).count();
    assert!((4..17).contains(&failed), "{answers:?}");
    assert!(answers.iter().all(|status| matches!(status, 200 | 500)));
    let report = format!("{failed}\n20\nin_flight=0\n");
    assert_eq!(client.get("/healthcheck").text(), report);
}

#[test]
fn every_response_tells_the_load_if_asked_to() {
    let mut settings = settings();
    settings.orca = true;
    settings.service.workers = 2;
    let address = start(&settings);
    let mut busy = Client::new(address);
    busy.send("GET /delay/60000 HTTP/1.1\r\nHost: a\r\n\r\n");
    let mut client = Client::new(address);
    while !client.get("/healthcheck").text().ends_with("in_flight=1\n") {}
    for (target, in_flight) in [
        ("/healthcheck", 1),
        ("/", 2),
        ("/status/204", 2),
        ("/status/503", 2),
        ("/bytes/", 2),
    ] {
        let response = client.get(target);
        let value = response.field("endpoint-load-metrics").unwrap();
        let figures = value.strip_prefix("TEXT ").unwrap().split(", ");
        let (names, values): (Vec<&str>, Vec<&str>) = figures
            .map(|figure| figure.split_once('=').unwrap())
            .unzip();
        assert_eq!(
            names,
            [
                "named_metrics.in_flight",
                "application_utilization",
                "rps_fractional",
                "eps"
            ]
        );
        assert_eq!(values[0], in_flight.to_string(), "{target}");
        let values: Vec<f64> = values.iter().map(|value| value.parse().unwrap()).collect();
        assert!((0.0..=0.6).contains(&values[1]), "{value}");
        assert!(values[2] >= values[3], "{value}");
    }
    let errors = client.get("/healthcheck");
    let value = errors.field("endpoint-load-metrics").unwrap();
    assert!(!value.ends_with("eps=0.00"), "{value}");
    client.send("GET / HTTP/3.0\r\n\r\n");
    assert!(client.response().field("endpoint-load-metrics").is_some());
    let plain = Client::new(start_plain()).get("/");
    assert_eq!(plain.field("endpoint-load-metrics"), None);
}

#[test]
fn the_control_changes_how_requests_are_served_and_counts_as_none() {
    let mut settings = settings();
    settings.control = true;
    settings.service.workers = 1;
    let address = start(&settings);
    let mut client = Client::new(address);
    let mut control =
        |query: &str| client.ask(&format!("POST /control{query} HTTP/1.1\r\nHost: a\r\n\r\n"));
    let response = control("?fail=100%25");
    assert_eq!(
        (response.status, response.text()),
        (200, "delay=0ms jitter=0ms fail=1 workers=1\n")
    );
    assert_eq!(Client::new(address).get("/").status, 500);
    for query in ["", "?", "?fail", "?fail=0&delay=soon", "?fail=0&speed=3"] {
        let response = control(query);
        assert_eq!(response.status, 400, "{query}");
        assert!(
            response.text().contains("expected"),
            "{query}: {}",
            response.text()
        );
    }
    // Of a wrong order nothing was done.
    assert_eq!(Client::new(address).get("/").status, 500);
    // Who waits in the line is served as soon as there are workers.
    assert_eq!(control("?fail=0").status, 200);
    let mut busy = Client::new(address);
    busy.send("GET /delay/60000 HTTP/1.1\r\nHost: a\r\n\r\n");
    let report = |report: &str| {
        let began = Instant::now();
        while Client::new(address).get("/healthcheck").text() != report {
            assert!(began.elapsed() < PATIENCE);
        }
    };
    report("2\n3\nin_flight=1\n");
    let mut waiting = Client::new(address);
    waiting.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    report("2\n4\nin_flight=2\n");
    assert_eq!(control("?workers=0").status, 200);
    assert_eq!(waiting.response().status, 200);
    report("2\n4\nin_flight=1\n");
    let delay = Duration::from_millis(50);
    assert_eq!(control("?delay=50ms").status, 200);
    let began = Instant::now();
    assert_eq!(waiting.get("/").status, 200);
    assert!(began.elapsed() >= delay);
}

#[test]
fn without_the_option_there_is_no_control() {
    let mut client = Client::new(start_plain());
    let response = client.ask("POST /control?fail=1 HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(response.status, 404);
    assert_eq!(client.get("/").status, 200);
}

#[test]
fn methods_that_are_not_there_are_told_which_are() {
    let folder = Folder::new();
    let address = start_in(&folder);
    let mut client = Client::new(address);
    for method in ["DELETE", "PATCH", "TRACE", "BREW"] {
        let response = client.ask(&format!("{method} / HTTP/1.1\r\nHost: a\r\n\r\n"));
        assert_eq!(response.status, 405);
        assert_eq!(
            response.field("Allow"),
            Some("GET, HEAD, OPTIONS, POST, PUT")
        );
    }
    let response = client.ask("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(
        (response.status, response.field("Content-Length")),
        (204, None)
    );
    let response = Client::new(start_plain()).put("/file", b"content");
    assert_eq!(
        (response.status, response.field("Allow")),
        (405, Some("GET, HEAD, OPTIONS, POST"))
    );
}

#[test]
fn what_breaks_a_rule_is_refused_by_it_and_the_connection_ends() {
    let address = start_plain();
    for (wire, status) in [
        ("GET / HTTP/1.1\r\n\r\n", 400),
        ("GET / HTTP/2.0\r\n\r\n", 505),
        (
            "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx",
            400,
        ),
        (
            "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
            501,
        ),
        ("GET / HTTP/1.1\nHost: a\n\n", 400),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
            400,
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999\r\n\r\n",
            413,
        ),
    ] {
        let mut client = Client::new(address);
        client.send(wire);
        let response = client.response();
        assert_eq!(
            (response.status, response.field("Connection")),
            (status, Some("close")),
            "{wire}"
        );
        assert!(client.rest().is_empty());
    }
    let mut client = Client::new(address);
    client.send(format!(
        "GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n",
        "x".repeat(20_000)
    ));
    assert_eq!(client.response().status, 431);
}

#[test]
fn empty_lines_before_a_request_do_not_count() {
    let mut client = Client::new(start_plain());
    client.send(format!(
        "{}GET /status/204 HTTP/1.1\r\nHost: a\r\n\r\n",
        "\r\n".repeat(900)
    ));
    assert_eq!(client.response().status, 204);
}

#[test]
fn a_refusal_is_read_by_a_client_that_still_sends() {
    let mut client = Client::new(start_plain());
    client.send("PUT /file HTTP/1.1\r\nHost: a\r\nContent-Length: 900000\r\n\r\n");
    client.send(noise(900_000));
    assert_eq!(client.response().status, 405);
    assert!(client.rest().is_empty());
}

#[test]
fn a_download_nobody_reads_holds_up_nobody() {
    let address = start_plain();
    let mut stuck: Vec<Client> = (0..50).map(|_| Client::new(address)).collect();
    for client in &mut stuck {
        client.send("GET /bytes/1000000000 HTTP/1.1\r\nHost: a\r\n\r\n");
    }
    let mut client = Client::new(address);
    for _ in 0..20 {
        assert_eq!(client.get("/bytes/1000").content.len(), 1000);
    }
}

/// The program itself, ended with the test.
struct Program(Child, String);

impl Program {
    fn new(arguments: &[&str]) -> Program {
        let mut child = Command::new(env!("CARGO_BIN_EXE_bestguess"))
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        while !line.contains("127.0.0.1:") {
            line.clear();
            assert!(
                out.read_line(&mut line).unwrap() > 0,
                "no address was printed"
            );
        }
        // The reader goes here: whoever prints more must not mind.
        Program(child, line)
    }

    fn address(&self) -> SocketAddr {
        let (_, behind) = self.1.split_once("127.0.0.1:").unwrap();
        let port: String = behind.chars().take_while(char::is_ascii_digit).collect();
        SocketAddr::from(([127, 0, 0, 1], port.parse().unwrap()))
    }

    fn signal(&self) {
        let id = self.0.id().to_string();
        let sent = Command::new("kill").args(["-TERM", &id]).status().unwrap();
        assert!(sent.success());
    }

    fn code(&mut self) -> Option<i32> {
        let began = Instant::now();
        loop {
            if let Some(status) = self.0.try_wait().unwrap() {
                return status.code();
            }
            assert!(began.elapsed() < PATIENCE, "it does not end");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_stop_finishes_what_runs_and_lets_idle_clients_go() {
    let mut program = Program::new(&["origin", "0", "--name", "me"]);
    let port = program.address().port();
    assert_eq!(program.1, format!("origin listening on 127.0.0.1:{port}\n"));
    let mut idle = Client::new(program.address());
    assert_eq!(idle.get("/").text(), "hello from me\n");
    let mut busy = Client::new(program.address());
    busy.send("GET /delay/2000 HTTP/1.1\r\nHost: a\r\n\r\n");
    let mut reading = Client::new(program.address());
    reading.send("GET /bytes/20000000 HTTP/1.1\r\nHost: a\r\n\r\n");
    std::thread::sleep(Duration::from_millis(100));
    program.signal();
    assert!(idle.rest().is_empty());
    assert_eq!(reading.response().content.len(), 20_000_000);
    assert!(reading.rest().is_empty());
    assert_eq!(busy.response().field("Connection"), Some("close"));
    assert!(busy.rest().is_empty());
    assert_eq!(program.code(), Some(0));
}

#[test]
fn a_second_stop_ends_at_once() {
    let mut program = Program::new(&["origin", "127.0.0.1:0"]);
    let mut busy = Client::new(program.address());
    busy.send("GET /delay/60000 HTTP/1.1\r\nHost: a\r\n\r\n");
    busy.send("");
    std::thread::sleep(Duration::from_millis(50));
    program.signal();
    std::thread::sleep(Duration::from_millis(50));
    assert!(program.0.try_wait().unwrap().is_none());
    program.signal();
    assert_eq!(program.code(), Some(0));
}

#[test]
fn the_demo_spreads_requests_over_three_servers_and_ends() {
    let mut program = Program::new(&["demo", "0"]);
    let port = program.address().port();
    assert_eq!(
        program.1,
        format!("open http://127.0.0.1:{port}/ (stop with Ctrl-C)\n")
    );
    let mut client = Client::new(program.address());
    let page = client.get("/");
    assert_eq!(page.field("Content-Type"), Some("text/html; charset=utf-8"));
    let name = page.field("Server").unwrap().to_owned();
    assert!(
        page.text()
            .contains(&format!("<strong>{name}</strong> answered"))
    );
    let mut names: Vec<String> = (0..30)
        .map(|_| client.get("/hello").text().to_owned())
        .collect();
    names.sort();
    names.dedup();
    assert_eq!(
        names,
        ["hello from one\n", "hello from three\n", "hello from two\n"]
    );
    program.signal();
    assert_eq!(program.code(), Some(0));
}
