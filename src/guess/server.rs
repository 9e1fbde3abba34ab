//! What every policy knows of one server.

use super::report::Counts;
use crate::config::ServerConfig;
use crate::health::Standing;
use crate::report::Said;

/// Weights that a server may give itself, times the configured one.
const WEIGHT_LEAST: f64 = 0.001;
const WEIGHT_MOST: f64 = 1000.0;

/// One server.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) standing: Standing,
    /// Its weight: the configured one relative to the mean of all, times what it says itself.
    pub(super) weight: f64,
    /// One by its weight.
    pub(super) per_weight: f64,
    weight_set: f64,
    max_set: u32,
    max_told: u32,
    /// It asks for no new requests.
    pub(super) is_draining: bool,
    pub(super) in_flight: u32,
    pub(super) counts: Counts,
    /// The number of the pick that chose it last.
    pub(super) picked: u64,
    /// Round-robin's account: each request adds what it costs, less for a higher weight.
    pub(super) spent: f64,
}

impl Server {
    /// A server that nothing is known of, where `weight_mean` is the mean of all configured weights.
    pub(super) fn new(config: &ServerConfig, weight_mean: f64) -> Server {
        let weight = config.weight / weight_mean;
        Server {
            standing: Standing::Unknown,
            weight,
            per_weight: 1.0 / weight,
            weight_set: weight,
            max_set: config.max.unwrap_or(u32::MAX),
            max_told: u32::MAX,
            is_draining: false,
            in_flight: 0,
            counts: Counts::default(),
            picked: 0,
            spent: 0.0,
        }
    }

    /// It says this of itself.
    pub(super) fn told(&mut self, told: &Said) {
        if let Some(weight) = told.weight.filter(|weight| weight.is_finite()) {
            self.weight = self.weight_set * weight.clamp(WEIGHT_LEAST, WEIGHT_MOST);
            self.per_weight = 1.0 / self.weight;
        }
        if let Some(max) = told.max {
            self.max_told = max.max(1);
        }
        self.is_draining = told.drains.unwrap_or(self.is_draining);
    }

    /// At most so many exchanges at once.
    pub(super) fn max(&self) -> u32 {
        self.max_set.min(self.max_told)
    }

    /// Whether it has room.
    pub(super) fn has_room(&self) -> bool {
        self.in_flight < self.max()
    }

    /// Where it stands among those that may be chosen; a drained one is as good as a refusing one.
    pub(super) fn standing(&self) -> Standing {
        if self.is_draining {
            self.standing.max(Standing::Refusing)
        } else {
            self.standing
        }
    }

    /// The load that it has by now, per weight.
    pub(super) fn load(&self) -> f64 {
        self.counts.load() * self.per_weight
    }

    /// Sees to it that its load per weight is not below `least`. A count that began anew, or stood
    /// still while the server was away, would draw every request until it has caught up with the
    /// others: it goes on beside them instead.
    pub(super) fn rise_to(&mut self, least: f64) {
        self.counts.rise_to(least * self.weight);
    }
}
