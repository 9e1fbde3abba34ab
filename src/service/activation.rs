//! Sockets that systemd opened for us: LISTEN_FDS, LISTEN_PID and LISTEN_FDNAMES, as
//! sd_listen_fds(3) describes them.
//!
//! A number cannot become a descriptor in safe code; the package listenfd is the one place that does
//! it for us. Which socket is meant is decided here, whether it is one to listen at by `Listener`.

use std::fmt;
use std::io;
use std::os::fd::OwnedFd;

use listenfd::ListenFd;

use super::notify::Environment;
use crate::config::{Address, Handed};
use crate::net::mio::Listener;

/// The number of the first one.
const FIRST: usize = 3;
/// More were never meant for a balancer.
const SOCKETS_MAX: usize = 64;

/// The sockets that nobody has chosen yet.
#[derive(Debug, Default)]
pub(super) struct Sockets(Vec<Socket>);

#[derive(Debug)]
struct Socket {
    number: usize,
    name: String,
    /// Taken by nobody: none once it was. The error says what it is not.
    descriptor: io::Result<OwnedFd>,
}

impl Sockets {
    /// Those that are meant for the process `pid`.
    ///
    /// # Errors
    /// `InvalidInput` if there are too many of them.
    pub(super) fn take(env: &Environment<'_>, pid: u32) -> io::Result<Sockets> {
        let number = |name| env(name)?.to_str()?.parse::<usize>().ok();
        if number("LISTEN_PID") != usize::try_from(pid).ok() {
            return Ok(Sockets::default());
        }
        let Some(count) = number("LISTEN_FDS").filter(|count| *count > 0) else {
            return Ok(Sockets::default());
        };
        if count > SOCKETS_MAX {
            return Err(wrong(format!(
                "LISTEN_FDS={count}: expected at most {SOCKETS_MAX} sockets"
            )));
        }
        let names = env("LISTEN_FDNAMES").unwrap_or_default();
        let names = names.to_string_lossy();
        let mut names = names.split(':');
        let mut handed = ListenFd::from_env();
        let sockets = (0..count).map(|index| Socket {
            number: FIRST + index,
            name: names.next().unwrap_or_default().to_owned(),
            descriptor: descriptor(&mut handed, index),
        });
        Ok(Sockets(sockets.collect()))
    }

    /// The socket to listen at: the one that was asked for, else the one that listens at `address`;
    /// none if systemd handed nothing over.
    ///
    /// # Errors
    /// `InvalidInput` if there is no such socket, or it is none to listen at.
    pub(super) fn choose(
        &mut self,
        asked: Option<&Handed>,
        address: &Address,
    ) -> io::Result<Option<Listener>> {
        if self.0.is_empty() {
            return match asked {
                None => Ok(None),
                Some(asked) => Err(wrong(format!(
                    "cannot listen at {asked}: no sockets were handed over (LISTEN_FDS); start it by a socket unit, or give it a port"
                ))),
            };
        }
        let Some(place) = self.0.iter().position(|socket| match asked {
            Some(Handed::Number(number)) => socket.number == *number,
            Some(Handed::Name(name)) => socket.name == *name,
            None => socket.listens_at(address),
        }) else {
            let asked = match asked {
                Some(asked) => format!("no socket {asked}"),
                None => format!("none at {address}"),
            };
            let there: Vec<String> = self.0.iter().map(Socket::to_string).collect();
            return Err(wrong(format!(
                "{asked} was handed over, but {}; write fd:NUMBER or fd:NAME in the place of PORT",
                there.join(", ")
            )));
        };
        let socket = self.0.swap_remove(place);
        let title = socket.to_string();
        let listener = socket
            .descriptor
            .and_then(|descriptor| Listener::adopt(descriptor, false));
        let listener =
            listener.map_err(|cause| wrong(format!("cannot listen at {title}: {cause}")))?;
        Ok(Some(listener))
    }
}

impl Socket {
    fn address(&self) -> Option<Address> {
        let descriptor = self.descriptor.as_ref().ok()?;
        let address = socket2::SockRef::from(descriptor).local_addr().ok()?;
        match address.as_pathname() {
            Some(path) => Some(Address::Unix(path.to_owned())),
            None => address.as_socket().map(Address::Tcp),
        }
    }

    /// Whether connections to `address` arrive there. systemd's `ListenStream=8080` is `[::]:8080`,
    /// which takes those for IPv4 too.
    fn listens_at(&self, address: &Address) -> bool {
        match (self.address(), address) {
            (Some(Address::Tcp(ours)), Address::Tcp(asked)) => {
                let is_wide = ours.ip().is_unspecified() && asked.ip().is_unspecified();
                ours.port() == asked.port() && (ours.ip() == asked.ip() || is_wide)
            }
            (ours, asked) => ours.as_ref() == Some(asked),
        }
    }
}

