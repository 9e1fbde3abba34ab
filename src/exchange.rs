//! One request and its response: how far each got, and what follows from that.
//!
//! Pure decisions, no bytes and no sockets: may it go to another server, who keeps the connection,
//! what does a fault mean to the client. `table` in the tests prints every state against every
//! event and is compared with a committed snapshot.

use std::time::Duration;

use crate::http::body::{Framing, Keep, Meter, Reframing};
use crate::http::grammar::list;
use crate::http::head::{Field, Method, Refusal, Request, Response, Version};
use crate::mutant::{self, Mutant};

/// Interim responses that one exchange may bring.
const INTERIMS_MAX: u8 = 100;

/// The state of one exchange.
#[derive(Debug)]
pub struct Exchange {
    /// How far the request was read from the client.
    pub request: RequestState,
    /// How far the response was read from the server.
    pub response: ResponseState,
    /// What of the method matters.
    pub method: Method,
    /// The version that the client speaks.
    pub version: Version,
    /// Whether any byte of the request may have reached the server it is paired with.
    pub is_sent: bool,
    /// Whether all that was read of the request is still there, to be sent again.
    pub is_whole: bool,
    /// The protocols that an upgrade was offered to, as a list; empty: none was asked for.
    offered: Vec<u8>,
    expectation: Expectation,
    /// Whether the client may send another request behind this one, answered or not.
    may_ask_more: bool,
    /// Whether the client connection may go on behind the response.
    keep_client: bool,
    /// Whether the link may go on behind the response.
    keep_link: bool,
    /// How long the server keeps it when it is idle, in seconds, if it says so.
    idle_seconds: Option<u64>,
    /// What is changed of the response's framing for the client.
    reframing: Reframing,
    /// Whether trailers go on to the client: it takes them, and the response may have some.
    trailers: bool,
    /// Whether only the end of the connection tells the client where the response ends.
    is_until_close: bool,
    interims: u8,
}

/// What became of an `Expect: 100-continue` (RFC 9110 §10.1.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expectation {
    /// There was none.
    None,
    /// The client waits for a 100.
    Open,
    /// The client sent content before it came.
    Overtaken,
    /// An interim response came.
    Met,
}

/// How far a request was read.
#[derive(Debug)]
pub enum RequestState {
    /// Its head is not whole.
    Head,
    /// Its head is judged, its content is under way.
    Content(Meter),
    /// All of it was read.
    Complete,
}

/// How far a response was read.
#[derive(Debug)]
pub enum ResponseState {
    /// Its final head is not whole.
    Awaited,
    /// Its final head is judged, its content is under way.
    Content(Meter),
    /// All of it was read.
    Complete,
    /// There is none: both connections speak another protocol now.
    Tunnel {
        /// From the client to the server.
        up: Half,
        /// From the server to the client.
        down: Half,
    },
}

/// One direction of a tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Half {
    /// Bytes may come.
    Open,
    /// The sender has ended its stream; the receiver has not been told yet.
    Ended,
    /// The receiver has been told.
    Shut,
}

/// What a response head brought about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// An interim response; the final one is to come.
    Interim,
    /// The final response.
    Final,
    /// The switch to another protocol.
    Switch,
}

/// What to do when a link is lost in the middle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// Guess again: nothing is lost.
    Again,
    /// Tell the client: 502.
    Reply,
    /// Cut the client's connection: the response has begun and can not be finished.
    Cut,
    /// This was the end of the response.
    End,
}

/// What to do when a deadline is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overdue {
    /// The client was too slow with its request: 408.
    SlowClient,
    /// No connection to the server came about: guess again.
    NoConnection,
    /// The server did not answer: 504.
    NoResponse,
    /// The queue was too long: 503.
    NoPlace,
    /// Too late for any reply: cut.
    Cut,
}

/// Who the pair waits for when nothing moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waiting {
    /// For the rest of the client's head.
    Head,
    /// For a place.
    Place,
    /// For the connection to the server.
    Connection,
    /// For the client's content.
    Content,
    /// For the server: to take the request, to begin the response or to go on with it.
    Server,
    /// For the client to read.
    Reader,
    /// For either side of a tunnel.
    Tunnel,
}

/// What becomes of both connections behind a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ending {
    /// Whether the link may serve again.
    pub keep_link: bool,
    /// What becomes of the client.
    pub client: After,
}

/// What becomes of a client behind a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum After {
    /// It may send its next request.
    Next,
    /// Its connection ends.
    Close,
    /// Its connection ends once it had time to read the response: it is still sending.
    Linger,
}

