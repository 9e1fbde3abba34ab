//! The loop: all clients, links and checks, and the turn that serves them.
//!
//! `turn` is the only loop of the process. It polls, serves whom something happened to, looks at
//! deadlines, accepts, admits from the queue and reaps. How one client is served is in `serve`, what
//! becomes of it when something goes wrong in `fail`, who gets a place and a link in `places` and
//! `stick`, how servers are checked in `checks`, how they come and go in `change`, what is given back
//! behind a burst in `house`, how it all ends in `drain`.

mod admin;
mod change;
mod checks;
mod drain;
mod fail;
mod house;
mod places;
mod serve;
mod stick;

use std::collections::VecDeque;
use std::fmt::Write;
use std::io;
use std::time::Duration;

use httpdate::HttpDate;
use log::warn;
use slab::Slab;

use crate::access::Access;
use crate::admin::Admin;
use crate::admin::view::State;
use crate::buffer::Pool;
use crate::client::{Client, Task, Told, Tools};
use crate::config::{Address, CheckConfig, CheckMode, Config, ServerConfig};
use crate::conn::Conn;
use crate::deadline::{Deadlines, Rang};
use crate::guess::Guess;
use crate::health::{Health, Rounds};
use crate::http::head;
use crate::link::{self, Link, LinkState};
use crate::metrics::{Metrics, ServerMetrics};
use crate::mutant::{self, Mutant};
use crate::net::{EVENTS_MAX, Event, Net, Owner, Signal, Socket, Time, Token};
use crate::pair;
use crate::pipes::Pipes;
use crate::probe::Probe;
use crate::report::Report;
use crate::sticky::Sticky;

pub use change::{Change, Refusal, Setting};

/// Connections that one turn accepts at most.
const ACCEPTS_MAX: usize = 64;
/// How long accepting pauses when there are no descriptors left, unless one is closed before.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long requests wait for a descriptor before they try again, unless one becomes free before.
const LINK_PAUSE: Duration = Duration::from_millis(100);
/// The date is looked up this often.
const DATE_EVERY: Duration = Duration::from_secs(1);

/// The balancer before its servers, on one network.
pub struct Proxy<N: Net> {
    net: N,
    config: Config,
    tools: Tools,
    pipes: Pipes<<N::Socket as Socket>::Pipe>,
    events: Vec<Event>,
    clients: Slab<Client<N::Socket>>,
    links: Slab<Link<N::Socket>>,
    tasks: Slab<Task>,
    /// In the order of `config.servers`; slots that servers have left stay until others come.
    servers: Vec<Server<N::Socket>>,
    /// Servers that were removed and still have something under way.
    leaving: usize,
    must_reload: bool,
    guess: Guess,
    metrics: Metrics,
    admin: Admin<N::Socket>,
    rounds: Rounds,
    deadlines: Deadlines,
    /// Clients that have more to do without waiting for anything.
    run: VecDeque<Token>,
    /// Clients with whole responses that wait for the next one, until then.
    gathering: Vec<Token>,
    gather_until: Time,
    /// Waiting requests, first in first out: ticket, task, and since when. One that left stays as a
    /// dead ticket.
    queue: VecDeque<(u64, usize, Time)>,
    /// Tickets in the queue that are not dead.
    queued: usize,
    tickets: u64,
    /// Exchanges that hold one of the N places.
    held: usize,
    /// Sockets so far: each gives a generation.
    generation: u32,
    dead_clients: Vec<usize>,
    dead_links: Vec<usize>,
    clients_max: usize,
    is_listener_ready: bool,
    accept_again: Time,
    /// There was no descriptor for a link, and when the next is tried.
    lack: Option<Time>,
    /// When that may be told of again.
    lack_told_again: Time,
    shrink_again: Time,
    date_again: Time,
    drain: Option<drain::Drain>,
    is_over: bool,
    is_upgrade_asked: bool,
    seed: u64,
    /// Panics that cost a client its connection.
    bugs: u64,
    first_round: usize,
}

