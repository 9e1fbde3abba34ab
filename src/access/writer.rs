//! The thread that writes the access log: a full disk, a slow pipe or a reader that has gone must not
//! hold up the loop.
//!
//! The loop hands full buffers over and gets empty ones back, and never waits for either. There are only
//! so many: while all are with the thread, the loop keeps what fits one more and counts the rest.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::Duration;

use log::{info, warn};

use crate::config::LogTarget;

/// A buffer with so many bytes is full. Writes come to any place in a file, and the kernel finds large
/// pieces of memory only for large ones: a byte of 256 KiB costs half of what one of 64 KiB does.
pub(super) const BUFFER_BYTES: usize = 256 << 10;
/// Buffers that may be with the thread at once.
const BUFFERS_MAX: usize = 16;
/// Empty buffers that are kept for later.
const SPARE_MAX: usize = 2;
/// How long the start waits for the file to be opened: a FIFO opens only once somebody reads it.
const OPEN_TIMEOUT: Duration = Duration::from_secs(1);
/// How long the thread waits where somebody has made the file non-blocking and there is no room.
const FULL_PAUSE: Duration = Duration::from_millis(10);
/// What is touched takes memory only.
const STACK_BYTES: usize = 64 << 10;

/// The loop's end of it.
#[derive(Debug)]
pub struct Outlet {
    pieces: SyncSender<Piece>,
    empties: Receiver<Vec<u8>>,
    spare: Vec<Vec<u8>>,
    /// Buffers that have not come back.
    away: usize,
    counts: Arc<Counts>,
}

/// The thread, for whoever waits for its end.
#[derive(Debug)]
pub struct Writer {
    /// Ends with it.
    alive: Receiver<()>,
    counts: Arc<Counts>,
}

#[derive(Debug)]
enum Piece {
    /// Lines, and how many they are.
    Lines(Vec<u8>, u64),
    /// The lines that follow belong into another file of the same name.
    Reopen,
}

/// Lines, as both sides know them.
#[derive(Debug, Default)]
struct Counts {
    /// Handed over, and neither written nor lost yet.
    waiting: AtomicU64,
    /// Lost, as they could not be written.
    lost: AtomicU64,
}

/// Starts the thread that writes to `target`.
///
/// # Errors
/// The file cannot be opened, which is said with its name, or no thread can be had. Where opening
/// takes long, as with a FIFO that nobody reads, the thread goes on trying and no error is seen.
pub fn start(target: &LogTarget) -> io::Result<(Outlet, Writer)> {
    let target = target.clone();
    let (outcome, opened) = sync_channel(1);
    let name = match &target {
        LogTarget::Stdout => "standard output".to_owned(),
        LogTarget::File(path) => path.display().to_string(),
    };
    let ends = spawn(move || open(&target), outcome)?;
    match opened.recv_timeout(OPEN_TIMEOUT) {
        Ok(Err(cause)) => {
            let text = format!("cannot write the access log {name}: {cause}");
            return Err(io::Error::new(cause.kind(), text));
        }
        Err(RecvTimeoutError::Timeout) => {
            warn!("access log: {name} has still to be opened; does anybody read it?");
        }
        Ok(Ok(())) | Err(RecvTimeoutError::Disconnected) => {}
    }
    Ok(ends)
}

/// Starts the thread that writes to what `open` gives; how opening went is told to `outcome`.
fn spawn<W: Write>(
    open: impl FnMut() -> io::Result<W> + Send + 'static,
    outcome: SyncSender<io::Result<()>>,
) -> io::Result<(Outlet, Writer)> {
    // One more than there are buffers: the wish to reopen has its place too.
    let (pieces, received) = sync_channel(BUFFERS_MAX + 1);
    let (give_back, empties) = sync_channel(BUFFERS_MAX);
    let (life, alive) = sync_channel(1);
    let counts = Arc::new(Counts::default());
    let theirs = Arc::clone(&counts);
    thread::Builder::new()
        .name("access log".to_owned())
        .stack_size(STACK_BYTES)
        .spawn(move || {
            let _life: SyncSender<()> = life;
            let mut open = open;
            match open() {
                Err(cause) => drop(outcome.send(Err(cause))),
                Ok(out) => {
                    let _ = outcome.send(Ok(()));
                    let sink = Sink {
                        out,
                        open,
                        is_well: true,
                        is_torn: false,
                        counts: theirs,
                    };
                    sink.run(&received, &give_back);
                }
            }
        })?;
    let outlet = Outlet {
        pieces,
        empties,
        spare: Vec::with_capacity(SPARE_MAX),
        away: 0,
        counts: Arc::clone(&counts),
    };
    Ok((outlet, Writer { alive, counts }))
}

