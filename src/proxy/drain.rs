//! The end of a process: nothing new is taken, what runs is finished, and nobody is cut who was told
//! that the connection goes on.
//!
//! A client that was answered may write its next request at the very moment at which we close, and
//! would lose it. So a drain closes no idle client at once: each has a grace, in which its next
//! request is still answered, with `Connection: close`. Whoever is silent for all of it is closed.
//! Which signals and which commands lead here is the loop's and the caller's affair.

use std::time::Duration;

use log::info;

use super::Proxy;
use crate::client::ClientState;
use crate::net::{Net, Ready, Time};

/// That the process is about to end.
#[derive(Debug, Clone, Copy)]
pub(super) struct Drain {
    /// Who is still there then is cut off.
    pub(super) until: Time,
    /// Whether another process has taken the listener over, so that nobody waits for the end.
    is_retired: bool,
}

impl<N: Net> Proxy<N> {
    /// Somebody wants the process to end: it starts to drain; asked again, it ends at once.
    pub(super) fn stop(&mut self) {
        match self.drain {
            None => self.accept_the_last(),
            Some(drain) if drain.is_retired => {
                // Now somebody does wait.
                let until = self.tools.now + self.config.timeouts.drain;
                self.drain = Some(Drain {
                    until: until.min(drain.until),
                    is_retired: false,
                });
                info!("asked to stop: {} clients left", self.clients.len());
                return;
            }
            Some(_) => {
                let left = self.clients.len();
                info!("stopped at once: {left} clients are cut off");
                self.is_over = true;
                return;
            }
        }
        self.start_to_drain(self.config.timeouts.drain, false);
    }

    /// Another process has the listener now: what is here is finished, for as long as it takes within
    /// the limit for tunnels, and the loop ends when nobody is left. The network has to have left the
    /// listener already, so that nothing that waits at it is taken.
    pub fn retire(&mut self) {
        if !self.is_draining() {
            self.start_to_drain(self.config.timeouts.tunnel_drain, true);
            self.leave_admin();
        }
    }

    /// Whether the loop will end by itself.
    pub fn is_draining(&self) -> bool {
        self.drain.is_some()
    }

    /// Closes all clients that are left: what is cut is seen to be cut, and is written down.
    pub(super) fn cut_off(&mut self) {
        let left: Vec<usize> = self.clients.iter().map(|(slot, _)| slot).collect();
        for slot in left {
            self.close_client(slot);
        }
        self.reap();
    }

    /// Whoever the kernel has let in already has been promised an answer: closing the listener would
    /// reset these connections.
    fn accept_the_last(&mut self) {
        self.is_listener_ready = true;
        self.accept_again = Time(0);
        while self.is_listener_ready && self.may_accept() && self.accept_again == Time(0) {
            self.accept();
        }
    }

    /// Accepts no more, and gives everybody time: to finish, or to ask once more.
    fn start_to_drain(&mut self, span: Duration, is_retired: bool) {
        self.net.close_listener();
        self.is_listener_ready = false;
        self.drain = Some(Drain {
            until: self.tools.now + span,
            is_retired,
        });
        self.tools.is_draining = true;
        info!(
            "draining: {} clients, {} requests under way, {} waiting",
            self.clients.len(),
            self.held,
            self.queued
        );
        let until = self.tools.now + self.idle_span();
        for (_, client) in &mut self.clients {
            if client.state == ClientState::Idle {
                let token = client.conn.token();
                client.alarm.set(until, token, &mut self.deadlines);
            }
        }
    }

    /// How long a client may be silent between two requests.
    pub(super) fn idle_span(&self) -> Duration {
        let timeouts = &self.config.timeouts;
        if self.is_draining() {
            timeouts.idle.min(timeouts.drain_grace)
        } else {
            timeouts.idle
        }
    }

    /// An idle client has been silent for long enough: it is closed, unless its next request has just
    /// come.
    pub(super) fn close_idle(&mut self, slot: usize) {
        if let Some(client) = self.clients.get_mut(slot) {
            client.conn.expect(Ready::READABLE);
            self.serve(slot);
        }
        if let Some(client) = self.clients.get(slot)
            && client.state == ClientState::Idle
        {
            self.close_client(slot);
        }
    }
}
