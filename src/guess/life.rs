//! Facts about whole guesses over time: what is learned, and what is forgotten again.

use super::tests::{server, valid};
use super::*;

const MILLI: u64 = 1_000_000;

/// A world of servers, each of which answers after its own time or not at all.
struct World {
    guess: Guess,
    now: u64,
    /// Answer times in milliseconds and statuses; 0: it fails at once.
    servers: Vec<(u64, u16)>,
    /// Under way: when it ends, its ticket.
    open: Vec<(u64, Ticket)>,
}

impl World {
    fn new(servers: &[(u64, u16)]) -> World {
        World {
            guess: valid(Policy::BestGuess, &vec![server(1.0, None); servers.len()]),
            now: 0,
            servers: servers.to_vec(),
            open: Vec::new(),
        }
    }

    /// One request each `every` milliseconds, `count` times: how many each server got.
    fn run(&mut self, count: usize, every: u64) -> Vec<usize> {
        let mut got = vec![0; self.servers.len()];
        for _ in 0..count {
            self.now += every * MILLI;
            self.end_what_is_due();
            let Pick::Server(server) = self.guess.pick(Time(self.now), &[]) else {
                panic!("nobody")
            };
            got[server] += 1;
            let ticket = self.guess.dispatched(Time(self.now), server);
            self.open
                .push((self.now + self.servers[server].0 * MILLI, ticket));
        }
        got
    }

    fn end_what_is_due(&mut self) {
        self.open.sort_by_key(|(due, _)| *due);
        while self.open.first().is_some_and(|(due, _)| *due <= self.now) {
            let (due, mut ticket) = self.open.remove(0);
            match self.servers[ticket.server as usize].1 {
                0 => {
                    let reset = Outcome::Failed(Failure::Reset);
                    self.guess.finished(Time(due), &ticket, reset);
                }
                status => {
                    self.guess.answered(Time(due), &mut ticket, status, false);
                    self.guess.finished(Time(due), &ticket, Outcome::Served);
                }
            }
        }
    }
}

#[test]
fn a_slow_server_gets_little_and_is_found_again_when_it_recovers() {
    let mut world = World::new(&[(10, 200), (10, 200), (100, 200)]);
    world.run(1000, 5);
    let slow = world.run(1000, 5)[2];
    assert!(slow < 40, "{slow}");
    world.servers[2].0 = 10;
    world.run(12_000, 5);
    let healed = world.run(1000, 5)[2];
    assert!(healed > 200, "{healed}");
}

#[test]
fn who_fails_fast_draws_nothing_and_is_forgiven_later() {
    for status in [0, 500] {
        let mut world = World::new(&[(10, 200), (10, 200), (10, 200)]);
        world.run(300, 5);
        world.servers[2] = (0, status);
        let failed = world.run(1000, 5)[2];
        assert!((1..10).contains(&failed), "{status}: {failed}");
        world.servers[2] = (10, 200);
        // It is left alone for 4,000 requests at most, and then tried as long as it serves.
        world.run(6000, 5);
        let healed = world.run(300, 5)[2];
        assert!(healed > 60, "{status}: {healed}");
    }
}

/// How many of 600 requests go to a server that fails each third of them at once, with `status`, while
/// the others have one to do every `every` milliseconds.
fn detours(status: u16, every: u64, is_repeatable: bool) -> usize {
    let servers = vec![server(1.0, None); 3];
    let mut guess = Guess::new(Policy::BestGuess, &servers, 7).repeated(&[500]);
    (0..3).for_each(|index| guess.stand(Time(0), index, Standing::Valid));
    let mut world = World {
        guess,
        now: 0,
        servers: vec![(1000, 200); 3],
        open: Vec::new(),
    };
    world.run(900, every);
    let mut got = 0;
    for _ in 0..600 {
        world.now += every * MILLI;
        world.end_what_is_due();
        let now = Time(world.now);
        let Pick::Server(server) = world.guess.choose(now, &[], is_repeatable) else {
            panic!("nobody")
        };
        let mut ticket = world.guess.dispatched(now, server);
        got += usize::from(server == 2);
        if server == 2 && got % 3 == 0 {
            world.guess.answered(now, &mut ticket, status, false);
            world.guess.finished(now, &ticket, Outcome::Served);
        } else {
            world.open.push((world.now + 1000 * MILLI, ticket));
        }
    }
    got
}

#[test]
fn who_fails_at_times_stands_in_where_all_others_are_busy() {
    // Of some 100 in flight at each.
    let busy = detours(500, 5, true);
    assert!(busy > 50, "{busy}");
    // What can not be repeated, or is not, shall not fail.
    for (status, is_repeatable) in [(500, false), (502, true)] {
        let few = detours(status, 5, is_repeatable);
        assert!(few < busy / 2, "{status}: {few} of {busy}");
    }
    // And who has time need not take the risk.
    let idle = detours(500, 300, true);
    assert!(idle < 20, "{idle}");
}

#[test]
fn who_hangs_gets_a_handful_before_it_is_left_alone() {
    let mut world = World::new(&[(10, 200), (10, 200), (10, 200)]);
    world.run(300, 2);
    world.servers[1].0 = 1_000_000;
    let hung = world.run(1000, 2)[1];
    assert!(hung < 20, "{hung}");
}

