//! One health check: a connection of its own, the same reading of heads and content as all traffic.
//!
//! Asks and listens; what an answer means for the server's standing is `health`'s.

use std::io;

use crate::buffer::{Block, Pool};
use crate::config::{Address, CheckConfig, CheckMode, ServerConfig};
use crate::conn::{Conn, Filled, Flushed};
use crate::deadline::Alarm;
use crate::http::body::{Keep, Meter};
use crate::http::grammar;
use crate::http::head::{self, Method, Refusal};
use crate::mutant::{self, Mutant};
use crate::net::Socket;
use crate::report::{Answer, REPORT_MAX, Said, Unfit};

/// The checking of one server.
#[derive(Debug)]
pub struct Probe<S> {
    /// The connection, kept between checks where the server allows it.
    pub conn: Option<Conn<S>>,
    /// The deadline of the check that runs.
    pub alarm: Alarm,
    state: ProbeState,
    /// The request, the same every time.
    question: Vec<u8>,
    /// Bytes of a head that is not whole.
    heard: Option<Block>,
    /// The content so far, at most `REPORT_MAX` bytes.
    content: Vec<u8>,
    /// What the answer's head said.
    said: Said,
    status: u16,
    keeps: bool,
    /// Whether the connection has served a check before.
    is_reused: bool,
    /// Interim responses that came before the answer.
    interims: u8,
}

/// Interim responses that an answer may have before it; each costs a level of `take`.
const INTERIMS_MAX: u8 = 16;

#[derive(Debug)]
enum ProbeState {
    /// No check runs.
    Resting,
    /// So much of the question is sent; the answer's head is not whole.
    Asking(usize),
    /// The answer's content is under way.
    Content(Meter),
}

/// What a step of a check came to.
#[derive(Debug, PartialEq)]
pub enum Verdict {
    /// It goes on.
    Open,
    /// The server is well, and what it said of itself.
    Passed(Answer),
    /// It is not, and why.
    Failed(Failure),
    /// The kept connection was closed meanwhile, which says nothing: a new one is needed.
    Stale,
}

/// Why a check failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// For the log.
    pub reason: String,
    /// Whether the server refused the connection at once.
    pub refused: bool,
}

impl Failure {
    /// The failure that the operating system told of.
    pub fn of(kind: io::ErrorKind) -> Failure {
        Failure {
            reason: kind.to_string(),
            refused: kind == io::ErrorKind::ConnectionRefused || kind == io::ErrorKind::NotFound,
        }
    }

    /// The failure of an answer that is not HTTP.
    fn broken(refusal: Refusal) -> Failure {
        Failure::new(format!("broken answer: {}", refusal.rule().text))
    }

    fn new(reason: impl Into<String>) -> Failure {
        Failure {
            reason: reason.into(),
            refused: false,
        }
    }
}

impl<S: Socket> Probe<S> {
    /// The checking of `server`, at rest.
    pub fn new(server: &ServerConfig, check: &CheckConfig) -> Probe<S> {
        let host = match &server.address {
            Address::Unix(_) => "localhost".to_owned(),
            Address::Tcp(_) if grammar::is_host(server.name.as_bytes()) => server.name.clone(),
            Address::Tcp(address) => address.to_string(),
        };
        let question = format!(
            "GET {} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: bestguess-check\r\nAccept: */*\r\n\r\n",
            check.path
        );
        Probe {
            conn: None,
            alarm: Alarm::default(),
            state: ProbeState::Resting,
            question: question.into_bytes(),
            heard: None,
            content: Vec::new(),
            said: Said::default(),
            status: 0,
            keeps: false,
            is_reused: false,
            interims: 0,
        }
    }

    /// Whether a check runs.
    pub fn is_running(&self) -> bool {
        !matches!(self.state, ProbeState::Resting)
    }

    /// Starts a check, on the connection that is there or on `new`.
    pub fn start(&mut self, new: Option<Conn<S>>) {
        self.is_reused = new.is_none();
        if new.is_some() {
            self.conn = new;
        }
        self.state = ProbeState::Asking(0);
        self.interims = 0;
        self.said = Said::default();
        if !mutant::is(Mutant::ProbeAnsweredByTheLastOne) {
            self.content.clear();
        }
    }

    /// Ends the check: the connection is kept if the answer allowed that.
    pub fn rest(&mut self, pool: &mut Pool) {
        if !self.keeps {
            self.conn = None;
        }
        self.keeps = false;
        self.state = ProbeState::Resting;
        pool.give_from(&mut self.heard);
        self.alarm.clear();
    }

