//! The world around one balancer: the kernel, the actors, and what goes wrong when.

use std::net::{Ipv4Addr, SocketAddr};

use bestguess::config::Address;
use bestguess::net::Signal;

use super::admins::Admins;
use super::changes::Members;
use super::check::Checker;
use super::clients::Client;
use super::kernel::{ConnId, Core, Due, Notice, Peer, SECOND, Stage};
use super::rng::Rng;
use super::scenario::{Scenario, Upgrade};
use super::servers::{Faults, Mood, Server};

/// Polls without news and without waiting after which the loop is called busy.
const IDLE_POLLS_MAX: u32 = 300;

/// Everything but the balancer.
#[derive(Debug)]
pub struct World {
    pub core: Core,
    pub clients: Vec<Client>,
    pub servers: Vec<Server>,
    /// The operator's books, one for each process, and whose he orders by.
    pub books: Vec<Members>,
    pub in_charge: usize,
    pub admins: Admins,
    scenario: Scenario,
    /// Whether the process was told to stop.
    pub is_stopping: bool,
    /// Whether another process is to take over, and whether it is to fail.
    pub upgrade: Option<Upgrade>,
    /// Whether things may still go wrong.
    pub is_faulty: bool,
    is_interrupted: bool,
    idle_polls: u32,
    last_events: u64,
}

/// The world's own affairs.
const MOOD: u32 = 0;
const STOP: u32 = 1;
const WAKE: u32 = 2;
const CHANGE: u32 = 3;
const COME: u32 = 4;
/// And those behind it.
const UPGRADE: u32 = 100;

impl World {
    pub fn new(scenario: &Scenario, is_loud: bool) -> World {
        let rng = Rng::new(scenario.seed ^ 0x5151_5151);
        let check = Checker::new(scenario.rules());
        let mut core = Core::new(rng, scenario.knobs.clone(), check, is_loud);
        let clients: Vec<Client> = (0..scenario.clients)
            .map(|index| {
                Client::new(
                    index,
                    scenario.tastes(index, &mut core.rng),
                    scenario.conns_each,
                )
            })
            .collect();
        for client in &clients {
            let after = core.rng.below(scenario.arrival_span + 1);
            client.start(&mut core, after);
        }
        let servers = scenario
            .servers
            .iter()
            .enumerate()
            .map(|(index, plan)| {
                let faults = if plan.is_solid {
                    Faults::default()
                } else {
                    scenario.faults
                };
                Server::new(
                    index,
                    faults,
                    plan.is_solid,
                    !plan.is_solid,
                    scenario.think_max,
                    scenario.answer_max,
                )
            })
            .collect();
        if scenario.moods > 0 {
            core.schedule(scenario.moods, Due::World(MOOD));
        }
        if scenario.changes > 0 {
            core.schedule(scenario.changes, Due::World(CHANGE));
        }
        if scenario.admins > 0 {
            core.schedule(scenario.admins, Due::World(COME));
        }
        if let Some(at) = scenario.stop_at {
            core.schedule(at, Due::World(STOP));
            if let Some(again) = scenario.stop_again {
                core.schedule(at + again, Due::World(STOP));
            }
        }
        for (number, upgrade) in scenario.upgrades.iter().enumerate() {
            core.schedule(upgrade.at, Due::World(UPGRADE + number as u32));
        }
        World {
            core,
            clients,
            servers,
            books: Vec::new(),
            in_charge: 0,
            admins: Admins::new(scenario.admins, scenario.door),
            scenario: scenario.clone(),
            is_stopping: false,
            upgrade: None,
            is_faulty: true,
            is_interrupted: false,
            idle_polls: 0,
            last_events: 0,
        }
    }

    /// One thing happens.
    pub fn happen(&mut self, due: Due) {
        let core = &mut self.core;
        match due {
            Due::Deliver(conn) => core.deliver(conn),
            Due::Drain(conn) => {
                if let Some(notice) = core.drain(conn) {
                    self.tell(conn, notice);
                }
            }
            Due::Room(conn) => core.room(conn),
            Due::Arrive(conn) => self.arrive(conn),
            Due::Establish(conn) => {
                if let Some(notice) = core.establish(conn) {
                    self.tell(conn, notice);
                }
            }
            Due::Refuse(conn) => core.refuse(conn, std::io::ErrorKind::ConnectionRefused),
            Due::PeerReset(conn) => self.tell(conn, Notice::Reset),
            Due::Client(client, tag) => self.clients[client].due(core, tag),
            Due::Server(conn, tag) => {
                if let Peer::Server(server) = core.conns[conn].peer {
                    self.servers[server].due(core, conn, tag);
                }
            }
            Due::World(MOOD) => self.change_moods(),
            Due::Admin(conn, tag) => self.admins.due(core, &mut self.books, conn, tag),
            Due::World(COME) if self.admins.every == 0 => {}
            Due::World(COME) => {
                let next = core.rng.range(1, 2 * self.admins.every);
                core.schedule(next, Due::World(COME));
                let book = self.in_charge;
                self.admins.come(core, book, &mut self.books[book]);
            }
            Due::World(CHANGE) if !self.is_faulty => {}
            Due::World(CHANGE) => {
                let book = &mut self.books[self.in_charge];
                let next = core.rng.range(1, 2 * book.every);
                core.schedule(next, Due::World(CHANGE));
                book.is_due = true;
                self.is_interrupted = true;
            }
            Due::World(STOP) if !self.is_faulty => {}
            Due::World(STOP) => {
                core.note("signal: stop", 0, 0, 0);
                core.check.is_amnesty = true;
                self.is_stopping = true;
                core.processes[self.in_charge]
                    .signals
                    .push_back(Signal::Stop);
            }
            Due::World(UPGRADE..) if !self.is_faulty => {}
            Due::World(number @ UPGRADE..) => {
                let upgrades = &self.scenario.upgrades;
                self.upgrade = upgrades.get((number - UPGRADE) as usize).copied();
                self.is_interrupted = true;
            }
            Due::World(_) => self.is_interrupted = true,
        }
    }