fn open(target: &LogTarget) -> io::Result<File> {
    match target {
        // Not the standard library's own: that would hold its lock while it waits for a reader.
        LogTarget::Stdout => io::stdout().as_fd().try_clone_to_owned().map(File::from),
        LogTarget::File(path) => OpenOptions::new().create(true).append(true).open(path),
    }
}

impl Outlet {
    /// Hands over `lines`, so many, and leaves an empty buffer in their place. Tells whether it did:
    /// not if too many are with the thread.
    pub(super) fn hand_over(&mut self, lines: &mut Vec<u8>, count: u64) -> bool {
        while let Ok(empty) = self.empties.try_recv() {
            self.away -= 1;
            if self.spare.len() < SPARE_MAX {
                self.spare.push(empty);
            }
        }
        if self.away >= BUFFERS_MAX {
            return false;
        }
        let empty = self.spare.pop();
        let empty = empty.unwrap_or_else(|| Vec::with_capacity(BUFFER_BYTES));
        let full = std::mem::replace(lines, empty);
        // Before it is handed over: the thread may be done with it before we go on.
        self.counts.waiting.fetch_add(count, Ordering::Relaxed);
        match self.pieces.try_send(Piece::Lines(full, count)) {
            Ok(()) => {
                self.away += 1;
                true
            }
            Err(TrySendError::Full(piece) | TrySendError::Disconnected(piece)) => {
                self.counts.waiting.fetch_sub(count, Ordering::Relaxed);
                if let Piece::Lines(full, _) = piece {
                    self.spare.push(std::mem::replace(lines, full));
                }
                false
            }
        }
    }

    /// What is handed over from now on belongs into another file. Tells whether the thread will know.
    pub(super) fn reopen(&self) -> bool {
        self.pieces.try_send(Piece::Reopen).is_ok()
    }

    /// Lines that the thread lost.
    pub(super) fn lost(&self) -> u64 {
        self.counts.lost.load(Ordering::Relaxed)
    }
}

impl Writer {
    /// Waits until all that was handed over is written, the outlet being gone, but no longer than
    /// `max`: what is not written by then is lost, and that is logged.
    pub fn end(self, max: Duration) {
        // Nothing is ever sent: it ends with the thread.
        let _ = self.alive.recv_timeout(max);
        let waiting = self.counts.waiting.load(Ordering::Relaxed);
        if waiting > 0 {
            warn!("access log: {waiting} lines could not be written before the end");
        }
    }
}

/// What the thread writes to.
struct Sink<W, O> {
    out: W,
    open: O,
    /// Whether the last line could be written.
    is_well: bool,
    /// Whether the file ends within a line.
    is_torn: bool,
    counts: Arc<Counts>,
}

impl<W: Write, O: FnMut() -> io::Result<W>> Sink<W, O> {
    fn run(mut self, pieces: &Receiver<Piece>, empties: &SyncSender<Vec<u8>>) {
        for piece in pieces {
            match piece {
                Piece::Reopen => self.reopen(),
                Piece::Lines(mut lines, count) => {
                    self.write(&lines);
                    self.counts.waiting.fetch_sub(count, Ordering::Relaxed);
                    lines.clear();
                    // One line may have been longer than all that is kept.
                    lines.shrink_to(2 * BUFFER_BYTES);
                    // There is room for all of them; a loop that has ended needs none.
                    let _ = empties.try_send(lines);
                }
            }
        }
    }