    /// Goes on with the check as far as it can without waiting.
    pub fn step(&mut self, check: &CheckConfig, scratch: &mut [u8], pool: &mut Pool) -> Verdict {
        if check.mode == CheckMode::Tcp {
            return self.step_tcp();
        }
        let Some(conn) = &mut self.conn else {
            return Verdict::Open;
        };
        if let ProbeState::Asking(sent) = &mut self.state {
            let rest = self.question.get(*sent..).unwrap_or_default();
            if !rest.is_empty() && conn.is_writable() {
                match conn.flush(rest) {
                    Flushed::Some(count) => *sent += count,
                    Flushed::Broken(_) if self.is_reused => return Verdict::Stale,
                    Flushed::Broken(kind) => return Verdict::Failed(Failure::of(kind)),
                }
            }
        }
        while let Some(conn) = &mut self.conn
            && !matches!(self.state, ProbeState::Resting)
            && conn.is_readable()
        {
            match conn.fill(scratch) {
                Filled::Some(count) => {
                    let bytes = scratch.get_mut(..count).unwrap_or_default();
                    if let Some(verdict) = self.take(bytes, check, pool) {
                        return verdict;
                    }
                }
                Filled::Blocked => break,
                ended => return self.ended(ended, check),
            }
        }
        Verdict::Open
    }

    fn step_tcp(&mut self) -> Verdict {
        match self.conn.as_mut().map(Conn::connected) {
            Some(Ok(())) => Verdict::Passed(Answer::default()),
            Some(Err(error)) if error.kind() != io::ErrorKind::NotConnected => {
                Verdict::Failed(Failure::of(error.kind()))
            }
            _ => Verdict::Open,
        }
    }

    /// Takes the next bytes of the answer in.
    fn take(&mut self, bytes: &mut [u8], check: &CheckConfig, pool: &mut Pool) -> Option<Verdict> {
        if !matches!(self.state, ProbeState::Asking(_)) {
            return self.take_content(bytes, check);
        }
        let searched = self.heard.as_ref().map_or(0, Block::len);
        if !pool.append(&mut self.heard, bytes) {
            return Some(Verdict::Failed(Failure::broken(Refusal::HeadTooLong)));
        }
        let mut block = self.heard.take()?;
        let Some(end) = head::find_end(block.filled(), searched) else {
            let begun = head::response_begun(block.filled(), searched);
            self.heard = Some(block);
            return begun
                .err()
                .map(|refusal| Verdict::Failed(Failure::broken(refusal)));
        };
        let judged = {
            let mut slots = head::slots();
            head::response(
                block.filled().get(..end).unwrap_or_default(),
                Method::Idempotent,
                &mut slots,
            )
            .map(|response| {
                let said = response.metrics.and_then(Said::orca);
                self.said = self.said.renewed(said.unwrap_or_default());
                (response.status, response.keep_alive, response.framing)
            })
        };
        block.consume(end);
        let verdict = match judged {
            Err(refusal) => Some(Verdict::Failed(Failure::broken(refusal))),
            // An interim response; what is behind it is judged as if it had just come.
            Ok((100..=199, _, _)) if self.interims == INTERIMS_MAX => {
                Some(Verdict::Failed(Failure::broken(Refusal::Interim)))
            }
            Ok((100..=199, _, _)) => {
                self.interims += 1;
                let mut rest = block.filled().to_vec();
                if rest.is_empty() {
                    None
                } else {
                    self.take(&mut rest, check, pool)
                }
            }
            Ok((status, keeps, framing)) => {
                self.status = status;
                self.keeps = keeps;
                self.state = ProbeState::Content(Meter::new(framing, Keep::Data));
                self.take_content(block.filled_mut(), check)
            }
        };
        pool.give(block);
        verdict
    }

    fn take_content(&mut self, bytes: &mut [u8], check: &CheckConfig) -> Option<Verdict> {
        let ProbeState::Content(meter) = &mut self.state else {
            return None;
        };
        let passed = match meter.pass(bytes) {
            Ok(passed) => passed,
            Err(refusal) => {
                self.keeps = false;
                return Some(Verdict::Failed(Failure::broken(refusal)));
            }
        };
        let is_done = meter.is_done();
        let room = REPORT_MAX + 1 - self.content.len().min(REPORT_MAX);
        self.content
            .extend_from_slice(bytes.get(..passed.kept.min(room)).unwrap_or_default());
        // Nobody reads on in a page that is no report; its connection is not worth keeping either.
        if !is_done && (self.content.len() > REPORT_MAX || self.status != 200) {
            self.keeps = false;
            return Some(self.judge(check));
        }
        if !is_done {
            return None;
        }
        self.keeps &= passed.read == bytes.len();
        Some(self.judge(check))
    }

