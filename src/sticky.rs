//! Stickiness: which server a client is to have again, by a cookie or by its address.
//!
//! Pure. A cookie names a server by a keyed hash of its name (HMAC-SHA256, of which 128 bits): nobody
//! without the key can make one for a server of its choice, and it tells nothing of what is behind the
//! balancer. Addresses are spread by rendezvous hashing (Thaler and Ravishankar 1998) with weights, so
//! that a server that comes or goes moves only its own share, and within bounds (Mirrokni, Thorup and
//! Zadimoghaddam 2018), so that no server gets far more than its share. Whether a server may be chosen
//! is the guess's to say.

use std::collections::HashMap;
use std::net::IpAddr;

use crate::chance::{GOLDEN, mix};
use crate::config::{ServerConfig, StickyBy, StickyConfig};
use crate::math::ln;

/// What a cookie says: the keyed hash of a server's name, in hexadecimal digits.
pub type CookieId = [u8; 32];

/// A server may have this many times its share of what is under way …
const SHARE_MOST: f64 = 1.25;
/// … or so many requests, whatever its share: few are no burden, and would be torn apart.
const UNDER_WAY_FREE: u32 = 8;

/// What a request says of the server that it wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stick {
    /// The server that its cookie names, if it has one.
    pub named: Option<CookieId>,
    /// Whether the client came by https, as a trusted proxy says.
    pub is_secure: bool,
    /// The server that the response has to name in a cookie.
    pub sets_cookie: Option<usize>,
}

/// A server as stickiness has to know it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Candidate {
    /// Its index.
    pub index: usize,
    /// Its weight, above 0.
    pub weight: f64,
    /// What is under way there.
    pub in_flight: u32,
}

/// The servers by their hashes.
#[derive(Debug)]
pub struct Sticky {
    config: StickyConfig,
    servers: Vec<Hashed>,
    by_id: HashMap<CookieId, usize>,
}

/// What is known of one server.
#[derive(Debug, Clone, Default)]
struct Hashed {
    id: CookieId,
    /// The `Set-Cookie` that names it, and the same for https alone.
    plain: Vec<u8>,
    secure: Vec<u8>,
    /// Where it stands among all for each address.
    seed: u64,
}

impl Sticky {
    /// Stickiness to these servers.
    pub fn new(config: &StickyConfig, servers: &[ServerConfig]) -> Sticky {
        let mut sticky = Sticky {
            config: config.clone(),
            servers: Vec::new(),
            by_id: HashMap::new(),
        };
        for (index, server) in servers.iter().enumerate() {
            sticky.add(index, server);
        }
        sticky
    }

    /// What it goes by.
    pub fn by(&self) -> &StickyBy {
        &self.config.by
    }

    /// The name of the cookie, if it goes by one.
    pub fn cookie(&self) -> Option<&[u8]> {
        match &self.config.by {
            StickyBy::Cookie(name) => Some(name.as_bytes()),
            StickyBy::Nothing | StickyBy::Address => None,
        }
    }

    /// This server has this index from now on.
    pub fn add(&mut self, index: usize, config: &ServerConfig) {
        self.remove(index);
        if self.servers.len() <= index {
            self.servers.resize(index + 1, Hashed::default());
        }
        let mut hashed = Hashed {
            seed: seed_of(&config.name),
            ..Hashed::default()
        };
        if let StickyBy::Cookie(name) = &self.config.by {
            hashed.id = id_of(&self.config.key, &config.name);
            let mut line = format!("{name}=").into_bytes();
            line.extend_from_slice(&hashed.id);
            line.extend_from_slice(b"; Path=/; HttpOnly; SameSite=Lax");
            hashed.secure = [&line, b"; Secure".as_slice()].concat();
            hashed.plain = line;
            self.by_id.insert(hashed.id, index);
        }
        if let Some(place) = self.servers.get_mut(index) {
            *place = hashed;
        }
    }

    /// No cookie names the server `index` any more.
    pub fn remove(&mut self, index: usize) {
        self.by_id.retain(|_, named| *named != index);
    }

    /// The server that a cookie names.
    pub fn named(&self, id: &CookieId) -> Option<usize> {
        self.by_id.get(id).copied()
    }

