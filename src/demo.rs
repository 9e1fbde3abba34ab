//! The demonstration: three built-in servers and a balancer before them, in one process.
//!
//! Each server has a thread and a network of its own, as if it were a process; only the balancer
//! hears signals. When it has ended, the servers are told to end too.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use log::warn;

use crate::chance;
use crate::cli;
use crate::config::{Address, Config, ServerConfig};
use crate::net::mio::MioNet;
use crate::origin::{Origin, say};
use crate::proxy::{Flow, Proxy};

/// What the servers are called.
const NAMES: [&str; 3] = ["one", "two", "three"];
/// The port unless told.
const PORT: u16 = 8080;
/// What they serve at `/`.
const PAGE: &str = include_str!("origin/demo.html");
/// Clients at once, of the balancer and of each server.
const CLIENTS_MAX: usize = 256;
/// How often the servers are asked how they are.
const CHECK_EVERY: Duration = Duration::from_secs(1);
/// How long a try to wake a server takes at most.
const WAKE_TIMEOUT: Duration = Duration::from_secs(1);

/// Runs the demonstration until a signal ends it; says on standard output where it is to be seen.
///
/// # Errors
/// The port that was asked for is taken, or a network failed.
pub fn run(settings: &cli::Demo) -> io::Result<()> {
    // First of all: nobody should wait for three servers to hear that the port is taken.
    let mut net = listen(settings.port)?;
    net.hear_signals()?;
    let Some(address) = net.listening() else {
        return Err(io::Error::other("the listener has no address"));
    };
    let servers = NAMES
        .iter()
        .map(|name| Server::start(name))
        .collect::<io::Result<Vec<_>>>()?;
    let mut config = Config::new(
        address.clone(),
        servers
            .iter()
            .map(|server| ServerConfig::new(Address::Tcp(server.address)))
            .collect(),
    );
    config.check.every = CHECK_EVERY;
    let mut proxy = Proxy::new(net, config, CLIENTS_MAX, chance::seed());
    let mut flow = Flow::Continue;
    while flow == Flow::Continue && !proxy.is_first_round_over() {
        flow = proxy.turn()?;
    }
    if flow == Flow::Continue {
        say(&format!("open http://{address}/ (stop with Ctrl-C)"));
    }
    while flow == Flow::Continue {
        flow = proxy.turn()?;
    }
    Ok(())
}

/// A network that listens at `port`, or if none was asked for at `PORT`, or else at any free one.
fn listen(port: Option<u16>) -> io::Result<MioNet> {
    let mut net = MioNet::new()?;
    let wanted = port.unwrap_or(PORT);
    match net.listen(&here(wanted)) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AddrInUse && port.is_none() => {
            say(&format!("port {PORT} is taken: here is another one"));
            net.listen(&here(0))?;
        }
        Err(error) => {
            let text = format!("cannot listen on {}: {error}", here(wanted));
            return Err(io::Error::new(error.kind(), text));
        }
    }
    Ok(net)
}

fn here(port: u16) -> Address {
    Address::Tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
}

/// One server and its thread, which ends with it.
struct Server {
    address: SocketAddr,
    must_end: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    fn start(name: &'static str) -> io::Result<Server> {
        let mut net = MioNet::new()?;
        net.listen(&here(0))?;
        let Some(Address::Tcp(address)) = net.listening() else {
            return Err(io::Error::other("the server has no address"));
        };
        let settings = cli::Origin {
            name: Some(name.to_owned()),
            ..cli::Origin::new(Address::Tcp(address))
        };
        let mut origin = Origin::new(net, &settings, CLIENTS_MAX)?.with_page(PAGE);
        let must_end = Arc::new(AtomicBool::new(false));
        let is_told = Arc::clone(&must_end);
        let thread = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                while !is_told.load(Ordering::Relaxed) {
                    match origin.turn() {
                        Ok(Flow::Continue) => {}
                        Ok(Flow::Stop) => return,
                        Err(error) => return warn!("server {name} has ended: {error}"),
                    }
                }
            })?;
        Ok(Server {
            address,
            must_end,
            thread: Some(thread),
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.must_end.store(true, Ordering::Relaxed);
        // It may sleep in its poll: a connection is something that happens to it.
        let woken = TcpStream::connect_timeout(&self.address, WAKE_TIMEOUT);
        if let (Ok(_), Some(thread)) = (woken, self.thread.take()) {
            // A thread that panicked has been logged, and is over.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    fn get(address: SocketAddr, target: &str) -> String {
        let mut stream = TcpStream::connect(address).unwrap();
        let request = format!("GET {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    #[test]
    fn a_server_shows_its_name_on_the_page_and_ends_when_dropped() {
        let server = Server::start("two").unwrap();
        let page = get(server.address, "/");
        assert!(page.contains("Server: two\r\n") && page.contains("<strong>two</strong>"));
        assert!(!page.contains("{name}"));
        assert!(get(server.address, "/hello").ends_with("\r\n\r\nhello from two\n"));
        let address = server.address;
        drop(server);
        assert!(TcpStream::connect(address).is_err());
    }

    #[test]
    fn the_page_fetches_nothing_from_elsewhere() {
        assert!(!PAGE.contains("http://") && !PAGE.contains("https://") && !PAGE.contains("src="));
        for name in NAMES {
            assert!(PAGE.contains(&format!("data-name=\"{name}\"")), "{name}");
        }
    }

    #[test]
    fn a_taken_port_that_was_asked_for_is_an_error_that_names_it() {
        let taken = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = taken.local_addr().unwrap().port();
        let error = listen(Some(port)).err().unwrap();
        assert!(error.to_string().contains(&port.to_string()), "{error}");
    }
}
