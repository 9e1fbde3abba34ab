//! One connection to the admin listener: reads requests, one at a time, and writes their answers.
//!
//! Judges heads by the same table as everywhere, holds at most one head, one small content and one
//! answer, and decides nothing: what is asked for goes out, the answer comes in. There are few of
//! these, so their memory is their own and goes when it is not needed.

use std::net::SocketAddr;
use std::time::Duration;

use super::answer::{Answer, Content, Sending};
use super::ask::{Ask, Denied};
use super::guard::Guard;
use crate::conn::{Conn, Filled, Flushed};
use crate::deadline::{Alarm, Patience};
use crate::http::body::{self, Keep, Meter};
use crate::http::head::{self, HEAD_MAX, Method, Request, Version};
use crate::http::reply::CONTINUE;
use crate::net::{Socket, Time};

/// What one receive takes at most, in bytes.
const READ: usize = 16 << 10;
/// The longest content of a request, in bytes.
pub const CONTENT_MAX: usize = 4096;
/// What a reader of events may be behind by, in bytes; what would be more it misses.
pub const BEHIND_MAX: usize = 1 << 20;
/// What it may be behind by when something comes that nobody may miss; more ends it.
const BEHIND_MOST: usize = 2 << 20;
/// Memory for answers that an idle connection keeps, in bytes.
const KEPT: usize = 4096;
/// What is read and thrown away of a client that was turned away, in bytes.
const LINGER_BYTES: usize = 1 << 20;
/// What one turn does for one connection before others have theirs, in steps.
const STEPS_MAX: u32 = 64;

/// A connection accepted from the admin listener.
#[derive(Debug)]
pub struct Session<S> {
    /// Its socket.
    pub conn: Conn<S>,
    /// Its deadline; what it does gives the meaning.
    pub alarm: Alarm,
    /// Whether it is in the run queue already.
    pub will_run: bool,
    /// Since when it does what it does.
    pub since: Time,
    peer: Option<SocketAddr>,
    state: State,
    patience: Patience,
    /// Bytes that nobody has looked at, from the first of a head on.
    inbound: Vec<u8>,
    /// How many of them were searched for the head's end.
    searched: usize,
    out: Vec<u8>,
    sent: usize,
    waited: Option<Waiting>,
    /// Whether another request has begun since it was last asked what it waits for.
    has_begun: bool,
}

/// What a session does.
#[derive(Debug)]
enum State {
    /// It waits for a head, or for the rest of one.
    Head,
    /// It reads the content of a request.
    Content(Meter, Asked),
    /// It writes an answer, and then reads on or ends.
    Answer(After),
    /// It writes events as they come.
    Events,
    /// It was turned away and may read why; so many bytes of what it still sends are thrown away.
    Lingering(usize),
    /// It is to be reaped.
    Dead,
}

/// What follows an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum After {
    Next,
    Linger,
}

/// A request.
#[derive(Debug, Clone)]
pub struct Asked {
    /// What it asks for, or why it does not get it.
    pub ask: Result<Ask, Denied>,
    /// Its content.
    pub content: Vec<u8>,
    version: Version,
    keep_alive: bool,
    to_head: bool,
}

/// What serving came to.
#[derive(Debug)]
pub enum Served {
    /// Nothing more can be done until an edge or a deadline.
    Wait,
    /// There is more to do, but others are to have their turn.
    Yield,
    /// This is asked; `answer` has to follow.
    Asked(Asked),
    /// The connection is done with.
    Gone,
}

/// What a session waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waiting {
    /// For a request.
    Request,
    /// For the rest of one.
    Rest,
    /// For the client to take what is written.
    Reader,
    /// For something to happen.
    Events,
    /// For the client to leave.
    Linger,
}

impl<S: Socket> Session<S> {
    /// A connection that was just accepted.
    pub fn new(conn: Conn<S>, peer: Option<SocketAddr>, now: Time) -> Session<S> {
        Session {
            conn,
            alarm: Alarm::default(),
            will_run: false,
            since: now,
            peer,
            state: State::Head,
            patience: Patience::default(),
            inbound: Vec::new(),
            searched: 0,
            out: Vec::new(),
            sent: 0,
            waited: None,
            has_begun: false,
        }
    }

