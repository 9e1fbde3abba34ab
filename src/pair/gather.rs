//! Responses to one client that has asked for more already: one send takes several of them.
//!
//! A client that pipelines is answered in order, one request at a time. A small response that is whole
//! waits a moment for the next one, if that is likely to be there soon; the loop sees to it that the
//! moment is short. Knows no clock but the one that is lent.

use std::time::Duration;

use super::{flush_block, send};
use crate::buffer::{Block, Pool};
use crate::client::{Client, Fault, Task};
use crate::exchange::ResponseState;
use crate::link::Link;
use crate::mutant::{self, Mutant};
use crate::net::{Socket, Time};

/// How long a whole response waits for the next one at most.
pub const MOMENT: Duration = Duration::from_millis(2);
/// How long it waits in all, while one follows the other within such moments.
const MOMENTS: Duration = Duration::from_millis(8);
/// What waits is no more than so many bytes.
pub(super) const GATHERED_MAX: usize = 16 << 10;
/// An exchange that took longer tells that the next one will, too: then nothing waits for it.
const SOON: Duration = Duration::from_millis(4);

/// Passes `piece`, the next of the response, on to the client, or lets it wait.
pub(super) fn pass_on<S: Socket>(
    client: &mut Client<S>,
    link: &Link<S>,
    task: &mut Task,
    piece: &[u8],
    (pool, now): (&mut Pool, Time),
) -> Result<(), Fault> {
    let waiting = task.gathered.as_ref().map_or(0, Block::len);
    if may_wait(link, task, now) && waiting + piece.len() <= GATHERED_MAX {
        client.has_gained = waiting > 0;
        if waiting == 0 {
            task.gathered_at = now;
        }
        return match pool.append(&mut task.gathered, piece) {
            true => Ok(()),
            false => Err(Fault::TooLong),
        };
    }
    if waiting == 0 || mutant::is(Mutant::GatheredOvertaken) {
        return send(&mut client.conn, piece, &mut task.answer, pool);
    }
    owe(task);
    // Never more than a receive behind what waited: both fit the largest block.
    if !pool.append(&mut task.answer, piece) {
        return Err(Fault::TooLong);
    }
    go_on(client, task, pool).map(drop)
}

/// Whether what waits is to wait on: its moment is not over, or it became more in this one.
pub fn goes_on<S>(client: &mut Client<S>, task: &Task, now: Time) -> bool {
    let has_gained = std::mem::take(&mut client.has_gained);
    let span = if has_gained { MOMENTS } else { MOMENT };
    task.gathered.is_some() && now < task.gathered_at + span
}

/// Sends what waits: the moment is over.
///
/// # Errors
/// `ClientGone`.
pub fn flush<S: Socket>(
    client: &mut Client<S>,
    task: &mut Task,
    pool: &mut Pool,
) -> Result<(), Fault> {
    if task.gathered.is_none() {
        return Ok(());
    }
    owe(task);
    let moved = go_on(client, task, pool)?;
    task.has_moved |= moved > 0;
    Ok(())
}

/// What waited is the client's now, whatever becomes of the request behind it.
pub fn owe(task: &mut Task) {
    if let Some(gathered) = task.gathered.take() {
        debug_assert!(task.answer.is_none());
        task.owed = gathered.len();
        task.answer = Some(gathered);
    }
}

/// Goes on sending what the client has still to take. Tells how many bytes went.
///
/// # Errors
/// `ClientGone`.
pub fn go_on<S: Socket>(
    client: &mut Client<S>,
    task: &mut Task,
    pool: &mut Pool,
) -> Result<usize, Fault> {
    let moved = flush_block(&mut client.conn, &mut task.answer, pool)?;
    task.owed = task.owed.saturating_sub(moved);
    Ok(moved)
}

/// The response that has begun will not be whole: of what is still to be sent only the responses before
/// it are left. Tells whether there are any.
pub fn cut_short(task: &mut Task) -> bool {
    owe(task);
    if let Some(answer) = &mut task.answer {
        answer.truncate(task.owed);
    }
    task.owed > 0
}

/// Whether a response that has come this far may wait for the next one: it is whole, the client has
/// asked for more, its connection goes on, and this server took no time.
fn may_wait<S>(link: &Link<S>, task: &Task, now: Time) -> bool {
    task.inbound.is_some()
        && task.trailers.is_empty()
        && matches!(task.exchange.response, ResponseState::Complete)
        && task.exchange.keeps_client()
        && link.ticket.is_some_and(|ticket| ticket.age(now) <= SOON)
}
