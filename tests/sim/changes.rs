//! The operator: adds, removes, drains, disables, weighs and replaces servers while there is trouble,
//! from within the process or, as `admins` and `orders` say it, at the admin listener.
//!
//! Keeps a book of its own of who should be there, which the checker holds the balancer to: who was
//! taken out gets no request and no check that was not under way before. One order at a time is under
//! way at the admin listener: it is made when it is answered so, and if its connection ends without an
//! answer it may have been made or not. Until then the operator does nothing else.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;

use bestguess::config::ServerConfig;
use bestguess::proxy::{Change, Proxy, Setting};

use super::admins;
use super::check::{Checker, Tap};
use super::kernel::ConnId;
use super::net::SimNet;
use super::rng::Rng;
use super::scenario::{Scenario, ServerPlan};
use super::world::World;

/// What the book says of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Member {
    Open,
    Drained,
    Disabled,
    Out,
}

/// The book.
#[derive(Debug)]
pub struct Members {
    /// Whose book it is.
    process: usize,
    plans: Vec<ServerPlan>,
    members: Vec<Member>,
    /// It stays as it is, so that there is always one.
    anchor: usize,
    /// How often changes come, in nanoseconds; 0: never.
    pub every: u64,
    /// Whether the next is due.
    pub is_due: bool,
    pending: Option<Pending>,
    is_closed: bool,
}

/// A change of one server, and what the book says of it then.
#[derive(Debug, Clone)]
pub struct Wanted {
    pub change: Change,
    server: usize,
    then: Member,
}

/// An order that is under way.
#[derive(Debug)]
struct Pending {
    wanted: Wanted,
    conn: ConnId,
    /// Its place among the requests of its connection.
    place: usize,
    /// What says that it was made.
    status: u16,
    /// Whether the process had been replaced by another before the order was sent.
    is_late: bool,
}

impl Member {
    /// Whether it gets requests, and checks.
    fn gets(self) -> (bool, bool) {
        (
            self == Member::Open,
            matches!(self, Member::Open | Member::Drained),
        )
    }

    /// What the balancer should say of it.
    fn setting(self) -> Option<Setting> {
        match self {
            Member::Open => Some(Setting::Enabled),
            Member::Drained => Some(Setting::Draining),
            Member::Disabled => Some(Setting::Disabled),
            Member::Out => None,
        }
    }
}

impl Members {
    /// The book of a process that has just begun.
    pub fn new(scenario: &Scenario, process: usize) -> Members {
        let plans = scenario.servers.clone();
        let first_spare = plans.len() - scenario.spares;
        let member = |index| match index < first_spare {
            true => Member::Open,
            false => Member::Out,
        };
        let solid = plans
            .iter()
            .take(first_spare)
            .position(|plan| plan.is_solid);
        Members {
            process,
            members: (0..plans.len()).map(member).collect(),
            plans,
            anchor: solid.unwrap_or(0),
            every: scenario.changes,
            is_due: false,
            pending: None,
            is_closed: false,
        }
    }

    /// The name of the server that is always there.
    pub fn anchor(&self) -> String {
        self.name(self.anchor)
    }

    /// Something to be ordered; none: nobody changes anything, or another order is under way.
    pub fn order(&self, rng: &mut Rng) -> Option<Wanted> {
        (self.every > 0 && !self.is_closed && self.pending.is_none()).then(|| self.draw_one(rng))
    }

    /// It will be ordered on `conn`, behind `place` other requests, and answered with `status`.
    pub fn begin(&mut self, wanted: Wanted, conn: ConnId, place: usize, status: u16) {
        self.pending = Some(Pending {
            wanted,
            conn,
            place,
            status,
            is_late: false,
        });
    }

    /// All of the order is on its way: it may be made at any moment.
    pub fn ordered(&mut self, check: &mut Checker) {
        let process = self.process;
        if let Some(pending) = &mut self.pending {
            let server = pending.wanted.server;
            let (before, then) = (self.members[server].gets(), pending.wanted.then.gets());
            let gets = (before.0 || then.0, before.1 || then.1);
            check.take_out(process, server, gets);
            pending.is_late = check.houses[process].is_retired;
        }
    }

    /// Nothing more is ordered by this book.
    pub fn close(&mut self) {
        self.is_closed = true;
    }

    /// Nobody will ever know what became of the order that is under way.
    pub fn forget(&mut self) {
        self.pending = None;
    }

    /// The connection of the order that is under way.
    pub fn pending_conn(&self) -> Option<ConnId> {
        self.pending.as_ref().map(|pending| pending.conn)
    }

    fn name(&self, index: usize) -> String {
        self.plans[index].address.to_string()
    }

    fn config(&self, index: usize, rng: &mut Rng) -> ServerConfig {
        ServerConfig {
            max: self.plans[index].max,
            weight: rng.pick(&[1.0, 1.0, 0.2, 3.0]),
            ..ServerConfig::new(self.plans[index].address.clone())
        }
    }

