"""Load that tells of the first request that fails: wrk, and clients that keep their connections."""

import os
import re
import signal
import subprocess
import threading

from harness import bare_environment, eventually
from wire import HOST, Client

CLIENTS = 50

# wrk itself says nothing of errors that are none.
SCRIPT = """
done = function(summary)
  local errors = summary.errors
  io.write(string.format("connect %d, read %d, write %d, status %d, timeout %d, requests %d\\n",
    errors.connect, errors.read, errors.write, errors.status, errors.timeout, summary.requests))
end
"""


class Kept:
    """A client that asks on one connection for as long as it may, or only once, and then on a new one."""

    def __init__(self, port, pause, once=False):
        self.port, self.address, self.pause, self.once = port, f"{HOST}:{port}", pause, once
        self.count, self.connections, self.fault = 0, 0, None
        self.servers = set()
        self.is_over = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        try:
            while not self.is_over.is_set():
                self.connections += 1
                with Client(self) as client:
                    while not self.is_over.wait(self.pause):
                        response = client.get("/healthcheck")
                        if response.status != 200:
                            raise AssertionError(f"status {response.status}")
                        self.servers.add(response.one("Server"))
                        self.count += 1
                        if self.once or (response.one("Connection") or "").lower() == "close":
                            break
        except Exception as fault:  # whatever it is, it is what the test is about
            self.fault = fault

    def finish(self):
        self.is_over.set()
        self.thread.join(30)
        return self.fault


def under_load(case, port, work):
    """Does `work` under wrk, kept-alive clients, and some that connect anew for each request and would
    see it refused: none of them may see anything of it. The requests of wrk, and the kept-alive clients."""
    kept = [Kept(port, pause) for pause in [0, 0.001, 0.01, 0.1, 0.5] * (CLIENTS // 5)]
    fresh = [Kept(port, 0.01, once=True) for _ in range(2)]
    script = os.path.join(case.directory(), "errors.lua")
    with open(script, "w", encoding="ascii") as file:
        file.write(SCRIPT)
    command = ["wrk", "-t1", "-c16", "-d240s", "--timeout", "30s", "-s", script, f"http://{HOST}:{port}/healthcheck"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=bare_environment()) as wrk:
        eventually(lambda: all(client.count for client in kept + fresh), "every client was served")
        before = sum(client.connections for client in fresh)
        work()
        case.assertGreater(sum(client.connections for client in fresh), before)
        wrk.send_signal(signal.SIGINT)
        told = wrk.stdout.read()
    faults = [client.finish() for client in kept + fresh]
    case.assertEqual([fault for fault in faults if fault], [])
    found = re.search(r"^(connect .*), requests (\d+)$", told, re.MULTILINE)
    case.assertTrue(found, told)
    case.assertEqual(found.group(1), "connect 0, read 0, write 0, status 0, timeout 0")
    case.assertGreater(int(found.group(2)), 0)
    return int(found.group(2)), kept
