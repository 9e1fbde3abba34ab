//! Reports: what a server's own counts tell, and what they told in the original rule.
//!
//! The load that a server has reported, with what was sent there since, is the tie-breaker. What its
//! counts have grown by beyond our own requests and failures is what others saw of it.

use crate::net::Time;
use crate::report::Report;

/// The counts of one server.
#[derive(Debug, Clone, Copy, Default)]
#[repr(C)] // what every guess looks at first
pub(super) struct Counts {
    /// The load by now, as far as one can tell: what was reported, the level, and what was sent since.
    load: f64,
    report: Report,
    /// Added to the reported load: what the others were ahead when it came back.
    level: f64,
    /// Dispatched since the last report was asked for, and since the one before.
    since: u64,
    since_asked: u64,
    /// The same of failures.
    failed: u64,
    failed_asked: u64,
    /// When the last report came; none ever did if this is none.
    at: Option<Time>,
}

/// What has come since the last report.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Delta {
    /// The count went back: it has restarted.
    pub(super) has_restarted: bool,
    /// Requests.
    pub(super) all: f64,
    /// Those of them that were not ours.
    pub(super) foreign: f64,
    /// Failures among the foreign ones.
    pub(super) foreign_failures: f64,
}

impl Counts {
    /// A request went there, which counts as much as so many.
    pub(super) fn sent(&mut self, worth: f64) {
        self.since += 1;
        self.since_asked += 1;
        self.level += worth - 1.0;
        self.load += worth;
    }

    /// It failed one of ours.
    pub(super) fn failed(&mut self) {
        self.failed += 1;
        self.failed_asked += 1;
    }

    /// A report is asked for: what is sent from now on may not be in it.
    pub(super) fn asked(&mut self) {
        self.since_asked = 0;
        self.failed_asked = 0;
    }

    /// The report that was asked for.
    pub(super) fn reported(&mut self, now: Time, report: Report) -> Delta {
        let last = std::mem::replace(&mut self.report, report);
        // All that the last report may not have counted yet is taken to be ours.
        let (sent, failed) = (self.since as f64, self.failed as f64);
        self.since = self.since_asked;
        self.failed = self.failed_asked;
        let is_first = self.at.replace(now).is_none();
        let has_restarted = !is_first && report.load < last.load;
        if has_restarted {
            self.level = 0.0;
        }
        self.load = report.load as f64 + self.level + self.since as f64;
        if is_first {
            return Delta::default();
        }
        if has_restarted {
            return Delta {
                has_restarted: true,
                ..Delta::default()
            };
        }
        let all = (report.load - last.load) as f64;
        let foreign = (all - sent).max(0.0);
        let failures = report.errors.saturating_sub(last.errors) as f64 - failed;
        Delta {
            has_restarted: false,
            all,
            foreign,
            foreign_failures: failures.clamp(0.0, foreign),
        }
    }

    /// The load that it has by now, as far as one can tell.
    pub(super) fn load(&self) -> f64 {
        self.load
    }

    /// The last report, and when it came.
    pub(super) fn last(&self) -> Option<(Report, Time)> {
        self.at.map(|at| (self.report, at))
    }

    /// Errors as last reported; 0 before the first report.
    pub(super) fn errors(&self) -> u64 {
        self.report.errors
    }

    /// The load as last reported; 0 before the first report.
    pub(super) fn reported_load(&self) -> u64 {
        self.report.load
    }

    /// Sees to it that its load is not below `least`.
    pub(super) fn rise_to(&mut self, least: f64) {
        let raise = (least - self.load).max(0.0);
        self.level += raise;
        self.load += raise;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(counts: &mut Counts, errors: u64, load: u64) -> Delta {
        counts.asked();
        counts.reported(Time(0), Report { errors, load })
    }

    #[test]
    fn what_is_sent_counts_on_top_of_the_report() {
        let mut counts = Counts::default();
        report(&mut counts, 0, 10);
        counts.sent(1.0);
        assert_eq!(counts.load(), 11.0);
        counts.asked();
        counts.sent(1.0);
        counts.reported(
            Time(0),
            Report {
                errors: 0,
                load: 11,
            },
        );
        assert_eq!(counts.load(), 12.0);
    }

    #[test]
    fn the_first_report_tells_nothing_of_others_and_the_next_does() {
        let mut counts = Counts::default();
        assert_eq!(report(&mut counts, 5, 1000), Delta::default());
        for _ in 0..4 {
            counts.sent(1.0);
        }
        counts.failed();
        let delta = report(&mut counts, 8, 1010);
        let expected = Delta {
            has_restarted: false,
            all: 10.0,
            foreign: 6.0,
            foreign_failures: 2.0,
        };
        assert_eq!(delta, expected);
    }

    #[test]
    fn our_own_that_a_report_had_not_counted_yet_are_not_foreign() {
        let mut counts = Counts::default();
        report(&mut counts, 0, 0);
        counts.asked();
        for _ in 0..5 {
            counts.sent(1.0);
        }
        assert_eq!(
            counts
                .reported(Time(0), Report { errors: 0, load: 1 })
                .foreign,
            0.0
        );
        assert_eq!(report(&mut counts, 0, 5).foreign, 0.0);
    }

    #[test]
    fn a_count_that_goes_back_is_a_restart() {
        let mut counts = Counts::default();
        report(&mut counts, 0, 100);
        counts.rise_to(500.0);
        assert_eq!(counts.load(), 500.0);
        assert!(report(&mut counts, 0, 3).has_restarted);
        assert_eq!(counts.load(), 3.0);
        assert!(!report(&mut counts, 0, 3).has_restarted);
    }
}
