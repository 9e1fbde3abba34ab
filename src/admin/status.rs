//! `/status` and its parts as JSON. The keys are those of `openapi.json`, which a test holds together.

use std::fmt;

use super::feed::Changed;
use super::json::Json;
use super::view::{Clock, Row, State, View};
use crate::metrics::{CLASSES, FAILURES, Histogram, Summary};
use crate::net::Time;
use crate::report::Report;

/// All that is known.
pub fn write(json: &mut Json<'_>, view: &View<'_>) {
    let metrics = view.metrics;
    let clock = view.clock;
    json.object(|json| {
        json.key("version").text(env!("CARGO_PKG_VERSION"));
        json.key("time").number(clock.unix_seconds(clock.now));
        json.key("uptime_seconds")
            .seconds(clock.now.since(metrics.began));
        json.key("state").text(state(view.is_draining));
        json.key("listen").text(&view.listen.to_string());
        json.key("policy").text(&view.policy.to_string());
        json.key("token_required").truth(view.has_token);
        for (name, count) in [
            ("pairs", view.pairs as u64),
            ("pairs_max", view.pairs_max as u64),
            ("queue", view.queue as u64),
            ("clients", view.clients as u64),
            ("clients_max", view.clients_max as u64),
            ("links", view.links as u64),
            ("requests_total", metrics.requests),
            ("errors_total", metrics.errors),
            ("replies_total", metrics.replies),
            ("refused_total", metrics.refused),
            ("accepts_total", metrics.accepts),
            ("client_received_bytes_total", view.clients_moved.received),
            ("client_sent_bytes_total", view.clients_moved.sent),
            ("server_received_bytes_total", view.links_moved.received),
            ("server_sent_bytes_total", view.links_moved.sent),
        ] {
            json.key(name).whole(count);
        }
        summary(json.key("queue_wait"), &metrics.queue_wait);
        json.key("loop_turns_total").whole(metrics.turns);
        summary(json.key("loop_lag"), &metrics.lag);
        json.key("access_log_lost_total")
            .whole(view.access_log_lost);
        json.key("bugs_total").whole(view.bugs);
        json.key("guesses_total").whole(metrics.guesses);
        servers(json.key("servers"), clock, &view.servers);
        json.key("changes").array(|json| {
            for change in &view.changes {
                self::change(json, clock, change);
            }
        });
    });
}

/// What the process does.
pub fn state(is_draining: bool) -> &'static str {
    if is_draining { "draining" } else { "serving" }
}

/// All servers.
pub fn servers(json: &mut Json<'_>, clock: Clock, rows: &[Row<'_>]) {
    json.array(|json| {
        for row in rows {
            server(json, clock, row);
        }
    });
}

/// One server.
pub fn server(json: &mut Json<'_>, clock: Clock, row: &Row<'_>) {
    let metrics = row.metrics;
    json.object(|json| {
        json.key("name").text(row.name);
        json.key("address").text(&row.address.to_string());
        json.key("state").text(row.state.name());
        json.key("reason").text(row.reason);
        json.key("since").number(clock.unix_seconds(row.since));
        json.key("health").text(State::of(row.health).name());
        json.key("setting").text(row.setting);
        json.key("weight").number(row.weight);
        json.key("max").maybe(row.max, |json, max| json.whole(max));
        json.key("backup").truth(row.is_backup);
        json.key("in_flight").whole(row.in_flight);
        json.key("pooled").whole(row.pooled);
        report(json.key("report"), clock, row.report);
        json.key("responses").object(|json| {
            for (class, count) in CLASSES.iter().zip(metrics.responses) {
                json.key(class).whole(count);
            }
        });
        json.key("failures").object(|json| {
            for (kind, count) in FAILURES.iter().zip(metrics.failures) {
                json.key(kind).whole(count);
            }
        });
        json.key("checks").object(|json| {
            json.key("passed").whole(metrics.checks_passed);
            json.key("failed").whole(metrics.checks_failed);
        });
        json.key("requests_total").whole(metrics.requests);
        json.key("retries_total").whole(metrics.retries);
        json.key("connects_total").whole(metrics.connects);
        summary(json.key("latency"), &metrics.latency);
    });
}

/// What a server reported last, and when.
pub fn report(json: &mut Json<'_>, clock: Clock, report: Option<(Report, Time)>) {
    json.maybe(report, |json, (report, at)| {
        json.object(|json| {
            json.key("load").whole(report.load);
            json.key("errors").whole(report.errors);
            json.key("time").number(clock.unix_seconds(at));
        });
    });
}

/// A server's change of state.
pub fn change(json: &mut Json<'_>, clock: Clock, change: &Changed) {
    json.object(|json| {
        json.key("time").number(clock.unix_seconds(change.at));
        json.key("server").text(&change.server);
        json.key("from").maybe(change.from, Json::text);
        json.key("to").text(change.to);
        json.key("reason").text(&change.reason);
    });
}

fn summary(json: &mut Json<'_>, times: &Histogram) {
    json.maybe(times.summary(), |json, found: Summary| {
        json.object(|json| {
            json.key("count").whole(found.count);
            json.key("mean_seconds").seconds(found.mean);
            json.key("p50_seconds").seconds(found.p50);
            json.key("p90_seconds").seconds(found.p90);
            json.key("p99_seconds").seconds(found.p99);
            json.key("max_seconds").seconds(found.max);
        });
    });
}

/// The balancer's own report, in the form that it reads itself (see `report`).
pub fn own_report(view: &View<'_>) -> impl fmt::Display {
    format!(
        "{}\n{}\nin_flight={}\n{}",
        view.metrics.errors,
        view.metrics.requests,
        view.pairs + view.queue,
        if view.is_draining { "drain=1\n" } else { "" },
    )
}
