//! What goes wrong in an exchange, and what becomes of it: another server, a reply of ours, or the end.

use std::io;

use log::{debug, warn};

use super::Proxy;
use crate::access::Record;
use crate::client::{ClientState, Fault};
use crate::exchange::{Loss, Overdue, ResponseState, Waiting};
use crate::guess::{self, Outcome};
use crate::http::head::Method;
use crate::http::reply::{self, Reply};
use crate::mutant::{self, Mutant};
use crate::net::Net;
use crate::pair::gather;
use crate::probe::Failure;

/// How many servers one request may have break off before it is given up.
const BREAKS_MAX: u8 = 3;

impl<N: Net> Proxy<N> {
    /// The client's deadline is over.
    pub(super) fn overdue(&mut self, slot: usize) {
        let Some(client) = self.clients.get(slot) else {
            return;
        };
        let key = match client.state {
            ClientState::Busy(key) => key,
            ClientState::Idle => return self.close_idle(slot),
            ClientState::Lingering(_) | ClientState::Dead => return self.close_client(slot),
        };
        let Some(task) = self.tasks.get_mut(key) else {
            return;
        };
        task.has_moved = true;
        let (status, text, outcome) = match task.exchange.overdue(task.waiting) {
            Overdue::NoConnection => {
                self.link_lost(slot, key, Some(io::ErrorKind::TimedOut));
                return self.serve(slot);
            }
            Overdue::Cut => {
                // A client that owes content may be why the server waits.
                let is_server = task.waiting == Waiting::Server && task.exchange.is_read();
                self.drop_link(
                    key,
                    if is_server {
                        Outcome::Failed(guess::Failure::TimedOut)
                    } else {
                        Outcome::Abandoned
                    },
                );
                return self.close_client(slot);
            }
            Overdue::SlowClient => (
                408,
                "the request did not arrive in time",
                Outcome::Abandoned,
            ),
            Overdue::NoResponse => (
                504,
                "the server did not answer in time",
                Outcome::Failed(guess::Failure::TimedOut),
            ),
            Overdue::NoPlace => (
                503,
                match self.lack {
                    None => "no place among the requests under way became free in time",
                    Some(_) => "the balancer has no descriptors left",
                },
                Outcome::Abandoned,
            ),
        };
        self.drop_link(key, outcome);
        self.reply(slot, status, text, false);
        self.serve(slot);
    }

    /// The exchange can not go on: another server, a reply, or the end of the connection.
    pub(super) fn fail(&mut self, slot: usize, fault: Fault) {
        let Some(client) = self.clients.get(slot) else {
            return;
        };
        let ClientState::Busy(key) = client.state else {
            return self.close_client(slot);
        };
        let Some(task) = self.tasks.get(key) else {
            return;
        };
        let is_unanswered = task.exchange.is_unanswered();
        match fault {
            Fault::ClientGone | Fault::TooLong => {
                debug_assert!(fault != Fault::TooLong);
                self.bugs += u64::from(fault == Fault::TooLong);
                self.drop_link(key, Outcome::Abandoned);
                self.cut_client(slot, key);
            }
            Fault::Request(refusal) => {
                let rule = refusal.rule();
                debug!(
                    "request refused: {} {} ({})",
                    rule.status, rule.text, rule.section
                );
                self.drop_link(key, Outcome::Abandoned);
                self.metrics.refused += 1;
                if is_unanswered {
                    self.reply(slot, rule.status, rule.text, true);
                } else {
                    self.cut_client(slot, key);
                }
            }
            Fault::Unwanted(status) => {
                if let Some(link) = task.link.and_then(|link| self.links.get(link)) {
                    let server = link.server;
                    debug!("server {server} answered {status}: asking another one");
                    self.note_retry(server);
                    if let Some(task) = self.tasks.get_mut(key) {
                        task.tried.push(server as u16);
                        task.has_turned |= !task.is_detour;
                        task.turned_from = Some(server as u16);
                    }
                }
                self.note_status(key, status);
                self.drop_link(key, Outcome::Served);
                self.place(slot);
            }
            Fault::Response(refusal) => {
                let rule = refusal.rule();
                if let Some(link) = task.link.and_then(|link| self.links.get(link))
                    && let Some(server) = self.config.servers.get(link.server)
                {
                    warn!(
                        "server {} sent a broken response: {} ({})",
                        server.name, rule.text, rule.section
                    );
                }
                self.drop_link(key, Outcome::Failed(guess::Failure::Broken));
                if is_unanswered {
                    self.reply(slot, 502, "the server sent a broken response", false);
                } else {
                    self.metrics.errors += 1;
                    self.close_client(slot);
                }
            }
            Fault::Link(kind) => self.link_lost(slot, key, kind),
        }
    }

