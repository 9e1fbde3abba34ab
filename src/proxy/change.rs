//! Servers that come, go and change while requests are under way.
//!
//! Every server has a slot, and its index is held by links, tasks and tickets. So who is removed first
//! gets no new requests and no checks, and its unused links are closed; when the last request at it is
//! over it is gone, and its slot is given to another server only once nothing names it any more.
//! Nothing that runs is ever cut short by a change.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::fmt;

use log::info;

use super::{Proxy, Server};
use crate::config::{SERVERS_MAX, ServerConfig};
use crate::health::{Health, Standing};
use crate::mutant::{self, Mutant};
use crate::net::Net;

/// Slots at most, those among them that servers have left: each can be held by a tunnel for hours.
const SLOTS_MAX: usize = 4 * SERVERS_MAX;

/// What is to be different from now on. Servers go by their names.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// No new requests; those under way are finished; checks go on.
    Drain(String),
    /// Requests again, if it is well; one that was disabled is checked first.
    Enable(String),
    /// No new requests and no checks.
    Disable(String),
    /// This weight, above 0, relative to the others.
    Weigh(String, f64),
    /// At most so many exchanges at once, at least 1; none: only N bounds it.
    Limit(String, Option<u32>),
    /// One more server.
    Add(ServerConfig),
    /// One less, once it is drained.
    Remove(String),
    /// These and no others. Who was there already, by name and address, keeps all that is its own,
    /// what the operator set with it; weights and bounds are the new ones.
    Replace(Vec<ServerConfig>),
}

/// Why a change can not be made; nothing has changed then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// There is no server of this name.
    Unknown(String),
    /// There is one of this name, or of another name at the same address, already.
    Known(String),
    /// It is where the balancer itself listens.
    Itself(String),
    /// The weight is not a number above 0, or the bound is 0.
    Amount(String),
    /// No server would be left.
    Last,
    /// There are as many as there can be, or those that left still have too much under way.
    TooMany,
}

/// What the operator says of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Setting {
    /// It may have requests, and is checked.
    Enabled,
    /// It gets no new requests, and is checked.
    Draining,
    /// It gets no new requests, and is not checked.
    Disabled,
    /// It was removed; requests are still under way there.
    Leaving,
    /// It was removed, and the slot is empty.
    Gone,
}

impl Setting {
    /// Whether it is one of the servers.
    pub fn is_present(self) -> bool {
        !matches!(self, Setting::Leaving | Setting::Gone)
    }

    /// Whether it is checked.
    pub(super) fn is_checked(self) -> bool {
        matches!(self, Setting::Enabled | Setting::Draining)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        // One line, whatever somebody has called a server.
        match self {
            Refusal::Unknown(name) => write!(out, "there is no server {}", name.escape_debug()),
            Refusal::Known(name) => {
                write!(out, "there is a server {} already", name.escape_debug())
            }
            Refusal::Itself(name) => {
                write!(out, "{} is where the balancer listens", name.escape_debug())
            }
            Refusal::Amount(name) => write!(
                out,
                "server {}: a weight is a number above 0, and a most of requests at least 1",
                name.escape_debug()
            ),
            Refusal::Last => out.write_str("no server would be left: drain or disable it instead"),
            Refusal::TooMany => write!(out, "there are at most {SERVERS_MAX} servers"),
        }
    }
}

impl std::error::Error for Refusal {}

impl<N: Net> Proxy<N> {
    /// Makes a change, all of it or none. Looks at all servers, and where some come at all tasks and
    /// links; to be called between two turns, or within one.
    ///
    /// # Errors
    /// Why it can not be made.
    pub fn change(&mut self, change: Change) -> Result<(), Refusal> {
        // Whoever calls between two turns may have taken a while.
        self.tools.now = self.tools.now.max(self.net.now());
        match change {
            Change::Drain(name) => self.set(&name, Setting::Draining)?,
            Change::Enable(name) => self.set(&name, Setting::Enabled)?,
            Change::Disable(name) => self.set(&name, Setting::Disabled)?,
            Change::Weigh(name, weight) => {
                let index = self.server_called(&name)?;
                self.adjust(index, |config| config.weight = weight)?;
            }
            Change::Limit(name, max) => {
                let index = self.server_called(&name)?;
                self.adjust(index, |config| config.max = max)?;
            }
            Change::Add(config) => self.add(config)?,
            Change::Remove(name) => {
                let index = self.server_called(&name)?;
                if self.present().nth(1).is_none() {
                    return Err(Refusal::Last);
                }
                self.remove_server(index);
            }
            Change::Replace(servers) => self.replace(servers)?,
        }
        self.guess.settle(self.tools.now);
        self.let_servers_go();
        self.note_states();
        // What waits may have room now.
        self.admit();
        Ok(())
    }

    /// Whoever drives the loop is to read again where the servers were named.
    pub fn reload(&mut self) {
        self.must_reload = true;
    }

