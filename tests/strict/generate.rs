//! Messages from a seed: most of them right, with all that a message may have, then mutated where it
//! hurts. The same seed gives the same bytes on every machine.

/// A generator of numbers: xorshift64* (Marsaglia 2003, Vigna 2014).
#[derive(Debug, Clone)]
pub struct Rng(u64);

impl Rng {
    /// The generator of this seed.
    pub fn new(seed: u64) -> Rng {
        // Zero is the one state that it never leaves, and near seeds are to differ at once.
        let mut rng = Rng(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        rng.below(1);
        rng
    }

    /// Below `bound`, which is at least 1.
    pub fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let high = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32;
        high as usize % bound
    }

    /// Whether something happens that happens once in `bound` times.
    pub fn once_in(&mut self, bound: usize) -> bool {
        self.below(bound) == 0
    }

    fn pick<'t>(&mut self, words: &[&'t str]) -> &'t str {
        words[self.below(words.len())]
    }
}

const METHODS: &[&str] = &[
    "GET", "GET", "GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH", "M-SEARCH",
    "get",
];
const TARGETS: &[&str] = &[
    "/",
    "/a/b?c=d",
    "//x",
    "/%41%zz",
    "/?[]{}|^`",
    "*",
    "http://b:81/x",
    "HTTPS://[::1]?q",
    "http://b",
    "/a,b;c=d@e:f",
    "/..",
];
const HOSTS: &[&str] = &["a", "a.b:80", "[::1]:8080", "127.0.0.1", "", "A_b"];

/// Fields that mean nothing here, those that mean something, and attempts to use the one for the
/// other.
const FIELDS: &[&str] = &[
    "Accept: */*",
    "X-A:b",
    "X-Blank: \t ",
    "X-Wide:  \t a \t b \t",
    "X-Colon: a: b: c",
    "X-Latin: \u{e9}\u{fc}",
    "Cookie: a=b; c=d",
    "Cookie: e=f",
    "Set-Cookie: a=b",
    "Set-Cookie: c=d",
    "Content-Type: text/plain",
    "Cache-Control: no-cache",
    "Connection: close",
    "Connection: keep-alive",
    "Connection: x-a, accept",
    "connection: Cookie, Host , content-length",
    "Connection: transfer-encoding",
    "Connection: upgrade",
    "Connection: TE",
    "Keep-Alive: timeout=5",
    "Proxy-Connection: keep-alive",
    "TE: trailers",
    "TE: gzip;q=0.5, trailers",
    "Trailer: X-Sum",
    "Upgrade: websocket",
    "Upgrade: websocket, h2c",
    "HTTP2-Settings: AAMAAABkAAQAAP__",
    "Expect: 100-continue",
    "Via: 1.0 fred",
    "Forwarded: for=1.2.3.4",
    "X-Forwarded-For: 1.2.3.4",
    "X-Forwarded-For: ",
    "X-Forwarded-Host: c",
    "X-Forwarded-Proto: https",
    "X_Forwarded_For: 1.2.3.4",
    "Content_Length: 7",
    "Date: Thu, 01 Jan 1970 00:00:00 GMT",
    "Date: ",
];
const TRAILERS: &[&str] = &[
    "X-Sum: 1",
    "ETag: \"a\"",
    "Server-Timing:a",
    "Set-Cookie: a=b",
    "Via: 1.1 c",
];
const STATUSES: &[&str] = &[
    "200 OK",
    "200 OK",
    "200 ",
    "201 Created",
    "204 No Content",
    "206 Partial Content",
    "301 \u{e9}",
    "304 Not Modified",
    "404 Not Found",
    "426 Upgrade Required",
    "500 Oh\tno",
    "599 Odd",
];
const INTERIMS: &[&str] = &["100 Continue", "102 Processing", "103 Early Hints"];

