use super::*;
use crate::config::Address;

const NOW: Time = Time(0);

pub(super) fn server(weight: f64, max: Option<u32>) -> ServerConfig {
    let address = Address::Tcp("127.0.0.1:9001".parse().unwrap());
    ServerConfig {
        weight,
        max,
        ..ServerConfig::new(address)
    }
}

/// A guess among these, all valid.
pub(super) fn valid(policy: Policy, servers: &[ServerConfig]) -> Guess {
    let mut guess = Guess::new(policy, servers, 7);
    for index in 0..servers.len() {
        guess.stand(NOW, index, Standing::Valid);
    }
    guess
}

/// A guess among servers of these weights, all valid.
fn weighted(policy: Policy, weights: &[f64]) -> Guess {
    let servers: Vec<ServerConfig> = weights.iter().map(|weight| server(*weight, None)).collect();
    valid(policy, &servers)
}

fn equal(policy: Policy, count: usize) -> Guess {
    weighted(policy, &vec![1.0; count])
}

fn report(guess: &mut Guess, server: usize, errors: u64, load: u64) {
    guess.asked(server);
    guess.reported(NOW, server, Report { errors, load });
}

/// Sends one request on its way and brings it back.
pub(super) fn send(guess: &mut Guess) -> usize {
    let Pick::Server(server) = guess.pick(NOW, &[]) else {
        panic!("nobody")
    };
    let ticket = guess.dispatched(NOW, server);
    serve(guess, NOW, ticket);
    server
}

/// Brings a request back.
fn serve(guess: &mut Guess, now: Time, mut ticket: Ticket) {
    guess.answered(now, &mut ticket, 200, false);
    guess.finished(now, &ticket, Outcome::Served);
}

/// How many of `count` requests each server gets.
pub(super) fn spread(guess: &mut Guess, count: usize) -> Vec<usize> {
    let mut got = vec![0; guess.servers.len()];
    for _ in 0..count {
        got[send(guess)] += 1;
    }
    got
}

pub(super) const POLICIES: [Policy; 6] = [
    Policy::BestGuess,
    Policy::LeastLoad,
    Policy::RoundRobin,
    Policy::LeastConn,
    Policy::Random,
    Policy::PowerOfTwo,
];

#[test]
fn the_least_load_wins_and_among_equals_the_fewest_errors() {
    for policy in [Policy::BestGuess, Policy::LeastLoad] {
        for (reports, best) in [
            ([(0, 10), (0, 5), (3, 5)], 1),
            ([(0, 10), (3, 5), (0, 5)], 2),
            ([(9, 4), (0, 5), (0, 5)], 0),
            ([(1, 5), (0, 5), (0, 6)], 1),
            ([(1, 5), (2, 5), (3, 5)], 0),
        ] {
            let mut guess = equal(policy, 3);
            for (server, (errors, load)) in reports.into_iter().enumerate() {
                report(&mut guess, server, errors, load);
            }
            assert_eq!(
                guess.pick(NOW, &[]),
                Pick::Server(best),
                "{policy:?} {reports:?}"
            );
        }
    }
}

#[test]
fn the_original_rule_also_holds_for_the_first_reports_of_unknown_servers() {
    let servers = [server(1.0, None), server(1.0, None), server(1.0, None)];
    let mut guess = Guess::new(Policy::BestGuess, &servers, 7);
    for (server, (errors, load)) in [(0, 10), (0, 5), (3, 5)].into_iter().enumerate() {
        report(&mut guess, server, errors, load);
        guess.stand(NOW, server, Standing::Valid);
    }
    assert_eq!(spread(&mut guess, 5), [0, 3, 2]);
}

#[test]
fn least_load_sends_everything_to_the_last_optimum_until_the_next_report() {
    let mut guess = equal(Policy::LeastLoad, 3);
    for (server, load) in [10, 5, 5].into_iter().enumerate() {
        report(&mut guess, server, 0, load);
    }
    assert_eq!(spread(&mut guess, 100), [0, 100, 0]);
    report(&mut guess, 1, 0, 105);
    assert_eq!(spread(&mut guess, 100), [0, 0, 100]);
}

