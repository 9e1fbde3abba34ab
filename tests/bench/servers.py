#!/usr/bin/env python3
"""How well is a server chosen, whatever the servers do?

Puts bestguess, HAProxy (leastconn) and nginx (least_conn), in turns, before the same four built-in
servers, disturbs these in several ways, and prints one Markdown table of what clients see.

    calm        all four alike: 4 workers, 8 ms for each request, so 500 requests/s
    slow        one needs three times as long
    failing     one answers 30 % of its requests with 500, at once
    paused      one stands still (SIGSTOP) for 300 ms every 3 s
    restarted   one is killed every 3 s and started again 300 ms later
    all         one of each

How the numbers are kept honest:
  - The load is open: requests come at random moments (a Poisson process) whether or not earlier ones
    were answered, and latency counts from those moments. See servers_load.py.
  - The load is 60 % and 90 % of the capacity that is left: of the workers that are not stopped, down
    or slow, and without the failing server, as nobody has to use it.
  - The programs take turns, each with new processes and with the same moments of requests; the order
    rotates, so that a busy minute of this machine falls on all of them.
  - Servers only sleep, and 2000 requests/s are few, so that the CPU decides nothing. The load
    generator tells how late it was itself; where that is much, a run is repeated.

Everything listens on 127.0.0.1, on ports that the kernel gave and that are kept reserved meanwhile.
Only processes that were started here are signalled. Slowness and errors never fail this script.
"""

import argparse
import contextlib
import datetime
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

sys.dont_write_bytecode = True  # the next two are files of this folder

import servers_programs as programs  # noqa: E402
from servers_programs import Port, Process, Server, fail, interruption, say  # noqa: E402

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
LOAD = os.path.join(HERE, "servers_load.py")

CLIENT_TIMEOUT = 2.0  # seconds
WARM_UP = 0.4  # seconds: load that is not counted
ATTEMPTS = 3  # for one run, while this machine is busy with other things
LATE_MS = 5.0  # the load generator may be so late (99th percentile), or the run is repeated
LEAD = 0.05  # seconds between the order to begin and the beginning

# What each server suffers in each row, first to last.
ROWS = {
    "calm": ["", "", "", ""],
    "slow": ["slow", "", "", ""],
    "failing": ["failing", "", "", ""],
    "paused": ["paused", "", "", ""],
    "restarted": ["restarted", "", "", ""],
    "all": ["slow", "failing", "paused", "restarted"],
}
# Which share of a server's capacity is left under each of them.
LEFT = {
    "": 1.0,
    "slow": 1.0 / programs.SLOW_FACTOR,
    "failing": 0.0,
    "paused": 1.0 - programs.AWAY / programs.CYCLE,
    "restarted": 1.0 - programs.AWAY / programs.CYCLE,
}
PEERS = ["haproxy", "nginx"]


# --------------------------------------------------------------------------------------- measure


def capacity(row):
    """Requests per second that the servers of a row can answer."""
    return sum(LEFT[trouble] for trouble in ROWS[row]) * programs.WORKERS * 1000 / programs.DELAY_MS


def measure(options, row, percent, name, number):
    """One run: its account (see servers_load.py)."""
    with tempfile.TemporaryDirectory(prefix="run.", dir=options.work) as directory:
        os.chmod(directory, 0o755)  # nginx's worker is another user when root starts it
        ports = [Port() for _ in range(5)]
        numbers = [port.number for port in ports]
        rate = capacity(row) * percent / 100
        # The same moments for each program.
        seed = f"{number}{list(ROWS).index(row)}{percent}"
        command = [sys.executable, LOAD, str(numbers[4]), str(rate), str(options.seconds)]
        command += [str(WARM_UP), str(CLIENT_TIMEOUT), seed]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        servers = [
            Server(options.bin, place, trouble, numbers[place], directory)
            for place, trouble in enumerate(ROWS[row])
        ]
        load = Process(command, os.path.join(directory, "load.log"), **pipes)
        try:
            for server in servers:
                if not programs.await_answer(server.process, server.port, (200, 500)):
                    fail(f"a built-in server did not answer on 127.0.0.1:{server.port}")
            program = programs.start(options.bin, name, numbers[4], numbers[:4], directory)
            begin = time.monotonic() + LEAD
            load.child.stdin.write(f"{int(begin * 1e9)}\n")
            load.child.stdin.flush()
            disturb(servers, begin + WARM_UP, options.seconds)
            text, _ = load.child.communicate(timeout=options.seconds + CLIENT_TIMEOUT + programs.READY_TIMEOUT)
            if program.child.poll() is not None:
                fail(f"{name} ended while it was measured: {row}, {percent} %")
        finally:
            Process.end_all()
            for port in ports:
                port.socket.close()
    account = json.loads(text)
    errors = sum(account["statuses"].values()) + account["resets"]
    if len(account["latencies"]) + errors != account["asked"]:
        fail(f"the load generator lost requests: {account}")
    return account


