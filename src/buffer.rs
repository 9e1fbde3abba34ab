//! Blocks: the memory for bytes that must outlive the turn, from a pool that is bounded.
//!
//! A block is taken in the smallest of five sizes that fits, given back when it is empty, and taken
//! again last in, first out, while it is warm. An idle connection holds none. Knows no socket.

/// The sizes of blocks, in bytes.
pub const SIZES: [usize; 5] = [1 << 10, 4 << 10, 16 << 10, 64 << 10, 256 << 10];
/// The largest block, in bytes.
pub const SIZE_MAX: usize = SIZES[SIZES.len() - 1];

/// Free blocks that the pool keeps of each size beyond what the last period needed.
const SPARE: usize = 4;
/// How many freed pieces of a size glibc keeps at hand (its thread cache).
const KEPT_AT_HAND: usize = 7;

/// A run of bytes in a piece of memory: filled at its end, consumed at its start.
#[derive(Debug)]
pub struct Block {
    bytes: Box<[u8]>,
    start: u32,
    end: u32,
}

impl Block {
    /// What is in it.
    pub fn filled(&self) -> &[u8] {
        self.bytes
            .get(self.start as usize..self.end as usize)
            .unwrap_or_default()
    }

    /// What is in it, to be changed in place.
    pub fn filled_mut(&mut self) -> &mut [u8] {
        self.bytes
            .get_mut(self.start as usize..self.end as usize)
            .unwrap_or_default()
    }

    /// Bytes that are in it.
    pub fn len(&self) -> usize {
        (self.end - self.start) as usize
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Bytes that fit behind those that are in it.
    pub fn room(&self) -> usize {
        self.bytes.len() - self.end as usize
    }

    /// Its size in bytes.
    pub fn size(&self) -> usize {
        self.bytes.len()
    }

    /// The room behind what is in it; `advance` says how much of it was filled.
    pub fn spare(&mut self) -> &mut [u8] {
        self.bytes.get_mut(self.end as usize..).unwrap_or_default()
    }

    /// The first `count` bytes of `spare` are filled; at most `room` of them.
    pub fn advance(&mut self, count: usize) {
        debug_assert!(count <= self.room());
        self.end += count.min(self.room()) as u32;
    }

    /// Takes `count` bytes from its start; at most `len` of them.
    pub fn consume(&mut self, count: usize) {
        debug_assert!(count <= self.len());
        self.start += count.min(self.len()) as u32;
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
    }

    /// Keeps only the first `count` bytes of what is in it.
    pub fn truncate(&mut self, count: usize) {
        self.end = self.end.min(self.start + count.min(self.len()) as u32);
    }

    /// Appends as many of `bytes` as fit and tells how many that were.
    pub fn append(&mut self, bytes: &[u8]) -> usize {
        let count = bytes.len().min(self.room());
        if let (Some(room), Some(bytes)) = (self.spare().get_mut(..count), bytes.get(..count)) {
            room.copy_from_slice(bytes);
        }
        self.advance(count);
        count
    }
}

/// All blocks that are not in use, and the account of those that are.
#[derive(Debug)]
pub struct Pool {
    free: [Vec<Box<[u8]>>; SIZES.len()],
    /// The fewest free blocks of each size since the last `shrink`: nobody needed those.
    idle: [usize; SIZES.len()],
    used_bytes: usize,
    used_blocks: usize,
    wide_bytes_max: usize,
}

impl Pool {
    /// A pool that calls itself tight when more than `wide_bytes_max` bytes are in use.
    pub fn new(wide_bytes_max: usize) -> Pool {
        Pool {
            free: Default::default(),
            idle: [0; SIZES.len()],
            used_bytes: 0,
            used_blocks: 0,
            wide_bytes_max,
        }
    }

    /// A block with room for at least `room` bytes (at most `SIZE_MAX`: a larger wish gets that).
    pub fn take(&mut self, room: usize) -> Block {
        let class = SIZES
            .iter()
            .position(|size| *size >= room)
            .unwrap_or(SIZES.len() - 1);
        let size = SIZES.get(class).copied().unwrap_or(SIZE_MAX);
        self.used_bytes += size;
        self.used_blocks += 1;
        let found = self.free.get_mut(class).and_then(Vec::pop);
        if let (Some(idle), Some(free)) = (self.idle.get_mut(class), self.free.get(class)) {
            *idle = (*idle).min(free.len());
        }
        let bytes = found.unwrap_or_else(|| vec![0; size].into_boxed_slice());
        Block {
            bytes,
            start: 0,
            end: 0,
        }
    }