    pub fn tell(&mut self, conn: ConnId, notice: Notice) {
        match self.core.conns[conn].peer {
            Peer::Client(client) => self.clients[client].notice(&mut self.core, conn, notice),
            Peer::Server(server) => self.servers[server].notice(&mut self.core, conn, notice),
            Peer::Admin(_) => self.admins.notice(&mut self.core, conn, notice),
        }
    }

    fn arrive(&mut self, conn: ConnId) {
        let core = &mut self.core;
        if !core.processes.iter().any(|process| process.is_listening) {
            core.conns[conn].stage = Stage::Gone;
            return self.tell(conn, Notice::Reset);
        }
        core.conns[conn].stage = Stage::Open;
        core.knock(conn);
        core.note("arrives at the listener", conn, 0, 0);
        self.tell(conn, Notice::Connected);
    }

    /// A server dies, hangs or comes back.
    fn change_moods(&mut self) {
        if !self.is_faulty {
            return;
        }
        let index = self.core.rng.below(self.servers.len() as u64) as usize;
        let server = &mut self.servers[index];
        if !server.is_solid {
            let mood = match server.mood {
                Mood::Up => self
                    .core
                    .rng
                    .pick(&[Mood::Refusing, Mood::Refusing, Mood::Hanging]),
                Mood::Refusing | Mood::Hanging => Mood::Up,
            };
            server.turn_to(&mut self.core, mood);
        }
        let next = self.core.rng.range(1, self.scenario.moods);
        self.core.schedule(next, Due::World(MOOD));
    }

    /// From now on nothing goes wrong that has not gone wrong already.
    pub fn calm(&mut self) {
        self.is_faulty = false;
        let core = &mut self.core;
        core.note("calm", 0, 0, 0);
        let knobs = &mut core.knobs;
        (
            knobs.connect_hangs,
            knobs.connect_fails,
            knobs.connect_resets,
        ) = (0, 0, 0);
        knobs.descriptors = usize::MAX;
        core.widen();
        for server in &mut self.servers {
            server.faults = Faults::default();
            server.content_max = server.content_max.min(20_000);
            if server.mood != Mood::Up {
                server.turn_to(core, Mood::Up);
            }
        }
        self.admins.leave(core);
        for client in &mut self.clients {
            client.calm();
            client.make_last();
        }
    }

    /// Resets the connections that servers will never answer on.
    pub fn clear_servers(&mut self) {
        for server in &mut self.servers {
            server.clear(&mut self.core);
        }
    }

    /// Has polls return after `after` nanoseconds.
    pub fn wake_after(&mut self, after: u64) {
        self.core.schedule(after, Due::World(WAKE));
    }

    /// Whether the poll has to return to the driver.
    pub fn wants_control(&mut self) -> bool {
        std::mem::take(&mut self.is_interrupted) || self.core.check.failure.is_some()
    }

    /// The loop polls; it must not do so again and again for nothing.
    pub fn poll_began(&mut self, deadline: Option<u64>) {
        let count = self.core.trace.count();
        let is_idle = deadline.is_some_and(|at| at <= self.core.now) && count == self.last_events;
        self.last_events = count;
        self.idle_polls = if is_idle { self.idle_polls + 1 } else { 0 };
        if self.idle_polls > IDLE_POLLS_MAX {
            self.core
                .check
                .fail(|| "the loop turns without anything to do".to_owned());
        }
        if deadline.is_none() && self.core.next_at().is_none() {
            self.core
                .check
                .fail(|| "the loop sleeps for ever".to_owned());
        }
    }

    /// The machine was suspended: time has gone on.
    pub fn jump(&mut self) {
        if self.is_faulty && self.core.rng.chance(self.scenario.jumps) {
            let span = self.core.rng.size(40 * SECOND);
            self.core
                .note("clock jumps", span as usize / 1_000_000, 0, 0);
            self.core.check.is_amnesty = true;
            self.core.now += span;
        }
    }

    pub fn server_at(&self, address: &Address) -> usize {
        self.scenario
            .servers
            .iter()
            .position(|server| server.address == *address)
            .unwrap_or(0)
    }

    /// Whether all clients have come to their end.
    pub fn are_clients_done(&mut self) -> bool {
        self.clients.iter().all(Client::is_last) && self.open_clients().is_empty()
    }

    /// Client connections that the balancer has still to do with.
    pub fn open_clients(&mut self) -> Vec<ConnId> {
        let core = &mut self.core;
        let conns = self.clients.iter().filter_map(|client| client.conn);
        conns
            .filter(|conn| {
                let is_accepted = core.check.client(*conn).is_some_and(|tap| tap.is_accepted);
                core.conns[*conn].is_held || !is_accepted
            })
            .collect()
    }
}

/// All addresses of this machine, with the port of this index.
pub fn anywhere(index: usize) -> Address {
    Address::Tcp(SocketAddr::from((
        Ipv4Addr::UNSPECIFIED,
        9001 + index as u16,
    )))
}

/// The address of the server with this index.
pub fn tcp_address(index: usize) -> Address {
    Address::Tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, 9001 + index as u16)))
}
