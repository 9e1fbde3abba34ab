//! Server actors: they answer what they are asked, in every form, and go wrong in every way.

use std::collections::BTreeMap;
use std::io;

use super::answers::{self, Form};
use super::check::Id;
use super::kernel::{ConnId, Core, Due, MICRO, MILLI, Notice, Peer, SECOND, Stage};

/// How often a server goes wrong, in a thousand; all zero: never.
#[derive(Debug, Clone, Copy, Default)]
pub struct Faults {
    /// Closes or resets before any byte of the response.
    pub early: u64,
    /// Ends or resets in the middle of the response.
    pub cut: u64,
    /// Never answers.
    pub hang: u64,
    /// Answers what is no HTTP, or breaks its rules.
    pub broken: u64,
    /// Closes kept connections without a word.
    pub stale: u64,
    /// Sends bytes behind a response.
    pub extra: u64,
    /// Answers before it has read the request, and closes.
    pub hasty: u64,
    /// Health answers that are wrong, late or missing.
    pub sick: u64,
}

/// What a server is doing as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    Up,
    Refusing,
    Hanging,
}

/// What becomes of a connection to a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Stands(u64),
    StandsAtOnce,
    Hangs,
    Refused(u64),
    RefusedAtOnce,
    ResetSoon(u64),
}

/// One server.
#[derive(Debug)]
pub struct Server {
    pub index: usize,
    pub faults: Faults,
    pub is_solid: bool,
    pub mood: Mood,
    /// Connections fail as the network's knobs say.
    pub is_reached_badly: bool,
    pub think_max: u64,
    pub content_max: u64,
    errors: u64,
    load: u64,
    conns: BTreeMap<ConnId, Serving>,
}

/// One connection that it serves.
#[derive(Debug, Default)]
struct Serving {
    got: u64,
    written: u64,
    /// Requests that it has decided about.
    seen: usize,
    plan: Option<Plan>,
    /// What is still to be written of the response: pieces, each after a rest.
    pieces: Vec<(u64, Vec<u8>)>,
    ending: Ending,
    is_hung: bool,
    tunnel: Option<Tunnel>,
}

#[derive(Debug, Clone, Copy)]
struct Plan {
    id: Id,
    is_head: bool,
    is_upgrade: bool,
    kind: Kind,
    is_due: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Good,
    /// Answers behind the head and reads on.
    Soon,
    /// Answers behind the head and closes.
    Hasty,
    Early,
    Cut,
    Hang,
    Broken,
    Extra,
}

/// What the server does once it has written its response.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Ending {
    #[default]
    Keep,
    Close,
    End,
    Reset,
}

#[derive(Debug, Clone, Copy)]
struct Tunnel {
    is_ended: bool,
}

const RESPOND: u32 = 1;
const PIECE: u32 = 2;
const IDLE: u32 = 3;
const RESET: u32 = 4;

impl Server {
    pub fn new(
        index: usize,
        faults: Faults,
        is_solid: bool,
        is_reached_badly: bool,
        think_max: u64,
        content_max: u64,
    ) -> Server {
        Server {
            index,
            faults,
            is_solid,
            mood: Mood::Up,
            is_reached_badly,
            think_max,
            content_max,
            errors: 0,
            load: 0,
            conns: BTreeMap::new(),
        }
    }

    /// What becomes of the next connection to it.
    pub fn fate(&self, core: &mut Core) -> Fate {
        let after = core.rng.below(core.knobs.latency_max + 1);
        match self.mood {
            Mood::Refusing => {
                return if core.rng.chance(500) {
                    Fate::RefusedAtOnce
                } else {
                    Fate::Refused(after)
                };
            }
            Mood::Hanging if core.rng.chance(500) => return Fate::Hangs,
            Mood::Hanging | Mood::Up => {}
        }
        if self.is_reached_badly {
            let knobs = core.knobs.clone();
            if core.rng.chance(knobs.connect_hangs) {
                return Fate::Hangs;
            }
            if core.rng.chance(knobs.connect_fails) {
                return if core.rng.chance(300) {
                    Fate::RefusedAtOnce
                } else {
                    Fate::Refused(after)
                };
            }
            if core.rng.chance(knobs.connect_resets) {
                return Fate::ResetSoon(after);
            }
        }
        if core.rng.chance(200) {
            Fate::StandsAtOnce
        } else {
            Fate::Stands(after)
        }
    }

