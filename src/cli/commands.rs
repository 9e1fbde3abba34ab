//! The positionals of each command, with what the options have said already.
//!
//! Every word is read before any name is looked up: a lookup can take long, and a mistake that can
//! be seen without one is told at once.

use super::address::{self, Found, Place};
use super::draft::Draft;
use super::servers::{self, Source};
use super::{Command, Demo, Origin, Program, Resolver, UsageError, quoted, value};
use crate::config::AdminConfig;
use std::net::Ipv4Addr;

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
    let listen = address::listener(port, Ipv4Addr::UNSPECIFIED)
        .map_err(|expected| refuse(program, "PORT", port, &expected))?;
    let mut config = draft.config;
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
