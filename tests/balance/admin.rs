//! The admin listener: what it tells, what it changes, and what it refuses, with the real binary.

use std::collections::BTreeSet;
use std::path::PathBuf;

use bestguess::config::Address;
use rustix::process::Signal;

use crate::peer::{Peer, reply};
use crate::program::{Balancer, Folder, Origin, Program};
use crate::wire::{Client, Response, request};

const OPENAPI: &str = include_str!("../../src/admin/openapi.json");

/// A balancer with an admin listener on a unix socket, where no Host and no origin matters.
struct Watched {
    balancer: Balancer,
    admin: Address,
    _folder: Folder,
}

impl Watched {
    fn before<S: std::fmt::Display>(servers: &[S], options: &[&str]) -> Watched {
        let folder = Folder::new();
        let path: PathBuf = folder.path().join("admin");
        let listen = format!("unix:{}", path.display());
        let options = [&["--admin", &listen], options].concat();
        Watched {
            balancer: Balancer::before(servers, &options),
            admin: Address::Unix(path),
            _folder: folder,
        }
    }

    fn client(&self) -> Client {
        Client::new(&self.admin)
    }

    fn get(&self, target: &str) -> Response {
        self.client().get(target)
    }

    fn post(&self, target: &str, content: &str) -> (u16, String) {
        let response = self.client().post(target, content.as_bytes());
        (response.status, response.text().to_owned())
    }

    /// The value of a metric, by its name and labels as they stand.
    fn metric(&self, name: &str) -> f64 {
        let response = self.get("/metrics");
        let line = response.text().lines().find_map(|line| {
            let (found, value) = line.rsplit_once(' ')?;
            (found == name).then(|| value.parse().unwrap())
        });
        line.unwrap_or_else(|| panic!("no {name} in {}", response.text()))
    }
}

fn server(name: &'static str) -> Peer {
    Peer::start(move |talk| {
        talk.content()?;
        let status = if talk.target == "/bad" { 500 } else { 200 };
        talk.wire.send(reply(status, &[], name))?;
        Ok(true)
    })
}

/// The names that stand before a colon in a JSON text.
fn keys(json: &str) -> BTreeSet<&str> {
    let parts: Vec<&str> = json.split('"').collect();
    parts
        .windows(2)
        .filter(|pair| pair[1].trim_start().starts_with(':'))
        .map(|pair| pair[0])
        .collect()
}

#[test]
fn all_that_it_tells_is_described() {
    let servers = [server("a"), server("b")];
    let watched = Watched::before(&servers, &[]);
    watched.balancer.get("/x");
    let described = keys(OPENAPI);
    for target in ["/status", "/servers", "/guesses"] {
        let response = watched.get(target);
        assert_eq!(response.status, 200, "{target}");
        assert_eq!(response.field("Content-Type"), Some("application/json"));
        for key in keys(response.text()) {
            assert!(
                described.contains(key),
                "{key} of {target} is not described"
            );
        }
    }
    let status = watched.get("/status");
    let told = keys(status.text());
    for key in [
        "queue_wait",
        "loop_lag",
        "servers",
        "changes",
        "in_flight",
        "latency",
        "p99_seconds",
    ] {
        assert!(told.contains(key), "{key}");
    }
    let openapi = watched.get("/openapi.json");
    assert_eq!(openapi.text(), OPENAPI);
}

#[test]
fn the_page_may_ask_nobody_else_and_is_not_kept() {
    let peer = server("a");
    let watched = Watched::before(&[&peer], &[]);
    let page = watched.get("/");
    assert_eq!(page.status, 200);
    assert_eq!(page.field("Content-Type"), Some("text/html; charset=utf-8"));
    let policy = page.field("Content-Security-Policy").unwrap();
    assert!(policy.starts_with("default-src 'none';"), "{policy}");
    for (name, value) in [
        ("Cache-Control", "no-store"),
        ("X-Content-Type-Options", "nosniff"),
        ("Referrer-Policy", "no-referrer"),
    ] {
        assert_eq!(page.field(name), Some(value));
    }
    // The namespace of SVG is a name, not a place.
    let places = page.text().replace("http://www.w3.org/2000/svg", "");
    assert!(!places.contains("://"), "the page names another place");
}

