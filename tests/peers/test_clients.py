"""Clients that people use × servers that people use: each pair moves a mebibyte both ways, intact.

One test for each pair, named after both. A client gets `/big` and, where the server has it, the same
without a length; and puts content that no other test puts, which must lie in the server's directory
afterwards. Servers and the balancers before them are shared by all tests.
"""

import http.client
import os
import random
import re
import signal
import subprocess

import requests

from harness import Case, bare_environment, curl
from servers import HERE, KINDS, PythonHttp10, balancer_before, start_shared, tool
from wire import DEADLINE

MIB = 1024 * 1024
CLIENTS = os.path.join(os.path.dirname(HERE), "clients")
TURNS = 3
# What the load generators do: not much, as here it is about what they say and understand.
LOAD_REQUESTS = 8
LOAD_CLIENTS = 2


def random_content():
    # An odd length, so that nothing ends where a buffer does.
    return random.randbytes(MIB + 1)


class Pairs(Case):
    @classmethod
    def setUpClass(cls):
        cls.content = random_content()
        cls.servers = start_shared(cls, KINDS)
        cls.balancers = {name: balancer_before(cls, server) for name, server in cls.servers.items()}
        for name, server in cls.servers.items():
            write(server, "big", cls.content)
            cls.balancers[name].await_change(server, "valid")

    def setUp(self):
        self.results = self.directory()
        self.upload = random_content()
        self.upload_path = os.path.join(self.results, "upload")
        with open(self.upload_path, "wb") as file:
            file.write(self.upload)

    def move(self, client, name):
        """Lets `client` move content to and from the server `name`, and looks at what was stored."""
        self.server, self.balancer = self.servers[name], self.balancers[name]
        self.programs.append(self.balancer)
        self.url = f"http://{self.balancer.address}"
        self.names = ["big", "stream/big"] if self.server.streams else ["big"]
        self.put_name = f"put-{client.__name__}"
        mark = self.balancer.mark()
        # So that each PUT finds something to replace, and all answers to it are alike.
        write(self.server, self.put_name, b"old")
        client(self)
        with open(os.path.join(self.server.directory, self.put_name), "rb") as file:
            self.assertTrue(file.read() == self.upload, "what was put is not what is stored")
        self.assertEqual([line for line in self.balancer.err.lines[mark:] if "invalid" in line], [])

    def check(self, path):
        with open(path, "rb") as file:
            self.assertTrue(file.read() == self.content, "what was got is not what is there")
        os.remove(path)

    def run_curl(self, *arguments):
        run = curl("--fail", *arguments)
        self.assertEqual((run.returncode, run.stderr), (0, b""))
        return run.stdout

    def curl_get(self, *options):
        path = os.path.join(self.results, "got")
        for name in self.names:
            self.run_curl(*options, "-o", path, f"{self.url}/{name}")
            self.check(path)

    def curl_put(self, *options):
        # Without `Expect:` curl would send it by itself with content of this length.
        self.run_curl(*options, "-T", self.upload_path, f"{self.url}/{self.put_name}", "-o", os.devnull)

    def run_ab(self, *options):
        amount = ["-n", str(LOAD_REQUESTS), "-c", str(LOAD_CLIENTS)]
        said = self.run_tool(tool("ab"), "-q", *amount, *options)
        self.assertRegex(said, rf"Complete requests: +{LOAD_REQUESTS}\n")
        self.assertRegex(said, r"Failed requests: +0\n")
        self.assertNotIn("Non-2xx responses", said)
        return said

    def run_h2load(self, *options):
        amount = ["-n", str(LOAD_REQUESTS), "-c", str(LOAD_CLIENTS)]
        said = self.run_tool(tool("h2load"), "--h1", *amount, *options)
        self.assertIn(f"{LOAD_REQUESTS} succeeded, 0 failed, 0 errored, 0 timeout", said)
        self.assertIn(f"status codes: {LOAD_REQUESTS} 2xx", said)
        return said


def write(server, name, content):
    with open(os.path.join(server.directory, name), "wb") as file:
        file.write(content)


# ---------------------------------------------------------------------------------------------------
# What each client does


def curl_plain(test):
    test.curl_get()
    test.curl_put("-H", "Expect:")


def curl_chunked(test):
    test.curl_put("-H", "Expect:", "-H", "Transfer-Encoding: chunked")


def curl_http_10(test):
    test.curl_get("--http1.0")
    test.curl_put("--http1.0")


def curl_head(test):
    """HEAD, and behind it on the same connection a GET and a PUT."""
    path = os.path.join(test.results, "got")
    status = "%{http_code} %{num_connects}\n"
    said = test.run_curl(
        *("-I", "-w", status, f"{test.url}/big"),
        *("--next", "-sS", "--fail", "-w", status, "-o", path, f"{test.url}/big"),
        *("--next", "-sS", "--fail", "-w", status, "-H", "Expect:", "-o", os.devnull, "-T", test.upload_path),
        f"{test.url}/{test.put_name}",
    ).decode("ascii")
    test.assertRegex(said.lower(), rf"content-length: {len(test.content)}\r\n")
    test.assertRegex(said, r"\r\n\r\n200 1\n200 0\n20[014] 0\n$")
    test.check(path)


