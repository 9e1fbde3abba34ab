//! The winner tree: the best of all servers at hand, a change in steps of log n.

/// What a server is compared by, the least first: one number, its parts from the top down, each with
/// as many bits as it takes to tell apart what matters. So a match is one comparison: who wins it is a
/// toss, which no processor foresees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key(u128);

/// The parts of a key.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Parts {
    /// Standing first, then blocked or not: below 64.
    pub(super) class: u32,
    /// The expected time: all from 2^24 on are as long.
    pub(super) score: u32,
    /// The reported load with what was sent since: not negative, to within one in 2^36.
    pub(super) load: f64,
    /// Reported errors, to within one in 4,096.
    pub(super) errors: u64,
    /// The pick that chose it last; a random number where chance decides. It begins anew after 2^38:
    /// for a round, who is next of those that are equal is not the longest unused.
    pub(super) turn: u64,
}

/// How many bits of a key each part has but the first, which has the rest.
const SCORE_BITS: u32 = 24;
const LOAD_BITS: u32 = 42;
const ERROR_BITS: u32 = 18;
pub(super) const TURN_BITS: u32 = 38;

impl Key {
    const WORST: Key = Key(u128::MAX);

    /// The key that has these parts.
    #[inline]
    pub(super) fn new(parts: Parts) -> Key {
        let score = parts.score.min((1 << SCORE_BITS) - 1);
        let load = shortened(parts.load, LOAD_BITS);
        let errors = shortened(parts.errors as f64, ERROR_BITS);
        let turn = parts.turn & ((1 << TURN_BITS) - 1);
        let rank = u128::from(parts.class << SCORE_BITS | score);
        let ties = u128::from(errors << TURN_BITS | turn);
        Key((rank << LOAD_BITS | u128::from(load)) << (ERROR_BITS + TURN_BITS) | ties)
    }

    /// Whether it may be chosen at all: standing first, then blocked or not.
    pub(super) fn class(self) -> u32 {
        (self.0 >> (SCORE_BITS + LOAD_BITS + ERROR_BITS + TURN_BITS)) as u32
    }

    /// Class and expected time, in their order.
    pub(super) fn rank(self) -> u128 {
        self.0 >> (LOAD_BITS + ERROR_BITS + TURN_BITS)
    }

    /// The same, and then the load.
    pub(super) fn with_load(self) -> u128 {
        self.0 >> (ERROR_BITS + TURN_BITS)
    }

    /// The same, and then the errors: all but the turn.
    pub(super) fn with_errors(self) -> u128 {
        self.0 >> TURN_BITS
    }
}

/// `bits` bits of a number that is not negative, in the same order.
#[inline]
fn shortened(number: f64, bits: u32) -> u64 {
    // Such numbers are ordered as their bits are. From 1 to 2^63, 6 bits are all of the exponent.
    const MOST: f64 = (1_u64 << 63) as f64;
    ((number + 1.0).min(MOST).to_bits() - 1.0_f64.to_bits()) >> (58 - bits)
}

/// So many meet in one match. What lies together in memory is soon looked through, and the servers of
/// most balancers all meet in one.
const MEET: usize = 4;

/// A tournament among all servers.
#[derive(Debug)]
pub(super) struct Tree {
    /// First the matches of the servers, in their order; then those of their winners, and so on up to
    /// the last one, which the best of all wins.
    matches: Vec<Match>,
    /// So many servers.
    count: usize,
}

/// Those who meet, by their place in the match.
#[derive(Debug, Clone)]
struct Match {
    /// Spare places have the worst key.
    keys: [Key; MEET],
    servers: [u32; MEET],
    /// The place of the winner: the first one of those with the least key.
    first: usize,
    /// The match in which the winner meets others, and its place there; behind the last one is none.
    next: (usize, usize),
}

impl Match {
    /// `server` has this key at this place. Who wins now; none: that it did not and does not win.
    #[inline]
    fn update(&mut self, place: usize, server: u32, key: Key) -> Option<(u32, Key)> {
        let least = self.keys[self.first];
        self.keys[place] = key;
        self.servers[place] = server;
        if place == self.first {
            if key > least {
                self.first = self.first();
            }
        } else if key < least || key == least && place < self.first {
            self.first = place;
        } else {
            return None;
        }
        Some(self.winner())
    }

    fn winner(&self) -> (u32, Key) {
        (self.servers[self.first], self.keys[self.first])
    }

    fn first(&self) -> usize {
        let mut first = 0;
        let mut least = self.keys[0];
        for (place, key) in self.keys.iter().enumerate() {
            if *key < least {
                (first, least) = (place, *key);
            }
        }
        first
    }
}

impl Tree {
    /// A tree of `count` servers (at least one), which have the worst of keys.
    pub(super) fn new(count: usize) -> Tree {
        let mut tree = Tree {
            matches: Vec::new(),
            count,
        };
        let mut round: Vec<u32> = (0..count as u32).collect();
        loop {
            let start = tree.matches.len();
            let end = start + round.len().div_ceil(MEET);
            for (at, meet) in round.chunks(MEET).enumerate() {
                let mut servers = [0; MEET];
                servers[..meet.len()].copy_from_slice(meet);
                tree.matches.push(Match {
                    keys: [Key::WORST; MEET],
                    servers,
                    first: 0,
                    next: (end + at / MEET, at % MEET),
                });
            }
            if end - start == 1 {
                return tree;
            }
            round = round.into_iter().step_by(MEET).collect();
        }
    }