    fn reopen(&mut self) {
        match (self.open)() {
            Ok(out) => {
                self.out = out;
                self.is_torn = false;
                info!("access log: opened anew");
            }
            Err(cause) => {
                warn!("access log: cannot open it anew, so the old file is written on: {cause}")
            }
        }
    }

    /// Writes whole lines; counts those that could not be.
    fn write(&mut self, lines: &[u8]) {
        let mut rest = lines;
        let outcome = self
            .mend()
            .and_then(|()| write_all(&mut self.out, &mut rest));
        let Err(cause) = outcome else {
            if !std::mem::replace(&mut self.is_well, true) {
                info!("access log: it can be written again");
            }
            return;
        };
        let written = lines.len() - rest.len();
        let begun = lines.get(..written).unwrap_or_default();
        self.is_torn = begun.last().map_or(self.is_torn, |last| *last != b'\n');
        let lost = memchr::memchr_iter(b'\n', rest).count() as u64;
        self.counts.lost.fetch_add(lost, Ordering::Relaxed);
        if std::mem::replace(&mut self.is_well, false) {
            warn!("access log: {cause}; lines are lost until it can be written again");
        }
    }

    /// Ends the line that could not be written to its end, so that none is taken for its rest.
    fn mend(&mut self) -> io::Result<()> {
        if self.is_torn {
            write_all(&mut self.out, &mut b"\n".as_slice())?;
            self.is_torn = false;
        }
        Ok(())
    }
}

