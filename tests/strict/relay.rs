//! The balancer's own functions, put together as its loop does: streams in, streams out.
//!
//! The only file here that knows them. What the loop adds to them is in `pipes`.

use bestguess::exchange::{Exchange, Heard, ResponseState};
use bestguess::http::body::{self, Framing, Keep, Meter, Reframing};
use bestguess::http::head::{self, Refusal};
use bestguess::http::rewrite::{self, Answering, Forwarding};

/// The Host of requests without one.
pub const HOST_DEFAULT: &str = "default:80";
/// The `Date` of responses without one.
pub const DATE: &str = "Thu, 01 Jan 1970 00:00:00 GMT";

/// How a stream is cut into the pieces that are received.
#[derive(Debug, Clone)]
pub enum Cuts {
    /// Not at all.
    Whole,
    /// By chance, from this seed: mostly small, sometimes large.
    Seeded(u64),
}

impl Cuts {
    /// The length of the next piece of `left` bytes.
    pub fn next(&mut self, left: usize) -> usize {
        let Cuts::Seeded(seed) = self else {
            return left;
        };
        *seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let chance = (*seed >> 33) as usize;
        let most = [1, 2, 7, 40, 300, 5000][chance % 6];
        (1 + chance / 6 % most).min(left)
    }
}

/// One message as it went on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sent {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// How many of them are its head.
    pub head: usize,
    /// Whether it was read to its end.
    pub is_whole: bool,
}

/// Why nothing more was read of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// There was no more.
    Waiting,
    /// A rule was broken.
    Refused(Refusal),
    /// What follows is nobody's: the sender has said its last message, or the response is complete.
    Over,
    /// The stream ended where the message did not.
    Cut,
}

/// What became of one stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relayed {
    /// What went on, in order; only the last one may not be whole.
    pub sent: Vec<Sent>,
    /// How many bytes were taken for that.
    pub used: usize,
    /// Why that was all.
    pub end: End,
}

/// Bytes from a client, received in pieces, to a server.
pub fn requests(wire: &[u8], mut cuts: Cuts, forwarding: &Forwarding<'_>) -> Relayed {
    let mut relayed = Relayed {
        sent: Vec::new(),
        used: 0,
        end: End::Waiting,
    };
    let (mut buffer, mut searched, mut received) = (Vec::new(), 0, 0);
    let mut content: Option<(Meter, bool)> = None;
    loop {
        let step = match &mut content {
            None => start_request(&buffer, searched, forwarding),
            Some((meter, _)) => go_on(meter, &mut buffer, &mut relayed.sent),
        };
        match step {
            Err(refusal) => {
                relayed.end = End::Refused(refusal);
                return relayed;
            }
            Ok(Step::More) => searched = buffer.len(),
            Ok(Step::Content(read)) => {
                buffer.drain(..read);
                relayed.used += read;
            }
            Ok(Step::Head(read, sent, meter, is_last)) => {
                buffer.drain(..read);
                relayed.used += read;
                searched = 0;
                relayed.sent.push(sent);
                content = Some((meter, is_last));
            }
        }
        if let Some((meter, is_last)) = &content
            && meter.is_done()
        {
            let is_last = *is_last;
            content = None;
            searched = 0;
            if let Some(sent) = relayed.sent.last_mut() {
                sent.is_whole = true;
            }
            if is_last {
                relayed.end = End::Over;
                return relayed;
            }
            if !buffer.is_empty() {
                continue;
            }
        } else if content.is_some() && !buffer.is_empty() {
            continue;
        }
        if received == wire.len() {
            return relayed;
        }
        let piece = cuts.next(wire.len() - received);
        buffer.extend_from_slice(&wire[received..received + piece]);
        received += piece;
    }
}

enum Step {
    /// The head is not whole.
    More,
    /// So many bytes of content were read.
    Content(usize),
    /// A head was read: how long it was, what goes on, its content's meter, whether it is the last.
    Head(usize, Sent, Meter, bool),
}

fn start_request(
    buffer: &[u8],
    searched: usize,
    forwarding: &Forwarding<'_>,
) -> Result<Step, Refusal> {
    let blank = head::blank_lines(buffer);
    let bytes = &buffer[blank..];
    let searched = searched.saturating_sub(blank);
    let mut slots = head::slots();
    let Some(request) = head::next_request(bytes, searched, &mut slots)? else {
        return Ok(Step::More);
    };
    let end = request.fields.source().len();
    let mut out = Vec::new();
    rewrite::request(&mut out, &request, forwarding);
    let sent = Sent {
        head: out.len(),
        bytes: out,
        is_whole: false,
    };
    let meter = Meter::new(request.framing, Keep::Chunks);
    Ok(Step::Head(blank + end, sent, meter, !request.keep_alive))
}

fn go_on(meter: &mut Meter, buffer: &mut [u8], sent: &mut [Sent]) -> Result<Step, Refusal> {
    let passed = meter.pass(buffer)?;
    if let Some(sent) = sent.last_mut() {
        sent.bytes.extend_from_slice(&buffer[..passed.kept]);
    }
    Ok(Step::Content(passed.read))
}

