"""WebSocket (RFC 6455) through the balancer, by Python's `websockets` as client and as server."""

import asyncio
import contextlib
import http
import random
import signal
import time
import unittest

from websockets.exceptions import ConnectionClosed, InvalidStatusCode
from websockets.legacy.client import connect
from websockets.legacy.server import serve

from harness import Case
from wire import DEADLINE, HOST

KIB = 1024
FRAME = 64 * KIB
SUBPROTOCOLS = ["v2.example", "v1.example"]
# Pings of the library's own would keep every tunnel from being idle.
SILENT = {"ping_interval": None}


class WebSocket(Case, unittest.IsolatedAsyncioTestCase):
    """A server that does what the path says; the path is the name of a method below."""

    async def asyncSetUp(self):
        # The loop of a test looks for slow steps of its own, and here the machine may just be busy.
        asyncio.get_running_loop().set_debug(False)
        self.closed = asyncio.Queue()
        self.server = await serve(
            self.serve, HOST, 0, process_request=self.refuse, subprotocols=SUBPROTOCOLS, max_size=None, **SILENT
        )
        self.port = self.server.sockets[0].getsockname()[1]
        self.addAsyncCleanup(self.end)

    async def end(self):
        self.server.close()
        await asyncio.wait_for(self.server.wait_closed(), DEADLINE)

    async def refuse(self, path, _headers):
        """What is no WebSocket: the health check, and refusals of the upgrade."""
        if path == "/healthcheck":
            return http.HTTPStatus.OK, [], b"0\n0\n"
        if path == "/forbidden":
            return http.HTTPStatus.FORBIDDEN, [("X-Reason", "no key")], b"not you\n"
        if path == "/other_version":
            return http.HTTPStatus.UPGRADE_REQUIRED, [("Sec-WebSocket-Version", "99")], b"not so\n"
        return None

    async def serve(self, websocket, path):
        """Does what the path says, and notes how the connection ended."""
        with contextlib.suppress(ConnectionClosed):
            await getattr(self, path[1:])(websocket)
        await websocket.wait_closed()
        await self.closed.put((websocket.close_code, websocket.close_reason))

    async def echo(self, websocket):
        async for message in websocket:
            await websocket.send(message)

    async def in_pieces(self, websocket):
        """Echoes each message in frames of a thousand bytes."""
        async for message in websocket:
            await websocket.send(message[start : start + 1000] for start in range(0, len(message), 1000))

    async def leave(self, websocket):
        await websocket.recv()
        await websocket.close(4002, "enough of this")

    async def drop(self, websocket):
        """Goes away without a word of WebSocket."""
        await websocket.recv()
        websocket.transport.close()

    async def ping(self, websocket):
        """Pings for each message, and says when the answer is there."""
        async for message in websocket:
            answered = await websocket.ping(message)
            await asyncio.wait_for(answered, DEADLINE)
            await websocket.send("answered")

    async def started(self, *options):
        """A balancer before the server, which lives in this loop: it must not be waited for here."""
        return await asyncio.to_thread(self.balancer, [f"{HOST}:{self.port}"], *options)

    async def opened(self, path, *options, **how):
        """A connection through a balancer of its own."""
        self.front = await self.started(*options)
        return await self.open(path, **how)

    async def open(self, path, **how):
        url = f"ws://{self.front.address}/{path}"
        websocket = await connect(url, max_size=None, open_timeout=DEADLINE, **SILENT, **how)
        self.addAsyncCleanup(websocket.close)
        return websocket

    async def receive(self, websocket):
        return await asyncio.wait_for(websocket.recv(), DEADLINE)

    async def closing(self):
        """With which code and reason the server saw the connection end."""
        return await asyncio.wait_for(self.closed.get(), DEADLINE)

    async def check_echo(self, websocket, messages):
        """Sends all messages while it receives them back."""

        async def send():
            for message in messages:
                await websocket.send(message)

        sender = asyncio.create_task(send())
        for index, message in enumerate(messages):
            same = await self.receive(websocket) == message
            self.assertTrue(same, f"message {index} of {len(message)} came back changed")
        await sender

    # Messages

    async def test_texts_and_bytes_come_back(self):
        websocket = await self.opened("echo")
        await self.check_echo(websocket, ["hello", "", "grüße \N{SNOWMAN}", b"", b"\x00\xff", bytes(range(256))])

    async def test_every_length_around_a_change_of_the_frame_header_comes_back(self):
        websocket = await self.opened("echo", compression=None)
        lengths = [124, 125, 126, 127, 128, 65534, 65535, 65536, 65537]
        await self.check_echo(websocket, [random.randbytes(length) for length in lengths])

    async def test_big_frames_go_both_ways(self):
        for compression in (None, "deflate"):
            websocket = await self.opened("echo", compression=compression)
            await self.check_echo(websocket, [random.randbytes(FRAME) for _ in range(64)])

    async def test_many_small_frames_at_once_keep_their_order(self):
        websocket = await self.opened("echo", compression=None)
        await self.check_echo(websocket, [f"message {number}" for number in range(5000)])

    async def test_one_message_of_many_mebibytes_comes_back(self):
        websocket = await self.opened("echo", compression=None)
        await self.check_echo(websocket, [random.randbytes(16 * KIB * KIB)])

    async def test_messages_in_pieces_stay_whole(self):
        websocket = await self.opened("in_pieces", compression=None)
        message = random.randbytes(FRAME)
        for _ in range(3):
            await websocket.send([message[:1], message[1:30000], b"", message[30000:]])
            self.assertTrue(await self.receive(websocket) == message)

    async def test_many_connections_do_not_mix(self):
        first = await self.opened("echo")
        others = [await self.open("echo") for _ in range(31)]
        messages = [[f"{number} of {index}" for number in range(50)] for index in range(32)]
        await asyncio.gather(*(self.check_echo(one, said) for one, said in zip([first, *others], messages)))

    # Control frames and the end

    async def test_pings_are_answered_through_the_balancer(self):
        websocket = await self.opened("ping")
        answered = await websocket.ping(b"from the client")
        await asyncio.wait_for(answered, DEADLINE)
        await websocket.send("now you")
        self.assertEqual(await self.receive(websocket), "answered")

    async def test_the_client_closes_with_a_code_and_a_reason(self):
        websocket = await self.opened("echo")
        await self.check_echo(websocket, ["last"])
        await asyncio.wait_for(websocket.close(4001, "going home"), DEADLINE)
        self.assertEqual((websocket.close_code, websocket.close_reason), (4001, "going home"))
        self.assertEqual(await self.closing(), (4001, "going home"))

    async def test_the_server_closes_with_a_code_and_a_reason(self):
        websocket = await self.opened("leave")
        await websocket.send("you first")
        with self.assertRaises(ConnectionClosed) as caught:
            await self.receive(websocket)
        self.assertEqual((caught.exception.code, caught.exception.reason), (4002, "enough of this"))
        self.assertEqual(await self.closing(), (4002, "enough of this"))

    async def test_a_server_that_goes_without_a_word_is_seen_to_go(self):
        websocket = await self.opened("drop")
        await websocket.send("go")
        with self.assertRaises(ConnectionClosed) as caught:
            await self.receive(websocket)
        self.assertEqual(caught.exception.code, 1006)

    async def test_a_client_that_goes_without_a_word_is_seen_to_go(self):
        websocket = await self.opened("echo")
        await self.check_echo(websocket, ["last"])
        websocket.transport.abort()
        self.assertEqual((await self.closing())[0], 1006)

    # Time

    async def test_an_idle_tunnel_outlives_every_timeout_of_ordinary_clients(self):
        ordinary = [f"--{name}-timeout" for name in ("idle", "client", "response", "connect", "queue")]
        limits = [word for name in ordinary for word in (name, "0.5s")]
        websocket = await self.opened("echo", *limits, "--tunnel-timeout", "60s")
        await self.check_echo(websocket, ["before"])
        # Nothing tells that nothing has happened: it has to be waited for.
        await asyncio.sleep(2)
        await self.check_echo(websocket, ["after", random.randbytes(FRAME)])

    async def test_a_silent_tunnel_ends_after_its_own_timeout_and_a_busy_one_does_not(self):
        websocket = await self.opened("echo", "--tunnel-timeout", "1s")
        for _ in range(5):
            await self.check_echo(websocket, ["busy"])
            await asyncio.sleep(0.4)
        started = time.monotonic()
        with self.assertRaises(ConnectionClosed) as caught:
            await self.receive(websocket)
        self.assertGreater(time.monotonic() - started, 0.3)
        self.assertEqual(caught.exception.code, 1006)
        self.assertEqual((await self.closing())[0], 1006)

    # The handshake

    async def test_both_agree_on_a_subprotocol(self):
        websocket = await self.opened("echo", subprotocols=["v1.example", "v0.example"])
        self.assertEqual(websocket.subprotocol, "v1.example")
        other = await self.open("echo", subprotocols=["v0.example"])
        self.assertIsNone(other.subprotocol)

    async def test_a_refused_upgrade_brings_its_status_and_fields(self):
        self.front = await self.started()
        for path, status, name, value in (
            ("forbidden", 403, "X-Reason", "no key"),
            ("other_version", 426, "Sec-WebSocket-Version", "99"),
        ):
            with self.assertRaises(InvalidStatusCode) as caught:
                await self.open(path)
            self.assertEqual((caught.exception.status_code, caught.exception.headers[name]), (status, value))
        # What was refused has left nothing behind.
        await self.check_echo(await self.open("echo"), ["welcome"])

    async def test_a_request_without_upgrade_is_told_to_upgrade(self):
        self.front = await self.started()
        response = await asyncio.to_thread(self.get, self.front, "/echo")
        self.assertEqual(response.status, 426)
        # RFC 9110 sections 7.8 and 15.5.22: whoever sends a 426 must say in it what to upgrade to.
        self.assertEqual((response.one("Upgrade") or "").lower(), "websocket")
        self.assertIn("upgrade", (response.one("Connection") or "").lower())

    # The balancer's end

    async def test_a_draining_balancer_lets_a_tunnel_finish(self):
        websocket = await self.opened("echo", "--drain-timeout", "60s")
        await self.check_echo(websocket, ["before"])
        await self.drain()
        await self.check_echo(websocket, ["after", random.randbytes(FRAME)])
        self.assertIsNone(self.front.process.poll())
        await asyncio.wait_for(websocket.close(4003, "done"), DEADLINE)
        self.assertEqual(await self.closing(), (4003, "done"))
        self.assertEqual(await asyncio.to_thread(self.front.wait), 0)

    async def test_a_tunnel_that_goes_on_is_cut_after_the_drain_timeout(self):
        websocket = await self.opened("echo", "--drain-timeout", "1s")
        await self.check_echo(websocket, ["before"])
        started = time.monotonic()
        await self.drain()
        with self.assertRaises(ConnectionClosed) as caught:
            await self.receive(websocket)
        self.assertGreater(time.monotonic() - started, 0.5)
        self.assertEqual(caught.exception.code, 1006)
        await asyncio.to_thread(self.front.wait)

    async def drain(self):
        """Tells the balancer to stop, and waits until it takes nobody new."""
        self.front.ending_expected = True
        self.front.signal(signal.SIGTERM)
        end = time.monotonic() + DEADLINE
        while True:
            try:
                _, writer = await asyncio.open_connection(HOST, self.front.port)
            except ConnectionRefusedError:
                return
            except ConnectionResetError:
                # It came in the moment between the last look at the queue and the close of the listener.
                continue
            writer.close()
            self.assertLess(time.monotonic(), end, "it still takes connections")
            await asyncio.sleep(0.01)
