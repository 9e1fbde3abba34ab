//! The checker: what every exchange came to, and whether that may be.
//!
//! It sees the bytes that cross the balancer's sockets, in both directions, and what the actors say
//! of themselves: what they asked, what they answered, and what they did wrong. Whatever fails
//! without an excuse is a violation. The reading of the two sides is in `asked` and `answered`.

use std::net::{Ipv4Addr, SocketAddr};

use super::answered::ClientTap;
use super::asked::LinkTap;
use super::kernel::{ConnId, Peer, SECOND};
use super::wire::Head;

/// Names one exchange; 0 is none.
pub type Id = usize;

/// What the checker has to know of the scenario.
#[derive(Debug, Clone)]
pub struct Rules {
    /// N.
    pub parallel: usize,
    pub down_status: u16,
    /// Whether one server at least never does anything wrong.
    pub has_solid: bool,
    /// Whether no server does anything wrong, nor the network to any of them: order is checked.
    pub is_calm: bool,
    /// Whether waiting in the queue may take longer than is allowed.
    pub is_queue_short: bool,
    /// At most so many at once at each server.
    pub server_max: Vec<Option<u32>>,
    pub idle_timeout: u64,
    /// Whether the balancer gives each request an id.
    pub has_ids: bool,
}

/// Excuses of an exchange.
pub const CLIENT: u8 = 1;
/// A server broke off before it sent any of the response.
pub const EARLY: u8 = 2;
/// A server did something wrong later than that, or took too long.
pub const LATE: u8 = 4;
/// The client had ended its stream while it may have waited in the queue.
pub const LEFT: u8 = 8;

/// It came behind the last response that its connection would bear.
pub const SPARE: u8 = 16;

/// What became of an exchange, seen by its client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The whole response of a server.
    Whole,
    /// The balancer's own response with this status.
    Own(u16),
    /// Something that a server sent when it should not have.
    Foreign,
    /// The connection ended in the middle of the response.
    Truncated,
    /// The connection ended before any byte of it.
    Closed,
}

/// One request and what it came to.
#[derive(Debug, Clone)]
pub struct Exchange {
    pub is_head: bool,
    pub is_old: bool,
    pub is_idempotent: bool,
    /// Whether it is so small that the balancer keeps it whole.
    pub is_small: bool,
    pub is_malformed: bool,
    pub expects: bool,
    pub upgrades: bool,
    pub takes_trailers: bool,
    /// The length of its content.
    pub content: u64,
    pub excuses: u8,
    /// Servers that got its whole head.
    pub reached: u32,
    pub outcome: Option<Outcome>,
    /// When the balancer could have dispatched it: step, turn, and whether it was pipelined.
    pub ready: Option<(u64, u64, bool)>,
    /// The step at which it was given to a link.
    pub assigned: Option<u64>,
    /// Its X-Request-Id, once it was seen.
    pub name: Option<String>,
}

/// A response that a server has sent.
#[derive(Debug, Clone, Copy)]
pub struct Answer {
    pub id: Id,
    pub status: u16,
    pub content: u64,
    /// The connection that it was sent on.
    pub conn: ConnId,
    /// Whether it is sent as it should be.
    pub is_good: bool,
}

/// How many there were, for the figures.
#[derive(Debug, Clone, Copy, Default)]
pub struct Tally {
    pub exchanges: u64,
    pub whole: u64,
    pub own: u64,
    pub cut: u64,
    pub probes: u64,
    /// Changes that were ordered at the admin listener, and made.
    pub orders: u64,
    /// Processes that took over from another.
    pub takeovers: u64,
}

#[derive(Debug)]
pub enum Tap {
    Client(ClientTap),
    Link(LinkTap),
    /// What somebody at the admin listener was sent.
    Admin(Vec<u8>),
}

