//! A client's own server: the one that its cookie names or its address leads to, if that may be chosen.

use super::Proxy;
use crate::config::StickyBy;
use crate::guess::{Pick, Rule};
use crate::net::Net;

impl<N: Net> Proxy<N> {
    /// Chooses for a task whose client may have a server of its own; that one gives way where it is
    /// invalid, drained or full, or has failed this request already.
    pub(super) fn pick_sticky(&mut self, slot: usize, key: usize) -> Pick {
        let now = self.tools.now;
        let Some(task) = self.tasks.get_mut(key) else {
            return Pick::Nobody;
        };
        let sticky = &self.tools.sticky;
        let (wanted, rule) = match sticky.by() {
            StickyBy::Nothing => (None, Rule::Nothing),
            StickyBy::Cookie(_) => {
                let named = task.stick.named.and_then(|id| sticky.named(&id));
                (named, Rule::Cookie)
            }
            StickyBy::Address => {
                let peer = self.clients.get(slot).and_then(|client| client.peer);
                let candidates = self.guess.candidates(&task.tried);
                let found = peer.and_then(|peer| sticky.by_address(peer.ip(), candidates));
                (found, Rule::Address)
            }
        };
        let own = wanted.filter(|index| self.guess.may_take(*index, &task.tried));
        self.guess.decided_by(own.map(|_| rule));
        let pick = match own {
            Some(own) => Pick::Server(own),
            None => self.guess.pick(now, &task.tried),
        };
        if sticky.cookie().is_some() {
            task.stick.sets_cookie = match pick {
                Pick::Server(index) if wanted != Some(index) => Some(index),
                _ => None,
            };
        }
        pick
    }
}
