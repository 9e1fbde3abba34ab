//! The admin listener: what goes on can be seen, and servers changed, while requests are served.
//!
//! Pure but for the sockets of its own connections. `proxy::admin` lends them its loop, fills in what
//! there is to see (`view`) and does what is asked; everything that is read or written is here.
//!
//! | room | what it knows |
//! |---|---|
//! | `session` | one connection: heads, small contents, answers, the backlog of a reader of events |
//! | `ask`, `guard` | what a request asks for, and whether it may |
//! | `answer`, `json` | how answers are written |
//! | `page`, `digest` | the dashboard, and what it may do |
//! | `view`, `status`, `exposition` | what there is to see; as JSON; for Prometheus |
//! | `choices` | the last choices of a server, with their reasons |
//! | `feed` | what happens, for those who read along |
//!
//! The contract is `openapi.json` beside this file, which is served too.

pub mod answer;
pub mod ask;
pub mod choices;
mod digest;
pub mod exposition;
pub mod feed;
pub mod guard;
pub mod json;
pub mod page;
pub mod session;
pub mod status;
pub mod view;

use std::collections::VecDeque;
use std::sync::LazyLock;

use slab::Slab;

use crate::config::{AdminConfig, ServerConfig};
use crate::net::{Socket, Time, Token};
use choices::Choices;
use feed::{Feed, SUBSCRIBERS_MAX};
use guard::Guard;
use json::Json;
use session::Session;

/// What can be asked for.
pub const OPENAPI: &str = include_str!("admin/openapi.json");
/// Connections at once. Descriptors for them are set aside, so that a flood of clients leaves them.
pub const SESSIONS_MAX: usize = 64;

/// Reads a server from text; says what was expected if it finds none.
pub type ReadServer = fn(&str) -> Result<ServerConfig, String>;

/// All that belongs to the admin listener.
#[derive(Debug)]
pub struct Admin<S> {
    /// Who may ask; none: there is no such listener.
    pub guard: Option<Guard>,
    /// Whether another process has taken over, so that changes and events are that one's affair.
    pub is_replaced: bool,
    /// Its connections.
    pub sessions: Slab<Session<S>>,
    /// Those of them that have more to do without waiting for anything.
    pub run: VecDeque<Token>,
    /// Those that are to be reaped.
    pub dead: Vec<usize>,
    /// Whether somebody may wait at the listener.
    pub is_listener_ready: bool,
    /// When accepting is tried again, if it failed for a lack on our side.
    pub accept_again: Time,
    /// The last choices.
    pub choices: Choices,
    /// What happens.
    pub feed: Feed,
    /// Reads a server that is to be added.
    pub read_server: ReadServer,
    /// Where events are written.
    event: Vec<u8>,
}

impl<S: Socket> Admin<S> {
    /// With a listener, or without.
    pub fn new(config: Option<&AdminConfig>) -> Admin<S> {
        if config.is_some() {
            // Now, so that no turn of the loop has to wait for it.
            LazyLock::force(&page::POLICY);
        }
        Admin {
            guard: config.map(|config| Guard::new(&config.listen, config.token.clone())),
            is_replaced: false,
            sessions: Slab::new(),
            run: VecDeque::new(),
            dead: Vec::new(),
            is_listener_ready: config.is_some(),
            accept_again: Time(0),
            choices: Choices::default(),
            feed: Feed::default(),
            read_server: |_| Err("nothing: no servers can be added here".to_owned()),
            event: Vec::new(),
        }
    }

    /// Whether there is a listener.
    pub fn is_on(&self) -> bool {
        self.guard.is_some()
    }

    /// Whether one more connection can be had.
    pub fn has_room(&self) -> bool {
        self.sessions.len() - self.dead.len() < SESSIONS_MAX
    }

    /// The connection that has had nothing to say for the longest time, if there is one.
    pub fn idlest(&self) -> Option<usize> {
        self.sessions
            .iter()
            .filter(|(_, session)| session.is_idle())
            .min_by_key(|(_, session)| session.since)
            .map(|(slot, _)| slot)
    }

    /// Whether anybody reads events.
    pub fn has_subscribers(&self) -> bool {
        self.feed.due().is_some()
    }

    /// How many read events.
    pub fn subscribers(&self) -> usize {
        self.sessions
            .iter()
            .filter(|(_, session)| session.is_subscribed())
            .count()
    }

    /// Whether one more may read events.
    pub fn takes_subscriber(&self) -> bool {
        self.subscribers() < SUBSCRIBERS_MAX
    }

    /// Tells all who read events of one, which `fill` writes. Those that are too far behind miss it,
    /// or end if it is `important`.
    pub fn tell(&mut self, name: &str, important: bool, fill: impl FnOnce(&mut Json<'_>)) {
        self.event.clear();
        write_event(&mut self.event, name, fill);
        self.send_event(important);
    }

    /// The same of one whose JSON is written already, and that may be missed.
    pub fn tell_written(&mut self, name: &str, json: &[u8]) {
        self.event.clear();
        for part in [b"event: ", name.as_bytes(), b"\ndata: ", json, b"\n\n"] {
            self.event.extend_from_slice(part);
        }
        self.send_event(false);
    }

    /// No more events come: what is written is still sent.
    pub fn end_events(&mut self) {
        for (_, session) in &mut self.sessions {
            session.end_events();
        }
    }

    fn send_event(&mut self, important: bool) {
        for (_, session) in &mut self.sessions {
            if !session.is_subscribed() {
                continue;
            }
            if !session.tell(&self.event, important) {
                // The next look at it finds it so.
                session.give_up();
            }
            if !session.will_run {
                session.will_run = true;
                self.run.push_back(session.conn.token());
            }
        }
        self.event.shrink_to(4096);
    }
}

/// Appends an event, as the stream of server-sent events has it.
pub fn write_event(out: &mut Vec<u8>, name: &str, fill: impl FnOnce(&mut Json<'_>)) {
    out.extend_from_slice(b"event: ");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\ndata: ");
    fill(&mut Json::new(out));
    out.extend_from_slice(b"\n\n");
}
