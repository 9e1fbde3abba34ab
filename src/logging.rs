//! Log lines to standard error, by a thread of their own.
//!
//! simple_logger writes with `eprintln!`, which panics when the reader of stderr has gone, and
//! waits when it does not read. Neither may reach the loop, so a line is only handed over here,
//! without ever waiting; the thread alone touches stderr. What does not fit is counted and told.
//!
//! Lines read `INFO  [bestguess::proxy] text`. They have no time stamp (simple_logger needs three
//! more crates for it, and journald, docker and `ts` add their own) and no colours, so there is
//! nothing for NO_COLOR to turn off.
//!
//! A panic of the thread's sink is caught, which needs unwinding: with `panic = "abort"` a dead
//! stderr would end the process. Nothing else may write to stderr after [`init`], as it would wait
//! for the lock that the thread holds; so the messages of panics take the same way.

use log::{Level, LevelFilter, Log, Metadata, Record};
use simple_logger::SimpleLogger;
use std::backtrace::{Backtrace, BacktraceStatus};
use std::cell::Cell;
use std::fmt::{self, Write};
use std::panic::{self, AssertUnwindSafe, PanicHookInfo, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use std::{io, thread};

/// At most this many lines wait for the thread.
const LINES_MAX: usize = 1024;
/// A longer line is cut, in bytes.
const LINE_BYTES_MAX: usize = 4096;
/// A panic with a full backtrace needs between 32 and 48 KiB, a line far less. Only what is touched
/// takes memory, and an overflow would end the process: hence the margin.
const STACK_BYTES: usize = 128 * 1024;
/// How long [`flush`] sleeps between two looks.
const FLUSH_STEP: Duration = Duration::from_millis(1);

/// How long a panic may wait for its message to be written.
const PANIC_FLUSH_MAX: Duration = Duration::from_millis(250);

static HANDOVER: OnceLock<Handover> = OnceLock::new();

thread_local! {
    /// Set in the writing thread: what it logs itself, in a panic hook say, would feed itself.
    static IS_WRITER: Cell<bool> = const { Cell::new(false) };
}

/// Starts the thread, installs the logger, and has panics logged instead of printed.
///
/// Does nothing where a logger is installed already, or where no thread can be had: there is no log
/// then, rather than one that can stall.
///
/// `verbosity`: 0 shows information and above, 1 debug, 2 and up everything, -1 warnings and
/// errors, -2 and below errors.
pub fn init(verbosity: i8) {
    let level = match verbosity {
        ..=-2 => LevelFilter::Error,
        -1 => LevelFilter::Warn,
        0 => LevelFilter::Info,
        1 => LevelFilter::Debug,
        2.. => LevelFilter::Trace,
    };
    let Ok(handover) = Handover::start(level, SimpleLogger::new().with_level(level)) else {
        return;
    };
    if log::set_logger(HANDOVER.get_or_init(|| handover)).is_ok() {
        log::set_max_level(level);
        panic::set_hook(Box::new(panicked));
    }
}

/// Waits until every line handed over before has been written, but at most `max`. Returns whether
/// all were; with a stderr that nobody reads it says false.
pub fn flush(max: Duration) -> bool {
    HANDOVER.get().is_none_or(|handover| handover.wait(max))
}

/// Logs a panic instead of printing it, with its backtrace where RUST_BACKTRACE asks for one.
fn panicked(panic: &PanicHookInfo<'_>) {
    // The sink's own panics say nothing but that stderr has failed: they are counted.
    if IS_WRITER.get() {
        return;
    }
    log::error!("{panic}");
    let trace = Backtrace::capture();
    if trace.status() == BacktraceStatus::Captured {
        trace
            .to_string()
            .lines()
            .for_each(|line| log::error!("{line}"));
    }
    // The process may be about to end.
    flush(PANIC_FLUSH_MAX);
}

/// The side of the callers.
struct Handover {
    level: LevelFilter,
    lines: SyncSender<Line>,
    counts: Arc<Counts>,
}

/// What both sides count.
#[derive(Default)]
struct Counts {
    /// Lines handed over and not written yet.
    pending: AtomicU64,
    /// Lines lost and not told yet.
    lost: AtomicU64,
}

struct Line {
    level: Level,
    target: String,
    text: String,
}

impl Handover {
    fn start(level: LevelFilter, sink: impl Log + 'static) -> io::Result<Handover> {
        let (lines, receiver) = sync_channel(LINES_MAX);
        let counts = Arc::new(Counts::default());
        let writer = Writer {
            sink,
            counts: Arc::clone(&counts),
        };
        thread::Builder::new()
            .name("log".to_owned())
            .stack_size(STACK_BYTES)
            .spawn(move || writer.run(&receiver))?;
        Ok(Handover {
            level,
            lines,
            counts,
        })
    }

    fn wait(&self, max: Duration) -> bool {
        let start = Instant::now();
        while self.counts.pending.load(Ordering::Acquire) > 0 {
            if start.elapsed() >= max {
                return false;
            }
            thread::sleep(FLUSH_STEP);
        }
        true
    }
}

impl Log for Handover {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= self.level
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) || IS_WRITER.get() {
            return;
        }
        let mut text = Capped(String::new());
        // An error of the adapter only says that the line was cut.
        let _ = text.write_fmt(*record.args());
        let line = Line {
            level: record.level(),
            target: record.target().to_owned(),
            text: text.0,
        };
        // Counted before it is handed over: the thread may be done with it before we go on.
        self.counts.pending.fetch_add(1, Ordering::Release);
        if self.lines.try_send(line).is_err() {
            self.counts.pending.fetch_sub(1, Ordering::Release);
            self.counts.lost.fetch_add(1, Ordering::Release);
        }
    }

    /// Never waits, as a caller in the loop must not; [`flush`] does.
    fn flush(&self) {}
}

