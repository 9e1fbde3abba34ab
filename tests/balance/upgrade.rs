//! USR2 and `bestguess upgrade`: a successor takes over, and nobody loses a request.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use bestguess::config::Address;
use rustix::process::{Pid, Signal, kill_process};

use crate::peer::{Peer, reply};
use crate::program::{Folder, Program, await_gone};
use crate::watch::Watch;
use crate::wire::{Client, request};

const SWITCH: &str = "HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n";
const ASK: [&str; 2] = ["Connection: Upgrade", "Upgrade: echo"];

/// A balancer that is started by a copy of the binary, so that this can be replaced, and all who come
/// after it. The folder has to live as long.
struct Line {
    program: Program,
    binary: PathBuf,
    address: Address,
    /// The one that serves.
    pid: u32,
    /// All that were started.
    pids: Vec<u32>,
    mark: usize,
    _folder: Folder,
}

impl Line {
    fn start(listen: &str, servers: &[String], options: &[&str]) -> Line {
        let folder = Folder::new();
        let binary = folder.path().join("bestguess");
        install(&binary);
        let mut arguments = vec![listen.replace("FOLDER", &folder.path().display().to_string())];
        arguments.extend_from_slice(servers);
        arguments.extend(options.iter().map(|option| (*option).to_owned()));
        let program = Program::run(&binary, &arguments, &[]);
        let listens = program.err.listening();
        let pid = program.id();
        let line = Line {
            address: match listens.strip_prefix("unix:") {
                Some(path) => Address::Unix(path.into()),
                None => Address::Tcp(listens.parse().unwrap()),
            },
            program,
            binary,
            pid,
            pids: vec![pid],
            mark: 0,
            _folder: folder,
        };
        line.program.err.holding(0, "is valid");
        line
    }

    fn client(&self) -> Client {
        Client::new(&self.address)
    }

    fn signal(&self, signal: Signal) {
        kill_process(process(self.pid), signal).unwrap();
    }

    /// Asks by the command; its exit code and what it said.
    fn ask(&self) -> (Option<i32>, String) {
        let pid = self.pid.to_string();
        let mut asking = Program::run(
            env!("CARGO_BIN_EXE_bestguess").as_ref(),
            &["upgrade", "--pid", &pid],
            &[],
        );
        let code = asking.ended().code();
        let said = [asking.out.until_end(), asking.err.until_end()].concat();
        (code, said.join("\n"))
    }

    /// Has a successor take over; returns the one that did so far.
    fn upgrade(&mut self) -> u32 {
        self.mark = self.program.err.mark();
        self.signal(Signal::USR2);
        self.taken_over()
    }

    /// Awaits that a successor has taken over.
    fn taken_over(&mut self) -> u32 {
        let line = self
            .program
            .err
            .holding(self.mark, "took over from process ");
        // Two processes write to one pipe, each line in pieces: what is around a text may be the other's.
        let (_, from) = line.split_once("took over from process ").unwrap();
        let from: u32 = from
            .split(|other: char| !other.is_ascii_digit())
            .next()
            .unwrap()
            .parse()
            .unwrap();
        assert_eq!(from, self.pid);
        let line = self.program.err.holding(self.mark, " has taken over");
        let (before, _) = line.split_once(" has taken over").unwrap();
        self.pid = before.rsplit("process ").next().unwrap().parse().unwrap();
        self.pids.push(self.pid);
        from
    }

    /// Ends the one that serves, and sees to it that nobody is left.
    fn end(mut self) {
        self.signal(Signal::TERM);
        for pid in std::mem::take(&mut self.pids) {
            if pid == self.program.id() {
                assert_eq!(self.program.code(), Some(0));
            }
            await_gone(pid);
        }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        for pid in &self.pids {
            let _ = kill_process(process(*pid), Signal::KILL);
        }
    }
}

fn process(pid: u32) -> Pid {
    Pid::from_raw(i32::try_from(pid).unwrap()).unwrap()
}

