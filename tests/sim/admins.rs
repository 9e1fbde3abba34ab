//! Those who come to the admin listener: they ask in every form, order changes and try what they may
//! not, in pieces, read slowly, for a while or not at all, say nothing, and leave at any point.
//!
//! What they get is read along: each answer is whole unless they left or did not read, none is a 5xx
//! but 501 and 505, no attempt succeeds, and events come whole. What an order came to is in `changes`.
//! That nothing of them is left in an empty house, the run says.

use super::changes::Members;
use super::check::{Checker, Tap};
use super::kernel::{ConnId, Core, Due, MILLI, Notice, Peer, SECOND, Stage};
use super::orders::{self, Door};
use super::rng::Rng;

/// What they ask, whole or broken; a bar stands where the token goes.
const ASKED: [&str; 16] = [
    "GET / HTTP/1.1\r\nHost: localhost\r\n|\r\n",
    "GET /status HTTP/1.1\r\nHost: localhost\r\n|\r\n",
    "GET /status HTTP/1.1\r\nHost: localhost\r\n|\r\n",
    "GET /metrics HTTP/1.1\r\nHost: localhost\r\n|\r\n",
    "GET /guesses HTTP/1.1\r\nHost: localhost\r\n|\r\n",
    "GET /guesses?format=text HTTP/1.1\r\nHost: localhost\r\n|\r\n",
    "GET /healthcheck HTTP/1.0\r\n\r\n",
    "GET /servers HTTP/1.1\r\nHost: localhost\r\n|\r\n",
    "GET /nothing HTTP/1.1\r\nHost: localhost\r\n|\r\n",
    "GET /status HTTP/1.1\r\nHost: elsewhere.example\r\n|\r\n",
    "POST /servers/nobody/drain HTTP/1.1\r\nHost: localhost\r\n|Content-Length: 3\r\n\r\nabc",
    "POST /servers HTTP/1.1\r\nHost: localhost\r\n|Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    "POST /servers HTTP/1.1\r\nHost: localhost\r\n|Content-Length: 99999999\r\n\r\nmore",
    "GET /events HTTP/1.1\r\nHost: localhost\r\n|\r\n",
    "GET /events HTTP/1.1\r\nHost: localhost\r\n|\r\n",
    "no request\r\n\r\n",
];

/// All of them.
#[derive(Debug)]
pub struct Admins {
    /// How often one comes, in nanoseconds; 0: never.
    pub every: u64,
    door: Door,
    talks: Vec<Talk>,
}

/// One connection.
#[derive(Debug)]
struct Talk {
    conn: ConnId,
    stream: Vec<u8>,
    /// Which of its requests are attempts.
    attempts: Vec<bool>,
    written: usize,
    /// The book that it is in if it orders something.
    book: usize,
    /// Where in the stream an order is whole.
    order_end: Option<usize>,
    piece: usize,
    /// Where in the stream it rests for a while.
    rests_at: Option<usize>,
    /// It read no more, or left: what it got may end anywhere.
    is_excused: bool,
}

const STEP: u32 = 0;
const LEAVE: u32 = 1;
const STALL: u32 = 2;
const RESUME: u32 = 3;

impl Admins {
    pub fn new(every: u64, door: Door) -> Admins {
        Admins {
            every,
            door,
            talks: Vec::new(),
        }
    }