    /// Whether that was said since the last call.
    pub fn take_reload(&mut self) -> bool {
        std::mem::take(&mut self.must_reload)
    }

    /// The servers that were not removed, with their indices.
    fn present(&self) -> impl Iterator<Item = (usize, &ServerConfig)> {
        self.servers
            .iter()
            .zip(&self.config.servers)
            .enumerate()
            .filter(|(_, (server, _))| server.setting.is_present())
            .map(|(index, (_, config))| (index, config))
    }

    fn server_called(&self, name: &str) -> Result<usize, Refusal> {
        self.present()
            .find(|(_, config)| config.name == name)
            .map(|(index, _)| index)
            .ok_or_else(|| Refusal::Unknown(name.to_owned()))
    }

    /// Whether a server could be one of ours.
    fn judge(&self, config: &ServerConfig) -> Result<(), Refusal> {
        if !(config.weight.is_finite() && config.weight > 0.0) || config.max == Some(0) {
            return Err(Refusal::Amount(config.name.clone()));
        }
        if config.address.reaches(&self.config.listen) {
            return Err(Refusal::Itself(config.name.clone()));
        }
        Ok(())
    }

    /// The operator says this of a server.
    fn set(&mut self, name: &str, setting: Setting) -> Result<(), Refusal> {
        let index = self.server_called(name)?;
        let now = self.tools.now;
        let Some(server) = self.servers.get_mut(index) else {
            return Ok(());
        };
        let before = std::mem::replace(&mut server.setting, setting);
        if before == setting {
            return Ok(());
        }
        if setting == Setting::Enabled {
            info!("server {name} is enabled");
            if before == Setting::Disabled {
                // Nobody looked at it meanwhile.
                server.health.forget();
                self.guess.stand(now, index, Standing::Unknown);
            }
            self.guess.enable(now, index);
        } else {
            let what = match setting {
                Setting::Disabled => "disabled",
                _ => "draining",
            };
            let left = self.guess.in_flight(index);
            info!("server {name} is {what}: {left} requests are under way there");
            if !mutant::is(Mutant::DrainedServerChosen) {
                self.guess.drain(now, index);
            }
            self.close_pool(index);
        }
        match (before.is_checked(), setting.is_checked()) {
            (false, true) => self.start_probe(index),
            (true, false) => self.stop_probe(index),
            _ => {}
        }
        Ok(())
    }

    /// Something else of how a server is configured.
    fn adjust(&mut self, index: usize, how: impl FnOnce(&mut ServerConfig)) -> Result<(), Refusal> {
        let Some(mut changed) = self.config.servers.get(index).cloned() else {
            return Ok(());
        };
        how(&mut changed);
        self.judge(&changed)?;
        if let Some(config) = self.config.servers.get_mut(index)
            && *config != changed
        {
            info!(
                "server {} has weight {}, and at most {} requests at once",
                changed.name,
                changed.weight,
                changed
                    .max
                    .map_or("any number of".to_owned(), |max| max.to_string())
            );
            self.guess.configure(self.tools.now, index, &changed);
            *config = changed;
        }
        Ok(())
    }

    fn add(&mut self, config: ServerConfig) -> Result<(), Refusal> {
        self.judge(&config)?;
        let is_same =
            |other: &ServerConfig| other.name == config.name || other.address == config.address;
        if self.present().any(|(_, other)| is_same(other)) {
            return Err(Refusal::Known(config.name));
        }
        let mut slots = self.free_slots();
        if self.present().count() >= SERVERS_MAX || slots.is_empty() {
            return Err(Refusal::TooMany);
        }
        self.add_server(config, &mut slots);
        Ok(())
    }

    /// These servers and no others.
    fn replace(&mut self, servers: Vec<ServerConfig>) -> Result<(), Refusal> {
        if servers.is_empty() {
            return Err(Refusal::Last);
        }
        let (mut names, mut addresses) = (HashSet::new(), HashSet::new());
        for config in &servers {
            self.judge(config)?;
            let is_new = names.insert(&config.name);
            if !addresses.insert(config.address.to_string()) || !is_new {
                return Err(Refusal::Known(config.name.clone()));
            }
        }
        let mut gone: BTreeMap<String, usize> = self
            .present()
            .map(|(index, config)| (config.name.clone(), index))
            .collect();
        let mut slots = self.free_slots();
        let (mut kept, mut new) = (Vec::new(), Vec::new());
        for config in servers {
            let index = gone.get(&config.name).copied();
            let there = index.and_then(|index| self.config.servers.get(index));
            match index.filter(|_| there.is_some_and(|there| there.address == config.address)) {
                Some(index) => {
                    gone.remove(&config.name);
                    kept.push((index, config));
                }
                None => new.push(config),
            }
        }
        if kept.len() + new.len() > SERVERS_MAX || new.len() > slots.len() {
            return Err(Refusal::TooMany);
        }
        if !(new.is_empty() && gone.is_empty()) {
            info!(
                "servers: {} added, {} removed, {} kept",
                new.len(),
                gone.len(),
                kept.len()
            );
        }
        for (index, config) in kept {
            self.adjust(index, |there| *there = config)?;
        }
        // Who comes comes first, so that there is always somebody.
        for config in new {
            self.add_server(config, &mut slots);
        }
        for index in gone.into_values() {
            self.remove_server(index);
        }
        Ok(())
    }

