//! How one client is served: step after step, each of which says what comes next. What goes wrong is
//! `fail`'s.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use log::error;

use super::Proxy;
use crate::access::Ended;
use crate::client::{ClientState, Fault, LINGER, Next, Place, Task};
use crate::exchange::{After, RequestState, Waiting};
use crate::guess::Outcome;
use crate::mutant::{self, Mutant};
use crate::net::{Net, Token};
use crate::pair::{self, gather};

impl<N: Net> Proxy<N> {
    /// Serves the client in `slot`. A mistake of ours that shows as a panic costs this client its
    /// connection, not all others theirs; in tests it stays a panic.
    pub(super) fn serve(&mut self, slot: usize) {
        if cfg!(debug_assertions) {
            return self.serve_steps(slot);
        }
        // What a step leaves half done belongs to this client and its link, and both are closed.
        if catch_unwind(AssertUnwindSafe(|| self.serve_steps(slot))).is_err() {
            self.bugs += 1;
            error!("a bug in bestguess: one client is closed, all others are served on");
            self.close_client(slot);
        }
    }

    /// Serves the client in `slot` until it has to wait, or others should have their turn.
    fn serve_steps(&mut self, slot: usize) {
        let mut finished = 0;
        loop {
            let next = self.step(slot);
            self.note_answer(slot);
            match next {
                Next::Wait => return self.wait(slot),
                Next::Yield if mutant::is(Mutant::YieldForgotten) => return,
                Next::Yield => return self.run_later(slot),
                Next::Choose => self.place(slot),
                Next::Failed(fault) => self.fail(slot, fault),
                Next::Finished => {
                    self.finish(slot);
                    finished += 1;
                    if finished >= self.config.budgets.turn_exchanges {
                        return self.run_later(slot);
                    }
                }
            }
        }
    }

    fn step(&mut self, slot: usize) -> Next {
        assert!(slot != 3 || !mutant::is(Mutant::PanicInAStep));
        let Some(client) = self.clients.get_mut(slot) else {
            return Next::Wait;
        };
        match client.state {
            ClientState::Dead => Next::Wait,
            ClientState::Lingering(_) => client.linger(&mut self.tools),
            ClientState::Idle if !client.conn.is_readable() => Next::Wait,
            ClientState::Idle => {
                let key = self.tasks.vacant_key();
                let mut task = Task::new(slot);
                let next = client.read_head(&mut task, &mut self.tools, &self.config);
                if !matches!(next, Next::Wait) || task.inbound.is_some() {
                    client.state = ClientState::Busy(key);
                    self.tasks.insert(task);
                }
                next
            }
            ClientState::Busy(key) => {
                let Some(task) = self.tasks.get_mut(key) else {
                    return Next::Wait;
                };
                if task.link.is_none()
                    && task.exchange.is_unanswered()
                    && gather::go_on(client, task, &mut self.tools.pool).is_err()
                {
                    return Next::Failed(Fault::ClientGone);
                }
                match (
                    task.link.and_then(|link| self.links.get_mut(link)),
                    task.place,
                ) {
                    (Some(link), _) => {
                        pair::pump(client, link, task, &mut self.tools, &mut self.pipes)
                    }
                    (None, _) if !task.exchange.is_unanswered() => {
                        pair::finish(client, task, &mut self.tools)
                    }
                    (None, Place::None) => client.read_head(task, &mut self.tools, &self.config),
                    // Who waits and has ended its stream is taken to have given up: under load that
                    // is what it is, and serving it would cost those who still wait.
                    (None, _) if client.conn.has_ended() && task.owed == 0 => {
                        Next::Failed(Fault::ClientGone)
                    }
                    (None, _) => Next::Wait,
                }
            }
        }
    }

    /// Tells the guess, once, that the head of the response has come.
    fn note_answer(&mut self, slot: usize) {
        if let Some(ClientState::Busy(key)) = self.clients.get(slot).map(|client| client.state)
            && let Some(task) = self.tasks.get_mut(key)
        {
            let status = task.status;
            if let Some(record) = &mut task.record {
                record.came_on(self.tools.now, task.exchange.is_sent, status != 0);
            }
            let is_sent = task.is_sending && task.exchange.is_read() && !task.has_unsent();
            if is_sent {
                task.is_sending = false;
                let link = task.link.and_then(|link| self.links.get_mut(link));
                if let Some(ticket) = link.and_then(|link| link.ticket.as_mut()) {
                    ticket.sent_whole(self.tools.now);
                }
            }
            if status != 0 {
                self.note_status(key, status);
            }
        }
    }

