//! A guess explained: what each server was expected to cost, who was unfit and why, and which rule
//! decided. Made only for who asks; then it allocates.

use std::fmt;
use std::time::Duration;

use super::best::{BLOCKED, BLOCKED_BACKUP, PLACES};
use super::noise::GRAIN;
use super::server::Post;
use super::tree::Key;
use super::{Guess, Pick};
use crate::config::{Policy, ServerConfig};
use crate::health::Standing;
use crate::net::Time;

/// So many servers besides the chosen one are named in a line.
const NAMED_MAX: usize = 4;

/// Why a guess was made.
#[derive(Debug, Clone, PartialEq)]
pub struct Reasons {
    /// What was picked.
    pub pick: Pick,
    /// What decided between the chosen server and the next best.
    pub rule: Rule,
    /// All servers, best first; in their own order with plain policies.
    pub servers: Vec<Reason>,
}

/// What decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// There is no other server that did not fail the request already.
    Only,
    /// All others are less fit to be chosen.
    Fitness,
    /// None is quite fit: the least expected time among the unfit.
    LeastUnfit,
    /// The least expected time.
    Time,
    /// Equal times: the least load, reported and dispatched since.
    Load,
    /// Equal times and loads: the fewest reported errors.
    Errors,
    /// All equal: the longest unused.
    Unused,
    /// Equal times: chance, because others send to these servers as well.
    Chance,
    /// A server that fails at times, since all others are busy and the request may be repeated.
    Detour,
    /// A plain policy, which knows no times.
    Plain(Policy),
    /// Stickiness: the client's cookie names it.
    Cookie,
    /// Stickiness: the client's address leads to it.
    Address,
    /// Nothing was chosen.
    Nothing,
}

impl Rule {
    /// The rule in a word, as logs and tables have it.
    pub fn name(self) -> &'static str {
        match self {
            Rule::Only => "only",
            Rule::Fitness => "fitness",
            Rule::LeastUnfit => "least_unfit",
            Rule::Time => "time",
            Rule::Load => "load",
            Rule::Errors => "errors",
            Rule::Unused => "unused",
            Rule::Chance => "chance",
            Rule::Detour => "detour",
            Rule::Cookie => "cookie",
            Rule::Address => "address",
            Rule::Plain(_) => "plain",
            Rule::Nothing => "nothing",
        }
    }
}

/// Whether a server may be chosen, and if not, why not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fitness {
    /// It may.
    Fit,
    /// It failed, and is left out for so long.
    Benched(Duration),
    /// It turned work away, or has just returned, and holds as many as it may for now.
    Capped(u32),
    /// It serves its most.
    Full(u32),
    /// It stands by: others may be chosen.
    Backup,
    /// It was not checked yet.
    Unknown,
    /// It wants no new requests.
    Draining,
    /// It refused a connection.
    Refusing,
    /// Its checks fail.
    Invalid,
    /// It failed this request before.
    Tried,
}

/// One server in a guess.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Reason {
    /// Its index.
    pub server: usize,
    /// Whether it may be chosen.
    pub fitness: Fitness,
    /// The score: how long an answer is expected to take, all that speaks against it included. None
    /// until a first answer was seen, and with plain policies.
    pub expected: Option<Duration>,
    /// Our requests there.
    pub in_flight: u32,
    /// Requests of others there, as far as it says.
    pub others: f64,
    /// What an answer takes at any server with so many in flight.
    pub curve: Duration,
    /// How many times that for being busy, at least 1.
    pub price: f64,
    /// How many times that for being slow.
    pub slowness: f64,
    /// How long it has been silent, if that is too long.
    pub silence: Option<Duration>,
    /// What its errors cost.
    pub errors: Duration,
    /// Its weight, relative to the mean of all.
    pub weight: f64,
    /// The load and errors that it reported last, and how long ago.
    pub report: Option<(u64, u64, Duration)>,
}

impl Guess {
    /// Why `pick` was the answer for a request that `tried` had failed. To be asked after `pick` and
    /// before `dispatched`. Looks at all servers, and allocates.
    pub fn explain(&self, now: Time, pick: Pick, tried: &[u16]) -> Reasons {
        let mut reasons = Reasons::default();
        self.explain_into(now, pick, tried, &mut reasons);
        reasons
    }

