//! The values behind options, from text: whole numbers, durations, yes and no, paths of checks.
//!
//! Every function is pure. An error is a noun phrase that continues "expected …".

use std::time::Duration;

use crate::config::StickyBy;
use crate::http::grammar;

/// No duration is longer than this: 365 days.
const TIME_MAX: Duration = Duration::from_secs(365 * 24 * 3600);
/// No duration but an allowed zero is shorter: the poll rounds up to whole milliseconds.
const TIME_MIN: Duration = Duration::from_millis(1);
/// The longest target of a check, in bytes; the limit for clients' targets as well.
const CHECK_PATH_BYTES_MAX: usize = 8192;
/// The longest name of an origin, in bytes: it travels in a response field.
const NAME_BYTES_MAX: usize = 64;

const A_TIME: &str = "a duration from 1ms to 8760h, like 250ms, 5s, 2m, 1h or 1.5 (seconds)";

/// What a value should have been, as words behind "expected".
pub(super) type Expected = String;

/// A decimal number without sign, from `least` to `most`.
pub(super) fn whole<T: TryFrom<u64>>(text: &str, least: u64, most: u64) -> Result<T, Expected> {
    let too_small = || format!("a whole number of at least {least}");
    let too_large = || format!("a whole number of at most {most}");
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(too_small());
    }
    match text.parse::<u64>() {
        Ok(number) if number < least => Err(too_small()),
        Ok(number) if number <= most => T::try_from(number).map_err(|_| too_large()),
        _ => Err(too_large()),
    }
}

/// A duration from one millisecond to a year; without a unit it means seconds.
pub(super) fn time(text: &str) -> Result<Duration, Expected> {
    nanoseconds(text)
        .filter(|time| (TIME_MIN..=TIME_MAX).contains(time))
        .ok_or_else(|| A_TIME.to_owned())
}

/// A duration as [`time`] reads it, or zero.
pub(super) fn time_or_zero(text: &str) -> Result<Duration, Expected> {
    nanoseconds(text)
        .filter(|time| time.is_zero() || (TIME_MIN..=TIME_MAX).contains(time))
        .ok_or_else(|| format!("0 or {A_TIME}"))
}

/// Statuses of 400 to 599 between commas; nothing: none.
pub(super) fn statuses(text: &str) -> Result<Vec<u16>, Expected> {
    if text.is_empty() {
        return Ok(Vec::new());
    }
    text.split(',')
        .map(|status| whole(status.trim(), 400, 599))
        .collect::<Result<_, _>>()
        .map_err(|_| "statuses from 400 to 599 between commas, like 502,503".to_owned())
}

/// The words for yes and no.
pub(super) fn truth(text: &str) -> Result<bool, Expected> {
    let is = |words: [&str; 3]| words.iter().any(|word| word.eq_ignore_ascii_case(text));
    if is(["1", "true", "yes"]) {
        Ok(true)
    } else if is(["0", "false", "no"]) {
        Ok(false)
    } else {
        Err("1, 0, true, false, yes or no".to_owned())
    }
}

/// How often a repeatable flag counts: 0 to 2, or yes and no.
pub(super) fn times(text: &str) -> Result<i8, Expected> {
    match (truth(text), text) {
        (Ok(given), _) => Ok(i8::from(given)),
        (Err(_), "2") => Ok(2),
        (Err(_), _) => Err("0, 1 or 2".to_owned()),
    }
}

/// An origin-form target (RFC 9112 §3.2.1) that needs no escaping.
pub(super) fn check_path(text: &str) -> Result<String, Expected> {
    if !text.starts_with('/') {
        return Err("a path that begins with /".to_owned());
    }
    if !text
        .bytes()
        .all(|byte| byte.is_ascii_graphic() && byte != b'#')
    {
        return Err("a path without blanks, control characters, # or other than ascii".to_owned());
    }
    if text.len() > CHECK_PATH_BYTES_MAX {
        return Err(format!("a path of at most {CHECK_PATH_BYTES_MAX} bytes"));
    }
    Ok(text.to_owned())
}