    /// Makes room for `count` servers in all; those that are there keep their keys.
    pub(super) fn grow(&mut self, count: usize) {
        let mut grown = Tree::new(count);
        for server in 0..self.count {
            grown.update(server, self.key(server));
        }
        *self = grown;
    }

    /// The server with the least key.
    pub(super) fn winner(&self) -> usize {
        self.matches[self.matches.len() - 1].winner().0 as usize
    }

    /// The server with the least key but `server`, of the matches that it took part in: the second of
    /// all, if it is the first. None: there is no other.
    pub(super) fn next_to(&self, server: usize) -> Option<usize> {
        let (mut at, mut place) = (server / MEET, server % MEET);
        let mut best = (Key::WORST, 0);
        while let Some(met) = self.matches.get(at) {
            for (other, (key, server)) in met.keys.iter().zip(met.servers).enumerate() {
                if *key < best.0 && other != place {
                    best = (*key, server);
                }
            }
            (at, place) = met.next;
        }
        (best.0 != Key::WORST).then_some(best.1 as usize)
    }

    /// The key of `server`.
    pub(super) fn key(&self, server: usize) -> Key {
        self.matches[server / MEET].keys[server % MEET]
    }

    /// `server` has this key from now on.
    pub(super) fn update(&mut self, server: usize, key: Key) {
        let (mut at, mut place) = (server / MEET, server % MEET);
        let (mut server, mut key) = (server as u32, key);
        while let Some(met) = self.matches.get_mut(at) {
            let Some(winner) = met.update(place, server, key) else {
                return;
            };
            (server, key) = winner;
            (at, place) = met.next;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guess::random;

    fn key(score: u32) -> Key {
        let parts = Parts {
            score,
            ..Parts::default()
        };
        Key::new(parts)
    }

    #[test]
    fn the_winner_is_always_the_least_of_all() {
        for count in [1, 2, 3, 7, 16, 33, 100] {
            let mut tree = Tree::new(count);
            for server in 0..count {
                tree.update(server, key(1));
            }
            assert_eq!(tree.winner(), 0);
            assert_eq!(tree.next_to(0), (count > 1).then_some(1));
            let mut seed = count as u64;
            for _ in 0..2000 {
                let server = (random(&mut seed) * count as f64) as usize;
                tree.update(server, key((random(&mut seed) * 8.0) as u32));
                let least = (0..count).min_by_key(|server| tree.key(*server)).unwrap();
                assert_eq!(tree.winner(), least, "of {count}");
                let second = (0..count)
                    .filter(|server| *server != least)
                    .min_by_key(|server| tree.key(*server));
                assert_eq!(
                    tree.next_to(least).map(|next| tree.key(next)),
                    second.map(|second| tree.key(second)),
                    "of {count}"
                );
            }
        }
    }

    #[test]
    fn who_comes_finds_everybody_as_they_were() {
        let mut tree = Tree::new(1);
        for count in 1..40 {
            tree.grow(count);
            tree.update(count - 1, key(100 - count as u32));
            assert_eq!(tree.winner(), count - 1);
            assert_eq!(tree.key(0), key(99));
        }
    }

    #[test]
    fn keys_are_compared_part_by_part() {
        let parts = Parts {
            class: 7,
            score: u32::MAX,
            load: 5.0,
            errors: 1,
            turn: 9,
        };
        let key = Key::new(parts);
        assert_eq!(key.class(), 7);
        let worse: [fn(&mut Parts); 4] = [
            |it| (it.class, it.score, it.load) = (8, 0, 0.0),
            |it| (it.load, it.errors) = (5.5, 0),
            |it| (it.errors, it.turn) = (u64::MAX, 0),
            |it| it.turn = 10,
        ];
        for change in worse {
            let mut parts = parts;
            change(&mut parts);
            assert!(key < Key::new(parts), "{parts:?}");
        }
        assert_eq!(key, Key::new(parts));
    }

    #[test]
    fn a_part_tells_apart_what_matters_and_spills_into_no_other() {
        let of = |load, errors| {
            Key::new(Parts {
                load,
                errors,
                ..Parts::default()
            })
        };
        let loads = [
            0.0,
            0.1,
            1.0,
            1.1,
            2.0,
            1e9,
            1e9 + 1.0,
            6e10,
            6e10 + 1.0,
            1e18,
        ];
        let errors = [0, 1, 2, 3, 4095, 4096, 5000, 1 << 32, u64::MAX];
        for (load, more) in loads.iter().zip(&loads[1..]) {
            assert!(of(*load, u64::MAX) < of(*more, 0), "{load}");
        }
        for (few, more) in errors.iter().zip(&errors[1..]) {
            assert!(of(1.0, *few) < of(1.0, *more), "{few}");
        }
        assert_eq!(of(1e18, u64::MAX).class(), 0);
        assert!(of(1e18, u64::MAX) < Key::WORST);
    }
}
