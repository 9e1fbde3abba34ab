"""The access log under real load: JSON as a real parser reads it, rotation, and what terminals get."""

import json
import os
import pty
import re
import signal
import subprocess
import threading
from datetime import datetime, timezone

from harness import HOST, Case, bare_environment, binary, curl, eventually

REQUESTS = 20_000
CLIENTS = 16
ROTATIONS = 12
KEYS = [
    "time", "client", "client_port", "method", "target", "version", "host", "referer", "user_agent",
    "status", "bytes", "complete", "server", "tries", "reason",
    "queue_ms", "connect_ms", "response_ms", "total_ms", "request_id",
]  # fmt: skip
COMBINED = re.compile(
    r'(\S+) - - \[(\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d \+0000)\] "(GET) (\S+) (HTTP/1\.[01])" (\d{3}) (\d+) '
    r'"((?:[^"\\]|\\.)*)" "((?:[^"\\]|\\.)*)"\n'
)


class UnderLoad(Case):
    def setUp(self):
        self.path = os.path.join(self.directory(), "access.log")
        self.origins = [self.origin(name=f"o{index}") for index in range(2)]

    def load(self, balancer, target="/bytes/64"):
        """Has all requests answered by 200."""
        said = self.run_tool(
            "ab", "-q", "-k", "-n", str(REQUESTS), "-c", str(CLIENTS), f"http://{balancer.address}{target}", within=200
        )
        self.assertRegex(said, rf"Complete requests: +{REQUESTS}\n")
        self.assertRegex(said, r"Failed requests: +0\n")
        self.assertNotIn("Non-2xx responses", said)

    def end(self, balancer):
        balancer.ending_expected = True
        balancer.signal(signal.SIGTERM)
        self.assertEqual(balancer.wait(), 0)
        balancer.err.join()
        lost = [line for line in balancer.err.lines if "lines lost" in line or "could not be written" in line]
        self.assertEqual(lost, [])

    def lines(self, *paths):
        found = []
        for path in paths:
            with open(path, encoding="utf-8", newline="\n") as log:
                found += list(log)
        return found

    def test_every_line_of_json_is_one_object_with_all_keys(self):
        options = ["--access-log", self.path, "--log-format", "json", "--request-id"]
        began = datetime.now(timezone.utc).timestamp()
        balancer = self.balancer(self.origins, *options)
        self.load(balancer)
        self.end(balancer)
        ended = datetime.now(timezone.utc).timestamp()
        lines = [json.loads(line) for line in self.lines(self.path)]
        self.assertEqual(len(lines), REQUESTS)
        self.assertEqual(len({line["request_id"] for line in lines}), REQUESTS)
        names = {origin.address for origin in self.origins}
        times = []
        for line in lines:
            self.assertEqual(list(line), KEYS)
            self.assertEqual((line["client"], line["method"], line["target"]), (HOST, "GET", "/bytes/64"))
            self.assertEqual((line["status"], line["bytes"], line["complete"], line["tries"]), (200, 64, True, 1))
            self.assertIn(line["server"], names)
            parts = line["queue_ms"] + line["connect_ms"] + line["response_ms"]
            self.assertLessEqual(parts, line["total_ms"] + 0.003, line)
            times.append(datetime.strptime(line["time"], "%Y-%m-%dT%H:%M:%S.%f%z").timestamp())
        # In the order of their ends, at real times; the calendar is looked at once a second.
        self.assertEqual(times, sorted(times))
        self.assertLessEqual(began - 1, times[0])
        self.assertLessEqual(times[-1], ended + 1)

    def test_a_log_rotated_under_load_has_each_request_once(self):
        balancer = self.balancer(self.origins, "--access-log", self.path)
        running = threading.Thread(target=self.load, args=[balancer], daemon=True)
        running.start()
        moved = []
        while running.is_alive() and len(moved) < ROTATIONS:
            eventually(lambda: os.path.getsize(self.path) > 0 or not running.is_alive(), "lines are in the file")
            moved.append(f"{self.path}.{len(moved)}")
            os.rename(self.path, moved[-1])
            balancer.signal(signal.SIGUSR1)
            eventually(lambda: os.path.exists(self.path), "there is a new file")
        running.join()
        self.end(balancer)
        self.assertGreater(len(moved), 1)
        lines = self.lines(*moved, self.path)
        self.assertEqual(len(lines), REQUESTS)
        for line in lines:
            found = COMBINED.fullmatch(line)
            self.assertTrue(found, line)
            self.assertEqual(found.group(4, 6, 7), ("/bytes/64", "200", "64"))
            self.assertIn("ApacheBench", found.group(9))

    def test_an_id_is_what_curl_sees_and_sends(self):
        options = ["--request-id", "--trust-forwarded", "--access-log", self.path, "--log-format", "json"]
        balancer = self.balancer(self.origins, *options)
        for given in ("4bf92f35-77b3-4da6-a3ce-929d0e0e4736", ""):
            run = curl("-D", "-", "-o", os.devnull, "-H", f"X-Request-Id: {given}", f"http://{balancer.address}/bytes/1")
            found = re.findall(r"(?mi)^x-request-id: (\S+)\r$", run.stdout.decode())
            self.assertEqual(len(found), 1, run)
            self.assertEqual(found[0], given or found[0])
            self.assertRegex(found[0], r"\A[0-9a-f-]{32,36}\Z")
            line = eventually(lambda: [line for line in self.lines(self.path) if found[0] in line], "its line")
            self.assertEqual(json.loads(line[0])["request_id"], found[0])


class Terminal(Case):
    def test_messages_have_no_colours_on_any_terminal(self):
        for environment in ({}, {"NO_COLOR": "1"}, {"CLICOLOR_FORCE": "1", "FORCE_COLOR": "1"}):
            with self.subTest(environment):
                master, slave = pty.openpty()
                terminal = {**bare_environment(environment), "TERM": "xterm-256color", "COLORTERM": "truecolor"}
                process = subprocess.Popen(
                    [binary(), f"{HOST}:0", f"{HOST}:1", "-X", "0.1", "-v"],
                    stdin=subprocess.DEVNULL, stdout=slave, stderr=slave, env=terminal,
                )  # fmt: skip
                os.close(slave)
                said = b""
                try:
                    while b"is invalid" not in said:
                        said += os.read(master, 4096)
                finally:
                    process.terminate()
                    process.wait(30)
                    os.close(master)
                self.assertIn(b"INFO", said)
                self.assertIn(b"WARN", said)
                self.assertNotIn(b"\x1b", said)
