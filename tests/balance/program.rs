//! The binary under test as processes that do not outlive their test.

use std::fmt;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use bestguess::config::Address;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions, kill_process, pidfd_open, waitpid};

use crate::watch::{PATIENCE, Watch};
use crate::wire::{Client, Response};

/// A running binary and all that it has printed.
pub(crate) struct Program {
    child: Child,
    pub(crate) out: Lines,
    pub(crate) err: Lines,
}

impl Program {
    pub(crate) fn start<S: AsRef<str>>(arguments: &[S]) -> Program {
        Program::run(env!("CARGO_BIN_EXE_bestguess").as_ref(), arguments, &[])
    }

    /// As `start`, with so few descriptors.
    pub(crate) fn limited(descriptors: u32, arguments: &[&str]) -> Program {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "ulimit -n \"$0\" && exec \"$@\""]);
        command.arg(descriptors.to_string());
        command.arg(env!("CARGO_BIN_EXE_bestguess"));
        command.args(arguments);
        Program::of(command, Stdio::null())
    }

    /// The same, with a binary and variables of the test's own.
    pub(crate) fn run<S: AsRef<str>>(
        binary: &Path,
        arguments: &[S],
        variables: &[(&str, &str)],
    ) -> Program {
        let mut command = Command::new(binary);
        command.args(arguments.iter().map(AsRef::as_ref));
        command.envs(variables.iter().copied());
        Program::of(command, Stdio::null())
    }

    /// Any command, with this as its standard input. No variable of the developer's shell has a say.
    pub(crate) fn of(mut command: Command, input: Stdio) -> Program {
        let kept: Vec<_> = command
            .get_envs()
            .filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned())))
            .collect();
        let mut child = command
            .env_clear()
            .envs(kept)
            .stdin(input)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        Program {
            out: Lines::read(child.stdout.take().unwrap()),
            err: Lines::read(child.stderr.take().unwrap()),
            child,
        }
    }

    /// Its process's number.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits until it has ended by itself, whoever else still writes where it did.
    pub(crate) fn code(&mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Stops it, and waits until it stands still.
    pub(crate) fn freeze(&self) {
        self.signal(Signal::STOP);
        let pid = Pid::from_child(&self.child);
        let (_, status) = waitpid(Some(pid), WaitOptions::UNTRACED).unwrap().unwrap();
        assert!(status.stopped(), "{status:?}");
    }

    /// Ends it as nothing in it can prevent, and waits until it is gone.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits until it has ended by itself.
    pub(crate) fn ended(&mut self) -> ExitStatus {
        self.out.until_end();
        self.err.until_end();
        self.child.wait().unwrap()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The lines of a pipe.
pub(crate) struct Lines(Arc<Watch<Said>>);

#[derive(Debug, Default)]
struct Said {
    lines: Vec<String>,
    has_ended: bool,
}

impl Lines {
    fn read(pipe: impl Read + Send + 'static) -> Lines {
        let said = Arc::new(Watch::new(Said::default()));
        let theirs = Arc::clone(&said);
        thread::spawn(move || {
            for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                theirs.change(|said| said.lines.push(line));
            }
            theirs.change(|said| said.has_ended = true);
        });
        Lines(said)
    }

    /// How many there are: the place from which a later search begins.
    pub(crate) fn mark(&self) -> usize {
        self.0.look(|said| said.lines.len())
    }

    /// The first line from the `mark` on that holds `text`, waited for.
    pub(crate) fn holding(&self, mark: usize, text: &str) -> String {
        self.0.until(&format!("a line with {text:?}"), |said| {
            let found = said.lines[mark..].iter().find(|line| line.contains(text));
            assert!(
                found.is_some() || !said.has_ended,
                "it ended without {text:?}: {said:#?}"
            );
            found.cloned()
        })
    }

    /// How many lines from the `mark` on hold `text` by now.
    pub(crate) fn count(&self, mark: usize, text: &str) -> usize {
        self.0.look(|said| {
            let lines = said.lines[mark..].iter();
            lines.filter(|line| line.contains(text)).count()
        })
    }

    /// All lines, once there will be no more.
    pub(crate) fn until_end(&self) -> Vec<String> {
        self.0.until("the end of a program", |said| {
            said.has_ended.then(|| said.lines.clone())
        })
    }

    /// The address behind the words `listening on`.
    pub(crate) fn listening(&self) -> String {
        let line = self.holding(0, "listening on ");
        line.rsplit(' ').next().unwrap().to_owned()
    }
}

/// The built-in server. Its `Display` is its address.
pub(crate) struct Origin {
    pub(crate) program: Program,
    pub(crate) address: String,
}

impl Origin {
    /// A server at `listen`, called `name`, with the files of `folder`.
    pub(crate) fn start(
        listen: &str,
        name: &str,
        folder: Option<&Folder>,
        more: &[&str],
    ) -> Origin {
        let mut arguments = vec!["origin", listen, "--name", name];
        arguments.extend(folder.map(|folder| folder.0.to_str().unwrap()));
        arguments.extend(more);
        let program = Program::start(&arguments);
        let address = program.out.listening();
        Origin { program, address }
    }

    /// Three servers called a, b and c.
    pub(crate) fn three(folder: Option<&Folder>) -> Vec<Origin> {
        ["a", "b", "c"]
            .iter()
            .map(|name| Origin::start("127.0.0.1:0", name, folder, &[]))
            .collect()
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.address)
    }
}

