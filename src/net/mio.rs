//! The real network: mio's poll, TCP and unix sockets, and the process's signals.
//!
//! Sets the options of sockets and turns mio's events into ours. Knows nothing of what is sent. The
//! socket that clients connect to is `listener`'s.

mod listener;

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::time::{Duration, Instant, SystemTime};

use mio::net::{TcpStream, UnixStream};
use mio::{Events, Interest, Poll, Waker};
use rustix::process::{self, Resource, Rlimit, getrlimit, setrlimit};
use signal_hook_mio::v1_0::Signals;
use socket2::SockRef;

pub use listener::Listener;

use super::pipe::Pipe;
use super::{EVENTS_MAX, Event, Net, Ready, Signal, Socket, Time, Token};
use crate::config::Address;

/// More open files than one process will ever serve.
const FILES_MAX: usize = 1 << 20;
/// The signals' token: an owner that no socket of ours has.
const SIGNALS: mio::Token = mio::Token(usize::MAX);
/// The waker's token, another such owner.
const WAKER: mio::Token = mio::Token(usize::MAX - 1);
/// The token of those who are not the loop's own.
const GUEST: mio::Token = mio::Token(usize::MAX - 2);
/// The signals that are heard, and what each asks for.
const HEARD: [(process::Signal, Signal); 5] = [
    (process::Signal::TERM, Signal::Stop),
    (process::Signal::INT, Signal::Stop),
    (process::Signal::USR1, Signal::Reopen),
    (process::Signal::HUP, Signal::Reload),
    (process::Signal::USR2, Signal::Upgrade),
];

/// The network of this machine.
pub struct MioNet {
    poll: Poll,
    events: Events,
    listener: Option<Listener>,
    admin: Option<Listener>,
    signals: Option<Signals>,
    /// What signals asked for and nobody took yet: never more than `HEARD` has, if the loop takes
    /// all in each turn.
    asked: VecDeque<Signal>,
    has_guest_news: bool,
    wake_at: Time,
    began: Instant,
}

/// A connected stream of this machine.
#[derive(Debug)]
pub enum Stream {
    /// TCP over IPv4 or IPv6.
    Tcp(TcpStream),
    /// A unix-domain stream.
    Unix(UnixStream),
}

impl MioNet {
    /// A network without a listener: it connects, and accepts nothing.
    ///
    /// # Errors
    /// Those of the operating system.
    pub fn new() -> io::Result<MioNet> {
        Ok(MioNet {
            poll: Poll::new()?,
            events: Events::with_capacity(EVENTS_MAX),
            listener: None,
            admin: None,
            signals: None,
            asked: VecDeque::with_capacity(HEARD.len()),
            has_guest_news: false,
            wake_at: Time::NEVER,
            began: Instant::now(),
        })
    }

    /// Listens at `address`, alone.
    ///
    /// # Errors
    /// Those of the operating system: the address is taken, not ours, or not allowed.
    pub fn listen(&mut self, address: &Address) -> io::Result<()> {
        self.attach(Listener::bind(address, false)?)
    }

    /// Accepts from `listener` from now on.
    ///
    /// # Errors
    /// Those of the operating system.
    pub fn attach(&mut self, mut listener: Listener) -> io::Result<()> {
        listener.register(self.poll.registry(), mio_token(Token::DOOR))?;
        self.listener = Some(listener);
        Ok(())
    }

    /// Listens to those who administer, from now on.
    ///
    /// # Errors
    /// Those of the operating system.
    pub fn attach_admin(&mut self, mut listener: Listener) -> io::Result<()> {
        listener.register(self.poll.registry(), mio_token(Token::ADMIN_DOOR))?;
        self.admin = Some(listener);
        Ok(())
    }

    /// Accepts no more, from clients or those who administer, but closes nothing: another process has
    /// the sockets too.
    pub fn leave_listeners(&mut self) {
        let listeners = [self.listener.take(), self.admin.take()];
        for listener in listeners.into_iter().flatten() {
            listener.leave(self.poll.registry());
        }
    }

