//! The access log: one line for each exchange, and what has to be noted for it while it runs.
//!
//! Lines are gathered in memory and handed to a thread that writes them, without ever waiting for it.
//! Writes nothing itself, makes no system call, and costs nothing while nobody wants to know: neither
//! the log, nor request ids, nor explanations.
//!
//! | room | what it knows |
//! |---|---|
//! | `record` | one exchange while it runs: who asked for what, when it got how far |
//! | `line` | the two formats |
//! | `text` | escapes |
//! | `clock` | time for people |
//! | `ids` | request ids |
//! | [`writer`] | the thread, and what becomes of lines that cannot be written |

mod clock;
mod ids;
mod line;
mod record;
mod text;
pub mod writer;

use std::time::{Duration, SystemTime};

use log::warn;

use crate::config::{Config, LogFormat};
use crate::http::head::Request;
use crate::net::Time;
use clock::Clock;
use ids::Ids;
pub use line::Ended;
pub use record::Record;
use record::Wants;
use writer::{BUFFER_BYTES, Outlet};

/// Lines that came after a rest are handed over at once, those behind them together after this or as
/// a full buffer: each hand-over wakes the thread, and the system writes many small pieces far slower
/// than a few large ones.
const HAND_OVER_EVERY: Duration = Duration::from_millis(100);
/// The same while the thread is behind.
const TRY_AGAIN_EVERY: Duration = Duration::from_millis(100);
/// How often it is told that more lines were lost.
const TELL_EVERY: Duration = Duration::from_secs(10);
/// Free records that are kept beyond what the last period needed.
const SPARE_RECORDS: usize = 4;

/// The log as the loop sees it.
#[derive(Debug)]
pub struct Access {
    wants: Wants,
    clock: Clock,
    ids: Ids,
    /// Records that nobody uses, boxed as tasks hold them.
    #[allow(clippy::vec_box)]
    free: Vec<Box<Record>>,
    /// The fewest of those since the last `shrink`.
    idle: usize,
    /// Lines that were not handed over.
    lines: Vec<u8>,
    count: u64,
    outlet: Option<Outlet>,
    /// The next time that lines are handed over, unless there are many.
    again: Time,
    must_reopen: bool,
    /// Lines lost here.
    lost: u64,
    /// Lost lines that were told of, and when that may be done again.
    told: u64,
    tell_again: Time,
}

impl Access {
    /// The log that `config` asks for; it is `date` at `now`, and `seed` makes ids unlike others'.
    pub fn new(config: &Config, now: Time, date: SystemTime, seed: u64) -> Access {
        Access {
            wants: Wants {
                format: config.access_log.as_ref().map(|_| config.log_format),
                line: config.explain,
                id: config.request_id,
                trust: config.trust_forwarded,
            },
            clock: Clock::new(now, date),
            ids: Ids::new(seed),
            free: Vec::new(),
            idle: 0,
            lines: Vec::new(),
            count: 0,
            outlet: None,
            again: Time(0),
            must_reopen: false,
            lost: 0,
            told: 0,
            tell_again: Time(0),
        }
    }

    /// Lines go there from now on; until then they are kept, as many as one buffer holds.
    pub fn write_to(&mut self, outlet: Outlet) {
        self.outlet = Some(outlet);
    }

    /// Whether exchanges have to be recorded.
    #[inline]
    pub fn is_recording(&self) -> bool {
        self.wants.format.is_some() || self.wants.line || self.wants.id
    }

    /// Whether a line says why a server was chosen.
    #[inline]
    pub fn wants_reasons(&self) -> bool {
        self.wants.format == Some(LogFormat::Json)
    }

    /// The first bytes of a head have come, but not all of it.
    pub fn begin(&mut self, place: &mut Option<Box<Record>>, now: Time) {
        if self.is_recording() && place.is_none() {
            self.lend(place).begin(now);
        }
    }

    /// `request` has come, as a whole.
    pub fn ask(&mut self, place: &mut Option<Box<Record>>, now: Time, request: &Request<'_>) {
        if self.is_recording() {
            self.begin(place, now);
            if let Some(record) = place {
                record.ask(now, request, self.wants, &mut self.ids);
            }
        }
    }

    /// What could not be read is answered all the same.
    pub fn refuse(&mut self, place: &mut Option<Box<Record>>, now: Time) {
        if self.wants.id {
            self.begin(place, now);
            if let Some(record) = place {
                record.identify(&mut self.ids);
            }
        }
    }

