//! The health of servers: what reports say, who is valid, and when the next round is due.
//!
//! Pure: times and answers come in, decisions go out. The connections are `probe`'s.

use std::time::Duration;

use crate::config::CheckConfig;
use crate::net::Time;

/// Whether a server may be chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// Its last checks succeeded.
    Valid,
    /// It was not checked yet: chosen where no valid one is left.
    Unknown,
    /// It refused a connection: where nothing else is left one more try costs nothing.
    Refusing,
    /// Not to be chosen until a check succeeds.
    Invalid,
}

/// One server's health.
#[derive(Debug, Clone)]
pub struct Health {
    standing: Standing,
    streak: u32,
    reason: String,
}

impl Default for Health {
    fn default() -> Health {
        Health {
            standing: Standing::Unknown,
            streak: 0,
            reason: String::new(),
        }
    }
}

impl Health {
    /// Whether it may be chosen.
    pub fn standing(&self) -> Standing {
        self.standing
    }

    /// Why it is not valid; empty if it is.
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// A check succeeded; tells whether that changed the standing.
    pub fn passed(&mut self, rise: u32) -> bool {
        if self.standing == Standing::Valid {
            self.streak = 0;
            return false;
        }
        self.streak = self.streak.saturating_add(1);
        // What was never seen failing needs no proof of recovery.
        if self.streak < rise && self.standing != Standing::Unknown {
            return false;
        }
        *self = Health {
            standing: Standing::Valid,
            streak: 0,
            reason: String::new(),
        };
        true
    }

    /// A check failed; tells whether that changed the standing or its reason.
    pub fn failed(&mut self, reason: &str, refused: bool, fall: u32) -> bool {
        if self.standing == Standing::Valid {
            self.streak = self.streak.saturating_add(1);
            if self.streak < fall {
                return false;
            }
        }
        self.condemn(reason, refused)
    }

    /// Invalid at once, whatever the checks said; tells whether that is news.
    pub fn condemn(&mut self, reason: &str, refused: bool) -> bool {
        let standing = if refused {
            Standing::Refusing
        } else {
            Standing::Invalid
        };
        let is_news =
            self.reason != reason || matches!(self.standing, Standing::Valid | Standing::Unknown);
        self.standing = standing;
        self.streak = 0;
        if is_news {
            reason.clone_into(&mut self.reason);
        }
        is_news
    }

    /// Nothing is known of it any more: where nothing is checked, time is the only pardon.
    pub fn forget(&mut self) {
        *self = Health::default();
    }
}

/// When rounds of checks are due: every X seconds or every R requests, whichever is first.
#[derive(Debug)]
pub struct Rounds {
    every: Duration,
    every_requests: u64,
    next: Time,
    dispatched: u64,
}

impl Rounds {
    /// The first round is due at once.
    pub fn new(check: &CheckConfig, now: Time) -> Rounds {
        Rounds {
            every: check.every,
            every_requests: check.every_requests,
            next: now,
            dispatched: 0,
        }
    }

    /// A request was dispatched.
    pub fn dispatched(&mut self) {
        self.dispatched += 1;
    }

    /// Whether a round is due.
    pub fn is_due(&self, now: Time) -> bool {
        now >= self.next || self.dispatched >= self.every_requests
    }

    /// A round starts now; the next is due after `share` of the period (1: all of it).
    pub fn started(&mut self, now: Time, share: f64) {
        self.next = now + self.every.mul_f64(share.clamp(0.0, 1.0));
        self.dispatched = 0;
    }

    /// When the next round is due if no request comes before.
    pub fn next(&self) -> Time {
        self.next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_told_once() {
        let mut health = Health::default();
        assert!(health.passed(1));
        assert!(!health.passed(1));
        assert!(health.failed("late", false, 1));
        assert!(!health.failed("late", false, 1));
        assert!(health.failed("refused", true, 1));
        assert_eq!(health.standing(), Standing::Refusing);
        assert!(health.passed(1));
        assert_eq!(health.reason(), "");
    }

    #[test]
    fn rise_and_fall_count_in_a_row() {
        let mut health = Health::default();
        assert!(
            health.passed(3),
            "the first success of an unknown server is enough"
        );
        assert!(!health.failed("x", false, 2));
        assert!(!health.passed(3));
        assert!(!health.failed("x", false, 2));
        assert!(health.failed("x", false, 2));
        assert!(!health.passed(3));
        assert!(!health.failed("x", false, 2));
        assert!(!health.passed(3));
        assert!(!health.passed(3));
        assert!(health.passed(3));
    }

    #[test]
    fn a_round_is_due_by_time_or_by_requests() {
        let check = CheckConfig {
            every_requests: 2,
            every: Duration::from_secs(1),
            ..CheckConfig::default()
        };
        let mut rounds = Rounds::new(&check, Time(0));
        assert!(rounds.is_due(Time(0)));
        rounds.started(Time(0), 1.0);
        rounds.dispatched();
        assert!(!rounds.is_due(Time(1)));
        rounds.dispatched();
        assert!(rounds.is_due(Time(1)));
        rounds.started(Time(1), 1.0);
        assert!(!rounds.is_due(Time(1_000_000_000)));
        assert!(rounds.is_due(Time(1_000_000_001)));
    }
}
