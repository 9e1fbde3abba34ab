//! The operator: adds, removes, drains, disables, weighs and replaces servers while there is trouble.
//!
//! Keeps a book of its own of who should be there, which the checker holds the balancer to: who was
//! taken out gets no request and no check that was not under way before.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;

use bestguess::config::ServerConfig;
use bestguess::proxy::{Change, Proxy, Setting};

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
    plans: Vec<ServerPlan>,
    members: Vec<Member>,
    /// It stays as it is, so that there is always one.
    anchor: usize,
    /// How often changes come, in nanoseconds; 0: never.
    pub every: u64,
    /// Whether the next is due.
    pub is_due: bool,
}

impl Members {
    pub fn new(scenario: &Scenario) -> Members {
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
            members: (0..plans.len()).map(member).collect(),
            plans,
            anchor: solid.unwrap_or(0),
            every: scenario.changes,
            is_due: false,
        }
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
        let index = rng.below(then.len() as u64) as usize;
        let name = self.name(index);
        if index == self.anchor {
            let weight = rng.pick(&[0.1, 1.0, 7.0]);
            return (Change::Weigh(name, weight), Some(then));
        }
        let (change, member) = match (self.members[index], rng.below(3)) {
            (Member::Out, _) => (Change::Add(self.config(index, rng)), Member::Open),
            (_, 0) => (Change::Remove(name), Member::Out),
            (Member::Open, 1) => (Change::Disable(name), Member::Disabled),
            (Member::Drained | Member::Disabled, 1) => (Change::Enable(name), Member::Open),
            _ => (Change::Drain(name), Member::Drained),
        };
        then[index] = member;
        (change, Some(then))
    }
}

/// Makes one change, if one is due.
pub fn make_if_due(proxy: &mut Proxy<SimNet>, world: &Rc<RefCell<World>>) {
    let (change, expected) = {
        let mut world = world.borrow_mut();
        if !std::mem::take(&mut world.members.is_due) {
            return;
        }
        let World { core, members, .. } = &mut *world;
        let (change, then) = members.draw(&mut core.rng);
        core.note(
            "change",
            members.members.len(),
            usize::from(then.is_some()),
            0,
        );
        if let Some(then) = &then {
            for (index, member) in then.iter().enumerate() {
                let gets = (
                    *member == Member::Open,
                    matches!(member, Member::Open | Member::Drained),
                );
                core.check.take_out(index, gets);
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
pub fn compare(proxy: &Proxy<SimNet>, world: &mut World) {
    let members = &world.members;
    let wanted: BTreeSet<(String, Setting)> = members
        .members
        .iter()
        .enumerate()
        .filter_map(|(index, member)| {
            let setting = match member {
                Member::Open => Setting::Enabled,
                Member::Drained => Setting::Draining,
                Member::Disabled => Setting::Disabled,
                Member::Out => return None,
            };
            Some((members.name(index), setting))
        })
        .collect();
    let there: BTreeSet<(String, Setting)> = proxy
        .servers()
        .map(|server| (server.name.to_owned(), server.setting))
        .collect();
    if there != wanted {
        let check = &mut world.core.check;
        check.fail(|| format!("the servers are {there:?}, and should be {wanted:?}"));
    }
}