def curl_expect(test):
    """The interim response of the server must arrive, as curl waits for it; one of HTTP/1.0 has none."""
    heads = os.path.join(test.results, "heads")
    can_wait = not isinstance(test.server, PythonHttp10)
    patience = str(DEADLINE) if can_wait else "0.2"
    test.curl_put("-H", "Expect: 100-continue", "--expect100-timeout", patience, "-D", heads)
    with open(heads, "rb") as file:
        said = file.read()
    test.assertEqual(said.startswith(b"HTTP/1.1 100 "), can_wait, said)


def curl_parallel(test):
    lines, paths, puts = [], [], []
    for turn in range(8):
        for name in test.names:
            paths.append(os.path.join(test.results, f"got{len(paths)}"))
            lines += [f'url = "{test.url}/{name}"', f'output = "{paths[-1]}"']
        puts += [f'url = "{test.url}/{test.put_name}"', f'upload-file = "{test.upload_path}"', 'output = "/dev/null"']
    for config in (lines, ['header = "Expect:"', *puts]):
        source = os.path.join(test.results, "config")
        with open(source, "w", encoding="ascii") as file:
            file.write("\n".join(config) + "\n")
        test.run_curl("--no-progress-meter", "--parallel", "--parallel-immediate", "-K", source)
    for path in paths:
        test.check(path)


def python_http_client(test):
    client = http.client.HTTPConnection("127.0.0.1", test.balancer.port, timeout=DEADLINE)
    test.addCleanup(client.close)
    pieces = (test.upload[start : start + 100_000] for start in range(0, len(test.upload), 100_000))
    client.connect()
    local = client.sock.getsockname()
    for content in (test.upload, pieces):
        # What has no length goes in chunks.
        client.request("PUT", "/" + test.put_name, body=content)
        response = client.getresponse()
        response.read()
        test.assertIn(response.status, (200, 201, 204))
        for name in test.names:
            client.request("GET", "/" + name)
            response = client.getresponse()
            test.assertEqual(response.status, 200)
            test.assertTrue(response.read() == test.content)
    test.assertEqual(client.sock.getsockname(), local, "one connection served all")


def python_requests(test):
    with requests.Session() as session:
        session.trust_env = False
        for _ in range(TURNS):
            with open(test.upload_path, "rb") as file:
                answer = session.put(f"{test.url}/{test.put_name}", data=file, timeout=DEADLINE)
            answer.raise_for_status()
            for name in test.names:
                answer = session.get(f"{test.url}/{name}", timeout=DEADLINE)
                answer.raise_for_status()
                test.assertTrue(answer.content == test.content)


def run_node(test, way):
    """Node compares with one file: what it puts and what it gets must be the same."""
    test.upload = test.content
    with open(test.upload_path, "wb") as file:
        file.write(test.content)
    program = os.path.join(CLIENTS, "node_client.js")
    said = test.run_tool(tool("node"), program, way, test.url, test.upload_path, test.put_name, *test.names)
    test.assertIn(f'"right":{TURNS * (1 + len(test.names))}', said)
    return said


def node_fetch(test):
    run_node(test, "fetch")


def node_agent(test):
    test.assertIn('"connections":1}', run_node(test, "agent"))


def ab_with(test, *options):
    said = test.run_ab(*options, f"{test.url}/big")
    test.assertRegex(said, rf"HTML transferred: +{LOAD_REQUESTS * len(test.content)} bytes\n")
    kept = re.search(r"Keep-Alive requests: +(\d+)", said)
    test.assertEqual(int(kept.group(1)) if kept else 0, LOAD_REQUESTS if "-k" in options else 0)
    test.run_ab(*options, "-u", test.upload_path, "-T", "application/octet-stream", f"{test.url}/{test.put_name}")


def ab_close(test):
    ab_with(test)


def ab_keep_alive(test):
    ab_with(test, "-k")


def h2load_http_1(test):
    said = test.run_h2load(f"{test.url}/big")
    test.assertIn(f"({LOAD_REQUESTS * len(test.content)}) data", said)
    test.run_h2load("-H", ":method: PUT", "-d", test.upload_path, f"{test.url}/{test.put_name}")


def wrk_comparing(test):
    test.upload = test.content
    with open(test.upload_path, "wb") as file:
        file.write(test.content)
    script = os.path.join(CLIENTS, "compare.lua")
    amount = ["-t", "1", "-c", str(LOAD_CLIENTS), "-d", f"{DEADLINE:.0f}s", "--timeout", f"{DEADLINE:.0f}s"]
    command = [tool("wrk"), *amount, "-s", script, test.url, "--", test.upload_path, test.put_name, str(LOAD_REQUESTS)]
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=bare_environment(),
        text=True,
    ) as run:
        said = ""
        for line in run.stdout:
            said += line
            if line == "enough\n":
                run.send_signal(signal.SIGINT)
    found = re.search(r"right (\d+) wrong (\d+)\n", said)
    test.assertTrue(found, said)
    test.assertGreaterEqual(int(found.group(1)), LOAD_REQUESTS, said)
    test.assertEqual(int(found.group(2)), 0, said)
    test.assertNotIn("Socket errors", said)


def add_tests():
    clients = [
        *(curl_plain, curl_chunked, curl_http_10, curl_head, curl_expect, curl_parallel),
        *(python_http_client, python_requests, node_fetch, node_agent),
        *(ab_close, ab_keep_alive, h2load_http_1, wrk_comparing),
    ]
    for client in clients:
        for name in KINDS:

            def moves(self, client=client, name=name):
                self.move(client, name)

            setattr(Pairs, f"test_{client.__name__}_and_{name}_move_a_mebibyte_both_ways", moves)


add_tests()
