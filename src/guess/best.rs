//! The best guess: the least expected time wins, and among equals the original rule.
//!
//! Joins the rooms: `curve` and `price` say what a server of this kind would take with so many in
//! flight, `slowness` how much longer this one takes, `silence` that it may hang, `evidence` that it
//! fails, `cap` that it is full, `others` what it has besides ours, and `tree` who is best by all that.
//! `detour` makes an exception.

use super::cap::Cap;
use super::curve::{Curve, Place};
use super::detour::{Lately, Suspects};
use super::evidence::{Evidence, PoolErrors};
use super::noise::{GRAIN, Mean, nanos};
use super::others::Others;
use super::price::Prices;
use super::report::Delta;
use super::server::Server;
use super::silence::Silence;
use super::slowness::Slowness;
use super::tree::{self, Key, Tree};
use super::{Failure, Ticket, random};
use crate::health::Standing;
use crate::math::ln;
use crate::net::Time;

/// Scores are compared in steps of so many nanoseconds: what differs by less is equal.
const FINEST: f64 = GRAIN / 2.0;
/// A failure costs as much as so many answers.
const FAILURE_COST: f64 = 100.0;
/// Servers passed by with each pick, in turn, and looked at again where time or what all have learned
/// may have changed them.
const PASSED: usize = 2;
/// A winner whose score has grown since it was noted gives way; at most so many times per pick.
const RECHECKS: usize = 8;
/// What was learned of a server, and not confirmed since, fades over so many picks, or so many times
/// the number of servers: then it is tried again.
const FADE_LEAST: f64 = 4000.0;
const FADE_PER_SERVER: f64 = 256.0;
/// The same of what was learned suddenly.
const SUDDEN_LEAST: f64 = 500.0;
const SUDDEN_PER_SERVER: f64 = 64.0;
/// Work is turned away for fullness by servers with at least so many in flight.
const FULL_LEAST: f64 = 2.0;
/// Where more than this share of the requests comes from others, chance decides ties: balancers that
/// all follow the same report would all run to the same server (Mitzenmacher 2000).
const SHARED: f64 = 0.1;
/// Lots to draw, where the weight is not less than a tenth: so many that two alike are rare.
const LOTS: f64 = (1_u64 << (tree::TURN_BITS - 4)) as f64;
/// Answers that the deviation of single answers is taken from.
const DEVIATION_MOST: f64 = 4096.0;
/// Answers that the mean answer time is taken from.
const TIME_MOST: f64 = 1024.0;
/// Picks that the mean number in flight is taken from.
const BUSY_MOST: f64 = 256.0;

/// A class is so many times the standing, and one of these: fit to be chosen …
pub(super) const FIT: u32 = 0;
/// … chosen only where all others are as little fit …
pub(super) const BLOCKED: u32 = 1;
/// … standing by for the others …
pub(super) const BACKUP: u32 = 2;
/// … the same and as little fit, or benched where others stand by …
pub(super) const BLOCKED_BACKUP: u32 = 3;
/// … or serving its most, and never chosen.
pub(super) const FULL: u32 = 4;
pub(super) const PLACES: u32 = 8;
/// The class of a server that may not be chosen.
pub(super) const NEVER: u32 = 63;

/// What is learned of all servers, and the order among them.
#[derive(Debug)]
pub(super) struct Best {
    pub(super) servers: Vec<Learned>,
    /// Servers that have not left, at least 1.
    pub(super) present: usize,
    /// Whether any of them stands by for the others.
    pub(super) has_backups: bool,
    tree: Tree,
    /// When time alone may change a server's key, if nothing else does.
    due: Vec<Time>,
    /// Something has changed of this server, which the next pick will look at.
    changed: Option<usize>,
    /// So many servers are still to be looked at since what all have learned has changed.
    outdated: usize,
    curve: Curve,
    prices: Prices,
    /// Squared deviations of single answers' logarithms from their server's mean.
    variance: Mean,
    pub(super) errors: PoolErrors,
    pub(super) suspects: Suspects,
    /// In flight at the servers that were chosen.
    busy: Mean,
    /// Answer times in nanoseconds.
    time: Mean,
    /// Requests that reports tell of, and those among them that came from others; old ones fade.
    all: f64,
    foreign: f64,
    /// Whether others send to these servers as well.
    is_shared: bool,
    /// The server that is passed by next.
    next: usize,
    seed: u64,
}

