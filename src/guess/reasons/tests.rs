use super::*;
use crate::config::Address;
use crate::guess::{Failure, Outcome, Ticket};
use crate::report::{Report, Said};

const SECOND: u64 = 1_000_000_000;
const MILLI: u64 = 1_000_000;

fn configs(count: u16) -> Vec<ServerConfig> {
    (1..=count)
        .map(|index| ServerConfig {
            name: format!("900{index}"),
            ..ServerConfig::new(Address::Tcp(([127, 0, 0, 1], 9000 + index).into()))
        })
        .collect()
}

fn valid(policy: Policy, configs: &[ServerConfig]) -> Guess {
    let mut guess = Guess::new(policy, configs, 7);
    for index in 0..configs.len() {
        guess.stand(Time(0), index, Standing::Valid);
    }
    guess
}

/// Sends a request to `server` that is answered after `millis`.
fn exchange(guess: &mut Guess, now: &mut u64, server: usize, millis: u64) {
    let mut ticket = guess.dispatched(Time(*now), server);
    *now += millis * MILLI;
    guess.answered(Time(*now), &mut ticket, 200, false);
    guess.finished(Time(*now), &ticket, Outcome::Served);
}

/// All of `configs` have answered often, in 3 ms each, and then the last one breaks a connection off.
fn broken_off(configs: &[ServerConfig]) -> (Guess, u64) {
    let (mut guess, mut now) = (valid(Policy::BestGuess, configs), SECOND);
    for _ in 0..100 {
        for server in 0..configs.len() {
            exchange(&mut guess, &mut now, server, 3);
        }
    }
    let broken = guess.dispatched(Time(now), configs.len() - 1);
    guess.finished(Time(now), &broken, Outcome::Failed(Failure::Reset));
    (guess, now)
}

fn line(guess: &mut Guess, now: u64, configs: &[ServerConfig], tried: &[u16]) -> (Rule, String) {
    let pick = guess.pick(Time(now), tried);
    let reasons = guess.explain(Time(now), pick, tried);
    if tried.is_empty() {
        // At a glance the same two come first, and the same rule decides.
        let mut glance = Reasons::default();
        guess.glance_into(Time(now), pick, &mut glance);
        assert_eq!(glance.rule, reasons.rule);
        assert!(reasons.servers.starts_with(&glance.servers) || pick == Pick::Nobody);
    }
    assert_eq!(reasons.pick, pick);
    (reasons.rule, reasons.line(configs).to_string())
}

#[test]
fn the_original_rule_is_named_where_it_decides() {
    let configs = configs(3);
    for (reports, rule, text) in [
        (
            [(0, 10), (0, 5), (3, 7)],
            Rule::Load,
            "9002: 0 in flight, least load (reported 5); 9003 fit (load 7), 9001 fit (load 10)",
        ),
        (
            [(0, 10), (1, 5), (3, 5)],
            Rule::Errors,
            "9002: 0 in flight, fewest errors (1); 9003 fit (load 5), 9001 fit (load 10)",
        ),
        (
            [(0, 5), (0, 5), (0, 5)],
            Rule::Unused,
            "9001: 0 in flight, longest unused; 9002 fit (load 5), 9003 fit (load 5)",
        ),
    ] {
        let mut guess = valid(Policy::BestGuess, &configs);
        for (server, (errors, load)) in reports.into_iter().enumerate() {
            guess.asked(server);
            guess.reported(Time(0), server, Report { errors, load });
        }
        assert_eq!(line(&mut guess, 0, &configs, &[]), (rule, text.to_owned()));
    }
}

#[test]
fn times_benches_and_requests_in_flight_are_told() {
    let configs = configs(3);
    let (mut guess, mut now) = broken_off(&configs);
    guess.dispatched(Time(now), 0);
    now += 200 * MILLI;
    let expected = "9002: expected 3.0 ms; 9001 7.4 ms (1 in flight), 9003 benched 800 ms (errors)";
    assert_eq!(
        line(&mut guess, now, &configs, &[]),
        (Rule::Time, expected.to_owned())
    );
}