def disturb(servers, begin, seconds):
    """Lets happen what each server suffers, in time, until the load is over."""
    events = [event for server in servers for event in server.events(seconds)]
    for at, happen in sorted(events, key=lambda event: event[0]):
        if at >= seconds:
            break
        time.sleep(max(0.0, begin + at - time.monotonic()))
        happen()
    time.sleep(max(0.0, begin + seconds - time.monotonic()))
    for server in servers:
        # Nobody should wait for it now.
        server.process.signal(signal.SIGCONT)


def measure_calmly(options, row, percent, name, number):
    """As `measure`, but a run in which this machine was too busy is repeated, and the calmest of
    them counts. What tells is how late the load generator was, which is not the programs' doing."""
    runs = []
    for attempt in range(ATTEMPTS):
        runs.append(measure(options, row, percent, name, number))
        if runs[-1]["late_us"][0] <= LATE_MS * 1000:
            break
        options.repeated += attempt + 1 < ATTEMPTS
    return min(runs, key=lambda account: account["late_us"][0])


class Cell:
    """The runs of one program in one row."""

    def __init__(self):
        self.runs = []
        self.asked = self.fives = self.others = self.resets = self.timeouts = 0
        self.names = {}
        self.late = [0, 0]

    def add(self, account):
        if account["latencies"]:
            self.runs.append(sorted(account["latencies"]))
        self.asked += account["asked"]
        self.resets += account["resets"]
        self.timeouts += account["timeouts"]
        for status, count in account["statuses"].items():
            if status.startswith("5"):
                self.fives += count
            else:
                self.others += count
        for name, count in account["names"].items():
            self.names[name] = self.names.get(name, 0) + count
        self.late = [max(pair) for pair in zip(self.late, account["late_us"])]

    def percentile(self, share):
        """The median of the runs, in milliseconds; none without answers."""
        each = [run[min(len(run) - 1, int(share * len(run)))] for run in self.runs]
        return statistics.median(each) / 1000 if each else None


# ---------------------------------------------------------------------------------------- report


def shown(ms):
    return "-" if ms is None else f"{ms:.1f}" if ms < 100 else f"{ms:.0f}"


WIDTHS = [9, 5, 11, 8, 7, 7, 8, 12, 6, 6, 8, 17]


def line(cells):
    for place, cell in enumerate(cells):
        width = WIDTHS[place]
        yield cell.ljust(width) if place in (0, 2, 11) else cell.rjust(width)


def table(options, cells):
    WIDTHS[2] = max(len(name) for name in options.programs)
    titles = ["servers", "load", "program", "requests", "p50 ms", "p99 ms", "p99.9 ms"]
    titles += ["of best peer", "5xx", "resets", "timeouts", "answers by server"]
    print("| " + " | ".join(line(titles)) + " |")
    marks = ["-" * width + ("-" if place in (0, 2, 11) else ":") for place, width in enumerate(WIDTHS)]
    print("|" + "|".join("-" + mark for mark in marks) + "|")
    for row in options.rows:
        for percent in options.loads:
            peers = [cells[row, percent, name].percentile(0.99) for name in PEERS if name in options.programs]
            best = min((p99 for p99 in peers if p99), default=None)
            for name in options.programs:
                cell = cells[row, percent, name]
                p99 = cell.percentile(0.99)
                total = sum(cell.names.values()) or 1
                shares = [100 * cell.names.get(f"s{place}", 0) / total for place in range(1, 5)]
                values = [row, f"{percent} %", name, str(cell.asked)]
                values += [shown(cell.percentile(share)) for share in (0.5, 0.99, 0.999)]
                values.append(f"{p99 / best:.2f}" if p99 and best else "-")
                values += [str(cell.fives), str(cell.resets + cell.others), str(cell.timeouts)]
                values.append(" ".join(f"{share:.0f}" for share in shares) + " %")
                print("| " + " | ".join(line(values)) + " |")


def version(command, word):
    """One word of the first line that a command prints."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    words = (done.stdout + done.stderr).split("\n")[0].replace("/", " ").split()
    return words[word] if len(words) > word else "?"


def header(options):
    model = os.uname().machine
    with contextlib.suppress(OSError), open("/proc/cpuinfo", encoding="utf-8") as file:
        names = [text.partition(":")[2].strip() for text in file if text.startswith("model name")]
        model = names[0] if names else model
    versions = [f"bestguess {version([options.bin, '-V'], 1)}"]
    if "haproxy" in options.programs:
        versions.append(f"HAProxy {version(['haproxy', '-v'], 2)}")
    if "nginx" in options.programs:
        versions.append(f"nginx {version(['nginx', '-v'], 3)}")
    when = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
    print(f"Linux {os.uname().release}, {os.cpu_count()} x {model}; {', '.join(versions)}; {when}.\n")


def footer(options, cells):
    capacities = ", ".join(f"{row} {capacity(row):.0f}" for row in options.rows)
    late = [max(values) / 1000 for values in zip(*(cell.late for cell in cells.values()))]
    print(
        f"""