#[derive(Debug)]
pub struct Checker {
    pub rules: Rules,
    pub exchanges: Vec<Exchange>,
    pub answers: Vec<Answer>,
    pub taps: Vec<Tap>,
    /// Connections to servers that the balancer holds.
    pub links: Vec<ConnId>,
    /// The first violation.
    pub failure: Option<String>,
    /// Everything is excused from now on: the process was told to stop, or time jumped.
    pub is_amnesty: bool,
    pub tally: Tally,
    /// Steps so far: every crossing of the seam is one.
    pub step: u64,
    pub turn: u64,
    /// First assignments: step, readiness, and whose.
    order: Vec<(u64, (u64, u64), Id)>,
    /// Exchanges that began and are not over.
    pub open: Vec<Id>,
    /// Links that broke when they carried part of a head, so that nobody knows whose.
    pub nameless: u32,
    /// Those of them whose servers had begun to answer, or to say what nobody asked.
    pub nameless_late: u32,
    /// The balancer's processes, one after the other.
    pub houses: Vec<House>,
}

/// What is known of one of the balancer's processes.
#[derive(Debug)]
pub struct House {
    /// Checks under way, per server.
    pub probing: Vec<u32>,
    /// The steps since which servers may get no requests, and no checks.
    taken_out: Vec<(Option<u64>, Option<u64>)>,
    pub idle_timeout: u64,
    /// Whether another process has taken over, so that this one has to keep its word.
    pub is_retired: bool,
}

impl Checker {
    /// A head of exchange `id` has an X-Request-Id if there are any, and always the same.
    pub fn look_at_name(&mut self, id: Id, head: &Head) {
        let name = head.get("x-request-id");
        let is_one =
            |name: &str| name.len() == 32 && name.bytes().all(|byte| byte.is_ascii_hexdigit());
        if head.has("x-request-id") != self.rules.has_ids || name.is_some_and(|name| !is_one(name))
        {
            self.fail(|| format!("exchange {id} has a strange X-Request-Id: {name:?}"));
        }
        let known = self.exchanges[id]
            .name
            .get_or_insert_with(|| name.unwrap_or_default().to_owned());
        if known != name.unwrap_or_default() {
            let known = known.clone();
            self.fail(|| format!("exchange {id} was called {known} before it was called {name:?}"));
        }
    }

    pub fn new(rules: Rules) -> Checker {
        let none = Exchange {
            is_head: false,
            is_old: false,
            is_idempotent: false,
            is_small: true,
            is_malformed: false,
            expects: false,
            upgrades: false,
            takes_trailers: false,
            content: 0,
            excuses: 0,
            reached: 0,
            outcome: None,
            ready: None,
            assigned: None,
            name: None,
        };
        let answer = Answer {
            id: 0,
            status: 0,
            content: 0,
            conn: 0,
            is_good: false,
        };
        Checker {
            houses: Vec::new(),
            rules,
            exchanges: vec![none],
            answers: vec![answer],
            taps: Vec::new(),
            links: Vec::new(),
            failure: None,
            is_amnesty: false,
            tally: Tally::default(),
            step: 0,
            turn: 0,
            order: Vec::new(),
            open: Vec::new(),
            nameless: 0,
            nameless_late: 0,
        }
    }

    /// There is one more process.
    pub fn forked(&mut self) {
        let servers = self.rules.server_max.len();
        self.houses.push(House {
            probing: vec![0; servers],
            taken_out: vec![(None, None); servers],
            idle_timeout: self.rules.idle_timeout,
            is_retired: false,
        });
    }

    /// Another process has taken over from this one: from now on an idle client may be silent for no
    /// longer than `grace`.
    pub fn retired(&mut self, process: usize, grace: u64) {
        let house = &mut self.houses[process];
        house.idle_timeout = house.idle_timeout.min(grace);
        house.is_retired = true;
    }

    /// A process has the connection.
    pub fn held(&mut self, conn: ConnId, process: usize) {
        match self.taps.get_mut(conn) {
            Some(Tap::Client(tap)) => tap.process = process,
            Some(Tap::Link(tap)) => tap.process = process,
            Some(Tap::Admin(_)) | None => {}
        }
    }

    /// Something is wrong; only the first counts.
    pub fn fail(&mut self, what: impl FnOnce() -> String) {
        if self.failure.is_none() {
            self.failure = Some(what());
        }
    }

