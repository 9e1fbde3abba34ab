//! Strict HTTP/1.1, case by case: what comes in, what the server may see, what the client must get.
//!
//! The cases are data, in the files of `tests/conformance`, each for one theme; `FORMAT.txt` there
//! explains them. They are played before the real binary over sockets, and in the simulated world
//! with their bytes cut in many ways, where the verdict has to be the same.
//!
//! - `cargo test --test conformance`: all of them.
//! - `CASE='two hosts' cargo test --test conformance`: those with these words in their names.
//! - `SEEDS=100 cargo test --test conformance however`: cut at random a hundred times, not three.
#![forbid(unsafe_code)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    missing_docs,
    unreachable_pub
)]

#[path = "balance/program.rs"]
#[allow(dead_code)]
mod program;
#[path = "balance/watch.rs"]
#[allow(dead_code)]
mod watch;
#[path = "balance/wire.rs"]
#[allow(dead_code)]
mod wire;

#[path = "conformance/cutting.rs"]
mod cutting;
#[path = "conformance/format.rs"]
mod format;
#[path = "conformance/play.rs"]
mod play;
#[path = "conformance/reading.rs"]
mod reading;
#[path = "conformance/simulated.rs"]
mod simulated;
#[path = "conformance/sockets.rs"]
mod sockets;
#[path = "conformance/text.rs"]
mod text;

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use bestguess::http::head::RULES;

use cutting::Cutting;
use format::{Case, Step, cases_in, parse};
use sockets::Sockets;

/// The fewest cases, and the fewest hostile ones among them.
const CASES_MIN: usize = 250;
const HOSTILE_MIN: usize = 120;

/// All cases that are to pass.
fn cases() -> Vec<Case> {
    chosen(cases_in(&folder()))
}

/// Those that the developer asks for.
fn chosen(mut cases: Vec<Case>) -> Vec<Case> {
    let words = std::env::var("CASE").unwrap_or_default();
    cases.retain(|case| case.name.contains(&words));
    assert!(!cases.is_empty(), "no case has {words:?} in its name");
    cases
}

fn folder() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance")
}

/// Plays all `cases` with all `cuttings` and tells of those that fail.
fn play_all(
    cases: &[Case],
    cuttings: &[Cutting],
    mut play: impl FnMut(&Case, Cutting) -> Result<(), String>,
) {
    let mut failures = Vec::new();
    for case in cases {
        for cutting in cuttings {
            let outcome = catch_unwind(AssertUnwindSafe(|| play(case, *cutting)));
            let outcome = outcome.unwrap_or_else(|_| Err("  a panic: see above\n".to_owned()));
            if let Err(why) = outcome {
                failures.push(format!(
                    "{} ({}, {})\n  {cutting}\n{why}",
                    case.name, case.section, case.place
                ));
                break;
            }
        }
    }
    assert!(
        failures.is_empty(),
        "{} of {} cases fail:\n\n{}",
        failures.len(),
        cases.len(),
        failures.join("\n")
    );
}

#[test]
fn the_binary_answers_every_case_over_sockets() {
    let mut sockets = Sockets::new();
    let cuttings = [Cutting::Whole, Cutting::SingleBytes];
    play_all(&cases(), &cuttings, |case, cutting| {
        sockets.play(case, cutting)
    });
}

#[test]
fn the_verdict_is_the_same_however_the_bytes_are_cut() {
    let seeds = std::env::var("SEEDS").map_or(3, |seeds| seeds.parse().unwrap());
    let mut cuttings = vec![
        Cutting::Whole,
        Cutting::SingleBytes,
        Cutting::Lines,
        Cutting::InLineEnds,
    ];
    cuttings.extend((1..=seeds).map(Cutting::Random));
    play_all(&cases(), &cuttings, simulated::play);
}

#[test]
fn the_files_have_enough_cases_each_with_a_name_of_its_own() {
    let cases = cases_in(&folder());
    let hostile = cases.iter().filter(|case| case.is_hostile).count();
    println!("{} cases, {hostile} of them hostile", cases.len());
    assert!(cases.len() >= CASES_MIN, "{} cases", cases.len());
    assert!(hostile >= HOSTILE_MIN, "{hostile} hostile cases");
    let mut names = HashMap::new();
    for case in &cases {
        if let Some(other) = names.insert(&case.name, &case.place) {
            panic!("{:?} twice: {other}, {}", case.name, case.place);
        }
    }
}

#[test]
fn every_row_of_the_judge_s_table_has_a_case_that_breaks_it() {
    let cases = cases_in(&folder());
    for rule in &RULES {
        let row = format!("{:?}", rule.refusal);
        let has = |case: &Case| case.refusals.contains(&row) || case.logged.contains(&row);
        assert!(cases.iter().any(has), "no case breaks {row}");
    }
}

