//! bestguess: a single-threaded HTTP load balancer.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod config;
pub mod buffer;
pub mod conn;
pub mod deadline;
pub mod http;
pub mod net;
pub mod cli;
pub mod client;
pub mod exchange;
pub mod guess;
pub mod health;
pub mod link;
pub mod logging;
pub mod pair;
pub mod probe;
pub mod proxy;
