//! A thin wrapper around pico-args that closes its gaps: it would take an option for a value, let a
//! misspelt option pass for a positional, and knows neither `--name=value` nor `--`.
//!
//! The wrapper walks the arguments once, from left to right, and hands pico-args a list in which
//! every option stands as its name with its value behind it. Nothing is judged here but names.

use super::option::{OptionSpec, Takes};
use super::options::OPTIONS;
use super::{COMMANDS, Program, UsageError, quoted};
use std::convert::Infallible;
use std::ffi::OsString;

/// Names further than this from each other are not taken for misspellings.
const EDITS_MAX: usize = 3;
/// A longer argument is not compared with the names of options.
const NAME_BYTES_MAX: usize = 40;

/// The arguments still to come, with their places.
type Rest<'a> = dyn Iterator<Item = (usize, OsString)> + 'a;

/// The arguments, apart: options with values, and positionals in their order.
#[derive(Debug)]
pub(super) struct Words {
    /// What the first positional says is to run; that word itself is taken out.
    pub(super) program: Program,
    arguments: pico_args::Arguments,
    behind: Vec<OsString>,
}

impl Words {
    /// Takes the arguments apart.
    ///
    /// # Errors
    ///
    /// The first argument that is no UTF-8, names no option, or stands where a value should.
    pub(super) fn split(args: impl Iterator<Item = OsString>) -> Result<Words, UsageError> {
        let mut walk = Walk {
            program: None,
            plain: Vec::new(),
        };
        let mut args = args.enumerate();
        let mut behind = Vec::new();
        while let Some((place, argument)) = args.next() {
            let argument = walk.text(place, argument)?;
            match argument.strip_prefix('-') {
                Some("-") => {
                    for (place, argument) in args.by_ref() {
                        behind.push(walk.text(place, argument)?.into());
                    }
                }
                Some(long) if long.starts_with('-') => walk.long(&argument, &mut args)?,
                Some(short) if !short.is_empty() => walk.short(short, &mut args)?,
                _ => walk.positional(argument),
            }
        }
        Ok(Words {
            program: walk.program(),
            arguments: pico_args::Arguments::from_vec(walk.plain),
            behind,
        })
    }

    /// Takes out all values given under exactly this name, in their order.
    pub(super) fn take(&mut self, name: &'static str) -> Result<Vec<String>, UsageError> {
        self.arguments
            .values_from_fn(name, |value| Ok::<String, Infallible>(value.to_owned()))
            .map_err(|cause| self.program.refuse(name, cause.to_string()))
    }

    /// What is left when every option has been taken: the positionals.
    pub(super) fn positionals(self) -> Vec<String> {
        let words = self.arguments.finish().into_iter().chain(self.behind);
        words
            .map(|word| word.to_string_lossy().into_owned())
            .collect()
    }
}

/// The state of the one pass over the arguments.
struct Walk {
    /// None: no positional has been seen yet.
    program: Option<Program>,
    plain: Vec<OsString>,
}

impl Walk {
    fn program(&self) -> Program {
        self.program.unwrap_or(Program::Balancer)
    }

    fn text(&self, place: usize, argument: OsString) -> Result<String, UsageError> {
        argument.into_string().map_err(|argument| {
            let shown = quoted(&argument.to_string_lossy());
            self.program().refuse(
                format!("argument {} {shown}", place + 1),
                "expected UTF-8 text",
            )
        })
    }

    fn positional(&mut self, argument: String) {
        if self.program.is_none() {
            let command = COMMANDS.iter().find(|(name, ..)| *name == argument);
            self.program = Some(command.map_or(Program::Balancer, |(_, program, _)| *program));
            if self.program != Some(Program::Balancer) {
                return;
            }
        }
        self.plain.push(argument.into());
    }

