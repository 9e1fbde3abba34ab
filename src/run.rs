//! The balancer as a process: its descriptors, listeners, keys and logs, then turn after turn.
//!
//! Knows no argument and no exit code, and decides nothing about requests: that is `proxy`'s.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read};
use std::sync::Arc;
use std::time::Duration;

use log::{info, warn};

use crate::access::writer;
use crate::admin::SESSIONS_MAX;
use crate::chance;
use crate::cli;
use crate::config::{AdminConfig, CheckMode, Config, StickyBy, StickyConfig};
use crate::health::Standing;
use crate::net::mio::{Listener, MioNet, raise_file_limit};
use crate::proxy::{Flow, Proxy};
use crate::reload::Reload;
use crate::service::Service;

/// How long the last log lines may take to be written.
pub const LOG_FLUSH: Duration = Duration::from_secs(1);
/// The shortest key of sticky cookies, in bytes; and so much of a file is read.
const STICKY_KEY_LEAST: usize = 16;
const STICKY_KEY_MOST: u64 = 4096;
/// Descriptors that clients never get: for checks, logs and the like.
const DESCRIPTORS_RESERVED: usize = 32;

/// Balances until a signal ends it.
///
/// # Errors
/// What was asked for cannot be opened, bound or read, or the poll failed.
pub fn serve(mut config: Config) -> io::Result<()> {
    let clients_max = share_out_files(&mut config);
    let mut net = MioNet::new()?;
    net.hear_signals()?;
    let mut service = Service::start(&mut net, &mut config)?;
    if let Some(admin) = &mut config.admin {
        open_admin(&mut net, admin, service.has_admin())?;
    }
    info!("listening on {}", config.listen);
    info!(
        "{} servers, at most {} requests at once (N), a check every {} requests (R) or {:?} (X), at most {clients_max} clients",
        config.servers.len(),
        config.parallel,
        config.check.every_requests,
        config.check.every,
    );
    let access_log = config.access_log.as_ref().map(writer::start).transpose()?;
    config.sticky.key = sticky_key(&config.sticky, &mut service)?;
    let waker = Arc::new(net.waker()?);
    let mut reload = Reload::new(config.source.clone(), config.listen.clone(), waker);
    let mut proxy = Proxy::new(net, config, clients_max, chance::seed());
    proxy.read_servers_by(cli::server);
    let access_log = access_log.map(|(outlet, writer)| {
        proxy.access().write_to(outlet);
        writer
    });
    loop {
        let flow = proxy.turn()?;
        reload.go_on(&mut proxy);
        service.note_reload(&proxy, reload.is_running());
        // The last turn is one to be told of too.
        service.after_turn(&mut proxy)?;
        if flow == Flow::Stop {
            break;
        }
    }
    proxy.net_mut().close_admin();
    if let Some(writer) = access_log {
        proxy.access().close();
        writer.end(LOG_FLUSH);
    }
    info!("stopped");
    Ok(())
}

/// Opens the admin listener, and reads its token if that is in a file.
fn open_admin(net: &mut MioNet, admin: &mut AdminConfig, is_handed: bool) -> io::Result<()> {
    if let Some(path) = admin.token.as_ref().and_then(|it| it.strip_prefix('@')) {
        let wrong = |cause: io::Error| {
            let text = format!("cannot read the admin token file {path}: {cause}");
            io::Error::new(cause.kind(), text)
        };
        let token = std::fs::read_to_string(path).map_err(wrong)?;
        let token = token.trim();
        if !is_token(token) {
            let rule = "it is not one line of visible characters";
            return Err(wrong(io::Error::new(io::ErrorKind::InvalidData, rule)));
        }
        admin.token = Some(token.to_owned());
    }
    if is_handed {
        return Ok(());
    }
    let listener = Listener::bind(&admin.listen, false);
    let attached = listener.and_then(|listener| net.attach_admin(listener));
    attached.map_err(|cause| {
        let text = format!("cannot listen on {} for the admin: {cause}", admin.listen);
        io::Error::new(cause.kind(), text)
    })?;
    if let Some(address) = net.listening_admin() {
        info!("admin at {address}");
        admin.listen = address;
    }
    Ok(())
}

