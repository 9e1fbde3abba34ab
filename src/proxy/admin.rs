//! The admin listener in the loop: its connections, and what there is to see. `answers` says what
//! is answered and changed.
//!
//! Nothing here is on the way of a request; it runs behind everything else in a turn. What is read
//! and written is `crate::admin`'s.

mod answers;

use std::io;
use std::time::Duration;

use log::{debug, warn};

use super::Proxy;
use super::change::Setting;
use crate::admin::answer::Content;
use crate::admin::feed::Changed;
use crate::admin::json::Json;
use crate::admin::session::{Served, Session, Waiting};
use crate::admin::view::{Clock, Row, State, View};
use crate::admin::{ReadServer, status};
use crate::client::LINGER;
use crate::conn::Conn;
use crate::guess::Pick;
use crate::net::{Event, Net, Owner, Time, Token};

/// Connections that one turn accepts at most.
const ACCEPTS_MAX: usize = 16;
/// How long accepting pauses when there are no descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

impl<N: Net> Proxy<N> {
    /// When the admin listener has something to do even if nothing happens.
    pub(super) fn admin_due(&self) -> Option<Time> {
        let admin = &self.admin;
        let has_room = admin.has_room() || admin.idlest().is_some();
        let accept = (admin.is_listener_ready && has_room).then_some(admin.accept_again);
        let run = (!admin.run.is_empty()).then_some(Time(0));
        [accept, run, admin.feed.due()].into_iter().flatten().min()
    }

    /// What a turn does for the admin listener.
    pub(super) fn turn_admin(&mut self) {
        if !self.admin.is_on() {
            return;
        }
        self.accept_admin();
        if self
            .admin
            .feed
            .due()
            .is_some_and(|due| self.tools.now >= due)
        {
            self.tell_figures();
        }
        if self.is_over {
            self.tell_end("the process ends");
        }
        for _ in 0..self.admin.run.len() {
            let Some(token) = self.admin.run.pop_front() else {
                break;
            };
            if let Some(session) = self.admin.sessions.get_mut(token.slot())
                && session.conn.token() == token
            {
                session.will_run = false;
                self.serve_admin(token.slot());
            }
        }
        for slot in self.admin.dead.drain(..) {
            self.admin.sessions.remove(slot);
        }
    }

    /// Another process has taken over: who reads events is to read that one's, and who is connected
    /// gets one more answer here.
    pub(super) fn leave_admin(&mut self) {
        self.admin.is_replaced = true;
        self.tell_end("another process has taken over");
        self.admin.end_events();
        self.count_readers();
    }

    fn tell_end(&mut self, reason: &str) {
        self.admin.tell("bye", true, |json| {
            json.object(|json| json.key("reason").text(reason));
        });
    }

