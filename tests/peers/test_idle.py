"""Very many idle clients: traffic goes on, and each costs next to nothing."""

import os
import resource

from harness import Case

CLIENTS = 10_000
CLIENTS_FEW = 2_000
RESERVE = 500
# Far above what is wanted: the figure is printed; this only tells a buffer per client from none.
BYTES_MAX = 4096


class Idle(Case):
    def test_ten_thousand_idle_clients_disturb_no_traffic(self):
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft != hard:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        room = hard == resource.RLIM_INFINITY or hard >= CLIENTS + RESERVE
        count = CLIENTS if room else CLIENTS_FEW

        source = self.directory()
        with open(os.path.join(source, "file"), "wb") as file:
            file.write(b"hello")
        origins = [self.origin(source, name=name) for name in "ab"]
        balancer = self.balancer(origins, "--idle-timeout", "600s")
        for _ in range(200):
            self.assertEqual(self.get(balancer, "/file").status, 200)
        before = balancer.memory("VmRSS")

        traffic = self.traffic(balancer, {"/file": b"hello"}, threads=2)
        idle = []
        for _ in range(count):
            client = self.client(balancer)
            client.request("GET", "/file")
            self.assertEqual(client.response().content, b"hello")
            client.record.clear()
            idle.append(client)
        traffic.await_more(500)
        each = (balancer.memory("VmRSS") - before) / count
        print(f"     {count} idle clients: {each:.0f} resident bytes each, {before / 1024:.0f} KiB before", flush=True)

        for client in idle[::50]:
            self.assertEqual(client.get("/file").content, b"hello")
        self.assert_faultless(traffic.stop())
        self.assertLess(each, BYTES_MAX)
