//! What servers say of themselves: the two numbers of a check's answer, and what they may add there
//! or to any response.
//!
//! Pure reading of bytes, linear in their number; what follows from it is decided elsewhere. Four
//! forms are understood: the report of two lines, further lines `name=value` behind it, the words of
//! an HAProxy agent in its place, and the ORCA field `endpoint-load-metrics` of a response.

use crate::http::grammar;

/// The longest report that is read, in bytes.
pub const REPORT_MAX: usize = 4096;
/// The deepest nesting of a JSON value that is read.
const DEPTH_MAX: usize = 8;

/// What a server has counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Report {
    /// Errors that it has counted since it started.
    pub errors: u64,
    /// Requests that it has counted since it started.
    pub load: u64,
}

/// What a server says beside that; each is none where it did not say.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Said {
    /// Requests that it has under way, whoever sent them, at least 0.
    pub in_flight: Option<f64>,
    /// Its share of the work, relative to the weight that it was configured with, above 0.
    pub weight: Option<f64>,
    /// The most requests that it wants at once, at least 1.
    pub max: Option<u32>,
    /// Whether it wants no new requests.
    pub drains: Option<bool>,
}

/// The answer to a check.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Answer {
    /// What the server has counted, if it said.
    pub report: Option<Report>,
    /// What it said beside that.
    pub said: Said,
}

/// Why an answer is no good one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unfit {
    /// It is not in any form that is known, and what is wrong with it.
    Malformed(String),
    /// The server says that it should not be used, and why.
    Down(String),
}

impl Said {
    /// This, where `newer` says nothing.
    pub fn renewed(self, newer: Said) -> Said {
        Said {
            in_flight: newer.in_flight.or(self.in_flight),
            weight: newer.weight.or(self.weight),
            max: newer.max.or(self.max),
            drains: newer.drains.or(self.drains),
        }
    }

    /// Takes one line `name=value` of a report in. Names that nobody here knows are left alone.
    fn line(&mut self, name: &[u8], value: &[u8]) -> Result<(), Unfit> {
        let wrong = |what: &str| {
            let name = String::from_utf8_lossy(name);
            Err(Unfit::Malformed(format!(
                "the value of {name} is not {what}"
            )))
        };
        match name {
            b"in_flight" => match number(value) {
                Some(number) => self.in_flight = Some(number),
                None => return wrong("a number"),
            },
            b"weight" => match number(value) {
                Some(weight) if weight > 0.0 => self.weight = Some(weight),
                Some(_) => self.drains = Some(true),
                None => return wrong("a number"),
            },
            b"max" => match grammar::decimal(value) {
                Some(most @ 1..) => self.max = Some(u32::try_from(most).unwrap_or(u32::MAX)),
                _ => return wrong("a whole number of at least 1"),
            },
            b"drain" => match value {
                b"0" => self.drains = Some(false),
                b"1" => self.drains = Some(true),
                _ => return wrong("0 or 1"),
            },
            _ => {}
        }
        Ok(())
    }

    /// Takes one metric of ORCA in, by the name that the protocol gives it.
    ///
    /// Utilization and the rates of requests and errors are left alone: they are means over seconds
    /// that have passed, and what we see of our own requests is newer. In simulation, p99 of who weighs
    /// servers by them (gRPC's A58) is five times the optimum, that of who counts connections 1.6 times.
    fn metric(&mut self, name: &[u8], value: f64) {
        if name == b"named_metrics.in_flight" {
            self.in_flight = Some(value);
        }
    }

    /// Reads the value of an `endpoint-load-metrics` field (ORCA): `TEXT name=value, …`, where a colon
    /// does as well, or `JSON {…}`. None: it is neither, as the binary form is not, or malformed.
    pub fn orca(value: &[u8]) -> Option<Said> {
        let (format, rest) = value.split_at(value.iter().position(|byte| *byte == b' ')?);
        let rest = grammar::trim(rest);
        let mut said = Said::default();
        match format {
            b"TEXT" => {
                for metric in grammar::list(rest) {
                    let at = metric.iter().position(|byte| matches!(byte, b'=' | b':'))?;
                    let (name, value) = metric.split_at(at);
                    let value = number(grammar::trim(value.get(1..)?))?;
                    said.metric(grammar::trim(name), value);
                }
            }
            b"JSON" => {
                let mut json = Json { rest, depth: 0 };
                json.object(b"", &mut said)?;
                if !json.rest.is_empty() {
                    return None;
                }
            }
            _ => return None,
        }
        Some(said)
    }
}

