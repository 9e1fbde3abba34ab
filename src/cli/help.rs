//! The texts of `--help`, printed from the table of options.

use super::option::{Group, OptionSpec, Takes, listed};
use super::options::OPTIONS;
use super::{Program, VERSION};
use std::fmt::Write;

/// Nor is it longer.
#[cfg(test)]
const LINES_MAX: usize = 72;
/// No line is wider, so that the help fits a plain terminal.
const WIDTH: usize = 80;
/// Where the description of an option begins.
const COLUMN: usize = 31;

const BALANCER: &str = "\
an HTTP load balancer that asks its servers how they are

usage: bestguess [OPTIONS] PORT SERVER...
       bestguess demo [PORT]                  three servers and a balancer
       bestguess origin [OPTIONS] PORT [DIR]  one server
       bestguess upgrade [--pid PID]          replace a running one; see --help
       bestguess completions SHELL, bestguess man
PORT, SERVER: [HOST:]PORT, [IPV6]:PORT or unix:/path; a SERVER also a range
9001-9004, and with ,weight=W ,max=M or ,backup behind it; without HOST, PORT
listens on all interfaces, and SERVER is on 127.0.0.1
PORT may be fd:NUMBER or fd:NAME, a socket of systemd's
";

const ORIGIN: &str = "\
a small server of files and health reports

usage: bestguess origin [OPTIONS] PORT [DIR]
PORT: [HOST:]PORT, [IPV6]:PORT or unix:/path
without HOST it listens on 127.0.0.1; port 0: any free one
DIR: the folder of the files that it serves (GET, HEAD) and takes (PUT)
";

const DEMO: &str = "\
three built-in servers and a balancer

usage: bestguess demo [OPTIONS] [PORT]
PORT: on 127.0.0.1 (8080); 0: any free
";

const UPGRADE: &str = "\
replaces a running balancer without losing a request

usage: bestguess upgrade [--pid PID]
It starts the program anew, as it was started, hands its port over, and ends
once it has finished what runs. If the new one fails, the old one goes on.
";

const COMPLETIONS: &str = "\
completions for a shell

usage: bestguess completions SHELL
SHELL: bash, zsh or fish; e.g. source <(bestguess completions bash)
";

const MAN: &str = "\
the manual page

usage: bestguess man                      e.g. bestguess man | man -l -
";

/// The groups that a program's options are listed in, with their titles; an empty one goes on.
pub(super) fn groups(program: Program) -> &'static [(Group, &'static str)] {
    match program {
        Program::Balancer => &[
            (Group::Load, "load"),
            (Group::Servers, "servers"),
            (Group::Checks, "health checks"),
            (Group::Times, "time limits"),
            (Group::Requests, "requests"),
            (Group::Admin, "admin"),
            (Group::Trial, "general"),
            (Group::General, ""),
        ],
        Program::Origin => &[(Group::Origin, "options"), (Group::General, "general")],
        Program::Upgrade => &[(Group::Upgrade, "options"), (Group::General, "")],
        Program::Demo | Program::Completions | Program::Man => &[(Group::General, "options")],
    }
}

/// The help of a program: at most 72 lines of at most 80 columns, the last one ended.
pub(super) fn help(program: Program) -> String {
    let mut text = format!("{VERSION}: ");
    text.push_str(match program {
        Program::Balancer => BALANCER,
        Program::Origin => ORIGIN,
        Program::Demo => DEMO,
        Program::Upgrade => UPGRADE,
        Program::Completions => COMPLETIONS,
        Program::Man => MAN,
    });
    for (group, title) in groups(program) {
        if !title.is_empty() {
            let _ = writeln!(text, "{title}:");
        }
        for option in OPTIONS.iter().filter(|option| option.group == *group) {
            line(&mut text, option);
        }
    }
    text.push_str(match program {
        Program::Demo | Program::Upgrade | Program::Completions | Program::Man => "",
        _ => "TIME, X: 250ms, 5s, 2m, 1h or seconds like 1.5\n",
    });
    text.push_str("each option also as a variable: BESTGUESS_QUIET=1 for --quiet\n");
    text
}

/// One option, its description wrapped at the last column.
fn line(text: &mut String, option: &OptionSpec) {
    let comma = if option.short.is_empty() { " " } else { "," };
    let mut left = format!("  {:2}{comma} {}", option.short, option.long);
    let mut right = option.help.to_owned();
    match option.takes {
        Takes::Value(kind) => left = format!("{left} {kind}"),
        Takes::OneOf(kind, words) => {
            left = format!("{left} {kind}");
            right = format!("{right}: {}", listed(words));
        }
        _ => {}
    }
    if !option.default.is_empty() {
        right = format!("{right} ({})", option.default);
    }
    if left.len() >= COLUMN {
        // Too long for its column: the description has the next line.
        let _ = writeln!(text, "{left}");
        left.clear();
    }
    let _ = write!(text, "{left:COLUMN$}");
    let mut used = COLUMN;
    for (place, word) in right.split(' ').enumerate() {
        if used + 1 + word.len() > WIDTH {
            let _ = write!(text, "\n{:COLUMN$}{word}", "");
            used = COLUMN + word.len();
        } else {
            let blank = if place == 0 { "" } else { " " };
            let _ = write!(text, "{blank}{word}");
            used += blank.len() + word.len();
        }
    }
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROGRAMS: [Program; 6] = [
        Program::Upgrade,
        Program::Balancer,
        Program::Origin,
        Program::Demo,
        Program::Completions,
        Program::Man,
    ];

    #[test]
    fn every_help_is_short_and_narrow() {
        for program in PROGRAMS {
            let text = help(program);
            assert!(
                text.lines().count() <= LINES_MAX,
                "{} lines\n{text}",
                text.lines().count()
            );
            for line in text.lines() {
                assert!(line.chars().count() <= WIDTH, "{line}");
                assert_eq!(line, line.trim_end());
            }
            assert!(text.ends_with('\n'));
        }
    }

    #[test]
    fn the_help_names_every_option_of_the_program_and_its_default() {
        for program in PROGRAMS {
            let text = help(program);
            for option in OPTIONS {
                let shown = text
                    .lines()
                    .any(|line| line.split([' ', ',']).any(|word| word == option.long));
                // One footer line names a variable's option, which every program has.
                assert_eq!(shown, program.has(option), "{} in\n{text}", option.long);
                if shown && !option.default.is_empty() {
                    assert!(
                        text.contains(&format!("({})", option.default)),
                        "{}",
                        option.long
                    );
                }
            }
        }
    }
}
