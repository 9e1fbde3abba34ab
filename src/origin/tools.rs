//! What the loop lends to each session for its time: memory that nobody keeps, blocks, the time.

use std::time::SystemTime;

use super::answer::Common;
use crate::buffer::{Block, Pool, SIZE_MAX};
use crate::net::Time;

/// Room that must be left where answers are collected, for a head and a chunk.
const ROOM_MIN: usize = 64 << 10;
/// What one read takes at most while many bytes are in use: what is left over fits a small block.
const TIGHT: usize = 16 << 10;
/// Bytes in blocks above which nobody reads ahead in large pieces.
const WIDE_BYTES_MAX: usize = 32 << 20;

/// What a turn lends to each session: memory that nobody keeps, the pool, and the time.
#[derive(Debug)]
pub(super) struct Tools {
    /// The blocks.
    pub(super) pool: Pool,
    /// What the session that is being served writes; empty between two of them.
    pub(super) out: Block,
    /// Heads are written here.
    pub(super) head: Vec<u8>,
    /// The fields that are in every head.
    pub(super) common: Common,
    /// The time of this turn.
    pub(super) now: Time,
    /// Whether the process is about to end.
    pub(super) is_draining: bool,
}

impl Tools {
    /// Tools for a loop that begins at `now`.
    pub(super) fn new(now: Time) -> Tools {
        let mut pool = Pool::new(WIDE_BYTES_MAX);
        Tools {
            out: pool.take(SIZE_MAX),
            pool,
            head: Vec::with_capacity(1024),
            common: Common::new(),
            now,
            is_draining: false,
        }
    }

    /// A turn begins.
    pub(super) fn begin_turn(&mut self, now: Time, date: SystemTime) {
        self.now = now;
        self.common.set(date);
    }

    /// Whether what is written should be sent before more is.
    pub(super) fn is_full(&self) -> bool {
        self.out.room() < ROOM_MIN || (self.pool.is_tight() && self.out.len() >= TIGHT)
    }

    /// What a read or a piece of content takes at most, in bytes.
    pub(super) fn piece(&self) -> usize {
        if self.pool.is_tight() {
            TIGHT
        } else {
            SIZE_MAX
        }
    }

    /// Blocks that sessions hold.
    pub(super) fn used_blocks(&self) -> usize {
        self.pool.used_blocks().saturating_sub(1)
    }

    /// Gives memory back that nobody needs.
    pub(super) fn shrink(&mut self) {
        self.pool.shrink();
    }
}
