//! Reports of servers: the parser against a naive one.
#![no_main]

use bestguess::health::Report;
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
        let (name, _) = line.split_once('=')?;
        let is_token =
            |letter: char| letter.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(letter);
        if name.is_empty() || !name.chars().all(is_token) {
            return None;
        }
    }
    Some(report)
}

fuzz_target!(|content: &[u8]| {
    assert_eq!(Report::parse(content).ok(), naive(content));
});
