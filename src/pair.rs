//! A pair: a client and a link joined for one exchange, and the pump between them.
//!
//! Both directions use the one scratch: bytes are read into it, judged in place and sent from it at
//! once. Only what the other side would not take goes into a block, and while a block is there
//! nothing more is read for it: that is the backpressure. Decides nothing about servers.

pub mod gather;
mod splice;
mod tunnel;

use std::io;

use crate::access::Record;
use crate::buffer::{Block, Pool, SIZE_MAX};
use crate::client::{Client, Fault, Next, Task, Told, Tools};
use crate::conn::{Conn, Filled, Flushed};
use crate::exchange::{Heard, Loss, RequestState, ResponseState, Waiting};
use crate::http::body::{self, Meter, Reframing};
use crate::http::head::{self, Refusal, Slots, Version};
use crate::http::rewrite::{self, Answering};
use crate::link::Link;
use crate::mutant::{self, Mutant};
use crate::net::Socket;
use crate::pipes::Pipes;
use crate::sticky::Sticky;

/// What one receive takes at most, in bytes: with what may have to be put around it, it fits the
/// largest block.
const READ_MAX: usize = SIZE_MAX - 64;
/// The same while the pool is tight: what is left over fits a small block.
const READ_TIGHT: usize = 16 << 10;
/// The same for the content of a request: what comes behind it may be the next request, which has
/// to fit a block even when its head has grown.
const READ_REQUEST: usize = READ_MAX - HEADROOM;
/// The same while a response head is awaited.
const READ_HEAD: usize = 64 << 10;
/// Room before what is read, so that a head that grew fits before its content.
const HEADROOM: usize = 32 << 10;
/// Room behind what is read, for the end of a chunk.
const TAILROOM: usize = 2;
/// The scratch's size in bytes.
pub const SCRATCH: usize = HEADROOM + READ_MAX + TAILROOM;
/// The last chunk, and no trailers (RFC 9112 §7.1).
const LAST_CHUNK: &[u8] = b"0\r\n\r\n";
/// The longest request that is kept to be sent again, in bytes.
const WHOLE_MAX: usize = 64 << 10;

/// Moves what can be moved between `client` and `link`.
pub fn pump<S: Socket>(
    client: &mut Client<S>,
    link: &mut Link<S>,
    task: &mut Task,
    tools: &mut Tools,
    pipes: &mut Pipes<S::Pipe>,
) -> Next {
    let mut budget = tools.turn_bytes;
    let is_tunnel = matches!(task.exchange.response, ResponseState::Tunnel { .. });
    let has_ended = mutant::is(Mutant::EndTakenForAbort) && client.conn.is_peer_closed();
    if (client.conn.is_hung_up() || has_ended) && !is_tunnel {
        return Next::Failed(Fault::ClientGone);
    }
    loop {
        if matches!(task.exchange.response, ResponseState::Tunnel { .. }) {
            return tunnel::pump(client, link, task, tools, pipes, budget);
        }
        let up = match send_request(client, link, task, tools, pipes) {
            Ok(moved) => moved,
            Err(fault) => return Next::Failed(fault),
        };
        let down = match send_response(client, link, task, tools, pipes) {
            Ok(moved) => moved,
            Err(fault) => return Next::Failed(fault),
        };
        let is_complete = matches!(task.exchange.response, ResponseState::Complete);
        if is_complete && !task.has_answer() {
            return Next::Finished;
        }
        if up + down == 0 {
            return match link.broken {
                // Nothing can be sent and nothing more is to be read.
                Some(kind) if !link.conn.is_readable() && !task.has_answer() => {
                    Next::Failed(Fault::Link(Some(kind)))
                }
                _ => Next::Wait,
            };
        }
        task.has_moved = true;
        budget = budget.saturating_sub(up + down);
        if budget == 0 {
            return Next::Yield;
        }
    }
}

/// Sends what the client has still to take of a response whose link is gone.
pub fn finish<S: Socket>(client: &mut Client<S>, task: &mut Task, tools: &mut Tools) -> Next {
    match gather::go_on(client, task, &mut tools.pool) {
        Ok(moved) => task.has_moved |= moved > 0,
        Err(_) => return Next::Failed(Fault::ClientGone),
    }
    if task.answer.is_none() {
        Next::Finished
    } else {
        Next::Wait
    }
}

