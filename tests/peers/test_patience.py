"""Clients that are slow, silent or deaf: each has its time, and costs no memory meanwhile."""

import time

from harness import Case, eventually
from wire import reply, request_bytes

MIB = 1024 * 1024
LATEST = 15.0


class Slow(Case):
    def setUp(self):
        self.server = self.peer()
        self.before = self.balancer([self.server], "--client-timeout", "1s")

    def assert_408(self, client, started):
        self.assertEqual(client.response().status, 408)
        self.assertTrue(client.is_closed())
        self.assertTrue(0.5 < time.monotonic() - started < LATEST)

    def test_a_head_that_stops_is_408_and_closed(self):
        with self.client(self.before) as client:
            started = time.monotonic()
            client.send(b"GET / HTTP/1.1\r\nHost: a\r\nX-A:")
            self.assert_408(client, started)

    def test_a_head_that_never_ends_is_408_and_closed(self):
        with self.client(self.before) as client:
            started = time.monotonic()
            client.send(b"GET / HTTP/1.1\r\nHost: a\r\nX-A: ")
            while client.is_silent(0.1):
                client.send_what_goes(b"a")
                self.assertLess(time.monotonic() - started, LATEST)
            self.assert_408(client, started)

    def test_a_head_that_never_ends_behind_a_good_request_is_408(self):
        with self.client(self.before) as client:
            self.assertEqual(client.get("/").status, 200)
            started = time.monotonic()
            client.send(b"GET /second HT")
            self.assert_408(client, started)
        self.assertEqual(self.server.targets(), ["/"])

    def test_a_connection_without_a_byte_is_closed(self):
        balancer = self.balancer([self.server], "--client-timeout", "1s", "--idle-timeout", "1s")
        with self.client(balancer) as client:
            started = time.monotonic()
            while not client.ahead and client.fill():
                pass
            self.assertLess(time.monotonic() - started, LATEST)

    def test_content_that_stops_is_given_up(self):
        with self.client(self.before) as client:
            started = time.monotonic()
            client.send(request_bytes("POST", "/", "Content-Length: 10") + b"abc")
            self.assert_408(client, started)
        self.assertEqual([request.content for request in self.server.requests], [None])

    def test_content_that_trickles_is_given_up(self):
        # Never silent for long, but far below the 240 bytes a second that are the least.
        with self.client(self.before) as client:
            started = time.monotonic()
            client.send(request_bytes("POST", "/", "Content-Length: 1000000"))
            while client.is_silent(0.1):
                client.send_what_goes(b"x")
                self.assertLess(time.monotonic() - started, LATEST)
            self.assert_408(client, started)

    def test_content_that_is_fast_enough_is_waited_for(self):
        with self.client(self.before) as client:
            client.send(request_bytes("POST", "/", "Content-Length: 2000"))
            for _ in range(20):
                client.drip(b"x" * 100, pause=0.001)
            self.assertEqual(client.response().status, 200)

    def test_without_a_minimum_rate_only_silence_counts(self):
        balancer = self.balancer([self.server], "--client-timeout", "1s", "--min-rate", "0")
        with self.client(balancer) as client:
            client.send(request_bytes("POST", "/", "Content-Length: 20"))
            client.drip(b"x" * 20, pause=0.1)
            self.assertEqual(client.response().status, 200)

    def test_a_client_that_does_not_read_is_given_up_and_costs_no_memory(self):
        given_up = []

        def pour(request):
            block = bytes(MIB)
            request.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (256 * MIB))
            try:
                for _ in range(256):
                    request.send(block)
            except OSError:
                given_up.append(time.monotonic())
            return False

        balancer = self.balancer([self.peer(pour)], "--client-timeout", "1s")
        clients = [self.client(balancer) for _ in range(8)]
        for client in clients:
            client.request("GET", "/")
        eventually(lambda: len(given_up) == len(clients), "the links of the deaf clients are closed")
        self.assertLess(balancer.memory("VmHWM"), 16 * MIB)


class Idle(Case):
    def test_an_idle_client_is_closed_without_a_word(self):
        balancer = self.balancer([self.peer()], "--idle-timeout", "1s")
        with self.client(balancer) as client:
            for _ in range(2):
                self.assertEqual(client.get("/").status, 200)
            started = time.monotonic()
            self.assertTrue(client.is_closed())
            self.assertTrue(0.5 < time.monotonic() - started < LATEST)

    def test_a_client_that_returns_in_time_is_not_closed(self):
        balancer = self.balancer([self.peer()], "--idle-timeout", "2s")
        with self.client(balancer) as client:
            for _ in range(8):
                self.assertEqual(client.get("/").status, 200)
                time.sleep(0.5)

    def test_a_client_that_waits_for_its_answer_is_not_idle(self):
        def slow(_request):
            time.sleep(3)
            return reply(200, b"late")

        balancer = self.balancer([self.peer(slow)], "--idle-timeout", "1s", "--client-timeout", "1s")
        self.assertEqual(self.get(balancer).content, b"late")
