//! Log lines to standard error, by a thread of their own.
//!
//! simple_logger decides what is shown, and its lines are ours: `INFO  [bestguess::proxy] text`. It does
//! not write them, as it does that with `eprintln!`, which panics when the reader of stderr has gone,
//! waits when it does not read, and takes two writes for a line, between which another process on the
//! same stderr can have its own: the successor of an upgrade has the same one. So a line is only
//! handed over here, without ever waiting; the thread alone touches stderr, with one write for each
//! line. What does not fit, or can not be written, is counted and told.
//!
//! Lines have no time stamp (simple_logger needs three more crates for it, and journald, docker and
//! `ts` add their own) and no colours, so there is nothing for NO_COLOR to turn off.
//!
//! Nothing else may write to stderr after [`init`], as it would wait for the lock that the thread
//! holds; so the messages of panics take the same way.

use log::{Level, LevelFilter, Log, Metadata, Record};
use simple_logger::SimpleLogger;
use std::backtrace::{Backtrace, BacktraceStatus};
use std::fmt::{self, Write as _};
use std::io::{self, Write};
use std::panic::{self, PanicHookInfo};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

/// At most this many lines wait for the thread.
const LINES_MAX: usize = 1024;
/// A longer line is cut, in bytes.
const LINE_BYTES_MAX: usize = 4096;
/// Far more than a line needs: only what is touched takes memory.
const STACK_BYTES: usize = 128 * 1024;
/// How long [`flush`] sleeps between two looks.
const FLUSH_STEP: Duration = Duration::from_millis(1);

/// How long a panic may wait for its message to be written.
const PANIC_FLUSH_MAX: Duration = Duration::from_millis(250);

static HANDOVER: OnceLock<Handover> = OnceLock::new();

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
    let filter = SimpleLogger::new().with_level(level);
    let Ok(handover) = Handover::start(filter, io::stderr()) else {
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
    filter: SimpleLogger,
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
    fn start(filter: SimpleLogger, out: impl Write + Send + 'static) -> io::Result<Handover> {
        let (lines, receiver) = sync_channel(LINES_MAX);
        let counts = Arc::new(Counts::default());
        let mut writer = Writer {
            out,
            line: Vec::new(),
            counts: Arc::clone(&counts),
        };
        thread::Builder::new()
            .name("log".to_owned())
            .stack_size(STACK_BYTES)
            .spawn(move || writer.run(&receiver))?;
        Ok(Handover {
            filter,
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
        self.filter.enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
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
struct Writer<W> {
    out: W,
    /// The line that is written, in the memory of those before it.
    line: Vec<u8>,
    counts: Arc<Counts>,
}

impl<W: Write> Writer<W> {
    fn run(&mut self, lines: &Receiver<Line>) {
        let mut untold = 0;
        let mut next = lines.recv().ok();
        while let Some(line) = next {
            if self.write(&line).is_err() {
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

    fn tell_lost(&mut self) {
        let lost = self.counts.lost.swap(0, Ordering::AcqRel);
        let line = Line {
            level: Level::Error,
            target: module_path!().to_owned(),
            text: format!("{lost} log lines lost"),
        };
        if lost > 0 && self.write(&line).is_err() {
            self.counts.lost.fetch_add(lost, Ordering::Release);
        }
    }

    /// Writes the line with its end in one call, unless the system takes only a part of it.
    fn write(&mut self, line: &Line) -> io::Result<()> {
        self.line.clear();
        let Line {
            level,
            target,
            text,
        } = line;
        writeln!(self.line, "{level:<5} [{target}] {text}")?;
        self.out.write_all(&self.line)
    }
}

/// A line in the making: control characters become their escapes, so that no peer can forge a
/// second line, and the end of what is too long is cut.
struct Capped(String);

impl fmt::Write for Capped {
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
    use std::sync::mpsc::{Sender, channel};

    /// What does with each write what a test wants.
    struct Sink<F>(F);

    impl<F: FnMut(String) -> io::Result<()>> Write for Sink<F> {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            (self.0)(String::from_utf8(bytes.to_vec()).unwrap()).map(|()| bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    const LONG: Duration = Duration::from_secs(10);

    fn start(sink: impl FnMut(String) -> io::Result<()> + Send + 'static) -> Handover {
        let filter = SimpleLogger::new().with_level(LevelFilter::Info);
        Handover::start(filter, Sink(sink)).unwrap()
    }

    /// A sink that passes each write on.
    fn passing() -> (Handover, Receiver<String>) {
        let (texts, written) = channel();
        let handover = start(move |text| {
            texts.send(text).unwrap();
            Ok(())
        });
        (handover, written)
    }

    fn say(handover: &Handover, level: Level, text: &str) {
        let mut record = Record::builder();
        record.level(level).target("t");
        handover.log(&record.args(format_args!("{text}")).build());
    }

    fn info(handover: &Handover, text: &str) {
        say(handover, Level::Info, text);
    }

    /// A sink that passes its first line on only when the returned sender lets it.
    fn blocking() -> (Handover, Sender<()>, Receiver<String>) {
        let (go, gate) = channel::<()>();
        let (texts, written) = channel();
        let mut gate = Some(gate);
        let handover = start(move |text| {
            if let Some(gate) = gate.take() {
                gate.recv().unwrap();
            }
            texts.send(text).unwrap();
            Ok(())
        });
        (handover, go, written)
    }

    #[test]
    fn each_line_is_one_write_in_order_at_or_above_the_level() {
        let (handover, written) = passing();
        info(&handover, "one");
        say(&handover, Level::Debug, "no");
        say(&handover, Level::Error, "two");
        assert!(handover.wait(LONG));
        assert_eq!(
            written.try_iter().collect::<Vec<_>>(),
            ["INFO  [t] one\n", "ERROR [t] two\n"]
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
            let behind = line.strip_prefix("ERROR [bestguess::logging] ")?;
            behind
                .strip_suffix(" log lines lost\n")?
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
    fn a_line_that_can_not_be_written_is_told_and_nothing_else_is_lost() {
        let (texts, written) = channel();
        let handover = start(move |text| {
            if text.contains("bad") {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            texts.send(text).unwrap();
            Ok(())
        });
        for text in ["one", "bad", "bad", "two"] {
            info(&handover, text);
            assert!(handover.wait(LONG));
        }
        let lost = "ERROR [bestguess::logging] 1 log lines lost\n";
        assert_eq!(
            written.try_iter().collect::<Vec<_>>(),
            ["INFO  [t] one\n", lost, lost, "INFO  [t] two\n"]
        );
    }

    #[test]
    fn a_stderr_that_nobody_reads_any_more_leaves_flush_quick() {
        let handover = start(|_| Err(io::ErrorKind::BrokenPipe.into()));
        for _ in 0..10 {
            info(&handover, "text");
        }
        assert!(handover.wait(LONG));
        assert_eq!(handover.counts.lost.load(Ordering::Acquire), 10);
    }

    #[test]
    fn a_line_stays_one_line_of_bounded_length() {
        let (handover, written) = passing();
        info(&handover, "a\r\nERROR forged\u{1b}[0m");
        info(&handover, &"é".repeat(LINE_BYTES_MAX));
        assert!(handover.wait(LONG));
        assert_eq!(
            written.recv().unwrap(),
            "INFO  [t] a\\r\\nERROR forged\\u{1b}[0m\n"
        );
        assert_eq!(
            written.recv().unwrap().len(),
            "INFO  [t] \n".len() + LINE_BYTES_MAX
        );
    }
}