    /// The value of the `Set-Cookie` that the response has to have, if it has to have one.
    #[inline]
    pub fn line(&self, stick: &Stick) -> Option<&[u8]> {
        let hashed = self.servers.get(stick.sets_cookie?)?;
        Some(if stick.is_secure {
            &hashed.secure
        } else {
            &hashed.plain
        })
    }

    /// The server for a client at `address`, among those that may be chosen. Looks at all of them
    /// twice.
    pub fn by_address(
        &self,
        address: IpAddr,
        candidates: impl Iterator<Item = Candidate> + Clone,
    ) -> Option<usize> {
        let (weights, under_way) = candidates.clone().fold((0.0, 1), |(weights, sum), one| {
            (weights + one.weight, sum + u64::from(one.in_flight))
        });
        let client = hash_of(address);
        let has_room = |one: &Candidate| {
            let share = under_way as f64 * one.weight / weights;
            one.in_flight < UNDER_WAY_FREE
                || f64::from(one.in_flight) + 1.0 <= (share * SHARE_MOST).ceil()
        };
        let rank = |one: &Candidate| {
            let seed = self.servers.get(one.index).map_or(0, |hashed| hashed.seed);
            // From 0 to 1, both excluded.
            let even = ((mixed(client ^ seed) >> 12) as f64 + 0.5) / (1_u64 << 52) as f64;
            -one.weight / ln(even)
        };
        candidates
            .filter(has_room)
            .map(|one| (one.index, rank(&one)))
            .reduce(|best, other| if other.1 > best.1 { other } else { best })
            .map(|(index, _)| index)
    }
}

/// What a cookie says in `value`, if it can be one of ours.
pub fn cookie_id(value: &[u8]) -> Option<CookieId> {
    value.try_into().ok()
}

fn id_of(key: &[u8], name: &str) -> CookieId {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mac = hmac_sha256::HMAC::mac(name.as_bytes(), key);
    let mut id = [0; 32];
    for (pair, byte) in id.chunks_exact_mut(2).zip(mac) {
        for (digit, nibble) in pair.iter_mut().zip([byte >> 4, byte & 15]) {
            *digit = DIGITS.get(usize::from(nibble)).copied().unwrap_or(b'0');
        }
    }
    id
}

/// The same on every machine, so that balancers side by side agree: FNV-1a, mixed.
fn seed_of(name: &str) -> u64 {
    let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    mixed(hash)
}

/// One client, or the network of one: the lower half of an IPv6 address is its owner's to change.
fn hash_of(address: IpAddr) -> u64 {
    match address.to_canonical() {
        IpAddr::V4(address) => mixed(u64::from(address.to_bits())),
        IpAddr::V6(address) => mixed((address.to_bits() >> 64) as u64 ^ (1 << 63)),
    }
}