    /// Whether it is between two requests.
    pub fn is_idle(&self) -> bool {
        self.waiting() == Waiting::Request
    }

    /// Whether it reads events.
    pub fn is_subscribed(&self) -> bool {
        matches!(self.state, State::Events)
    }

    /// Whether it is to be reaped.
    pub fn is_dead(&self) -> bool {
        matches!(self.state, State::Dead)
    }

    /// Who is there; none on a unix socket.
    pub fn peer(&self) -> Option<SocketAddr> {
        self.peer
    }

    /// What it waits for.
    pub fn waiting(&self) -> Waiting {
        match &self.state {
            _ if self.sent < self.out.len() => Waiting::Reader,
            State::Head if self.inbound.is_empty() => Waiting::Request,
            State::Head | State::Content(..) => Waiting::Rest,
            State::Answer(_) => Waiting::Reader,
            State::Events => Waiting::Events,
            State::Lingering(_) | State::Dead => Waiting::Linger,
        }
    }

    /// How long the client may still be waited for while it reads, `whole` at most.
    pub fn patience(&mut self, now: Time, whole: Duration, rate_min: u32) -> Duration {
        let moved = self.conn.moved();
        self.patience.wait(now, moved, whole, rate_min)
    }

    /// Whether it has begun just now, at `now`, to wait for this; else it waits on.
    pub fn waits_anew(&mut self, waiting: Waiting, now: Time) -> bool {
        let is_new = self.waited.replace(waiting) != Some(waiting) || self.has_begun;
        self.has_begun = false;
        if is_new {
            self.since = now;
        }
        is_new
    }

    /// There are no more events: once it has what is written it ends.
    pub fn end_events(&mut self) {
        if self.is_subscribed() {
            self.state = State::Answer(After::Linger);
        }
    }

    /// It is too far behind: the next look at it ends it.
    pub fn give_up(&mut self) {
        self.state = State::Lingering(0);
        self.out = Vec::new();
        self.sent = 0;
    }

    /// Nobody is waited for.
    pub fn rest(&mut self) {
        self.patience = Patience::default();
    }

    /// Ends it.
    pub fn bury(&mut self) {
        self.alarm.clear();
        self.state = State::Dead;
        self.out = Vec::new();
        self.inbound = Vec::new();
    }

    /// Does what can be done now.
    pub fn serve(&mut self, scratch: &mut [u8], guard: &Guard) -> Served {
        for _ in 0..STEPS_MAX {
            if !self.send() {
                return Served::Gone;
            }
            if self.sent < self.out.len() {
                return Served::Wait;
            }
            if let Some(served) = self.step(scratch, guard) {
                return served;
            }
        }
        Served::Yield
    }

    /// The answer to what was asked, and whether it is the last one whatever the client wants.
    pub fn answer(&mut self, asked: &Asked, answer: &Answer, date: &str, is_last: bool) {
        let keep_alive = asked.keep_alive && !is_last;
        self.has_begun = true;
        answer.write(
            &mut self.out,
            Sending {
                date,
                version: asked.version,
                keep_alive,
                to_head: asked.to_head,
            },
        );
        self.state = match &answer.content {
            Content::Events(_) if !asked.to_head => State::Events,
            Content::Whole(..) if keep_alive => State::Answer(After::Next),
            _ => State::Answer(After::Linger),
        };
    }

    /// Its deadline is over. Tells whether there is something left to be said.
    pub fn overdue(&mut self, date: &str) -> bool {
        if self.waiting() != Waiting::Rest {
            return false;
        }
        self.refuse(
            &Denied::new(408, "the request did not arrive in time"),
            date,
        );
        true
    }