#[test]
fn metrics_count_what_happens() {
    let peer = server("a");
    let watched = Watched::before(&[&peer], &[]);
    for target in ["/x", "/x", "/bad"] {
        watched.balancer.get(target);
    }
    let mut bad = watched.balancer.client();
    bad.send("no request\r\n\r\n");
    assert_eq!(bad.response().status, 400);
    for (name, value) in [
        ("bestguess_requests_total", 4.0),
        ("bestguess_request_errors_total", 1.0),
        ("bestguess_replies_total", 1.0),
        ("bestguess_requests_refused_total", 1.0),
        ("bestguess_accepts_total", 4.0),
        ("bestguess_guesses_total", 3.0),
        ("bestguess_pairs", 0.0),
    ] {
        assert_eq!(watched.metric(name), value, "{name}");
    }
    for (name, more, value) in [
        ("server_responses_total", ",class=\"2xx\"", 2.0),
        ("server_responses_total", ",class=\"5xx\"", 1.0),
        ("server_failures_total", ",kind=\"error_status\"", 1.0),
        ("server_failures_total", ",kind=\"broken\"", 0.0),
        ("server_requests_total", "", 3.0),
        ("server_valid", "", 1.0),
        ("server_response_seconds_count", "", 3.0),
        ("server_response_seconds_bucket", ",le=\"+Inf\"", 3.0),
    ] {
        let name = format!("bestguess_{name}{{server=\"{peer}\"{more}}}");
        assert_eq!(watched.metric(&name), value, "{name}");
    }
    assert!(watched.metric("bestguess_received_bytes_total{side=\"client\"}") > 100.0);
}

#[test]
fn why_a_request_went_there_has_an_answer() {
    let (a, b) = (server("a"), server("b"));
    let watched = Watched::before(&[&a, &b], &[]);
    let mut client = watched.balancer.client();
    client.send(request("GET", "/where?to", &["X-Request-Id: r-17"], b""));
    let chosen = match client.response().text() {
        "a" => a.to_string(),
        _ => b.to_string(),
    };
    let guesses = watched.get("/guesses?limit=1");
    let text = guesses.text();
    for part in [
        format!("\"request_id\":\"r-17\",\"request\":\"GET /where?to\",\"server\":\"{chosen}\""),
        "\"considered\":2".to_owned(),
        format!("\"name\":\"{a}\""),
        format!("\"name\":\"{b}\""),
    ] {
        assert!(text.contains(&part), "{part} in {text}");
    }
    let mut client = watched.client();
    client.send(request("GET", "/guesses", &["Accept: text/plain"], b""));
    let table = client.response();
    assert!(
        table.text().contains("GET /where?to  r-17\n"),
        "{}",
        table.text()
    );
}

