"""Servers that refuse, close, vanish and return: what the client gets, and what is sent twice."""

import collections
import time

from harness import Case, await_first_round, eventually
from wire import reply

# One round at the start and none after it: what is learnt is learnt from the requests.
NO_ROUNDS = ("-X", "600", "-R", "1000000", "--policy", "round-robin")


def closes(_request):
    return False


def reads_and_closes(request):
    request.read()
    return False


class AllDown(Case):
    def test_all_down_is_500_with_a_text_at_once(self):
        balancer = self.balancer([self.peer(listening=False), self.peer(listening=False)])
        for _ in range(3):
            started = time.monotonic()
            response = self.get(balancer)
            self.assertLess(time.monotonic() - started, 1.0)
            self.assertEqual(response.status, 500)
            self.assertTrue((response.one("Content-Type") or "").startswith("text/plain"), response.head)
            self.assertTrue(response.content.strip())
            self.assertIsNotNone(response.one("Retry-After"))

    def test_the_status_can_be_503(self):
        balancer = self.balancer([self.peer(listening=False)], "--down-status", "503")
        self.assertEqual(self.get(balancer).status, 503)

    def test_the_first_server_back_serves_within_one_round(self):
        every, slack = 0.5, 2.0
        peers = [self.peer(listening=False), self.peer(listening=False)]
        balancer = self.balancer(peers, "-X", str(every))
        for peer in peers:
            self.assertRegex(balancer.await_change(peer, "invalid"), "refused")
        self.assertEqual(self.get(balancer).status, 500)

        mark = balancer.mark()
        peers[0].listen()
        started = time.monotonic()
        while True:
            response = self.get(balancer)
            if response.status == 200:
                break
            self.assertEqual(response.status, 500)
            self.assertLess(time.monotonic() - started, every + slack)
            time.sleep(0.01)
        balancer.await_change(peers[0], "valid", mark)
        for _ in range(10):
            self.assertEqual(self.get(balancer).status, 200)

    def test_a_kept_alive_client_survives_an_outage(self):
        peer = self.peer(listening=False)
        balancer = self.balancer([peer], "-X", "0.2")
        balancer.await_change(peer, "invalid")
        with self.client(balancer) as client:
            first = client.get("/")
            self.assertEqual(first.status, 500)
            if (first.one("Connection") or "").lower() == "close":
                self.assertTrue(client.is_closed())
                return
            peer.listen()
            balancer.await_change(peer, "valid")
            self.assertEqual(client.get("/").status, 200)


class OneDown(Case):
    def test_a_refused_connection_costs_no_request(self):
        good = self.peer()
        # Without pooled links each request needs a connection.
        dying = self.peer(lambda _: reply(200, b"", "Connection: close"))
        balancer = self.balancer([good, dying], *NO_ROUNDS)
        await_first_round([good, dying])
        for _ in range(4):
            self.assertEqual(self.get(balancer).status, 200)
        self.assertTrue(dying.targets())

        mark = balancer.mark()
        dying.refuse()
        for index in range(10):
            self.assertEqual(self.get(balancer, f"/{index}").status, 200)
            with self.client(balancer) as client:
                client.request("POST", f"/post/{index}", content=b"once")
                self.assertEqual(client.response().status, 200)
        self.assertRegex(balancer.await_change(dying, "invalid", mark), "refused")
        counts = collections.Counter(good.targets())
        self.assertEqual([counts[f"/post/{index}"] for index in range(10)], [1] * 10)

    def test_unchecked_servers_that_refuse_cost_no_request(self):
        good = self.peer()
        balancer = self.balancer([self.peer(listening=False), good, self.peer(listening=False)], "--check", "off")
        for index in range(20):
            self.assertEqual(self.get(balancer, f"/{index}").status, 200)
        self.assertEqual(good.targets(), [f"/{index}" for index in range(20)])

    def test_a_server_killed_under_pooled_links_costs_no_get(self):
        good, dying = self.peer(), self.peer()
        balancer = self.balancer([good, dying], *NO_ROUNDS)
        with self.client(balancer) as client:
            for _ in range(6):
                self.assertEqual(client.get("/before").status, 200)
            self.assertTrue(dying.targets())
            dying.refuse()
            for _ in range(20):
                self.assertEqual(client.get("/after").status, 200)
        self.assertEqual(good.targets().count("/after"), 20)

    def test_a_link_that_the_server_closed_while_idle_costs_no_post(self):
        peer = self.peer()
        balancer = self.balancer([peer], *NO_ROUNDS)
        with self.client(balancer) as client:
            for index in range(20):
                self.assertEqual(client.get("/before").status, 200)
                peer.disconnect()
                client.request("POST", f"/post/{index}", content=b"once")
                self.assertEqual(client.response().status, 200)


