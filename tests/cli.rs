//! The real binary: its usage errors, its texts, and what a dead or silent log reader does to it.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// Nothing here takes longer unless it hangs.
const LONG: Duration = Duration::from_secs(15);

fn bestguess(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bestguess"));
    // No variable of the developer's shell may have a say.
    command.args(args).env_clear().stdin(Stdio::null());
    command
}

fn output(args: &[&str]) -> Output {
    bestguess(args).output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// The one line that a wrong command line leaves on stderr.
fn refusal(mut command: Command) -> String {
    let output = command.output().unwrap();
    let line = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{command:?}: {line}");
    assert!(output.stdout.is_empty(), "{command:?}");
    assert!(
        line.ends_with('\n') && line.lines().count() == 1,
        "{command:?}: {line}"
    );
    line.trim_end().to_owned()
}

#[test]
fn a_wrong_command_line_is_one_line_and_exit_code_2() {
    for (args, expected) in [
        (&[][..], "PORT"),
        (&["8080"], "SERVER"),
        (&["8080", "nonsense"], "SERVER 'nonsense'"),
        (&["8080", "9001", "--paralel", "8"], "--parallel"),
        (
            &["8080", "9001", "--policy", "--check"],
            "looks like an option",
        ),
        (&["8080", "9001", "-N", "1", "-N", "2"], "given twice"),
        (&["8080", "9001", "a\nb:80"], "a\\nb:80"),
        (&["origin"], "see bestguess origin --help"),
        (&["demo", "x"], "see bestguess demo --help"),
    ] {
        let line = refusal(bestguess(args));
        assert!(
            line.starts_with("bestguess: ") && line.contains(expected),
            "{line}"
        );
    }
}

#[test]
fn the_line_names_argument_expectation_and_hint() {
    assert_eq!(
        refusal(bestguess(&["8080", "9001", "-N", "abc"])),
        "bestguess: -N 'abc': expected a whole number of at least 1, e.g. -N 1024 (see bestguess --help)"
    );
}

#[test]
fn a_wrong_variable_is_named() {
    let mut command = bestguess(&["8080", "9001"]);
    command.env("BESTGUESS_EVERY_SECONDS", "never");
    assert!(refusal(command).contains("BESTGUESS_EVERY_SECONDS 'never'"));
}

#[test]
fn help_goes_to_stdout_and_is_no_error() {
    for (args, usage) in [
        (&["--help"][..], "usage: bestguess [OPTIONS] PORT SERVER..."),
        (
            &["-h", "-N", "abc"],
            "usage: bestguess [OPTIONS] PORT SERVER...",
        ),
        (
            &["origin", "--help"],
            "usage: bestguess origin [OPTIONS] PORT [DIR]",
        ),
        (&["demo", "-h"], "usage: bestguess demo [OPTIONS] [PORT]"),
    ] {
        let output = output(args);
        assert_eq!(output.status.code(), Some(0), "{args:?}");
        assert!(output.stderr.is_empty(), "{args:?}");
        assert!(text(&output.stdout).contains(usage), "{args:?}");
    }
}

#[test]
fn the_version_is_the_package_s() {
    let output = output(&["--version"]);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(
        text(&output.stdout),
        concat!("bestguess ", env!("CARGO_PKG_VERSION"), "\n")
    );
}

// ---- From here on the tests need the balancer: a process that listens, answers and stops. ----

#[test]
fn a_stderr_whose_reader_has_gone_neither_kills_nor_stalls() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    still_serves_and_stops(writer.into());
}

#[test]
fn a_stderr_that_nobody_reads_neither_kills_nor_stalls() {
    let (reader, mut writer) = std::io::pipe().unwrap();
    let stderr = writer.try_clone().unwrap();
    // Filled until it blocks, so that the first line of the log finds no room; the thread ends when
    // the reader is dropped.
    let filler = thread::spawn(move || while writer.write(&[b'.'; 4096]).is_ok() {});
    thread::sleep(Duration::from_millis(300));
    still_serves_and_stops(stderr.into());
    drop(reader);
    filler.join().unwrap();
}

#[test]
fn a_full_disk_behind_stderr_neither_kills_nor_stalls() {
    // Every write fails with ENOSPC; not every system has this device.
    if let Ok(full) = std::fs::File::options().write(true).open("/dev/full") {
        still_serves_and_stops(full.into());
    }
}

/// A balancer before a server that refuses, so that it has something to log, with this stderr.
fn still_serves_and_stops(stderr: Stdio) {
    let listen = free_address();
    let args = [
        listen.to_string(),
        "127.0.0.1:1".into(),
        "-X".into(),
        "0.2".into(),
        "-vv".into(),
    ];
    let mut command = bestguess(&args.each_ref().map(String::as_str));
    command.stdout(Stdio::null()).stderr(stderr);
    let mut running = Running(command.spawn().unwrap());
    // The command holds a copy of stderr, which would keep a pipe open.
    drop(command);
    for _ in 0..5 {
        let answer = get(listen, &mut running);
        assert!(answer.starts_with("HTTP/1.1 500 "), "{answer}");
        thread::sleep(Duration::from_millis(250));
    }
    assert_eq!(running.0.try_wait().unwrap(), None, "it ended by itself");
    let pid = running.0.id();
    let sent = Command::new("sh")
        .arg("-c")
        .arg(format!("kill -TERM {pid}"))
        .status()
        .unwrap();
    assert!(sent.success());
    assert_eq!(running.wait().code(), Some(0));
}

/// A child that does not outlive its test.
struct Running(Child);

impl Running {
    fn wait(&mut self) -> ExitStatus {
        let start = Instant::now();
        loop {
            if let Some(status) = self.0.try_wait().unwrap() {
                return status;
            }
            assert!(start.elapsed() < LONG, "it does not stop");
            thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// An address that was free a moment ago: with a dead log nobody could say which port 0 became.
fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
}

/// One whole answer, from a balancer that may still be starting.
fn get(address: SocketAddr, running: &mut Running) -> String {
    let start = Instant::now();
    let mut stream = loop {
        match TcpStream::connect(address) {
            Ok(stream) => break stream,
            Err(error) => assert!(
                start.elapsed() < LONG,
                "nobody listens at {address}: {error}"
            ),
        }
        assert_eq!(running.0.try_wait().unwrap(), None, "it ended by itself");
        thread::sleep(Duration::from_millis(10));
    };
    stream.set_read_timeout(Some(LONG)).unwrap();
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}
