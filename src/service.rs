//! The process among others: where its listener comes from and goes to, and what systemd hears of it.
//!
//! Runs beside the loop: `main` calls `after_turn` behind each turn, which costs a few comparisons
//! unless there is something to do. Never waits. It knows the real network only.
//!
//! - `handover`: how an older process hands its listener to the newer one
//! - `upgrade`: the newer process that is awaited
//! - `activation`: sockets that systemd opened
//! - `notify`: messages to systemd
//! - `ask`: `bestguess upgrade`, and how the process that was asked answers

mod activation;
pub mod ask;
mod handover;
mod notify;
mod upgrade;

use std::io;
use std::process::Child;
use std::time::Duration;

use log::{error, info, warn};
use rustix::time::{ClockId, clock_gettime};

use crate::config::{Address, Config};
use crate::health::Standing;
use crate::net::Time;
use crate::net::mio::{Listener, MioNet};
use crate::proxy::Proxy;
use activation::Sockets;
use handover::{Handed, Key, Received};
use notify::Notify;
use upgrade::{LOOK_EVERY, Progress, Upgrade};

/// At the latest by then it says that it is ready, though servers may not be known yet.
const READY_PATIENCE: Duration = Duration::from_secs(20);
/// The state that systemd shows is renewed this often at most.
const STATUS_EVERY: Duration = Duration::from_secs(1);
/// What a manager did not take is tried again after this time.
const NOTIFY_AGAIN: Duration = Duration::from_millis(100);
/// A process that took over is looked after this often, so that nothing is left of it when it ends.
const REAP_EVERY: Duration = Duration::from_secs(5);

/// The process as others see it.
#[derive(Debug)]
pub struct Service {
    phase: Phase,
    notify: Notify,
    watchdog: Option<Duration>,
    ping_at: Time,
    flush_at: Time,
    status_at: Time,
    status: String,
    ready_by: Time,
    /// What an older process handed over, until it is answered.
    received: Option<Inheritance>,
    /// The key of cookies that a newer process is to have too.
    key: Option<Key>,
    upgrade: Option<Upgrade>,
    look_at: Time,
    /// Whether the manager was told that the servers are being read again.
    is_reloading: bool,
    /// Processes that were started and are not waited for yet.
    children: Vec<Child>,
    reap_at: Time,
}

/// The listeners of an older process that goes on accepting from them until it is answered.
#[derive(Debug)]
struct Inheritance {
    from: Received,
    clients: Listener,
    admin: Option<Listener>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Servers are checked for the first time.
    Starting,
    /// It serves.
    Serving,
    /// It finishes what runs: another process has taken over.
    Retired,
    /// It finishes what runs, and then nobody serves.
    Stopping,
}

impl Service {
    /// Finds the listener: an older process's, systemd's, or a new one at the address of `config`,
    /// which then holds the address that it really has. `net` accepts from it at once, unless an older
    /// process still does.
    ///
    /// # Errors
    /// Nothing can be listened at; the text says why and what may help.
    pub fn start(net: &mut MioNet, config: &mut Config) -> io::Result<Service> {
        let env = |name: &str| std::env::var_os(name);
        let pid = std::process::id();
        let now = Time(0);
        let mut service = Service {
            phase: Phase::Starting,
            notify: Notify::new(&env),
            watchdog: None,
            ping_at: Time::NEVER,
            flush_at: now,
            status_at: now,
            status: String::new(),
            ready_by: now + READY_PATIENCE,
            received: None,
            key: None,
            upgrade: None,
            look_at: Time::NEVER,
            is_reloading: false,
            children: Vec::new(),
            reap_at: Time::NEVER,
        };
        if service.notify.is_on()
            && let Some(every) = notify::watchdog(&env, pid)
        {
            service.watchdog = Some(every);
            service.ping_at = now;
        }
        if let Some((from, clients, admin)) = handover::accept(&env)? {
            let adopt = |handed: Handed| Listener::adopt(handed.descriptor, handed.owns_path);
            let clients = adopt(clients)?;
            config.listen = clients.address()?;
            info!("process {} hands over", from.from);
            // One that nobody asks for any more is closed, for good once the older process ends.
            let admin = match (&mut config.admin, admin) {
                (Some(asked), Some(admin)) => {
                    let admin = adopt(admin)?;
                    asked.listen = admin.address()?;
                    Some(admin)
                }
                _ => None,
            };
            service.received = Some(Inheritance {
                from,
                clients,
                admin,
            });
            return Ok(service);
        }
        let mut sockets = Sockets::take(&env, pid)?;
        let listener = match sockets.choose(config.listen_handed.as_ref(), &config.listen)? {
            Some(listener) => listener,
            None => bind(config)?,
        };
        config.listen = listener.address()?;
        net.attach(listener)?;
        Ok(service)
    }

    /// Whether the listener of those who administer was handed over too.
    pub fn has_admin(&self) -> bool {
        let received = self.received.as_ref();
        received.is_some_and(|received| received.admin.is_some())
    }

