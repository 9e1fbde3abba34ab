//! Places and links: who is among the N, who waits, and which link carries whom.

use std::io;
use std::time::Duration;

use log::{info, warn};

use super::{LINK_PAUSE, Proxy, Setting};
use crate::client::{ClientState, Place};
use crate::config::StickyBy;
use crate::conn::Conn;
use crate::guess::{self, Outcome, Pick};
use crate::http::head::Method;
use crate::link::{Link, LinkState};
use crate::mutant::{self, Mutant};
use crate::net::{Net, Owner, Token};
use crate::probe::Failure;

/// That there are no descriptors is said this often at most.
const LACK_TOLD_EVERY: Duration = Duration::from_secs(1);

impl<N: Net> Proxy<N> {
    /// A request is ready to be sent: it gets a place and a server, or waits for its turn.
    pub(super) fn place(&mut self, slot: usize) {
        let Some(ClientState::Busy(key)) = self.clients.get(slot).map(|client| client.state) else {
            return;
        };
        let Some(task) = self.tasks.get_mut(key) else {
            return;
        };
        if task.place != Place::Held {
            let must_queue = self.queued > 0 && !mutant::is(Mutant::QueueJumped);
            let most = self.config.parallel + usize::from(mutant::is(Mutant::OneMoreThanN));
            if must_queue || self.held >= most {
                return self.enqueue(key, false);
            }
            task.place = Place::Held;
            self.held += 1;
        }
        self.assign(slot, key);
    }

    /// Lets a request wait, behind all others or, if it was under way before, before them.
    pub(super) fn enqueue(&mut self, key: usize, first: bool) {
        let Some(task) = self.tasks.get_mut(key) else {
            return;
        };
        if task.place == Place::Held {
            self.held -= 1;
        }
        let now = self.tools.now;
        self.tickets += 1;
        self.queued += 1;
        task.place = Place::Queued(self.tickets);
        if first || mutant::is(Mutant::QueueLastInFirstOut) {
            self.queue.push_front((self.tickets, key, now));
        } else {
            self.queue.push_back((self.tickets, key, now));
        }
    }

    /// Gives free places to those who wait, in the order of their arrival.
    pub(super) fn admit(&mut self) {
        if self.lack.is_some_and(|again| self.tools.now < again) {
            return;
        }
        self.lack = None;
        while self.held < self.config.parallel
            && self.lack.is_none()
            && let Some((ticket, key, since)) = self.queue.pop_front()
        {
            let Some(task) = self.tasks.get_mut(key) else {
                continue;
            };
            if task.place != Place::Queued(ticket) {
                if mutant::is(Mutant::DeadWaiterEndsAdmission) {
                    return;
                }
                continue;
            }
            if self.guess.pick(self.tools.now, &task.tried) == Pick::Full {
                self.queue.push_front((ticket, key, since));
                return;
            }
            task.place = Place::Held;
            self.queued -= 1;
            self.held += 1;
            let slot = task.client;
            self.assign(slot, key);
            if let Some((_, first, waits_since)) = self.queue.front_mut()
                && *first == key
                && self.lack.is_some()
            {
                // It is where it was.
                *waits_since = since;
                return;
            }
            self.metrics.queue_wait.record(self.tools.now.since(since));
            self.serve(slot);
        }
    }

    /// The task's place, in the queue or among the N, is free again.
    pub(super) fn leave_place(&mut self, key: usize) {
        let Some(task) = self.tasks.get_mut(key) else {
            return;
        };
        match std::mem::replace(&mut task.place, Place::None) {
            Place::None => {}
            Place::Held => self.held -= usize::from(!mutant::is(Mutant::PlaceLeaked)),
            // The ticket stays in the queue, and is dead there.
            Place::Queued(_) => self.queued -= 1,
        }
    }

