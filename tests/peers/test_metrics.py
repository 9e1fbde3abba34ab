"""The metrics: a real Prometheus scrapes them, and its own tool finds nothing wrong with them."""

import contextlib
import json
import os
import subprocess
import urllib.parse
import urllib.request

from harness import HOST, Case, bare_environment, eventually, spare_port

TOKEN = "s3same"


class Metrics(Case):
    def start(self, *options):
        """A balancer before two servers, one of which nobody answers at, and its admin address."""
        self.served = self.peer()
        self.down = self.peer(listening=False)
        balancer = self.balancer([self.served, self.down], "--admin", f"{HOST}:0", *options)
        found = eventually(lambda: balancer.err.match(r"admin at (127\.0\.0\.1:\d+)"), "the log names the admin listener")
        balancer.await_change(self.served, "valid")
        balancer.await_change(self.down, "invalid")
        for _ in range(20):
            self.assertEqual(self.get(balancer, "/x").status, 200)
        return balancer, found.group(1)

    def text(self, address):
        with urllib.request.urlopen(f"http://{address}/metrics", timeout=30) as response:
            self.assertEqual(response.headers["Content-Type"], "text/plain; version=0.0.4; charset=utf-8")
            return response.read()

    def test_promtool_finds_nothing_wrong(self):
        _, address = self.start()
        run = subprocess.run(
            ["promtool", "check", "metrics"],
            input=self.text(address),
            capture_output=True,
            env=bare_environment(),
            timeout=60,
            check=False,
        )
        said = (run.stdout + run.stderr).decode()
        self.assertEqual((run.returncode, said), (0, ""))

    def test_prometheus_scrapes_them_with_the_token(self):
        balancer, address = self.start("--admin-token", TOKEN)
        folder, port = self.directory(), spare_port()
        config = os.path.join(folder, "prometheus.yml")
        with open(config, "w", encoding="ascii") as file:
            json.dump(
                {
                    "global": {"scrape_interval": "200ms", "scrape_timeout": "200ms"},
                    "scrape_configs": [
                        {
                            "job_name": "bestguess",
                            "authorization": {"credentials": TOKEN},
                            "static_configs": [{"targets": [address]}],
                        }
                    ],
                },
                file,
            )
        prometheus = subprocess.Popen(
            [
                "prometheus",
                f"--config.file={config}",
                f"--storage.tsdb.path={folder}/data",
                f"--web.listen-address={HOST}:{port}",
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=bare_environment(),
        )
        self.addCleanup(prometheus.wait)
        self.addCleanup(prometheus.kill)

        def asked(query):
            url = f"http://{HOST}:{port}/api/v1/query?{urllib.parse.urlencode({'query': query})}"
            with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=10) as response:
                found = json.load(response)["data"]["result"]
                return {result["metric"].get("server", ""): float(result["value"][1]) for result in found}
            return {}

        eventually(lambda: asked("up").get("") == 1, "Prometheus has scraped the balancer", within=60)
        served, down = self.served.address, self.down.address
        self.assertEqual(asked("bestguess_server_valid"), {served: 1, down: 0})
        self.assertEqual(asked("bestguess_server_requests_total")[served], 20)
        seen = asked("histogram_quantile(0.99, bestguess_server_response_seconds_bucket)")[served]
        self.assertTrue(0 < seen < 10, seen)
        # What happens shows with one of the next scrapes.
        self.get(balancer, "/y")
        eventually(lambda: asked("bestguess_server_requests_total")[served] == 21, "the next request is scraped")
