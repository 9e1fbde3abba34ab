//! The command line and the environment, read into a [`Config`] or the settings of a subcommand.
//!
//! Owns the grammar, the texts of `--help` and of usage errors; prints nothing, and opens nothing but
//! the file of servers.
//! Names are looked up by a function that the caller passes, so that all else is pure. `main` is
//! above, `config` below.
//!
//! - `commands`: the positionals of each command
//! - `words`: the arguments taken apart, on pico-args
//! - `help`, `manual`, `completions`: the texts of `--help`, the manual page, what shells complete
//! - `options`: the one table of options, with what each does to a draft
//! - `draft`: what the options have said so far
//! - `servers`: the servers of arguments and file
//! - `service`: how the built-in server serves
//! - `address`, `value`: the grammars of single values

mod address;
mod commands;
mod completions;
mod draft;
mod help;
mod manual;
mod option;
mod options;
mod servers;
mod service;
#[cfg(test)]
mod tests;
mod value;
mod words;

use crate::config::{Address, Config};
use draft::{Answer, Draft};
use option::{OptionSpec, Takes};
use options::OPTIONS;
pub use servers::{server, servers};
pub use service::Service;
use std::ffi::OsString;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::{fmt, io};
use words::Words;

/// The name and version of the program, as `--version` prints it.
pub const VERSION: &str = concat!("bestguess ", env!("CARGO_PKG_VERSION"));
/// At most this many characters of an argument are shown in an error.
const SHOWN_CHARS_MAX: usize = 60;

/// Looks up a host name; the port of what it returns has no meaning.
pub type Resolver<'a> = dyn Fn(&str) -> io::Result<SocketAddr> + 'a;

/// What is to be run, and how much it logs.
#[derive(Debug, Clone, PartialEq)]
pub struct Invocation {
    /// What is to be run.
    pub command: Command,
    /// How often `-v` was given less how often `-q` was, from -2 to 2; 0 is the default.
    pub verbosity: i8,
}

/// What is to be run.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// Balance until a signal comes.
    Serve(Box<Config>),
    /// Check each server once, print a table, end.
    Test(Box<Config>),
    /// The demonstration: three servers and a balancer in one process.
    Demo(Demo),
    /// The built-in server alone.
    Origin(Origin),
    /// Have the running balancer with this number, or the only one, replaced by a new process.
    Upgrade(Option<u32>),
    /// Print this text, which ends with a newline, to standard output.
    Help(String),
    /// Print [`VERSION`] to standard output.
    Version,
}

/// The settings of `bestguess demo`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Demo {
    /// The balancer's port on 127.0.0.1; 0: any free one; none: 8080.
    pub port: Option<u16>,
}

/// The settings of `bestguess origin`.
#[derive(Debug, Clone, PartialEq)]
pub struct Origin {
    /// Where it listens; port 0: any free one. A bare port means 127.0.0.1, unlike the balancer's:
    /// a server that takes files by PUT is offered to the network only on demand.
    pub listen: Address,
    /// The folder of its files, as written; not looked at yet. None: it has no files.
    pub dir: Option<PathBuf>,
    /// What it calls itself, 1 to 64 visible ASCII characters.
    pub name: Option<String>,
    /// How every request but a health check is served.
    pub service: Service,
    /// Where chance begins, so that a run can be repeated; none: anywhere.
    pub seed: Option<u64>,
    /// The load that the first report starts from.
    pub load: u64,
    /// The errors that the first report starts from.
    pub errors: u64,
    /// Report `load` and `errors` unchanged for ever.
    pub fixed_report: bool,
    /// Every response carries the figures of the last seconds in a field of ORCA.
    pub orca: bool,
    /// `POST /control` changes `service` at run time.
    pub control: bool,
}

impl Origin {
    /// All defaults, at `listen`.
    pub fn new(listen: Address) -> Origin {
        Origin {
            listen,
            dir: None,
            name: None,
            service: Service::default(),
            seed: None,
            load: 0,
            errors: 0,
            fixed_report: false,
            orca: false,
            control: false,
        }
    }
}

/// Why nothing can be run. Its text is exactly one line, with the program's name in front.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UsageError {
    /// The command line or a variable is wrong.
    Wrong {
        /// The argument or variable, with its value quoted where it has one.
        argument: String,
        /// What was expected, with an example where one helps.
        expected: String,
        /// The command that tells more, such as `bestguess --help`.
        help: &'static str,
    },
    /// A file cannot be read.
    Unreadable {
        /// The argument that holds its path, quoted.
        argument: String,
        /// What the system said.
        cause: String,
    },
    /// A host name has no address, so far as can be found out now.
    Unresolved {
        /// The argument that holds the name, quoted.
        argument: String,
        /// What the resolver said.
        cause: String,
    },
}