    /// Tells the guess that the server of this task answered with `status`, and what it said.
    pub(super) fn note_status(&mut self, key: usize, status: u16) {
        let link = self.tasks.get(key).and_then(|task| task.link);
        let Some(link) = link.and_then(|link| self.links.get_mut(link)) else {
            return;
        };
        let Some(ticket) = &mut link.ticket else {
            return;
        };
        let now = self.tools.now;
        if let Some(waited) = ticket.waits(now)
            && let Some(server) = self.servers.get_mut(link.server)
        {
            server.metrics.answered(status, waited);
        }
        let told = std::mem::take(&mut self.tools.told);
        self.guess.answered(now, ticket, status, told.retry_after);
        if let Some(said) = told.said {
            self.guess.told(now, link.server, &said);
        }
    }

    fn run_later(&mut self, slot: usize) {
        if let Some(client) = self.clients.get_mut(slot)
            && !client.will_run
        {
            client.will_run = true;
            self.run.push_back(client.conn.token());
        }
    }

    /// Sends the responses that waited for the next one, once their moment is over.
    pub(super) fn flush_gathered(&mut self) {
        if self.gathering.is_empty() || self.tools.now < self.gather_until {
            return;
        }
        let mut gathering = std::mem::take(&mut self.gathering);
        gathering.retain(|token| !self.is_flushed(*token));
        // Who was served on may have begun to gather anew.
        gathering.append(&mut self.gathering);
        self.gathering = gathering;
        self.gather_until = self.tools.now + gather::MOMENT;
    }

    /// Sends what the client of `token` has gathered, unless it is worth to wait on.
    fn is_flushed(&mut self, token: Token) -> bool {
        let slot = token.slot();
        let client = self.clients.get_mut(slot);
        let Some(client) = client.filter(|client| client.conn.token() == token) else {
            return true;
        };
        client.will_flush = false;
        let ClientState::Busy(key) = client.state else {
            return true;
        };
        let Some(task) = self.tasks.get_mut(key) else {
            return true;
        };
        if gather::goes_on(client, task, self.tools.now) {
            client.will_flush = true;
            return false;
        }
        match gather::flush(client, task, &mut self.tools.pool) {
            Ok(()) if task.answer.is_none() => {}
            // What the client would not take is waited for.
            Ok(()) => self.serve(slot),
            Err(fault) => self.fail(slot, fault),
        }
        true
    }

    /// Sees to it that an edge or a deadline will bring the client back.
    fn wait(&mut self, slot: usize) {
        let Some(client) = self.clients.get_mut(slot) else {
            return;
        };
        if client.state == ClientState::Dead {
            return;
        }
        if !mutant::is(Mutant::WaiterNotWatched) && client.conn.watch(&mut self.net).is_err() {
            return self.fail(slot, Fault::ClientGone);
        }
        let ClientState::Busy(key) = client.state else {
            return;
        };
        let Some(task) = self.tasks.get_mut(key) else {
            return;
        };
        if task.gathered.is_some() {
            if task.link.is_none() {
                // Nobody knows how soon the next response comes.
                if gather::flush(client, task, &mut self.tools.pool).is_err() {
                    return self.fail(slot, Fault::ClientGone);
                }
            } else if !client.will_flush {
                if self.gathering.is_empty() {
                    self.gather_until = self.tools.now + gather::MOMENT;
                }
                client.will_flush = true;
                self.gathering.push(client.conn.token());
            }
        }
        let waiting = match (task.place, task.link.and_then(|link| self.links.get(link))) {
            (_, Some(link)) => pair::waiting(client, link, task),
            (_, None) if !task.exchange.is_unanswered() => Waiting::Reader,
            (Place::None, None) => Waiting::Head,
            (_, None) => Waiting::Place,
        };
        if waiting == Waiting::Head && task.inbound.is_none() {
            // Only empty lines came: there is no request yet.
            client.state = ClientState::Idle;
            self.drop_task(key);
            return self.rest_client(slot, self.idle_span());
        }
        if !task.has_moved && task.waiting == waiting {
            return;
        }
        task.has_moved = false;
        task.waiting = waiting;
        if !matches!(waiting, Waiting::Content | Waiting::Reader) {
            task.patience.rest(self.tools.now);
        }
        let timeouts = &self.config.timeouts;
        let span = match waiting {
            Waiting::Head => timeouts.client,
            Waiting::Content | Waiting::Reader => task.patience.wait(
                self.tools.now,
                client.conn.moved(),
                timeouts.client,
                self.config.rate_min,
            ),
            Waiting::Place => timeouts.queue,
            Waiting::Connection => timeouts.connect,
            Waiting::Server => timeouts.response,
            // Who has ended its direction waits for the rest of an answer, if for anything.
            Waiting::Tunnel if task.exchange.is_half_closed() => timeouts.response,
            Waiting::Tunnel => timeouts.tunnel,
        };
        client.alarm.set(
            self.tools.now + span,
            client.conn.token(),
            &mut self.deadlines,
        );
    }

