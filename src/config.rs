//! What the operator asked for, as plain values: addresses, limits and durations.
//!
//! Owns no decision and reads nothing; `cli` fills it in, everything else reads it.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// At most this many servers can be configured.
pub const SERVERS_MAX: usize = 4096;

/// Where a socket listens or connects to, resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// An IPv4 or IPv6 address and port.
    Tcp(SocketAddr),
    /// The path of a unix-domain stream socket.
    Unix(PathBuf),
}

impl Address {
    /// Whether a connection to it would arrive at `listen`. Port 0 is not known yet, but it will be a
    /// free one.
    pub fn reaches(&self, listen: &Address) -> bool {
        match (self, listen) {
            (Address::Tcp(server), Address::Tcp(listen)) => {
                let is_wide = listen.ip().is_unspecified() && listen.is_ipv4() == server.is_ipv4();
                let is_here = server.ip() == listen.ip()
                    || (is_wide && (server.ip().is_loopback() || server.ip().is_unspecified()));
                listen.port() != 0 && server.port() == listen.port() && is_here
            }
            _ => self == listen,
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Tcp(address) => address.fmt(out),
            Address::Unix(path) => write!(out, "unix:{}", path.display()),
        }
    }
}

/// A listening socket that whoever started the process has opened already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Handed {
    /// The descriptor with this number.
    Number(usize),
    /// The one with this name (LISTEN_FDNAMES).
    Name(String),
}

impl fmt::Display for Handed {
    /// As the command line takes it.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Handed::Number(number) => write!(out, "fd:{number}"),
            Handed::Name(name) => write!(out, "fd:{name}"),
        }
    }
}

/// One configured server.
#[derive(Debug, Clone, PartialEq)]
pub struct ServerConfig {
    /// What logs and tables call it: the address as the operator wrote it, a bare port completed.
    pub name: String,
    /// Where it listens.
    pub address: Address,
    /// Its share of the work relative to the others, above 0; 1.0 unless told.
    pub weight: f64,
    /// At most this many exchanges at once, at least 1; none: only N bounds it.
    pub max: Option<u32>,
    /// It stands by: it is chosen only where no other server may be chosen or has room.
    pub backup: bool,
}

/// Where the servers were named, so that they can be read again.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ServerSource {
    /// The arguments of the command line.
    pub arguments: Vec<String>,
    /// A file of more.
    pub file: Option<PathBuf>,
}

/// What a health check asks and which answer is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CheckMode {
    /// `GET` of the check path answers 200 with two numbers: errors and load.
    Report,
    /// `GET` of the check path answers any 2xx; the load stays unknown.
    Http,
    /// A connection is accepted; the load stays unknown.
    Tcp,
    /// Nothing is asked: only failures of exchanges count.
    Off,
}

/// When and how servers are checked.
#[derive(Debug, Clone, PartialEq)]
pub struct CheckConfig {
    /// What is asked.
    pub mode: CheckMode,
    /// The target of the check's request, origin-form.
    pub path: String,
    /// An answer later than this makes the server invalid.
    pub timeout: Duration,
    /// A round starts when this many exchanges were dispatched since the last one (R), at least 1 …
    pub every_requests: u64,
    /// … or when this much time has passed since the last one started (X), whichever is first.
    pub every: Duration,
    /// Successes in a row that make an invalid server valid, at least 1.
    pub rise: u32,
    /// Failures in a row that make a valid server invalid, at least 1.
    pub fall: u32,
    /// Over so long the weight of a server that is back, or new, rises from a tenth to all of it; zero:
    /// it counts in full at once.
    pub slow_start: Duration,
}

/// How a server is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// The least expected time to the answer, learned from all traffic; between equals least load.
    BestGuess,
    /// The original rule to the letter: all to the last optimum until the next report.
    LeastLoad,
    /// Each in turn.
    RoundRobin,
    /// Fewest exchanges in flight.
    LeastConn,
    /// Any, with chances as their weights.
    Random,
    /// Of two by chance the one with fewer exchanges in flight.
    PowerOfTwo,
}

impl fmt::Display for Policy {
    /// As the command line calls it.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Policy::BestGuess => "best-guess",
            Policy::LeastLoad => "least-load",
            Policy::RoundRobin => "round-robin",
            Policy::LeastConn => "least-conn",
            Policy::Random => "random",
            Policy::PowerOfTwo => "p2c",
        })
    }
}

/// How long each phase may take.
#[derive(Debug, Clone, PartialEq)]
pub struct Timeouts {
    /// A connection to a server must stand within this.
    pub connect: Duration,
    /// A server must begin its response, and go on with it, within this.
    pub response: Duration,
    /// A client's head must be whole, and its content or its reading go on, within this.
    pub client: Duration,
    /// A kept-alive client may be silent between two requests for this long.
    pub idle: Duration,
    /// A connection to a server may rest for this long between two requests.
    pub pooled: Duration,
    /// An upgraded connection may be silent for this long.
    pub tunnel: Duration,
    /// A request may wait in the queue for this long.
    pub queue: Duration,
    /// After the first stop signal, what runs may take this long to finish.
    pub drain: Duration,
    /// Once the process is about to end, an idle client may be silent for this long before it is
    /// closed; what it asks until then is answered.
    pub drain_grace: Duration,
    /// Once another process has taken over, tunnels, and whatever else runs, may take this long.
    pub tunnel_drain: Duration,
}

