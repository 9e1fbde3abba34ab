//! One run of one seed: trouble, then calm, then an empty house.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

use bestguess::proxy::{Census, Flow};

use super::changes;
use super::check::Tally;
use super::clients::Client;
use super::kernel::{MILLI, SECOND};
use super::processes::Processes;
use super::scenario::Scenario;
use super::world::World;

/// Turns that one run may take.
const TURNS_MAX: u64 = 20_000_000;
/// Virtual time for which trouble may last.
const TROUBLE_MAX: u64 = 30 * SECOND;

/// What came of a run.
#[derive(Debug, Clone)]
pub struct Report {
    pub failure: Option<String>,
    pub hash: u64,
    pub tally: Tally,
    pub tail: String,
    pub turns: u64,
    pub virtual_ns: u64,
}

/// Runs `seed`.
pub fn run(seed: u64, is_loud: bool) -> Report {
    let scenario = Scenario::new(seed);
    let world = Rc::new(RefCell::new(World::new(&scenario, is_loud)));
    let outcome = catch_unwind(AssertUnwindSafe(|| drive(&world, &scenario)));
    let panicked = outcome.err().map(|cause| {
        let text = cause.downcast_ref::<String>().cloned();
        let text = text.or_else(|| cause.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        format!(
            "panic: {} {}",
            text.unwrap_or_default(),
            super::take_panic_place()
        )
    });
    let world = world.borrow();
    let core = &world.core;
    Report {
        failure: panicked.or_else(|| core.check.failure.clone()),
        hash: core.trace.hash(),
        tally: core.check.tally,
        tail: core.trace.tail(),
        turns: core.turn_no(),
        virtual_ns: core.now,
    }
}

/// The balancer and how it is driven.
struct Driver<'w> {
    processes: Processes<'w>,
    world: &'w Rc<RefCell<World>>,
    is_stopped: bool,
}

fn drive(world: &Rc<RefCell<World>>, scenario: &Scenario) {
    let mut driver = Driver {
        processes: Processes::new(world, scenario),
        world,
        is_stopped: false,
    };
    // Trouble.
    driver.turn_until(TROUBLE_MAX, |world, _| world.are_clients_done());
    if world.borrow().is_stopping && !driver.is_over() {
        let drain = scenario.timeouts.drain.as_nanos() as u64 + SECOND;
        driver.turn_until(drain, |_, _| false);
        if !driver.is_over() {
            world
                .borrow_mut()
                .core
                .check
                .fail(|| "told to stop, it goes on".to_owned());
        }
    }
    if driver.is_over() {
        return driver.stopped(scenario);
    }
    // Calm: everything that is open comes to an end.
    world.borrow_mut().calm();
    let starting =
        (scenario.check.timeout.as_nanos() as u64 + SECOND) * driver.processes.count() as u64;
    driver.turn_until(scenario.patience() + starting, |world, processes| {
        world.are_clients_done() && processes.count() == 1
    });
    if driver.is_over() {
        return driver.stopped(scenario);
    }
    if driver.processes.count() > 1 {
        let check = &mut world.borrow_mut().core.check;
        return check.fail(|| "another process has taken over, and it goes on".to_owned());
    }
    // Servers are found well again.
    world.borrow_mut().clear_servers();
    driver.turn_until(scenario.recovery(), |_, _| false);
    {
        let mut world = world.borrow_mut();
        let still = world.open_clients();
        if !still.is_empty() {
            let span = scenario.patience() / MILLI;
            world.core.check.fail(|| {
                format!("{span} ms after all faults, connections {still:?} are still open")
            });
        }
        // Whoever comes now is served.
        let fresh = world.clients.len();
        for index in fresh..fresh + 2 {
            let client = Client::fresh(index);
            client.start(&mut world.core, (index - fresh) as u64 * 5 * SECOND);
            world.clients.push(client);
        }
    }
    driver.turn_until(12 * SECOND, |world, _| world.are_clients_done());
    {
        let mut world = world.borrow_mut();
        let World { clients, core, .. } = &mut *world;
        for client in clients.iter() {
            client.judge_fresh(core);
        }
    }
    // An empty house: nothing is left but pooled links.
    driver.turn_until(10 * SECOND, |world, processes| {
        let (pooled, busy) = world.core.check.links();
        processes.main().census()
            == Census {
                links: pooled,
                ..Census::default()
            }
            && busy == 0
    });
    let census = driver.processes.main().census();
    let (pooled, busy) = world.borrow().core.check.links();
    if census
        != (Census {
            links: pooled,
            ..Census::default()
        })
        || busy > 0
    {
        world
            .borrow_mut()
            .core
            .check
            .fail(|| format!("left in an empty house: {census:?}, {pooled} pooled, {busy} busy"));
    }
    {
        let mut world = world.borrow_mut();
        let wrong = world.admins.wrong(&world.core.check);
        if let Some(wrong) = wrong {
            world.core.check.fail(|| wrong);
        }
    }
    let number = driver.processes.in_charge();
    changes::compare(driver.processes.main(), &mut world.borrow_mut(), number);
}

impl Driver<'_> {
    /// Turns until `is_enough`, a violation, the process's end, or `span` nanoseconds are over.
    fn turn_until(&mut self, span: u64, is_enough: impl Fn(&mut World, &Processes<'_>) -> bool) {
        let until = {
            let mut world = self.world.borrow_mut();
            world.wake_after(span + 1);
            world.core.now + span
        };
        loop {
            if self.is_stopped {
                return;
            }
            let flow = self.processes.turn();
            let mut world = self.world.borrow_mut();
            world.core.check.end_turn();
            match flow {
                Ok(Flow::Continue) => {}
                Ok(Flow::Stop) => self.is_stopped = true,
                Err(error) => world
                    .core
                    .check
                    .fail(|| format!("the turn failed: {error}")),
            }
            if world.core.turn_no() > TURNS_MAX {
                world
                    .core
                    .check
                    .fail(|| "more turns than any run needs".to_owned());
            }
            if world.core.check.failure.is_some()
                || world.core.now >= until
                || is_enough(&mut world, &self.processes)
            {
                return;
            }
        }
    }

    fn is_over(&self) -> bool {
        self.is_stopped || self.world.borrow().core.check.failure.is_some()
    }

    /// The process has ended: it was told to.
    fn stopped(self, scenario: &Scenario) {
        let mut world = self.world.borrow_mut();
        let may_stop = scenario.stop_at.is_some();
        if self.is_stopped && !may_stop {
            world
                .core
                .check
                .fail(|| "the process ended by itself".to_owned());
        }
    }
}
