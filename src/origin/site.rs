//! The site: what each request gets, and the report of what was done.
//!
//! Decides twice: when the head is there, what is to be done (`ask`), and when all of the request
//! is there and its time has come, what is said (`answer`). Knows no connection.

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use log::info;

use super::answer::{Answer, Body, HTML};
use super::control;
use super::files::{self, Folder, Found, Kept, Upload};
use super::names::{self, Denied};
use super::order::{Order, order};
use super::work::Work;
use crate::cli;
use crate::http::body::Framing;
use crate::http::head::{Refusal, Request, Version};
use crate::net::Time;

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
    /// Who is served, and who waits for it.
    pub(super) work: Work,
    requests: u64,
    errors: u64,
    fixed_report: bool,
    orca: bool,
    /// Whether clients may change how requests are served.
    control: bool,
}

/// One request, as far as its answer depends on it.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) job: Job,
    pub(super) effort: Effort,
    /// Whether it is a HEAD: the answer's content is left out.
    pub(super) is_head: bool,
    pub(super) version: Version,
    /// Whether the client would like to send another request.
    pub(super) keep_alive: bool,
}

/// What a request costs the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effort {
    /// Nothing, and it is not counted: it only asks how the others fare.
    Aside,
    /// Nothing.
    None,
    /// A worker, for the service time and so much longer.
    Worker(Duration),
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
    /// Be one of those that fail.
    Fail,
    /// Change how requests are served, as this query says.
    Control(String),
}