    /// Something to change, and what the book says then; none: what is to be refused.
    fn draw(&self, rng: &mut Rng) -> (Change, Option<Vec<Member>>) {
        let mut then = self.members.clone();
        if rng.chance(150) {
            let change = match rng.below(3) {
                0 => Change::Drain("nobody".to_owned()),
                1 => Change::Replace(Vec::new()),
                _ => Change::Add(self.config(self.anchor, rng)),
            };
            return (change, None);
        }
        if rng.chance(250) {
            let mut servers = Vec::new();
            for (index, member) in then.iter_mut().enumerate() {
                let stays = index == self.anchor || rng.chance(500);
                if stays {
                    servers.push(self.config(index, rng));
                }
                *member = match (stays, *member) {
                    (false, _) => Member::Out,
                    (true, Member::Out) => Member::Open,
                    (true, member) => member,
                };
            }
            return (Change::Replace(servers), Some(then));
        }
        let one = self.draw_one(rng);
        then[one.server] = one.then;
        (one.change, Some(then))
    }

    /// A change of one server that can be made.
    fn draw_one(&self, rng: &mut Rng) -> Wanted {
        let server = rng.below(self.members.len() as u64) as usize;
        let (name, now) = (self.name(server), self.members[server]);
        let (change, then) = match (now, rng.below(3)) {
            _ if server == self.anchor => (Change::Weigh(name, rng.pick(&[0.1, 1.0, 7.0])), now),
            (Member::Out, _) => (Change::Add(self.config(server, rng)), Member::Open),
            (_, 0) => (Change::Remove(name), Member::Out),
            (Member::Open, 1) => (Change::Disable(name), Member::Disabled),
            (Member::Drained | Member::Disabled, 1) => (Change::Enable(name), Member::Open),
            _ => (Change::Drain(name), Member::Drained),
        };
        Wanted {
            change,
            server,
            then,
        }
    }
}

/// Looks what has become of the order that is under way.
pub fn settle(proxy: &Proxy<SimNet>, world: &mut World, process: usize) {
    let World { core, books, .. } = &mut *world;
    let members = &mut books[process];
    let Some(pending) = &members.pending else {
        return;
    };
    let (server, then) = (pending.wanted.server, pending.wanted.then);
    let heard = match core.check.taps.get(pending.conn) {
        Some(Tap::Admin(heard)) => heard.as_slice(),
        _ => &[],
    };
    let status = admins::statuses(heard).get(pending.place).copied();
    let is_over = !core.conns[pending.conn].is_held && !core.admin_backlog.contains(&pending.conn);
    if pending.is_late && status == Some(pending.status) {
        let text = format!(
            "{:?} was made by who is not in charge",
            pending.wanted.change
        );
        return core.check.fail(|| text);
    }
    let is_made = match status {
        Some(status) if status == pending.status => true,
        // It came too late.
        Some(408) => false,
        // It came to a process that is not in charge any more.
        Some(421) if core.check.houses[process].is_retired => false,
        Some(status) => {
            let text = format!("{:?} came to {status}", pending.wanted.change);
            return core.check.fail(|| text);
        }
        None if is_over => {
            let name = members.name(server);
            let there = proxy.servers().find(|server| server.name == name);
            let there = there.map(|server| server.setting);
            there.filter(|setting| setting.is_present()) == then.setting()
        }
        None => return,
    };
    core.note("order", server, usize::from(is_made), 0);
    if is_made {
        core.check.tally.orders += 1;
        members.members[server] = then;
    }
    let gets = members.members[server].gets();
    core.check.take_out(process, server, gets);
    members.pending = None;
    compare(proxy, world, process);
}

/// Makes one change, if one is due.
pub fn make_if_due(proxy: &mut Proxy<SimNet>, world: &Rc<RefCell<World>>, process: usize) {
    let (change, expected) = {
        let mut world = world.borrow_mut();
        settle(proxy, &mut world, process);
        let World { core, books, .. } = &mut *world;
        let members = &mut books[process];
        if members.pending.is_some() || !std::mem::take(&mut members.is_due) {
            return;
        }
        core.processes[process].is_settled = false;
        let (change, then) = members.draw(&mut core.rng);
        core.note(
            "change",
            members.members.len(),
            usize::from(then.is_some()),
            0,
        );
        if let Some(then) = &then {
            for (index, member) in then.iter().enumerate() {
                core.check.take_out(process, index, member.gets());
            }
            members.members.clone_from(then);
        }
        (change, then.is_some())
    };
    let text = format!("{change:?}");
    let outcome = proxy.change(change);
    if outcome.is_ok() != expected {
        let check = &mut world.borrow_mut().core.check;
        check.fail(|| format!("{text} came to {outcome:?}"));
    }
}

/// Whether the balancer has the servers of the book, and no others.
pub fn compare(proxy: &Proxy<SimNet>, world: &mut World, process: usize) {
    let members = &world.books[process];
    let wanted: BTreeSet<(String, Setting)> = members
        .members
        .iter()
        .enumerate()
        .filter_map(|(index, member)| Some((members.name(index), member.setting()?)))
        .collect();
    let there: BTreeSet<(String, Setting)> = proxy
        .servers()
        .filter(|server| server.setting.is_present())
        .map(|server| (server.name.to_owned(), server.setting))
        .collect();
    if there != wanted {
        let check = &mut world.core.check;
        check.fail(|| format!("the servers are {there:?}, and should be {wanted:?}"));
    }
}
