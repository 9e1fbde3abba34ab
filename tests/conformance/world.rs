//! The world of one case: its play between the simulator's kernel and the balancer.

use std::collections::{HashMap, VecDeque};
use std::io;

use bestguess::config::Address;

use super::check::Checker;
use super::kernel::{ConnId, Core, Due, Knobs, MICRO, Notice, Peer, PipeKnobs, Stage};
use super::rng::Rng;
use crate::cutting::Cutting;
use crate::format::Case;
use crate::play::{Action, Play, Who};

/// Between two pieces of one sender: longer than a turn takes, so that each is seen on its own.
const GAP: u64 = 40 * MICRO;
/// Everything of the case that is under way arrives within this.
const SETTLING: u64 = 20_000 * MICRO;

/// Something to be sent, in its turn.
#[derive(Debug)]
enum Out {
    Piece(Vec<u8>),
    End,
    Reset,
}

/// Everything but the balancer.
pub(crate) struct World {
    pub(crate) core: Core,
    pub(crate) servers: [Server; 1],
    play: Play,
    cutting: Cutting,
    /// Connections and who is at their other ends.
    who: HashMap<ConnId, Who>,
    conns: HashMap<Who, ConnId>,
    outs: HashMap<ConnId, VecDeque<Out>>,
}

/// The one server: it always takes a connection.
#[derive(Debug)]
pub(crate) struct Server;

impl Server {
    pub(crate) fn fate(&self, core: &mut Core) -> u64 {
        core.rng.below(core.knobs.latency_max + 1)
    }

    pub(crate) fn note_connect(
        &self,
        core: &mut Core,
        after: u64,
        _is_unix: bool,
    ) -> io::Result<ConnId> {
        let conn = core.open(Peer::Server(0));
        core.schedule(after, Due::Establish(conn));
        Ok(conn)
    }
}

impl World {
    pub(crate) fn new(case: &Case, port: u16, cutting: Cutting) -> World {
        let seed = match cutting {
            Cutting::Random(seed) => seed,
            _ => 0,
        };
        let rng = Rng::new(seed);
        let mut core = Core::new(rng, knobs(cutting), Checker::default(), false);
        let process = core.fork();
        core.processes[process].attach(0, 0);
        World {
            core,
            servers: [Server],
            play: Play::new(case, port),
            cutting,
            who: HashMap::new(),
            conns: HashMap::new(),
            outs: HashMap::new(),
        }
    }

    pub(crate) fn begin(&mut self) {
        self.advance();
    }

    pub(crate) fn is_over(&self) -> bool {
        self.play.is_over()
    }

    pub(crate) fn verdict(&self) -> Result<(), String> {
        self.play.verdict()
    }

    /// Lets what is under way arrive, without the balancer.
    pub(crate) fn settle(&mut self) {
        let until = self.core.now + SETTLING;
        while self.core.next_at().is_some_and(|at| at <= until) {
            if let Some(due) = self.core.pop() {
                self.happen(due);
            }
        }
    }

    /// One thing happens.
    pub(crate) fn happen(&mut self, due: Due) {
        let core = &mut self.core;
        match due {
            Due::Deliver(conn) => core.deliver(conn),
            Due::Drain(conn) => {
                if let Some(notice) = core.drain(conn) {
                    self.tell(conn, notice);
                }
            }
            Due::Room(conn) => core.room(conn),
            Due::Arrive(conn) => {
                core.conns[conn].stage = Stage::Open;
                core.knock(conn);
            }
            Due::Establish(conn) => {
                if let Some(notice) = core.establish(conn) {
                    self.tell(conn, notice);
                }
            }
            Due::World(_) => {
                self.play.resume();
                self.advance();
            }
            Due::Refuse(_) | Due::Client(..) | Due::Admin(..) => {}
            Due::PeerReset(conn) => self.tell(conn, Notice::Reset),
            // Here: the next piece of whoever is at the other end.
            Due::Server(conn, _) => self.send_next(conn),
        }
    }

