//! Bytes at the admin listener: nothing panics, every answer is whole and none is a fault of ours, and
//! nothing is left of the connection.
#![no_main]

#[path = "../../tests/admin/mod.rs"]
mod admin;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let _ = admin::ask(input);
});
