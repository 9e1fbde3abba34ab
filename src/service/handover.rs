//! How an older process hands its listener over to the newer one that it started.
//!
//! The newer one finds a unix socket as its standard input, and in it one message: a few lines, and
//! the descriptors that they speak of (SCM_RIGHTS). So they travel as what they are, not as numbers
//! that somebody has to keep free and to believe in. The same socket carries the answer: one line, by
//! which the newer process says that it is ready. An end before that line says that it is not.
//!
//! Until then the newer process's standard error is a pipe, so that the older one can say why it
//! failed; the true one comes with the message.

use std::fmt;
use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use rustix::{process, stdio};

use super::notify::Environment;

/// Says to a process that its standard input is a handover: the number of its parent, so that nobody
/// further down believes it.
pub(super) const MARK: &str = "BESTGUESS_HANDOVER";
/// What a newer process says once it is ready.
pub(super) const READY: &[u8] = b"READY\n";

/// The first line of the message.
const GREETING: &str = "bestguess handover 1";
/// The first word of the line of a listener: that of clients, or of those who administer.
const CLIENTS: &str = "listener";
const ADMIN: &str = "admin";
/// The second word: the file of a unix socket is to be removed in the end, or is not.
const OWNED: &str = "owned";
const LENT: &str = "lent";
/// The older process's standard error.
const STDERR: &str = "stderr";
/// The first word of a line without a descriptor, behind all others: a key in hexadecimal digits.
const KEY: &str = "key";
/// A message is shorter, in bytes.
const BYTES_MAX: usize = 512;
/// It carries no more descriptors.
const DESCRIPTORS_MAX: usize = 8;

/// A listener on its way.
#[derive(Debug)]
pub(super) struct Handed {
    /// The socket.
    pub(super) descriptor: OwnedFd,
    /// Whether the file of a unix socket becomes the receiver's to remove.
    pub(super) owns_path: bool,
}

/// What is handed over.
#[derive(Debug)]
pub(super) struct Parcel {
    /// Where clients connect.
    pub(super) clients: Handed,
    /// Where those who administer do.
    pub(super) admin: Option<Handed>,
    /// Where the sender's log goes.
    pub(super) stderr: OwnedFd,
    /// The key of cookies, where it was of the sender's own making.
    pub(super) key: Option<Key>,
}

/// A secret, which no log shows.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Key(pub(super) Vec<u8>);

impl fmt::Debug for Key {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "a key of {} bytes", self.0.len())
    }
}

impl Key {
    fn digits(&self) -> String {
        let bytes = self.0.iter();
        bytes.map(|byte| format!("{byte:02x}")).collect()
    }

    /// That of these digits; none: they are none.
    fn of(digits: &str) -> Option<Key> {
        let pairs = digits.as_bytes().chunks(2);
        let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
        let bytes: Option<Vec<u8>> = pairs.map(byte).collect();
        bytes.filter(|bytes| !bytes.is_empty()).map(Key)
    }
}

impl Parcel {
    /// Puts it into the socket.
    ///
    /// # Errors
    /// Those of the operating system.
    pub(super) fn send(&self, socket: &UnixStream) -> io::Result<()> {
        let mut text = format!("{GREETING}\n");
        let mut descriptors = Vec::new();
        for (name, handed) in [(CLIENTS, Some(&self.clients)), (ADMIN, self.admin.as_ref())] {
            if let Some(handed) = handed {
                let owned = if handed.owns_path { OWNED } else { LENT };
                text.push_str(&format!("{name} {owned}\n"));
                descriptors.push(handed.descriptor.as_fd());
            }
        }
        text.push_str(&format!("{STDERR}\n"));
        descriptors.push(self.stderr.as_fd());
        if let Some(key) = &self.key {
            text.push_str(&format!("{KEY} {}\n", key.digits()));
        }
        send(socket, text.as_bytes(), &descriptors)
    }

    /// Takes it out of the socket.
    ///
    /// # Errors
    /// `InvalidData` if there is something else in it; those of the operating system.
    fn receive(socket: &UnixStream) -> io::Result<Parcel> {
        let (text, descriptors) = receive(socket)?;
        let wrong = |what: &str| {
            let text = format!("the older process handed over {what}");
            io::Error::new(io::ErrorKind::InvalidData, text)
        };
        let text = String::from_utf8(text).map_err(|_| wrong("what is no text"))?;
        let mut lines = text.lines();
        if lines.next() != Some(GREETING) {
            return Err(wrong("what this version does not understand"));
        }
        let (mut clients, mut admin, mut stderr) = (None, None, None);
        let key = text
            .lines()
            .next_back()
            .and_then(|line| line.strip_prefix(KEY));
        let key = key.map(str::trim_start);
        // A line of a version to come says what this one does not need: its descriptor is closed.
        for (line, descriptor) in lines.zip(descriptors) {
            let (name, owned) = line.split_once(' ').unwrap_or((line, ""));
            let handed = |descriptor| Handed {
                descriptor,
                owns_path: owned == OWNED,
            };
            match name {
                CLIENTS => clients = Some(handed(descriptor)),
                ADMIN => admin = Some(handed(descriptor)),
                STDERR => stderr = Some(descriptor),
                _ => {}
            }
        }
        Ok(Parcel {
            clients: clients.ok_or_else(|| wrong("no listener"))?,
            admin,
            stderr: stderr.ok_or_else(|| wrong("no standard error"))?,
            key: key.and_then(Key::of),
        })
    }
}

