//! One client, and the task that it has given: its exchange with the bytes that go with it.
//!
//! Reads heads and lets a client that was turned away read why. The pumping of content is `pair`'s.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::access::{Access, Record};
use crate::buffer::{Block, Pool};
use crate::config::Config;
use crate::conn::{Conn, Filled};
use crate::deadline::{Alarm, Patience};
use crate::exchange::{Exchange, RequestState, Waiting};
use crate::http::cookie;
use crate::http::head::{self, Method, Refusal, Slots};
use crate::http::rewrite::{self, Forwarding};
use crate::mutant::{self, Mutant};
use crate::net::{Socket, Time};
use crate::pipes::{Lane, Pipes};
use crate::report::Said;
use crate::sticky::{Stick, Sticky, cookie_id};

/// What one receive takes at most while a head is awaited, in bytes.
const HEAD_READ: usize = 16 << 10;
/// What is read and thrown away of a client that was turned away, in bytes.
const LINGER_BYTES: u32 = 1 << 20;
/// What one turn throws away of it at most, in receives.
const LINGER_READS: u32 = 4;

/// A connection accepted from the listener.
#[derive(Debug)]
pub struct Client<S> {
    /// Its socket.
    pub conn: Conn<S>,
    /// What it is doing.
    pub state: ClientState,
    /// Its deadline; what it is doing gives the meaning.
    pub alarm: Alarm,
    /// Its address; none on a unix socket.
    pub peer: Option<SocketAddr>,
    /// Whether it is in the run queue already.
    pub will_run: bool,
    /// Whether it is among those whose gathered responses are to be sent.
    pub will_flush: bool,
    /// Whether a response was added to those since that was last looked at.
    pub has_gained: bool,
}

/// What a client is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientState {
    /// Nothing: it holds no pair, no link and no buffer.
    Idle,
    /// It has given the task with this key.
    Busy(usize),
    /// It was turned away and may read why; so many bytes of what it still sends are thrown away.
    Lingering(u32),
    /// It is to be reaped.
    Dead,
}

/// An exchange with all the bytes that must outlive the turn.
#[derive(Debug)]
pub struct Task {
    /// The client that gave it.
    pub client: usize,
    /// The link that carries it.
    pub link: Option<usize>,
    /// Its place: in the queue, or among the N.
    pub place: Place,
    /// How far it got.
    pub exchange: Exchange,
    /// Bytes from the client that nobody has looked at: an unfinished head, pipelined requests.
    pub inbound: Option<Block>,
    /// How many bytes of `inbound` were searched for the head's end.
    pub searched: usize,
    /// The request as it goes to the server: as far as it is not sent, or all of it while it is
    /// whole.
    pub request: Option<Block>,
    /// How much of `request` is sent.
    pub sent: usize,
    /// A response head that is not whole.
    pub heard: Option<Block>,
    /// What the client has still to take of the response.
    pub answer: Option<Block>,
    /// What of the request is on its way to the server in a pipe.
    pub up: Lane,
    /// What of the response is on its way to the client in a pipe.
    pub down: Lane,
    /// Whole responses that wait a moment for the next one; then there is nothing in `answer`.
    pub gathered: Option<Block>,
    /// When the first of those came.
    pub gathered_at: Time,
    /// How much of `answer`, from its start, belongs to whole responses before this one.
    pub owed: usize,
    /// The response's trailer section, which goes behind that; mostly empty.
    pub trailers: Vec<u8>,
    /// Whether the server sent bytes behind its response.
    pub has_rest: bool,
    /// Who it waits for.
    pub waiting: Waiting,
    /// Whether a byte moved since the deadline was set.
    pub has_moved: bool,
    /// How long the client may still be waited for while it sends content or reads.
    pub patience: Patience,
    /// The servers that failed it.
    pub tried: Vec<u16>,
    /// The server whose pooled link proved stale, so that the next one to it has to be new.
    pub stale_at: Option<usize>,
    /// How many servers took it and broke off before they answered.
    pub breaks: u8,
    /// Whether this server is known to fail at times: then a bad answer says nothing of the request.
    pub is_detour: bool,
    /// Whether another server could still be asked if this one answers badly.
    pub may_turn: bool,
    /// Whether one did answer badly.
    pub has_turned: bool,
    /// Which one, until it has been asked again because all others failed.
    pub turned_from: Option<u16>,
    /// Whether content of it was still to come when the server was given it.
    pub is_sending: bool,
    /// Which server the client wants.
    pub stick: Stick,
    /// The status that the client got, 0 before that.
    pub status: u16,
    /// Bytes of the response's content that were read so far.
    pub content_bytes: u64,
    /// What is noted of it, if anybody wants to know.
    pub record: Option<Box<Record>>,
}

