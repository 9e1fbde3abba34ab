"""What servers say of themselves beside the two numbers, and why a request went where it went."""

from harness import Case, await_rounds, eventually
from wire import reply

METRICS = "TEXT named_metrics.in_flight=3, application_utilization=0.5, rps_fractional=10, eps=0"


class Said(Case):
    def says(self, name, health, *fields):
        """A server whose checks get this content."""
        return self.peer(
            lambda _: reply(200, name.encode(), *fields), health=lambda _: reply(200, health.encode())
        )

    def served(self, *peers, count=12):
        balancer = self.balancer(list(peers), "-X", "0.1")
        await_rounds(list(peers))
        return {self.get(balancer).content.decode() for _ in range(count)}

    def test_a_server_that_drains_gets_nothing(self):
        for word in ["0\n0\ndrain=1\n", "drain\n", "0%\n"]:
            with self.subTest(word=word):
                self.assertEqual(self.served(self.says("a", word), self.says("b", "0\n9\n")), {"b"})

    def test_a_server_that_drains_is_the_last_resort(self):
        self.assertEqual(self.served(self.says("a", "0\n0\ndrain=1\n")), {"a"})

    def test_a_server_that_says_it_is_down_is_invalid_with_its_reason(self):
        down, good = self.says("a", "down#no disk left\n"), self.says("b", "up 80%\n")
        balancer = self.balancer([down, good], "-X", "0.1")
        eventually(lambda: any("it says that it is down: no disk left" in line for line in balancer.err.lines), "the log says why")
        self.assertEqual({self.get(balancer).content for _ in range(6)}, {b"b"})

    def test_what_a_server_says_of_its_load_stays_here(self):
        server = self.says("a", "0\n0\n", f"Endpoint-Load-Metrics: {METRICS}", "endpoint-load-metrics-bin: CgkJ", "X-A: b")
        response = self.get(self.balancer([server]))
        self.assertEqual((response.all("Endpoint-Load-Metrics"), response.all("endpoint-load-metrics-bin")), ([], []))
        self.assertEqual(response.one("X-A"), "b")

    def test_explain_says_in_one_line_why_a_request_went_where_it_went(self):
        a, b = self.says("a", "0\n5\n"), self.says("b", "0\n3\n")
        balancer = self.balancer([a, b], "--explain", "-X", "600")
        eventually(lambda: sum(" is valid" in line for line in balancer.err.lines) == 2, "both are valid")
        self.assertEqual(self.get(balancer, "/why").content, b"b")
        said = lambda: [line for line in balancer.err.lines if "guess for GET /why HTTP/1.1: " in line]
        lines = eventually(said, "the log says why")
        self.assertEqual(len(lines), 1, lines)
        reason = lines[0].split("HTTP/1.1: ")[1]
        self.assertTrue(reason.startswith(f"127.0.0.1:{b.port}: "), reason)
        self.assertIn("least load (reported 3)", reason)
        self.assertIn(f"127.0.0.1:{a.port} ", reason)
