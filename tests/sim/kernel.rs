//! The operating systems between the balancer and its peers: connections, buffers, time, edges.
//!
//! Each connection has two ends. The balancer's end is a socket as Linux gives it, edge-triggered;
//! the other end belongs to an actor, which writes without limit and takes bytes as fast as it
//! says. What the balancer sends is read at once by the checker, so only its count travels on.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::io;

use bestguess::net::{Ready, Signal, Token};

use super::check::Checker;
use super::rng::Rng;
use super::trace::Trace;

/// A connection; never used twice in one run.
pub type ConnId = usize;

pub const MICRO: u64 = 1_000;
pub const MILLI: u64 = 1_000_000;
pub const SECOND: u64 = 1_000_000_000;

/// What is to happen at some moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Due {
    /// The next segment reaches the balancer.
    Deliver(ConnId),
    /// The peer takes what the balancer has sent.
    Drain(ConnId),
    /// Memory for sending is free again.
    Room(ConnId),
    /// A connection that a client made reaches the listener.
    Arrive(ConnId),
    /// A connection that the balancer made stands.
    Establish(ConnId),
    /// A connection that the balancer made is refused.
    Refuse(ConnId),
    /// The peer hears that the connection is reset.
    PeerReset(ConnId),
    /// A client actor's own affair.
    Client(usize, u32),
    /// A server actor's own affair, on this connection.
    Server(ConnId, u32),
    /// Somebody at the admin listener, on this connection.
    Admin(ConnId, u32),
    /// The world's own affair.
    World(u32),
}

/// What an actor is told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notice {
    /// The connection that it asked for stands, or a connection to it.
    Connected,
    /// Bytes arrived.
    Arrived(u64),
    /// The balancer has ended its stream.
    Ended,
    /// The connection is reset, or was refused.
    Reset,
}

/// Who is at the other end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    Client(usize),
    Server(usize),
    Admin(usize),
}

/// How unkind the network is; chances in a thousand.
#[derive(Debug, Clone)]
pub struct Knobs {
    pub spurious: u64,
    pub stale: u64,
    pub shuffle: u64,
    pub batch_max: usize,
    pub linger: u64,
    pub race: u64,
    pub partial: u64,
    pub interrupted: u64,
    pub reset_discards: u64,
    pub abort_shows: u64,
    pub latency_max: u64,
    pub segments: Vec<usize>,
    pub receive_buffers: Vec<usize>,
    pub send_buffers: Vec<usize>,
    pub descriptors: usize,
    pub pipes: PipeKnobs,
    /// Of connections to servers: hang, are refused, are reset once they stand.
    pub connect_hangs: u64,
    pub connect_fails: u64,
    pub connect_resets: u64,
}

/// What the system's pipes are like.
#[derive(Debug, Clone, Default)]
pub struct PipeKnobs {
    /// What they hold, in bytes; none: there are no pipes.
    pub rooms: Vec<usize>,
    /// How often none is to be had; of a thousand.
    pub fails: u64,
    /// How often less is moved than could be; of a thousand.
    pub partial: u64,
    /// Every eighth connection cannot be spliced.
    pub are_some_plain: bool,
    /// The system has pipes, and does not splice into them.
    pub is_unsupported: bool,
}

/// The balancer's half of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// On its way.
    Connecting,
    /// It stands, or stood.
    Open,
    /// Reset or refused.
    Gone,
}

/// One connection.
#[derive(Debug)]
pub struct Connection {
    pub peer: Peer,
    pub token: Option<Token>,
    pub stage: Stage,
    /// Whether the balancer has it still, and which of its processes.
    pub is_held: bool,
    pub process: usize,
    /// Whether the balancer's end of it is a reset.
    pub aborts: bool,
    /// What the balancer's next call is told once.
    pub error: Option<io::ErrorKind>,
    pub received: VecDeque<u8>,
    receive_room: usize,
    pub is_end_received: bool,
    /// Bytes that the balancer sent and the peer has not taken.
    pub sending: usize,
    pub send_room: usize,
    /// A call found no room: room is news.
    pub wants_room: bool,
    /// Memory is short: nothing can be sent for a moment.
    pub is_short: bool,
    pub is_end_sent: bool,
    is_end_told: bool,
    is_ready: bool,
    /// What the peer has sent and is on its way.
    out: VecDeque<u8>,
    out_end: bool,
    out_reset: bool,
    /// The peer has closed its socket altogether.
    pub is_peer_gone: bool,
    /// The peer takes at most this many bytes at once, and rests this long between.
    pub take_most: usize,
    pub take_rest: u64,
    is_paused: bool,
    is_delivering: bool,
    is_draining: bool,
    latency: u64,
    segment: usize,
    delivered: u64,
}

