//! What is counted: plain numbers beside what is touched anyway, always on.
//!
//! Each event of the loop is one call and a few additions: no look-up, no allocation, no clock.
//! Who wants to see them is in `admin`. What can be counted when somebody asks is not counted here.

mod histogram;

use std::time::Duration;

use crate::conn::Moved;
use crate::guess::{self, Failure};
use crate::net::Time;
pub use histogram::{BOUND_NAMES, Histogram, Summary};

/// One turn in so many is timed, and every one that had more events than this.
const TIMED_TURNS: u64 = 8;

/// The counts of the whole process.
#[derive(Debug, Default)]
pub struct Metrics {
    /// When it began to serve.
    pub began: Time,
    /// Passes of the loop.
    pub turns: u64,
    /// How long those of them took that were timed, from the poll's return on.
    pub lag: Histogram,
    /// Clients accepted.
    pub accepts: u64,
    /// Requests that ended, with a response or without.
    pub requests: u64,
    /// Those of them that ended with a status of 500 or more, or were cut off by a server.
    pub errors: u64,
    /// Those that were answered here, in a server's stead.
    pub replies: u64,
    /// Those of these that broke a rule of HTTP.
    pub refused: u64,
    /// Choices of a server.
    pub guesses: u64,
    /// How long those requests waited that had to.
    pub queue_wait: Histogram,
    /// Bytes of client connections that are closed.
    pub clients_moved: Moved,
    /// Bytes of links that are closed.
    pub links_moved: Moved,
}

/// The counts of one server.
#[derive(Debug, Clone, Default)]
pub struct ServerMetrics {
    /// Requests sent to it, second tries included.
    pub requests: u64,
    /// Final responses, by the hundreds of their status.
    pub responses: [u64; 5],
    /// Requests that it failed, in the order of `FAILURES`.
    pub failures: [u64; FAILURES.len()],
    /// Good checks.
    pub checks_passed: u64,
    /// Bad checks.
    pub checks_failed: u64,
    /// Requests that went on to another server because this one failed them.
    pub retries: u64,
    /// Connections begun to it for requests.
    pub connects: u64,
    /// From sending a request to the head of its final response.
    pub latency: Histogram,
}

/// The kinds of failures, as they are called; the last is an answer that says so.
pub const FAILURES: [&str; 5] = ["refused", "reset", "timed_out", "broken", "error_status"];
/// The classes of statuses, as they are called.
pub const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

impl Metrics {
    /// A turn begins, with so many events; tells whether its end is to be told to `turned`.
    #[inline]
    pub fn turns(&mut self, events: usize) -> bool {
        self.turns += 1;
        self.turns.is_multiple_of(TIMED_TURNS) || events as u64 > TIMED_TURNS
    }

    /// An exchange has ended with this status, 0: with none.
    #[inline]
    pub fn ended(&mut self, status: u16) {
        self.requests += 1;
        self.errors += u64::from(status >= 500);
    }
}

impl ServerMetrics {
    /// It answered, with this status and after this time.
    #[inline]
    pub fn answered(&mut self, status: u16, waited: Duration) {
        // A status above 599 counts as a server's error.
        let class = usize::from(status / 100).clamp(1, CLASSES.len()) - 1;
        if let Some(count) = self.responses.get_mut(class) {
            *count += 1;
        }
        if status >= 500 {
            self.answered_badly(status);
        }
        self.latency.record(waited);
    }

    /// It answered, but with an error: of those of 500 and more some say more of the request.
    #[cold]
    fn answered_badly(&mut self, status: u16) {
        if let [.., count] = &mut self.failures
            && guess::is_failure(status)
        {
            *count += 1;
        }
    }

    /// It failed a request.
    pub fn failed(&mut self, failure: Failure) {
        let kind = match failure {
            Failure::Refused => 0,
            Failure::Reset => 1,
            Failure::TimedOut => 2,
            Failure::Broken => 3,
        };
        if let Some(count) = self.failures.get_mut(kind) {
            *count += 1;
        }
    }

    /// A check of it ended.
    pub fn checked(&mut self, has_passed: bool) {
        if has_passed {
            self.checks_passed += 1;
        } else {
            self.checks_failed += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_has_a_class() {
        let mut server = ServerMetrics::default();
        for status in [101, 200, 204, 304, 404, 500, 599, 999] {
            server.answered(status, Duration::from_millis(1));
        }
        assert_eq!(server.responses, [1, 2, 1, 1, 3]);
        assert_eq!(server.latency.count(), 8);
    }

    #[test]
    fn every_failure_has_a_name() {
        let mut server = ServerMetrics::default();
        server.failed(Failure::TimedOut);
        server.failed(Failure::Broken);
        server.failed(Failure::Broken);
        for status in [200, 429, 500, 501, 502, 503, 504, 505, 999] {
            server.answered(status, Duration::from_millis(1));
        }
        let named: Vec<_> = FAILURES.iter().zip(server.failures).collect();
        assert_eq!(
            named,
            [
                (&"refused", 0),
                (&"reset", 0),
                (&"timed_out", 1),
                (&"broken", 2),
                (&"error_status", 4)
            ]
        );
    }

    #[test]
    fn big_turns_and_one_in_eight_are_timed() {
        let mut metrics = Metrics::default();
        let timed = (0..80).filter(|_| metrics.turns(1)).count();
        assert_eq!(timed, 10);
        assert!(metrics.turns(100));
    }
}