#[test]
fn who_stood_still_has_no_claim_on_what_the_others_were_sent_meanwhile() {
    let mut world = World::new(&[(10, 200), (10, 200)]);
    world.run(200, 20);
    let mut waiting: Vec<Ticket> = (0..3)
        .map(|_| world.guess.dispatched(Time(world.now), 0))
        .collect();
    world.now += 200 * MILLI;
    assert!(world.run(100, 20)[0] < 5);
    world.now += 20 * MILLI;
    world.end_what_is_due();
    for ticket in &mut waiting {
        let now = Time(world.now);
        world.guess.answered(now, ticket, 200, false);
        world.guess.finished(now, ticket, Outcome::Served);
    }
    let got = world.run(40, 20);
    assert!((15..=25).contains(&got[0]), "{got:?}");
}

#[test]
fn an_outage_of_all_leaves_all_in_use() {
    let mut world = World::new(&[(1, 500), (1, 500), (1, 500)]);
    let got = world.run(900, 5);
    assert!(got.iter().all(|got| *got > 200), "{got:?}");
}

#[test]
fn who_says_when_to_come_again_is_full_and_not_broken() {
    let mut guess = valid(Policy::BestGuess, &[server(1.0, None), server(1.0, None)]);
    let mut held = Vec::new();
    for _ in 0..20 {
        let mut ticket = guess.dispatched(Time(0), 0);
        guess.answered(Time(MILLI), &mut ticket, 200, false);
        guess.finished(Time(MILLI), &ticket, Outcome::Served);
        held.push(guess.dispatched(Time(MILLI), 0));
    }
    // It holds 20 and turns the next one away.
    for status in [503, 429] {
        let mut ticket = guess.dispatched(Time(MILLI), 0);
        guess.answered(Time(MILLI), &mut ticket, status, true);
        guess.finished(Time(MILLI), &ticket, Outcome::Served);
        let pick = guess.pick(Time(MILLI), &[]);
        let reasons = guess.explain(Time(MILLI), pick, &[]);
        let zero = reasons.servers.iter().find(|it| it.server == 0).unwrap();
        assert_eq!((zero.fitness, pick), (Fitness::Capped(20), Pick::Server(1)));
        assert!(zero.errors.is_zero());
    }
}

#[test]
fn a_late_answer_of_a_server_that_serves_others_is_no_fault() {
    let mut guess = valid(Policy::BestGuess, &[server(1.0, None), server(1.0, None)]);
    let late = guess.dispatched(Time(0), 0);
    let mut other = guess.dispatched(Time(MILLI), 0);
    guess.answered(Time(2 * MILLI), &mut other, 200, false);
    guess.finished(Time(2 * MILLI), &other, Outcome::Served);
    let timeout = Outcome::Failed(Failure::TimedOut);
    guess.finished(Time(60_000 * MILLI), &late, timeout);
    let now = Time(60_000 * MILLI);
    let pick = guess.pick(now, &[]);
    let reasons = guess.explain(now, pick, &[]);
    assert!(reasons.servers.iter().all(|it| it.fitness == Fitness::Fit));
    // Where nothing else came it is one.
    let lost = guess.dispatched(now, 1);
    guess.finished(Time(120_000 * MILLI), &lost, timeout);
    let now = Time(120_000 * MILLI);
    assert_eq!(guess.pick(now, &[]), Pick::Server(0));
    let reasons = guess.explain(now, Pick::Server(0), &[]);
    assert!(matches!(reasons.servers[1].fitness, Fitness::Benched(_)));
}

#[test]
fn what_a_server_says_of_itself_is_heeded() {
    let mut guess = valid(Policy::BestGuess, &[server(1.0, None), server(1.0, None)]);
    let tell = |guess: &mut Guess, told: Said| guess.told(Time(0), 0, &told);
    let told = Said::default();
    tell(
        &mut guess,
        Said {
            in_flight: Some(5.0),
            ..told
        },
    );
    assert_eq!(guess.pick(Time(0), &[]), Pick::Server(1));
    tell(
        &mut guess,
        Said {
            in_flight: Some(f64::NAN),
            weight: Some(f64::NAN),
            max: Some(0),
            ..told
        },
    );
    guess.dispatched(Time(0), 0);
    assert_eq!(guess.pick(Time(0), &[1]), Pick::Full);
    tell(
        &mut guess,
        Said {
            max: Some(2),
            drains: Some(true),
            ..told
        },
    );
    assert_eq!(guess.pick(Time(0), &[]), Pick::Server(1));
    assert_eq!(guess.pick(Time(0), &[1]), Pick::Server(0));
}

#[test]
fn the_same_seed_guesses_the_same() {
    let order = |seed| -> Vec<usize> {
        let mut guess = Guess::new(Policy::BestGuess, &vec![server(1.0, None); 8], seed);
        let mut order = Vec::new();
        for round in 0..30 {
            for index in 0..8 {
                guess.stand(Time(0), index, Standing::Valid);
                guess.asked(index);
                let report = Report {
                    errors: 0,
                    load: 100 * round,
                };
                guess.reported(Time(0), index, report);
            }
            for _ in 0..8 {
                let Pick::Server(server) = guess.pick(Time(0), &[]) else {
                    panic!("nobody")
                };
                guess.dispatched(Time(0), server);
                order.push(server);
            }
        }
        order
    };
    assert_eq!(order(3), order(3));
    assert_ne!(order(3), order(5));
}

#[test]
fn of_two_by_chance_the_less_busy_one_is_taken() {
    let mut guess = valid(Policy::PowerOfTwo, &vec![server(1.0, None); 3]);
    for _ in 0..5 {
        guess.dispatched(Time(0), 1);
    }
    // Whichever two they are, the busy one loses.
    for _ in 0..100 {
        assert_ne!(guess.pick(Time(0), &[]), Pick::Server(1));
    }
    assert_eq!(guess.pick(Time(0), &[0, 2]), Pick::Server(1));
}