/// Bytes from a server, received in pieces, to the client whose request `asked` is, a whole head;
/// `is_ended`: the server ends its stream behind them. The second is what the exchange thinks of its
/// client's connection.
pub fn responses(wire: &[u8], mut cuts: Cuts, asked: &[u8], is_ended: bool) -> (Relayed, bool) {
    let mut exchange = Exchange::default();
    let mut slots = head::slots();
    if let Ok(request) = head::request(asked, &mut slots) {
        exchange.ask(&request);
    }
    let mut relayed = Relayed {
        sent: Vec::new(),
        used: 0,
        end: End::Waiting,
    };
    let (mut buffer, mut searched, mut received) = (Vec::new(), 0, 0);
    loop {
        match answer(&mut exchange, &mut buffer, searched, &mut relayed) {
            Err(refusal) => {
                relayed.end = End::Refused(refusal);
                break;
            }
            Ok(true) => {
                searched = 0;
                continue;
            }
            Ok(false) => searched = buffer.len(),
        }
        if matches!(exchange.response, ResponseState::Complete) {
            relayed.end = End::Over;
            break;
        }
        if received == wire.len() {
            if is_ended {
                end(&exchange, &mut relayed);
            }
            break;
        }
        let piece = cuts.next(wire.len() - received);
        buffer.extend_from_slice(&wire[received..received + piece]);
        received += piece;
    }
    let is_over = matches!(exchange.response, ResponseState::Complete) || relayed.end == End::Over;
    if let Some(sent) = relayed.sent.last_mut()
        && is_over
    {
        sent.is_whole = true;
    }
    (relayed, exchange.keeps_client())
}

/// Takes what it can of `buffer`: whether there may be more to take.
fn answer(
    exchange: &mut Exchange,
    buffer: &mut Vec<u8>,
    searched: usize,
    relayed: &mut Relayed,
) -> Result<bool, Refusal> {
    let chunk = exchange.reframing() == Reframing::Chunk;
    match &mut exchange.response {
        ResponseState::Awaited => answer_head(exchange, buffer, searched, relayed),
        ResponseState::Content(meter) => {
            let passed = meter.pass(buffer)?;
            if let Some(sent) = relayed.sent.last_mut() {
                wrap(&mut sent.bytes, &buffer[..passed.kept], chunk);
            }
            buffer.drain(..passed.read);
            relayed.used += passed.read;
            if meter.is_done() {
                if let (Meter::Trailed(section), Some(sent)) = (meter, relayed.sent.last_mut()) {
                    body::trailers(&mut sent.bytes, section);
                }
                exchange.response = ResponseState::Complete;
            }
            Ok(false)
        }
        // Behind a switch every byte goes over as it is.
        ResponseState::Tunnel { .. } => {
            exchange.response = ResponseState::Complete;
            Ok(false)
        }
        ResponseState::Complete => Ok(false),
    }
}

fn answer_head(
    exchange: &mut Exchange,
    buffer: &mut Vec<u8>,
    searched: usize,
    relayed: &mut Relayed,
) -> Result<bool, Refusal> {
    let mut slots = head::slots();
    let next = head::next_response(buffer, searched, exchange.method, &mut slots)?;
    let Some(response) = next else {
        return Ok(false);
    };
    let end = response.fields.source().len();
    let heard = exchange.hear(&response, true)?;
    let answering = Answering {
        version: exchange.version,
        close: !exchange.keeps_client(),
        reframing: exchange.reframing(),
        date: Some(DATE),
        switch: heard == Heard::Switch,
        trailers: exchange.passes_trailers(),
        id: None,
        cookie: None,
    };
    if heard != Heard::Interim || exchange.version == head::Version::Http11 {
        let mut out = Vec::new();
        rewrite::response(&mut out, &response, answering);
        relayed.sent.push(Sent {
            head: out.len(),
            bytes: out,
            is_whole: heard == Heard::Interim,
        });
    }
    buffer.drain(..end);
    relayed.used += end;
    Ok(true)
}

/// Puts content into a chunk, where that is how its end is told.
fn wrap(out: &mut Vec<u8>, content: &[u8], chunk: bool) {
    if !chunk {
        return out.extend_from_slice(content);
    }
    if !content.is_empty() {
        out.extend_from_slice(format!("{:x}\r\n", content.len()).as_bytes());
        out.extend_from_slice(content);
        out.extend_from_slice(b"\r\n");
    }
}

/// The server has ended its stream.
fn end(exchange: &Exchange, relayed: &mut Relayed) {
    match &exchange.response {
        ResponseState::Content(meter) if meter.ends_with_stream() => {
            relayed.end = End::Over;
            if let Some(sent) = relayed.sent.last_mut()
                && exchange.reframing() == Reframing::Chunk
            {
                sent.bytes.extend_from_slice(b"0\r\n\r\n");
            }
        }
        _ => relayed.end = End::Cut,
    }
}

/// Chunks, received in pieces: what goes on, and how much was read if that was to their end.
pub fn chunks(wire: &[u8], mut cuts: Cuts, keep: Keep) -> Result<(Vec<u8>, Option<usize>), ()> {
    let mut meter = Meter::new(Framing::Chunked, keep);
    let (mut out, mut read) = (Vec::new(), 0);
    while read < wire.len() {
        let piece = cuts.next(wire.len() - read);
        let mut piece = wire[read..read + piece].to_vec();
        let passed = meter.pass(&mut piece).map_err(drop)?;
        assert!(passed.kept <= passed.read && passed.read <= piece.len());
        assert!(meter.is_done() || passed.read == piece.len());
        out.extend_from_slice(&piece[..passed.kept]);
        read += passed.read;
        if meter.is_done() {
            if let Meter::Trailed(section) = &meter {
                body::trailers(&mut out, section);
            }
            return Ok((out, Some(read)));
        }
    }
    Ok((out, None))
}
