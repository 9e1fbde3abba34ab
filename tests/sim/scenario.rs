//! One seed, one scenario: which kinds of trouble there are in it, and how much of each.
//!
//! Every kind is absent from many scenarios, so that what fails in its absence has no excuse.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use bestguess::config::{
    Address, Budgets, CheckConfig, CheckMode, Config, LogFormat, LogTarget, Policy, ServerConfig,
    StickyBy, StickyConfig, Timeouts,
};

use super::check::Rules;
use super::kernel::{Knobs, MICRO, MILLI, PipeKnobs, SECOND};
use super::orders::Door;
use super::requests::Tastes;
use super::rng::Rng;
use super::servers::Faults;
use super::world::tcp_address;

/// One server, as it is planned.
#[derive(Debug, Clone)]
pub struct ServerPlan {
    pub address: Address,
    /// Never does anything wrong.
    pub is_solid: bool,
    pub max: Option<u32>,
}

/// Another process is started, to take over.
#[derive(Debug, Clone, Copy)]
pub struct Upgrade {
    pub at: u64,
    /// So long after its start it dies, if it has not taken over by then.
    pub dies_after: Option<u64>,
    /// So long after it has taken over the older one hears of it.
    pub heard_after: u64,
}

/// All options of one run.
#[derive(Debug, Clone)]
pub struct Scenario {
    pub seed: u64,
    pub clients: usize,
    pub conns_each: u32,
    /// Clients begin within this span.
    pub arrival_span: u64,
    pub servers: Vec<ServerPlan>,
    /// So many of them, the last, are not configured at first.
    pub spares: usize,
    /// The operator changes something about this often; 0: never.
    pub changes: u64,
    /// Somebody comes to the admin listener about this often; 0: there is none.
    pub admins: u64,
    pub door: Door,
    pub faults: Faults,
    pub think_max: u64,
    pub answer_max: u64,
    pub knobs: Knobs,
    /// Servers die, hang and come back about this often; 0: never.
    pub moods: u64,
    pub jumps: u64,
    pub stop_at: Option<u64>,
    pub stop_again: Option<u64>,
    /// When other processes are to take over.
    pub upgrades: Vec<Upgrade>,
    pub parallel: usize,
    pub clients_max: usize,
    pub policy: Policy,
    pub sticky: StickyConfig,
    pub timeouts: Timeouts,
    pub rate_min: u32,
    pub retry_statuses: Vec<u16>,
    pub check: CheckConfig,
    pub down_status: u16,
    /// Of ten clients, how many may do wrong.
    naughty: u64,
    tastes: Tastes,
    is_queue_short: bool,
    budgets: Budgets,
}

