//! Client actors: they ask in every form, at every pace, and leave at any point.

use super::answered::Sent;
use super::check::{CLIENT, Checker, LATE, LEFT, Outcome};
use super::kernel::{ConnId, Core, Due, MICRO, MILLI, Notice, Peer, SECOND};
use super::requests::{self, Request, Tastes};
use super::wire::write_content;

/// One client: so many connections, one after the other.
#[derive(Debug)]
pub struct Client {
    index: usize,
    tastes: Tastes,
    conns_left: u32,
    /// Connections so far; what was scheduled for an earlier one is void.
    epoch: u32,
    pub conn: Option<ConnId>,
    talk: Talk,
    /// It does nothing wrong and asks one simple thing: it has to be answered.
    is_fresh: bool,
}

/// What goes on on its connection.
#[derive(Debug, Default)]
struct Talk {
    stream: Vec<u8>,
    requests: Vec<Request>,
    told: usize,
    written: usize,
    got: u64,
    depth: usize,
    piece_max: usize,
    pause_max: u64,
    /// Waits no longer for a 100.
    is_impatient: bool,
    is_waiting: bool,
    leave: Option<Leave>,
    half_closes: bool,
    is_ended: bool,
    is_tunnel_sent: bool,
    /// Stays when all is answered, until the balancer has had enough.
    stays: bool,
    /// Breaks off its request when the response is there already.
    breaks_off: bool,
    is_stuck: bool,
    connected: bool,
}

#[derive(Debug, Clone, Copy)]
struct Leave {
    /// When so many bytes are written, or so many have come.
    written: u64,
    got: u64,
    how: How,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    Reset,
    Close,
    /// Ends its stream in the middle of a request.
    End,
    /// Writes no more and stays.
    Freeze,
    /// Reads no more and stays.
    Deaf,
}

const STEP: u32 = 0;
const PATIENCE: u32 = 1;
const BEGIN: u32 = 2;
const LEAVE: u32 = 3;

impl Client {
    pub fn new(index: usize, tastes: Tastes, conns: u32) -> Client {
        Client {
            index,
            tastes,
            conns_left: conns,
            epoch: 0,
            conn: None,
            talk: Talk::default(),
            is_fresh: false,
        }
    }

    /// A client that asks one small thing when all faults are over.
    pub fn fresh(index: usize) -> Client {
        Client {
            is_fresh: true,
            ..Client::new(index, Tastes::plain(), 1)
        }
    }

    /// Begins after `after` nanoseconds.
    pub fn start(&self, core: &mut Core, after: u64) {
        core.schedule(after, Due::Client(self.index, BEGIN | self.epoch << 8));
    }

    /// Whether it makes no further connection.
    pub fn is_last(&self) -> bool {
        self.conns_left == 0
    }

    /// Makes no further connection.
    pub fn make_last(&mut self) {
        self.conns_left = 0;
    }

    /// Goes wrong no more than it has.
    pub fn calm(&mut self) {
        self.tastes.calm();
        self.talk.leave = None;
    }

    pub fn due(&mut self, core: &mut Core, tag: u32) {
        if tag >> 8 != self.epoch & 0x00ff_ffff {
            return;
        }
        match (tag & 0xff, self.conn) {
            (BEGIN, None) => self.begin(core),
            (STEP, Some(conn)) => {
                self.talk.is_waiting = false;
                self.step(core, conn);
            }
            (PATIENCE, Some(conn)) => {
                self.talk.is_impatient = true;
                self.step(core, conn);
            }
            (LEAVE, Some(conn)) => self.close(core, conn),
            _ => {}
        }
    }

    fn later(&self, core: &mut Core, after: u64, what: u32) {
        core.schedule(after, Due::Client(self.index, what | self.epoch << 8));
    }