    /// The same into `reasons`, whose memory is used again.
    pub fn explain_into(&self, now: Time, pick: Pick, tried: &[u16], reasons: &mut Reasons) {
        let is_best = self.policy == Policy::BestGuess;
        let servers = &mut reasons.servers;
        servers.clear();
        servers.extend(
            (0..self.servers.len())
                .filter(|index| self.servers[*index].post != Post::Retired)
                .map(|index| self.reason(now, index, tried)),
        );
        let key = |reason: &Reason| {
            let is_chosen = pick == Pick::Server(reason.server);
            let is_tried = reason.fitness == Fitness::Tried;
            let key = self.best.key(reason.server);
            (!is_chosen, is_tried, key, reason.server)
        };
        if is_best {
            servers.sort_unstable_by_key(key);
        }
        reasons.pick = pick;
        reasons.rule = match pick {
            Pick::Full | Pick::Nobody => Rule::Nothing,
            Pick::Server(_) if self.given.is_some() => self.given.unwrap_or(Rule::Nothing),
            Pick::Server(_) if !is_best => Rule::Plain(self.policy),
            Pick::Server(chosen) => {
                let next = servers.get(1).filter(|next| next.fitness != Fitness::Tried);
                self.rule(chosen, next.map(|next| next.server))
            }
        };
    }

    /// The same of the chosen server and the next best alone, for a request that none has failed:
    /// works in log2 of the servers.
    pub fn glance_into(&self, now: Time, pick: Pick, reasons: &mut Reasons) {
        reasons.servers.clear();
        reasons.pick = pick;
        reasons.rule = Rule::Nothing;
        let Pick::Server(chosen) = pick else {
            return;
        };
        reasons.servers.push(self.reason(now, chosen, &[]));
        if self.policy != Policy::BestGuess {
            reasons.rule = self.given.unwrap_or(Rule::Plain(self.policy));
            return;
        }
        let next = self.best.next_to(chosen);
        let next = next.filter(|next| self.servers[*next].post != Post::Retired);
        reasons.rule = self.given.unwrap_or_else(|| self.rule(chosen, next));
        if let Some(next) = next {
            reasons.servers.push(self.reason(now, next, &[]));
        }
    }

    /// What decided for `pick`, which was the answer for a request that `tried` had failed: the same
    /// as `explain` says, for the price of hardly more than another look at the winner. To be asked
    /// when that is asked. Looks at all servers only if some had failed it, or if no other is left.
    pub fn decided(&self, pick: Pick, tried: &[u16]) -> Rule {
        let Pick::Server(chosen) = pick else {
            return Rule::Nothing;
        };
        if let Some(given) = self.given {
            return given;
        }
        if self.policy != Policy::BestGuess {
            return Rule::Plain(self.policy);
        }
        let next = self.best.next_to(chosen);
        let is_next = |server: usize| {
            self.servers.get(server).is_some_and(|next| {
                let was_tried = !tried.is_empty() && tried.contains(&(server as u16));
                server != chosen && next.post != Post::Retired && !was_tried
            })
        };
        if tried.is_empty() && next.is_some_and(is_next) {
            return self.rule(chosen, next);
        }
        let others = (0..self.servers.len()).filter(|server| is_next(*server));
        let better = |one: usize, other: usize| {
            if self.best.key(other) < self.best.key(one) {
                other
            } else {
                one
            }
        };
        self.rule(chosen, others.reduce(better))
    }

    /// What decided for `chosen` and against `next`.
    fn rule(&self, chosen: usize, next: Option<usize>) -> Rule {
        let Some(next) = next else {
            return Rule::Only;
        };
        let (chosen, next): (Key, Key) = (self.best.key(chosen), self.best.key(next));
        if chosen.class() < next.class() {
            Rule::Fitness
        } else if matches!(chosen.class() % PLACES, BLOCKED | BLOCKED_BACKUP) {
            Rule::LeastUnfit
        } else if chosen.rank() < next.rank() {
            Rule::Time
        } else if self.best.is_shared() {
            Rule::Chance
        } else if chosen.with_load() < next.with_load() {
            Rule::Load
        } else if chosen.with_errors() < next.with_errors() {
            Rule::Errors
        } else {
            Rule::Unused
        }
    }