    /// Makes the balancer's connection as fate will have it.
    pub fn note_connect(
        &mut self,
        core: &mut Core,
        fate: Fate,
        is_unix: bool,
    ) -> io::Result<ConnId> {
        core.note("connect", self.index, core.conns.len(), fate_number(fate));
        if fate == Fate::RefusedAtOnce {
            let kind = if is_unix && core.rng.chance(300) {
                io::ErrorKind::NotFound
            } else {
                io::ErrorKind::ConnectionRefused
            };
            return Err(kind.into());
        }
        let conn = core.open(Peer::Server(self.index));
        match fate {
            Fate::StandsAtOnce => {
                core.conns[conn].stage = Stage::Open;
            }
            Fate::Stands(after) if is_unix => {
                core.conns[conn].stage = Stage::Open;
                debug_assert!(after < SECOND);
            }
            Fate::Stands(after) => core.schedule(after, Due::Establish(conn)),
            Fate::Refused(after) => core.schedule(after, Due::Refuse(conn)),
            Fate::ResetSoon(after) => {
                core.schedule(after, Due::Establish(conn));
                let soon = core.rng.below(2 * core.knobs.latency_max + 1);
                core.schedule(after + soon, Due::Server(conn, RESET));
            }
            Fate::Hangs | Fate::RefusedAtOnce => {}
        }
        Ok(conn)
    }

    pub fn notice(&mut self, core: &mut Core, conn: ConnId, notice: Notice) {
        match notice {
            Notice::Connected => {
                let serving = Serving {
                    is_hung: self.mood == Mood::Hanging,
                    ..Serving::default()
                };
                if serving.is_hung {
                    core.check.server_errs(conn, true);
                }
                self.conns.insert(conn, serving);
            }
            Notice::Arrived(count) => {
                let Some(serving) = self.conns.get_mut(&conn) else {
                    return;
                };
                serving.got += count;
                if !serving.is_hung {
                    self.look(core, conn);
                }
            }
            Notice::Ended => self.balancer_ended(core, conn),
            Notice::Reset => {
                self.conns.remove(&conn);
            }
        }
    }

    pub fn due(&mut self, core: &mut Core, conn: ConnId, tag: u32) {
        let Some(serving) = self.conns.get(&conn) else {
            return;
        };
        if serving.is_hung {
            return;
        }
        match tag & 0xff {
            RESPOND => self.respond(core, conn),
            PIECE => self.write_piece(core, conn),
            IDLE if serving.seen as u32 == tag >> 8 && serving.plan.is_none() => {
                self.go(core, conn, false, Ending::Close);
            }
            RESET => self.go(core, conn, false, Ending::Reset),
            _ => {}
        }
    }

    /// Connections that it had forgotten are reset.
    pub fn clear(&mut self, core: &mut Core) {
        let hung: Vec<ConnId> = self
            .conns
            .iter()
            .filter(|(_, serving)| serving.is_hung)
            .map(|(conn, _)| *conn)
            .collect();
        for conn in hung {
            self.go(core, conn, true, Ending::Reset);
        }
    }

    /// The server's mood changes, and with it what becomes of its connections.
    pub fn turn_to(&mut self, core: &mut Core, mood: Mood) {
        core.note("server turns", self.index, mood as usize, 0);
        self.mood = mood;
        let conns: Vec<ConnId> = self.conns.keys().copied().collect();
        for conn in conns {
            match mood {
                Mood::Up => {}
                Mood::Hanging => {
                    if let Some(serving) = self.conns.get_mut(&conn) {
                        serving.is_hung = true;
                        core.check.server_errs(conn, true);
                    }
                }
                Mood::Refusing => self.go(core, conn, true, Ending::Reset),
            }
        }
        if mood == Mood::Refusing {
            // Its counters begin anew.
            (self.errors, self.load) = (0, 0);
        }
    }

    /// Leaves a connection, in the middle of whatever there is.
    fn go(&mut self, core: &mut Core, conn: ConnId, late: bool, ending: Ending) {
        let begun = self
            .conns
            .get(&conn)
            .is_some_and(|serving| !serving.pieces.is_empty());
        // Bytes of a response may be on their way, to be lost with the reset.
        let is_under_way = core.check.link(conn).is_some_and(|tap| {
            tap.received < self.conns.get(&conn).map_or(0, |serving| serving.written)
        });
        // So may an interim response have gone before.
        let written = self.conns.get(&conn).map_or(0, |serving| serving.written);
        let has_begun = core
            .check
            .link(conn)
            .is_some_and(|tap| written > tap.response_ends.last().copied().unwrap_or(0));
        core.check
            .server_errs(conn, late || begun || is_under_way || has_begun);
        core.note("server leaves", self.index, conn, ending as usize);
        self.conns.remove(&conn);
        match ending {
            Ending::Keep => {}
            Ending::Close => core.peer_close(conn),
            Ending::End => core.peer_end(conn),
            Ending::Reset => core.peer_reset(conn),
        }
    }

