//! Bytes from a server: what goes on to a client is what a strict reader reads in them, whatever the
//! pieces, the request and the client.
#![no_main]
#![allow(dead_code)] // the second reading, of which not all is needed here

#[path = "../../tests/strict/mod.rs"]
mod strict;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    strict::compare::responses(input);
});
