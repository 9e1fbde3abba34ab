//! Facts about whole command lines. No test here looks at the network or the real environment.

use super::*;
use crate::config::{CheckMode, LogTarget, Policy, SERVERS_MAX, ServerConfig};
use std::os::unix::ffi::OsStringExt;
use std::time::Duration;

fn fake_resolver(host: &str) -> io::Result<SocketAddr> {
    match host {
        "app" => Ok(SocketAddr::from(([10, 0, 0, 7], 0))),
        "localhost" => Ok(SocketAddr::from(([127, 0, 0, 1], 0))),
        _ => Err(io::Error::other("name or service\nnot known")),
    }
}

fn run(line: &[&str], env: &[(&str, &str)]) -> Result<Invocation, UsageError> {
    let lookup = |name: &str| {
        let found = env.iter().find(|(known, _)| *known == name);
        found.map(|(_, value)| OsString::from(value))
    };
    parse_with(line.iter().map(OsString::from), &lookup, &fake_resolver)
}

fn words(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
}

/// The configuration that a line gives.
fn config(line: &str) -> Config {
    match run(&words(line), &[])
        .unwrap_or_else(|error| panic!("{line}: {error}"))
        .command
    {
        Command::Serve(config) | Command::Test(config) => *config,
        other => panic!("{line}: {other:?}"),
    }
}

/// The text of the error that a line gives; it must be one line and ask for exit code 2.
fn refusal(line: &str) -> String {
    refusal_of(&words(line), &[])
}

fn refusal_of(line: &[&str], env: &[(&str, &str)]) -> String {
    let error = run(line, env).expect_err(&format!("{line:?}"));
    assert_eq!(error.exit_code(), 2, "{error}");
    let text = error.to_string();
    assert!(
        text.starts_with("bestguess: ") && text.contains(" (see bestguess "),
        "{text}"
    );
    assert_eq!(text.lines().count(), 1, "{text}");
    text
}

fn servers(config: &Config) -> Vec<String> {
    config
        .servers
        .iter()
        .map(|server| server.address.to_string())
        .collect()
}

#[test]
fn a_port_and_a_server_are_enough_and_all_else_has_its_default() {
    let found = config("8080 9001");
    let listen = Address::Tcp("0.0.0.0:8080".parse().unwrap());
    let server = ServerConfig::new(Address::Tcp("127.0.0.1:9001".parse().unwrap()));
    let mut expected = Config::new(listen, vec![server]);
    expected.source.arguments = vec!["9001".to_owned()];
    assert_eq!(found, expected);
}

#[test]
fn options_and_positionals_mix_in_any_order() {
    for line in [
        "8080 -N 8 9001 -R 7 9002",
        "-N 8 -R 7 8080 9001 9002",
        "8080 9001 9002 -R=7 -N=8",
        "-N8 8080 --every-requests 7 9001 9002",
        "--parallel=8 8080 9001 --every-requests=7 -- 9002",
        "-R7 --parallel 8 -- 8080 9001 9002",
    ] {
        let found = config(line);
        assert_eq!(
            (found.parallel, found.check.every_requests),
            (8, 7),
            "{line}"
        );
        assert_eq!(
            servers(&found),
            ["127.0.0.1:9001", "127.0.0.1:9002"],
            "{line}"
        );
        assert_eq!(found.listen.to_string(), "0.0.0.0:8080", "{line}");
    }
}

