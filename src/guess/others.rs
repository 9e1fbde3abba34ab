//! Others: what a server has in flight that did not come from us, where it says so.

use super::noise::{Mean, nanos};
use crate::net::Time;

/// Reports that the mean remembers.
const MOST: f64 = 16.0;

/// Foreign requests in flight at one server.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Others {
    mean: Mean,
    last: f64,
    at: Time,
}

impl Others {
    /// It reported `in_flight` while it held `own` of ours.
    pub(super) fn told(&mut self, now: Time, in_flight: f64, own: u32) {
        let foreign = in_flight - f64::from(own);
        self.mean.add(foreign, MOST);
        self.last = foreign;
        self.at = now;
    }

    /// Whether it ever reported any.
    pub(super) fn is_known(&self) -> bool {
        self.mean.count() > 0.0
    }

    /// Whether they change with time alone.
    pub(super) fn is_fading(&self, now: Time, span: f64) -> bool {
        self.is_known() && nanos(now, self.at) < span
    }

    /// Foreign requests by now: the mean, and of the last deviation from it what has not been served
    /// since, as it fades over `span` nanoseconds (old news misleads: Mitzenmacher 2000). 0 if it
    /// never reported.
    pub(super) fn in_flight(&self, now: Time, span: f64) -> f64 {
        if !self.is_known() {
            return 0.0;
        }
        let mean = self.mean.value();
        let age = nanos(now, self.at);
        let left = if age < span { 1.0 - age / span } else { 0.0 };
        (mean + (self.last - mean) * left).max(0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_never_reports_has_none() {
        assert_eq!(Others::default().in_flight(Time(5), 10.0), 0.0);
    }

    #[test]
    fn our_own_are_not_others() {
        let mut others = Others::default();
        others.told(Time(0), 12.0, 9);
        assert_eq!(others.in_flight(Time(0), 10.0), 3.0);
        // More of ours than it has counted yet: nobody else is there.
        others.told(Time(0), 2.0, 9);
        assert_eq!(others.in_flight(Time(0), 10.0), 0.0);
    }

    #[test]
    fn the_last_deviation_fades_into_the_mean() {
        let mut others = Others::default();
        for _ in 0..3 {
            others.told(Time(0), 4.0, 0);
        }
        others.told(Time(100), 12.0, 0);
        let at = |now| others.in_flight(Time(now), 50.0);
        assert_eq!((at(100), at(125), at(150), at(999)), (12.0, 9.0, 6.0, 6.0));
    }
}