#[test]
fn a_slow_and_a_silent_server_are_told() {
    let configs = configs(2);
    let mut guess = valid(Policy::BestGuess, &configs);
    let mut now = SECOND;
    for _ in 0..300 {
        exchange(&mut guess, &mut now, 0, 10);
        exchange(&mut guess, &mut now, 1, 40);
    }
    let (rule, text) = line(&mut guess, now, &configs, &[]);
    assert_eq!(rule, Rule::Time);
    assert!(
        text.starts_with("9001: expected ") && text.contains(" times the usual time)"),
        "{text}"
    );
    let _: [Ticket; 2] = [(); 2].map(|()| guess.dispatched(Time(now), 0));
    now += 5 * SECOND;
    let (rule, text) = line(&mut guess, now, &configs, &[]);
    assert_eq!(rule, Rule::Time);
    assert!(
        text.starts_with("9002: expected ")
            && text.contains("9001 5.0 s (2 in flight, ")
            && text.contains("silent for 5.0 s)"),
        "{text}"
    );
}

#[test]
fn a_detour_is_told() {
    let configs = configs(2);
    let (mut guess, now) = broken_off(&configs);
    assert_eq!(guess.choose(Time(now), &[], true), Pick::Server(0));
    for _ in 0..20 {
        guess.dispatched(Time(now), 0);
    }
    assert_eq!(guess.choose(Time(now), &[], false), Pick::Server(0));
    let pick = guess.choose(Time(now), &[], true);
    let reasons = guess.explain(Time(now), pick, &[]);
    let line = reasons.line(&configs).to_string();
    let expected =
        "9002: expected 3.0 ms, a detour: it fails at times, and all others are busy; 9001 ";
    assert_eq!((pick, reasons.rule), (Pick::Server(1), Rule::Detour));
    assert!(line.starts_with(expected), "{line}");
    let mut glance = Reasons::default();
    guess.glance_into(Time(now), pick, &mut glance);
    assert_eq!(glance, reasons);
    assert_eq!(guess.decided(pick, &[]), Rule::Detour);
    // The next request is one of its own.
    guess.choose(Time(now), &[], false);
    assert_eq!(guess.decided(Pick::Server(0), &[]), Rule::Fitness);
}

#[test]
fn what_makes_a_server_unfit_is_told() {
    let mut configs = configs(7);
    configs[4].max = Some(1);
    let mut guess = valid(Policy::BestGuess, &configs);
    guess.stand(Time(0), 1, Standing::Refusing);
    guess.stand(Time(0), 2, Standing::Invalid);
    let told = Said {
        drains: Some(true),
        ..Said::default()
    };
    guess.told(Time(0), 3, &told);
    guess.dispatched(Time(0), 4);
    let pick = guess.pick(Time(0), &[5]);
    let reasons = guess.explain(Time(0), pick, &[5]);
    let of = |server| {
        reasons
            .servers
            .iter()
            .find(|it| it.server == server)
            .unwrap()
            .fitness
    };
    assert_eq!(
        [0, 1, 2, 3, 4, 5, 6].map(of),
        [
            Fitness::Fit,
            Fitness::Refusing,
            Fitness::Invalid,
            Fitness::Draining,
            Fitness::Full(1),
            Fitness::Tried,
            Fitness::Fit
        ]
    );
    let text = reasons.line(&configs).to_string();
    assert_eq!(
        text,
        "9001: 0 in flight, longest unused; 9007 fit, 9005 full at 1 (1 in flight), 9002 refusing, 9004 draining and 2 more"
    );
    let (rule, text) = line(&mut guess, 0, &configs, &[0, 1, 2, 3, 4, 5]);
    assert_eq!(rule, Rule::Only);
    assert!(
        text.starts_with("9007: 0 in flight, no other left; "),
        "{text}"
    );
    let (rule, text) = line(&mut guess, 0, &configs, &[0, 1, 2, 3, 4, 5, 6]);
    assert_eq!(rule, Rule::Nothing);
    assert!(text.starts_with("none may be chosen; "), "{text}");
}

