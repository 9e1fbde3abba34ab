//! The built-in server: `bestguess origin PORT [DIR]`.
//!
//! A small HTTP/1.1 server of files and of answers made to order, for first steps, tests and
//! benchmarks. It lives on the same seam as the balancer, so that it can run in a simulator too,
//! and is built alike: one thread, one loop, edges. Files are read and written with blocking calls,
//! piece by piece.
//!
//! | request | answer |
//! |---|---|
//! | `GET`, `HEAD` of a file or folder in DIR | the file; `index.html` or a listing |
//! | `PUT` of a file in DIR | 201 or 204, once the whole file stands in its place |
//! | `GET /healthcheck` | the report: errors, load, requests in flight |
//! | `GET /bytes/N`, `/chunked/N` | N bytes of a pattern, with a length or in chunks |
//! | `GET /delay/MS`, `/status/CODE` | a text that much later, or with that status |
//! | `POST /control?delay=50ms&…` | how requests are served now; 404 without `--control` |
//! | any other `GET` | without DIR a text that names the server, else 404 |
//! | `POST` anywhere | how many bytes of content came |
//! | `OPTIONS` | 204 with the methods |
//!
//! `session` is one connection, `site` decides what a request gets, `work` when it is served, `lately`
//! keeps account of that, `files` is the folder, `names` what targets mean in it, `order` those that
//! make an answer to order, `answer` writes, `tools` is what the loop lends. None knows the loop.

mod answer;
mod control;
mod files;
mod lately;
mod names;
mod order;
mod session;
mod site;
#[cfg(test)]
mod tests;
mod tools;
mod work;

use std::collections::VecDeque;
use std::io::{self, Write};
use std::time::Duration;

use log::{info, warn};
use slab::Slab;

use crate::cli;
use crate::conn::Conn;
use crate::deadline::{Deadlines, Rang};
use crate::net::mio::{MioNet, raise_file_limit};
use crate::net::{Event, Net, Owner, Signal, Time, Token};
use crate::proxy::Flow;
use session::{Served, Session, Waiting};
use site::Site;
use tools::Tools;

/// Connections that one turn accepts at most.
const ACCEPTS_MAX: usize = 64;
/// How long accepting pauses when there are no descriptors left, unless one is closed before.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Memory that is free is looked at this often.
const SHRINK_EVERY: Duration = Duration::from_secs(1);
/// A head must be whole, and content or its reading go on, within this.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(30);
/// A connection may be silent between two requests for this long.
const IDLE_TIMEOUT: Duration = Duration::from_secs(75);
/// A client that was turned away may take this long to read why.
const LINGER_TIMEOUT: Duration = Duration::from_secs(2);
/// After the first stop signal, what runs may take this long to finish.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(30);
/// Descriptors that connections never get: the listener, the poll, standard streams, logs.
const DESCRIPTORS_RESERVED: usize = 32;
/// More connections than this are never held, whatever the limit of descriptors.
const CLIENTS_MAX: usize = 1 << 18;

/// The built-in server on one network.
pub struct Origin<N: Net> {
    net: N,
    site: Site,
    tools: Tools,
    events: Vec<Event>,
    sessions: Slab<Session<N::Socket>>,
    /// Time limits of the sessions.
    deadlines: Deadlines,
    /// When answers that were held back are due. A heap of its own: an alarm that is set to an
    /// earlier moment again and again would leave its later entries behind each time.
    delays: Deadlines,
    /// Sessions that have more to do without waiting for anything.
    run: VecDeque<Token>,
    dead: Vec<usize>,
    /// Sockets so far: each gives a generation.
    generation: u32,
    clients_max: usize,
    is_listener_ready: bool,
    accept_again: Time,
    shrink_again: Time,
    drain: Option<Time>,
    is_over: bool,
}

/// What is in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Census {
    /// Connections.
    pub clients: usize,
    /// Blocks of memory that connections hold.
    pub blocks: usize,
}

