//! Every known bug is found: what the simulator does not see, it does not prove. `SIM_MUTANT=Probe`
//! hunts only for those whose name has that in it.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use bestguess::mutant::{self, ALL, Mutant};

use super::run::run;

/// Within so many seeds a bug has to be found.
const SEEDS_MAX: u64 = 1500;

#[test]
fn every_mutant_is_found() {
    super::hush_panics();
    let wanted = std::env::var("SIM_MUTANT").unwrap_or_default();
    let is_wanted = |mutant: &Mutant| format!("{mutant:?}").contains(&wanted);
    let next = AtomicUsize::new(0);
    let rows = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..2 {
            std::thread::Builder::new()
                .name("seeds".to_owned())
                .spawn_scoped(scope, || {
                    while let Some(mutant) = ALL.get(next.fetch_add(1, Ordering::Relaxed)) {
                        if is_wanted(mutant) {
                            let found = hunt(*mutant);
                            rows.lock().unwrap().push((*mutant, found));
                        }
                    }
                })
                .unwrap();
        }
    });
    let mut rows = rows.into_inner().unwrap();
    rows.sort_by_key(|(mutant, _)| *mutant as u8);
    println!("| mutant | seeds | what was seen |\n|---|---|---|");
    for (mutant, found) in &rows {
        match found {
            Some((seeds, seen)) => println!("| {mutant:?} | {seeds} | {} |", short(seen)),
            None => println!("| {mutant:?} | not in {SEEDS_MAX} | |"),
        }
    }
    let missed: Vec<Mutant> = rows
        .iter()
        .filter_map(|(mutant, found)| found.is_none().then_some(*mutant))
        .collect();
    assert!(!rows.is_empty(), "no mutant is called {wanted}");
    assert!(missed.is_empty(), "not found: {missed:?}");
}

/// Runs seeds with `mutant` in until one fails: how many that took, and what was seen.
fn hunt(mutant: Mutant) -> Option<(u64, String)> {
    mutant::choose(Some(mutant));
    let found = (0..SEEDS_MAX).find_map(|seed| Some((seed + 1, run(seed, false).failure?)));
    mutant::choose(None);
    found
}

fn short(seen: &str) -> String {
    seen.lines()
        .next()
        .unwrap_or_default()
        .chars()
        .take(90)
        .collect()
}