impl Scenario {
    pub fn new(seed: u64) -> Scenario {
        let rng = &mut Rng::new(seed);
        let has_server_faults = rng.chance(600);
        let has_client_faults = rng.chance(500);
        let has_connect_faults = rng.chance(300);
        let has_moods = rng.chance(300);
        let is_calm = !(has_server_faults || has_connect_faults || has_moods);
        let has_solid = is_calm || rng.chance(600);
        let count = rng.range(1, 5) as usize;
        let solid = rng.below(count as u64) as usize;
        let has_max = rng.chance(150);
        let servers = (0..count)
            .map(|index| ServerPlan {
                address: if rng.chance(150) {
                    Address::Unix(PathBuf::from(format!("/s/{index}")))
                } else {
                    tcp_address(index)
                },
                is_solid: is_calm || (has_solid && index == solid),
                max: (has_max && rng.chance(700)).then(|| rng.range(1, 4) as u32),
            })
            .collect();
        let faults = if has_server_faults {
            faults(rng)
        } else {
            Faults::default()
        };
        let knobs = knobs(rng, has_connect_faults);
        let is_queue_short = rng.chance(150);
        let timeouts = Timeouts {
            connect: Duration::from_millis(rng.range(300, 2000)),
            response: Duration::from_millis(rng.range(2000, 10_000)),
            client: Duration::from_millis(rng.range(2000, 8000)),
            idle: Duration::from_millis(rng.range(2000, 20_000)),
            pooled: Duration::from_secs(60),
            tunnel: Duration::from_millis(rng.range(3000, 20_000)),
            queue: if is_queue_short {
                Duration::from_millis(rng.range(20, 2000))
            } else {
                Duration::from_secs(3000)
            },
            drain: Duration::from_millis(rng.range(500, 10_000)),
            drain_grace: Duration::ZERO,
            // Never cut: whatever runs comes to an end by itself.
            tunnel_drain: Duration::from_secs(3000),
        };
        let check = CheckConfig {
            mode: rng.pick(&[
                CheckMode::Report,
                CheckMode::Report,
                CheckMode::Report,
                CheckMode::Report,
                CheckMode::Http,
                CheckMode::Tcp,
                CheckMode::Off,
            ]),
            timeout: Duration::from_millis(rng.range(300, 9000)),
            every_requests: rng.pick(&[1, 5, 20, 1000]),
            every: Duration::from_millis(rng.range(200, 4000)),
            rise: rng.pick(&[1, 1, 1, 3]),
            fall: rng.pick(&[1, 1, 1, 3]),
            ..CheckConfig::default()
        };
        let clients = rng.range(1, 24) as usize;
        let stop = rng.chance(80);
        let mut scenario = Scenario {
            seed,
            clients,
            conns_each: rng.range(1, 4) as u32,
            arrival_span: rng.pick(&[0, MILLI, 100 * MILLI, 2 * SECOND]),
            servers,
            spares: 0,
            changes: 0,
            admins: 0,
            door: Door::Loopback,
            faults,
            think_max: rng.pick(&[0, 100 * MICRO, 3 * MILLI, 100 * MILLI]),
            answer_max: rng.pick(&[100, 2000, 2000, 20_000, 20_000, 300_000]),
            knobs,
            moods: if has_moods {
                rng.range(MILLI, SECOND)
            } else {
                0
            },
            jumps: if rng.chance(30) { 2 } else { 0 },
            stop_at: stop.then(|| rng.size(4 * SECOND)),
            stop_again: (stop && rng.chance(300)).then(|| rng.size(2 * SECOND)),
            upgrades: Vec::new(),
            parallel: rng.pick(&[1, 2, 3, 5, 8, 100, 1000]),
            clients_max: if rng.chance(150) {
                rng.range(1, 8) as usize
            } else {
                1000
            },
            policy: rng.pick(&[
                Policy::BestGuess,
                Policy::BestGuess,
                Policy::LeastLoad,
                Policy::RoundRobin,
                Policy::LeastConn,
                Policy::Random,
                Policy::PowerOfTwo,
            ]),
            sticky: StickyConfig::default(),
            timeouts,
            rate_min: rng.pick(&[0, 1, 240]),
            retry_statuses: rng.pick(&[[].as_slice(), &[404, 500]]).to_vec(),
            check,
            down_status: rng.pick(&[500, 503]),
            naughty: if has_client_faults {
                rng.range(1, 10)
            } else {
                0
            },
            tastes: tastes(rng),
            is_queue_short,
            budgets: Budgets {
                turn_bytes: rng.pick(&[1 << 20, 1 << 20, 10_000, 100, 1]),
                turn_exchanges: rng.pick(&[32, 32, 2, 1]),
                wide_bytes: rng.pick(&[64 << 20, 64 << 20, 0]),
                ..Budgets::default()
            },
        };
        if rng.chance(25) {
            scenario.make_big();
        }
        let admin = &mut Rng::new(seed ^ 0xad01_ad01);
        if admin.chance(300) {
            scenario.admins = admin.range(MILLI, SECOND);
            scenario.door = admin.pick(&[Door::Loopback, Door::Loopback, Door::Token, Door::Wide]);
        }
        // By a chance of its own, so that all else is as it was without.
        let stick = &mut Rng::new(seed ^ 0x571c_571c);
        if stick.chance(200) {
            scenario.sticky.by = match stick.chance(500) {
                true => StickyBy::Address,
                false => StickyBy::Cookie("to".to_owned()),
            };
        }
        scenario.change_servers(&mut Rng::new(seed ^ 0xc4a6_e5e5), is_calm);
        scenario.lay_pipes(&mut Rng::new(seed ^ 0x7069_7065));
        scenario.timeouts.drain_grace = Duration::from_millis(rng.pick(&[0, 50, 500, 3000]));
        if !stop && rng.chance(100) {
            let first = rng.size(4 * SECOND);
            scenario.upgrade(&mut Rng::new(seed ^ 0x0ad_0ad), first);
        }
        scenario
    }

    /// Other processes take over, the first at `at`.
    fn upgrade(&mut self, rng: &mut Rng, mut at: u64) {
        if rng.chance(500) {
            // Somebody orders something of whichever process hears it.
            at = rng.below(SECOND);
            self.admins = rng.range(MILLI, 30 * MILLI);
            self.door = Door::Loopback;
            self.changes = self.changes.max(SECOND / 2);
        }
        for _ in 0..rng.pick(&[1, 1, 1, 2, 3]) {
            self.upgrades.push(Upgrade {
                at,
                dies_after: rng.chance(200).then(|| rng.size(SECOND)),
                heard_after: rng.size(5 * MILLI),
            });
            at += rng.size(2 * SECOND);
        }
    }

