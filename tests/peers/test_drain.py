"""Stopping: what runs is finished, nothing new is taken, and a second signal ends it at once."""

import signal
import socket
import threading
import time

from harness import Case, eventually
from wire import HOST, reply

CONTENT = bytes(range(256)) * 4096


class Drain(Case):
    def setUp(self):
        self.gate = threading.Event()
        self.addCleanup(self.gate.set)
        self.server = self.peer(self.held)

    def held(self, request):
        request.read()
        if request.target == "/held":
            self.gate.wait(120)
        return reply(200, CONTENT)

    def draining(self, number=signal.SIGTERM, *options):
        """A balancer that was told to stop while a request runs, that request's client, and an idle one."""
        balancer = self.balancer([self.server], *options)
        balancer.ending_expected = True
        idle, busy = self.client(balancer), self.client(balancer)
        self.assertEqual(idle.get("/").status, 200)
        busy.request("POST", "/held", content=CONTENT)
        eventually(lambda: "/held" in self.server.targets(), "the request runs")
        balancer.signal(number)
        eventually(lambda: self.refused(balancer), "new connections are refused")
        return balancer, busy, idle

    def refused(self, balancer):
        try:
            with socket.create_connection((HOST, balancer.port), 5):
                return False
        except ConnectionRefusedError:
            return True
        except OSError:
            return False

    def test_what_runs_is_finished_and_the_exit_is_clean(self):
        for number in (signal.SIGTERM, signal.SIGINT):
            with self.subTest(number):
                self.gate.clear()
                balancer, busy, idle = self.draining(number)
                self.assertTrue(idle.is_closed(within=10), "an idle client is closed")
                self.assertTrue(busy.is_silent(0.3))
                self.assertIsNone(balancer.process.poll())
                self.gate.set()
                response = busy.response()
                self.assertEqual((response.status, response.content == CONTENT), (200, True))
                self.assertTrue(busy.is_closed())
                self.assertEqual(balancer.wait(), 0)
                self.server.requests.clear()

    def test_a_second_signal_ends_it_at_once(self):
        balancer, _, _ = self.draining()
        started = time.monotonic()
        balancer.signal(signal.SIGTERM)
        balancer.wait(10)
        self.assertLess(time.monotonic() - started, 5)

    def test_what_does_not_finish_is_cut_after_the_drain_timeout(self):
        started = time.monotonic()
        balancer, busy, _ = self.draining(signal.SIGTERM, "--drain-timeout", "1s")
        balancer.wait(20)
        self.assertGreater(time.monotonic() - started, 0.5)
        self.assertTrue(busy.is_closed() or busy.response().status >= 500)

    def test_what_waits_in_the_queue_is_served_too(self):
        balancer = self.balancer([self.server], "-N", "1")
        balancer.ending_expected = True
        first, second = self.client(balancer), self.client(balancer)
        first.request("GET", "/held")
        eventually(lambda: self.server.targets() == ["/held"], "the first runs")
        second.request("GET", "/waiting")
        time.sleep(0.1)
        balancer.signal(signal.SIGTERM)
        eventually(lambda: self.refused(balancer), "new connections are refused")
        self.gate.set()
        for client in (first, second):
            self.assertEqual(client.response().status, 200)
        self.assertEqual(balancer.wait(), 0)

    def test_nothing_runs_and_it_ends_after_the_grace(self):
        balancer = self.balancer([self.server])
        balancer.ending_expected = True
        idle = [self.client(balancer) for _ in range(20)]
        for client in idle:
            self.assertEqual(client.get("/").status, 200)
        started = time.monotonic()
        balancer.signal(signal.SIGTERM)
        self.assertEqual(balancer.wait(), 0)
        self.assertLess(time.monotonic() - started, 5)
        for client in idle:
            self.assertTrue(client.is_closed())

    def test_the_built_in_server_ends_by_a_signal_too(self):
        origin = self.origin(None)
        origin.signal(signal.SIGTERM)
        self.assertEqual(origin.wait(), 0)