/// A handover that was received and is not answered yet.
#[derive(Debug)]
pub(super) struct Received {
    socket: UnixStream,
    stderr: OwnedFd,
    /// Its key of cookies, where that was of its own making.
    pub(super) key: Option<Key>,
    /// The older process.
    pub(super) from: i32,
}

/// Receives what a parent hands over, if it does: the listeners of clients and of those who
/// administer.
///
/// # Errors
/// It says that it does, but there is no sense in what came; those of the operating system.
pub(super) fn accept(
    env: &Environment<'_>,
) -> io::Result<Option<(Received, Handed, Option<Handed>)>> {
    let parent = process::getppid().map(|parent| parent.as_raw_pid());
    let marked = env(MARK).and_then(|mark| mark.to_str()?.parse::<i32>().ok());
    let Some(from) = marked.filter(|mark| Some(*mark) == parent) else {
        return Ok(None);
    };
    let socket = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    // Nobody who comes later takes the socket for an input.
    stdio::dup2_stdin(File::open("/dev/null")?)?;
    socket.set_nonblocking(true)?;
    let parcel = Parcel::receive(&socket)?;
    let received = Received {
        socket,
        stderr: parcel.stderr,
        key: parcel.key,
        from,
    };
    Ok(Some((received, parcel.clients, parcel.admin)))
}

impl Received {
    /// From now on this process is the one that serves: it says so, and logs where the older one did.
    ///
    /// # Errors
    /// Those of the operating system; the older process may have gone.
    pub(super) fn answer(mut self) -> io::Result<()> {
        stdio::dup2_stderr(&self.stderr)?;
        self.socket.write_all(READY)
    }
}

fn send(socket: &UnixStream, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let has_room = control.push(SendAncillaryMessage::ScmRights(descriptors));
    debug_assert!(has_room);
    let count = sendmsg(
        socket,
        &[IoSlice::new(bytes)],
        &mut control,
        SendFlags::empty(),
    )?;
    match count == bytes.len() {
        true => Ok(()),
        false => Err(io::ErrorKind::WriteZero.into()),
    }
}

fn receive(socket: &UnixStream) -> io::Result<(Vec<u8>, Vec<OwnedFd>)> {
    let mut bytes = vec![0; BYTES_MAX];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = recvmsg(
        socket,
        &mut [IoSliceMut::new(&mut bytes)],
        &mut control,
        RecvFlags::CMSG_CLOEXEC,
    )?;
    let mut descriptors = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            descriptors.extend(rights);
        }
    }
    bytes.truncate(received.bytes);
    Ok((bytes, descriptors))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    fn sent(text: &str, count: usize) -> io::Result<Parcel> {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let file = File::open("/dev/null").unwrap();
        send(&ours, text.as_bytes(), &vec![file.as_fd(); count]).unwrap();
        Parcel::receive(&theirs)
    }

    #[test]
    fn a_listener_arrives_as_the_same_socket() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        for owns_path in [true, false] {
            let handed = || Handed {
                descriptor: listener.try_clone().unwrap().into(),
                owns_path,
            };
            let parcel = Parcel {
                clients: handed(),
                admin: owns_path.then(handed),
                stderr: io::stderr().as_fd().try_clone_to_owned().unwrap(),
                key: owns_path.then(|| Key(vec![0, 0x9a, 255])),
            };
            parcel.send(&ours).unwrap();
            let arrived = Parcel::receive(&theirs).unwrap();
            assert_eq!(arrived.clients.owns_path, owns_path);
            assert_eq!(arrived.admin.is_some(), owns_path);
            assert_eq!(arrived.key, parcel.key);
            let arrived = TcpListener::from(arrived.clients.descriptor);
            assert_eq!(arrived.local_addr().unwrap(), address);
        }
    }

    #[test]
    fn lines_of_versions_to_come_are_passed_over() {
        let text = "bestguess handover 1\nlistener lent\nnews\nstderr\n";
        assert!(sent(text, 3).is_ok());
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for (text, count, why) in [
            ("hello\nlistener owned\nstderr\n", 2, "does not understand"),
            ("bestguess handover 2\n", 2, "does not understand"),
            ("bestguess handover 1\nstderr\n", 1, "no listener"),
            (
                "bestguess handover 1\nlistener owned\n",
                1,
                "no standard error",
            ),
            (
                "bestguess handover 1\nlistener owned\nstderr\n",
                1,
                "no standard error",
            ),
        ] {
            let refused = sent(text, count).unwrap_err().to_string();
            assert!(refused.contains(why), "{refused}");
        }
    }

    #[test]
    fn a_mark_of_another_parent_is_not_believed() {
        assert!(accept(&|_| Some("1".into())).unwrap().is_none());
        assert!(accept(&|_| Some("x".into())).unwrap().is_none());
        assert!(accept(&|_| None).unwrap().is_none());
    }
}
