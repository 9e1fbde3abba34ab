//! `-t`, `demo`, the access log, unix sockets and `--max-clients`.

use std::fs;

use bestguess::config::Address;
use rustix::process::Signal;

use crate::peer::{Peer, tells_target};
use crate::program::{Balancer, Folder, Origin, Program};
use crate::wire::{Client, request};

/// The rows of the table that `-t` prints, in words, and the exit code.
fn trial(servers: &[String], options: &[&str]) -> (Vec<Vec<String>>, Option<i32>) {
    let mut arguments = vec!["-t", "127.0.0.1:0"];
    arguments.extend(servers.iter().map(String::as_str));
    arguments.extend(options);
    let mut program = Program::start(&arguments);
    let code = program.ended().code();
    let lines = program.out.until_end();
    let words = |line: &String| line.split_whitespace().map(str::to_owned).collect();
    (lines.iter().map(words).collect(), code)
}

#[test]
fn a_trial_of_good_servers_is_a_table_and_exit_code_0() {
    let start = |errors, load| {
        let report = ["--fixed-report", "--errors", errors, "--load", load];
        Origin::start("127.0.0.1:0", "x", None, &report)
    };
    let origins = [start("7", "12345"), start("0", "6789")];
    let names = origins.each_ref().map(ToString::to_string);
    let (rows, code) = trial(&names, &[]);
    assert_eq!(rows[0], ["server", "state", "errors", "load"]);
    assert_eq!(rows[1], [&*names[0], "valid", "7", "12345"]);
    assert_eq!(rows[2], [&*names[1], "valid", "0", "6789"]);
    assert_eq!((rows.len(), code), (3, Some(0)));
}

#[test]
fn a_trial_names_each_bad_server_with_its_reason_and_exits_with_1() {
    let dead = Peer::asleep(tells_target);
    // It has no such path.
    let foreign = Peer::start(|talk| talk.reply(404, &[], "not here"));
    let good = Peer::near_reporting(tells_target, Some((1, 2)));
    let names = [&dead, &good].map(ToString::to_string);
    let (rows, code) = trial(&names, &[]);
    let refused = [&*names[0], "invalid", "-", "-", "connection", "refused"];
    assert_eq!(rows[1], refused);
    assert_eq!(rows[2], [&*names[1], "valid", "1", "2"]);
    assert_eq!(code, Some(1));

    let names = [foreign.to_string()];
    let (rows, code) = trial(&names, &["--check-path", "/how/are/you"]);
    let row = rows[1].join(" ");
    assert!(row.contains("GET /how/are/you answered 404"), "{row}");
    assert_eq!(code, Some(1));
    let (rows, code) = trial(&names, &["--check", "tcp"]);
    assert_eq!((&*rows[1][1], code), ("valid", Some(0)));
    assert_eq!(good.targets(), [""; 0]);
}

#[test]
fn the_demo_serves_its_page_by_three_servers_and_ends_on_term() {
    let mut demo = Program::start(&["demo", "0"]);
    let line = demo.out.holding(0, "open http://");
    let address = line.split("://").nth(1).unwrap().split('/').next().unwrap();
    let mut client = Client::new(&Address::Tcp(address.parse().unwrap()));
    let mut names = Vec::new();
    for _ in 0..12 {
        let page = client.get("/");
        assert_eq!(page.status, 200);
        assert!(page.text().contains("</html>"), "{}", page.text());
        names.push(page.field("Server").unwrap().to_owned());
    }
    names.sort();
    names.dedup();
    assert_eq!(names, ["one", "three", "two"]);
    demo.signal(Signal::TERM);
    assert_eq!(demo.ended().code(), Some(0));
}

/// A line of the access log with the digits and letters of its date made alike.
fn assert_line(line: &str, rest: &str) {
    let (peer, line) = line.split_once(" - - [").unwrap();
    let (date, line) = line.split_once("] ").unwrap();
    let shape: String = date
        .chars()
        .map(|char| match char {
            '0'..='9' => '9',
            'A'..='Z' | 'a'..='z' => 'a',
            other => other,
        })
        .collect();
    assert_eq!((peer, &*shape), ("127.0.0.1", "99/aaa/9999:99:99:99 +9999"));
    assert_eq!(line, rest);
}

