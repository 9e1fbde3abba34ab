//! What it costs to judge a head and to write it anew, on fixed heads, in nanoseconds.
//!
//!     cargo run --release --example heads [HEAD [ROUNDS]]
//!
//! HEAD is the name of one of them; without it all are run. Two runs of one head with different ROUNDS
//! under callgrind tell how many instructions one round takes.

#![allow(clippy::print_stdout, clippy::unwrap_used)] // it is there to print, and nobody feeds it

use std::hint::black_box;
use std::time::Instant;

use bestguess::http::body::Reframing;
use bestguess::http::head::{self, Method, Version};
use bestguess::http::rewrite::{self, Answering, Forwarding};

const SMALL: &[u8] = b"GET /b256 HTTP/1.1\r\nHost: 127.0.0.1:34567\r\nUser-Agent: rig/1.0\r\n\
    Accept: */*\r\n\r\n";
const BROWSER: &[u8] = b"GET /articles/2024/05/a-longer-name?page=2&sort=date HTTP/1.1\r\n\
    Host: www.example.org\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:126.0) Gecko/20100101 Firefox/126.0\r\n\
    Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8\r\n\
    Accept-Language: en-US,en;q=0.5\r\nAccept-Encoding: gzip, deflate, br, zstd\r\n\
    Referer: https://www.example.org/articles/2024/05/\r\nConnection: keep-alive\r\n\
    Cookie: session=0123456789abcdef0123456789abcdef; theme=dark; seen=17\r\n\
    Upgrade-Insecure-Requests: 1\r\nSec-Fetch-Dest: document\r\nSec-Fetch-Mode: navigate\r\n\
    Priority: u=0, i\r\n\r\n";
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nServer: rig\r\nDate: Mon, 01 Jan 2024 00:00:00 GMT\r\n\
    Content-Type: application/octet-stream\r\nContent-Length: 256\r\n\r\n";
const LONG_ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nDate: Mon, 01 Jan 2024 00:00:00 GMT\r\n\
    Server: Apache/2.4.59 (Debian)\r\nLast-Modified: Fri, 29 Dec 2023 10:11:12 GMT\r\n\
    ETag: \"2aa6-60da5d0c8e1c0-gzip\"\r\nAccept-Ranges: bytes\r\nVary: Accept-Encoding\r\n\
    Cache-Control: max-age=3600, public\r\nContent-Encoding: gzip\r\nContent-Length: 3456\r\n\
    Keep-Alive: timeout=5, max=100\r\nConnection: Keep-Alive\r\n\
    Content-Type: text/html; charset=utf-8\r\n\r\n";

/// Judges and rewrites one request head.
fn ask(bytes: &[u8], out: &mut Vec<u8>) {
    let forwarding = Forwarding {
        peer: Some([127, 0, 0, 1].into()),
        host_default: "localhost",
        trust: false,
        forwarded: false,
        id: None,
        cookie: None,
    };
    let mut slots = head::slots();
    let request = head::next_request(bytes, 0, &mut slots);
    let request = request.ok().flatten().unwrap();
    out.clear();
    rewrite::request(out, &request, &forwarding);
}

/// Judges and rewrites one response head.
fn answer(bytes: &[u8], out: &mut Vec<u8>) {
    let answering = Answering {
        date: Some("Mon, 01 Jan 2024 00:00:00 GMT"),
        version: Version::Http11,
        close: false,
        reframing: Reframing::None,
        switch: false,
        trailers: false,
        id: None,
        cookie: None,
    };
    let mut slots = head::slots();
    let response = head::next_response(bytes, 0, Method::Idempotent, &mut slots);
    let response = response.ok().flatten().unwrap();
    out.clear();
    rewrite::response(out, &response, answering);
}

/// What is done with a head.
type Work = fn(&[u8], &mut Vec<u8>);

const CASES: [(&str, &[u8], Work); 4] = [
    ("request", SMALL, ask),
    ("browser", BROWSER, ask),
    ("response", ANSWER, answer),
    ("long-response", LONG_ANSWER, answer),
];

fn main() {
    let mut arguments = std::env::args().skip(1);
    let wanted = arguments.next();
    let rounds: u32 = arguments
        .next()
        .map_or(2_000_000, |text| text.parse().unwrap());
    for (name, head, work) in CASES {
        if wanted.as_ref().is_some_and(|wanted| wanted != name) {
            continue;
        }
        let mut out = Vec::with_capacity(4096);
        let start = Instant::now();
        for _ in 0..rounds {
            work(black_box(head), &mut out);
            black_box(&out);
        }
        let nanos = start.elapsed().as_nanos() as f64 / f64::from(rounds.max(1));
        println!("{name:14} {nanos:7.1} ns");
    }
}