#[test]
fn every_option_arrives_in_its_field() {
    let found = config(
        "[::1]:0 9001 -N 2 -R 3 -X 0.2 --check http --check-path /up?x=1 --check-timeout 250ms \
         --rise 2 --fall 3 --policy least-conn --connect-timeout 2 --response-timeout 2m \
         --client-timeout 3s --idle-timeout 4s --queue-timeout 5s --drain-timeout 1h \
         --max-clients 77 --down-status 503 --trust-forwarded --forwarded --access-log -",
    );
    assert_eq!(found.listen.to_string(), "[::1]:0");
    assert_eq!(
        (found.parallel, found.clients_max, found.down_status),
        (2, Some(77), 503)
    );
    assert_eq!(
        (found.check.every_requests, found.check.every),
        (3, Duration::from_millis(200))
    );
    assert_eq!(
        (found.check.mode, found.check.path.as_str()),
        (CheckMode::Http, "/up?x=1")
    );
    assert_eq!(
        (found.check.timeout, found.check.rise, found.check.fall),
        (Duration::from_millis(250), 2, 3)
    );
    assert_eq!(found.policy, Policy::LeastConn);
    let times = found.timeouts;
    let seconds = [
        times.connect,
        times.response,
        times.client,
        times.idle,
        times.queue,
        times.drain,
    ];
    assert_eq!(seconds.map(|time| time.as_secs()), [2, 120, 3, 4, 5, 3600]);
    assert!(found.trust_forwarded && found.forwarded);
    assert_eq!(found.access_log, Some(LogTarget::Stdout));
    let found = config("8080 9001 --access-log=/var/log/a=b");
    assert_eq!(
        found.access_log,
        Some(LogTarget::File("/var/log/a=b".into()))
    );
}

#[test]
fn servers_come_as_ranges_names_and_sockets_in_their_order() {
    let found = config(
        "127.0.0.1:8080 9001-9003,weight=2 app:80-81,max=5 [::1]:7 unix:/run/a.sock localhost:7",
    );
    let expected = [
        "127.0.0.1:9001",
        "127.0.0.1:9002",
        "127.0.0.1:9003",
        "10.0.0.7:80",
        "10.0.0.7:81",
        "[::1]:7",
        "unix:/run/a.sock",
        "127.0.0.1:7",
    ];
    assert_eq!(servers(&found), expected);
    let names: Vec<&str> = found
        .servers
        .iter()
        .map(|server| server.name.as_str())
        .collect();
    assert_eq!(
        (names[0], names[4], names[7]),
        ("127.0.0.1:9001", "app:81", "localhost:7")
    );
    assert_eq!((found.servers[2].weight, found.servers[2].max), (2.0, None));
    assert_eq!(
        (found.servers[4].weight, found.servers[4].max),
        (1.0, Some(5))
    );
}

#[test]
fn a_value_that_looks_like_an_option_is_refused() {
    for line in [
        "--policy --check tcp 8080 9001",
        "8080 9001 --access-log -v",
        "8080 9001 --access-log=-v",
        "8080 9001 -N -R 7",
        "8080 9001 --policy --",
        "8080 9001 -N --no-such",
    ] {
        assert!(refusal(line).contains("looks like an option"), "{line}");
    }
    // A number is a value, and judged as one.
    assert!(refusal("8080 9001 -N -5").contains("-N '-5': expected a whole number of at least 1"));
}

#[test]
fn an_option_without_its_value_is_refused() {
    assert!(refusal("8080 9001 -N").contains("-N: expected N behind it"));
    assert!(
        refusal("8080 9001 --policy=").contains("--policy '': expected best-guess, least-load")
    );
}

#[test]
fn an_unknown_option_is_refused_with_the_nearest_name() {
    assert!(
        refusal("8080 9001 --paralel 8")
            .contains("'--paralel': no such option, expected --parallel?")
    );
    assert!(refusal("8080 9001 -n 8").contains("expected -N?"));
    assert!(refusal("8080 9001 --listen --x a").contains("'--listen': no such option"));
    assert!(refusal("8080 9001 -5").contains("'-5': no such option"));
    assert!(refusal("8080 9001 -vx").contains("'-vx': no such option"));
    assert!(refusal("demo --paralel 8").contains("no such option, expected one of"));
}

