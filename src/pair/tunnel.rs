//! A tunnel: both connections speak another protocol now, and every byte goes over as it is.

use super::{flush_block, read_limit, send, splice};
use crate::buffer::Block;
use crate::client::{Client, Fault, Next, Task, Tools};
use crate::conn::{Conn, Filled, Flushed};
use crate::exchange::{Half, ResponseState};
use crate::link::Link;
use crate::mutant::{self, Mutant};
use crate::net::Socket;
use crate::pipes::{Lane, Pipes};

/// Moves bytes both ways until both sides have ended.
pub(super) fn pump<S: Socket>(
    client: &mut Client<S>,
    link: &mut Link<S>,
    task: &mut Task,
    tools: &mut Tools,
    pipes: &mut Pipes<S::Pipe>,
    budget: usize,
) -> Next {
    let ResponseState::Tunnel { mut up, mut down } = task.exchange.response else {
        return Next::Wait;
    };
    let mut left = budget;
    let next = loop {
        // What the client sent behind its request belongs to the new protocol, before all that is read
        // of it now.
        let halves = (up, down);
        let moved = match task.inbound {
            Some(_) => flush_block(&mut link.conn, &mut task.request, &mut tools.pool),
            None => relay(
                &mut client.conn,
                &mut link.conn,
                &mut up,
                (&mut task.request, &mut task.up),
                tools,
                pipes,
            ),
        }
        .and_then(|up| {
            Ok(up
                + relay(
                    &mut link.conn,
                    &mut client.conn,
                    &mut down,
                    (&mut task.answer, &mut task.down),
                    tools,
                    pipes,
                )?)
        });
        let Ok(moved) = moved else {
            break Next::Failed(Fault::ClientGone);
        };
        if task.request.is_none() && task.inbound.is_some() {
            task.request = task.inbound.take();
            continue;
        }
        // A half that ended changes how long the other one is waited for.
        task.has_moved |= moved > 0 || halves != (up, down);
        left = left.saturating_sub(moved);
        let is_one_shut = up == Half::Shut || down == Half::Shut;
        if (up, down) == (Half::Shut, Half::Shut)
            || is_one_shut && mutant::is(Mutant::TunnelEndsWithOneSide)
        {
            task.exchange.response = ResponseState::Complete;
            task.exchange.forbid_next();
            return Next::Finished;
        }
        if moved == 0 {
            break Next::Wait;
        }
        if left == 0 {
            break Next::Yield;
        }
    };
    task.exchange.response = ResponseState::Tunnel { up, down };
    next
}

/// Moves bytes one way; `held` and `lane`: what the receiver would not take. Tells how many moved.
fn relay<S: Socket>(
    from: &mut Conn<S>,
    to: &mut Conn<S>,
    half: &mut Half,
    (held, lane): (&mut Option<Block>, &mut Lane),
    tools: &mut Tools,
    pipes: &mut Pipes<S::Pipe>,
) -> Result<usize, Fault> {
    let Tools { scratch, pool, .. } = tools;
    let mut moved = flush_block(to, held, pool)?;
    moved += flush_pipe(to, lane, pipes)?;
    while held.is_none()
        && lane.is_empty()
        && *half == Half::Open
        && from.is_readable()
        && moved < tools.turn_bytes
    {
        let room = scratch.get_mut(..read_limit(pool)).unwrap_or_default();
        let most = if lane.is_wide() { u64::MAX } else { 0 };
        let spliced = splice::fill(from, to, lane, most, pipes);
        match spliced.unwrap_or_else(|| from.fill(room)) {
            Filled::Some(count) => {
                moved += count;
                if spliced.is_some() {
                    flush_pipe(to, lane, pipes)?;
                } else {
                    pipes.note(lane, count);
                    send(to, room.get(..count).unwrap_or_default(), held, pool)?;
                }
            }
            Filled::Blocked => break,
            Filled::End => *half = Half::Ended,
            Filled::Broken => return Err(Fault::ClientGone),
        }
    }
    if held.is_none() && lane.is_empty() && *half == Half::Ended {
        to.shutdown_write();
        *half = Half::Shut;
    }
    Ok(moved)
}

/// Sends what is in the pipe of `lane`. Tells how many bytes went.
fn flush_pipe<S: Socket>(
    to: &mut Conn<S>,
    lane: &mut Lane,
    pipes: &mut Pipes<S::Pipe>,
) -> Result<usize, Fault> {
    match splice::flush(to, lane, pipes) {
        Flushed::Some(count) => Ok(count),
        Flushed::Broken(_) => Err(Fault::ClientGone),
    }
}