#[test]
fn servers_are_drained_enabled_weighed_added_and_removed() {
    let (a, b, c) = (server("a"), server("b"), server("c"));
    let watched = Watched::before(&[&a, &b], &["--policy", "round-robin"]);
    watched.balancer.await_valid(0, &a);
    watched.balancer.await_valid(0, &b);
    let all = |watched: &Watched| -> BTreeSet<String> {
        (0..6)
            .map(|_| watched.balancer.get("/x").text().to_owned())
            .collect()
    };
    assert_eq!(all(&watched).len(), 2);

    let (status, text) = watched.post(&format!("/servers/{a}/drain"), "");
    assert_eq!(status, 200, "{text}");
    assert!(text.contains("\"state\":\"draining\"") && text.contains("the operator drains it"));
    assert_eq!(all(&watched), BTreeSet::from(["b".to_owned()]));
    let name = a.to_string().replace(':', "%3A");
    let (status, text) = watched.post(&format!("/servers/{name}/enable"), "");
    assert_eq!(status, 200, "{text}");
    assert_eq!(all(&watched).len(), 2);

    let (status, text) = watched.post(&format!("/servers/{a}/weight"), "2.5\n");
    assert_eq!(status, 200);
    assert!(text.contains("\"weight\":2.5"), "{text}");

    let (status, text) = watched.post("/servers", &format!("{c},weight=3,max=4"));
    assert_eq!(status, 201, "{text}");
    assert!(text.contains("\"weight\":3,\"max\":4"), "{text}");
    watched.balancer.await_valid(0, &c);
    assert_eq!(all(&watched).len(), 3);

    let mut client = watched.client();
    client.ask("DELETE", &format!("/servers/{c}"));
    let response = client.response();
    assert_eq!(response.status, 200);
    assert!(
        response.text().contains("\"has_left\":true"),
        "{}",
        response.text()
    );
    assert_eq!(all(&watched).len(), 2);
    let (status, text) = watched.post(&format!("/servers/{b}/disable"), "");
    assert_eq!(status, 200);
    assert!(text.contains("\"state\":\"disabled\""), "{text}");
    let changes = watched.get("/status");
    let removed = format!("\"server\":\"{c}\",\"from\":\"valid\",\"to\":\"removed\"");
    assert!(changes.text().contains(&removed), "{}", changes.text());
}

#[test]
fn a_wrong_change_changes_nothing_and_says_why() {
    let (a, b) = (server("a"), server("b"));
    let watched = Watched::before(&[&a, &b], &[]);
    let here = match &watched.balancer.address {
        Address::Tcp(address) => address.to_string(),
        Address::Unix(_) => unreachable!(),
    };
    for (target, content, status, why) in [
        (
            format!("/servers/{a}/weight"),
            "",
            400,
            "a number from 0.001",
        ),
        (format!("/servers/{a}/weight"), "-1", 400, "a number"),
        (format!("/servers/{a}/weight"), "nan", 400, "a number"),
        (
            "/servers/nobody/drain".to_owned(),
            "",
            404,
            "there is no server nobody",
        ),
        (format!("/servers/{a}/explode"), "", 404, "nothing here"),
        ("/servers".to_owned(), "", 400, "names the server"),
        (
            "/servers".to_owned(),
            "app.example:80",
            400,
            "an address of numbers",
        ),
        (
            "/servers".to_owned(),
            "9001-9003",
            400,
            "one server at a time",
        ),
        ("/servers".to_owned(), &a.to_string(), 409, "already"),
        (
            "/servers".to_owned(),
            &here,
            409,
            "where the balancer listens",
        ),
        ("/status".to_owned(), "", 405, "GET"),
    ] {
        let (found, text) = watched.post(&target, content);
        assert_eq!(found, status, "{target} {content}: {text}");
        assert!(text.contains(why) && text.ends_with('\n'), "{text}");
    }
    assert_eq!(watched.post(&format!("/servers/{a}/remove"), "").0, 200);
    let (status, text) = watched.post(&format!("/servers/{b}/remove"), "");
    assert_eq!(status, 409);
    assert!(text.contains("no server would be left"), "{text}");
    assert_eq!(watched.balancer.get("/x").text(), "b");
}

/// A balancer with an admin listener at `listen`, and where that is.
fn at(listen: &str, options: &[&str]) -> (Balancer, Address, Peer) {
    let peer = server("a");
    let options = [&["--admin", listen], options].concat();
    let balancer = Balancer::before([&peer], &options);
    let line = balancer.log().holding(0, "admin at ");
    let port = line.rsplit(':').next().unwrap();
    let address = Address::Tcp(format!("127.0.0.1:{port}").parse().unwrap());
    (balancer, address, peer)
}

fn asked(address: &Address, text: &str) -> (u16, String) {
    let mut client = Client::new(address);
    client.send(text);
    let response = client.response();
    (response.status, response.text().to_owned())
}