#[test]
fn best_guess_spreads_equal_servers_evenly_between_reports() {
    for count in [1, 2, 3, 100, 3000] {
        let got = spread(&mut equal(Policy::BestGuess, 3), count);
        let (least, most) = (got.iter().min().unwrap(), got.iter().max().unwrap());
        assert!(most - least <= 1, "{got:?}");
    }
}

#[test]
fn best_guess_levels_what_the_reports_told_apart() {
    let mut guess = equal(Policy::BestGuess, 3);
    for (server, load) in [40, 10, 10].into_iter().enumerate() {
        report(&mut guess, server, 0, load);
    }
    assert_eq!(spread(&mut guess, 60), [0, 30, 30]);
    assert_eq!(spread(&mut guess, 30), [10, 10, 10]);
}

#[test]
fn what_was_dispatched_after_the_question_still_counts_behind_the_answer() {
    let mut guess = equal(Policy::BestGuess, 2);
    guess.asked(0);
    guess.asked(1);
    assert_eq!(spread(&mut guess, 10), [5, 5]);
    // The first has counted one of the five so far, the second has not answered: one is not much.
    guess.reported(NOW, 0, Report { errors: 0, load: 1 });
    assert_eq!(spread(&mut guess, 11), [5, 6]);
    report(&mut guess, 0, 0, 10);
    report(&mut guess, 1, 0, 20);
    assert_eq!(spread(&mut guess, 10), [10, 0]);
}

#[test]
fn a_server_that_restarted_does_not_draw_everything() {
    let mut guess = equal(Policy::BestGuess, 3);
    for server in 0..3 {
        report(&mut guess, server, 0, 1_000_000 + server as u64);
    }
    report(&mut guess, 2, 0, 0);
    let got = spread(&mut guess, 300);
    assert!(got.iter().all(|got| (99..=101).contains(got)), "{got:?}");
    // Its next reports go on from there.
    for (server, load) in [1_000_100, 1_000_101, 100].into_iter().enumerate() {
        report(&mut guess, server, 0, load);
    }
    let got = spread(&mut guess, 300);
    assert!(got.iter().all(|got| (99..=101).contains(got)), "{got:?}");
    // And so does a second restart.
    report(&mut guess, 2, 0, 3);
    let got = spread(&mut guess, 300);
    assert!(got.iter().all(|got| (98..=102).contains(got)), "{got:?}");
}

#[test]
fn a_restart_is_levelled_by_weight() {
    let mut guess = weighted(Policy::BestGuess, &[1.0, 2.0]);
    report(&mut guess, 0, 0, 1000);
    report(&mut guess, 1, 0, 2000);
    report(&mut guess, 1, 0, 0);
    let got = spread(&mut guess, 300);
    assert!((99..=101).contains(&got[0]), "{got:?}");
}

#[test]
fn a_restart_of_the_only_valid_server_changes_nothing() {
    let mut guess = equal(Policy::BestGuess, 2);
    report(&mut guess, 0, 0, 1000);
    report(&mut guess, 1, 0, 1000);
    guess.stand(NOW, 1, Standing::Invalid);
    report(&mut guess, 0, 0, 0);
    report(&mut guess, 1, 0, 1000);
    guess.stand(NOW, 1, Standing::Valid);
    let got = spread(&mut guess, 100);
    assert!((49..=51).contains(&got[0]), "{got:?}");
}

