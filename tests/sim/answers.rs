//! What servers write: responses in every form, broken ones, and reports of their health.

use super::answered::response_key;
use super::check::{Answer, Id};
use super::kernel::{ConnId, Core};
use super::wire::write_content;

/// The form of one response.
#[derive(Debug, Clone, Copy)]
pub struct Form {
    id: Id,
    status: u16,
    content: u64,
    framing: Framing,
    is_head: bool,
    is_old: bool,
    interims: u64,
    /// Whether the server closes behind it.
    pub closes: bool,
    /// Whether it says that it takes no further request, or does not say that it would.
    pub is_last: bool,
    /// Whether it switches to another protocol.
    pub switches: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framing {
    Length,
    Chunked,
    UntilClose,
}

impl Form {
    pub fn choose(
        core: &mut Core,
        id: Id,
        is_head: bool,
        is_upgrade: bool,
        content_max: u64,
        closes: bool,
    ) -> Form {
        let rng = &mut core.rng;
        let switches = is_upgrade && rng.chance(700);
        let status = if switches {
            101
        } else {
            rng.pick(&[200, 200, 200, 200, 200, 404, 500, 201, 204, 304, 302])
        };
        let is_old = !switches && rng.chance(80);
        let mut framing = match rng.below(10) {
            0..=5 => Framing::Length,
            6..=8 if !is_old => Framing::Chunked,
            _ => Framing::UntilClose,
        };
        let has_content = !is_head && status != 204 && status != 304;
        if !has_content && framing == Framing::UntilClose {
            framing = Framing::Length;
        }
        let closes = closes || (framing == Framing::UntilClose && !switches) || rng.chance(60);
        let content = if !has_content {
            0
        } else {
            rng.content(content_max)
        };
        let content = if switches {
            rng.size(content_max.min(50_000))
        } else {
            content
        };
        let interims = if rng.chance(60) { rng.range(1, 3) } else { 0 };
        Form {
            id,
            status,
            content,
            framing,
            is_head,
            is_old,
            interims,
            closes: closes && !switches,
            is_last: is_old && rng.chance(500),
            switches,
        }
    }