    /// Something has happened that is told to who reads events; nobody may miss it if it is
    /// `important`. Tells whether it is still well.
    pub fn tell(&mut self, event: &[u8], important: bool) -> bool {
        let behind = self.out.len() - self.sent + event.len();
        if behind > BEHIND_MOST && important {
            return false;
        }
        if behind <= BEHIND_MAX || important {
            self.out.extend_from_slice(event);
        }
        true
    }

    /// Says why there is no more, and ends.
    fn refuse(&mut self, denied: &Denied, date: &str) {
        let asked = Asked::refused(denied.clone());
        self.answer(&asked, &Answer::from(denied.clone()), date, false);
    }

    /// Sends what is written. False: the client is gone.
    fn send(&mut self) -> bool {
        while self.sent < self.out.len() {
            if !self.conn.is_writable() {
                return !self.conn.is_hung_up();
            }
            match self
                .conn
                .flush(self.out.get(self.sent..).unwrap_or_default())
            {
                Flushed::Some(0) => return true,
                Flushed::Some(count) => self.sent += count,
                Flushed::Broken(_) => return false,
            }
        }
        self.sent = 0;
        self.out.clear();
        self.out.shrink_to(KEPT);
        true
    }

    /// One step; none: there may be more to do.
    fn step(&mut self, scratch: &mut [u8], guard: &Guard) -> Option<Served> {
        match std::mem::replace(&mut self.state, State::Head) {
            State::Head => self.read_head(scratch, guard),
            State::Content(meter, asked) => self.read_content(meter, asked, scratch),
            State::Answer(After::Next) => None,
            State::Answer(After::Linger) => {
                self.inbound = Vec::new();
                if self.conn.has_ended() && !self.conn.is_readable() {
                    return Some(Served::Gone);
                }
                // Closing with bytes unread would reset the connection, and the answer might be
                // lost with it (RFC 9112 §9.6).
                self.conn.shutdown_write();
                self.state = State::Lingering(LINGER_BYTES);
                None
            }
            State::Events => {
                self.state = State::Events;
                // Whoever reads events says nothing more, or leaves.
                if !self.conn.is_readable() {
                    return Some(match self.conn.is_hung_up() {
                        true => Served::Gone,
                        false => Served::Wait,
                    });
                }
                match self.fill(scratch) {
                    Some(0) => Some(Served::Wait),
                    Some(_) => None,
                    None => Some(Served::Gone),
                }
            }
            State::Lingering(left) => {
                self.state = State::Lingering(left);
                if !self.conn.is_readable() {
                    return Some(Served::Wait);
                }
                match self.fill(scratch) {
                    Some(0) => Some(Served::Wait),
                    Some(count) if count < left => {
                        self.state = State::Lingering(left - count);
                        None
                    }
                    _ => Some(Served::Gone),
                }
            }
            State::Dead => {
                self.state = State::Dead;
                Some(Served::Wait)
            }
        }
    }

    /// Receives once; 0: nothing is there, none: the client has ended.
    fn fill(&mut self, scratch: &mut [u8]) -> Option<usize> {
        match self.conn.fill(scratch.get_mut(..READ).unwrap_or_default()) {
            Filled::Some(count) => Some(count),
            Filled::Blocked => Some(0),
            Filled::End | Filled::Broken => None,
        }
    }

    fn read_head(&mut self, scratch: &mut [u8], guard: &Guard) -> Option<Served> {
        if self.inbound.len() > self.searched {
            match judge(&mut self.inbound, self.searched, guard) {
                Judged::Unfinished => self.searched = self.inbound.len(),
                Judged::Head(head) => {
                    self.searched = 0;
                    return self.begin(*head);
                }
                Judged::Refused(denied) => return Some(Served::Asked(Asked::refused(denied))),
            }
        }
        self.read_more(scratch)
    }

    /// Receives once behind what is there. None: something came.
    fn read_more(&mut self, scratch: &mut [u8]) -> Option<Served> {
        if !self.conn.is_readable() {
            return Some(Served::Wait);
        }
        match self.fill(scratch) {
            Some(0) => Some(Served::Wait),
            Some(count) => {
                self.inbound
                    .extend_from_slice(scratch.get(..count).unwrap_or_default());
                None
            }
            None => Some(Served::Gone),
        }
    }

