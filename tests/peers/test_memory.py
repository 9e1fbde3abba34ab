"""The worst that clients can do to the balancer's memory stays within what the README says."""

from harness import Case, eventually

KIB = 1024
MIB = 1024 * KIB
PARALLEL = 64
WAITING = 300
# The README's bound: at rest, for each client, for all pairs together, and for each request.
REST = 5 * MIB
EACH_CLIENT = 256
WIDE = 64 * MIB
EACH_PAIR = 512 * KIB
EACH_REQUEST = 192 * KIB


class Memory(Case):
    seconds_max = 120

    def test_readers_that_do_not_read_and_large_heads_fill_what_the_readme_allows(self):
        def pour(request):
            request.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (1 << 40))
            block = bytes(256 * KIB)
            while True:
                request.send(block)

        # Content that is not spliced is what takes memory.
        options = ("-N", str(PARALLEL), "--splice", "no", "--queue-timeout", "1h", "--client-timeout", "1h")
        balancer = self.balancer([self.peer(pour)], *options)
        before = balancer.memory("VmRSS")
        head = "x" * (15 * KIB)
        for _ in range(PARALLEL + WAITING):
            self.client(balancer).request("GET", "/", f"X-Large: {head}")

        # Each pair holds what its client does not take, each other request its head.
        filled = PARALLEL * 128 * KIB + WAITING * 15 * KIB
        eventually(
            lambda: balancer.memory("VmRSS") > before + filled,
            f"{filled} bytes more than {before} in use",
        )
        clients = (PARALLEL + WAITING) * EACH_CLIENT
        pairs = min(WIDE, PARALLEL * EACH_PAIR) + (PARALLEL + WAITING) * EACH_REQUEST
        high = balancer.memory("VmHWM")
        print(f"     {high / MIB:.1f} MiB in use, {(REST + clients + pairs) / MIB:.1f} allowed", flush=True)
        self.assertLess(high, REST + clients + pairs)
