//! The balancer as its users run it: the real binary before real servers, over real sockets, with
//! nothing but Rust at hand.
//!
//! `watch` is how a test waits for what it expects, `program` runs the binary, `wire` is a strict
//! client, `peer` a server that does what a test tells it. The other modules are the tests.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "balance/peer.rs"]
mod peer;
#[path = "balance/program.rs"]
mod program;
#[path = "balance/watch.rs"]
mod watch;
#[path = "balance/wire.rs"]
mod wire;

#[path = "balance/access.rs"]
mod access;
#[path = "balance/admin.rs"]
mod admin;
#[path = "balance/choice.rs"]
mod choice;
#[path = "balance/commands.rs"]
mod commands;
#[path = "balance/failover.rs"]
mod failover;
#[path = "balance/files.rs"]
mod files;
#[path = "balance/outage.rs"]
mod outage;
#[path = "balance/queue.rs"]
mod queue;
#[path = "balance/reload.rs"]
mod reload;
#[path = "balance/requests.rs"]
mod requests;
#[path = "balance/responses.rs"]
mod responses;
#[path = "balance/splice.rs"]
mod splice;
#[path = "balance/sticky.rs"]
mod sticky;
#[path = "balance/stopping.rs"]
mod stopping;
#[path = "balance/systemd.rs"]
mod systemd;
#[path = "balance/tunnel.rs"]
mod tunnel;
#[path = "balance/upgrade.rs"]
mod upgrade;