impl Default for Exchange {
    fn default() -> Exchange {
        Exchange {
            request: RequestState::Head,
            response: ResponseState::Awaited,
            method: Method::Other,
            version: Version::Http11,
            is_sent: false,
            is_whole: true,
            offered: Vec::new(),
            expectation: Expectation::None,
            may_ask_more: true,
            keep_client: false,
            keep_link: false,
            idle_seconds: None,
            reframing: Reframing::None,
            trailers: false,
            is_until_close: false,
            interims: 0,
        }
    }
}

impl Exchange {
    /// The request head is whole and may pass.
    pub fn ask(&mut self, request: &Request<'_>) {
        debug_assert!(matches!(self.request, RequestState::Head));
        self.method = request.method;
        self.version = request.version;
        self.may_ask_more = request.keep_alive;
        self.keep_client = request.keep_alive;
        if request.upgrade {
            let fields = request.fields.iter();
            for field in fields.filter(|field| field.kind == Field::Upgrade) {
                self.offered.extend_from_slice(field.value);
                self.offered.push(b',');
            }
        }
        if request.expects_continue {
            self.expectation = Expectation::Open;
        }
        self.trailers = request.takes_trailers;
        self.request = match Meter::new(request.framing, Keep::Chunks) {
            Meter::Done => RequestState::Complete,
            meter => RequestState::Content(meter),
        };
    }

    /// Content of the request came from the client.
    pub fn content_came(&mut self) {
        if self.expectation == Expectation::Open {
            self.expectation = Expectation::Overtaken;
        }
    }

    /// Whether the client rightly sends no content: it waits for a 100.
    pub fn awaits_continue(&self) -> bool {
        self.expectation == Expectation::Open
    }

    /// A response head is whole and may pass; `is_sent_whole`: the server was sent all that was read
    /// of the request.
    ///
    /// # Errors
    /// `Switch`: a 101 that was not asked for; `Interim`: more interim responses than anyone needs.
    pub fn hear(&mut self, response: &Response<'_>, is_sent_whole: bool) -> Result<Heard, Refusal> {
        debug_assert!(matches!(self.response, ResponseState::Awaited));
        if response.status == 101 {
            if response.version != Version::Http11 || !self.has_offered(response) {
                return Err(Refusal::Switch);
            }
            self.response = ResponseState::Tunnel {
                up: Half::Open,
                down: Half::Open,
            };
            return Ok(Heard::Switch);
        }
        if response.status < 200 && !mutant::is(Mutant::InterimTakenForFinal) {
            self.interims = self.interims.saturating_add(1);
            if self.expectation != Expectation::None {
                self.expectation = Expectation::Met;
            }
            return if self.interims > INTERIMS_MAX {
                Err(Refusal::Interim)
            } else {
                Ok(Heard::Interim)
            };
        }
        self.reframing = match (response.framing, self.version) {
            (Framing::Chunked, Version::Http10) => Reframing::Unchunk,
            (Framing::UntilClose, Version::Http11) => Reframing::Chunk,
            _ => Reframing::None,
        };
        // A server that answers before it has all of the request may take what comes next on the link
        // for the rest of it, even if the rest comes before the response has been passed on. The same
        // for one that did not say whether it would read content that was on its way unasked.
        let is_whole_there =
            self.is_read() && is_sent_whole || mutant::is(Mutant::LinkKeptBehindEarlyResponse);
        self.idle_seconds = response.idle_seconds;
        self.keep_link = response.keep_alive
            && response.framing != Framing::UntilClose
            && is_whole_there
            && self.expectation != Expectation::Overtaken;
        // What only the end of the connection ends, ends the connection; and a request that is not
        // all here by now may never be: its rest must not be taken for the next request.
        self.is_until_close = match self.reframing {
            Reframing::None => response.framing == Framing::UntilClose,
            Reframing::Chunk => false,
            Reframing::Unchunk => true,
        };
        if self.is_until_close || !self.is_read() {
            self.keep_client = false;
        }
        // Fields that Connection names end here even where they are trailers (RFC 9110 §7.6.1).
        self.trailers &= response.framing == Framing::Chunked && !response.names_fields;
        let keep = match self.reframing {
            Reframing::Unchunk => Keep::Data,
            _ if self.trailers => Keep::Trailers,
            Reframing::None | Reframing::Chunk => Keep::Chunks,
        };
        self.response = match Meter::new(response.framing, keep) {
            Meter::Done => ResponseState::Complete,
            meter => ResponseState::Content(meter),
        };
        Ok(Heard::Final)
    }

    /// Whether a 101 switches to what the client offered, and to nothing else (RFC 9110 §7.8).
    fn has_offered(&self, response: &Response<'_>) -> bool {
        let fields = response.fields.iter();
        let mut chosen = fields
            .filter(|field| field.kind == Field::Upgrade)
            .flat_map(|field| list(field.value))
            .peekable();
        let is_offered =
            |protocol: &[u8]| list(&self.offered).any(|one| one.eq_ignore_ascii_case(protocol));
        chosen.peek().is_some() && chosen.all(is_offered)
    }