#[test]
fn a_server_that_returns_does_not_draw_everything() {
    for policy in [Policy::BestGuess, Policy::RoundRobin] {
        for away in [Standing::Invalid, Standing::Refusing] {
            for reports in [false, true] {
                let mut guess = equal(policy, 3);
                guess.stand(NOW, 2, away);
                assert_eq!(spread(&mut guess, 1000), [500, 500, 0]);
                if reports {
                    for (server, load) in [500, 500, 0].into_iter().enumerate() {
                        report(&mut guess, server, 0, load);
                    }
                }
                guess.stand(NOW, 2, Standing::Valid);
                let got = spread(&mut guess, 300);
                assert!(
                    got.iter().all(|got| (99..=101).contains(got)),
                    "{policy:?} {reports}: {got:?}"
                );
            }
        }
    }
}

#[test]
fn where_nothing_is_checked_a_pardoned_server_does_not_draw_everything() {
    let servers = [server(1.0, None), server(1.0, None)];
    let mut guess = Guess::new(Policy::BestGuess, &servers, 7);
    guess.stand(NOW, 1, Standing::Invalid);
    assert_eq!(spread(&mut guess, 100), [100, 0]);
    guess.stand(NOW, 1, Standing::Unknown);
    assert_eq!(spread(&mut guess, 100), [50, 50]);
}

#[test]
fn absurd_counts_neither_overflow_nor_starve_anyone() {
    let most = i64::MAX as u64;
    let mut guess = weighted(Policy::BestGuess, &[0.001, 1.0, 1000.0]);
    for load in [most, 0, most, 1, most] {
        for server in 0..3 {
            report(&mut guess, server, most, load);
        }
        spread(&mut guess, 10);
    }
    report(&mut guess, 1, 0, 0);
    report(&mut guess, 2, 0, 0);
    spread(&mut guess, 10);
}

#[test]
fn weights_give_shares() {
    for policy in [Policy::BestGuess, Policy::RoundRobin] {
        let got = spread(&mut weighted(policy, &[1.0, 2.0, 5.0]), 800);
        for (got, share) in got.iter().zip([100, 200, 500]) {
            assert!(got.abs_diff(share) <= 1, "{policy:?} {got}");
        }
    }
    let got = spread(&mut weighted(Policy::Random, &[1.0, 3.0]), 10_000);
    assert!(got[0].abs_diff(2500) < 200, "{got:?}");
}

#[test]
fn a_server_at_its_most_gets_nothing_more() {
    for policy in POLICIES {
        let servers = [server(1.0, Some(1)), server(1.0, Some(2))];
        let mut guess = Guess::new(policy, &servers, 7);
        let mut tickets = Vec::new();
        for _ in 0..3 {
            let Pick::Server(server) = guess.pick(NOW, &[]) else {
                panic!("{policy:?}")
            };
            tickets.push(guess.dispatched(NOW, server));
        }
        assert_eq!(
            (guess.in_flight(0), guess.in_flight(1)),
            (1, 2),
            "{policy:?}"
        );
        assert_eq!(guess.pick(NOW, &[]), Pick::Full, "{policy:?}");
        assert_eq!(guess.pick(NOW, &[0]), Pick::Full, "{policy:?}");
        let ticket = tickets.iter().find(|ticket| ticket.server == 0).unwrap();
        guess.finished(NOW, ticket, Outcome::Failed(Failure::Reset));
        assert_eq!(guess.pick(NOW, &[]), Pick::Server(0), "{policy:?}");
        assert_eq!(guess.pick(NOW, &[0]), Pick::Full, "{policy:?}");
        assert_eq!(guess.pick(NOW, &[0, 1]), Pick::Nobody, "{policy:?}");
    }
}

#[test]
fn who_was_tried_or_is_invalid_is_never_chosen() {
    for policy in POLICIES {
        let mut guess = equal(policy, 4);
        guess.stand(NOW, 1, Standing::Invalid);
        for _ in 0..100 {
            let Pick::Server(server) = guess.pick(NOW, &[3, 9]) else {
                panic!("{policy:?}")
            };
            assert!(server == 0 || server == 2, "{policy:?} {server}");
            guess.dispatched(NOW, server);
        }
        assert_eq!(guess.pick(NOW, &[0, 2, 3]), Pick::Nobody, "{policy:?}");
    }
}

