//! SimNet: the seam's two traits over the simulated kernel. Strict: an edge is told once.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use bestguess::config::Address;
use bestguess::net::{Event, Net, Owner, Ready, Signal, Socket, Time, Token};

use super::kernel::{ConnId, Core, Due, MICRO, MILLI, Peer, Stage};
use super::world::World;

/// The network that one of the balancer's processes sees.
pub struct SimNet(pub Rc<RefCell<World>>, pub usize);

/// One socket of the balancer's.
pub struct SimSocket {
    world: Rc<RefCell<World>>,
    conn: ConnId,
}

impl Drop for SimSocket {
    fn drop(&mut self) {
        self.world.borrow_mut().core.drop_socket(self.conn);
    }
}

impl Net for SimNet {
    type Socket = SimSocket;

    fn now(&self) -> Time {
        Time(self.0.borrow().core.now)
    }

    fn date(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_nanos(self.0.borrow().core.now)
    }

    fn poll(&mut self, timeout: Option<Duration>, events: &mut Vec<Event>) -> io::Result<()> {
        let mut world = self.0.borrow_mut();
        world.wait(self.1, timeout);
        world.collect(self.1, events);
        Ok(())
    }

    fn accept(&mut self) -> io::Result<(SimSocket, Option<SocketAddr>)> {
        let mut world = self.0.borrow_mut();
        let core = &mut world.core;
        core.race(None);
        let process = &core.processes[self.1];
        let Some(conn) = core
            .backlog
            .front()
            .copied()
            .filter(|_| process.is_listening)
        else {
            return Err(io::ErrorKind::WouldBlock.into());
        };
        if process.descriptors >= core.knobs.descriptors {
            core.note("accept: no descriptors", conn, 0, 0);
            return Err(io::Error::from_raw_os_error(24));
        }
        core.backlog.pop_front();
        if core.conns[conn].stage == Stage::Gone && core.rng.chance(core.knobs.abort_shows) {
            core.note("accept: aborted", conn, 0, 0);
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        core.note("accepted", conn, 0, 0);
        core.hold(conn, self.1);
        core.check.accepted(conn);
        let address = core.check.address_of(conn);
        drop(world);
        Ok((
            SimSocket {
                world: Rc::clone(&self.0),
                conn,
            },
            Some(address),
        ))
    }

    fn accept_admin(&mut self) -> io::Result<(SimSocket, Option<SocketAddr>)> {
        let mut world = self.0.borrow_mut();
        let core = &mut world.core;
        let process = &core.processes[self.1];
        let first = core.admin_backlog.front().copied();
        let Some(conn) = first.filter(|_| process.has_admin) else {
            return Err(io::ErrorKind::WouldBlock.into());
        };
        if process.descriptors >= core.knobs.descriptors {
            core.note("admin accept: no descriptors", conn, 0, 0);
            return Err(io::Error::from_raw_os_error(24));
        }
        core.admin_backlog.pop_front();
        core.note("admin accepted", conn, 0, 0);
        core.hold(conn, self.1);
        drop(world);
        let world = Rc::clone(&self.0);
        Ok((SimSocket { world, conn }, None))
    }

    fn close_listener(&mut self) {
        self.0.borrow_mut().core.close_listener(self.1);
    }

    fn connect(&mut self, address: &Address) -> io::Result<SimSocket> {
        let mut world = self.0.borrow_mut();
        let conn = world.connect(self.1, address)?;
        drop(world);
        Ok(SimSocket {
            world: Rc::clone(&self.0),
            conn,
        })
    }

    fn watch(&mut self, socket: &mut SimSocket, token: Token) -> io::Result<()> {
        let mut world = self.0.borrow_mut();
        let core = &mut world.core;
        let conn = socket.conn;
        assert!(core.conns[conn].token.is_none(), "a socket is watched once");
        core.conns[conn].token = Some(token);
        core.check.watched(conn, token.owner() == Owner::Probe);
        core.trace.note(
            core.now,
            "watched",
            conn as u64,
            token.slot() as u64,
            u64::from(token.generation()),
        );
        if core.mask(conn) != Ready::NONE {
            core.wake(conn);
        }
        Ok(())
    }

    fn signal(&mut self) -> Option<Signal> {
        self.0.borrow_mut().core.processes[self.1]
            .signals
            .pop_front()
    }
}

impl Socket for SimSocket {
    type Pipe = SimPipe;