/// Where a task stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Its request is not ready to be sent.
    None,
    /// It waits, with this ticket.
    Queued(u64),
    /// It is one of the N.
    Held,
}

/// What a step came to.
#[derive(Debug)]
pub enum Next {
    /// Nothing more can be done until an edge or a deadline.
    Wait,
    /// There is more to do, but others are to have their turn.
    Yield,
    /// The request is ready to be sent: a server has to be chosen.
    Choose,
    /// The response has been passed on.
    Finished,
    /// It can not go on.
    Failed(Fault),
}

/// Why an exchange can not go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The request breaks a rule.
    Request(Refusal),
    /// The response breaks a rule.
    Response(Refusal),
    /// The link ended in good order (none) or broke.
    Link(Option<std::io::ErrorKind>),
    /// The server answered with this status, and another one may do better.
    Unwanted(u16),
    /// The client has left.
    ClientGone,
    /// A block was too small for what had to be held: a mistake of ours, which costs the connection
    /// rather than bytes of it.
    TooLong,
}

/// What a turn lends to each step: memory that nobody keeps, the pool, and the time.
#[derive(Debug)]
pub struct Tools {
    /// Bytes are read here, judged in place, and sent from here.
    pub scratch: Box<[u8]>,
    /// Heads are written here.
    pub head: Vec<u8>,
    /// What is noted of a head's fields while it is judged.
    pub slots: Slots,
    /// The blocks.
    pub pool: Pool,
    /// Bytes that a pair may move in one turn before others have theirs.
    pub turn_bytes: usize,
    /// The access log's lines.
    pub access: Access,
    /// The time of this turn.
    pub now: Time,
    /// The same for people, as `Date` has it; at most a second old.
    pub date: String,
    /// Whether the process is about to end.
    pub is_draining: bool,
    /// The Host of requests without one.
    pub host_default: String,
    /// Which server a client is to have again.
    pub sticky: Sticky,
    /// Statuses for which a request goes to another server, if it may.
    pub retry_statuses: Vec<u16>,
    /// What the last response told beside itself.
    pub told: Told,
}

/// What a response tells of its server.
#[derive(Debug, Default)]
pub struct Told {
    /// What the server says of its load.
    pub said: Option<Box<Said>>,
    /// Whether it says when to come again.
    pub retry_after: bool,
}

impl Told {
    /// Takes in what the head of a response tells.
    pub fn hear(&mut self, response: &head::Response<'_>) {
        *self = Told {
            said: response.metrics.and_then(Said::orca).map(Box::new),
            retry_after: response.retry_after,
        };
    }
}

impl Task {
    /// The task of `client`, before its first byte.
    pub fn new(client: usize) -> Task {
        Task {
            client,
            link: None,
            place: Place::None,
            exchange: Exchange::default(),
            inbound: None,
            searched: 0,
            request: None,
            sent: 0,
            heard: None,
            answer: None,
            up: Lane::default(),
            down: Lane::default(),
            gathered: None,
            gathered_at: Time(0),
            owed: 0,
            trailers: Vec::new(),
            has_rest: false,
            waiting: Waiting::Head,
            has_moved: true,
            patience: Patience::default(),
            tried: Vec::new(),
            stale_at: None,
            breaks: 0,
            is_detour: false,
            may_turn: false,
            is_sending: false,
            has_turned: false,
            turned_from: None,
            stick: Stick::default(),
            status: 0,
            content_bytes: 0,
            record: None,
        }
    }

    /// Gives all its blocks back.
    pub fn release(&mut self, pool: &mut Pool) {
        for place in [
            &mut self.inbound,
            &mut self.request,
            &mut self.heard,
            &mut self.answer,
            &mut self.gathered,
        ] {
            pool.give_from(place);
        }
    }

    /// Nothing will be sent again: what was sent of the request need not be kept.
    pub fn drop_sent(&mut self, pool: &mut Pool) {
        self.exchange.is_whole = false;
        if let Some(block) = &mut self.request {
            block.consume(self.sent);
            self.sent = 0;
            if block.is_empty() {
                pool.give_from(&mut self.request);
            }
        }
    }

    /// Whether bytes of the request wait to be sent.
    pub fn has_unsent(&self) -> bool {
        let is_unsent = |block: &Block| block.len() > self.sent;
        self.request.as_ref().is_some_and(is_unsent) || !self.up.is_empty()
    }

    /// Whether the client has still to take something of the response.
    pub fn has_answer(&self) -> bool {
        self.answer.is_some() || !self.down.is_empty()
    }

