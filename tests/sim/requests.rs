//! What clients write: requests in every form, and what is none.

use super::answers::write_chunks;
use super::asked::request_key;
use super::check::{Exchange, Id};
use super::kernel::Core;
use super::wire::write_content;

/// What a client likes to do; chances in a thousand.
#[derive(Debug, Clone)]
pub struct Tastes {
    pub requests_max: u64,
    pub content_max: u64,
    pub pieces: Vec<usize>,
    pub pause_max: u64,
    pub pipelines: u64,
    pub uploads: u64,
    pub olds: u64,
    pub expects: u64,
    pub upgrades: u64,
    pub malformed: u64,
    pub leaves: u64,
    pub half_closes: u64,
    pub stays: u64,
    pub slow_readers: u64,
}

impl Tastes {
    /// One plain request.
    pub fn plain() -> Tastes {
        Tastes {
            requests_max: 1,
            content_max: 0,
            pieces: vec![10_000],
            pause_max: 0,
            pipelines: 0,
            uploads: 0,
            olds: 0,
            expects: 0,
            upgrades: 0,
            malformed: 0,
            leaves: 0,
            half_closes: 0,
            stays: 0,
            slow_readers: 0,
        }
    }

    /// Nothing wrong any more.
    pub fn calm(&mut self) {
        (self.leaves, self.malformed) = (0, 0);
    }
}

/// One request in a client's stream.
#[derive(Debug, Clone)]
pub struct Request {
    pub id: Id,
    pub start: usize,
    pub head_end: usize,
    pub end: usize,
    pub expects: bool,
    /// Whatever comes of it is the client's own doing.
    pub is_faulty: bool,
}

/// Writes all that a client asks on one connection to `stream`.
pub fn write(core: &mut Core, tastes: &Tastes, stream: &mut Vec<u8>) -> Vec<Request> {
    let count = core.rng.range(1, tastes.requests_max);
    let is_old = core.rng.chance(tastes.olds);
    let mut requests = Vec::new();
    for index in 0..count {
        let is_last = index + 1 == count;
        requests.push(write_one(core, tastes, stream, is_old, is_last));
    }
    requests
}