    fn begin(&mut self, core: &mut Core) {
        if self.conns_left == 0 {
            return;
        }
        self.conns_left -= 1;
        let conn = core.open(Peer::Client(self.index));
        self.conn = Some(conn);
        core.note("client connects", self.index, conn, 0);
        let mut stream = Vec::new();
        let requests = requests::write(core, &self.tastes, &mut stream);
        let rng = &mut core.rng;
        let tastes = &self.tastes;
        let total = stream.len() as u64;
        let leave = rng.chance(tastes.leaves).then(|| {
            let how = rng.pick(&[
                How::Reset,
                How::Reset,
                How::Close,
                How::Close,
                How::End,
                How::Freeze,
                How::Deaf,
            ]);
            if rng.chance(600) {
                Leave {
                    written: rng.below(total + 1),
                    got: u64::MAX,
                    how,
                }
            } else {
                Leave {
                    written: u64::MAX,
                    got: rng.size(3000),
                    how,
                }
            }
        });
        let piece_max = rng.pick(&tastes.pieces);
        let pause = rng
            .pick(&[0, 0, MICRO, 100 * MICRO, 5 * MILLI])
            .min(tastes.pause_max);
        let slow = rng.chance(tastes.slow_readers);
        self.talk = Talk {
            depth: if rng.chance(tastes.pipelines) {
                rng.range(2, 40) as usize
            } else {
                1
            },
            // A large stream in tiny pieces takes for ever.
            piece_max: piece_max.max(stream.len() / 300 + 1),
            pause_max: pause,
            leave,
            half_closes: rng.chance(tastes.half_closes),
            stays: rng.chance(tastes.stays),
            breaks_off: rng.chance(500),
            stream,
            requests,
            ..Talk::default()
        };
        if slow {
            // Not slower than the timeout allows: room is news only once a third is free.
            let most = (rng.range(1, 20_000) as usize).max(core.conns[conn].send_room / 20);
            let rest = rng.below(tastes.pause_max + 1);
            core.conns[conn].take_most = most;
            core.conns[conn].take_rest = rest;
        }
        let after = core.rng.below(core.knobs.latency_max + 1);
        core.schedule(after, Due::Arrive(conn));
    }

    pub fn notice(&mut self, core: &mut Core, conn: ConnId, notice: Notice) {
        if self.conn != Some(conn) {
            return;
        }
        match notice {
            Notice::Connected => {
                self.talk.connected = true;
                self.step(core, conn);
            }
            Notice::Arrived(count) => {
                self.talk.got += count;
                self.step(core, conn);
            }
            Notice::Ended => {
                core.note("client sees the end", self.index, conn, 0);
                self.close(core, conn);
            }
            Notice::Reset => {
                core.note("client sees a reset", self.index, conn, 0);
                self.judge_reset(core, conn);
                self.finish(core);
            }
        }
    }

    /// A reset must not take responses away that were whole.
    fn judge_reset(&self, core: &mut Core, conn: ConnId) {
        let got = self.talk.got;
        let is_slow = core.conns[conn].take_rest > 0;
        let amnesty = core.check.is_amnesty;
        let Some(tap) = core.check.client(conn) else {
            return;
        };
        let lost = tap.ends.iter().any(|end| *end > got);
        let ids: Vec<usize> = tap.requests.iter().map(|sent| sent.id).collect();
        let is_clean = ids.iter().all(|id| {
            let exchange = &core.check.exchanges[*id];
            // Of an upload that is refused no more than 1 MiB is read and thrown away.
            if exchange.content > 900_000 {
                return false;
            }
            let is_left = exchange.excuses & LEFT != 0 && exchange.outcome == Some(Outcome::Closed);
            exchange.excuses & (CLIENT | LATE) == 0
                && !is_left
                && matches!(
                    exchange.outcome,
                    Some(Outcome::Whole | Outcome::Own(_) | Outcome::Closed)
                )
        });
        if lost && is_clean && !is_slow && !amnesty {
            core.check.fail(|| {
                format!("client connection {conn} was reset before its last response had arrived")
            });
        }
    }

    fn close(&mut self, core: &mut Core, conn: ConnId) {
        core.note("client closes", self.index, conn, 0);
        core.peer_close(conn);
        self.finish(core);
    }

    /// The connection is over: the next one.
    fn finish(&mut self, core: &mut Core) {
        self.conn = None;
        self.epoch += 1;
        if self.conns_left > 0 {
            let after = core.rng.size(20 * MILLI);
            self.start(core, after);
        }
    }

    /// Does what can be done now.
    fn step(&mut self, core: &mut Core, conn: ConnId) {
        if !self.talk.connected || self.talk.is_stuck {
            return;
        }
        if self.leaves(core, conn) {
            return;
        }
        let got = self.talk.got;
        let Some(tap) = core.check.client(conn) else {
            return;
        };
        let answered = tap.ends.iter().filter(|end| **end <= got).count();
        let is_last = tap.is_close_announced && answered == tap.answered && !tap.is_midway();
        let continues = tap.continues > 0;
        let tunnel = tap.tunnel.is_some();
        if tunnel {
            return self.step_tunnel(core, conn);
        }
        let talk = &mut self.talk;
        let is_all_answered = answered == talk.requests.len();
        if is_all_answered || (is_last && talk.breaks_off) {
            if !talk.is_waiting {
                talk.is_waiting = true;
                // Some leave at once, some wait to be sent away.
                let after = if talk.stays {
                    100 * SECOND
                } else if is_last {
                    3 * SECOND
                } else {
                    core.rng.size(SECOND)
                };
                self.later(core, after, LEAVE);
            }
            return;
        }
        let mut limit = talk.requests[(answered + talk.depth - 1).min(talk.requests.len() - 1)].end;
        for (index, request) in talk.requests.iter().enumerate() {
            let waits = request.expects && talk.written <= request.head_end && index >= answered;
            if waits && !talk.is_impatient && !(continues && index == answered) {
                limit = limit.min(request.head_end);
                break;
            }
        }
        if talk.written < limit && !talk.is_waiting {
            self.write(core, conn, limit);
        }
    }

