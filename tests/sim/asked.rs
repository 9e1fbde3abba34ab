//! What the balancer sends to a server, read byte for byte at its own socket.

use super::check::{AGES, Checker, EARLY, Exchange, Id, LATE, SPARE};
use super::kernel::ConnId;
use super::wire::{self, Body, Head, Item, Reader};

/// The content keys of requests are even, those of responses odd.
pub fn request_key(id: Id) -> u64 {
    2 * id as u64
}

/// One request that a server gets.
#[derive(Debug, Clone)]
pub struct Asked {
    /// 0: a health check.
    pub id: Id,
    pub is_head: bool,
    pub is_upgrade: bool,
    /// Where in the stream its head ends, and all of it; `AGES` while that is not known.
    pub head_end: u64,
    pub end: u64,
}

/// A connection from the balancer to a server.
#[derive(Debug)]
pub struct LinkTap {
    pub server: usize,
    /// Whose it is.
    pub process: usize,
    pub is_probe: bool,
    pub is_over: bool,
    /// Bytes that the balancer sent, and received.
    pub total: u64,
    pub received: u64,
    pub asked: Vec<Asked>,
    /// Where the server's responses so far end: one per request that it has answered.
    pub response_ends: Vec<u64>,
    /// Where the response that is under way began.
    pub response_start: u64,
    /// The server will take no request behind the last response.
    pub is_last_announced: bool,
    /// The server has sent bytes that belong to no response.
    pub is_tainted: bool,
    /// It was used again for all that: which response belongs to which request nobody knows.
    pub is_confused: bool,
    /// The server has gone wrong, and this is the excuse; 0: it has not.
    pub doom: u8,
    is_mourned: bool,
    reader: Reader,
    /// The step at which the request that is under way was first tried to be sent.
    tried_at: Option<u64>,
    begun_at: u64,
    content: u64,
    /// The exchange whose bytes the stream is in.
    current: Id,
    is_tunnel: bool,
    is_counted: bool,
}

impl LinkTap {
    pub fn new(server: usize, step: u64) -> LinkTap {
        LinkTap {
            server,
            process: 0,
            is_probe: false,
            is_over: false,
            total: 0,
            received: 0,
            asked: Vec::new(),
            response_ends: Vec::new(),
            response_start: 0,
            is_last_announced: false,
            is_tainted: false,
            doom: 0,
            is_mourned: false,
            is_confused: false,
            reader: Reader::default(),
            tried_at: Some(step),
            begun_at: step,
            content: 0,
            current: 0,
            is_tunnel: false,
            is_counted: false,
        }
    }

    /// Whether an exchange is on it: its first byte was sent, and the last of its response was not
    /// received.
    pub fn is_busy(&self) -> bool {
        let begun = self.asked.len() + usize::from(self.is_nameless());
        let over = self
            .response_ends
            .iter()
            .filter(|end| **end <= self.received)
            .count();
        begun > over || self.is_tunnel
    }

    /// Whether it carries a request whose head has not been sent whole.
    pub fn is_nameless(&self) -> bool {
        !self.reader.is_between()
            && self.asked.last().is_none_or(|asked| asked.end != AGES)
            && !self.is_tunnel
    }

    /// Whether a request was given to it of which nothing could be sent yet, or is about to be: it
    /// was made for one.
    pub fn is_tried(&self) -> bool {
        self.tried_at.is_some()
    }

    /// The exchange that is on it, if its head was seen.
    pub fn open_id(&self) -> Id {
        let over = self
            .response_ends
            .iter()
            .filter(|end| **end <= self.received)
            .count();
        self.asked.get(over).map_or(0, |asked| asked.id)
    }

    /// Both sides speak another protocol from here on.
    pub fn switch(&mut self) {
        self.is_tunnel = true;
    }
}

impl Checker {
    pub fn sent_to_server(&mut self, conn: ConnId, bytes: &[u8]) {
        let step = self.step;
        let Some(tap) = self.link(conn) else { return };
        let mut reader = std::mem::take(&mut tap.reader);
        let before = tap.total;
        tap.total += bytes.len() as u64;
        if tap.is_tunnel {
            // The reader has come to the end of the request; from there on it is content.
            reader.body(Body::Endless);
        }
        let mut input = bytes;
        if reader.is_between() && !tap.is_tunnel {
            self.request_begins(conn, step);
        }
        while let Some(item) = reader.next(&mut input) {
            let at = before + (bytes.len() - input.len()) as u64;
            match item {
                Item::Head(head) => {
                    let body = self.request_head(conn, &head, at);
                    reader.body(body);
                }
                Item::Data(data) => self.request_content(conn, data),
                Item::End => {
                    self.request_end(conn, at);
                    if !reader.take_trailers().is_empty() {
                        self.fail(|| format!("trailers behind a request on link {conn}"));
                    }
                    if !input.is_empty() {
                        self.fail(|| format!("bytes behind a request on link {conn}"));
                    }
                }
                Item::Bad(what) => self.fail(|| format!("link {conn} got {what}")),
            }
            if self.failure.is_some() {
                break;
            }
        }
        if let Some(tap) = self.link(conn) {
            tap.reader = reader;
        }
        self.mourn(conn);
    }