/// Whether a text can stand in an Authorization field.
fn is_token(token: &str) -> bool {
    !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic())
}

/// What one check of each server came to.
#[derive(Debug)]
pub struct Tested {
    /// For people: a line for each server.
    pub table: String,
    /// Whether each may be chosen.
    pub are_valid: bool,
}

/// Checks each server once.
///
/// # Errors
/// The poll failed.
pub fn test(config: Config) -> io::Result<Tested> {
    let mode = config.check.mode;
    let mut proxy = Proxy::new(MioNet::new()?, config, 1, chance::seed());
    while !proxy.is_first_round_over() {
        proxy.turn()?;
    }
    let width = proxy
        .servers()
        .map(|server| server.name.len())
        .max()
        .unwrap_or(0)
        .max("server".len());
    let mut table = String::new();
    let mut are_valid = true;
    let _ = writeln!(
        table,
        "{:width$}  {:9}  {:>12}  {:>12}",
        "server", "state", "errors", "load"
    );
    for server in proxy.servers() {
        let is_valid = server.health.standing() == Standing::Valid;
        are_valid &= is_valid || mode == CheckMode::Off;
        let state = match (is_valid, mode) {
            (true, _) => "valid",
            (false, CheckMode::Off) => "unchecked",
            (false, _) => "invalid",
        };
        let (errors, load) = match server.report {
            Some(report) => (report.errors.to_string(), report.load.to_string()),
            None => ("-".to_owned(), "-".to_owned()),
        };
        let line = format!(
            "{:width$}  {state:9}  {errors:>12}  {load:>12}  {}",
            server.name,
            server.health.reason()
        );
        let _ = writeln!(table, "{}", line.trim_end());
    }
    Ok(Tested { table, are_valid })
}

/// Raises the limit of open files as far as it goes, sees to it that pipes take an eighth of it at
/// most, and tells how many clients that leaves room for.
fn share_out_files(config: &mut Config) -> usize {
    let files = raise_file_limit();
    let pipes = if config.splice { files / 16 } else { 0 };
    config.budgets.pipes = config.budgets.pipes.min(pipes);
    // A client may need a link, but no more than N do; each server has a check, a pipe two ends. The
    // admin listener answers whatever clients do.
    let admins = config.admin.as_ref().map_or(0, |_| SESSIONS_MAX);
    let others = DESCRIPTORS_RESERVED + config.servers.len() + admins + 2 * config.budgets.pipes;
    let left = files.saturating_sub(others);
    let room = left.saturating_sub(config.parallel.min(left / 2)).max(1);
    if let Some(wanted) = config.clients_max.filter(|wanted| *wanted > room) {
        warn!(
            "--max-clients {wanted}: the limit of {files} open files leaves room for {room}; raise it (ulimit -n)"
        );
    }
    config.clients_max.unwrap_or(room).min(room)
}

/// The key behind sticky cookies: that of the file; else that of the process before, so that an
/// upgrade does not void them; else one of chance.
fn sticky_key(config: &StickyConfig, service: &mut Service) -> io::Result<Vec<u8>> {
    let (StickyBy::Cookie(_), Some(path)) = (&config.by, &config.key_file) else {
        let mut key = vec![0; STICKY_KEY_LEAST];
        match service.handed_key() {
            Some(handed) => key = handed,
            None => rustix::rand::getrandom(&mut key, rustix::rand::GetRandomFlags::empty())
                .map(|_| ())?,
        }
        service.hand_on(key.clone());
        return Ok(key);
    };
    let wrong =
        |what: String| io::Error::other(format!("--sticky-key-file {}: {what}", path.display()));
    let mut key = Vec::new();
    File::open(path)
        .and_then(|file| file.take(STICKY_KEY_MOST).read_to_end(&mut key))
        .map_err(|cause| wrong(format!("cannot read it: {cause}")))?;
    let key = key.trim_ascii().to_vec();
    if key.len() < STICKY_KEY_LEAST {
        return Err(wrong(format!(
            "expected at least {STICKY_KEY_LEAST} bytes that nobody can guess"
        )));
    }
    Ok(key)
}
