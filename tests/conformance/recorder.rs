//! Keeps what the balancer sends until its receiver takes it. Stands where the simulator has its
//! checker: the same calls, of which only those that matter here do anything.

use std::net::{Ipv4Addr, SocketAddr};

use super::kernel::{ConnId, Peer};

#[derive(Debug, Default)]
pub(crate) struct Checker {
    pub(crate) failure: Option<String>,
    sent: Vec<Vec<u8>>,
}

impl Checker {
    /// The next `count` bytes that were sent on `conn`.
    pub(crate) fn take(&mut self, conn: ConnId, count: usize) -> Vec<u8> {
        let rest = self.sent[conn].split_off(count);
        std::mem::replace(&mut self.sent[conn], rest)
    }

    pub(crate) fn opened(&mut self, conn: ConnId, _peer: Peer) {
        assert_eq!(conn, self.sent.len());
        self.sent.push(Vec::new());
    }

    pub(crate) fn address_of(&self, conn: ConnId) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, 40_000 + conn as u16))
    }

    pub(crate) fn sent(&mut self, conn: ConnId, bytes: &[u8], _now: u64, _turn: u64) {
        self.sent[conn].extend(bytes);
    }

    pub(crate) fn forked(&mut self) {}

    pub(crate) fn held(&mut self, _conn: ConnId, _process: usize) {}

    pub(crate) fn accepted(&mut self, _conn: ConnId) {}

    pub(crate) fn watched(&mut self, _conn: ConnId, _is_probe: bool) {}

    pub(crate) fn blocked(&mut self, _conn: ConnId) {}

    pub(crate) fn received(&mut self, _conn: ConnId, _count: u64, _now: u64) {}

    pub(crate) fn read_end(&mut self, _conn: ConnId, _now: u64) {}

    /// Which connections may be closed when is no affair of ours.
    pub(crate) fn lets_go(&mut self, _: ConnId, _: bool, _: u64) {}

    pub(crate) fn ended(&mut self, _conn: ConnId, _now: u64) {}

    pub(crate) fn aborted(&mut self, _conn: ConnId) {}

    pub(crate) fn dropped(&mut self, _conn: ConnId, _now: u64) {}
}
