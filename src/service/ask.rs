//! `bestguess upgrade`: asks a running process to start its successor, and waits for the answer.
//!
//! The question is a signal (USR2). The answer comes as a datagram to an abstract unix socket that
//! only whoever asks has, named by the number of the process that is asked: it needs no file, and a
//! process that nobody asked this way answers nobody.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;
use std::time::Duration;

use rustix::process::{Pid, Signal, getuid, kill_process};

use super::notify;
use super::upgrade::READY_MAX;

/// How much longer than the successor may take an answer is awaited.
const MARGIN: Duration = Duration::from_secs(5);
/// An answer is shorter, in bytes.
const ANSWER_BYTES_MAX: usize = 4096;

/// Asks the process `pid`, or the only one there is, and waits for its answer, which is returned.
///
/// # Errors
/// There is no such process, or it is not ours to ask; it does not answer; it says why not.
pub fn upgrade(pid: Option<u32>) -> io::Result<String> {
    let pid = match pid {
        Some(pid) => pid,
        None => only(&running())?,
    };
    let target = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let target = target.ok_or_else(|| failed(format!("there is no process {pid}")))?;
    let socket = UnixDatagram::bind_addr(&address(pid)?).map_err(|cause| {
        let text = match cause.kind() {
            io::ErrorKind::AddrInUse => "somebody else is asking it right now".to_owned(),
            _ => cause.to_string(),
        };
        failed(format!("cannot ask process {pid}: {text}"))
    })?;
    socket.set_read_timeout(Some(READY_MAX + MARGIN))?;
    kill_process(target, Signal::USR2)
        .map_err(|cause| failed(format!("cannot ask process {pid}: {cause}")))?;
    let mut room = [0; ANSWER_BYTES_MAX];
    let count = socket.recv(&mut room).map_err(|cause| match cause.kind() {
        io::ErrorKind::WouldBlock => failed(format!(
            "process {pid} does not answer: its log says what it made of the question"
        )),
        _ => cause,
    })?;
    let answer = String::from_utf8_lossy(room.get(..count).unwrap_or_default()).into_owned();
    match answer.split_once(' ') {
        Some(("yes", text)) => Ok(text.to_owned()),
        Some(("no", text)) => Err(failed(format!("process {pid} was not replaced: {text}"))),
        _ => Err(failed(format!("process {pid} answered nonsense"))),
    }
}

/// Tells whoever asked this process how it went; nobody may have. Never waits.
pub(super) fn answer(is_done: bool, text: &str) {
    let word = if is_done { "yes" } else { "no" };
    let told = address(std::process::id()).and_then(|address| {
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        let mut message = format!("{word} {text}").into_bytes();
        message.truncate(ANSWER_BYTES_MAX);
        socket.send_to_addr(&message, &address)
    });
    // Nobody listens, as a rule: the signal came from elsewhere.
    drop(told);
}

/// Where the answer of the process `pid` is awaited.
fn address(pid: u32) -> io::Result<SocketAddr> {
    notify::address(format!("@bestguess/upgrade/{pid}").as_bytes())
}

/// A process that may be a balancer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Running {
    pid: u32,
    parent: u32,
}

/// The balancers of this user that run, by /proc.
fn running() -> Vec<Running> {
    let own = std::process::id();
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            let is_ours = entry.metadata().ok()?.uid() == getuid().as_raw();
            let arguments = fs::read(entry.path().join("cmdline")).ok()?;
            let status = fs::read_to_string(entry.path().join("status")).ok()?;
            (is_ours && pid != own && is_balancer(&arguments)).then_some(Running {
                pid,
                parent: parent(&status)?,
            })
        })
        .collect()
}

/// Whether these arguments, each ended by a zero, are those of a balancer that serves.
fn is_balancer(arguments: &[u8]) -> bool {
    let mut words = arguments.split(|byte| *byte == 0);
    let program = Path::new(OsStr::from_bytes(words.next().unwrap_or_default()));
    let command = words.next().unwrap_or_default();
    let others: [&[u8]; 6] = [b"", b"demo", b"origin", b"upgrade", b"completions", b"man"];
    program.file_name() == Some(OsStr::new("bestguess")) && !others.contains(&command)
}

/// The parent that /proc/PID/status names.
fn parent(status: &str) -> Option<u32> {
    let mut lines = status.lines();
    lines.find_map(|line| line.strip_prefix("PPid:")?.trim().parse().ok())
}

/// The only one, apart from those that have a successor already.
///
/// # Errors
/// There is none, or more than one.
fn only(running: &[Running]) -> io::Result<u32> {
    let is_last = |one: &&Running| running.iter().all(|other| other.parent != one.pid);
    let last: Vec<u32> = running.iter().filter(is_last).map(|one| one.pid).collect();
    match last.as_slice() {
        [pid] => Ok(*pid),
        [] => Err(failed(
            "no running bestguess of this user was found: name it with --pid".to_owned(),
        )),
        many => Err(failed(format!(
            "there are several, {many:?}: name one with --pid"
        ))),
    }
}

fn failed(text: String) -> io::Error {
    io::Error::other(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_balancers_that_serve_are_found() {
        assert!(is_balancer(b"/usr/bin/bestguess\x008080\x009001\x00"));
        assert!(is_balancer(b"bestguess\x00-N\x008\x00"));
        for other in [
            &b"bestguess\x00origin\x009001\x00"[..],
            b"bestguess\x00",
            b"/bin/sh\x00bestguess\x00",
            b"",
        ] {
            assert!(!is_balancer(other), "{}", other.escape_ascii());
        }
    }

    #[test]
    fn who_has_a_successor_is_not_asked_again() {
        let one = |pid, parent| Running { pid, parent };
        assert_eq!(only(&[one(7, 1)]).unwrap(), 7);
        assert_eq!(only(&[one(7, 1), one(9, 7)]).unwrap(), 9);
        assert!(only(&[]).unwrap_err().to_string().contains("--pid"));
        let many = only(&[one(7, 1), one(9, 1)]).unwrap_err().to_string();
        assert!(many.contains("[7, 9]"), "{many}");
    }

    #[test]
    fn the_parent_is_read_from_the_status() {
        assert_eq!(parent("Name:\tx\nPid:\t3\nPPid:\t42\n"), Some(42));
        assert_eq!(parent("Name:\tx\n"), None);
    }
}