    /// Adds the line of an exchange that has ended; `name` tells what a server is called.
    pub fn add<'n>(&mut self, ended: &Ended<'_>, name: impl Fn(usize) -> Option<&'n str>) {
        let Some(format) = self.wants.format else {
            return;
        };
        // Who left before its head was whole has asked for nothing.
        if ended.status == 0 && ended.record.is_none_or(|record| !record.is_asked()) {
            return;
        }
        if self.lines.len() >= BUFFER_BYTES && !self.hand_over() {
            self.lost += 1;
            return;
        }
        self.count += 1;
        match format {
            LogFormat::Combined => line::combined(&mut self.lines, &mut self.clock, ended),
            LogFormat::Json => line::json(&mut self.lines, &mut self.clock, ended, name),
        }
    }

    /// Takes a record back whose exchange is over.
    pub fn take_back(&mut self, record: Box<Record>) {
        if record.is_small() {
            self.free.push(record);
        }
    }

    /// The calendar was looked at.
    pub fn set_date(&mut self, now: Time, date: SystemTime) {
        self.clock.set(now, date);
    }

    /// The file was moved away: the lines to come belong to a new one in its place.
    pub fn reopen(&mut self) {
        self.must_reopen = true;
    }

    /// To be called at the end of each turn: hands the lines over, if it is time.
    #[inline]
    pub fn end_turn(&mut self, now: Time) {
        if self.outlet.is_some() && (now >= self.again || self.lines.len() >= BUFFER_BYTES) {
            self.settle(now);
        }
    }

    /// When `end_turn` has something to do though nothing happened.
    #[inline]
    pub fn due(&self) -> Option<Time> {
        let has_something = self.outlet.is_some() && (!self.lines.is_empty() || self.must_reopen);
        has_something.then_some(self.again)
    }

    /// Hands over what is there: no more lines will come.
    pub fn close(&mut self) {
        self.hand_over();
        self.lost += std::mem::take(&mut self.count);
        self.lines.clear();
        self.tell();
        self.outlet = None;
    }

    /// Lines that could not be written so far.
    pub fn lost(&self) -> u64 {
        self.lost + self.outlet.as_ref().map_or(0, Outlet::lost)
    }

    /// The lines that nobody was given, for tests.
    pub fn take(&mut self) -> Vec<u8> {
        self.count = 0;
        std::mem::take(&mut self.lines)
    }

    /// Frees half of the records that nobody needed since the last call. To be called now and then.
    pub fn shrink(&mut self) {
        let needless = self.idle.saturating_sub(SPARE_RECORDS).div_ceil(2);
        if needless > 0 {
            self.free.truncate(self.free.len() - needless);
            self.free.shrink_to(2 * self.free.len());
        }
        self.idle = self.free.len();
    }

    /// A record that nobody uses, in `place`.
    fn lend<'p>(&mut self, place: &'p mut Option<Box<Record>>) -> &'p mut Record {
        let found = self.free.pop();
        self.idle = self.idle.min(self.free.len());
        place.insert(found.unwrap_or_default())
    }

    fn settle(&mut self, now: Time) {
        if self.must_reopen || !self.lines.is_empty() {
            let is_done = self.hand_over() && self.ask_to_reopen();
            let pause = if is_done {
                HAND_OVER_EVERY
            } else {
                TRY_AGAIN_EVERY
            };
            self.again = now + pause;
        }
        if now >= self.tell_again && self.tell() {
            self.tell_again = now + TELL_EVERY;
        }
    }

    /// Whether the thread has all lines now.
    fn hand_over(&mut self) -> bool {
        if self.lines.is_empty() {
            return true;
        }
        let outlet = self.outlet.as_mut();
        let is_done = outlet.is_some_and(|outlet| outlet.hand_over(&mut self.lines, self.count));
        if is_done {
            self.count = 0;
        }
        is_done
    }

    /// Whether the thread knows of what `reopen` wanted; the lines before it have gone before.
    fn ask_to_reopen(&mut self) -> bool {
        let outlet = self.outlet.as_ref();
        if self.must_reopen && outlet.is_some_and(Outlet::reopen) {
            self.must_reopen = false;
        }
        !self.must_reopen
    }

    /// Tells how many lines were lost, if there are more than when it last did.
    fn tell(&mut self) -> bool {
        let lost = self.lost();
        if lost > self.told {
            warn!("access log: {} lines lost, {lost} in all", lost - self.told);
            self.told = lost;
            return true;
        }
        false
    }
}

#[cfg(test)]
mod tests;