fn write_one(
    core: &mut Core,
    tastes: &Tastes,
    stream: &mut Vec<u8>,
    is_old: bool,
    is_last: bool,
) -> Request {
    let rng = &mut core.rng;
    let start = stream.len();
    let is_upload = rng.chance(tastes.uploads);
    let upgrades = is_last && !is_old && !is_upload && rng.chance(tastes.upgrades);
    let is_malformed = is_last && !upgrades && rng.chance(tastes.malformed);
    let method = if is_upload {
        rng.pick(&["POST", "POST", "PUT", "PATCH"])
    } else if upgrades {
        "GET"
    } else {
        rng.pick(&[
            "GET", "GET", "GET", "GET", "HEAD", "DELETE", "OPTIONS", "POST",
        ])
    };
    let content = if is_upload {
        rng.content(tastes.content_max)
    } else {
        0
    };
    let is_chunked = is_upload && !is_old && rng.chance(400);
    let expects = is_upload && !is_old && content > 0 && rng.chance(tastes.expects);
    let takes_trailers = !is_old && !upgrades && rng.chance(300);
    let id = core.check.ask(Exchange {
        is_head: method == "HEAD",
        is_old,
        is_idempotent: !matches!(method, "POST" | "PATCH"),
        is_small: content < 16_000,
        is_malformed,
        expects,
        upgrades,
        takes_trailers,
        content,
        excuses: 0,
        reached: 0,
        outcome: None,
        ready: None,
        assigned: None,
        name: None,
    });
    if is_malformed {
        malformed(core, id, stream);
        let end = stream.len();
        return Request {
            id,
            start,
            head_end: end,
            end,
            expects: false,
            is_faulty: true,
        };
    }
    let rng = &mut core.rng;
    if rng.chance(20) {
        stream.extend_from_slice(b"\r\n");
    }
    let version = if is_old { "HTTP/1.0" } else { "HTTP/1.1" };
    let target = if rng.chance(50) {
        format!("http://sim/r/{id}")
    } else {
        format!("/r/{id}")
    };
    let mut head = format!("{method} {target} {version}\r\nHost: sim\r\nX-Sim-Id: {id}\r\n");
    if rng.chance(150) {
        let pad = rng.size(12_000) as usize;
        head.push_str(&format!("X-Pad:{}\r\n", "p".repeat(pad)));
    }
    if rng.chance(100) {
        head.push_str("Keep-Alive: 5\r\nTE: deflate\r\nX-Hop: 1\r\nX-Forwarded-For: 1.2.3.4\r\n");
        if !upgrades && !is_old {
            head.push_str("Connection: x-hop\r\n");
        } else {
            head.truncate(head.len() - "X-Hop: 1\r\nX-Forwarded-For: 1.2.3.4\r\n".len());
        }
    }
    if takes_trailers {
        head.push_str("TE: trailers\r\n");
    }
    if is_old && (!is_last || rng.chance(500)) {
        head.push_str("Connection: keep-alive\r\n");
    } else if is_last && !is_old && !upgrades && rng.chance(200) {
        head.push_str("Connection: close\r\n");
    }
    if upgrades {
        head.push_str("Connection: Upgrade\r\nUpgrade: sim\r\n");
    }
    if expects {
        head.push_str("Expect: 100-continue\r\n");
    }
    if is_chunked {
        head.push_str("Transfer-Encoding: chunked\r\n");
    } else if is_upload || rng.chance(30) {
        head.push_str(&format!("Content-Length: {content}\r\n"));
    }
    head.push_str("\r\n");
    stream.extend_from_slice(head.as_bytes());
    let head_end = stream.len();
    if is_chunked {
        let section = if core.rng.chance(100) {
            "X-Sum: 12\r\nX-Other: a\r\n"
        } else {
            ""
        };
        write_chunks(core, stream, request_key(id), content, section);
    } else {
        write_content(stream, request_key(id), 0, content as usize);
    }
    Request {
        id,
        start,
        head_end,
        end: stream.len(),
        expects,
        is_faulty: false,
    }
}

/// What must never reach a server.
fn malformed(core: &mut Core, id: Id, stream: &mut Vec<u8>) {
    let fields = format!("Host: sim\r\nX-Sim-Id: {id}\r\n");
    let text = match core.rng.below(12) {
        0 => format!("GET /r/{id}\r\n\r\n"),
        1 => format!("GET  /r/{id} HTTP/1.1\r\n{fields}\r\n"),
        2 => format!("GET /r/{id} HTTP/1.1\r\nX-Sim-Id: {id}\r\n\r\n"),
        3 => format!(
            "POST /r/{id} HTTP/1.1\r\n{fields}Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
        ),
        4 => format!(
            "POST /r/{id} HTTP/1.1\r\n{fields}Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd"
        ),
        5 => format!("GET /r/{id} HTTP/1.1\r\n{fields}A : b\r\n\r\n"),
        6 => format!("GET /r/{id} HTTP/1.1\n{fields}\n\n"),
        7 => format!("GET /r/{id} HTTP/2.0\r\n{fields}\r\n"),
        8 => format!(
            "GET /r/{id} HTTP/1.1\r\n{fields}X: {}\r\n\r\n",
            "a".repeat(20_000)
        ),
        9 => format!(
            "POST /r/{id} HTTP/1.1\r\n{fields}Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"
        ),
        10 => format!("CONNECT sim:80 HTTP/1.1\r\n{fields}\r\n"),
        _ => format!("GET /r/{id} HTTP/1.1\r\n{fields}X-Nul: a\0b\r\n\r\n"),
    };
    stream.extend_from_slice(text.as_bytes());
}
