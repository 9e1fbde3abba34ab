//! Clients that are not watched yet, because their answer is near.
//!
//! Who asks once on a connection of its own is read, answered and closed without the poll ever
//! hearing of it, if the server is quick. Only who still waits a moment later joins the poll, so that
//! it is seen if it leaves. Whoever has to be heard of for any other reason is watched at once.

use std::time::Duration;

use super::Proxy;
use crate::client::{ClientState, Fault};
use crate::exchange::Waiting;
use crate::mutant::{self, Mutant};
use crate::net::{Net, Time};
use crate::pair;

/// For so long nobody minds that a client has left unseen: what a poll's clock can tell apart.
const MOMENT: Duration = Duration::from_millis(1);

impl<N: Net> Proxy<N> {
    /// Sees to it that edges of the client in `slot`, which waits, will be told, by now or in a moment.
    /// False: that could not be done, and the client was failed.
    pub(super) fn hear_of(&mut self, slot: usize) -> bool {
        if mutant::is(Mutant::WaiterNotWatched) {
            return true;
        }
        let Some(client) = self.clients.get_mut(slot) else {
            return false;
        };
        if let ClientState::Busy(key) = client.state
            && let Some(task) = self.tasks.get(key)
            && let Some(link) = task.link.and_then(|link| self.links.get(link))
            && matches!(
                pair::waiting(client, link, task),
                Waiting::Server | Waiting::Connection
            )
            // Nothing is to be read of it and nothing to be sent to it.
            && task.exchange.is_read()
        {
            if client.conn.note_unwatched() {
                let at = self.tools.now + MOMENT;
                self.unwatched.push_back((at, client.conn.token()));
            }
            return true;
        }
        if client.conn.watch(&mut self.net).is_err() {
            self.fail(slot, Fault::ClientGone);
            return false;
        }
        true
    }

    /// Watches those whose answer did not come within a moment.
    pub(super) fn watch_who_waits(&mut self) {
        while let Some((at, token)) = self.unwatched.front().copied()
            && at <= self.tools.now
        {
            self.unwatched.pop_front();
            let Some(client) = self.clients.get_mut(token.slot()) else {
                continue;
            };
            if client.conn.token() == token
                && client.state != ClientState::Dead
                && client.conn.watch(&mut self.net).is_err()
            {
                self.fail(token.slot(), Fault::ClientGone);
            }
        }
    }

    /// When the next of them has waited for a moment.
    pub(super) fn watch_due(&self) -> Option<Time> {
        self.unwatched.front().map(|(at, _)| *at)
    }
}
