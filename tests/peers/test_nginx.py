"""nginx as a server: kept links, its own limits, and both ways to check it."""

import contextlib
import os
import random
import shutil
import subprocess
import time

from harness import Case, await_rounds, bare_environment, curl, eventually, spare_port
from wire import HOST, Client, reply

MIB = 1024 * 1024
ATTEMPTS = 5
WRITTEN = 1_700_000_000  # seconds: when every file was written

CONFIG = """
worker_processes 1;
error_log {root}/error.log notice;
pid {root}/nginx.pid;
events {{ worker_connections 512; }}
http {{
    access_log off;
    client_body_temp_path {root}/body;
    proxy_temp_path {root}/proxy;
    fastcgi_temp_path {root}/fastcgi;
    uwsgi_temp_path {root}/uwsgi;
    scgi_temp_path {root}/scgi;
    client_max_body_size 64m;
    server {{
        listen {host}:{port};
        root {root}/files;
        {options}
        location /put/ {{ {put} }}
        location /ok {{ return 200 "ok\\n"; }}
    }}
}}
"""


class Nginx:
    """nginx in the foreground, in one process, with nothing outside its own directory."""

    def __init__(self, case, options=""):
        tool = shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
        if not tool:
            raise AssertionError("nginx is missing: run.sh installs it")
        self.root = case.directory()
        os.chmod(self.root, 0o755)
        os.makedirs(os.path.join(self.root, "files", "put"))
        features = subprocess.run([tool, "-V"], capture_output=True, check=True).stderr
        self.takes_put = b"http_dav_module" in features
        for _ in range(ATTEMPTS):
            self.port = spare_port()
            self.address = f"{HOST}:{self.port}"
            if self._starts(case, tool, options):
                return
        with open(os.path.join(self.root, "error.log"), encoding="utf-8") as log:
            raise AssertionError(f"nginx does not start: {log.read()}")

    def _starts(self, case, tool, options):
        put = "dav_methods PUT DELETE;" if self.takes_put else ""
        text = CONFIG.format(root=self.root, host=HOST, port=self.port, options=options, put=put)
        path = os.path.join(self.root, "nginx.conf")
        with open(path, "w", encoding="ascii") as config:
            config.write(text)
        process = self.process = subprocess.Popen(
            [tool, "-p", self.root, "-c", path, "-g", "daemon off; master_process off;"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=bare_environment(),
        )
        case.addCleanup(process.wait)
        case.addCleanup(process.kill)
        eventually(lambda: self._answers() or process.poll() is not None, "nginx answers")
        return process.poll() is None

    def _answers(self):
        with contextlib.suppress(OSError):
            Client(self).close()
            return True
        return False

    def write(self, name, content):
        path = os.path.join(self.root, "files", name)
        with open(path, "wb") as file:
            file.write(content)
        # Each nginx makes its ETag of the time: it is to be the same for all of them.
        os.utime(path, (WRITTEN, WRITTEN))


class BehindNginx(Case):
    def setUp(self):
        self.content = random.Random(6).randbytes(MIB)

    def nginx(self, options=""):
        nginx = Nginx(self, options)
        nginx.write("index.html", b"hello")
        nginx.write("big", self.content)
        nginx.write("healthcheck", b"0\n0\n")
        return nginx

    def check_all(self, balancer):
        with self.client(balancer) as client:
            for _ in range(50):
                response = client.get("/")
                self.assertEqual((response.status, response.content), (200, b"hello"))
            for _ in range(3):
                self.assertEqual(client.get("/big").content == self.content, True)
            client.request("HEAD", "/big")
            self.assertEqual(client.response("HEAD").one("Content-Length"), str(MIB))
            self.assertEqual(client.get("/missing").status, 404)
            self.assertEqual(client.get("/big", "Range: bytes=10-19").content, self.content[10:20])
            etag = client.get("/").one("ETag")
            self.assertEqual(client.get("/", f"If-None-Match: {etag}").status, 304)
            client.request("POST", "/ok", content=b"ignored")
            self.assertEqual(client.response().content, b"ok\n")
            self.assertEqual(client.get("/").content, b"hello")

    def test_report_mode_with_a_static_file(self):
        balancer = self.balancer([self.nginx(), self.nginx()], "-X", "0.2")
        self.check_all(balancer)
        self.assertEqual([line for line in balancer.err.lines if " invalid" in line], [])

    def test_http_mode_without_any_report(self):
        nginx = self.nginx()
        os.remove(os.path.join(nginx.root, "files", "healthcheck"))
        balancer = self.balancer([nginx], "-X", "0.2", "--check", "http", "--check-path", "/")
        self.check_all(balancer)
        self.assertEqual(balancer.changes(nginx, "invalid"), [])

    def test_without_the_report_it_is_invalid_and_the_log_says_404(self):
        nginx = self.nginx()
        os.remove(os.path.join(nginx.root, "files", "healthcheck"))
        balancer = self.balancer([nginx])
        self.assertIn("404", balancer.await_change(nginx, "invalid"))

    def test_links_that_nginx_ends_every_five_requests_cost_none(self):
        nginx = self.nginx("keepalive_requests 5;")
        balancer = self.balancer([nginx], "-X", "0.2")
        for _ in range(5):
            self.check_all(balancer)

    def test_links_that_nginx_ends_by_time_cost_no_post(self):
        nginx = self.nginx("keepalive_timeout 1s;")
        balancer = self.balancer([nginx], "-X", "600")
        with self.client(balancer) as client:
            for _ in range(3):
                self.assertEqual(client.get("/").status, 200)
                time.sleep(1.5)
                client.request("POST", "/ok", content=b"once")
                self.assertEqual(client.response().status, 200)

    def test_traffic_of_several_clients(self):
        nginxes = [self.nginx(), self.nginx("keepalive_requests 10;")]
        balancer = self.balancer(nginxes, "-N", "4", "-X", "0.2")
        traffic = self.traffic(balancer, {"/": b"hello", "/ok": b"ok\n", "/big": self.content}, threads=8, count=800)
        self.assert_faultless(traffic.finish())

    def test_put_is_stored_whole(self):
        nginx = self.nginx()
        if not nginx.takes_put:
            return  # this build of nginx has no module for it; the POST above goes the same way
        balancer = self.balancer([nginx])
        source = os.path.join(nginx.root, "source")
        with open(source, "wb") as file:
            file.write(self.content)
        for index, fields in enumerate([[], ["-H", "Transfer-Encoding: chunked"], ["-H", "Expect: 100-continue"]]):
            url = f"http://{balancer.address}/put/{index}"
            run = curl("--fail", *fields, "-T", source, url)
            self.assertEqual((run.returncode, run.stderr), (0, b""))
            self.assertEqual(curl("--fail", url).stdout == self.content, True)

    def test_a_killed_nginx_costs_no_get(self):
        nginx, peer = self.nginx(), self.peer(lambda _: reply(200, b"hello"))
        balancer = self.balancer([nginx, peer], "-X", "0.2")
        await_rounds([peer])
        traffic = self.traffic(balancer, {"/": b"hello"}, threads=3)
        eventually(lambda: any("nginx" in (one.server or "") for one in traffic.sent), "nginx answers some")
        mark = balancer.mark()
        nginx.process.kill()
        balancer.await_change(nginx, "invalid", mark)
        traffic.await_more(100)
        self.assert_faultless(traffic.stop())
