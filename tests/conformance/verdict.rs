//! Whether a case came to what it expects, and how what it did not come to is told.

use std::fmt::Write;

use super::{Client, Link, Play};
use crate::format::Message;
use crate::reading::Response;
use crate::text::shown;

impl Play {
    /// # Errors
    /// What is not as it has to be, for people.
    pub(crate) fn verdict(&self) -> Result<(), String> {
        if self.is_right() {
            return Ok(());
        }
        let mut text = String::new();
        if let Some(garbage) = &self.garbage {
            let _ = writeln!(text, "  {garbage}");
        }
        let count = self.case.clients.len();
        for index in 0..count {
            let is_right = self.is_client_right(index) && self.garbage.is_none();
            if is_right && (index >= self.probed || self.is_done_with(index)) {
                continue;
            }
            let _ = writeln!(
                text,
                "  what client {} gets (- expected, + seen):",
                index + 1
            );
            compare(&mut text, &self.wanted_of(index), &self.seen_by(index));
        }
        if !self.are_links_right() {
            let _ = writeln!(text, "  what the server sees (- expected, + seen):");
            compare(&mut text, &self.wanted_at_server(), &self.seen_at_server());
        }
        if text.is_empty() {
            let _ = writeln!(text, "  behind the case the balancer answers nobody");
        }
        Err(text)
    }

    /// Whether everything came, and nothing else.
    pub(super) fn is_right(&self) -> bool {
        self.garbage.is_none()
            && self.is_probed()
            && (0..self.case.clients.len()).all(|index| self.is_client_right(index))
            && self.are_links_right()
    }

    pub(super) fn is_client_right(&self, index: usize) -> bool {
        let (gets, Some(client)) = (&self.case.gets[index], self.clients.get(index)) else {
            return false;
        };
        let seen = self.before_probe(index);
        let mut messages = gets.messages.as_slice();
        // A reset may overtake all of what it cuts.
        if let [before @ .., last] = messages
            && last.is_cut
            && client.was_reset
            && seen.len() == before.len()
        {
            messages = before;
        }
        let may_be_reset = gets.messages.last().is_some_and(|last| last.is_cut);
        let mut pairs = messages.iter().zip(seen);
        seen.len() == messages.len()
            && (may_be_reset || !client.was_reset)
            && gets.ends.is_none_or(|ends| ends == client.has_ended)
            && pairs.all(|(wanted, seen)| is_right(wanted, seen, client))
    }

    fn is_done_with(&self, index: usize) -> bool {
        self.clients[index].has_ended || self.has_probe(index)
    }

    pub(super) fn are_links_right(&self) -> bool {
        let mut seen = self.seen_links().into_iter().peekable();
        for wanted in &self.links_wanted {
            let is_right = |(bytes, has_ended): &(Vec<u8>, bool)| {
                let Some(more) = bytes.strip_prefix(wanted.bytes.as_slice()) else {
                    return false;
                };
                wanted.perhaps.starts_with(more)
                    && (*has_ended || !wanted.ends)
                    && (*has_ended == wanted.ends || !wanted.perhaps.is_empty())
                    && (*has_ended || more.is_empty())
            };
            if seen.peek().is_some_and(is_right) {
                seen.next();
            } else if !wanted.bytes.is_empty() || wanted.perhaps.is_empty() {
                return false;
            }
        }
        seen.next().is_none()
    }

    /// What came on each link, but for probes, and whether the balancer ended it.
    fn seen_links(&self) -> Vec<(Vec<u8>, bool)> {
        let of = |link: &Link| {
            let mut bytes = Vec::new();
            let mut from = 0;
            for (start, end) in &link.probes {
                bytes.extend(&link.got[from..*start]);
                from = *end;
            }
            bytes.extend(&link.got[from..]);
            (bytes, link.has_ended && !link.is_over)
        };
        let links = self.links.iter().map(of);
        links.filter(|(bytes, _)| !bytes.is_empty()).collect()
    }

