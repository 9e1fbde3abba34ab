//! The admin listener under the seeds of its fuzz target, as they are and broken at every byte.
#![forbid(unsafe_code)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    unreachable_pub
)]

#[path = "admin/mod.rs"]
mod admin;

use std::fs;
use std::path::Path;

#[test]
fn seeds_mean_what_they_are_called() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/admin");
    for (name, statuses) in [
        ("what_there_is", [200; 4].as_slice()),
        ("drain_enable_disable", &[200; 3]),
        ("weights", &[200, 400]),
        ("add_in_chunks", &[201]),
        ("add_and_remove", &[100, 201, 200]),
        ("remove_all", &[200, 200, 409]),
        ("guesses", &[200, 400]),
        ("another_origin", &[403]),
        ("a_wrong_token", &[401]),
        ("no_token", &[403]),
        ("a_huge_content", &[413]),
    ] {
        let seed = fs::read(folder.join(name)).unwrap();
        assert_eq!(admin::ask(&seed), statuses, "{name}");
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/admin");
    let files = fs::read_dir(folder).unwrap();
    files
        .map(|file| fs::read(file.unwrap().path()).unwrap())
        .collect()
}

#[test]
fn every_seed_is_answered_and_leaves_nothing() {
    let seeds = seeds();
    assert!(seeds.len() >= 10);
    for seed in seeds {
        admin::ask(&seed);
        // At every door, and in every size of piece.
        for choice in 0..16 {
            admin::ask(&[&[choice], &seed[1..]].concat());
        }
    }
}

#[test]
fn a_seed_that_is_cut_or_has_a_strange_byte_leaves_nothing() {
    for seed in seeds() {
        for at in 1..seed.len().min(400) {
            admin::ask(&seed[..at]);
            let mut strange = seed.clone();
            strange[at] = [0, b'\n', b' ', b'%', 0xff][at % 5];
            admin::ask(&strange);
        }
    }
}
