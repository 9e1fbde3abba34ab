#!/usr/bin/env python3
"""An open-loop load: GETs at random moments, whether or not earlier ones were answered.

    servers_load.py PORT RATE SECONDS [WARM_UP [TIMEOUT [SEED]]]

Sends RATE requests per second on average to 127.0.0.1:PORT for WARM_UP and then SECONDS, with
exponentially distributed gaps (a Poisson process), and prints one line of JSON about those that were
due behind the warm-up. A request's latency counts from the moment at which it was due, not from when
it could be sent: so a balancer that stalls cannot hide it by holding up the next ones as well.

It begins when a line comes on standard input: a moment of the monotonic clock in nanoseconds, or
an empty line for now. Connections are kept alive, and there are as many as are needed. One that has
given no answer TIMEOUT seconds behind its request's moment is closed and counted.

The JSON: `asked`; `latencies` in microseconds, of each answer with status 200 and of each timeout,
which counts as the limit; `statuses` of the other answers; `resets`: connections that ended before
their answer did, or could not be made; `timeouts`; `names`, how often each server answered 200;
`late_us`: by how much this program itself was late to send, 99th percentile and greatest.
"""

import collections
import errno
import gc
import json
import random
import resource
import select
import socket
import sys
import time

REQUEST = b"GET /hello HTTP/1.1\r\nHost: localhost\r\n\r\n"
GREETING = b"hello from "
SECOND = 1_000_000_000
OPEN_FILES = 16384  # asked for; as much of it as is allowed is used
READ = 1 << 16
BROKEN = select.EPOLLERR | select.EPOLLHUP


class Broken(Exception):
    """A connection ended before its answer did, or said what is no answer."""


class Connection:
    """One kept-alive connection; `due` is the moment of its request, 0 if it has none."""

    __slots__ = ("socket", "due", "received", "is_sent")

    def __init__(self, port):
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self.socket.setblocking(False)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.due = 0
        self.received = b""
        self.is_sent = False
        code = self.socket.connect_ex(("127.0.0.1", port))
        if code not in (0, errno.EINPROGRESS):
            self.socket.close()
            raise Broken

    def send(self):
        """Sends the request; false: the connection is still being made."""
        try:
            count = self.socket.send(REQUEST)
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno == errno.ENOTCONN:
                return False
            raise Broken from error
        if count != len(REQUEST):
            raise Broken
        self.is_sent = True
        return True

    def receive(self):
        """The status and content of the answer and whether the connection goes on, or None."""
        try:
            data = self.socket.recv(READ)
        except BlockingIOError:
            return None
        except OSError as error:
            raise Broken from error
        self.received += data
        head, end, content = self.received.partition(b"\r\n\r\n")
        if not end:
            if not data:
                raise Broken
            return None
        length = None
        is_kept = data != b""
        for line in head.split(b"\r\n")[1:]:
            name, _, value = line.partition(b":")
            name = name.lower()
            if name == b"content-length":
                length = int(value)
            elif name == b"connection" and value.strip().lower() == b"close":
                is_kept = False
        if length is None:
            # The content reaches to the end of the connection.
            if data:
                return None
        elif len(content) < length:
            if not data:
                raise Broken
            return None
        self.received = b""
        self.is_sent = False
        return int(head[9:12]), content, is_kept