#[test]
fn other_origins_and_names_of_others_get_nothing() {
    let (_balancer, address, peer) = at("0", &[]);
    let drain = |fields: &str| {
        let text =
            format!("POST /servers/{peer}/drain HTTP/1.1\r\nContent-Length: 0\r\n{fields}\r\n");
        asked(&address, &text)
    };
    for (fields, status, why) in [
        (
            "Host: localhost\r\nOrigin: http://evil.example\r\n",
            403,
            "another origin",
        ),
        ("Host: localhost\r\nOrigin: null\r\n", 403, "another origin"),
        (
            "Host: localhost\r\nSec-Fetch-Site: cross-site\r\n",
            403,
            "another origin",
        ),
        (
            "Host: evil.example\r\nOrigin: http://evil.example\r\n",
            421,
            "loopback",
        ),
        (
            "Host: localhost\r\nOrigin: http://localhost\r\n",
            200,
            "draining",
        ),
    ] {
        let (found, text) = drain(fields);
        assert_eq!(found, status, "{fields}: {text}");
        assert!(text.contains(why), "{text}");
    }
    let (status, _) = asked(
        &address,
        "GET /status HTTP/1.1\r\nHost: evil.example\r\n\r\n",
    );
    assert_eq!(status, 421);
}

#[test]
fn where_others_can_connect_changes_need_the_token() {
    let weigh = |address: &Address, peer: &Peer, token: &str| {
        let text = format!(
            "POST /servers/{peer}/weight HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n{token}\r\n2"
        );
        asked(address, &text)
    };
    let (_open, address, peer) = at("0.0.0.0:0", &[]);
    let (status, text) = weigh(&address, &peer, "");
    assert_eq!(status, 403);
    assert!(text.contains("--admin-token"), "{text}");
    assert_eq!(
        asked(&address, "GET /status HTTP/1.1\r\nHost: a\r\n\r\n").0,
        200
    );

    let folder = Folder::new();
    let file = folder.path().join("token");
    std::fs::write(&file, "s3same\n").unwrap();
    let from_file = format!("@{}", file.display());
    for token in ["s3same", &from_file] {
        let (_closed, address, peer) = at("0.0.0.0:0", &["--admin-token", token]);
        assert_eq!(weigh(&address, &peer, "").0, 401);
        assert_eq!(
            weigh(&address, &peer, "Authorization: Bearer s3samf\r\n").0,
            401
        );
        assert_eq!(
            weigh(&address, &peer, "Authorization: Bearer s3same\r\n").0,
            200
        );
        assert_eq!(
            asked(&address, "GET /status HTTP/1.1\r\nHost: a\r\n\r\n").0,
            401
        );
        assert_eq!(
            asked(&address, "GET /healthcheck HTTP/1.1\r\nHost: a\r\n\r\n").0,
            200
        );
    }
}

