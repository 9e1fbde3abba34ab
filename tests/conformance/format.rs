//! The format of the data files: see `FORMAT.txt` beside them, which explains it to people.

use std::fs;
use std::path::{Path, PathBuf};

use bestguess::http::head::RULES;
use bestguess::http::reply::reason;

use crate::text::{Token, tokens};

/// What a server answers unless its case says otherwise.
pub(crate) const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// One case of a data file.
#[derive(Debug, Clone, Default)]
pub(crate) struct Case {
    pub(crate) name: String,
    /// File and line, for messages.
    pub(crate) place: String,
    pub(crate) section: String,
    pub(crate) is_hostile: bool,
    /// An option that the balancer is started with.
    pub(crate) option: Option<String>,
    /// What each client does, one after the other.
    pub(crate) clients: Vec<Vec<Step>>,
    /// What servers answer to the requests that reach them, in their order.
    pub(crate) answers: Vec<Answer>,
    /// What each connection to the server has to see.
    pub(crate) links: Vec<LinkSees>,
    /// What each client has to get.
    pub(crate) gets: Vec<ClientGets>,
    /// Rows of the judge's table that requests break.
    pub(crate) refusals: Vec<String>,
    /// Rows of the judge's table that responses break: the log has to say so.
    pub(crate) logged: Vec<String>,
}

/// What a client does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    Send(Vec<u8>),
    /// Waits until one more response, interim or final, is there.
    Await,
    /// Waits until all that is under way has arrived.
    Pause,
    /// Ends its stream and goes on reading.
    End,
}

/// What a server does with one request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Answer {
    /// Sent as soon as the request's head is there.
    pub(crate) at_head: Vec<u8>,
    /// Sent once all of the request is there; none: what was said at the head is all.
    pub(crate) at_end: Option<Vec<u8>>,
    pub(crate) then: Then,
}

/// What a server does behind its answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Then {
    #[default]
    Keep,
    End,
    Reset,
}

/// What one connection to the server sees.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct LinkSees {
    pub(crate) bytes: Vec<u8>,
    /// A beginning of this may come as well, and then the connection has to end.
    pub(crate) perhaps: Vec<u8>,
    pub(crate) ends: bool,
}

/// What one client gets.
#[derive(Debug, Clone, Default)]
pub(crate) struct ClientGets {
    pub(crate) messages: Vec<Message>,
    /// Whether its connection ends then; none: it may or may not.
    pub(crate) ends: Option<bool>,
}

/// One response as a client gets it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Message {
    /// Head and content, chunks taken off, the present date as `{date}`.
    pub(crate) text: Vec<u8>,
    /// It answers a HEAD: there is no content, whatever the head says.
    pub(crate) has_no_content: bool,
    /// It stays incomplete: its head and at most this much of its content come.
    pub(crate) is_cut: bool,
    /// Or else this reply of the balancer comes in its stead.
    pub(crate) or: Option<Vec<u8>>,
}

/// All cases of the `.txt` files in `folder`, but for `FORMAT.txt`, by name of file.
pub(crate) fn cases_in(folder: &Path) -> Vec<Case> {
    let mut files: Vec<PathBuf> = fs::read_dir(folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "txt"))
        .filter(|path| path.file_name().is_some_and(|name| name != "FORMAT.txt"))
        .collect();
    files.sort();
    files
        .iter()
        .flat_map(|path| {
            let name = path.file_name().unwrap().to_string_lossy();
            let text = fs::read_to_string(path).unwrap();
            parse(&name, &text).unwrap_or_else(|error| panic!("{error}"))
        })
        .collect()
}

