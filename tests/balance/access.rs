//! The access log and request ids: what a line says, and what a disk that is full, a reader that
//! does not read or has gone, and a rotation do to lines and to clients.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::peer::{Peer, hangs, reads_and_closes, tells_target};
use crate::program::{Balancer, Folder, Program};
use crate::watch::{PATIENCE, Stop};
use crate::wire::request;

/// Waits until the file at `path` holds what `ready` looks for.
fn until(path: &Path, what: &str, ready: impl Fn(&str) -> bool) -> String {
    let end = Instant::now() + PATIENCE;
    loop {
        let text = fs::read_to_string(path).unwrap_or_default();
        if ready(&text) {
            return text;
        }
        assert!(Instant::now() < end, "in vain: {what}; there is {text}");
        thread::sleep(Duration::from_millis(5));
    }
}

fn end(mut balancer: Balancer) {
    balancer.signal(Signal::TERM);
    assert_eq!(balancer.ended().code(), Some(0));
}

/// The text behind `key` in a line of JSON, to the next comma.
fn value<'l>(line: &'l str, key: &str) -> &'l str {
    let key = format!("\"{key}\":");
    let (_, rest) = line
        .split_once(&key)
        .unwrap_or_else(|| panic!("no {key} in {line}"));
    rest.split([',', '}']).next().unwrap()
}

fn millis(line: &str, key: &str) -> f64 {
    value(line, key).parse().unwrap()
}

#[test]
fn a_line_of_json_tells_where_a_request_went_and_how_long_it_took() {
    let folder = Folder::new();
    let path = folder.path().join("access.log");
    let breaks = Peer::start(reads_and_closes);
    let slow = Peer::start(|talk| {
        thread::sleep(Duration::from_millis(60));
        tells_target(talk)
    });
    let options = [
        "--access-log",
        path.to_str().unwrap(),
        "--log-format=json",
        "--policy=round-robin",
    ];
    let balancer = Balancer::before([&breaks, &slow], &options);
    balancer.await_valid(0, &breaks);
    balancer.await_valid(0, &slow);
    let start = Instant::now();
    for number in 0..4 {
        assert_eq!(balancer.get(&format!("/{number}?\"")).status, 400);
        assert_eq!(balancer.get(&format!("/{number}")).status, 200);
    }
    let took = start.elapsed().as_secs_f64() * 1e3;
    end(balancer);
    let text = fs::read_to_string(&path).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 8);
    let (refused, served): (Vec<&str>, Vec<&str>) = lines
        .iter()
        .partition(|line| value(line, "status") == "400");
    assert_eq!(refused.len(), 4);
    for line in refused {
        assert_eq!(value(line, "target"), "null");
        assert_eq!((value(line, "server"), value(line, "tries")), ("null", "0"));
    }
    let mut tries = 0;
    for (number, line) in served.iter().enumerate() {
        assert_eq!(value(line, "status"), "200");
        assert_eq!(value(line, "client"), "\"127.0.0.1\"");
        assert_eq!(value(line, "target"), format!("\"/{number}\""));
        assert_eq!(value(line, "server"), format!("\"{slow}\""));
        assert_eq!(value(line, "reason"), "\"plain\"");
        assert_eq!(
            (value(line, "bytes"), value(line, "complete")),
            ("2", "true")
        );
        assert_eq!(value(line, "request_id"), "null");
        let (response, total) = (millis(line, "response_ms"), millis(line, "total_ms"));
        assert!(
            (59.0..=total).contains(&response) && total <= took,
            "{line}"
        );
        assert!(
            millis(line, "queue_ms") + millis(line, "connect_ms") <= total,
            "{line}"
        );
        tries += value(line, "tries").parse::<usize>().unwrap();
    }
    assert_eq!(tries, 4 + breaks.targets().len());
    assert!(!breaks.targets().is_empty());
}

#[test]
fn what_is_cut_is_not_called_complete() {
    let peer = Peer::start(|talk| {
        talk.content()?;
        talk.wire
            .send("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf")?;
        Ok(false)
    });
    let balancer = Balancer::before([&peer], &["--access-log=-", "--log-format=json"]);
    let mut client = balancer.client();
    client.ask("GET", "/cut");
    assert!(client.response_to("GET").is_err());
    let line = balancer.out().holding(0, "/cut");
    assert_eq!(
        (value(&line, "status"), value(&line, "bytes")),
        ("200", "4")
    );
    assert_eq!(value(&line, "complete"), "false");
}