#[test]
fn a_wrong_value_is_refused_with_what_was_expected_and_an_example() {
    assert_eq!(
        refusal("8080 9001 -N abc"),
        "bestguess: -N 'abc': expected a whole number of at least 1, e.g. -N 1024 \
         (see bestguess --help)"
    );
    assert_eq!(
        refusal("8080 9001 --check=ftp"),
        "bestguess: --check 'ftp': expected report, http, tcp or off, e.g. --check report \
         (see bestguess --help)"
    );
    for line in [
        "-N 0",
        "-N 1000001",
        "-N 99999999999999999999",
        "-R 0",
        "-X 0",
        "-X 0ms",
        "-X 9000h",
        "-X 1e3",
        "--rise 0",
        "--fall -1",
        "--down-status 502",
        "--check-path up",
        "--check-timeout 0",
        "--max-clients 0",
        "--policy Best-Guess",
        "--trust-forwarded=maybe",
        "-v=3",
        "--test=2",
    ] {
        assert!(
            refusal(&format!("8080 9001 {line}")).contains(": expected "),
            "{line}"
        );
    }
}

#[test]
fn a_single_valued_option_given_twice_is_refused() {
    for line in [
        "-N 8 -N 8",
        "-N 8 --parallel 9",
        "-t -t",
        "--forwarded=no --forwarded",
    ] {
        assert!(
            refusal(&format!("8080 9001 {line}")).contains("given twice"),
            "{line}"
        );
    }
}

#[test]
fn a_flag_takes_yes_and_no_but_only_behind_an_equals_sign() {
    assert!(config("8080 9001 --forwarded=yes").forwarded);
    assert!(!config("8080 9001 --forwarded=0").forwarded);
    assert!(refusal("--forwarded no 8080 9001").contains("PORT 'no'"));
    assert!(refusal("8080 9001 --help=yes").contains("--help 'yes': expected no value"));
}

#[test]
fn missing_and_superfluous_words_are_refused() {
    assert!(refusal("").contains("PORT: expected a port to listen at"));
    assert!(refusal("-N 8").contains("PORT: expected"));
    assert!(refusal("8080").contains("SERVER: expected one or more"));
    assert!(refusal("8080 -").contains("SERVER '-'"));
    assert!(refusal("8080 -- 9001 -N").contains("SERVER '-N'"));
    assert!(refusal("8080-8081 9001").contains("PORT '8080-8081': expected one port"));
    assert!(refusal("8080 0").contains("SERVER '0': expected a port from 1"));
    assert!(refusal("origin 9001 dir more").contains("'more': expected nothing"));
    assert!(refusal("demo 1 2").contains("'2': expected nothing"));
}

#[test]
fn an_empty_argument_is_refused() {
    assert!(refusal_of(&["8080", ""], &[]).contains("SERVER ''"));
    assert!(refusal_of(&["", "9001"], &[]).contains("PORT ''"));
    assert!(refusal_of(&["origin", "9001", ""], &[]).contains("DIR ''"));
}

#[test]
fn a_server_that_is_there_already_is_refused() {
    for line in [
        "9001 9001",
        "9001-9003 9002",
        "9001 127.0.0.1:9001",
        "9001 localhost:9001",
        "unix:/a unix:/a",
    ] {
        assert!(
            refusal(&format!("8080 {line}")).contains("each server once"),
            "{line}"
        );
    }
}

#[test]
fn a_server_that_is_the_listener_itself_is_refused() {
    for line in [
        "8080 8080",
        "8080 9001 8079-8081",
        "localhost:8080 8080",
        "unix:/a unix:/a",
        "[::]:80 [::1]:80",
    ] {
        assert!(
            refusal(line).contains("where the balancer listens"),
            "{line}"
        );
    }
    assert_eq!(config("8080 app:8080 [::1]:8080").servers.len(), 2);
    assert_eq!(config("10.0.0.1:8080 8080").servers.len(), 1);
}

#[test]
fn the_number_of_servers_is_bounded() {
    assert_eq!(config("8080 10001-14096").servers.len(), SERVERS_MAX);
    assert!(refusal("8080 10001-14097").contains("at most 4096 servers"));
}

