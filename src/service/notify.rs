//! What systemd is told: datagrams to NOTIFY_SOCKET, as sd_notify(3) describes them.
//!
//! A message is lines of `NAME=VALUE`, so it is written here rather than by another package. Nothing
//! here waits: what the socket does not take at once is kept, within limits, and tried again with the
//! next call. What the messages say is `service`'s affair.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use log::warn;

/// Messages that may wait for a manager that does not read; more push the oldest out.
const WAITING_MAX: usize = 16;

/// Environment variables by name.
pub(super) type Environment<'e> = dyn Fn(&str) -> Option<OsString> + 'e;

/// The way to the manager of services, if there is one.
#[derive(Debug, Default)]
pub(super) struct Notify {
    way: Option<(UnixDatagram, SocketAddr)>,
    waiting: VecDeque<String>,
    /// Whether the last message was taken, so that a fault is logged once.
    is_well: bool,
}

impl Notify {
    /// As NOTIFY_SOCKET says. Without it every message goes nowhere, at no cost.
    pub(super) fn new(env: &Environment<'_>) -> Notify {
        let Some(name) = env("NOTIFY_SOCKET").filter(|name| !name.is_empty()) else {
            return Notify::default();
        };
        let way = address(name.as_bytes()).and_then(|address| {
            let socket = UnixDatagram::unbound()?;
            socket.set_nonblocking(true)?;
            Ok((socket, address))
        });
        if let Err(cause) = &way {
            warn!(
                "cannot tell the service manager anything at NOTIFY_SOCKET {}: {cause}",
                name.to_string_lossy().escape_debug()
            );
        }
        Notify {
            way: way.ok(),
            waiting: VecDeque::new(),
            is_well: true,
        }
    }

    /// Whether anybody listens.
    pub(super) fn is_on(&self) -> bool {
        self.way.is_some()
    }

    /// Whether messages wait to be tried again.
    pub(super) fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Tells these lines, each `NAME=VALUE`, as one message.
    pub(super) fn say(&mut self, lines: &[&str]) {
        if self.is_on() {
            if self.waiting.len() == WAITING_MAX {
                self.waiting.pop_front();
            }
            self.waiting.push_back(lines.join("\n"));
            self.flush();
        }
    }

    /// Sends what waits, as far as the socket takes it.
    pub(super) fn flush(&mut self) {
        let Some((socket, address)) = &self.way else {
            return;
        };
        while let Some(message) = self.waiting.front() {
            match socket.send_to_addr(message.as_bytes(), address) {
                Err(error) if may_pass(&error) => return,
                Ok(_) => self.is_well = true,
                Err(error) => {
                    if std::mem::take(&mut self.is_well) {
                        warn!("cannot tell the service manager anything: {error}");
                    }
                }
            }
            self.waiting.pop_front();
        }
    }
}

/// How often the manager wants a sign of life (WATCHDOG_USEC), if it does so of the process `pid`;
/// twice as often as it must have one.
pub(super) fn watchdog(env: &Environment<'_>, pid: u32) -> Option<Duration> {
    let number = |name| env(name)?.to_str()?.trim().parse::<u64>().ok();
    let is_ours = match env("WATCHDOG_PID") {
        None => true,
        Some(_) => number("WATCHDOG_PID") == Some(u64::from(pid)),
    };
    let span = number("WATCHDOG_USEC").filter(|span| *span > 0 && is_ours)?;
    Some(Duration::from_micros(span / 2).max(Duration::from_millis(1)))
}

/// Whether a message may be taken later that was not taken now: EAGAIN, EINTR or ENOBUFS.
fn may_pass(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
    ) || error.raw_os_error() == Some(105)
}

/// The address that `name` stands for: a path from the root, or `@` and a name without a file.
pub(super) fn address(name: &[u8]) -> io::Result<SocketAddr> {
    match name {
        [b'/', ..] => SocketAddr::from_pathname(std::ffi::OsStr::from_bytes(name)),
        [b'@', name @ ..] if !name.is_empty() => abstract_address(name),
        _ => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "expected a path that begins with / or a name that begins with @",
        )),
    }
}