    /// Chooses a server and a link to it, until one can be had.
    pub(super) fn assign(&mut self, slot: usize, key: usize) {
        loop {
            let Some(task) = self.tasks.get_mut(key) else {
                return;
            };
            let pick = match &self.config.sticky.by {
                StickyBy::Nothing => {
                    let is_repeatable = task.exchange.is_repeatable() && !task.has_turned;
                    self.guess
                        .choose(self.tools.now, &task.tried, is_repeatable)
                }
                _ => self.pick_sticky(slot, key),
            };
            self.metrics.guesses += 1;
            if self.config.explain {
                self.explain(key, pick);
            }
            if self.admin.is_on() {
                self.note_choice(key, pick);
            }
            let Some(task) = self.tasks.get_mut(key) else {
                return;
            };
            let server = match pick {
                Pick::Server(server) => server,
                Pick::Full => return self.enqueue(key, true),
                Pick::Nobody => match task.turned_from.take() {
                    // A bad answer is better than none: who gave it gives it again.
                    Some(server) => {
                        task.tried.retain(|tried| *tried != server);
                        continue;
                    }
                    None => return self.nobody(slot, key),
                },
            };
            match self.link_to(server, slot, key) {
                Ok(link) => {
                    let may_turn = self.may_turn(key, server);
                    let Some(task) = self.tasks.get_mut(key) else {
                        return;
                    };
                    task.may_turn = may_turn;
                    task.is_detour = self.guess.is_detour();
                    task.is_sending = !task.exchange.is_read();
                    if let Some(record) = &mut task.record {
                        let wants = self.tools.access.wants_reasons();
                        let rule = wants.then(|| self.guess.decided(pick, &task.tried));
                        record.placed(self.tools.now, server, rule);
                    }
                    task.start(link, &mut self.tools);
                    let ticket = self.guess.dispatched(self.tools.now, server);
                    if let Some(link) = self.links.get_mut(link) {
                        link.ticket = Some(ticket);
                    }
                    self.rounds.dispatched();
                    if let Some(server) = self.servers.get_mut(server) {
                        server.metrics.requests += 1;
                    }
                    return;
                }
                Err(error) if is_our_own_lack(&error) => {
                    if self.tools.now >= self.lack_told_again {
                        // Every request says the same now.
                        self.lack_told_again = self.tools.now + LACK_TOLD_EVERY;
                        warn!("cannot connect to a server: {error}; requests wait");
                    }
                    if mutant::is(Mutant::LackIsFinal) {
                        return self.reply(slot, 503, "mutant", false);
                    }
                    self.lack = Some(self.tools.now + LINK_PAUSE);
                    self.close_unused_link();
                    return self.enqueue(key, true);
                }
                Err(error) => {
                    if let Some(task) = self.tasks.get_mut(key) {
                        task.tried.push(server as u16);
                    }
                    if let Some(server) = self.servers.get_mut(server) {
                        server.metrics.failed(guess::Failure::Refused);
                    }
                    self.server_failed(server, &Failure::of(error.kind()));
                }
            }
        }
    }

    /// Says why this was picked. The last choices are kept by the admin listener.
    fn explain(&self, key: usize, pick: Pick) {
        if let Some(task) = self.tasks.get(key)
            && let Some(record) = &task.record
        {
            let reasons = self.guess.explain(self.tools.now, pick, &task.tried);
            let line = reasons.line(&self.config.servers);
            info!("guess for {}: {line}", record.request_line());
        }
    }

    /// Whether a request that goes to `server` now could go to another one if that answers badly.
    /// Once is enough: what two servers answer alike is the answer.
    fn may_turn(&mut self, key: usize, server: usize) -> bool {
        let Some(task) = self.tasks.get_mut(key) else {
            return false;
        };
        if self.config.retry_statuses.is_empty() || task.has_turned {
            return false;
        }
        task.tried.push(server as u16);
        let other = self.guess.pick(self.tools.now, &task.tried);
        task.tried.pop();
        matches!(other, Pick::Server(_))
    }

    /// No server is left for a request.
    fn nobody(&mut self, slot: usize, key: usize) {
        let was_answered_badly = self.tasks.get(key).is_some_and(|task| task.breaks > 0);
        if was_answered_badly {
            self.reply(
                slot,
                502,
                "every server that was tried broke off before it answered",
                false,
            );
        } else {
            self.reply(
                slot,
                self.config.down_status,
                "every server has failed",
                false,
            );
        }
    }