/// What is put in where it should not be.
const WORDS: &[&str] = &[
    "\r",
    "\n",
    "\r\n",
    "\r\n\r\n",
    " ",
    "\t",
    "\0",
    "\u{b}",
    "\u{7f}",
    ":",
    ",",
    ";",
    "\"",
    "\\",
    "0",
    "1",
    "-",
    "+",
    "0x",
    "_",
    "chunked",
    "identity",
    "gzip",
    ", chunked",
    "Content-Length: 1\r\n",
    "Content-Length: 0\r\n",
    "Transfer-Encoding: chunked\r\n",
    "Transfer-Encoding: \u{b}chunked\r\n",
    "Host: b\r\n",
    " folded: x\r\n",
    "Connection: close\r\n",
    "HTTP/1.1",
    "HTTP/1.0",
    "HTTP/2.0",
    "GET / ",
    "ffffffffffffffff",
    "9223372036854775808",
    "0\r\n\r\n",
    ";a=\"\r\n\"",
    "X : y\r\n",
];

/// What one client sends: some requests, one behind the other, perhaps mutated.
pub fn requests(rng: &mut Rng) -> Vec<u8> {
    let mut wire = Vec::new();
    for _ in 0..=rng.below(3) {
        request(rng, &mut wire);
    }
    mutate(rng, &mut wire);
    wire
}

/// What one server sends in answer: interim responses, the final one, and perhaps something behind it.
pub fn responses(rng: &mut Rng) -> Vec<u8> {
    let mut wire = Vec::new();
    while rng.once_in(5) {
        let interim = rng.pick(INTERIMS);
        head(rng, &mut wire, &format!("HTTP/1.1 {interim}"), &[]);
        wire.extend_from_slice(b"\r\n");
    }
    response(rng, &mut wire);
    if rng.once_in(8) {
        response(rng, &mut wire);
    }
    mutate(rng, &mut wire);
    wire
}

/// Chunked content and perhaps something behind it, perhaps mutated.
pub fn chunks(rng: &mut Rng) -> Vec<u8> {
    let mut wire = Vec::new();
    chunked(rng, &mut wire);
    if rng.once_in(3) {
        wire.extend_from_slice(rng.pick(WORDS).as_bytes());
    }
    mutate(rng, &mut wire);
    wire
}

/// What some clients send and servers answer, as `pipes` takes it.
pub fn pipes(rng: &mut Rng) -> Vec<u8> {
    let mut input = vec![rng.below(256) as u8];
    for part in 0..1 + rng.below(3) {
        input.extend_from_slice(if part > 0 { b"\n==\n" } else { b"" });
        input.extend(requests(rng));
    }
    for _ in 0..1 + rng.below(6) {
        input.extend_from_slice(b"\n==\n<");
        input.extend(responses(rng));
    }
    input
}

/// Appends a request, nearly always a right one.
pub fn request(rng: &mut Rng, wire: &mut Vec<u8>) {
    let version = if rng.once_in(8) { "1.0" } else { "1.1" };
    let line = format!("{} {} HTTP/{version}", rng.pick(METHODS), rng.pick(TARGETS));
    let mut fixed = Vec::new();
    if version == "1.1" || rng.once_in(2) {
        fixed.push(format!("Host: {}", rng.pick(HOSTS)));
    }
    let content = content(rng, &mut fixed, version == "1.1");
    head(rng, wire, &line, &fixed);
    wire.extend_from_slice(&content);
}

/// Appends a final response, nearly always a right one.
pub fn response(rng: &mut Rng, wire: &mut Vec<u8>) {
    let version = if rng.once_in(8) { "1.0" } else { "1.1" };
    let switch = rng.once_in(12);
    let status = if switch {
        "101 Switching Protocols"
    } else {
        rng.pick(STATUSES)
    };
    let mut fixed = Vec::new();
    if switch {
        fixed.extend([
            "Upgrade: websocket".to_owned(),
            "Connection: upgrade".to_owned(),
        ]);
    }
    let has_content =
        !status.starts_with("1") && !status.starts_with("204") && status != "304 Not Modified";
    let content = if has_content {
        content(rng, &mut fixed, version == "1.1")
    } else {
        Vec::new()
    };
    head(rng, wire, &format!("HTTP/{version} {status}"), &fixed);
    wire.extend_from_slice(&content);
}

