//! The last choices of a server, each with its reasons: why did this request go there?
//!
//! Every choice is kept. Most are kept whole, with all servers that were considered; where there are
//! more choices than that is worth, the rest is kept with the chosen server and the next best, which
//! is who it was decided against. Memory is used again, so that nothing is allocated in the long run.

use std::fmt::{self, Write as _};
use std::time::Duration;

use super::ask::GUESSES_MAX;
use super::json::{Bytes, Json};
use super::view::Clock;
use crate::config::ServerConfig;
use crate::guess::{Fitness, Guess, Pick, Reason, Reasons};
use crate::net::Time;

/// Servers that are kept of one choice.
const SERVERS_MAX: usize = 16;
/// Servers that are looked at in a second for the sake of choices that are kept whole.
const LOOKS_PER_SECOND: usize = 20_000;
/// The slot of a server that has left.
const GONE: usize = usize::MAX;
/// What is kept of a request line, and of a request's id, in bytes.
const TEXT_MAX: usize = 120;

/// The last choices.
#[derive(Debug, Default)]
pub struct Choices {
    ring: Vec<Choice>,
    /// Where all servers of a choice are looked at.
    whole: Reasons,
    number: u64,
    looks: usize,
    renewed: Option<Time>,
}

/// One choice.
#[derive(Debug, Default)]
pub struct Choice {
    /// Counted from 1.
    pub number: u64,
    at: Time,
    request: Vec<u8>,
    id: Vec<u8>,
    considered: usize,
    reasons: Reasons,
}

impl Choices {
    /// A choice was made at `now`, `pick`, for the request that `head` begins with and that `tried` had
    /// failed, among `count` servers.
    pub fn note(
        &mut self,
        now: Time,
        guess: &Guess,
        (pick, tried): (Pick, &[u16]),
        head: &[u8],
        count: usize,
    ) {
        let second = Duration::from_secs(1);
        if self.renewed.is_none_or(|at| now.since(at) >= second) {
            self.renewed = Some(now);
            self.looks = LOOKS_PER_SECOND;
        }
        if self.ring.len() < GUESSES_MAX {
            self.ring.push(Choice::default());
        }
        let place = self.number % GUESSES_MAX as u64;
        self.number += 1;
        let Some(choice) = self.ring.get_mut(place as usize) else {
            return;
        };
        choice.number = self.number;
        choice.at = now;
        choice.considered = count;
        choice.name(head);
        let is_whole = self.looks >= count || !tried.is_empty();
        if is_whole {
            self.looks = self.looks.saturating_sub(count);
            guess.explain_into(now, pick, tried, &mut self.whole);
            choice.reasons.pick = pick;
            choice.reasons.rule = self.whole.rule;
            choice.reasons.servers.clear();
            let best = self.whole.servers.iter().take(SERVERS_MAX);
            choice.reasons.servers.extend(best.copied());
        } else {
            guess.glance_into(now, pick, &mut choice.reasons);
        }
    }

    /// The last one.
    pub fn last(&self) -> Option<&Choice> {
        self.latest().next()
    }

    /// All that are kept, the latest first.
    fn latest(&self) -> impl Iterator<Item = &Choice> {
        let next = (self.number % GUESSES_MAX as u64) as usize;
        let (new, old) = self.ring.split_at(next.min(self.ring.len()));
        new.iter().rev().chain(old.iter().rev())
    }

    /// Choices so far.
    pub fn total(&self) -> u64 {
        self.number
    }

    /// The server in slot `index` has left, and another one gets its slot.
    pub fn forget(&mut self, index: usize) {
        for choice in &mut self.ring {
            let Reasons { pick, servers, .. } = &mut choice.reasons;
            if *pick == Pick::Server(index) {
                *pick = Pick::Server(GONE);
            }
            for reason in servers.iter_mut().filter(|it| it.server == index) {
                reason.server = GONE;
            }
        }
    }

    /// The last `limit` of them as JSON, the latest first.
    pub fn write(&self, json: &mut Json<'_>, clock: Clock, servers: &[ServerConfig], limit: usize) {
        json.object(|json| {
            json.key("time").number(clock.unix_seconds(clock.now));
            json.key("total").whole(self.number);
            json.key("guesses").array(|json| {
                for choice in self.latest().take(limit) {
                    choice.write(json, clock, servers);
                }
            });
        });
    }

    /// The same as a table for people.
    pub fn table(&self, out: &mut Vec<u8>, clock: Clock, servers: &[ServerConfig], limit: usize) {
        let mut out = Bytes(out);
        // Bytes take all that they are given.
        let _ = writeln!(
            out,
            "{} choices so far; the last {}, the latest first",
            self.number,
            self.ring.len().min(limit)
        );
        for choice in self.latest().take(limit) {
            let _ = choice.table(&mut out, clock, servers);
        }
    }
}