impl fmt::Display for Socket {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "fd:{}", self.number)?;
        if !self.name.is_empty() {
            write!(out, " (fd:{})", self.name.escape_debug())?;
        }
        match self.address() {
            Some(address) => write!(out, " at {address}"),
            None => Ok(()),
        }
    }
}

fn descriptor(handed: &mut ListenFd, index: usize) -> io::Result<OwnedFd> {
    if let Ok(Some(listener)) = handed.take_tcp_listener(index) {
        return Ok(listener.into());
    }
    match handed.take_unix_listener(index) {
        Ok(Some(listener)) => Ok(listener.into()),
        _ => Err(wrong(
            "it is neither a TCP nor a unix stream socket".to_owned(),
        )),
    }
}

fn wrong(text: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};

    fn sockets(descriptors: Vec<(&str, io::Result<OwnedFd>)>) -> Sockets {
        let made = descriptors.into_iter().enumerate();
        Sockets(
            made.map(|(index, (name, descriptor))| Socket {
                number: FIRST + index,
                name: name.to_owned(),
                descriptor,
            })
            .collect(),
        )
    }

    fn listener() -> (OwnedFd, Address) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = Address::Tcp(listener.local_addr().unwrap());
        (listener.into(), address)
    }

    #[test]
    fn a_socket_is_chosen_by_number_by_name_or_by_address() {
        let elsewhere = Address::Tcp("127.0.0.1:1".parse().unwrap());
        for asked in [
            Some(Handed::Number(4)),
            Some(Handed::Name("web".to_owned())),
            None,
        ] {
            let (one, two) = (listener(), listener());
            let address = two.1.clone();
            let mut sockets = sockets(vec![("other", Ok(one.0)), ("web", Ok(two.0))]);
            let wanted = if asked.is_some() {
                &elsewhere
            } else {
                &address
            };
            let chosen = sockets.choose(asked.as_ref(), wanted).unwrap().unwrap();
            assert_eq!(chosen.address().unwrap(), address);
        }
    }

    #[test]
    fn all_interfaces_are_all_interfaces_whatever_the_family() {
        let Ok(wide) = TcpListener::bind("[::]:0") else {
            return assert!(TcpListener::bind("[::1]:0").is_err(), "IPv6 is there");
        };
        let port = wide.local_addr().unwrap().port();
        let mut sockets = sockets(vec![("", Ok(wide.into()))]);
        let asked = Address::Tcp(([0, 0, 0, 0], port).into());
        assert!(sockets.choose(None, &asked).unwrap().is_some());
    }

    #[test]
    fn what_is_not_there_or_not_to_be_listened_at_is_refused_by_name() {
        let (descriptor, address) = listener();
        let far = Address::Tcp("127.0.0.1:1".parse().unwrap());
        let mut there = sockets(vec![("web", Ok(descriptor))]);
        let refused = there.choose(None, &far).unwrap_err().to_string();
        assert!(refused.contains("none at 127.0.0.1:1"), "{refused}");
        assert!(
            refused.contains(&format!("fd:3 (fd:web) at {address}")),
            "{refused}"
        );
        let asked = Handed::Name("admin".to_owned());
        let refused = there.choose(Some(&asked), &far).unwrap_err().to_string();
        assert!(refused.contains("no socket fd:admin"), "{refused}");
        let refused = Sockets::default().choose(Some(&asked), &far);
        assert!(refused.unwrap_err().to_string().contains("socket unit"));
        assert!(Sockets::default().choose(None, &far).unwrap().is_none());

        let (there, _) = listener();
        let there = TcpListener::from(there);
        let connected = TcpStream::connect(there.local_addr().unwrap()).unwrap();
        let mut sockets = sockets(vec![("", Ok(connected.into()))]);
        let asked = Handed::Number(3);
        let refused = sockets.choose(Some(&asked), &far).unwrap_err().to_string();
        assert!(refused.contains("it does not listen"), "{refused}");
    }

    #[test]
    fn what_is_meant_for_another_process_is_left_alone() {
        let env = |name: &str| match name {
            "LISTEN_PID" => Some("1".into()),
            "LISTEN_FDS" => Some("1".into()),
            _ => None,
        };
        assert!(Sockets::take(&env, 2).unwrap().0.is_empty());
        let many = |name: &str| match name {
            "LISTEN_PID" => Some("2".into()),
            "LISTEN_FDS" => Some("999999999".into()),
            _ => None,
        };
        let refused = Sockets::take(&many, 2).unwrap_err().to_string();
        assert!(refused.contains("at most 64"), "{refused}");
    }
}
