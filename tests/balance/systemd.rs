//! systemd's side of a service: sockets that it opened, and messages that it awaits.

use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::process::{Command, Stdio};
use std::time::Instant;

use bestguess::config::Address;
use rustix::process::{Pid, Signal, kill_process};

use crate::peer::{Peer, tells_target};
use crate::program::{Folder, Origin, Program, await_gone};
use crate::watch::PATIENCE;
use crate::wire::Client;

/// A manager that hears what its service says.
struct Manager {
    socket: UnixDatagram,
    path: String,
    _folder: Folder,
}

impl Manager {
    fn new() -> Manager {
        let folder = Folder::new();
        let path = folder.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Manager {
            socket,
            path: path.display().to_string(),
            _folder: folder,
        }
    }

    /// The next message with this line in it, awaited.
    fn hears(&self, line: &str) -> String {
        let end = Instant::now() + PATIENCE;
        loop {
            assert!(Instant::now() < end, "nobody says {line}");
            let mut room = [0; 1024];
            let count = self.socket.recv(&mut room).unwrap();
            let message = String::from_utf8(room[..count].to_vec()).unwrap();
            if message.lines().any(|found| found == line) {
                return message;
            }
        }
    }
}

/// The binary as systemd starts it: `socket` is its descriptor 3.
fn activated(socket: OwnedFd, names: &str, arguments: &[&str]) -> Program {
    let script = "LISTEN_PID=$$ LISTEN_FDS=1 exec \"$@\" 3<&0 </dev/null";
    let mut command = Command::new("/bin/sh");
    command.args(["-c", script, "sh", env!("CARGO_BIN_EXE_bestguess")]);
    command.args(arguments).env("LISTEN_FDNAMES", names);
    Program::of(command, Stdio::from(socket))
}

#[test]
fn a_manager_hears_of_ready_state_life_and_end() {
    let manager = Manager::new();
    let mut server = Origin::start("127.0.0.1:0", "a", None, &[]);
    let mut program = Program::run(
        env!("CARGO_BIN_EXE_bestguess").as_ref(),
        &["127.0.0.1:0", "-X", "0.1", &server.address],
        &[
            ("NOTIFY_SOCKET", &manager.path),
            ("WATCHDOG_USEC", "200000"),
        ],
    );
    let ready = manager.hears("READY=1");
    assert!(ready.contains("STATUS=1 of 1 servers valid"), "{ready}");
    for _ in 0..3 {
        manager.hears("WATCHDOG=1");
    }
    server.program.kill();
    manager.hears("STATUS=0 of 1 servers valid");
    program.signal(Signal::TERM);
    manager.hears("STOPPING=1");
    assert_eq!(program.code(), Some(0));
}

#[test]
fn a_manager_hears_when_the_servers_are_being_read_again_and_when_they_were() {
    let (manager, folder) = (Manager::new(), Folder::new());
    let peer = Peer::start(tells_target);
    let file = folder.path().join("servers");
    std::fs::write(&file, format!("{peer}\n")).unwrap();
    let mut program = Program::run(
        env!("CARGO_BIN_EXE_bestguess").as_ref(),
        &["127.0.0.1:0", "--servers-file", &file.display().to_string()],
        &[("NOTIFY_SOCKET", &manager.path)],
    );
    manager.hears("READY=1");
    // A file that is well, and one that is not: the service is ready again either way.
    for servers in [format!("{peer}\n9 9\n"), format!("{peer}\n")] {
        std::fs::write(&file, servers).unwrap();
        let before = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        program.signal(Signal::HUP);
        let reloading = manager.hears("RELOADING=1");
        let usec = reloading
            .lines()
            .find_map(|line| line.strip_prefix("MONOTONIC_USEC="));
        // systemd takes only one for its own HUP that began behind it.
        let usec: i64 = usec.unwrap().parse().unwrap();
        assert!(usec >= before.tv_sec * 1_000_000 + before.tv_nsec / 1000);
        let ready = manager.hears("READY=1");
        assert!(ready.contains("STATUS=1 of 1 servers valid"), "{ready}");
    }
    program.signal(Signal::TERM);
    manager.hears("STOPPING=1");
    assert_eq!(program.code(), Some(0));
}