    /// The response has been passed on: both sides go their ways.
    fn finish(&mut self, slot: usize) {
        let Some(ClientState::Busy(key)) = self.clients.get(slot).map(|client| client.state) else {
            return;
        };
        let Some(task) = self.tasks.get_mut(key) else {
            return;
        };
        // A server that answered before it had the whole request would take what comes next on the
        // link for the rest of it.
        let has_rest = task.has_rest && !mutant::is(Mutant::LinkKeptWithBytesUnread);
        let ending = task.exchange.ending(has_rest || task.has_unsent());
        let rest_max = task.exchange.rest_max();
        task.drop_pipes(&mut self.pipes);
        if let Some(link) = task.link.take() {
            let pooled = self.config.timeouts.pooled;
            let rest_max = rest_max.unwrap_or(pooled).min(pooled);
            self.part(link, Outcome::Served, ending.keep_link.then_some(rest_max));
        }
        self.leave_place(key);
        self.record(slot, key, true);
        let Some(task) = self.tasks.get_mut(key) else {
            return;
        };
        let has_more = task.inbound.is_some();
        let may_ask_more = task.exchange.may_ask_more();
        // Whoever was told that the connection goes on may ask once more, even in a drain.
        let breaks_word = self.tools.is_draining && mutant::is(Mutant::DrainBreaksItsWord);
        let is_next = ending.client == After::Next && !breaks_word;
        if is_next && has_more {
            return task.renew(&mut self.tools);
        }
        self.drop_task(key);
        let Some(client) = self.clients.get_mut(slot) else {
            return;
        };
        client.state = ClientState::Idle;
        if is_next {
            self.rest_client(slot, self.idle_span());
        } else if client.conn.is_readable()
            || (ending.client == After::Linger || has_more || may_ask_more)
                && !client.conn.is_peer_closed()
        {
            // Closing with bytes unread, or on their way, would reset the connection, and the
            // response might be lost with it (RFC 9112 §9.6). Behind the end that a peer has sent
            // and we have read nothing is on its way.
            if mutant::is(Mutant::ClosedWithoutLingering) {
                return self.close_client(slot);
            }
            client.start_to_linger();
            client.alarm.set(
                self.tools.now + LINGER,
                client.conn.token(),
                &mut self.deadlines,
            );
        } else {
            self.close_client(slot);
        }
    }

    /// A client without a task is waited for, for `span` at most.
    pub(super) fn rest_client(&mut self, slot: usize, span: Duration) {
        if let Some(client) = self.clients.get_mut(slot) {
            let due = self.tools.now + span;
            client
                .alarm
                .set(due, client.conn.token(), &mut self.deadlines);
        }
    }

    /// Closes a client and all that it has.
    pub(super) fn close_client(&mut self, slot: usize) {
        let Some(client) = self.clients.get_mut(slot) else {
            return;
        };
        let state = std::mem::replace(&mut client.state, ClientState::Dead);
        if state == ClientState::Dead {
            return;
        }
        client.alarm.clear();
        self.dead_clients.push(slot);
        if let ClientState::Busy(key) = state {
            if let Some(task) = self.tasks.get_mut(key) {
                // What is whole is the client's, whatever became of the request behind it.
                let _ = gather::flush(client, task, &mut self.tools.pool);
            }
            if self
                .tasks
                .get(key)
                .is_some_and(|task| task.exchange.would_seem_whole())
                && !mutant::is(Mutant::CutInGoodOrder)
            {
                client.conn.abort();
            }
            self.drop_link(key, Outcome::Abandoned);
            self.leave_place(key);
            self.record(slot, key, false);
            self.drop_task(key);
        }
    }

    /// Counts an exchange that ended, whole or not, and writes it down if anybody wants to know.
    fn record(&mut self, slot: usize, key: usize, is_complete: bool) {
        if let Some(task) = self.tasks.get(key)
            && (task.status != 0 || !matches!(task.exchange.request, RequestState::Head))
        {
            self.metrics.ended(task.status);
        }
        if self.tools.access.is_recording() {
            self.write_down(slot, key, is_complete);
        }
    }

    fn write_down(&mut self, slot: usize, key: usize, is_complete: bool) {
        let (Some(client), Some(task)) = (self.clients.get(slot), self.tasks.get_mut(key)) else {
            return;
        };
        let record = task.record.take();
        let ended = Ended {
            peer: client.peer,
            record: record.as_deref(),
            now: self.tools.now,
            status: task.status,
            bytes: task.content_bytes,
            is_complete,
        };
        let servers = &self.config.servers;
        let name = |index: usize| servers.get(index).map(|server| server.name.as_str());
        self.tools.access.add(&ended, name);
        if let Some(record) = record {
            self.tools.access.take_back(record);
        }
    }

    fn drop_task(&mut self, key: usize) {
        if let Some(mut task) = self.tasks.try_remove(key) {
            debug_assert!(task.link.is_none() && task.place == Place::None);
            if mutant::is(Mutant::BlockLeaked) {
                return;
            }
            task.release(&mut self.tools.pool);
        }
    }
}
