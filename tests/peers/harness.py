"""What the tests stand on: the binary as a process, servers that we script, and a strict client.

* `Balancer` and `Origin` run the binary under test on a free port and collect its log.
* `Peer` is an HTTP server in a thread. It records what reached it, answers health checks by
  itself, and answers all else by a function of the test, which may misbehave as it likes.
* `Client`, of `wire`, is a raw connection with a strict reader of responses.
* `Traffic` sends GETs without pause from several threads and keeps each result.
* `Case` starts all these for a test, ends them after it, and fails it if the balancer died.

Nothing here sleeps for a state to come about: `eventually` asks until a deadline. Deadlines are
generous, because a test that waits for what does come costs nothing.
"""

import contextlib
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
import unittest

from wire import DEADLINE, HOST, Client, Cut, Message, Stream, reply

TEST_SECONDS_MAX = 240

COLOUR = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
LISTENING = re.compile(r"listening on 127\.0\.0\.1:(\d+)")
REASON = re.compile(
    r"refused|reset|closed|ended|eof|broken pipe|abort|time|late|no answer|answered|malformed", re.IGNORECASE
)


def binary():
    """The binary under test."""
    return os.environ["BESTGUESS_BIN"]


def eventually(condition, what, within=DEADLINE):
    """The first true value of `condition`, asked until `within` seconds have passed."""
    end = time.monotonic() + within
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"not within {within} s: {what}")
        time.sleep(0.01)


def spare_port():
    """A free port below the range from which the kernel takes ports for outgoing connections.

    So nothing takes it while a server that had it is down.
    """
    for _ in range(200):
        port = random.randrange(15000, 32000)
        with socket.socket() as probe:
            with contextlib.suppress(OSError):
                probe.bind((HOST, port))
                return port
    raise AssertionError("no free port found")


def address_of(server):
    """The address of a server as the command line takes it."""
    return server if isinstance(server, str) else server.address


def bare_environment(extra=None):
    """Our environment without what would change the programs under test."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("BESTGUESS_", "RUST_")) and not name.lower().endswith("_proxy")
    }
    kept.update({"NO_COLOR": "1", "LC_ALL": "C"})
    kept.update(extra or {})
    return kept


# ---------------------------------------------------------------------------------------------------
# Processes


class Lines(threading.Thread):
    """Collects the lines of a pipe until it ends."""

    def __init__(self, pipe):
        super().__init__(daemon=True)
        self.pipe = pipe
        self.lines = []
        self.start()

    def run(self):
        with self.pipe:
            for line in self.pipe:
                self.lines.append(COLOUR.sub("", line.decode("utf-8", "replace")).rstrip("\r\n"))

    def match(self, pattern):
        """The first line that `pattern` is found in, as a match."""
        for line in list(self.lines):
            found = re.search(pattern, line)
            if found:
                return found
        return None


class Program:
    """A run of the binary under test, with what it prints."""

    def __init__(self, *arguments, environment=None):
        self.title = " ".join(["bestguess", *arguments])
        self.process = subprocess.Popen(
            [binary(), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=bare_environment(environment),
        )
        self.out = Lines(self.process.stdout)
        self.err = Lines(self.process.stderr)

    def port_from(self, stream):
        """The port of the line that says where it listens."""
        found = eventually(
            lambda: stream.match(LISTENING) or self.process.poll() is not None,
            f"{self.title}: prints where it listens",
        )
        if found is True:
            # It ended; its last line may still be on the way.
            stream.join(DEADLINE)
            found = stream.match(LISTENING)
        if not found:
            self.stop()
            raise AssertionError(f"{self.title}: exit {self.process.poll()}, said {self.err.lines} {self.out.lines}")
        return int(found.group(1))

    def signal(self, number):
        self.process.send_signal(number)

    def wait(self, within=DEADLINE):
        """The exit code."""
        return self.process.wait(within)

    def stop(self):
        """Ends it at once, whatever it does."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(DEADLINE)
        self.out.join(DEADLINE)
        self.err.join(DEADLINE)

    def memory(self, name):
        """A figure of the process in bytes: `VmRSS`, or `VmHWM` for its highest so far."""
        with open(f"/proc/{self.process.pid}/status", encoding="ascii") as status:
            for line in status:
                if line.startswith(name + ":"):
                    return int(line.split()[1]) * 1024
        raise AssertionError(f"the system does not tell {name}")