    /// The socket that clients connect to, if there is one.
    pub fn listener(&self) -> Option<&Listener> {
        self.listener.as_ref()
    }

    /// The socket that those who administer connect to, if there is one.
    pub fn admin(&self) -> Option<&Listener> {
        self.admin.as_ref()
    }

    /// From now on `poll` returns too when something comes from `guest`, which is not the loop's own,
    /// or its other side ends.
    ///
    /// # Errors
    /// Those of the operating system.
    pub fn watch_guest(&self, guest: &mut impl mio::event::Source) -> io::Result<()> {
        let registry = self.poll.registry();
        registry.register(guest, GUEST, Interest::READABLE)
    }

    /// Whether something came from a guest since the last call.
    pub fn take_guest_news(&mut self) -> bool {
        std::mem::take(&mut self.has_guest_news)
    }

    /// No wait goes on beyond `at`, whatever the loop is content with.
    pub fn wake_at(&mut self, at: Time) {
        self.wake_at = at;
    }

    /// Hears of TERM, INT, HUP, USR1 and USR2 from now on, instead of being ended by them.
    ///
    /// # Errors
    /// Those of the operating system.
    pub fn hear_signals(&mut self) -> io::Result<()> {
        let mut signals = Signals::new(HEARD.map(|(heard, _)| heard.as_raw()))?;
        self.poll
            .registry()
            .register(&mut signals, SIGNALS, Interest::READABLE)?;
        self.signals = Some(signals);
        Ok(())
    }

    /// What wakes the poll from another thread. To be asked for once.
    ///
    /// # Errors
    /// Those of the operating system.
    pub fn waker(&self) -> io::Result<Waker> {
        Waker::new(self.poll.registry(), WAKER)
    }

    /// The address that the listener really has: the port is the one that the system chose for 0.
    pub fn listening(&self) -> Option<Address> {
        self.listener.as_ref()?.address().ok()
    }

    /// The same of the admin listener.
    pub fn listening_admin(&self) -> Option<Address> {
        self.admin.as_ref()?.address().ok()
    }

    /// Stops listening to those who administer.
    pub fn close_admin(&mut self) {
        if let Some(listener) = self.admin.take() {
            listener.close(self.poll.registry());
        }
    }
}

impl Net for MioNet {
    type Socket = Stream;

    fn now(&self) -> Time {
        Time(u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    fn date(&self) -> SystemTime {
        SystemTime::now()
    }

    fn poll(&mut self, timeout: Option<Duration>, events: &mut Vec<Event>) -> io::Result<()> {
        let timeout = match self.wake_at {
            Time::NEVER => timeout,
            at => {
                let span = at.since(self.now());
                Some(timeout.map_or(span, |timeout| timeout.min(span)))
            }
        };
        match self.poll.poll(&mut self.events, timeout) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            other => other?,
        }
        for event in &self.events {
            if event.token() == SIGNALS {
                if let Some(signals) = &mut self.signals {
                    // Each number once, however often it came.
                    let came = signals.pending();
                    self.asked.extend(came.filter_map(asked_by));
                }
                continue;
            }
            if event.token() == WAKER {
                // Whoever woke us is looked after behind the turn.
                continue;
            }
            if event.token() == GUEST {
                self.has_guest_news = true;
                continue;
            }
            let mut ready = Ready::NONE;
            for (is, what) in [
                (event.is_readable(), Ready::READABLE),
                (event.is_writable(), Ready::WRITABLE),
                (event.is_read_closed(), Ready::PEER_CLOSED),
                (event.is_error() || event.is_write_closed(), Ready::HUNG_UP),
            ] {
                if is {
                    ready.add(what);
                }
            }
            events.push(Event {
                token: Token::from_bits(event.token().0 as u64),
                ready,
            });
        }
        Ok(())
    }

    fn accept(&mut self) -> io::Result<(Stream, Option<SocketAddr>)> {
        accept_from(self.listener.as_ref())
    }

    fn accept_admin(&mut self) -> io::Result<(Stream, Option<SocketAddr>)> {
        accept_from(self.admin.as_ref())
    }

    fn close_listener(&mut self) {
        if let Some(listener) = self.listener.take() {
            listener.close(self.poll.registry());
        }
    }

    fn connect(&mut self, address: &Address) -> io::Result<Stream> {
        match address {
            Address::Tcp(address) => {
                let stream = TcpStream::connect(*address)?;
                stream.set_nodelay(true)?;
                Ok(Stream::Tcp(stream))
            }
            Address::Unix(path) => Ok(Stream::Unix(UnixStream::connect(path)?)),
        }
    }

    fn watch(&mut self, socket: &mut Stream, token: Token) -> io::Result<()> {
        let registry = self.poll.registry();
        let both = Interest::READABLE | Interest::WRITABLE;
        match socket {
            Stream::Tcp(stream) => registry.register(stream, mio_token(token), both),
            Stream::Unix(stream) => registry.register(stream, mio_token(token), both),
        }
    }

    fn signal(&mut self) -> Option<Signal> {
        self.asked.pop_front()
    }
}

impl Socket for Stream {
    type Pipe = Pipe;

