//! Completions for bash, zsh and fish, printed from the table of options.

use std::fmt::Write;

use super::option::{OptionSpec, Takes};
use super::options::OPTIONS;
use super::{COMMANDS, Program};

/// The shells that completions can be printed for.
pub(super) const SHELLS: [&str; 3] = ["bash", "zsh", "fish"];

/// The script for one of [`SHELLS`], to be sourced.
pub(super) fn completions(shell: &str) -> String {
    match shell {
        "bash" => bash(),
        "zsh" => zsh(),
        _ => fish(),
    }
}

/// What can be said about the value of an option.
enum Values {
    None,
    Any,
    Files,
    Words(&'static [&'static str]),
}

fn values(option: &OptionSpec) -> Values {
    match option.takes {
        Takes::Nothing | Takes::Switch | Takes::Repeats => Values::None,
        Takes::OneOf(_, words) => Values::Words(words),
        Takes::Value("PATH") => Values::Files,
        Takes::Value(_) => Values::Any,
    }
}

fn options_of(program: Program) -> impl Iterator<Item = &'static OptionSpec> {
    OPTIONS.iter().filter(move |option| program.has(option))
}

fn names(option: &OptionSpec, between: &str) -> String {
    option.names().collect::<Vec<_>>().join(between)
}

fn commands() -> String {
    COMMANDS.map(|(name, ..)| name).join(" ")
}

fn bash() -> String {
    let mut out = String::from(
        "# bash completion for bestguess; in ~/.bashrc: source <(bestguess completions bash)\n\
         _bestguess() {\n    \
         local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]} command= place\n    \
         # --check=http comes as three words.\n    \
         if [[ $word == '=' ]]; then word=\n    \
         elif [[ $before == '=' ]]; then before=${COMP_WORDS[COMP_CWORD-2]}\n    \
         fi\n    \
         COMPREPLY=()\n    \
         case $before in\n",
    );
    let mut files = Vec::new();
    let mut others = Vec::new();
    for option in OPTIONS {
        match values(option) {
            Values::None => {}
            Values::Files => files.push(names(option, "|")),
            Values::Any => others.push(names(option, "|")),
            Values::Words(words) => {
                let _ = writeln!(
                    out,
                    "        {}) mapfile -t COMPREPLY < <(compgen -W '{}' -- \"$word\"); return ;;",
                    names(option, "|"),
                    words.join(" ")
                );
            }
        }
    }
    let _ = writeln!(
        out,
        "        {}) mapfile -t COMPREPLY < <(compgen -f -- \"$word\"); return ;;\n        {}) return ;;\n    esac",
        files.join("|"),
        others.join("|")
    );
    let _ = writeln!(
        out,
        "    for ((place = 1; place < COMP_CWORD; place++)); do\n        \
         case ${{COMP_WORDS[place]}} in\n            \
         {}) command=${{COMP_WORDS[place]}}; break ;;\n        esac\n    done\n    \
         case $command:$word in",
        commands().replace(' ', "|")
    );
    for (name, program, _) in COMMANDS {
        let _ = writeln!(
            out,
            "        {name}:-*) mapfile -t COMPREPLY < <(compgen -W '{}' -- \"$word\") ;;",
            options_of(program)
                .map(|it| names(it, " "))
                .collect::<Vec<_>>()
                .join(" ")
        );
    }
    let _ = writeln!(
        out,
        "        :-*) mapfile -t COMPREPLY < <(compgen -W '{}' -- \"$word\") ;;\n        \
         completions:*) mapfile -t COMPREPLY < <(compgen -W '{}' -- \"$word\") ;;\n        \
         origin:*) mapfile -t COMPREPLY < <(compgen -d -- \"$word\") ;;\n        \
         :*) if ((COMP_CWORD == 1)); then mapfile -t COMPREPLY < <(compgen -W '{}' -- \"$word\"); fi ;;\n    \
         esac\n}}\ncomplete -F _bestguess bestguess",
        options_of(Program::Balancer)
            .map(|it| names(it, " "))
            .collect::<Vec<_>>()
            .join(" "),
        SHELLS.join(" "),
        commands()
    );
    out
}

fn zsh() -> String {
    let mut out = String::from(
        "#compdef bestguess\n\
         # zsh completion for bestguess; as the file _bestguess in a folder of $fpath, or in ~/.zshrc\n\
         # behind compinit: source <(bestguess completions zsh)\n\
         _bestguess() {\n    local -a options\n    local command=${words[(r)(",
    );
    let _ = writeln!(
        out,
        "{})]}}\n    case $command in",
        commands().replace(' ', "|")
    );
    for (name, program, _) in COMMANDS {
        let behind = match program {
            Program::Origin => "'*:folder:_files -/'",
            Program::Completions => "'2:shell:(bash zsh fish)'",
            _ => "",
        };
        let _ = writeln!(
            out,
            "        {name}) options=({}{behind}) ;;",
            zsh_options(program)
        );
    }
    let _ = write!(
        out,
        "        *) options=({}'1:port or command:({})' '*:server:') ;;\n    esac\n    \
         _arguments -s $options\n}}\n\
         if [[ ${{funcstack[1]}} == _bestguess ]]; then _bestguess \"$@\"; else compdef _bestguess bestguess; fi\n",
        zsh_options(Program::Balancer),
        commands()
    );
    out
}

