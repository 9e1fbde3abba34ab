//! What every policy knows of one server.

use std::time::Duration;

use super::report::Counts;
use crate::config::ServerConfig;
use crate::health::Standing;
use crate::net::Time;
use crate::report::Said;

/// Weights that a server may give itself, times the configured one.
const WEIGHT_LEAST: f64 = 0.001;
const WEIGHT_MOST: f64 = 1000.0;
/// The share of its weight that a server begins with where it starts slowly.
const RISE_FROM: f64 = 0.1;

/// One server. What every guess looks at comes first, together in one line of the processor's cache.
#[derive(Debug)]
#[repr(C, align(64))]
pub(super) struct Server {
    pub(super) standing: Standing,
    /// What the operator says of it.
    pub(super) post: Post,
    /// It asks for no new requests.
    pub(super) is_draining: bool,
    /// It stands by for the others.
    pub(super) is_backup: bool,
    pub(super) in_flight: u32,
    max_set: u32,
    max_told: u32,
    /// One by its weight.
    pub(super) per_weight: f64,
    /// Until then its weight rises …
    risen_at: Time,
    /// The number of the pick that chose it last.
    pub(super) picked: u64,
    pub(super) counts: Counts,
    /// … for so long.
    rise: Duration,
    /// Its weight: the configured one relative to the mean of all, times what it says itself.
    pub(super) weight: f64,
    /// The configured weight.
    pub(super) weight_given: f64,
    /// What it says itself.
    weight_told: f64,
    /// Round-robin's account: each request adds what it costs, less for a higher weight.
    pub(super) spent: f64,
    /// It has just come, and nothing was seen of it yet.
    pub(super) was_away: bool,
}

/// What the operator says of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Post {
    /// It may have requests.
    Open,
    /// No new ones for now.
    Drained,
    /// It has left; its slot may be filled again.
    Retired,
}

impl Server {
    /// A server that nothing is known of, where `weight_mean` is the mean of all configured weights.
    pub(super) fn new(config: &ServerConfig, weight_mean: f64) -> Server {
        let mut server = Server {
            standing: Standing::Unknown,
            weight: 1.0,
            per_weight: 1.0,
            weight_given: config.weight,
            weight_told: 1.0,
            max_set: config.max.unwrap_or(u32::MAX),
            max_told: u32::MAX,
            is_draining: false,
            post: Post::Open,
            was_away: false,
            is_backup: config.backup,
            risen_at: Time(0),
            rise: Duration::ZERO,
            in_flight: 0,
            counts: Counts::default(),
            picked: 0,
            spent: 0.0,
        };
        server.weigh(weight_mean);
        server
    }

    /// The mean of all configured weights is this from now on.
    pub(super) fn weigh(&mut self, weight_mean: f64) {
        self.weight = self.weight_given / weight_mean * self.weight_told;
        self.per_weight = 1.0 / self.weight;
    }

    /// From now on its weight rises, over `span`, from a tenth to all of it.
    pub(super) fn start_slowly(&mut self, now: Time, span: Duration) {
        self.risen_at = now + span;
        self.rise = span;
    }

    /// The share of its weight that counts so far, above 0 and at most 1.
    pub(super) fn risen(&self, now: Time) -> f64 {
        if !self.is_rising(now) {
            return 1.0;
        }
        let left = (self.risen_at - now).div_duration_f64(self.rise);
        1.0 - (1.0 - RISE_FROM) * left
    }

    /// Whether its weight still rises.
    pub(super) fn is_rising(&self, now: Time) -> bool {
        now < self.risen_at
    }

    /// As how many requests one counts, by the weight that counts so far.
    pub(super) fn worth(&self, now: Time) -> f64 {
        if self.is_rising(now) {
            1.0 / self.risen(now)
        } else {
            1.0
        }
    }

    /// One by the weight that counts so far.
    pub(super) fn per_weight_risen(&self, now: Time) -> f64 {
        if self.is_rising(now) {
            self.per_weight / self.risen(now)
        } else {
            self.per_weight
        }
    }

    /// At most so many exchanges at once, by the configuration.
    pub(super) fn set_max(&mut self, max: Option<u32>) {
        self.max_set = max.unwrap_or(u32::MAX);
    }

    /// It says this of itself.
    pub(super) fn told(&mut self, told: &Said) {
        if let Some(weight) = told.weight.filter(|weight| weight.is_finite()) {
            let weight = weight.clamp(WEIGHT_LEAST, WEIGHT_MOST);
            self.weight *= weight / self.weight_told;
            self.per_weight = 1.0 / self.weight;
            self.weight_told = weight;
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

    /// Where it stands among those that may be chosen: one that wants to drain is as good as a
    /// refusing one, one that the operator drained is none of them.
    pub(super) fn standing(&self) -> Standing {
        match (self.post, self.is_draining) {
            (Post::Open, false) => self.standing,
            (Post::Open, true) => self.standing.max(Standing::Refusing),
            (Post::Drained | Post::Retired, _) => Standing::Invalid,
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