class Origin(Program):
    """The built-in server."""

    def __init__(self, directory=None, *options, name="origin", port=0):
        places = [f"{HOST}:{port}"] + ([str(directory)] if directory else [])
        super().__init__("origin", *places, "--name", name, *options)
        self.name = name
        self.port = self.port_from(self.out)
        self.address = f"{HOST}:{self.port}"


class Balancer(Program):
    """The balancer before `servers`, each a `Peer`, an `Origin` or an address."""

    def __init__(self, servers, *options, environment=None):
        super().__init__(f"{HOST}:0", *map(address_of, servers), *options, environment=environment)
        self.ending_expected = False
        self.port = self.port_from(self.err)
        self.address = f"{HOST}:{self.port}"

    def mark(self):
        """The place in the log from which a later search starts."""
        return len(self.err.lines)

    def changes(self, server, word, since=0):
        """The lines of the log that name `server` and the state `word`, `valid` or `invalid`."""
        pattern = re.compile(rf"(?=.*{re.escape(address_of(server))}(?!\d))(?=.*\b{word}\b)")
        return [line for line in self.err.lines[since:] if pattern.search(line)]

    def await_change(self, server, word, since=0, within=DEADLINE):
        """The first such line, awaited."""
        return eventually(
            lambda: self.changes(server, word, since), f"the log names {address_of(server)} {word}", within
        )[0]

    def close(self):
        """Ends it, and says what was wrong with it: it must have lived until now, without a panic."""
        code = self.process.poll()
        self.stop()
        if code is not None and not self.ending_expected:
            raise AssertionError(f"the balancer ended by itself, exit {code}")
        panics = [line for line in self.err.lines if "panicked" in line]
        if panics:
            raise AssertionError(f"the balancer panicked: {panics}")


def curl_command(*arguments, within=120):
    """The command of a curl that no file of the user steers."""
    return ["curl", "-q", "-sS", "--noproxy", "*", "--max-time", str(within), *arguments]


def curl(*arguments, within=120):
    """A run of curl to its end."""
    return subprocess.run(
        curl_command(*arguments, within=within),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        env=bare_environment(),
        timeout=within + DEADLINE,
        check=False,
    )


# ---------------------------------------------------------------------------------------------------
# A server of our own


class Request(Message):
    """A request as it reached a `Peer`."""

    def __init__(self, head, stream):
        super().__init__(head)
        self.stream = stream
        self.method, self.target, self.version = self.first.split(" ", 2)
        self.content = None
        self.trailers = []

    def read(self):
        """The content, read once; asks for it first if the client waits to be asked."""
        if self.content is None:
            if (self.one("Expect") or "").lower() == "100-continue":
                self.send(b"HTTP/1.1 100 Continue\r\n\r\n")
            if self.one("Transfer-Encoding"):
                self.content, self.trailers = self.stream.chunked()
            else:
                self.content = self.stream.exactly(int(self.one("Content-Length") or 0))
        return self.content

    def send(self, data):
        self.stream.socket.sendall(data)


