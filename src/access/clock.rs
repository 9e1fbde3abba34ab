//! Time for people, from the loop's own clock: the calendar is looked up now and then, and each second
//! is written out once.

use std::io::Write;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use httpdate::HttpDate;

use crate::net::Time;

/// A clock that shows the calendar.
#[derive(Debug)]
pub(super) struct Clock {
    /// A moment of the loop's clock …
    now: Time,
    /// … and what it was since 1970.
    then: Duration,
    /// When the second began that is written out, in the loop's nanoseconds, which may be before the
    /// first of them; none: none is.
    second: Option<u64>,
    common: [u8; COMMON],
    rfc3339: [u8; RFC3339],
}

/// Bytes of `25/Nov/2026:22:03:46 +0000`.
const COMMON: usize = 26;
/// Bytes of `2026-11-25T22:03:46.086Z`.
const RFC3339: usize = 24;
/// Nanoseconds of one.
const SECOND: u64 = 1_000_000_000;

/// Names of months are three letters in all formats.
const MONTHS: &[u8; 36] = b"JanFebMarAprMayJunJulAugSepOctNovDec";

impl Clock {
    /// At `now` of the loop's clock it is `date`.
    pub(super) fn new(now: Time, date: SystemTime) -> Clock {
        let mut clock = Clock {
            now,
            then: Duration::ZERO,
            second: None,
            common: [b' '; COMMON],
            rfc3339: [b' '; RFC3339],
        };
        clock.set(now, date);
        clock
    }

    /// The calendar was looked at.
    pub(super) fn set(&mut self, now: Time, date: SystemTime) {
        self.now = now;
        self.then = date.duration_since(UNIX_EPOCH).unwrap_or_default();
        self.second = None;
    }

    /// `now` as the combined format has it, to the second.
    pub(super) fn common(&mut self, now: Time) -> &[u8; COMMON] {
        self.turn_to(now);
        &self.common
    }

    /// `now` as in RFC 3339, to the millisecond, in UTC.
    #[inline]
    pub(super) fn rfc3339(&mut self, now: Time) -> &[u8; RFC3339] {
        let millis = self.turn_to(now) / 1_000_000;
        let [.., hundreds, tens, ones, _] = &mut self.rfc3339;
        [*hundreds, *tens, *ones] = three_digits(millis as u32);
        &self.rfc3339
    }

    /// Writes out the second of `now`, and tells how many nanoseconds of it are over.
    #[inline]
    fn turn_to(&mut self, now: Time) -> u64 {
        match self.second.map(|second| now.0.wrapping_sub(second)) {
            Some(over @ 0..SECOND) => over,
            _ => self.write_second(now),
        }
    }

    #[cold]
    fn write_second(&mut self, now: Time) -> u64 {
        let unix = self.then + now.since(self.now);
        let over = u64::from(unix.subsec_nanos());
        self.second = Some(now.0.wrapping_sub(over));
        // "Sun, 22 Nov 2026 16:07:22 GMT" has all the parts, in another order.
        let mut date = [b' '; 29];
        let mut rest = date.as_mut_slice();
        // It fits: its length is always the same.
        let _ = write!(rest, "{}", HttpDate::from(UNIX_EPOCH + unix));
        let [day, month, year, time] =
            [5..7, 8..11, 12..16, 17..25].map(|part| date.get(part).unwrap_or_default());
        let found = MONTHS.chunks_exact(3).position(|name| name == month);
        let number = found.map_or(0, |place| place as u8 + 1);
        self.common = joined(&[day, b"/", month, b"/", year, b":", time, b" +0000"]);
        let number = [b'0' + number / 10, b'0' + number % 10];
        self.rfc3339 = joined(&[year, b"-", &number, b"-", day, b"T", time, b".000Z"]);
        over
    }
}

/// The three last digits of `number`.
#[inline]
pub(super) fn three_digits(number: u32) -> [u8; 3] {
    let (hundreds, rest) = (number / 100 % 10, number % 100);
    [hundreds, rest / 10, rest % 10].map(|digit| b'0' + digit as u8)
}

/// `parts` behind each other, which make up so many bytes.
fn joined<const BYTES: usize>(parts: &[&[u8]]) -> [u8; BYTES] {
    let mut bytes = parts.iter().copied().flatten();
    std::array::from_fn(|_| bytes.next().copied().unwrap_or(b' '))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(clock: &mut Clock, now: Time) -> (String, String) {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        (text(clock.common(now)), text(clock.rfc3339(now)))
    }

    #[test]
    fn both_formats_show_the_same_moment() {
        let date = UNIX_EPOCH + Duration::from_millis(1_795_363_642_086);
        let began = Time(5_000_000);
        let mut clock = Clock::new(began, date);
        let at = |millis| began + Duration::from_millis(millis);
        assert_eq!(
            shown(&mut clock, began),
            (
                "22/Nov/2026:16:07:22 +0000".to_owned(),
                "2026-11-22T16:07:22.086Z".to_owned()
            )
        );
        assert_eq!(shown(&mut clock, at(913)).1, "2026-11-22T16:07:22.999Z");
        assert_eq!(
            shown(&mut clock, at(914)),
            (
                "22/Nov/2026:16:07:23 +0000".to_owned(),
                "2026-11-22T16:07:23.000Z".to_owned()
            )
        );
    }

    #[test]
    fn a_clock_that_was_put_back_is_believed() {
        let mut clock = Clock::new(Time(0), UNIX_EPOCH + Duration::from_secs(86_400 * 366));
        assert_eq!(shown(&mut clock, Time(0)).1, "1971-01-02T00:00:00.000Z");
        clock.set(Time(7), UNIX_EPOCH);
        assert_eq!(shown(&mut clock, Time(7)).1, "1970-01-01T00:00:00.000Z");
    }

    #[test]
    fn every_month_has_its_number() {
        let mut clock = Clock::new(Time(0), UNIX_EPOCH);
        let mut seen = std::collections::BTreeSet::new();
        for day in 0..365 {
            let (common, sortable) = shown(&mut clock, Time(0) + Duration::from_secs(day * 86_400));
            let (month, name) = (sortable[5..7].to_owned(), common[3..6].to_owned());
            assert_eq!((&sortable[..4], &sortable[8..10]), ("1970", &common[..2]));
            seen.insert((month, name));
        }
        let names: String = seen.iter().map(|(_, name)| name.as_str()).collect();
        assert_eq!(names.as_bytes(), MONTHS);
    }
}
