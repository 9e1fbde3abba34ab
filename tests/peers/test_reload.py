"""HUP with a changed list of servers: wrk and kept-alive clients see none of it."""

import os
import re
import signal

from harness import Case, eventually
from load import CLIENTS, under_load

RELOADS = 20


class Reload(Case):
    def test_twenty_changed_files_under_load_cost_no_request(self):
        origins = [self.origin(None, name=name) for name in ("first", "second", "third")]
        path = os.path.join(self.directory(), "servers")

        def write(turn):
            # One leaves, another comes, and the one that stays has another weight.
            staying, coming = origins[turn % 3], origins[(turn + 1) % 3]
            with open(path + ".new", "w", encoding="ascii") as file:
                file.write(f"# turn {turn}\n{staying.address},weight={turn % 4 + 1}\n{coming.address}\n")
            os.rename(path + ".new", path)

        write(0)
        balancer = self.balancer([], "--servers-file", path, "-X", "0.2")
        for origin in origins[:2]:
            balancer.await_change(origin, "valid")

        def changes():
            return [line for line in balancer.err.lines if re.search(r"servers: 1 added, 1 removed, 1 kept", line)]

        def work():
            for turn in range(1, RELOADS + 1):
                since = balancer.mark()
                write(turn)
                balancer.signal(signal.SIGHUP)
                eventually(lambda turn=turn: len(changes()) == turn, f"change {turn} has come about")
                balancer.await_change(origins[(turn + 1) % 3], "valid", since)

        count, kept = under_load(self, balancer.port, work)
        self.assertEqual(len(changes()), RELOADS)
        self.assertEqual(set().union(*(client.servers for client in kept)), {"first", "second", "third"})
        asked = sum(client.count for client in kept)
        made = sum(client.connections for client in kept)
        self.assertEqual(made, CLIENTS, "every client kept its connection")
        print(f"{RELOADS} reloads: wrk {count} requests, {CLIENTS} clients {asked} on {made} connections, no failure")