    pub fn opened(&mut self, conn: ConnId, peer: Peer) {
        debug_assert_eq!(conn, self.taps.len());
        self.taps.push(match peer {
            Peer::Client(_) => Tap::Client(ClientTap::default()),
            Peer::Admin(_) => Tap::Admin(Vec::new()),
            Peer::Server(server) => {
                self.step += 1;
                self.links.push(conn);
                Tap::Link(LinkTap::new(server, self.step))
            }
        });
    }

    /// The address that the client of `conn` connects from.
    pub fn address_of(&self, conn: ConnId) -> SocketAddr {
        let [_, b, c, d] = (conn as u32).to_be_bytes();
        SocketAddr::from((Ipv4Addr::new(10, b, c, d), 4000))
    }

    pub fn client(&mut self, conn: ConnId) -> Option<&mut ClientTap> {
        match self.taps.get_mut(conn) {
            Some(Tap::Client(tap)) => Some(tap),
            _ => None,
        }
    }

    pub fn link(&mut self, conn: ConnId) -> Option<&mut LinkTap> {
        match self.taps.get_mut(conn) {
            Some(Tap::Link(tap)) => Some(tap),
            _ => None,
        }
    }

    /// A new exchange; its name.
    pub fn ask(&mut self, exchange: Exchange) -> Id {
        self.exchanges.push(exchange);
        self.tally.exchanges += 1;
        let id = self.exchanges.len() - 1;
        self.open.push(id);
        id
    }

    /// A response to be sent; its name.
    pub fn answer(&mut self, answer: Answer) -> usize {
        self.answers.push(answer);
        self.answers.len() - 1
    }

    pub fn excuse(&mut self, id: Id, excuse: u8) {
        if let Some(exchange) = self.exchanges.get_mut(id) {
            exchange.excuses |= excuse;
        }
    }

    pub fn accepted(&mut self, conn: ConnId) {
        if let Some(tap) = self.client(conn) {
            tap.is_accepted = true;
        }
    }

    pub fn watched(&mut self, conn: ConnId, is_probe: bool) {
        if let Some(tap) = self.link(conn) {
            tap.is_probe |= is_probe;
        }
    }

    pub fn sent(&mut self, conn: ConnId, bytes: &[u8], now: u64, turn: u64) {
        self.step += 1;
        self.turn = turn;
        match self.taps.get_mut(conn) {
            Some(Tap::Client(_)) => self.sent_to_client(conn, bytes, now),
            Some(Tap::Link(_)) => self.sent_to_server(conn, bytes),
            Some(Tap::Admin(heard)) => heard.extend_from_slice(bytes),
            None => {}
        }
    }

    pub fn received(&mut self, conn: ConnId, count: u64, now: u64) {
        self.step += 1;
        match self.taps.get_mut(conn) {
            Some(Tap::Client(tap)) => {
                tap.received += count;
                tap.moved_at = now;
                self.look_for_ready(conn, false);
            }
            Some(Tap::Link(_)) => self.received_from_server(conn, count),
            Some(Tap::Admin(_)) | None => {}
        }
    }

    /// The balancer was told that the peer has ended.
    pub fn read_end(&mut self, conn: ConnId, now: u64) {
        if let Some(tap) = self.client(conn) {
            tap.moved_at = now;
        }
    }

    /// The balancer has ended its stream.
    pub fn ended(&mut self, conn: ConnId, now: u64) {
        self.step += 1;
        // A tunnel's other half may go on.
        if self.client(conn).is_some_and(|tap| tap.tunnel.is_none()) {
            self.client_is_over(conn, now);
        }
    }

    /// The balancer will end the connection with a reset.
    pub fn aborted(&mut self, conn: ConnId) {
        if let Some(tap) = self.client(conn) {
            tap.is_aborted = true;
        }
    }

    /// The balancer has let go of the connection.
    pub fn dropped(&mut self, conn: ConnId, now: u64) {
        self.step += 1;
        self.client_is_over(conn, now);
        if matches!(self.taps.get(conn), Some(Tap::Link(_))) {
            self.links.retain(|link| *link != conn);
            self.link_is_over(conn);
        }
    }

