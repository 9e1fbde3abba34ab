//! A server in threads of this process, which counts, waits and misbehaves as its test wants it to.

use std::fmt;
use std::io;
use std::net::Shutdown;
use std::sync::Arc;
use std::thread;

use bestguess::config::Address;
use socket2::Socket;

use crate::program::Folder;
use crate::watch::Watch;
use crate::wire::{Head, Wire, sock_addr, stream_socket};

/// What a peer does with a request. True: its connection goes on.
pub(crate) type Answer = dyn Fn(&mut Talk<'_>) -> io::Result<bool> + Send + Sync;

/// The server. Its `Display` is its address.
pub(crate) struct Peer {
    address: Address,
    socket: Socket,
    work: Arc<Work>,
    /// Where its socket is, if it is near.
    _folder: Option<Folder>,
}

/// What its threads share.
struct Work {
    answer: Box<Answer>,
    /// What it reports: errors and load; none: no errors, and the requests so far.
    report: Option<(u64, u64)>,
    seen: Watch<Seen>,
}

/// What has reached it.
#[derive(Debug, Default)]
struct Seen {
    requests: Vec<Head>,
    checks: usize,
    connections: usize,
    /// Connections that it has closed, but for those of checks.
    closed: usize,
}

/// A request that reached it, and the connection to answer on.
pub(crate) struct Talk<'w> {
    pub(crate) head: Head,
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) wire: &'w mut Wire,
}