class Load:
    """The whole of it: connections, what is under way, and the account."""

    def __init__(self, port, rate, seconds, warm_up, timeout, seed):
        self.port = port
        self.timeout = int(timeout * SECOND)
        self.warm_up = int(warm_up * SECOND)
        chance = random.Random(seed)
        self.arrivals, at = [], 0.0
        while True:
            at += chance.expovariate(rate)
            if at >= warm_up + seconds:
                break
            self.arrivals.append(int(at * SECOND))
        self.begin = 0
        self.epoll = select.epoll()
        self.connections = {}
        self.idle = []
        self.waiting = {}  # in the order of their moments
        self.latencies = []
        self.statuses = collections.Counter()
        self.names = collections.Counter()
        self.resets = self.timeouts = 0
        self.late = []

    def run(self, begin):
        """Sends everything, and waits for the last answer or its timeout."""
        self.begin = begin
        moments = [begin + offset for offset in self.arrivals]
        sent = 0
        while sent < len(moments) or self.waiting:
            now = time.monotonic_ns()
            while sent < len(moments) and moments[sent] <= now:
                self.start(moments[sent], now)
                sent += 1
            self.expire(now)
            following = moments[sent] if sent < len(moments) else now + SECOND
            if self.waiting:
                oldest = next(iter(self.waiting)).due + self.timeout
                following = min(following, oldest)
            pause = max(0, following - time.monotonic_ns()) / SECOND
            # select(2) sleeps for microseconds, epoll_wait(2) for whole milliseconds.
            if select.select([self.epoll], [], [], pause)[0]:
                for number, events in self.epoll.poll(0):
                    connection = self.connections.get(number)
                    if connection:
                        self.serve(connection, events)

    def is_counted(self, due):
        return due - self.begin >= self.warm_up

    def start(self, due, now):
        """Sends the request that was due then."""
        if self.is_counted(due):
            self.late.append(now - due)
        try:
            connection = self.idle.pop() if self.idle else self.connect()
        except Broken:
            return self.count_reset(due)
        connection.due = due
        self.waiting[connection] = None
        try:
            connection.send()
        except Broken:
            self.broken(connection)
        return None

    def connect(self):
        connection = Connection(self.port)
        number = connection.socket.fileno()
        self.connections[number] = connection
        # An edge for each change: one that it can be written tells of the connection being made.
        self.epoll.register(number, select.EPOLLIN | select.EPOLLOUT | select.EPOLLRDHUP | select.EPOLLET)
        return connection

    def serve(self, connection, events):
        try:
            if not connection.due:
                # Nothing is awaited, so this is the end; or the news of its making.
                if events & (select.EPOLLIN | select.EPOLLRDHUP | BROKEN):
                    self.idle.remove(connection)
                    self.close(connection)
                return
            if not connection.is_sent and not connection.send():
                if events & BROKEN:
                    raise Broken
                return
            answer = connection.receive()
            if answer is None and events & (select.EPOLLRDHUP | BROKEN):
                answer = connection.receive()
            if answer is not None:
                status, content, is_kept = answer
                # An end that this event told of will not be told again.
                is_kept = is_kept and not events & (select.EPOLLRDHUP | BROKEN)
                self.answered(connection, status, content, is_kept)
        except Broken:
            self.broken(connection)

    def answered(self, connection, status, content, is_kept):
        now = time.monotonic_ns()
        due, connection.due = connection.due, 0
        del self.waiting[connection]
        if is_kept:
            self.idle.append(connection)
        else:
            self.close(connection)
        if not self.is_counted(due):
            return
        if status == 200:
            self.latencies.append((now - due) // 1000)
            if content.startswith(GREETING):
                self.names[content[len(GREETING) :].strip().decode("latin-1")] += 1
        else:
            self.statuses[status] += 1

    def expire(self, now):
        while self.waiting:
            connection = next(iter(self.waiting))
            if connection.due + self.timeout > now:
                return
            del self.waiting[connection]
            self.close(connection)
            if self.is_counted(connection.due):
                self.timeouts += 1
                self.latencies.append(self.timeout // 1000)

    def broken(self, connection):
        del self.waiting[connection]
        self.close(connection)
        self.count_reset(connection.due)

    def count_reset(self, due):
        if self.is_counted(due):
            self.resets += 1

    def close(self, connection):
        del self.connections[connection.socket.fileno()]
        connection.socket.close()

    def account(self):
        late = sorted(self.late) or [0]
        return {
            "asked": sum(1 for offset in self.arrivals if offset >= self.warm_up),
            "latencies": self.latencies,
            "statuses": self.statuses,
            "resets": self.resets,
            "timeouts": self.timeouts,
            "names": self.names,
            "late_us": [late[int(0.99 * (len(late) - 1))] // 1000, late[-1] // 1000],
        }


def main(arguments):
    if not 3 <= len(arguments) <= 6:
        sys.exit(__doc__)
    given = [float(text) for text in arguments]
    port, rate, seconds, warm_up, timeout, seed = given + [0.0, 2.0, 1.0][len(given) - 3 :]
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, OPEN_FILES)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    load = Load(int(port), rate, seconds, warm_up, timeout, int(seed))
    gc.disable()  # nothing here refers to itself, and a collection would be a pause
    line = sys.stdin.readline().strip()
    load.run(int(line) if line else time.monotonic_ns())
    print(json.dumps(load.account()))


if __name__ == "__main__":
    main(sys.argv[1:])