    /// A server comes: back into its slot if it has not left for good, else into one of `slots`.
    fn add_server(&mut self, config: ServerConfig, slots: &mut VecDeque<usize>) {
        info!("server {} is added", config.name);
        let now = self.tools.now;
        let leaving = self
            .servers
            .iter()
            .zip(&self.config.servers)
            .position(|(server, other)| {
                server.setting == Setting::Leaving
                    && other.name == config.name
                    && other.address == config.address
            });
        let Some(index) = leaving.or_else(|| slots.pop_front()) else {
            return;
        };
        match (
            self.servers.get_mut(index),
            self.config.servers.get_mut(index),
        ) {
            (Some(server), Some(other)) if leaving.is_some() => {
                self.leaving -= 1;
                server.setting = Setting::Enabled;
                self.guess.enable(now, index);
                self.guess.configure(now, index, &config);
                *other = config;
            }
            (Some(server), Some(other)) => {
                self.guess.add(index, &config);
                *server = Server::new(&config, &self.config.check);
                *other = config;
            }
            _ => {
                self.guess.add(index, &config);
                let server = Server::new(&config, &self.config.check);
                self.servers.push(server);
                self.config.servers.push(config);
            }
        }
        if let Some(config) = self.config.servers.get(index) {
            self.tools.sticky.add(index, config);
        }
        if let Some(server) = self.servers.get_mut(index) {
            // The first round is over without it.
            server.is_checked = true;
        }
        if leaving.is_none() {
            // Explanations of the past must not name who takes the slot now.
            self.admin.choices.forget(index);
        }
        self.start_probe(index);
    }

    /// A server goes as soon as nothing is under way there.
    fn remove_server(&mut self, index: usize) {
        let (Some(server), Some(config)) =
            (self.servers.get_mut(index), self.config.servers.get(index))
        else {
            return;
        };
        server.setting = Setting::Leaving;
        self.leaving += 1;
        let left = self.guess.in_flight(index);
        info!(
            "server {} is removed: {left} requests are under way there",
            config.name
        );
        self.guess.retire(self.tools.now, index);
        self.tools.sticky.remove(index);
        self.close_pool(index);
        if !mutant::is(Mutant::RemovedServerChecked) {
            self.stop_probe(index);
        }
        self.count_first_round(index);
        if mutant::is(Mutant::RemovalCutsRequests) {
            let links = self.links.iter().filter(|(_, link)| link.server == index);
            let links: Vec<usize> = links.map(|(slot, _)| slot).collect();
            links.into_iter().for_each(|slot| self.bury_link(slot));
        }
    }

    /// Lets those go that were removed and have nothing under way any more.
    pub(super) fn let_servers_go(&mut self) {
        if self.leaving == 0 {
            return;
        }
        let servers = self.servers.iter_mut().zip(&self.config.servers);
        for (index, (server, config)) in servers.enumerate() {
            let is_idle = self.guess.in_flight(index) == 0 || mutant::is(Mutant::SlotFreedEarly);
            if server.setting == Setting::Leaving && is_idle {
                server.setting = Setting::Gone;
                server.health = Health::default();
                server.report = None;
                self.leaving -= 1;
                info!("server {} has left", config.name);
            }
        }
        self.note_states();
    }

    /// The slots that servers to come may have: those that others have left and nothing names any
    /// more, no link, and no request that one of them failed before; then new ones.
    fn free_slots(&self) -> VecDeque<usize> {
        let mut named = HashSet::new();
        if !mutant::is(Mutant::SlotFreedEarly) {
            named.extend(self.links.iter().map(|(_, link)| link.server));
            for (_, task) in &self.tasks {
                named.extend(task.stale_at);
                named.extend(task.turned_from.map(usize::from));
                named.extend(task.tried.iter().map(|tried| usize::from(*tried)));
            }
        }
        let slots = self.servers.iter().enumerate();
        slots
            .filter(|(index, server)| server.setting == Setting::Gone && !named.contains(index))
            .map(|(index, _)| index)
            .chain(self.servers.len()..SLOTS_MAX)
            .take(SERVERS_MAX)
            .collect()
    }

    /// Closes the unused links to a server.
    fn close_pool(&mut self, index: usize) {
        while let Some(link) = self
            .servers
            .get_mut(index)
            .and_then(|server| server.pool.take(&mut self.links))
        {
            self.bury_link(link);
        }
    }
}
