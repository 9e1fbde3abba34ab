//! The price of being busy: a server with much in flight is dearer than its curve says.
//!
//! What is sent to a busy server makes everything that comes behind it wait as well. So the expected
//! time is raised by a small power of our own requests there, as economists charge a road its jams
//! (Pigou 1920). Only our own count: it is exact, and where many balancers share the servers each
//! should weigh lightly what all of them can see.

use super::curve::{BUCKETS, Place, knot};

/// The fourth root of Q + 1 where the curve has its knots. The power was found by simulation, where
/// everything from 0.2 to 0.4 does about as well.
#[derive(Debug)]
pub(super) struct Prices([f64; BUCKETS]);

impl Prices {
    pub(super) fn new() -> Prices {
        Prices(std::array::from_fn(|bucket| {
            (knot(bucket) + 1.0).sqrt().sqrt()
        }))
    }

    /// How many times its curve's time a server costs that has so many of our requests, per weight.
    pub(super) fn of(&self, own: Place) -> f64 {
        own.between(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_price_grows_slowly_and_without_a_step() {
        let prices = Prices::new();
        let of = |own| prices.of(Place::of(own));
        assert_eq!(of(0.0), 1.0);
        let mut last = 1.0;
        for tenth in 1..2000 {
            let own = f64::from(tenth) / 10.0;
            let price = of(own);
            assert!(price > last && price < last + 0.05, "{own}");
            let exact = (own + 1.0).powf(0.25);
            assert!((price / exact - 1.0).abs() < 0.02, "{own}");
            last = price;
        }
    }
}
