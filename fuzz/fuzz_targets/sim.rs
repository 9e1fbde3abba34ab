//! The whole loop in the simulated world, with the input deciding in the seed's stead: which faults
//! there are, what the actors send, where it is cut, and in which order events come. All that the
//! simulator's checker holds to be true has to hold.

#![no_main]
#![allow(dead_code)] // the simulator's modules, of which not all is needed here

#[path = "../../tests/sim/admins.rs"]
mod admins;
#[path = "../../tests/sim/answered.rs"]
mod answered;
#[path = "../../tests/sim/answers.rs"]
mod answers;
#[path = "../../tests/sim/asked.rs"]
mod asked;
#[path = "../../tests/sim/changes.rs"]
mod changes;
#[path = "../../tests/sim/check.rs"]
mod check;
#[path = "../../tests/sim/clients.rs"]
mod clients;
#[path = "../../tests/sim/kernel.rs"]
mod kernel;
#[path = "../../tests/sim/net.rs"]
mod net;
#[path = "../../tests/sim/orders.rs"]
mod orders;
#[path = "../../tests/sim/processes.rs"]
mod processes;
#[path = "../../tests/sim/requests.rs"]
mod requests;
#[path = "../../tests/sim/rng.rs"]
mod rng;
#[path = "../../tests/sim/run.rs"]
mod run;
#[path = "../../tests/sim/scenario.rs"]
mod scenario;
#[path = "../../tests/sim/servers.rs"]
mod servers;
#[path = "../../tests/sim/trace.rs"]
mod trace;
#[path = "../../tests/sim/wire.rs"]
mod wire;
#[path = "../../tests/sim/world.rs"]
mod world;

use libfuzzer_sys::fuzz_target;

/// Where a panic was, which the runner asks for: here the fuzzer has told it already.
fn take_panic_place() -> String {
    String::new()
}

fuzz_target!(|input: &[u8]| {
    let Some((seed, tape)) = input.split_first() else {
        return;
    };
    rng::play(tape);
    let report = run::run(u64::from(*seed), false);
    rng::play(&[]);
    if let Some(failure) = report.failure {
        panic!("{failure}\n{}", report.tail);
    }
});
