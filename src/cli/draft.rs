//! What the options have said so far, and how their values are stored.

use super::Origin;
use super::address::{self, Place};
use super::value::{self, Expected};
use crate::config::{Address, CheckMode, Config, LogFormat, LogTarget, Policy};
use std::net::{Ipv4Addr, SocketAddr};

/// A text that was asked for instead of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    Help,
    Version,
}

/// What the options have said so far; addresses come afterwards.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Draft {
    pub(super) config: Config,
    pub(super) origin: Origin,
    /// Where the admin listens, as it was written.
    pub(super) admin: Option<(String, Place)>,
    pub(super) admin_token: Option<String>,
    pub(super) test: bool,
    pub(super) pid: Option<u32>,
    pub(super) answer: Option<Answer>,
    pub(super) verbose: i8,
    pub(super) quiet: i8,
}

impl Draft {
    /// All defaults, with no address yet.
    pub(super) fn new() -> Draft {
        let nowhere = Address::Tcp(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)));
        Draft {
            config: Config::new(nowhere.clone(), Vec::new()),
            origin: Origin::new(nowhere),
            admin: None,
            admin_token: None,
            test: false,
            pid: None,
            answer: None,
            verbose: 0,
            quiet: 0,
        }
    }
}

/// Stores a value that was found good.
pub(super) fn put<T>(place: &mut T, value: Result<T, Expected>) -> Result<(), Expected> {
    *place = value?;
    Ok(())
}

/// `--check`
pub(super) fn check_mode(draft: &mut Draft, text: &str) -> Result<(), Expected> {
    draft.config.check.mode = match text {
        "report" => CheckMode::Report,
        "http" => CheckMode::Http,
        "tcp" => CheckMode::Tcp,
        "off" => CheckMode::Off,
        _ => return Err("a known mode".to_owned()),
    };
    Ok(())
}

/// `--policy`
pub(super) fn policy(draft: &mut Draft, text: &str) -> Result<(), Expected> {
    draft.config.policy = match text {
        "best-guess" => Policy::BestGuess,
        "least-load" => Policy::LeastLoad,
        "round-robin" => Policy::RoundRobin,
        "least-conn" => Policy::LeastConn,
        "random" => Policy::Random,
        "p2c" => Policy::PowerOfTwo,
        _ => return Err("a known policy".to_owned()),
    };
    Ok(())
}

/// `--access-log`
pub(super) fn access_log(draft: &mut Draft, text: &str) -> Result<(), Expected> {
    draft.config.access_log = Some(match text {
        "-" => LogTarget::Stdout,
        _ => LogTarget::File(value::path(text)?),
    });
    Ok(())
}

/// `--admin`
pub(super) fn admin(draft: &mut Draft, text: &str) -> Result<(), Expected> {
    let place = address::listener(text, Ipv4Addr::LOCALHOST)?;
    draft.admin = Some((text.to_owned(), place));
    Ok(())
}

/// `--admin-token`
pub(super) fn admin_token(draft: &mut Draft, text: &str) -> Result<(), Expected> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("visible characters without blanks, or @ and the path of a file".to_owned());
    }
    draft.admin_token = Some(text.to_owned());
    Ok(())
}

/// `--log-format`
pub(super) fn log_format(draft: &mut Draft, text: &str) -> Result<(), Expected> {
    draft.config.log_format = match text {
        "combined" => LogFormat::Combined,
        "json" => LogFormat::Json,
        _ => return Err("a known format".to_owned()),
    };
    Ok(())
}

/// The first text that is asked for is given.
pub(super) fn answer(draft: &mut Draft, answer: Answer) -> Result<(), Expected> {
    draft.answer = draft.answer.or(Some(answer));
    Ok(())
}

/// Counts a repeatable flag; no number of repetitions overflows.
pub(super) fn count(place: &mut i8, text: &str) -> Result<(), Expected> {
    *place = place.saturating_add(value::times(text)?);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counting_a_flag_never_overflows() {
        let mut verbose = 0;
        for _ in 0..1000 {
            count(&mut verbose, "2").unwrap();
        }
        assert_eq!(verbose, i8::MAX);
    }
}