fn echo() -> Peer {
    Peer::start(|talk| {
        let content = talk.content()?;
        talk.wire.send(reply(200, &[], content))?;
        Ok(true)
    })
}

/// Copies the binary to `path`.
fn install(path: &Path) {
    let mut copy = Command::new("cp");
    elsewhere(copy.arg(env!("CARGO_BIN_EXE_bestguess")).arg(path));
}

/// Has another process write what will be executed. Were a file open for writing in this one while
/// another test starts a process, that would inherit it, and until then nobody may execute the file.
fn elsewhere(command: &mut Command) {
    assert!(command.status().unwrap().success(), "{command:?}");
}

/// Replaces the binary by a script.
fn replace(line: &Line, script: &str) {
    let fresh = line.binary.with_extension("new");
    let write = "printf %s \"$2\" >\"$1\" && chmod 755 \"$1\"";
    let mut by_shell = Command::new("sh");
    let path = fresh.display().to_string();
    elsewhere(by_shell.args(["-c", write, "sh", &path, script]));
    fs::rename(&fresh, &line.binary).unwrap();
}

#[test]
fn upgrades_in_a_row_cost_no_request_of_clients_busy_or_idle() {
    let peer = echo();
    let mut line = Line::start(
        "127.0.0.1:0",
        &[peer.to_string()],
        &["--drain-grace", "300ms"],
    );
    let is_over = Arc::new(AtomicBool::new(false));
    let served = Arc::new(AtomicU32::new(0));
    let threads: Vec<_> = [0, 0, 1, 7, 50]
        .map(|pause| {
            let (is_over, served) = (Arc::clone(&is_over), Arc::clone(&served));
            let address = line.address.clone();
            thread::spawn(move || {
                while !is_over.load(Ordering::Relaxed) {
                    let mut client = Client::new(&address);
                    loop {
                        let response = client.post("/", b"content");
                        assert_eq!((response.status, response.text()), (200, "content"));
                        served.fetch_add(1, Ordering::Relaxed);
                        if response.head.closes() || is_over.load(Ordering::Relaxed) {
                            break;
                        }
                        thread::sleep(Duration::from_millis(pause));
                    }
                }
            })
        })
        .into();
    for _ in 0..5 {
        let before = served.load(Ordering::Relaxed);
        let old = line.upgrade();
        await_gone(old);
        assert!(served.load(Ordering::Relaxed) > before);
    }
    is_over.store(true, Ordering::Relaxed);
    for thread in threads {
        thread.join().unwrap();
    }
    line.end();
}

#[test]
fn a_successor_that_fails_leaves_the_old_one_serving() {
    let peer = echo();
    let mut line = Line::start("127.0.0.1:0", &[peer.to_string()], &[]);
    let mut idle = line.client();
    assert_eq!(idle.post("/", b"x").status, 200);
    replace(
        &line,
        "#!/bin/sh\necho first >&2\necho the disk is full >&2\nexit 3\n",
    );
    let (code, said) = line.ask();
    assert_eq!(code, Some(1));
    assert!(said.contains("exit status: 3"), "{said}");
    let told = line.program.err.holding(0, "upgrade failed");
    assert!(
        told.contains("ERROR") && told.contains("exit status: 3"),
        "{told}"
    );
    assert!(told.contains("its last words: the disk is full;"), "{told}");

    fs::remove_file(&line.binary).unwrap();
    let (code, said) = line.ask();
    assert_eq!(code, Some(1));
    assert!(said.contains("cannot start"), "{said}");
    assert!(!idle.post("/", b"x").head.closes(), "it goes on as before");

    // What is there now is what is started.
    install(&line.binary);
    line.mark = line.program.err.mark();
    let (code, said) = line.ask();
    assert_eq!(code, Some(0), "{said}");
    line.taken_over();
    assert_eq!(said, format!("process {} has taken over", line.pid));
    assert!(idle.post("/", b"x").head.closes());
    assert_eq!(line.client().post("/", b"x").status, 200);
    line.end();
}