/// Serves at the address of `settings` until a signal ends it; says where on standard output.
///
/// # Errors
/// The folder or the address cannot be used, or the network failed.
pub fn serve(settings: &cli::Origin) -> io::Result<()> {
    let mut net = MioNet::new()?;
    net.listen(&settings.listen).map_err(|cause| {
        let text = format!("cannot listen on {}: {cause}", settings.listen);
        io::Error::new(cause.kind(), text)
    })?;
    net.hear_signals()?;
    let listening = net.listening();
    let mut origin = Origin::new(net, settings, clients_max())?;
    if let Some(address) = listening {
        say(&format!("origin listening on {address}"));
    }
    while origin.turn()? == Flow::Continue {}
    Ok(())
}

/// Prints one line at once. Whether anybody reads it is no concern of the one who serves.
pub(crate) fn say(line: &str) {
    let mut out = io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

impl<N: Net> Origin<N> {
    /// A server on `net`, which listens already, for at most `clients_max` connections at once.
    ///
    /// # Errors
    /// The folder of `settings` is not there, is no folder, or may not be read.
    pub fn new(net: N, settings: &cli::Origin, clients_max: usize) -> io::Result<Origin<N>> {
        let now = net.now();
        Ok(Origin {
            site: Site::new(settings, now)?,
            tools: Tools::new(now),
            net,
            events: Vec::new(),
            sessions: Slab::new(),
            deadlines: Deadlines::default(),
            delays: Deadlines::default(),
            run: VecDeque::new(),
            dead: Vec::new(),
            generation: 0,
            clients_max: clients_max.max(1),
            is_listener_ready: true,
            accept_again: Time(0),
            shrink_again: now + SHRINK_EVERY,
            drain: None,
            is_over: false,
        })
    }

    /// Serves `page`, HTML in which `{name}` stands for the server's name, at `/`.
    pub(crate) fn with_page(mut self, page: &str) -> Origin<N> {
        self.site.set_page(page);
        self
    }

    /// One pass of the loop.
    ///
    /// # Errors
    /// The poll failed: the network is of no more use.
    pub fn turn(&mut self) -> io::Result<Flow> {
        let timeout = self.timeout();
        let mut events = std::mem::take(&mut self.events);
        self.net.poll(timeout, &mut events)?;
        self.tools.begin_turn(self.net.now(), self.net.date());
        self.site.work.begin_turn(self.tools.now);
        for event in events.drain(..) {
            self.dispatch(event);
        }
        self.events = events;
        self.hear_signals();
        self.run_again();
        self.expire();
        self.accept();
        self.call();
        self.reap();
        self.keep_house();
        Ok(if self.is_over {
            Flow::Stop
        } else {
            Flow::Continue
        })
    }

    /// The network that it lives on.
    pub fn net(&self) -> &N {
        &self.net
    }

    /// The same, to be changed: simulations do.
    pub fn net_mut(&mut self) -> &mut N {
        &mut self.net
    }

    /// What is in use right now.
    pub fn census(&self) -> Census {
        Census {
            clients: self.sessions.len(),
            blocks: self.tools.used_blocks(),
        }
    }

    /// How long the poll may wait; none: until something happens.
    fn timeout(&self) -> Option<Duration> {
        let accept = (self.is_listener_ready && self.may_accept()).then_some(self.accept_again);
        let has_more = !self.run.is_empty() || self.site.work.may_call();
        if has_more || accept == Some(Time(0)) {
            return Some(Duration::ZERO);
        }
        [
            self.deadlines.next(),
            self.delays.next(),
            accept,
            self.drain,
        ]
        .into_iter()
        .flatten()
        .min()
        .map(|next| next.since(self.tools.now))
    }

    /// Takes an edge to its owner; one that belongs to a socket that is gone belongs to nobody.
    fn dispatch(&mut self, event: Event) {
        if event.token.owner() == Owner::Listener {
            self.is_listener_ready = true;
        } else if let Some(session) = self.sessions.get_mut(event.token.slot())
            && session.conn.token() == event.token
        {
            session.conn.take(event);
            self.serve(event.token.slot());
        }
    }

    /// Serves the session in `slot` until it has to wait, or others should have their turn.
    fn serve(&mut self, slot: usize) {
        let Some(session) = self.sessions.get_mut(slot) else {
            return;
        };
        if session.is_dead() {
            return;
        }
        match session.serve(&mut self.tools, &mut self.site) {
            Served::Yield if session.is_in_run => {}
            Served::Yield => {
                session.is_in_run = true;
                self.run.push_back(session.conn.token());
            }
            Served::Gone => self.close(slot),
            Served::Wait => self.wait(slot),
        }
    }

    /// Sees to it that an edge or a deadline will bring the session back.
    fn wait(&mut self, slot: usize) {
        let Some(session) = self.sessions.get_mut(slot) else {
            return;
        };
        // Who was told before the drain began that the connection goes on learns it by the end.
        let is_over = self.tools.is_draining && session.is_idle();
        if is_over || session.conn.watch(&mut self.net).is_err() {
            return self.close(slot);
        }
        let waiting = session.waiting();
        if !session.has_waited_anew(waiting) {
            return;
        }
        let now = self.tools.now;
        let token = session.conn.token();
        let due = match waiting {
            Waiting::Request => now + IDLE_TIMEOUT,
            Waiting::Head | Waiting::Content | Waiting::Reader => now + CLIENT_TIMEOUT,
            Waiting::Linger => now + LINGER_TIMEOUT,
            Waiting::Worker => return session.alarm.clear(),
            Waiting::Due(due) => {
                session.alarm.clear();
                return session.delay.set(due, token, &mut self.delays);
            }
        };
        session.alarm.set(due, token, &mut self.deadlines);
    }

    fn hear_signals(&mut self) {
        while let Some(signal) = self.net.signal() {
            // It writes no files that could be moved away, and the like.
            if signal != Signal::Stop {
                continue;
            }
            if self.drain.is_some() {
                let left = self.sessions.len();
                info!("stopped at once: {left} connections are cut off");
                self.is_over = true;
            } else {
                self.start_to_drain();
            }
        }
    }

    /// Accepts no more, lets idle connections go, and gives the rest time to finish.
    fn start_to_drain(&mut self) {
        // Whoever the kernel has let in already has been promised an answer.
        self.is_listener_ready = true;
        self.accept();
        self.net.close_listener();
        self.is_listener_ready = false;
        self.drain = Some(self.tools.now + DRAIN_TIMEOUT);
        self.tools.is_draining = true;
        let slots: Vec<usize> = self.sessions.iter().map(|(slot, _)| slot).collect();
        for slot in slots {
            // A request may have arrived in this very turn.
            self.serve(slot);
        }
    }

    /// Serves those who stopped only for the sake of others.
    fn run_again(&mut self) {
        for _ in 0..self.run.len() {
            let Some(token) = self.run.pop_front() else {
                break;
            };
            if self.is_at(token)
                && let Some(session) = self.sessions.get_mut(token.slot())
            {
                session.is_in_run = false;
                self.serve(token.slot());
            }
        }
    }

    /// Serves those in the line for whom there is a worker now.
    fn call(&mut self) {
        for _ in 0..self.site.work.line_len() {
            let Some(token) = self.site.work.call() else {
                break;
            };
            if self.is_at(token)
                && let Some(session) = self.sessions.get_mut(token.slot())
                && !session.is_dead()
            {
                session.called(&mut self.site);
                self.serve(token.slot());
            }
        }
    }

    /// Whether the session of `token` is still the one in its slot.
    fn is_at(&self, token: Token) -> bool {
        let session = self.sessions.get(token.slot());
        session.is_some_and(|session| session.conn.token() == token)
    }

    /// Looks at the deadlines that are over, and lets the answers go that were held back till now.
    fn expire(&mut self) {
        let now = self.tools.now;
        while let Some((at, token)) = self.delays.pop(now) {
            if self.is_at(token)
                && let Some(session) = self.sessions.get_mut(token.slot())
                && session.delay.ring(at, token, &mut self.delays) == Rang::Due
            {
                self.serve(token.slot());
            }
        }
        while let Some((at, token)) = self.deadlines.pop(now) {
            let slot = token.slot();
            if self.is_at(token)
                && let Some(session) = self.sessions.get_mut(slot)
                && session.alarm.ring(at, token, &mut self.deadlines) == Rang::Due
            {
                if session.overdue(&mut self.tools, &mut self.site) {
                    self.serve(slot);
                } else {
                    self.close(slot);
                }
            }
        }
        if self.drain.is_some_and(|until| now >= until) {
            warn!(
                "drain timeout: {} connections are cut off",
                self.sessions.len()
            );
            self.is_over = true;
        }
    }

    fn may_accept(&self) -> bool {
        self.drain.is_none() && self.sessions.len() - self.dead.len() < self.clients_max
    }

    /// Accepts who waits at the listener, as long as there is room, and reads from each at once.
    fn accept(&mut self) {
        if self.tools.now < self.accept_again {
            return;
        }
        self.accept_again = Time(0);
        for _ in 0..ACCEPTS_MAX {
            if !self.is_listener_ready || !self.may_accept() {
                return;
            }
            match self.net.accept() {
                Ok((socket, _)) => {
                    let entry = self.sessions.vacant_entry();
                    let slot = entry.key();
                    self.generation = self.generation.wrapping_add(1);
                    let token = Token::new(Owner::Client, slot as u32, self.generation);
                    entry.insert(Session::new(Conn::new(socket, token)));
                    self.serve(slot);
                }
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock => self.is_listener_ready = false,
                    // The one who waited has left: the next may be there.
                    io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted => {}
                    _ => {
                        // The listener tells nothing new until it was emptied once, so it is
                        // tried again whatever happens.
                        warn!("cannot accept: {error}; trying again as connections close");
                        self.accept_again = self.tools.now + ACCEPT_PAUSE;
                        return;
                    }
                },
            }
        }
    }

    /// Ends a session; its slot stays taken until the turn's end.
    fn close(&mut self, slot: usize) {
        if let Some(session) = self.sessions.get_mut(slot)
            && session.bury(&mut self.tools, &mut self.site)
        {
            self.dead.push(slot);
        }
    }

    /// Frees what died in this turn: until here no slot was used again, so that no event of this
    /// turn could reach a successor.
    fn reap(&mut self) {
        if !self.dead.is_empty() {
            // A descriptor is free again.
            self.accept_again = Time(0);
        }
        for slot in self.dead.drain(..) {
            self.sessions.remove(slot);
        }
        if self.drain.is_some() && self.sessions.is_empty() {
            self.is_over = true;
        }
    }

    /// Gives memory back that a burst needed and the present does not.
    fn keep_house(&mut self) {
        if self.tools.now >= self.shrink_again {
            self.shrink_again = self.tools.now + SHRINK_EVERY;
            self.tools.shrink();
            let sessions = &self.sessions;
            let owner = |token: Token| {
                let session = sessions.get(token.slot());
                session.filter(|session| session.conn.token() == token)
            };
            self.deadlines.shrink(sessions.len(), |at, token| {
                owner(token).is_some_and(|session| session.alarm.is_armed(at))
            });
            self.delays.shrink(sessions.len(), |at, token| {
                owner(token).is_some_and(|session| session.delay.is_armed(at))
            });
            self.site.work.shrink(|token| owner(token).is_some());
        }
    }
}

/// Raises the limit of descriptors as far as it goes, and tells how many connections it leaves room
/// for: each may have a file open.
fn clients_max() -> usize {
    let files = raise_file_limit();
    (files.saturating_sub(DESCRIPTORS_RESERVED) / 2).clamp(1, CLIENTS_MAX)
}
