//! The price of being busy: a server with much in flight is dearer than its curve says.
//!
//! What is sent to a busy server makes everything that comes behind it wait as well. So the expected
//! time is raised by a small power of our own requests there, as economists charge a road its jams
//! (Pigou 1920). Only our own count: it is exact, and where many balancers share the servers each
//! should weigh lightly what all of them can see.

/// The power; found by simulation, where everything from 0.2 to 0.4 does about as well.
const POWER: f64 = 0.25;
/// Numbers in flight with a price at hand.
const KNOWN: usize = 64;

/// (Q + 1)^`POWER` for small Q.
#[derive(Debug)]
pub(super) struct Prices([f64; KNOWN + 1]);

impl Prices {
    pub(super) fn new() -> Prices {
        let mut prices = [1.0; KNOWN + 1];
        for (own, price) in prices.iter_mut().enumerate() {
            *price = (own as f64 + 1.0).powf(POWER);
        }
        Prices(prices)
    }

    /// How many times its curve's time a server costs that has `own` of our requests, per weight.
    pub(super) fn of(&self, own: f64) -> f64 {
        let whole = own as u32 as usize;
        match (self.0.get(whole), self.0.get(whole + 1)) {
            (Some(low), Some(high)) => low + (high - low) * (own - whole as f64),
            _ => (own + 1.0).powf(POWER),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_price_grows_slowly_and_without_a_step() {
        let prices = Prices::new();
        assert!((prices.of(0.0) - 1.0).abs() < 1e-12);
        let mut last = 1.0;
        for tenth in 1..2000 {
            let price = prices.of(f64::from(tenth) / 10.0);
            assert!(price > last && price < last + 0.05, "{tenth}");
            last = price;
        }
        assert!((prices.of(99.0) - 100.0_f64.powf(POWER)).abs() < 1e-9);
    }
}
