//! Servers that come and go: slots that are filled, emptied and filled again.
//!
//! An index means the same server for as long as anybody may hold it: whose server it was says when
//! nobody does any more, and only then lets another one have it. Weights are relative to the mean of
//! all, so that behind `add`, `retire`, `enable` and `configure` `settle` has to be called, once for
//! as many of them as there are.

use super::server::{Post, Server};
use super::{Guess, Rule};
use crate::config::ServerConfig;
use crate::health::Standing;
use crate::net::Time;
use crate::sticky::Candidate;

impl Guess {
    /// A server comes into the slot `index`: the next one, or one that was retired and that no ticket
    /// names any more. It is tried carefully at first, like one that was away.
    ///
    /// # Panics
    /// If there would be a gap before `index`; in tests also if the slot is not free.
    pub fn add(&mut self, index: usize, config: &ServerConfig) {
        let server = Server::new(config, 1.0);
        if index == self.servers.len() {
            self.servers.push(server);
        } else {
            let place = &mut self.servers[index];
            debug_assert!(place.post == Post::Retired && place.in_flight == 0);
            *place = server;
        }
        self.servers[index].was_away = true;
        self.best.add(index);
    }

    /// The server `index` has left and gets nothing more; what is at it may still finish.
    pub fn retire(&mut self, now: Time, index: usize) {
        self.post(now, index, Post::Retired);
    }

    /// The server `index` gets no new requests until it is enabled.
    pub fn drain(&mut self, now: Time, index: usize) {
        self.post(now, index, Post::Drained);
    }

    /// The server `index` may get requests again; one that had left is back.
    pub fn enable(&mut self, now: Time, index: usize) {
        self.post(now, index, Post::Open);
    }

    /// The server `index` is configured like this from now on: its weight, its bound, and whether it
    /// stands by.
    pub fn configure(&mut self, now: Time, index: usize, config: &ServerConfig) {
        if let Some(server) = self.servers.get_mut(index) {
            server.weight_given = config.weight;
            server.set_max(config.max);
            server.is_backup = config.backup;
            self.refresh(now, index);
        }
    }

    /// Weighs all that have not left against each other. Looks at all servers.
    pub fn settle(&mut self, now: Time) {
        self.weigh_anew();
        for index in 0..self.servers.len() {
            self.refresh(now, index);
        }
    }

    /// Whether the server `index` may be given a request that `tried` have failed: it is valid or not
    /// checked yet, nobody wants it drained, and it has room.
    pub fn may_take(&self, index: usize, tried: &[u16]) -> bool {
        self.servers.get(index).is_some_and(|server| {
            matches!(server.standing(), Standing::Valid | Standing::Unknown)
                && server.has_room()
                && !tried.contains(&(index as u16))
        })
    }

    /// The servers that `may_take` such a request; those that stand by only if no other does.
    pub fn candidates(&self, tried: &[u16]) -> impl Iterator<Item = Candidate> + Clone {
        let may = |(index, _): &(usize, &Server)| self.may_take(*index, tried);
        let servers = self.servers.iter().enumerate().filter(may);
        let has_others = servers.clone().any(|(_, server)| !server.is_backup);
        servers
            .filter(move |(_, server)| !(has_others && server.is_backup))
            .map(|(index, server)| Candidate {
                index,
                weight: server.weight,
                in_flight: server.in_flight,
            })
    }

    /// What decides the next guesses, where it is not this guess: so they are explained.
    pub fn decided_by(&mut self, rule: Option<Rule>) {
        self.given = rule;
    }

    fn post(&mut self, now: Time, index: usize, post: Post) {
        if let Some(server) = self.servers.get_mut(index) {
            server.post = post;
            self.refresh(now, index);
        }
    }

