//! Silence: a server that says nothing is expected to take as long as it has been silent.
//!
//! A hang and a long pause show in no answer, because there is none. What shows is that requests have
//! gone there since it last said something, and how long the first of them waits. With Q requests
//! at a server an answer is due every Q-th part of the expected time (Little 1961), so where many
//! wait a hang shows soon, and where few wait a long request is forgiven.

use super::noise::nanos;
use crate::net::Time;

/// So many must wait: one alone may be a long request.
const WAITING_LEAST: u32 = 2;
/// It is silent when the expected time is over and so many answers more are overdue.
const OVERDUE: f64 = 6.0;

/// What a server has not said yet.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Silence {
    /// Sent since its last word.
    waiting: u32,
    /// When the first of them was sent …
    since: Time,
    /// … and how long that one could be expected to take, in nanoseconds.
    expected: f64,
    /// When it last said something after it had been silent for too long.
    ended: Time,
}

impl Silence {
    /// A request went there, which will take `expected` nanoseconds.
    pub(super) fn sent(&mut self, now: Time, expected: f64) {
        if self.waiting == 0 {
            self.since = now;
            self.expected = expected;
        }
        self.waiting = self.waiting.saturating_add(1);
    }

    /// It said something, while it held `in_flight` of ours.
    pub(super) fn heard(&mut self, now: Time, in_flight: u32) {
        if self.wait(now, in_flight).is_some() {
            self.ended = now;
        }
        self.waiting = 0;
    }

    /// Whether an answer to what was sent at this time may be late because the server stood still,
    /// which says little of how fast it goes on.
    pub(super) fn excuses(&self, sent: Time) -> bool {
        sent < self.ended
    }

    /// How long it has been silent in nanoseconds, if that is more than can be expected of a server
    /// that holds `in_flight` of ours.
    pub(super) fn wait(&self, now: Time, in_flight: u32) -> Option<f64> {
        (now > self.due(in_flight)).then(|| nanos(now, self.since))
    }

    /// Up to when a server that holds `in_flight` of ours may be silent, if nothing else happens.
    pub(super) fn due(&self, in_flight: u32) -> Time {
        if self.waiting < WAITING_LEAST || in_flight == 0 {
            return Time::NEVER;
        }
        let patience = self.expected * (1.0 + OVERDUE / f64::from(in_flight));
        Time(self.since.0.saturating_add(patience as u64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_single_long_request_is_no_silence() {
        let mut silence = Silence::default();
        silence.sent(Time(0), 10.0);
        assert_eq!(silence.wait(Time(1_000_000), 1), None);
    }

    #[test]
    fn two_that_wait_far_too_long_are_and_the_wait_grows() {
        let mut silence = Silence::default();
        silence.sent(Time(100), 10.0);
        silence.sent(Time(120), 10.0);
        assert_eq!(silence.wait(Time(139), 2), None);
        assert_eq!(silence.due(2), Time(140));
        assert_eq!(silence.wait(Time(150), 2), Some(50.0));
        assert_eq!(silence.wait(Time(1100), 2), Some(1000.0));
        // All that waited are gone: nothing is known any more.
        assert_eq!(silence.wait(Time(1100), 0), None);
    }

    #[test]
    fn the_more_wait_the_sooner_it_shows() {
        let mut silence = Silence::default();
        for _ in 0..60 {
            silence.sent(Time(0), 100.0);
        }
        assert_eq!(silence.wait(Time(112), 60), Some(112.0));
        assert_eq!(silence.wait(Time(112), 6), None);
    }

    #[test]
    fn any_word_ends_it() {
        let mut silence = Silence::default();
        for _ in 0..9 {
            silence.sent(Time(0), 1.0);
        }
        silence.heard(Time(2), 9);
        assert_eq!(silence.wait(Time(1_000_000), 9), None);
    }

    #[test]
    fn what_was_sent_before_the_end_of_a_silence_is_excused() {
        let mut silence = Silence::default();
        for now in [1000, 1005] {
            silence.sent(Time(now), 10.0);
        }
        silence.heard(Time(1010), 2);
        assert!(!silence.excuses(Time(1005)));
        for now in [1010, 1015] {
            silence.sent(Time(now), 10.0);
        }
        silence.heard(Time(1300), 2);
        assert!(silence.excuses(Time(1299)) && !silence.excuses(Time(1300)));
    }
}
