//! HUP: the file of servers is read again, and no request is lost over it.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use rustix::process::Signal;

use crate::choice::name_of;
use crate::peer::{Peer, reply};
use crate::program::{Balancer, Folder, Origin};
use crate::watch::{Stop, Watch};

/// A file of servers in a folder of its own.
struct Servers(Folder);

impl Servers {
    fn new(lines: &str) -> Servers {
        let servers = Servers(Folder::new());
        servers.write(lines);
        servers
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("servers")
    }

    /// Replaces the file in one step, as editors do.
    fn write(&self, lines: &str) {
        let draft = self.0.path().join("draft");
        fs::write(&draft, lines).unwrap();
        fs::rename(draft, self.path()).unwrap();
    }

    fn balancer(&self, arguments: &[&str]) -> Balancer {
        let path = self.path();
        let mut options = vec!["--servers-file", path.to_str().unwrap()];
        options.extend(arguments);
        Balancer::before(Vec::<String>::new(), &options)
    }
}

/// Has the file read again, and waits until that is done; what the log says of it.
fn read_again(balancer: &mut Balancer) -> String {
    let mark = balancer.log().mark();
    balancer.signal(Signal::HUP);
    balancer.log().holding(mark, "servers ")
}

fn names(balancer: &Balancer, count: usize) -> Vec<String> {
    let mut names: Vec<String> = (0..count).map(|_| name_of(&balancer.get("/"))).collect();
    names.sort();
    names.dedup();
    names
}

#[test]
fn servers_of_the_file_come_and_go_with_it() {
    let origins = Origin::three(None);
    let [a, b, c] = [0, 1, 2].map(|index| origins[index].address.clone());
    let file = Servers::new(&format!("# the first\n{b}\n"));
    let mut balancer = file.balancer(&[&a, "--policy", "round-robin"]);
    balancer.await_valid(0, &a);
    balancer.await_valid(0, &b);
    assert_eq!(names(&balancer, 4), ["a", "b"]);

    let mark = balancer.log().mark();
    file.write(&format!("{c},weight=2\n"));
    balancer.signal(Signal::HUP);
    balancer.log().holding(mark, "2 servers read again");
    balancer
        .log()
        .holding(mark, &format!("server {b} is removed"));
    balancer
        .log()
        .holding(mark, &format!("server {b} has left"));
    balancer.await_valid(mark, &c);
    assert_eq!(names(&balancer, 6), ["a", "c"]);
    // Who stayed was not even looked at anew.
    assert_eq!(balancer.log().count(mark, &format!("server {a} is ")), 0);
}

#[test]
fn a_bad_file_changes_nothing_and_says_where_it_is_wrong() {
    let origin = Origin::start("127.0.0.1:0", "a", None, &[]);
    let file = Servers::new(&origin.address);
    let mut balancer = file.balancer(&[]);
    balancer.await_valid(0, &origin);
    for (lines, wrong) in [
        (
            "9001\n9002,wieght=2\n",
            "line 2, '9002,wieght=2': expected nothing but",
        ),
        ("", "expected at least one server"),
        (
            balancer.address.to_string().as_str(),
            "where the balancer listens",
        ),
    ] {
        file.write(lines);
        let line = read_again(&mut balancer);
        assert!(
            line.contains("servers stay as they are") && line.contains(wrong),
            "{line}"
        );
        assert_eq!(names(&balancer, 2), ["a"]);
    }
    fs::remove_file(file.path()).unwrap();
    let line = read_again(&mut balancer);
    assert!(line.contains("cannot read it"), "{line}");
    assert_eq!(names(&balancer, 2), ["a"]);
}

#[test]
fn a_request_at_a_removed_server_is_finished() {
    let gate = Arc::new(Watch::<bool>::default());
    let theirs = Arc::clone(&gate);
    let slow = Peer::start(move |talk| {
        theirs.until("the gate opens", |is_open| is_open.then_some(()));
        talk.wire.send(reply(200, &[], "late"))?;
        Ok(true)
    });
    let quick = Peer::start(move |talk| {
        talk.wire.send(reply(200, &[], "quick"))?;
        Ok(true)
    });
    let file = Servers::new(&slow.to_string());
    let mut balancer = file.balancer(&[]);
    balancer.await_valid(0, &slow);
    let mut busy = balancer.client();
    busy.ask("GET", "/");
    slow.await_requests(1);
    file.write(&quick.to_string());
    let mark = balancer.log().mark();
    balancer.signal(Signal::HUP);
    balancer.log().holding(mark, "1 added, 1 removed, 0 kept");
    balancer.log().holding(mark, "1 servers read again");
    assert_eq!(balancer.get("/").text(), "quick");
    assert_eq!(balancer.log().count(mark, "has left"), 0);
    gate.change(|is_open| *is_open = true);
    assert_eq!(busy.response().text(), "late");
    balancer
        .log()
        .holding(mark, &format!("server {slow} has left"));
}

#[test]
fn twenty_changed_files_under_load_cost_no_request() {
    let origins = Origin::three(None);
    let file = Servers::new(&origins[0].address);
    let balancer = file.balancer(&["-X", "0.2"]);
    balancer.await_valid(0, &origins[0]);
    let is_over = AtomicBool::new(false);
    let asked = AtomicU64::new(0);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut client = balancer.client();
                while !is_over.load(Ordering::Relaxed) {
                    assert_eq!(client.get("/").status, 200);
                    asked.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let _stop = Stop(&is_over);
        for round in 0..20 {
            // One after the other goes, so that sooner or later all are replaced.
            let lines: Vec<String> = (0..3)
                .filter(|index| index % 3 != round % 3)
                .map(|index| format!("{},weight={}", origins[index], 1 + round % 2))
                .collect();
            file.write(&lines.join("\n"));
            let mark = balancer.log().mark();
            balancer.program.signal(Signal::HUP);
            balancer.log().holding(mark, "2 servers read again");
            let before = asked.load(Ordering::Relaxed);
            while asked.load(Ordering::Relaxed) < before + 20 {
                thread::yield_now();
            }
        }
    });
    assert!(asked.load(Ordering::Relaxed) >= 400);
    assert_eq!(balancer.log().count(0, "is removed"), 20);
}

#[test]
fn hup_without_a_file_ends_nothing() {
    let origin = Origin::start("127.0.0.1:0", "a", None, &[]);
    let mut balancer = Balancer::before([&origin], &[]);
    balancer.await_valid(0, &origin);
    let line = read_again(&mut balancer);
    assert!(line.contains("1 servers read again"), "{line}");
    assert_eq!(balancer.get("/").status, 200);
}
