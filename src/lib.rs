//! bestguess: a single-threaded HTTP load balancer.
//!
//! The layers, each of which knows only those below it:
//!
//! | layer | what it owns |
//! |---|---|
//! | [`run`] | the balancer as a process: descriptors, listeners, keys, logs |
//! | [`cli`], [`logging`], [`demo`], [`origin`], [`reload`] | the program around the balancer: arguments, log lines, the built-in server |
//! | [`service`] | the process among others: where the listener comes from, upgrades, systemd |
//! | [`proxy`] | all clients, links and checks, and [`proxy::Proxy::turn`], the only loop |
//! | [`pair`], [`client`], [`link`], [`probe`] | one pair and its pump; one client with its task; one pooled connection; one check |
//! | [`admin`] | what can be seen and changed from outside: requests taken apart, answers written |
//! | [`metrics`] | what is counted |
//! | [`conn`] | one socket: fill, flush, readiness |
//! | [`exchange`], [`guess`], [`sticky`], [`health`], [`report`], [`access`] | pure decisions: how far a message got, which server, whose server, who is valid, what servers say, what is written down |
//! | [`http`] | pure RFC 9112: judge heads, meter content, rewrite, reply |
//! | [`net`] | the seam: sockets, time and signals as traits; [`net::mio`] is the real network |
//! | [`buffer`], [`pipes`], [`deadline`], [`config`], [`math`], [`chance`] | blocks of memory, pipes of the kernel, a lazy heap of deadlines, plain values, logarithms, seeds |
//! | [`mutant`] | bugs to be put in on purpose, for the simulator to find |
//!
//! # One request's life
//!
//! `turn` polls and takes one look at the clock. An edge of a client leads to `serve`, whose steps say
//! what comes next. `Client::read_head` fills the scratch, judges the head and writes it anew into a
//! block (`Next::Choose`). If one of the N places is free, `Guess::pick` names a server, and a pooled
//! or new link is joined to the client; else the task waits in the queue. `pair::pump` sends the
//! block, then content straight from the client. When the link becomes readable, the pump judges the
//! response's head, writes it anew before its content and sends both at once. At the end
//! `Exchange::ending` says who keeps its connection (`Next::Finished`): the link goes back to its
//! server's pool, the client rests without any buffer, and the place goes to whoever waits.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod access;
pub mod admin;
pub mod buffer;
pub mod chance;
pub mod cli;
pub mod client;
pub mod config;
pub mod conn;
pub mod deadline;
pub mod demo;
pub mod exchange;
pub mod guess;
pub mod health;
pub mod http;
pub mod link;
pub mod logging;
pub mod math;
pub mod metrics;
pub mod mutant;
pub mod net;
pub mod origin;
pub mod pair;
pub mod pipes;
pub mod probe;
pub mod proxy;
pub mod reload;
pub mod report;
pub mod run;
pub mod service;
pub mod sticky;
