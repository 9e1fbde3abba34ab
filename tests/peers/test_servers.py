"""Servers that people use: ten thousand requests on kept connections, and none fails."""

import os

from harness import Case
from servers import KINDS, balancer_before, start_shared, tool

REQUESTS = 10_000
CLIENTS = 16
SMALL = b"small\n"
SECONDS_MAX = 120


class TenThousand(Case):
    """h2load in its HTTP/1.1 mode counts: it keeps its connections and sends one request at a time."""

    @classmethod
    def setUpClass(cls):
        cls.servers = start_shared(cls, KINDS)
        cls.balancers = {name: balancer_before(cls, server) for name, server in cls.servers.items()}
        for name, server in cls.servers.items():
            cls.balancers[name].await_change(server, "valid")

    def ask(self, name):
        server, balancer = self.servers[name], self.balancers[name]
        self.programs.append(balancer)
        with open(os.path.join(server.directory, "small"), "wb") as file:
            file.write(SMALL)
        self.assertEqual(self.get(balancer, "/small").content, SMALL)
        mark = balancer.mark()
        target = f"http://{balancer.address}/small"
        load = ("--h1", "-n", str(REQUESTS), "-c", str(CLIENTS), target)
        said = self.run_tool(tool("h2load"), *load, within=SECONDS_MAX)
        self.assertIn(f"{REQUESTS} succeeded, 0 failed, 0 errored, 0 timeout", said)
        self.assertIn(f"status codes: {REQUESTS} 2xx, 0 3xx, 0 4xx, 0 5xx", said)
        self.assertIn(f"({REQUESTS * len(SMALL)}) data", said)
        self.assertEqual([line for line in balancer.err.lines[mark:] if "invalid" in line], [])


def add_tests():
    for name in KINDS:

        def none_fails(self, name=name):
            self.ask(name)

        setattr(TenThousand, f"test_of_ten_thousand_requests_to_{name}_none_fails", none_fails)


add_tests()
