//! Deadlines: a heap that is lazy, so that moving one later costs nothing.
//!
//! Every owner keeps an `Alarm`: the true deadline, and the moment at which the heap will look next.
//! An entry that comes up before the true deadline is armed again; one that its owner no longer
//! counts on is dropped. `Patience` says how long a slow peer may still be waited for. Knows no clock.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use crate::mutant::{self, Mutant};
use crate::net::{Time, Token};

/// The heap of all moments at which some owner's deadline has to be looked at.
#[derive(Debug, Default)]
pub struct Deadlines {
    heap: BinaryHeap<Reverse<(Time, Token)>>,
}

/// One owner's deadline.
#[derive(Debug, Clone, Copy)]
pub struct Alarm {
    due: Time,
    armed: Time,
}

/// What a moment that came up means for its owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rang {
    /// The deadline is over.
    Due,
    /// It is later by now, or an earlier moment stands for it: nothing to do.
    Early,
}

/// How long a peer may still be waited for: waiting spends it, and bytes earn it back. So silence ends
/// it, and so does a trickle; the time that others need costs nothing.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    left: Duration,
    /// Since when the peer is waited for; never: it is not.
    since: Time,
    /// Bytes that it had moved when that was last looked at.
    moved: u64,
}

impl Default for Patience {
    fn default() -> Patience {
        Patience {
            left: Duration::MAX,
            since: Time::NEVER,
            moved: 0,
        }
    }
}

impl Patience {
    /// Who is waited for changed, or bytes moved: `moved` of them by now, over all. The peer may now
    /// be waited for this long, at most `whole`; `rate_min` bytes earn a second (0: any byte earns
    /// all of it).
    pub fn wait(&mut self, now: Time, moved: u64, whole: Duration, rate_min: u32) -> Duration {
        let spent = now.since(self.since);
        let bytes = moved.saturating_sub(self.moved);
        let earned = match rate_min {
            0 if bytes == 0 => Duration::ZERO,
            0 => whole,
            rate => Duration::from_secs_f64(bytes as f64 / f64::from(rate)),
        };
        self.left = self
            .left
            .saturating_sub(spent)
            .saturating_add(earned)
            .min(whole);
        (self.since, self.moved) = (now, moved);
        self.left
    }

    /// Others are waited for from `now` on.
    pub fn rest(&mut self, now: Time) {
        self.left = self.left.saturating_sub(now.since(self.since));
        self.since = Time::NEVER;
    }
}

impl Default for Alarm {
    fn default() -> Alarm {
        Alarm {
            due: Time::NEVER,
            armed: Time::NEVER,
        }
    }
}

impl Alarm {
    /// Whether the heap's moment `at` of this owner is the one that counts.
    pub fn is_armed(&self, at: Time) -> bool {
        self.armed == at
    }

    /// Sets the deadline of the owner `token` to `due`. Later than it was: costs nothing. Earlier
    /// than the heap would look: one push, O(log n).
    pub fn set(&mut self, due: Time, token: Token, deadlines: &mut Deadlines) {
        self.due = due;
        if due < self.armed {
            self.armed = due;
            deadlines.heap.push(Reverse((due, token)));
        }
    }

    /// There is no deadline any more.
    pub fn clear(&mut self) {
        self.due = Time::NEVER;
    }

    /// The heap's moment `at` of this owner came up: whether the deadline is over; re-arms if not.
    pub fn ring(&mut self, at: Time, token: Token, deadlines: &mut Deadlines) -> Rang {
        if at != self.armed {
            return Rang::Early;
        }
        self.armed = Time::NEVER;
        if self.due > at {
            if self.due != Time::NEVER && !mutant::is(Mutant::DeadlineNotRearmed) {
                self.set(self.due, token, deadlines);
            }
            return Rang::Early;
        }
        self.due = Time::NEVER;
        Rang::Due
    }
}

impl Deadlines {
    /// The next moment that is not later than `now`, with its owner.
    pub fn pop(&mut self, now: Time) -> Option<(Time, Token)> {
        let Reverse((at, _)) = self.heap.peek()?;
        if *at > now {
            return None;
        }
        self.heap.pop().map(|Reverse(entry)| entry)
    }

    /// When to look next; none: nothing is armed.
    pub fn next(&self) -> Option<Time> {
        self.heap.peek().map(|Reverse((at, _))| *at)
    }

