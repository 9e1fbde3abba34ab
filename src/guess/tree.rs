//! The winner tree: the best of all servers at hand, a change in steps of log2 n.

/// What servers are compared by, the least first: part by part, as far as needed.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub(super) struct Key {
    /// Whether it may be chosen at all: standing first, then blocked or not.
    pub(super) class: u32,
    /// The expected time. In single precision: what differs by less is a tie.
    pub(super) score: f32,
    /// The reported load with what was sent since.
    pub(super) load: f64,
    /// Reported errors.
    pub(super) errors: u64,
    /// The pick that chose it last; a random number where chance decides.
    pub(super) turn: u64,
}

impl Key {
    const WORST: Key = Key {
        class: u32::MAX,
        score: f32::INFINITY,
        load: f64::INFINITY,
        errors: u64::MAX,
        turn: u64::MAX,
    };
}

/// A tournament among all servers. Of two with the same key the first wins.
#[derive(Debug)]
pub(super) struct Tree {
    /// The key of each leaf; leaves are a power of two, the spare ones have the worst key.
    keys: Vec<Key>,
    /// The winner below each inner node; node 1 is the root, the children of k are 2k and 2k + 1.
    winners: Vec<u32>,
}

impl Tree {
    /// A tree of `count` servers (at least one), all alike.
    pub(super) fn new(count: usize) -> Tree {
        let leaves = count.next_power_of_two().max(2);
        let mut tree = Tree {
            keys: vec![Key::WORST; leaves],
            winners: vec![0; leaves],
        };
        for node in (1..leaves).rev() {
            tree.winners[node] = tree.play(node);
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
        self.winners[1] as usize
    }

    /// The server with the least key but `server`, of the matches that it took part in: the second of
    /// all, if it is the first. None: there is no other.
    pub(super) fn next_to(&self, server: usize) -> Option<usize> {
        let mut best: Option<u32> = None;
        let mut node = self.keys.len() + server;
        while node > 1 {
            let other = self.entrant(node ^ 1);
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
            // Above a match that it did not win before and does not win now nothing changes.
            if self.winners[node] == winner && winner != server as u32 {
                return;
            }
            self.winners[node] = winner;
            node /= 2;
        }
    }

    /// Who wins the match at `node`.
    fn play(&self, node: usize) -> u32 {
        let (left, right) = (self.entrant(2 * node), self.entrant(2 * node + 1));
        if self.keys[right as usize] < self.keys[left as usize] {
            right
        } else {
            left
        }
    }

    fn entrant(&self, node: usize) -> u32 {
        match node.checked_sub(self.keys.len()) {
            Some(leaf) => leaf as u32,
            None => self.winners[node],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guess::random;

    fn key(score: f32) -> Key {
        Key {
            class: 0,
            score,
            load: 0.0,
            errors: 0,
            turn: 0,
        }
    }

    #[test]
    fn the_winner_is_always_the_least_of_all() {
        for count in [1, 2, 3, 7, 16, 33, 100] {
            let mut tree = Tree::new(count);
            for server in 0..count {
                tree.update(server, key(1.0));
            }
            assert_eq!(tree.winner(), 0);
            assert_eq!(tree.next_to(0), (count > 1).then_some(1));
            let mut seed = count as u64;
            for _ in 0..2000 {
                let server = (random(&mut seed) * count as f64) as usize;
                tree.update(server, key((random(&mut seed) * 8.0).floor() as f32));
                let least = (0..count)
                    .min_by(|a, b| tree.key(*a).partial_cmp(tree.key(*b)).unwrap())
                    .unwrap();
                assert_eq!(tree.winner(), least, "of {count}");
                let second = (0..count)
                    .filter(|server| *server != least)
                    .min_by(|a, b| tree.key(*a).partial_cmp(tree.key(*b)).unwrap());
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
            tree.update(count - 1, key(100.0 - count as f32));
            assert_eq!(tree.winner(), count - 1);
            assert_eq!(tree.key(0).score, 99.0);
        }
    }

    #[test]
    fn keys_are_compared_part_by_part() {
        let rest = Key {
            class: 1,
            ..key(0.0)
        };
        assert!(key(9.0) < rest);
        assert!(
            Key {
                load: 5.0,
                errors: 0,
                turn: 9,
                ..key(1.0)
            } < Key {
                load: 5.0,
                errors: 1,
                turn: 0,
                ..key(1.0)
            }
        );
        assert!(
            Key {
                load: 4.0,
                errors: 7,
                ..key(1.0)
            } < Key {
                load: 5.0,
                ..key(1.0)
            }
        );
    }
}