/// What is learned of one server.
#[derive(Debug, Default)]
pub(super) struct Learned {
    slowness: Slowness,
    silence: Silence,
    pub(super) evidence: Evidence,
    pub(super) lately: Lately,
    pub(super) cap: Cap,
    others: Others,
    /// The pick at which an answer last confirmed how slow it is.
    confirmed: u64,
    /// The same of a failure.
    failed: u64,
    /// When it last answered.
    answered: Time,
    /// Its lot where chance decides.
    lot: u64,
}

/// The parts of a score; times in nanoseconds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Parts {
    /// Requests of others in flight there.
    pub(super) others: f64,
    /// What the curve says for all in flight there.
    pub(super) curve: f64,
    /// The price of being busy, at least 1.
    pub(super) price: f64,
    /// How many times slower it is than the curve.
    pub(super) slowness: f64,
    /// How long it has been silent, if that is too long.
    pub(super) silence: Option<f64>,
    /// What its errors cost.
    pub(super) errors: f64,
    /// When time alone, or picks of others, will have changed any of that.
    due: Time,
}

impl Parts {
    /// The expected time and what errors cost: the least is best.
    pub(super) fn score(&self) -> f64 {
        self.time() + self.errors
    }

    /// The expected time.
    pub(super) fn time(&self) -> f64 {
        let time = self.curve * self.price * self.slowness;
        match self.silence {
            Some(silence) if silence > time => silence,
            _ => time,
        }
    }
}

impl Best {
    /// Of `servers` servers nothing is known; `seed` decides what chance decides.
    pub(super) fn new(servers: usize, seed: u64) -> Best {
        Best {
            servers: (0..servers).map(|_| Learned::default()).collect(),
            present: servers,
            has_backups: false,
            tree: Tree::new(servers),
            due: vec![Time(0); servers],
            changed: None,
            outdated: 0,
            curve: Curve::new(servers),
            prices: Prices::new(),
            variance: Mean::default(),
            errors: PoolErrors::default(),
            suspects: Suspects::default(),
            busy: Mean::default(),
            time: Mean::default(),
            all: 0.0,
            foreign: 0.0,
            is_shared: false,
            next: 0,
            seed,
        }
    }

    /// A server of which nothing is known comes into the slot `index`, at most the next one; its key
    /// is still to be computed.
    pub(super) fn add(&mut self, index: usize) {
        let mut learned = Learned::default();
        learned.cap.restart();
        match self.servers.get_mut(index) {
            Some(place) => *place = learned,
            None => {
                self.servers.push(learned);
                self.due.push(Time(0));
                self.tree.grow(self.servers.len());
            }
        }
    }

    /// The best server at pick number `turn`, and its class. Works in log2 of the servers.
    pub(super) fn pick(&mut self, now: Time, servers: &[Server], turn: u64) -> (usize, u32) {
        if let Some(changed) = self.changed.take() {
            self.refresh(now, servers, changed, turn);
        }
        for _ in 0..PASSED.min(servers.len() - 1) {
            self.next += 1;
            if self.next >= servers.len() {
                self.next = 0;
            }
            if self.outdated > 0 || now >= self.due[self.next] {
                self.outdated = self.outdated.saturating_sub(1);
                self.refresh(now, servers, self.next, turn);
            }
        }
        let mut winner = self.tree.winner();
        for _ in 0..RECHECKS {
            if now < self.due[winner] {
                break;
            }
            self.refresh(now, servers, winner, turn);
            let next = self.tree.winner();
            if next == winner {
                break;
            }
            winner = next;
        }
        (winner, self.tree.key(winner).class())
    }

