#!/usr/bin/env python3
"""How many instructions does a request cost? A guard over the hot path that no busy machine disturbs.

Runs bestguess under valgrind's callgrind before two built-in servers, sends a fixed number of requests
one after the other, and counts what the program executed in user space. Each workload is run twice,
the second time with more requests: the difference, divided by the requests that it has more, is the
price of one of them, without start and end. Health checks are rare, so that they cost nothing.
Requests come one at a time, so that each has its turns of the loop for itself: under load several
share a turn, and cost less.

    keep      GET, 256 bytes, over kept-alive connections
    browser   the same with the fields that a browser sends
    post      POST with 1 KiB of content
    chunked   GET, 1 KiB in chunks
    pipeline  16 requests sent at once, again and again
    connect   a connection for each request

The figures are compared with those of instructions.txt beside this file. More than the tolerance
above one of them is a failure: make the path cheap again, or, if the price is meant, write the new
figures with --update and commit them with the change that they belong to. Figures belong to a
processor family, a compiler and a C library, which is why that file names them.
"""

import argparse
import os
import platform
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
FIGURES = os.path.join(HERE, "instructions.txt")

TOLERANCE = 0.03
# How the kernel groups the events of a connection that comes and goes differs from run to run.
TOLERANCES = {"connect": 0.06}
SERVERS = 2
CONNECTIONS = 8  # kept-alive ones, used in turn
WARM_UP = 256  # requests of each run before those that are counted, so that pools are filled
SHORT, LONG = 256, 1792  # requests of the two runs
PIPELINED = 16
ATTEMPTS = 3
START_TIMEOUT = 60.0  # seconds; under valgrind a start takes one or two
ANSWER_TIMEOUT = 30.0
END_TIMEOUT = 60.0

HOST = "Host: bench.example\r\n"
BROWSER = (
    HOST
    + "User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r\n"
    + "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8\r\n"
    + "Accept-Language: en-GB,en;q=0.7,de;q=0.3\r\n"
    + "Accept-Encoding: gzip, deflate, br, zstd\r\n"
    + "Referer: http://bench.example/catalogue/tables?page=3\r\n"
    + "Cookie: session=8f14e45fceea167a5a36dedd4bea2543; theme=dark; consent=necessary\r\n"
    + "Sec-Fetch-Dest: document\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Site: same-origin\r\n"
    + "Upgrade-Insecure-Requests: 1\r\nPriority: u=0, i\r\n"
)
CONTENT = b"0123456789abcdef" * 64


def request(line, fields=HOST, content=b""):
    return f"{line} HTTP/1.1\r\n{fields}\r\n".encode() + content


POST_FIELDS = HOST + f"Content-Type: application/octet-stream\r\nContent-Length: {len(CONTENT)}\r\n"

# Name: the bytes to send at once, the answers to wait for behind them, whether the connection stays.
WORKLOADS = {
    "keep": (request("GET /bytes/256"), 1, True),
    "browser": (request("GET /bytes/256", BROWSER), 1, True),
    "post": (request("POST /form", POST_FIELDS, CONTENT), 1, True),
    "chunked": (request("GET /chunked/1024"), 1, True),
    "pipeline": (request("GET /bytes/256") * PIPELINED, PIPELINED, True),
    "connect": (request("GET /bytes/256", HOST + "Connection: close\r\n"), 1, False),
}


class Wrong(Exception):
    """What went wrong, in words for whoever runs this."""


# ------------------------------------------------------------------------------------- processes


class Program:
    """A process that says where it listens, and is ended by TERM."""

    def __init__(self, name, command):
        self.name = name
        self.lines = []
        self.address = None
        self.heard = threading.Event()
        self.child = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def read(self):
        for line in self.child.stdout:
            self.lines.append(line)
            found = re.search(r"(?:listening on|http://)\s*127\.0\.0\.1:(\d+)", line)
            if found and self.address is None:
                self.address = ("127.0.0.1", int(found.group(1)))
                self.heard.set()
        self.heard.set()

    def listening(self):
        self.heard.wait(START_TIMEOUT)
        if self.address is None:
            raise Wrong(f"{self.name} did not say where it listens:\n{''.join(self.lines[-20:])}")
        return self.address

    def end(self):
        """Ends it and waits; its exit code."""
        if self.child.poll() is None:
            self.child.send_signal(signal.SIGTERM)
        try:
            return self.child.wait(END_TIMEOUT)
        except subprocess.TimeoutExpired:
            self.child.kill()
            return self.child.wait()
        finally:
            self.reader.join()
            self.child.stdout.close()