/// What the operating system keeps for one of the balancer's processes.
#[derive(Debug, Default)]
pub struct Process {
    pub is_alive: bool,
    /// Connections with news.
    pub ready: Vec<ConnId>,
    /// Tokens of sockets that are gone.
    pub dead_tokens: Vec<Token>,
    pub signals: VecDeque<Signal>,
    pub descriptors: usize,
    /// Whether it has the listener, and whether that has news for it.
    pub is_listening: bool,
    pub is_listener_ready: bool,
    /// The same of the admin listener.
    pub has_admin: bool,
    pub is_admin_ready: bool,
    /// When its last poll would have ended by itself, and whether that found nothing to do.
    pub wake_at: u64,
    pub is_settled: bool,
}

impl Process {
    /// It accepts from both listeners from now on, where this many wait.
    pub fn attach(&mut self, waiting: usize, admins: usize) {
        (self.is_listening, self.has_admin) = (true, true);
        (self.is_listener_ready, self.is_admin_ready) = (waiting > 0, admins > 0);
    }

    pub fn has_listener_news(&self) -> bool {
        self.is_listening && self.is_listener_ready
    }

    pub fn has_admin_news(&self) -> bool {
        self.has_admin && self.is_admin_ready
    }

    /// It accepts no more; the listeners stay.
    pub fn leave(&mut self) {
        (self.is_listening, self.has_admin) = (false, false);
    }
}

/// All but the actors.
#[derive(Debug)]
pub struct Core {
    pub now: u64,
    turn_no: u64,
    seq: u64,
    queue: BinaryHeap<Reverse<(u64, u64, Due)>>,
    pub rng: Rng,
    pub trace: Trace,
    pub conns: Vec<Connection>,
    pub processes: Vec<Process>,
    pub backlog: VecDeque<ConnId>,
    /// The same of the admin listener.
    pub admin_backlog: VecDeque<ConnId>,
    pub knobs: Knobs,
    pub check: Checker,
}

impl Core {
    pub fn new(rng: Rng, knobs: Knobs, check: Checker, is_loud: bool) -> Core {
        Core {
            now: SECOND,
            turn_no: 0,
            seq: 0,
            queue: BinaryHeap::new(),
            rng,
            trace: Trace::new(is_loud),
            conns: Vec::new(),
            processes: Vec::new(),
            backlog: VecDeque::new(),
            admin_backlog: VecDeque::new(),
            knobs,
            check,
        }
    }

    pub fn note(&mut self, what: &'static str, a: usize, b: usize, c: usize) {
        // What happens behind a violation only hides it.
        if self.check.failure.is_none() {
            self.trace
                .note(self.now, what, a as u64, b as u64, c as u64);
        }
    }

    /// Has `due` happen `after` nanoseconds.
    pub fn schedule(&mut self, after: u64, due: Due) {
        self.seq += 1;
        self.queue.push(Reverse((self.now + after, self.seq, due)));
    }

    /// When something happens next.
    pub fn next_at(&self) -> Option<u64> {
        self.queue.peek().map(|Reverse((at, _, _))| *at)
    }

    /// Takes the next thing and moves the time to it.
    pub fn pop(&mut self) -> Option<Due> {
        let Reverse((at, _, due)) = self.queue.pop()?;
        self.now = self.now.max(at);
        Some(due)
    }

    /// A new connection with `peer`.
    pub fn open(&mut self, peer: Peer) -> ConnId {
        let latency = self.rng.below(self.knobs.latency_max + 1);
        let segment = self.rng.pick(&self.knobs.segments);
        let receive_room = self.rng.pick(&self.knobs.receive_buffers);
        let send_room = self.rng.pick(&self.knobs.send_buffers);
        self.conns.push(Connection {
            peer,
            token: None,
            stage: Stage::Connecting,
            is_held: false,
            process: 0,
            aborts: false,
            error: None,
            received: VecDeque::new(),
            receive_room,
            is_end_received: false,
            sending: 0,
            send_room,
            wants_room: false,
            is_short: false,
            is_end_sent: false,
            is_end_told: false,
            is_ready: false,
            out: VecDeque::new(),
            out_end: false,
            out_reset: false,
            is_peer_gone: false,
            take_most: usize::MAX,
            take_rest: 0,
            is_paused: false,
            is_delivering: false,
            is_draining: false,
            latency,
            segment,
            delivered: 0,
        });
        let conn = self.conns.len() - 1;
        self.check.opened(conn, peer);
        conn
    }

