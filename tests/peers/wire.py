"""Bytes and messages: a strict reader for both sides, a client, and builders of what is sent.

It shares no code with what it tests, and none with Python's own HTTP modules, which forgive much.
"""

import contextlib
import re
import socket
import struct
import time

DEADLINE = 30.0
HOST = "127.0.0.1"
RECORD_BYTES_MAX = 256 * 1024
HEAD_BYTES_MAX = 1024 * 1024


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
