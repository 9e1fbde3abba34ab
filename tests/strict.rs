//! The balancer's reading of HTTP/1.1 against a second, independent one: see `strict/mod.rs`.
//!
//! The same comparison as in the fuzz targets, over their committed seeds and over messages that are
//! generated from a seed, so that it runs wherever Rust does.
#![forbid(unsafe_code)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    unreachable_pub
)]

#[path = "strict/mod.rs"]
mod strict;

use std::path::Path;

use strict::compare;
use strict::generate::{self, Rng};
use strict::pipes;

/// The committed seeds of a fuzz target, with their names.
fn seeds(target: &str) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz/corpus")
        .join(target);
    let entries = std::fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("the seeds in {}: {error}", folder.display()));
    let mut seeds: Vec<(String, Vec<u8>)> = entries
        .map(|entry| entry.expect("a seed").path())
        .map(|path| {
            (
                path.display().to_string(),
                std::fs::read(&path).expect("a seed"),
            )
        })
        .collect();
    seeds.sort();
    assert!(!seeds.is_empty(), "no seeds in {}", folder.display());
    seeds
}

/// A comparison: it panics where two readings differ, and tells how many messages went on whole.
type Compare = fn(&[u8]) -> usize;

fn compare_seeds(target: &str, compare: Compare) {
    let mut whole = 0;
    for (name, seed) in seeds(target) {
        let told = std::panic::catch_unwind(|| compare(&seed));
        whole += told.unwrap_or_else(|_| panic!("two readings of {name}"));
    }
    assert!(whole > 5, "{target}: only {whole} messages went on");
}

fn compare_generated(count: u64, generate: fn(&mut Rng) -> Vec<u8>, compare: Compare) {
    let mut whole = 0;
    for seed in 0..count {
        let mut rng = Rng::new(seed);
        let mut input = vec![rng.below(256) as u8];
        input.extend(generate(&mut rng));
        let told = std::panic::catch_unwind(|| compare(&input));
        whole += told.unwrap_or_else(|_| panic!("two readings of the input of seed {seed}"));
    }
    assert!(whole as u64 > count / 4, "only {whole} messages went on");
}

#[test]
fn every_seed_of_requests_is_read_alike() {
    compare_seeds("requests", compare::requests);
}

#[test]
fn every_seed_of_responses_is_read_alike() {
    compare_seeds("responses", compare::responses);
}

#[test]
fn every_seed_of_chunks_is_read_alike() {
    compare_seeds("chunks", compare::chunks);
}

#[test]
fn generated_requests_are_read_alike() {
    compare_generated(15_000, generate::requests, compare::requests);
}

#[test]
fn generated_responses_are_read_alike() {
    compare_generated(15_000, generate::responses, compare::responses);
}

#[test]
fn generated_chunks_are_read_alike() {
    compare_generated(15_000, generate::chunks, compare::chunks);
}

#[test]
fn what_the_whole_balancer_writes_is_read_as_whole_messages() {
    compare_generated(3_000, generate::pipes, pipes::pipes);
}

#[test]
fn every_seed_of_pipes_is_read_as_whole_messages() {
    compare_seeds("pipes", pipes::pipes);
}

#[test]
fn a_head_that_is_refused_is_answered_without_content() {
    assert_eq!(
        pipes::pipes(b"00HEAD / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"),
        1
    );
}

#[test]
fn a_reply_to_a_kept_old_client_says_that_it_is_kept() {
    // There is no answer: the balancer has to give one.
    let input = b"00GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n";
    assert_eq!(pipes::pipes(input), 2, "RFC 9112 §9.3");
}

#[test]
fn an_upgrade_that_connection_names_among_others_is_not_lost() {
    // The request asks for an upgrade.
    let input = b"\x11HTTP/1.1 101 S\r\nUpgrade: websocket\r\nConnection: upgrade, x-a\r\n\r\n";
    assert_eq!(compare::responses(input), 1, "RFC 9110 §7.8");
}

/// The reading of the wires itself: bugs that show there are seen there.
#[cfg(feature = "mutants")]
#[test]
fn known_bugs_show_on_the_wires() {
    use bestguess::mutant::{Mutant, choose};
    for mutant in [
        Mutant::InterimTakenForFinal,
        Mutant::LastChunkForgotten,
        Mutant::HeadGivenContent,
        Mutant::ShortContentTakenForWhole,
        Mutant::RestNotHeld,
        Mutant::PostSentTwice,
        Mutant::PipelinedRequestDropped,
    ] {
        choose(Some(mutant));
        let is_seen = |seed: &u64| {
            let mut rng = Rng::new(*seed);
            let mut input = vec![rng.below(256) as u8];
            input.extend(generate::pipes(&mut rng));
            std::panic::catch_unwind(|| pipes::pipes(&input)).is_err()
        };
        let seen = (0..3_000).find(is_seen);
        choose(None);
        assert!(seen.is_some(), "{mutant:?} shows nowhere");
    }
}
