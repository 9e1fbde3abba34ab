//! Facts about servers that stand by for others, and about those that start slowly.

use super::tests::{POLICIES, send, server, spread, valid};
use super::*;

const NOW: Time = Time(0);
const SECOND: u64 = 1_000_000_000;

/// Two ordinary servers and a backup.
fn with_backup(policy: Policy, max: Option<u32>) -> Guess {
    let ordinary = server(1.0, max);
    let backup = ServerConfig {
        backup: true,
        ..server(1.0, Some(2))
    };
    valid(policy, &[ordinary.clone(), ordinary, backup])
}

#[test]
fn a_backup_gets_nothing_while_another_may_be_chosen() {
    for policy in POLICIES {
        let mut guess = with_backup(policy, None);
        assert_eq!(spread(&mut guess, 50)[2], 0, "{policy:?}");
        guess.stand(NOW, 0, Standing::Invalid);
        assert_eq!(spread(&mut guess, 50), [0, 50, 0], "{policy:?}");
        assert_eq!(guess.pick(NOW, &[1]), Pick::Server(2), "{policy:?}");
        // One that refuses is no better than none.
        guess.stand(NOW, 1, Standing::Refusing);
        assert_eq!(spread(&mut guess, 50), [0, 0, 50], "{policy:?}");
        guess.stand(NOW, 2, Standing::Invalid);
        assert_eq!(guess.pick(NOW, &[]), Pick::Server(1), "{policy:?}");
        guess.stand(NOW, 2, Standing::Valid);
        guess.stand(NOW, 0, Standing::Valid);
        assert_eq!(spread(&mut guess, 50), [50, 0, 0], "{policy:?}");
    }
}

#[test]
fn a_backup_takes_what_the_others_have_no_room_for() {
    for policy in POLICIES {
        let mut guess = with_backup(policy, Some(1));
        let mut tickets = Vec::new();
        for _ in 0..4 {
            let Pick::Server(server) = guess.pick(NOW, &[]) else {
                panic!("{policy:?}")
            };
            tickets.push(guess.dispatched(NOW, server));
        }
        let held = [0, 1, 2].map(|server| guess.in_flight(server));
        assert_eq!(held, [1, 1, 2], "{policy:?}");
        assert_eq!(guess.pick(NOW, &[]), Pick::Full, "{policy:?}");
        for ticket in &tickets {
            guess.finished(NOW, ticket, Outcome::Served);
        }
        assert_eq!(spread(&mut guess, 20)[2], 0, "{policy:?}");
    }
}

#[test]
fn a_backup_steps_in_for_the_benched_but_not_for_the_busy() {
    let alone = [
        server(1.0, None),
        ServerConfig {
            backup: true,
            ..server(1.0, None)
        },
    ];
    let mut guess = valid(Policy::BestGuess, &alone);
    // It has served nothing yet and so is held to one at a time, which is no reason to step in.
    let held: Vec<Ticket> = (0..5)
        .map(|_| {
            assert_eq!(guess.pick(NOW, &[]), Pick::Server(0));
            guess.dispatched(NOW, 0)
        })
        .collect();
    for ticket in &held {
        guess.finished(NOW, ticket, Outcome::Abandoned);
    }
    let ticket = guess.dispatched(NOW, 0);
    guess.finished(NOW, &ticket, Outcome::Failed(Failure::Broken));
    let pick = guess.pick(NOW, &[]);
    assert_eq!(pick, Pick::Server(1));
    let reasons = guess.explain(NOW, pick, &[]);
    let fitness: Vec<Fitness> = reasons.servers.iter().map(|it| it.fitness).collect();
    let bench = Fitness::Benched(Duration::from_secs(1));
    assert_eq!(fitness, [Fitness::Backup, bench]);
    assert_eq!(reasons.rule, Rule::Fitness);
    // Once that is over it is back within as many picks as there are servers.
    guess.pick(Time(2 * SECOND), &[]);
    assert_eq!(guess.pick(Time(2 * SECOND), &[]), Pick::Server(0));
}

/// The share of requests, one at a time, that the last of three servers gets at `now`.
fn share_of_the_last(guess: &mut Guess, now: u64) -> f64 {
    let mut got = 0;
    for _ in 0..3000 {
        let Pick::Server(server) = guess.pick(Time(now), &[]) else {
            panic!("nobody")
        };
        let ticket = guess.dispatched(Time(now), server);
        guess.finished(Time(now), &ticket, Outcome::Abandoned);
        got += usize::from(server == 2);
    }
    got as f64 / 3000.0
}

#[test]
fn the_weight_of_a_server_that_is_back_rises_from_a_tenth_to_all_of_it() {
    for policy in [Policy::BestGuess, Policy::RoundRobin, Policy::Random] {
        let mut guess =
            valid(policy, &vec![server(1.0, None); 3]).slow_start(Duration::from_secs(10));
        guess.stand(NOW, 2, Standing::Invalid);
        spread(&mut guess, 100);
        guess.stand(NOW, 2, Standing::Valid);
        for (seconds, weight) in [(0, 0.1), (5, 0.55), (10, 1.0), (99, 1.0)] {
            let share = share_of_the_last(&mut guess, seconds * SECOND);
            let expected = weight / (2.0 + weight);
            assert!(
                (share - expected).abs() < 0.04,
                "{policy:?} after {seconds} s: {share} instead of {expected}"
            );
        }
    }
}

#[test]
fn a_busy_server_that_starts_slowly_holds_less_than_the_others() {
    for policy in [Policy::BestGuess, Policy::LeastConn] {
        let mut guess =
            valid(policy, &vec![server(1.0, None); 3]).slow_start(Duration::from_secs(10));
        guess.add(3, &server(1.0, None));
        guess.settle(NOW);
        guess.stand(NOW, 3, Standing::Valid);
        // Everybody opens up first.
        for server in 0..4 {
            for _ in 0..50 {
                let mut ticket = guess.dispatched(NOW, server);
                guess.answered(NOW, &mut ticket, 200, false);
                guess.finished(NOW, &ticket, Outcome::Served);
            }
        }
        for _ in 0..35 {
            let Pick::Server(server) = guess.pick(Time(5 * SECOND), &[]) else {
                panic!("nobody")
            };
            guess.dispatched(Time(5 * SECOND), server);
        }
        let held = guess.in_flight(3);
        assert!((4..=7).contains(&held), "{policy:?}: {held}");
    }
}

#[test]
fn without_a_slow_start_who_is_back_counts_at_once() {
    let mut guess = valid(Policy::RoundRobin, &vec![server(1.0, None); 3]);
    guess.stand(NOW, 2, Standing::Invalid);
    guess.stand(NOW, 2, Standing::Valid);
    let got: usize = (0..300).filter(|_| send(&mut guess) == 2).count();
    assert_eq!(got, 100);
}
