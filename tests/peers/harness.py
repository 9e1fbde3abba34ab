"""What the tests stand on: the binary as a process, servers that we script, and a strict client.

* `Balancer` and `Origin` run the binary under test on a free port and collect its log.
* `Peer` is an HTTP server in a thread. It records what reached it, answers health checks by
  itself, and answers all else by a function of the test, which may misbehave as it likes.
* `Client` is a raw connection with a strict reader of responses: what is cut raises `Cut`.
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
import struct
import subprocess
import tempfile
import threading
import time
import unittest

HOST = "127.0.0.1"
DEADLINE = 30.0
TEST_SECONDS_MAX = 240
RECORD_BYTES_MAX = 256 * 1024
HEAD_BYTES_MAX = 1024 * 1024

COLOUR = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
LISTENING = re.compile(r"listening on 127\.0\.0\.1:(\d+)")
REASON = re.compile(
    r"refused|reset|closed|ended|eof|broken pipe|abort|time|late|malformed|status|\b[45]\d\d\b", re.IGNORECASE
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


def curl(*arguments, within=120):
    """A run of curl, not steered by any file or variable of the user."""
    return subprocess.run(
        ["curl", "-q", "-sS", "--noproxy", "*", "--max-time", str(within), *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        env=bare_environment(),
        timeout=within + DEADLINE,
        check=False,
    )


# ---------------------------------------------------------------------------------------------------
# Bytes and messages


class Cut(Exception):
    """The stream ended inside a message."""


class Stream(contextlib.AbstractContextManager):
    """A socket with what was read from it ahead. Reads messages strictly, for both sides."""

    def __init__(self, connection):
        self.socket = connection
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.ahead = bytearray()
        self.record = bytearray()

    def fill(self):
        """Reads some more; false at the end of the stream."""
        data = self.socket.recv(256 * 1024)
        self.ahead += data
        if len(self.record) < RECORD_BYTES_MAX:
            self.record += data
        return bool(data)

    def take(self, count):
        data = bytes(self.ahead[:count])
        del self.ahead[:count]
        return data

    def head(self):
        """The next head with its blank line; None if the stream ended before its first byte."""
        while True:
            end = self.ahead.find(b"\r\n\r\n")
            if end >= 0:
                return self.take(end + 4)
            if len(self.ahead) > HEAD_BYTES_MAX:
                raise Cut("a head without end")
            if not self.fill():
                if self.ahead:
                    raise Cut(f"the stream ended inside a head: {bytes(self.ahead[:200])!r}")
                return None

    def exactly(self, count):
        while len(self.ahead) < count:
            if not self.fill():
                raise Cut(f"the stream ended {count - len(self.ahead)} bytes before the end of the content")
        return self.take(count)

    def line(self):
        while b"\r\n" not in self.ahead:
            if not self.fill():
                raise Cut("the stream ended inside a line")
        return self.take(self.ahead.index(b"\r\n") + 2)[:-2]

    def chunked(self):
        """The content of a chunked message, and its trailer fields."""
        content = bytearray()
        while True:
            size = self.line().split(b";")[0].strip()
            if not re.fullmatch(rb"[0-9A-Fa-f]+", size):
                raise Cut(f"not the size of a chunk: {size!r}")
            count = int(size, 16)
            if count == 0:
                break
            content += self.exactly(count)
            if self.exactly(2) != b"\r\n":
                raise Cut("a chunk without its end")
        trailers = []
        while True:
            line = self.line()
            if not line:
                return bytes(content), trailers
            trailers.append(field(line))

    def until_close(self):
        while self.fill():
            pass
        return self.take(len(self.ahead))

    def close(self):
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()

    def __exit__(self, *_):
        self.close()


def field(line):
    """A field line as name and value."""
    name, colon, value = line.partition(b":")
    if not colon:
        raise Cut(f"not a field: {line!r}")
    return name.decode("latin-1"), value.strip(b" \t").decode("latin-1")


class Message:
    """A head, taken apart."""

    def __init__(self, head):
        self.head = head
        lines = head[:-4].split(b"\r\n")
        self.first = lines[0].decode("latin-1")
        self.fields = [field(line) for line in lines[1:]]

    def all(self, name):
        """Each value of a field, in order."""
        return [value for key, value in self.fields if key.lower() == name.lower()]

    def one(self, name):
        """The first value of a field, or None."""
        return next(iter(self.all(name)), None)


class Response(Message):
    """A response as the client read it, with the interim ones before it."""

    def __init__(self, head):
        super().__init__(head)
        parts = self.first.split(" ", 2)
        if len(parts) < 2 or not re.fullmatch(r"HTTP/1\.[01]", parts[0]) or not re.fullmatch(r"\d{3}", parts[1]):
            raise Cut(f"not a status line: {self.first!r}")
        self.version = parts[0]
        self.status = int(parts[1])
        self.content = b""
        self.trailers = []
        self.interim = []


class Client(Stream):
    """A client's connection to a balancer or a server."""

    def __init__(self, server, timeout=DEADLINE):
        super().__init__(socket.create_connection((HOST, server.port), timeout))
        self.host = server.address

    def send(self, data):
        self.socket.sendall(data)

    def send_what_goes(self, data):
        """Sends to a peer that may have answered and closed before the end."""
        with contextlib.suppress(ConnectionError):
            self.socket.sendall(data)

    def drip(self, data, pause=0.001):
        """Sends in single bytes, each in a segment of its own."""
        for index in range(len(data)):
            self.socket.sendall(data[index : index + 1])
            time.sleep(pause)

    def request(self, method, target, *fields, content=None):
        """Sends a request; content goes with its length."""
        self.send(request_bytes(method, target, *fields, host=self.host, content=content))

    def response(self, method="GET"):
        """The next final response, with all its content."""
        interim = []
        while True:
            try:
                head = self.head()
            except ConnectionError as error:
                raise Cut(f"the connection broke before a response: {error}") from error
            if head is None:
                raise Cut("the connection was closed before a response")
            response = Response(head)
            if response.status >= 200 or response.status == 101:
                break
            interim.append(response)
        response.interim = interim
        if method == "HEAD" or response.status in (101, 204, 304):
            return response
        try:
            if response.one("Transfer-Encoding"):
                response.content, response.trailers = self.chunked()
            elif response.one("Content-Length") is not None:
                response.content = self.exactly(int(response.one("Content-Length")))
            else:
                response.content = self.until_close()
        except ConnectionError as error:
            raise Cut(f"the connection broke inside the content: {error}") from error
        return response

    def get(self, target, *fields):
        self.request("GET", target, *fields)
        return self.response()

    def is_closed(self, within=DEADLINE):
        """Whether the other side closes the connection, without another byte, in time."""
        self.socket.settimeout(within)
        try:
            return not self.ahead and not self.socket.recv(1)
        except ConnectionError:
            return True
        except socket.timeout:
            return False
        finally:
            self.socket.settimeout(DEADLINE)

    def is_silent(self, seconds):
        """Whether nothing at all comes for so long."""
        self.socket.settimeout(seconds)
        try:
            return not self.ahead and self.fill() is None
        except socket.timeout:
            return True
        finally:
            self.socket.settimeout(DEADLINE)

    def abort(self):
        """Goes away with a reset, as a killed client does."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()


def request_bytes(method, target, *fields, host="test", content=None, version="1.1"):
    """A well-formed request."""
    lines = [f"{method} {target} HTTP/{version}", f"Host: {host}", *fields]
    if content is not None:
        lines.append(f"Content-Length: {len(content)}")
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + (content or b"")


def chunked_bytes(*chunks, end=b"0\r\n\r\n"):
    """Content in chunks."""
    return b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks) + end


def reply(status=200, content=b"", *fields, version="1.1"):
    """A well-formed response with its length."""
    lines = [f"HTTP/{version} {status} Text", *fields, f"Content-Length: {len(content)}"]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + content


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