    /// Something has changed of `server`. The next pick will see to it, however often that was.
    pub(super) fn change(&mut self, now: Time, servers: &[Server], server: usize, turn: u64) {
        if let Some(other) = self.changed.replace(server)
            && other != server
        {
            self.refresh(now, servers, other, turn);
        }
    }

    /// The same for the rare request that `tried` have failed already. Looks at all servers.
    pub(super) fn pick_besides(
        &mut self,
        now: Time,
        servers: &[Server],
        turn: u64,
        tried: &[u16],
    ) -> Option<(usize, u32)> {
        for server in 0..servers.len() {
            self.refresh(now, servers, server, turn);
        }
        (0..servers.len())
            .filter(|index| !tried.contains(&(*index as u16)))
            .map(|index| (index, self.tree.key(index)))
            .reduce(|best, other| if other.1 < best.1 { other } else { best })
            .map(|(index, key)| (index, key.class()))
    }

    /// Computes the key of `server` anew.
    pub(super) fn refresh(&mut self, now: Time, servers: &[Server], server: usize, turn: u64) {
        let (known, learned) = (&servers[server], &self.servers[server]);
        let parts = self.parts(now, known, learned, turn);
        let mut score = parts.score();
        let mut due = parts.due;
        let mut place = if known.is_backup { BACKUP } else { FIT };
        if !known.has_room() {
            place = FULL;
        } else if learned.evidence.is_benched(now) {
            due = due.min(learned.evidence.bench_until());
            place = if self.has_backups {
                BLOCKED_BACKUP
            } else {
                BLOCKED
            };
        } else if learned.cap.is_reached(known.in_flight) {
            place += BLOCKED;
            score *= learned.cap.excess(known.in_flight);
        }
        let class = match known.standing() {
            Standing::Invalid => NEVER,
            standing => PLACES * standing as u32 + place,
        };
        let score = if self.curve.is_known() {
            (score * (1.0 / FINEST)) as u32
        } else {
            // Positive numbers are ordered as their bits are. What differs by less is a tie.
            (score as f32).to_bits() >> 7
        };
        let is_shared = self.is_shared;
        let parts = tree::Parts {
            class,
            score,
            load: if is_shared { 0.0 } else { known.load() },
            errors: if is_shared { 0 } else { known.counts.errors() },
            turn: if is_shared { learned.lot } else { known.picked },
        };
        self.tree.update(server, Key::new(parts));
        self.due[server] = due;
    }

    /// What the score of a server is made of. Fading costs divisions, so it is looked at only where
    /// there is something to fade, which is rare.
    #[inline(always)] // most of it is not needed where only the score is
    pub(super) fn parts(&self, now: Time, server: &Server, learned: &Learned, turn: u64) -> Parts {
        let own = f64::from(server.in_flight);
        let per_weight = server.per_weight_risen(now);
        let ours = Place::of(own * per_weight);
        let mut due = learned.silence.due(server.in_flight);
        let silence = learned.silence.wait(now, server.in_flight);
        let mut is_passing = server.is_rising(now);
        let (mut others, mut busy) = (0.0, ours);
        if learned.others.is_known() {
            let span = self.time.value() / 2.0;
            others = learned.others.in_flight(now, span);
            busy = Place::of((own + others) * per_weight);
            is_passing |= learned.others.is_fading(now, span);
        }
        let mut slowness = 1.0;
        if learned.slowness.is_known() {
            let doubt = doubt(server, learned.confirmed, turn);
            // What a few answers told is doubted after as few picks.
            let lasting = self.left(doubt / learned.slowness.certainty());
            slowness = learned.slowness.factor(lasting, self.fresh(doubt));
            is_passing |= server.in_flight == 0 && learned.slowness.is_slow();
        }
        let mut errors = learned.evidence.surplus(&self.errors);
        if errors > 0.0 {
            let doubt = doubt(server, learned.failed, turn);
            errors *= FAILURE_COST * self.curve.least() * self.left(doubt);
            is_passing = true;
        }
        if is_passing {
            due = Time(0);
        }
        Parts {
            others,
            curve: self.curve.time(busy),
            price: self.prices.of(ours),
            slowness,
            silence,
            errors,
            due,
        }
    }

