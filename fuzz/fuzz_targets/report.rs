//! What servers say of themselves: reports against a naive reading, the rest for what it may be.
#![no_main]

use bestguess::report::{Answer, Report, Said};
use libfuzzer_sys::fuzz_target;

fn naive(content: &[u8]) -> Option<Report> {
    // One character for each byte, so that no byte is lost.
    let text: String = content.iter().map(|byte| char::from(*byte)).collect();
    let lines: Vec<&str> = text
        .split('\n')
        .map(|line| {
            line.strip_suffix('\r')
                .unwrap_or(line)
                .trim_matches([' ', '\t'])
        })
        .collect();
    let number = |index: usize| -> Option<u64> {
        let line = lines.get(index)?;
        let is_number = !line.is_empty() && line.chars().all(|digit| digit.is_ascii_digit());
        line.parse()
            .ok()
            .filter(|number| is_number && *number <= i64::MAX as u64)
    };
    let report = Report {
        errors: number(0)?,
        load: number(1)?,
    };
    for line in lines.iter().skip(2).filter(|line| !line.is_empty()) {
        let (name, value) = line.split_once('=')?;
        let is_token =
            |letter: char| letter.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(letter);
        if name.is_empty() || !name.chars().all(is_token) {
            return None;
        }
        let number = value
            .parse::<f64>()
            .is_ok_and(|number| number.is_finite() && number >= 0.0);
        let is_right = match name {
            "in_flight" | "weight" => number,
            "max" => {
                value
                    .parse::<u64>()
                    .is_ok_and(|most| most > 0 && most <= i64::MAX as u64)
                    && !value.starts_with('+')
            }
            "drain" => value == "0" || value == "1",
            _ => true,
        };
        if !is_right {
            return None;
        }
    }
    Some(report)
}

/// Numbers that nobody has to be afraid of.
fn judge(said: &Said) {
    for number in [said.in_flight, said.weight] {
        assert!(number.is_none_or(|number| number.is_finite() && number >= 0.0));
    }
    assert!(said.weight != Some(0.0) && said.max != Some(0));
}

fuzz_target!(|content: &[u8]| {
    let answer = Answer::parse(content).ok();
    let first = content
        .split(|byte| *byte == b'\n')
        .next()
        .unwrap_or_default();
    let first = first.trim_ascii();
    if !first.is_empty() && first.iter().all(u8::is_ascii_digit) {
        assert_eq!(answer.and_then(|answer| answer.report), naive(content));
    } else {
        // Words of an agent: they bring no numbers.
        assert!(answer.is_none_or(|answer| answer.report.is_none()));
    }
    for said in [answer.map(|answer| answer.said), Said::orca(content)] {
        judge(&said.unwrap_or_default());
    }
});