/// The cases of one file.
///
/// # Errors
/// The first line that is not as `FORMAT.txt` says, with its place.
pub(crate) fn parse(file: &str, text: &str) -> Result<Vec<Case>, String> {
    let mut cases = Vec::new();
    let mut draft: Option<Draft> = None;
    for (index, line) in text.lines().enumerate() {
        let place = format!("{file}:{}", index + 1);
        let at = |error: String| format!("{place}: {error}");
        if line.ends_with([' ', '\t']) {
            return Err(at(
                "a blank at the end, which nobody sees: write \\x20".to_owned()
            ));
        }
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(name) = line.strip_prefix("=== ") {
            if let Some(done) = draft.take() {
                cases.push(done.finish()?);
            }
            draft = Some(Draft::new(name, &place));
            continue;
        }
        let Some(draft) = &mut draft else {
            return Err(at("a line before the first case".to_owned()));
        };
        draft.line(line).map_err(at)?;
    }
    if let Some(done) = draft.take() {
        cases.push(done.finish()?);
    }
    Ok(cases)
}

/// A case whose lines are being read.
struct Draft {
    case: Case,
    /// Where the bytes of the last `S>` line went.
    is_at_head: bool,
    /// Whether the last `>S` bytes were optional.
    is_perhaps: bool,
    /// Whether the next `>S` bytes are those of another connection.
    is_new_link: bool,
}

impl Draft {
    fn new(name: &str, place: &str) -> Draft {
        Draft {
            case: Case {
                name: name.to_owned(),
                place: place.to_owned(),
                clients: vec![Vec::new()],
                gets: vec![ClientGets::default()],
                ..Case::default()
            },
            is_at_head: false,
            is_perhaps: false,
            is_new_link: true,
        }
    }

    fn line(&mut self, line: &str) -> Result<(), String> {
        if line.starts_with("RFC ") {
            let section = line.strip_suffix(" hostile");
            self.case.is_hostile = section.is_some();
            self.case.section = section.unwrap_or(line).to_owned();
            return Ok(());
        }
        if let Some(option) = line.strip_prefix("with ") {
            self.case.option = Some(option.to_owned());
            return Ok(());
        }
        let (side, rest) = line.split_at(line.len().min(2));
        let rest = match rest.strip_prefix(' ') {
            Some(rest) => rest,
            None if rest.is_empty() => rest,
            None => return Err(format!("not a line of a case: {line}")),
        };
        let tokens = tokens(rest)?;
        match side {
            "C>" => tokens.into_iter().try_for_each(|token| self.client(token)),
            "S>" => tokens.into_iter().try_for_each(|token| self.server(token)),
            ">S" => tokens.into_iter().try_for_each(|token| self.link(token)),
            ">C" => self.got(tokens),
            _ => Err(format!("not a line of a case: {line}")),
        }
    }

    /// What a client does.
    fn client(&mut self, token: Token) -> Result<(), String> {
        let steps = self.case.clients.last_mut().unwrap();
        match token {
            Token::Bytes(bytes) => match steps.last_mut() {
                Some(Step::Send(before)) => before.extend(bytes),
                _ => steps.push(Step::Send(bytes)),
            },
            Token::Mark(mark) => match mark.as_str() {
                "end" => steps.push(Step::End),
                "await" => steps.push(Step::Await),
                "pause" => steps.push(Step::Pause),
                "client" => self.case.clients.push(vec![Step::Pause]),
                _ => return Err(format!("no mark for C>: {mark}")),
            },
        }
        Ok(())
    }

    /// What a server answers.
    fn server(&mut self, token: Token) -> Result<(), String> {
        if self.case.answers.is_empty() {
            self.case.answers.push(Answer::default());
        }
        let answer = self.case.answers.last_mut().unwrap();
        let mut say = |bytes: &[u8]| {
            if self.is_at_head {
                answer.at_head.extend_from_slice(bytes);
            } else {
                answer
                    .at_end
                    .get_or_insert_default()
                    .extend_from_slice(bytes);
            }
        };
        match token {
            Token::Bytes(bytes) => say(&bytes),
            Token::Mark(mark) => match mark.as_str() {
                "ok" => say(OK),
                "at head" => self.is_at_head = true,
                "at end" => self.is_at_head = false,
                "end" => answer.then = Then::End,
                "reset" => answer.then = Then::Reset,
                "next" => {
                    self.is_at_head = false;
                    self.case.answers.push(Answer::default());
                }
                _ => return Err(format!("no mark for S>: {mark}")),
            },
        }
        Ok(())
    }