    fn span(&self, least: f64, per_server: f64) -> f64 {
        least.max(per_server * self.present as f64)
    }

    /// What is left of what was learned of a server that was not chosen for `absent` picks, 0 to 1.
    fn left(&self, absent: f64) -> f64 {
        1.0 - (absent / self.span(FADE_LEAST, FADE_PER_SERVER)).min(1.0)
    }

    /// What is left of sudden news of a server that was not chosen for `absent` picks, 0 to 1.
    fn fresh(&self, absent: f64) -> f64 {
        1.0 - (absent / self.span(SUDDEN_LEAST, SUDDEN_PER_SERVER)).min(1.0)
    }

    /// Whether others send to these servers as well.
    pub(super) fn is_shared(&self) -> bool {
        self.is_shared
    }

    /// A request goes to `server`, which does not count it yet: how busy it is, per weight.
    pub(super) fn dispatched(
        &mut self,
        now: Time,
        index: usize,
        server: &Server,
        turn: u64,
    ) -> f64 {
        let absent = turn.saturating_sub(server.picked) as f64;
        let fresh = self.fresh(absent);
        let span = self.time.value() / 2.0;
        let learned = &mut self.servers[index];
        let others = learned.others.in_flight(now, span);
        let busy = (f64::from(server.in_flight) + others) * server.per_weight;
        self.busy.add(busy, BUSY_MOST);
        let slowness = learned.slowness.factor(1.0, 1.0).max(1.0);
        let expected = self.curve.time(Place::of(busy)) * slowness;
        learned.silence.sent(now, expected);
        learned.slowness.rest(fresh);
        if self.is_shared {
            let lot = random(&mut self.seed) * LOTS;
            learned.lot = (lot / server.risen(now)) as u64;
        }
        busy
    }

    /// Whether a server that holds `in_flight` has been silent for longer than can be expected.
    pub(super) fn is_silent(&self, now: Time, index: usize, in_flight: u32) -> bool {
        self.servers[index].silence.wait(now, in_flight).is_some()
    }

    /// `ticket`'s request was answered well by a server that held `in_flight` with it.
    pub(super) fn served(&mut self, now: Time, ticket: &Ticket, in_flight: u32, turn: u64) {
        let time = nanos(now, ticket.sent);
        self.time.add(time, TIME_MOST);
        let learned = &mut self.servers[ticket.server as usize];
        learned.silence.heard(now, in_flight);
        learned.answered = now;
        learned.cap.served();
        learned.lately.served();
        if ticket.sent >= learned.evidence.bench_until() {
            self.errors.learn(false);
            learned.evidence.learn(false, &self.errors);
        }
        self.learn_time(ticket, time, turn);
    }

    /// An answer took `time` nanoseconds.
    fn learn_time(&mut self, ticket: &Ticket, time: f64, turn: u64) {
        let log = ln(time + GRAIN);
        let place = Place::of(f64::from(ticket.busy));
        let learned = &mut self.servers[ticket.server as usize];
        let is_excused = learned.silence.excuses(ticket.sent);
        let slowness = &mut learned.slowness;
        if self.curve.is_known() {
            let residual = log - self.curve.log(place);
            let deviation = residual - slowness.mean();
            self.variance.add(deviation * deviation, DEVIATION_MOST);
            let sigma = self.variance.value().sqrt();
            if is_excused {
                return slowness.learn_excused(residual, sigma);
            }
            slowness.learn(residual, sigma, self.curve.time(place));
            if slowness.is_confirmed_by(residual) {
                learned.confirmed = turn;
            }
        }
        if self.curve.learn(place, log - slowness.log()) {
            self.outdated = self.servers.len();
        }
    }

