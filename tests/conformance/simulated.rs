//! Cases in the simulated world: the loop over `tests/sim`'s network and kernel, in virtual time.
//!
//! `net` and `kernel` are the simulator's own. What they name `world` and `check` are ours here: a
//! world of one scripted case, and a recorder of bytes in the checker's stead.

#[path = "../sim/kernel.rs"]
#[allow(dead_code)]
mod kernel;
#[path = "../sim/net.rs"]
mod net;
#[path = "../sim/rng.rs"]
#[allow(dead_code)]
mod rng;
#[path = "../sim/trace.rs"]
#[allow(dead_code)]
mod trace;

#[path = "recorder.rs"]
mod check;
#[path = "world.rs"]
mod world;

use std::cell::RefCell;
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;

use bestguess::config::{Address, CheckMode, Config, ServerConfig};
use bestguess::proxy::Proxy;

use crate::cutting::Cutting;
use crate::format::{Case, rule};
use kernel::SECOND;
use net::SimNet;
use world::World;

/// Where the balancer listens.
const PORT: u16 = 8080;
/// Virtual time that a case may take: less than any of the balancer's own patience.
const PATIENCE: u64 = 25 * SECOND;
/// Turns that a case may take.
const TURNS_MAX: u64 = 5_000_000;

thread_local! {
    static LOGGED: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// Keeps the warnings of each thread.
struct Keeper;

impl log::Log for Keeper {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        metadata.level() <= log::Level::Warn
    }

    fn log(&self, record: &log::Record<'_>) {
        if self.enabled(record.metadata()) {
            LOGGED.with_borrow_mut(|lines| lines.push(record.args().to_string()));
        }
    }

    fn flush(&self) {}
}

/// Plays `case`, its bytes cut by `cutting`.
///
/// # Errors
/// What is not as it has to be.
pub(crate) fn play(case: &Case, cutting: Cutting) -> Result<(), String> {
    static KEEPER: Keeper = Keeper;
    // Already set: by another thread.
    let _ = log::set_logger(&KEEPER);
    log::set_max_level(log::LevelFilter::Warn);
    LOGGED.take();
    let world = Rc::new(RefCell::new(World::new(case, PORT, cutting)));
    let seed = match cutting {
        Cutting::Random(seed) => seed,
        _ => 1,
    };
    let mut proxy = Proxy::new(
        SimNet(Rc::clone(&world), 0),
        config(case, cutting),
        100,
        seed,
    );
    world.borrow_mut().begin();
    let until = world.borrow().core.now + PATIENCE;
    loop {
        let turned = proxy.turn();
        let mut world = world.borrow_mut();
        if let Err(error) = turned {
            return Err(format!("  the turn failed: {error}\n"));
        }
        let is_late = world.core.now >= until || world.core.turn_no() > TURNS_MAX;
        if world.is_over() || is_late {
            // What the balancer has given to its kernel arrives.
            world.settle();
            break;
        }
    }
    world.borrow().verdict()?;
    let logged = LOGGED.take();
    for row in &case.logged {
        let (text, section) = rule(row)?;
        let wanted = format!("sent a broken response: {text} ({section})");
        if !logged.iter().any(|line| line.ends_with(&wanted)) {
            return Err(format!(
                "  the log has no line with\n    - {wanted}\n    + {logged:?}\n"
            ));
        }
    }
    Ok(())
}

fn config(case: &Case, cutting: Cutting) -> Config {
    let at = |port| Address::Tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    let mut config = Config::new(at(PORT), vec![ServerConfig::new(at(9001))]);
    config.check.mode = CheckMode::Off;
    if matches!(cutting, Cutting::Random(seed) if seed % 2 == 1) {
        // All content that need not be read is not.
        config.budgets.splice_bytes = 1;
    }
    match case.option.as_deref() {
        None => {}
        Some("--forwarded") => config.forwarded = true,
        Some("--trust-forwarded") => config.trust_forwarded = true,
        Some(other) => panic!(
            "{}: no option of the simulated balancer: {other}",
            case.place
        ),
    }
    config
}
