//! The winner tree: the best of all servers at hand, a change in steps of log2 n.

/// What servers are compared by, the least first: part by part, as far as needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    /// Class and score as one number, as these mostly decide.
    pub(super) rank: u64,
    /// The reported load with what was sent since: the bits of a number that is not negative, which
    /// are ordered as such numbers are.
    pub(super) load: u64,
    /// Reported errors.
    pub(super) errors: u64,
    /// The pick that chose it last; a random number where chance decides.
    pub(super) turn: u64,
}

impl Key {
    const WORST: Key = Key {
        rank: u64::MAX,
        load: u64::MAX,
        errors: u64::MAX,
        turn: u64::MAX,
    };

    /// The rank of a class, which says whether a server may be chosen at all, and an expected time.
    pub(super) fn rank(class: u32, score: u32) -> u64 {
        u64::from(class) << 32 | u64::from(score)
    }

    /// Whether it may be chosen at all: standing first, then blocked or not.
    pub(super) fn class(&self) -> u32 {
        (self.rank >> 32) as u32
    }

    /// The expected time.
    pub(super) fn score(&self) -> u32 {
        self.rank as u32
    }

    /// Whether it comes before `other`.
    #[inline]
    fn beats(&self, other: &Key) -> bool {
        if self.rank != other.rank {
            return self.rank < other.rank;
        }
        if self.load != other.load {
            return self.load < other.load;
        }
        (self.errors, self.turn) < (other.errors, other.turn)
    }
}

/// A tournament among all servers. Of two with the same key the first wins.
#[derive(Debug)]
pub(super) struct Tree {
    /// The key of each server; they are a power of two, the spare ones have the worst key.
    keys: Vec<Key>,
    /// The two that meet in each match, at least one: match 1 is the last one, the winners of the
    /// matches 2k and 2k + 1 meet in match k. The winner of all stands at second place in match 0.
    matches: Vec<[u32; 2]>,
}

impl Tree {
    /// A tree of `count` servers (at least one), all alike.
    pub(super) fn new(count: usize) -> Tree {
        let places = count.next_power_of_two().max(2);
        let mut tree = Tree {
            keys: vec![Key::WORST; places],
            matches: vec![[0; 2]; places],
        };
        for node in (1..places).rev() {
            // Behind the last match come the servers themselves.
            if let Some(first) = (2 * node).checked_sub(places) {
                tree.matches[node] = [first as u32, first as u32 + 1];
            }
            tree.matches[node / 2][node % 2] = tree.play(node);
        }
        tree
    }

    /// Makes room for `count` servers in all; those that are there keep their keys.
    pub(super) fn grow(&mut self, count: usize) {
        if count > self.keys.len() {
            let mut grown = Tree::new(count);
            for (place, key) in self.keys.iter().enumerate() {
                grown.update(place, *key);
            }
            *self = grown;
        }
    }

    /// The server with the least key.
    pub(super) fn winner(&self) -> usize {
        self.matches[0][1] as usize
    }

    /// The server with the least key but `server`, of the matches that it took part in: the second of
    /// all, if it is the first. None: there is no other.
    pub(super) fn next_to(&self, server: usize) -> Option<usize> {
        let mut best: Option<u32> = None;
        let mut node = self.keys.len() + server;
        while node > 1 {
            let other = self.matches[node / 2][(node + 1) % 2];
            let key = |server: u32| &self.keys[server as usize];
            if best.is_none_or(|best| key(other) < key(best)) {
                best = Some(other);
            }
            node /= 2;
        }
        best.map(|best| best as usize)
            .filter(|best| self.keys[*best] != Key::WORST)
    }

    /// The key of `server`.
    pub(super) fn key(&self, server: usize) -> &Key {
        &self.keys[server]
    }

    /// `server` has this key from now on.
    pub(super) fn update(&mut self, server: usize, key: Key) {
        if self.keys[server] == key {
            return;
        }
        self.keys[server] = key;
        let mut node = (self.keys.len() + server) / 2;
        while node > 0 {
            let winner = self.play(node);
            let next = &mut self.matches[node / 2][node % 2];
            // Behind a match that it did not win before and does not win now nothing changes.
            if *next == winner && winner != server as u32 {
                return;
            }
            *next = winner;
            node /= 2;
        }
    }

    /// Who wins this match.
    #[inline]
    fn play(&self, node: usize) -> u32 {
        let [left, right] = self.matches[node];
        if self.keys[right as usize].beats(&self.keys[left as usize]) {
            right
        } else {
            left
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guess::random;

    fn key(score: u32) -> Key {
        Key {
            rank: Key::rank(0, score),
            load: 0,
            errors: 0,
            turn: 0,
        }
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
                let least = (0..count).min_by_key(|server| *tree.key(*server)).unwrap();
                assert_eq!(tree.winner(), least, "of {count}");
                let second = (0..count)
                    .filter(|server| *server != least)
                    .min_by_key(|server| *tree.key(*server));
                assert_eq!(
                    tree.next_to(least).map(|next| *tree.key(next)),
                    second.map(|second| *tree.key(second)),
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
            assert_eq!(tree.key(0).score(), 99);
        }
    }

    #[test]
    fn keys_are_compared_part_by_part() {
        let later = |key: Key, change: fn(&mut Key)| {
            let mut later = key;
            change(&mut later);
            later
        };
        let key = Key {
            load: 5,
            errors: 1,
            turn: 9,
            ..key(u32::MAX)
        };
        for worse in [
            later(key, |it| (it.rank, it.load) = (Key::rank(1, 0), 0)),
            later(key, |it| (it.load, it.errors) = (6, 0)),
            later(key, |it| (it.errors, it.turn) = (2, 0)),
            later(key, |it| it.turn = 10),
        ] {
            assert!(key.beats(&worse) && !worse.beats(&key), "{worse:?}");
        }
        assert!(!key.beats(&key));
    }
}
