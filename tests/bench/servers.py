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
    generator tells how late it was itself; where that is much, so are all figures of that run.

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
import socket
import statistics
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
LOAD = os.path.join(HERE, "servers_load.py")

WORKERS = 4
DELAY_MS = 8
SLOW_FACTOR = 3
FAIL_PERCENT = 30
CYCLE = 3.0  # seconds: how often a server is paused or killed
AWAY = 0.3  # seconds that this lasts
PAUSE_AT = 0.6  # seconds from the beginning of each cycle
KILL_AT = 1.8
CLIENT_TIMEOUT = 2.0  # seconds
WARM_UP = 0.4  # seconds: load that is not counted
LEAD = 0.05  # seconds between the order to begin and the beginning
READY_TIMEOUT = 10.0  # seconds until a program must answer
STARTS_MAX = 5  # tries to start a program

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
    "slow": 1.0 / SLOW_FACTOR,
    "failing": 0.0,
    "paused": 1.0 - AWAY / CYCLE,
    "restarted": 1.0 - AWAY / CYCLE,
}
PEERS = ["haproxy", "nginx"]


def fail(text):
    sys.exit(f"servers.py: {text}")


def say(text):
    print(text, file=sys.stderr, flush=True)


# ------------------------------------------------------------------------------------- processes


class Interruption:
    """Ends the program at a signal, but never between the start of a process and the note of it."""

    def __init__(self):
        self.held = 0
        self.pending = 0

    def __call__(self, number, _frame):
        self.pending = number
        self.obey()

    def __enter__(self):
        self.held += 1

    def __exit__(self, *_):
        self.held -= 1
        self.obey()

    def obey(self):
        if self.pending and not self.held:
            number, self.pending = self.pending, 0
            sys.exit(128 + number)

    def listen(self):
        for one in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(one, self)


interruption = Interruption()


class Process:
    """A program in a process group of its own, which ends with it."""

    started = []

    def __init__(self, command, log, **streams):
        with open(log, "ab") as out, interruption:
            options = {"stdin": subprocess.DEVNULL, "stdout": out, "stderr": out, **streams}
            self.child = subprocess.Popen(command, start_new_session=True, **options)
            Process.started.append(self)

    def signal(self, number):
        """Signals the process; a child that was not waited for keeps its id, so this hits no other."""
        if self.child.poll() is None:
            self.child.send_signal(number)

    def end(self):
        """Ends the process and all that it started."""
        with interruption:
            if self in Process.started:
                Process.started.remove(self)
                # While any of them lives the group keeps its number, and no other gets it.
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(self.child.pid, signal.SIGKILL)
                self.child.wait()

    @classmethod
    def end_all(cls):
        while cls.started:
            cls.started[-1].end()


class Port:
    """A port that the kernel gave, kept from others while whoever uses it is down.

    A socket that is bound but does not listen refuses connections, lets another one listen there,
    and keeps the kernel from giving the port to an outgoing connection.
    """

    def __init__(self):
        self.socket = socket.socket()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(("127.0.0.1", 0))
        self.number = self.socket.getsockname()[1]


def get(port):
    """The status that a GET gets, 0 if none."""
    request = b"GET /hello HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=2) as connection:
            connection.sendall(request)
            head = connection.recv(4096)
    except OSError:
        return 0
    return int(head[9:12]) if head.startswith(b"HTTP/1.1 ") else 0


def await_answer(process, port, expected):
    """Whether the process gives one of the expected answers before it ends or its time is over."""
    end = time.monotonic() + READY_TIMEOUT
    while time.monotonic() < end and process.child.poll() is None:
        if get(port) in expected:
            return True
        time.sleep(0.01)
    return False


class Server:
    """One of the four servers, with what it suffers."""

    def __init__(self, binary, place, trouble, port, directory):
        name = f"s{place + 1}"
        delay = DELAY_MS * (SLOW_FACTOR if trouble == "slow" else 1)
        self.trouble = trouble
        self.port = port
        self.log = os.path.join(directory, f"{name}.log")
        self.command = [binary, "origin", f"127.0.0.1:{port}", "--name", name, "-q"]
        self.command += ["--workers", str(WORKERS), "--delay", f"{delay}ms", "--seed", str(place)]
        if trouble == "failing":
            self.command += ["--fail", f"{FAIL_PERCENT}%"]
        self.start()

    def start(self):
        self.process = Process(self.command, self.log)

    def events(self, seconds):
        """What happens to it: pairs of a time in seconds and what to call then."""
        at = 0.0
        while at < seconds:
            if self.trouble == "paused":
                yield at + PAUSE_AT, lambda: self.process.signal(signal.SIGSTOP)
                yield at + PAUSE_AT + AWAY, lambda: self.process.signal(signal.SIGCONT)
            elif self.trouble == "restarted":
                yield at + KILL_AT, lambda: self.process.end()
                yield at + KILL_AT + AWAY, self.start
            at += CYCLE


