//! The positionals of each command, with what the options have said already.
//!
//! Every word is read before any name is looked up: a lookup can take long, and a mistake that can
//! be seen without one is told at once.

use super::address::{self, Found, Place, Servers};
use super::draft::Draft;
use super::value::Expected;
use super::{Command, Demo, Origin, Program, Resolver, UsageError, one_line, quoted, value};
use crate::config::{AdminConfig, SERVERS_MAX, ServerConfig};
use std::collections::HashSet;
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
    let arguments = server_arguments(words)?;
    let listen = look_up("PORT", port, &listen, resolver)?.address(0);
    let mut config = draft.config;
    let mut known = HashSet::new();
    for (word, servers) in arguments {
        let found = look_up("SERVER", word, &servers.place, resolver)?;
        for offset in 0..servers.place.count() {
            let name = servers.place.name(offset);
            let address = found.address(offset);
            if address.reaches(&listen) {
                let expected = format!("another address than {listen}, where the balancer listens");
                return Err(refuse(program, "SERVER", word, &expected));
            }
            if !known.insert(address.to_string()) {
                let expected = format!("each server once, but {address} is there already");
                return Err(refuse(program, "SERVER", word, &expected));
            }
            let (weight, max) = (servers.weight, servers.max);
            config.servers.push(ServerConfig {
                name,
                address,
                weight,
                max,
                backup: false,
            });
        }
    }
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

/// One SERVER, at an address of numbers.
pub(super) fn server(text: &str) -> Result<ServerConfig, Expected> {
    let servers = address::servers(text)?;
    if servers.place.count() != 1 {
        return Err("one server at a time, e.g. 127.0.0.1:9004".to_owned());
    }
    let never = |_: &str| Err(std::io::ErrorKind::Unsupported.into());
    let found = servers.place.look_up(&never).map_err(|_| {
        "an address of numbers, e.g. 127.0.0.1:9004: to look a name up would hold up all requests"
            .to_owned()
    })?;
    Ok(ServerConfig {
        name: servers.place.name(0),
        address: found.address(0),
        weight: servers.weight,
        max: servers.max,
        backup: false,
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
    place
        .look_up(resolver)
        .map_err(|cause| UsageError::Unresolved {
            argument: format!("{kind} {}", quoted(text)),
            cause: one_line(&cause.to_string()),
        })
}

/// The servers as they were written: at least one, and not too many.
fn server_arguments(words: &[String]) -> Result<Vec<(&String, Servers)>, UsageError> {
    let program = Program::Balancer;
    if words.is_empty() {
        let expected = "expected one or more behind the PORT, e.g. bestguess 8080 9001 9002";
        return Err(program.refuse("SERVER", expected));
    }
    let mut arguments = Vec::with_capacity(words.len());
    let mut count = 0;
    for word in words {
        let servers = address::servers(word)
            .map_err(|expected| refuse(program, "SERVER", word, &expected))?;
        count += servers.place.count();
        if count > SERVERS_MAX {
            let expected = format!("at most {SERVERS_MAX} servers in all");
            return Err(refuse(program, "SERVER", word, &expected));
        }
        arguments.push((word, servers));
    }
    Ok(arguments)
}

/// The error of one positional; `expected` is a noun phrase.
fn refuse(program: Program, kind: &str, text: &str, expected: &str) -> UsageError {
    program.refuse(
        format!("{kind} {}", quoted(text)),
        format!("expected {expected}"),
    )
}