impl UsageError {
    /// The exit code of a process that ends with it: 2 for a wrong command line, 1 for a lookup.
    pub fn exit_code(&self) -> u8 {
        match self {
            UsageError::Wrong { .. } => 2,
            UsageError::Unreadable { .. } | UsageError::Unresolved { .. } => 1,
        }
    }

    /// What is wrong, without the program's name and where to read more.
    pub fn text(&self) -> String {
        match self {
            UsageError::Wrong {
                argument, expected, ..
            } => format!("{argument}: {expected}"),
            UsageError::Unreadable { argument, cause } => {
                format!("{argument}: cannot read it: {cause}")
            }
            UsageError::Unresolved { argument, cause } => {
                format!("{argument}: cannot resolve the host name: {cause}")
            }
        }
    }
}

impl fmt::Display for UsageError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "bestguess: {}", self.text())?;
        match self {
            UsageError::Wrong { help, .. } => write!(out, " (see {help})"),
            _ => Ok(()),
        }
    }
}

impl std::error::Error for UsageError {}

/// Reads the arguments, without the program's own name, and the environment; looks names up with
/// [`resolve`], which can block for as long as the system's resolver does.
///
/// An option on the command line wins over its variable; an empty variable counts as not set.
///
/// # Errors
///
/// The first thing that is wrong; a lookup happens only when nothing else is.
pub fn parse(
    args: impl Iterator<Item = OsString>,
    env: &dyn Fn(&str) -> Option<OsString>,
) -> Result<Invocation, UsageError> {
    parse_with(args, env, &resolve)
}

/// As [`parse`], with another way to look up names.
///
/// # Errors
///
/// As [`parse`].
pub fn parse_with(
    args: impl Iterator<Item = OsString>,
    env: &dyn Fn(&str) -> Option<OsString>,
    resolver: &Resolver<'_>,
) -> Result<Invocation, UsageError> {
    let mut words = Words::split(args)?;
    let program = words.program;
    let mut given = Vec::new();
    for option in OPTIONS {
        for name in option.names() {
            let values = words.take(name)?;
            given.extend(values.into_iter().map(|value| Given {
                option,
                name,
                value,
            }));
        }
    }
    let draft = fill_in(program, &given, env)?;
    let verbosity = draft.verbose.saturating_sub(draft.quiet).clamp(-2, 2);
    let words = words.positionals();
    let command = match (draft.answer, program) {
        (Some(Answer::Help), _) => Command::Help(help::help(program)),
        (Some(Answer::Version), _) => Command::Version,
        (None, Program::Balancer) => commands::balancer(draft, &words, resolver)?,
        (None, Program::Origin) => {
            Command::Origin(commands::origin(draft.origin, &words, resolver)?)
        }
        (None, Program::Demo) => Command::Demo(commands::demo(&words)?),
        (None, Program::Upgrade) => Command::Upgrade(commands::upgrade(&draft, &words)?),
        (None, Program::Completions) => Command::Help(commands::completions(&words)?),
        (None, Program::Man) => Command::Help(commands::manual(&words)?),
    };
    Ok(Invocation { command, verbosity })
}

/// Asks the system for an address of `host`, IPv4 if it has one. The port returned is 0.
///
/// # Errors
///
/// What the system's resolver says, or that the name has no address.
pub fn resolve(host: &str) -> io::Result<SocketAddr> {
    let addresses: Vec<SocketAddr> = (host, 0).to_socket_addrs()?.collect();
    let preferred = addresses
        .iter()
        .find(|address| address.is_ipv4())
        .or(addresses.first());
    preferred
        .copied()
        .ok_or_else(|| io::Error::other("the name has no address"))
}

/// Which of the programs in the one binary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Program {
    Balancer,
    Demo,
    Origin,
    Upgrade,
    Completions,
    Man,
}

/// The commands beside the balancer itself, each with what it is, in a few words.
const COMMANDS: [(&str, Program, &str); 5] = [
    (
        "demo",
        Program::Demo,
        "three built-in servers and a balancer",
    ),
    ("origin", Program::Origin, "the built-in server alone"),
    (
        "upgrade",
        Program::Upgrade,
        "replaces a running balancer without losing a request",
    ),
    (
        "completions",
        Program::Completions,
        "completions for bash, zsh or fish",
    ),
    ("man", Program::Man, "the manual page"),
];