    /// `ticket`'s request failed; its server has `in_flight` besides it. `is_final`: no other server
    /// makes up for that.
    pub(super) fn failed(
        &mut self,
        now: Time,
        ticket: &Ticket,
        kind: Failure,
        is_final: bool,
        in_flight: u32,
        turn: u64,
    ) {
        let index = ticket.server as usize;
        let learned = &mut self.servers[index];
        learned.lately.failed(is_final);
        self.suspects.add(index);
        if kind == Failure::TimedOut {
            if learned.answered > ticket.sent {
                // It answers others: this one is slow, the server is not gone.
                let time = nanos(now, ticket.sent);
                return self.learn_time(ticket, time, turn);
            }
        } else {
            learned.silence.heard(now, in_flight + 1);
            if f64::from(ticket.busy) >= FULL_LEAST.max(self.busy.value()) {
                // As busy as the rest, it turns work away: that is not a fault.
                return learned.cap.is_full(in_flight);
            }
        }
        // What was sent before a bench, or got through to it, tells nothing new.
        if ticket.sent < learned.evidence.bench_until() {
            return;
        }
        self.errors.learn(true);
        learned.failed = turn;
        if !learned.evidence.learn(true, &self.errors) {
            return;
        }
        let is_benched = |other: &&Learned| other.evidence.is_benched(now);
        let benched = self.servers.iter().filter(is_benched).count();
        if 2 * benched < self.present {
            let learned = &mut self.servers[index];
            learned.evidence.bench(now);
            learned.cap.restart();
        }
    }

    /// It turned work away and said when to come again, with `in_flight` besides: it is only full.
    pub(super) fn is_full(&mut self, now: Time, index: usize, in_flight: u32) {
        self.servers[index].silence.heard(now, in_flight + 1);
        self.servers[index].cap.is_full(in_flight);
    }

    /// The counts of a report have grown by this.
    pub(super) fn reported(&mut self, now: Time, index: usize, delta: Delta) {
        let keep = 1.0 - 1.0 / (4.0 * self.present as f64);
        self.all = self.all * keep + delta.all;
        self.foreign = self.foreign * keep + delta.foreign;
        let is_shared = self.foreign > SHARED * self.all;
        if std::mem::replace(&mut self.is_shared, is_shared) != is_shared {
            self.outdated = self.servers.len();
        }
        let learned = &mut self.servers[index];
        if delta.has_restarted {
            learned.cap.restart();
            learned.slowness = Slowness::default();
            return;
        }
        let successes = delta.foreign - delta.foreign_failures;
        learned
            .evidence
            .hearsay(now, delta.foreign_failures, successes, &self.errors);
    }

    /// It has so many in flight by its own count, `own` of them ours.
    pub(super) fn told_in_flight(&mut self, now: Time, index: usize, in_flight: f64, own: u32) {
        self.servers[index].others.told(now, in_flight, own);
    }

    /// The best server but `chosen`, which is the best of all.
    pub(super) fn next_to(&self, chosen: usize) -> Option<usize> {
        self.tree.next_to(chosen)
    }

    /// What servers are ordered by.
    pub(super) fn key(&self, index: usize) -> Key {
        self.tree.key(index)
    }

    /// Whether an answer was ever seen.
    pub(super) fn knows_times(&self) -> bool {
        self.curve.is_known()
    }

    /// What is known of a server, and what its score is made of now.
    pub(super) fn reasons(
        &self,
        now: Time,
        server: &Server,
        index: usize,
        turn: u64,
    ) -> (&Learned, Parts) {
        let learned = &self.servers[index];
        (learned, self.parts(now, server, learned, turn))
    }
}

/// For how many picks what speaks against a server was not confirmed, the last time at pick number
/// `confirmed`: one request at a time finds out whether it is still so.
fn doubt(server: &Server, confirmed: u64, turn: u64) -> f64 {
    match server.in_flight {
        0 => turn.saturating_sub(confirmed) as f64,
        _ => 0.0,
    }
}