#[test]
fn what_is_cut_off_at_the_end_is_written_down() {
    let peer = Peer::start(hangs);
    let options = [
        "--access-log=-",
        "--log-format=json",
        "--drain-timeout=100ms",
    ];
    let mut balancer = Balancer::before([&peer], &options);
    let mut client = balancer.client();
    client.ask("GET", "/held");
    peer.await_requests(1);
    balancer.signal(Signal::TERM);
    assert_eq!(balancer.ended().code(), Some(0));
    let lines = balancer.out().until_end();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].contains("/held"), "{lines:?}");
    assert_eq!(
        (value(&lines[0], "status"), value(&lines[0], "complete")),
        ("0", "false")
    );
}

#[test]
fn any_bytes_of_a_client_are_one_line_of_utf_8() {
    for format in ["--log-format=json", "--log-format=combined"] {
        let peer = Peer::start(tells_target);
        let balancer = Balancer::before([&peer], &["--access-log=-", format]);
        let mut client = balancer.client();
        let mut agent = b"User-Agent: \"\\ \t".to_vec();
        agent.extend(0x80..=0xff_u8);
        let mut bytes = b"GET /odd HTTP/1.1\r\nHost: x\r\n".to_vec();
        bytes.extend_from_slice(&agent);
        bytes.extend_from_slice("é\r\n\r\n".as_bytes());
        client.send(bytes);
        assert_eq!(client.response().status, 200);
        assert_eq!(client.get("/next").status, 200);
        // Lines that are no UTF-8 would end this reading.
        balancer.out().holding(0, "/next");
        let line = balancer.out().holding(0, "/odd");
        assert_eq!(balancer.out().mark(), 2);
        let (escaped, last) = match format {
            "--log-format=json" => (r#""\"\\ \u0009\u0080"#, "\\u00ffé\""),
            _ => (r#""\"\\ \x09\x80"#, r"\xFF\xC3\xA9"),
        };
        assert!(line.contains(escaped) && line.contains(last), "{line}");
    }
}

#[test]
fn a_rotated_log_loses_no_line() {
    const ROTATIONS: usize = 10;
    let folder = Folder::new();
    let path = folder.path().join("access.log");
    let peer = Peer::start(tells_target);
    let options = ["--access-log", path.to_str().unwrap()];
    let mut balancer = Balancer::before([&peer], &options);
    let stop = AtomicBool::new(false);
    let mut moved: Vec<PathBuf> = Vec::new();
    let asked: usize = thread::scope(|scope| {
        let guard = Stop(&stop);
        let busy: Vec<_> = (0..3)
            .map(|number| {
                let mut client = balancer.client();
                let stop = &stop;
                scope.spawn(move || {
                    let mut count = 0;
                    while !stop.load(Ordering::Relaxed) {
                        assert_eq!(client.get(&format!("/{number}/{count}")).status, 200);
                        count += 1;
                    }
                    count
                })
            })
            .collect();
        for number in 0..ROTATIONS {
            until(&path, "lines in the file", |text| text.lines().count() > 20);
            let old = folder.path().join(format!("access.log.{number}"));
            fs::rename(&path, &old).unwrap();
            moved.push(old);
            let before = balancer.log().mark();
            balancer.signal(Signal::USR1);
            balancer.log().holding(before, "opened anew");
        }
        drop(guard);
        busy.into_iter().map(|busy| busy.join().unwrap()).sum()
    });
    end(balancer);
    moved.push(path);
    let mut seen: Vec<String> = Vec::new();
    for path in &moved {
        let text = fs::read_to_string(path).unwrap();
        assert!(text.ends_with('\n'), "{path:?} ends within a line");
        seen.extend(
            text.lines()
                .map(|line| line.split(' ').nth(6).unwrap().to_owned()),
        );
    }
    assert_eq!(moved.len(), ROTATIONS + 1);
    assert_eq!(seen.len(), asked);
    // Each client's lines are in their order, over all files.
    for number in 0..3 {
        let prefix = format!("/{number}/");
        let counts = seen
            .iter()
            .filter_map(|target| target.strip_prefix(&prefix));
        let counts: Vec<usize> = counts.map(|count| count.parse().unwrap()).collect();
        assert!(counts.iter().copied().eq(0..counts.len()));
    }
}

#[test]
fn a_log_that_can_not_be_opened_anew_goes_on_in_the_old_file() {
    let folder = Folder::new();
    let inner = folder.path().join("inner");
    fs::create_dir(&inner).unwrap();
    let path = inner.join("access.log");
    let peer = Peer::start(tells_target);
    let options = ["--access-log", path.to_str().unwrap()];
    let mut balancer = Balancer::before([&peer], &options);
    assert_eq!(balancer.get("/one").status, 200);
    let away = folder.path().join("away");
    fs::rename(&inner, &away).unwrap();
    balancer.signal(Signal::USR1);
    balancer.log().holding(0, "cannot open it anew");
    assert_eq!(balancer.get("/two").status, 200);
    end(balancer);
    let text = fs::read_to_string(away.join("access.log")).unwrap();
    assert_eq!(text.lines().count(), 2, "{text}");
}

/// Only Linux is sure to have a disk that is always full.
#[test]
#[cfg(target_os = "linux")]
fn a_full_disk_costs_lines_and_no_request() {
    let peer = Peer::start(tells_target);
    let balancer = Balancer::before([&peer], &["--access-log", "/dev/full"]);
    let mut client = balancer.client();
    for _ in 0..50 {
        assert_eq!(client.get("/").status, 200);
    }
    balancer
        .log()
        .holding(0, "lines are lost until it can be written again");
    balancer.log().holding(0, "lines lost");
    end(balancer);
}

/// A FIFO in `folder`.
fn fifo(folder: &Folder) -> PathBuf {
    let path = folder.path().join("access.fifo");
    // Every unix has this program; the standard library can not make one.
    assert!(
        Command::new("mkfifo")
            .arg(&path)
            .status()
            .unwrap()
            .success()
    );
    path
}

/// How many lines a balancer said that it lost, with the last of such words.
fn told_lost(balancer: &Balancer) -> usize {
    let lines = balancer.program.err.until_end();
    let told = |line: &String| {
        let (_, rest) = line.split_once("lines lost, ")?;
        rest.strip_suffix(" in all")?.parse().ok()
    };
    let unwritten = |line: &String| {
        let (rest, _) = line.split_once(" lines could not be written before the end")?;
        rest.rsplit(' ').next()?.parse::<usize>().ok()
    };
    let lost: usize = lines.iter().filter_map(told).next_back().unwrap_or(0);
    lost + lines.iter().find_map(unwritten).unwrap_or(0)
}

#[test]
fn a_reader_that_does_not_read_costs_lines_and_no_request() {
    let folder = Folder::new();
    let path = fifo(&folder);
    let peer = Peer::start(tells_target);
    let reader = thread::spawn({
        let path = path.clone();
        move || File::open(path).unwrap()
    });
    let mut balancer = Balancer::before([&peer], &["--access-log", path.to_str().unwrap()]);
    let reader = reader.join().unwrap();
    // Long lines, so that the pipe and all buffers fill soon.
    let agent = format!("User-Agent: {}", "\u{e9}".repeat(3500));
    let asked = request("GET", "/", &[&agent], b"");
    let mut client = balancer.client();
    let count = 400;
    for _ in 0..count {
        client.send(&asked);
        assert_eq!(client.response().status, 200);
    }
    balancer.log().holding(0, "lines lost");
    balancer.signal(Signal::TERM);
    assert_eq!(balancer.ended().code(), Some(0));
    let mut text = Vec::new();
    BufReader::new(reader).read_to_end(&mut text).unwrap();
    let read = text.iter().filter(|byte| **byte == b'\n').count();
    let lost = told_lost(&balancer);
    // The thread does not know how much of its last buffer is in the pipe already: those lines are
    // read, and told of as not written. The pipe holds 64 KiB, a line has 14 kB.
    let total = read + lost;
    assert!(lost > 0 && read > 0, "{read} and {lost}");
    assert!(
        (count..count + 6).contains(&total),
        "{read} and {lost} of {count}"
    );
}

#[test]
fn a_reader_that_goes_away_costs_lines_and_no_request() {
    let folder = Folder::new();
    let path = fifo(&folder);
    let peer = Peer::start(tells_target);
    let reader = thread::spawn({
        let path = path.clone();
        move || BufReader::new(File::open(path).unwrap())
    });
    let mut balancer = Balancer::before([&peer], &["--access-log", path.to_str().unwrap()]);
    let mut reader = reader.join().unwrap();
    let mut client = balancer.client();
    let mut line = String::new();
    assert_eq!(client.get("/read").status, 200);
    reader.read_line(&mut line).unwrap();
    assert!(line.contains("/read"), "{line}");
    drop(reader);
    for _ in 0..20 {
        assert_eq!(client.get("/lost").status, 200);
    }
    balancer.log().holding(0, "access log: Broken pipe");
    // Who reads it again gets what comes from now on, once the log was opened anew for it.
    let reader = thread::spawn(move || BufReader::new(File::open(path).unwrap()));
    balancer.signal(Signal::USR1);
    let mut reader = reader.join().unwrap();
    assert_eq!(client.get("/found").status, 200);
    line.clear();
    reader.read_line(&mut line).unwrap();
    assert!(line.contains("/lost") || line.contains("/found"), "{line}");
    end(balancer);
}

#[test]
fn a_fifo_that_nobody_reads_does_not_hold_up_the_start() {
    let folder = Folder::new();
    let path = fifo(&folder);
    let peer = Peer::start(tells_target);
    let balancer = Balancer::before([&peer], &["--access-log", path.to_str().unwrap()]);
    balancer.log().holding(0, "does anybody read it?");
    assert_eq!(balancer.get("/early").status, 200);
    let mut line = String::new();
    let reader = File::open(path).unwrap();
    BufReader::new(reader).read_line(&mut line).unwrap();
    assert!(line.contains("/early"), "{line}");
    end(balancer);
}

#[test]
fn a_log_that_can_not_be_written_is_exit_code_1_and_named() {
    let arguments = [
        "127.0.0.1:0",
        "127.0.0.1:1",
        "--access-log",
        "/nowhere/access.log",
    ];
    let mut program = Program::start(&arguments);
    assert_eq!(program.ended().code(), Some(1));
    program
        .err
        .holding(0, "cannot write the access log /nowhere/access.log: ");
}

#[test]
fn an_id_is_the_same_at_the_server_the_client_and_in_the_log() {
    let peer = Peer::start(|talk| talk.reply(200, &["X-Request-Id: the server's"], ""));
    let options = ["--request-id", "--access-log=-", "--log-format=json"];
    let balancer = Balancer::before([&peer], &options);
    let fields = ["X-Request-Id: mine", "X_Request_Id: mine"];
    let mut client = balancer.client();
    client.send(request("GET", "/", &fields, b""));
    let response = client.response();
    let id = response.field("X-Request-Id").unwrap();
    assert!(id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()));
    let asked = peer.request();
    assert_eq!(asked.field("X-Request-Id"), Some(id));
    assert_eq!(asked.field("X_Request_Id"), None);
    let line = balancer.out().holding(0, "\"target\":\"/\"");
    assert_eq!(value(&line, "request_id"), format!("\"{id}\""));
    // What the balancer answers itself has one too, even if it could not be read.
    client.send("no request\r\n\r\n");
    let refused = client.response();
    assert_eq!(refused.status, 400);
    let other = refused.field("X-Request-Id").unwrap();
    let line = balancer.out().holding(0, "\"status\":400");
    assert_eq!(value(&line, "request_id"), format!("\"{other}\""));
    assert_ne!(id, other);
}

#[test]
fn an_id_of_a_trusted_client_is_kept_through_all_tries() {
    let breaks = Peer::start(reads_and_closes);
    let serves = Peer::start(tells_target);
    let options = ["--request-id", "--trust-forwarded", "--policy=round-robin"];
    let balancer = Balancer::before([&breaks, &serves], &options);
    balancer.await_valid(0, &breaks);
    balancer.await_valid(0, &serves);
    let mut client = balancer.client();
    client.send(request("GET", "/", &["x-request-id: outer-1"], b""));
    let response = client.response();
    assert_eq!(response.field("X-Request-Id"), Some("outer-1"));
    assert_eq!(serves.request().field("X-Request-Id"), Some("outer-1"));
    if !breaks.targets().is_empty() {
        assert_eq!(breaks.request().field("X-Request-Id"), Some("outer-1"));
    }
    // One that no log should hold is replaced.
    client.send(request("GET", "/", &["X-Request-Id: a b"], b""));
    assert_eq!(
        client.response().field("X-Request-Id").map(str::len),
        Some(32)
    );
}

#[test]
fn without_the_option_ids_of_others_pass_through() {
    let peer = Peer::start(|talk| talk.reply(200, &["X-Request-Id: back"], ""));
    let balancer = Balancer::before([&peer], &[]);
    let mut client = balancer.client();
    client.send(request(
        "GET",
        "/",
        &["X-Request-Id: forth", "X_Request_Id: too"],
        b"",
    ));
    assert_eq!(client.response().field("X-Request-Id"), Some("back"));
    let asked = peer.request();
    assert_eq!(asked.field("X-Request-Id"), Some("forth"));
    assert_eq!(asked.field("X_Request_Id"), Some("too"));
}
