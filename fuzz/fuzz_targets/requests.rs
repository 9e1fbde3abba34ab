//! Bytes from a client: what goes on to a server is what a strict reader reads in them, message by
//! message, whatever the pieces they come in.
#![no_main]
#![allow(dead_code)] // the second reading, of which not all is needed here

#[path = "../../tests/strict/mod.rs"]
mod strict;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    strict::compare::requests(input);
});