    /// A head is whole.
    fn begin(&mut self, head: Head) -> Option<Served> {
        let Head {
            mut asked,
            framing,
            expects_continue,
        } = head;
        let is_too_long = match framing {
            body::Framing::None => return Some(Served::Asked(asked)),
            body::Framing::Length(length) => length > CONTENT_MAX as u64,
            _ => false,
        };
        if is_too_long {
            asked.ask = asked.ask.and_then(|_| Err(too_long()));
        }
        if asked.ask.is_err() {
            // Where the next request would begin is of no interest any more.
            asked.keep_alive = false;
            return Some(Served::Asked(asked));
        }
        if expects_continue {
            self.out.extend_from_slice(CONTINUE);
        }
        self.state = State::Content(Meter::new(framing, Keep::Data), asked);
        None
    }

    fn read_content(
        &mut self,
        mut meter: Meter,
        mut asked: Asked,
        scratch: &mut [u8],
    ) -> Option<Served> {
        let passed = match meter.pass(&mut self.inbound) {
            Ok(passed) => passed,
            Err(refusal) => {
                let rule = refusal.rule();
                return Some(Served::Asked(Asked::refused(Denied::new(
                    rule.status,
                    rule.text,
                ))));
            }
        };
        let kept = self.inbound.get(..passed.kept).unwrap_or_default();
        asked.content.extend_from_slice(kept);
        self.inbound.drain(..passed.read);
        if asked.content.len() > CONTENT_MAX {
            return Some(Served::Asked(Asked::refused(too_long())));
        }
        if meter.is_done() {
            return Some(Served::Asked(asked));
        }
        self.state = State::Content(meter, asked);
        self.read_more(scratch)
    }
}

impl Asked {
    /// A request that goes no further.
    fn refused(denied: Denied) -> Asked {
        Asked {
            ask: Err(denied),
            content: Vec::new(),
            version: Version::Http11,
            keep_alive: false,
            to_head: false,
        }
    }
}

fn too_long() -> Denied {
    Denied::new(
        413,
        "the content is longer than anything that is taken here",
    )
}

/// A head that is whole.
struct Head {
    asked: Asked,
    framing: body::Framing,
    expects_continue: bool,
}

/// What a look at the bytes that came found.
enum Judged {
    Unfinished,
    Head(Box<Head>),
    Refused(Denied),
}

/// Judges the head that `bytes` begin with, of which the first `searched` were judged before, and takes
/// it away once it is whole.
fn judge(bytes: &mut Vec<u8>, searched: usize, guard: &Guard) -> Judged {
    let blank = head::blank_lines(bytes).min(bytes.len());
    let rest = bytes.get(blank..).unwrap_or_default();
    let mut slots = head::slots();
    let judged = match head::next_request(rest, searched.saturating_sub(blank), &mut slots) {
        Ok(None) if bytes.len() > HEAD_MAX + READ => {
            Judged::Refused(Denied::new(431, "nothing but empty lines came"))
        }
        Ok(None) => return Judged::Unfinished,
        Ok(Some(request)) => {
            let used = blank + request.fields.source().len();
            let head = Box::new(Head {
                asked: Asked {
                    ask: ask(&request, guard),
                    content: Vec::new(),
                    version: request.version,
                    keep_alive: request.keep_alive,
                    to_head: request.method == Method::Head,
                },
                framing: request.framing,
                expects_continue: request.expects_continue,
            });
            bytes.drain(..used);
            return Judged::Head(head);
        }
        Err(refusal) => {
            let rule = refusal.rule();
            // A request that asks for its own end gets that.
            Judged::Refused(Denied::new(rule.status, rule.text))
        }
    };
    bytes.clear();
    judged
}

fn ask(request: &Request<'_>, guard: &Guard) -> Result<Ask, Denied> {
    let ask = Ask::of(request)?;
    guard.judge(request, ask.kind())?;
    Ok(ask)
}

#[cfg(test)]
mod tests;