/// Some content, and the field that frames it in `fields`.
fn content(rng: &mut Rng, fields: &mut Vec<String>, may_chunk: bool) -> Vec<u8> {
    let mut content = Vec::new();
    match rng.below(4) {
        0 if may_chunk => {
            fields.push(
                rng.pick(&["Transfer-Encoding: chunked", "transfer-encoding:Chunked"])
                    .to_owned(),
            );
            chunked(rng, &mut content);
        }
        1 | 2 => {
            data(rng, &mut content);
            fields.push(format!("Content-Length: {}", content.len()));
        }
        _ => {}
    }
    content
}

fn chunked(rng: &mut Rng, wire: &mut Vec<u8>) {
    for _ in 0..rng.below(4) {
        let mut chunk = Vec::new();
        data(rng, &mut chunk);
        if chunk.is_empty() {
            continue;
        }
        let zeros = if rng.once_in(6) { "000" } else { "" };
        let extension = if rng.once_in(4) {
            rng.pick(&[";a", ";a=b;c=\"d;\\\"\"", " ", "\t;x = y"])
        } else {
            ""
        };
        let size = format!("{zeros}{:x}{extension}\r\n", chunk.len());
        wire.extend_from_slice(size.as_bytes());
        wire.extend_from_slice(&chunk);
        wire.extend_from_slice(b"\r\n");
    }
    wire.extend_from_slice(b"0\r\n");
    while rng.once_in(4) {
        wire.extend_from_slice(rng.pick(TRAILERS).as_bytes());
        wire.extend_from_slice(b"\r\n");
    }
    wire.extend_from_slice(b"\r\n");
}

/// Content, some of which looks like messages.
fn data(rng: &mut Rng, out: &mut Vec<u8>) {
    match rng.below(4) {
        0 => {}
        1 => out.extend_from_slice(b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"),
        2 => out.extend_from_slice(rng.pick(WORDS).as_bytes()),
        _ => out.extend((0..rng.below(40)).map(|at| b'a' + (at % 26) as u8)),
    }
}

/// Appends a head: `fixed` fields among others, in any order and any case.
fn head(rng: &mut Rng, wire: &mut Vec<u8>, line: &str, fixed: &[String]) {
    let mut fields: Vec<String> = fixed.to_vec();
    for _ in 0..rng.below(6) {
        let at = rng.below(fields.len() + 1);
        fields.insert(at, rng.pick(FIELDS).to_owned());
    }
    wire.extend_from_slice(line.as_bytes());
    wire.extend_from_slice(b"\r\n");
    for field in fields {
        let (name, value) = field.split_once(':').unwrap_or((&field, ""));
        let name = if rng.once_in(6) {
            name.to_ascii_uppercase()
        } else {
            name.to_owned()
        };
        wire.extend_from_slice(name.as_bytes());
        wire.push(b':');
        // Bytes beyond ASCII go as Latin-1: one byte each.
        wire.extend(value.chars().map(|letter| letter as u8));
        wire.extend_from_slice(b"\r\n");
    }
    wire.extend_from_slice(b"\r\n");
}

/// Breaks `wire` in none to three places.
fn mutate(rng: &mut Rng, wire: &mut Vec<u8>) {
    for _ in 0..rng.below(4) {
        if wire.is_empty() {
            return;
        }
        let at = rng.below(wire.len());
        let end = at + rng.below((wire.len() - at).min(12) + 1);
        match rng.below(8) {
            0 => drop(wire.remove(at)),
            1 => wire[at] = rng.below(256) as u8,
            2 => wire[at] ^= 1 << rng.below(8),
            3 => wire.truncate(at),
            4 => drop(wire.splice(at..end, wire[at..end].repeat(2))),
            5 => wire[at..end].reverse(),
            _ => {
                let word = rng.pick(WORDS).bytes();
                let to = if rng.once_in(2) { at } else { end };
                drop(wire.splice(at..to, word));
            }
        }
    }
}
