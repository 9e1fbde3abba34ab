//! What the balancer sends to a client, read byte for byte at its own socket.

use super::answers::trailers;
use super::asked::request_key;
use super::check::{AGES, Checker, House, Id, Outcome};
use super::kernel::ConnId;
use super::wire::{self, Body, Head, Item, Reader};

/// The content key of a response.
pub fn response_key(answer: usize) -> u64 {
    2 * answer as u64 + 1
}

/// One request as a client sends it: where in its stream it begins and ends.
#[derive(Debug, Clone, Copy)]
pub struct Sent {
    pub id: Id,
    pub start: u64,
    pub head_end: u64,
}

/// A connection from a client to the balancer.
#[derive(Debug, Default)]
pub struct ClientTap {
    pub is_accepted: bool,
    /// Who has accepted it.
    pub process: usize,
    /// The balancer has ended its stream, or let go.
    pub is_over: bool,
    /// Bytes that the balancer received, and sent.
    pub received: u64,
    pub total: u64,
    /// When a byte crossed last.
    pub moved_at: u64,
    pub requests: Vec<Sent>,
    /// How many of them have a final response that was sent whole.
    pub answered: usize,
    /// Where in the stream the responses end.
    pub ends: Vec<u64>,
    /// Interim responses to the request that is next: those with status 100.
    pub continues: u32,
    /// The balancer has said that there will be no further response.
    pub is_close_announced: bool,
    /// Whether the balancer ends it with a reset.
    pub is_aborted: bool,
    /// A server has mixed its responses up: what comes from here on nobody can read.
    pub is_lost: bool,
    /// The connection is switched: the answer that the tunnel's content belongs to.
    pub tunnel: Option<usize>,
    reader: Reader,
    current: Option<Current>,
}

/// The final response that is under way.
#[derive(Debug, Clone, Copy)]
struct Current {
    status: u16,
    /// The server's answer that it is; 0: the balancer's own.
    answer: usize,
    content: u64,
    has_content: bool,
    /// Whether the server's trailers have to come.
    has_trailers: bool,
    is_foreign: bool,
}

impl ClientTap {
    /// Whether a final response has begun and is not over.
    pub fn is_midway(&self) -> bool {
        self.current.is_some() || !self.reader.is_between()
    }
}

impl Checker {
    pub fn sent_to_client(&mut self, conn: ConnId, bytes: &[u8], now: u64) {
        let Some(tap) = self.client(conn) else { return };
        let before = tap.total;
        tap.total += bytes.len() as u64;
        tap.moved_at = now;
        let mut reader = std::mem::take(&mut tap.reader);
        let mut input = bytes;
        while let Some(item) = reader.next(&mut input) {
            let at = before + (bytes.len() - input.len()) as u64;
            match item {
                Item::Head(head) => {
                    let body = self.response_head(conn, &head);
                    reader.body(body);
                }
                Item::Data(data) => self.response_content(conn, data),
                Item::End => {
                    self.judge_trailers(conn, &reader.take_trailers());
                    self.response_end(conn, at);
                }
                Item::Bad(what) => self.fail(|| format!("client {conn} got {what}")),
            }
            if self.failure.is_some() {
                break;
            }
        }
        if let Some(tap) = self.client(conn) {
            tap.reader = reader;
        }
    }

