//! One connection: reads requests, one at a time and in order, and writes their answers.
//!
//! What a turn writes is collected and sent at once, so that pipelined and small answers cost one
//! send; while the client does not take it, nothing more is read or made: that is the backpressure.
//! An idle connection holds no memory but itself. Decides nothing about content: that is `site`'s.

mod reading;

use std::mem;
use std::time::Duration;

use super::answer::{Answer, Body, Framing};
use super::names::Denied;
use super::site::{Asked, Effort, Job, Site};
use super::tools::Tools;
use super::work::Claim;
use crate::buffer::Block;
use crate::conn::{Conn, Filled, Flushed};
use crate::deadline::Alarm;
use crate::http::body::Meter;
use crate::http::head::Version;
use crate::net::{Socket, Time};

/// Bytes that a session may move in one turn before others have theirs.
const TURN_BYTES: usize = 1 << 20;
/// Steps that it may take in one turn before others have theirs; a small request costs four.
const TURN_STEPS: u32 = 256;
/// What is read and thrown away of a client that was turned away, in bytes.
const LINGER_BYTES: usize = 1 << 20;

/// A connection accepted from the listener.
#[derive(Debug)]
pub(super) struct Session<S> {
    /// Its socket.
    pub(super) conn: Conn<S>,
    /// Its time limit; what it waits for gives the meaning.
    pub(super) alarm: Alarm,
    /// When the answer that is held back is due.
    pub(super) delay: Alarm,
    state: State,
    /// What its request holds of the server.
    claim: Claim,
    /// Bytes from the client that nobody has looked at yet.
    inbound: Option<Block>,
    /// How many bytes of `inbound` were searched for the head's end.
    searched: usize,
    /// What the client has still to take.
    outbound: Option<Block>,
    waited: Option<Waiting>,
    /// Whether a byte moved since the deadline was set.
    has_moved: bool,
    /// Whether it is among those who have more to do without waiting.
    pub(super) is_in_run: bool,
}

/// What a session is doing.
#[derive(Debug)]
enum State {
    /// Nothing, or it reads a head.
    Head,
    /// It reads the content of a request, of which so many bytes came.
    Content {
        meter: Meter,
        asked: Asked,
        count: u64,
    },
    /// It waits for a worker, since then.
    InLine {
        asked: Asked,
        count: u64,
        since: Time,
    },
    /// It holds an answer back.
    Delayed { asked: Asked, count: u64, due: Time },
    /// It writes the content of an answer.
    Body { body: Body, next: Next },
    /// It has written its last answer.
    Ended(Next),
    /// The client may read that; so many bytes of what it still sends are thrown away.
    Lingering(usize),
    /// It is to be reaped.
    Dead,
}

/// What follows an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    /// The next request.
    Request,
    /// The end of the connection.
    Close,
    /// The same, once the client had time to read the answer: it is still sending.
    Linger,
}

/// What a step came to.
enum Step {
    /// So many bytes were moved; there may be more to do.
    Moved(usize),
    /// Nothing more can be done until an edge or a deadline.
    Wait,
    /// The connection is done with.
    Gone,
}

/// What serving came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Served {
    /// Nothing more can be done until an edge or a deadline.
    Wait,
    /// There is more to do, but others are to have their turn.
    Yield,
    /// The connection is done with.
    Gone,
}

/// What a session waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Waiting {
    /// For a request.
    Request,
    /// For the rest of a head.
    Head,
    /// For content.
    Content,
    /// For the client to take what is written.
    Reader,
    /// For a worker.
    Worker,
    /// For the moment at which the answer is due.
    Due(Time),
    /// For the client to leave.
    Linger,
}

impl<S: Socket> Session<S> {
    /// A connection that was just accepted.
    pub(super) fn new(conn: Conn<S>) -> Session<S> {
        Session {
            conn,
            alarm: Alarm::default(),
            delay: Alarm::default(),
            state: State::Head,
            claim: Claim::None,
            inbound: None,
            searched: 0,
            outbound: None,
            waited: None,
            has_moved: true,
            is_in_run: false,
        }
    }

    /// Whether it is to be reaped.
    pub(super) fn is_dead(&self) -> bool {
        matches!(self.state, State::Dead)
    }

    /// Whether it is between two requests.
    pub(super) fn is_idle(&self) -> bool {
        self.outbound.is_none() && self.inbound.is_none() && matches!(self.state, State::Head)
    }

    /// What it waits for.
    pub(super) fn waiting(&self) -> Waiting {
        match &self.state {
            _ if self.outbound.is_some() => Waiting::Reader,
            State::Head if self.inbound.is_none() => Waiting::Request,
            State::Head => Waiting::Head,
            State::Content { .. } => Waiting::Content,
            State::InLine { .. } => Waiting::Worker,
            State::Delayed { due, .. } => Waiting::Due(*due),
            State::Body { .. } | State::Ended(_) => Waiting::Reader,
            State::Lingering(_) | State::Dead => Waiting::Linger,
        }
    }