impl Answer {
    /// Reads the content of an answer: two lines of one decimal number each, errors and requests,
    /// blanks around them allowed, and further lines `name=value`; or the words of an HAProxy agent.
    ///
    /// # Errors
    /// What is wrong with it, or what the server says that is wrong with it.
    pub fn parse(content: &[u8]) -> Result<Answer, Unfit> {
        let malformed = |what: &str| Unfit::Malformed(what.to_owned());
        let mut lines = content
            .split(|byte| *byte == b'\n')
            .map(|line| grammar::trim(line.strip_suffix(b"\r").unwrap_or(line)));
        let first = lines.next().unwrap_or_default();
        let Some(errors) = grammar::decimal(first) else {
            return agent(first);
        };
        let Some(load) = lines.next().and_then(grammar::decimal) else {
            return Err(malformed("the second line is not the number of requests"));
        };
        let mut said = Said::default();
        for line in lines.filter(|line| !line.is_empty()) {
            let equals = line.iter().position(|byte| *byte == b'=');
            let (name, value) = line.split_at(equals.unwrap_or(0));
            if !grammar::is_token(name) {
                return Err(malformed("a line behind the two numbers is not name=value"));
            }
            said.line(name, value.get(1..).unwrap_or_default())?;
        }
        Ok(Answer {
            report: Some(Report { errors, load }),
            said,
        })
    }
}

/// Reads the line of an HAProxy agent: words behind blanks or commas, and a reason behind `#`.
fn agent(line: &[u8]) -> Result<Answer, Unfit> {
    let (line, reason) = match memchr::memchr(b'#', line) {
        Some(at) => line.split_at(at),
        None => (line, b"".as_slice()),
    };
    let malformed = || Unfit::Malformed("the first line is not the number of errors".to_owned());
    let mut said = Said::default();
    let mut is_empty = true;
    let words = line
        .split(|byte| matches!(byte, b' ' | b'\t' | b','))
        .filter(|word| !word.is_empty());
    for word in words {
        is_empty = false;
        match word.to_ascii_lowercase().as_slice() {
            b"up" => {}
            b"ready" => said.drains = Some(false),
            b"drain" => said.drains = Some(true),
            down @ (b"down" | b"fail" | b"failed" | b"stopped" | b"maint") => {
                let word = String::from_utf8_lossy(down).into_owned();
                let reason = String::from_utf8_lossy(reason.get(1..).unwrap_or_default());
                let colon = if reason.trim().is_empty() { "" } else { ": " };
                return Err(Unfit::Down(format!(
                    "it says that it is {word}{colon}{}",
                    reason.trim()
                )));
            }
            word => {
                if let Some(percent) = word.strip_suffix(b"%") {
                    let percent = grammar::decimal(percent).ok_or_else(malformed)?;
                    said.drains = Some(percent == 0);
                    said.weight = (percent > 0).then_some(percent as f64 / 100.0);
                } else if let Some(most) = word.strip_prefix(b"maxconn:") {
                    said.line(b"max", most)?;
                } else {
                    return Err(malformed());
                }
            }
        }
    }
    if is_empty {
        return Err(malformed());
    }
    Ok(Answer { report: None, said })
}

/// A number of at least zero.
fn number(text: &[u8]) -> Option<f64> {
    let number: f64 = std::str::from_utf8(text).ok()?.parse().ok()?;
    (number.is_finite() && number >= 0.0).then_some(number)
}

/// A reader of as much JSON (RFC 8259) as metrics need: objects in objects, and numbers.
struct Json<'b> {
    rest: &'b [u8],
    depth: usize,
}

impl<'b> Json<'b> {
    /// Reads an object whose members' names begin with `path`. None: it is malformed.
    fn object(&mut self, path: &[u8], said: &mut Said) -> Option<()> {
        self.depth += 1;
        if self.depth > DEPTH_MAX || !self.takes(b'{') {
            return None;
        }
        let mut is_first = true;
        while !self.takes(b'}') {
            if !is_first && !self.takes(b',') {
                return None;
            }
            is_first = false;
            let name = [path, self.string()?].concat();
            if !self.takes(b':') {
                return None;
            }
            match self.rest.first()? {
                b'{' => self.object(&[name.as_slice(), b"."].concat(), said)?,
                b'"' => drop(self.string()?),
                _ => said.metric(&name, self.number()?),
            }
        }
        self.depth -= 1;
        Some(())
    }

    /// Whether `byte` comes next; it and the blanks around it are taken.
    fn takes(&mut self, byte: u8) -> bool {
        self.rest = self.rest.trim_ascii_start();
        let is_next = self.rest.first() == Some(&byte);
        self.rest = self.rest.get(usize::from(is_next)..).unwrap_or_default();
        self.rest = self.rest.trim_ascii_start();
        is_next
    }