    pub fn answer(&self, conn: ConnId) -> Answer {
        Answer {
            id: self.id,
            status: self.status,
            content: self.content,
            conn,
            is_good: true,
        }
    }
}

/// The bytes of a response of this form.
pub fn write(core: &mut Core, form: &Form, answer: usize, id: Id) -> Vec<u8> {
    let rng = &mut core.rng;
    let mut out = Vec::with_capacity(512 + form.content as usize);
    for _ in 0..form.interims {
        let status = rng.pick(&["100 Continue", "102 Processing", "103 Early Hints"]);
        out.extend_from_slice(format!("HTTP/1.1 {status}\r\nLink: </a>\r\n\r\n").as_bytes());
    }
    let version = if form.is_old { "HTTP/1.0" } else { "HTTP/1.1" };
    let reason = rng.pick(&["OK", "", "Whatever It Is", "Fine: really"]);
    out.extend_from_slice(
        format!(
            "{version} {} {reason}\r\nX-Sim-Id: {id}\r\nX-Sim-Answer: {answer}\r\n",
            form.status
        )
        .as_bytes(),
    );
    if rng.chance(100) {
        let pad = rng.size(9000) as usize;
        out.extend_from_slice(format!("X-Pad: {}\r\n", "p".repeat(pad)).as_bytes());
    }
    let names_fields = rng.chance(100);
    if names_fields {
        out.extend_from_slice(b"Keep-Alive: timeout=5\r\nX-Hop: 1\r\nConnection: x-hop\r\n");
    }
    let has_trailers = !names_fields && rng.chance(300);
    if form.switches {
        out.extend_from_slice(b"Connection: upgrade\r\nUpgrade: sim\r\n\r\n");
        write_content(&mut out, response_key(answer), 0, form.content as usize);
        return out;
    }
    if form.closes || form.is_last {
        if !form.is_old {
            out.extend_from_slice(rng.pick(&[
                b"Connection: close\r\n".as_slice(),
                b"connection: Close\r\n",
            ]));
        }
    } else if form.is_old {
        out.extend_from_slice(b"Connection: keep-alive\r\n");
    }
    let has_content = !form.is_head && form.status != 204 && form.status != 304;
    // A response to HEAD may have any length; so may a 304.
    let length = if has_content {
        form.content
    } else {
        rng.below(1000)
    };
    match form.framing {
        Framing::Length if form.status == 204 => out.extend_from_slice(b"\r\n"),
        Framing::Length => {
            out.extend_from_slice(format!("Content-Length: {length}\r\n\r\n").as_bytes())
        }
        Framing::Chunked if form.status == 204 => out.extend_from_slice(b"\r\n"),
        Framing::Chunked => {
            if has_trailers {
                // What the client reads is held against this.
                out.extend_from_slice(b"X-Sim-Trailers: yes\r\nTrailer: X-Sum\r\n");
            }
            out.extend_from_slice(b"Transfer-Encoding: chunked\r\n\r\n");
        }
        Framing::UntilClose => out.extend_from_slice(b"\r\n"),
    }
    if !has_content {
        return out;
    }
    match form.framing {
        Framing::Chunked => {
            let key = response_key(answer);
            let section = if has_trailers {
                trailers(key)
            } else {
                String::new()
            };
            write_chunks(core, &mut out, key, form.content, &section);
        }
        _ => write_content(&mut out, response_key(answer), 0, form.content as usize),
    }
    out
}

/// The trailer section of the response with this key, as it has to arrive.
pub fn trailers(key: u64) -> String {
    format!("X-Sum: {key}\r\nX-Other: a b\r\n")
}

/// Content in chunks of any size, with extensions now and then, and this trailer section.
pub fn write_chunks(core: &mut Core, out: &mut Vec<u8>, key: u64, content: u64, section: &str) {
    let rng = &mut core.rng;
    let mut at = 0;
    let most = rng.pick(&[1, 10, 1000, 100_000]).max(content / 60 + 1);
    while at < content {
        let here = rng.range(1, most).min(content - at);
        let extension = if rng.chance(100) {
            ";name=\"va;l\\\"ue\""
        } else {
            ""
        };
        let size = if rng.chance(500) {
            format!("{here:x}{extension}\r\n")
        } else {
            format!("0{here:X}{extension}\r\n")
        };
        out.extend_from_slice(size.as_bytes());
        write_content(out, key, at, here as usize);
        out.extend_from_slice(b"\r\n");
        at += here;
    }
    out.extend_from_slice(b"0\r\n");
    out.extend_from_slice(section.as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// What no server should say.
pub fn broken(core: &mut Core, id: Id, is_upgrade: bool) -> Vec<u8> {
    let texts: [&[u8]; 12] = [
        b"hello\r\n\r\n",
        b"\r\n\r\n",
        b"HTTP/1.1 200 OK\nContent-Length: 0\n\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"HTTP/1.1 99 OK\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
        b"HTTP/2.0 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA B: c\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX-Sim-Foreign: 1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ];
    match core.rng.below(14) {
        // Whoever asked for an upgrade would have to believe it.
        8 if is_upgrade => texts[0].to_vec(),
        12 => b"HTTP/1.1 100 Continue\r\n\r\n".repeat(150),
        13 => format!(
            "HTTP/1.1 200 OK\r\nX-Sim-Id: {id}\r\nX-Long: {}\r\n\r\n",
            "x".repeat(20_000)
        )
        .into_bytes(),
        index => texts[index as usize].to_vec(),
    }
}

/// A health answer, and whether the server closes behind it.
pub fn report(core: &mut Core, errors: u64, load: u64, is_sick: bool) -> (Vec<u8>, bool) {
    let rng = &mut core.rng;
    let mut content = rng
        .pick(&[
            "{e}\n{l}\n",
            "{e}\n{l}",
            " {e} \r\n{l}\r\n",
            "{e}\n{l}\nin_flight=3\n",
        ])
        .replace("{e}", &errors.to_string())
        .replace("{l}", &load.to_string());
    let mut status = "200 OK";
    let mut closes = rng.chance(200);
    let mut before = "";
    if is_sick {
        match rng.below(8) {
            0 => status = "404 Not Found",
            1 => status = "503 Away",
            2 => content = "all is well\n".to_owned(),
            3 => content = "1".repeat(9000),
            4 => content.clear(),
            5 => status = "20 What",
            6 => return (b"garbage\r\n\r\n".to_vec(), true),
            _ => before = "HTTP/1.1 100 Continue\r\n\r\n",
        }
    }
    let framing = match rng.below(4) {
        0 | 1 => format!("Content-Length: {}\r\n\r\n{content}", content.len()),
        2 if !content.is_empty() => format!(
            "Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{content}\r\n0\r\n\r\n",
            content.len()
        ),
        _ => {
            closes = true;
            format!("\r\n{content}")
        }
    };
    let connection = if closes { "Connection: close\r\n" } else { "" };
    (
        format!("{before}HTTP/1.1 {status}\r\n{connection}{framing}").into_bytes(),
        closes,
    )
}