/// What one turn of the loop does for one client before others have their turn, and how much memory
/// makes reading ahead modest. Not for operators: simulations make them small.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Budgets {
    /// Bytes that a pair moves, at least 1.
    pub turn_bytes: usize,
    /// Exchanges that a client finishes, at least 1.
    pub turn_exchanges: u32,
    /// Bytes in blocks above which nobody reads ahead in large pieces.
    pub wide_bytes: usize,
    /// Pipes for content that is not read, at most: each holds two descriptors and up to a mebibyte
    /// of the kernel's memory, which gives a user without privileges no more than 64 of that size.
    pub pipes: usize,
    /// How much content has to be under way to be worth a pipe, in bytes.
    pub splice_bytes: u64,
}

/// What a client is led back to its server by.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum StickyBy {
    /// Nothing: each request goes where it is best.
    #[default]
    Nothing,
    /// A cookie of this name.
    Cookie(String),
    /// The client's address.
    Address,
}

/// Whether clients stay with their servers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StickyConfig {
    /// By what.
    pub by: StickyBy,
    /// The file of the key behind cookies; none: a key of chance, for the life of the process.
    pub key_file: Option<PathBuf>,
    /// The key itself.
    pub key: Vec<u8>,
}

/// Where access log lines go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogTarget {
    /// Standard output.
    Stdout,
    /// Appended to a file.
    File(PathBuf),
}

/// The admin listener.
#[derive(Debug, Clone, PartialEq)]
pub struct AdminConfig {
    /// Where it listens.
    pub listen: Address,
    /// What has to be said to be let in, if anything.
    pub token: Option<String>,
}

/// How a line of the access log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// The combined format of Apache and others.
    Combined,
    /// A JSON object.
    Json,
}

/// All that the balancer needs to know.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Where clients connect; of no meaning before the socket is found if that was handed over.
    pub listen: Address,
    /// The socket that was handed over, if it is to be one of those.
    pub listen_handed: Option<Handed>,
    /// Share the port with other processes that do so too.
    pub reuse_port: bool,
    /// At least one server.
    pub servers: Vec<ServerConfig>,
    /// Where they were named.
    pub source: ServerSource,
    /// At most this many pairs at once (N), at least 1.
    pub parallel: usize,
    /// At most this many client connections; none: what the file limit allows.
    pub clients_max: Option<usize>,
    /// The policy of choice.
    pub policy: Policy,
    /// Health checks.
    pub check: CheckConfig,
    /// Time limits.
    pub timeouts: Timeouts,
    /// Bytes a second that a client has to send of its content, or to read, on average over
    /// `timeouts.client`, while it is waited for; 0: only silence counts.
    pub rate_min: u32,
    /// Whether long content may go from socket to socket unread, where the system can do that.
    pub splice: bool,
    /// Budgets of a turn.
    pub budgets: Budgets,
    /// Statuses of 400 and above for which a request that may be repeated goes to another server.
    pub retry_statuses: Vec<u16>,
    /// The status when every server has failed: 500 or 503.
    pub down_status: u16,
    /// Keep `X-Forwarded-*` and `Forwarded` that came from the client, and append to them.
    pub trust_forwarded: bool,
    /// Send `Forwarded` (RFC 7239) to servers as well.
    pub forwarded: bool,
    /// Whether clients stay with their servers.
    pub sticky: StickyConfig,
    /// Log why each request goes where it goes.
    pub explain: bool,
    /// The access log, if one is wanted.
    pub access_log: Option<LogTarget>,
    /// How its lines are written.
    pub log_format: LogFormat,
    /// Give each request an id, X-Request-Id, which its server and its client get too.
    pub request_id: bool,
    /// The admin listener, if one is wanted.
    pub admin: Option<AdminConfig>,
}

impl Default for Budgets {
    fn default() -> Budgets {
        Budgets {
            turn_bytes: 1 << 20,
            turn_exchanges: 32,
            wide_bytes: 64 << 20,
            pipes: 64,
            splice_bytes: 64 << 10,
        }
    }
}

impl Default for CheckConfig {
    fn default() -> CheckConfig {
        CheckConfig {
            mode: CheckMode::Report,
            path: "/healthcheck".to_owned(),
            timeout: Duration::from_secs(5),
            every_requests: 1000,
            every: Duration::from_secs(3),
            rise: 1,
            fall: 1,
            slow_start: Duration::ZERO,
        }
    }
}

impl Default for Timeouts {
    fn default() -> Timeouts {
        Timeouts {
            connect: Duration::from_secs(1),
            response: Duration::from_secs(60),
            client: Duration::from_secs(30),
            idle: Duration::from_secs(75),
            pooled: Duration::from_secs(60),
            tunnel: Duration::from_secs(3600),
            queue: Duration::from_secs(30),
            drain: Duration::from_secs(30),
            drain_grace: Duration::from_secs(2),
            tunnel_drain: Duration::from_secs(3600),
        }
    }
}

impl ServerConfig {
    /// A server at `address` with the defaults of the command line.
    pub fn new(address: Address) -> ServerConfig {
        ServerConfig {
            name: address.to_string(),
            address,
            weight: 1.0,
            max: None,
            backup: false,
        }
    }
}

impl Config {
    /// The defaults of the command line before `servers`, listening at `listen`.
    pub fn new(listen: Address, servers: Vec<ServerConfig>) -> Config {
        Config {
            listen,
            listen_handed: None,
            reuse_port: false,
            servers,
            source: ServerSource::default(),
            parallel: 1024,
            clients_max: None,
            policy: Policy::BestGuess,
            check: CheckConfig::default(),
            timeouts: Timeouts::default(),
            rate_min: 240,
            splice: true,
            budgets: Budgets::default(),
            retry_statuses: Vec::new(),
            down_status: 500,
            trust_forwarded: false,
            forwarded: false,
            sticky: StickyConfig::default(),
            explain: false,
            access_log: None,
            log_format: LogFormat::Combined,
            request_id: false,
            admin: None,
        }
    }
}