#[test]
fn a_successor_that_dies_at_once_is_not_left_among_the_processes() {
    let peer = echo();
    let line = Line::start("127.0.0.1:0", &[peer.to_string()], &[]);
    replace(&line, "#!/bin/sh\nkill -9 $$\n");
    let (code, said) = line.ask();
    assert_eq!(code, Some(1));
    assert!(
        said.contains("signal: 9 (SIGKILL)") && said.contains("said nothing"),
        "{said}"
    );
    let started = line.program.err.holding(0, "is started");
    let mut words = started
        .split("upgrade: process ")
        .nth(1)
        .unwrap()
        .split(' ');
    await_gone(words.next().unwrap().parse().unwrap());
    line.end();
}

#[test]
fn a_stop_gives_an_upgrade_up() {
    let peer = echo();
    let line = Line::start("127.0.0.1:0", &[peer.to_string()], &[]);
    replace(&line, "#!/bin/sh\necho waiting >&2\nexec sleep 600\n");
    line.signal(Signal::USR2);
    let waiting = line.program.err.holding(0, "waiting");
    let mut words = waiting.split("] process ").nth(1).unwrap().split(':');
    let pid = words.next().unwrap().parse().unwrap();
    line.end();
    await_gone(pid);
}

#[test]
fn a_unix_socket_stays_where_it_is_until_the_last_one_ends() {
    let peer = echo();
    let mut line = Line::start("unix:FOLDER/front", &[peer.to_string()], &[]);
    let Address::Unix(path) = line.address.clone() else {
        unreachable!("it listens at a path");
    };
    for _ in 0..2 {
        let old = line.upgrade();
        await_gone(old);
        assert!(path.exists());
        assert_eq!(line.client().post("/", b"x").status, 200);
    }
    line.end();
    assert!(!path.exists());
}

#[test]
fn what_runs_in_the_old_process_is_finished_there_and_stopped_with_it() {
    let gate: Arc<Watch<bool>> = Arc::default();
    let theirs = Arc::clone(&gate);
    let peer = Peer::start(move |talk| {
        let content = talk.content()?;
        if talk.target == "/held" {
            theirs.until("the gate opens", |is_open| is_open.then_some(()));
        }
        talk.wire.send(reply(200, &[], content))?;
        Ok(true)
    });
    let options = ["--drain-timeout", "300ms"];
    let mut line = Line::start("127.0.0.1:0", &[peer.to_string()], &options);
    let (mut first, mut second) = (line.client(), line.client());
    first.ask("GET", "/held");
    peer.await_requests(1);
    let old = line.upgrade();
    // An upgrade has more patience than a stop.
    thread::sleep(Duration::from_millis(400));
    second.ask("GET", "/held");
    peer.await_requests(2);
    gate.change(|is_open| *is_open = true);
    assert_eq!(first.response().status, 200);
    assert_eq!(second.response().status, 200);
    await_gone(old);

    gate.change(|is_open| *is_open = false);
    let mut third = line.client();
    third.ask("GET", "/held");
    peer.await_requests(3);
    let old = line.upgrade();
    kill_process(process(old), Signal::TERM).unwrap();
    await_gone(old);
    assert!(
        third.is_ended(),
        "a stop is in a hurry after an upgrade too"
    );
    assert_eq!(line.client().post("/", b"x").status, 200);
    line.end();
}

#[test]
fn only_what_may_still_run_in_the_old_process_is_cut_at_the_tunnel_drain_timeout() {
    let peer = Peer::start(|talk| {
        talk.wire.send(SWITCH)?;
        while let Some(bytes) = talk.wire.some()? {
            talk.wire.send(bytes)?;
        }
        Ok(false)
    });
    let options = ["--tunnel-drain-timeout", "1s", "--check", "tcp"];
    let mut line = Line::start("127.0.0.1:0", &[peer.to_string()], &options);
    let mut tunnel = line.client();
    tunnel.send(request("GET", "/", &ASK, b""));
    assert_eq!(tunnel.response().status, 101);
    let old = line.upgrade();
    tunnel.send("still here");
    assert_eq!(tunnel.wire.exactly(10).unwrap(), b"still here");
    await_gone(old);
    assert!(tunnel.is_ended());
    let told = "drain timeout: 1 clients are cut off";
    line.program.err.holding(line.mark, told);
    line.end();
}

