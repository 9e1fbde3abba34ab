//! The table of all decisions, compared with `table.txt`, and the ones that matter most as facts.
//!
//! `UPDATE_TABLE=1 cargo test exchange` writes the table anew; read its difference as a change of
//! behaviour, for that is what it is.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::*;
use crate::http::head;

/// One row: the value of each dimension, and what follows. `*` stands for every value.
type Row = (Vec<&'static str>, String);

const METHODS: [(&str, Method); 3] = [
    ("HEAD", Method::Head),
    ("GET", Method::Idempotent),
    ("POST", Method::Other),
];
const YES_NO: [(&str, bool); 2] = [("no", false), ("yes", true)];
const WAITINGS: [Waiting; 7] = [
    Waiting::Head,
    Waiting::Place,
    Waiting::Connection,
    Waiting::Content,
    Waiting::Server,
    Waiting::Reader,
    Waiting::Tunnel,
];
const DIMENSIONS: [&str; 10] = [
    "request", "response", "method", "version", "sent", "whole", "upgrade", "next", "link",
    "interims",
];

fn requests() -> [(&'static str, RequestState); 3] {
    let meter = Meter::new(Framing::Length(5), Keep::Chunks);
    [
        ("head", RequestState::Head),
        ("content", RequestState::Content(meter)),
        ("complete", RequestState::Complete),
    ]
}

fn responses() -> [(&'static str, ResponseState); 6] {
    let content = |framing| ResponseState::Content(Meter::new(framing, Keep::Chunks));
    [
        ("awaited", ResponseState::Awaited),
        ("length", content(Framing::Length(5))),
        ("chunks", content(Framing::Chunked)),
        ("to-close", content(Framing::UntilClose)),
        ("complete", ResponseState::Complete),
        (
            "tunnel",
            ResponseState::Tunnel {
                up: Half::Open,
                down: Half::Ended,
            },
        ),
    ]
}

/// Every state that an exchange can be in, and some that it can not.
fn states() -> Vec<(Vec<&'static str>, Exchange)> {
    let mut states = Vec::new();
    for choice in 0..3 * 6 * 3 * 128 {
        let mut left = choice;
        let mut take = |count: usize| {
            let taken = left % count;
            left /= count;
            taken
        };
        let (request_name, request) = requests().into_iter().nth(take(3)).unwrap();
        let (response_name, response) = responses().into_iter().nth(take(6)).unwrap();
        let (method_name, method) = METHODS[take(3)];
        let (version_name, version) = [("1.0", Version::Http10), ("1.1", Version::Http11)][take(2)];
        let [sent, whole, upgrade, next, link, interims] = std::array::from_fn(|_| YES_NO[take(2)]);
        let exchange = Exchange {
            request,
            response,
            method,
            version,
            is_sent: sent.1,
            is_whole: whole.1,
            offered: if upgrade.1 {
                b"sim".to_vec()
            } else {
                Vec::new()
            },
            expectation: Expectation::None,
            may_ask_more: true,
            keep_client: next.1,
            keep_link: link.1,
            idle_seconds: None,
            reframing: Reframing::None,
            trailers: false,
            is_until_close: false,
            interims: u8::from(interims.1),
        };
        let names = vec![
            request_name,
            response_name,
            method_name,
            version_name,
            sent.0,
            whole.0,
            upgrade.0,
            next.0,
            link.0,
            interims.0,
        ];
        states.push((names, exchange));
    }
    states
}

/// Joins rows that differ in one dimension only, where all its values come to the same.
fn joined(mut rows: Vec<Row>, dimensions: usize) -> Vec<Row> {
    for dimension in 0..dimensions {
        let mut values: Vec<&str> = rows.iter().map(|row| row.0[dimension]).collect();
        values.sort_unstable();
        values.dedup();
        let mut groups: BTreeMap<Row, Vec<&'static str>> = BTreeMap::new();
        for (mut names, outcome) in rows {
            let value = std::mem::replace(&mut names[dimension], "*");
            groups.entry((names, outcome)).or_default().push(value);
        }
        rows = Vec::new();
        for ((names, outcome), found) in groups {
            if found.len() == values.len() {
                rows.push((names, outcome));
                continue;
            }
            for value in found {
                let mut names = names.clone();
                names[dimension] = value;
                rows.push((names, outcome.clone()));
            }
        }
    }
    rows.sort();
    rows
}

fn print(out: &mut String, title: &str, dimensions: &[&str], rows: Vec<Row>) {
    let rows = joined(rows, dimensions.len());
    // What plays no part anywhere is left out.
    let shown: Vec<usize> = (0..dimensions.len())
        .filter(|index| rows.iter().any(|row| row.0[*index] != "*"))
        .collect();
    writeln!(out, "{title}").unwrap();
    let mut line = |cells: Vec<&str>, outcome: &str| {
        let cells: String = cells
            .into_iter()
            .map(|cell| format!("{cell:<10}"))
            .collect();
        writeln!(out, "  {cells}{outcome}").unwrap();
    };
    line(shown.iter().map(|index| dimensions[*index]).collect(), "=>");
    for (names, outcome) in rows {
        line(shown.iter().map(|index| names[*index]).collect(), &outcome);
    }
    out.push('\n');
}

/// The section of one event: every state against it.
fn section(out: &mut String, title: &str, outcome: impl Fn(&Exchange) -> String) {
    let rows = states()
        .into_iter()
        .map(|(names, exchange)| (names, outcome(&exchange)))
        .collect();
    print(out, title, &DIMENSIONS, rows);
}

const HEADS: [(&str, &str); 9] = [
    ("103", "HTTP/1.1 103 x\r\n\r\n"),
    ("101", "HTTP/1.1 101 x\r\nUpgrade: sim\r\n\r\n"),
    ("101 in 1.0", "HTTP/1.0 101 x\r\nUpgrade: sim\r\n\r\n"),
    ("length", "HTTP/1.1 200 x\r\nContent-Length: 5\r\n\r\n"),
    (
        "length, close",
        "HTTP/1.1 200 x\r\nContent-Length: 5\r\nConnection: close\r\n\r\n",
    ),
    ("nothing", "HTTP/1.1 200 x\r\nContent-Length: 0\r\n\r\n"),
    (
        "chunks",
        "HTTP/1.1 200 x\r\nTransfer-Encoding: chunked\r\n\r\n",
    ),
    ("to close", "HTTP/1.1 200 x\r\n\r\n"),
    ("204, 1.0", "HTTP/1.0 204 x\r\n\r\n"),
];

fn hear(exchange: &mut Exchange, text: &str) -> String {
    let mut slots = head::slots();
    let response = head::response(text.as_bytes(), exchange.method, &mut slots)
        .ok()
        .unwrap();
    match exchange.hear(&response, true) {
        Err(refusal) => format!("refused: {refusal:?}"),
        Ok(Heard::Interim) => "interim".to_owned(),
        Ok(Heard::Switch) => "tunnel".to_owned(),
        Ok(Heard::Final) => {
            let state = if matches!(exchange.response, ResponseState::Complete) {
                "complete"
            } else {
                "content"
            };
            let kept = |keeps, what| if keeps { what } else { "" };
            format!(
                "{state}{}{}",
                kept(exchange.keep_client, ", next"),
                kept(exchange.keep_link, ", link")
            )
        }
    }
}

fn table() -> String {
    let mut out = String::new();
    section(&mut out, "the link ends in good order", |exchange| {
        format!("{:?}", exchange.lost(true))
    });
    section(&mut out, "the link breaks", |exchange| {
        format!("{:?}", exchange.lost(false))
    });
    section(&mut out, "may it go to another server", |exchange| {
        exchange.may_go_again().to_string()
    });
    for waiting in WAITINGS {
        section(
            &mut out,
            &format!("a deadline is over, waiting: {waiting:?}"),
            |exchange| format!("{:?}", exchange.overdue(waiting)),
        );
    }
    for (title, rest) in [
        ("the response is passed on", false),
        ("the same, with bytes left over", true),
    ] {
        section(&mut out, title, |exchange| {
            let ending = exchange.ending(rest);
            format!(
                "{:?}{}",
                ending.client,
                if ending.keep_link { ", link" } else { "" }
            )
        });
    }
    for (name, text) in HEADS {
        let awaited = states()
            .into_iter()
            .filter(|(names, _)| names[1] == "awaited");
        let rows = awaited
            .map(|(names, mut exchange)| (names, hear(&mut exchange, text)))
            .collect();
        print(
            &mut out,
            &format!("a response head: {name}"),
            &DIMENSIONS,
            rows,
        );
    }
    while out.ends_with("\n\n") {
        out.pop();
    }
    out
}

#[test]
fn every_state_against_every_event_is_as_in_the_table() {
    let table = table();
    if std::env::var_os("UPDATE_TABLE").is_some() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/exchange/table.txt");
        std::fs::write(path, &table).unwrap();
        return;
    }
    let known = include_str!("table.txt");
    for (number, (known, now)) in known.lines().zip(table.lines()).enumerate() {
        assert_eq!(
            known,
            now,
            "line {}; UPDATE_TABLE=1 writes the table anew",
            number + 1
        );
    }
    assert_eq!(known, table, "UPDATE_TABLE=1 writes the table anew");
}

/// An exchange whose request was read, to the end unless it has content.
fn asked(request: &str) -> Exchange {
    let mut slots = head::slots();
    let request = head::request(request.as_bytes(), &mut slots).ok().unwrap();
    let mut exchange = Exchange::default();
    exchange.ask(&request);
    exchange
}

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const POST: &str = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n";
const EMPTY: &str = "HTTP/1.1 200 x\r\nContent-Length: 0\r\n\r\n";

#[test]
fn a_post_that_may_have_been_sent_never_goes_again() {
    for (_, exchange) in states() {
        if exchange.method == Method::Other && exchange.is_sent {
            assert!(!exchange.may_go_again());
            assert_ne!(exchange.lost(true), Loss::Again);
            assert_ne!(exchange.lost(false), Loss::Again);
        }
    }
}

#[test]
fn what_is_not_whole_never_goes_again() {
    for (_, exchange) in states().iter().filter(|(_, exchange)| !exchange.is_whole) {
        assert!(!exchange.may_go_again());
    }
}

#[test]
fn a_get_goes_again_until_its_response_begins() {
    let mut exchange = asked(GET);
    exchange.is_sent = true;
    assert_eq!(exchange.lost(true), Loss::Again);
    assert_eq!(exchange.lost(false), Loss::Again);
    exchange.go_again();
    assert!(!exchange.is_sent);
    exchange.is_sent = true;
    assert_eq!(hear(&mut exchange, HEADS[3].1), "content, next, link");
    assert_eq!(exchange.lost(true), Loss::Cut);
    assert_eq!(exchange.lost(false), Loss::Cut);
}

#[test]
fn a_post_goes_again_while_none_of_it_was_sent() {
    let mut exchange = asked(POST);
    assert_eq!(exchange.lost(false), Loss::Again);
    exchange.is_sent = true;
    assert_eq!(exchange.lost(false), Loss::Reply);
}

#[test]
fn behind_an_interim_response_nothing_goes_again() {
    let mut exchange = asked(GET);
    exchange.is_sent = true;
    assert_eq!(hear(&mut exchange, HEADS[0].1), "interim");
    assert_eq!(exchange.lost(true), Loss::Reply);
}

#[test]
fn only_an_orderly_end_ends_what_lasts_until_close() {
    let mut exchange = asked(GET);
    assert_eq!(hear(&mut exchange, HEADS[7].1), "content, next");
    assert_eq!(exchange.reframing(), Reframing::Chunk);
    assert_eq!(exchange.lost(true), Loss::End);
    assert_eq!(exchange.lost(false), Loss::Cut);
}

#[test]
fn an_early_response_ends_both_connections() {
    let mut exchange = asked(POST);
    assert_eq!(hear(&mut exchange, EMPTY), "complete");
    assert_eq!(
        exchange.ending(false),
        Ending {
            keep_link: false,
            client: After::Linger
        }
    );
    // Even if the rest of the request comes before the response has been passed on.
    exchange.request = RequestState::Complete;
    assert_eq!(
        exchange.ending(false),
        Ending {
            keep_link: false,
            client: After::Close
        }
    );
}

#[test]
fn bytes_left_over_cost_the_link_and_not_the_client() {
    let mut exchange = asked(GET);
    assert_eq!(hear(&mut exchange, EMPTY), "complete, next, link");
    assert_eq!(
        exchange.ending(true),
        Ending {
            keep_link: false,
            client: After::Next
        }
    );
    assert_eq!(
        exchange.ending(false),
        Ending {
            keep_link: true,
            client: After::Next
        }
    );
    exchange.forbid_next();
    assert_eq!(
        exchange.ending(false),
        Ending {
            keep_link: true,
            client: After::Close
        }
    );
}

#[test]
fn interim_responses_have_an_end() {
    let mut exchange = asked(GET);
    for _ in 0..INTERIMS_MAX {
        assert_eq!(hear(&mut exchange, HEADS[0].1), "interim");
    }
    for _ in 0..300 {
        assert_eq!(hear(&mut exchange, HEADS[0].1), "refused: Interim");
    }
}

#[test]
fn a_switch_is_heard_only_by_who_asked_for_it() {
    let mut exchange = asked(GET);
    assert_eq!(hear(&mut exchange, HEADS[1].1), "refused: Switch");
    let mut exchange = asked(
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x, Sim\r\nUpgrade: y/2\r\n\r\n",
    );
    assert_eq!(hear(&mut exchange, HEADS[2].1), "refused: Switch");
    for upgrade in [
        "",
        "Upgrade:\r\n",
        "Upgrade: h2c\r\n",
        "Upgrade: x, z\r\n",
        "Upgrade: y\r\n",
    ] {
        let text = format!("HTTP/1.1 101 x\r\n{upgrade}\r\n");
        assert_eq!(hear(&mut exchange, &text), "refused: Switch", "{upgrade}");
    }
    assert_eq!(hear(&mut exchange, HEADS[1].1), "tunnel");
    assert!(!exchange.ending(false).keep_link);
}

#[test]
fn a_link_rests_a_little_less_than_its_server_waits() {
    for (field, millis) in [
        ("Keep-Alive: timeout=5", Some(4000)),
        ("keep-alive: max=3, Timeout=2", Some(1000)),
        ("Keep-Alive: timeout=1", Some(500)),
        ("Keep-Alive: timeout=0", Some(0)),
        ("Keep-Alive: max=3", None),
        ("Keep-Alive: timeout=x", None),
        ("Keep-Alive: 300", None),
    ] {
        let mut exchange = asked(GET);
        let text = format!("HTTP/1.1 200 x\r\nContent-Length: 0\r\n{field}\r\n\r\n");
        assert_eq!(hear(&mut exchange, &text), "complete, next, link");
        assert_eq!(
            exchange.rest_max(),
            millis.map(Duration::from_millis),
            "{field}"
        );
    }
}

#[test]
fn content_that_overtook_its_100_costs_the_link() {
    let expecting = POST.replace("\r\n\r\n", "\r\nExpect: 100-continue\r\n\r\n");
    let sent = |exchange: &mut Exchange| {
        exchange.content_came();
        exchange.request = RequestState::Complete;
    };
    let mut exchange = asked(&expecting);
    assert!(exchange.awaits_continue());
    sent(&mut exchange);
    assert!(!exchange.awaits_continue());
    assert_eq!(hear(&mut exchange, EMPTY), "complete, next");
    let mut exchange = asked(&expecting);
    assert_eq!(hear(&mut exchange, "HTTP/1.1 100 x\r\n\r\n"), "interim");
    assert!(!exchange.awaits_continue());
    sent(&mut exchange);
    assert_eq!(hear(&mut exchange, EMPTY), "complete, next, link");
}

#[test]
fn a_response_that_came_before_all_of_the_request_was_sent_costs_the_link() {
    let mut exchange = asked(GET);
    let mut slots = head::slots();
    let response = head::response(EMPTY.as_bytes(), Method::Other, &mut slots)
        .ok()
        .unwrap();
    assert_eq!(exchange.hear(&response, false), Ok(Heard::Final));
    assert!(!exchange.ending(false).keep_link && exchange.ending(false).client == After::Next);
}

#[test]
fn only_what_ends_with_the_connection_would_seem_whole() {
    for (request, head, seems) in [
        (GET, HEADS[3].1, false),
        (GET, HEADS[6].1, false),
        (GET, HEADS[7].1, false),
        ("GET / HTTP/1.0\r\n\r\n", HEADS[3].1, false),
        ("GET / HTTP/1.0\r\n\r\n", HEADS[6].1, true),
        ("GET / HTTP/1.0\r\n\r\n", HEADS[7].1, true),
    ] {
        let mut exchange = asked(request);
        assert!(!exchange.would_seem_whole());
        hear(&mut exchange, head);
        assert_eq!(exchange.would_seem_whole(), seems, "{request} {head}");
        exchange.unhear();
        assert!(exchange.is_unanswered() && !exchange.would_seem_whole());
    }
}

#[test]
fn a_1_0_client_gets_chunked_content_until_close() {
    let mut exchange = asked("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    assert!(exchange.keeps_client());
    assert_eq!(hear(&mut exchange, HEADS[6].1), "content, link");
    assert_eq!(exchange.reframing(), Reframing::Unchunk);
    let mut exchange = asked("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    assert_eq!(hear(&mut exchange, HEADS[3].1), "content, next, link");
}
