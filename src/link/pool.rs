//! The links to one server that wait to be used again: a list that runs through the links themselves.
//!
//! So a pool needs no memory of its own, however many links a burst leaves in it, and a link that dies
//! while it rests is taken out at once wherever it stands. Knows no clock and closes nothing.

use slab::Slab;

use super::Link;

/// The resting links of one server, in the order in which they came to rest.
#[derive(Debug, Default)]
pub struct Pool {
    /// The first and the last of them, by their slots.
    ends: Option<(u32, u32)>,
    len: usize,
}

/// The neighbours of a resting link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rest {
    before: Option<u32>,
    behind: Option<u32>,
}

impl Pool {
    /// How many links rest.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether none does.
    pub fn is_empty(&self) -> bool {
        self.ends.is_none()
    }

    /// The one that has rested longest.
    pub fn oldest(&self) -> Option<usize> {
        self.ends.map(|(first, _)| first as usize)
    }

    /// The one in `slot` comes to rest. It must not rest yet.
    pub fn add<S>(&mut self, links: &mut Slab<Link<S>>, slot: usize) {
        let slot = slot as u32;
        let last = self.ends.map(|(_, last)| last);
        let Some(link) = links.get_mut(slot as usize) else {
            return;
        };
        debug_assert_eq!(link.rest, None);
        link.rest = Some(Rest {
            before: last,
            behind: None,
        });
        if let Some(rest) = last.and_then(|last| rest_of(links, last)) {
            rest.behind = Some(slot);
        }
        self.ends = Some((self.ends.map_or(slot, |(first, _)| first), slot));
        self.len += 1;
    }

    /// The one that came to rest last is taken out: what was used last is warm.
    pub fn take<S>(&mut self, links: &mut Slab<Link<S>>) -> Option<usize> {
        let (first, last) = self.ends?;
        let rest = links.get_mut(last as usize)?.rest.take()?;
        self.len -= 1;
        self.ends = rest.before.map(|before| {
            if let Some(rest) = rest_of(links, before) {
                rest.behind = None;
            }
            (first, before)
        });
        Some(last as usize)
    }

    /// Takes the one in `slot` out. Tells whether it rested; it must be a link to this pool's server.
    pub fn remove<S>(&mut self, links: &mut Slab<Link<S>>, slot: usize) -> bool {
        let link = links.get_mut(slot);
        let Some(Rest { before, behind }) = link.and_then(|link| link.rest.take()) else {
            return false;
        };
        if let Some(rest) = before.and_then(|before| rest_of(links, before)) {
            rest.behind = behind;
        }
        if let Some(rest) = behind.and_then(|behind| rest_of(links, behind)) {
            rest.before = before;
        }
        self.len -= 1;
        self.ends = self.ends.and_then(|(first, last)| {
            let first = if before.is_none() {
                behind
            } else {
                Some(first)
            };
            let last = if behind.is_none() { before } else { Some(last) };
            first.zip(last)
        });
        debug_assert_eq!(self.ends.is_none(), self.len == 0);
        true
    }
}

fn rest_of<S>(links: &mut Slab<Link<S>>, slot: u32) -> Option<&mut Rest> {
    links.get_mut(slot as usize)?.rest.as_mut()
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;
    use crate::conn::Conn;
    use crate::net::Token;
    use crate::net::stub::Stub;

    fn links(count: usize) -> Slab<Link<Stub>> {
        let link = |slot| {
            let conn = Conn::new(Stub::deaf(""), Token::ADMIN_DOOR);
            (slot, Link::new(conn, 0, 0))
        };
        (0..count).map(link).collect()
    }

    #[test]
    fn the_last_to_rest_goes_first_and_the_oldest_is_known() {
        let (mut links, mut pool) = (links(3), Pool::default());
        for slot in [1, 0, 2] {
            pool.add(&mut links, slot);
        }
        assert_eq!((pool.len(), pool.oldest()), (3, Some(1)));
        assert_eq!(pool.take(&mut links), Some(2));
        assert!(pool.remove(&mut links, 1));
        assert!(!pool.remove(&mut links, 1));
        assert_eq!(pool.oldest(), Some(0));
        assert_eq!(pool.take(&mut links), Some(0));
        assert_eq!((pool.take(&mut links), pool.oldest()), (None, None));
        assert!(pool.is_empty());
    }

    #[test]
    fn it_is_the_list_that_a_queue_would_be() {
        let (mut links, mut pool) = (links(6), Pool::default());
        let mut queue = VecDeque::new();
        let mut chance = 7_u64;
        for _ in 0..2000 {
            chance = chance
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            let slot = (chance >> 40) as usize % 6;
            match (chance >> 50) % 3 {
                0 if !queue.contains(&slot) => {
                    queue.push_back(slot);
                    pool.add(&mut links, slot);
                }
                1 => assert_eq!(pool.take(&mut links), queue.pop_back()),
                _ => {
                    let at = queue.iter().position(|one| *one == slot);
                    assert_eq!(pool.remove(&mut links, slot), at.is_some());
                    at.and_then(|at| queue.remove(at));
                }
            }
            assert_eq!(
                (pool.len(), pool.oldest()),
                (queue.len(), queue.front().copied())
            );
        }
    }
}