class NeverTwice(Case):
    def test_a_post_that_dies_without_an_answer_is_502_and_sent_once(self):
        peers = [self.peer(reads_and_closes), self.peer(reads_and_closes), self.peer(reads_and_closes)]
        balancer = self.balancer(peers, "-X", "0.2", "--policy", "round-robin")
        for index in range(6):
            with self.client(balancer) as client:
                client.request("POST", f"/{index}", content=b"pay 5")
                self.assertEqual(client.response().status, 502)
        seen = collections.Counter(target for peer in peers for target in peer.targets())
        self.assertEqual(seen, {f"/{index}": 1 for index in range(6)})

    def test_a_post_is_not_repeated_at_a_good_server(self):
        bad, good = self.peer(reads_and_closes), self.peer()
        balancer = self.balancer([bad, good], "-X", "0.2", "--policy", "round-robin")
        statuses = collections.Counter()
        for index in range(8):
            with self.client(balancer) as client:
                client.request("POST", f"/{index}", content=b"pay 5")
                statuses[client.response().status] += 1
        self.assertEqual(statuses, {502: len(bad.targets()), 200: len(good.targets())})
        self.assertTrue(bad.targets())
        seen = collections.Counter(bad.targets() + good.targets())
        self.assertEqual(seen, {f"/{index}": 1 for index in range(8)})

    def test_a_post_on_a_link_that_resets_is_sent_once(self):
        # The server reads nothing of it, but the balancer cannot know that.
        def resets(request):
            if request.method == "POST":
                return False
            return reply(200)

        bad, good = self.peer(resets), self.peer()
        balancer = self.balancer([bad, good], "-X", "0.2", "--policy", "round-robin")
        with self.client(balancer) as client:
            for _ in range(4):
                self.assertEqual(client.get("/warm").status, 200)
        for index in range(6):
            with self.client(balancer) as client:
                client.request("POST", f"/{index}", content=bytes(100 * 1024))
                self.assertIn(client.response().status, (200, 502))
        seen = collections.Counter(target for target in bad.targets() + good.targets() if target != "/warm")
        self.assertEqual(seen, {f"/{index}": 1 for index in range(6)})

    def test_a_get_that_dies_without_an_answer_is_tried_elsewhere(self):
        bad, good = self.peer(closes), self.peer()
        balancer = self.balancer([bad, good], "-X", "0.2", "--policy", "round-robin")
        for index in range(10):
            self.assertEqual(self.get(balancer, f"/{index}").status, 200)
        self.assertTrue(bad.targets())
        self.assertEqual(good.targets(), [f"/{index}" for index in range(10)])

    def test_a_small_put_is_tried_elsewhere_with_its_content(self):
        bad, good = self.peer(reads_and_closes), self.peer()
        balancer = self.balancer([bad, good], "-X", "0.2", "--policy", "round-robin")
        for index in range(6):
            with self.client(balancer) as client:
                client.request("PUT", f"/{index}", content=b"content of %d" % index)
                self.assertEqual(client.response().status, 200)
        self.assertTrue(bad.targets())
        self.assertEqual([request.content for request in good.requests], [b"content of %d" % i for i in range(6)])

    def test_a_get_that_dies_everywhere_is_an_error_not_a_loop(self):
        peers = [self.peer(closes), self.peer(closes)]
        balancer = self.balancer(peers, *NO_ROUNDS)
        self.assertIn(self.get(balancer).status, (500, 502))
        eventually(lambda: peers[0].targets() or peers[1].targets(), "a server saw it")
        self.assertLessEqual(len(peers[0].targets()) + len(peers[1].targets()), 6)
