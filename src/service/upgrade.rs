//! A newer process on its way to take over: started, listened to, and ended if it does not get ready.
//!
//! It is started by the name that this process was started by, so that what is there now is run, with
//! the same arguments and environment. Nothing here waits: `look` is called by the loop, whenever the
//! newer process may have said something and every `LOOK_EVERY`.

use std::ffi::OsString;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use log::info;
use mio::unix::pipe::Receiver;

use super::handover::{self, Handed, Key, Parcel};
use crate::net::Time;
use crate::net::mio::{Listener, MioNet};

/// How long a newer process may take to get ready.
pub(super) const READY_MAX: Duration = Duration::from_secs(30);
/// How often one that is awaited is looked at, whatever it says.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(20);
/// A line of its log that is longer is cut, in bytes.
const LINE_BYTES_MAX: usize = 2000;
/// What one look reads of its log at most, in receives of 4 KiB.
const READS_MAX: usize = 16;
/// Variables that speak of this process, not of the newer one.
const OURS: [&str; 4] = ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "WATCHDOG_PID"];

/// The newer process.
#[derive(Debug)]
pub(super) struct Upgrade {
    child: Child,
    socket: mio::net::UnixStream,
    log: Receiver,
    /// The end of its log that is no whole line yet.
    line: Vec<u8>,
    /// The last whole line.
    last: String,
    until: Time,
}

fn share(listener: &Listener) -> io::Result<Handed> {
    let (descriptor, owns_path) = listener.share()?;
    Ok(Handed {
        descriptor,
        owns_path,
    })
}

/// How far it got.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// It is awaited.
    Open,
    /// It serves.
    Ready,
    /// It has failed, for this reason, and nothing is left of it but, perhaps, its entry among the
    /// processes.
    Failed(String),
}

impl Upgrade {
    /// Starts a newer process and hands the listeners of `net` and the `key` of cookies to it; `now` is
    /// its time.
    ///
    /// # Errors
    /// Those of the operating system: it cannot be started, and nothing has happened.
    pub(super) fn start(net: &MioNet, key: Option<Key>, now: Time) -> io::Result<Upgrade> {
        let (ours, theirs) = UnixStream::pair()?;
        let listener = net.listener().ok_or(io::ErrorKind::NotConnected)?;
        let parcel = Parcel {
            clients: share(listener)?,
            admin: net.admin().map(share).transpose()?,
            stderr: io::stderr().as_fd().try_clone_to_owned()?,
            key,
        };
        parcel.send(&ours)?;
        let mut arguments = std::env::args_os();
        let program = arguments
            .next()
            .unwrap_or_else(|| OsString::from("bestguess"));
        let mut command = Command::new(&program);
        command
            .args(arguments)
            .env(handover::MARK, std::process::id().to_string())
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stderr(Stdio::piped());
        for name in OURS {
            command.env_remove(name);
        }
        let mut child = command.spawn().map_err(|cause| {
            let program = program.to_string_lossy().into_owned();
            io::Error::new(cause.kind(), format!("cannot start {program}: {cause}"))
        })?;
        // The command keeps its copy of the newer process's end, which would hide that one's end.
        drop(command);
        ours.set_nonblocking(true)?;
        let log = child.stderr.take().ok_or(io::ErrorKind::BrokenPipe)?;
        let mut upgrade = Upgrade {
            child,
            socket: mio::net::UnixStream::from_std(ours),
            log: Receiver::from(log),
            line: Vec::new(),
            last: String::new(),
            until: now + READY_MAX,
        };
        let watched = upgrade
            .log
            .set_nonblocking(true)
            .and_then(|()| net.watch_guest(&mut upgrade.socket))
            .and_then(|()| net.watch_guest(&mut upgrade.log));
        match watched {
            Ok(()) => Ok(upgrade),
            Err(cause) => {
                upgrade.end();
                Err(cause)
            }
        }
    }

    /// The number of the process.
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The process itself, to be waited for in the end.
    pub(super) fn into_child(self) -> Child {
        self.child
    }

    /// Reads what it says, and looks how it is.
    pub(super) fn look(&mut self, now: Time) -> Progress {
        self.read_log();
        let mut answer = [0; 64];
        if let Ok(count) = self.socket.read(&mut answer)
            && answer.get(..count) == Some(handover::READY)
        {
            return Progress::Ready;
        }
        match self.child.try_wait() {
            Ok(Some(status)) => {
                // Its last words may have come since.
                self.read_log();
                Progress::Failed(self.epitaph(status))
            }
            Ok(None) if now >= self.until => {
                self.end();
                Progress::Failed(format!(
                    "it was not ready within {READY_MAX:?}{}",
                    self.last_words()
                ))
            }
            Ok(None) => Progress::Open,
            Err(cause) => {
                self.end();
                Progress::Failed(format!("it cannot be waited for: {cause}"))
            }
        }
    }

    /// Ends it, whatever it does.
    pub(super) fn end(&mut self) {
        // One that is gone already needs no end.
        let _ = self.child.kill();
    }

    /// Passes whole lines of its log on to ours.
    fn read_log(&mut self) {
        let mut room = [0; 4096];
        for _ in 0..READS_MAX {
            let Ok(count) = self.log.read(&mut room) else {
                return;
            };
            if count == 0 {
                if !self.line.is_empty() {
                    self.end_line();
                }
                return;
            }
            for byte in room.get(..count).unwrap_or_default() {
                match byte {
                    b'\n' => self.end_line(),
                    _ if self.line.len() < LINE_BYTES_MAX => self.line.push(*byte),
                    _ => {}
                }
            }
        }
    }

    fn end_line(&mut self) {
        let line = String::from_utf8_lossy(&self.line).trim_end().to_owned();
        self.line.clear();
        if !line.is_empty() {
            info!("process {}: {line}", self.child.id());
            self.last = line;
        }
    }

    fn epitaph(&self, status: ExitStatus) -> String {
        format!("it ended with {status}{}", self.last_words())
    }

    fn last_words(&self) -> String {
        match self.last.as_str() {
            "" => " and said nothing".to_owned(),
            last => format!("; its last words: {last}"),
        }
    }
}
