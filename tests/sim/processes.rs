//! The balancer's processes: one serves, and others take over from it as an upgrade has it.
//!
//! The newer one checks its servers first, then accepts beside the older one, which after a moment
//! hears of it, leaves the listeners and finishes what it has. A newer one that dies before changes
//! nothing. While there are several, none of them holds the others up: each polls without waiting, and
//! when none has anything to do the world goes on until one has.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;

use bestguess::proxy::{Flow, Proxy};

use super::changes::{self, Members};
use super::kernel::SECOND;
use super::net::SimNet;
use super::scenario::{Scenario, Upgrade};
use super::world::World;

/// A newer process is ready after this time, whatever is known of servers.
const READY_PATIENCE: u64 = 20 * SECOND;

/// All of them, those that are over as well.
pub struct Processes<'w> {
    world: &'w Rc<RefCell<World>>,
    scenario: &'w Scenario,
    lives: Vec<Option<Life>>,
    last: usize,
}

/// One process.
struct Life {
    proxy: Proxy<SimNet>,
    phase: Phase,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// It checks its servers for the first time, and may die of it.
    Starting {
        ready_by: u64,
        dies_at: u64,
        heard_after: u64,
    },
    Serving,
    /// Another one accepts too, and this one will hear of it.
    Replaced(u64),
    /// It finishes what it has.
    Retired,
}

