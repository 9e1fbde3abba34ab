//! How the built-in server serves: as its options say at the start, and its control at run time.

use std::fmt;
use std::time::Duration;

use super::value::{self, Expected};

/// The most requests that can be served at once, when there is a limit.
const WORKERS_MAX: u64 = 1_000_000;

/// How requests are served; health checks are answered at once, whatever it says.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Service {
    /// What serving a request takes at least.
    pub delay: Duration,
    /// The mean of what it takes beyond that, which is distributed exponentially.
    pub jitter: Duration,
    /// The share of requests, 0 to 1, that are answered 500 at once.
    pub fail: f64,
    /// Requests that are served at once at most, while others wait; 0: no limit.
    pub workers: usize,
}

impl Service {
    /// The names that [`Service::set`] knows.
    pub const NAMES: [&str; 4] = ["delay", "jitter", "fail", "workers"];

    /// Changes what `name` stands for, to the value of `text`.
    ///
    /// # Errors
    /// What was expected, as a noun phrase; nothing is changed.
    pub fn set(&mut self, name: &str, text: &str) -> Result<(), Expected> {
        match name {
            "delay" => self.delay = value::time_or_zero(text)?,
            "jitter" => self.jitter = value::time_or_zero(text)?,
            "fail" => self.fail = value::share(text)?,
            "workers" => self.workers = value::whole(text, 0, WORKERS_MAX)?,
            _ => return Err(format!("one of {}", Service::NAMES.join(", "))),
        }
        Ok(())
    }
}

/// As [`Service::set`] reads it: `delay=4ms jitter=0ms fail=0.05 workers=4`.
impl fmt::Display for Service {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |time: Duration| time.as_micros() as f64 / 1000.0;
        write!(
            out,
            "delay={}ms jitter={}ms fail={} workers={}",
            ms(self.delay),
            ms(self.jitter),
            self.fail,
            self.workers
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_it_says_is_what_it_reads() {
        let service = Service {
            delay: Duration::from_micros(1500),
            jitter: Duration::from_secs(3600),
            fail: 0.05,
            workers: 4,
        };
        let text = service.to_string();
        assert_eq!(text, "delay=1.5ms jitter=3600000ms fail=0.05 workers=4");
        let mut read = Service::default();
        for part in text.split(' ') {
            let (name, value) = part.split_once('=').unwrap();
            assert!(Service::NAMES.contains(&name));
            read.set(name, value).unwrap();
        }
        assert_eq!(read, service);
    }

    #[test]
    fn a_wrong_value_changes_nothing() {
        let mut service = Service::default();
        for (name, value) in [
            ("delay", "-1"),
            ("jitter", "soon"),
            ("fail", "2"),
            ("workers", "1000001"),
            ("speed", "1"),
        ] {
            assert!(service.set(name, value).is_err(), "{name}={value}");
        }
        assert_eq!(service, Service::default());
    }
}