    /// What is still in its pipes goes nowhere any more.
    pub fn drop_pipes<P>(&mut self, pipes: &mut Pipes<P>) {
        pipes.give(&mut self.up);
        pipes.give(&mut self.down);
    }

    /// It goes to a server, perhaps not the first one: from its first byte.
    pub fn start(&mut self, link: usize, tools: &mut Tools) {
        self.link = Some(link);
        self.has_moved = true;
        if !mutant::is(Mutant::CursorKeptForRetry) {
            self.sent = 0;
        }
        self.exchange.go_again();
        tools.pool.give_from(&mut self.heard);
    }

    /// The next request of the same client: what it has sent already stays, and what it is yet to get.
    pub fn renew(&mut self, tools: &mut Tools) {
        let mut inbound = self.inbound.take();
        if mutant::is(Mutant::PipelinedRequestDropped) {
            tools.pool.give_from(&mut inbound);
        }
        let gathered = self.gathered.take();
        let gathered_at = self.gathered_at;
        self.release(&mut tools.pool);
        *self = Task {
            inbound,
            gathered,
            gathered_at,
            ..Task::new(self.client)
        };
    }
}

impl<S: Socket> Client<S> {
    /// A client that was just accepted.
    pub fn new(conn: Conn<S>, peer: Option<SocketAddr>) -> Client<S> {
        Client {
            conn,
            state: ClientState::Idle,
            alarm: Alarm::default(),
            peer,
            will_run: false,
            will_flush: false,
            has_gained: false,
        }
    }

    /// Reads until a request head is whole and judged, and with it what came of its content.
    /// `Choose`: `task` can be sent; `Failed(ClientGone)` if the client ended before that.
    pub fn read_head(&mut self, task: &mut Task, tools: &mut Tools, config: &Config) -> Next {
        let peer = self.peer.map(|peer| peer.ip());
        // What came behind the request before is looked at first.
        if task
            .inbound
            .as_ref()
            .is_some_and(|block| block.len() > task.searched)
            && let Some(next) = judge_inbound(task, peer, tools, config)
        {
            return next;
        }
        while self.conn.is_readable() {
            let room = tools.scratch.get_mut(..HEAD_READ).unwrap_or_default();
            let count = match self.conn.fill(room) {
                Filled::Some(count) => count,
                Filled::Blocked => return Next::Wait,
                Filled::End | Filled::Broken => return Next::Failed(Fault::ClientGone),
            };
            if task.inbound.is_some() {
                let bytes = tools.scratch.get(..count).unwrap_or_default();
                if !tools.pool.append(&mut task.inbound, bytes) {
                    return Next::Failed(Fault::Request(Refusal::HeadTooLong));
                }
                if let Some(next) = judge_inbound(task, peer, tools, config) {
                    return next;
                }
                continue;
            }
            let Tools {
                scratch,
                head,
                slots,
                pool,
                access,
                now,
                host_default,
                sticky,
                ..
            } = &mut *tools;
            let bytes = scratch.get_mut(..count).unwrap_or_default();
            let forwarding = forwarding(peer, host_default, sticky, config);
            let recorder = (access, *now);
            let used = match judge(bytes, 0, task, head, slots, forwarding, recorder) {
                Ok(used) => used,
                Err(refusal) => return Next::Failed(Fault::Request(refusal)),
            };
            let rest = match used {
                Some(used) => bytes.get(used..).unwrap_or_default(),
                // Empty lines before a request are of no use to anybody.
                None => bytes.get(head::blank_lines(bytes)..).unwrap_or_default(),
            };
            if !rest.is_empty() && !pool.append(&mut task.inbound, rest) {
                return Next::Failed(Fault::Request(Refusal::HeadTooLong));
            }
            let left = rest.len();
            match used {
                Some(_) => return keep_request(task, tools),
                None => task.searched = left,
            }
        }
        Next::Wait
    }

    /// Reads and throws away what a client still sends that was turned away.
    pub fn linger(&mut self, tools: &mut Tools) -> Next {
        let ClientState::Lingering(left) = &mut self.state else {
            return Next::Wait;
        };
        for _ in 0..LINGER_READS {
            if !self.conn.is_readable() {
                return Next::Wait;
            }
            match self.conn.fill(&mut tools.scratch) {
                Filled::Some(count) => {
                    *left = left.saturating_sub(count as u32);
                    if *left == 0 {
                        return Next::Failed(Fault::ClientGone);
                    }
                }
                Filled::Blocked => return Next::Wait,
                Filled::End | Filled::Broken => return Next::Failed(Fault::ClientGone),
            }
        }
        Next::Yield
    }