#[test]
fn slow_heads_and_huge_contents_are_turned_away() {
    let peer = server("a");
    let watched = Watched::before(&[&peer], &["--client-timeout", "300ms"]);
    let mut slow = watched.client();
    slow.send("GET /status HTTP/1.1\r\nHost:");
    let response = slow.response();
    assert_eq!(response.status, 408);
    assert!(response.head.closes() && slow.is_ended());

    let mut huge = watched.client();
    huge.send("POST /servers HTTP/1.1\r\nHost: a\r\nContent-Length: 104857600\r\n\r\n");
    let response = huge.response();
    assert_eq!(response.status, 413, "{}", response.text());
    assert!(response.head.closes());
    // What it still sends is thrown away up to a bound, then cut.
    let piece = vec![b'x'; 64 << 10];
    let sent = (0..1600)
        .take_while(|_| huge.wire.send(&piece).is_ok())
        .count();
    assert!(sent < 1600, "all of it was taken");

    let mut chunks = watched.client();
    chunks.send("POST /servers HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    chunks.send(format!("4000\r\n{}\r\n", "y".repeat(0x4000)));
    assert_eq!(chunks.response().status, 413);

    let mut pipelined = watched.client();
    pipelined.send("GET /healthcheck HTTP/1.1\r\nHost: a\r\n\r\n".repeat(3));
    for _ in 0..3 {
        assert_eq!(pipelined.response().text(), "0\n0\nin_flight=0\n");
    }
}

#[test]
fn events_tell_of_a_server_that_goes_down() {
    let mut servers = Origin::three(None);
    let watched = Watched::before(&servers, &["-X", "0.2"]);
    for server in &servers {
        watched.balancer.await_valid(0, server);
    }
    let mut reader = watched.client();
    reader.ask("GET", "/events");
    let head = reader.wire.head().unwrap().unwrap();
    assert_eq!(head.first, "HTTP/1.1 200 OK");
    assert_eq!(head.field("Content-Type"), Some("text/event-stream"));
    let mut told = String::new();
    let mut read_until = |reader: &mut Client, what: &str| {
        while !told.contains(what) {
            let some = reader.wire.some().unwrap().expect("the events end");
            told.push_str(&String::from_utf8(some).unwrap());
        }
    };
    read_until(&mut reader, "event: hello\ndata: {\"version\":");
    servers[0].program.kill();
    let down = format!(
        "\"server\":\"{}\",\"from\":\"valid\",\"to\":\"refusing\"",
        servers[0]
    );
    read_until(&mut reader, &down);
    read_until(&mut reader, "event: status\ndata: {\"time\":");
    watched.balancer.get("/x");
    read_until(&mut reader, "event: guess\ndata: {\"number\":");
}

#[test]
fn it_tells_of_a_stop_until_the_end() {
    let peer = server("a");
    let mut watched = Watched::before(&[&peer], &[]);
    let mut reader = watched.client();
    reader.ask("GET", "/events");
    reader.wire.head().unwrap().unwrap();
    // A request that is under way keeps the process from ending.
    let mut busy = watched.balancer.client();
    busy.send("POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nab");
    peer.await_requests(1);
    watched.balancer.signal(Signal::TERM);
    watched.balancer.log().holding(0, "draining: ");
    let status = watched.get("/status");
    assert!(status.text().contains("\"state\":\"draining\""));
    let report = watched.get("/healthcheck");
    assert_eq!(report.text(), "0\n0\nin_flight=1\ndrain=1\n");
    busy.send("cd");
    assert_eq!(busy.response().status, 200);
    let mut told = String::new();
    while let Some(some) = reader.wire.some().unwrap() {
        told.push_str(&String::from_utf8(some).unwrap());
    }
    assert!(told.contains("event: bye\n"), "{told}");
    assert_eq!(watched.balancer.ended().code(), Some(0));
}

#[test]
fn a_flood_of_clients_leaves_it_room() {
    let peer = server("a");
    let folder = Folder::new();
    let path = folder.path().join("admin");
    let admin = format!("unix:{}", path.display());
    // So few descriptors that clients could use them up.
    let program = Program::limited(160, &["127.0.0.1:0", &peer.to_string(), "--admin", &admin]);
    let line = program.err.holding(0, "listening on ");
    let front = Address::Tcp(line.rsplit(' ').next().unwrap().parse().unwrap());
    let flood: Vec<Client> = (0..300).map(|_| Client::new(&front)).collect();
    let admin = Address::Unix(path);
    let most = loop {
        let response = Client::new(&admin).get("/metrics");
        assert_eq!(response.status, 200);
        let value = |name: &str| {
            let lines = response.text().lines();
            let value = lines.filter_map(|line| line.strip_prefix(name)).next();
            value.unwrap().trim().parse::<usize>().unwrap()
        };
        let most = value("bestguess_clients_max ");
        if value("bestguess_clients ") == most {
            break most;
        }
    };
    assert!(most < flood.len());
    // And however many ask there and then say nothing, the next one is heard.
    let idle: Vec<Client> = (0..100)
        .map(|_| {
            let mut client = Client::new(&admin);
            assert_eq!(client.get("/healthcheck").status, 200);
            client
        })
        .collect();
    assert_eq!(Client::new(&admin).get("/metrics").status, 200);
    drop((idle, flood));
}