    fn write(&mut self, core: &mut Core, conn: ConnId, limit: usize) {
        let talk = &mut self.talk;
        let most = core.rng.range(1, talk.piece_max as u64) as usize;
        let end = limit.min(talk.written + most);
        while let Some(request) = talk
            .requests
            .get(talk.told)
            .filter(|request| request.start < end)
        {
            let sent = Sent {
                id: request.id,
                start: request.start as u64,
                head_end: request.head_end as u64,
            };
            talk.told += 1;
            if request.is_faulty || core.check.client(conn).is_some_and(|tap| tap.is_lost) {
                core.check.excuse(request.id, CLIENT);
            }
            if let Some(tap) = core.check.client(conn) {
                tap.requests.push(sent);
            }
        }
        let bytes = talk.stream[talk.written..end].to_vec();
        talk.written = end;
        core.note("client writes", self.index, conn, bytes.len());
        core.peer_send(conn, &bytes);
        let talk = &mut self.talk;
        if end == talk.stream.len() && talk.half_closes && !talk.is_ended {
            talk.is_ended = true;
            let ids: Vec<usize> = talk.requests.iter().map(|request| request.id).collect();
            for id in ids {
                core.check.excuse(id, LEFT);
            }
            core.note("client ends", self.index, conn, 0);
            core.peer_end(conn);
            return;
        }
        if talk
            .requests
            .iter()
            .any(|request| request.expects && request.head_end == end)
            && !talk.is_impatient
        {
            let patience = core.rng.size(200 * MILLI);
            self.later(core, patience, PATIENCE);
        }
        let talk = &mut self.talk;
        talk.is_waiting = true;
        let pause = core.rng.below(talk.pause_max + 1);
        self.later(core, pause, STEP);
    }

    fn step_tunnel(&mut self, core: &mut Core, conn: ConnId) {
        if self.talk.is_tunnel_sent {
            return;
        }
        self.talk.is_tunnel_sent = true;
        let Some(tap) = core.check.client(conn) else {
            return;
        };
        let id = tap.requests.get(tap.answered).map_or(0, |sent| sent.id);
        let mut bytes = Vec::new();
        let count = core.rng.size(30_000) as usize;
        write_content(&mut bytes, Checker::tunnel_key(id), 0, count);
        core.peer_send(conn, &bytes);
        if core.rng.chance(500) {
            core.peer_end(conn);
        }
    }

    /// Leaves, if that is due; tells whether it has.
    fn leaves(&mut self, core: &mut Core, conn: ConnId) -> bool {
        let talk = &mut self.talk;
        let Some(leave) = talk.leave else {
            return false;
        };
        if (talk.written as u64) < leave.written && talk.got < leave.got {
            return false;
        }
        talk.leave = None;
        core.note("client leaves", self.index, conn, leave.how as usize);
        blame(&mut core.check, conn);
        // What it does from here on is no honest asking either.
        for request in &mut talk.requests {
            request.is_faulty = true;
        }
        match leave.how {
            How::Reset => core.peer_reset(conn),
            How::Close => core.peer_close(conn),
            How::End => {
                core.peer_end(conn);
                talk.is_stuck = true;
                return true;
            }
            How::Freeze => {
                talk.is_stuck = true;
                return true;
            }
            How::Deaf => {
                core.peer_pause(conn, true);
                return false;
            }
        }
        self.finish(core);
        true
    }

    /// For fresh clients: whether all went well.
    pub fn judge_fresh(&self, core: &mut Core) {
        let is_served = self.talk.requests.first().is_some_and(|request| {
            core.check.exchanges[request.id].outcome == Some(Outcome::Whole)
        });
        if self.is_fresh && !is_served {
            let index = self.index;
            core.check.fail(|| {
                format!("a fresh client {index} was not served when all faults were over")
            });
        }
    }
}

/// What is open on the connection fails by the client's own doing.
fn blame(check: &mut Checker, conn: ConnId) {
    let Some(tap) = check.client(conn) else {
        return;
    };
    let ids: Vec<usize> = tap
        .requests
        .iter()
        .skip(tap.answered)
        .map(|sent| sent.id)
        .collect();
    for id in ids {
        check.excuse(id, CLIENT);
    }
}
