//! What an option is: its names, what stands behind it, where the help lists it, and how its value is
//! judged and stored. Which there are is in `options`.

use super::Program;
use super::draft::Draft;
use super::value::Expected;

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