    /// What a poll would say of the balancer's socket (Linux: tcp_poll).
    pub fn mask(&self, conn: ConnId) -> Ready {
        let conn = &self.conns[conn];
        let mut ready = Ready::NONE;
        match conn.stage {
            Stage::Connecting => return ready,
            Stage::Gone => {
                return Ready::READABLE
                    .with(Ready::WRITABLE)
                    .with(Ready::PEER_CLOSED)
                    .with(Ready::HUNG_UP);
            }
            Stage::Open => {}
        }
        if conn.is_end_received {
            ready.add(Ready::READABLE.with(Ready::PEER_CLOSED));
            if conn.is_end_sent {
                ready.add(Ready::HUNG_UP);
            }
        }
        if !conn.received.is_empty() {
            ready.add(Ready::READABLE);
        }
        if conn.is_end_sent || conn.has_room() {
            ready.add(Ready::WRITABLE);
        }
        ready
    }

    /// There is news of the balancer's socket.
    pub fn wake(&mut self, conn: ConnId) {
        let connection = &mut self.conns[conn];
        if connection.is_held && connection.token.is_some() && !connection.is_ready {
            connection.is_ready = true;
            let process = connection.process;
            self.processes[process].ready.push(conn);
        }
    }

    /// The news was told.
    pub fn told(&mut self, conn: ConnId) {
        let connection = &mut self.conns[conn];
        connection.is_ready = false;
        if connection.stage == Stage::Open && !connection.has_room() {
            connection.wants_room = true;
        }
    }

    /// The peer sends `bytes`.
    pub fn peer_send(&mut self, conn: ConnId, bytes: &[u8]) {
        let connection = &mut self.conns[conn];
        if connection.out_end || connection.out_reset || connection.is_peer_gone {
            return;
        }
        connection.out.extend(bytes);
        self.start_delivery(conn);
    }

    /// The peer ends its stream and goes on reading.
    pub fn peer_end(&mut self, conn: ConnId) {
        self.conns[conn].out_end = true;
        self.start_delivery(conn);
    }

    /// The peer closes its socket: what still comes is answered with a reset.
    pub fn peer_close(&mut self, conn: ConnId) {
        let connection = &mut self.conns[conn];
        connection.is_peer_gone = true;
        if connection.sending > 0 {
            connection.out_reset = true;
        } else {
            connection.out_end = true;
        }
        self.start_delivery(conn);
    }

    /// The peer resets the connection, behind what it has sent.
    pub fn peer_reset(&mut self, conn: ConnId) {
        let connection = &mut self.conns[conn];
        connection.is_peer_gone = true;
        connection.out_reset = true;
        self.start_delivery(conn);
    }

    /// The peer reads no more, for the time being.
    pub fn peer_pause(&mut self, conn: ConnId, is_paused: bool) {
        self.conns[conn].is_paused = is_paused;
        self.start_drain(conn);
    }

    fn start_delivery(&mut self, conn: ConnId) {
        let connection = &mut self.conns[conn];
        if !connection.is_delivering && connection.stage != Stage::Gone {
            connection.is_delivering = true;
            let latency = connection.latency;
            let jitter = self.rng.below(latency / 4 + 1);
            self.schedule(latency + jitter, Due::Deliver(conn));
        }
    }

    fn start_drain(&mut self, conn: ConnId) {
        let connection = &mut self.conns[conn];
        let has_work =
            connection.sending > 0 || (connection.is_end_sent && !connection.is_end_told);
        if has_work
            && !connection.is_draining
            && !connection.is_paused
            && connection.stage == Stage::Open
        {
            connection.is_draining = true;
            let after = connection.latency.max(connection.take_rest);
            self.schedule(after, Due::Drain(conn));
        }
    }

    /// The balancer has sent something, or ended.
    pub fn sent(&mut self, conn: ConnId) {
        self.start_drain(conn);
    }

    /// The balancer has received something.
    pub fn made_room(&mut self, conn: ConnId) {
        let connection = &self.conns[conn];
        if !connection.out.is_empty() || connection.out_end || connection.out_reset {
            self.start_delivery(conn);
        }
    }