impl Site {
    /// The site of `settings`, which begins `now`.
    ///
    /// # Errors
    /// Its folder cannot be served.
    pub(super) fn new(settings: &cli::Origin, now: Time) -> io::Result<Site> {
        let name = settings.name.clone().unwrap_or_else(|| NAME.to_owned());
        Ok(Site {
            hello: format!("hello from {name}"),
            folder: settings.dir.as_deref().map(Folder::open).transpose()?,
            page: None,
            work: Work::new(settings.service, settings.seed, now),
            requests: settings.load,
            errors: settings.errors,
            fixed_report: settings.fixed_report,
            orca: settings.orca,
            control: settings.control,
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
        let mut parts = request.target.splitn(2, |byte| *byte == b'?');
        let path = parts.next().unwrap_or_default();
        let is_read = matches!(request.method_name, b"GET" | b"HEAD");
        let (job, effort) = if is_read && path == REPORT_PATH {
            (Job::Report, Effort::Aside)
        } else if self.control && path == control::PATH && request.method_name == b"POST" {
            let query = String::from_utf8_lossy(parts.next().unwrap_or_default());
            (Job::Control(query.into_owned()), Effort::Aside)
        } else {
            if !self.fixed_report {
                self.requests = self.requests.saturating_add(1);
            }
            self.decide(path, request)
        };
        Asked {
            job,
            effort,
            is_head: request.method_name == b"HEAD",
            version: request.version,
            keep_alive: request.keep_alive,
        }
    }

    /// What is to be done for a request that counts, and what that costs.
    fn decide(&mut self, path: &[u8], request: &Request<'_>) -> (Job, Effort) {
        if self.work.draws_failure() {
            return (Job::Fail, Effort::None);
        }
        let mut extra = Duration::ZERO;
        let job = match request.method_name {
            b"GET" | b"HEAD" => self.get(path, &mut extra),
            b"PUT" => self.put(path, request).unwrap_or_else(Job::Refuse),
            b"POST" if path == control::PATH => {
                Job::Refuse((404, "this server takes no orders (see --control)"))
            }
            b"POST" => Job::Count,
            b"OPTIONS" => Job::Options,
            _ => Job::MethodUnknown,
        };
        (job, Effort::Worker(extra))
    }

    fn get(&self, path: &[u8], extra: &mut Duration) -> Job {
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
                *extra = more;
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
        let is_aside = matches!(job, Job::Report | Job::Control(_));
        let answer = self.perform(job, content).unwrap_or_else(refusal);
        let is_error = answer.status >= 500;
        if is_error && !self.fixed_report {
            self.errors = self.errors.saturating_add(1);
        }
        if !is_aside {
            self.work.answered(is_error);
        }
        match self.orca {
            true => answer.with("endpoint-load-metrics", &self.work.metrics()),
            false => answer,
        }
    }

    /// What is said to a request that breaks a rule.
    pub(super) fn refuse(&mut self, refused: Refusal) -> Answer {
        let rule = refused.rule();
        self.answer(Job::Refuse((rule.status, rule.text)), 0)
    }

    /// Changes how requests are served, and says how they are from now on.
    fn change(&mut self, query: &str) -> Answer {
        match control::changed(self.work.service(), query) {
            Ok(service) => {
                info!("served from now on: {service}");
                self.work.change(service);
                Answer::text(200, &service.to_string())
            }
            Err(text) => Answer::text(400, &text),
        }
    }

    fn perform(&mut self, job: Job, content: u64) -> Result<Answer, Denied> {
        Ok(match job {
            Job::Report => Answer::text(200, &self.report()),
            Job::Fail => Answer::text(500, "failed, as this server is told to"),
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
            Job::Control(query) => self.change(&query),
        })
    }

    /// The two numbers, and what else there is to say. A fixed report is those two and no more.
    fn report(&self) -> String {
        let (errors, requests) = (self.errors, self.requests);
        match self.fixed_report {
            true => format!("{errors}\n{requests}"),
            false => format!("{errors}\n{requests}\nin_flight={}", self.work.in_flight()),
        }
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
            load,
            errors,
            fixed_report,
            ..cli::Origin::new(crate::config::Address::Unix("/nowhere".into()))
        };
        Site::new(&settings, Time(0)).unwrap()
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
        assert_eq!(
            answer(&mut site, "GET /healthcheck").2,
            "3\n10\nin_flight=0\n"
        );
        answer(&mut site, "GET /");
        answer(&mut site, "GET /status/500");
        answer(&mut site, "POST /healthcheck");
        answer(&mut site, "GET /status/404");
        site.refuse(Refusal::NoHost);
        assert_eq!(
            answer(&mut site, "HEAD /healthcheck?x=y").2,
            "4\n14\nin_flight=0\n"
        );
        site.refuse(Refusal::EncodingUnknown);
        assert_eq!(
            answer(&mut site, "GET /healthcheck").2,
            "5\n14\nin_flight=0\n"
        );
    }

    #[test]
    fn a_fixed_report_stays() {
        let mut site = site(3, 10, true);
        answer(&mut site, "GET /status/500");
        assert_eq!(answer(&mut site, "GET /healthcheck").2, "3\n10\n");
    }

    #[test]
    fn all_but_checks_need_a_worker() {
        let mut site = site(0, 0, false);
        let mut effort = |line: &str| ask(&mut site, line).effort;
        let worker = |ms| Effort::Worker(Duration::from_millis(ms));
        assert_eq!(effort("GET /healthcheck"), Effort::Aside);
        assert_eq!(effort("GET /a"), worker(0));
        assert_eq!(effort("GET /delay/20"), worker(20));
        assert_eq!(effort("POST /"), worker(0));
    }

    #[test]
    fn what_fails_needs_no_worker_and_does_nothing() {
        let mut settings = cli::Origin::new(crate::config::Address::Unix("/nowhere".into()));
        settings.service.fail = 1.0;
        let mut site = Site::new(&settings, Time(0)).unwrap();
        for line in ["GET /bytes/9", "POST /", "PUT /file", "BREW /"] {
            assert_eq!(ask(&mut site, line).effort, Effort::None, "{line}");
            assert_eq!(answer(&mut site, line).0, 500, "{line}");
        }
        assert_eq!(
            answer(&mut site, "GET /healthcheck").2,
            "4\n8\nin_flight=0\n"
        );
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