#[test]
fn who_administers_is_sent_on_to_the_successor() {
    let (echo, folder) = (echo(), Folder::new());
    let path = folder.path().join("admin");
    let (server, listen) = (echo.to_string(), format!("unix:{}", path.display()));
    let mut line = Line::start(
        "127.0.0.1:0",
        std::slice::from_ref(&server),
        &["--admin", &listen],
    );
    let connect = || Client::new(&Address::Unix(path.clone()));
    // A request that is under way keeps the old process from ending.
    let mut busy = line.client();
    busy.send("POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nab");
    echo.await_requests(1);
    let (mut reader, mut one, mut other) = (connect(), connect(), connect());
    reader.ask("GET", "/events");
    reader.wire.head().unwrap().unwrap();
    for kept in [&mut one, &mut other] {
        assert_eq!(kept.get("/status").field("connection"), None);
    }
    line.upgrade();
    // Whoever read events hears it, and has to connect anew.
    let mut told = String::new();
    while let Some(some) = reader.wire.some().unwrap() {
        told.push_str(&String::from_utf8(some).unwrap());
    }
    let bye = "event: bye\ndata: {\"reason\":\"another process has taken over\"}\n\n";
    assert!(told.ends_with(bye), "{told}");
    // A connection of before gets one more answer, and changes nothing.
    let told = one.get("/status");
    assert_eq!(
        (told.status, told.field("connection")),
        (200, Some("close"))
    );
    let drain = format!("/servers/{server}/drain");
    let refused = other.post(&drain, b"");
    assert_eq!(
        (refused.status, refused.field("connection")),
        (421, Some("close"))
    );
    assert!(refused.text().starts_with("another process has taken over"));
    assert!(
        !told.text().contains("\"state\":\"serving\""),
        "{}",
        told.text()
    );
    assert_eq!(connect().post(&drain, b"").status, 200);
    busy.send("cd");
    assert_eq!(busy.response().status, 200);
    line.end();
}

#[test]
fn cookies_of_before_lead_to_their_servers_in_every_successor() {
    let named = |name: &'static str| {
        Peer::start(move |talk| {
            talk.wire.send(reply(200, &[], name))?;
            Ok(true)
        })
    };
    let peers = [named("a"), named("b"), named("c")];
    let servers = peers.each_ref().map(ToString::to_string);
    let options = ["--sticky", "cookie", "--policy", "round-robin"];
    let mut line = Line::start("127.0.0.1:0", &servers, &options);
    for server in &servers {
        line.program.err.holding(0, &format!("{server} is valid"));
    }
    let first = line.client().get("/");
    let cookie = first.field("Set-Cookie").unwrap();
    let (pair, _) = cookie.split_once(';').unwrap();
    for _ in 0..3 {
        line.upgrade();
        let mut client = line.client();
        for _ in 0..4 {
            client.send(request("GET", "/", &[&format!("Cookie: {pair}")], b""));
            let again = client.response();
            assert_eq!(again.text(), first.text());
            assert_eq!(again.field("Set-Cookie"), None);
        }
    }
    line.end();
}

#[test]
fn a_process_that_is_not_there_can_not_be_asked() {
    let mut asking = Program::run(
        env!("CARGO_BIN_EXE_bestguess").as_ref(),
        &["upgrade", "--pid", "4194304"],
        &[],
    );
    assert_eq!(asking.ended().code(), Some(1));
    let said = asking.err.until_end().join("\n");
    assert!(said.contains("cannot ask process 4194304"), "{said}");
}
