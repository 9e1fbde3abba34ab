//! The control: what `/control?delay=50ms&fail=5%` makes of how requests are served.

use crate::cli::Service;

/// The target that changes how requests are served.
pub(super) const PATH: &[u8] = b"/control";
/// Bytes of a value that a refusal shows at most.
const SHOWN_MAX: usize = 40;

/// What `query` makes of `service`: all of it, or nothing.
///
/// # Errors
/// What is wrong with it, as one line.
pub(super) fn changed(mut service: Service, query: &str) -> Result<Service, String> {
    if query.is_empty() {
        let names = Service::NAMES.join("=, ");
        return Err(format!("expected {names}= behind /control?"));
    }
    for part in query.split('&') {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        // All that a value may need to be escaped in is its percent sign.
        let value = value.replace("%25", "%");
        service.set(name, &value).map_err(|expected| {
            let shown: String = part.chars().take(SHOWN_MAX).collect();
            format!("{shown}: expected {expected}")
        })?;
    }
    Ok(service)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn what_is_named_changes_and_the_rest_stays() {
        let service = Service {
            delay: Duration::from_millis(4),
            workers: 4,
            ..Service::default()
        };
        let slow = changed(service, "delay=50ms").unwrap();
        assert_eq!(slow.delay, Duration::from_millis(50));
        assert_eq!(slow.workers, 4);
        for query in [
            "workers=0&fail=5%25",
            "fail=5%&workers=0",
            "fail=1&fail=0.05&workers=0",
        ] {
            let changed = changed(slow, query).unwrap();
            assert_eq!((changed.workers, changed.fail), (0, 0.05), "{query}");
        }
    }

    #[test]
    fn what_is_wrong_is_said_on_one_short_line_and_nothing_changes() {
        for (query, text) in [
            ("", "expected delay=, jitter=, fail=, workers= behind"),
            ("delay", "delay: expected 0 or a duration"),
            ("fail=5", "fail=5: expected a share"),
            (
                "speed=1",
                "speed=1: expected one of delay, jitter, fail, workers",
            ),
            ("delay=1ms&", ": expected one of"),
        ] {
            let error = changed(Service::default(), query).unwrap_err();
            assert!(error.contains(text), "{query}: {error}");
        }
        let long = format!("delay={}", "9".repeat(5000));
        assert!(changed(Service::default(), &long).unwrap_err().len() < 200);
    }
}
