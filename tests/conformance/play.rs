//! One case as it is played: what its actors do next, what they have seen, and the verdict.
//!
//! Knows no socket. Whoever plays it tells what happened and does what it says: over the sockets of
//! this machine (`sockets`), or in the simulated world (`simulated`). Behind the case every client
//! whose connection goes on, and one more, asks for something else and has to get it: what `goes
//! on` is in use, and the balancer has come to an end with all that was before.

use crate::format::{Answer, Case, LinkSees, OK, Step, Then};
use crate::reading::{self, Came, Response};

#[path = "verdict.rs"]
mod verdict;

/// Asked behind each case, and its answer.
const PROBE: &[u8] = b"GET /probe HTTP/1.1\r\nHost: probe\r\n\r\n";
const PROBE_LINE: &[u8] = b"GET /probe HTTP/1.1\r\n";
const PROBE_ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nprobe";

/// One end of a connection of the balancer's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Who {
    /// A client, by its number in the case.
    Client(usize),
    /// The server's end of a connection, by the order in which they came.
    Link(usize),
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Action {
    /// A client connects.
    Open(usize),
    Send(Who, Vec<u8>),
    /// Ends the stream, and goes on reading.
    End(Who),
    Reset(Who),
    /// Calls `resume` once all that is under way has arrived.
    Pause,
}

/// One case under way.
pub(crate) struct Play {
    case: Case,
    links_wanted: Vec<LinkSees>,
    clients: Vec<Client>,
    links: Vec<Link>,
    /// Requests so far, but for probes.
    asked: usize,
    /// The first client that has still to be probed.
    probed: usize,
    is_paused: bool,
    /// What no reader could make sense of.
    garbage: Option<String>,
}

/// What one client did and saw.
#[derive(Default)]
struct Client {
    steps: usize,
    awaited: usize,
    is_probing: bool,
    got: Vec<u8>,
    /// Where in `got` the response begins that is not whole.
    at: usize,
    responses: Vec<Response>,
    has_ended: bool,
    /// Whether not in good order.
    was_reset: bool,
}

/// What one connection to the server saw.
#[derive(Default)]
struct Link {
    got: Vec<u8>,
    /// Where in `got` the request begins that is not whole.
    at: usize,
    /// The answer to that request, once its head is there.
    answer: Option<Answer>,
    is_tunnel: bool,
    /// Where in `got` probes are.
    probes: Vec<(usize, usize)>,
    /// Whether the server ended it.
    is_over: bool,
    has_ended: bool,
}

impl Play {
    /// The play of `case` before a balancer that listens at `port`.
    pub(crate) fn new(case: &Case, port: u16) -> Play {
        let with_port = |bytes: &[u8]| {
            let mut parts = Vec::new();
            let mut rest = bytes;
            while let Some(place) = memchr::memmem::find(rest, b"{port}") {
                parts.extend_from_slice(&rest[..place]);
                parts.extend_from_slice(port.to_string().as_bytes());
                rest = &rest[place + b"{port}".len()..];
            }
            parts.extend_from_slice(rest);
            parts
        };
        let links = case.links.iter();
        Play {
            case: case.clone(),
            links_wanted: links
                .map(|link| LinkSees {
                    bytes: with_port(&link.bytes),
                    perhaps: with_port(&link.perhaps),
                    ends: link.ends,
                })
                .collect(),
            clients: Vec::new(),
            links: Vec::new(),
            asked: 0,
            probed: 0,
            is_paused: false,
            garbage: None,
        }
    }

    /// The pause is over.
    pub(crate) fn resume(&mut self) {
        self.is_paused = false;
    }

    /// What is to be done now, in this order.
    pub(crate) fn advance(&mut self) -> Vec<Action> {
        let mut actions = Vec::new();
        self.read_requests(&mut actions);
        self.read_responses();
        while self.step(&mut actions) {}
        actions
    }

    pub(crate) fn client_got(&mut self, client: usize, bytes: &[u8]) {
        self.clients[client].got.extend(bytes);
    }

    /// The balancer has ended its stream, or broken it.
    pub(crate) fn client_ended(&mut self, client: usize, was_reset: bool) {
        let client = &mut self.clients[client];
        // Behind an end in good order a reset says nothing more.
        client.was_reset |= was_reset && !client.has_ended;
        client.has_ended = true;
    }

    /// The balancer has connected: the number of the link.
    pub(crate) fn link_opened(&mut self) -> usize {
        self.links.push(Link::default());
        self.links.len() - 1
    }

    pub(crate) fn link_got(&mut self, link: usize, bytes: &[u8]) {
        self.links[link].got.extend(bytes);
    }

    pub(crate) fn link_ended(&mut self, link: usize) {
        self.links[link].has_ended = true;
    }

    /// Whether nothing more is awaited: every client got what it has to get and was probed, and the
    /// server saw what it has to see; or it can not come to that any more.
    pub(crate) fn is_over(&self) -> bool {
        self.is_right() || self.is_hopeless()
    }

    /// Whether everybody was probed: behind that only ends of connections are under way.
    pub(crate) fn is_probed(&self) -> bool {
        let count = self.case.clients.len();
        self.probed > count && self.has_probe(count)
    }

