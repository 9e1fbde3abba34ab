"""A gigabyte each way, checked byte for byte, with the balancer's memory bounded."""

import os
import struct
import threading
import time

from harness import Case
from wire import request_bytes

MIB = 1024 * 1024
BLOCKS = 1024
MEMORY_MAX = 16 * MIB


def blocks():
    """The content in blocks: random bytes, each block stamped with its number at both ends.

    The same buffer each time: take what you need of it before the next.
    """
    block = bytearray(PATTERN)
    for index in range(BLOCKS):
        struct.pack_into(">Q", block, 0, index)
        struct.pack_into(">Q", block, MIB - 8, ~index & 0xFFFFFFFFFFFFFFFF)
        yield block


PATTERN = os.urandom(MIB)


class Reader:
    """Reads into a fixed buffer, first what a stream had read ahead."""

    def __init__(self, stream):
        self.socket = stream.socket
        self.ahead = stream.ahead

    def into(self, view):
        """Fills the whole view."""
        place = min(len(self.ahead), len(view))
        view[:place] = self.ahead[:place]
        del self.ahead[:place]
        while place < len(view):
            count = self.socket.recv_into(view[place:])
            if count == 0:
                raise EOFError(f"{len(view) - place} bytes of a block are missing")
            place += count

    def line(self):
        """A short line without its end."""
        line, byte = bytearray(), bytearray(1)
        while not line.endswith(b"\r\n"):
            self.into(memoryview(byte))
            line += byte
            if len(line) > 100:
                raise ValueError(f"not the size of a chunk: {bytes(line)}")
        return bytes(line[:-2])


class ChunkReader:
    """The content of a chunked message, however its chunks may have been cut anew."""

    def __init__(self, stream):
        self.reader = Reader(stream)
        self.left = 0
        self.begun = False

    def _next_chunk(self):
        if self.begun and self.reader.line():
            raise ValueError("a chunk without its end")
        self.begun = True
        self.left = int(self.reader.line().split(b";")[0], 16)

    def into(self, view):
        place = 0
        while place < len(view):
            if self.left == 0:
                self._next_chunk()
                if self.left == 0:
                    raise EOFError("the last chunk came too early")
            count = min(self.left, len(view) - place)
            self.reader.into(view[place : place + count])
            place += count
            self.left -= count

    def ends(self):
        """Whether the last chunk and no trailer follow."""
        self._next_chunk()
        return self.left == 0 and not self.reader.line()


def compare(reader):
    """The number of blocks that are as they should be; stops at the first that is not."""
    buffer = bytearray(MIB)
    view = memoryview(buffer)
    for index, block in enumerate(blocks()):
        reader.into(view)
        if buffer != block:
            return index
    return BLOCKS


class Big(Case):
    seconds_max = 600

    def tell(self, what, started, balancer):
        high, seconds = balancer.memory("VmHWM"), time.monotonic() - started
        print(f"     {what}: {seconds:.1f} s, resident at most {high / MIB:.1f} MiB", flush=True)
        self.assertLess(high, MEMORY_MAX)

    def test_a_gigabyte_comes_back_intact(self):
        def pour(request):
            request.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (BLOCKS * MIB))
            for block in blocks():
                request.send(block)
            return True

        balancer = self.balancer([self.peer(pour)])
        with self.client(balancer) as client:
            started = time.monotonic()
            client.request("GET", "/big")
            head = client.head()
            self.assertIn(b" 200 ", head)
            self.assertEqual(compare(Reader(client)), BLOCKS)
            self.tell("1 GiB response", started, balancer)

    def test_a_gigabyte_in_chunks_goes_up_intact(self):
        seen = []

        def swallow(request):
            reader = ChunkReader(request.stream)
            seen.append(compare(reader))
            seen.append(reader.ends())
            request.content = b""
            return b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

        balancer = self.balancer([self.peer(swallow)])
        with self.client(balancer) as client:
            started = time.monotonic()

            def push():
                client.send(request_bytes("POST", "/big", "Transfer-Encoding: chunked"))
                for block in blocks():
                    client.send(b"%x\r\n" % MIB)
                    client.send(block)
                    client.send(b"\r\n")
                client.send(b"0\r\n\r\n")

            sender = threading.Thread(target=push, daemon=True)
            client.socket.settimeout(self.seconds_max)
            sender.start()
            self.assertEqual(client.response().content, b"ok")
            sender.join(30)
            self.tell("1 GiB chunked upload", started, balancer)
        self.assertEqual(seen, [BLOCKS, True])

    def test_many_downloads_at_once_stay_within_the_same_memory(self):
        size = 32 * MIB

        def pour(request):
            request.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
            for _ in range(size // MIB):
                request.send(PATTERN)
            return True

        balancer = self.balancer([self.peer(pour), self.peer(pour)])
        started, whole = time.monotonic(), []

        def download():
            with self.client(balancer) as client:
                client.request("GET", "/big")
                if b" 200 " not in client.head():
                    return
                buffer, reader = bytearray(MIB), Reader(client)
                for _ in range(size // MIB):
                    reader.into(memoryview(buffer))
                    if buffer != PATTERN:
                        return
                whole.append(True)

        threads = [threading.Thread(target=download, daemon=True) for _ in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(self.seconds_max)
        self.assertEqual(len(whole), len(threads))
        self.tell("16 downloads of 32 MiB at once", started, balancer)