#[test]
fn a_manager_is_told_which_process_is_the_service_after_an_upgrade() {
    let manager = Manager::new();
    let peer = Peer::start(tells_target);
    let mut program = Program::run(
        env!("CARGO_BIN_EXE_bestguess").as_ref(),
        &["127.0.0.1:0".to_owned(), peer.to_string()],
        &[
            ("NOTIFY_SOCKET", &manager.path),
            ("WATCHDOG_USEC", "200000"),
            ("WATCHDOG_PID", "1"),
        ],
    );
    manager.hears("READY=1");
    program.signal(Signal::USR2);
    let reloading = manager.hears("RELOADING=1");
    let usec = reloading
        .lines()
        .find_map(|line| line.strip_prefix("MONOTONIC_USEC="));
    assert!(usec.unwrap().parse::<u64>().unwrap() > 0);
    let done = manager.hears("READY=1");
    let pid = done.lines().find_map(|line| line.strip_prefix("MAINPID="));
    let pid: u32 = pid.unwrap().parse().unwrap();
    assert_eq!(program.code(), Some(0));
    // The one that took over is the manager's now: it was not meant by WATCHDOG_PID, and is.
    manager.hears("WATCHDOG=1");
    kill_process(Pid::from_raw(pid as i32).unwrap(), Signal::TERM).unwrap();
    manager.hears("STOPPING=1");
    await_gone(pid);
}

#[test]
fn sockets_that_systemd_opened_are_listened_at() {
    let peer = Peer::start(tells_target);
    for port in ["fd:3", "fd:web", "ADDRESS"] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        // Whoever comes before the service is there is served when it is.
        let mut early = Client::new(&Address::Tcp(address));
        early.ask("GET", "/early");
        let port = port.replace("ADDRESS", &address.to_string());
        let program = activated(listener.into(), "web", &[&port, &peer.to_string()]);
        assert_eq!(program.err.listening(), address.to_string());
        assert_eq!(early.response().text(), "/early");
        program.signal(Signal::TERM);
    }
}

#[test]
fn a_unix_socket_of_systemds_is_systemds_to_remove() {
    let folder = Folder::new();
    let path = folder.path().join("front");
    let listener = UnixListener::bind(&path).unwrap();
    let peer = Peer::start(tells_target);
    let mut program = activated(listener.into(), "", &["fd:3", &peer.to_string()]);
    program.err.listening();
    let address = Address::Unix(path.clone());
    assert_eq!(Client::new(&address).get("/here").text(), "/here");
    program.signal(Signal::TERM);
    assert_eq!(program.code(), Some(0));
    assert!(path.exists());
}

#[test]
fn what_systemd_opened_and_what_was_asked_for_have_to_agree() {
    let refused = |socket: OwnedFd, port: &str| {
        let mut program = activated(socket, "web", &[port, "9001"]);
        assert_eq!(program.code(), Some(1));
        program.err.until_end().join("\n")
    };
    let tcp = || TcpListener::bind("127.0.0.1:0").unwrap();
    let said = refused(tcp().into(), "127.0.0.1:1");
    assert!(
        said.contains("none at 127.0.0.1:1 was handed over, but fd:3 (fd:web)"),
        "{said}"
    );
    let said = refused(tcp().into(), "fd:4");
    assert!(said.contains("no socket fd:4 was handed over"), "{said}");
    let listener = tcp();
    let connected = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let said = refused(connected.into(), "fd:3");
    assert!(said.contains("it does not listen"), "{said}");
    let datagram = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let said = refused(datagram.into(), "fd:3");
    assert!(
        said.contains("it is neither a TCP nor a unix stream socket"),
        "{said}"
    );

    let mut alone = Program::start(&["fd:3", "9001"]);
    assert_eq!(alone.code(), Some(1));
    let said = alone.err.until_end().join("\n");
    assert!(said.contains("no sockets were handed over"), "{said}");
}