#[test]
fn a_name_that_cannot_be_resolved_asks_for_exit_code_1() {
    for line in [
        ["8080", "gone:9001"],
        ["gone:8080", "9001"],
        ["origin", "gone:1"],
    ] {
        let error = run(&line, &[]).unwrap_err();
        assert_eq!(error.exit_code(), 1);
        assert!(error.to_string().contains("'gone:"), "{error}");
        assert!(
            error
                .to_string()
                .ends_with("cannot resolve the host name: name or service\\nnot known"),
            "{error}"
        );
    }
    // What can be seen without a lookup is said first.
    assert!(refusal("gone:8080 9001 90O2").contains("'90O2'"));
}

#[test]
fn a_variable_stands_in_for_an_option_and_the_command_line_wins() {
    let env = [
        ("BESTGUESS_PARALLEL", "9"),
        ("BESTGUESS_EVERY_SECONDS", "0.5"),
        ("BESTGUESS_FORWARDED", "yes"),
        ("BESTGUESS_TRUST_FORWARDED", "1"),
        ("BESTGUESS_POLICY", ""),
        ("BESTGUESS_NO_SUCH_THING", "x"),
        ("BESTGUESS_HELP", "1"),
    ];
    let line = ["8080", "9001", "-N", "8", "--trust-forwarded=no"];
    let Command::Serve(found) = run(&line, &env).unwrap().command else {
        panic!()
    };
    assert_eq!(
        (found.parallel, found.check.every),
        (8, Duration::from_millis(500))
    );
    assert_eq!((found.forwarded, found.trust_forwarded), (true, false));
    assert_eq!(found.policy, Policy::BestGuess);
}

#[test]
fn an_error_in_a_variable_names_it() {
    let text = refusal_of(&["8080", "9001"], &[("BESTGUESS_PARALLEL", "abc")]);
    assert!(
        text.contains("the variable BESTGUESS_PARALLEL 'abc': expected a whole number"),
        "{text}"
    );
    assert!(text.contains("e.g. BESTGUESS_PARALLEL=1024"), "{text}");
    assert!(
        refusal_of(&["8080", "9001"], &[("BESTGUESS_TEST", "maybe")]).contains("BESTGUESS_TEST")
    );
    // What the command line overrides or the program does not have is not judged.
    assert!(
        run(
            &["8080", "9001", "-N", "8"],
            &[("BESTGUESS_PARALLEL", "abc")]
        )
        .is_ok()
    );
    assert!(run(&["demo"], &[("BESTGUESS_PARALLEL", "abc")]).is_ok());
    assert!(run(&["8080", "9001"], &[("BESTGUESS_DELAY", "abc")]).is_ok());
}

#[test]
fn verbosity_counts_and_its_flags_outweigh_both_variables() {
    let verbosity = |line: &str, env: &[(&str, &str)]| run(&words(line), env).unwrap().verbosity;
    for (line, expected) in [
        ("", 0),
        ("-v", 1),
        ("-vv", 2),
        ("-v -v", 2),
        ("-vvvv", 2),
        ("--verbose -v", 2),
        ("-v=2", 2),
        ("-q", -1),
        ("-qq", -2),
        ("-qqqq", -2),
        ("-vq", 0),
        ("-v=0", 0),
    ] {
        assert_eq!(
            verbosity(&format!("8080 9001 {line}"), &[]),
            expected,
            "{line}"
        );
        assert_eq!(verbosity(&format!("demo {line}"), &[]), expected, "{line}");
        assert_eq!(
            verbosity(&format!("{line} origin 0"), &[]),
            expected,
            "{line}"
        );
    }
    assert_eq!(verbosity("demo", &[("BESTGUESS_VERBOSE", "2")]), 2);
    assert_eq!(verbosity("demo", &[("BESTGUESS_QUIET", "yes")]), -1);
    assert_eq!(verbosity("demo -q", &[("BESTGUESS_VERBOSE", "2")]), -1);
}

#[test]
fn letters_without_a_value_share_one_dash() {
    let found = run(&words("8080 9001 -tvN 7"), &[]).unwrap();
    assert_eq!(found.verbosity, 1);
    assert!(matches!(found.command, Command::Test(config) if config.parallel == 7));
}