fn mixed(number: u64) -> u64 {
    mix(number.wrapping_add(GOLDEN))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Address;
    use std::net::Ipv4Addr;

    fn servers(count: usize) -> Vec<ServerConfig> {
        (0..count)
            .map(|index| {
                let address = format!("127.0.0.1:{}", 9001 + index).parse().unwrap();
                ServerConfig::new(Address::Tcp(address))
            })
            .collect()
    }

    fn config(by: StickyBy, key: &[u8]) -> StickyConfig {
        StickyConfig {
            by,
            key_file: None,
            key: key.to_vec(),
        }
    }

    fn idle(weights: &[f64]) -> Vec<Candidate> {
        weights
            .iter()
            .enumerate()
            .map(|(index, weight)| Candidate {
                index,
                weight: *weight,
                in_flight: 0,
            })
            .collect()
    }

    /// The cookie of the server 1.
    fn set_by(sticky: &Sticky, is_secure: bool) -> Option<&[u8]> {
        sticky.line(&Stick {
            named: None,
            is_secure,
            sets_cookie: Some(1),
        })
    }

    fn clients() -> impl Iterator<Item = IpAddr> {
        (0..6000).map(|number| IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 + number)))
    }

    #[test]
    fn a_cookie_names_one_server_and_only_the_key_can_make_it() {
        let by = || StickyBy::Cookie("to".to_owned());
        let servers = servers(3);
        let sticky = Sticky::new(&config(by(), b"secret"), &servers);
        let line = String::from_utf8(set_by(&sticky, false).unwrap().to_vec()).unwrap();
        let id = line.strip_prefix("to=").unwrap().split(';').next().unwrap();
        assert_eq!(line, format!("to={id}; Path=/; HttpOnly; SameSite=Lax"));
        let secure = set_by(&sticky, true).unwrap();
        assert_eq!(secure, format!("{line}; Secure").as_bytes());
        assert_eq!(sticky.named(&cookie_id(id.as_bytes()).unwrap()), Some(1));
        assert!(!line.contains("9002"));
        let other = Sticky::new(&config(by(), b"another"), &servers);
        assert_eq!(other.named(&cookie_id(id.as_bytes()).unwrap()), None);
        // Where the server stands among others is of no account.
        let turned: Vec<_> = servers.into_iter().rev().collect();
        let turned = Sticky::new(&config(by(), b"secret"), &turned);
        assert_eq!(set_by(&turned, false), set_by(&sticky, false));
        for wrong in [b"".as_slice(), b"127.0.0.1:9002", &[b'0'; 32], &[b'0'; 33]] {
            assert_eq!(cookie_id(wrong).and_then(|id| sticky.named(&id)), None);
        }
    }

    #[test]
    fn a_server_that_left_is_named_no_more_and_its_place_is_anothers() {
        let mut sticky = Sticky::new(
            &config(StickyBy::Cookie("to".to_owned()), b"k"),
            &servers(2),
        );
        let id = |sticky: &Sticky, index: usize| sticky.servers[index].id;
        let old = id(&sticky, 1);
        sticky.remove(1);
        assert_eq!(sticky.named(&old), None);
        sticky.add(1, &servers(5)[4]);
        assert_eq!(sticky.named(&old), None);
        assert_eq!(sticky.named(&id(&sticky, 1)), Some(1));
        sticky.add(7, &servers(5)[1]);
        assert_eq!(sticky.named(&old), Some(7));
    }

    #[test]
    fn addresses_are_spread_by_weight_and_stay_where_they_are() {
        let sticky = Sticky::new(&config(StickyBy::Address, b""), &servers(3));
        let all = idle(&[1.0, 1.0, 2.0]);
        let mut counts = [0; 3];
        for client in clients() {
            let first = sticky.by_address(client, all.iter().copied()).unwrap();
            counts[first] += 1;
            // Without one of them only its own clients go elsewhere.
            let fewer = all.iter().copied().filter(|one| one.index != 1);
            let then = sticky.by_address(client, fewer).unwrap();
            assert!(then == first || first == 1);
        }
        for (count, share) in counts.into_iter().zip([1500, 1500, 3000]) {
            assert!((share - 150..share + 150).contains(&count), "{counts:?}");
        }
    }

    #[test]
    fn a_server_that_is_busier_than_its_share_gives_way() {
        let sticky = Sticky::new(&config(StickyBy::Address, b""), &servers(3));
        let client = clients().next().unwrap();
        let mut all = idle(&[1.0; 3]);
        let first = sticky.by_address(client, all.iter().copied()).unwrap();
        // Few do not tear a client's requests apart.
        all[first].in_flight = 7;
        assert_eq!(sticky.by_address(client, all.iter().copied()), Some(first));
        all[first].in_flight = 8;
        assert_ne!(sticky.by_address(client, all.iter().copied()), Some(first));
        // A quarter more than the share is the bound.
        for one in &mut all {
            one.in_flight = 100;
        }
        all[first].in_flight = 124;
        assert_eq!(sticky.by_address(client, all.iter().copied()), Some(first));
        all[first].in_flight = 150;
        assert_ne!(sticky.by_address(client, all.iter().copied()), Some(first));
        assert_eq!(sticky.by_address(client, std::iter::empty()), None);
    }

    #[test]
    fn an_ipv6_client_is_its_network() {
        let of = |text: &str| hash_of(text.parse().unwrap());
        assert_eq!(of("2001:db8:1:2::7"), of("2001:db8:1:2:ffff::9"));
        assert_ne!(of("2001:db8:1:2::7"), of("2001:db8:1:3::7"));
        assert_eq!(of("::ffff:10.0.0.1"), of("10.0.0.1"));
    }
}