    /// One segment, an end or a reset reaches the balancer's socket.
    pub fn deliver(&mut self, conn: ConnId) {
        let most = {
            let segment = self.conns[conn].segment;
            // One byte at a time is for heads only, or it would take for ever.
            if segment == 1 && self.conns[conn].delivered % 5000 > 600 {
                2000
            } else {
                segment
            }
        };
        let most = self.rng.range(1, most as u64) as usize;
        let discards = self.rng.chance(self.knobs.reset_discards);
        let connection = &mut self.conns[conn];
        connection.is_delivering = false;
        if connection.stage == Stage::Gone {
            return;
        }
        if !connection.is_held && matches!(connection.peer, Peer::Server(_))
            || connection.is_dropped()
        {
            // Nobody is there: bytes are answered with a reset, which also kills what is on its way.
            if !connection.out.is_empty() && !connection.is_peer_gone {
                connection.stage = Stage::Gone;
                connection.out.clear();
                connection.sending = 0;
                let latency = connection.latency;
                self.schedule(latency, Due::PeerReset(conn));
            }
            return;
        }
        if !connection.out.is_empty() {
            let room = connection
                .receive_room
                .saturating_sub(connection.received.len());
            let count = most.min(room).min(connection.out.len());
            if count == 0 {
                return;
            }
            shift(&mut connection.out, &mut connection.received, count);
            connection.delivered += count as u64;
            let is_over = connection.out.is_empty();
            let has_end = connection.out_end || connection.out_reset;
            self.note("delivered", conn, count, 0);
            self.wake(conn);
            // An end may come with the last bytes, or later.
            if !is_over || has_end {
                if is_over && self.rng.chance(500) {
                    return self.deliver(conn);
                }
                let gap = if self.rng.chance(500) {
                    self.rng.below(20 * MICRO)
                } else {
                    self.rng.below(self.knobs.latency_max / 8 + 1)
                };
                self.conns[conn].is_delivering = true;
                self.schedule(gap, Due::Deliver(conn));
            }
            return;
        }
        if connection.out_reset {
            connection.stage = Stage::Gone;
            connection.error = Some(io::ErrorKind::ConnectionReset);
            connection.sending = 0;
            if discards {
                connection.received.clear();
            }
            self.note("reset arrives", conn, 0, 0);
            self.wake(conn);
        } else if connection.out_end && !connection.is_end_received {
            connection.is_end_received = true;
            self.note("end arrives", conn, 0, 0);
            self.wake(conn);
        }
    }

    /// The peer takes bytes; what it is told of.
    pub fn drain(&mut self, conn: ConnId) -> Option<Notice> {
        let connection = &mut self.conns[conn];
        connection.is_draining = false;
        if connection.stage == Stage::Gone || connection.is_paused {
            return None;
        }
        if connection.is_peer_gone {
            if connection.sending > 0 {
                connection.out_reset = true;
                connection.out.clear();
                self.start_delivery(conn);
            }
            return None;
        }
        let count = connection.sending.min(connection.take_most);
        connection.sending -= count;
        if count == 0 {
            if connection.is_end_sent && !connection.is_end_told {
                connection.is_end_told = true;
                return Some(Notice::Ended);
            }
            return None;
        }
        let is_news = connection.wants_room && connection.has_room();
        if is_news {
            connection.wants_room = false;
            self.wake(conn);
        }
        self.start_drain(conn);
        Some(Notice::Arrived(count as u64))
    }

    /// Memory for sending is there again.
    pub fn room(&mut self, conn: ConnId) {
        let connection = &mut self.conns[conn];
        connection.is_short = false;
        if connection.wants_room && connection.has_room() && connection.stage == Stage::Open {
            connection.wants_room = false;
            self.wake(conn);
        }
    }

    /// A connection of the balancer's stands; none if it does not want it any more.
    pub fn establish(&mut self, conn: ConnId) -> Option<Notice> {
        let connection = &mut self.conns[conn];
        if !connection.is_held || connection.stage != Stage::Connecting {
            return None;
        }
        connection.stage = Stage::Open;
        self.note("established", conn, 0, 0);
        self.wake(conn);
        Some(Notice::Connected)
    }

    /// A connection of the balancer's is refused.
    pub fn refuse(&mut self, conn: ConnId, kind: io::ErrorKind) {
        let connection = &mut self.conns[conn];
        if connection.is_held && connection.stage == Stage::Connecting {
            connection.stage = Stage::Gone;
            connection.error = Some(kind);
            self.note("refused", conn, 0, 0);
            self.wake(conn);
        }
    }