#[test]
fn chance_is_named_where_others_send_too() {
    let configs = configs(2);
    let mut guess = valid(Policy::BestGuess, &configs);
    for load in [0, 50] {
        for server in 0..2 {
            guess.asked(server);
            guess.reported(Time(0), server, Report { errors: 0, load });
        }
    }
    let (rule, text) = line(&mut guess, 0, &configs, &[]);
    assert_eq!(rule, Rule::Chance);
    assert!(text.contains("by chance as others send here too"), "{text}");
}

#[test]
fn plain_policies_say_their_name() {
    let configs = configs(2);
    let mut guess = valid(Policy::RoundRobin, &configs);
    let expected = "9001: 0 in flight, by round-robin; 9002 fit".to_owned();
    assert_eq!(
        line(&mut guess, 0, &configs, &[]),
        (Rule::Plain(Policy::RoundRobin), expected)
    );
}

#[test]
fn times_are_written_as_people_read_them() {
    let texts = [310_000, 3_140_000, 31_400_000, 3_140_000_000]
        .map(|nanos| Span(Duration::from_nanos(nanos)).to_string());
    assert_eq!(texts, ["0.31 ms", "3.1 ms", "31 ms", "3.1 s"]);
}

#[test]
fn plain_policies_call_nobody_capped_or_benched() {
    let configs = configs(2);
    let mut guess = valid(Policy::LeastConn, &configs);
    for round in 0..20 {
        let mut ticket = guess.dispatched(Time(round), 0);
        guess.answered(Time(round), &mut ticket, 500, false);
        guess.finished(Time(round), &ticket, Outcome::Failed(Failure::Reset));
    }
    guess.dispatched(Time(20), 0);
    guess.dispatched(Time(20), 1);
    let pick = guess.pick(Time(21), &[]);
    let reasons = guess.explain(Time(21), pick, &[]);
    for reason in reasons.servers {
        assert_eq!(reason.fitness, Fitness::Fit, "{reason:?}");
    }
}

#[test]
fn what_decided_is_known_without_an_explanation() {
    let mut seen = std::collections::BTreeSet::new();
    for (seed, count) in [(1, 1), (2, 2), (3, 3), (4, 6), (5, 17)] {
        let configs = configs(count);
        let mut guess = valid(Policy::BestGuess, &configs);
        let mut chance = seed;
        let mut dice = |sides: usize| (crate::guess::random(&mut chance) * sides as f64) as usize;
        let mut now = SECOND;
        for _ in 0..3000 {
            now += MILLI;
            let server = dice(configs.len());
            match dice(8) {
                0 => {
                    let [errors, load] = [dice(3), dice(4)].map(|number| number as u64);
                    guess.asked(server);
                    guess.reported(Time(now), server, Report { errors, load });
                }
                1 => {
                    let standing = [Standing::Valid, Standing::Unknown, Standing::Invalid];
                    guess.stand(Time(now), server, standing[dice(3)]);
                }
                2 => {
                    let ticket = guess.dispatched(Time(now), server);
                    let failed = Outcome::Failed(Failure::Reset);
                    guess.finished(Time(now), &ticket, failed);
                }
                3 => exchange(&mut guess, &mut now, server, dice(5) as u64),
                _ => {}
            }
            let tried = [dice(configs.len()) as u16];
            let tried = if dice(3) == 0 { &tried[..] } else { &[] };
            let pick = guess.pick(Time(now), tried);
            let rule = guess.decided(pick, tried);
            assert_eq!(rule, guess.explain(Time(now), pick, tried).rule);
            seen.insert(rule.name());
        }
    }
    assert!(seen.len() > 6, "{seen:?}");
    let configs = configs(2);
    let mut plain = valid(Policy::RoundRobin, &configs);
    let pick = plain.pick(Time(0), &[]);
    assert_eq!(plain.decided(pick, &[]), Rule::Plain(Policy::RoundRobin));
}
