//! The cap: how many requests a server may have at once.
//!
//! A server that turns work away while it is as busy as the rest is full, not broken. Its cap falls to
//! what it holds, and grows again as TCP's window does (slow start and congestion avoidance, Jacobson
//! 1988): so also a server that has just returned is asked for little at first.

/// What a server may have in flight.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cap {
    now: f64,
    /// Below this it doubles as often as all that it holds has been served, above it grows by one.
    threshold: f64,
}

/// No server holds more.
const MOST: f64 = 1e6;

impl Default for Cap {
    fn default() -> Cap {
        Cap {
            now: 1.0,
            threshold: MOST,
        }
    }
}

impl Cap {
    /// Whether a server that holds `in_flight` is at its cap.
    pub(super) fn is_reached(&self, in_flight: u32) -> bool {
        f64::from(in_flight) + 1.0 > self.now
    }

    /// How far a server that holds `in_flight` is above it.
    pub(super) fn excess(&self, in_flight: u32) -> f64 {
        f64::from(in_flight) / self.now
    }

    /// A request was served.
    pub(super) fn served(&mut self) {
        self.now += if self.now < self.threshold {
            1.0
        } else {
            1.0 / self.now
        };
        self.now = self.now.min(MOST);
    }

    /// It turned work away while it held `in_flight` besides.
    pub(super) fn is_full(&mut self, in_flight: u32) {
        self.now = f64::from(in_flight).max(1.0);
        self.threshold = self.now;
    }

    /// It begins anew: after a bench, or a restart.
    pub(super) fn restart(&mut self) {
        self.now = 1.0;
    }

    /// How many it may have.
    pub(super) fn value(&self) -> u32 {
        self.now as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_begins_with_one_and_opens_as_fast_as_it_is_served() {
        let mut cap = Cap::default();
        assert!(!cap.is_reached(0) && cap.is_reached(1));
        for in_flight in 1..50 {
            cap.served();
            assert!(!cap.is_reached(in_flight));
        }
    }

    #[test]
    fn who_is_full_keeps_what_it_holds_and_is_asked_for_one_more_now_and_then() {
        let mut cap = Cap::default();
        for _ in 0..100 {
            cap.served();
        }
        cap.is_full(8);
        assert_eq!(cap.value(), 8);
        for _ in 0..9 {
            cap.served();
        }
        assert_eq!(cap.value(), 9);
        cap.is_full(0);
        assert_eq!(cap.value(), 1);
    }

    #[test]
    fn a_restart_begins_anew_and_remembers_where_it_was_full() {
        let mut cap = Cap::default();
        cap.is_full(4);
        cap.restart();
        assert!(cap.is_reached(1));
        for _ in 0..4 {
            cap.served();
        }
        assert_eq!(cap.value(), 4);
    }

    #[test]
    fn above_it_the_relative_excess_counts() {
        let mut small = Cap::default();
        small.is_full(4);
        let mut large = Cap::default();
        large.is_full(40);
        assert!(large.excess(41) < small.excess(5));
    }
}