# -------------------------------------------------------------------------------------- programs


def write(path, text):
    with open(path, "w", encoding="ascii") as file:
        file.write(text)


def nginx(directory, port, servers):
    """One worker; what failed is tried at the next server, a 500 too; three failures in two seconds
    take a server out for two."""
    listed = "".join(f"        server 127.0.0.1:{one} max_fails=3 fail_timeout=2s;\n" for one in servers)
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    temporary = "".join(f"    {kind}_temp_path {directory}/{kind};\n" for kind in kinds)
    write(
        os.path.join(directory, "nginx.conf"),
        f"""
daemon off;
worker_processes 1;
worker_rlimit_nofile 8192;
pid {directory}/nginx.pid;
error_log {directory}/error.log crit;
events {{ worker_connections 4096; }}
http {{
    access_log off;
{temporary}    keepalive_requests 1000000000;
    upstream servers {{
        least_conn;
{listed}        keepalive 1024;
        keepalive_requests 1000000000;
    }}
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location / {{
            proxy_pass http://servers;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_connect_timeout 1s;
            proxy_next_upstream error timeout http_500;
        }}
    }}
}}
""",
    )
    command = ["nginx", "-p", directory, "-c", os.path.join(directory, "nginx.conf")]
    # Without it nginx opens the system's log before it reads where ours is.
    text = subprocess.run(["nginx", "-h"], capture_output=True, text=True, check=False).stderr
    return command + (["-e", os.path.join(directory, "start.log")] if "-e filename" in text else [])


def haproxy(directory, port, servers):
    """One thread; what failed before an answer is tried again, elsewhere; a check each second, and
    faster ones of who is in doubt; three errors in a row take a server out until two good checks."""
    listed = "".join(f"    server s{one} 127.0.0.1:{one}\n" for one in servers)
    path = os.path.join(directory, "haproxy.cfg")
    write(
        path,
        f"""
global
    nbthread 1
    maxconn 4000
defaults
    mode http
    timeout connect 1s
    timeout client 75s
    timeout server 60s
    timeout http-request 30s
    http-reuse always
    balance leastconn
    option httpchk GET /healthcheck
    option redispatch 1
    retries 3
    retry-on conn-failure empty-response response-timeout
    default-server check inter 1s fastinter 200ms downinter 500ms rise 2 fall 2
    default-server observe layer7 error-limit 3 on-error mark-down
listen balancer
    bind 127.0.0.1:{port}
{listed}""",
    )
    return ["haproxy", "-db", "-f", path]


def start_program(options, name, port, servers, directory):
    """The process of the program under test, which answers already."""
    if name == "nginx":
        command = nginx(directory, port, servers)
    elif name == "haproxy":
        command = haproxy(directory, port, servers)
    else:
        extra = name.split()[1:]
        command = [options.bin, f"127.0.0.1:{port}", *(f"127.0.0.1:{one}" for one in servers), "-q", *extra]
    log = os.path.join(directory, "log")
    process = Process(command, log)
    if await_answer(process, port, (200, 500)):
        return process
    process.end()
    with open(log, encoding="utf-8", errors="replace") as file:
        say(f"the last lines of {name}:\n" + "".join(file.readlines()[-10:]))
    return fail(f"{name} did not pass on what its servers answer")


# --------------------------------------------------------------------------------------- measure


def capacity(row):
    """Requests per second that the servers of a row can answer."""
    return sum(LEFT[trouble] for trouble in ROWS[row]) * WORKERS * 1000 / DELAY_MS


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
                if not await_answer(server.process, server.port, (200, 500)):
                    fail(f"a built-in server did not answer on 127.0.0.1:{server.port}")
            program = start_program(options, name, numbers[4], numbers[:4], directory)
            begin = time.monotonic() + LEAD
            load.child.stdin.write(f"{int(begin * 1e9)}\n")
            load.child.stdin.flush()
            disturb(servers, begin + WARM_UP, options.seconds)
            text, _ = load.child.communicate(timeout=options.seconds + CLIENT_TIMEOUT + READY_TIMEOUT)
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
nginx repeats a GET elsewhere on a 500; the others pass a 500 on, and repeat a GET only on a broken connection.
"Answers by server": of those with 200; disturbed servers come first, in "all" slow, failing, paused, restarted.
The load generator itself was late by {late[0]:.1f} ms (99th percentile of the worst run), {late[1]:.1f} ms at most."""
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
    add("--also", action="append", default=[], metavar="ARGS", help="bestguess once more, with these options")
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
                            account = measure(options, row, percent, name, round_number)
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