    /// What a connection to the server sees.
    fn link(&mut self, token: Token) -> Result<(), String> {
        let bytes = match token {
            Token::Bytes(bytes) => bytes,
            Token::Mark(mark) => match mark.split_once(' ').unwrap_or((&mark, "")) {
                ("added", "") => added("a"),
                ("added", host) => added(host),
                ("port", "") => b"{port}".to_vec(),
                ("perhaps", "") => {
                    self.is_perhaps = true;
                    Vec::new()
                }
                ("end", "") => {
                    let link = self.case.links.last_mut();
                    link.ok_or("an end before any byte")?.ends = true;
                    self.is_new_link = true;
                    return Ok(());
                }
                ("link", "") => {
                    self.is_new_link = true;
                    return Ok(());
                }
                _ => return Err(format!("no mark for >S: {mark}")),
            },
        };
        if self.is_new_link {
            self.case.links.push(LinkSees::default());
            self.is_new_link = false;
            self.is_perhaps &= bytes.is_empty();
        }
        let link = self.case.links.last_mut().unwrap();
        if self.is_perhaps {
            link.perhaps.extend(bytes);
        } else {
            link.bytes.extend(bytes);
        }
        Ok(())
    }

    /// What a client gets.
    fn got(&mut self, tokens: Vec<Token>) -> Result<(), String> {
        let is_start =
            matches!(tokens.first(), Some(Token::Bytes(bytes)) if bytes.starts_with(b"HTTP/1."));
        if is_start {
            self.message(Vec::new());
        }
        for token in tokens {
            let mark = match token {
                Token::Bytes(bytes) => {
                    self.last_message()?.text.extend(bytes);
                    continue;
                }
                Token::Mark(mark) => mark,
            };
            let (word, rest) = mark.split_once(' ').unwrap_or((&mark, ""));
            match (word, rest) {
                ("date", "") => self.last_message()?.text.extend(b"{date}"),
                ("trailers", "") => self.last_message()?.text.extend(b"{trailers}\r\n"),
                ("ok", "") => self.message(ok_got("")),
                (count, what @ ("ok" | "interims")) => {
                    let count: usize = count.parse().map_err(|_| format!("no number: {count}"))?;
                    for _ in 0..count {
                        self.message(match what {
                            "ok" => ok_got(""),
                            _ => b"HTTP/1.1 103 Early Hints\r\n\r\n".to_vec(),
                        });
                    }
                }
                ("ok", "keep-alive") => self.message(ok_got("Connection: keep-alive\r\n")),
                ("ok", "close") => self.message(ok_got("Connection: close\r\n")),
                ("no", "content") => self.last_message()?.has_no_content = true,
                ("cut", "") => {
                    self.last_message()?.is_cut = true;
                    self.last_client().ends = Some(true);
                }
                ("end", "") => self.last_client().ends = Some(true),
                ("client", "") => self.case.gets.push(ClientGets::default()),
                ("reply", rest) => {
                    let reply = reply(rest)?;
                    self.message(reply);
                }
                ("refused", rest) => {
                    let (status, row) = rest.split_once(' ').ok_or("{refused STATUS ROW}")?;
                    let (text, _) = rule(row)?;
                    self.case.refusals.push(row.to_owned());
                    let reply = reply(&format!("close {status} {text}"))?;
                    self.message(reply);
                    self.last_client().ends = Some(true);
                }
                ("broken", rest) => {
                    let reply = self.broken(rest)?;
                    self.message(reply);
                }
                ("or", rest) => {
                    let row = rest.strip_prefix("broken ").ok_or("{or broken ROW}")?;
                    let reply = self.broken(row)?;
                    self.last_message()?.or = Some(reply);
                    if !row.ends_with(" close") {
                        self.last_client().ends = None;
                    }
                }
                _ => return Err(format!("no mark for >C: {mark}")),
            }
        }
        Ok(())
    }

