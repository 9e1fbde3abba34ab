//! The positionals of each command, with what the options have said already.
//!
//! Every word is read before any name is looked up: a lookup can take long, and a mistake that can
//! be seen without one is told at once.

use super::address::{self, Found, Place};
use super::completions::{self, SHELLS};
use super::draft::Draft;
use super::manual;
use super::option::listed;
use super::servers::{self, Source};
use super::{Command, Demo, Origin, Program, Resolver, UsageError, quoted, value};
use crate::config::{AdminConfig, Handed};
use std::net::Ipv4Addr;

/// systemd's names of sockets are shorter, in bytes.
const HANDED_NAME_BYTES: usize = 256;

/// `PORT SERVER...`
pub(super) fn balancer(
    draft: Draft,
    words: &[String],
    resolver: &Resolver<'_>,
) -> Result<Command, UsageError> {
    let program = Program::Balancer;
    let Some((port, words)) = words.split_first() else {
        let expected = "expected a port to listen at, then servers, e.g. bestguess 8080 9001 9002";
        return Err(program.refuse("PORT", expected));
    };
    let mut config = draft.config;
    // Of a socket that is handed over nothing is known yet.
    config.listen_handed = handed(port)?;
    let place = match config.listen_handed {
        Some(_) => "0",
        None => port,
    };
    let listen = address::listener(place, Ipv4Addr::UNSPECIFIED)
        .map_err(|expected| refuse(program, "PORT", port, &expected))?;
    config.source.arguments = words.to_vec();
    let source = Source::read(&config.source)?;
    let listen = look_up("PORT", port, &listen, resolver)?.address(0);
    config.servers = source.look_up(&listen, resolver)?;
    config.admin = match (&draft.admin, draft.admin_token) {
        (Some((text, place)), token) => {
            let listen = look_up("--admin", text, place, resolver)?.address(0);
            Some(AdminConfig { listen, token })
        }
        (None, Some(_)) => {
            let expected = "expected --admin beside it, which is what it protects";
            return Err(program.refuse("--admin-token", expected));
        }
        (None, None) => None,
    };
    config.listen = listen;
    let config = Box::new(config);
    Ok(if draft.test {
        Command::Test(config)
    } else {
        Command::Serve(config)
    })
}

/// `PORT [DIR]`
pub(super) fn origin(
    mut origin: Origin,
    words: &[String],
    resolver: &Resolver<'_>,
) -> Result<Origin, UsageError> {
    let program = Program::Origin;
    let (port, dir) = match words {
        [] => {
            let expected = "expected a port to listen at, e.g. bestguess origin 9001";
            return Err(program.refuse("PORT", expected));
        }
        [port] => (port, None),
        [port, dir] => (port, Some(dir)),
        [_, _, more, ..] => {
            return Err(program.refuse(quoted(more), "expected nothing behind PORT and DIR"));
        }
    };
    let place = address::listener(port, Ipv4Addr::LOCALHOST)
        .map_err(|expected| refuse(program, "PORT", port, &expected))?;
    if let Some(dir) = dir {
        let path = value::path(dir).map_err(|expected| refuse(program, "DIR", dir, &expected))?;
        origin.dir = Some(path);
    }
    origin.listen = look_up("PORT", port, &place, resolver)?.address(0);
    Ok(origin)
}

/// Nothing behind the options.
pub(super) fn upgrade(draft: &Draft, words: &[String]) -> Result<Option<u32>, UsageError> {
    match words {
        [] => Ok(draft.pid),
        [more, ..] => {
            let expected = "expected no more, e.g. bestguess upgrade --pid 4711";
            Err(Program::Upgrade.refuse(quoted(more), expected))
        }
    }
}

/// `[PORT]`
pub(super) fn demo(words: &[String]) -> Result<Demo, UsageError> {
    let program = Program::Demo;
    match words {
        [] => Ok(Demo { port: None }),
        [port] => match value::whole(port, 0, 65535) {
            Ok(port) => Ok(Demo { port: Some(port) }),
            Err(_) => {
                let expected = "expected a port from 0 to 65535, e.g. bestguess demo 8080";
                Err(program.refuse(format!("PORT {}", quoted(port)), expected))
            }
        },
        [_, more, ..] => Err(program.refuse(quoted(more), "expected nothing behind PORT")),
    }
}

/// `fd:NUMBER` or `fd:NAME`; none: it is something else.
fn handed(port: &str) -> Result<Option<Handed>, UsageError> {
    let Some(which) = port.strip_prefix("fd:") else {
        return Ok(None);
    };
    let is_number = !which.is_empty() && which.bytes().all(|byte| byte.is_ascii_digit());
    let is_name = !which.is_empty()
        && which.len() < HANDED_NAME_BYTES
        && which
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && byte != b':');
    match (is_number, is_name) {
        (true, _) => match value::whole(which, 3, 66) {
            Ok(number) => Ok(Some(Handed::Number(number))),
            Err(_) => {
                let expected = "a number from 3 to 66 behind fd:, as systemd counts, e.g. fd:3";
                Err(refuse(Program::Balancer, "PORT", port, expected))
            }
        },
        (false, true) => Ok(Some(Handed::Name(which.to_owned()))),
        (false, false) => {
            let expected = "a number or a name of FileDescriptorName= behind fd:, e.g. fd:3";
            Err(refuse(Program::Balancer, "PORT", port, expected))
        }
    }
}

/// `SHELL`
pub(super) fn completions(words: &[String]) -> Result<String, UsageError> {
    let program = Program::Completions;
    let expected = format!("expected {}", listed(&SHELLS));
    match words {
        [shell] if SHELLS.contains(&shell.as_str()) => Ok(completions::completions(shell)),
        [] => Err(program.refuse("SHELL", expected)),
        [shell] => Err(program.refuse(format!("SHELL {}", quoted(shell)), expected)),
        [_, more, ..] => Err(program.refuse(quoted(more), "expected nothing behind SHELL")),
    }
}

/// Nothing.
pub(super) fn manual(words: &[String]) -> Result<String, UsageError> {
    match words {
        [] => Ok(manual::manual()),
        [more, ..] => Err(Program::Man.refuse(quoted(more), "expected nothing behind man")),
    }
}

fn look_up(
    kind: &str,
    text: &str,
    place: &Place,
    resolver: &Resolver<'_>,
) -> Result<Found, UsageError> {
    servers::look_up(&format!("{kind} {}", quoted(text)), place, resolver)
}

/// The error of one positional; `expected` is a noun phrase.
fn refuse(program: Program, kind: &str, text: &str, expected: &str) -> UsageError {
    program.refuse(
        format!("{kind} {}", quoted(text)),
        format!("expected {expected}"),
    )
}
