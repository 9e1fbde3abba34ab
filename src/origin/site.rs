//! The site: what each request gets, and the report of what was done.
//!
//! Decides twice: when the head is there, what is to be done (`ask`), and when all of the request
//! is there and its time has come, what is said (`answer`). Knows no connection.

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use super::answer::{Answer, Body, HTML};
use super::files::{self, Folder, Found, Kept, Upload};
use super::names::{self, Denied};
use super::order::{Order, order};
use crate::cli;
use crate::http::body::Framing;
use crate::http::head::{Refusal, Request, Version};

/// What the server is called unless told.
const NAME: &str = "bestguess-origin";
/// The target of reports.
const REPORT_PATH: &[u8] = b"/healthcheck";
/// The longest content that is read, in bytes: 64 GiB.
pub(super) const CONTENT_MAX: u64 = 64 << 30;

/// The answers and the account of them.
#[derive(Debug)]
pub(super) struct Site {
    name: String,
    folder: Option<Folder>,
    hello: String,
    page: Option<String>,
    delay: Duration,
    requests: u64,
    errors: u64,
    fixed_report: bool,
}

/// One request, as far as its answer depends on it.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) job: Job,
    /// How long its answer is held back.
    pub(super) delay: Duration,
    /// Whether it is a HEAD: the answer's content is left out.
    pub(super) is_head: bool,
    pub(super) version: Version,
    /// Whether the client would like to send another request.
    pub(super) keep_alive: bool,
}

/// What is to be done for a request.
#[derive(Debug)]
pub(super) enum Job {
    Report,
    Hello,
    Page,
    File(PathBuf),
    Listing(PathBuf),
    /// To this target.
    Redirect(String),
    Bytes(u64),
    Chunked(u64),
    Status(u16),
    /// Tell how much content there was.
    Count,
    Put(Upload),
    Options,
    MethodUnknown,
    Refuse(Denied),
}

impl Site {
    /// The site of `settings`.
    ///
    /// # Errors
    /// Its folder cannot be served.
    pub(super) fn new(settings: &cli::Origin) -> io::Result<Site> {
        let name = settings.name.clone().unwrap_or_else(|| NAME.to_owned());
        Ok(Site {
            hello: format!("hello from {name}"),
            folder: settings.dir.as_deref().map(Folder::open).transpose()?,
            page: None,
            delay: settings.delay,
            requests: settings.load,
            errors: settings.errors,
            fixed_report: settings.fixed_report,
            name,
        })
    }

    /// Serves `page` at `/`.
    pub(super) fn set_page(&mut self, page: &str) {
        self.page = Some(page.replace("{name}", &names::html(&self.name)));
    }

    /// What it calls itself.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Decides what is to be done for `request`, and counts it.
    pub(super) fn ask(&mut self, request: &Request<'_>) -> Asked {
        let path = request.target.split(|byte| *byte == b'?').next();
        let path = path.unwrap_or_default();
        let is_read = matches!(request.method_name, b"GET" | b"HEAD");
        let mut delay = Duration::ZERO;
        let job = if is_read && path == REPORT_PATH {
            Job::Report
        } else {
            if !self.fixed_report {
                self.requests = self.requests.saturating_add(1);
            }
            delay = self.delay;
            match request.method_name {
                b"GET" | b"HEAD" => self.get(path, &mut delay),
                b"PUT" => self.put(path, request).unwrap_or_else(Job::Refuse),
                b"POST" => Job::Count,
                b"OPTIONS" => Job::Options,
                _ => Job::MethodUnknown,
            }
        };
        Asked {
            job,
            delay,
            is_head: request.method_name == b"HEAD",
            version: request.version,
            keep_alive: request.keep_alive,
        }
    }

    fn get(&self, path: &[u8], delay: &mut Duration) -> Job {
        if let Some(folder) = &self.folder {
            let names = match names::decode(path) {
                Ok(names) => names,
                Err(denied) => return Job::Refuse(denied),
            };
            match folder.find(&names) {
                Found::File(place) => return Job::File(place),
                Found::Folder(place) => return Job::Listing(place),
                Found::Elsewhere(target) => return Job::Redirect(target),
                Found::Barred => return Job::Refuse((403, "the server may not read that")),
                Found::Nothing => {}
            }
        }
        match order(path) {
            Some(Ok(Order::Bytes(count))) => Job::Bytes(count),
            Some(Ok(Order::Chunked(count))) => Job::Chunked(count),
            Some(Ok(Order::Status(status))) => Job::Status(status),
            Some(Ok(Order::Delay(more))) => {
                *delay = delay.saturating_add(more);
                Job::Hello
            }
            Some(Err(denied)) => Job::Refuse(denied),
            None if self.folder.is_some() => Job::Refuse((404, "there is no such file")),
            None if self.page.is_some() && matches!(path, b"/" | b"") => Job::Page,
            None => Job::Hello,
        }
    }

