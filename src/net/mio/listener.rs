//! The socket that clients connect to: bound here, or taken over from systemd or an older process.
//!
//! Knows how to be shared with another process and to leave without harm to it. Who the other process
//! is, `service` knows.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use mio::net::{TcpListener, UnixListener};
use mio::{Interest, Registry};
use socket2::{Domain, SockRef, Type};

use super::Stream;
use crate::config::Address;

/// Connections that the kernel holds while nobody accepts (it may hold fewer: somaxconn).
const BACKLOG: i32 = 4096;

/// A listening socket.
#[derive(Debug)]
pub struct Listener {
    socket: Socket,
    /// Whether the file of a unix socket is to be removed when it is closed for good.
    owns_path: bool,
}

#[derive(Debug)]
enum Socket {
    Tcp(TcpListener),
    Unix(UnixListener, PathBuf),
}

impl Listener {
    /// Listens at `address`. `reuse_port`: beside other processes that do so too, among whom the
    /// kernel spreads the connections; a unix socket knows no such thing.
    ///
    /// # Errors
    /// Those of the operating system: the address is taken, not ours, or not allowed.
    pub fn bind(address: &Address, reuse_port: bool) -> io::Result<Listener> {
        let socket = match address {
            Address::Tcp(address) => Socket::Tcp(listen_tcp(*address, reuse_port)?),
            Address::Unix(path) => {
                remove_stale_socket(path)?;
                Socket::Unix(UnixListener::bind(path)?, path.clone())
            }
        };
        Ok(Listener {
            socket,
            owns_path: true,
        })
    }

    /// Takes over a socket that listens already. `owns_path`: the file of a unix socket is ours to be
    /// removed in the end.
    ///
    /// # Errors
    /// `InvalidInput`, with a text that says what it is instead, if it is not a stream socket that
    /// listens; those of the operating system.
    pub fn adopt(descriptor: OwnedFd, owns_path: bool) -> io::Result<Listener> {
        let wrong = |what: &str| io::Error::new(io::ErrorKind::InvalidInput, what.to_owned());
        let socket = SockRef::from(&descriptor);
        let kind = socket.r#type().map_err(|_| wrong("it is not a socket"))?;
        if kind != Type::STREAM {
            return Err(wrong("it is not a stream socket"));
        }
        if !socket.is_listener()? {
            return Err(wrong("it does not listen"));
        }
        socket.set_cloexec(true)?;
        socket.set_nonblocking(true)?;
        let address = socket.local_addr()?;
        let socket = if address.is_unix() {
            let Some(path) = address.as_pathname() else {
                return Err(wrong("it is an abstract unix socket, not one with a path"));
            };
            let listener = std::os::unix::net::UnixListener::from(descriptor);
            Socket::Unix(UnixListener::from_std(listener), path.to_owned())
        } else if address.as_socket().is_some() {
            socket.set_tcp_nodelay(true)?;
            Socket::Tcp(TcpListener::from_std(descriptor.into()))
        } else {
            return Err(wrong("it is neither a TCP nor a unix socket"));
        };
        Ok(Listener { socket, owns_path })
    }

    /// The address that it really has: the port is the one that the system chose for 0.
    ///
    /// # Errors
    /// Those of the operating system.
    pub fn address(&self) -> io::Result<Address> {
        match &self.socket {
            Socket::Tcp(listener) => listener.local_addr().map(Address::Tcp),
            Socket::Unix(_, path) => Ok(Address::Unix(path.clone())),
        }
    }

    /// A second descriptor of the same socket, for another process, and whether whoever has it last
    /// has to remove the file of a unix socket.
    ///
    /// # Errors
    /// Those of the operating system: no descriptors are left.
    pub fn share(&self) -> io::Result<(OwnedFd, bool)> {
        let descriptor = match &self.socket {
            Socket::Tcp(listener) => listener.as_fd().try_clone_to_owned(),
            Socket::Unix(listener, _) => listener.as_fd().try_clone_to_owned(),
        };
        Ok((descriptor?, self.owns_path))
    }

    pub(super) fn register(&mut self, registry: &Registry, token: mio::Token) -> io::Result<()> {
        match &mut self.socket {
            Socket::Tcp(listener) => registry.register(listener, token, Interest::READABLE),
            Socket::Unix(listener, _) => registry.register(listener, token, Interest::READABLE),
        }
    }

    pub(super) fn accept(&self) -> io::Result<(Stream, Option<SocketAddr>)> {
        match &self.socket {
            Socket::Tcp(listener) => {
                let (stream, peer) = listener.accept()?;
                Ok((Stream::Tcp(stream), Some(peer)))
            }
            Socket::Unix(listener, _) => Ok((Stream::Unix(listener.accept()?.0), None)),
        }
    }

    /// Closes it for good: nobody else has it.
    pub(super) fn close(self, registry: &Registry) {
        let path = match &self.socket {
            Socket::Unix(_, path) if self.owns_path => Some(path.clone()),
            _ => None,
        };
        self.leave(registry);
        if let Some(path) = path {
            // Whoever finds the path now gets "no such file" instead of a refusal; either will do.
            let _ = std::fs::remove_file(path);
        }
    }

    /// Lets go of it: another process has it too, and serves whoever waits at it.
    pub(super) fn leave(mut self, registry: &Registry) {
        // While anybody has the socket open, the kernel would go on telling us of it.
        let _ = match &mut self.socket {
            Socket::Tcp(listener) => registry.deregister(listener),
            Socket::Unix(listener, _) => registry.deregister(listener),
        };
    }
}

/// A listener whose connections inherit TCP_NODELAY, with a deep backlog.
fn listen_tcp(address: SocketAddr, reuse_port: bool) -> io::Result<TcpListener> {
    let socket = socket2::Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    // A port that an earlier process left in TIME_WAIT can be taken again at once.
    socket.set_reuse_address(true)?;
    if reuse_port {
        socket.set_reuse_port(true)?;
    }
    socket.set_tcp_nodelay(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(TcpListener::from_std(socket.into()))
}

/// Removes a socket file at which nobody listens any more; whatever else is there stays.
fn remove_stale_socket(path: &Path) -> io::Result<()> {
    let is_socket = std::fs::metadata(path).is_ok_and(|found| found.file_type().is_socket());
    if is_socket {
        let refused = std::os::unix::net::UnixStream::connect(path)
            .is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused);
        if refused {
            std::fs::remove_file(path)?;
        }
    }
    Ok(())
}
