//! Long content between plain sockets goes through a pipe of the kernel's, and nobody reads it.
//!
//! A pipe is filled only while it is empty, and what is in it goes on before anything else that goes
//! to the same side: the backpressure of a block. So "would block" always has one meaning: nothing
//! there when a pipe is filled, no room when it is emptied. Chooses by what is still to come; content
//! that has to be read, because it is chunked or will be, is left to the pump.

use super::{Fault, WHOLE_MAX};
use crate::buffer::Block;
use crate::client::{Client, Task, Tools};
use crate::conn::{Conn, Filled, Flushed};
use crate::exchange::{RequestState, ResponseState};
use crate::http::body::{Meter, Reframing};
use crate::link::Link;
use crate::mutant::{self, Mutant};
use crate::net::Socket;
use crate::pipes::{Lane, Pipes};

/// What one receive moves into a pipe at most, in bytes: what the largest pipe holds.
const FILL_MAX: usize = 1 << 20;

/// Receives content of the request and sends it on. None: it has to be read.
pub(super) fn request<S: Socket>(
    client: &mut Client<S>,
    link: &mut Link<S>,
    task: &mut Task,
    tools: &mut Tools,
    pipes: &mut Pipes<S::Pipe>,
) -> Option<Filled> {
    let RequestState::Content(meter) = &mut task.exchange.request else {
        return None;
    };
    let most = most(meter, &task.up);
    let kept = task.request.as_ref().map_or(0, Block::len) as u64;
    let is_kept = task.exchange.is_whole && task.request.is_some();
    if is_kept && kept.saturating_add(most) <= WHOLE_MAX as u64 {
        // It may have to be sent again.
        return None;
    }
    let filled = fill(&mut client.conn, &link.conn, &mut task.up, most, pipes)?;
    if let Filled::Some(count) = filled {
        meter.skip(count as u64);
        if meter.is_done() {
            task.exchange.request = RequestState::Complete;
        }
        task.exchange.content_came();
        // What nobody has read cannot be sent again.
        task.drop_sent(&mut tools.pool);
        flush_request(link, task, pipes);
    }
    Some(filled)
}

/// Sends what of the request is in its pipe. Tells how many bytes went.
pub(super) fn flush_request<S: Socket>(
    link: &mut Link<S>,
    task: &mut Task,
    pipes: &mut Pipes<S::Pipe>,
) -> usize {
    if link.broken.is_some() {
        return 0;
    }
    match flush(&mut link.conn, &mut task.up, pipes) {
        Flushed::Some(count) => count,
        Flushed::Broken(kind) => {
            link.broken = Some(kind);
            0
        }
    }
}

/// Receives content of the response and sends it on. None: it has to be read.
pub(super) fn response<S: Socket>(
    client: &mut Client<S>,
    link: &mut Link<S>,
    task: &mut Task,
    pipes: &mut Pipes<S::Pipe>,
) -> Result<Option<Filled>, Fault> {
    let is_as_it_is = task.exchange.reframing() == Reframing::None;
    let ResponseState::Content(meter) = &mut task.exchange.response else {
        return Ok(None);
    };
    // A head that has gone on has taken with it what waited for it.
    debug_assert!(task.answer.is_none() && task.gathered.is_none());
    let most = if is_as_it_is {
        most(meter, &task.down)
    } else {
        0
    };
    let filled = fill(&mut link.conn, &client.conn, &mut task.down, most, pipes);
    if let Some(Filled::Some(count)) = filled {
        meter.skip(count as u64);
        task.content_bytes += count as u64;
        if meter.is_done() {
            task.exchange.response = ResponseState::Complete;
        }
        flush_response(client, task, pipes)?;
    }
    Ok(filled)
}

/// Sends what of the response is in its pipe. Tells how many bytes went.
pub(super) fn flush_response<S: Socket>(
    client: &mut Client<S>,
    task: &mut Task,
    pipes: &mut Pipes<S::Pipe>,
) -> Result<usize, Fault> {
    match flush(&mut client.conn, &mut task.down, pipes) {
        Flushed::Some(count) => Ok(count),
        Flushed::Broken(_) => Err(Fault::ClientGone),
    }
}

/// Receives once from `from` into a pipe that is to be emptied into `to`, at most `most` bytes. None:
/// that would not pay, or cannot be done, and nothing was received.
pub(super) fn fill<S: Socket>(
    from: &mut Conn<S>,
    to: &Conn<S>,
    lane: &mut Lane,
    most: u64,
    pipes: &mut Pipes<S::Pipe>,
) -> Option<Filled> {
    if !pipes.pay_for(most)
        || !from.is_spliceable()
        || !to.is_spliceable()
        || !pipes.take(lane, || from.pipe())
    {
        return None;
    }
    let most = match mutant::is(Mutant::SpliceOverruns) {
        true => FILL_MAX,
        false => usize::try_from(most).unwrap_or(FILL_MAX).min(FILL_MAX),
    };
    let (pipe, _) = pipes.of(lane)?;
    let filled = from.splice_in(pipe, most);
    match filled {
        Some(Filled::Some(count)) => {
            pipes.note(lane, count);
            pipes.filled(lane, count);
        }
        Some(_) => pipes.give(lane),
        None => {
            pipes.give(lane);
            pipes.give_up();
        }
    }
    filled
}

/// Sends what is in the pipe of `lane`, until it is empty or `to` has no room.
pub(super) fn flush<S: Socket>(
    to: &mut Conn<S>,
    lane: &mut Lane,
    pipes: &mut Pipes<S::Pipe>,
) -> Flushed {
    let mut moved = 0;
    while let Some((pipe, held)) = pipes.of(lane) {
        if !to.is_writable() {
            if to.is_hung_up() {
                return Flushed::Broken(std::io::ErrorKind::ConnectionReset);
            }
            break;
        }
        match to.splice_out(pipe, held) {
            Flushed::Some(count) => {
                moved += count;
                pipes.drained(lane, count);
            }
            broken => return broken,
        }
    }
    Flushed::Some(moved)
}

/// How much of the content may go by unread; where its length is not known, what came last tells.
fn most(meter: &Meter, lane: &Lane) -> u64 {
    match meter {
        Meter::Length(left) => *left,
        Meter::UntilClose if lane.is_wide() => u64::MAX,
        _ => 0,
    }
}
