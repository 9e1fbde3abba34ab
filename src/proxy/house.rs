//! Keeping house: what a burst needed and the present does not goes back, memory and links.

use std::time::Duration;

use slab::Slab;

use super::Proxy;
use crate::client::Task;
use crate::link::LinkState;
use crate::net::{Net, Owner};

/// Memory that is free is looked at this often, while there is much of it.
pub(super) const SHRINK_EVERY: Duration = Duration::from_millis(250);
/// Slabs for no more than this many are left as they are.
const SLAB_LEAST: usize = 64;

impl<N: Net> Proxy<N> {
    /// Gives memory and links back that a burst needed and the present does not.
    pub(super) fn keep_house(&mut self) {
        let now = self.tools.now;
        if now < self.shrink_again {
            return;
        }
        self.shrink_again = now + SHRINK_EVERY;
        self.tools.pool.shrink();
        if is_wide(&self.tasks) {
            if self.tasks.is_empty() {
                // One place stays: once a large piece was freed as a whole, glibc takes the next ones
                // from its heap, whose holes are never given back.
                self.tasks.clear();
                self.tasks.insert(Task::new(0));
                self.tasks.shrink_to_fit();
                self.tasks.clear();
            } else {
                self.tasks.shrink_to_fit();
            }
        }
        if is_wide(&self.links) {
            self.links.shrink_to_fit();
        }
        self.tools.access.shrink();
        self.pipes.shrink();
        let (clients, servers, sessions) = (&self.clients, &self.servers, &self.admin.sessions);
        self.deadlines
            .shrink(clients.len() + servers.len(), |at, token| {
                match token.owner() {
                    Owner::Client => clients.get(token.slot()).is_some_and(|client| {
                        client.conn.token() == token && client.alarm.is_armed(at)
                    }),
                    Owner::Probe => servers
                        .get(token.slot())
                        .is_some_and(|server| server.probe.alarm.is_armed(at)),
                    Owner::Admin => sessions.get(token.slot()).is_some_and(|session| {
                        session.conn.token() == token && session.alarm.is_armed(at)
                    }),
                    Owner::Listener | Owner::Link => false,
                }
            });
        self.close_old_links();
    }

    /// Closes the pooled links that have rested for as long as they may.
    fn close_old_links(&mut self) {
        let now = self.tools.now;
        for server in 0..self.servers.len() {
            while let Some(slot) = self
                .servers
                .get(server)
                .and_then(|server| server.pool.oldest())
            {
                let is_old = self.links.get(slot).is_none_or(|link| match link.state {
                    LinkState::Pooled(until) => now >= until,
                    LinkState::Paired(_) | LinkState::Dead => true,
                });
                if !is_old {
                    break;
                }
                self.close_link(slot);
            }
        }
    }
}

/// Whether a slab has room for many more than it holds.
fn is_wide<T>(slab: &Slab<T>) -> bool {
    slab.capacity() > SLAB_LEAST.max(4 * slab.len())
}