impl Peer {
    /// Answers by `answer`; checks are answered by itself.
    pub(crate) fn start(
        answer: impl Fn(&mut Talk<'_>) -> io::Result<bool> + Send + Sync + 'static,
    ) -> Peer {
        let peer = Peer::asleep(answer);
        peer.wake();
        peer
    }

    /// Holds its port, and refuses every connection until it is woken.
    pub(crate) fn asleep(
        answer: impl Fn(&mut Talk<'_>) -> io::Result<bool> + Send + Sync + 'static,
    ) -> Peer {
        let anywhere = Address::Tcp(([127, 0, 0, 1], 0).into());
        Peer::bound(anywhere, None, Box::new(answer), None)
    }

    /// As `start`, at a unix socket, so that the balancer can `catch_up` with it.
    pub(crate) fn near(
        answer: impl Fn(&mut Talk<'_>) -> io::Result<bool> + Send + Sync + 'static,
    ) -> Peer {
        Peer::near_reporting(answer, None)
    }

    /// As `near`; always reports these errors and this load.
    pub(crate) fn near_reporting(
        answer: impl Fn(&mut Talk<'_>) -> io::Result<bool> + Send + Sync + 'static,
        report: Option<(u64, u64)>,
    ) -> Peer {
        let folder = Folder::new();
        let address = Address::Unix(folder.path().join("peer"));
        let peer = Peer::bound(address, Some(folder), Box::new(answer), report);
        peer.wake();
        peer
    }

    fn bound(
        address: Address,
        folder: Option<Folder>,
        answer: Box<Answer>,
        report: Option<(u64, u64)>,
    ) -> Peer {
        let socket = stream_socket(&address);
        socket.bind(&sock_addr(&address)).unwrap();
        let bound = socket.local_addr().unwrap().as_socket();
        Peer {
            address: bound.map_or(address, Address::Tcp),
            socket,
            work: Arc::new(Work {
                answer,
                report,
                seen: Watch::new(Seen::default()),
            }),
            _folder: folder,
        }
    }

    pub(crate) fn wake(&self) {
        self.socket.listen(1024).unwrap();
        let listener = self.socket.try_clone().unwrap();
        let work = Arc::clone(&self.work);
        thread::spawn(move || {
            while let Ok((socket, _)) = listener.accept() {
                let work = Arc::clone(&work);
                work.seen.change(|seen| seen.connections += 1);
                // Whatever fails on a connection ends it, and nothing else.
                thread::spawn(move || {
                    let mut wire = Wire::new(socket);
                    let mut served = 0;
                    let _ = work.serve(&mut wire, &mut served);
                    drop(wire);
                    work.seen.change(|seen| seen.closed += served.min(1));
                });
            }
        });
    }

    /// The targets that reached it, in their order.
    pub(crate) fn targets(&self) -> Vec<String> {
        self.work.seen.look(|seen| {
            let heads = seen.requests.iter();
            heads
                .map(|head| head.first.split(' ').nth(1).unwrap_or_default().to_owned())
                .collect()
        })
    }

    /// The only request that has reached it.
    pub(crate) fn request(&self) -> Head {
        self.work.seen.look(|seen| {
            assert_eq!(seen.requests.len(), 1, "{:?}", seen.requests);
            seen.requests[0].clone()
        })
    }

    /// Connections that it has accepted.
    pub(crate) fn connections(&self) -> usize {
        self.work.seen.look(|seen| seen.connections)
    }

    /// Checks that it has answered.
    pub(crate) fn checks(&self) -> usize {
        self.work.seen.look(|seen| seen.checks)
    }

    pub(crate) fn await_requests(&self, count: usize) {
        let what = format!("{count} requests reach a server");
        self.work
            .seen
            .until(&what, |seen| (seen.requests.len() >= count).then_some(()));
    }

    /// Waits until it has closed so many connections that had brought requests.
    pub(crate) fn await_closed(&self, count: usize) {
        let what = format!("a server closes {count} connections");
        self.work
            .seen
            .until(&what, |seen| (seen.closed >= count).then_some(()));
    }

    pub(crate) fn await_checks(&self, count: usize) {
        let what = format!("a server is checked {count} times");
        self.work
            .seen
            .until(&what, |seen| (seen.checks >= count).then_some(()));
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // Wakes the thread that accepts, which ends then.
        let _ = self.socket.shutdown(Shutdown::Both);
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.address.fmt(out)
    }
}

impl Work {
    /// One connection, to its end; counts what it has served but for checks.
    fn serve(&self, wire: &mut Wire, served: &mut usize) -> io::Result<()> {
        while let Some(head) = wire.head()? {
            let mut words = head.first.split(' ').map(str::to_owned);
            let method = words.next().unwrap_or_default();
            let target = words.next().unwrap_or_default();
            if target == "/healthcheck" {
                let count = self.seen.look(|seen| seen.requests.len());
                let (errors, load) = self.report.unwrap_or((0, count as u64));
                wire.send(reply(200, &[], format!("{errors}\n{load}\n")))?;
                self.seen.change(|seen| seen.checks += 1);
                continue;
            }
            self.seen.change(|seen| seen.requests.push(head.clone()));
            *served += 1;
            let mut talk = Talk {
                head,
                method,
                target,
                wire,
            };
            if !(self.answer)(&mut talk)? {
                return Ok(());
            }
        }
        Ok(())
    }
}

impl Talk<'_> {
    /// The content; asks for it if the client waits to be asked.
    pub(crate) fn content(&mut self) -> io::Result<Vec<u8>> {
        if self.head.field("Expect").is_some() {
            self.wire.send("HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        if self.head.field("Transfer-Encoding").is_some() {
            return self.wire.chunked();
        }
        let length = self.head.field("Content-Length").unwrap_or("0");
        self.wire.exactly(length.parse().unwrap())
    }

    /// Reads the request to its end, then answers it.
    pub(crate) fn reply(
        &mut self,
        status: u16,
        fields: &[&str],
        content: impl AsRef<[u8]>,
    ) -> io::Result<bool> {
        self.content()?;
        self.wire.send(reply(status, fields, content))?;
        Ok(true)
    }
}

/// A response with a length.
pub(crate) fn reply(status: u16, fields: &[&str], content: impl AsRef<[u8]>) -> Vec<u8> {
    let content = content.as_ref();
    let mut bytes = format!("HTTP/1.1 {status} Word\r\n").into_bytes();
    for field in fields {
        bytes.extend_from_slice(field.as_bytes());
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(format!("Content-Length: {}\r\n\r\n", content.len()).as_bytes());
    bytes.extend_from_slice(content);
    bytes
}

/// Answers everything with `name` in the field Server.
pub(crate) fn answers_as(
    name: &'static str,
) -> impl Fn(&mut Talk<'_>) -> io::Result<bool> + Send + Sync {
    move |talk| talk.reply(200, &[&format!("Server: {name}")], "")
}

/// Answers with the target.
pub(crate) fn tells_target(talk: &mut Talk<'_>) -> io::Result<bool> {
    let target = talk.target.clone();
    talk.reply(200, &[], target)
}

/// Sends back the content, and the target in a field.
pub(crate) fn echoes(talk: &mut Talk<'_>) -> io::Result<bool> {
    let content = talk.content()?;
    let fields = [format!("X-Target: {}", talk.target)];
    talk.wire.send(reply(200, &[&fields[0]], content))?;
    Ok(true)
}

/// Reads all of the request, and closes without an answer.
pub(crate) fn reads_and_closes(talk: &mut Talk<'_>) -> io::Result<bool> {
    talk.content()?;
    Ok(false)
}

/// Never answers.
pub(crate) fn hangs(talk: &mut Talk<'_>) -> io::Result<bool> {
    talk.wire.until_end()?;
    Ok(false)
}