impl Program {
    fn command(self) -> &'static str {
        match self {
            Program::Balancer => "bestguess",
            Program::Demo => "bestguess demo",
            Program::Origin => "bestguess origin",
            Program::Upgrade => "bestguess upgrade",
            Program::Completions => "bestguess completions",
            Program::Man => "bestguess man",
        }
    }

    fn refuse(self, argument: impl Into<String>, expected: impl Into<String>) -> UsageError {
        let help = match self {
            Program::Balancer => "bestguess --help",
            Program::Demo => "bestguess demo --help",
            Program::Origin => "bestguess origin --help",
            Program::Upgrade => "bestguess upgrade --help",
            Program::Completions => "bestguess completions --help",
            Program::Man => "bestguess man --help",
        };
        UsageError::Wrong {
            argument: argument.into(),
            expected: expected.into(),
            help,
        }
    }
}

/// One option as it was given.
struct Given {
    option: &'static OptionSpec,
    /// The spelling that was used.
    name: &'static str,
    value: String,
}

/// Applies what was given, else the environment, to the defaults. Who asks for the help or the
/// version gets it whatever else is wrong with the values.
fn fill_in(
    program: Program,
    given: &[Given],
    env: &dyn Fn(&str) -> Option<OsString>,
) -> Result<Draft, UsageError> {
    let mut draft = Draft::new();
    for given in given
        .iter()
        .filter(|given| given.option.takes == Takes::Nothing)
    {
        apply(&mut draft, program, given)?;
    }
    if draft.answer.is_some() {
        return Ok(draft);
    }
    let is_counted = given
        .iter()
        .any(|given| given.option.takes == Takes::Repeats);
    for option in OPTIONS {
        let repeats = option.takes == Takes::Repeats;
        let mut mine = given
            .iter()
            .filter(|given| given.option.long == option.long)
            .peekable();
        if let Some(first) = mine.peek() {
            if !program.has(option) {
                return Err(program.refuse(
                    first.name,
                    format!("expected an option of {}", program.command()),
                ));
            }
        } else if program.has(option) && !(repeats && is_counted) {
            from_environment(&mut draft, program, option, env)?;
        }
        for (place, given) in mine.enumerate() {
            if place > 0 && !repeats {
                return Err(program.refuse(given.name, "given twice, expected once"));
            }
            apply(&mut draft, program, given)?;
        }
    }
    Ok(draft)
}

fn apply(draft: &mut Draft, program: Program, given: &Given) -> Result<(), UsageError> {
    given.option.apply(draft, &given.value).map_err(|expected| {
        let example = match given.option.default {
            "" => String::new(),
            default => format!(", e.g. {} {default}", given.name),
        };
        let argument = format!("{} {}", given.name, quoted(&given.value));
        program.refuse(argument, format!("expected {expected}{example}"))
    })
}

fn from_environment(
    draft: &mut Draft,
    program: Program,
    option: &OptionSpec,
    env: &dyn Fn(&str) -> Option<OsString>,
) -> Result<(), UsageError> {
    let name = option.env;
    let Some(value) = Some(name).filter(|name| !name.is_empty()).and_then(env) else {
        return Ok(());
    };
    let argument = || format!("the variable {name} {}", quoted(&value.to_string_lossy()));
    match value.to_str() {
        None => Err(program.refuse(argument(), "expected UTF-8 text")),
        Some("") => Ok(()),
        Some(text) => option.apply(draft, text).map_err(|expected| {
            let example = match option.default {
                "" => String::new(),
                default => format!(", e.g. {name}={default}"),
            };
            program.refuse(argument(), format!("expected {expected}{example}"))
        }),
    }
}

/// An argument as an error shows it: on one line, in quotes, and not too long.
fn quoted(text: &str) -> String {
    let shown: String = text.chars().take(SHOWN_CHARS_MAX).collect();
    let more = if shown.len() < text.len() { "…" } else { "" };
    format!("'{}{more}'", one_line(&shown))
}

/// Control characters are written as their escapes, so that no argument can forge a second line.
fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control() || matches!(character, '\u{2028}' | '\u{2029}') {
            line.extend(character.escape_default());
        } else {
            line.push(character);
        }
    }
    line
}