/// Who the pair waits for, now that nothing moves.
pub fn waiting<S: Socket>(client: &Client<S>, link: &Link<S>, task: &Task) -> Waiting {
    let has_unsent = task.has_unsent();
    match &task.exchange.response {
        ResponseState::Tunnel { .. } => Waiting::Tunnel,
        _ if task.has_answer() => Waiting::Reader,
        ResponseState::Awaited if link.served == 0 && !task.exchange.is_sent => Waiting::Connection,
        ResponseState::Awaited
            if !task.exchange.is_read()
                && !task.exchange.awaits_continue()
                && !has_unsent
                && !client.conn.is_readable() =>
        {
            Waiting::Content
        }
        _ => Waiting::Server,
    }
}

/// Sends the request: first what is in its block, then content straight from the client.
fn send_request<S: Socket>(
    client: &mut Client<S>,
    link: &mut Link<S>,
    task: &mut Task,
    tools: &mut Tools,
    pipes: &mut Pipes<S::Pipe>,
) -> Result<usize, Fault> {
    let mut moved = flush_request(link, task, &mut tools.pool);
    moved += splice::flush_request(link, task, pipes);
    while !task.has_unsent()
        && matches!(task.exchange.request, RequestState::Content(_))
        && client.conn.is_readable()
        && link.conn.is_writable()
        && link.broken.is_none()
        && moved < tools.turn_bytes
    {
        match splice::request(client, link, task, tools, pipes) {
            None => {}
            Some(Filled::Some(count)) => {
                moved += count;
                continue;
            }
            Some(Filled::Blocked) => break,
            Some(Filled::End | Filled::Broken) => return Err(Fault::ClientGone),
        }
        let RequestState::Content(meter) = &mut task.exchange.request else {
            break;
        };
        let Tools { scratch, pool, .. } = &mut *tools;
        let limit = read_limit(pool).min(READ_REQUEST);
        let room = scratch.get_mut(..limit).unwrap_or_default();
        let bytes = match client.conn.fill(room) {
            Filled::Some(count) => room.get_mut(..count).unwrap_or_default(),
            Filled::Blocked => break,
            Filled::End | Filled::Broken => return Err(Fault::ClientGone),
        };
        moved += bytes.len();
        let passed = meter.pass(bytes).map_err(Fault::Request)?;
        if meter.is_done() {
            task.exchange.request = RequestState::Complete;
        }
        task.exchange.content_came();
        let (bytes, rest) = bytes.split_at(passed.read);
        let content = bytes.get(..passed.kept).unwrap_or_default();
        // Not longer than what one receive took, and there was nothing before it.
        if !rest.is_empty() && !pool.append(&mut task.inbound, rest) {
            return Err(Fault::TooLong);
        }
        let kept = task.request.as_ref().map_or(0, Block::len);
        if task.exchange.is_whole && task.request.is_some() && kept + content.len() <= WHOLE_MAX {
            if !pool.append(&mut task.request, content) {
                return Err(Fault::TooLong);
            }
            flush_request(link, task, pool);
            continue;
        }
        task.drop_sent(pool);
        if content.is_empty() {
            // Only an extension or a trailer came, which does not go on.
            continue;
        }
        match link.conn.flush(content) {
            Flushed::Some(count) => hold(&mut task.request, content, count, pool)?,
            Flushed::Broken(kind) => link.broken = Some(kind),
        }
    }
    Ok(moved)
}

/// Sends what is in the request's block, and gives the block back if nobody will need it again.
fn flush_request<S: Socket>(link: &mut Link<S>, task: &mut Task, pool: &mut Pool) -> usize {
    let Some(block) = &task.request else { return 0 };
    let unsent = block.filled().get(task.sent..).unwrap_or_default();
    if unsent.is_empty() || !link.conn.is_writable() || link.broken.is_some() {
        return 0;
    }
    let count = match link.conn.flush(unsent) {
        Flushed::Some(count) => count,
        Flushed::Broken(kind) => {
            link.broken = Some(kind);
            return 0;
        }
    };
    task.sent += count;
    task.exchange.is_sent |= count > 0;
    if !task.exchange.may_go_again() {
        task.drop_sent(pool);
    }
    count
}

