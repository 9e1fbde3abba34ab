//! The one table of options: the parser reads it, `--help` is printed from it.

use super::Program;
use super::draft::{
    Answer, Draft, access_log, admin, admin_token, answer, check_mode, count, log_format, policy,
    put,
};
use super::value::{self, Expected};

/// The most pairs or clients that can be asked for; no file limit in use is higher.
const CONNECTIONS_MAX: u64 = 1_000_000;
/// The most requests between two rounds of checks: practically by time alone.
const EVERY_REQUESTS_MAX: u64 = 1_000_000_000_000;
/// The most checks in a row that a change of state may take.
const IN_A_ROW_MAX: u64 = 1000;

/// No process has a higher number (Linux: 2^22).
const PID_MAX: u64 = 1 << 22;

/// What stands behind an option's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Takes {
    /// Nothing, ever: it asks for a text and ends the program.
    Nothing,
    /// Nothing, or `=yes` and `=no`.
    Switch,
    /// Nothing; it counts how often it is given. One of them on the command line outweighs the
    /// variables of all of them, or `-q` could not undo BESTGUESS_VERBOSE.
    Repeats,
    /// A value, by the name that the help gives it.
    Value(&'static str),
    /// One of these words, under the name that the help gives them.
    OneOf(&'static str, &'static [&'static str]),
}

/// Where the help lists an option, and so which programs have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Group {
    Load,
    Servers,
    Checks,
    Times,
    Requests,
    Admin,
    Origin,
    Upgrade,
    Trial,
    General,
}

/// One option: everything that the parser, the help, completions or a manual page need to know.
#[derive(Debug)]
pub(super) struct OptionSpec {
    /// `-N`, or empty.
    pub(super) short: &'static str,
    /// `--parallel`; unique over all programs.
    pub(super) long: &'static str,
    /// What stands behind it.
    pub(super) takes: Takes,
    /// The variable that is read when the command line says nothing; empty: none.
    pub(super) env: &'static str,
    /// The default as it would be written; empty: none, or the help says it.
    pub(super) default: &'static str,
    /// Where it is listed.
    pub(super) group: Group,
    /// What it is for, in a few words.
    pub(super) help: &'static str,
    /// Judges one value and stores it; a flag without a value counts as `1`.
    pub(super) apply: fn(&mut Draft, &str) -> Result<(), Expected>,
}

impl Takes {
    /// Whether the next argument belongs to it.
    pub(super) fn is_value(self) -> bool {
        matches!(self, Takes::Value(_) | Takes::OneOf(..))
    }
}

impl OptionSpec {
    /// The names under which it can be written.
    pub(super) fn names(&self) -> impl Iterator<Item = &'static str> {
        [self.short, self.long]
            .into_iter()
            .filter(|name| !name.is_empty())
    }

    /// Judges and stores one value.
    ///
    /// # Errors
    ///
    /// What was expected, as a noun phrase.
    pub(super) fn apply(&self, draft: &mut Draft, text: &str) -> Result<(), Expected> {
        if let Takes::OneOf(_, words) = self.takes
            && !words.contains(&text)
        {
            return Err(listed(words));
        }
        (self.apply)(draft, text)
    }
}

impl Program {
    /// Whether this program knows the option.
    pub(super) fn has(self, option: &OptionSpec) -> bool {
        match option.group {
            Group::General => true,
            Group::Origin => self == Program::Origin,
            Group::Upgrade => self == Program::Upgrade,
            _ => self == Program::Balancer,
        }
    }
}

/// `a, b or c`.
pub(super) fn listed(words: &[&str]) -> String {
    match words {
        [] => String::new(),
        [word] => (*word).to_owned(),
        [words @ .., last] => format!("{} or {last}", words.join(", ")),
    }
}

