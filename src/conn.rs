//! One socket: fills and flushes, and the readiness that edges told of.
//!
//! The only place where bytes cross the seam. A readiness bit is cleared when a call would block,
//! or behind a short call, where epoll(7) promises an edge for what comes later. Knows no HTTP.

use std::io;

use crate::mutant::{self, Mutant};
use crate::net::{Event, Net, Ready, Socket, Token};

/// One non-blocking connection.
#[derive(Debug)]
pub struct Conn<S> {
    socket: S,
    token: Token,
    ready: Ready,
    watched: bool,
    moved: Moved,
}

/// Bytes that went over connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Moved {
    /// From the peer.
    pub received: u64,
    /// To the peer.
    pub sent: u64,
}

impl Moved {
    /// Both together.
    pub fn with(self, other: Moved) -> Moved {
        Moved {
            received: self.received + other.received,
            sent: self.sent + other.sent,
        }
    }
}

/// What a fill brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filled {
    /// So many bytes, at least one.
    Some(usize),
    /// Nothing now; an edge will tell.
    Blocked,
    /// The peer has ended its stream: nothing more will ever come.
    End,
    /// The connection is broken.
    Broken,
}

/// What a flush reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flushed {
    /// So many bytes were taken, perhaps none; if not all, an edge will tell when to go on.
    Some(usize),
    /// The connection is broken.
    Broken(io::ErrorKind),
}

impl<S: Socket> Conn<S> {
    /// A connection that is tried before it is watched: most have work at once.
    pub fn new(socket: S, token: Token) -> Conn<S> {
        Conn {
            socket,
            token,
            ready: Ready::READABLE.with(Ready::WRITABLE),
            watched: false,
            moved: Moved::default(),
        }
    }

    /// The name that its events carry.
    pub fn token(&self) -> Token {
        self.token
    }

    /// What it is ready for.
    pub fn ready(&self) -> Ready {
        self.ready
    }

    /// Bytes that went over it so far, both ways.
    pub fn moved(&self) -> u64 {
        self.moved.received + self.moved.sent
    }

    /// The same, each way.
    pub fn moved_each_way(&self) -> Moved {
        self.moved
    }

    /// Takes an edge in.
    pub fn take(&mut self, event: Event) {
        self.ready.add(event.ready);
    }

    /// It is worth a try, though no edge told of it yet.
    pub fn expect(&mut self, ready: Ready) {
        self.ready.add(ready);
    }

    /// Whether a fill may bring something.
    pub fn is_readable(&self) -> bool {
        self.ready.has(Ready::READABLE)
    }

    /// Whether a flush may take something.
    pub fn is_writable(&self) -> bool {
        self.ready.has(Ready::WRITABLE)
    }

    /// Whether both directions are gone: reset, refused, or closed after we had ended ours.
    pub fn is_hung_up(&self) -> bool {
        self.ready.has(Ready::HUNG_UP)
    }

    /// Whether the peer has said that it will send no more; bytes may still be there.
    pub fn is_peer_closed(&self) -> bool {
        self.ready.has(Ready::PEER_CLOSED)
    }

    /// Whether the peer has ended its direction, or both are gone.
    pub fn has_ended(&self) -> bool {
        self.is_hung_up() || self.is_peer_closed()
    }

    /// Whether a resting connection is of no more use: its peer closed it, or sent what nobody asked
    /// for. Costs a call into the kernel only if something was heard of it.
    pub fn is_spent(&mut self) -> bool {
        self.has_ended() || (self.is_readable() && self.fill(&mut [0]) != Filled::Blocked)
    }

    /// Sees to it that edges are told of. Only the first call costs anything.
    ///
    /// # Errors
    /// Those of the operating system: the connection cannot be served.
    pub fn watch<N: Net<Socket = S>>(&mut self, net: &mut N) -> io::Result<()> {
        if !self.watched {
            net.watch(&mut self.socket, self.token)?;
            self.watched = true;
        }
        Ok(())
    }

    /// Its end, when it comes, is a reset.
    pub fn abort(&mut self) {
        self.socket.abort();
    }