/// Reads the response and passes it on.
fn send_response<S: Socket>(
    client: &mut Client<S>,
    link: &mut Link<S>,
    task: &mut Task,
    tools: &mut Tools,
    pipes: &mut Pipes<S::Pipe>,
) -> Result<usize, Fault> {
    let mut moved = gather::go_on(client, task, &mut tools.pool)?;
    moved += splice::flush_response(client, task, pipes)?;
    while !task.has_answer()
        && matches!(
            task.exchange.response,
            ResponseState::Awaited | ResponseState::Content(_)
        )
        && link.conn.is_readable()
        && moved < tools.turn_bytes
    {
        let is_awaited = task.exchange.is_unanswered();
        let limit = match (is_awaited, &task.gathered) {
            (false, _) => READ_MAX,
            (true, None) => READ_HEAD,
            // What is read has to fit behind what waits already.
            (true, Some(_)) => READ_TIGHT,
        };
        let limit = limit.min(read_limit(&tools.pool));
        let room = tools
            .scratch
            .get_mut(HEADROOM..HEADROOM + limit)
            .unwrap_or_default();
        let filled = match splice::response(client, link, task, pipes)? {
            None => link.conn.fill(room),
            Some(Filled::Some(count)) => {
                moved += count;
                continue;
            }
            Some(ended) => ended,
        };
        let count = match filled {
            Filled::Some(count) => count,
            Filled::Blocked => break,
            ended => {
                let in_order = ended == Filled::End && link.broken.is_none();
                if task.exchange.lost(in_order) == Loss::End {
                    task.exchange.response = ResponseState::Complete;
                    if task.exchange.reframing() == Reframing::Chunk
                        && !mutant::is(Mutant::LastChunkForgotten)
                    {
                        send(
                            &mut client.conn,
                            LAST_CHUNK,
                            &mut task.answer,
                            &mut tools.pool,
                        )?;
                    }
                    break;
                }
                return Err(Fault::Link(link.broken));
            }
        };
        if !task.exchange.is_sent {
            // Whatever this answers, it is not this request.
            return Err(Fault::Link(Some(io::ErrorKind::InvalidData)));
        }
        pipes.note(&mut task.down, count);
        if is_awaited {
            // Parts of a head are no progress: who sends it byte by byte has no more time for it.
            moved += answer_head(client, link, task, tools, count)?;
        } else {
            moved += count;
            let Tools {
                scratch,
                head,
                pool,
                now,
                ..
            } = &mut *tools;
            let now = *now;
            let bytes = scratch
                .get_mut(HEADROOM..HEADROOM + count)
                .unwrap_or_default();
            let kept = meter_response(bytes, task).map_err(Fault::Response)?;
            head.clear();
            let reframing = task.exchange.reframing();
            let piece = around(scratch, head, HEADROOM, kept, reframing).ok_or(Fault::TooLong)?;
            gather::pass_on(client, link, task, piece, (pool, now))?;
        }
    }
    if !task.has_answer() && !task.trailers.is_empty() {
        let Tools { head, pool, .. } = tools;
        if mutant::is(Mutant::TrailersLost) {
            task.trailers.clear();
        }
        head.clear();
        body::trailers(head, &std::mem::take(&mut task.trailers));
        moved += head.len();
        send(&mut client.conn, head, &mut task.answer, pool)?;
    }
    Ok(moved)
}

