"""Replacing a running balancer: wrk and kept-alive clients see none of it, and one process is left."""

import os
import re
import shutil
import signal
import subprocess
import threading
import time

from harness import Case, bare_environment, binary, eventually, spare_port
from load import CLIENTS, Kept, under_load
from wire import HOST, Client

UPGRADES = 20


class Replace(Case):
    def setUp(self):
        folder = str(self.directory())
        self.binary = os.path.join(folder, "bestguess")
        shutil.copy(binary(), self.binary)
        self.log = os.path.join(folder, "log")

    def started(self):
        """A balancer run from a copy of the binary; its process and its port."""
        origin = self.origin(None)
        with open(self.log, "wb") as log:
            process = subprocess.Popen(
                [self.binary, f"{HOST}:0", origin.address],
                stdin=subprocess.DEVNULL,
                stderr=log,
                env=bare_environment(),
            )
        self.addCleanup(self.end_all)
        found = eventually(lambda: re.search(r"listening on \S+:(\d+)", self.said()), "it listens")
        eventually(lambda: "is valid" in self.said(), "the server is valid")
        return process, int(found.group(1))

    def said(self):
        with open(self.log, encoding="utf-8") as log:
            return log.read()

    def running(self):
        """The processes that run our copy and have not ended."""
        found = []
        for name in os.listdir("/proc"):
            try:
                with open(f"/proc/{name}/cmdline", "rb") as words, open(f"/proc/{name}/stat", encoding="ascii") as stat:
                    is_ours = words.read().split(b"\0")[0] == self.binary.encode()
                    if is_ours and stat.read().rsplit(")", 1)[1].split()[0] != "Z":
                        found.append(int(name))
            except (OSError, ValueError, IndexError):
                continue
        return found

    def end_all(self):
        for pid in self.running():
            os.kill(pid, signal.SIGKILL)

    def upgrade(self, pid):
        """Asks by the command; the exit code and what it says."""
        asked = subprocess.run(
            [binary(), "upgrade", "--pid", str(pid)],
            capture_output=True,
            text=True,
            timeout=60,
            env=bare_environment(),
            check=False,
        )
        return asked.returncode, asked.stdout + asked.stderr

    def test_twenty_upgrades_in_a_row_cost_no_request(self):
        first, port = self.started()
        pids = [first.pid]

        def work():
            for _ in range(UPGRADES):
                code, said = self.upgrade(pids[-1])
                self.assertEqual(code, 0, said)
                pids.append(int(re.search(r"process (\d+) has taken over", said).group(1)))

        count, kept = under_load(self, port, work)
        self.assertEqual(first.wait(30), 0)
        eventually(lambda: self.running() == pids[-1:], "one process is left", 30)
        self.assertEqual(len(set(pids)), UPGRADES + 1)
        asked = sum(client.count for client in kept)
        made = sum(client.connections for client in kept)
        print(f"{UPGRADES} upgrades: wrk {count} requests, {CLIENTS} clients {asked} on {made} connections, no failure")
        os.kill(pids[-1], signal.SIGTERM)
        eventually(lambda: not self.running(), "it ends", 30)

    def test_a_broken_binary_costs_no_request_and_an_error_is_logged(self):
        first, port = self.started()
        os.rename(self.binary, self.binary + ".good")
        with open(self.binary, "w", encoding="ascii") as script:
            script.write("#!/bin/sh\necho no such library >&2\nexit 127\n")
        os.chmod(self.binary, 0o755)

        def work():
            for _ in range(5):
                code, said = self.upgrade(first.pid)
                self.assertEqual(code, 1, said)
                time.sleep(0.05)

        under_load(self, port, work)
        self.assertIsNone(first.poll())
        error = re.findall(r"ERROR .*upgrade failed: .*exit status: 127.*no such library.*", self.said())
        self.assertEqual(len(error), 5, self.said())
        first.terminate()
        self.assertEqual(first.wait(30), 0)


class ReusePort(Case):
    def test_two_processes_share_a_port_and_one_drains_without_loss(self):
        origin = self.origin(None)
        folder = str(self.directory())
        port = spare_port()
        logs = [os.path.join(folder, name) for name in ("one", "two")]
        processes = [
            self.program(f"{HOST}:{port}", origin.address, "--reuse-port", "--access-log", log) for log in logs
        ]
        for process in processes:
            process.port_from(process.err)
            eventually(lambda process=process: process.err.match("is valid"), "the server is valid")

        def lines(log):
            with open(log, "rb") as file:
                return len(file.readlines())

        faults, asked, is_over = [], [0], threading.Event()

        def ask():
            place = Kept.__new__(Kept)
            place.port, place.address = port, f"{HOST}:{port}"
            while not is_over.is_set():
                try:
                    with Client(place) as client:
                        if client.get("/healthcheck").status != 200:
                            raise AssertionError("not served")
                    asked[0] += 1
                except Exception as fault:  # whatever it is, it is what the test is about
                    faults.append(fault)

        threads = [threading.Thread(target=ask, daemon=True) for _ in range(8)]
        for thread in threads:
            thread.start()
        eventually(lambda: all(lines(log) > 20 for log in logs), "both get traffic")
        processes[0].signal(signal.SIGTERM)
        self.assertEqual(processes[0].wait(30), 0)
        before = asked[0]
        eventually(lambda: asked[0] > before + 200, "the other one goes on")
        is_over.set()
        for thread in threads:
            thread.join(30)
        self.assertEqual(faults, [])
        processes[1].signal(signal.SIGTERM)
        self.assertEqual(processes[1].wait(30), 0)