    fn response_head(&mut self, conn: ConnId, head: &Head) -> Body {
        let Some(tap) = self.client(conn) else {
            return Body::None;
        };
        let request = tap.requests.get(tap.answered).copied();
        let (received, is_last) = (tap.received, tap.is_close_announced);
        let Some(request) = request.filter(|request| received > request.start && !is_last) else {
            self.fail(|| format!("client {conn} got a response to nothing: {}", head.line));
            return Body::None;
        };
        let id = request.id;
        let exchange = self.exchanges[id].clone();
        let status: u16 = head
            .line
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok())
            .unwrap_or(0);
        if !head.line.starts_with("HTTP/1.1 ") || !(100..600).contains(&status) {
            self.fail(|| format!("client {conn} got a status line {:?}", head.line));
        }
        let answer = head.number("x-sim-answer").unwrap_or(0) as usize;
        let from = self.answers.get(answer).map_or(0, |answer| answer.conn);
        let is_confused = answer != 0 && self.link(from).is_some_and(|link| link.is_confused);
        if is_confused && head.number("x-sim-id") != Some(id as u64) {
            return self.lose(conn);
        }
        if head
            .number("x-sim-id")
            .is_some_and(|found| found != id as u64)
            && !is_confused
        {
            self.fail(|| {
                format!(
                    "client {conn} asked {id} and got the response to {:?}",
                    head.get("x-sim-id")
                )
            });
        }
        if (100..200).contains(&status) {
            return self.interim(conn, id, status, answer);
        }
        self.look_at_name(id, head);
        if head.has("keep-alive")
            || head.has("proxy-connection")
            || head.has("x-hop")
            || head.has("trailer") && !exchange.takes_trailers
        {
            self.fail(|| format!("the response to {id} has a field of one hop"));
        }
        let is_close = match head.get("connection") {
            Some("close") => true,
            None | Some("keep-alive") => exchange.is_old && head.get("connection").is_none(),
            Some(_) => {
                self.fail(|| format!("the response to {id} has a strange Connection field"));
                true
            }
        };
        let has_content = !exchange.is_head && status != 204 && status != 304;
        if let Some(found) = self.answers.get(answer).filter(|_| answer != 0).copied()
            && (found.id != id || found.status != status)
            && !is_confused
        {
            self.fail(|| format!("the response to {id} is not what the server answered"));
        }
        let chunked = head.get("transfer-encoding") == Some("chunked");
        let length = head.number("content-length");
        if (chunked || head.has("transfer-encoding")) && exchange.is_old {
            self.fail(|| {
                format!("the response to {id} is chunked, and the client does not know chunks")
            });
        }
        if head.has("transfer-encoding") && head.has("content-length") {
            self.fail(|| format!("the response to {id} has two framings"));
        }
        let is_foreign = head.has("x-sim-foreign") || is_confused;
        if answer == 0 && length.is_none() && !is_foreign {
            self.fail(|| format!("the balancer's own response to {id} has no length"));
        }
        if status == 204 && (head.has("transfer-encoding") || head.has("content-length")) {
            self.fail(|| format!("a 204 to {id} with framing"));
        }
        let body = match (has_content, chunked, length) {
            (false, _, _) => Body::None,
            (true, true, _) => Body::Chunked,
            (true, false, Some(length)) => Body::Length(length),
            (true, false, None) => Body::Endless,
        };
        if let Some(tap) = self.client(conn) {
            tap.is_close_announced = is_close || body == Body::Endless;
            tap.current = Some(Current {
                status,
                answer,
                content: 0,
                has_content,
                has_trailers: exchange.takes_trailers && chunked && head.has("x-sim-trailers"),
                is_foreign,
            });
            tap.continues = 0;
        }
        body
    }

    /// A response of another request, by the server's fault: the rest of the stream is not judged.
    fn lose(&mut self, conn: ConnId) -> Body {
        let Some(tap) = self.client(conn) else {
            return Body::None;
        };
        tap.is_lost = true;
        let ids: Vec<Id> = tap
            .requests
            .iter()
            .skip(tap.answered)
            .map(|sent| sent.id)
            .collect();
        for id in ids {
            self.excuse(id, super::check::CLIENT);
            self.over(id, Outcome::Foreign);
        }
        Body::Endless
    }

    fn interim(&mut self, conn: ConnId, id: Id, status: u16, answer: usize) -> Body {
        let exchange = self.exchanges[id].clone();
        if exchange.is_old {
            self.fail(|| format!("an interim response to {id}, which is HTTP/1.0"));
        }
        let good = self
            .answers
            .get(answer)
            .is_some_and(|found| found.status == 101 && found.id == id);
        let Some(tap) = self.client(conn) else {
            return Body::None;
        };
        match status {
            100 => tap.continues += 1,
            101 if exchange.upgrades && good => {
                tap.tunnel = Some(answer);
                tap.current = Some(Current {
                    status,
                    answer,
                    content: 0,
                    has_content: true,
                    has_trailers: false,
                    is_foreign: false,
                });
                return Body::Endless;
            }
            101 => self.fail(|| format!("an upgrade for {id} that nobody asked for")),
            _ => {}
        }
        Body::None
    }

    fn response_content(&mut self, conn: ConnId, data: &[u8]) {
        let Some(tap) = self.client(conn) else { return };
        let Some(current) = &mut tap.current else {
            return;
        };
        let Current {
            answer,
            content: position,
            ..
        } = *current;
        current.content += data.len() as u64;
        if answer != 0 && !wire::is_content(data, response_key(answer), position) {
            let id = self.answers.get(answer).map_or(0, |answer| answer.id);
            self.fail(|| {
                format!("the content of the response to {id} is changed near byte {position}")
            });
        }
    }

    /// Trailers reach those who take them, whole, and nobody else.
    fn judge_trailers(&mut self, conn: ConnId, section: &[u8]) {
        let Some(current) = self.client(conn).and_then(|tap| tap.current) else {
            return;
        };
        let expected = if current.has_trailers && current.has_content {
            trailers(response_key(current.answer))
        } else {
            String::new()
        };
        if section != expected.as_bytes() && !current.is_foreign {
            self.fail(|| {
                format!(
                    "client {conn} got the trailers {:?}",
                    section.escape_ascii().to_string()
                )
            });
        }
    }

    /// A message is over: an interim or the final one.
    fn response_end(&mut self, conn: ConnId, at: u64) {
        let Some(tap) = self.client(conn) else { return };
        let Some(current) = tap.current.take() else {
            return;
        };
        tap.ends.push(at);
        let Some(request) = tap.requests.get(tap.answered).copied() else {
            return;
        };
        tap.answered += 1;
        let is_over = tap.is_over;
        self.finished(request.id, &current, is_over);
        self.look_for_ready(conn, true);
    }

    /// `is_cut`: only the end of the stream has ended the response.
    fn finished(&mut self, id: Id, current: &Current, is_cut: bool) {
        if current.is_foreign {
            return self.over(id, Outcome::Foreign);
        }
        if current.answer == 0 {
            return self.over(id, Outcome::Own(current.status));
        }
        let Some(answer) = self.answers.get(current.answer).copied() else {
            return;
        };
        let is_short = current.has_content && current.content != answer.content;
        if is_short && answer.is_good && !is_cut {
            let (found, meant) = (current.content, answer.content);
            self.fail(|| {
                format!("the response to {id} has {found} bytes of content instead of {meant}")
            });
        }
        self.over(
            id,
            if is_short {
                Outcome::Truncated
            } else {
                Outcome::Whole
            },
        );
    }

    /// The balancer's stream to a client is over: what was not answered never will be.
    pub fn client_is_over(&mut self, conn: ConnId, now: u64) {
        let Some(process) = self.client(conn).map(|tap| tap.process) else {
            return;
        };
        let idle_timeout = self.houses[process].idle_timeout;
        let Some(tap) = self.client(conn) else { return };
        if std::mem::replace(&mut tap.is_over, true) {
            return;
        }
        let (is_endless, is_midway) = (tap.reader.is_endless(), tap.is_midway());
        let is_aborted = tap.is_aborted;
        let (at, current, is_tunnel) = (tap.total, tap.current, tap.tunnel.is_some());
        let rest: Vec<Sent> = tap.requests.iter().skip(tap.answered).copied().collect();
        let (received, is_last) = (tap.received, tap.is_close_announced);
        let is_idle = now.saturating_sub(tap.moved_at) >= idle_timeout;
        tap.reader.end_of_stream();
        let mut rest = rest.into_iter();
        if is_midway && let Some(first) = rest.next() {
            match current {
                Some(current) if current.is_foreign => self.over(first.id, Outcome::Foreign),
                Some(current) if is_tunnel => self.tunnel_over(first.id, &current),
                Some(current) if is_endless => {
                    if !is_aborted {
                        self.judge_end(first.id, &current);
                    }
                    self.response_end(conn, at);
                }
                _ => self.over(first.id, Outcome::Truncated),
            }
        }
        for (index, request) in rest.enumerate() {
            // What came behind a last response, or met an idle timeout, has no right to an answer;
            // nor has what was not read.
            let excused = is_last || is_midway || is_idle || index > 0 || received <= request.start;
            if excused {
                self.excuse(request.id, super::check::SPARE);
            }
            self.over(request.id, Outcome::Closed);
        }
    }

    /// The balancer closes a connection whose client has not left. Whoever was told that it goes on may
    /// be about to ask: in a drain too, only silence ends it, and not before a last look.
    pub fn lets_go(&mut self, conn: ConnId, has_unread: bool, now: u64) {
        let Some(process) = self.client(conn).map(|tap| tap.process) else {
            return;
        };
        let House {
            idle_timeout,
            is_retired,
            ..
        } = self.houses[process];
        if !is_retired || self.is_amnesty {
            return;
        }
        let Some(tap) = self.client(conn) else { return };
        let is_between = !tap.is_midway() && tap.tunnel.is_none();
        let asked = tap.requests.get(tap.answered);
        let is_asking = asked.is_some_and(|sent| sent.start < tap.received);
        if tap.is_over || tap.is_close_announced || tap.is_lost || !is_between || is_asking {
            return;
        }
        let is_idle = now.saturating_sub(tap.moved_at) >= idle_timeout;
        let ids: Vec<Id> = tap.requests.iter().map(|sent| sent.id).collect();
        let is_honest = ids
            .iter()
            .all(|id| self.exchanges[*id].excuses & super::check::CLIENT == 0);
        if is_honest && (has_unread || !is_idle) {
            self.fail(|| {
                format!("client {conn} was told that the connection goes on, and is closed ({has_unread})")
            });
        }
    }

    /// The end of the stream, in good order, tells the client that the response is whole.
    fn judge_end(&mut self, id: Id, current: &Current) {
        if let Some(answer) = self.answers.get(current.answer)
            && current.answer != 0
            && answer.is_good
            && current.has_content
            && current.content < answer.content
        {
            self.fail(|| format!("the response to {id} was cut, and looks whole"));
        }
    }

    /// A tunnel ended: in good order if all that the server sent has gone through.
    fn tunnel_over(&mut self, id: Id, current: &Current) {
        let meant = self
            .answers
            .get(current.answer)
            .map_or(AGES, |answer| answer.content);
        let is_whole = current.content == meant;
        self.over(
            id,
            if is_whole {
                Outcome::Whole
            } else {
                Outcome::Truncated
            },
        );
    }

    /// The content of what a client sends through a tunnel.
    pub fn tunnel_key(id: Id) -> u64 {
        request_key(id)
    }
}
