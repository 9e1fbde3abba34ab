//! The reading half of a session: heads, and content into the file or the account.

use std::mem;

use super::{Next, Session, State, Step};
use crate::buffer::{Block, SIZE_MAX};
use crate::conn::Filled;
use crate::http::body::{self, Keep, Meter};
use crate::http::head::{self, Refusal};
use crate::http::reply::CONTINUE;
use crate::net::Socket;
use crate::origin::names::Denied;
use crate::origin::site::{Asked, CONTENT_MAX, Effort, Job, Site};
use crate::origin::tools::Tools;
use crate::origin::work::Claim;

/// What one receive takes at most while a head is awaited, in bytes.
const HEAD_READ: usize = 16 << 10;
/// Room for a head and what came before it.
const HEAD_ROOM: usize = 64 << 10;

/// What a look at the bytes that came found.
enum Judged {
    /// The head is not whole.
    Unfinished,
    /// The head, so many bytes long.
    Head {
        used: usize,
        asked: Asked,
        framing: body::Framing,
        expects_continue: bool,
    },
}

impl<S: Socket> Session<S> {
    /// Reads until a request's head is whole and judged.
    pub(super) fn read_head(&mut self, tools: &mut Tools, site: &mut Site) -> Step {
        let has_unseen = |block: &Block| block.len() > self.searched;
        if self.inbound.as_ref().is_some_and(has_unseen) {
            return self.judge(tools, site);
        }
        if !self.conn.is_readable() {
            return Step::Wait;
        }
        match self.fill(HEAD_READ, tools) {
            Filled::Some(_) => Step::Moved(0),
            Filled::Blocked => Step::Wait,
            Filled::End => {
                // What was asked before is still to be answered.
                tools.pool.give_from(&mut self.inbound);
                self.state = State::Ended(Next::Close);
                Step::Moved(0)
            }
            Filled::Broken => Step::Gone,
        }
    }

    /// Receives once, behind what is there; `room` is what an empty block should have.
    fn fill(&mut self, room: usize, tools: &mut Tools) -> Filled {
        let mut block = self.inbound.take().unwrap_or_else(|| tools.pool.take(room));
        if block.room() == 0 {
            // A head with what came before it: the judge sees to it that this happens once.
            let mut larger = tools.pool.take(HEAD_ROOM);
            larger.append(block.filled());
            tools.pool.give(mem::replace(&mut block, larger));
        }
        let most = room.min(block.room());
        let filled = match block.spare().get_mut(..most) {
            Some(room) if !room.is_empty() => self.conn.fill(room),
            _ => Filled::Broken,
        };
        if let Filled::Some(count) = filled {
            block.advance(count);
        }
        self.put_back(block, tools);
        filled
    }

    /// Keeps `block` if something is in it.
    fn put_back(&mut self, block: Block, tools: &mut Tools) {
        if block.is_empty() {
            tools.pool.give(block);
        } else {
            self.inbound = Some(block);
        }
    }

    /// Judges what came: a head that is whole is begun with.
    fn judge(&mut self, tools: &mut Tools, site: &mut Site) -> Step {
        let Some(mut block) = self.inbound.take() else {
            return Step::Wait;
        };
        let judged = judge(block.filled(), self.searched, site);
        match judged {
            Ok(Judged::Unfinished) => {
                self.searched = block.len();
                if block.size() == SIZE_MAX {
                    // It came behind content, which was read in large pieces; this may take longer.
                    let mut smaller = tools.pool.take(block.len() + 1);
                    smaller.append(block.filled());
                    tools.pool.give(mem::replace(&mut block, smaller));
                }
                self.inbound = Some(block);
                return Step::Moved(0);
            }
            Ok(Judged::Head {
                used,
                asked,
                framing,
                expects_continue,
            }) => {
                self.searched = 0;
                block.consume(used);
                self.put_back(block, tools);
                self.begin(asked, framing, expects_continue, tools, site);
            }
            Err(refusal) => {
                tools.pool.give(block);
                let answer = site.refuse(refusal);
                self.last_answer(answer, tools, site);
            }
        }
        Step::Moved(0)
    }