# ------------------------------------------------------------------------------------------ load


class Client:
    """One connection that reads exactly the answers that it waits for."""

    def __init__(self, address):
        self.socket = socket.create_connection(address, ANSWER_TIMEOUT)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.rest = b""

    def ask(self, sent, answers):
        self.socket.sendall(sent)
        for _ in range(answers):
            self.answer()

    def answer(self):
        head = self.until(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200 "):
            raise Wrong(f"an answer was not 200: {head[:200]!r}")
        length = re.search(rb"\r\ncontent-length: *(\d+)", head, re.IGNORECASE)
        if length:
            self.exactly(int(length.group(1)))
            return
        while True:
            size = int(self.until(b"\r\n").split(b";")[0], 16)
            self.exactly(size)
            self.until(b"\r\n")
            if size == 0:
                return

    def until(self, end):
        while end not in self.rest:
            self.more()
        found, _, self.rest = self.rest.partition(end)
        return found

    def exactly(self, count):
        while len(self.rest) < count:
            self.more()
        self.rest = self.rest[count:]

    def more(self):
        got = self.socket.recv(1 << 16)
        if not got:
            raise Wrong("the connection ended before its answer did")
        self.rest += got

    def close(self):
        self.socket.close()


def load(address, workload, count):
    """Sends `count` requests, one after the other."""
    sent, answers, is_kept = WORKLOADS[workload]
    clients = [Client(address) for _ in range(CONNECTIONS)] if is_kept else []
    for number in range(count // answers):
        client = clients[number % CONNECTIONS] if is_kept else Client(address)
        client.ask(sent, answers)
        if not is_kept:
            # Its end has come when this returns, so that the next connection finds it at rest.
            if client.socket.recv(1):
                raise Wrong("there was more behind the answer")
            client.close()
    for client in clients:
        client.close()


# --------------------------------------------------------------------------------------- measure


def instructions(binary, servers, workload, count, work):
    """What one whole run with `count` requests executes."""
    out = os.path.join(work, f"{workload}.{count}")
    command = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={out}", binary, "127.0.0.1:0"]
    command += [f"127.0.0.1:{port}" for port in servers]
    command += ["--check", "tcp", "-X", "3600", "-R", "1000000000"]
    program = Program("bestguess under valgrind", command)
    try:
        load(program.listening(), workload, WARM_UP + count)
    finally:
        code = program.end()
    if code != 0:
        raise Wrong(f"bestguess ended with {code}:\n{''.join(program.lines[-20:])}")
    with open(out, encoding="ascii", errors="replace") as file:
        found = re.search(r"^(?:totals|summary): (\d+)", file.read(), re.MULTILINE)
    if not found:
        raise Wrong(f"callgrind wrote no total into {out}")
    return int(found.group(1))


def measure(binary, servers, workload, work):
    """User instructions for one request."""
    short = instructions(binary, servers, workload, SHORT, work)
    long = instructions(binary, servers, workload, LONG, work)
    return (long - short) / (LONG - SHORT)


def least(binary, servers, workload, work, known):
    """The same, but what is too dear is measured again: a busy machine makes the loop look at its clock
    and at its memory more often for each request, and the least is what a request costs by itself."""
    allowed = (known or 0) * (1 + TOLERANCES.get(workload, TOLERANCE))
    measured = measure(binary, servers, workload, work)
    for _ in range(ATTEMPTS - 1):
        if measured <= allowed:
            break
        measured = min(measured, measure(binary, servers, workload, work))
    return measured


def read_figures():
    figures = {}
    with open(FIGURES, encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            words = line.split("#")[0].split()
            if not words:
                continue
            if len(words) != 2 or words[0] not in WORKLOADS or not words[1].isdigit():
                raise Wrong(f"{FIGURES}:{number}: expected a workload and its instructions, found {line.strip()!r}")
            figures[words[0]] = int(words[1])
    return figures


def conditions():
    compiler = subprocess.run(["rustc", "--version"], capture_output=True, text=True, check=False).stdout.split()[:2]
    return f"{platform.machine()}, {' '.join(compiler) or 'an unknown rustc'}, {' '.join(platform.libc_ver())}"


def write_figures(figures):
    with open(FIGURES, "w", encoding="utf-8") as file:
        file.write("# User instructions for one request, by tests/bench/instructions.py --update\n")
        file.write(f"# on {conditions()}.\n")
        for name, count in figures.items():
            file.write(f"{name:8} {count:6}\n")


def compare(name, measured, figures):
    """A row of the table, and whether it is within the tolerance."""
    known = figures.get(name)
    if known is None:
        return f"{name:8} {measured:8.0f}        -        -  no figure is committed: use --update", False
    change = measured / known - 1
    verdict, is_well = "", True
    tolerance = TOLERANCES.get(name, TOLERANCE)
    if change > tolerance:
        verdict, is_well = "  TOO DEAR", False
    elif change < -tolerance:
        verdict = "  cheaper: --update keeps it so"
    return f"{name:8} {measured:8.0f} {known:8} {change:+8.1%}{verdict}", is_well


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", help="the bestguess to measure (target/release/bestguess)")
    parser.add_argument("--workloads", default=",".join(WORKLOADS), metavar="A,B,…", help="which of them (all)")
    parser.add_argument("--update", action="store_true", help="write what is measured into instructions.txt")
    options = parser.parse_args()
    names = options.workloads.split(",")
    if wrong := [name for name in names if name not in WORKLOADS]:
        parser.error(f"--workloads: expected any of {', '.join(WORKLOADS)}, found {wrong[0]!r}")
    target = os.environ.get("CARGO_TARGET_DIR") or os.path.join(ROOT, "target")
    binary = options.bin or os.path.join(target, "release", "bestguess")
    if not os.access(binary, os.X_OK):
        parser.error(f"{binary} is not there: run cargo build --release, or name a binary by --bin")
    if not shutil.which("valgrind"):
        parser.error("valgrind is missing: install it (Debian's package is called valgrind)")

    figures = read_figures() if os.path.exists(FIGURES) else {}
    servers, well = [], True
    with tempfile.TemporaryDirectory(prefix="bestguess-instructions.") as work:
        try:
            for _ in range(SERVERS):
                servers.append(Program("a built-in server", [binary, "origin", "127.0.0.1:0"]))
            ports = [server.listening()[1] for server in servers]
            print("workload  measured committed  change", flush=True)
            for name in names:
                measured = least(binary, ports, name, work, figures.get(name))
                if options.update:
                    print(f"{name:8} {measured:8.0f} {figures.get(name, 0):8}", flush=True)
                    figures[name] = round(measured)
                    continue
                line, is_well = compare(name, measured, figures)
                well = well and is_well
                print(line, flush=True)
        finally:
            for server in servers:
                server.end()
    if options.update:
        write_figures({name: figures[name] for name in WORKLOADS if name in figures})
        print(f"written to {os.path.relpath(FIGURES)}")
        return 0
    if not well:
        print(
            f"\nA request costs more instructions than {os.path.relpath(FIGURES)} allows (+{TOLERANCE:.0%}; connect +{TOLERANCES['connect']:.0%}).\n"
            "Where they go: cargo build with CARGO_PROFILE_RELEASE_STRIP=none CARGO_PROFILE_RELEASE_DEBUG=1,\n"
            "then valgrind --tool=callgrind and callgrind_annotate. If the new price is meant, commit it:\n"
            "    tests/bench/instructions.py --update\n"
            f"This machine is {conditions()}; where the file names another, that may be all."
        )
        return 1
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (Wrong, OSError) as wrong:
        print(f"instructions.py: {wrong}", file=sys.stderr)
        sys.exit(1)