Medians of {options.rounds} interleaved runs of {options.seconds:g} s each; requests and errors are sums. Latency counts from the moment at
which a request was due, without errors, but with a timeout as {CLIENT_TIMEOUT:g} s. Load: of the capacity that is left
({capacities} requests/s). "Of best peer": p99 divided by the least p99 of the peers.
All three repeat a GET elsewhere on a broken connection; bestguess and nginx do so on a 500, too. HAProxy
passes a 500 on, and takes a server out that sends three in a row (observe layer7).
"Answers by server": of those with 200; disturbed servers come first, in "all" slow, failing, paused, restarted.
The load generator itself was late by {late[0]:.1f} ms (99th percentile of the worst run), {late[1]:.1f} ms at most;
{options.repeated} runs were repeated because it had been late by more than {LATE_MS:g} ms (99th percentile)."""
    )


# ------------------------------------------------------------------------------------- arguments


def names(allowed):
    def read(text):
        found = list(dict.fromkeys(text.replace(",", " ").split()))
        for name in found:
            if name not in allowed:
                raise argparse.ArgumentTypeError(f"expected any of {', '.join(allowed)}, found '{name}'")
        if not found:
            raise argparse.ArgumentTypeError(f"expected any of {', '.join(allowed)}")
        return found

    return read


def number(kind, least, most):
    def read(text):
        try:
            value = kind(text)
        except ValueError:
            value = None
        if value is None or not least <= value <= most:
            raise argparse.ArgumentTypeError(f"expected a number from {least} to {most}, found '{text}'")
        return value

    return read


def loads(text):
    return [number(int, 1, 200)(part.strip("%")) for part in text.replace(",", " ").split()]


def arguments():
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form, allow_abbrev=False)
    built = os.path.join(os.environ.get("CARGO_TARGET_DIR", os.path.join(ROOT, "target")), "release/bestguess")
    add = parser.add_argument
    add("--bin", default=os.environ.get("BESTGUESS_BIN", built), metavar="PATH", help="the bestguess to measure")
    add("--rows", type=names(list(ROWS)), default=list(ROWS), metavar="A,B", help="which of the rows (all)")
    add("--loads", type=loads, default=[60, 90], metavar="P,Q", help="percent of the capacity left (60,90)")
    add("--programs", type=names(["bestguess", *PEERS]), metavar="A,B", help="which of them (all)")
    add("--also", action="append", default=[], metavar="ARGS", help="bestguess once more, with these options: --also='-R 7'")
    add("--rounds", type=number(int, 1, 1000), default=2, metavar="N", help="runs of each (2)")
    add("--seconds", type=number(float, 1, 600), default=2.5, metavar="S", help="of each run (2.5)")
    options = parser.parse_args()
    options.programs = options.programs or ["bestguess", *PEERS]
    options.programs += [f"bestguess {extra}" for extra in options.also]
    if not (os.path.isfile(options.bin) and os.access(options.bin, os.X_OK)):
        fail(f"there is no program {options.bin}: 'cargo build --release' makes it, or name one by --bin")
    missing = [name for name in options.programs if name in PEERS and not shutil.which(name)]
    if missing:
        fail(
            f"missing: {', '.join(missing)}; install it (apt-get install {' '.join(missing)}), leave it out by"
            " --programs, or run tests/bench/wrk.sh, which installs what it needs"
        )
    return options


def main():
    os.environ["PATH"] += ":/usr/local/sbin:/usr/sbin:/sbin"
    options = arguments()
    interruption.listen()
    cells = {
        (row, percent, name): Cell()
        for row in options.rows
        for percent in options.loads
        for name in options.programs
    }
    options.repeated = 0
    runs = len(cells) * options.rounds
    say(f"about {runs * (options.seconds + WARM_UP + 0.6) / 60:.1f} min to go")
    with tempfile.TemporaryDirectory(prefix="bestguess-servers.") as options.work:
        os.chmod(options.work, 0o755)
        try:
            turn = 0
            for round_number in range(options.rounds):
                for row in options.rows:
                    for percent in options.loads:
                        for place in range(len(options.programs)):
                            name = options.programs[(place + turn) % len(options.programs)]
                            account = measure_calmly(options, row, percent, name, round_number)
                            cells[row, percent, name].add(account)
                        turn += 1
                    say(f"round {round_number + 1} of {options.rounds}: {row}")
        finally:
            # Whoever interrupts once more must not keep the rest from being ended.
            with interruption:
                Process.end_all()
    header(options)
    table(options, cells)
    footer(options, cells)


if __name__ == "__main__":
    main()