    /// `--name`, `--name value` or `--name=value`.
    fn long(&mut self, argument: &str, rest: &mut Rest<'_>) -> Result<(), UsageError> {
        let (name, joined) = match argument.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (argument, None),
        };
        let Some(option) = OPTIONS.iter().find(|option| option.long == name) else {
            return Err(self.unknown(name));
        };
        self.option(option, option.long, joined, rest)
    }

    /// `-N 8`, `-N=8`, `-N8`, `-v`, or several such letters in one argument.
    fn short(&mut self, letters: &str, rest: &mut Rest<'_>) -> Result<(), UsageError> {
        for (place, letter) in letters.char_indices() {
            let behind = &letters[place + letter.len_utf8()..];
            let is_named = |option: &&OptionSpec| {
                option.short.strip_prefix('-') == Some(letter.encode_utf8(&mut [0; 4]))
            };
            let Some(option) = OPTIONS.iter().find(is_named) else {
                return Err(self.unknown(&format!("-{letters}")));
            };
            if let Some(joined) = behind.strip_prefix('=') {
                return self.option(option, option.short, Some(joined), rest);
            }
            if option.takes.is_value() {
                let joined = Some(behind).filter(|behind| !behind.is_empty());
                return self.option(option, option.short, joined, rest);
            }
            self.option(option, option.short, None, rest)?;
        }
        Ok(())
    }

    /// Writes one option down as its name and its value. `joined` was written into the argument.
    fn option(
        &mut self,
        option: &OptionSpec,
        name: &'static str,
        joined: Option<&str>,
        rest: &mut Rest<'_>,
    ) -> Result<(), UsageError> {
        let program = self.program();
        let value = match (option.takes, joined) {
            (Takes::Nothing, Some(value)) => {
                return Err(
                    program.refuse(format!("{name} {}", quoted(value)), "expected no value")
                );
            }
            (Takes::Nothing | Takes::Switch | Takes::Repeats, None) => "1".to_owned(),
            (_, Some(value)) => value.to_owned(),
            (Takes::Value(kind) | Takes::OneOf(kind, _), None) => match rest.next() {
                Some((place, value)) => self.text(place, value)?,
                None => return Err(program.refuse(name, format!("expected {kind} behind it"))),
            },
        };
        if looks_like_an_option(&value) {
            let expected = format!(
                "expected a value, not {}, which looks like an option",
                quoted(&value)
            );
            return Err(program.refuse(name, expected));
        }
        self.plain.extend([name.into(), value.into()]);
        Ok(())
    }

    fn unknown(&self, name: &str) -> UsageError {
        let program = self.program();
        let meant = nearest(name, OPTIONS.iter().filter(|option| program.has(option)));
        let expected = match meant {
            Some(meant) => format!("no such option, expected {meant}?"),
            None => {
                "no such option, expected one of the listed or -- before a word like it".to_owned()
            }
        };
        program.refuse(quoted(name), expected)
    }
}

/// A single `-` stands for standard output, and `-5` is a number, wrong or not.
fn looks_like_an_option(value: &str) -> bool {
    let behind = value.strip_prefix('-').and_then(|rest| rest.chars().next());
    behind.is_some_and(|first| !first.is_ascii_digit() && first != '.')
}

/// The name that was probably meant, if one is near.
fn nearest<'a>(
    written: &str,
    options: impl Iterator<Item = &'a OptionSpec> + Clone,
) -> Option<&'static str> {
    if written.len() > NAME_BYTES_MAX {
        return None;
    }
    if written.chars().count() == 2 {
        return options
            .map(|option| option.short)
            .find(|short| short.eq_ignore_ascii_case(written));
    }
    let bare = written.trim_start_matches('-');
    let far = (bare.chars().count() / 3).min(EDITS_MAX);
    let by_distance = options
        .clone()
        .map(|option| (edits(bare, &option.long[2..]), option.long))
        .min();
    match by_distance {
        Some((distance, long)) if distance <= far => Some(long),
        _ => options
            .map(|option| option.long)
            .find(|long| bare.len() > 2 && long[2..].starts_with(bare)),
    }
}

/// The Levenshtein distance in characters; the work is the product of the lengths.
fn edits(left: &str, right: &str) -> usize {
    let mut row: Vec<usize> = (0..=right.chars().count()).collect();
    for (above, from) in left.chars().enumerate() {
        let mut diagonal = above;
        let mut before = above + 1;
        for (cell, to) in row.iter_mut().skip(1).zip(right.chars()) {
            let changed = diagonal + usize::from(from != to);
            diagonal = *cell;
            before = changed.min(diagonal + 1).min(before + 1);
            *cell = before;
        }
        if let Some(first) = row.first_mut() {
            *first = above + 1;
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_distance_counts_edits() {
        for (left, right, distance) in [
            ("", "", 0),
            ("abc", "abc", 0),
            ("abc", "", 3),
            ("", "abc", 3),
            ("kitten", "sitting", 3),
            ("ab", "ba", 2),
        ] {
            assert_eq!(edits(left, right), distance, "{left} {right}");
        }
    }

    #[test]
    fn a_misspelt_name_finds_its_option() {
        let meant = |written: &str| nearest(written, OPTIONS.iter());
        assert_eq!(meant("--paralel"), Some("--parallel"));
        assert_eq!(meant("-parallel"), Some("--parallel"));
        assert_eq!(meant("--every-request"), Some("--every-requests"));
        assert_eq!(meant("--response"), Some("--response-timeout"));
        assert_eq!(meant("-n"), Some("-N"));
        assert_eq!(meant("--listen"), None);
        assert_eq!(meant(&"-".repeat(50)), None);
        assert_eq!(meant("-"), None);
    }

    #[test]
    fn only_a_number_or_a_lone_dash_may_begin_with_a_dash() {
        assert!(
            ["-x", "--x", "--", "-é"]
                .into_iter()
                .all(looks_like_an_option)
        );
        assert!(
            !["-", "", "-5", "-.5", "x-", "5"]
                .into_iter()
                .any(looks_like_an_option)
        );
    }
}
