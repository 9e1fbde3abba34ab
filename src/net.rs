//! The seam between the loop and the world: sockets, time, readiness and signals.
//!
//! Knows no word of HTTP. `net::mio` is the real network; the tests bring one of virtual time.
//! All that the loop learns of the outside comes through these two traits, so whoever implements
//! them decides every fault and every order of events.

pub mod mio;
pub mod pipe;
#[cfg(test)]
pub mod stub;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::ops::{Add, Sub};
use std::time::{Duration, SystemTime};

use crate::config::Address;

/// A moment of the network's monotonic clock, in nanoseconds since the network began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Time(pub u64);

impl Time {
    /// Later than every moment that comes.
    pub const NEVER: Time = Time(u64::MAX);

    /// How long ago `earlier` was; zero if it is not yet past.
    pub fn since(self, earlier: Time) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Time {
    type Output = Time;
    fn add(self, span: Duration) -> Time {
        Time(
            self.0
                .saturating_add(u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)),
        )
    }
}

impl Sub<Time> for Time {
    type Output = Duration;
    fn sub(self, earlier: Time) -> Duration {
        self.since(earlier)
    }
}

/// Whose socket it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Owner {
    /// The socket that clients connect to.
    Listener,
    /// A client's connection.
    Client,
    /// A connection to a server.
    Link,
    /// A connection of a health check.
    Probe,
    /// A connection to the admin listener.
    Admin,
}

/// Names one socket for the whole life of the process: owner, slot and generation.
///
/// A slot is used again, a token never is (until 2^29 sockets have passed through one slot), so an
/// event of a socket that was closed cannot reach the socket that took its slot.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Token(u64);

impl Token {
    /// Generations run from 0 to this, then from 0 again.
    pub const GENERATION_MAX: u32 = (1 << 29) - 1;
    /// The listener of clients.
    pub const DOOR: Token = Token::new(Owner::Listener, 0, 0);
    /// The admin listener.
    pub const ADMIN_DOOR: Token = Token::new(Owner::Listener, 1, 0);

    /// The token of `slot` in its `generation`, of which the lowest 29 bits count.
    pub const fn new(owner: Owner, slot: u32, generation: u32) -> Token {
        let generation = (generation & Token::GENERATION_MAX) as u64;
        Token((owner as u64) << 61 | generation << 32 | slot as u64)
    }

    /// Whose socket it is.
    pub fn owner(self) -> Owner {
        match self.0 >> 61 {
            0 => Owner::Listener,
            1 => Owner::Client,
            2 => Owner::Link,
            3 => Owner::Probe,
            _ => Owner::Admin,
        }
    }

    /// The place in its owner's slab.
    pub fn slot(self) -> usize {
        (self.0 & 0xffff_ffff) as usize
    }

    /// Which of the sockets that used the slot one after the other.
    pub fn generation(self) -> u32 {
        (self.0 >> 32) as u32 & Token::GENERATION_MAX
    }

    /// The token as one number, for a poller's user data.
    pub fn bits(self) -> u64 {
        self.0
    }

    /// The token of a number that `bits` gave.
    pub fn from_bits(bits: u64) -> Token {
        Token(bits)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            out,
            "{:?}({}.{})",
            self.owner(),
            self.slot(),
            self.generation()
        )
    }
}

/// What a socket is ready for, as edges told and calls took back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ready(u8);

impl Ready {
    /// Nothing.
    pub const NONE: Ready = Ready(0);
    /// A receive may give bytes, an end or an error.
    pub const READABLE: Ready = Ready(1);
    /// A send may take bytes.
    pub const WRITABLE: Ready = Ready(2);
    /// The peer will send no more: its end is to be read behind what is there.
    pub const PEER_CLOSED: Ready = Ready(4);
    /// The connection is gone in both directions: reset, or refused.
    pub const HUNG_UP: Ready = Ready(8);

    /// Whether all of `other` is in it.
    pub fn has(self, other: Ready) -> bool {
        self.0 & other.0 == other.0
    }

    /// Adds `other`.
    pub fn add(&mut self, other: Ready) {
        self.0 |= other.0;
    }

    /// Takes `other` away.
    pub fn remove(&mut self, other: Ready) {
        self.0 &= !other.0;
    }

    /// Both sets together.
    pub fn with(self, other: Ready) -> Ready {
        Ready(self.0 | other.0)
    }
}

/// One edge: a socket became ready for something more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event {
    /// The socket, as it was watched.
    pub token: Token,
    /// What it is ready for now.
    pub ready: Ready,
}

/// What the operator's signals ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// TERM or INT: finish what runs, then end; said again: end at once.
    Stop,
    /// USR1: the files that are written were moved away; write to new ones in their place.
    Reopen,
    /// HUP: what was read at the start may be different now; read it again.
    Reload,
    /// USR2: start a successor, and let it take over.
    Upgrade,
}

/// One non-blocking stream socket.
pub trait Socket {
    /// What carries bytes from one socket to another without their being read (Linux: a pipe, by
    /// splice(2)). `Infallible` where there is no such thing.
    type Pipe;

    /// Receives into `buffer` as many bytes as are there; 0: the peer has ended its stream.
    ///
    /// # Errors
    /// `WouldBlock` when nothing is there; any other error ends the connection.
    fn recv(&mut self, buffer: &mut [u8]) -> io::Result<usize>;

