//! One connection to a server: made for one exchange, kept and pooled for the next.

mod pool;

use std::io;

use crate::conn::{Conn, Filled};
use crate::guess::Ticket;
use crate::net::{Socket, Time};
pub use pool::{Pool, Rest};

/// A connection to a server.
#[derive(Debug)]
pub struct Link<S> {
    /// Its socket.
    pub conn: Conn<S>,
    /// The server at its other end.
    pub server: usize,
    /// What it is doing.
    pub state: LinkState,
    /// Exchanges that it has carried to their end.
    pub served: u32,
    /// Why nothing more can be sent on it; there may still be something to read.
    pub broken: Option<io::ErrorKind>,
    /// What the guess remembers of the exchange that it carries.
    pub ticket: Option<Ticket>,
    /// Its place in its server's pool, while it rests there.
    pub rest: Option<Rest>,
}

/// What a link is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkState {
    /// It carries the exchange of this client.
    Paired(usize),
    /// It waits in its server's pool, and is of use until then.
    Pooled(Time),
    /// It is to be reaped.
    Dead,
}

impl<S: Socket> Link<S> {
    /// A new connection to `server`, on its way, for the client in slot `client`.
    pub fn new(conn: Conn<S>, server: usize, client: usize) -> Link<S> {
        Link {
            conn,
            server,
            state: LinkState::Paired(client),
            served: 0,
            broken: None,
            ticket: None,
            rest: None,
        }
    }

    /// Whether a pooled link is of no more use: the server closed it, or sent what nobody asked for.
    /// Costs a call into the kernel only if something was heard of it, or to be `sure`.
    pub fn is_stale(&mut self, sure: bool) -> bool {
        self.conn.is_spent() || (sure && self.conn.fill(&mut [0]) != Filled::Blocked)
    }
}
