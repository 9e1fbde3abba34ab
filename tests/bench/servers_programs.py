"""What servers.py starts: the disturbed servers, and the programs before them, as processes."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time

WORKERS = 4
DELAY_MS = 8
SLOW_FACTOR = 3
FAIL_PERCENT = 30
CYCLE = 3.0  # seconds: how often a server is paused or killed
AWAY = 0.3  # seconds that this lasts
PAUSE_AT = 0.6  # seconds from the beginning of each cycle
KILL_AT = 1.8
READY_TIMEOUT = 10.0  # seconds until a program must answer


def fail(text):
    sys.exit(f"servers.py: {text}")


def say(text):
    print(text, file=sys.stderr, flush=True)


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


def start(binary, name, port, servers, directory):
    """The process of the program under test, which answers already."""
    if name == "nginx":
        command = nginx(directory, port, servers)
    elif name == "haproxy":
        command = haproxy(directory, port, servers)
    else:
        extra = name.split()[1:]
        command = [binary, f"127.0.0.1:{port}", *(f"127.0.0.1:{one}" for one in servers)]
        # As nginx is told: a GET that is answered with 500 is asked for elsewhere.
        command += ["-q", "--retry-status", "500", *extra]
    log = os.path.join(directory, "log")
    process = Process(command, log)
    if await_answer(process, port, (200, 500)):
        return process
    process.end()
    with open(log, encoding="utf-8", errors="replace") as file:
        say(f"the last lines of {name}:\n" + "".join(file.readlines()[-10:]))
    return fail(f"{name} did not pass on what its servers answer")