    /// A link to `server` for the client in `slot`: a pooled one that is alive, or a new one.
    fn link_to(&mut self, server: usize, slot: usize, key: usize) -> io::Result<usize> {
        let (is_sure, is_new) = match self.tasks.get(key) {
            Some(task) => (
                // What can not be sent twice is not sent in vain either.
                task.exchange.method == Method::Other || !task.exchange.is_read(),
                task.stale_at == Some(server),
            ),
            None => (false, true),
        };
        let now = self.tools.now;
        while !is_new
            && let Some(link) = self
                .servers
                .get_mut(server)
                .and_then(|server| server.pool.take(&mut self.links))
        {
            let Some(found) = self.links.get_mut(link) else {
                continue;
            };
            let is_old = matches!(found.state, LinkState::Pooled(until) if now >= until);
            if is_old || found.is_stale(is_sure) {
                self.bury_link(link);
                continue;
            }
            found.state = LinkState::Paired(slot);
            return Ok(link);
        }
        self.make_room_for_a_link();
        let Some(config) = self.config.servers.get(server) else {
            return Err(io::ErrorKind::NotFound.into());
        };
        let socket = self.net.connect(&config.address)?;
        if let Some(server) = self.servers.get_mut(server) {
            server.metrics.connects += 1;
        }
        let entry = self.links.vacant_entry();
        let link = entry.key();
        self.generation = self.generation.wrapping_add(1);
        let mut conn = Conn::new(
            socket,
            Token::new(Owner::Link, link as u32, self.generation),
        );
        conn.watch(&mut self.net)?;
        entry.insert(Link::new(conn, server, slot));
        Ok(link)
    }

    /// A link is done with its exchange: into the pool, to rest for `rest_max` at most, or away.
    pub(super) fn part(&mut self, slot: usize, outcome: Outcome, rest_max: Option<Duration>) {
        let now = self.tools.now;
        let Some(link) = self.links.get_mut(slot) else {
            return;
        };
        let server = link.server;
        if let Some(ticket) = link.ticket.take() {
            self.guess.finished(now, &ticket, outcome);
        }
        if let Outcome::Failed(failure) = outcome
            && let Some(server) = self.servers.get_mut(server)
        {
            server.metrics.failed(failure);
        }
        if let Some(rest_max) = rest_max
            && link.broken.is_none()
            && !link.conn.has_ended()
            && let Some(server) = self.servers.get_mut(server)
            && (server.setting == Setting::Enabled || mutant::is(Mutant::SlotFreedEarly))
        {
            link.served += 1;
            link.state = LinkState::Pooled(now + rest_max);
            server.pool.add(&mut self.links, slot);
            // It needs no descriptor to be used again.
            self.lack = self.lack.map(|_| now);
        } else {
            self.bury_link(slot);
        }
    }

    /// Closes the task's link, if it has one, with the exchange unfinished.
    pub(super) fn drop_link(&mut self, key: usize, outcome: Outcome) {
        let Some(task) = self.tasks.get_mut(key) else {
            return;
        };
        task.drop_pipes(&mut self.pipes);
        if let Some(link) = task.link.take() {
            self.part(link, outcome, None);
        }
    }

    /// Sees to it that there are never more than N links, pooled ones among them, so that the limit
    /// of descriptors can be kept.
    fn make_room_for_a_link(&mut self) {
        if self.links.len() - self.dead_links.len() >= self.config.parallel {
            self.close_unused_link();
        }
    }

    /// Closes a pooled link, if there is one: the longest unused of the fullest pool.
    fn close_unused_link(&mut self) {
        let fullest = self.servers.iter().max_by_key(|server| server.pool.len());
        if let Some(slot) = fullest.and_then(|server| server.pool.oldest()) {
            self.close_link(slot);
        }
    }

    /// Closes a link, wherever it is.
    pub(super) fn close_link(&mut self, slot: usize) {
        let server = self.links.get(slot).map(|link| link.server);
        if let Some(server) = server.and_then(|server| self.servers.get_mut(server)) {
            server.pool.remove(&mut self.links, slot);
        }
        self.bury_link(slot);
    }

    /// Closes a link that is in no pool.
    pub(super) fn bury_link(&mut self, slot: usize) {
        if let Some(link) = self.links.get_mut(slot)
            && link.state != LinkState::Dead
            && !mutant::is(Mutant::LinkLeaked)
        {
            link.state = LinkState::Dead;
            self.dead_links.push(slot);
        }
    }
}

/// Whether a connection could not be made for a lack on our side: no server is to blame.
pub(super) fn is_our_own_lack(error: &io::Error) -> bool {
    // EMFILE and ENFILE, ENOMEM and ENOBUFS have no kinds of their own, EADDRNOTAVAIL has.
    matches!(error.raw_os_error(), Some(24 | 23 | 12 | 105))
        || error.kind() == io::ErrorKind::AddrNotAvailable
}