    fn accept_admin(&mut self) {
        if self.tools.now < self.admin.accept_again {
            return;
        }
        self.admin.accept_again = Time(0);
        for _ in 0..ACCEPTS_MAX {
            if !self.admin.is_listener_ready {
                return;
            }
            if !self.admin.has_room() {
                // Who has nothing to say makes way for who may have.
                match self.admin.idlest() {
                    Some(slot) => self.close_admin(slot),
                    None => return,
                }
            }
            match self.net.accept_admin() {
                Ok((socket, peer)) => {
                    let entry = self.admin.sessions.vacant_entry();
                    let slot = entry.key();
                    self.generation = self.generation.wrapping_add(1);
                    let token = Token::new(Owner::Admin, slot as u32, self.generation);
                    let conn = Conn::new(socket, token);
                    entry.insert(Session::new(conn, peer, self.tools.now));
                    self.serve_admin(slot);
                }
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock => self.admin.is_listener_ready = false,
                    io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted => {}
                    _ => {
                        warn!("cannot accept at the admin listener: {error}");
                        self.admin.accept_again = self.tools.now + ACCEPT_PAUSE;
                        return;
                    }
                },
            }
        }
    }

    /// An edge of one of its connections.
    pub(super) fn hear_admin(&mut self, event: Event) {
        if let Some(session) = self.admin.sessions.get_mut(event.token.slot())
            && session.conn.token() == event.token
        {
            session.conn.take(event);
            self.run_admin_later(event.token.slot());
        }
    }

    /// A deadline of one of its connections is over.
    pub(super) fn admin_overdue(&mut self, slot: usize) {
        let Some(session) = self.admin.sessions.get_mut(slot) else {
            return;
        };
        if session.overdue(&self.tools.date) {
            self.run_admin_later(slot);
        } else {
            self.close_admin(slot);
        }
    }

    fn run_admin_later(&mut self, slot: usize) {
        if let Some(session) = self.admin.sessions.get_mut(slot)
            && !session.will_run
        {
            session.will_run = true;
            self.admin.run.push_back(session.conn.token());
        }
    }

    fn serve_admin(&mut self, slot: usize) {
        loop {
            let (Some(session), Some(guard)) =
                (self.admin.sessions.get_mut(slot), &self.admin.guard)
            else {
                return;
            };
            match session.serve(&mut self.tools.scratch, guard) {
                Served::Wait => return self.wait_admin(slot),
                Served::Yield => return self.run_admin_later(slot),
                Served::Gone => return self.close_admin(slot),
                Served::Asked(asked) => {
                    let answer = self.answer_admin(&asked);
                    let Some(session) = self.admin.sessions.get_mut(slot) else {
                        return;
                    };
                    if answer.status >= 400 {
                        let (Content::Whole(_, text) | Content::Events(text)) = &answer.content;
                        debug!(
                            "admin: {} for {:?}: {}",
                            answer.status,
                            session.peer(),
                            text.trim_ascii().escape_ascii()
                        );
                    }
                    session.answer(
                        &asked,
                        &answer,
                        &self.tools.date,
                        self.admin.is_replaced || self.is_over,
                    );
                    self.count_readers();
                }
            }
        }
    }

    /// Sees to it that an edge or a deadline will bring the connection back.
    fn wait_admin(&mut self, slot: usize) {
        let now = self.tools.now;
        let timeouts = &self.config.timeouts;
        let Some(session) = self.admin.sessions.get_mut(slot) else {
            return;
        };
        if session.conn.watch(&mut self.net).is_err() {
            return self.close_admin(slot);
        }
        let waiting = session.waiting();
        let is_new = session.waits_anew(waiting, now);
        let span = match waiting {
            Waiting::Reader => session.patience(now, timeouts.client, self.config.rate_min),
            _ if !is_new => return,
            Waiting::Request => timeouts.idle,
            // All of a request, however it trickles in.
            Waiting::Rest => timeouts.client,
            Waiting::Linger => LINGER,
            Waiting::Events => {
                session.rest();
                session.alarm.clear();
                return;
            }
        };
        if waiting != Waiting::Reader {
            session.rest();
        }
        let token = session.conn.token();
        session.alarm.set(now + span, token, &mut self.deadlines);
    }

    fn close_admin(&mut self, slot: usize) {
        if let Some(session) = self.admin.sessions.get_mut(slot)
            && !session.is_dead()
        {
            session.bury();
            self.admin.dead.push(slot);
            self.count_readers();
        }
    }

    /// Somebody has begun to read events, or left.
    fn count_readers(&mut self) {
        let had_readers = self.admin.has_subscribers();
        let subscribers = self.admin.subscribers();
        let (now, requests) = (self.tools.now, self.metrics.requests);
        self.admin.feed.read_by(subscribers, now, requests);
        if !had_readers && subscribers > 0 {
            // What was until now is told by the whole status; only what comes is new.
            self.write_figures(&mut Vec::new());
        }
    }

    fn tell_figures(&mut self) {
        self.note_states();
        let mut figures = Vec::new();
        self.write_figures(&mut figures);
        self.admin.tell_written("status", &figures);
    }

    fn write_figures(&mut self, out: &mut Vec<u8>) {
        let mut feed = std::mem::take(&mut self.admin.feed);
        feed.figures(&mut Json::new(out), &self.view());
        self.admin.feed = feed;
    }

    /// Keeps a choice that was made for the task `key`, and tells of it.
    pub(super) fn note_choice(&mut self, key: usize, pick: Pick) {
        let Some(task) = self.tasks.get(key) else {
            return;
        };
        let head = task
            .request
            .as_ref()
            .map_or(b"".as_slice(), |block| block.filled());
        let count = self.servers.len();
        let admin = &mut self.admin;
        admin.choices.note(
            self.tools.now,
            &self.guess,
            (pick, &task.tried),
            head,
            count,
        );
        if admin.feed.takes_choice() {
            let clock = self.clock();
            let mut text = Vec::new();
            if let Some(choice) = self.admin.choices.last() {
                choice.write(&mut Json::new(&mut text), clock, &self.config.servers);
            }
            self.admin.tell_written("guess", &text);
        }
    }

    /// The same as `note_state`, for all servers.
    pub(super) fn note_states(&mut self) {
        for index in 0..self.servers.len() {
            self.note_state(index);
        }
    }

    /// The state of a server may have changed: whoever wants to know is told.
    pub(super) fn note_state(&mut self, index: usize) {
        let now = self.tools.now;
        let found = self.state_of(index);
        let (Some(server), Some(config)) =
            (self.servers.get_mut(index), self.config.servers.get(index))
        else {
            return;
        };
        let state = found.map(|(state, _)| state);
        let from = std::mem::replace(&mut server.state, state);
        if from == state {
            return;
        }
        server.state_since = now;
        let reason = match found {
            Some((_, Why::Health)) => server.health.reason(),
            Some((_, Why::Said(reason))) => reason,
            None => "",
        };
        let changed = Changed {
            at: now,
            server: config.name.clone(),
            from: from.map(State::name),
            to: state.map_or("removed", State::name),
            reason: reason.to_owned(),
        };
        self.tell_change(changed);
    }

    fn tell_change(&mut self, changed: Changed) {
        if !self.admin.is_on() {
            return;
        }
        let clock = self.clock();
        self.admin.tell("change", true, |json| {
            status::change(json, clock, &changed);
        });
        self.admin.feed.change(changed);
    }

    /// What a server comes to, and why; none: there is none in this slot.
    fn state_of(&self, index: usize) -> Option<(State, Why)> {
        let server = self.servers.get(index)?;
        let drained = |reason| Some((State::Draining, Why::Said(reason)));
        match server.setting {
            Setting::Gone => None,
            Setting::Leaving => drained("it was removed, and finishes what is under way"),
            Setting::Draining => drained("the operator drains it"),
            Setting::Disabled => Some((State::Disabled, Why::Said("the operator disabled it"))),
            Setting::Enabled if self.guess.asks_to_drain(index) => {
                drained("it asks for no new requests")
            }
            Setting::Enabled => Some((State::of(server.health.standing()), Why::Health)),
        }
    }

    fn clock(&self) -> Clock {
        Clock::new(self.tools.now, self.net.date())
    }

    /// What goes on.
    fn view(&self) -> View<'_> {
        let sum = |moved: &mut dyn Iterator<Item = crate::conn::Moved>| {
            moved.fold(crate::conn::Moved::default(), crate::conn::Moved::with)
        };
        let clients = self.clients.iter();
        let mut clients = clients.map(|(_, client)| client.conn.moved_each_way());
        let links = self.links.iter();
        let mut links = links.map(|(_, link)| link.conn.moved_each_way());
        View {
            clock: self.clock(),
            is_draining: self.is_draining(),
            listen: &self.config.listen,
            policy: self.config.policy,
            has_token: self.admin.guard.as_ref().is_some_and(|it| it.has_token()),
            pairs: self.held,
            pairs_max: self.config.parallel,
            queue: self.queued,
            clients: self.clients.len() - self.dead_clients.len(),
            clients_max: self.clients_max,
            links: self.links.len() - self.dead_links.len(),
            access_log_lost: self.tools.access.lost(),
            bugs: self.bugs,
            metrics: &self.metrics,
            clients_moved: sum(&mut clients).with(self.metrics.clients_moved),
            links_moved: sum(&mut links).with(self.metrics.links_moved),
            servers: (0..self.servers.len())
                .filter_map(|index| self.row(index))
                .collect(),
            changes: self.admin.feed.changes().collect(),
        }
    }

    /// What is to be seen of one server.
    fn row(&self, index: usize) -> Option<Row<'_>> {
        let server = self.servers.get(index)?;
        let config = self.config.servers.get(index)?;
        let (state, why) = self.state_of(index)?;
        let reason = match why {
            Why::Health => server.health.reason(),
            Why::Said(reason) => reason,
        };
        Some(Row {
            index,
            name: &config.name,
            address: &config.address,
            state,
            reason,
            since: server.state_since,
            health: server.health.standing(),
            setting: match server.setting {
                Setting::Enabled => "enabled",
                Setting::Draining => "draining",
                Setting::Disabled => "disabled",
                Setting::Leaving | Setting::Gone => "leaving",
            },
            weight: config.weight,
            max: config.max,
            is_backup: config.backup,
            in_flight: self.guess.in_flight(index),
            pooled: server.pool.len(),
            report: server.report.map(|report| (report, server.reported_at)),
            metrics: &server.metrics,
        })
    }

    /// Servers that are added at run time are read from text by `read`, which says what it expected
    /// if it finds none. It must not wait for anything.
    pub fn read_servers_by(&mut self, read: ReadServer) {
        self.admin.read_server = read;
    }
}

/// Where the reason of a state stands.
#[derive(Clone, Copy)]
enum Why {
    /// Its health says it.
    Health,
    /// This is it.
    Said(&'static str),
}