#[test]
fn each_request_has_a_line_in_the_access_log() {
    let folder = Folder::new();
    let path = folder.path().join("access.log");
    fs::write(&path, "what was there before\n").unwrap();
    let peer = Peer::start(|talk| talk.reply(234, &[], "hello"));
    let options = ["--access-log", path.to_str().unwrap()];
    let mut balancer = Balancer::before([&peer], &options);
    let mut client = balancer.client();
    for target in ["/1", "/2?a=b"] {
        let fields = ["User-Agent: test \"1\"", "Referer: /from"];
        client.send(request("GET", target, &fields, b""));
        assert_eq!(client.response().status, 234);
    }
    assert_eq!(client.post("/3", b"content").status, 234);
    balancer.signal(Signal::TERM);
    assert_eq!(balancer.ended().code(), Some(0));

    let text = fs::read_to_string(&path).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], "what was there before");
    let agent = r#""/from" "test \"1\"""#;
    assert_line(lines[1], &format!(r#""GET /1 HTTP/1.1" 234 5 {agent}"#));
    assert_line(lines[2], &format!(r#""GET /2?a=b HTTP/1.1" 234 5 {agent}"#));
    assert_line(lines[3], r#""POST /3 HTTP/1.1" 234 5 "-" "-""#);
    assert_eq!(lines.len(), 4);
}

#[test]
fn an_access_log_at_a_dash_goes_to_standard_output() {
    let peer = Peer::start(tells_target);
    let balancer = Balancer::before([&peer], &["--access-log", "-"]);
    let mut client = balancer.client();
    for target in ["/one", "/two"] {
        assert_eq!(client.get(target).status, 200);
        let line = balancer.out().holding(0, target);
        assert_line(&line, &format!(r#""GET {target} HTTP/1.1" 200 4 "-" "-""#));
    }
    // The balancer's own lines are elsewhere.
    assert_eq!(balancer.out().mark(), 2);
}

#[test]
fn unix_sockets_do_on_both_sides() {
    let folder = Folder::new();
    let path = format!("unix:{}", folder.path().join("back").display());
    let origin = Origin::start(&path, "behind", None, &[]);
    assert_eq!(origin.address, path);
    let mut balancer = Balancer::near([&origin], &[]);
    let Address::Unix(front) = balancer.address.clone() else {
        panic!("it listens on {}", balancer.address)
    };
    balancer.await_valid(0, &origin);
    let mut client = balancer.client();
    for _ in 0..3 {
        let response = client.get("/x");
        assert_eq!(response.field("Server"), Some("behind"));
        assert_eq!(client.post("/x", b"content").status, 200);
    }
    balancer.signal(Signal::TERM);
    assert_eq!(balancer.ended().code(), Some(0));
    assert!(!front.exists(), "its socket goes with it");
}

#[test]
fn the_client_above_the_limit_waits_until_one_leaves() {
    let peer = Peer::start(tells_target);
    let balancer = Balancer::before([&peer], &["--max-clients", "4"]);
    let mut clients: Vec<Client> = (0..4).map(|_| balancer.client()).collect();
    for client in &mut clients {
        assert_eq!(client.get("/").status, 200);
    }
    let mut fifth = balancer.client();
    fifth.ask("GET", "/fifth");
    for _ in 0..5 {
        for client in &mut clients {
            assert_eq!(client.get("/").status, 200);
        }
    }
    assert!(fifth.has_heard_nothing());
    assert!(!peer.targets().contains(&"/fifth".to_owned()));
    drop(clients.remove(2));
    assert_eq!(fifth.response().text(), "/fifth");
}

#[test]
fn a_taken_port_is_exit_code_1_and_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let mut program = Program::start(&[&*address, "127.0.0.1:1"]);
    assert_eq!(program.ended().code(), Some(1));
    program.err.holding(0, &address);
}

#[test]
fn the_access_log_tells_what_was_answered_and_nothing_else() {
    let folder = Folder::new();
    let path = folder.path().join("access.log");
    let peer = Peer::start(tells_target);
    let options = ["--access-log", path.to_str().unwrap()];
    let mut balancer = Balancer::near([&peer], &options);
    assert_eq!(balancer.get("/kept").status, 200);
    // These ask for nothing.
    drop(balancer.client());
    let mut half = balancer.client();
    half.send("GET /half HT");
    drop(half);
    let mut bad = balancer.client();
    bad.send("no request\r\n\r\n");
    let length = bad.response().content.len();
    balancer.signal(Signal::TERM);
    assert_eq!(balancer.ended().code(), Some(0));
    let text = fs::read_to_string(&path).unwrap();
    let lines: Vec<&str> = text
        .lines()
        .map(|line| line.split_once("] ").unwrap().1)
        .collect();
    let refused = format!(r#""-" 400 {length} "-" "-""#);
    assert_eq!(lines, [r#""GET /kept HTTP/1.1" 200 5 "-" "-""#, &refused]);
}