/// One server as the loop sees it.
struct Server<S> {
    setting: Setting,
    health: Health,
    report: Option<Report>,
    reported_at: Time,
    /// What it came to when that was last told (none: it was not there), and since when.
    state: Option<State>,
    state_since: Time,
    /// Whether a check of it has ever ended.
    is_checked: bool,
    probe: Probe<S>,
    /// Links that wait to be used again.
    pool: link::Pool,
    metrics: Box<ServerMetrics>,
}

impl<S: Socket> Server<S> {
    fn new(config: &ServerConfig, check: &CheckConfig) -> Server<S> {
        Server {
            setting: Setting::Enabled,
            health: Health::default(),
            report: None,
            reported_at: Time(0),
            state: None,
            state_since: Time(0),
            is_checked: check.mode == CheckMode::Off,
            probe: Probe::new(config, check),
            pool: link::Pool::default(),
            metrics: Box::default(),
        }
    }
}

/// What is known of one server, for tables and tests.
#[derive(Debug, Clone)]
pub struct ServerView<'p> {
    /// Its name on the command line.
    pub name: &'p str,
    /// How it is configured.
    pub config: &'p ServerConfig,
    /// What the operator says of it.
    pub setting: Setting,
    /// Its health.
    pub health: &'p Health,
    /// Its last report, if it ever gave one.
    pub report: Option<Report>,
    /// Requests that are at it now.
    pub in_flight: u32,
}

/// Whether the loop goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// There will be another turn.
    Continue,
    /// A stop was asked for and everything has ended.
    Stop,
}

impl<N: Net> Proxy<N> {
    /// A balancer on `net`, which listens already, for at most `clients_max` clients at once; `seed`
    /// decides what chance decides.
    pub fn new(net: N, config: Config, clients_max: usize, seed: u64) -> Proxy<N> {
        let (now, date) = (net.now(), net.date());
        let servers = config
            .servers
            .iter()
            .map(|server| Server {
                state: Some(State::Unchecked),
                state_since: now,
                ..Server::new(server, &config.check)
            })
            .collect();
        let tools = Tools {
            scratch: vec![0; pair::SCRATCH].into_boxed_slice(),
            head: Vec::with_capacity(4096),
            slots: head::slots(),
            pool: Pool::new(config.budgets.wide_bytes),
            turn_bytes: config.budgets.turn_bytes,
            access: Access::new(&config, now, date, seed),
            now,
            date: httpdate::fmt_http_date(date),
            is_draining: false,
            host_default: host_default(&config.listen),
            sticky: Sticky::new(&config.sticky, &config.servers),
            retry_statuses: config.retry_statuses.clone(),
            told: Told::default(),
        };
        let pipes_max = if config.splice {
            config.budgets.pipes
        } else {
            0
        };
        Proxy {
            guess: Guess::new(config.policy, &config.servers, seed)
                .slow_start(config.check.slow_start)
                .repeated(&config.retry_statuses),
            rounds: Rounds::new(&config.check, now),
            admin: Admin::new(config.admin.as_ref()),
            metrics: Metrics {
                began: now,
                ..Metrics::default()
            },
            first_round: if config.check.mode == CheckMode::Off {
                0
            } else {
                config.servers.len()
            },
            tools,
            pipes: Pipes::new(pipes_max, config.budgets.splice_bytes),
            events: Vec::with_capacity(EVENTS_MAX),
            clients: Slab::new(),
            links: Slab::new(),
            tasks: Slab::new(),
            servers,
            leaving: 0,
            must_reload: false,
            deadlines: Deadlines::default(),
            run: VecDeque::new(),
            gathering: Vec::new(),
            gather_until: Time(0),
            queue: VecDeque::new(),
            queued: 0,
            tickets: 0,
            held: 0,
            generation: 0,
            dead_clients: Vec::new(),
            dead_links: Vec::new(),
            clients_max: config
                .clients_max
                .unwrap_or(clients_max)
                .min(clients_max)
                .max(1),
            is_listener_ready: true,
            accept_again: Time(0),
            lack: None,
            lack_told_again: Time(0),
            shrink_again: now + house::SHRINK_EVERY,
            date_again: now + DATE_EVERY,
            drain: None,
            is_over: false,
            is_upgrade_asked: false,
            seed: seed | 1,
            bugs: 0,
            net,
            config,
        }
    }