/// The side of the thread.
struct Writer<S> {
    sink: S,
    counts: Arc<Counts>,
}

impl<S: Log> Writer<S> {
    fn run(&self, lines: &Receiver<Line>) {
        IS_WRITER.set(true);
        let mut untold = 0;
        let mut next = lines.recv().ok();
        while let Some(line) = next {
            if !self.write(&line) {
                self.counts.lost.fetch_add(1, Ordering::Release);
            }
            untold += 1;
            let following = lines.try_recv();
            // A loss is told behind the lines that waited when it happened: a full queue and one.
            if untold > LINES_MAX || matches!(following, Err(TryRecvError::Empty)) {
                self.tell_lost();
                untold = 0;
            }
            self.counts.pending.fetch_sub(1, Ordering::Release);
            next = match following {
                Ok(line) => Some(line),
                Err(TryRecvError::Empty) => lines.recv().ok(),
                Err(TryRecvError::Disconnected) => None,
            };
        }
    }

    fn tell_lost(&self) {
        let lost = self.counts.lost.swap(0, Ordering::AcqRel);
        let line = Line {
            level: Level::Error,
            target: module_path!().to_owned(),
            text: format!("{lost} log lines lost"),
        };
        if lost > 0 && !self.write(&line) {
            self.counts.lost.fetch_add(lost, Ordering::Release);
        }
    }

    /// Whether the sink took the line; it did not if it panicked.
    fn write(&self, line: &Line) -> bool {
        let write = || {
            let mut record = Record::builder();
            record.level(line.level).target(&line.target);
            self.sink
                .log(&record.args(format_args!("{}", line.text)).build());
        };
        // The sink is used again after a panic: it keeps no state that a panic could break.
        catch_unwind(AssertUnwindSafe(write)).is_ok()
    }
}

/// A line in the making: control characters become their escapes, so that no peer can forge a
/// second line, and the end of what is too long is cut.
struct Capped(String);

