//! Targets that make an answer to order: so many bytes, so much later, with such a status.

use std::time::Duration;

use super::names::Denied;
use crate::http::grammar::decimal;

/// Bytes that `/bytes/N` and `/chunked/N` give at most: 1 TiB.
const BYTES_MAX: u64 = 1 << 40;
/// What `/delay/MS` waits at most, in milliseconds: an hour.
const DELAY_MAX: u64 = 3_600_000;

/// A target that makes an answer to order.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Order {
    Bytes(u64),
    Chunked(u64),
    Delay(Duration),
    Status(u16),
}

/// What `path` orders; none: nothing.
pub(super) fn order(path: &[u8]) -> Option<Result<Order, Denied>> {
    let path = path.strip_prefix(b"/")?;
    let slash = path.iter().position(|byte| *byte == b'/')?;
    let (word, number) = path.split_at(slash);
    let number = decimal(number.get(1..).unwrap_or_default());
    let up_to = |most: u64| number.filter(|number| *number <= most);
    Some(match word {
        b"bytes" => up_to(BYTES_MAX)
            .map(Order::Bytes)
            .ok_or((400, "expected /bytes/N with N up to 2^40")),
        b"chunked" => up_to(BYTES_MAX)
            .map(Order::Chunked)
            .ok_or((400, "expected /chunked/N with N up to 2^40")),
        b"delay" => up_to(DELAY_MAX)
            .map(|ms| Order::Delay(Duration::from_millis(ms)))
            .ok_or((400, "expected /delay/MS with MS up to 3600000")),
        b"status" => up_to(599)
            .and_then(|status| u16::try_from(status).ok())
            .filter(|status| *status >= 200)
            .map(Order::Status)
            .ok_or((400, "expected /status/CODE with CODE from 200 to 599")),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_are_read_strictly() {
        assert_eq!(order(b"/bytes/0"), Some(Ok(Order::Bytes(0))));
        assert_eq!(
            order(b"/chunked/1099511627776"),
            Some(Ok(Order::Chunked(1 << 40)))
        );
        assert_eq!(order(b"/status/503"), Some(Ok(Order::Status(503))));
        for none in ["/", "/bytes", "bytes/1", "/byte/1", "//bytes/1", ""] {
            assert_eq!(order(none.as_bytes()), None, "{none}");
        }
        for bad in [
            "/bytes/",
            "/bytes/x",
            "/bytes/1/",
            "/bytes/-1",
            "/bytes/1099511627777",
            "/delay/3600001",
            "/status/199",
            "/status/600",
            "/status/65736",
        ] {
            assert!(
                order(bad.as_bytes()).is_some_and(|order| order.is_err()),
                "{bad}"
            );
        }
    }
}