#[test]
fn a_file_that_is_not_in_the_format_is_refused_with_its_place() {
    let good = "=== a\nRFC 1 §1\nC> x\n>C {ok}\n";
    assert!(parse("f", good).is_ok_and(|cases| cases.len() == 1));
    for (bad, why) in [
        ("C> x\n", "f:1: a line before the first case"),
        ("=== a\nRFC 1 §1\nC> x \n", "f:3: a blank at the end"),
        ("=== a\nRFC 1 §1\nX> x\n", "f:3: not a line of a case"),
        ("=== a\nRFC 1 §1\nC>x\n", "f:3: not a line of a case"),
        ("=== a\nRFC 1 §1\nC> \\q\n", "f:3: no escape"),
        ("=== a\nRFC 1 §1\nC> \\xg0\n", "f:3: no escape"),
        ("=== a\nRFC 1 §1\nC> {ok\n", "f:3: a { without its }"),
        ("=== a\nRFC 1 §1\nC> {what}\n", "f:3: no mark for C>"),
        ("=== a\nRFC 1 §1\nS> {what}\n", "f:3: no mark for S>"),
        ("=== a\nRFC 1 §1\n>S {what}\n", "f:3: no mark for >S"),
        ("=== a\nRFC 1 §1\n>C {what}\n", "f:3: no mark for >C"),
        ("=== a\nRFC 1 §1\n>C x\n", "f:3: a response begins with"),
        (
            "=== a\nRFC 1 §1\n>C {refused 400 Nothing}\n",
            "has no row Nothing",
        ),
        ("=== a\nC> x\n>C {ok}\n", "f:1: a: no section"),
        (
            "=== a\nRFC 1 §1\n>C {ok}\n",
            "f:1: a: a client that does nothing",
        ),
        (
            "=== a\nRFC 1 §1\nC> x\n",
            "f:1: a: nothing that the client has to get",
        ),
        (
            "=== a\nRFC 1 §1\nC> x\n>C {ok}\n>C {client}\n",
            "f:1: a: as many {client}",
        ),
    ] {
        let error = parse("f", bad).unwrap_err();
        assert!(error.contains(why), "{bad:?}: {error}");
    }
}

#[test]
fn the_example_in_the_explanation_of_the_format_holds() {
    let text = std::fs::read_to_string(folder().join("FORMAT.txt")).unwrap();
    let example = text.lines().filter_map(|line| line.strip_prefix("    "));
    let example: Vec<&str> = example.take_while(|line| !line.starts_with(' ')).collect();
    let end = example.iter().rposition(|line| line.starts_with(">C"));
    let cases = parse("FORMAT.txt", &example[..=end.unwrap()].join("\n")).unwrap();
    play_all(&cases, &[Cutting::Whole], simulated::play);
}

#[test]
fn escapes_and_repetitions_stand_for_their_bytes() {
    let text = "=== a\nRFC 1 §1 hostile\nC> a\\r\\n\\t\\0\\\\\\{\\}\\xff\nC>\nC> {3 x b\\x00}c\\\n>C {ok}\n";
    let cases = parse("f", text).unwrap();
    let wanted = b"a\r\n\t\0\\{}\xff\r\n\r\nb\0b\0b\0c";
    assert_eq!(cases[0].clients, [[Step::Send(wanted.to_vec())]]);
    assert!(cases[0].is_hostile && cases[0].section == "RFC 1 §1");
}

#[test]
fn a_readers_garbage_fails_every_case() {
    for bad in [
        "GET / HTTP/1.0\r\nHost: a\r\n\r\n",
        "GET http://a/ HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost:a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a \r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX: \x01\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX: b\nY: c\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\nx",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1;a\r\nx\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: y\r\n\r\n",
    ] {
        assert!(reading::request(bad.as_bytes()).is_err(), "{bad:?}");
    }
    for bad in [
        "HTTP/1.0 200 OK\r\n\r\n",
        "HTTP/1.1 200\r\n\r\n",
        "HTTP/1.1 204 x\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 103 x\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 200 x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 200 x\r\nTransfer-Encoding: chunked\r\n\r\n1 \r\nx\r\n0\r\n\r\n",
    ] {
        assert!(
            reading::response(bad.as_bytes(), false, false).is_err(),
            "{bad:?}"
        );
    }
}

/// Ways to expect something else than a case does; none if there is nothing to change.
type Change = (&'static str, fn(&mut Case) -> Option<()>);
const CHANGES: [Change; 5] = [
    ("another first response", |case| {
        let message = case.gets[0].messages.first_mut()?;
        message.text[b"HTTP/1.1 ".len()] ^= 1;
        message.or = None;
        Some(())
    }),
    ("no last response", |case| {
        case.gets.last_mut()?.messages.pop().map(drop)
    }),
    ("another end", |case| {
        let ends = &mut case.gets.last_mut()?.ends;
        *ends = Some(!(*ends)?);
        Some(())
    }),
    ("another byte at the server", |case| {
        let byte = case.links.last_mut()?.bytes.last_mut()?;
        *byte ^= 1;
        Some(())
    }),
    ("another connection to the server", |case| {
        let mut link = case.links.last().cloned().unwrap_or_default();
        link.bytes.push(b'x');
        case.links.push(link);
        Some(())
    }),
];

#[test]
fn every_case_fails_if_it_expects_something_else() {
    for case in cases() {
        for (what, change) in CHANGES {
            let mut changed = case.clone();
            if change(&mut changed).is_some() {
                let outcome = simulated::play(&changed, Cutting::Whole);
                assert!(
                    outcome.is_err(),
                    "{} ({}): {what} passes",
                    case.name,
                    case.place
                );
            }
        }
    }
}
