"""Upgrades: after 101 the connection is a tunnel, in both directions, until both ends have closed."""

import random
import socket
import threading

from harness import Case
from wire import Client, reply, request_bytes

SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n"
ASK = ("Connection: Upgrade", "Upgrade: echo")


def switches(request, greeting=b""):
    """Echoes all bytes after the switch, and says goodbye when the client has closed."""
    request.send(SWITCH + greeting)
    stream = request.stream
    while stream.ahead or stream.fill():
        request.send(stream.take(len(stream.ahead)))
    request.send(b"bye")
    return False


class Upgrade(Case):
    def switched(self, answer=switches, *options):
        peer = self.peer(answer)
        balancer = self.balancer([peer], *options)
        client = self.client(balancer)
        client.request("GET", "/tunnel", *ASK)
        response = client.response()
        self.assertEqual(response.status, 101)
        self.assertEqual(response.one("Upgrade"), "echo")
        self.assertIn("upgrade", (response.one("Connection") or "").lower())
        request = peer.requests[0]
        self.assertEqual(request.one("Upgrade"), "echo")
        self.assertIn("upgrade", (request.one("Connection") or "").lower())
        return client

    def test_raw_bytes_go_both_ways_and_then_it_closes(self):
        client = self.switched()
        for message in (b"hello", bytes(range(256)), b"GET / HTTP/1.1\r\n\r\n", b"\n"):
            client.send(message)
            self.assertEqual(client.exactly(len(message)), message)
        client.socket.shutdown(socket.SHUT_WR)
        self.assertEqual(client.until_close(), b"bye")

    def test_much_goes_both_ways_at_once(self):
        client = self.switched()
        content = random.Random(5).randbytes(8 * 1024 * 1024)
        sender = threading.Thread(target=client.send, args=(content,), daemon=True)
        sender.start()
        self.assertEqual(client.exactly(len(content)) == content, True)
        sender.join(30)

    def test_bytes_right_behind_the_switch_arrive(self):
        client = self.switched(lambda request: switches(request, b"welcome"))
        self.assertEqual(client.exactly(7), b"welcome")

    def test_bytes_sent_ahead_of_the_switch_arrive(self):
        balancer = self.balancer([self.peer(switches)])
        with self.client(balancer) as client:
            client.send(request_bytes("GET", "/", *ASK) + b"early")
            self.assertEqual(client.response().status, 101)
            self.assertEqual(client.exactly(5), b"early")

    def test_the_server_may_close_first(self):
        def leaves(request):
            request.send(SWITCH + b"short")
            return False

        client = self.switched(leaves)
        self.assertEqual(client.until_close(), b"short")

    def test_a_tunnel_outlives_the_timeouts_of_messages(self):
        client = self.switched(switches, "--response-timeout", "1s", "--client-timeout", "1s", "--idle-timeout", "60s")
        self.assertTrue(client.is_silent(2.5))
        client.send(b"still there?")
        self.assertEqual(client.exactly(12), b"still there?")

    def test_a_tunnel_frees_its_place(self):
        peer = self.peer(lambda request: switches(request) if request.one("Upgrade") else reply(200, b"plain"))
        balancer = self.balancer([peer], "-N", "1")
        for _ in range(3):
            tunnel = Client(balancer)
            tunnel.request("GET", "/", *ASK)
            self.assertEqual(tunnel.response().status, 101)
            tunnel.abort()
            self.assertEqual(self.get(balancer).content, b"plain")

    def test_a_server_may_decline(self):
        balancer = self.balancer([self.peer()])
        with self.client(balancer) as client:
            client.request("GET", "/declined", *ASK)
            self.assertEqual(client.response().content, b"/declined")
            self.assertEqual(client.get("/next").content, b"/next")