    /// Servers that come and go. By a chance of its own, so that all else is as it was without.
    fn change_servers(&mut self, rng: &mut Rng, is_calm: bool) {
        if !rng.chance(300) {
            return;
        }
        self.changes = rng.range(MILLI / 10, SECOND / 2);
        self.spares = rng.range(0, 3) as usize;
        let first = self.servers.len();
        for index in first..first + self.spares {
            self.servers.push(ServerPlan {
                address: tcp_address(index),
                is_solid: is_calm,
                max: None,
            });
        }
    }

    /// In a share of the scenarios content goes through pipes, mostly content that is not worth it.
    fn lay_pipes(&mut self, rng: &mut Rng) {
        if rng.chance(500) {
            return;
        }
        let least: [u64; 6] = [1, 1, 1, 100, 5000, 64 << 10];
        let rooms = [7, 100, 4096, 65_536, 1 << 20];
        // As the program does: what pipes take of the descriptors is little.
        self.budgets.pipes = rng.pick(&[1, 2, 64, 64]).min(self.knobs.descriptors / 16);
        self.budgets.splice_bytes = rng.pick(&least);
        self.knobs.pipes = PipeKnobs {
            rooms: vec![rng.pick(&rooms), rng.pick(&rooms)],
            fails: rng.pick(&[0, 0, 300]),
            partial: rng.pick(&[0, 300, 700]),
            are_some_plain: rng.chance(200),
            is_unsupported: rng.chance(50),
        };
        if self.answer_max > 20_000 || self.tastes.content_max > 20_000 {
            // Many bytes through narrow pipes take long, and show nothing new.
            let room = if self.answer_max >= 1 << 20 {
                1 << 20
            } else {
                2000
            };
            for narrow in &mut self.knobs.pipes.rooms {
                *narrow = room.max(*narrow);
            }
        }
    }

    /// A few large messages through wide pipes: more than one turn may move for anyone.
    fn make_big(&mut self) {
        self.clients = self.clients.min(3);
        self.conns_each = 1;
        self.answer_max = 4 << 20;
        self.knobs.segments = vec![8 << 20];
        self.knobs.receive_buffers = vec![8 << 20];
        self.knobs.send_buffers = vec![8 << 20];
        self.knobs.partial = 0;
        self.tastes.requests_max = 3;
        self.tastes.content_max = 4 << 20;
        self.tastes.pieces = vec![8 << 20];
        self.tastes.slow_readers = 0;
    }

    /// The tastes of one client: naughty or honest.
    pub fn tastes(&self, _index: usize, rng: &mut Rng) -> Tastes {
        let mut tastes = self.tastes.clone();
        if rng.below(10) >= self.naughty {
            tastes.calm();
        }
        tastes
    }

    /// What the balancer is told.
    pub fn config(&self) -> Config {
        let servers = self
            .servers
            .iter()
            .take(self.servers.len() - self.spares)
            .map(|server| ServerConfig {
                max: server.max,
                ..ServerConfig::new(server.address.clone())
            })
            .collect();
        Config {
            parallel: self.parallel,
            policy: self.policy,
            sticky: self.sticky.clone(),
            check: self.check.clone(),
            timeouts: self.timeouts.clone(),
            rate_min: self.rate_min,
            retry_statuses: self.retry_statuses.clone(),
            down_status: self.down_status,
            budgets: self.budgets.clone(),
            admin: (self.admins > 0).then(|| self.door.config()),
            // The lines are taken by nobody, and lost when they are too many.
            access_log: self.is_recorded().then_some(LogTarget::Stdout),
            log_format: LogFormat::Json,
            request_id: self.is_recorded(),
            ..Config::new(tcp_address(1000), servers)
        }
    }

    /// Whether exchanges are written down, and named.
    fn is_recorded(&self) -> bool {
        self.seed % 4 == 1
    }

    /// What the checker has to know.
    pub fn rules(&self) -> Rules {
        Rules {
            parallel: self.parallel,
            down_status: self.down_status,
            // A check that is not waited for makes any server invalid.
            has_solid: self.servers.iter().any(|server| server.is_solid)
                && self.check.timeout.as_secs() >= 3,
            is_calm: self.servers.iter().all(|server| server.is_solid)
                && self.knobs.descriptors > 10_000,
            is_queue_short: self.is_queue_short,
            server_max: self.servers.iter().map(|server| server.max).collect(),
            idle_timeout: self.timeouts.idle.as_nanos() as u64,
            has_ids: self.is_recorded(),
        }
    }

    /// Longer than it takes until servers that are well are known to be.
    pub fn recovery(&self) -> u64 {
        let check = &self.check;
        let all = (check.every + check.timeout) * (check.rise + 1);
        all.as_nanos() as u64 + 2 * SECOND
    }

