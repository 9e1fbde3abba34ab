//! The whole balancer between clients and servers made of bytes: what it writes on each connection is
//! read as whole messages, and each answer is the answer to what was asked.
#![no_main]
#![allow(dead_code)] // the second reading, of which not all is needed here

#[path = "../../tests/strict/mod.rs"]
mod strict;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    strict::pipes::pipes(input);
});