    /// Sends as many of `bytes` as there is room for; on a connection that is still being made,
    /// this too is `WouldBlock`.
    ///
    /// # Errors
    /// `WouldBlock` when there is no room; any other error ends the connection.
    fn send(&mut self, bytes: &[u8]) -> io::Result<usize>;

    /// Tells the peer that no more bytes will come.
    ///
    /// # Errors
    /// Those of the operating system; the connection is then of no more use.
    fn shutdown_write(&mut self) -> io::Result<()>;

    /// From now on dropping the socket resets the connection, so that the peer does not take the end
    /// of what came for the end of what was meant.
    fn abort(&mut self);

    /// How the making of the connection went, once an edge told of the socket.
    ///
    /// # Errors
    /// Why it could not be made; `NotConnected` while that is still open.
    fn connected(&mut self) -> io::Result<()>;

    /// Whether bytes of it can go through pipes, and come out of them.
    fn is_spliceable(&self) -> bool {
        false
    }

    /// A new pipe, empty; none: there is none to be had, now or ever.
    fn pipe(&mut self) -> Option<Self::Pipe> {
        None
    }

    /// Moves bytes that are there into `pipe`, which must be empty: at most `most`, at least 1 of
    /// them; 0: the peer has ended its stream. Fewer than `most` prove nothing: the pipe may be full.
    ///
    /// # Errors
    /// `WouldBlock` when nothing is there; `Unsupported` where the system does not do this, and
    /// nothing was moved; any other error ends the connection.
    fn splice_in(&mut self, _pipe: &mut Self::Pipe, _most: usize) -> io::Result<usize> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Sends the first of the `held` bytes that are in `pipe`, as many as there is room for, at
    /// least 1 of them. Fewer than `held` prove nothing.
    ///
    /// # Errors
    /// `WouldBlock` when there is no room; any other error ends the connection.
    fn splice_out(&mut self, _pipe: &mut Self::Pipe, _held: usize) -> io::Result<usize> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// Events that one poll brings at most; the rest comes with the next.
pub const EVENTS_MAX: usize = 1024;

/// The network that a loop lives on.
pub trait Net {
    /// Its stream sockets.
    type Socket: Socket;

    /// This moment. Never goes back.
    fn now(&self) -> Time;

    /// This moment for people, for `Date` fields. May go back.
    fn date(&self) -> SystemTime;

    /// Waits until something is ready, a signal came or `timeout` is over (none: as long as it
    /// takes) and appends what happened to `events`.
    ///
    /// Readiness is edge-triggered: a socket is told of again only after something new happened.
    ///
    /// # Errors
    /// Those of the operating system; an interrupted wait is not one.
    fn poll(&mut self, timeout: Option<Duration>, events: &mut Vec<Event>) -> io::Result<()>;

    /// The next connection that waits at the listener, with its peer's address if it has one.
    ///
    /// # Errors
    /// `WouldBlock` when none waits; else the attempt failed and may be repeated later.
    fn accept(&mut self) -> io::Result<(Self::Socket, Option<SocketAddr>)>;

    /// The next connection that waits at the admin listener; a network that has none never gives one.
    ///
    /// # Errors
    /// As `accept`.
    fn accept_admin(&mut self) -> io::Result<(Self::Socket, Option<SocketAddr>)> {
        Err(io::ErrorKind::WouldBlock.into())
    }

    /// Stops listening to clients; connections that nobody accepted are refused from now on.
    fn close_listener(&mut self);

    /// Starts a connection; whether it stands is told by an edge, or by the first send.
    ///
    /// # Errors
    /// Those that are known at once.
    fn connect(&mut self, address: &Address) -> io::Result<Self::Socket>;

    /// From now on `poll` tells of `socket` under `token`, in both directions, first of all what it
    /// is ready for already. Once per socket; dropping the socket ends it.
    ///
    /// # Errors
    /// Those of the operating system.
    fn watch(&mut self, socket: &mut Self::Socket, token: Token) -> io::Result<()>;

    /// The next signal that came since the last call.
    fn signal(&mut self) -> Option<Signal>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_keeps_its_three_parts() {
        for owner in [
            Owner::Listener,
            Owner::Client,
            Owner::Link,
            Owner::Probe,
            Owner::Admin,
        ] {
            let token = Token::new(owner, u32::MAX, Token::GENERATION_MAX);
            assert_eq!(token.owner(), owner);
            assert_eq!(token.slot(), u32::MAX as usize);
            assert_eq!(token.generation(), Token::GENERATION_MAX);
            assert_eq!(Token::from_bits(token.bits()), token);
        }
    }

    #[test]
    fn a_generation_beyond_the_last_begins_anew() {
        let token = Token::new(Owner::Probe, 7, Token::GENERATION_MAX.wrapping_add(1));
        assert_eq!(
            (token.owner(), token.slot(), token.generation()),
            (Owner::Probe, 7, 0)
        );
    }

    #[test]
    fn time_saturates_instead_of_wrapping() {
        assert_eq!(Time::NEVER + Duration::from_secs(1), Time::NEVER);
        assert_eq!(Time(1) - Time(2), Duration::ZERO);
    }
}