    /// The stream ended, or broke, before the answer was whole; unless its end is the answer's.
    fn ended(&mut self, ended: Filled, check: &CheckConfig) -> Verdict {
        self.keeps = false;
        match &self.state {
            ProbeState::Content(meter) if ended == Filled::End && meter.ends_with_stream() => {
                self.judge(check)
            }
            ProbeState::Asking(_) if self.is_reused && self.heard.is_none() => Verdict::Stale,
            ProbeState::Asking(_) => Verdict::Failed(Failure::new(match ended {
                Filled::Broken => "connection reset before an answer",
                _ => "connection closed before an answer",
            })),
            _ => Verdict::Failed(Failure::new("the answer was cut off")),
        }
    }

    /// What a whole answer says.
    fn judge(&self, check: &CheckConfig) -> Verdict {
        let is_good = if check.mode == CheckMode::Http {
            self.status / 100 == 2
        } else {
            self.status == 200
        };
        if !is_good {
            let reason = format!(
                "GET {} answered {}: use --check-path, or --check tcp",
                check.path, self.status
            );
            return Verdict::Failed(Failure::new(reason));
        }
        if check.mode == CheckMode::Http {
            return Verdict::Passed(Answer {
                report: None,
                said: self.said,
            });
        }
        if self.content.len() > REPORT_MAX {
            return Verdict::Failed(Failure::new("malformed report: it is longer than 4 KiB"));
        }
        match Answer::parse(&self.content) {
            Ok(answer) => Verdict::Passed(Answer {
                said: self.said.renewed(answer.said),
                ..answer
            }),
            Err(Unfit::Down(what)) => Verdict::Failed(Failure::new(what)),
            Err(Unfit::Malformed(what)) => Verdict::Failed(Failure::new(format!(
                "malformed report: {what} (GET {} must answer two lines, errors and load; or use --check http)",
                check.path
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::stub::Stub;
    use crate::net::{Owner, Token};
    use crate::report::Report;

    fn verdict(answer: &str) -> Verdict {
        let check = CheckConfig::default();
        let server = ServerConfig::new(Address::Unix("/nowhere".into()));
        let mut probe = Probe::new(&server, &check);
        probe.start(Some(Conn::new(
            Stub::saying(answer),
            Token::new(Owner::Probe, 0, 1),
        )));
        let mut pool = Pool::new(1 << 20);
        let mut scratch = vec![0; 256 << 10];
        let verdict = probe.step(&check, &mut scratch, &mut pool);
        probe.rest(&mut pool);
        assert_eq!(pool.used_blocks(), 0);
        verdict
    }

    const REPORT: &str = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n3\n5\n";
    const INTERIM: &str = "HTTP/1.1 103 Early Hints\r\n\r\n";

    #[test]
    fn a_report_is_found_behind_a_few_interim_responses() {
        let passed = Verdict::Passed(Answer {
            report: Some(Report { errors: 3, load: 5 }),
            said: Said::default(),
        });
        assert_eq!(verdict(REPORT), passed);
        let answer = INTERIM.repeat(16) + REPORT;
        assert_eq!(verdict(&answer), passed);
    }

    #[test]
    fn what_a_server_says_in_its_head_counts_unless_its_report_says_otherwise() {
        for (line, in_flight) in [("in_flight=2\n", 2.0), ("weight=2.0\n\n", 9.0)] {
            let answer = format!(
                "HTTP/1.1 200 OK\r\nEndpoint-Load-Metrics: TEXT named_metrics.in_flight=9,eps=1\r\n\
                 Content-Length: 16\r\n\r\n3\n5\n{line}"
            );
            let Verdict::Passed(Answer { said, .. }) = verdict(&answer) else {
                panic!("it did not pass: {line}");
            };
            assert_eq!(said.in_flight, Some(in_flight), "{line}");
        }
    }

    #[test]
    fn a_server_that_says_it_is_down_is() {
        let answer = "HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\ndown#no disk";
        let failure = Failure::new("it says that it is down: no disk");
        assert_eq!(verdict(answer), Verdict::Failed(failure));
    }

    #[test]
    fn a_flood_of_interim_responses_is_a_broken_answer() {
        let answer = INTERIM.repeat(8000) + REPORT;
        let failure = Failure::broken(Refusal::Interim);
        assert_eq!(verdict(&answer), Verdict::Failed(failure));
    }

    #[test]
    fn an_answer_of_another_status_says_what_to_do() {
        let Verdict::Failed(failure) =
            verdict("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
        else {
            panic!("a 404 passed");
        };
        assert!(failure.reason.contains("answered 404") && !failure.refused);
    }
}