#[test]
fn unknown_and_refusing_servers_are_the_last_resort_in_that_order() {
    for policy in POLICIES {
        let mut guess = equal(policy, 4);
        guess.stand(NOW, 0, Standing::Refusing);
        guess.stand(NOW, 1, Standing::Unknown);
        guess.stand(NOW, 2, Standing::Invalid);
        for _ in 0..20 {
            assert_eq!(guess.pick(NOW, &[]), Pick::Server(3), "{policy:?}");
            guess.dispatched(NOW, 3);
        }
        assert_eq!(guess.pick(NOW, &[3]), Pick::Server(1), "{policy:?}");
        assert_eq!(guess.pick(NOW, &[3, 1]), Pick::Server(0), "{policy:?}");
        assert_eq!(guess.pick(NOW, &[3, 1, 0]), Pick::Nobody, "{policy:?}");
    }
}

#[test]
fn a_valid_server_that_is_full_is_waited_for_rather_than_an_unknown_one_tried() {
    let servers = [server(1.0, Some(1)), server(1.0, None)];
    let mut guess = Guess::new(Policy::BestGuess, &servers, 7);
    guess.stand(NOW, 0, Standing::Valid);
    guess.dispatched(NOW, 0);
    assert_eq!(guess.pick(NOW, &[]), Pick::Full);
}

#[test]
fn round_robin_goes_round() {
    let mut guess = equal(Policy::RoundRobin, 3);
    let order: Vec<usize> = (0..9).map(|_| send(&mut guess)).collect();
    assert_eq!(order, [0, 1, 2, 0, 1, 2, 0, 1, 2]);
}

#[test]
fn round_robin_gives_nobody_a_share_for_the_time_at_its_most() {
    let servers = [server(1.0, Some(1)), server(1.0, None)];
    let mut guess = Guess::new(Policy::RoundRobin, &servers, 7);
    let ticket = guess.dispatched(NOW, 0);
    for _ in 0..100 {
        assert_eq!(send(&mut guess), 1);
    }
    serve(&mut guess, NOW, ticket);
    let got = spread(&mut guess, 10);
    assert!((4..=6).contains(&got[0]), "{got:?}");
}

#[test]
fn chance_is_roughly_even_and_follows_its_seed() {
    let got = spread(&mut equal(Policy::Random, 4), 10_000);
    assert!(got.iter().all(|got| got.abs_diff(2500) < 200), "{got:?}");
    let order = |seed| -> Vec<usize> {
        let servers = vec![server(1.0, None); 4];
        let mut guess = Guess::new(Policy::Random, &servers, seed);
        (0..50).map(|_| send(&mut guess)).collect()
    };
    assert_eq!(order(3), order(3));
    assert_ne!(order(3), order(5));
    assert!((0..50).all(|_| (0.0..1.0).contains(&random(&mut 1))));
}

#[test]
fn least_conn_goes_where_the_fewest_are() {
    let mut guess = weighted(Policy::LeastConn, &[1.0, 1.0, 2.0]);
    let mut tickets = Vec::new();
    for _ in 0..8 {
        let Pick::Server(server) = guess.pick(NOW, &[]) else {
            panic!()
        };
        tickets.push(guess.dispatched(NOW, server));
    }
    assert_eq!([0, 1, 2].map(|server| guess.in_flight(server)), [2, 2, 4]);
    let ticket = tickets.iter().find(|ticket| ticket.server == 1).unwrap();
    guess.finished(NOW, ticket, Outcome::Abandoned);
    assert_eq!(guess.pick(NOW, &[]), Pick::Server(1));
}

#[test]
fn among_equals_the_longest_unused_is_chosen() {
    for policy in [Policy::BestGuess, Policy::LeastConn, Policy::RoundRobin] {
        let mut guess = equal(policy, 3);
        let order: Vec<usize> = (0..6).map(|_| send(&mut guess)).collect();
        assert_eq!(order, [0, 1, 2, 0, 1, 2], "{policy:?}");
    }
}