    /// One comes.
    pub fn come(&mut self, core: &mut Core, book: usize, members: &mut Members) {
        let conn = core.open(Peer::Admin(self.talks.len()));
        core.conns[conn].stage = Stage::Open;
        core.note("somebody comes to the admin listener", conn, 0, 0);
        core.admin_backlog.push_back(conn);
        for process in &mut core.processes {
            process.is_admin_ready = true;
        }
        let rng = &mut core.rng;
        let (mut stream, mut attempts, mut order) = (Vec::new(), Vec::new(), None);
        for place in 0..rng.below(4) as usize {
            let (request, is_attempt) = match rng.below(10) {
                0..6 => (asked(self.door, rng), false),
                6..8 => (orders::attempt(&members.anchor(), self.door, rng), true),
                _ if order.is_some() || self.door == Door::Wide => (asked(self.door, rng), false),
                _ => match members.order(rng) {
                    Some(wanted) => {
                        let (request, status) = orders::order(&wanted.change, self.door, rng);
                        order = Some((wanted, place, status, stream.len() + request.len()));
                        (request, false)
                    }
                    None => (asked(self.door, rng), false),
                },
            };
            stream.extend_from_slice(&request);
            attempts.push(is_attempt);
        }
        if rng.chance(300) {
            stream.truncate(rng.below(stream.len() as u64 + 1) as usize);
        }
        let piece = rng.pick(&[1, 20, 1000]).max(stream.len() / 50 + 1);
        let stays = rng.size(4 * SECOND);
        let is_deaf = rng.chance(150);
        let stall = rng.chance(150).then(|| rng.size(SECOND));
        let starts = order.as_ref().map_or(0, |(_, _, _, end)| end / 2);
        let rests_at = rng
            .chance(400)
            .then(|| starts.max(rng.below(stream.len() as u64 + 1) as usize));
        let mut order_end = None;
        if let Some((wanted, place, status, end)) = order
            && end <= stream.len()
        {
            members.begin(wanted, conn, place, status);
            order_end = Some(end);
        }
        let talk = Talk {
            conn,
            stream,
            attempts,
            written: 0,
            book,
            order_end,
            piece,
            rests_at,
            is_excused: is_deaf,
        };
        self.talks.push(talk);
        if is_deaf {
            core.peer_pause(conn, true);
        } else if let Some(after) = stall {
            core.schedule(after, Due::Admin(conn, STALL));
        }
        core.schedule(0, Due::Admin(conn, STEP));
        core.schedule(stays, Due::Admin(conn, LEAVE));
    }

    pub fn due(&mut self, core: &mut Core, books: &mut [Members], conn: ConnId, tag: u32) {
        let Some(talk) = self.talk(core, conn) else {
            return;
        };
        match tag {
            LEAVE => {
                talk.is_excused = true;
                if core.rng.chance(500) {
                    core.peer_reset(conn);
                } else {
                    core.peer_close(conn);
                }
                return;
            }
            STALL => {
                core.note("admin reads no more", conn, 0, 0);
                core.peer_pause(conn, true);
                // Nobody waits as long as that for a reader.
                let is_long = core.rng.chance(500);
                let span = if is_long { 20 * SECOND } else { SECOND };
                talk.is_excused |= is_long;
                let after = core.rng.below(span);
                return core.schedule(after, Due::Admin(conn, RESUME));
            }
            RESUME => return core.peer_pause(conn, false),
            _ => {}
        }
        let end = talk.stream.len().min(talk.written + talk.piece);
        let piece = talk.stream[talk.written..end].to_vec();
        talk.written = end;
        let is_over = end == talk.stream.len();
        let rests = talk.rests_at.is_some_and(|at| at <= end);
        if rests {
            talk.rests_at = None;
        }
        if talk.order_end.is_some_and(|order| order <= end) {
            talk.order_end = None;
            books[talk.book].ordered(&mut core.check);
        }
        core.peer_send(conn, &piece);
        if !is_over {
            let pause = match rests {
                true => core.rng.below(3 * SECOND),
                false => core.rng.size(50 * MILLI),
            };
            core.schedule(pause, Due::Admin(conn, STEP));
        }
    }

    pub fn notice(&mut self, core: &mut Core, conn: ConnId, notice: Notice) {
        if notice == Notice::Ended {
            core.peer_end(conn);
        }
    }

    /// Nobody comes any more; who is there leaves.
    pub fn leave(&mut self, core: &mut Core) {
        self.every = 0;
        for talk in &mut self.talks {
            if core.conns[talk.conn].is_held || core.admin_backlog.contains(&talk.conn) {
                talk.is_excused = true;
                core.peer_reset(talk.conn);
            }
        }
    }