    /// The balancer tried to send and could not.
    pub fn blocked(&mut self, conn: ConnId) {
        self.step += 1;
        let step = self.step;
        if let Some(tap) = self.link(conn)
            && tap.reader.is_between()
            && !tap.is_busy()
            && tap.tried_at.is_none()
        {
            tap.tried_at = Some(step);
        }
    }

    /// The first byte of a request goes out.
    fn request_begins(&mut self, conn: ConnId, step: u64) {
        let Some(tap) = self.link(conn) else { return };
        tap.begun_at = tap.tried_at.take().unwrap_or(step);
        let end = tap.response_ends.last().copied().unwrap_or(0);
        if tap.is_confused {
            return;
        }
        tap.is_confused = tap.is_tainted;
        let wrong = if tap.response_ends.len() < tap.asked.len() {
            "that has not answered yet"
        } else if tap.received < end {
            "whose response was not read to its end"
        } else if tap.received > end {
            "that had sent more than its response"
        } else if tap.is_last_announced {
            "that wanted no further one"
        } else {
            return;
        };
        self.fail(|| format!("a request was sent on link {conn} to a server {wrong}"));
    }

    fn request_head(&mut self, conn: ConnId, head: &Head, at: u64) -> Body {
        let step = self.step;
        let Some(tap) = self.link(conn) else {
            return Body::None;
        };
        tap.content = 0;
        let begun_at = tap.begun_at;
        let server = tap.server;
        let excuse = if tap.is_tainted { LATE } else { tap.doom };
        let mut words = head.line.split(' ');
        let (method, target) = (
            words.next().unwrap_or_default(),
            words.next().unwrap_or_default(),
        );
        if target == "/healthcheck" {
            self.look_at_membership(conn, true, begun_at);
            self.probe_begins(conn, server, at);
            return Body::None;
        }
        let id: Id = target
            .strip_prefix("/r/")
            .and_then(|id| id.parse().ok())
            .unwrap_or(0);
        let Some(exchange) = self.exchanges.get(id).filter(|_| id != 0) else {
            self.fail(|| format!("a request for {target:?} that nobody asked"));
            return Body::None;
        };
        let exchange = exchange.clone();
        if let Some(wrong) = judge_request(head, id, &exchange) {
            self.fail(|| format!("request {id} reached server {server} {wrong}"));
        }
        self.look_at_name(id, head);
        if exchange.is_malformed && !exchange.expects {
            self.fail(|| format!("request {id}, which is malformed, reached server {server}"));
        }
        if exchange.outcome.is_some() && exchange.excuses & super::check::CLIENT == 0 {
            self.fail(|| format!("request {id} was sent to server {server} when it was over"));
        }
        if !exchange.is_idempotent && exchange.reached > 0 {
            self.fail(|| format!("request {id}, a {method}, was sent twice"));
        }
        let chunked = head.get("transfer-encoding") == Some("chunked");
        let length = head.number("content-length");
        let is_head = method == "HEAD";
        let is_upgrade = head.has("upgrade");
        if let Some(exchange) = self.exchanges.get_mut(id) {
            exchange.reached += 1;
            exchange.excuses |= excuse;
        }
        self.look_at_membership(conn, false, begun_at);
        self.assigned(id, begun_at.min(step));
        if let Some(tap) = self.link(conn) {
            tap.current = id;
            tap.asked.push(Asked {
                id,
                is_head,
                is_upgrade,
                head_end: at,
                end: AGES,
            });
        }
        match (chunked, length) {
            (true, None) => Body::Chunked,
            (false, Some(length)) => Body::Length(length),
            (false, None) => Body::None,
            (true, Some(_)) => {
                self.fail(|| format!("request {id} has two framings"));
                Body::None
            }
        }
    }

