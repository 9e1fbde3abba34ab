"""The queue and N: never too many at the servers, first in first out, none lost, none served who left."""

import threading
import time

from harness import Case, Meter, eventually
from wire import reply

SETTLE_SECONDS = 0.02


class Queue(Case):
    def setUp(self):
        self.meter = Meter()
        self.permits = threading.Semaphore(0)
        self.arrived = []
        self.lock = threading.Lock()
        self.addCleanup(self.let_all_go)

    def let_all_go(self):
        for _ in range(1000):
            self.permits.release()

    def slow(self, request):
        """Answers when the test permits it. Counted out before the answer can free the place."""
        request.read()
        with self.meter:
            with self.lock:
                self.arrived.append(request.target)
            self.permits.acquire()
        return reply(200, request.target.encode("ascii"))

    def await_arrivals(self, count):
        eventually(lambda: len(self.arrived) >= count, f"{count} requests reach the servers")

    def queue_up(self, balancer, count, first=0):
        """Clients whose requests arrive one after the other."""
        clients = []
        for index in range(first, first + count):
            client = self.client(balancer)
            client.request("GET", f"/{index}")
            clients.append(client)
            # The balancer tells no one that it has taken a request in: a moment for it to do so.
            time.sleep(SETTLE_SECONDS)
        return clients

    def test_fifty_slow_requests_are_served_two_at_a_time_in_order(self):
        count = 50
        balancer = self.balancer([self.peer(self.slow), self.peer(self.slow)], "-N", "2")
        clients = self.queue_up(balancer, count)
        self.await_arrivals(2)
        for done in range(1, count + 1):
            # One leaves, one enters: so the order in which they enter is the order of dispatch.
            self.permits.release()
            self.await_arrivals(min(count, done + 2))
        self.assertEqual(sorted(self.arrived[:2]), ["/0", "/1"])
        self.assertEqual(self.arrived[2:], [f"/{index}" for index in range(2, count)])
        for index, client in enumerate(clients):
            response = client.response()
            self.assertEqual((response.status, response.content), (200, b"/%d" % index))
        self.assertEqual(self.meter.most, 2)

    def test_a_crowd_at_once_is_served_two_at_a_time_and_none_is_lost(self):
        count = 50
        balancer = self.balancer([self.peer(self.slow), self.peer(self.slow), self.peer(self.slow)], "-N", "2")
        clients = [self.client(balancer) for _ in range(count)]
        for index, client in enumerate(clients):
            client.request("GET", f"/{index}")
        self.await_arrivals(2)
        self.let_all_go()
        for index, client in enumerate(clients):
            self.assertEqual(client.response().content, b"/%d" % index)
        self.assertEqual(self.meter.most, 2)
        self.assertEqual(sorted(self.arrived), sorted(f"/{index}" for index in range(count)))

    def test_a_waiting_client_that_goes_away_is_skipped(self):
        count = 12
        leaving = (3, 4, 8, 11)
        balancer = self.balancer([self.peer(self.slow)], "-N", "1")
        clients = self.queue_up(balancer, count)
        self.await_arrivals(1)
        for index in leaving:
            clients[index].abort()
        self.let_all_go()
        staying = [index for index in range(count) if index not in leaving]
        for index in staying:
            self.assertEqual(clients[index].response().content, b"/%d" % index)
        self.assertEqual(self.arrived, [f"/{index}" for index in staying])
        self.assertEqual(self.get(balancer, "/after").status, 200)

    def test_a_served_client_that_goes_away_frees_its_place(self):
        balancer = self.balancer([self.peer(self.slow)], "-N", "1")
        clients = self.queue_up(balancer, 2)
        self.await_arrivals(1)
        clients[0].abort()
        self.await_arrivals(2)
        self.let_all_go()
        self.assertEqual(clients[1].response().content, b"/1")

    def test_a_waiting_post_keeps_its_content(self):
        peer = self.peer(self.slow)
        balancer = self.balancer([peer], "-N", "1")
        first = self.queue_up(balancer, 1)[0]
        self.await_arrivals(1)
        content = bytes(range(256)) * 1024
        second = self.client(balancer)
        second.request("POST", "/post")
        third = self.client(balancer)
        sender = threading.Thread(target=third.request, args=("POST", "/big"), kwargs={"content": content}, daemon=True)
        sender.start()
        time.sleep(SETTLE_SECONDS)
        self.let_all_go()
        for client in (first, second, third):
            self.assertEqual(client.response().status, 200)
        sender.join(30)
        self.assertEqual({request.target: request.content for request in peer.requests}["/big"], content)

    def test_who_waits_too_long_gets_503_and_reaches_no_server(self):
        balancer = self.balancer([self.peer(self.slow)], "-N", "1", "--queue-timeout", "1s")
        clients = self.queue_up(balancer, 2)
        self.await_arrivals(1)
        started = time.monotonic()
        self.assertEqual(clients[1].response().status, 503)
        self.assertGreater(time.monotonic() - started, 0.5)
        self.let_all_go()
        self.assertEqual(clients[0].response().status, 200)
        self.assertEqual(self.get(balancer, "/after").status, 200)
        self.assertEqual(self.arrived, ["/0", "/after"])

    def test_a_server_s_own_limit_is_kept(self):
        limited, other = self.peer(self.slow), self.peer(self.slow)
        balancer = self.balancer([f"{limited.address},max=1", other], "--policy", "round-robin")
        clients = self.queue_up(balancer, 6)
        self.await_arrivals(6)
        self.assertEqual(len(limited.targets()), 1)
        self.let_all_go()
        for client in clients:
            self.assertEqual(client.response().status, 200)


class ClientsMax(Case):
    def test_the_client_above_the_limit_waits_until_one_leaves(self):
        balancer = self.balancer([self.peer()], "--max-clients", "4")
        clients = [self.client(balancer) for _ in range(4)]
        for client in clients:
            self.assertEqual(client.get("/").status, 200)
        fifth = self.client(balancer)
        fifth.request("GET", "/fifth")
        self.assertTrue(fifth.is_silent(1.0))
        for client in clients:
            self.assertEqual(client.get("/").status, 200)
        self.assertTrue(fifth.is_silent(0.2))
        clients[2].close()
        self.assertEqual(fifth.response().content, b"/fifth")
