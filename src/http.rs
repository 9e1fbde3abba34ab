//! HTTP/1.1 as RFC 9110 and RFC 9112 have it: read heads, meter content, write heads, answer.
//!
//! Pure: bytes and values in, bytes and values out. Knows no socket, no clock and no server.

pub mod body;
mod chunks;
pub mod cookie;
pub mod field;
pub mod grammar;
pub mod head;
mod judge;
mod message;
mod plain;
pub mod reply;
pub mod rewrite;
pub mod rules;
pub(crate) mod scan;