    /// Whether it can not end well any more.
    pub(super) fn is_hopeless(&self) -> bool {
        if self.garbage.is_some() {
            return true;
        }
        // Who has ended sees nothing more, and who got too much will not get less.
        (0..self.case.clients.len().min(self.clients.len())).any(|index| {
            let client = &self.clients[index];
            let messages = &self.case.gets[index].messages;
            let most = messages.len() + usize::from(client.is_probing);
            let has_other = |(wanted, seen): (&Message, &Response)| {
                let is_start = |text: &Vec<u8>| text.starts_with(&seen.text);
                has_head(seen)
                    && !is_start(&wanted.text)
                    && !wanted.or.as_ref().is_some_and(is_start)
            };
            (client.has_ended && !self.is_client_right(index))
                || client.responses.len() > most
                || messages.iter().zip(&client.responses).any(has_other)
        })
    }

    fn wanted_of(&self, index: usize) -> Vec<String> {
        let gets = &self.case.gets[index];
        let mut lines = Vec::new();
        for message in &gets.messages {
            lines.extend(shown(&message.text));
            if let Some(or) = &message.or {
                lines.push("{or}".to_owned());
                lines.extend(shown(or));
            }
            lines.extend(message.is_cut.then(|| "{cut}".to_owned()));
        }
        match gets.ends {
            Some(true) => lines.push("{end}".to_owned()),
            Some(false) => lines.push("(and the connection goes on)".to_owned()),
            None => {}
        }
        lines
    }

    fn seen_by(&self, index: usize) -> Vec<String> {
        let Some(client) = self.clients.get(index) else {
            return vec!["(its turn did not come)".to_owned()];
        };
        let mut lines = Vec::new();
        for response in self.before_probe(index) {
            lines.extend(shown(&response.text));
            lines.extend((!response.is_whole).then(|| "{cut}".to_owned()));
        }
        if self.garbage.is_some() {
            lines.push("(and these bytes)".to_owned());
            lines.extend(shown(&client.got[client.at..]));
        }
        if client.was_reset {
            lines.push("{end} by a reset".to_owned());
        } else if client.has_ended {
            lines.push("{end}".to_owned());
        } else if self.has_probe(index) {
            lines.push("(and the connection goes on)".to_owned());
        } else {
            lines.push("(and nothing more, not even an end)".to_owned());
        }
        lines
    }

    fn wanted_at_server(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for link in &self.links_wanted {
            lines.extend(shown(&link.bytes));
            if !link.perhaps.is_empty() {
                lines.push("{perhaps}".to_owned());
                lines.extend(shown(&link.perhaps));
            }
            lines.push(if link.ends { "{end}" } else { "{link}" }.to_owned());
        }
        lines
    }

    fn seen_at_server(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for (bytes, has_ended) in self.seen_links() {
            lines.extend(shown(&bytes));
            lines.push(if has_ended { "{end}" } else { "{link}" }.to_owned());
        }
        lines
    }
}

fn is_right(wanted: &Message, seen: &Response, client: &Client) -> bool {
    if let Some(or) = &wanted.or
        && seen.is_whole
        && seen.text == *or
    {
        return true;
    }
    if wanted.is_cut {
        return client.has_ended
            && !seen.is_whole
            && (wanted.text.starts_with(&seen.text) || !has_head(seen))
            && (has_head(seen) || client.was_reset);
    }
    // A tunnel is over when its connection is.
    seen.is_whole && seen.text == wanted.text
}

/// Whether the head at least is whole.
fn has_head(seen: &Response) -> bool {
    memchr::memmem::find(&seen.text, b"\r\n\r\n").is_some()
}

/// Writes both, with a mark at what only one of them has: what is the same before and behind the
/// first and the last difference is written once.
fn compare(text: &mut String, wanted: &[String], seen: &[String]) {
    let same = wanted
        .iter()
        .zip(seen)
        .take_while(|(one, two)| one == two)
        .count();
    let behind = wanted[same..].iter().rev().zip(seen[same..].iter().rev());
    let tail = behind.take_while(|(one, two)| one == two).count();
    for line in &wanted[..same] {
        let _ = writeln!(text, "      {line}");
    }
    for line in &wanted[same..wanted.len() - tail] {
        let _ = writeln!(text, "    - {line}");
    }
    for line in &seen[same..seen.len() - tail] {
        let _ = writeln!(text, "    + {line}");
    }
    for line in &wanted[wanted.len() - tail..] {
        let _ = writeln!(text, "      {line}");
    }
}