impl Choice {
    /// Keeps the request line, without the version, and the id of a request.
    fn name(&mut self, head: &[u8]) {
        self.request.clear();
        self.id.clear();
        const ID: &[u8] = b"x-request-id:";
        let mut start = 0;
        for end in memchr::memchr_iter(b'\n', head) {
            let line = head.get(start..end).unwrap_or_default();
            if start == 0 {
                let line = line.strip_suffix(b" HTTP/1.1\r").unwrap_or(line);
                let line = line.get(..TEXT_MAX).unwrap_or(line);
                self.request.extend_from_slice(line);
            }
            // Behind the empty line content may begin.
            if line == b"\r" {
                return;
            }
            start = end + 1;
            if let Some((name, value)) = line.split_at_checked(ID.len())
                && name.first().is_some_and(|first| first | 0x20 == b'x')
                && name.eq_ignore_ascii_case(ID)
            {
                let value = value.trim_ascii();
                let value = value.get(..TEXT_MAX).unwrap_or(value);
                self.id.extend_from_slice(value);
                return;
            }
        }
    }

    /// The choice as JSON; names are those of `servers`.
    pub fn write(&self, json: &mut Json<'_>, clock: Clock, servers: &[ServerConfig]) {
        let Reasons { pick, rule, .. } = &self.reasons;
        json.object(|json| {
            json.key("number").whole(self.number);
            json.key("time").number(clock.unix_seconds(self.at));
            let id = Some(&self.id).filter(|id| !id.is_empty());
            json.key("request_id").maybe(id, |json, id| json.bytes(id));
            let request = Some(&self.request).filter(|request| !request.is_empty());
            json.key("request")
                .maybe(request, |json, request| json.bytes(request));
            let (outcome, server) = match pick {
                Pick::Server(index) => ("server", Some(*index)),
                Pick::Full => ("full", None),
                Pick::Nobody => ("nobody", None),
            };
            json.key("server")
                .maybe(server, |json, index| json.text(name(servers, index)));
            json.key("outcome").text(outcome);
            json.key("rule").text(rule.name());
            json.key("why")
                .text(&self.reasons.line(servers).to_string());
            json.key("considered").whole(self.considered);
            json.key("servers").array(|json| {
                for reason in &self.reasons.servers {
                    considered(json, reason, name(servers, reason.server));
                }
            });
        });
    }

    fn table(
        &self,
        out: &mut impl fmt::Write,
        clock: Clock,
        servers: &[ServerConfig],
    ) -> fmt::Result {
        let seconds = clock.unix_seconds(self.at);
        let of_day = seconds.rem_euclid(86_400.0);
        let (hour, minute) = (of_day / 3600.0, of_day / 60.0 % 60.0);
        write!(
            out,
            "\n#{} {:02}:{:02}:{:06.3} UTC  {}",
            self.number,
            hour as u32,
            minute as u32,
            of_day % 60.0,
            self.request.escape_ascii()
        )?;
        if !self.id.is_empty() {
            write!(out, "  {}", self.id.escape_ascii())?;
        }
        writeln!(out, "\n  {}", self.reasons.line(servers))?;
        if self.reasons.servers.is_empty() {
            return Ok(());
        }
        writeln!(
            out,
            "  {:24} {:10} {:>10} {:>9} {:>7} {:>10} {:>8} {:>8} {:>10} {:>6} {:>6} {:>10} {:>10}",
            "server",
            "fitness",
            "score ms",
            "in flight",
            "others",
            "load",
            "errors",
            "age s",
            "curve ms",
            "price",
            "slow",
            "silence ms",
            "errors ms"
        )?;
        for reason in &self.reasons.servers {
            let millis = |span: Duration| format!("{:.3}", span.as_secs_f64() * 1e3);
            let maybe = |span: Option<Duration>| span.map_or("-".to_owned(), millis);
            let (load, errors, age) = match reason.report {
                Some((load, errors, age)) => (
                    load.to_string(),
                    errors.to_string(),
                    format!("{:.1}", age.as_secs_f64()),
                ),
                None => ("-".to_owned(), "-".to_owned(), "-".to_owned()),
            };
            writeln!(
                out,
                "  {:24} {:10} {:>10} {:>9} {:>7.1} {load:>10} {errors:>8} {age:>8} {:>10} {:>6.2} {:>6.2} {:>10} {:>10}",
                name(servers, reason.server),
                fitness(reason.fitness).0,
                maybe(reason.expected),
                reason.in_flight,
                reason.others,
                millis(reason.curve),
                reason.price,
                reason.slowness,
                maybe(reason.silence),
                millis(reason.errors),
            )?;
        }
        match self.considered.saturating_sub(self.reasons.servers.len()) {
            0 => Ok(()),
            more => writeln!(out, "  and {more} more"),
        }
    }
}

fn name(servers: &[ServerConfig], index: usize) -> &str {
    servers
        .get(index)
        .map_or("(removed)", |server| server.name.as_str())
}