    /// Takes a block back, whatever is in it.
    pub fn give(&mut self, block: Block) {
        self.used_bytes -= block.size();
        self.used_blocks -= 1;
        if let Some(class) = SIZES.iter().position(|size| *size == block.size())
            && let Some(free) = self.free.get_mut(class)
        {
            free.push(block.bytes);
        }
    }

    /// Takes the block in `place` back, if one is there.
    pub fn give_from(&mut self, place: &mut Option<Block>) {
        if let Some(block) = place.take() {
            self.give(block);
        }
    }

    /// Appends `bytes` to the block in `place`, which is taken, compacted or exchanged for a larger
    /// one as needed. Tells whether they fitted into `SIZE_MAX`; if not, nothing is changed.
    #[must_use]
    pub fn append(&mut self, place: &mut Option<Block>, bytes: &[u8]) -> bool {
        if let Some(block) = place
            && block.room() >= bytes.len()
        {
            block.append(bytes);
            return true;
        }
        let total = place.as_ref().map_or(0, Block::len) + bytes.len();
        if total > SIZE_MAX {
            return false;
        }
        let mut larger = self.take(total);
        if let Some(block) = place.take() {
            larger.append(block.filled());
            self.give(block);
        }
        larger.append(bytes);
        *place = Some(larger);
        true
    }

    /// Whether so many bytes are in use that nobody should read ahead in large pieces.
    pub fn is_tight(&self) -> bool {
        self.used_bytes > self.wide_bytes_max
    }

    /// Blocks that are in use.
    pub fn used_blocks(&self) -> usize {
        self.used_blocks
    }

    /// Whether `shrink` may have something to free, now or the next time.
    pub fn is_wide(&self) -> bool {
        self.free.iter().any(|free| free.len() > SPARE)
    }

    /// Frees what nobody needed since the last call, but for a few spare blocks. To be called now and
    /// then: memory that a burst took goes back to the system soon after it. The highest addresses go
    /// first, since an allocator gives back the top of its heap, not its holes; but before them a few of
    /// the lowest, since the first that glibc gets are kept at hand, and would lie on top of the rest.
    pub fn shrink(&mut self) {
        for (free, idle) in self.free.iter_mut().zip(&mut self.idle) {
            let needless = idle.saturating_sub(SPARE).min(free.len());
            if needless > 0 {
                free.sort_unstable_by_key(|bytes| std::cmp::Reverse(bytes.as_ptr().addr()));
                let lowest = needless.min(KEPT_AT_HAND);
                free.truncate(free.len() - lowest);
                free.drain(..needless - lowest);
                free.shrink_to(2 * free.len());
            }
            *idle = free.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_size_that_fits_is_taken_and_taken_again() {
        let mut pool = Pool::new(1 << 20);
        let block = pool.take(4097);
        assert_eq!(block.size(), 16 << 10);
        let address = block.bytes.as_ptr();
        pool.give(block);
        assert_eq!(pool.take(5000).bytes.as_ptr(), address);
    }

    #[test]
    fn appending_grows_through_the_sizes_and_stops_at_the_largest() {
        let mut pool = Pool::new(1 << 20);
        let mut place = None;
        let piece = [7; 1000];
        let mut total = 0;
        while pool.append(&mut place, &piece) {
            total += piece.len();
            assert_eq!(place.as_ref().unwrap().len(), total);
        }
        assert_eq!(total, 262_000);
        assert!(
            place
                .as_ref()
                .unwrap()
                .filled()
                .iter()
                .all(|byte| *byte == 7)
        );
        assert_eq!(pool.used_blocks(), 1);
        pool.give_from(&mut place);
        assert_eq!((pool.used_blocks(), pool.used_bytes), (0, 0));
    }

    #[test]
    fn appending_behind_consumed_bytes_keeps_the_rest_in_order() {
        let mut pool = Pool::new(1 << 20);
        let mut place = None;
        assert!(pool.append(&mut place, &[1; 4000]));
        place.as_mut().unwrap().consume(3990);
        assert!(pool.append(&mut place, &[2; 200]));
        let block = place.unwrap();
        assert_eq!(block.size(), SIZES[0]);
        assert_eq!(block.filled(), [[1; 10].as_slice(), &[2; 200]].concat());
    }

    #[test]
    fn a_burst_goes_back_to_the_system() {
        let mut pool = Pool::new(1 << 20);
        let blocks: Vec<Block> = (0..1000).map(|_| pool.take(4096)).collect();
        assert!(pool.is_tight());
        blocks.into_iter().for_each(|block| pool.give(block));
        assert!(!pool.is_tight());
        // The period in which they were needed, and one in which they were not.
        pool.shrink();
        assert!(pool.is_wide());
        pool.shrink();
        assert!(!pool.is_wide());
        assert!(pool.free.iter().map(Vec::len).sum::<usize>() <= SPARE);
    }
}