    /// The bytes of a string; escapes stay as they are: no name that counts has one.
    fn string(&mut self) -> Option<&'b [u8]> {
        if !self.takes(b'"') {
            return None;
        }
        let mut at = 0;
        loop {
            match self.rest.get(at)? {
                b'"' => break,
                b'\\' => at += 2,
                _ => at += 1,
            }
        }
        let (text, behind) = self.rest.split_at(at);
        self.rest = behind.get(1..).unwrap_or_default().trim_ascii_start();
        Some(text)
    }

    fn number(&mut self) -> Option<f64> {
        let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || b"+-.".contains(byte);
        let end = self.rest.iter().position(|byte| !is_part(byte));
        let (text, behind) = self.rest.split_at(end.unwrap_or(self.rest.len()));
        self.rest = behind;
        number(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_two_numbers_and_perhaps_more() {
        let report = Some(Report { errors: 3, load: 5 });
        for good in [
            "3\n5\n",
            "3\n5",
            " 3 \r\n\t5\r\n",
            "3\n5\nin_flight=2\nweight=.5\nfree=anything at all\n",
            "3\n5\n\n",
        ] {
            let answer = Answer::parse(good.as_bytes()).unwrap();
            assert_eq!(answer.report, report, "{good:?}");
        }
        for bad in [
            "",
            "3",
            "3\n",
            "3 5",
            "a\n5",
            "3\n-5",
            "\n3\n5",
            "3\n5\nnoise",
            "3\n5\n=1",
            "3.0\n5",
            "3\n5\nin_flight=many",
            "3\n5\nin_flight=-1",
            "3\n5\nin_flight=inf",
            "3\n5\ndrain=yes",
            "3\n5\nmax=0",
        ] {
            assert!(Answer::parse(bad.as_bytes()).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn further_lines_say_how_busy_a_server_is_and_what_it_wants() {
        let answer = Answer::parse(b"0\n7\nin_flight=12\nweight=0.5\nmax=40\ndrain=1\n").unwrap();
        let said = Said {
            in_flight: Some(12.0),
            weight: Some(0.5),
            max: Some(40),
            drains: Some(true),
        };
        assert_eq!(answer.said, said);
        let answer = Answer::parse(b"0\n7\nweight=0").unwrap();
        assert_eq!((answer.said.weight, answer.said.drains), (None, Some(true)));
    }

    #[test]
    fn an_agent_s_words_are_understood() {
        let said = |line: &str| Answer::parse(line.as_bytes()).map(|answer| answer.said);
        let weight = |weight| Said {
            weight: Some(weight),
            drains: Some(false),
            ..Said::default()
        };
        assert_eq!(said("75%\n"), Ok(weight(0.75)));
        assert_eq!(said("up 150%\r\n"), Ok(weight(1.5)));
        let full = Said {
            max: Some(30),
            drains: Some(false),
            ..Said::default()
        };
        assert_eq!(said("UP,ready,maxconn:30"), Ok(full));
        assert_eq!(said("drain").unwrap().drains, Some(true));
        assert_eq!(said("0%").unwrap().drains, Some(true));
        assert_eq!(
            said("down#no disk left\n").unwrap_err(),
            Unfit::Down("it says that it is down: no disk left".to_owned())
        );
        assert_eq!(
            said("maint").unwrap_err(),
            Unfit::Down("it says that it is maint".to_owned())
        );
        for bad in [
            "75",
            "%",
            "x%",
            "-1%",
            "maxconn:",
            "maxconn:0",
            "upp",
            "# up",
            "\n",
        ] {
            assert!(said(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn metrics_come_as_text_or_as_json() {
        let all = Said {
            in_flight: Some(4.0),
            ..Said::default()
        };
        for good in [
            "TEXT named_metrics.in_flight=4, application_utilization=.5,rps_fractional=80.25, eps=1",
            "TEXT eps:1,rps_fractional:80.25 , named_metrics.in_flight : 4,application_utilization=0.5,cpu_utilization=1",
            r#"JSON {"named_metrics": {"in_flight": 4, "other": 9}, "application_utilization": 5e-1, "rps_fractional": 80.25, "eps": 1}"#,
            r#"JSON {"eps":1,"note":"a\"}b","rps_fractional":80.25,"deep":{"er":{}},"application_utilization":0.5,"named_metrics":{"in_flight":4}} "#,
        ] {
            assert_eq!(Said::orca(good.as_bytes()), Some(all), "{good}");
        }
        assert_eq!(Said::orca(b"TEXT "), Some(Said::default()));
        assert_eq!(Said::orca(b"JSON {}"), Some(Said::default()));
        let deep = format!("JSON {}{}", r#"{"a":"#.repeat(500), "}".repeat(500));
        for bad in [
            "",
            "TEXT",
            "BIN CgkJ",
            "text eps=1",
            "TEXT eps",
            "TEXT eps=x",
            "TEXT eps=-1",
            "TEXT eps=nan",
            "JSON {",
            "JSON {}x",
            r#"JSON {"eps":}"#,
            r#"JSON {"eps":1,}"#,
            r#"JSON {"eps" 1}"#,
            r#"JSON {"eps":"#,
            r#"JSON {"eps\"#,
            "JSON [1]",
            &deep,
        ] {
            assert_eq!(Said::orca(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn what_is_said_stands_until_it_is_said_anew() {
        let old = Said {
            weight: Some(0.5),
            max: Some(3),
            ..Said::default()
        };
        let new = Said {
            max: Some(4),
            drains: Some(true),
            ..Said::default()
        };
        let both = old.renewed(new);
        assert_eq!(
            (both.weight, both.max, both.drains),
            (Some(0.5), Some(4), Some(true))
        );
    }
}