#[test]
fn help_and_version_win_over_wrong_values_and_missing_words() {
    let help = |line: &str| match run(&words(line), &[("BESTGUESS_RISE", "x")])
        .unwrap()
        .command
    {
        Command::Help(text) => text,
        other => panic!("{line}: {other:?}"),
    };
    assert!(help("-h").contains("usage: bestguess [OPTIONS] PORT SERVER..."));
    assert!(help("8080 -N abc --help").contains("--parallel N"));
    assert!(help("-h -h -N 8 -N 9").contains("--parallel N"));
    assert!(help("origin --help").contains("usage: bestguess origin"));
    assert!(help("-h origin").contains("--fixed-report"));
    assert!(help("demo -h").contains("usage: bestguess demo"));
    for line in ["-V", "--version", "origin -V"] {
        assert_eq!(
            run(&words(line), &[]).unwrap().command,
            Command::Version,
            "{line}"
        );
    }
}

#[test]
fn origin_has_its_own_options() {
    let origin = |line: &str| match run(&words(line), &[("BESTGUESS_LOAD", "4")])
        .unwrap()
        .command
    {
        Command::Origin(origin) => origin,
        other => panic!("{line}: {other:?}"),
    };
    let plain = origin("origin 0 --load 0");
    assert_eq!(plain.listen.to_string(), "127.0.0.1:0");
    assert_eq!(
        (plain.dir, plain.name, plain.service, plain.seed),
        (None, None, Service::default(), None)
    );
    assert_eq!(
        (plain.load, plain.errors, plain.fixed_report, plain.orca),
        (0, 0, false, false)
    );
    let full = origin(
        "--name blue origin unix:/run/o.sock --delay 20ms files --errors 3 --fixed-report \
         --jitter 0.5 --fail 5% --workers 4 --seed 7 --orca --control",
    );
    assert_eq!(full.listen, Address::Unix("/run/o.sock".into()));
    assert_eq!(
        (full.dir, full.name.as_deref()),
        (Some("files".into()), Some("blue"))
    );
    assert_eq!((full.load, full.errors, full.seed), (4, 3, Some(7)));
    let service = Service {
        delay: Duration::from_millis(20),
        jitter: Duration::from_millis(500),
        fail: 0.05,
        workers: 4,
    };
    assert_eq!(full.service, service);
    assert!(refusal("origin 9001 --fail 5").contains("expected a share from 0 to 1"));
    assert!(full.fixed_report && full.orca && full.control);
    assert!(refusal("origin").contains("PORT: expected"));
    assert!(refusal("origin 9001 --load -1").contains("see bestguess origin --help"));
}

#[test]
fn an_option_of_another_program_is_refused() {
    assert!(refusal("origin 9001 -N 8").contains("-N: expected an option of bestguess origin"));
    assert!(refusal("8080 9001 --delay 1s").contains("--delay: expected an option of bestguess "));
    assert!(refusal("demo --test").contains("--test: expected an option of bestguess demo"));
}

#[test]
fn demo_takes_a_port_of_this_machine() {
    let port = |line: &str| match run(&words(line), &[]).unwrap().command {
        Command::Demo(demo) => demo.port,
        other => panic!("{line}: {other:?}"),
    };
    assert_eq!(
        (port("demo"), port("demo 8081"), port("-v demo 0")),
        (None, Some(8081), Some(0))
    );
    assert!(refusal("demo 127.0.0.1:80").contains("PORT '127.0.0.1:80'"));
    assert!(refusal("demo 65536").contains("0 to 65535"));
}

#[test]
fn behind_a_double_dash_the_names_of_subcommands_are_addresses() {
    assert!(refusal("-- demo").contains("PORT 'demo'"));
    assert!(refusal("8080 demo").contains("SERVER 'demo'"));
}