/// Takes `count` bytes in the scratch as the (next part of the) response's head, and sends it with
/// the content that came along in one piece. Tells how many of them were of use by now.
fn answer_head<S: Socket>(
    client: &mut Client<S>,
    link: &Link<S>,
    task: &mut Task,
    tools: &mut Tools,
    count: usize,
) -> Result<usize, Fault> {
    let Tools {
        scratch,
        head,
        pool,
        slots,
        date,
        is_draining,
        retry_statuses,
        told,
        now,
        sticky,
        ..
    } = tools;
    let now = *now;
    let mut hearing = Hearing {
        slots,
        date,
        is_draining: *is_draining,
        retry_statuses,
        told,
        sticky,
    };
    let end = HEADROOM + count;
    head.clear();
    if let Some(mut block) = task.heard.take() {
        // The head came in pieces: its parts are joined in the block.
        let searched = block.len();
        let mut joined = Some(block);
        if !pool.append(&mut joined, scratch.get(HEADROOM..end).unwrap_or_default()) {
            task.heard = joined;
            return Err(Fault::Response(Refusal::HeadTooLong));
        }
        let Some(joined) = joined else { return Ok(0) };
        block = joined;
        let judged = judge_response(block.filled_mut(), searched, task, head, &mut hearing);
        if let Ok(judged) = &judged {
            let filled = block.filled();
            let content = filled
                .get(judged.content..judged.content + judged.kept)
                .unwrap_or_default();
            let is_chunk = task.exchange.reframing() == Reframing::Chunk && !content.is_empty();
            if is_chunk {
                chunk_size(head, content.len());
            }
            head.extend_from_slice(content);
            head.extend_from_slice(if is_chunk { b"\r\n" } else { b"" });
        }
        return match judged {
            Ok(Judged {
                content,
                is_whole: false,
                ..
            }) => {
                block.consume(content);
                task.heard = Some(block);
                gather::pass_on(client, link, task, head, (pool, now))?;
                Ok(content)
            }
            Ok(_) => {
                pool.give(block);
                task.drop_sent(pool);
                gather::pass_on(client, link, task, head, (pool, now))?;
                Ok(count)
            }
            Err(fault) => {
                pool.give(block);
                Err(fault)
            }
        };
    }
    let bytes = scratch.get_mut(HEADROOM..end).unwrap_or_default();
    let judged = judge_response(bytes, 0, task, head, &mut hearing)?;
    if !judged.is_whole {
        let rest = bytes.get(judged.content..).unwrap_or_default();
        if !rest.is_empty() && !pool.append(&mut task.heard, rest) {
            return Err(Fault::Response(Refusal::HeadTooLong));
        }
        gather::pass_on(client, link, task, head, (pool, now))?;
        return Ok(judged.content);
    }
    task.drop_sent(pool);
    let content = HEADROOM + judged.content;
    let reframing = task.exchange.reframing();
    let piece = around(scratch, head, content, judged.kept, reframing).ok_or(Fault::TooLong)?;
    gather::pass_on(client, link, task, piece, (pool, now))?;
    Ok(count)
}

/// Puts `head`, and the frame of a chunk if the content has to have one, around the `kept` bytes of
/// content at `content`: all of it lies in one piece in the scratch, so that one send does. None: it
/// has no room there, which never happens.
fn around<'s>(
    scratch: &'s mut [u8],
    head: &mut Vec<u8>,
    content: usize,
    kept: usize,
    reframing: Reframing,
) -> Option<&'s [u8]> {
    let mut end = content + kept;
    if reframing == Reframing::Chunk && kept > 0 {
        chunk_size(head, kept);
        scratch
            .get_mut(end..end + TAILROOM)?
            .copy_from_slice(b"\r\n");
        end += TAILROOM;
    }
    // What stands before the content is the head that came, or room: a new head is hardly longer.
    let start = content.checked_sub(head.len());
    debug_assert!(start.is_some());
    let start = start?;
    scratch.get_mut(start..content)?.copy_from_slice(head);
    scratch.get(start..end)
}

/// Appends a chunk's size line (RFC 9112 §7.1).
fn chunk_size(out: &mut Vec<u8>, size: usize) {
    use std::io::Write;
    // A vector takes all that is written into it.
    let _ = write!(out, "{size:x}\r\n");
}

/// What was found in the bytes of a response.
struct Judged {
    /// Where the content begins; while the head is not whole: the bytes that were used up.
    content: usize,
    /// How much content goes on, from there.
    kept: usize,
    /// Whether the final head is whole.
    is_whole: bool,
}

/// What a response is judged by, and what it tells beside itself.
struct Hearing<'t> {
    slots: &'t mut Slots,
    date: &'t str,
    is_draining: bool,
    retry_statuses: &'t [u16],
    told: &'t mut Told,
    sticky: &'t Sticky,
}