/// Writes all of `rest`; on an error it is what was not written.
fn write_all(out: &mut impl Write, rest: &mut &[u8]) -> io::Result<()> {
    while !rest.is_empty() {
        match out.write(rest) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => *rest = rest.get(count..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => thread::sleep(FULL_PAUSE),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::{Sender, channel};
    use std::sync::{Mutex, PoisonError};

    const LONG: Duration = Duration::from_secs(20);

    /// A file in memory: how much it takes yet, what it took, and how often it was opened.
    #[derive(Default)]
    struct Disk {
        room: usize,
        text: Vec<u8>,
        opened: usize,
        refuses: bool,
    }

    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Disk>>);

    impl Shared {
        fn with<T>(&self, what: impl FnOnce(&mut Disk) -> T) -> T {
            what(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
        }

        fn open(&self) -> io::Result<Shared> {
            self.with(|disk| {
                if disk.refuses {
                    return Err(io::Error::from(io::ErrorKind::NotFound));
                }
                disk.opened += 1;
                disk.text
                    .extend_from_slice(format!("<{}>", disk.opened).as_bytes());
                Ok(())
            })?;
            Ok(self.clone())
        }

        fn text(&self) -> String {
            self.with(|disk| String::from_utf8(disk.text.clone()).unwrap())
        }
    }

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.with(|disk| {
                let count = bytes.len().min(disk.room).min(7);
                disk.room -= count;
                disk.text.extend_from_slice(&bytes[..count]);
                match count {
                    0 => Err(io::ErrorKind::StorageFull.into()),
                    _ => Ok(count),
                }
            })
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn start(disk: &Shared) -> (Outlet, Writer) {
        let disk = disk.clone();
        let (outcome, opened) = sync_channel(1);
        let ends = spawn(move || disk.open(), outcome).unwrap();
        opened.recv_timeout(LONG).unwrap().unwrap();
        ends
    }

    /// Hands `text` over; returns once it has been dealt with.
    fn hand_over(outlet: &mut Outlet, text: &str) {
        let mut lines = text.as_bytes().to_vec();
        let count = text.lines().count() as u64;
        assert!(outlet.hand_over(&mut lines, count) && lines.is_empty());
        settle(outlet);
    }

    fn settle(outlet: &Outlet) {
        let start = std::time::Instant::now();
        while outlet.counts.waiting.load(Ordering::Relaxed) > 0 {
            assert!(start.elapsed() < LONG);
            thread::yield_now();
        }
    }

    #[test]
    fn lines_of_a_full_disk_are_counted_and_none_is_torn_for_good() {
        let disk = Shared::default();
        let (mut outlet, writer) = start(&disk);
        disk.with(|disk| disk.room = 10);
        hand_over(&mut outlet, "one\ntwo\nthree\nfour\n");
        // "th" was written of the third, which is lost with the fourth.
        assert_eq!(
            (disk.text().as_str(), outlet.lost()),
            ("<1>one\ntwo\nth", 2)
        );
        hand_over(&mut outlet, "five\n");
        assert_eq!(outlet.lost(), 3);
        disk.with(|disk| disk.room = 1);
        hand_over(&mut outlet, "six\n");
        disk.with(|disk| disk.room = 1000);
        hand_over(&mut outlet, "seven\n");
        assert_eq!(
            (disk.text().as_str(), outlet.lost()),
            ("<1>one\ntwo\nth\nseven\n", 4)
        );
        drop(outlet);
        writer.end(LONG);
    }

    #[test]
    fn what_follows_a_wish_to_reopen_is_in_the_new_file() {
        let disk = Shared::default();
        disk.with(|disk| disk.room = 1000);
        let (mut outlet, writer) = start(&disk);
        hand_over(&mut outlet, "old\n");
        assert!(outlet.reopen());
        hand_over(&mut outlet, "new\n");
        disk.with(|disk| disk.refuses = true);
        assert!(outlet.reopen());
        hand_over(&mut outlet, "kept\n");
        drop(outlet);
        writer.end(LONG);
        assert_eq!(disk.text(), "<1>old\n<2>new\nkept\n");
    }

    /// A disk that takes nothing until the returned sender is gone.
    struct Blocked(Receiver<()>);

    impl Write for Blocked {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.0.recv();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn blocked() -> (Outlet, Writer, Sender<()>) {
        let (gate, closed) = channel();
        let mut closed = Some(closed);
        let (outcome, _opened) = sync_channel(1);
        let open = move || {
            let closed = closed.take().ok_or(io::ErrorKind::NotFound)?;
            Ok(Blocked(closed))
        };
        let (outlet, writer) = spawn(open, outcome).unwrap();
        (outlet, writer, gate)
    }

    #[test]
    fn a_blocked_thread_gets_so_many_buffers_and_no_more() {
        let (mut outlet, writer, gate) = blocked();
        let mut lines = Vec::new();
        for number in 0..BUFFERS_MAX {
            lines.extend_from_slice(b"line\n");
            assert!(outlet.hand_over(&mut lines, 1), "{number}");
        }
        lines.extend_from_slice(b"kept\n");
        for _ in 0..3 {
            assert!(!outlet.hand_over(&mut lines, 1));
            assert_eq!(lines, b"kept\n");
        }
        // A wish to reopen has its place besides.
        assert!(outlet.reopen());
        drop(gate);
        settle(&outlet);
        assert!(outlet.hand_over(&mut lines, 1) && lines.is_empty());
        drop(outlet);
        writer.end(LONG);
    }

    #[test]
    fn the_end_does_not_wait_for_a_reader_that_never_comes() {
        let (mut outlet, writer, _gate) = blocked();
        assert!(outlet.hand_over(&mut b"line\n".to_vec(), 1));
        drop(outlet);
        let start = std::time::Instant::now();
        writer.end(Duration::from_millis(20));
        assert!(start.elapsed() < LONG);
    }

    #[test]
    fn buffers_come_back_and_are_used_again() {
        let disk = Shared::default();
        disk.with(|disk| disk.room = 10_000);
        let (mut outlet, writer) = start(&disk);
        let mut seen = std::collections::HashSet::new();
        let mut lines = Vec::with_capacity(BUFFER_BYTES);
        for _ in 0..100 {
            lines.extend_from_slice(b"line\n");
            seen.insert(lines.as_ptr() as usize);
            assert!(outlet.hand_over(&mut lines, 1));
            settle(&outlet);
        }
        assert!(seen.len() < 10, "{} buffers", seen.len());
        drop(outlet);
        writer.end(LONG);
        assert_eq!(disk.text().matches("line").count(), 100);
    }
}