impl<'w> Processes<'w> {
    /// The first of them, which has the listener.
    pub fn new(world: &'w Rc<RefCell<World>>, scenario: &'w Scenario) -> Processes<'w> {
        let mut processes = Processes {
            world,
            scenario,
            lives: Vec::new(),
            last: 0,
        };
        let first = processes.fork(Phase::Serving);
        world.borrow_mut().core.processes[first].attach(0, 0);
        processes
    }

    /// The one that serves.
    pub fn main(&self) -> &Proxy<SimNet> {
        let lives = self.lives.iter().flatten();
        let mut serving = lives.filter(|life| !matches!(life.phase, Phase::Starting { .. }));
        &serving.next_back().expect("one serves").proxy
    }

    /// The number of the one that serves.
    pub fn in_charge(&self) -> usize {
        self.world.borrow().in_charge
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.lives.iter().flatten().count()
    }

    /// One of them has a turn.
    pub fn turn(&mut self) -> io::Result<Flow> {
        let number = self.next();
        let Some(life) = &mut self.lives[number] else {
            return Ok(Flow::Continue);
        };
        let flow = life.proxy.turn()?;
        changes::make_if_due(&mut life.proxy, self.world, number);
        if flow == Flow::Stop {
            if life.phase != Phase::Retired {
                return Ok(Flow::Stop);
            }
            self.end(number);
        }
        for number in 0..self.lives.len() {
            self.look_after(number);
        }
        let upgrade = self.world.borrow_mut().upgrade.take();
        if let Some(upgrade) = upgrade {
            self.begin(upgrade);
        }
        Ok(Flow::Continue)
    }

    /// Whose turn it is.
    fn next(&mut self) -> usize {
        let count = self.lives.len();
        let order = (1..=count).map(|step| (self.last + step) % count);
        let alive: Vec<usize> = order
            .filter(|number| self.lives[*number].is_some())
            .collect();
        let world = &mut *self.world.borrow_mut();
        let has_work = |world: &World, number: usize| {
            let process = &world.core.processes[number];
            !process.is_settled || world.has_news_for(number) || process.wake_at <= world.core.now
        };
        self.last = match alive.iter().find(|number| has_work(world, **number)) {
            Some(number) => *number,
            None => {
                let wakes = alive
                    .iter()
                    .map(|number| world.core.processes[*number].wake_at);
                if alive.len() > 1 {
                    world.go_on(wakes.min().unwrap_or(u64::MAX));
                }
                let found = alive.iter().find(|number| has_work(world, **number));
                *found.unwrap_or(&alive[0])
            }
        };
        self.last
    }

    fn fork(&mut self, phase: Phase) -> usize {
        let number = {
            let mut world = self.world.borrow_mut();
            let number = world.core.fork();
            world.books.push(Members::new(self.scenario, number));
            number
        };
        let net = SimNet(Rc::clone(self.world), number);
        let Scenario {
            clients_max, seed, ..
        } = *self.scenario;
        let config = self.scenario.config();
        let mut proxy = Proxy::new(net, config, clients_max, seed + number as u64);
        proxy.read_servers_by(bestguess::cli::server);
        self.lives.push(Some(Life { proxy, phase }));
        number
    }

    /// An upgrade begins, if none is under way.
    fn begin(&mut self, upgrade: Upgrade) {
        let is_quiet = |phase| matches!(phase, Phase::Serving | Phase::Retired);
        if !self.lives.iter().flatten().all(|life| is_quiet(life.phase)) {
            return;
        }
        let dies_after = upgrade.dies_after;
        let now = {
            let mut world = self.world.borrow_mut();
            world
                .core
                .note("upgrade", usize::from(dies_after.is_some()), 0, 0);
            for after in [Some(READY_PATIENCE), dies_after].into_iter().flatten() {
                world.wake_after(after);
            }
            world.core.now
        };
        self.fork(Phase::Starting {
            ready_by: now + READY_PATIENCE,
            dies_at: dies_after.map_or(u64::MAX, |after| now + after),
            heard_after: upgrade.heard_after,
        });
    }

    /// Does what time or its servers' checks have brought for a process.
    fn look_after(&mut self, number: usize) {
        let Some(life) = &mut self.lives[number] else {
            return;
        };
        let now = self.world.borrow().core.now;
        match life.phase {
            Phase::Starting { dies_at, .. } if now >= dies_at => {
                self.world.borrow_mut().core.note("dies", number, 0, 0);
                self.end(number);
            }
            Phase::Starting {
                ready_by,
                heard_after,
                ..
            } if life.proxy.is_first_round_over() || now >= ready_by => {
                let world = &mut *self.world.borrow_mut();
                let elder = world.in_charge;
                // The operator waits until it is known who has his order.
                let ordered = world.books[elder].pending_conn();
                if ordered.is_some_and(|conn| world.core.admin_backlog.contains(&conn)) {
                    return;
                }
                life.phase = Phase::Serving;
                let (waiting, admins) = (world.core.backlog.len(), world.core.admin_backlog.len());
                world.core.processes[number].attach(waiting, admins);
                world
                    .core
                    .note("accepts beside the older one", number, 0, 0);
                world.books[elder].close();
                world.wake_after(heard_after);
                if let Some(elder) = &mut self.lives[elder] {
                    elder.phase = Phase::Replaced(now + heard_after);
                }
            }
            Phase::Replaced(heard_at) if now >= heard_at => {
                life.phase = Phase::Retired;
                {
                    let world = &mut *self.world.borrow_mut();
                    let core = &mut world.core;
                    core.note("has been replaced", number, 0, 0);
                    let process = &mut core.processes[number];
                    process.leave();
                    process.is_settled = false;
                    let grace = self.scenario.timeouts.drain_grace.as_nanos() as u64;
                    core.check.retired(number, grace);
                    core.check.tally.takeovers += 1;
                    world.in_charge = world.books.len() - 1;
                }
                life.proxy.retire();
            }
            _ => {}
        }
    }

    /// A process is over, and all that it had with it.
    fn end(&mut self, number: usize) {
        {
            let world = &mut *self.world.borrow_mut();
            world.core.note("process ends", number, 0, 0);
            world.admins.ended(&world.core, number);
        }
        if let Some(life) = self.lives[number].take() {
            let Life { proxy, .. } = life;
            // What it had ordered of it is known by now, or never will be.
            let mut world = self.world.borrow_mut();
            world.books[number].forget();
            world.core.processes[number].is_alive = false;
            drop(world);
            drop(proxy);
        }
    }
}