/// Every option there is, in the order of the help.
pub(super) static OPTIONS: &[OptionSpec] = &[
    OptionSpec {
        short: "-N",
        long: "--parallel",
        takes: Takes::Value("N"),
        env: "BESTGUESS_PARALLEL",
        default: "1024",
        group: Group::Load,
        help: "requests at once; more of them wait",
        apply: |draft, text| {
            put(
                &mut draft.config.parallel,
                value::whole(text, 1, CONNECTIONS_MAX),
            )
        },
    },
    OptionSpec {
        short: "",
        long: "--max-clients",
        takes: Takes::Value("N"),
        env: "BESTGUESS_MAX_CLIENTS",
        default: "",
        group: Group::Load,
        help: "connected clients (what the file limit allows)",
        apply: |draft, text| {
            put(
                &mut draft.config.clients_max,
                value::whole(text, 1, CONNECTIONS_MAX).map(Some),
            )
        },
    },
    OptionSpec {
        short: "",
        long: "--reuse-port",
        takes: Takes::Switch,
        env: "BESTGUESS_REUSE_PORT",
        default: "",
        group: Group::Load,
        help: "share the port with other processes",
        apply: |draft, text| put(&mut draft.config.reuse_port, value::truth(text)),
    },
    OptionSpec {
        short: "",
        long: "--policy",
        takes: Takes::OneOf(
            "NAME",
            &[
                "best-guess",
                "least-load",
                "round-robin",
                "least-conn",
                "random",
                "p2c",
            ],
        ),
        env: "BESTGUESS_POLICY",
        default: "best-guess",
        group: Group::Load,
        help: "how a server is chosen",
        apply: policy,
    },
    OptionSpec {
        short: "",
        long: "--servers-file",
        takes: Takes::Value("PATH"),
        env: "BESTGUESS_SERVERS_FILE",
        default: "",
        group: Group::Servers,
        help: "more of them, one per line; read again on HUP",
        apply: |draft, text| put(&mut draft.config.source.file, value::path(text).map(Some)),
    },
    OptionSpec {
        short: "",
        long: "--slow-start",
        takes: Takes::Value("TIME"),
        env: "BESTGUESS_SLOW_START",
        default: "0",
        group: Group::Servers,
        help: "for one that is back to get its full share",
        apply: |draft, text| {
            put(
                &mut draft.config.check.slow_start,
                value::time_or_zero(text),
            )
        },
    },
    OptionSpec {
        short: "",
        long: "--sticky",
        takes: Takes::Value("HOW"),
        env: "BESTGUESS_STICKY",
        default: "",
        group: Group::Servers,
        help: "a client keeps its server: cookie[=NAME] or ip",
        apply: |draft, text| put(&mut draft.config.sticky.by, value::sticky(text)),
    },
    OptionSpec {
        short: "",
        long: "--sticky-key-file",
        takes: Takes::Value("PATH"),
        env: "BESTGUESS_STICKY_KEY_FILE",
        default: "",
        group: Group::Servers,
        help: "the key of the cookies (a new one each start)",
        apply: |draft, text| {
            put(
                &mut draft.config.sticky.key_file,
                value::path(text).map(Some),
            )
        },
    },
    OptionSpec {
        short: "-R",
        long: "--every-requests",
        takes: Takes::Value("R"),
        env: "BESTGUESS_EVERY_REQUESTS",
        default: "1000",
        group: Group::Checks,
        help: "check all servers after so many requests",
        apply: |draft, text| {
            put(
                &mut draft.config.check.every_requests,
                value::whole(text, 1, EVERY_REQUESTS_MAX),
            )
        },
    },
    OptionSpec {
        short: "-X",
        long: "--every-seconds",
        takes: Takes::Value("X"),
        env: "BESTGUESS_EVERY_SECONDS",
        default: "3",
        group: Group::Checks,
        help: "or after this time, whichever is first",
        apply: |draft, text| put(&mut draft.config.check.every, value::time(text)),
    },
    OptionSpec {
        short: "",
        long: "--check",
        takes: Takes::OneOf("MODE", &["report", "http", "tcp", "off"]),
        env: "BESTGUESS_CHECK",
        default: "report",
        group: Group::Checks,
        help: "what is asked",
        apply: check_mode,
    },
    OptionSpec {
        short: "",
        long: "--check-path",
        takes: Takes::Value("/PATH"),
        env: "BESTGUESS_CHECK_PATH",
        default: "/healthcheck",
        group: Group::Checks,
        help: "what a check gets",
        apply: |draft, text| put(&mut draft.config.check.path, value::check_path(text)),
    },
    OptionSpec {
        short: "",
        long: "--check-timeout",
        takes: Takes::Value("TIME"),
        env: "BESTGUESS_CHECK_TIMEOUT",
        default: "5s",
        group: Group::Checks,
        help: "a later answer is a failure",
        apply: |draft, text| put(&mut draft.config.check.timeout, value::time(text)),
    },
    OptionSpec {
        short: "",
        long: "--rise",
        takes: Takes::Value("N"),
        env: "BESTGUESS_RISE",
        default: "1",
        group: Group::Checks,
        help: "good checks in a row that bring a server back",
        apply: |draft, text| {
            put(
                &mut draft.config.check.rise,
                value::whole(text, 1, IN_A_ROW_MAX),
            )
        },
    },
    OptionSpec {
        short: "",
        long: "--fall",
        takes: Takes::Value("N"),
        env: "BESTGUESS_FALL",
        default: "1",
        group: Group::Checks,
        help: "bad checks in a row that take one out",
        apply: |draft, text| {
            put(
                &mut draft.config.check.fall,
                value::whole(text, 1, IN_A_ROW_MAX),
            )
        },
    },
    OptionSpec {
        short: "",
        long: "--connect-timeout",
        takes: Takes::Value("TIME"),
        env: "BESTGUESS_CONNECT_TIMEOUT",
        default: "1s",
        group: Group::Times,
        help: "to connect to a server",
        apply: |draft, text| put(&mut draft.config.timeouts.connect, value::time(text)),
    },
    OptionSpec {
        short: "",
        long: "--response-timeout",
        takes: Takes::Value("TIME"),
        env: "BESTGUESS_RESPONSE_TIMEOUT",
        default: "60s",
        group: Group::Times,
        help: "for a response to begin, or go on",
        apply: |draft, text| put(&mut draft.config.timeouts.response, value::time(text)),
    },
    OptionSpec {
        short: "",
        long: "--client-timeout",
        takes: Takes::Value("TIME"),
        env: "BESTGUESS_CLIENT_TIMEOUT",
        default: "30s",
        group: Group::Times,
        help: "for a client to send, or read on",
        apply: |draft, text| put(&mut draft.config.timeouts.client, value::time(text)),
    },
    OptionSpec {
        short: "",
        long: "--min-rate",
        takes: Takes::Value("RATE"),
        env: "BESTGUESS_MIN_RATE",
        default: "240",
        group: Group::Times,
        help: "bytes/s of a client that is waited for",
        apply: |draft, text| put(&mut draft.config.rate_min, value::whole(text, 0, 1 << 30)),
    },
    OptionSpec {
        short: "",
        long: "--idle-timeout",
        takes: Takes::Value("TIME"),
        env: "BESTGUESS_IDLE_TIMEOUT",
        default: "75s",
        group: Group::Times,
        help: "of a client between two requests",
        apply: |draft, text| put(&mut draft.config.timeouts.idle, value::time(text)),
    },
    OptionSpec {
        short: "",
        long: "--pool-timeout",
        takes: Takes::Value("TIME"),
        env: "BESTGUESS_POOL_TIMEOUT",
        default: "60s",
        group: Group::Times,
        help: "of a kept connection to a server",
        apply: |draft, text| put(&mut draft.config.timeouts.pooled, value::time(text)),
    },
    OptionSpec {
        short: "",
        long: "--tunnel-timeout",
        takes: Takes::Value("TIME"),
        env: "BESTGUESS_TUNNEL_TIMEOUT",
        default: "1h",
        group: Group::Times,
        help: "of a silent upgraded connection",
        apply: |draft, text| put(&mut draft.config.timeouts.tunnel, value::time(text)),
    },
    OptionSpec {
        short: "",
        long: "--queue-timeout",
        takes: Takes::Value("TIME"),
        env: "BESTGUESS_QUEUE_TIMEOUT",
        default: "30s",
        group: Group::Times,
        help: "of a request in the queue",
        apply: |draft, text| put(&mut draft.config.timeouts.queue, value::time(text)),
    },
    OptionSpec {
        short: "",
        long: "--drain-timeout",
        takes: Takes::Value("TIME"),
        env: "BESTGUESS_DRAIN_TIMEOUT",
        default: "30s",
        group: Group::Times,
        help: "to finish what runs, at a stop",
        apply: |draft, text| put(&mut draft.config.timeouts.drain, value::time(text)),
    },
    OptionSpec {
        short: "",
        long: "--drain-grace",
        takes: Takes::Value("TIME"),
        env: "BESTGUESS_DRAIN_GRACE",
        default: "2s",
        group: Group::Times,
        help: "of silent clients, at a stop or upgrade",
        apply: |draft, text| {
            put(
                &mut draft.config.timeouts.drain_grace,
                value::time_or_zero(text),
            )
        },
    },
    OptionSpec {
        short: "",
        long: "--tunnel-drain-timeout",
        takes: Takes::Value("TIME"),
        env: "BESTGUESS_TUNNEL_DRAIN_TIMEOUT",
        default: "1h",
        group: Group::Times,
        help: "to finish what runs, after an upgrade",
        apply: |draft, text| put(&mut draft.config.timeouts.tunnel_drain, value::time(text)),
    },
    OptionSpec {
        short: "",
        long: "--retry-status",
        takes: Takes::Value("LIST"),
        env: "BESTGUESS_RETRY_STATUS",
        default: "",
        group: Group::Requests,
        help: "ask another server on these, as 502,503",
        apply: |draft, text| put(&mut draft.config.retry_statuses, value::statuses(text)),
    },
    OptionSpec {
        short: "",
        long: "--down-status",
        takes: Takes::OneOf("STATUS", &["500", "503"]),
        env: "BESTGUESS_DOWN_STATUS",
        default: "500",
        group: Group::Requests,
        help: "answer when no server is left",
        apply: |draft, text| put(&mut draft.config.down_status, value::whole(text, 500, 503)),
    },
    OptionSpec {
        short: "",
        long: "--trust-forwarded",
        takes: Takes::Switch,
        env: "BESTGUESS_TRUST_FORWARDED",
        default: "",
        group: Group::Requests,
        help: "keep clients' X-Forwarded-* and Forwarded",
        apply: |draft, text| put(&mut draft.config.trust_forwarded, value::truth(text)),
    },
    OptionSpec {
        short: "",
        long: "--forwarded",
        takes: Takes::Switch,
        env: "BESTGUESS_FORWARDED",
        default: "",
        group: Group::Requests,
        help: "send Forwarded (RFC 7239) to servers as well",
        apply: |draft, text| put(&mut draft.config.forwarded, value::truth(text)),
    },
    OptionSpec {
        short: "",
        long: "--splice",
        takes: Takes::OneOf("WORD", &["yes", "no"]),
        env: "BESTGUESS_SPLICE",
        default: "yes",
        group: Group::Requests,
        help: "long content by splice(2)",
        apply: |draft, text| put(&mut draft.config.splice, value::truth(text)),
    },
    OptionSpec {
        short: "",
        long: "--explain",
        takes: Takes::Switch,
        env: "BESTGUESS_EXPLAIN",
        default: "",
        group: Group::Requests,
        help: "log why each request goes where it goes",
        apply: |draft, text| put(&mut draft.config.explain, value::truth(text)),
    },
    OptionSpec {
        short: "",
        long: "--access-log",
        takes: Takes::Value("PATH"),
        env: "BESTGUESS_ACCESS_LOG",
        default: "",
        group: Group::Requests,
        help: "a line per request to a file, or - for stdout",
        apply: access_log,
    },
    OptionSpec {
        short: "",
        long: "--log-format",
        takes: Takes::OneOf("FORMAT", &["combined", "json"]),
        env: "BESTGUESS_LOG_FORMAT",
        default: "combined",
        group: Group::Requests,
        help: "how such a line is written",
        apply: log_format,
    },
    OptionSpec {
        short: "",
        long: "--request-id",
        takes: Takes::Switch,
        env: "BESTGUESS_REQUEST_ID",
        default: "",
        group: Group::Requests,
        help: "give each request an X-Request-Id",
        apply: |draft, text| put(&mut draft.config.request_id, value::truth(text)),
    },
    OptionSpec {
        short: "",
        long: "--admin",
        takes: Takes::Value("[HOST:]PORT"),
        env: "BESTGUESS_ADMIN",
        default: "",
        group: Group::Admin,
        help: "dashboard, /metrics, /status, changes; or unix:/path",
        apply: admin,
    },
    OptionSpec {
        short: "",
        long: "--admin-token",
        takes: Takes::Value("TOKEN"),
        env: "BESTGUESS_ADMIN_TOKEN",
        default: "",
        group: Group::Admin,
        help: "what has to be known there, or @FILE",
        apply: admin_token,
    },
    OptionSpec {
        short: "",
        long: "--name",
        takes: Takes::Value("NAME"),
        env: "BESTGUESS_NAME",
        default: "",
        group: Group::Origin,
        help: "how it calls itself in its answers",
        apply: |draft, text| put(&mut draft.origin.name, value::name(text).map(Some)),
    },
    OptionSpec {
        short: "",
        long: "--delay",
        takes: Takes::Value("TIME"),
        env: "BESTGUESS_DELAY",
        default: "0",
        group: Group::Origin,
        help: "what serving a request takes",
        apply: |draft, text| draft.origin.service.set("delay", text),
    },
    OptionSpec {
        short: "",
        long: "--jitter",
        takes: Takes::Value("TIME"),
        env: "BESTGUESS_JITTER",
        default: "0",
        group: Group::Origin,
        help: "and more: exponential, with this mean",
        apply: |draft, text| draft.origin.service.set("jitter", text),
    },
    OptionSpec {
        short: "",
        long: "--workers",
        takes: Takes::Value("K"),
        env: "BESTGUESS_WORKERS",
        default: "0",
        group: Group::Origin,
        help: "serve so many at once, others wait; 0: all",
        apply: |draft, text| draft.origin.service.set("workers", text),
    },
    OptionSpec {
        short: "",
        long: "--fail",
        takes: Takes::Value("SHARE"),
        env: "BESTGUESS_FAIL",
        default: "0",
        group: Group::Origin,
        help: "answer so many with 500 at once: 0.05, 5%",
        apply: |draft, text| draft.origin.service.set("fail", text),
    },
    OptionSpec {
        short: "",
        long: "--control",
        takes: Takes::Switch,
        env: "BESTGUESS_CONTROL",
        default: "",
        group: Group::Origin,
        help: "let POST /control?fail=5% change these four",
        apply: |draft, text| put(&mut draft.origin.control, value::truth(text)),
    },
    OptionSpec {
        short: "",
        long: "--seed",
        takes: Takes::Value("N"),
        env: "BESTGUESS_SEED",
        default: "",
        group: Group::Origin,
        help: "make chance repeatable",
        apply: |draft, text| {
            put(
                &mut draft.origin.seed,
                value::whole(text, 0, u64::MAX).map(Some),
            )
        },
    },
    OptionSpec {
        short: "",
        long: "--load",
        takes: Takes::Value("N"),
        env: "BESTGUESS_LOAD",
        default: "0",
        group: Group::Origin,
        help: "reported load at the start",
        apply: |draft, text| put(&mut draft.origin.load, value::whole(text, 0, u64::MAX)),
    },
    OptionSpec {
        short: "",
        long: "--errors",
        takes: Takes::Value("N"),
        env: "BESTGUESS_ERRORS",
        default: "0",
        group: Group::Origin,
        help: "reported errors at the start",
        apply: |draft, text| put(&mut draft.origin.errors, value::whole(text, 0, u64::MAX)),
    },
    OptionSpec {
        short: "",
        long: "--fixed-report",
        takes: Takes::Switch,
        env: "BESTGUESS_FIXED_REPORT",
        default: "",
        group: Group::Origin,
        help: "report these two numbers for ever",
        apply: |draft, text| put(&mut draft.origin.fixed_report, value::truth(text)),
    },
    OptionSpec {
        short: "",
        long: "--orca",
        takes: Takes::Switch,
        env: "BESTGUESS_ORCA",
        default: "",
        group: Group::Origin,
        help: "tell the load in each response (ORCA)",
        apply: |draft, text| put(&mut draft.origin.orca, value::truth(text)),
    },
    OptionSpec {
        short: "",
        long: "--pid",
        takes: Takes::Value("PID"),
        env: "BESTGUESS_PID",
        default: "",
        group: Group::Upgrade,
        help: "the process to replace (the only one that runs)",
        apply: |draft, text| put(&mut draft.pid, value::whole(text, 1, PID_MAX).map(Some)),
    },
    OptionSpec {
        short: "-t",
        long: "--test",
        takes: Takes::Switch,
        env: "BESTGUESS_TEST",
        default: "",
        group: Group::Trial,
        help: "check each server once, print a table, end",
        apply: |draft, text| put(&mut draft.test, value::truth(text)),
    },
    OptionSpec {
        short: "-v",
        long: "--verbose",
        takes: Takes::Repeats,
        env: "BESTGUESS_VERBOSE",
        default: "",
        group: Group::General,
        help: "log more; twice: everything",
        apply: |draft, text| count(&mut draft.verbose, text),
    },
    OptionSpec {
        short: "-q",
        long: "--quiet",
        takes: Takes::Repeats,
        env: "BESTGUESS_QUIET",
        default: "",
        group: Group::General,
        help: "log warnings and errors; twice: errors only",
        apply: |draft, text| count(&mut draft.quiet, text),
    },
    OptionSpec {
        short: "-h",
        long: "--help",
        takes: Takes::Nothing,
        env: "",
        default: "",
        group: Group::General,
        help: "print this",
        apply: |draft, _| answer(draft, Answer::Help),
    },
    OptionSpec {
        short: "-V",
        long: "--version",
        takes: Takes::Nothing,
        env: "",
        default: "",
        group: Group::General,
        help: "print the version",
        apply: |draft, _| answer(draft, Answer::Version),
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_variables_are_unique_and_regular() {
        let mut seen = Vec::new();
        for option in OPTIONS {
            assert!(
                option.long.starts_with("--") && option.long.len() > 3,
                "{option:?}"
            );
            assert!(
                option.short.is_empty() || option.short.len() == 2,
                "{option:?}"
            );
            assert_eq!(
                option.env.is_empty(),
                option.takes == Takes::Nothing,
                "{option:?}"
            );
            if !option.env.is_empty() {
                let regular = option.long[2..].to_uppercase().replace('-', "_");
                assert_eq!(option.env, format!("BESTGUESS_{regular}"));
            }
            assert!(
                !option.help.ends_with('.') && !option.help.is_empty(),
                "{option:?}"
            );
            for name in option.names() {
                assert!(!seen.contains(&name), "{name} twice");
                seen.push(name);
            }
        }
    }

    #[test]
    fn every_default_in_the_table_is_the_default_of_the_configuration() {
        for option in OPTIONS.iter().filter(|option| !option.default.is_empty()) {
            let mut draft = Draft::new();
            option.apply(&mut draft, option.default).unwrap();
            assert_eq!(draft, Draft::new(), "{}", option.long);
        }
    }

    #[test]
    fn every_option_changes_something() {
        let sample = |option: &OptionSpec| match (option.takes, option.long) {
            (Takes::OneOf(_, words), _) => words[1],
            (_, "--check-path") => "/other",
            (_, "--access-log") => "-",
            (_, "--sticky") => "ip",
            (_, "--admin") => "9900",
            (Takes::Value("TIME" | "X"), _) => "7s",
            (Takes::Value("NAME"), _) => "blue",
            (Takes::Value("LIST"), _) => "503",
            (Takes::Value("SHARE"), _) => "5%",
            (Takes::Value(_), _) => "77",
            _ => "1",
        };
        for option in OPTIONS {
            let mut draft = Draft::new();
            option.apply(&mut draft, sample(option)).unwrap();
            assert_ne!(draft, Draft::new(), "{}", option.long);
        }
    }

    #[test]
    fn every_listed_word_is_accepted_and_no_other() {
        for option in OPTIONS {
            let Takes::OneOf(_, words) = option.takes else {
                continue;
            };
            for word in words {
                option.apply(&mut Draft::new(), word).unwrap();
            }
            assert_eq!(
                option.apply(&mut Draft::new(), "other").unwrap_err(),
                listed(words)
            );
        }
    }
}