    /// Whether its deadline has to be set anew, now that it waits for `waiting`.
    pub(super) fn has_waited_anew(&mut self, waiting: Waiting) -> bool {
        let is_new = self.waited.replace(waiting) != Some(waiting);
        mem::take(&mut self.has_moved) || is_new
    }

    /// Ends it: gives back what it holds. Tells whether it was alive.
    pub(super) fn bury(&mut self, tools: &mut Tools, site: &mut Site) -> bool {
        site.work.leave(mem::take(&mut self.claim));
        tools.pool.give_from(&mut self.inbound);
        tools.pool.give_from(&mut self.outbound);
        self.alarm.clear();
        self.delay.clear();
        !matches!(mem::replace(&mut self.state, State::Dead), State::Dead)
    }

    /// Its deadline is over. Tells whether there is something left to be said.
    pub(super) fn overdue(&mut self, tools: &mut Tools, site: &mut Site) -> bool {
        match self.waiting() {
            Waiting::Head | Waiting::Content => {
                let late = (408, "the request did not arrive in time");
                self.refuse(late, tools, site);
                true
            }
            // Neither is waited for with this alarm.
            Waiting::Worker | Waiting::Due(_) => true,
            Waiting::Request | Waiting::Reader | Waiting::Linger => false,
        }
    }

    /// Does what can be done now.
    pub(super) fn serve(&mut self, tools: &mut Tools, site: &mut Site) -> Served {
        let mut bytes = 0;
        let mut steps = 0;
        let served = loop {
            if (self.outbound.is_some() || tools.is_full()) && !self.send(tools) {
                break Served::Gone;
            }
            if self.outbound.is_some() {
                break Served::Wait;
            }
            if bytes > TURN_BYTES || steps > TURN_STEPS {
                break Served::Yield;
            }
            match self.step(tools, site) {
                Step::Moved(count) => bytes += count,
                Step::Wait => break Served::Wait,
                Step::Gone => break Served::Gone,
            }
            steps += 1;
        };
        let is_gone = served == Served::Gone || (!tools.out.is_empty() && !self.send(tools));
        // What one client did not get must never reach the next.
        tools.out.consume(tools.out.len());
        if is_gone { Served::Gone } else { served }
    }

    /// Sends what is written; what the client does not take is kept. False: it is gone.
    fn send(&mut self, tools: &mut Tools) -> bool {
        // What is kept is sent before anything more is written.
        debug_assert!(self.outbound.is_none() || tools.out.is_empty());
        if self.outbound.is_some() && !self.conn.is_writable() {
            return !self.conn.is_hung_up();
        }
        let block = self.outbound.as_mut().unwrap_or(&mut tools.out);
        match self.conn.flush(block.filled()) {
            Flushed::Some(count) => {
                self.has_moved |= count > 0;
                block.consume(count);
            }
            Flushed::Broken(_) => return false,
        }
        if self.outbound.as_ref().is_some_and(Block::is_empty) {
            tools.pool.give_from(&mut self.outbound);
        }
        let rest = tools.out.len();
        if rest > 0 {
            // A block of the largest size holds all that the other one of that size did.
            let fitted = tools.pool.append(&mut self.outbound, tools.out.filled());
            debug_assert!(fitted);
            tools.out.consume(rest);
        }
        true
    }

    fn step(&mut self, tools: &mut Tools, site: &mut Site) -> Step {
        match mem::replace(&mut self.state, State::Head) {
            State::Head => self.read_head(tools, site),
            State::Content {
                meter,
                asked,
                count,
            } => self.read_content(meter, asked, count, tools, site),
            State::InLine {
                asked,
                count,
                since,
            } => {
                if self.conn.is_hung_up() {
                    return Step::Gone;
                }
                self.state = State::InLine {
                    asked,
                    count,
                    since,
                };
                Step::Wait
            }
            State::Delayed { asked, count, due } => {
                if self.conn.is_hung_up() {
                    return Step::Gone;
                }
                if tools.now < due {
                    self.state = State::Delayed { asked, count, due };
                    return Step::Wait;
                }
                self.answer(asked, count, tools, site);
                Step::Moved(0)
            }
            State::Body { mut body, next } => {
                let before = tools.out.len();
                let most = tools.piece();
                match body.write(&mut tools.out, most) {
                    Ok(true) => self.finish(next, site),
                    Ok(false) => self.state = State::Body { body, next },
                    // The head has promised more: only a cut tells the client the truth.
                    Err(_) => return Step::Gone,
                }
                Step::Moved(tools.out.len() - before)
            }
            State::Ended(next) => self.end(next, tools),
            State::Lingering(left) => self.linger(left, tools),
            State::Dead => Step::Gone,
        }
    }

