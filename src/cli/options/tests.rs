use super::super::draft::Draft;
use super::super::option::listed;
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
