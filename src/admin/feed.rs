//! What happens, for those who read along: changes of servers, choices, and figures once a second.
//!
//! Every event is written once, whoever many read it, and only if somebody does. Choices are told
//! up to a number a second; how many were left out is told as well.

use std::collections::VecDeque;
use std::time::Duration;

use super::json::Json;
use super::status;
use super::view::{Row, State, View};
use crate::metrics::Histogram;
use crate::net::Time;

/// Changes that are remembered.
const CHANGES_MAX: usize = 100;
/// Figures are told this often.
pub const FIGURES_EVERY: Duration = Duration::from_secs(1);
/// Choices that are told of between two figures.
const CHOICES_MAX: u32 = 20;
/// Those who read along at most.
pub const SUBSCRIBERS_MAX: usize = 16;

/// A server's state has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changed {
    /// When.
    pub at: Time,
    /// Its name.
    pub server: String,
    /// Its state before; none: it was added.
    pub from: Option<&'static str>,
    /// Its state now, or `removed`.
    pub to: &'static str,
    /// Why.
    pub reason: String,
}

/// What was told last.
#[derive(Debug, Default)]
pub struct Feed {
    changes: VecDeque<Changed>,
    /// When figures are due; none: nobody reads along.
    due: Option<Time>,
    last: Time,
    requests: u64,
    choices: u32,
    left_out: u64,
    servers: Vec<Shown>,
}

/// What was told of a server last.
#[derive(Debug, Default)]
struct Shown {
    figures: Option<(State, f64, u32, usize, Option<Time>)>,
    requests: u64,
    latency: Histogram,
}

impl Feed {
    /// The last changes, the oldest first.
    pub fn changes(&self) -> impl Iterator<Item = &Changed> {
        self.changes.iter()
    }

    /// When figures are due, if anybody reads them.
    pub fn due(&self) -> Option<Time> {
        self.due
    }

    /// A server has changed.
    pub fn change(&mut self, changed: Changed) {
        if self.changes.len() == CHANGES_MAX {
            self.changes.pop_front();
        }
        self.changes.push_back(changed);
    }

    /// So many read along from `now` on.
    pub fn read_by(&mut self, subscribers: usize, now: Time, requests: u64) {
        if subscribers == 0 {
            self.due = None;
            self.servers = Vec::new();
        } else if self.due.is_none() {
            self.due = Some(now + FIGURES_EVERY);
            (self.last, self.requests) = (now, requests);
            (self.choices, self.left_out) = (0, 0);
        }
    }

    /// Whether a choice is told of: somebody reads along, and there were not too many.
    pub fn takes_choice(&mut self) -> bool {
        if self.due.is_none() {
            return false;
        }
        self.choices += 1;
        let is_taken = self.choices <= CHOICES_MAX;
        self.left_out += u64::from(!is_taken);
        is_taken
    }

    /// Writes the figures of now, with those servers of which anything has changed.
    pub fn figures(&mut self, json: &mut Json<'_>, view: &View<'_>) {
        let clock = view.clock;
        let span = clock.now.since(self.last).as_secs_f64().max(1e-3);
        let requests = view.metrics.requests;
        let slots = view.servers.iter().map(|row| row.index + 1).max();
        self.servers.resize_with(slots.unwrap_or(0), Shown::default);
        let mut latency = Histogram::default();
        let mut rows = Vec::new();
        for row in &view.servers {
            if let Some(shown) = self.servers.get_mut(row.index) {
                let now = shown.look(row, &mut latency);
                rows.extend(now.map(|(requests, times)| (row, requests, times)));
            }
        }
        json.object(|json| {
            json.key("time").number(clock.unix_seconds(clock.now));
            json.key("state").text(status::state(view.is_draining));
            for (name, count) in [
                ("pairs", view.pairs as u64),
                ("queue", view.queue as u64),
                ("clients", view.clients as u64),
                ("links", view.links as u64),
                ("requests_total", requests),
            ] {
                json.key(name).whole(count);
            }
            let since = requests.saturating_sub(self.requests) as f64;
            json.key("requests_per_second").number(since / span);
            json.key("errors_total").whole(view.metrics.errors);
            json.key("replies_total").whole(view.metrics.replies);
            quantiles(json, &latency);
            json.key("guesses_left_out").whole(self.left_out);
            json.key("servers_count").whole(view.servers.len());
            json.key("servers").array(|json| {
                for (row, requests, times) in &rows {
                    json.object(|json| {
                        json.key("name").text(row.name);
                        json.key("state").text(row.state.name());
                        json.key("reason").text(row.reason);
                        json.key("setting").text(row.setting);
                        json.key("weight").number(row.weight);
                        json.key("in_flight").whole(row.in_flight);
                        json.key("pooled").whole(row.pooled);
                        json.key("requests_total").whole(row.metrics.requests);
                        json.key("requests_per_second")
                            .number(*requests as f64 / span);
                        let failures: u64 = row.metrics.failures.iter().sum();
                        json.key("failures_total").whole(failures);
                        quantiles(json, times);
                        status::report(json.key("report"), clock, row.report);
                    });
                }
            });
        });
        (self.last, self.requests) = (clock.now, requests);
        (self.choices, self.left_out) = (0, 0);
        self.due = Some(clock.now + FIGURES_EVERY);
    }
}

impl Shown {
    /// What is new of a server: its requests and their times since it was looked at last. None: all
    /// is as it was.
    fn look(&mut self, row: &Row<'_>, all: &mut Histogram) -> Option<(u64, Histogram)> {
        let report = row.report.map(|(_, at)| at);
        let figures = (row.state, row.weight, row.in_flight, row.pooled, report);
        if row.metrics.requests < self.requests {
            // Another server has this slot now.
            *self = Shown::default();
        }
        let requests = row.metrics.requests - self.requests;
        let times = row.metrics.latency.since(&mut self.latency);
        all.merge(&times);
        let is_new =
            self.figures.replace(figures) != Some(figures) || requests > 0 || times.count() > 0;
        self.requests = row.metrics.requests;
        is_new.then_some((requests, times))
    }
}

fn quantiles(json: &mut Json<'_>, times: &Histogram) {
    let found = times.summary();
    json.key("latency_p50_seconds")
        .maybe(found, |json, found| json.seconds(found.p50));
    json.key("latency_p99_seconds")
        .maybe(found, |json, found| json.seconds(found.p99));
}