    /// Weights are relative to the mean of all that have not left.
    fn weigh_anew(&mut self) {
        let is_present = |server: &Server| server.post != Post::Retired;
        let weights = self.servers.iter().filter(|server| is_present(server));
        let weights = weights.map(|server| server.weight_given);
        let count = weights.clone().count().max(1);
        let mean = weights.sum::<f64>() / count as f64;
        self.best.present = count;
        self.best.has_backups = self
            .servers
            .iter()
            .any(|server| is_present(server) && server.is_backup);
        for server in &mut self.servers {
            if is_present(server) {
                server.weigh(mean);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{POLICIES, send, server, spread, valid};
    use super::super::{Guess, Outcome, Pick};
    use crate::config::Policy;
    use crate::health::Standing;
    use crate::net::Time;
    use crate::report::Report;

    const NOW: Time = Time(0);

    fn two(policy: Policy) -> Guess {
        valid(policy, &vec![server(1.0, None); 2])
    }

    #[test]
    fn who_is_drained_gets_nothing_until_it_is_enabled() {
        for policy in POLICIES {
            let mut guess = two(policy);
            guess.drain(NOW, 0);
            assert_eq!(spread(&mut guess, 50), [0, 50], "{policy:?}");
            guess.drain(NOW, 1);
            assert_eq!(guess.pick(NOW, &[]), Pick::Nobody, "{policy:?}");
            guess.enable(NOW, 0);
            guess.settle(NOW);
            assert_eq!(spread(&mut guess, 50), [50, 0], "{policy:?}");
        }
    }

    #[test]
    fn who_comes_gets_its_share_and_not_everything() {
        for policy in [Policy::BestGuess, Policy::RoundRobin, Policy::LeastConn] {
            let mut guess = two(policy);
            for server in 0..2 {
                let report = Report {
                    errors: 0,
                    load: 1_000_000,
                };
                guess.reported(NOW, server, report);
            }
            spread(&mut guess, 100);
            guess.add(2, &server(1.0, None));
            guess.settle(NOW);
            guess.reported(NOW, 2, Report { errors: 0, load: 7 });
            guess.stand(NOW, 2, Standing::Valid);
            let got = spread(&mut guess, 300);
            assert!(
                got.iter().all(|count| (80..=120).contains(count)),
                "{policy:?} {got:?}"
            );
        }
    }

    #[test]
    fn a_slot_that_is_filled_again_knows_nothing_of_who_was_there() {
        for policy in POLICIES {
            // It would send all to the first until a report tells them apart.
            if policy == Policy::LeastLoad {
                continue;
            }
            let mut guess = two(policy);
            for _ in 0..20 {
                let Pick::Server(index) = guess.pick(NOW, &[0]) else {
                    panic!("nobody")
                };
                let ticket = guess.dispatched(NOW, index);
                guess.finished(NOW, &ticket, Outcome::Failed(super::super::Failure::Reset));
            }
            guess.retire(NOW, 1);
            assert_eq!(spread(&mut guess, 20), [20, 0], "{policy:?}");
            guess.add(1, &server(1.0, Some(1)));
            guess.settle(NOW);
            guess.stand(NOW, 1, Standing::Valid);
            assert_eq!(guess.in_flight(1), 0);
            let got = spread(&mut guess, 400);
            assert!((140..=260).contains(&got[1]), "{policy:?} {got:?}");
        }
    }

    #[test]
    fn a_weight_counts_from_the_moment_it_is_set() {
        for policy in [Policy::BestGuess, Policy::RoundRobin] {
            let mut guess = two(policy);
            spread(&mut guess, 40);
            guess.configure(NOW, 0, &server(3.0, None));
            guess.settle(NOW);
            let got = spread(&mut guess, 400);
            assert!((280..=320).contains(&got[0]), "{policy:?} {got:?}");
        }
    }

    #[test]
    fn a_bound_counts_from_the_moment_it_is_set() {
        for policy in POLICIES {
            let mut guess = valid(policy, &[server(1.0, None)]);
            let ticket = guess.dispatched(NOW, 0);
            guess.configure(NOW, 0, &server(1.0, Some(1)));
            assert_eq!(guess.pick(NOW, &[]), Pick::Full, "{policy:?}");
            guess.configure(NOW, 0, &server(1.0, None));
            assert_eq!(guess.pick(NOW, &[]), Pick::Server(0), "{policy:?}");
            guess.finished(NOW, &ticket, Outcome::Served);
        }
    }

    #[test]
    fn many_come_one_by_one() {
        let mut guess = valid(Policy::BestGuess, &[server(1.0, None)]);
        for index in 1..70 {
            guess.add(index, &server(1.0, None));
            guess.settle(NOW);
            guess.stand(NOW, index, Standing::Valid);
            send(&mut guess);
        }
        let got = spread(&mut guess, 7000);
        assert!(
            got.iter().all(|count| (60..=140).contains(count)),
            "{got:?}"
        );
    }
}
