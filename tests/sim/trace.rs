//! What happened, in order: the last of it to be shown, all of it in one number.

use std::collections::VecDeque;
use std::fmt::Write;

/// Entries that are kept to be shown.
const KEPT: usize = 60;

#[derive(Debug, Clone, Copy)]
struct Entry {
    at: u64,
    what: &'static str,
    values: [u64; 3],
}

/// The record of one run.
#[derive(Debug)]
pub struct Trace {
    last: VecDeque<Entry>,
    hash: u64,
    count: u64,
    /// Whether every entry is printed as it comes.
    pub is_loud: bool,
}

impl Trace {
    pub fn new(is_loud: bool) -> Trace {
        Trace {
            last: VecDeque::with_capacity(KEPT + 1),
            hash: 0xcbf2_9ce4_8422_2325,
            count: 0,
            is_loud,
        }
    }

    /// Adds what happened at `at` nanoseconds, with up to three numbers that say to whom.
    pub fn note(&mut self, at: u64, what: &'static str, a: u64, b: u64, c: u64) {
        let entry = Entry {
            at,
            what,
            values: [a, b, c],
        };
        for word in [at, what.len() as u64, a, b, c] {
            self.hash = (self.hash ^ word)
                .wrapping_mul(0x0100_0000_01b3)
                .rotate_left(29);
        }
        self.count += 1;
        if self.is_loud {
            println!("{}", line(&entry));
        }
        self.last.push_back(entry);
        if self.last.len() > KEPT {
            self.last.pop_front();
        }
    }

    /// All entries as one number.
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// How many entries there were.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The last entries, one per line.
    pub fn tail(&self) -> String {
        self.last.iter().fold(String::new(), |mut text, entry| {
            let _ = writeln!(text, "{}", line(entry));
            text
        })
    }
}

fn line(entry: &Entry) -> String {
    let [a, b, c] = entry.values;
    format!(
        "  {:>14.6} {:<28} {a} {b} {c}",
        entry.at as f64 / 1e9,
        entry.what
    )
}
