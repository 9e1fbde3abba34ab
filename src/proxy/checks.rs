//! Checks of the servers: rounds, single probes, and what follows from their verdicts.

use log::{info, warn};

use super::Proxy;
use super::places::is_our_own_lack;
use crate::config::CheckMode;
use crate::conn::Conn;
use crate::guess::random;
use crate::health::Standing;
use crate::mutant::{self, Mutant};
use crate::net::{Net, Owner, Token};
use crate::probe::{Failure, Verdict};
use crate::report::Answer;

impl<N: Net> Proxy<N> {
    /// Starts a round if X seconds or R requests are over.
    pub(super) fn start_round_if_due(&mut self) {
        let now = self.tools.now;
        if !self.rounds.is_due(now) || self.is_draining() {
            return;
        }
        // The second round comes early by chance, so that balancers that started together do not
        // ask together for ever.
        let share = if self.first_round == self.servers.len() {
            0.5 + random(&mut self.seed) / 2.0
        } else {
            1.0
        };
        self.rounds.started(now, share);
        for server in 0..self.servers.len() {
            if self.config.check.mode == CheckMode::Off {
                self.pardon(server);
            } else {
                self.start_probe(server);
            }
        }
    }

    /// Starts a check of `server` unless one is running.
    pub(super) fn start_probe(&mut self, server: usize) {
        let Some(entry) = self.servers.get_mut(server) else {
            return;
        };
        let is_checked = self.config.check.mode != CheckMode::Off && entry.setting.is_checked();
        if entry.probe.is_running() || !is_checked && !mutant::is(Mutant::RemovedServerChecked) {
            return;
        }
        self.guess.asked(server);
        let kept = entry.probe.conn.is_some();
        self.ask(server, !kept);
    }

    /// Gives up the check of `server` that runs, and its connection.
    pub(super) fn stop_probe(&mut self, server: usize) {
        if let Some(entry) = self.servers.get_mut(server) {
            entry.probe.rest(&mut self.tools.pool);
            entry.probe.conn = None;
        }
    }

    /// Sends the question, on the kept connection or a new one.
    fn ask(&mut self, server: usize, anew: bool) {
        let (Some(entry), Some(config)) = (
            self.servers.get_mut(server),
            self.config.servers.get(server),
        ) else {
            return;
        };
        self.generation = self.generation.wrapping_add(1);
        let token = Token::new(Owner::Probe, server as u32, self.generation);
        let conn = if anew {
            let made = self.net.connect(&config.address).and_then(|socket| {
                let mut conn = Conn::new(socket, token);
                conn.watch(&mut self.net)?;
                Ok(conn)
            });
            match made {
                Ok(conn) => Some(conn),
                Err(error) if is_our_own_lack(&error) => {
                    // It tells nothing of the server; the next round asks again.
                    warn!("cannot check server {}: {error}", config.name);
                    entry.probe.rest(&mut self.tools.pool);
                    return;
                }
                Err(error) => {
                    entry.probe.start(None);
                    return self.judge_probe(server, Verdict::Failed(Failure::of(error.kind())));
                }
            }
        } else {
            None
        };
        entry.probe.start(conn);
        let due = self.tools.now + self.config.check.timeout;
        // The alarm outlives connections, so its token is the server's own.
        entry.probe.alarm.set(
            due,
            Token::new(Owner::Probe, server as u32, 0),
            &mut self.deadlines,
        );
        self.step_probe(server);
    }

    /// Goes on with a check that something happened to.
    pub(super) fn step_probe(&mut self, server: usize) {
        let Some(entry) = self.servers.get_mut(server) else {
            return;
        };
        if !entry.probe.is_running() {
            // The kept connection of a resting probe: closed, or talking out of turn, unless it is
            // only the late edge of what was read already.
            if entry.probe.conn.as_mut().is_some_and(Conn::is_spent) {
                entry.probe.conn = None;
            }
            return;
        }
        let verdict = entry.probe.step(
            &self.config.check,
            &mut self.tools.scratch,
            &mut self.tools.pool,
        );
        self.judge_probe(server, verdict);
    }