    /// The key of cookies that an older process made and handed over.
    pub fn handed_key(&self) -> Option<Vec<u8>> {
        let key = self.received.as_ref()?.from.key.as_ref()?;
        Some(key.0.clone())
    }

    /// From now on a newer process is handed this key of cookies, which nobody else knows.
    pub fn hand_on(&mut self, key: Vec<u8>) {
        self.key = Some(Key(key));
    }

    /// Tells the manager, who may have asked for it by HUP, that the servers are being read again, or
    /// are no more. To be called before `after_turn`.
    pub fn note_reload(&mut self, proxy: &Proxy<MioNet>, is_running: bool) {
        if is_running == self.is_reloading
            || self.phase != Phase::Serving
            || self.upgrade.is_some()
            || !self.notify.is_on()
        {
            return;
        }
        self.is_reloading = is_running;
        if is_running {
            self.say_reloading("reading the servers again");
        } else {
            self.status = status(proxy);
            let status = format!("STATUS={}", self.status);
            self.notify.say(&["READY=1", &status]);
        }
    }

    /// To be called behind each turn.
    ///
    /// # Errors
    /// The listener that was handed over cannot be used.
    pub fn after_turn(&mut self, proxy: &mut Proxy<MioNet>) -> io::Result<()> {
        let now = proxy.now();
        if proxy.take_upgrade() {
            self.begin_upgrade(proxy, now);
        }
        match self.phase {
            Phase::Starting if proxy.is_draining() => self.stop(),
            Phase::Starting if proxy.is_first_round_over() || now >= self.ready_by => {
                self.get_ready(proxy)?;
            }
            Phase::Serving if proxy.is_draining() => self.stop(),
            _ => {}
        }
        let has_news = proxy.net_mut().take_guest_news();
        if self.upgrade.is_some() && (has_news || now >= self.look_at) {
            self.look_at_upgrade(proxy, now);
        }
        if now >= self.reap_at {
            // One that cannot be waited for is none of ours.
            let is_there = |child: &mut Child| matches!(child.try_wait(), Ok(None));
            self.children.retain_mut(is_there);
            self.reap_at = match self.children.is_empty() {
                true => Time::NEVER,
                false => now + REAP_EVERY,
            };
        }
        if self.notify.is_on() {
            self.keep_telling(proxy, now);
        }
        proxy.net_mut().wake_at(self.next());
        Ok(())
    }

    /// When to be called at the latest.
    fn next(&self) -> Time {
        let look_at = match self.upgrade {
            Some(_) => self.look_at,
            None => Time::NEVER,
        };
        let flush_at = match self.notify.has_waiting() {
            true => self.flush_at,
            false => Time::NEVER,
        };
        let ready_by = match self.phase {
            Phase::Starting => self.ready_by,
            _ => Time::NEVER,
        };
        let ping_at = match self.received {
            Some(_) => Time::NEVER,
            None => self.ping_at,
        };
        let mine = [ping_at, look_at, self.reap_at, flush_at, ready_by];
        mine.into_iter().min().unwrap_or(Time::NEVER)
    }

    /// Takes over from an older process, if there is one, and says that it is ready.
    fn get_ready(&mut self, proxy: &mut Proxy<MioNet>) -> io::Result<()> {
        self.phase = Phase::Serving;
        self.status = status(proxy);
        self.status_at = proxy.now() + STATUS_EVERY;
        if let Some(received) = self.received.take() {
            let net = proxy.net_mut();
            net.attach(received.clients)?;
            if let Some(admin) = received.admin {
                net.attach_admin(admin)?;
            }
            let from = received.from.from;
            match received.from.answer() {
                // The older process tells the service manager, which does not know us yet.
                Ok(()) => {
                    info!("took over from process {from}");
                    return Ok(());
                }
                Err(cause) => warn!("process {from} does not hear that it may go: {cause}"),
            }
        }
        let status = format!("STATUS={}", self.status);
        self.notify.say(&["READY=1", &status]);
        Ok(())
    }

    fn stop(&mut self) {
        self.phase = Phase::Stopping;
        self.notify
            .say(&["STOPPING=1", "STATUS=finishing what runs"]);
        if let Some(mut upgrade) = self.upgrade.take() {
            upgrade.end();
            warn!("upgrade given up: asked to stop");
            ask::answer(false, "it was asked to stop");
            self.bury(upgrade);
        }
    }