#[cfg(target_os = "linux")]
fn abstract_address(name: &[u8]) -> io::Result<SocketAddr> {
    use std::os::linux::net::SocketAddrExt;
    SocketAddr::from_abstract_name(name)
}

#[cfg(not(target_os = "linux"))]
fn abstract_address(_: &[u8]) -> io::Result<SocketAddr> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env<'e>(pairs: &'e [(&str, &str)]) -> impl Fn(&str) -> Option<OsString> + 'e {
        move |name| {
            let found = pairs.iter().find(|(known, _)| *known == name)?;
            Some(found.1.into())
        }
    }

    /// A manager at an abstract address of its own.
    fn manager(name: &str) -> (UnixDatagram, String) {
        let name = format!("@bestguess-test-{name}-{}", std::process::id());
        let socket = UnixDatagram::bind_addr(&address(name.as_bytes()).unwrap()).unwrap();
        (socket, name)
    }

    fn heard(manager: &UnixDatagram) -> String {
        let mut room = [0; 256];
        let count = manager.recv(&mut room).unwrap();
        String::from_utf8(room[..count].to_vec()).unwrap()
    }

    #[test]
    fn a_message_reaches_the_manager_as_lines() {
        let (manager, name) = manager("lines");
        let mut notify = Notify::new(&env(&[("NOTIFY_SOCKET", &name)]));
        notify.say(&["READY=1", "STATUS=well"]);
        assert_eq!(heard(&manager), "READY=1\nSTATUS=well");
        assert!(!notify.has_waiting());
    }

    #[test]
    fn without_a_manager_nothing_is_said_and_nothing_kept() {
        let mut notify = Notify::new(&env(&[]));
        notify.say(&["READY=1"]);
        assert!(!notify.is_on() && !notify.has_waiting());
    }

    #[test]
    fn a_manager_that_does_not_read_is_never_waited_for() {
        let (manager, name) = manager("full");
        let mut notify = Notify::new(&env(&[("NOTIFY_SOCKET", &name)]));
        for count in 0..5000 {
            notify.say(&[&format!("STATUS={count}")]);
        }
        assert_eq!(notify.waiting.len(), WAITING_MAX);
        // Once it reads again, what waits arrives, the latest last.
        let mut last = heard(&manager);
        manager.set_nonblocking(true).unwrap();
        notify.flush();
        while last != "STATUS=4999" {
            last = heard(&manager);
            notify.flush();
        }
        assert!(!notify.has_waiting());
    }

    #[test]
    fn a_manager_that_has_gone_costs_the_message_only() {
        let (manager, name) = manager("gone");
        let mut notify = Notify::new(&env(&[("NOTIFY_SOCKET", &name)]));
        drop(manager);
        notify.say(&["READY=1"]);
        assert!(notify.is_on() && !notify.has_waiting());
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for name in ["", "@", "relative", "vsock:2:1234"] {
            assert!(address(name.as_bytes()).is_err(), "{name}");
            assert!(!Notify::new(&env(&[("NOTIFY_SOCKET", name)])).is_on());
        }
        assert!(address(b"/run/systemd/notify").is_ok());
    }

    #[test]
    fn signs_of_life_come_twice_as_often_as_they_must() {
        let watched = |pairs: &[(&str, &str)]| watchdog(&env(pairs), 7);
        let half = Some(Duration::from_millis(500));
        assert_eq!(watched(&[("WATCHDOG_USEC", "1000000")]), half);
        assert_eq!(
            watched(&[("WATCHDOG_USEC", "1000000"), ("WATCHDOG_PID", "7")]),
            half
        );
        for pairs in [
            &[][..],
            &[("WATCHDOG_USEC", "0")],
            &[("WATCHDOG_USEC", "-1")],
            &[("WATCHDOG_USEC", "1000000"), ("WATCHDOG_PID", "8")],
            &[("WATCHDOG_USEC", "1000000"), ("WATCHDOG_PID", "x")],
        ] {
            assert_eq!(watched(pairs), None, "{pairs:?}");
        }
    }
}