#[test]
fn an_argument_that_is_not_text_is_refused() {
    let odd = || OsString::from_vec(vec![b'a', 0xff]);
    for line in [
        vec![odd()],
        vec!["8080".into(), odd()],
        vec!["-N".into(), odd()],
        vec!["--".into(), odd()],
    ] {
        let number = line.len();
        let error = parse_with(line.into_iter(), &|_| None, &fake_resolver).unwrap_err();
        assert!(
            error
                .to_string()
                .contains(&format!("argument {number} 'a\u{fffd}': expected UTF-8")),
            "{error}"
        );
        assert_eq!(error.exit_code(), 2);
    }
    let env = |name: &str| (name == "BESTGUESS_RISE").then(odd);
    let error = parse_with(
        ["8080", "9001"].map(OsString::from).into_iter(),
        &env,
        &fake_resolver,
    )
    .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("BESTGUESS_RISE 'a\u{fffd}': expected UTF-8"),
        "{error}"
    );
}

#[test]
fn no_argument_can_forge_a_second_line_or_flood_the_first() {
    let text = refusal_of(&["8080", "9001", "-N", "a\nb\u{1b}[31m"], &[]);
    assert!(text.contains("'a\\nb\\u{1b}[31m'"), "{text}");
    let long = "x:y".repeat(100_000);
    for line in [
        &["8080", long.as_str()][..],
        &[&format!("--{long}")],
        &["8080", "9001", "--name", &long],
    ] {
        assert!(refusal_of(line, &[]).len() < 300);
    }
}

/// Not a proof, but cheap: thousands of command lines made of likely and unlikely pieces.
#[test]
fn no_command_line_panics_and_every_error_is_one_line() {
    let pieces = [
        "8080",
        "9001",
        "9002-9004",
        "demo",
        "origin",
        "-",
        "--",
        "-N",
        "-N8",
        "-N=",
        "-vv",
        "-qt",
        "--policy",
        "random",
        "--check=tcp",
        "--forwarded",
        "--name",
        "é",
        "",
        "unix:/a",
        "[::1]:1",
        "app:80,max=2",
        ",",
        "=",
        "-=",
        "--=",
        "---",
        "-é",
        "-5",
        "1.5",
        "-X",
        "--every-seconds=.5",
        "-h",
        "-V",
        "a\nb",
        "--load=7",
    ];
    let mut seed: u64 = 7;
    let mut pick = |below: usize| {
        seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(seed >> 33).unwrap() % below
    };
    let (mut good, mut wrong) = (0, 0);
    for _ in 0..20_000 {
        let line: Vec<&str> = (0..pick(7)).map(|_| pieces[pick(pieces.len())]).collect();
        match run(&line, &[]) {
            Ok(_) => good += 1,
            Err(error) => {
                assert_eq!(error.to_string().lines().count(), 1, "{line:?}");
                wrong += 1;
            }
        }
    }
    assert!(good > 500 && wrong > 5_000, "{good} {wrong}");
}

#[test]
fn the_admin_listens_on_loopback_unless_told() {
    for (text, listen) in [
        ("9900", "127.0.0.1:9900"),
        ("0.0.0.0:9900", "0.0.0.0:9900"),
        ("unix:/a", "unix:/a"),
    ] {
        let found = config(&format!("8080 9001 --admin {text} --admin-token @/t"));
        let admin = found.admin.unwrap();
        assert_eq!(admin.listen.to_string(), listen);
        assert_eq!(admin.token.as_deref(), Some("@/t"));
    }
    assert_eq!(config("8080 9001").admin, None);
    let text = refusal_of(&["8080", "9001", "--admin-token", "x"], &[]);
    assert!(text.contains("expected --admin beside it"), "{text}");
    let text = refusal_of(
        &["8080", "9001", "--admin", "9900", "--admin-token", "a b"],
        &[],
    );
    assert!(text.contains("visible characters"), "{text}");
    let text = refusal_of(&["8080", "9001", "--admin", "9900-9901"], &[]);
    assert!(text.contains("one port to listen at"), "{text}");
}