    fn recv(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut world = self.world.borrow_mut();
        let core = &mut world.core;
        core.race(Some(self.conn));
        if core.rng.chance(core.knobs.interrupted) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let connection = &mut core.conns[self.conn];
        if connection.stage == Stage::Connecting {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        if !connection.received.is_empty() {
            let count = buffer.len().min(connection.received.len());
            let (front, back) = connection.received.as_slices();
            let here = count.min(front.len());
            buffer[..here].copy_from_slice(&front[..here]);
            buffer[here..count].copy_from_slice(&back[..count - here]);
            connection.received.drain(..count);
            core.note("recv", self.conn, count, 0);
            core.made_room(self.conn);
            core.check.received(self.conn, count as u64, core.now);
            return Ok(count);
        }
        if let Some(error) = connection.error.take() {
            core.note("recv: broken", self.conn, 0, 0);
            return Err(error.into());
        }
        if connection.stage == Stage::Gone || connection.is_end_received {
            core.note("recv: end", self.conn, 0, 0);
            core.check.read_end(self.conn, core.now);
            return Ok(0);
        }
        Err(io::ErrorKind::WouldBlock.into())
    }

    fn send(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut world = self.world.borrow_mut();
        let core = &mut world.core;
        assert!(!bytes.is_empty(), "a send of nothing");
        core.race(Some(self.conn));
        if core.rng.chance(core.knobs.interrupted) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let is_partial = core.rng.chance(core.knobs.partial);
        let fraction = core.rng.size(bytes.len() as u64) as usize;
        let connection = &mut core.conns[self.conn];
        match connection.stage {
            Stage::Connecting => return Err(io::ErrorKind::WouldBlock.into()),
            Stage::Gone => {
                let error = connection.error.take().unwrap_or(io::ErrorKind::BrokenPipe);
                core.note("send: broken", self.conn, bytes.len(), 0);
                return Err(error.into());
            }
            Stage::Open if connection.is_end_sent => return Err(io::ErrorKind::BrokenPipe.into()),
            Stage::Open => {}
        }
        let room = if connection.is_short {
            0
        } else {
            connection.send_room - connection.sending
        };
        let mut count = bytes.len().min(room);
        if is_partial && count > 0 {
            count = fraction.min(count);
            connection.is_short = true;
            let after = core.rng.below(core.knobs.latency_max + 1);
            core.schedule(after, Due::Room(self.conn));
        }
        let connection = &mut core.conns[self.conn];
        if count < bytes.len() {
            connection.wants_room = true;
        }
        if count == 0 {
            core.check.blocked(self.conn);
            return Err(io::ErrorKind::WouldBlock.into());
        }
        connection.sending += count;
        core.note("send", self.conn, count, bytes.len());
        core.sent(self.conn);
        let turn = core.turn_no();
        core.check.sent(self.conn, &bytes[..count], core.now, turn);
        Ok(count)
    }

    fn abort(&mut self) {
        let mut world = self.world.borrow_mut();
        world.core.conns[self.conn].aborts = true;
        world.core.check.aborted(self.conn);
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        let mut world = self.world.borrow_mut();
        let core = &mut world.core;
        let connection = &core.conns[self.conn];
        if connection.stage != Stage::Open {
            return Err(io::ErrorKind::NotConnected.into());
        }
        if !connection.is_end_sent {
            core.conns[self.conn].is_end_sent = true;
            core.note("shutdown", self.conn, 0, 0);
            core.lets_go(self.conn);
            core.check.ended(self.conn, core.now);
            // Both directions over is news.
            if core.conns[self.conn].is_end_received {
                core.wake(self.conn);
            }
            core.sent(self.conn);
        }
        Ok(())
    }

    fn connected(&mut self) -> io::Result<()> {
        let mut world = self.world.borrow_mut();
        let connection = &mut world.core.conns[self.conn];
        match (connection.error.take(), connection.stage) {
            (Some(error), _) => Err(error.into()),
            (None, Stage::Open) => Ok(()),
            (None, _) => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    fn is_spliceable(&self) -> bool {
        let pipes = &self.world.borrow().core.knobs.pipes;
        !(pipes.rooms.is_empty() || pipes.are_some_plain && self.conn.is_multiple_of(8))
    }

    fn pipe(&mut self) -> Option<SimPipe> {
        let mut world = self.world.borrow_mut();
        let Core {
            knobs,
            rng,
            processes,
            conns,
            ..
        } = &mut world.core;
        let process = conns[self.conn].process;
        let descriptors = &mut processes[process].descriptors;
        if *descriptors + 2 > knobs.descriptors || rng.chance(knobs.pipes.fails) {
            return None;
        }
        *descriptors += 2;
        let room = rng.pick(&knobs.pipes.rooms);
        Some(SimPipe {
            world: Rc::clone(&self.world),
            process,
            bytes: VecDeque::new(),
            room,
        })
    }

    fn splice_in(&mut self, pipe: &mut SimPipe, most: usize) -> io::Result<usize> {
        assert!(most > 0, "a splice of nothing");
        let mut buffer = {
            let core = &mut self.world.borrow_mut().core;
            let least = core.knobs.pipes.rooms.iter().min().copied();
            let room = pipe.room.max(least.unwrap_or(0)) - pipe.bytes.len();
            if room == 0 {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            if core.knobs.pipes.is_unsupported {
                return Err(io::ErrorKind::Unsupported.into());
            }
            let there = core.conns[self.conn].received.len().max(1);
            vec![0; core.some_of(most.min(room).min(there))]
        };
        let count = self.recv(&mut buffer)?;
        pipe.bytes.extend(&buffer[..count]);
        Ok(count)
    }

    fn splice_out(&mut self, pipe: &mut SimPipe, held: usize) -> io::Result<usize> {
        assert!(held > 0, "a splice of nothing");
        let count = self.world.borrow_mut().core.some_of(held);
        // The kernel moves what is in the pipe, whatever the balancer believes.
        let bytes: Vec<u8> = pipe.bytes.iter().take(count).copied().collect();
        let count = self.send(&bytes)?;
        pipe.bytes.drain(..count);
        Ok(count)
    }
}

/// A pipe of the balancer's.
pub struct SimPipe {
    world: Rc<RefCell<World>>,
    process: usize,
    bytes: VecDeque<u8>,
    room: usize,
}

impl Drop for SimPipe {
    fn drop(&mut self) {
        let mut world = self.world.borrow_mut();
        world.core.processes[self.process].descriptors -= 2;
    }
}

impl Core {
    /// So many of `count` bytes as a splice may be content with, at least 1.
    fn some_of(&mut self, count: usize) -> usize {
        match self.rng.chance(self.knobs.pipes.partial) {
            true => (self.rng.size(count as u64) as usize).max(1),
            false => count,
        }
    }

    /// What is about to arrive may arrive in the middle of a turn, between two calls.
    fn race(&mut self, conn: Option<ConnId>) {
        if !self.rng.chance(self.knobs.race) {
            return;
        }
        if let Some(conn) = conn
            && self.conns[conn].stage == Stage::Open
        {
            self.deliver(conn);
        }
    }
}

impl World {
    /// Lets the world go on until there is something to tell, or `timeout` is over. Of several
    /// processes none holds the world up: whoever drives them lets it go on.
    fn wait(&mut self, process: usize, timeout: Option<Duration>) {
        self.core.next_turn();
        let spent = self.core.rng.range(MICRO, 10 * MICRO);
        self.core.now += spent;
        let deadline =
            timeout.map(|timeout| self.core.now.saturating_add(timeout.as_nanos() as u64));
        // A wait takes whole milliseconds, and a little longer than it was told to.
        let deadline = deadline.map(|at| {
            if timeout.is_some_and(|t| t.is_zero()) {
                at
            } else {
                at + self.core.rng.below(MILLI)
            }
        });
        self.poll_began(deadline);
        let deadline = deadline.unwrap_or(u64::MAX);
        self.core.processes[process].wake_at = deadline;
        self.go_on(match self.core.is_company() {
            true => self.core.now,
            false => deadline,
        });
        self.jump();
    }

    /// Lets the world go on until there is something to tell, or the time is `until`.
    pub fn go_on(&mut self, mut until: u64) {
        let mut is_lingering = false;
        loop {
            if !is_lingering && self.has_news() {
                is_lingering = true;
                // A process that is not scheduled at once finds more events in one batch.
                let late = if self.core.rng.chance(self.core.knobs.linger) {
                    self.core.rng.below(200 * MICRO)
                } else {
                    0
                };
                until = until.min(self.core.now + late);
            }
            match self.core.next_at() {
                Some(at) if at <= until => {
                    if let Some(due) = self.core.pop() {
                        self.happen(due);
                    }
                    if self.wants_control() {
                        break;
                    }
                }
                _ => {
                    if until != u64::MAX {
                        self.core.now = self.core.now.max(until);
                    }
                    break;
                }
            }
        }
    }

    fn has_news(&self) -> bool {
        (0..self.core.processes.len()).any(|process| self.has_news_for(process))
    }

    /// Whether a poll of this process would tell of something.
    pub fn has_news_for(&self, process: usize) -> bool {
        let core = &self.core;
        let process = &core.processes[process];
        process.is_alive
            && (!process.ready.is_empty()
                || (process.has_listener_news() && !core.backlog.is_empty())
                || (process.has_admin_news() && !core.admin_backlog.is_empty())
                || !process.signals.is_empty())
    }

    /// Tells what is new, in any order, with what the kernel may tell besides.
    fn collect(&mut self, process: usize, events: &mut Vec<Event>) {
        let core = &mut self.core;
        let number = process;
        let mut told = std::mem::take(&mut core.processes[number].ready);
        if core.rng.chance(core.knobs.shuffle) {
            for last in (1..told.len()).rev() {
                told.swap(last, core.rng.below(last as u64 + 1) as usize);
            }
        }
        if told.len() > core.knobs.batch_max {
            core.processes[number].ready = told.split_off(core.knobs.batch_max);
        }
        for conn in told {
            let ready = core.mask(conn);
            core.told(conn);
            if let Some(token) = core.conns[conn].token
                && ready != Ready::NONE
            {
                core.note("event", conn, bits(ready), 0);
                events.push(Event { token, ready });
            }
        }
        if core.processes[number].has_listener_news() && !core.backlog.is_empty() {
            core.processes[number].is_listener_ready = false;
            core.note("event: listener", core.backlog.len(), 0, 0);
            events.push(Event {
                token: Token::new(Owner::Listener, 0, 0),
                ready: Ready::READABLE,
            });
        }
        if core.processes[number].has_admin_news() && !core.admin_backlog.is_empty() {
            core.processes[number].is_admin_ready = false;
            core.note("event: admin listener", core.admin_backlog.len(), 0, 0);
            events.push(Event {
                token: Token::ADMIN_DOOR,
                ready: Ready::READABLE,
            });
        }
        if core.rng.chance(core.knobs.spurious) && !core.conns.is_empty() {
            let back = core.rng.below(core.conns.len().min(40) as u64) as usize;
            let conn = core.conns.len() - 1 - back;
            let connection = &core.conns[conn];
            if let (Some(token), true, Stage::Open) =
                (connection.token, connection.is_held, connection.stage)
                && connection.process == number
            {
                let ready = core.mask(conn).with(Ready::READABLE);
                core.note("event: spurious", conn, bits(ready), 0);
                events.insert(
                    core.rng.below(events.len() as u64 + 1) as usize,
                    Event { token, ready },
                );
            }
        }
        let dead = core.processes[number].dead_tokens.len();
        if core.rng.chance(core.knobs.stale) && dead > 0 {
            let back = core.rng.below(dead.min(20) as u64) as usize;
            let token = core.processes[number].dead_tokens[dead - 1 - back];
            let ready = Ready::READABLE
                .with(Ready::WRITABLE)
                .with(Ready::PEER_CLOSED)
                .with(Ready::HUNG_UP);
            core.trace.note(
                core.now,
                "event: of the dead",
                token.slot() as u64,
                u64::from(token.generation()),
                0,
            );
            events.insert(
                core.rng.below(events.len() as u64 + 1) as usize,
                Event { token, ready },
            );
        }
        let now = core.now;
        let process = &mut core.processes[number];
        process.is_settled =
            events.is_empty() && process.signals.is_empty() && process.wake_at > now;
    }

    fn connect(&mut self, process: usize, address: &Address) -> io::Result<ConnId> {
        let server = self.server_at(address);
        let core = &mut self.core;
        if core.processes[process].descriptors >= core.knobs.descriptors {
            core.note("connect: no descriptors", server, 0, 0);
            return Err(io::Error::from_raw_os_error(24));
        }
        let is_unix = matches!(address, Address::Unix(_));
        let fate = self.servers[server].fate(core);
        let conn = self.servers[server].note_connect(core, fate, is_unix)?;
        core.hold(conn, process);
        debug_assert!(matches!(core.conns[conn].peer, Peer::Server(_)));
        if core.conns[conn].stage == Stage::Open {
            self.tell(conn, super::kernel::Notice::Connected);
        }
        Ok(conn)
    }
}

fn bits(ready: Ready) -> usize {
    [
        Ready::READABLE,
        Ready::WRITABLE,
        Ready::PEER_CLOSED,
        Ready::HUNG_UP,
    ]
    .into_iter()
    .enumerate()
    .map(|(bit, one)| usize::from(ready.has(one)) << bit)
    .sum()
}