    /// From now on it only lingers, for `LINGER` at most.
    pub fn start_to_linger(&mut self) {
        self.conn.shutdown_write();
        self.state = ClientState::Lingering(LINGER_BYTES);
    }
}

/// How long a client that was turned away may take to read why.
pub const LINGER: Duration = Duration::from_secs(2);

fn forwarding<'c>(
    peer: Option<IpAddr>,
    host_default: &'c str,
    sticky: &'c Sticky,
    config: &Config,
) -> Forwarding<'c> {
    Forwarding {
        peer,
        host_default,
        trust: config.trust_forwarded,
        forwarded: config.forwarded,
        id: None,
        cookie: sticky.cookie(),
    }
}

/// Judges what is in the task's inbound block; none: the head is not whole.
fn judge_inbound(
    task: &mut Task,
    peer: Option<IpAddr>,
    tools: &mut Tools,
    config: &Config,
) -> Option<Next> {
    let mut block = task.inbound.take()?;
    let forwarding = forwarding(peer, &tools.host_default, &tools.sticky, config);
    let searched = task.searched;
    match judge(
        block.filled_mut(),
        searched,
        task,
        &mut tools.head,
        &mut tools.slots,
        forwarding,
        (&mut tools.access, tools.now),
    ) {
        Ok(None) => {
            block.consume(head::blank_lines(block.filled()));
            task.searched = block.len();
            if block.is_empty() {
                tools.pool.give(block);
            } else {
                task.inbound = Some(block);
            }
            None
        }
        Ok(Some(used)) => {
            task.searched = 0;
            block.consume(used);
            if block.is_empty() {
                tools.pool.give(block);
            } else {
                task.inbound = Some(block);
            }
            Some(keep_request(task, tools))
        }
        Err(refusal) => {
            tools.pool.give(block);
            Some(Next::Failed(Fault::Request(refusal)))
        }
    }
}

/// Judges a head and what came of its content, and writes the request as it goes on to `out`. Tells
/// how many of `bytes` belong to the request so far; none: the head is not whole.
fn judge(
    bytes: &mut [u8],
    searched: usize,
    task: &mut Task,
    out: &mut Vec<u8>,
    slots: &mut Slots,
    forwarding: Forwarding<'_>,
    (access, now): (&mut Access, Time),
) -> Result<Option<usize>, Refusal> {
    let blank = head::blank_lines(bytes);
    let (_, bytes) = bytes.split_at_mut(blank);
    let searched = searched.saturating_sub(blank);
    if bytes.starts_with(b"HEAD ") {
        // Whatever answers it has no content, even if it is refused.
        task.exchange.method = Method::Head;
    }
    let Some(request) = head::next_request(bytes, searched, slots)? else {
        if !bytes.is_empty() {
            access.begin(&mut task.record, now);
        }
        return Ok(None);
    };
    let end = request.fields.source().len();
    out.clear();
    access.ask(&mut task.record, now, &request);
    let id = task.record.as_deref().and_then(Record::id);
    rewrite::request(out, &request, &Forwarding { id, ..forwarding });
    task.exchange.ask(&request);
    if let Some(name) = forwarding.cookie {
        task.stick = stick_of(&request, name, forwarding.trust);
    }
    let mut used = blank + end;
    if let RequestState::Content(meter) = &mut task.exchange.request {
        let content = bytes.get_mut(end..).unwrap_or_default();
        let passed = meter.pass(content)?;
        used += passed.read;
        out.extend_from_slice(content.get(..passed.kept).unwrap_or_default());
        if meter.is_done() {
            task.exchange.request = RequestState::Complete;
        }
        if passed.read > 0 {
            task.exchange.content_came();
        }
    }
    Ok(Some(used))
}

/// What a request says of the server that it wants.
fn stick_of(request: &head::Request<'_>, name: &[u8], trust: bool) -> Stick {
    let mut fields = request.fields.iter();
    let is_https = |field: &head::FieldLine<'_>| {
        field.kind == head::Field::XForwardedProto && field.value.eq_ignore_ascii_case(b"https")
    };
    Stick {
        named: request
            .fields
            .iter()
            .filter(|field| rewrite::has_cookie(field, name))
            .find_map(|field| cookie_id(cookie::find(field.value, name)?)),
        is_secure: trust && fields.any(|field| is_https(&field)),
        sets_cookie: None,
    }
}

/// Puts the request that was just written into its block: it may have to wait, or be sent again.
fn keep_request(task: &mut Task, tools: &mut Tools) -> Next {
    task.sent = 0;
    if tools.pool.append(&mut task.request, &tools.head) {
        Next::Choose
    } else {
        Next::Failed(Fault::Request(Refusal::HeadTooLong))
    }
}
