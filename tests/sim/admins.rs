//! Those who look in at the admin listener: they ask in every form, in pieces, read slowly or not at
//! all, say nothing, and leave at any point.
//!
//! What they get is read along: each answer is whole unless they left or did not read, none is a 5xx
//! but 501 and 505, and events come whole. That nothing of them is left in an empty house, the run says.

use super::check::{Checker, Tap};
use super::kernel::{ConnId, Core, Due, MILLI, Notice, Peer, SECOND, Stage};

/// What they ask, whole or broken.
const ASKED: [&str; 16] = [
    "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "GET /status HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "GET /status HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "GET /guesses HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "GET /guesses?format=text HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "GET /healthcheck HTTP/1.0\r\n\r\n",
    "GET /servers HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "GET /nothing HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "GET /status HTTP/1.1\r\nHost: elsewhere.example\r\n\r\n",
    "POST /servers/nobody/drain HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\nabc",
    "POST /servers HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    "POST /servers HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999\r\n\r\nmore",
    "GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "no request\r\n\r\n",
];

/// All of them.
#[derive(Debug)]
pub struct Admins {
    /// How often one comes, in nanoseconds; 0: never.
    pub every: u64,
    talks: Vec<Talk>,
}

/// One connection.
#[derive(Debug)]
struct Talk {
    conn: ConnId,
    stream: Vec<u8>,
    written: usize,
    piece: usize,
    /// It read no more, or left: what it got may end anywhere.
    is_excused: bool,
}

const STEP: u32 = 0;
const LEAVE: u32 = 1;

impl Admins {
    pub fn new(every: u64) -> Admins {
        Admins {
            every,
            talks: Vec::new(),
        }
    }

    /// One comes.
    pub fn come(&mut self, core: &mut Core) {
        let conn = core.open(Peer::Admin(self.talks.len()));
        core.conns[conn].stage = Stage::Open;
        core.note("somebody comes to the admin listener", conn, 0, 0);
        core.admin_backlog.push_back(conn);
        core.is_admin_ready = true;
        let rng = &mut core.rng;
        let mut stream = Vec::new();
        for _ in 0..rng.below(4) {
            stream.extend_from_slice(rng.pick(&ASKED).as_bytes());
        }
        if rng.chance(300) {
            stream.truncate(rng.below(stream.len() as u64 + 1) as usize);
        }
        let piece = rng.pick(&[1, 20, 1000]).max(stream.len() / 50 + 1);
        let stays = rng.size(4 * SECOND);
        let is_deaf = rng.chance(150);
        let talk = Talk {
            conn,
            stream,
            written: 0,
            piece,
            is_excused: is_deaf,
        };
        self.talks.push(talk);
        if is_deaf {
            core.peer_pause(conn, true);
        }
        core.schedule(0, Due::Admin(conn, STEP));
        core.schedule(stays, Due::Admin(conn, LEAVE));
    }

    pub fn due(&mut self, core: &mut Core, conn: ConnId, tag: u32) {
        let Some(talk) = self.talk(core, conn) else {
            return;
        };
        if tag == LEAVE {
            talk.is_excused = true;
            if core.rng.chance(500) {
                core.peer_reset(conn);
            } else {
                core.peer_close(conn);
            }
            return;
        }
        let end = talk.stream.len().min(talk.written + talk.piece);
        let piece = talk.stream[talk.written..end].to_vec();
        talk.written = end;
        let is_over = end == talk.stream.len();
        core.peer_send(conn, &piece);
        if !is_over {
            let pause = core.rng.size(50 * MILLI);
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
            let wrong = judge(heard)?;
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

#[derive(Debug)]
enum Wrong {
    Cut,
    Head,
    Status,
    Events,
}

/// Reads answers one behind the other.
fn judge(mut rest: &[u8]) -> Option<Wrong> {
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
