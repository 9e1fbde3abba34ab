//! All that the admin listener tells of, as plain values: filled in by the loop, read by the writers.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::feed::Changed;
use crate::config::{Address, Policy};
use crate::conn::Moved;
use crate::health::Standing;
use crate::metrics::{Metrics, ServerMetrics};
use crate::net::Time;
use crate::report::Report;

/// What goes on, at one moment.
pub struct View<'v> {
    /// The moment.
    pub clock: Clock,
    /// Whether the process is about to end.
    pub is_draining: bool,
    /// Where clients connect.
    pub listen: &'v Address,
    /// How a server is chosen.
    pub policy: Policy,
    /// Whether a token is asked for.
    pub has_token: bool,
    /// Requests at servers.
    pub pairs: usize,
    /// At most so many (N).
    pub pairs_max: usize,
    /// Requests that wait.
    pub queue: usize,
    /// Client connections.
    pub clients: usize,
    /// At most so many.
    pub clients_max: usize,
    /// Connections to servers.
    pub links: usize,
    /// Lines of the access log that were lost.
    pub access_log_lost: u64,
    /// Mistakes of ours.
    pub bugs: u64,
    /// What was counted.
    pub metrics: &'v Metrics,
    /// Bytes of all client connections, those that are closed among them.
    pub clients_moved: Moved,
    /// The same of links.
    pub links_moved: Moved,
    /// The servers, in their order.
    pub servers: Vec<Row<'v>>,
    /// The last changes, the oldest first.
    pub changes: Vec<&'v Changed>,
}

/// One server.
pub struct Row<'v> {
    /// Its slot.
    pub index: usize,
    /// Its name.
    pub name: &'v str,
    /// Where it is.
    pub address: &'v Address,
    /// What it comes to.
    pub state: State,
    /// Why it is not valid.
    pub reason: &'v str,
    /// Since when.
    pub since: Time,
    /// What its checks say.
    pub health: Standing,
    /// What the operator set.
    pub setting: &'static str,
    /// Its configured weight.
    pub weight: f64,
    /// At most so many at once.
    pub max: Option<u32>,
    /// Whether it stands by.
    pub is_backup: bool,
    /// Our requests there.
    pub in_flight: u32,
    /// Connections that wait.
    pub pooled: usize,
    /// Its last report, and when it came.
    pub report: Option<(Report, Time)>,
    /// What was counted of it.
    pub metrics: &'v ServerMetrics,
}

/// What a server comes to, for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It may have requests, and its checks pass.
    Valid,
    /// No check has ended yet.
    Unchecked,
    /// It refuses connections.
    Refusing,
    /// Its checks fail.
    Invalid,
    /// It gets no new requests.
    Draining,
    /// The same, and it is not checked.
    Disabled,
}

impl State {
    /// What the health says.
    pub fn of(standing: Standing) -> State {
        match standing {
            Standing::Valid => State::Valid,
            Standing::Unknown => State::Unchecked,
            Standing::Refusing => State::Refusing,
            Standing::Invalid => State::Invalid,
        }
    }

    /// As it is called.
    pub fn name(self) -> &'static str {
        match self {
            State::Valid => "valid",
            State::Unchecked => "unchecked",
            State::Refusing => "refusing",
            State::Invalid => "invalid",
            State::Draining => "draining",
            State::Disabled => "disabled",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.name())
    }
}

/// One moment, on the loop's clock and on the calendar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Clock {
    /// On the loop's clock.
    pub now: Time,
    /// Since 1970.
    pub unix: Duration,
}

impl Clock {
    /// The moment at which both clocks were read.
    pub fn new(now: Time, date: SystemTime) -> Clock {
        Clock {
            now,
            unix: date.duration_since(UNIX_EPOCH).unwrap_or_default(),
        }
    }

    /// An earlier moment on the calendar, in seconds since 1970, to the millisecond.
    pub fn unix_seconds(self, at: Time) -> f64 {
        let unix = self.unix.saturating_sub(self.now.since(at));
        (unix.as_secs_f64() * 1e3).round() / 1e3
    }
}