    fn recv(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.read(buffer),
            Stream::Unix(stream) => stream.read(buffer),
        }
    }

    fn send(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.write(bytes),
            Stream::Unix(stream) => stream.write(bytes),
        }
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        match self {
            Stream::Tcp(stream) => stream.shutdown(Shutdown::Write),
            Stream::Unix(stream) => stream.shutdown(Shutdown::Write),
        }
    }

    fn abort(&mut self) {
        // Closing with a linger time of zero sends a reset. Unix sockets know no such thing.
        if let Stream::Tcp(stream) = self {
            let _ = SockRef::from(&*stream).set_linger(Some(Duration::ZERO));
        }
    }

    fn connected(&mut self) -> io::Result<()> {
        let (error, peer) = match self {
            Stream::Tcp(stream) => (stream.take_error()?, stream.peer_addr().map(drop)),
            Stream::Unix(stream) => (stream.take_error()?, stream.peer_addr().map(drop)),
        };
        match error {
            Some(error) => Err(error),
            None => peer.map_err(|_| io::ErrorKind::NotConnected.into()),
        }
    }

    fn is_spliceable(&self) -> bool {
        // Unix sockets can be spliced on some kernels, and gain nothing: their bytes are copied.
        matches!(self, Stream::Tcp(_))
    }

    fn pipe(&mut self) -> Option<Pipe> {
        Pipe::new()
    }

    fn splice_in(&mut self, pipe: &mut Pipe, most: usize) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => pipe.splice_in(stream, most),
            Stream::Unix(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    fn splice_out(&mut self, pipe: &mut Pipe, held: usize) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => pipe.splice_out(stream, held),
            Stream::Unix(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }
}

fn accept_from(listener: Option<&Listener>) -> io::Result<(Stream, Option<SocketAddr>)> {
    match listener {
        Some(listener) => listener.accept(),
        None => Err(io::ErrorKind::WouldBlock.into()),
    }
}

/// Raises the limit of open files as far as it goes, and tells how many there may be, at most 2^20.
pub fn raise_file_limit() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    let files = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    };
    let files = files.and_then(|files| usize::try_from(files).ok());
    files.unwrap_or(FILES_MAX).min(FILES_MAX)
}

/// What the signal with this number asks for.
fn asked_by(number: i32) -> Option<Signal> {
    let mut heard = HEARD.iter();
    heard
        .find(|(heard, _)| heard.as_raw() == number)
        .map(|(_, asked)| *asked)
}

fn mio_token(token: Token) -> mio::Token {
    const { assert!(usize::BITS == 64, "a token needs 64 bits") };
    mio::Token(token.bits() as usize)
}