fn considered(json: &mut Json<'_>, reason: &Reason, name: &str) {
    let (fitness, limit) = fitness(reason.fitness);
    json.object(|json| {
        json.key("name").text(name);
        json.key("fitness").text(fitness);
        json.key("limit").maybe(limit, Json::number);
        json.key("score_seconds")
            .maybe(reason.expected, Json::seconds);
        json.key("in_flight").whole(reason.in_flight);
        let report = reason.report;
        json.key("reported_load")
            .maybe(report, |json, (load, ..)| json.whole(load));
        json.key("reported_errors")
            .maybe(report, |json, (_, errors, _)| json.whole(errors));
        json.key("report_age_seconds")
            .maybe(report, |json, (.., age)| json.seconds(age));
        json.key("parts").object(|json| {
            json.key("curve_seconds").seconds(reason.curve);
            json.key("price").number(reason.price);
            json.key("slowness").number(reason.slowness);
            json.key("silence_seconds")
                .maybe(reason.silence, Json::seconds);
            json.key("errors_seconds").seconds(reason.errors);
            json.key("others").number(reason.others);
            json.key("weight").number(reason.weight);
        });
    });
}

/// How a fitness is called, and the limit that belongs to it.
fn fitness(fitness: Fitness) -> (&'static str, Option<f64>) {
    match fitness {
        Fitness::Fit => ("fit", None),
        Fitness::Benched(left) => ("benched", Some(left.as_secs_f64())),
        Fitness::Capped(cap) => ("capped", Some(f64::from(cap))),
        Fitness::Full(max) => ("full", Some(f64::from(max))),
        Fitness::Backup => ("backup", None),
        Fitness::Unknown => ("unchecked", None),
        Fitness::Draining => ("draining", None),
        Fitness::Refusing => ("refusing", None),
        Fitness::Invalid => ("invalid", None),
        Fitness::Tried => ("tried", None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Address, Policy};
    use crate::health::Standing;

    fn servers(count: u16) -> Vec<ServerConfig> {
        (1..=count)
            .map(|port| ServerConfig::new(Address::Tcp(([127, 0, 0, 1], 9000 + port).into())))
            .collect()
    }

    fn guess(servers: &[ServerConfig]) -> Guess {
        let mut guess = Guess::new(Policy::BestGuess, servers, 5);
        for index in 0..servers.len() {
            guess.stand(Time(0), index, Standing::Valid);
        }
        guess
    }

    fn note(choices: &mut Choices, guess: &mut Guess, now: u64, count: usize) {
        let pick = guess.pick(Time(now), &[]);
        let head = b"GET /a?b HTTP/1.1\r\nHost: c\r\nX-Request-ID:  abc \r\n\r\n";
        choices.note(Time(now), guess, (pick, &[]), head, count);
    }

    fn clock() -> Clock {
        Clock {
            now: Time(1_500_000_000),
            unix: Duration::from_secs(86_400 + 3_661),
        }
    }

    #[test]
    fn a_choice_says_who_was_considered_and_for_which_request() {
        let servers = servers(3);
        let mut guess = guess(&servers);
        let mut choices = Choices::default();
        note(&mut choices, &mut guess, 0, 3);
        let mut out = Vec::new();
        choices.write(&mut Json::new(&mut out), clock(), &servers, 9);
        let text = String::from_utf8(out).unwrap();
        for part in [
            r#""total":1"#,
            r#""request_id":"abc","request":"GET /a?b","server":"127.0.0.1:9001","outcome":"server","rule":"unused""#,
            r#""considered":3"#,
            r#"{"name":"127.0.0.1:9003","fitness":"fit","limit":null,"score_seconds":null,"in_flight":0,"reported_load":null"#,
            r#""time":90059.5"#,
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
        let mut out = Vec::new();
        choices.table(&mut out, clock(), &servers, 9);
        let text = String::from_utf8(out).unwrap();
        assert!(
            text.contains("#1 01:00:59.500 UTC  GET /a?b  abc\n"),
            "{text}"
        );
        assert_eq!(text.matches("127.0.0.1:9003").count(), 2, "{text}");
    }

    #[test]
    fn only_so_many_are_kept_and_each_of_them_has_an_answer() {
        let servers = servers(1000);
        let mut guess = guess(&servers);
        let mut choices = Choices::default();
        // In one moment: only twenty of them are worth a look at all servers.
        for _ in 0..1500 {
            note(&mut choices, &mut guess, 2_000_000_000, 1000);
        }
        assert_eq!((choices.total(), choices.ring.len()), (1500, 1000));
        for choice in &choices.ring {
            assert_eq!(choice.reasons.servers.len(), 2);
            assert!(matches!(choice.reasons.pick, Pick::Server(_)));
        }
        note(&mut choices, &mut guess, 3_000_000_000, 1000);
        assert_eq!(choices.last().unwrap().reasons.servers.len(), SERVERS_MAX);
        // A newcomer in a slot is not who was meant.
        let Pick::Server(chosen) = choices.last().unwrap().reasons.pick else {
            panic!("nobody was chosen");
        };
        choices.forget(chosen);
        let mut out = Vec::new();
        choices.write(&mut Json::new(&mut out), clock(), &servers, 1);
        let text = String::from_utf8(out).unwrap();
        assert!(text.contains(r#""server":"(removed)""#), "{text}");
    }
}