class Peer:
    """A server in threads of this process.

    `answer(request)` returns bytes to be sent, or true to keep the connection (it has sent what it
    wanted by itself), or false to close it. Health checks never reach it: they get `report`, a
    fixed pair of errors and load, or the count of requests when there is none; or what
    `health(request)` makes of them, by the same rules as `answer`.
    """

    def __init__(self, answer=None, *, name="peer", report=None, health=None, listening=True):
        self.answer = answer or (lambda request: reply(200, request.target.encode("latin-1")))
        self.name = name
        self.report = report
        self.health = health or self._report
        self.lock = threading.Lock()
        self.requests = []
        self.checks = 0
        self.streams = []
        self.closing = False
        self.listener = self._bound(0)
        self.port = self.listener.getsockname()[1]
        self.address = f"{HOST}:{self.port}"
        if listening:
            self.listen()

    @staticmethod
    def _bound(port):
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((HOST, port))
        return listener

    def listen(self):
        """From now on it takes connections; before, the port is held and refuses them."""
        self.listener.listen(1024)
        threading.Thread(target=self._accept, args=(self.listener,), daemon=True).start()

    def refuse(self):
        """Refuses connections from now on, and closes those that stand, as if it had been killed."""
        old = self.listener
        with contextlib.suppress(OSError):
            old.shutdown(socket.SHUT_RDWR)
        old.close()
        self.disconnect()
        self.listener = self._bound(self.port)

    def disconnect(self):
        """Closes all connections that stand."""
        with self.lock:
            streams = list(self.streams)
        for stream in streams:
            with contextlib.suppress(OSError):
                stream.socket.shutdown(socket.SHUT_RDWR)

    def close(self):
        self.closing = True
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.disconnect()

    def targets(self):
        """The targets that reached it, in order."""
        with self.lock:
            return [request.target for request in self.requests]

    def strays(self):
        """All bytes that reached it other than health checks."""
        with self.lock:
            return b"".join(bytes(stream.record) for stream in self.streams)

    def forget(self):
        """From here on, `requests` and `strays` tell only of what is new."""
        with self.lock:
            self.requests.clear()
            for stream in self.streams:
                stream.record.clear()

    def _accept(self, listener):
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            stream = Stream(connection)
            with self.lock:
                self.streams.append(stream)
            threading.Thread(target=self._serve, args=(stream,), daemon=True).start()

    def _serve(self, stream):
        try:
            while not self.closing:
                head = stream.head()
                if head is None:
                    return
                request = Request(head, stream)
                if request.target.split("?")[0] == "/healthcheck":
                    with self.lock:
                        self.checks += 1
                    stream.record[:] = stream.ahead
                    outcome = self.health(request)
                else:
                    with self.lock:
                        self.requests.append(request)
                    outcome = self.answer(request)
                if isinstance(outcome, bytes):
                    request.read()
                    request.send(outcome)
                elif not outcome:
                    return
        except (Cut, OSError, ValueError):
            return
        finally:
            stream.close()

    def _report(self, _request):
        errors, load = self.report or (0, len(self.requests))
        return reply(200, b"%d\n%d\n" % (errors, load), "Content-Type: text/plain")


def await_first_round(peers):
    """Waits until each peer has been asked for its health at least once."""
    eventually(lambda: all(peer.checks for peer in peers), "the first round of checks")


def await_rounds(peers, count=2):
    """Waits until each peer has been asked for its health `count` more times.

    A server is never asked while an earlier question to it is open, so after two the answer to the
    first has been taken in.
    """
    before = [peer.checks for peer in peers]
    eventually(
        lambda: all(peer.checks >= past + count for peer, past in zip(peers, before)), f"{count} more rounds of checks"
    )


class Meter:
    """Counts how many are inside at once."""

    def __init__(self):
        self.lock = threading.Lock()
        self.now = 0
        self.most = 0

    def __enter__(self):
        with self.lock:
            self.now += 1
            self.most = max(self.most, self.now)

    def __exit__(self, *_):
        with self.lock:
            self.now -= 1


# ---------------------------------------------------------------------------------------------------
# Clients without pause


class Sent:
    """One GET of `Traffic`: when, for how long, and what came of it."""

    def __init__(self, started, ended, status, server, fault):
        self.started = started
        self.ended = ended
        self.status = status
        self.server = server
        self.fault = fault

    def __repr__(self):
        return f"<{self.status} from {self.server} in {self.ended - self.started:.3f} s: {self.fault}>"


