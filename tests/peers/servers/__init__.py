"""Servers that people use, each as a process with a directory of files.

All of them answer alike, as far as they can:

* `GET` or `HEAD` of `/NAME`: a file of the directory, with its length
* `GET /stream/NAME`: the same without a length, in chunks or until the end of the connection
  (not nginx and the built-in origin: `streams` is false)
* `PUT /NAME`: stores a file
* `GET /healthcheck`: `errors` NL `load`

and node, uvicorn and gunicorn:

* `POST /note/WORD`: takes the content and notes the word; `GET /notes` tells all, one to a line
* `GET /wait/MS`: answers after so many milliseconds
"""

import atexit
import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile

from harness import Balancer, Lines, Origin, bare_environment, eventually
from test_nginx import Nginx
from wire import DEADLINE, HOST, Client

HERE = os.path.dirname(os.path.abspath(__file__))
LISTENING = re.compile(r"(?:[Ll]istening|running) (?:on|at:?) http://127\.0\.0\.1:(\d+)")
NGINX_OPTIONS = """
        location = /healthcheck { return 200 "0\\n0\\n"; }
        location ~ ^/put- { dav_methods PUT; }
"""


def tool(name):
    """The path of a program that run.sh installs."""
    found = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if not found:
        raise AssertionError(f"{name} is missing: run.sh installs it")
    return found


class Server:
    """A server as a process of a session of its own, so that its workers end with it."""

    streams = True

    def __init__(self, directory, *command):
        self.directory = directory
        self.title = " ".join(command)
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=HERE,
            env=bare_environment({"FILES": directory, "PYTHONUNBUFFERED": "1"}),
            start_new_session=True,
        )
        atexit.register(self.stop)
        self.out = Lines(self.process.stdout)
        self.err = Lines(self.process.stderr)

    def await_start(self):
        """Waits until it listens, and learns its port."""
        found = eventually(
            lambda: self.out.match(LISTENING) or self.err.match(LISTENING) or self.process.poll() is not None,
            f"{self.title}: says where it listens",
        )
        if found is True:
            self.stop()
            raise AssertionError(f"{self.title}: exit {self.process.poll()}, said {self.err.lines} {self.out.lines}")
        self.port = int(found.group(1))
        self.address = f"{HOST}:{self.port}"

    def stop(self):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(DEADLINE)
        self.out.join(DEADLINE)
        self.err.join(DEADLINE)
        atexit.unregister(self.stop)

    def noted(self):
        """How often each word was noted."""
        with Client(self) as client:
            words = client.get("/notes").content.decode("ascii").split()
        return {word: words.count(word) for word in set(words)}


class PythonHttp(Server):
    def __init__(self, directory, version="HTTP/1.1"):
        super().__init__(directory, sys.executable, "python_http.py", directory, version)


class PythonHttp10(PythonHttp):
    def __init__(self, directory):
        super().__init__(directory, "HTTP/1.0")


class Node(Server):
    def __init__(self, directory, keep_alive_ms=None):
        options = [] if keep_alive_ms is None else [str(keep_alive_ms)]
        super().__init__(directory, tool("node"), "node_http.js", directory, *options)


class Uvicorn(Server):
    def __init__(self, directory, *options):
        module = [sys.executable, "-m", "uvicorn", "--host", HOST, "--port", "0", "--no-access-log"]
        super().__init__(directory, *module, *options, "asgi:app")


class GunicornSync(Server):
    worker = ("--worker-class", "sync")

    def __init__(self, directory, *options):
        module = [sys.executable, "-m", "gunicorn", "--bind", f"{HOST}:0", "--workers", "1"]
        super().__init__(directory, *module, "--worker-tmp-dir", directory, *self.worker, *options, "wsgi:app")


class GunicornThreads(GunicornSync):
    worker = ("--worker-class", "gthread", "--threads", "16")


class BuiltIn(Origin):
    """The built-in origin, in the form of the others."""

    streams = False

    def __init__(self, directory):
        super().__init__(directory)
        self.directory = directory

    def await_start(self):
        pass


class NginxServer(Nginx):
    """nginx, in the form of the others; `keeper` is what brings it a directory and ends it."""

    streams = False

    def __init__(self, keeper, options=""):
        super().__init__(keeper, NGINX_OPTIONS + options)
        if not self.takes_put:
            raise AssertionError("this nginx has no module for PUT: Debian's has")
        self.directory = os.path.join(self.root, "files")

    def await_start(self):
        pass

    def stop(self):
        pass


class Keeper:
    """What the tests of one class share; it goes when the class is done."""

    def __init__(self, case):
        self.addCleanup = case.addClassCleanup

    def directory(self):
        path = tempfile.mkdtemp(prefix="bestguess-peers-")
        self.addCleanup(shutil.rmtree, path, ignore_errors=True)
        return path


KINDS = {
    "nginx": NginxServer,
    "python_http_10": lambda keeper: PythonHttp10(keeper.directory()),
    "python_http_11": lambda keeper: PythonHttp(keeper.directory()),
    "node": lambda keeper: Node(keeper.directory()),
    "uvicorn": lambda keeper: Uvicorn(keeper.directory()),
    "gunicorn_sync": lambda keeper: GunicornSync(keeper.directory()),
    "gunicorn_gthread": lambda keeper: GunicornThreads(keeper.directory()),
    "built_in_origin": lambda keeper: BuiltIn(keeper.directory()),
}


def start_shared(case, kinds):
    """Starts a server of each of `kinds` (name → function of a `Keeper`) for the class `case`."""
    keeper = Keeper(case)
    started = {}
    for name, kind in kinds.items():
        started[name] = kind(keeper)
        case.addClassCleanup(started[name].stop)
    for server in started.values():
        server.await_start()
    return started


def balancer_before(case, server, *options):
    """A balancer before `server` for the class `case`."""
    balancer = Balancer([server], *options)
    case.addClassCleanup(balancer.close)
    return balancer