    /// The reply to a client whose server's response breaks a rule.
    fn broken(&mut self, rest: &str) -> Result<Vec<u8>, String> {
        let (row, close) = match rest.split_once(' ') {
            Some((row, "close")) => (row, "close "),
            Some((row, "keep-alive")) => (row, "keep-alive "),
            None => (rest, ""),
            Some(_) => return Err("{broken ROW [close|keep-alive]}".to_owned()),
        };
        rule(row)?;
        self.case.logged.push(row.to_owned());
        reply(&format!("{close}502 the server sent a broken response"))
    }

    fn message(&mut self, text: Vec<u8>) {
        let message = Message {
            text,
            ..Message::default()
        };
        self.last_client().messages.push(message);
    }

    fn last_client(&mut self) -> &mut ClientGets {
        self.case.gets.last_mut().unwrap()
    }

    fn last_message(&mut self) -> Result<&mut Message, String> {
        let message = self.last_client().messages.last_mut();
        message.ok_or_else(|| "a response begins with HTTP/1. or with a mark".to_owned())
    }

    fn finish(mut self) -> Result<Case, String> {
        let case = &mut self.case;
        let at = |error: &str| Err(format!("{}: {}: {error}", case.place, case.name));
        if case.section.is_empty() {
            return at("no section: a line like RFC 9112 §3");
        }
        if case
            .clients
            .iter()
            .any(|steps| !steps.iter().any(|step| *step != Step::Pause))
        {
            return at("a client that does nothing: a line with C>");
        }
        if case.clients.len() != case.gets.len() {
            return at("as many {client} in C> as in >C");
        }
        // A case without a word on what it gets would pass whatever happens.
        if case
            .gets
            .iter()
            .all(|gets| gets.messages.is_empty() && gets.ends != Some(true))
        {
            return at("nothing that the client has to get: a line with >C");
        }
        for gets in &mut case.gets {
            let may_be_either = gets.messages.iter().any(|message| message.or.is_some());
            if gets.ends.is_none() && !may_be_either {
                gets.ends = Some(false);
            }
        }
        Ok(self.case)
    }
}

/// The fields that every request of a client of HTTP/1.1 gets, if it named `host`.
fn added(host: &str) -> Vec<u8> {
    format!(
        "Via: 1.1 bestguess\r\nX-Forwarded-For: 127.0.0.1\r\nX-Forwarded-Proto: http\r\n\
         X-Forwarded-Host: {host}\r\n"
    )
    .into_bytes()
}

/// The usual answer as a client gets it.
fn ok_got(field: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nDate: {{date}}\r\n{field}\r\nok").into_bytes()
}

/// A reply of the balancer's own: `[close|keep-alive] STATUS TEXT`.
fn reply(rest: &str) -> Result<Vec<u8>, String> {
    let (close, rest) = match rest.split_once(' ') {
        Some(("close", rest)) => ("Connection: close\r\n", rest),
        Some(("keep-alive", rest)) => ("Connection: keep-alive\r\n", rest),
        _ => ("", rest),
    };
    let (status, text) = rest
        .split_once(' ')
        .ok_or("{reply [close|keep-alive] STATUS TEXT}")?;
    let status: u16 = status.parse().map_err(|_| format!("no status: {status}"))?;
    Ok(format!(
        "HTTP/1.1 {status} {}\r\nDate: {{date}}\r\nContent-Type: text/plain; charset=utf-8\r\n\
         Content-Length: {}\r\n{close}\r\n{text}\n",
        reason(status),
        text.len() + 1
    )
    .into_bytes())
}

/// Text and section of the judge's row of this name.
///
/// # Errors
/// There is none.
pub(crate) fn rule(row: &str) -> Result<(&'static str, &'static str), String> {
    RULES
        .iter()
        .find(|rule| format!("{:?}", rule.refusal) == row)
        .map(|rule| (rule.text, rule.section))
        .ok_or_else(|| format!("the judge's table has no row {row}"))
}