class Traffic:
    """Threads that GET without pause until `stop`, or `count` times in all, and check each answer.

    `contents` says what each target must bring. A connection is kept for a number of requests that
    differs from thread to thread, then opened anew.
    """

    def __init__(self, balancer, contents, threads=4, count=None):
        self.balancer = balancer
        self.contents = list(contents.items())
        self.left = count
        self.lock = threading.Lock()
        self.sent = []
        self.stopping = threading.Event()
        self.threads = [threading.Thread(target=self._run, args=(index,), daemon=True) for index in range(threads)]
        for thread in self.threads:
            thread.start()

    def stop(self):
        """Ends the threads; all that was sent."""
        self.stopping.set()
        return self.finish()

    def finish(self, within=TEST_SECONDS_MAX):
        """Waits until the count is reached; all that was sent."""
        end = time.monotonic() + within
        for thread in self.threads:
            thread.join(max(0.0, end - time.monotonic()))
            if thread.is_alive():
                raise AssertionError("the traffic does not end")
        return self.sent

    def await_more(self, count):
        """Waits until `count` more requests have ended."""
        past = len(self.sent)
        eventually(lambda: len(self.sent) >= past + count, f"{count} more requests", within=2 * DEADLINE)

    def await_server(self, name, since):
        """Waits until `name` has answered a request that began after `since`."""
        eventually(
            lambda: any(one.server == name and one.started >= since for one in self.sent[-20000:]),
            f"a request is answered by {name}",
        )

    def _goes_on(self):
        if self.stopping.is_set():
            return False
        with self.lock:
            if self.left is not None:
                if self.left == 0:
                    return False
                self.left -= 1
        return True

    def _run(self, index):
        client, turns = None, 0
        while self._goes_on():
            target, content = self.contents[(turns * 7 + index) % len(self.contents)]
            turns += 1
            status = server = fault = None
            started = time.monotonic()
            try:
                client = client or Client(self.balancer)
                response = client.get(target)
                status, server = response.status, response.one("Server")
                if status != 200:
                    fault = f"status {status}: {response.content[:200]!r}"
                elif response.content != content:
                    fault = f"{len(response.content)} bytes that differ from the {len(content)} expected"
                keeps = (response.one("Connection") or "").lower() != "close"
            except (Cut, OSError) as error:
                fault = f"{type(error).__name__}: {error}"
                keeps = False
            self.sent.append(Sent(started, time.monotonic(), status, server, fault))
            if client and (not keeps or turns % (5 + index) == 0):
                client.close()
                client = None
        if client:
            client.close()


# ---------------------------------------------------------------------------------------------------
# The test case


def _too_long(_number, _frame):
    raise AssertionError(f"the test took longer than {TEST_SECONDS_MAX} s")


class Case(unittest.TestCase):
    """A test that starts processes and servers and leaves none behind."""

    seconds_max = TEST_SECONDS_MAX

    def run(self, result=None):
        self.programs = []
        before = signal.signal(signal.SIGALRM, _too_long)
        signal.alarm(self.seconds_max)
        try:
            return super().run(result)
        finally:
            signal.alarm(0)
            signal.signal(signal.SIGALRM, before)

    def balancer(self, servers, *options, environment=None):
        balancer = Balancer(servers, *options, environment=environment)
        self.programs.append(balancer)
        self.addCleanup(balancer.close)
        return balancer

    def origin(self, directory=None, *options, name="origin", port=0):
        origin = Origin(directory, *options, name=name, port=port)
        self.addCleanup(origin.stop)
        return origin

    def program(self, *arguments, environment=None):
        program = Program(*arguments, environment=environment)
        self.programs.append(program)
        self.addCleanup(program.stop)
        return program

    def peer(self, answer=None, **options):
        peer = Peer(answer, **options)
        self.addCleanup(peer.close)
        return peer

    def client(self, server, timeout=DEADLINE):
        client = Client(server, timeout)
        self.addCleanup(client.close)
        return client

    def traffic(self, balancer, contents, threads=4, count=None):
        traffic = Traffic(balancer, contents, threads, count)
        self.addCleanup(traffic.stop)
        return traffic

    def directory(self):
        path = tempfile.mkdtemp(prefix="bestguess-peers-")
        self.addCleanup(shutil.rmtree, path, ignore_errors=True)
        return path

    def get(self, server, target="/", *fields):
        """One GET on a connection of its own."""
        with Client(server) as client:
            return client.get(target, *fields)

    def assert_faultless(self, sent):
        """No request of the traffic failed, and there were some."""
        faults = [one for one in sent if one.fault]
        self.assertEqual(faults[:10], [], f"{len(faults)} of {len(sent)} failed")
        self.assertGreater(len(sent), 0)

    def run_tool(self, *command, within=DEADLINE):
        """What a command said, which has to end with 0."""
        run = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=bare_environment(),
            timeout=within,
            check=False,
        )
        said = run.stdout.decode("utf-8", "replace")
        self.assertEqual(run.returncode, 0, said)
        return said