/// Judges the heads that `bytes` begin with and writes them to `out` as they go on, then meters the
/// content behind the final one.
fn judge_response(
    bytes: &mut [u8],
    searched: usize,
    task: &mut Task,
    out: &mut Vec<u8>,
    hearing: &mut Hearing<'_>,
) -> Result<Judged, Fault> {
    let mut at = 0;
    let mut searched = searched;
    loop {
        let rest = bytes.get(at..).unwrap_or_default();
        let is_sent_whole = !task.has_unsent();
        let exchange = &mut task.exchange;
        let next = head::next_response(rest, searched, exchange.method, hearing.slots);
        let Some(response) = next.map_err(Fault::Response)? else {
            return Ok(Judged {
                content: at,
                kept: 0,
                is_whole: false,
            });
        };
        let is_unwanted = response.status >= 400
            && hearing.retry_statuses.contains(&response.status)
            && task.may_turn
            && exchange.may_go_again();
        hearing.told.hear(&response);
        if is_unwanted {
            return Err(Fault::Unwanted(response.status));
        }
        let heard = exchange
            .hear(&response, is_sent_whole)
            .map_err(Fault::Response)?;
        if hearing.is_draining && heard == Heard::Final {
            exchange.forbid_next();
        }
        // RFC 9110 §15.2: an HTTP/1.0 client knows no interim responses.
        if heard != Heard::Interim || exchange.version == Version::Http11 {
            let answering = Answering {
                version: exchange.version,
                close: !exchange.keeps_client(),
                reframing: exchange.reframing(),
                date: Some(hearing.date),
                switch: heard == Heard::Switch,
                trailers: exchange.passes_trailers(),
                id: task.record.as_deref().and_then(Record::id),
                cookie: hearing.sticky.line(&task.stick),
            };
            rewrite::response(out, &response, answering);
        }
        let status = response.status;
        at += response.fields.source().len();
        searched = 0;
        if heard != Heard::Interim {
            task.status = status;
            break;
        }
    }
    let content = bytes.get_mut(at..).unwrap_or_default();
    let kept = meter_response(content, task).inspect_err(|_| {
        // The head has not gone on, so that the client can be told.
        task.exchange.unhear();
    });
    let kept = kept.map_err(Fault::Response)?;
    Ok(Judged {
        content: at,
        kept,
        is_whole: true,
    })
}

/// Meters content of the response in place: how much of it goes on.
fn meter_response(bytes: &mut [u8], task: &mut Task) -> Result<usize, Refusal> {
    match &mut task.exchange.response {
        ResponseState::Content(meter) => {
            let passed = meter.pass(bytes)?;
            task.content_bytes += passed.kept as u64;
            task.has_rest |= passed.read < bytes.len();
            if meter.is_done() {
                if let Meter::Trailed(section) = meter {
                    task.trailers = std::mem::take(section);
                }
                task.exchange.response = ResponseState::Complete;
            }
            Ok(passed.kept)
        }
        // Behind a switch every byte belongs to the new protocol.
        ResponseState::Tunnel { .. } => Ok(bytes.len()),
        ResponseState::Awaited | ResponseState::Complete => {
            task.has_rest |= !bytes.is_empty();
            Ok(0)
        }
    }
}

/// Sends `bytes`; what is not taken goes into the block in `held`, which must be empty.
fn send<S: Socket>(
    conn: &mut Conn<S>,
    bytes: &[u8],
    held: &mut Option<Block>,
    pool: &mut Pool,
) -> Result<(), Fault> {
    if bytes.is_empty() {
        return Ok(());
    }
    match conn.flush(bytes) {
        Flushed::Some(count) => hold(held, bytes, count, pool),
        Flushed::Broken(_) => Err(Fault::ClientGone),
    }
}

/// Keeps what of `bytes` is behind the first `count`.
fn hold(
    held: &mut Option<Block>,
    bytes: &[u8],
    count: usize,
    pool: &mut Pool,
) -> Result<(), Fault> {
    let rest = bytes.get(count..).unwrap_or_default();
    if rest.is_empty() || mutant::is(Mutant::RestNotHeld) {
        return Ok(());
    }
    // Never more than one receive took and a head, and `held` was empty.
    if pool.append(held, rest) {
        Ok(())
    } else {
        Err(Fault::TooLong)
    }
}

/// Sends what is held, and gives the block back once it is empty. Tells how many bytes went.
fn flush_block<S: Socket>(
    conn: &mut Conn<S>,
    held: &mut Option<Block>,
    pool: &mut Pool,
) -> Result<usize, Fault> {
    let Some(block) = held else { return Ok(0) };
    if !conn.is_writable() {
        return if conn.is_hung_up() {
            Err(Fault::ClientGone)
        } else {
            Ok(0)
        };
    }
    match conn.flush(block.filled()) {
        Flushed::Some(count) => {
            block.consume(count);
            if block.is_empty() {
                pool.give_from(held);
            }
            Ok(count)
        }
        Flushed::Broken(_) => Err(Fault::ClientGone),
    }
}

/// How much one receive may take: what is read may have to be held.
fn read_limit(pool: &Pool) -> usize {
    if pool.is_tight() {
        READ_TIGHT
    } else {
        READ_MAX
    }
}