    /// The balancer lets go of its socket.
    pub fn drop_socket(&mut self, conn: ConnId) {
        self.note("closed by balancer", conn, 0, 0);
        self.lets_go(conn);
        self.check.dropped(conn, self.now);
        let connection = &mut self.conns[conn];
        let process = &mut self.processes[connection.process];
        process.descriptors -= 1;
        connection.is_held = false;
        connection.is_ready = false;
        if let Some(token) = connection.token {
            process.dead_tokens.push(token);
            process.ready.retain(|ready| *ready != conn);
        }
        let connection = &mut self.conns[conn];
        match connection.stage {
            Stage::Connecting => connection.stage = Stage::Gone,
            Stage::Open if !connection.received.is_empty() || connection.aborts => {
                // Closing with bytes unread resets the connection, and so does an abort.
                connection.stage = Stage::Gone;
                connection.sending = 0;
                let latency = connection.latency;
                if !connection.is_peer_gone {
                    self.schedule(latency, Due::PeerReset(conn));
                }
            }
            Stage::Open => {
                connection.is_end_sent = true;
                self.start_drain(conn);
                // What the peer has on its way meets nobody.
                if !self.conns[conn].out.is_empty() {
                    self.start_delivery(conn);
                }
            }
            Stage::Gone => {}
        }
    }

    /// The balancer ends a connection whose peer may still have something to say.
    pub fn lets_go(&mut self, conn: ConnId) {
        let connection = &self.conns[conn];
        let has_left = connection.is_peer_gone || connection.is_end_received;
        if connection.stage == Stage::Open && !has_left {
            let has_unread = !connection.received.is_empty();
            self.check.lets_go(conn, has_unread, self.now);
        }
    }

    /// A new process of the balancer's, which has no listener yet; its number.
    pub fn fork(&mut self) -> usize {
        self.processes.push(Process {
            is_alive: true,
            ..Process::default()
        });
        self.check.forked();
        self.processes.len() - 1
    }

    /// Whether more than one process is there.
    pub fn is_company(&self) -> bool {
        self.processes.iter().filter(|it| it.is_alive).count() > 1
    }

    /// A connection waits at the listener, which is news for all who have that.
    pub fn knock(&mut self, conn: ConnId) {
        self.backlog.push_back(conn);
        for process in &mut self.processes {
            process.is_listener_ready = true;
        }
    }

    /// A process has the connection from now on.
    pub fn hold(&mut self, conn: ConnId, process: usize) {
        let connection = &mut self.conns[conn];
        (connection.is_held, connection.process) = (true, process);
        self.processes[process].descriptors += 1;
        self.check.held(conn, process);
    }

    /// A process listens no more: what nobody has accepted is nobody's affair, if no other listens.
    pub fn close_listener(&mut self, process: usize) {
        self.processes[process].is_listening = false;
        if self.processes.iter().any(|process| process.is_listening) {
            return;
        }
        self.note("listener closed", self.backlog.len(), 0, 0);
        while let Some(conn) = self.backlog.pop_front() {
            self.conns[conn].stage = Stage::Gone;
            self.schedule(0, Due::PeerReset(conn));
        }
    }

    /// Lets bytes through faster from now on, so that what is slow comes to its end.
    pub fn widen(&mut self) {
        self.knobs.segments = vec![200, 1460, 65_536];
        self.knobs.receive_buffers = vec![16_384, 65_536];
        self.knobs.send_buffers = vec![16_384, 65_536];
        self.knobs.partial = self.knobs.partial.min(100);
        for room in &mut self.knobs.pipes.rooms {
            *room = (*room).max(65_536);
        }
        for connection in &mut self.conns {
            (connection.take_most, connection.take_rest) = (usize::MAX, 0);
            connection.segment = connection.segment.max(1460);
            connection.receive_room = connection.receive_room.max(16_384);
            connection.send_room = connection.send_room.max(16_384);
        }
    }

    pub fn turn_no(&self) -> u64 {
        self.turn_no
    }

    pub fn next_turn(&mut self) {
        self.turn_no += 1;
    }
}

impl Connection {
    /// Whether so much is free that a poll calls it writable (Linux: sk_stream_is_writeable).
    pub fn has_room(&self) -> bool {
        !self.is_short && (self.send_room - self.sending) * 3 >= self.send_room
    }

    fn is_dropped(&self) -> bool {
        !self.is_held && self.is_end_sent
    }
}

/// Moves the first `count` bytes of `from` behind those of `to`.
fn shift(from: &mut VecDeque<u8>, to: &mut VecDeque<u8>, count: usize) {
    let (front, back) = from.as_slices();
    let here = count.min(front.len());
    to.extend(&front[..here]);
    to.extend(&back[..count - here]);
    from.drain(..count);
}