    /// One pass of the loop.
    ///
    /// # Errors
    /// The poll failed: the network is of no more use.
    pub fn turn(&mut self) -> io::Result<Flow> {
        let timeout = self.timeout();
        let mut events = std::mem::take(&mut self.events);
        self.net.poll(timeout, &mut events)?;
        self.tools.now = self.net.now();
        let is_timed = self.metrics.turns(events.len());
        self.look_at_calendar();
        // What is known of links is known before any of them is given a request: a pooled one that
        // ended, or talks out of turn, is not used.
        for event in &events {
            self.note(*event);
        }
        for event in events.drain(..) {
            self.dispatch(event);
        }
        self.events = events;
        self.hear_signals();
        self.run_again();
        self.flush_gathered();
        self.expire();
        self.accept();
        self.admit();
        self.start_round_if_due();
        self.let_servers_go();
        self.reap();
        self.turn_admin();
        self.keep_house();
        if self.is_over {
            self.cut_off();
        }
        self.tools.access.end_turn(self.tools.now);
        if is_timed {
            self.metrics
                .lag
                .record(self.net.now().since(self.tools.now));
        }
        Ok(if self.is_over {
            Flow::Stop
        } else {
            Flow::Continue
        })
    }

    /// What is known of the servers, in their order, those that are about to leave among them.
    pub fn servers(&self) -> impl Iterator<Item = ServerView<'_>> {
        self.servers
            .iter()
            .zip(&self.config.servers)
            .enumerate()
            .filter(|(_, (server, _))| server.setting != Setting::Gone)
            .map(|(index, (server, config))| ServerView {
                name: &config.name,
                config,
                setting: server.setting,
                health: &server.health,
                report: server.report,
                in_flight: self.guess.in_flight(index),
            })
    }

    /// Whether every server has been checked once.
    pub fn is_first_round_over(&self) -> bool {
        self.first_round == 0
    }

    /// The access log, to be told where its lines go.
    pub fn access(&mut self) -> &mut Access {
        &mut self.tools.access
    }

    /// The time of the last turn.
    pub fn now(&self) -> Time {
        self.tools.now
    }

    /// Whether it was asked, since the last call, to have a successor started.
    pub fn take_upgrade(&mut self) -> bool {
        std::mem::take(&mut self.is_upgrade_asked)
    }

    /// The network that it lives on.
    pub fn net(&self) -> &N {
        &self.net
    }

    /// The same, to be changed: simulations do.
    pub fn net_mut(&mut self) -> &mut N {
        &mut self.net
    }

    /// What is in use right now, for tests and tables.
    pub fn census(&self) -> Census {
        Census {
            clients: self.clients.len(),
            links: self.links.len(),
            tasks: self.tasks.len(),
            held: self.held,
            queued: self.queued,
            blocks: self.tools.pool.used_blocks(),
            pipes: self.pipes.used(),
            admins: self.admin.sessions.len(),
            bugs: self.bugs,
        }
    }

    /// How long the poll may wait; none: until something happens.
    fn timeout(&self) -> Option<Duration> {
        if !self.run.is_empty()
            || (self.is_draining() && self.clients.is_empty())
            || (self.is_listener_ready && self.may_accept() && self.accept_again == Time(0))
        {
            return Some(Duration::ZERO);
        }
        let round = match self.is_draining() {
            true => None,
            false => Some(self.rounds.next()),
        };
        let accept = (self.is_listener_ready && self.may_accept()).then_some(self.accept_again);
        let admit = self.lack.filter(|_| self.queued > 0);
        let gathered = (!self.gathering.is_empty()).then_some(self.gather_until);
        let shrink = self.tools.pool.is_wide().then_some(self.shrink_again);
        let drain = self.drain.map(|drain| drain.until);
        [
            self.deadlines.next(),
            round,
            accept,
            admit,
            gathered,
            shrink,
            drain,
            self.admin_due(),
            self.tools.access.due(),
        ]
        .into_iter()
        .flatten()
        .min()
        .map(|next| next.since(self.tools.now))
    }

    /// Takes an edge of a link in.
    fn note(&mut self, event: Event) {
        if event.token.owner() == Owner::Link
            && let Some(link) = self.links.get_mut(event.token.slot())
            && (link.conn.token() == event.token || mutant::is(Mutant::LinkGenerationIgnored))
        {
            link.conn.take(event);
        }
    }

    /// Takes an edge to its owner; one that belongs to a socket that is gone belongs to nobody.
    fn dispatch(&mut self, event: Event) {
        let slot = event.token.slot();
        match event.token.owner() {
            Owner::Listener if event.token == Token::ADMIN_DOOR => {
                self.admin.is_listener_ready = self.admin.is_on();
            }
            Owner::Admin => self.hear_admin(event),
            Owner::Listener => {
                self.is_listener_ready = true;
            }
            Owner::Client => {
                if let Some(client) = self.clients.get_mut(slot)
                    && (client.conn.token() == event.token
                        || mutant::is(Mutant::ClientGenerationIgnored))
                {
                    client.conn.take(event);
                    self.serve(slot);
                }
            }
            Owner::Link => {
                if let Some(link) = self.links.get_mut(slot)
                    && (link.conn.token() == event.token
                        || mutant::is(Mutant::LinkGenerationIgnored))
                {
                    match link.state {
                        LinkState::Paired(client) => self.serve(client),
                        LinkState::Pooled(_) => {
                            if link.is_stale(false) {
                                self.close_link(slot);
                            }
                        }
                        LinkState::Dead => {}
                    }
                }
            }
            Owner::Probe => {
                if let Some(server) = self.servers.get_mut(slot)
                    && let Some(conn) = &mut server.probe.conn
                    && conn.token() == event.token
                {
                    conn.take(event);
                    self.step_probe(slot);
                }
            }
        }
    }

    fn hear_signals(&mut self) {
        while let Some(signal) = self.net.signal() {
            match signal {
                Signal::Stop => self.stop(),
                Signal::Reopen => self.tools.access.reopen(),
                Signal::Reload => self.reload(),
                Signal::Upgrade => self.is_upgrade_asked = true,
            }
        }
    }

    /// Serves those who stopped only for the sake of others.
    fn run_again(&mut self) {
        for _ in 0..self.run.len() {
            let Some(token) = self.run.pop_front() else {
                break;
            };
            if let Some(client) = self.clients.get_mut(token.slot())
                && client.conn.token() == token
            {
                client.will_run = false;
                self.serve(token.slot());
            }
        }
    }

    /// Looks at the deadlines that are over.
    fn expire(&mut self) {
        let now = self.tools.now;
        while let Some((at, token)) = self.deadlines.pop(now) {
            let slot = token.slot();
            match token.owner() {
                Owner::Client => {
                    let rang = match self.clients.get_mut(slot) {
                        Some(client) if client.conn.token() == token => {
                            client.alarm.ring(at, token, &mut self.deadlines)
                        }
                        _ => Rang::Early,
                    };
                    if rang == Rang::Due {
                        self.overdue(slot);
                    }
                }
                Owner::Probe => {
                    let rang = match self.servers.get_mut(slot) {
                        Some(server) => server.probe.alarm.ring(at, token, &mut self.deadlines),
                        None => Rang::Early,
                    };
                    if rang == Rang::Due {
                        self.probe_overdue(slot);
                    }
                }
                Owner::Admin => {
                    let rang = match self.admin.sessions.get_mut(slot) {
                        Some(session) if session.conn.token() == token => {
                            session.alarm.ring(at, token, &mut self.deadlines)
                        }
                        _ => Rang::Early,
                    };
                    if rang == Rang::Due {
                        self.admin_overdue(slot);
                    }
                }
                Owner::Listener | Owner::Link => {}
            }
        }
        if self.drain.is_some_and(|drain| now >= drain.until) {
            warn!("drain timeout: {} clients are cut off", self.clients.len());
            self.is_over = true;
        }
    }

    fn may_accept(&self) -> bool {
        !self.is_draining() && self.clients.len() - self.dead_clients.len() < self.clients_max
    }

    /// Accepts who waits at the listener, as long as there is room, and reads from each at once.
    fn accept(&mut self) {
        if self.tools.now < self.accept_again {
            return;
        }
        self.accept_again = Time(0);
        if let Some(again) = self.lack.filter(|_| self.queued > 0) {
            // The next descriptor is for those who are here already.
            self.accept_again = again;
            return;
        }
        for _ in 0..ACCEPTS_MAX {
            if !self.is_listener_ready || !self.may_accept() {
                return;
            }
            match self.net.accept() {
                Ok((socket, peer)) => {
                    self.metrics.accepts += 1;
                    let entry = self.clients.vacant_entry();
                    let slot = entry.key();
                    self.generation = self.generation.wrapping_add(1);
                    let token = Token::new(Owner::Client, slot as u32, self.generation);
                    entry.insert(Client::new(Conn::new(socket, token), peer));
                    // Who has just come means to ask: an idle client is one that was answered.
                    self.rest_client(slot, self.config.timeouts.client);
                    self.serve(slot);
                }
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock => self.is_listener_ready = false,
                    // The one who waited has left: the next may be there.
                    io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted => {}
                    _ => {
                        // No descriptors or no memory: the listener tells nothing new until it was
                        // emptied once, so it is tried again whatever happens.
                        warn!("cannot accept: {error}; trying again as connections close");
                        self.accept_again = self.tools.now + ACCEPT_PAUSE;
                        self.is_listener_ready &= !mutant::is(Mutant::ListenerEdgeLost);
                        return;
                    }
                },
            }
        }
    }

    /// Frees what died in this turn: until here no slot was used again, so that no event of this
    /// turn could reach a successor.
    fn reap(&mut self) {
        let any = !self.dead_clients.is_empty() || !self.dead_links.is_empty();
        for slot in self.dead_clients.drain(..) {
            let moved = self.clients.remove(slot).conn.moved_each_way();
            self.metrics.clients_moved = self.metrics.clients_moved.with(moved);
        }
        for slot in self.dead_links.drain(..) {
            let moved = self.links.remove(slot).conn.moved_each_way();
            self.metrics.links_moved = self.metrics.links_moved.with(moved);
        }
        if any {
            // A descriptor is free again.
            self.accept_again = Time(0);
            self.lack = self.lack.map(|_| self.tools.now);
        }
        if self.is_draining() && self.clients.is_empty() {
            self.is_over = true;
        }
    }

    /// Looks up the date, which costs more than a look at the clock.
    fn look_at_calendar(&mut self) {
        if self.tools.now >= self.date_again {
            self.date_again = self.tools.now + DATE_EVERY;
            let date = self.net.date();
            // In its place: what lives long must not come to lie on top of what a burst took.
            self.tools.date.clear();
            let _ = write!(self.tools.date, "{}", HttpDate::from(date));
            self.tools.access.set_date(self.tools.now, date);
        }
    }
}

/// What is in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Census {
    /// Client connections.
    pub clients: usize,
    /// Links, pooled ones among them.
    pub links: usize,
    /// Exchanges that have begun.
    pub tasks: usize,
    /// Pairs: those of them that hold one of the N places.
    pub held: usize,
    /// Those that wait for one.
    pub queued: usize,
    /// Blocks.
    pub blocks: usize,
    /// Pipes.
    pub pipes: usize,
    /// Connections to the admin listener.
    pub admins: usize,
    /// Mistakes of ours so far that cost a client its connection: see the log.
    pub bugs: u64,
}

/// The Host of requests that came without one.
fn host_default(listen: &Address) -> String {
    match listen {
        Address::Tcp(address) if address.ip().is_unspecified() => {
            format!("localhost:{}", address.port())
        }
        Address::Tcp(address) => address.to_string(),
        Address::Unix(_) => "localhost".to_owned(),
    }
}