    /// A check has not ended in time.
    pub(super) fn probe_overdue(&mut self, server: usize) {
        let reason = format!(
            "no answer to the check within {:?}",
            self.config.check.timeout
        );
        self.judge_probe(
            server,
            Verdict::Failed(Failure {
                reason,
                refused: false,
            }),
        );
    }

    fn judge_probe(&mut self, server: usize, verdict: Verdict) {
        let Some(entry) = self.servers.get_mut(server) else {
            return;
        };
        match verdict {
            Verdict::Open => return,
            Verdict::Stale => {
                entry.probe.rest(&mut self.tools.pool);
                entry.probe.conn = None;
                return self.ask(server, true);
            }
            Verdict::Passed(answer) => {
                entry.metrics.checked(true);
                entry.probe.rest(&mut self.tools.pool);
                self.server_passed(server, answer);
            }
            Verdict::Failed(failure) => {
                entry.metrics.checked(false);
                entry.probe.rest(&mut self.tools.pool);
                entry.probe.conn = None;
                let changed =
                    entry
                        .health
                        .failed(&failure.reason, failure.refused, self.config.check.fall);
                self.server_changed(server, changed);
            }
        }
        self.count_first_round(server);
    }

    /// The first round is over once every server has had a verdict.
    pub(super) fn count_first_round(&mut self, server: usize) {
        if let Some(entry) = self.servers.get_mut(server)
            && !std::mem::replace(&mut entry.is_checked, true)
        {
            self.first_round -= 1;
        }
    }

    fn server_passed(&mut self, server: usize, answer: Answer) {
        let Some(entry) = self.servers.get_mut(server) else {
            return;
        };
        if let Some(report) = answer.report {
            entry.report = Some(report);
            entry.reported_at = self.tools.now;
            self.guess.reported(self.tools.now, server, report);
        }
        self.guess.told(self.tools.now, server, &answer.said);
        let changed = entry.health.passed(self.config.check.rise);
        self.server_changed(server, changed);
    }

    /// A server failed a request before it took any of it: it is invalid at once, and checked at
    /// once, so that a mistake does not last.
    pub(super) fn server_failed(&mut self, server: usize, failure: &Failure) {
        let Some(entry) = self.servers.get_mut(server) else {
            return;
        };
        let changed = entry.health.condemn(&failure.reason, failure.refused);
        self.server_changed(server, changed);
        if changed {
            self.start_probe(server);
        }
    }

    /// Where nothing is checked, what failed is given another chance with every round.
    fn pardon(&mut self, server: usize) {
        let Some(entry) = self.servers.get_mut(server) else {
            return;
        };
        if !matches!(entry.health.standing(), Standing::Valid | Standing::Unknown) {
            entry.health.forget();
            self.guess.stand(self.tools.now, server, Standing::Unknown);
            self.note_state(server);
        }
    }

    /// Passes the standing of a server on, and says so if it `changed`.
    fn server_changed(&mut self, server: usize, changed: bool) {
        let Some(entry) = self.servers.get(server) else {
            return;
        };
        self.guess
            .stand(self.tools.now, server, entry.health.standing());
        self.note_state(server);
        let (Some(entry), Some(config)) =
            (self.servers.get(server), self.config.servers.get(server))
        else {
            return;
        };
        if !changed {
            return;
        }
        match (entry.health.standing(), entry.report) {
            (Standing::Valid, Some(report)) => {
                info!(
                    "server {} is valid: errors {}, load {}",
                    config.name, report.errors, report.load
                );
            }
            (Standing::Valid, None) => info!("server {} is valid", config.name),
            _ => warn!(
                "server {} is invalid: {}",
                config.name,
                entry.health.reason()
            ),
        }
    }
}
