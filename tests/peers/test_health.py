"""Health checks: which reports are good, what a bad one says in the log, and the other ways to check."""

import threading
import time

from harness import REASON, Case, await_rounds, eventually
from wire import reply

QUICK = ("-X", "0.2")


class Reports(Case):
    def await_invalid(self, health, *options):
        """A lone server with this health answer: what the log says of it."""
        peer = self.peer(health=health)
        balancer = self.balancer([peer], *QUICK, *options)
        line = balancer.await_change(peer, "invalid")
        self.assertRegex(line, r"invalid\W+\w+", "a reason stands behind the state")
        return peer, balancer, line

    def assert_bad(self, content, status=200):
        peer, balancer, line = self.await_invalid(lambda _: reply(status, content))
        response = self.get(balancer)
        self.assertEqual(response.status, 500)
        self.assertEqual(peer.targets(), [], line)

    def test_words_are_malformed(self):
        self.assert_bad(b"fine\nthanks\n")

    def test_one_number_is_malformed(self):
        self.assert_bad(b"1\n")

    def test_nothing_is_malformed(self):
        self.assert_bad(b"")

    def test_a_negative_number_is_malformed(self):
        self.assert_bad(b"-1\n2\n")

    def test_a_line_that_is_no_figure_is_malformed(self):
        self.assert_bad(b"0\n0\nwhatever this is\n")

    def test_a_404_is_invalid(self):
        self.assert_bad(b"0\n0\n", status=404)

    def test_a_500_is_invalid(self):
        self.assert_bad(b"0\n0\n", status=500)

    def test_a_204_is_not_a_report(self):
        peer, _, _ = self.await_invalid(lambda _: b"HTTP/1.1 204 No Content\r\n\r\n")
        self.assertEqual(peer.targets(), [])

    def test_an_answer_that_never_comes_is_invalid_after_the_timeout(self):
        hold = threading.Event()
        self.addCleanup(hold.set)
        started = time.monotonic()
        _, _, line = self.await_invalid(lambda _: hold.wait(120) and False, "--check-timeout", "1s")
        self.assertRegex(line, REASON)
        self.assertLess(time.monotonic() - started, 10)

    def test_an_answer_in_drips_is_late_when_it_is_late_as_a_whole(self):
        def health(request):
            for byte in b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n0\n0\n":
                request.send(bytes([byte]))
                time.sleep(0.2)
            return True

        self.await_invalid(health, "--check-timeout", "1s")

    def test_garbage_is_invalid(self):
        self.await_invalid(lambda request: request.send(b"0\n0\n\r\n\r\n"))

    def test_a_close_without_an_answer_is_invalid(self):
        self.await_invalid(lambda _: False)

    def test_blanks_and_further_figures_are_tolerated(self):
        peer = self.peer(health=lambda _: reply(200, b" 0 \n  12\t\nin_flight=3\nweight=0.5\n"))
        balancer = self.balancer([peer], *QUICK)
        await_rounds([peer], 3)
        self.assertEqual(self.get(balancer).status, 200)
        self.assertEqual(balancer.changes(peer, "invalid"), [])

    def test_a_report_may_come_chunked_or_until_close(self):
        for answer in [
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n0\n\r\n2\r\n7\n\r\n0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n0\n7\n",
            b"HTTP/1.0 200 OK\r\n\r\n0\n7\n",
        ]:
            with self.subTest(answer=answer):
                keeps = b"chunked" in answer
                peer = self.peer(health=lambda request, answer=answer, keeps=keeps: request.send(answer) or keeps)
                balancer = self.balancer([peer], *QUICK)
                await_rounds([peer], 3)
                self.assertEqual(self.get(balancer).status, 200)
                self.assertEqual(balancer.changes(peer, "invalid"), [])

    def test_a_reason_is_logged_once_per_change_not_per_check(self):
        state = {"status": 500}
        peer = self.peer(health=lambda _: reply(state["status"], b"0\n0\n"))
        balancer = self.balancer([peer], *QUICK)
        balancer.await_change(peer, "invalid")
        mark = balancer.mark()
        await_rounds([peer], 5)
        self.assertEqual(balancer.changes(peer, "invalid", mark), [])

        state["status"] = 200
        balancer.await_change(peer, "valid", mark)
        self.assertEqual(self.get(balancer).status, 200)
        mark = balancer.mark()
        await_rounds([peer], 5)
        self.assertEqual(balancer.changes(peer, "valid", mark), [])

        state["status"] = 500
        balancer.await_change(peer, "invalid", mark)


class Modes(Case):
    def test_an_invalid_server_gets_no_request(self):
        good, bad = self.peer(), self.peer(health=lambda _: reply(503))
        balancer = self.balancer([good, bad], *QUICK, "--policy", "round-robin")
        balancer.await_change(bad, "invalid")
        with self.client(balancer) as client:
            for _ in range(10):
                self.assertEqual(client.get("/").status, 200)
        self.assertEqual(bad.targets(), [])

    def test_the_check_path_is_asked_for(self):
        asked = []

        def answer(request):
            asked.append(request.target)
            return reply(200, b"0\n0\n")

        peer = self.peer(answer)
        self.balancer([peer], *QUICK, "--check-path", "/how/are?you")
        eventually(lambda: asked.count("/how/are?you") >= 3, "the path is asked for")
        self.assertEqual(peer.checks, 0)

    def test_http_mode_takes_any_2xx(self):
        good = self.peer(health=lambda _: b"HTTP/1.1 204 No Content\r\n\r\n")
        bad = self.peer(health=lambda _: reply(302, b"", "Location: /"))
        balancer = self.balancer([good, bad], *QUICK, "--check", "http", "--policy", "round-robin")
        balancer.await_change(bad, "invalid")
        for _ in range(6):
            self.assertEqual(self.get(balancer).status, 200)
        self.assertEqual(bad.targets(), [])
        self.assertEqual(balancer.changes(good, "invalid"), [])

    def test_tcp_mode_asks_nothing(self):
        good, dead = self.peer(), self.peer(listening=False)
        balancer = self.balancer([good, dead], *QUICK, "--check", "tcp")
        self.assertRegex(balancer.await_change(dead, "invalid"), "refused")
        self.assertEqual(self.get(balancer).status, 200)
        dead.listen()
        balancer.await_change(dead, "valid")
        self.assertEqual(good.checks + dead.checks, 0)

    def test_off_asks_nothing_and_uses_all(self):
        peers = [self.peer(), self.peer()]
        balancer = self.balancer(peers, *QUICK, "--check", "off", "--policy", "round-robin")
        for _ in range(4):
            self.assertEqual(self.get(balancer).status, 200)
        self.assertEqual([len(peer.targets()) for peer in peers], [2, 2])
        self.assertEqual([peer.checks for peer in peers], [0, 0])

    def test_rise_and_fall_count_checks_in_a_row(self):
        good = [True]
        peer = self.peer(health=lambda _: reply(200 if good[0] else 500, b"0\n0\n"))
        balancer = self.balancer([peer], *QUICK, "--fall", "3", "--rise", "3")
        await_rounds([peer], 5)
        mark, before = balancer.mark(), peer.checks
        good[0] = False
        balancer.await_change(peer, "invalid", mark)
        self.assertGreaterEqual(peer.checks - before, 3)
        mark, before = balancer.mark(), peer.checks
        good[0] = True
        balancer.await_change(peer, "valid", mark)
        self.assertGreaterEqual(peer.checks - before, 3)