    fn put(&mut self, path: &[u8], request: &Request<'_>) -> Result<Job, Denied> {
        let Some(folder) = &mut self.folder else {
            return Ok(Job::MethodUnknown);
        };
        if path == REPORT_PATH {
            return Err((403, "this name is for the report"));
        }
        let mut fields = request.fields.iter();
        if fields.any(|field| field.name.eq_ignore_ascii_case(b"content-range")) {
            // RFC 9110 §14.5: a part must not be taken for the whole.
            return Err((400, "only whole files are taken, not ranges of them"));
        }
        if matches!(request.framing, Framing::Length(length) if length > CONTENT_MAX) {
            return Err((413, "the file is larger than 64 GiB"));
        }
        folder.take(&names::decode(path)?).map(Job::Put)
    }

    /// What is said to a request of which all is there, `content` bytes of content among it.
    pub(super) fn answer(&mut self, job: Job, content: u64) -> Answer {
        let answer = self.perform(job, content).unwrap_or_else(refusal);
        if answer.status >= 500 && !self.fixed_report {
            self.errors = self.errors.saturating_add(1);
        }
        answer
    }

    /// What is said to a request that breaks a rule.
    pub(super) fn refuse(&mut self, refused: Refusal) -> Answer {
        let rule = refused.rule();
        self.answer(Job::Refuse((rule.status, rule.text)), 0)
    }

    fn perform(&self, job: Job, content: u64) -> Result<Answer, Denied> {
        Ok(match job {
            Job::Report => Answer::text(200, &format!("{}\n{}", self.errors, self.requests)),
            Job::Hello => Answer::text(200, &self.hello),
            Job::Page => html(self.page.clone().unwrap_or_default()),
            Job::File(place) => file(&place)?,
            Job::Listing(place) => {
                let page = files::listing(&place);
                let page =
                    page.map_err(|error| files::denied(&error, (404, "the folder has gone")))?;
                html(page)
            }
            Job::Redirect(target) => {
                Answer::text(301, "the folder is there").with("Location", &target)
            }
            Job::Bytes(end) => pattern(Body::Pattern { at: 0, end }),
            Job::Chunked(end) => pattern(Body::Chunks { at: 0, end }),
            Job::Status(status) => {
                let answer = Answer::text(status, &format!("status {status}, as asked for"));
                match answer.may_have_content() && status != 205 {
                    true => answer,
                    false => Answer::bare(status),
                }
            }
            Job::Count => Answer::text(200, &format!("{content} bytes of content")),
            Job::Put(upload) => match upload.keep()? {
                Kept::Created => Answer::bare(201),
                Kept::Replaced => Answer::bare(204),
            },
            Job::Options => Answer::bare(204).with("Allow", self.methods()),
            Job::MethodUnknown => {
                Answer::text(405, "there is no such method here").with("Allow", self.methods())
            }
            Job::Refuse(denied) => return Err(denied),
        })
    }

    fn methods(&self) -> &'static str {
        match self.folder {
            Some(_) => "GET, HEAD, OPTIONS, POST, PUT",
            None => "GET, HEAD, OPTIONS, POST",
        }
    }
}

impl Job {
    /// Whether the answer is certain before any content is there, so that none has to be sent.
    pub(super) fn is_refused(&self) -> bool {
        matches!(self, Job::Refuse(_) | Job::MethodUnknown)
    }
}

fn refusal((status, text): Denied) -> Answer {
    Answer::text(status, text)
}

fn html(page: String) -> Answer {
    let body = Body::Text(page.into_bytes(), 0);
    Answer {
        content_type: HTML,
        body,
        ..Answer::bare(200)
    }
}

fn pattern(body: Body) -> Answer {
    Answer {
        body,
        ..Answer::bare(200)
    }
}