    fn probe_begins(&mut self, conn: ConnId, server: usize, at: u64) {
        self.tally.probes += 1;
        let mut process = 0;
        if let Some(tap) = self.link(conn) {
            process = tap.process;
            tap.is_probe = true;
            tap.is_counted = true;
            tap.asked.push(Asked {
                id: 0,
                is_head: false,
                is_upgrade: false,
                head_end: at,
                end: AGES,
            });
        }
        let probing = &mut self.houses[process].probing[server];
        *probing += 1;
        if *probing > 1 || self.probe_conns(process, server) > 1 {
            self.fail(|| format!("server {server} is checked twice at once"));
        }
    }

    fn request_content(&mut self, conn: ConnId, data: &[u8]) {
        let Some(tap) = self.link(conn) else { return };
        // A server that has sent more than its response, and was given a request before that could
        // be known, may be in a tunnel of which the balancer knows nothing.
        let is_confused = tap.is_confused;
        let (id, position) = (tap.current, tap.content);
        tap.content += data.len() as u64;
        if is_confused {
            // Requests go into that tunnel, and what comes of them is the server's doing.
            for lost in wire::ids(data) {
                self.excuse(lost, SPARE);
            }
        } else if !wire::is_content(data, request_key(id), position) {
            self.fail(|| format!("the content of request {id} is changed near byte {position}"));
        }
    }

    fn request_end(&mut self, conn: ConnId, at: u64) {
        let Some(tap) = self.link(conn) else { return };
        let (id, content, is_probe) = (tap.current, tap.content, tap.is_probe);
        if let Some(asked) = tap.asked.last_mut() {
            asked.end = at;
        }
        let expected = self
            .exchanges
            .get(id)
            .map_or(0, |exchange| exchange.content);
        if !is_probe && content != expected {
            self.fail(|| {
                format!("request {id} has {content} bytes of content instead of {expected}")
            });
        }
    }

    pub fn received_from_server(&mut self, conn: ConnId, count: u64) {
        let Some(tap) = self.link(conn) else { return };
        tap.received += count;
        if tap.is_counted && !tap.is_busy() {
            tap.is_counted = false;
            let (process, server) = (tap.process, tap.server);
            self.houses[process].probing[server] -= 1;
        }
    }

    pub fn link_is_over(&mut self, conn: ConnId) {
        let Some(tap) = self.link(conn) else { return };
        tap.is_over = true;
        if std::mem::take(&mut tap.is_counted) {
            let (process, server) = (tap.process, tap.server);
            self.houses[process].probing[server] -= 1;
        }
    }

    /// The server at the other end of `conn` does something wrong, now; `late`: not before it has
    /// begun to answer.
    pub fn server_errs(&mut self, conn: ConnId, late: bool) {
        let Some(tap) = self.link(conn) else { return };
        let excuse = if late { LATE } else { EARLY };
        tap.doom |= excuse;
        let id = tap.open_id();
        self.excuse(id, excuse);
        self.mourn(conn);
    }

    /// A request of which no more than part of the head was sent fails with its link, and nobody
    /// knows which it is.
    fn mourn(&mut self, conn: ConnId) {
        let Some(tap) = self.link(conn) else { return };
        if tap.is_nameless() && (tap.doom != 0 || tap.is_tainted) && !tap.is_mourned {
            tap.is_mourned = true;
            if tap.is_tainted || tap.doom & LATE != 0 {
                self.nameless_late += 1;
            } else {
                self.nameless += 1;
            }
        }
    }
}

/// What is wrong with the head of a request that goes to a server.
fn judge_request(head: &Head, id: Id, exchange: &Exchange) -> Option<&'static str> {
    let has = |name| head.has(name);
    if !head.line.ends_with(" HTTP/1.1") {
        return Some("in another version");
    }
    if head.number("x-sim-id") != Some(id as u64) {
        return Some("with the fields of another");
    }
    if head.get("host") != Some("sim") {
        return Some("without its Host");
    }
    if !has("via")
        || head.get("x-forwarded-for").is_none()
        || head.get("x-forwarded-proto") != Some("http")
    {
        return Some("without what the balancer adds");
    }
    if has("keep-alive") || has("proxy-connection") || has("trailer") || has("x-hop") {
        return Some("with a field of one hop");
    }
    match (head.get("connection"), has("upgrade"), head.get("te")) {
        (None, false, None) | (Some("Upgrade"), true, None) => None,
        (Some("TE"), false, Some("trailers")) if exchange.takes_trailers => None,
        _ => Some("with a Connection field of the client's"),
    }
}