    /// Receives once into `room`, which must not be empty.
    pub fn fill(&mut self, room: &mut [u8]) -> Filled {
        debug_assert!(!room.is_empty());
        loop {
            match self.socket.recv(room) {
                Ok(0) => {
                    self.ready.remove(Ready::READABLE);
                    return Filled::End;
                }
                Ok(count) => {
                    // Behind a short read the socket is empty, unless the end is to be read yet.
                    if count < room.len() && !self.ready.has(Ready::PEER_CLOSED)
                        || mutant::is(Mutant::ReadinessLostBehindAnyRead)
                    {
                        self.ready.remove(Ready::READABLE);
                    }
                    self.moved.received += count as u64;
                    return Filled::Some(count);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.ready.remove(Ready::READABLE);
                    return Filled::Blocked;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => {
                    self.ready.remove(Ready::READABLE);
                    return Filled::Broken;
                }
            }
        }
    }

    /// Sends `bytes` as far as there is room for them.
    pub fn flush(&mut self, bytes: &[u8]) -> Flushed {
        loop {
            match self.socket.send(bytes) {
                Ok(count) => {
                    if count < bytes.len() {
                        self.ready.remove(Ready::WRITABLE);
                    }
                    self.moved.sent += count as u64;
                    return Flushed::Some(count);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.ready.remove(Ready::WRITABLE);
                    return Flushed::Some(0);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return self.broke(error.kind()),
            }
        }
    }

    /// Nothing more can be sent.
    fn broke(&mut self, kind: io::ErrorKind) -> Flushed {
        self.ready.remove(Ready::WRITABLE);
        // What came before the break may still be there to be read.
        self.ready.add(Ready::READABLE);
        Flushed::Broken(kind)
    }

    /// Whether bytes of it can go through pipes, and come out of them.
    pub fn is_spliceable(&self) -> bool {
        self.socket.is_spliceable()
    }

    /// A new pipe, if one can be had.
    pub fn pipe(&mut self) -> Option<S::Pipe> {
        self.socket.pipe()
    }

    /// Receives once into `pipe`, which must be empty, at most `most` bytes, at least 1. None: the
    /// system does not do this, and nothing is lost.
    pub fn splice_in(&mut self, pipe: &mut S::Pipe, most: usize) -> Option<Filled> {
        debug_assert!(most > 0);
        loop {
            match self.socket.splice_in(pipe, most) {
                Ok(0) => {
                    self.ready.remove(Ready::READABLE);
                    return Some(Filled::End);
                }
                // A short one proves nothing: the pipe may have been full with less than was asked.
                Ok(count) => {
                    if count < most && mutant::is(Mutant::ReadinessLostBehindAnySplice) {
                        self.ready.remove(Ready::READABLE);
                    }
                    self.moved.received += count as u64;
                    return Some(Filled::Some(count));
                }
                Err(error) => match error.kind() {
                    // The pipe was empty, so it is the socket that has nothing.
                    io::ErrorKind::WouldBlock => {
                        self.ready.remove(Ready::READABLE);
                        return Some(Filled::Blocked);
                    }
                    io::ErrorKind::Interrupted => {}
                    io::ErrorKind::Unsupported => return None,
                    _ => {
                        self.ready.remove(Ready::READABLE);
                        return Some(Filled::Broken);
                    }
                },
            }
        }
    }

    /// Sends once from `pipe`, in which there are `held` bytes, at least 1.
    pub fn splice_out(&mut self, pipe: &mut S::Pipe, held: usize) -> Flushed {
        debug_assert!(held > 0);
        loop {
            match self.socket.splice_out(pipe, held) {
                Ok(count) => {
                    if count < held && mutant::is(Mutant::ReadinessLostBehindAnySplice) {
                        self.ready.remove(Ready::WRITABLE);
                    }
                    self.moved.sent += count as u64;
                    return Flushed::Some(count);
                }
                Err(error) => match error.kind() {
                    // Something is in the pipe, so it is the socket that has no room.
                    io::ErrorKind::WouldBlock => {
                        self.ready.remove(Ready::WRITABLE);
                        return Flushed::Some(0);
                    }
                    io::ErrorKind::Interrupted => {}
                    kind => return self.broke(kind),
                },
            }
        }
    }

    /// How the making of the connection went (see `Socket::connected`).
    ///
    /// # Errors
    /// Why it could not be made; `NotConnected` while that is still open.
    pub fn connected(&mut self) -> io::Result<()> {
        self.socket.connected()
    }

    /// Ends our direction of the stream.
    pub fn shutdown_write(&mut self) {
        // A connection that cannot be ended in good order is broken, and every next call says so.
        let _ = self.socket.shutdown_write();
    }
}