    /// The exchange was given to a link, at step `step`.
    pub fn assigned(&mut self, id: Id, step: u64) {
        let Some(exchange) = self.exchanges.get_mut(id) else {
            return;
        };
        if exchange.assigned.is_some() {
            return;
        }
        exchange.assigned = Some(step);
        let Some((ready, turn, is_pipelined)) = exchange.ready else {
            return;
        };
        // Each process has a queue of its own.
        if !self.rules.is_calm || self.is_amnesty || self.houses.len() > 1 {
            return;
        }
        // A pipelined request may be ready before the response before it has been sent: what the wire
        // shows of its readiness accuses nobody.
        let jumped =
            self.order
                .iter()
                .rev()
                .take(400)
                .find(|(other_step, (other_ready, other_turn), _)| {
                    let is_later = if is_pipelined {
                        *other_turn > turn + 1
                    } else {
                        *other_ready > ready
                    };
                    is_later && *other_step < step
                });
        if let Some((other_step, (other_ready, other_turn), other)) = jumped {
            let (other, text) = (*other, format!("{other_step} {other_ready} {other_turn}"));
            self.fail(|| format!("request {other} ({text}) was dispatched before {id} ({step} {ready} {turn} {is_pipelined}), which had waited longer"));
        }
        if !is_pipelined {
            self.order.push((step, (ready, turn), id));
        }
    }

    /// A request became ready if its head was read and all before it are answered.
    pub fn look_for_ready(&mut self, conn: ConnId, is_pipelined: bool) {
        let (step, turn) = (self.step, self.turn);
        let Some(tap) = self.client(conn) else { return };
        let Some(request) = tap.requests.get(tap.answered) else {
            return;
        };
        if tap.is_close_announced || tap.is_over || tap.received < request.head_end {
            return;
        }
        let id = request.id;
        if let Some(exchange) = self.exchanges.get_mut(id)
            && exchange.ready.is_none()
        {
            exchange.ready = Some((step, turn, is_pipelined));
        }
    }

    /// An exchange is over for its client.
    pub fn over(&mut self, id: Id, outcome: Outcome) {
        let rules = &self.rules;
        let Some(exchange) = self.exchanges.get_mut(id) else {
            return;
        };
        if exchange.outcome.is_some() {
            return;
        }
        exchange.outcome = Some(outcome);
        self.open.retain(|open| *open != id);
        match outcome {
            Outcome::Whole => self.tally.whole += 1,
            Outcome::Own(_) => self.tally.own += 1,
            Outcome::Truncated | Outcome::Closed | Outcome::Foreign => self.tally.cut += 1,
        }
        let late = exchange.excuses & LATE != 0;
        // What three servers have broken off at is given up.
        let is_poison = exchange.reached >= 3;
        let may_retry =
            exchange.is_idempotent && exchange.is_small && rules.has_solid && !is_poison;
        let early = exchange.excuses & EARLY != 0 && !may_retry;
        let is_excused = exchange.excuses & (CLIENT | SPARE) != 0
            || self.is_amnesty
            || match outcome {
                Outcome::Whole => true,
                Outcome::Own(502) => late || early,
                Outcome::Own(504) => late,
                Outcome::Own(503) if rules.is_queue_short => true,
                Outcome::Own(status) if status == rules.down_status => !rules.has_solid,
                Outcome::Own(_) => false,
                Outcome::Truncated => late,
                // That nothing was known of it when the request was sent is checked there.
                Outcome::Foreign => true,
                Outcome::Closed => late || exchange.excuses & LEFT != 0,
            };
        let is_broken = matches!(outcome, Outcome::Own(502 | 504));
        if is_excused {
        } else if is_broken && self.nameless_late > 0 {
            self.nameless_late -= 1;
        } else if is_broken && self.nameless > 0 && !may_retry {
            self.nameless -= 1;
        } else {
            let excuses = exchange.excuses;
            self.fail(|| {
                format!("exchange {id} came to {outcome:?} without an excuse (has {excuses})")
            });
        }
    }

    /// Whether a server `gets` requests, and checks, of a process from now on.
    pub fn take_out(&mut self, process: usize, server: usize, gets: (bool, bool)) {
        self.step += 1;
        let step = self.step;
        let out = &mut self.houses[process].taken_out[server];
        let since = |out: Option<u64>, gets: bool| (!gets).then(|| out.unwrap_or(step));
        *out = (since(out.0, gets.0), since(out.1, gets.1));
    }

