//! Pipes: bytes on their way from one socket to another that nobody reads, from a pool that is bounded.
//!
//! The twin of `buffer`: a pipe is taken when there is something to be put into it, given back when
//! it is empty, and taken again last in, first out. One with bytes in it is never given to anybody
//! else: it is closed, and they are gone. Moves no bytes itself and knows no message.

use slab::Slab;

use crate::mutant::{self, Mutant};

/// Free pipes that are kept whatever the last period needed.
const SPARE: usize = 1;

/// All pipes of type `P`.
#[derive(Debug)]
pub struct Pipes<P> {
    all: Slab<P>,
    free: Vec<usize>,
    /// The fewest free ones since the last `shrink`: nobody needed those.
    idle: usize,
    /// How much has to be under way to be worth a pipe, in bytes.
    least: u64,
    max: usize,
    /// Whether the system had none to give; it is asked again after the next `shrink`.
    is_refused: bool,
}

/// One direction of a pair, as far as pipes go.
#[derive(Debug, Default)]
pub struct Lane {
    /// The pipe and how many bytes are in it; between two steps at least 1.
    piped: Option<(usize, usize)>,
    /// Whether the last receive brought so much that a pipe would have paid.
    is_wide: bool,
}

impl Lane {
    /// Whether no bytes are on their way in a pipe.
    pub fn is_empty(&self) -> bool {
        self.piped.is_none() || mutant::is(Mutant::PipeForgotten)
    }

    /// Bytes that are on their way in a pipe.
    pub fn held(&self) -> usize {
        self.piped.map_or(0, |(_, held)| held)
    }

    /// Whether much came last, and so may come next.
    pub fn is_wide(&self) -> bool {
        self.is_wide
    }
}

impl<P> Pipes<P> {
    /// No pipes yet, and never more than `max`, for what is at least `least` bytes long.
    pub fn new(max: usize, least: u64) -> Pipes<P> {
        Pipes {
            all: Slab::new(),
            free: Vec::new(),
            idle: 0,
            least,
            max,
            is_refused: false,
        }
    }

    /// Whether `count` bytes are worth a pipe, and there may be one.
    pub fn pay_for(&self, count: u64) -> bool {
        count >= self.least && self.max > 0
    }

    /// A receive brought `count` bytes into `lane`, by whatever way.
    pub fn note(&self, lane: &mut Lane, count: usize) {
        lane.is_wide = self.pay_for(count as u64);
    }

    /// Gives `lane` an empty pipe, a free one or what `make` makes; false: there is none.
    #[must_use]
    pub fn take(&mut self, lane: &mut Lane, make: impl FnOnce() -> Option<P>) -> bool {
        debug_assert!(lane.piped.is_none());
        let mut found = self.free.pop();
        self.idle = self.idle.min(self.free.len());
        if found.is_none() && self.all.len() < self.max && !self.is_refused {
            found = make().map(|pipe| self.all.insert(pipe));
            self.is_refused = found.is_none();
        }
        lane.piped = found.map(|key| (key, 0));
        found.is_some()
    }

    /// The pipe in `lane`, and how many bytes are in it.
    pub fn of<'p>(&'p mut self, lane: &Lane) -> Option<(&'p mut P, usize)> {
        let (key, held) = lane.piped?;
        Some((self.all.get_mut(key)?, held))
    }

    /// `count` bytes were put into the pipe of `lane`, which was empty.
    pub fn filled(&mut self, lane: &mut Lane, count: usize) {
        if let Some((_, held)) = &mut lane.piped {
            debug_assert!(*held == 0);
            *held = count;
        }
    }

    /// `count` bytes were taken out of the pipe of `lane`, which is given back once it is empty.
    pub fn drained(&mut self, lane: &mut Lane, count: usize) {
        if let Some((_, held)) = &mut lane.piped {
            debug_assert!(count <= *held);
            *held = held.saturating_sub(count);
            if *held == 0 {
                self.give(lane);
            }
        }
    }

    /// Takes the pipe of `lane` back, if it has one. What is still in it is lost with it.
    pub fn give(&mut self, lane: &mut Lane) {
        match lane.piped.take() {
            None => {}
            Some(_) if mutant::is(Mutant::PipeLeaked) => {}
            Some((key, held)) if held == 0 || mutant::is(Mutant::PipeReusedWithBytes) => {
                self.free.push(key);
            }
            Some((key, _)) => {
                self.all.try_remove(key);
            }
        }
    }

    /// The system does not do what pipes are for: there will be none.
    pub fn give_up(&mut self) {
        self.max = 0;
    }

    /// Pipes that are in use.
    pub fn used(&self) -> usize {
        self.all.len() - self.free.len()
    }

    /// Closes half of what nobody needed since the last call, but for a spare one. To be called now
    /// and then: descriptors that a burst took go back to the system in some rounds.
    pub fn shrink(&mut self) {
        let needless = self.idle.saturating_sub(SPARE).div_ceil(2);
        for key in self.free.drain(..needless.min(self.free.len())) {
            self.all.try_remove(key);
        }
        self.idle = self.free.len();
        self.is_refused = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pipe_is_taken_again_only_if_it_is_empty() {
        let mut pipes = Pipes::new(2, 1);
        let (mut one, mut other) = (Lane::default(), Lane::default());
        assert!(pipes.take(&mut one, || Some("first")));
        pipes.filled(&mut one, 10);
        pipes.drained(&mut one, 4);
        assert_eq!((one.held(), pipes.used()), (6, 1));
        pipes.drained(&mut one, 6);
        assert!(one.is_empty());
        assert!(pipes.take(&mut other, || Some("second")));
        assert_eq!(pipes.of(&other).map(|(pipe, _)| *pipe), Some("first"));
        pipes.filled(&mut other, 1);
        pipes.give(&mut other);
        assert!(pipes.take(&mut one, || Some("third")));
        assert_eq!(pipes.of(&one).map(|(pipe, _)| *pipe), Some("third"));
    }

    #[test]
    fn there_are_never_more_than_the_most() {
        let mut pipes = Pipes::new(2, 1);
        let mut lanes: Vec<Lane> = (0..3).map(|_| Lane::default()).collect();
        let got: Vec<bool> = lanes
            .iter_mut()
            .map(|lane| pipes.take(lane, || Some(())))
            .collect();
        assert_eq!(got, [true, true, false]);
    }

    #[test]
    fn the_system_is_asked_again_only_after_a_while() {
        let mut pipes: Pipes<()> = Pipes::new(2, 1);
        let mut lane = Lane::default();
        assert!(!pipes.take(&mut lane, || None));
        assert!(!pipes.take(&mut lane, || panic!("asked again at once")));
        pipes.shrink();
        assert!(pipes.take(&mut lane, || Some(())));
    }

    #[test]
    fn a_burst_goes_back_to_the_system() {
        let mut pipes = Pipes::new(64, 1);
        let mut lanes: Vec<Lane> = (0..64).map(|_| Lane::default()).collect();
        for lane in &mut lanes {
            assert!(pipes.take(lane, || Some(())));
        }
        for lane in &mut lanes {
            pipes.give(lane);
        }
        for _ in 0..20 {
            pipes.shrink();
        }
        assert_eq!((pipes.all.len(), pipes.used()), (SPARE, 0));
    }
}