impl Write for Capped {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for character in text.chars() {
            if self.0.len() >= LINE_BYTES_MAX {
                return Err(fmt::Error);
            }
            match character.is_control() {
                true => self.0.extend(character.escape_default()),
                false => self.0.push(character),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;
    use std::sync::mpsc::{Sender, channel};

    /// A sink that does with each text what a test wants.
    struct Sink<F>(F);

    impl<F: Fn(String) + Send + Sync> Log for Sink<F> {
        fn enabled(&self, _: &Metadata<'_>) -> bool {
            true
        }

        fn log(&self, record: &Record<'_>) {
            (self.0)(format!(
                "{} {} {}",
                record.level(),
                record.target(),
                record.args()
            ));
        }

        fn flush(&self) {}
    }

    const LONG: Duration = Duration::from_secs(10);

    fn start(sink: impl Fn(String) + Send + Sync + 'static) -> Handover {
        Handover::start(LevelFilter::Info, Sink(sink)).unwrap()
    }

    fn info(handover: &Handover, text: &str) {
        let mut record = Record::builder();
        record.level(Level::Info).target("t");
        handover.log(&record.args(format_args!("{text}")).build());
    }

    /// A sink that passes its first line on only when the returned sender lets it.
    fn blocking() -> (Handover, Sender<()>, Receiver<String>) {
        let (go, gate) = channel::<()>();
        let (texts, written) = channel();
        let gate = Mutex::new(Some(gate));
        let handover = start(move |text| {
            if let Some(gate) = gate.lock().unwrap().take() {
                gate.recv().unwrap();
            }
            texts.send(text).unwrap();
        });
        (handover, go, written)
    }

    #[test]
    fn lines_arrive_in_order_at_or_above_the_level() {
        let (texts, written) = channel();
        let handover = start(move |text| texts.send(text).unwrap());
        info(&handover, "one");
        let mut record = Record::builder();
        handover.log(&record.level(Level::Debug).args(format_args!("no")).build());
        info(&handover, "two");
        assert!(handover.wait(LONG));
        assert_eq!(
            written.try_iter().collect::<Vec<_>>(),
            ["INFO t one", "INFO t two"]
        );
    }

    #[test]
    fn a_blocked_sink_never_stalls_the_caller_and_the_loss_is_told() {
        let (handover, go, written) = blocking();
        info(&handover, "held");
        let start = Instant::now();
        for _ in 0..5000 {
            info(&handover, "more");
        }
        assert!(start.elapsed() < Duration::from_secs(2));
        assert!(!handover.wait(Duration::from_millis(20)));
        go.send(()).unwrap();
        assert!(handover.wait(LONG));
        let lines: Vec<String> = written.try_iter().collect();
        let told = |line: &String| {
            let behind = line.strip_prefix("ERROR bestguess::logging ")?;
            behind
                .strip_suffix(" log lines lost")?
                .parse::<usize>()
                .ok()
        };
        assert!(lines.last().and_then(told).is_some(), "{:?}", lines.last());
        let lost: Vec<usize> = lines.iter().filter_map(told).collect();
        let kept = lines.len() - lost.len();
        assert_eq!(kept + lost.iter().sum::<usize>(), 5001);
        assert!(kept <= LINES_MAX + 1);
    }

    #[test]
    fn a_panicking_sink_loses_its_line_and_nothing_else() {
        let (texts, written) = channel();
        let handover = start(move |text| {
            assert!(!text.contains("bad"), "the sink panics");
            texts.send(text).unwrap();
        });
        for text in ["one", "bad", "bad", "two"] {
            info(&handover, text);
            assert!(handover.wait(LONG));
        }
        let lines: Vec<String> = written.try_iter().collect();
        assert_eq!(
            lines.iter().filter(|line| line.starts_with("INFO")).count(),
            2,
            "{lines:?}"
        );
        assert_eq!(
            lines
                .iter()
                .filter(|line| line.contains("1 log lines lost"))
                .count(),
            2,
            "{lines:?}"
        );
    }

    #[test]
    fn a_sink_that_always_panics_leaves_flush_quick() {
        let handover = start(|_| panic!("stderr has gone"));
        for _ in 0..10 {
            info(&handover, "text");
        }
        assert!(handover.wait(LONG));
        assert_eq!(handover.counts.lost.load(Ordering::Acquire), 10);
    }

    #[test]
    fn what_the_sink_logs_itself_does_not_feed_it() {
        let handover: Arc<OnceLock<Handover>> = Arc::default();
        let inner = Arc::clone(&handover);
        let (texts, written) = channel();
        let started = start(move |text| {
            texts.send(text).unwrap();
            if let Some(handover) = inner.get() {
                info(handover, "echo");
            }
        });
        let handover = handover.get_or_init(|| started);
        info(handover, "one");
        assert!(handover.wait(LONG));
        assert_eq!(written.try_iter().collect::<Vec<_>>(), ["INFO t one"]);
    }

    #[test]
    fn a_line_stays_one_line_of_bounded_length() {
        let (texts, written) = channel();
        let handover = start(move |text| texts.send(text).unwrap());
        info(&handover, "a\r\nERROR forged\u{1b}[0m");
        info(&handover, &"é".repeat(LINE_BYTES_MAX));
        assert!(handover.wait(LONG));
        assert_eq!(
            written.recv().unwrap(),
            "INFO t a\\r\\nERROR forged\\u{1b}[0m"
        );
        assert_eq!(
            written.recv().unwrap().len(),
            "INFO t ".len() + LINE_BYTES_MAX
        );
    }

    #[test]
    fn the_small_stack_holds_a_panic_with_a_full_backtrace() {
        let (texts, written) = channel();
        let handover = start(move |text| {
            let trace = std::backtrace::Backtrace::force_capture();
            texts.send(format!("{text} {trace:#}")).unwrap();
            panic!("with the default hook");
        });
        info(&handover, &"x".repeat(LINE_BYTES_MAX));
        assert!(handover.wait(LONG));
        assert!(written.recv().unwrap().contains("catch_unwind"));
    }
}