    /// A request, or a check, that was begun at `step` goes to a server: which must be one then.
    pub fn look_at_membership(&mut self, conn: ConnId, is_check: bool, step: u64) {
        let Some((process, server)) = self.link(conn).map(|tap| (tap.process, tap.server)) else {
            return;
        };
        let (requests, checks) = self.houses[process].taken_out[server];
        let since = if is_check { checks } else { requests };
        if since.is_some_and(|since| step >= since) {
            let what = if is_check {
                "checked"
            } else {
                "given a request"
            };
            self.fail(|| format!("server {server} was {what} when it had been taken out"));
        }
    }

    /// The end of a turn: nobody waits while there is room, and never more than N are under way.
    pub fn end_turn(&mut self) {
        self.turn += 1;
        let mut fresh = 0;
        let processes = self.houses.len();
        let mut busy = vec![0; processes];
        let mut at_server = vec![[0_u32; 8]; processes];
        for link in &self.links {
            let Some(Tap::Link(tap)) = self.taps.get(*link) else {
                continue;
            };
            if tap.is_probe {
                continue;
            }
            if tap.is_busy() && !tap.is_confused {
                busy[tap.process] += 1;
                at_server[tap.process][tap.server] += 1;
            }
            // Whose request it carries is not known before the head is whole.
            fresh += usize::from(tap.is_tried() || tap.is_nameless());
        }
        let parallel = self.rules.parallel;
        if let Some(busy) = busy.into_iter().find(|busy| *busy > parallel) {
            self.fail(|| format!("{busy} requests are at servers at once, and N is {parallel}"));
        }
        let maxima = self.rules.server_max.iter().enumerate();
        let maxima = maxima.filter_map(|(server, most)| Some((server, (*most)?)));
        let over = maxima
            .flat_map(|(server, most)| at_server.iter().map(move |it| (server, it[server], most)))
            .find(|(_, count, most)| count > most);
        if let Some((server, count, _)) = over {
            self.fail(|| {
                format!("{count} requests are at server {server} at once, more than its max")
            });
        }
        if processes > 1
            || !self.rules.is_calm
            || self.rules.is_queue_short
            || self.rules.server_max.iter().any(Option::is_some)
            || self.is_amnesty
        {
            return;
        }
        let (mut places, mut waiting, mut who) = (0, 0, 0);
        for id in &self.open {
            let exchange = &self.exchanges[*id];
            match (exchange.assigned, exchange.ready) {
                (Some(_), _) => places += 1,
                (None, Some((_, turn, _))) if turn + 2 <= self.turn && !exchange.is_malformed => {
                    waiting += 1;
                    who = *id;
                }
                _ => {}
            }
        }
        if waiting > fresh && places + fresh < parallel {
            let conn = self.taps.iter().position(
                |tap| matches!(tap, Tap::Client(tap) if tap.requests.iter().any(|sent| sent.id == who)),
            );
            self.fail(|| format!("{waiting} requests wait, {who} of {conn:?} among them, with {places} under way, {fresh} connecting, N {parallel}"));
        }
    }

    /// Links that the balancer holds and no exchange is on, and those that carry one.
    pub fn links(&self) -> (usize, usize) {
        let mut counts = (0, 0);
        for tap in &self.taps {
            if let Tap::Link(tap) = tap
                && !tap.is_over
                && !tap.is_probe
            {
                if tap.is_busy() {
                    counts.1 += 1
                } else {
                    counts.0 += 1
                }
            }
        }
        counts
    }

    /// Probe connections to `server` that a process holds.
    pub fn probe_conns(&self, process: usize, server: usize) -> usize {
        let is_one = |tap: &&Tap| matches!(tap, Tap::Link(tap) if tap.process == process && tap.server == server && tap.is_probe && !tap.is_over);
        self.taps.iter().filter(is_one).count()
    }
}

/// Far beyond every timeout.
pub const AGES: u64 = 1_000_000 * SECOND;