/// The balancer. It has to live as long as its test, unless that waits for its end.
pub(crate) struct Balancer {
    pub(crate) program: Program,
    may_end: bool,
    pub(crate) address: Address,
    /// Where its socket is, if it is near.
    _folder: Option<Folder>,
}

impl Balancer {
    /// A balancer that clients reach by TCP.
    pub(crate) fn before<S: fmt::Display>(
        servers: impl IntoIterator<Item = S>,
        options: &[&str],
    ) -> Balancer {
        Balancer::start("127.0.0.1:0", None, servers, options)
    }

    /// A balancer that clients reach by a unix socket, so that it can `catch_up`.
    pub(crate) fn near<S: fmt::Display>(
        servers: impl IntoIterator<Item = S>,
        options: &[&str],
    ) -> Balancer {
        let folder = Folder::new();
        let listen = format!("unix:{}", folder.path().join("front").display());
        Balancer::start(&listen, Some(folder), servers, options)
    }

    fn start<S: fmt::Display>(
        listen: &str,
        folder: Option<Folder>,
        servers: impl IntoIterator<Item = S>,
        options: &[&str],
    ) -> Balancer {
        let mut arguments = vec![listen.to_owned()];
        arguments.extend(servers.into_iter().map(|server| server.to_string()));
        arguments.extend(options.iter().map(|option| (*option).to_owned()));
        let program = Program::start(&arguments);
        let listens = program.err.listening();
        Balancer {
            program,
            may_end: false,
            address: match listens.strip_prefix("unix:") {
                Some(path) => Address::Unix(path.into()),
                None => Address::Tcp(listens.parse().unwrap()),
            },
            _folder: folder,
        }
    }

    pub(crate) fn client(&self) -> Client {
        Client::new(&self.address)
    }

    /// One GET on a connection of its own.
    pub(crate) fn get(&self, target: &str) -> Response {
        self.client().get(target)
    }

    pub(crate) fn log(&self) -> &Lines {
        &self.program.err
    }

    pub(crate) fn out(&self) -> &Lines {
        &self.program.out
    }

    pub(crate) fn await_valid(&self, mark: usize, server: impl fmt::Display) {
        let text = format!("server {server} is valid");
        self.log().holding(mark, &text);
    }

    /// Returns the reason.
    pub(crate) fn await_invalid(&self, mark: usize, server: impl fmt::Display) -> String {
        let text = format!("server {server} is invalid: ");
        let line = self.log().holding(mark, &text);
        line.split_once(&text).unwrap().1.to_owned()
    }

    /// As `catch_up`.
    pub(crate) fn catch_up(&self) {
        catch_up(&self.address);
    }

    pub(crate) fn signal(&mut self, signal: Signal) {
        self.may_end = true;
        self.program.signal(signal);
    }

    pub(crate) fn ended(&mut self) -> ExitStatus {
        self.may_end = true;
        self.program.ended()
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        if thread::panicking() {
            return;
        }
        let ended = self.program.child.try_wait().unwrap();
        assert!(self.may_end || ended.is_none(), "it ended by itself");
        assert_eq!(self.log().count(0, "panicked"), 0, "it panicked");
    }
}

/// Returns when the balancer at `address` has seen all that happened to its unix sockets before.
///
/// What is sent, closed or connected there has arrived when the call returns, unlike with TCP. And
/// the balancer takes connections in their order, behind what happened to older ones. So once it
/// has turned down a request that came later, on a connection of its own, it knows of all before.
pub(crate) fn catch_up(address: &Address) {
    assert!(matches!(address, Address::Unix(_)), "not near: {address}");
    let mut client = Client::new(address);
    client.send("no request\r\n\r\n");
    assert_eq!(client.response().status, 400);
}

/// Returns when there is no process `pid`, whoever's child it is.
pub(crate) fn await_gone(pid: u32) {
    let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    let Ok(process) = pidfd_open(pid, PidfdFlags::empty()) else {
        return;
    };
    let mut events = [PollFd::new(&process, PollFlags::IN)];
    let patience = Timespec::try_from(PATIENCE).unwrap();
    let count = poll(&mut events, Some(&patience)).unwrap();
    assert_eq!(count, 1, "process {pid:?} goes on");
}

/// A folder of one test, which goes with it.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new() -> Folder {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("bestguess-balance-{}-{count}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A free address that stays free while nobody listens there: the ports that systems give to
/// outgoing connections begin at 32768.
pub(crate) fn spare_address() -> String {
    let mut chance = Chance::new();
    let end = std::time::Instant::now() + PATIENCE;
    loop {
        let port = 15_000 + chance.next() % 17_000;
        let address = format!("127.0.0.1:{port}");
        if TcpListener::bind(&address).is_ok() {
            return address;
        }
        assert!(std::time::Instant::now() < end, "no port is free");
    }
}

/// Random numbers: xorshift64* (Vigna 2016), another sequence each time.
pub(crate) struct Chance(u64);

impl Chance {
    pub(crate) fn new() -> Chance {
        use std::hash::{BuildHasher, Hasher, RandomState};
        Chance(RandomState::new().build_hasher().finish() | 1)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11
    }

    /// `count` bytes as base64 has them.
    pub(crate) fn base64(&mut self, count: usize) -> Vec<u8> {
        const DIGITS: &[u8; 64] =
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        (0..count)
            .map(|_| DIGITS[(self.next() % 64) as usize])
            .collect()
    }
}