    /// One step of whoever can go on: false if nobody can.
    fn step(&mut self, actions: &mut Vec<Action>) -> bool {
        if self.is_paused {
            return false;
        }
        let current = self.clients.len();
        let Some(index) = current.checked_sub(1) else {
            self.open(actions);
            return true;
        };
        let count = self.case.clients.len();
        let client = &mut self.clients[index];
        let steps = self.case.clients.get(index).map_or(&[][..], Vec::as_slice);
        if let Some(step) = steps.get(client.steps) {
            let who = Who::Client(index);
            let got = client.responses.iter().filter(|one| one.is_whole).count();
            let is_there = got + usize::from(client.is_tunnel()) > client.awaited;
            match step {
                // Who has ended sends nothing more, and is sent to in vain.
                Step::Await if !is_there && !client.has_ended => return false,
                Step::Await => client.awaited += 1,
                Step::Pause => {
                    self.is_paused = true;
                    actions.push(Action::Pause);
                }
                Step::Send(bytes) => actions.push(Action::Send(who, bytes.clone())),
                Step::End => actions.push(Action::End(who)),
            }
            client.steps += 1;
            return true;
        }
        if index < count && !self.is_client_right(index) {
            return false;
        }
        if current < count {
            self.open(actions);
            return true;
        }
        // All clients of the case are done: they are probed one after the other, then one more.
        while self.probed < count && self.clients[self.probed].has_ended {
            self.probed += 1;
        }
        if self.probed > 0
            && self.clients[self.probed - 1].is_probing
            && !self.has_probe(self.probed - 1)
        {
            return false;
        }
        if self.probed > count {
            return false;
        }
        if self.probed == count && current == count {
            self.open(actions);
        }
        let client = &mut self.clients[self.probed];
        client.is_probing = true;
        actions.push(Action::Send(Who::Client(self.probed), PROBE.to_vec()));
        self.probed += 1;
        true
    }

    fn open(&mut self, actions: &mut Vec<Action>) {
        actions.push(Action::Open(self.clients.len()));
        self.clients.push(Client::default());
    }

    /// Reads what came at the server, and answers.
    fn read_requests(&mut self, actions: &mut Vec<Action>) {
        for index in 0..self.links.len() {
            let link = &mut self.links[index];
            while !link.is_tunnel && link.at < link.got.len() {
                let rest = &link.got[link.at..];
                let came = match reading::request(rest) {
                    Ok(came) => came,
                    Err(error) => {
                        self.garbage = Some(format!("no server could read this: {error}"));
                        break;
                    }
                };
                if came == Came::Nothing {
                    break;
                }
                let is_probe = rest.starts_with(PROBE_LINE);
                if link.answer.is_none() {
                    let answer = if is_probe {
                        all_of(PROBE_ANSWER)
                    } else {
                        self.asked += 1;
                        let answers = &self.case.answers;
                        answers
                            .get(self.asked - 1)
                            .cloned()
                            .unwrap_or_else(|| all_of(OK))
                    };
                    let who = Who::Link(index);
                    if !answer.at_head.is_empty() {
                        actions.push(Action::Send(who, answer.at_head.clone()));
                    }
                    if answer.at_end.is_none() {
                        link.is_over |= finish(answer.then, who, actions);
                    }
                    link.answer = Some(answer);
                }
                let Came::All(length) = came else { break };
                let answer = link.answer.take().unwrap_or_default();
                if let Some(bytes) = &answer.at_end {
                    let who = Who::Link(index);
                    if !bytes.is_empty() {
                        actions.push(Action::Send(who, bytes.clone()));
                    }
                    link.is_over |= finish(answer.then, who, actions);
                    link.is_tunnel = bytes.starts_with(b"HTTP/1.1 101 ");
                }
                if is_probe {
                    link.probes.push((link.at, link.at + length));
                }
                link.at += length;
            }
        }
    }

    /// Reads what came at the clients.
    fn read_responses(&mut self) {
        for index in 0..self.clients.len() {
            let client = &mut self.clients[index];
            loop {
                let finals = client.responses.iter().filter(|one| one.is_whole);
                let messages = self
                    .case
                    .gets
                    .get(index)
                    .map_or(&[][..], |gets| &gets.messages);
                let wanted = messages.get(finals.count());
                let response = reading::response(
                    &client.got[client.at..],
                    wanted.is_some_and(|wanted| wanted.has_no_content),
                    client.has_ended && !client.was_reset,
                );
                let response = match response {
                    Ok(Some(response)) => response,
                    Ok(None) => break,
                    Err(error) => {
                        self.garbage = Some(format!("no client could read this: {error}"));
                        break;
                    }
                };
                if client.responses.last().is_some_and(|last| !last.is_whole) {
                    client.responses.pop();
                }
                let is_whole = response.is_whole;
                if is_whole {
                    client.at += response.length;
                }
                client.responses.push(response);
                if !is_whole {
                    break;
                }
            }
        }
    }

    /// Whether the client's probe was answered.
    fn has_probe(&self, index: usize) -> bool {
        let last = self
            .clients
            .get(index)
            .and_then(|client| client.responses.last());
        last.is_some_and(|last| last.is_whole && last.content() == b"probe")
    }

    /// What a client has seen before its probe was answered.
    fn before_probe(&self, index: usize) -> &[Response] {
        let responses = self
            .clients
            .get(index)
            .map_or(&[][..], |client| &client.responses);
        let probe = usize::from(self.has_probe(index));
        &responses[..responses.len() - probe]
    }
}

impl Client {
    /// Whether a 101 came, behind which nothing is a response.
    fn is_tunnel(&self) -> bool {
        let last = self.responses.last();
        last.is_some_and(|last| last.text.starts_with(b"HTTP/1.1 101 ") && !last.is_whole)
    }
}

/// An answer that is sent once the request is whole.
fn all_of(bytes: &[u8]) -> Answer {
    Answer {
        at_end: Some(bytes.to_vec()),
        ..Answer::default()
    }
}

/// Ends the link if the answer says so.
fn finish(then: Then, who: Who, actions: &mut Vec<Action>) -> bool {
    match then {
        Then::Keep => return false,
        Then::End => actions.push(Action::End(who)),
        Then::Reset => actions.push(Action::Reset(who)),
    }
    true
}