    /// Drops the entries that nobody counts on any more, by `is_armed`, once they outnumber the
    /// `owners`; gives memory back that a burst needed and the present does not. O(entries).
    pub fn shrink(&mut self, owners: usize, is_armed: impl Fn(Time, Token) -> bool) {
        if self.heap.len() > 2 * owners + 256 {
            self.heap
                .retain(|Reverse((at, token))| is_armed(*at, *token));
        }
        if self.heap.capacity() > 4 * self.heap.len() + 256 {
            self.heap.shrink_to(2 * self.heap.len());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::Owner;

    fn token(slot: u32) -> Token {
        Token::new(Owner::Client, slot, 0)
    }

    const WHOLE: Duration = Duration::from_secs(30);

    fn second(count: u64) -> Time {
        Time(0) + Duration::from_secs(count)
    }

    #[test]
    fn a_trickle_ends_patience_and_the_minimum_rate_keeps_it() {
        // One byte every 20 s, at 240 bytes a second: the second wait is over after the rest of 30 s.
        let mut patience = Patience::default();
        assert_eq!(patience.wait(second(0), 0, WHOLE, 240), WHOLE);
        let left = patience.wait(second(20), 1, WHOLE, 240);
        assert!(left > Duration::from_secs(10) && left < Duration::from_millis(10_005));
        // 4,800 bytes every 20 s are just enough, for ever.
        let mut patience = Patience::default();
        for turn in 0..100 {
            let left = patience.wait(second(turn * 20), turn * 4800, WHOLE, 240);
            assert!(left >= WHOLE - Duration::from_millis(1), "{turn}: {left:?}");
        }
        // Without a rate any byte will do.
        let mut patience = Patience::default();
        patience.wait(second(0), 0, WHOLE, 0);
        assert_eq!(patience.wait(second(29), 1, WHOLE, 0), WHOLE);
        assert_eq!(
            patience.wait(second(49), 1, WHOLE, 0),
            WHOLE - Duration::from_secs(20)
        );
    }

    #[test]
    fn what_others_take_costs_no_patience() {
        let mut patience = Patience::default();
        patience.wait(second(0), 0, WHOLE, 240);
        patience.rest(second(10));
        patience.rest(second(500));
        let left = patience.wait(second(1000), 0, WHOLE, 240);
        assert_eq!(left, Duration::from_secs(20));
        assert_eq!(patience.wait(second(1001), 1 << 40, WHOLE, 240), WHOLE);
    }

    #[test]
    fn a_deadline_that_moved_later_rings_once_and_late() {
        let mut heap = Deadlines::default();
        let mut alarm = Alarm::default();
        alarm.set(Time(10), token(1), &mut heap);
        alarm.set(Time(30), token(1), &mut heap);
        assert_eq!(heap.pop(Time(9)), None);
        assert_eq!(heap.pop(Time(10)), Some((Time(10), token(1))));
        assert_eq!(alarm.ring(Time(10), token(1), &mut heap), Rang::Early);
        assert_eq!(heap.next(), Some(Time(30)));
        let (at, who) = heap.pop(Time(40)).unwrap();
        assert_eq!(alarm.ring(at, who, &mut heap), Rang::Due);
        assert_eq!(heap.pop(Time(1000)), None);
    }

    #[test]
    fn a_deadline_that_moved_earlier_rings_once() {
        let mut heap = Deadlines::default();
        let mut alarm = Alarm::default();
        alarm.set(Time(50), token(1), &mut heap);
        alarm.set(Time(20), token(1), &mut heap);
        let (at, who) = heap.pop(Time(60)).unwrap();
        assert_eq!(alarm.ring(at, who, &mut heap), Rang::Due);
        let (at, who) = heap.pop(Time(60)).unwrap();
        assert_eq!(
            (at, alarm.ring(at, who, &mut heap)),
            (Time(50), Rang::Early)
        );
        assert_eq!(heap.pop(Time(1000)), None);
    }

    #[test]
    fn moving_later_a_million_times_keeps_one_entry() {
        let mut heap = Deadlines::default();
        let mut alarm = Alarm::default();
        for at in 0..1_000_000 {
            alarm.set(Time(at + 100), token(1), &mut heap);
        }
        assert_eq!(heap.heap.len(), 1);
    }

    #[test]
    fn entries_of_owners_that_are_gone_do_not_pile_up() {
        let mut heap = Deadlines::default();
        let mut living = Alarm::default();
        living.set(Time(5), token(0), &mut heap);
        for slot in 1..10_000 {
            Alarm::default().set(Time(50), token(slot), &mut heap);
        }
        heap.shrink(1, |at, who| who == token(0) && living.is_armed(at));
        assert_eq!(heap.heap.len(), 1);
        assert!(heap.heap.capacity() < 1000);
        assert_eq!(heap.pop(Time(5)), Some((Time(5), token(0))));
    }

    #[test]
    fn a_cleared_deadline_never_rings_and_can_be_set_again() {
        let mut heap = Deadlines::default();
        let mut alarm = Alarm::default();
        alarm.set(Time(10), token(1), &mut heap);
        alarm.clear();
        let (at, who) = heap.pop(Time(10)).unwrap();
        assert_eq!(alarm.ring(at, who, &mut heap), Rang::Early);
        alarm.set(Time(40), token(1), &mut heap);
        assert_eq!(heap.next(), Some(Time(40)));
    }
}