/// The file at `place`, opened.
fn file(place: &std::path::Path) -> Result<Answer, Denied> {
    let failed = |error: io::Error| files::denied(&error, (404, "there is no such file"));
    let file = File::open(place).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    if !metadata.is_file() {
        return Err((404, "there is no such file"));
    }
    let body = Body::File {
        file,
        at: 0,
        end: metadata.len(),
    };
    let content_type = names::content_type(place);
    let answer = Answer {
        content_type,
        body,
        ..Answer::bare(200)
    };
    Ok(match metadata.modified().ok().filter(is_writable) {
        Some(modified) => answer.with("Last-Modified", &httpdate::fmt_http_date(modified)),
        None => answer,
    })
}

/// Whether a date can be written: from 1970 to 9999.
fn is_writable(time: &std::time::SystemTime) -> bool {
    let since = time.duration_since(std::time::SystemTime::UNIX_EPOCH);
    since.is_ok_and(|since| since.as_secs() < 253_402_300_800)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::head;

    fn site(errors: u64, load: u64, fixed_report: bool) -> Site {
        let settings = cli::Origin {
            name: Some("a<b".to_owned()),
            delay: Duration::from_millis(5),
            load,
            errors,
            fixed_report,
            ..cli::Origin::new(crate::config::Address::Unix("/nowhere".into()))
        };
        Site::new(&settings).unwrap()
    }

    fn ask(site: &mut Site, line: &str) -> Asked {
        let head = format!("{line} HTTP/1.1\r\nHost: a\r\n\r\n");
        let mut slots = head::slots();
        site.ask(&head::request(head.as_bytes(), &mut slots).unwrap())
    }

    /// The status, the fields and the text that answer a request.
    fn answer(site: &mut Site, line: &str) -> (u16, String, String) {
        let asked = ask(site, line);
        let answer = site.answer(asked.job, 7);
        let Body::Text(text, 0) = answer.body else {
            panic!("{line}: not a text")
        };
        (
            answer.status,
            answer.fields,
            String::from_utf8(text).unwrap(),
        )
    }

    #[test]
    fn a_report_counts_requests_and_errors_but_no_checks() {
        let mut site = site(3, 10, false);
        assert_eq!(answer(&mut site, "GET /healthcheck").2, "3\n10\n");
        answer(&mut site, "GET /");
        answer(&mut site, "GET /status/500");
        answer(&mut site, "POST /healthcheck");
        answer(&mut site, "GET /status/404");
        site.refuse(Refusal::NoHost);
        assert_eq!(answer(&mut site, "HEAD /healthcheck?x=y").2, "4\n14\n");
        site.refuse(Refusal::EncodingUnknown);
        assert_eq!(answer(&mut site, "GET /healthcheck").2, "5\n14\n");
    }

    #[test]
    fn a_fixed_report_stays() {
        let mut site = site(3, 10, true);
        answer(&mut site, "GET /status/500");
        assert_eq!(answer(&mut site, "GET /healthcheck").2, "3\n10\n");
    }

    #[test]
    fn all_but_checks_are_held_back() {
        let mut site = site(0, 0, false);
        let mut delay = |line: &str| ask(&mut site, line).delay.as_millis();
        assert_eq!(delay("GET /healthcheck"), 0);
        assert_eq!(delay("GET /a"), 5);
        assert_eq!(delay("GET /delay/20"), 25);
        assert_eq!(delay("POST /"), 5);
    }

    #[test]
    fn methods_are_known_or_told() {
        let mut site = site(0, 0, false);
        let allow = "Allow: GET, HEAD, OPTIONS, POST\r\n";
        for (line, status, fields) in [
            ("GET /any/where", 200, ""),
            ("POST /any/where", 200, ""),
            ("OPTIONS *", 204, allow),
            ("OPTIONS /", 204, allow),
            ("PUT /file", 405, allow),
            ("DELETE /", 405, allow),
            ("BREW /", 405, allow),
        ] {
            let found = answer(&mut site, line);
            assert_eq!((found.0, found.1.as_str()), (status, fields), "{line}");
        }
        assert_eq!(answer(&mut site, "POST /").2, "7 bytes of content\n");
    }

    #[test]
    fn a_page_names_the_server_without_becoming_its_markup() {
        let mut site = site(0, 0, false);
        assert_eq!(answer(&mut site, "GET /").2, "hello from a<b\n");
        site.set_page("<p>{name}");
        assert_eq!(answer(&mut site, "GET /?x").2, "<p>a&lt;b");
        assert_eq!(answer(&mut site, "GET http://a").2, "<p>a&lt;b");
        assert_eq!(answer(&mut site, "GET /hello").2, "hello from a<b\n");
    }
}