    /// A process has ended: what those got who talked to it may end anywhere.
    pub fn ended(&mut self, core: &Core, process: usize) {
        for talk in &mut self.talks {
            let conn = &core.conns[talk.conn];
            talk.is_excused |= conn.is_held && conn.process == process;
        }
    }

    fn talk(&mut self, core: &Core, conn: ConnId) -> Option<&mut Talk> {
        match core.conns[conn].peer {
            Peer::Admin(index) => self.talks.get_mut(index),
            _ => None,
        }
    }

    /// What is wrong with what one of them got.
    pub fn wrong(&self, check: &Checker) -> Option<String> {
        self.talks.iter().find_map(|talk| {
            let Some(Tap::Admin(heard)) = check.taps.get(talk.conn) else {
                return None;
            };
            let mut statuses = Vec::new();
            let wrong = judge(heard, &mut statuses);
            let mut outcomes = talk.attempts.iter().zip(&statuses);
            if outcomes.any(|(is_attempt, status)| *is_attempt && *status < 400) {
                let conn = talk.conn;
                return Some(format!(
                    "an attempt on admin connection {conn} came to {statuses:?}"
                ));
            }
            let wrong = wrong?;
            let is_cut = matches!(wrong, Wrong::Cut);
            // Who does not read, or trickles, or left, may be cut off.
            (!(is_cut && talk.is_excused)).then(|| {
                let text = String::from_utf8_lossy(heard);
                let tail: String = text.chars().rev().take(300).collect();
                let tail: String = tail.chars().rev().collect();
                format!("admin connection {}: {wrong:?} in …{tail:?}", talk.conn)
            })
        })
    }
}

/// One of the things to ask.
fn asked(door: Door, rng: &mut Rng) -> Vec<u8> {
    let key = if rng.chance(900) { door.key() } else { "" };
    rng.pick(&ASKED).replace('|', key).into_bytes()
}

/// The statuses of the answers whose heads are whole, but for interim ones.
pub fn statuses(heard: &[u8]) -> Vec<u16> {
    let mut statuses = Vec::new();
    judge(heard, &mut statuses);
    statuses
}

#[derive(Debug)]
enum Wrong {
    Cut,
    Head,
    Status,
    Events,
}

/// Reads answers one behind the other; their statuses.
fn judge(mut rest: &[u8], statuses: &mut Vec<u16>) -> Option<Wrong> {
    while !rest.is_empty() {
        let Some(end) = rest.windows(4).position(|four| four == b"\r\n\r\n") else {
            return Some(Wrong::Cut);
        };
        let head = String::from_utf8_lossy(&rest[..end]).into_owned();
        rest = &rest[end + 4..];
        let Some(status) = head.strip_prefix("HTTP/1.1 ") else {
            return Some(Wrong::Head);
        };
        let status: u16 = status.get(..3).and_then(|it| it.parse().ok()).unwrap_or(0);
        if !matches!(status, 100 | 200..=499 | 501 | 505) {
            return Some(Wrong::Status);
        }
        if status == 100 {
            continue;
        }
        statuses.push(status);
        if head.contains("text/event-stream") {
            let text = String::from_utf8_lossy(rest);
            let mut events: Vec<&str> = text.split("\n\n").collect();
            if events.pop() != Some("") {
                return Some(Wrong::Cut);
            }
            let is_well = |event: &&str| {
                event.starts_with("event: ") && event.contains("\ndata: {") && event.ends_with('}')
            };
            return (!events.iter().all(is_well)).then_some(Wrong::Events);
        }
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("Content-Length: "));
        let Some(length) = length.and_then(|length| length.parse::<usize>().ok()) else {
            return Some(Wrong::Head);
        };
        if rest.len() < length {
            return Some(Wrong::Cut);
        }
        rest = &rest[length..];
    }
    None
}
