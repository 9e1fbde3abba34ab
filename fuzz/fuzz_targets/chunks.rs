//! Chunked content: the meter finds the data and the end that a decoder of whole lines finds, and what
//! it passes on is canonical.
#![no_main]
#![allow(dead_code)] // the second reading, of which not all is needed here

#[path = "../../tests/strict/mod.rs"]
mod strict;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    strict::compare::chunks(input);
});