    /// The link ended (`kind`: none) or broke in the middle of an exchange.
    fn link_lost(&mut self, slot: usize, key: usize, kind: Option<io::ErrorKind>) {
        let Some(task) = self.tasks.get_mut(key) else {
            return;
        };
        let Some(link) = task.link.and_then(|link| self.links.get(link)) else {
            return;
        };
        let loss = task.exchange.lost(kind.is_none());
        let server = link.server;
        let is_reused = link.served > 0;
        // A connection that took bytes stood; one that was used before stood then.
        let stood = is_reused || task.exchange.is_sent;
        if is_reused {
            task.stale_at = Some(server);
        } else {
            task.tried.push(server as u16);
            task.breaks += u8::from(stood);
        }
        let breaks = task.breaks;
        self.drop_link(
            key,
            match (is_reused, stood) {
                (true, _) => Outcome::Abandoned,
                (false, true) => Outcome::Failed(guess::Failure::Reset),
                (false, false) => Outcome::Failed(guess::Failure::Refused),
            },
        );
        if !stood {
            let kind = kind.unwrap_or(io::ErrorKind::ConnectionReset);
            let mut failure = Failure::of(kind);
            if kind == io::ErrorKind::InvalidData {
                failure.reason = "it talks before it is asked".to_owned();
            }
            if kind == io::ErrorKind::TimedOut {
                failure.reason = format!("no connection within {:?}", self.config.timeouts.connect);
            }
            self.server_failed(server, &failure);
        }
        match loss {
            Loss::Again if is_reused && mutant::is(Mutant::StaleLinkIsFatal) => {
                self.close_client(slot);
            }
            Loss::Again if !stood && mutant::is(Mutant::RefusalIsFinal) => {
                self.reply(slot, 502, "mutant", false);
            }
            // What makes one server after the other break off is most likely the request itself.
            Loss::Again if breaks >= BREAKS_MAX => {
                self.reply(
                    slot,
                    502,
                    "three servers broke off before they answered",
                    false,
                );
            }
            Loss::Again => {
                if !is_reused {
                    self.note_retry(server);
                }
                self.place(slot);
            }
            Loss::Reply => self.reply(slot, 502, "the server broke off before it answered", false),
            Loss::Cut => {
                self.metrics.errors += 1;
                self.cut_client(slot, key);
            }
            Loss::End => self.close_client(slot),
        }
    }

    /// Answers the client in a server's stead. `is_doubtful`: where its next request would begin is
    /// not certain, so there will be none.
    pub(super) fn reply(&mut self, slot: usize, status: u16, text: &str, is_doubtful: bool) {
        let Some(client) = self.clients.get_mut(slot) else {
            return;
        };
        let ClientState::Busy(key) = client.state else {
            return;
        };
        self.leave_place(key);
        let Some(task) = self.tasks.get_mut(key) else {
            return;
        };
        if is_doubtful || !task.exchange.is_read() || self.tools.is_draining {
            task.exchange.forbid_next();
        }
        if let Some(block) = task.request.take() {
            self.tools.pool.give(block);
        }
        self.tools.access.refuse(&mut task.record, self.tools.now);
        task.exchange.response = ResponseState::Complete;
        task.status = status;
        self.metrics.replies += 1;
        task.content_bytes = match task.exchange.method {
            Method::Head => 0,
            _ => text.len() as u64 + 1,
        };
        task.has_moved = true;
        self.tools.head.clear();
        let is_down = status == self.config.down_status || status == 503;
        let message = Reply {
            status,
            text,
            date: &self.tools.date,
            version: task.exchange.version,
            close: !task.exchange.keeps_client(),
            to_head: task.exchange.method == Method::Head,
            retry_after: is_down.then(|| self.config.check.every.as_secs().clamp(1, 60) as u32),
            id: task.record.as_deref().and_then(Record::id),
        };
        reply::write(&mut self.tools.head, &message);
        // Sent by `pair::finish`, with whatever is there to be sent before it.
        gather::owe(task);
        if !self.tools.pool.append(&mut task.answer, &self.tools.head) {
            self.fail(slot, Fault::TooLong);
        }
    }

    /// The exchange can not be finished, and its link is gone: the connection ends, once the client has
    /// taken the whole responses before it.
    fn cut_client(&mut self, slot: usize, key: usize) {
        let Some(task) = self.tasks.get_mut(key) else {
            return;
        };
        let is_over = matches!(task.exchange.response, ResponseState::Complete);
        if is_over || !gather::cut_short(task) {
            return self.close_client(slot);
        }
        task.exchange.response = ResponseState::Complete;
        task.exchange.forbid_next();
        task.trailers.clear();
        task.has_moved = true;
        task.drop_sent(&mut self.tools.pool);
        self.leave_place(key);
    }

    /// A request goes on to another server, because `server` failed it.
    fn note_retry(&mut self, server: usize) {
        if let Some(server) = self.servers.get_mut(server) {
            server.metrics.retries += 1;
        }
    }
}