    /// The response that was heard last is not passed on after all.
    pub fn unhear(&mut self) {
        self.response = ResponseState::Awaited;
        self.is_until_close = false;
        self.keep_client = self.may_ask_more;
    }

    /// Whether a client whose connection ended in good order now would take a response for whole
    /// that is not: nothing but that end would tell.
    pub fn would_seem_whole(&self) -> bool {
        self.is_until_close
    }

    /// What is changed of the response's framing for the client.
    pub fn reframing(&self) -> Reframing {
        self.reframing
    }

    /// How long the link may rest before its next exchange: less than the server says that it keeps
    /// it, so that it is not closed while a request is on its way; none: the server did not say.
    pub fn rest_max(&self) -> Option<Duration> {
        let seconds = Duration::from_secs(self.idle_seconds?);
        Some((seconds / 2).max(seconds.saturating_sub(Duration::from_secs(1))))
    }

    /// Whether the trailers of the response go on to the client.
    pub fn passes_trailers(&self) -> bool {
        self.trailers
    }

    /// The client connection has to end behind this exchange.
    pub fn forbid_next(&mut self) {
        self.keep_client = false;
    }

    /// Whether the client connection may go on behind this exchange.
    pub fn keeps_client(&self) -> bool {
        self.keep_client
    }

    /// Whether the client may be sending another request already: it did not say that this is its
    /// last.
    pub fn may_ask_more(&self) -> bool {
        self.may_ask_more
    }

    /// Whether one direction of a tunnel has ended.
    pub fn is_half_closed(&self) -> bool {
        match self.response {
            ResponseState::Tunnel { up, down } => up != Half::Open || down != Half::Open,
            _ => false,
        }
    }

    /// Whether all of the request was read from the client.
    pub fn is_read(&self) -> bool {
        matches!(self.request, RequestState::Complete)
    }

    /// Whether nothing of a final response was passed on yet, so that a reply is still possible.
    pub fn is_unanswered(&self) -> bool {
        matches!(self.response, ResponseState::Awaited)
    }

    /// Whether another server may get the request: none may have seen it, or it is idempotent
    /// (RFC 9110 §9.2.2); and all of it is still there.
    pub fn may_go_again(&self) -> bool {
        self.is_unanswered()
            && self.is_whole
            && (!self.is_sent || self.method != Method::Other || mutant::is(Mutant::PostSentTwice))
            && self.interims == 0
    }

    /// Whether that will still be so once a server has seen it.
    pub fn is_repeatable(&self) -> bool {
        self.method != Method::Other && self.is_read() && self.may_go_again()
    }

    /// It is to be sent to another server.
    pub fn go_again(&mut self) {
        self.is_sent = false;
        self.keep_link = false;
    }

    /// The link is lost: `in_order` when the server ended its stream, not when it broke.
    pub fn lost(&self, in_order: bool) -> Loss {
        match &self.response {
            ResponseState::Awaited if self.may_go_again() => Loss::Again,
            ResponseState::Awaited => Loss::Reply,
            ResponseState::Content(meter) if in_order && meter.ends_with_stream() => Loss::End,
            ResponseState::Content(_) if mutant::is(Mutant::ShortContentTakenForWhole) => Loss::End,
            ResponseState::Content(_) => Loss::Cut,
            ResponseState::Complete | ResponseState::Tunnel { .. } => Loss::End,
        }
    }

    /// What a deadline means that is over while the pair waits for `waiting`.
    pub fn overdue(&self, waiting: Waiting) -> Overdue {
        match waiting {
            Waiting::Head => Overdue::SlowClient,
            Waiting::Place => Overdue::NoPlace,
            Waiting::Connection => Overdue::NoConnection,
            Waiting::Content if self.is_unanswered() => Overdue::SlowClient,
            Waiting::Server if self.is_unanswered() => Overdue::NoResponse,
            Waiting::Content | Waiting::Server | Waiting::Reader | Waiting::Tunnel => Overdue::Cut,
        }
    }

    /// What becomes of both sides, now that the response was passed on; `rest`: whether bytes are
    /// left over at the link, sent by the server behind its response or of the request and not sent:
    /// either would be taken for part of the next exchange.
    pub fn ending(&self, rest: bool) -> Ending {
        let is_whole_here = self.is_read();
        let is_early = !is_whole_here && !mutant::is(Mutant::LinkKeptBehindEarlyResponse);
        let complete = matches!(self.response, ResponseState::Complete);
        Ending {
            keep_link: complete && self.keep_link && !is_early && !rest,
            client: match (is_whole_here, self.keep_client) {
                (true, true) if complete => After::Next,
                (true, _) => After::Close,
                (false, _) => After::Linger,
            },
        }
    }
}

#[cfg(test)]
mod tests;