    fn reason(&self, now: Time, index: usize, tried: &[u16]) -> Reason {
        let server = &self.servers[index];
        let (learned, parts) = self.best.reasons(now, server, index, self.turn);
        let nanos = |nanos: f64| Duration::from_nanos(nanos.max(0.0) as u64);
        // Plain policies neither learn nor look at what is learned.
        let is_best = self.policy == Policy::BestGuess;
        let is_timed = is_best && self.best.knows_times();
        let fitness = if tried.contains(&(index as u16)) {
            Fitness::Tried
        } else if server.standing == Standing::Invalid {
            Fitness::Invalid
        } else if server.standing == Standing::Refusing {
            Fitness::Refusing
        } else if server.is_draining || server.post != Post::Open {
            Fitness::Draining
        } else if !server.has_room() {
            Fitness::Full(server.max())
        } else if is_best && learned.evidence.is_benched(now) {
            Fitness::Benched(learned.evidence.bench_until().since(now))
        } else if is_best && learned.cap.is_reached(server.in_flight) {
            Fitness::Capped(learned.cap.value())
        } else if server.standing == Standing::Unknown {
            Fitness::Unknown
        } else if server.is_backup {
            Fitness::Backup
        } else {
            Fitness::Fit
        };
        Reason {
            server: index,
            fitness,
            expected: is_timed.then(|| nanos(parts.score() - GRAIN)),
            in_flight: server.in_flight,
            others: parts.others,
            curve: nanos(parts.curve - GRAIN),
            price: parts.price,
            slowness: parts.slowness,
            silence: parts.silence.map(nanos),
            errors: nanos(parts.errors),
            weight: server.weight,
            report: server
                .counts
                .last()
                .map(|(report, at)| (report.load, report.errors, now.since(at))),
        }
    }
}

impl Reasons {
    /// The index of a server that has left, and another one has its slot.
    pub const GONE: usize = usize::MAX;

    /// The server `index` has left, and another one gets its slot: this guess was not about that one.
    pub fn forget(&mut self, index: usize) {
        if self.pick == Pick::Server(index) {
            self.pick = Pick::Server(Reasons::GONE);
        }
        for reason in &mut self.servers {
            if reason.server == index {
                reason.server = Reasons::GONE;
            }
        }
    }

    /// The guess in one line of plain words, as a log may say it; names are those of `servers`.
    pub fn line<'r>(&'r self, servers: &'r [ServerConfig]) -> impl fmt::Display + 'r {
        Line {
            reasons: self,
            servers,
        }
    }
}

impl Default for Reasons {
    /// None, for a guess that is still to be made.
    fn default() -> Reasons {
        Reasons {
            pick: Pick::Nobody,
            rule: Rule::Nothing,
            servers: Vec::new(),
        }
    }
}

struct Line<'r> {
    reasons: &'r Reasons,
    servers: &'r [ServerConfig],
}

impl fmt::Display for Line<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |index: usize| self.servers.get(index).map_or("?", |it| it.name.as_str());
        let Reasons {
            pick,
            rule,
            servers,
        } = self.reasons;
        let mut rest: Vec<&Reason> = servers.iter().collect();
        match pick {
            Pick::Full => write!(out, "none has room")?,
            Pick::Nobody => write!(out, "none may be chosen")?,
            Pick::Server(chosen) => {
                rest.retain(|reason| reason.server != *chosen);
                write!(out, "{}: ", name(*chosen))?;
                if let Some(reason) = servers.iter().find(|reason| reason.server == *chosen) {
                    decided(out, *rule, reason)?;
                }
            }
        }
        for (place, reason) in rest.iter().take(NAMED_MAX).enumerate() {
            write!(
                out,
                "{}{} ",
                if place == 0 { "; " } else { ", " },
                name(reason.server)
            )?;
            describe(out, reason)?;
        }
        match rest.len().saturating_sub(NAMED_MAX) {
            0 => Ok(()),
            more => write!(out, " and {more} more"),
        }
    }
}