    /// Looks at what has arrived.
    fn look(&mut self, core: &mut Core, conn: ConnId) {
        let think = core.rng.below(self.think_max + 1);
        let Some(serving) = self.conns.get_mut(&conn) else {
            return;
        };
        let Some(tap) = core.check.link(conn) else {
            return;
        };
        if serving.plan.is_none() {
            let Some(asked) = tap
                .asked
                .get(serving.seen)
                .filter(|asked| asked.head_end <= serving.got)
            else {
                return;
            };
            let asked = asked.clone();
            serving.seen += 1;
            let has_content = asked.end > asked.head_end;
            let kind = choose(core, &self.faults, has_content);
            core.note("server sees", self.index, asked.id, kind as usize);
            serving.plan = Some(Plan {
                id: asked.id,
                is_head: asked.is_head,
                is_upgrade: asked.is_upgrade,
                kind,
                is_due: false,
            });
            if has_content
                && core.check.exchanges[asked.id].expects
                && core.rng.chance(800)
                && kind == Kind::Good
            {
                serving.written += 25;
                core.peer_send(conn, b"HTTP/1.1 100 Continue\r\n\r\n");
            }
        }
        let Some(plan) = &mut serving.plan else {
            return;
        };
        let Some(asked) = core
            .check
            .link(conn)
            .and_then(|tap| tap.asked.get(serving.seen - 1))
        else {
            return;
        };
        let is_whole = asked.end <= serving.got;
        let is_impatient = matches!(plan.kind, Kind::Soon | Kind::Hasty | Kind::Early);
        if (is_whole || is_impatient) && !plan.is_due {
            plan.is_due = true;
            core.schedule(think, Due::Server(conn, RESPOND));
        }
    }

    fn respond(&mut self, core: &mut Core, conn: ConnId) {
        let Some(serving) = self.conns.get_mut(&conn) else {
            return;
        };
        let Some(plan) = serving.plan else { return };
        match plan.kind {
            Kind::Hang => {
                serving.is_hung = true;
                core.check.server_errs(conn, true);
                return;
            }
            Kind::Early => {
                let ending = core.rng.pick(&[Ending::Close, Ending::Reset]);
                return self.go(core, conn, false, ending);
            }
            _ => {}
        }
        if plan.id == 0 {
            return self.report(core, conn);
        }
        self.load += 1;
        let form = loop {
            let is_hasty = plan.kind == Kind::Hasty;
            let form = Form::choose(
                core,
                plan.id,
                plan.is_head,
                plan.is_upgrade,
                self.content_max,
                is_hasty,
            );
            // Closing before the request is read would reset the connection.
            if plan.kind != Kind::Soon || !form.closes {
                break form;
            }
        };
        let answer = core.check.answer(form.answer(conn));
        let mut bytes = answers::write(core, &form, answer, plan.id);
        let mut ending = if form.closes {
            Ending::Close
        } else {
            Ending::Keep
        };
        let start = serving.written;
        let mut is_good = true;
        match plan.kind {
            Kind::Cut => {
                bytes.truncate(core.rng.below(bytes.len() as u64) as usize);
                ending = core.rng.pick(&[Ending::Close, Ending::End, Ending::Reset]);
                is_good = false;
            }
            Kind::Broken => {
                bytes = answers::broken(core, plan.id, plan.is_upgrade);
                // Some of it passes for a response, to HEAD for one.
                if let Some(tap) = core.check.link(conn) {
                    tap.is_confused = true;
                }
                ending = Ending::Close;
                is_good = false;
            }
            _ => {}
        }
        let end = start + bytes.len() as u64;
        if let Some(tap) = core.check.link(conn) {
            tap.response_start = start;
            if is_good && !form.switches {
                tap.response_ends.push(end);
                tap.is_last_announced |= form.closes || form.is_last;
            }
            if form.switches && plan.kind != Kind::Broken {
                tap.switch();
                serving.tunnel = Some(Tunnel { is_ended: false });
            }
        }
        if !is_good || plan.kind == Kind::Hasty {
            core.check.answers[answer].is_good = false;
            core.check.server_errs(conn, true);
        }
        if plan.kind == Kind::Extra && !form.closes && !form.switches {
            bytes.extend_from_slice(
                b"HTTP/1.1 200 OK\r\nX-Sim-Foreign: 1\r\nContent-Length: 5\r\n\r\nextra",
            );
            if let Some(tap) = core.check.link(conn) {
                tap.is_tainted = true;
            }
        }
        serving.ending = ending;
        serving.pieces = cut(core, bytes);
        core.note("server answers", conn, plan.id, serving.pieces.len());
        self.write_piece(core, conn);
    }