    /// Longer than anything may go on without a byte moving.
    pub fn patience(&self) -> u64 {
        let timeouts = &self.timeouts;
        let queue = if self.is_queue_short {
            timeouts.queue
        } else {
            Duration::from_secs(60)
        };
        let all = timeouts.connect * 8
            + timeouts.response
            + timeouts.client * 2
            + timeouts.idle
            + timeouts.tunnel
            + queue;
        // Who is not let in yet waits for all who are.
        let rounds = 1 + (self.clients / self.clients_max) as u64;
        (all.as_nanos() as u64 + 20 * SECOND) * rounds
    }
}

fn faults(rng: &mut Rng) -> Faults {
    let mut some = |most: u64| {
        if rng.chance(300) {
            rng.range(10, most)
        } else {
            0
        }
    };
    Faults {
        early: some(300),
        cut: some(200),
        hang: some(60),
        broken: some(200),
        stale: some(1000),
        extra: some(200),
        hasty: some(500),
        sick: some(600),
    }
}

fn knobs(rng: &mut Rng, has_connect_faults: bool) -> Knobs {
    let mut some = |most: u64| if rng.chance(500) { rng.size(most) } else { 0 };
    let (spurious, stale, shuffle, linger, race) =
        (some(300), some(300), some(1000), some(1000), some(300));
    let (partial, interrupted, reset_discards, abort_shows) =
        (some(600), some(50), some(1000), some(1000));
    let mut fails = |most: u64| {
        if has_connect_faults {
            rng.size(most)
        } else {
            0
        }
    };
    let (connect_hangs, connect_fails, connect_resets) = (fails(300), fails(500), fails(300));
    let segments = [1, 7, 200, 1460, 1460, 16_384, 65_536, 1 << 20];
    let buffers = [100, 2000, 16_384, 65_536, 300_000];
    let draw = |rng: &mut Rng, from: &[usize]| {
        let count = rng.range(1, 3);
        (0..count).map(|_| rng.pick(from)).collect::<Vec<usize>>()
    };
    Knobs {
        spurious,
        stale,
        shuffle,
        batch_max: rng.pick(&[1, 3, 1024, 1024]),
        linger,
        race,
        partial,
        interrupted,
        reset_discards,
        abort_shows,
        latency_max: rng.pick(&[1, 50 * MICRO, MILLI, 20 * MILLI]),
        segments: draw(rng, &segments),
        receive_buffers: draw(rng, &buffers),
        send_buffers: draw(rng, &buffers),
        descriptors: if rng.chance(100) {
            rng.range(6, 40) as usize
        } else {
            usize::MAX
        },
        connect_hangs,
        connect_fails,
        connect_resets,
        pipes: PipeKnobs::default(),
    }
}

fn tastes(rng: &mut Rng) -> Tastes {
    let mut some = |most: u64| {
        if rng.chance(400) {
            rng.range(most / 10, most)
        } else {
            0
        }
    };
    let (pipelines, olds, expects, upgrades) = (some(1000), some(400), some(1000), some(400));
    let (half_closes, stays, slow_readers) = (some(400), some(300), some(500));
    let (malformed, leaves) = (some(300), some(600));
    Tastes {
        requests_max: rng.pick(&[1, 3, 8, 8, 40]),
        content_max: rng.pick(&[0, 100, 5000, 5000, 100_000, 400_000]),
        pieces: vec![
            rng.pick(&[1, 50, 1000]),
            rng.pick(&[100, 20_000, 1 << 20]),
            1 << 20,
        ],
        pause_max: rng.pick(&[0, MILLI, 200 * MILLI]),
        pipelines,
        uploads: rng.pick(&[0, 200, 500]),
        olds,
        expects,
        upgrades,
        malformed,
        leaves,
        half_closes,
        stays,
        slow_readers,
    }
}

impl fmt::Display for Scenario {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let solid = self.servers.iter().filter(|server| server.is_solid).count();
        write!(
            out,
            "{} clients x {} ({}0% naughty), {} servers ({solid} solid, {} spare, changes {}, max {:?}), admins {} {:?}, N {}, {:?}, {:?}, check {:?}/{:?}/{}, {:?}, moods {}, stop {:?}/{:?}, upgrades {:?}, clients_max {}, {:?}, {} bytes/s",
            self.clients,
            self.conns_each,
            self.naughty,
            self.servers.len(),
            self.spares,
            self.changes,
            self.servers
                .iter()
                .map(|server| server.max.unwrap_or(0))
                .collect::<Vec<_>>(),
            self.admins,
            self.door,
            self.parallel,
            self.policy,
            self.sticky.by,
            self.check.mode,
            self.check.every,
            self.check.every_requests,
            self.faults,
            self.moods,
            self.stop_at,
            self.stop_again,
            self.upgrades,
            self.clients_max,
            self.timeouts,
            self.rate_min,
        )
    }
}
