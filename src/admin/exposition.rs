//! `/metrics`: the text format 0.0.4 of Prometheus.
//!
//! Each name is told once, with its help and its type, and then for all servers.

use std::fmt::{Display, Write as _};

use super::json::Bytes;
use super::view::{Row, State, View};
use crate::health::Standing;
use crate::metrics::{BOUND_NAMES, CLASSES, FAILURES, Histogram};

/// Appends all metrics to `out`.
pub fn write(out: &mut Vec<u8>, view: &View<'_>) {
    let mut page = Page { out: Bytes(out) };
    page.process(view);
    page.loops(view);
    page.servers(view);
}

/// What kind of number a metric is.
#[derive(Clone, Copy)]
enum Kind {
    Counter,
    Gauge,
    Histogram,
}

struct Page<'o> {
    out: Bytes<'o>,
}

impl Page<'_> {
    fn process(&mut self, view: &View<'_>) {
        let metrics = view.metrics;
        self.name("build_info", Kind::Gauge, "What runs; always 1.");
        self.line("build_info", &[("version", env!("CARGO_PKG_VERSION"))], 1);
        let began = view.clock.unix_seconds(metrics.began);
        self.one(
            "start_time_seconds",
            Kind::Gauge,
            "When it began to serve, since 1970.",
            began,
        );
        for (name, help, value) in [
            ("pairs", "Requests under way at servers.", view.pairs),
            ("pairs_max", "The most of them at once (N).", view.pairs_max),
            (
                "queue_length",
                "Requests that wait for one of the N places.",
                view.queue,
            ),
            ("clients", "Client connections.", view.clients),
            ("clients_max", "The most of them at once.", view.clients_max),
            (
                "links",
                "Connections to servers, pooled ones included.",
                view.links,
            ),
        ] {
            self.one(name, Kind::Gauge, help, value);
        }
        for (name, help, value) in [
            (
                "requests_total",
                "Requests that ended, with a response or without.",
                metrics.requests,
            ),
            (
                "request_errors_total",
                "Those that ended with a status of 500 or more, or were cut off by a server.",
                metrics.errors,
            ),
            (
                "replies_total",
                "Those that were answered here in a server's stead.",
                metrics.replies,
            ),
            (
                "requests_refused_total",
                "Those that broke a rule of HTTP.",
                metrics.refused,
            ),
            ("accepts_total", "Clients accepted.", metrics.accepts),
            ("guesses_total", "Choices of a server.", metrics.guesses),
            (
                "access_log_lost_total",
                "Lines of the access log that could not be written.",
                view.access_log_lost,
            ),
            (
                "bugs_total",
                "Mistakes of bestguess itself that cost a client its connection.",
                view.bugs,
            ),
        ] {
            self.one(name, Kind::Counter, help, value);
        }
        let (clients, links) = (view.clients_moved, view.links_moved);
        for (name, help, values) in [
            (
                "received_bytes_total",
                "Bytes received.",
                [clients.received, links.received],
            ),
            (
                "sent_bytes_total",
                "Bytes sent.",
                [clients.sent, links.sent],
            ),
        ] {
            self.name(name, Kind::Counter, help);
            for (side, value) in ["client", "server"].iter().zip(values) {
                self.line(name, &[("side", side)], value);
            }
        }
        let wait = "How long requests waited that found no place free at once.";
        self.name("queue_wait_seconds", Kind::Histogram, wait);
        self.histogram("queue_wait_seconds", None, &metrics.queue_wait);
    }

    fn loops(&mut self, view: &View<'_>) {
        let help = "Passes of the loop.";
        self.one("loop_turns_total", Kind::Counter, help, view.metrics.turns);
        let help = "How long a pass of the loop took, of those that were timed: one in eight, \
            and all with many events.";
        self.name("loop_lag_seconds", Kind::Histogram, help);
        self.histogram("loop_lag_seconds", None, &view.metrics.lag);
    }

    fn servers(&mut self, view: &View<'_>) {
        let rows = &view.servers;
        let is = |truth: bool| u8::from(truth);
        self.each(
            "server_valid",
            Kind::Gauge,
            "Whether its checks pass.",
            rows,
            |row| Some(is(row.health == Standing::Valid)),
        );
        self.each(
            "server_draining",
            Kind::Gauge,
            "Whether it gets no new requests because somebody said so.",
            rows,
            |row| Some(is(matches!(row.state, State::Draining | State::Disabled))),
        );
        self.each(
            "server_weight",
            Kind::Gauge,
            "Its share of the work, relative to the others.",
            rows,
            |row| Some(row.weight),
        );
        self.each(
            "server_in_flight",
            Kind::Gauge,
            "Our requests that are at it now.",
            rows,
            |row| Some(row.in_flight),
        );
        self.each(
            "server_pooled_links",
            Kind::Gauge,
            "Connections to it that wait to be used again.",
            rows,
            |row| Some(row.pooled),
        );
        self.each(
            "server_reported_load",
            Kind::Gauge,
            "Requests that it last said it had counted.",
            rows,
            |row| row.report.map(|(report, _)| report.load),
        );
        self.each(
            "server_reported_errors",
            Kind::Gauge,
            "Errors that it last said it had counted.",
            rows,
            |row| row.report.map(|(report, _)| report.errors),
        );
        self.each(
            "server_report_age_seconds",
            Kind::Gauge,
            "How old that report is.",
            rows,
            |row| {
                let (_, at) = row.report?;
                Some(view.clock.now.since(at).as_secs_f64())
            },
        );
        self.each(
            "server_requests_total",
            Kind::Counter,
            "Requests sent to it, second tries included.",
            rows,
            |row| Some(row.metrics.requests),
        );
        self.each(
            "server_retries_total",
            Kind::Counter,
            "Requests that went on to another server because this one failed them.",
            rows,
            |row| Some(row.metrics.retries),
        );
        self.each(
            "server_connects_total",
            Kind::Counter,
            "Connections begun to it for requests.",
            rows,
            |row| Some(row.metrics.connects),
        );
        self.by(
            "server_responses_total",
            "Its final responses, by class of status.",
            ("class", &CLASSES),
            rows,
            |row| row.metrics.responses,
        );
        self.by(
            "server_failures_total",
            "Requests that it failed, by how.",
            ("kind", &FAILURES),
            rows,
            |row| row.metrics.failures,
        );
        self.by(
            "server_checks_total",
            "Checks of it, by outcome.",
            ("outcome", &["passed", "failed"]),
            rows,
            |row| [row.metrics.checks_passed, row.metrics.checks_failed],
        );
        let help = "From sending a request to the head of its final response.";
        self.name("server_response_seconds", Kind::Histogram, help);
        for row in rows {
            let times = &row.metrics.latency;
            self.histogram("server_response_seconds", Some(row.name), times);
        }
    }

    fn name(&mut self, name: &str, kind: Kind, help: &str) {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        self.put(format_args!(
            "# HELP bestguess_{name} {help}\n# TYPE bestguess_{name} {kind}\n"
        ));
    }

    fn one(&mut self, name: &str, kind: Kind, help: &str, value: impl Display) {
        self.name(name, kind, help);
        self.line(name, &[], value);
    }

    /// One value of each server that has it.
    fn each<T: Display>(
        &mut self,
        name: &str,
        kind: Kind,
        help: &str,
        rows: &[Row<'_>],
        value: impl Fn(&Row<'_>) -> Option<T>,
    ) {
        self.name(name, kind, help);
        for row in rows {
            if let Some(value) = value(row) {
                self.line(name, &[("server", row.name)], value);
            }
        }
    }

    /// Some values of each server, told apart by one more label.
    fn by<const COUNT: usize>(
        &mut self,
        name: &str,
        help: &str,
        (label, words): (&str, &[&str; COUNT]),
        rows: &[Row<'_>],
        values: impl Fn(&Row<'_>) -> [u64; COUNT],
    ) {
        self.name(name, Kind::Counter, help);
        for row in rows {
            for (word, value) in words.iter().zip(values(row)) {
                self.line(name, &[("server", row.name), (label, word)], value);
            }
        }
    }

    fn histogram(&mut self, name: &str, server: Option<&str>, times: &Histogram) {
        let bucket = format!("{name}_bucket");
        // Those of the process have no server.
        let skip = usize::from(server.is_none());
        let server = ("server", server.unwrap_or_default());
        let counts = times.cumulative().chain([times.count()]);
        for (bound, count) in BOUND_NAMES.iter().chain(&["+Inf"]).zip(counts) {
            let labels = [server, ("le", *bound)];
            self.line(&bucket, labels.get(skip..).unwrap_or_default(), count);
        }
        let labels = [server];
        let labels = labels.get(skip..).unwrap_or_default();
        let sum = times.sum().as_secs_f64();
        self.line(&format!("{name}_sum"), labels, sum);
        self.line(&format!("{name}_count"), labels, times.count());
    }

    fn line(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        self.put(format_args!("bestguess_{name}"));
        for (place, (label, text)) in labels.iter().enumerate() {
            let open = if place == 0 { '{' } else { ',' };
            self.put(format_args!("{open}{label}=\"{}\"", Escaped(text)));
        }
        let close = if labels.is_empty() { "" } else { "}" };
        self.put(format_args!("{close} {value}\n"));
    }

    fn put(&mut self, text: impl Display) {
        // Bytes take all that they are given.
        let _ = write!(self.out, "{text}");
    }
}

/// The value of a label: backslashes, quotes and line ends are escaped.
struct Escaped<'t>(&'t str);

impl Display for Escaped<'_> {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for character in self.0.chars() {
            match character {
                '\\' => out.write_str("\\\\")?,
                '"' => out.write_str("\\\"")?,
                '\n' => out.write_str("\\n")?,
                _ => out.write_char(character)?,
            }
        }
        Ok(())
    }
}