/// A server's share of the work, 0.001 to 1000, without sign or exponent.
pub(super) fn weight(text: &str) -> Result<f64, Expected> {
    let plain = text
        .bytes()
        .all(|byte| byte.is_ascii_digit() || byte == b'.');
    match text.parse::<f64>() {
        Ok(weight) if plain && (0.001..=1000.0).contains(&weight) => Ok(weight),
        _ => Err("a weight from 0.001 to 1000".to_owned()),
    }
}

/// A share of the whole, 0 to 1, as a fraction or in percent, without sign or exponent.
pub(super) fn share(text: &str) -> Result<f64, Expected> {
    let (number, whole) = match text.strip_suffix('%') {
        Some(number) => (number, 100.0),
        None => (text, 1.0),
    };
    let plain = number
        .bytes()
        .all(|byte| byte.is_ascii_digit() || byte == b'.');
    match number.parse::<f64>() {
        Ok(number) if plain && (0.0..=whole).contains(&number) => Ok(number / whole),
        _ => Err("a share from 0 to 1, like 0.05 or 5%".to_owned()),
    }
}

/// A name that can stand in a header field as it is.
pub(super) fn name(text: &str) -> Result<String, Expected> {
    let plain = text.bytes().all(|byte| byte.is_ascii_graphic());
    if plain && (1..=NAME_BYTES_MAX).contains(&text.len()) {
        Ok(text.to_owned())
    } else {
        Err(format!(
            "a name of 1 to {NAME_BYTES_MAX} visible ascii characters without blanks"
        ))
    }
}

/// `cookie`, `cookie=NAME` or `ip`.
pub(super) fn sticky(text: &str) -> Result<StickyBy, Expected> {
    let is_name = |name: &str| {
        (1..=NAME_BYTES_MAX).contains(&name.len()) && grammar::is_token(name.as_bytes())
    };
    match text.split_once('=') {
        None if text == "cookie" => Ok(StickyBy::Cookie("bestguess".to_owned())),
        None if text == "ip" => Ok(StickyBy::Address),
        Some(("cookie", name)) if is_name(name) => Ok(StickyBy::Cookie(name.to_owned())),
        Some(("cookie", _)) => Err(format!(
            "a cookie's name of 1 to {NAME_BYTES_MAX} letters, digits and marks like - and _"
        )),
        _ => Err("cookie, cookie=NAME or ip".to_owned()),
    }
}

/// The path of a file or folder; it need not exist.
pub(super) fn path(text: &str) -> Result<std::path::PathBuf, Expected> {
    if text.is_empty() || text.contains('\0') {
        return Err("a path that is not empty".to_owned());
    }
    Ok(text.into())
}