    /// Answers a health check.
    fn report(&mut self, core: &mut Core, conn: ConnId) {
        let is_sick = core.rng.chance(self.faults.sick);
        if is_sick && core.rng.chance(100) {
            // A restart that nobody else noticed.
            (self.errors, self.load) = (0, 0);
        }
        self.errors += u64::from(core.rng.chance(50));
        let Some(serving) = self.conns.get_mut(&conn) else {
            return;
        };
        if is_sick && core.rng.chance(300) {
            serving.is_hung = true;
            return;
        }
        let (bytes, closes) = answers::report(core, self.errors, self.load, is_sick);
        let end = serving.written + bytes.len() as u64;
        if let Some(tap) = core.check.link(conn) {
            tap.response_ends.push(end);
            tap.is_last_announced |= closes;
        }
        serving.ending = if closes { Ending::Close } else { Ending::Keep };
        serving.pieces = cut(core, bytes);
        self.write_piece(core, conn);
    }

    /// Writes the next piece of a response, and does what comes behind the last.
    fn write_piece(&mut self, core: &mut Core, conn: ConnId) {
        let Some(serving) = self.conns.get_mut(&conn) else {
            return;
        };
        if !serving.pieces.is_empty() {
            let (_, bytes) = serving.pieces.remove(0);
            serving.written += bytes.len() as u64;
            core.peer_send(conn, &bytes);
        }
        if let Some((rest, _)) = serving.pieces.first() {
            return core.schedule(*rest, Due::Server(conn, PIECE));
        }
        if let Some(tunnel) = &mut serving.tunnel {
            serving.plan = None;
            if core.rng.chance(500) {
                tunnel.is_ended = true;
                core.peer_end(conn);
            }
            return;
        }
        let ending = serving.ending;
        match ending {
            Ending::Keep => {
                serving.plan = None;
                if core.rng.chance(self.faults.stale) {
                    let after = core.rng.size(SECOND);
                    core.schedule(after, Due::Server(conn, IDLE | (serving.seen as u32) << 8));
                }
                self.look(core, conn);
            }
            Ending::Close => {
                self.conns.remove(&conn);
                core.peer_close(conn);
            }
            Ending::End => core.peer_end(conn),
            Ending::Reset => {
                self.conns.remove(&conn);
                core.peer_reset(conn);
            }
        }
    }

    fn balancer_ended(&mut self, core: &mut Core, conn: ConnId) {
        let Some(serving) = self.conns.get_mut(&conn) else {
            return;
        };
        match &mut serving.tunnel {
            // The rest of the tunnel's content comes first.
            Some(tunnel) => {
                if !std::mem::replace(&mut tunnel.is_ended, true) && serving.pieces.is_empty() {
                    core.peer_end(conn);
                }
            }
            None => {
                self.conns.remove(&conn);
                core.peer_close(conn);
            }
        }
    }
}

/// What a server does about a request.
fn choose(core: &mut Core, faults: &Faults, has_content: bool) -> Kind {
    for (chance, kind) in [
        (faults.early, Kind::Early),
        (faults.cut, Kind::Cut),
        (faults.hang, Kind::Hang),
        (faults.broken, Kind::Broken),
        (faults.extra, Kind::Extra),
        (if has_content { faults.hasty } else { 0 }, Kind::Hasty),
        (if has_content { 100 } else { 0 }, Kind::Soon),
    ] {
        if core.rng.chance(chance) {
            return kind;
        }
    }
    Kind::Good
}

/// Cuts a response into pieces with rests between.
fn cut(core: &mut Core, bytes: Vec<u8>) -> Vec<(u64, Vec<u8>)> {
    if core.rng.chance(700) {
        return vec![(0, bytes)];
    }
    let mut pieces = Vec::new();
    let mut rest = bytes.as_slice();
    while !rest.is_empty() {
        let here = if pieces.len() == 4 {
            rest.len()
        } else {
            1 + core.rng.size(rest.len() as u64 - 1) as usize
        };
        let (piece, behind) = rest.split_at(here);
        let pause = core.rng.size(20 * MILLI).max(MICRO);
        pieces.push((pause, piece.to_vec()));
        rest = behind;
    }
    pieces
}

fn fate_number(fate: Fate) -> usize {
    match fate {
        Fate::Stands(_) => 0,
        Fate::StandsAtOnce => 1,
        Fate::Hangs => 2,
        Fate::Refused(_) => 3,
        Fate::RefusedAtOnce => 4,
        Fate::ResetSoon(_) => 5,
    }
}