    /// Begins with a request whose head is known.
    fn begin(
        &mut self,
        asked: Asked,
        framing: body::Framing,
        expects_continue: bool,
        tools: &mut Tools,
        site: &mut Site,
    ) {
        debug_assert_eq!(self.claim, Claim::None, "the request before is not over");
        if asked.effort != Effort::Aside {
            self.claim = site.work.enter();
        }
        let meter = Meter::new(framing, Keep::Data);
        if meter.is_done() {
            return self.complete(asked, 0, tools, site);
        }
        if matches!(framing, body::Framing::Length(length) if length > CONTENT_MAX) {
            return self.refuse((413, "the content is longer than 64 GiB"), tools, site);
        }
        if asked.job.is_refused() {
            // Content that nobody wants is not awaited.
            let answer = site.answer(asked.job, 0);
            return self.last_answer(answer, tools, site);
        }
        if expects_continue && self.inbound.is_none() {
            tools.out.append(CONTINUE);
        }
        self.state = State::Content {
            meter,
            asked,
            count: 0,
        };
    }

    /// Reads content, and keeps or counts it.
    pub(super) fn read_content(
        &mut self,
        mut meter: Meter,
        mut asked: Asked,
        mut count: u64,
        tools: &mut Tools,
        site: &mut Site,
    ) -> Step {
        if self.inbound.is_none() {
            if !self.conn.is_readable() {
                self.state = State::Content {
                    meter,
                    asked,
                    count,
                };
                return Step::Wait;
            }
            match self.fill(tools.piece(), tools) {
                Filled::Some(_) => self.has_moved = true,
                Filled::Blocked => {
                    self.state = State::Content {
                        meter,
                        asked,
                        count,
                    };
                    return Step::Wait;
                }
                // The request will never be whole, so it is not answered.
                Filled::End | Filled::Broken => return Step::Gone,
            }
        }
        let Some(mut block) = self.inbound.take() else {
            return Step::Wait;
        };
        let taken = take_content(block.filled_mut(), &mut meter, &mut asked.job, &mut count);
        let read = match taken {
            Ok(read) => read,
            Err(denied) => {
                tools.pool.give(block);
                self.refuse(denied, tools, site);
                return Step::Moved(0);
            }
        };
        block.consume(read);
        self.put_back(block, tools);
        if meter.is_done() {
            self.complete(asked, count, tools, site);
        } else {
            self.state = State::Content {
                meter,
                asked,
                count,
            };
        }
        Step::Moved(read)
    }
}

/// Judges the head that `bytes` begin with, of which `searched` were searched before.
fn judge(bytes: &[u8], searched: usize, site: &mut Site) -> Result<Judged, Refusal> {
    let blank = head::blank_lines(bytes);
    let bytes = bytes.get(blank..).unwrap_or_default();
    let searched = searched.saturating_sub(blank);
    let Some(end) = head::find_end(bytes, searched) else {
        head::begun(bytes, searched)?;
        return Ok(Judged::Unfinished);
    };
    let mut slots = head::slots();
    let request = head::request(bytes.get(..end).unwrap_or_default(), &mut slots)?;
    Ok(Judged::Head {
        used: blank + end,
        framing: request.framing,
        expects_continue: request.expects_continue,
        asked: site.ask(&request),
    })
}

/// Takes content from the front of `bytes`: into the file, if there is one. Tells how many bytes.
fn take_content(
    bytes: &mut [u8],
    meter: &mut Meter,
    job: &mut Job,
    count: &mut u64,
) -> Result<usize, Denied> {
    let passed = meter.pass(bytes).map_err(|refusal| {
        let rule = refusal.rule();
        (rule.status, rule.text)
    })?;
    *count += passed.kept as u64;
    if *count > CONTENT_MAX {
        return Err((413, "the content is longer than 64 GiB"));
    }
    if let Job::Put(upload) = job {
        upload.write(bytes.get(..passed.kept).unwrap_or_default())?;
    }
    Ok(passed.read)
}