/// Reads a duration exactly, in integers: a float would lose the end of long ones and could
/// overflow. None: malformed, or far beyond the limits.
fn nanoseconds(text: &str) -> Option<Duration> {
    let number_ends = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(number_ends);
    let unit_nanoseconds: u64 = match unit {
        "ms" => 1_000_000,
        "" | "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return None,
    };
    let (whole, fraction) = match number.split_once('.') {
        Some((_, "")) => return None,
        Some(parts) => parts,
        None if number.is_empty() => return None,
        None => (number, "0"),
    };
    let whole = if whole.is_empty() { "0" } else { whole };
    // 11 digits hold a year in milliseconds; with both bounds no product below can overflow.
    if whole.len() > 11 || fraction.len() > 9 {
        return None;
    }
    let part = u128::from(fraction.parse::<u64>().ok()?) * u128::from(unit_nanoseconds)
        / 10u128.pow(u32::try_from(fraction.len()).ok()?);
    let total = u128::from(whole.parse::<u64>().ok()?) * u128::from(unit_nanoseconds) + part;
    u64::try_from(total).ok().map(Duration::from_nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_with_and_without_a_unit() {
        for (text, milliseconds) in [
            ("5s", 5_000),
            ("250ms", 250),
            ("1.5", 1_500),
            (".5", 500),
            ("3", 3_000),
            ("2m", 120_000),
            ("1h", 3_600_000),
            ("0.25h", 900_000),
            ("1.5ms", 1),
            ("8760h", 31_536_000_000),
            ("31536000000ms", 31_536_000_000),
        ] {
            assert_eq!(time(text).unwrap().as_millis(), milliseconds, "{text}");
        }
        assert_eq!(
            time("1.000000001").unwrap(),
            Duration::from_nanos(1_000_000_001)
        );
    }

    #[test]
    fn zero_absurd_and_malformed_durations_are_refused() {
        for text in [
            "",
            "0",
            "0s",
            "0.0",
            "0.0001",
            "8761h",
            "366d",
            "5.",
            ".",
            "1.2.3",
            "-1",
            "+1",
            "1e3",
            "s",
            "ms",
            "5 s",
            " 5",
            "5S",
            "99999999999999999999999h",
            "99999999999h",
            "1.0000000001",
            "inf",
            "NaN",
            "٣",
        ] {
            let taken = time(text);
            assert!(taken.is_err(), "{text} became {taken:?}");
        }
        assert_eq!(time_or_zero("0").unwrap(), Duration::ZERO);
        assert_eq!(time_or_zero("20ms").unwrap(), Duration::from_millis(20));
        assert!(time_or_zero("8761h").is_err());
    }

    #[test]
    fn statuses_are_a_list() {
        assert_eq!(statuses(""), Ok(Vec::new()));
        assert_eq!(statuses("503"), Ok(vec![503]));
        assert_eq!(statuses("500, 502"), Ok(vec![500, 502]));
        for bad in ["399", "600", "5xx", "500,", ",", "500 502"] {
            assert!(statuses(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn whole_numbers_keep_to_their_range() {
        assert_eq!(whole::<u32>("7", 1, 10), Ok(7));
        assert_eq!(
            whole::<u64>("18446744073709551615", 0, u64::MAX),
            Ok(u64::MAX)
        );
        for (text, expected) in [
            ("", "at least 1"),
            ("abc", "at least 1"),
            ("-5", "at least 1"),
            ("+5", "at least 1"),
            ("1.5", "at least 1"),
            ("0", "at least 1"),
            ("11", "at most 10"),
            ("99999999999999999999999", "at most 10"),
        ] {
            assert!(
                whole::<u32>(text, 1, 10).unwrap_err().ends_with(expected),
                "{text}"
            );
        }
        assert!(whole::<u8>("300", 0, 1000).is_err());
    }

    #[test]
    fn weights_are_plain_numbers_above_zero() {
        assert_eq!(weight("0.5"), Ok(0.5));
        assert_eq!(weight("3"), Ok(3.0));
        for text in [
            "", "0", "0.0", "-1", "1e3", "inf", "nan", "1001", "0.0009", ".",
        ] {
            assert!(weight(text).is_err(), "{text}");
        }
    }

    #[test]
    fn shares_are_fractions_or_percent() {
        for (text, expected) in [
            ("0", 0.0),
            ("0.05", 0.05),
            ("5%", 0.05),
            (".5", 0.5),
            ("1", 1.0),
            ("100%", 1.0),
            ("0.1%", 0.001),
        ] {
            assert_eq!(share(text), Ok(expected), "{text}");
        }
        for text in [
            "", "%", "5", "101%", "-0.1", "1e-3", "nan", "5 %", "5%%", "50.0.0%",
        ] {
            assert!(share(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_check_path_is_an_origin_form_target() {
        assert_eq!(check_path("/status?full=1").unwrap(), "/status?full=1");
        for text in [
            "",
            "status",
            "/a b",
            "/a\r\nHost: x",
            "/é",
            "/a#b",
            "http://x/",
        ] {
            assert!(check_path(text).is_err(), "{text}");
        }
        assert!(check_path(&format!("/{}", "a".repeat(CHECK_PATH_BYTES_MAX))).is_err());
    }

    #[test]
    fn yes_and_no_have_three_words_each() {
        assert_eq!(
            ["1", "true", "YES"].map(truth),
            [Ok(true), Ok(true), Ok(true)]
        );
        assert_eq!(
            ["0", "False", "no"].map(truth),
            [Ok(false), Ok(false), Ok(false)]
        );
        assert!(truth("").is_err() && truth("on").is_err());
        assert_eq!(["2", "yes", "0"].map(times), [Ok(2), Ok(1), Ok(0)]);
        assert!(times("3").is_err());
    }

    #[test]
    fn names_can_stand_in_a_field() {
        assert_eq!(name("blue-1").unwrap(), "blue-1");
        for text in ["", "a b", "a\nb", "é", &"x".repeat(65)] {
            assert!(name(text).is_err(), "{text}");
        }
    }
}