/// What decided for the chosen server.
fn decided(out: &mut fmt::Formatter<'_>, rule: Rule, chosen: &Reason) -> fmt::Result {
    match chosen.expected {
        Some(expected) => write!(out, "expected {}", Span(expected))?,
        None => write!(out, "{} in flight", chosen.in_flight)?,
    }
    let (load, errors) = chosen
        .report
        .map_or((0, 0), |(load, errors, _)| (load, errors));
    match rule {
        Rule::Time | Rule::Nothing => Ok(()),
        Rule::Only => write!(out, ", no other left"),
        Rule::Fitness => write!(out, ", no other fit"),
        Rule::LeastUnfit => write!(out, ", none is fit"),
        Rule::Load => write!(out, ", least load (reported {load})"),
        Rule::Errors => write!(out, ", fewest errors ({errors})"),
        Rule::Unused => write!(out, ", longest unused"),
        Rule::Chance => write!(out, ", by chance as others send here too"),
        Rule::Detour => write!(
            out,
            ", a detour: it fails at times, and all others are busy"
        ),
        Rule::Plain(policy) => write!(out, ", by {policy}"),
        Rule::Cookie => write!(out, ", sticky: the cookie names it"),
        Rule::Address => write!(out, ", sticky: by the client's address"),
    }
}

/// What is worth saying of a server that was not chosen.
fn describe(out: &mut fmt::Formatter<'_>, reason: &Reason) -> fmt::Result {
    match reason.fitness {
        Fitness::Benched(span) => return write!(out, "benched {} (errors)", Span(span)),
        Fitness::Capped(cap) => write!(out, "capped at {cap}")?,
        Fitness::Full(max) => write!(out, "full at {max}")?,
        Fitness::Unknown => write!(out, "not checked yet")?,
        Fitness::Backup => write!(out, "backup")?,
        Fitness::Draining => return write!(out, "draining"),
        Fitness::Refusing => return write!(out, "refusing"),
        Fitness::Invalid => return write!(out, "invalid"),
        Fitness::Tried => return write!(out, "tried before"),
        Fitness::Fit => match reason.expected {
            Some(expected) => write!(out, "{}", Span(expected))?,
            None => write!(out, "fit")?,
        },
    }
    let mut notes = Notes {
        out,
        is_open: false,
    };
    if reason.in_flight > 0 {
        notes.add(format_args!("{} in flight", reason.in_flight))?;
    }
    if reason.others >= 0.5 {
        notes.add(format_args!("{:.0} of others", reason.others))?;
    }
    if (reason.slowness - 1.0).abs() >= 0.05 {
        notes.add(format_args!("{:.1} times the usual time", reason.slowness))?;
    }
    if let Some(silence) = reason.silence {
        notes.add(format_args!("silent for {}", Span(silence)))?;
    }
    if !reason.errors.is_zero() {
        notes.add(format_args!("errors cost {}", Span(reason.errors)))?;
    }
    if let Some((load, ..)) = reason.report.filter(|_| !notes.is_open) {
        notes.add(format_args!("load {load}"))?;
    }
    notes.close()
}

/// A list in brackets, nothing if it is empty.
struct Notes<'o, 'f> {
    out: &'o mut fmt::Formatter<'f>,
    is_open: bool,
}

impl Notes<'_, '_> {
    fn add(&mut self, note: fmt::Arguments<'_>) -> fmt::Result {
        let before = if self.is_open { ", " } else { " (" };
        self.is_open = true;
        write!(self.out, "{before}{note}")
    }

    fn close(self) -> fmt::Result {
        self.out.write_str(if self.is_open { ")" } else { "" })
    }
}

/// A time as people read it: `0.31 ms`, `3.1 ms`, `31 ms`, `3.1 s`.
struct Span(Duration);

impl fmt::Display for Span {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.0.as_secs_f64() * 1e3;
        match millis {
            ..1.0 => write!(out, "{millis:.2} ms"),
            ..10.0 => write!(out, "{millis:.1} ms"),
            ..1000.0 => write!(out, "{millis:.0} ms"),
            _ => write!(out, "{:.1} s", millis / 1e3),
        }
    }
}

#[cfg(test)]
mod tests;