    pub(crate) fn tell(&mut self, conn: ConnId, notice: Notice) {
        match notice {
            Notice::Connected => {
                if matches!(self.core.conns[conn].peer, Peer::Server(_)) {
                    let link = self.play.link_opened();
                    self.name(conn, Who::Link(link));
                }
            }
            Notice::Arrived(count) => {
                let bytes = self.core.check.take(conn, count as usize);
                match self.who[&conn] {
                    Who::Client(client) => self.play.client_got(client, &bytes),
                    Who::Link(link) => self.play.link_got(link, &bytes),
                }
            }
            Notice::Ended | Notice::Reset => match self.who.get(&conn) {
                Some(Who::Client(client)) => {
                    self.play.client_ended(*client, notice == Notice::Reset)
                }
                Some(Who::Link(link)) => self.play.link_ended(*link),
                None => {}
            },
        }
        self.advance();
    }

    fn name(&mut self, conn: ConnId, who: Who) {
        self.who.insert(conn, who);
        self.conns.insert(who, conn);
        self.outs.insert(conn, VecDeque::new());
    }

    /// Does what the play wants.
    fn advance(&mut self) {
        for action in self.play.advance() {
            match action {
                Action::Open(client) => {
                    let conn = self.core.open(Peer::Client(client));
                    self.name(conn, Who::Client(client));
                    let after = self.core.rng.below(self.core.knobs.latency_max + 1);
                    self.core.schedule(after, Due::Arrive(conn));
                }
                Action::Send(who, bytes) => {
                    let cutting = self.cutting;
                    let pieces = cutting.pieces(&bytes, |bound| self.core.rng.below(bound));
                    for piece in pieces {
                        self.push(who, Out::Piece(piece));
                    }
                }
                Action::End(who) => self.push(who, Out::End),
                Action::Reset(who) => self.push(who, Out::Reset),
                Action::Pause => self.core.schedule(SETTLING, Due::World(0)),
            }
        }
    }

    fn push(&mut self, who: Who, out: Out) {
        let conn = self.conns[&who];
        let Some(outs) = self.outs.get_mut(&conn) else {
            return;
        };
        if outs.is_empty() {
            self.core.schedule(GAP, Due::Server(conn, 0));
        }
        outs.push_back(out);
    }

    fn send_next(&mut self, conn: ConnId) {
        let Some(outs) = self.outs.get_mut(&conn) else {
            return;
        };
        match outs.pop_front() {
            Some(Out::Piece(bytes)) => self.core.peer_send(conn, &bytes),
            Some(Out::End) => self.core.peer_end(conn),
            Some(Out::Reset) => self.core.peer_reset(conn),
            None => {}
        }
        if !outs.is_empty() {
            self.core.schedule(GAP, Due::Server(conn, 0));
        }
    }

    // What the simulator's network asks of its world besides.

    pub(crate) fn server_at(&self, _address: &Address) -> usize {
        0
    }

    /// Whether the poll has to return to the driver.
    pub(crate) fn wants_control(&self) -> bool {
        self.play.is_over()
    }

    pub(crate) fn poll_began(&mut self, deadline: Option<u64>) {
        // Nothing will ever happen: the driver sees that time is over.
        if deadline.is_none() && self.core.next_at().is_none() {
            self.core.now += super::PATIENCE;
        }
    }

    pub(crate) fn jump(&mut self) {}
}

/// A kind network; an unkind one where chance cuts.
fn knobs(cutting: Cutting) -> Knobs {
    let kind = Knobs {
        spurious: 0,
        stale: 0,
        shuffle: 0,
        batch_max: 1000,
        linger: 0,
        race: 0,
        partial: 0,
        interrupted: 0,
        reset_discards: 0,
        abort_shows: 0,
        latency_max: 0,
        // A segment has any length up to this: in effect all that is there.
        segments: vec![1 << 50],
        receive_buffers: vec![4 << 20],
        send_buffers: vec![4 << 20],
        descriptors: 1000,
        pipes: PipeKnobs {
            rooms: vec![1 << 20],
            ..PipeKnobs::default()
        },
        connect_hangs: 0,
        connect_fails: 0,
        connect_resets: 0,
    };
    match cutting {
        Cutting::Random(_) => Knobs {
            spurious: 100,
            stale: 100,
            shuffle: 500,
            linger: 300,
            race: 100,
            partial: 200,
            interrupted: 50,
            latency_max: 300 * MICRO,
            segments: vec![7, 1460, 1 << 50],
            receive_buffers: vec![600, 8192, 4 << 20],
            send_buffers: vec![600, 8192, 4 << 20],
            pipes: PipeKnobs {
                rooms: vec![100, 4096, 1 << 20],
                partial: 300,
                ..PipeKnobs::default()
            },
            ..kind
        },
        _ => kind,
    }
}
