//! Reading the servers again while the loop goes on: files and resolvers can make one wait.
//!
//! A thread of its own reads, looks names up and ends; it wakes the loop when it is done. What it
//! found is applied by the loop. At most one runs at a time, and one more is remembered.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError, sync_channel};
use std::time::Instant;

use log::{info, warn};

use crate::cli;
use crate::config::{Address, ServerConfig, ServerSource};
use crate::net::Net;
use crate::proxy::{Change, Proxy};

/// Reads the servers again when asked to.
pub struct Reload {
    source: ServerSource,
    listen: Address,
    waker: Arc<mio::Waker>,
    running: Option<Receiver<Result<Vec<ServerConfig>, String>>>,
    again: bool,
    began: Instant,
}

impl Reload {
    /// Of what `source` names, before the balancer at `listen`, whose poll `waker` wakes.
    pub fn new(source: ServerSource, listen: Address, waker: Arc<mio::Waker>) -> Reload {
        Reload {
            source,
            listen,
            waker,
            running: None,
            again: false,
            began: Instant::now(),
        }
    }

    /// Starts to read if `proxy` was asked for it, and applies what was read: to be called behind each
    /// turn. Never waits.
    pub fn go_on<N: Net>(&mut self, proxy: &mut Proxy<N>) {
        self.again |= proxy.take_reload();
        if let Some(outcome) = self.take() {
            let span = self.began.elapsed();
            let outcome = outcome.and_then(|servers| {
                let count = servers.len();
                proxy
                    .change(Change::Replace(servers))
                    .map_err(|refusal| refusal.to_string())
                    .map(|()| count)
            });
            match outcome {
                Ok(count) => info!("{count} servers read again in {span:.1?}"),
                Err(cause) => warn!("servers stay as they are: {cause}"),
            }
        }
        if self.again && self.running.is_none() {
            self.again = false;
            self.start();
        }
    }

    /// Whether something is being read, or about to be.
    pub fn is_running(&self) -> bool {
        self.again || self.running.is_some()
    }

    /// What the thread has found, if it is done.
    fn take(&mut self) -> Option<Result<Vec<ServerConfig>, String>> {
        let outcome = match self.running.as_ref()?.try_recv() {
            Ok(outcome) => outcome,
            Err(TryRecvError::Empty) => return None,
            Err(TryRecvError::Disconnected) => Err("nothing was read".to_owned()),
        };
        self.running = None;
        Some(outcome)
    }

    fn start(&mut self) {
        let (source, listen) = (self.source.clone(), self.listen.clone());
        let waker = Arc::clone(&self.waker);
        let (found, receiver) = sync_channel(1);
        self.began = Instant::now();
        let thread = std::thread::Builder::new()
            .name("servers".to_owned())
            .spawn(move || {
                let servers = cli::servers(&source, &listen, &cli::resolve);
                let _ = found.send(servers.map_err(|wrong| wrong.text()));
                // Without it the next turn would see it, which may be long in coming.
                let _ = waker.wake();
            });
        match thread {
            Ok(_) => self.running = Some(receiver),
            Err(cause) => warn!("servers stay as they are: cannot read them again: {cause}"),
        }
    }
}