fn zsh_options(program: Program) -> String {
    let mut out = String::new();
    for option in options_of(program) {
        let help = option
            .help
            .replace('\'', "'\\''")
            .replace('[', "\\[")
            .replace(']', "\\]");
        let (sign, behind) = match (values(option), option.takes) {
            (Values::Words(words), Takes::OneOf(kind, _)) => {
                ("=", format!(":{kind}:({})", words.join(" ")))
            }
            (Values::Files, _) => ("=", ":file:_files".to_owned()),
            (Values::None, _) => ("", String::new()),
            (_, Takes::Value(kind)) => ("=", format!(":{}:", kind.replace(':', "\\:"))),
            _ => ("", String::new()),
        };
        let before = if option.takes == Takes::Repeats {
            "*"
        } else {
            ""
        };
        for name in option.names() {
            let sign = if sign == "=" && name == option.short {
                "+"
            } else {
                sign
            };
            let _ = write!(out, "'{before}{name}{sign}[{help}]{behind}' ");
        }
    }
    out
}

fn fish() -> String {
    let mut out = String::from(
        "# fish completion for bestguess; as ~/.config/fish/completions/bestguess.fish\n\
         complete -c bestguess -f\n",
    );
    let among = commands();
    for (name, _, help) in COMMANDS {
        let _ = writeln!(
            out,
            "complete -c bestguess -n __fish_use_subcommand -a {name} -d '{}'",
            quoted(help)
        );
    }
    let _ = writeln!(
        out,
        "complete -c bestguess -n '__fish_seen_subcommand_from completions' -a '{}'\n\
         complete -c bestguess -n '__fish_seen_subcommand_from origin' -a '(__fish_complete_directories)'",
        SHELLS.join(" ")
    );
    let balancer = (
        format!("not __fish_seen_subcommand_from {among}"),
        Program::Balancer,
    );
    let others =
        COMMANDS.map(|(name, program, _)| (format!("__fish_seen_subcommand_from {name}"), program));
    for (condition, program) in [balancer].into_iter().chain(others) {
        for option in options_of(program) {
            let short = match option.short.strip_prefix('-') {
                Some(letter) => format!(" -s {letter}"),
                None => String::new(),
            };
            let value = match values(option) {
                Values::None => String::new(),
                Values::Any => " -x".to_owned(),
                Values::Files => " -r -F".to_owned(),
                Values::Words(words) => format!(" -x -a '{}'", words.join(" ")),
            };
            let _ = writeln!(
                out,
                "complete -c bestguess -n '{condition}'{short} -l {}{value} -d '{}'",
                option.long.trim_start_matches('-'),
                quoted(option.help)
            );
        }
    }
    out
}

/// What stands between single quotes in fish.
fn quoted(text: &str) -> String {
    text.replace('\\', "\\\\").replace('\'', "\\'")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    /// What bash offers at the end of a line.
    fn offered(line: &str) -> Vec<String> {
        let script = "source /dev/stdin; COMP_WORDS=(\"$@\"); COMP_CWORD=$(($# - 1)); _bestguess; \
                      printf '%s\\n' \"${COMPREPLY[@]}\"";
        let words: Vec<&str> = line.split(' ').collect();
        let mut child = Command::new("bash")
            .args(["--norc", "-c", script, "bash"])
            .args(&words)
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), bash().as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines()
            .filter(|line| !line.is_empty())
            .map(str::to_owned)
            .collect()
    }

    #[test]
    fn bash_completes_options_their_words_and_commands() {
        // A machine with nothing but Rust may lack it; tests/peers insists.
        if Command::new("bash").arg("--version").output().is_err() {
            return;
        }
        assert_eq!(offered("bestguess 8080 --pol"), ["--policy"]);
        assert_eq!(
            offered("bestguess 8080 --policy r"),
            ["round-robin", "random"]
        );
        assert_eq!(offered("bestguess 8080 --check = t"), ["tcp"]);
        assert_eq!(
            offered("bestguess 8080 --check ="),
            ["report", "http", "tcp", "off"]
        );
        assert_eq!(offered("bestguess or"), ["origin"]);
        assert_eq!(offered("bestguess origin --jit"), ["--jitter"]);
        assert_eq!(offered("bestguess completions "), SHELLS);
        assert_eq!(offered("bestguess 8080 --jit"), Vec::<String>::new());
        assert_eq!(offered("bestguess 8080 -N "), Vec::<String>::new());
    }

    #[test]
    fn every_option_is_in_every_script() {
        for shell in SHELLS {
            let script = completions(shell);
            for option in OPTIONS {
                let long = match shell {
                    "fish" => format!(" -l {}", &option.long[2..]),
                    _ => option.long.to_owned(),
                };
                assert!(script.contains(&long), "{shell}: {long}");
            }
            assert!(script.ends_with('\n'));
        }
    }
}