    /// All of a request is there: answers it, now or when a worker has done it.
    fn complete(&mut self, asked: Asked, count: u64, tools: &mut Tools, site: &mut Site) {
        match asked.effort {
            Effort::Aside | Effort::None => self.answer(asked, count, tools, site),
            Effort::Worker(extra) if site.work.is_free() => {
                let due = site.work.begin(tools.now, extra);
                self.claim = Claim::Worker(due);
                if due <= tools.now {
                    self.answer(asked, count, tools, site);
                } else {
                    self.state = State::Delayed { asked, count, due };
                }
            }
            Effort::Worker(_) => {
                site.work.join(self.conn.token());
                self.state = State::InLine {
                    asked,
                    count,
                    since: tools.now,
                };
            }
        }
    }

    /// A worker is free for whoever waits here; it has to be served then.
    pub(super) fn called(&mut self, site: &mut Site) {
        self.state = match mem::replace(&mut self.state, State::Head) {
            State::InLine {
                asked,
                count,
                since,
            } => {
                let extra = match asked.effort {
                    Effort::Worker(extra) => extra,
                    Effort::Aside | Effort::None => Duration::ZERO,
                };
                let due = site.work.begin(since, extra);
                self.claim = Claim::Worker(due);
                State::Delayed { asked, count, due }
            }
            // Whoever is called waits in the line, and there only once.
            other => other,
        };
    }

    /// Answers a request.
    fn answer(&mut self, asked: Asked, count: u64, tools: &mut Tools, site: &mut Site) {
        let mut answer = site.answer(asked.job, count);
        let mut keep_alive = asked.keep_alive && !tools.is_draining;
        if asked.version == Version::Http10 && answer.body.is_chunked() {
            // The end of the connection tells the end of the content.
            keep_alive = false;
        }
        let framing = Framing {
            version: asked.version,
            keep_alive,
        };
        self.write_head(&answer, framing, tools, site);
        if asked.version == Version::Http10 {
            answer.body = answer.body.unchunked();
        }
        let next = if keep_alive {
            Next::Request
        } else {
            Next::Close
        };
        if asked.is_head || !answer.may_have_content() {
            self.finish(next, site);
        } else {
            self.state = State::Body {
                body: answer.body,
                next,
            };
        }
    }

    /// Answers a request that cannot go on; what the client still sends is of no use.
    fn refuse(&mut self, denied: Denied, tools: &mut Tools, site: &mut Site) {
        let answer = site.answer(Job::Refuse(denied), 0);
        self.last_answer(answer, tools, site);
    }

    fn last_answer(&mut self, answer: Answer, tools: &mut Tools, site: &mut Site) {
        let framing = Framing {
            version: Version::Http11,
            keep_alive: false,
        };
        self.write_head(&answer, framing, tools, site);
        self.state = State::Body {
            body: answer.body,
            next: Next::Linger,
        };
    }

    fn write_head(&self, answer: &Answer, framing: Framing, tools: &mut Tools, site: &Site) {
        tools.head.clear();
        answer.write_head(&mut tools.head, site.name(), &tools.common, framing);
        let written = tools.out.append(&tools.head);
        debug_assert_eq!(written, tools.head.len());
    }

    /// An answer is written.
    fn finish(&mut self, next: Next, site: &mut Site) {
        site.work.leave(mem::take(&mut self.claim));
        self.has_moved = true;
        self.state = match next {
            Next::Request => State::Head,
            Next::Close | Next::Linger => State::Ended(next),
        };
    }

    /// Ends the connection once the last answer is on its way. Closing with bytes unread would
    /// reset the connection, and the answer might be lost with it (RFC 9112 §9.6).
    fn end(&mut self, next: Next, tools: &mut Tools) -> Step {
        self.state = State::Ended(next);
        if !tools.out.is_empty() && !self.send(tools) {
            return Step::Gone;
        }
        if self.outbound.is_some() {
            return Step::Wait;
        }
        let has_unread = self.inbound.is_some() || self.conn.is_readable();
        if next != Next::Linger && !has_unread {
            return Step::Gone;
        }
        tools.pool.give_from(&mut self.inbound);
        self.conn.shutdown_write();
        self.state = State::Lingering(LINGER_BYTES);
        Step::Moved(0)
    }

    /// Reads and throws away what a client still sends.
    fn linger(&mut self, left: usize, tools: &mut Tools) -> Step {
        self.state = State::Lingering(left);
        if !self.conn.is_readable() {
            return match self.conn.is_hung_up() {
                true => Step::Gone,
                false => Step::Wait,
            };
        }
        // Nothing more will be written, so the room for that is free.
        match self.conn.fill(tools.out.spare()) {
            Filled::Some(count) if count < left => {
                self.state = State::Lingering(left - count);
                Step::Moved(count)
            }
            Filled::Blocked => Step::Wait,
            Filled::Some(_) | Filled::End | Filled::Broken => Step::Gone,
        }
    }
}