    fn begin_upgrade(&mut self, proxy: &mut Proxy<MioNet>, now: Time) {
        let pid = std::process::id();
        let obstacle = match (self.phase, &self.upgrade) {
            (_, Some(upgrade)) => {
                let newer = upgrade.pid();
                Some(format!(
                    "process {newer} is on its way to take over already"
                ))
            }
            (Phase::Starting, None) => Some("it is only starting itself".to_owned()),
            (Phase::Retired, None) => Some("another process has taken over already".to_owned()),
            (Phase::Stopping, None) => Some("it is about to end".to_owned()),
            // The end of this process is the end of its container.
            (Phase::Serving, None) if pid == 1 => Some(
                "it is process 1, whose end would end all others: replace the container".to_owned(),
            ),
            (Phase::Serving, None) => None,
        };
        if let Some(obstacle) = obstacle {
            warn!("no upgrade: {obstacle}");
            if self.upgrade.is_none() {
                ask::answer(false, &obstacle);
            }
            return;
        }
        match Upgrade::start(proxy.net(), self.key.clone(), now) {
            Ok(upgrade) => {
                let newer = upgrade.pid();
                info!("upgrade: process {newer} is started and may take over once it is ready");
                self.say_reloading(&format!("process {newer} is about to take over"));
                self.upgrade = Some(upgrade);
                self.look_at = now + LOOK_EVERY;
            }
            Err(cause) => self.fail(&cause.to_string()),
        }
    }

    /// Something is being done that `READY=1` will end, and it began now.
    fn say_reloading(&mut self, what: &str) {
        let clock = clock_gettime(ClockId::Monotonic);
        let usec = clock.tv_sec * 1_000_000 + clock.tv_nsec / 1000;
        self.is_reloading = true;
        self.notify.say(&[
            "RELOADING=1",
            &format!("MONOTONIC_USEC={usec}"),
            &format!("STATUS={what}"),
        ]);
    }

    fn look_at_upgrade(&mut self, proxy: &mut Proxy<MioNet>, now: Time) {
        let Some(mut upgrade) = self.upgrade.take() else {
            return;
        };
        match upgrade.look(now) {
            Progress::Open => {
                self.upgrade = Some(upgrade);
                self.look_at = now + LOOK_EVERY;
            }
            Progress::Ready => {
                let newer = upgrade.pid();
                info!("process {newer} has taken over");
                self.phase = Phase::Retired;
                proxy.net_mut().leave_listeners();
                proxy.retire();
                self.notify.say(&[
                    &format!("MAINPID={newer}"),
                    "READY=1",
                    &format!("STATUS=process {newer} has taken over"),
                ]);
                self.ping_at = Time::NEVER;
                ask::answer(true, &format!("process {newer} has taken over"));
                self.bury(upgrade);
            }
            Progress::Failed(why) => {
                self.fail(&why);
                self.bury(upgrade);
            }
        }
    }

    /// The newer process is awaited no more, but has to be waited for in the end.
    fn bury(&mut self, upgrade: Upgrade) {
        self.children.push(upgrade.into_child());
        self.reap_at = Time(0);
    }

    /// The newer process has failed: this one goes on as before.
    fn fail(&mut self, why: &str) {
        self.is_reloading = false;
        error!("upgrade failed: {why}; this process goes on as before");
        self.notify
            .say(&["READY=1", &format!("STATUS=upgrade failed: {why}")]);
        ask::answer(false, why);
    }

    /// Signs of life, and the state when it has changed.
    fn keep_telling(&mut self, proxy: &Proxy<MioNet>, now: Time) {
        if self.received.is_some() {
            return;
        }
        if now >= self.ping_at
            && let Some(every) = self.watchdog
        {
            self.notify.say(&["WATCHDOG=1"]);
            self.ping_at = now + every;
        }
        if self.phase == Phase::Serving && self.upgrade.is_none() && now >= self.status_at {
            self.status_at = now + STATUS_EVERY;
            let status = status(proxy);
            if status != self.status {
                self.notify.say(&[&format!("STATUS={status}")]);
                self.status = status;
            }
        }
        if now >= self.flush_at {
            self.notify.flush();
            self.flush_at = now + NOTIFY_AGAIN;
        }
    }
}

/// A new listener at the address of `config`.
fn bind(config: &Config) -> io::Result<Listener> {
    if config.reuse_port
        && std::fs::read_to_string("/proc/sys/net/ipv4/tcp_migrate_req")
            .is_ok_and(|set| set.trim() == "0")
    {
        info!(
            "--reuse-port: net.ipv4.tcp_migrate_req is 0, so a handshake that is under way when one of the processes stops is lost; 1 moves it to another one"
        );
    }
    Listener::bind(&config.listen, config.reuse_port).map_err(|cause| {
        let listen = &config.listen;
        let hint = match (cause.kind(), listen) {
            (io::ErrorKind::AddrInUse, Address::Tcp(_)) if config.reuse_port => {
                " (who has it listens without --reuse-port, or as another user)"
            }
            _ => "",
        };
        io::Error::new(
            cause.kind(),
            format!("cannot listen on {listen}: {cause}{hint}"),
        )
    })
}

/// What systemd shows.
fn status(proxy: &Proxy<MioNet>) -> String {
    let (mut valid, mut all) = (0, 0);
    for server in proxy.servers() {
        all += 1;
        valid += u32::from(server.health.standing() == Standing::Valid);
    }
    format!("{valid} of {all} servers valid")
}
