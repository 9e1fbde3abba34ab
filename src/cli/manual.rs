//! The manual page, in the language of man(7), printed from the table of options.

use std::fmt::Write;

use super::help::groups;
use super::option::{OptionSpec, Takes, listed};
use super::options::OPTIONS;
use super::{COMMANDS, Program, VERSION};

const DESCRIPTION: &str = "\
.B bestguess
listens on PORT and sends each request to the SERVER that is the best guess at that moment: it asks
the servers how they are, and learns from all traffic how long they take.
.PP
PORT and each SERVER are [HOST:]PORT, [IPV6]:PORT or unix:/path; a SERVER may be a range of ports,
9001\\-9004, and may have ,weight=W ,max=M or ,backup behind it. Without a host PORT listens on all
interfaces, and SERVER is on 127.0.0.1.
.PP
TIME is written 250ms, 5s, 2m, 1h, or in seconds like 1.5.
";

const REST: &str = "\
.SH ENVIRONMENT
Each option can be set by a variable: BESTGUESS_PARALLEL=512 stands for \\-\\-parallel 512. The command
line wins over it.
.SH FILES
A file of servers (\\-\\-servers\\-file) has one SERVER per line, written as on the command line. A # at
the start of a line or behind a blank begins a comment.
.SH SIGNALS
.TP
TERM, INT
Stop listening, finish what runs, end; said again: end at once.
.TP
HUP
Read the file of servers again, and look names up again. A file with a mistake in it changes nothing.
.TP
USR1
Open the access log anew, once the old file was moved away.
.TP
USR2
Start the program anew, hand the port over, finish what runs and end; what bestguess upgrade asks for.
.SH EXIT STATUS
.TP
0
A clean stop; with \\-t: all servers are well.
.TP
1
An address cannot be had, a file cannot be read; with \\-t: a server is not well.
.TP
2
The command line is wrong; the one line on standard error says what.
.SH EXAMPLES
.TP
bestguess 8080 9001\\-9003
Three servers of this machine.
.TP
bestguess 8080 big:80,weight=4 small:80,max=20 spare:80,backup
Three others, of which one gets four times as much, one never more than 20 requests at once, and one
only what the others cannot take.
.TP
bestguess \\-t 8080 9001\\-9003
Check each once and print a table.
";

/// The page in section 1.
pub(super) fn manual() -> String {
    let mut out = format!(".TH BESTGUESS 1 \"\" \"{VERSION}\" \"User Commands\"\n");
    out.push_str(
        ".SH NAME\nbestguess \\- an HTTP load balancer that asks its servers how they are\n",
    );
    out.push_str(".SH SYNOPSIS\n.B bestguess\n[OPTIONS] PORT SERVER...\n");
    for (name, _, help) in COMMANDS {
        let _ = writeln!(out, ".br\n.B bestguess {name}\n({})", escaped(help));
    }
    let _ = write!(out, ".SH DESCRIPTION\n{DESCRIPTION}.SH OPTIONS\n");
    let mut title = "";
    for (group, named) in groups(Program::Balancer) {
        if !named.is_empty() && *named != title {
            title = named;
            let _ = writeln!(out, ".SS {}", escaped(title));
        }
        for option in OPTIONS.iter().filter(|option| option.group == *group) {
            entry(&mut out, option);
        }
    }
    for program in [Program::Origin, Program::Upgrade] {
        let _ = writeln!(out, ".SS {}", program.command());
        let own = |option: &&OptionSpec| program.has(option) && !Program::Balancer.has(option);
        for option in OPTIONS.iter().filter(own) {
            entry(&mut out, option);
        }
    }
    out.push_str(REST);
    out
}

fn entry(out: &mut String, option: &OptionSpec) {
    let names: Vec<String> = option
        .names()
        .map(|name| format!("\\fB{}\\fR", escaped(name)))
        .collect();
    let mut help = option.help.to_owned();
    let kind = match option.takes {
        Takes::Value(kind) => kind,
        Takes::OneOf(kind, words) => {
            help = format!("{help}: {}", listed(words));
            kind
        }
        Takes::Nothing | Takes::Switch | Takes::Repeats => "",
    };
    if !option.default.is_empty() {
        help = format!("{help} ({})", option.default);
    }
    let kind = match kind {
        "" => String::new(),
        kind => format!(" \\fI{}\\fR", escaped(kind)),
    };
    let _ = writeln!(out, ".TP\n{}{kind}\n{}", names.join(", "), escaped(&help));
}

/// Text that is only text: no request at its start, no escape in it, hyphens that can be searched for.
fn escaped(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-");
    match text.chars().next() {
        Some('.' | '\'') => format!("\\&{text}"),
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_has_every_option_and_no_line_that_is_not_meant_as_a_request() {
        let page = manual();
        for option in OPTIONS {
            assert!(page.contains(&escaped(option.long)), "{}", option.long);
        }
        for line in page.lines() {
            let known = [".TH ", ".SH ", ".SS ", ".TP", ".B ", ".PP", ".br"];
            assert!(
                !line.starts_with(['.', '\'']) || known.iter().any(|it| line.starts_with(it)),
                "{line}"
            );
            assert!(!line.is_empty());
        }
    }

    #[test]
    fn what_could_be_a_request_is_text() {
        assert_eq!(escaped(".x \\ -y"), "\\&.x \\e \\-y");
    }
}
