"""Which server is chosen: by reports, by policy, by what was dispatched."""

import collections
import threading
import time

from harness import Case, await_first_round, await_rounds, eventually
from wire import reply


class Reports(Case):
    def sequential(self, balancer, watched, count=8):
        """The servers of `count` requests, each sent when the reports after the last are all in."""
        served = []
        for index in range(count):
            await_rounds(watched)
            response = self.get(balancer, f"/{index}")
            self.assertEqual(response.status, 200)
            served.append(response.one("Server"))
        return served

    def named(self, name, errors, load):
        return self.peer(lambda _: reply(200, b"", f"Server: {name}"), report=(errors, load))

    def test_the_least_load_wins_then_the_fewest_errors(self):
        peers = [self.named("a", 0, 10), self.named("b", 0, 5), self.named("c", 3, 5)]
        balancer = self.balancer(peers, "-R", "1", "-X", "0.1")
        self.assertEqual(self.sequential(balancer, peers), ["b"] * 8)

    def test_at_equal_load_the_fewest_errors_win(self):
        peers = [self.named("a", 1, 5), self.named("b", 0, 5)]
        balancer = self.balancer(peers, "-R", "1", "-X", "0.1")
        self.assertEqual(self.sequential(balancer, peers), ["b"] * 8)

    def test_least_load_follows_the_same_rule(self):
        peers = [self.named("a", 0, 10), self.named("b", 3, 5), self.named("c", 0, 5)]
        balancer = self.balancer(peers, "-R", "1", "-X", "0.1", "--policy", "least-load")
        self.assertEqual(self.sequential(balancer, peers), ["c"] * 8)

    def test_the_built_in_servers_fixed_reports_decide(self):
        origins = [
            self.origin(None, "--fixed-report", "--errors", errors, "--load", load, name=name)
            for name, errors, load in [("a", "0", "10"), ("b", "0", "5"), ("c", "3", "5")]
        ]
        # It reports so much that it is never chosen, and shows when a round has gone by.
        watch = self.named("watch", 0, 1000)
        balancer = self.balancer([*origins, watch], "-R", "1", "-X", "0.1")
        served = []
        for index in range(8):
            await_rounds([watch], 3)
            served.append(self.get(balancer, f"/{index}").one("Server"))
        self.assertEqual(served, ["b"] * 8)


class Policies(Case):
    def test_least_load_sends_all_between_two_rounds_to_one_server(self):
        every, settled = 100, 20
        events, lock = [], threading.Lock()

        def server(name):
            count = [0]

            def health(_):
                with lock:
                    events.append("round")
                    return reply(200, b"0\n%d\n" % count[0])

            def answer(_):
                with lock:
                    events.append(name)
                    count[0] += 1
                return reply(200, b"", f"Server: {name}")

            return self.peer(answer, health=health)

        peers = [server(name) for name in "abc"]
        balancer = self.balancer(peers, "--policy", "least-load", "-R", str(every), "-X", "60")
        await_first_round(peers)
        with self.client(balancer) as client:
            for _ in range(4 * every):
                checks = [peer.checks for peer in peers]
                self.assertEqual(client.get("/").status, 200)
                if checks != [peer.checks for peer in peers]:
                    # A round has begun: let its reports come in before the next request.
                    eventually(lambda: len({peer.checks for peer in peers}) == 1, "the round reaches all servers")
                    time.sleep(0.1)

        spans = [[]]
        with lock:
            for event in events:
                if event == "round":
                    if spans[-1]:
                        spans.append([])
                else:
                    spans[-1].append(event)
        full = [span for span in spans if len(span) > every // 2]
        self.assertGreaterEqual(len(full), 3, [len(span) for span in spans])
        optima = []
        for span in full:
            self.assertEqual(len(set(span[settled:])), 1, collections.Counter(span))
            optima.append(span[-1])
        self.assertEqual(len(set(optima[:3])), 3, f"each round's optimum is a server that had none before: {optima}")

    def shares(self, balancer, requests, threads):
        traffic = self.traffic(balancer, {"/": b""}, threads=threads, count=requests)
        sent = traffic.finish()
        self.assert_faultless(sent)
        self.assertEqual(len(sent), requests)
        return collections.Counter(one.server for one in sent)

    def equals(self):
        return [self.peer(lambda _, name=name: reply(200, b"", f"Server: {name}")) for name in "abc"]

    def assert_even(self, shares, within):
        self.assertEqual(len(shares), 3, shares)
        self.assertGreaterEqual(min(shares.values()), (1 - within) * max(shares.values()), shares)

    def test_best_guess_uses_every_one_of_equal_servers(self):
        # How evenly is up to the scheduler here: these answer within a part of a millisecond.
        peers = self.equals()
        balancer = self.balancer(peers, "-R", "1000")
        await_first_round(peers)
        self.assertEqual(len(self.shares(balancer, 3000, threads=4)), 3)

    def test_best_guess_uses_every_one_of_the_built_in_servers(self):
        source = self.directory()
        with open(f"{source}/empty", "wb"):
            pass
        origins = [self.origin(source, name=name) for name in "abc"]
        balancer = self.balancer(origins, "-R", "1000")
        traffic = self.traffic(balancer, {"/empty": b""}, threads=1, count=3000)
        sent = traffic.finish()
        self.assert_faultless(sent)
        self.assertEqual(len(collections.Counter(one.server for one in sent)), 3)

    def test_round_robin_takes_each_in_turn(self):
        peers = self.equals()
        balancer = self.balancer(peers, "--policy", "round-robin")
        await_first_round(peers)
        with self.client(balancer) as client:
            served = [client.get("/").one("Server") for _ in range(30)]
        for start in range(0, 30, 3):
            self.assertEqual(sorted(served[start : start + 3]), ["a", "b", "c"], served)

    def test_random_takes_all(self):
        peers = self.equals()
        balancer = self.balancer(peers, "--policy", "random")
        await_first_round(peers)
        self.assert_even(self.shares(balancer, 600, threads=2), 0.5)

    def test_least_conn_avoids_a_busy_server(self):
        gate = threading.Event()
        self.addCleanup(gate.set)

        def answer(request, name):
            if request.target == "/hold":
                gate.wait(60)
            return reply(200, b"", f"Server: {name}")

        peers = [self.peer(lambda request, name=name: answer(request, name)) for name in "ab"]
        balancer = self.balancer(peers, "--policy", "least-conn")
        await_first_round(peers)
        holder = self.client(balancer)
        holder.request("GET", "/hold")
        eventually(lambda: any("/hold" in peer.targets() for peer in peers), "the request is held")
        with self.client(balancer) as client:
            served = {client.get("/").one("Server") for _ in range(20)}
        gate.set()
        self.assertNotIn(holder.response().one("Server"), served)
