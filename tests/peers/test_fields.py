"""Fields: what must not cross, what is added, what arrives unchanged."""

from harness import Case
from wire import reply, request_bytes


class ToServer(Case):
    def seen(self, raw, *options):
        """The request as the server saw it."""
        peer = self.peer()
        balancer = self.balancer([peer], *options)
        with self.client(balancer) as client:
            client.send(raw)
            self.assertEqual(client.response().status, 200)
        return peer.requests[0]

    def names(self, request):
        return {name.lower() for name, _ in request.fields}

    def test_hop_by_hop_fields_do_not_cross(self):
        request = self.seen(
            request_bytes(
                *("GET", "/", "Connection: keep-alive, X-Hop", "Connection: x-second", "Keep-Alive: timeout=5"),
                *("X-Hop: secret", "X-Second: secret", "Proxy-Connection: keep-alive", "TE: gzip", "X-End: kept"),
            )
        )
        gone = {"keep-alive", "x-hop", "x-second", "proxy-connection", "te", "upgrade"}
        self.assertEqual(self.names(request) & gone, set())
        self.assertNotIn("x-hop", (request.one("Connection") or "").lower())
        self.assertNotIn(b"secret", request.head)
        self.assertEqual(request.one("X-End"), "kept")

    def test_there_is_no_connection_field_on_a_kept_link(self):
        self.assertIsNone(self.seen(request_bytes("GET", "/", "Connection: keep-alive")).one("Connection"))

    def test_close_of_the_client_is_not_close_of_the_link(self):
        self.assertIsNone(self.seen(request_bytes("GET", "/", "Connection: close")).one("Connection"))

    def test_an_upgrade_without_connection_does_not_cross(self):
        self.assertIsNone(self.seen(request_bytes("GET", "/", "Upgrade: echo")).one("Upgrade"))

    def test_via_names_the_version_received(self):
        self.assertRegex(self.seen(request_bytes("GET", "/")).one("Via"), r"^1\.1 \S+$")
        self.assertRegex(self.seen(request_bytes("GET", "/", version="1.0")).one("Via"), r"^1\.0 \S+$")

    def test_via_is_appended(self):
        request = self.seen(request_bytes("GET", "/", "Via: 1.0 fred"))
        entries = [entry.strip() for value in request.all("Via") for entry in value.split(",")]
        self.assertEqual((len(entries), entries[0]), (2, "1.0 fred"))
        self.assertRegex(entries[1], r"^1\.1 \S+$")

    def test_forwarded_fields_tell_of_the_client(self):
        request = self.seen(request_bytes("GET", "/", host="www.example:81"))
        self.assertEqual(request.all("X-Forwarded-For"), ["127.0.0.1"])
        self.assertEqual(request.all("X-Forwarded-Proto"), ["http"])
        self.assertEqual(request.all("X-Forwarded-Host"), ["www.example:81"])
        self.assertEqual(request.all("Host"), ["www.example:81"])

    def test_forwarded_fields_of_the_client_are_replaced(self):
        request = self.seen(
            request_bytes(
                *("GET", "/", "X-Forwarded-For: 6.6.6.6", "x-forwarded-for: 7.7.7.7", "X-Forwarded-Proto: https"),
                *("X-Forwarded-Host: evil", "Forwarded: for=6.6.6.6"),
            )
        )
        self.assertEqual(request.all("X-Forwarded-For"), ["127.0.0.1"])
        self.assertEqual(request.all("X-Forwarded-Proto"), ["http"])
        self.assertEqual(request.all("X-Forwarded-Host"), ["test"])
        self.assertEqual(request.all("Forwarded"), [])

    def test_forwarded_fields_of_a_trusted_client_are_kept(self):
        raw = request_bytes("GET", "/", "X-Forwarded-For: 6.6.6.6", "X-Forwarded-Proto: https")
        request = self.seen(raw, "--trust-forwarded")
        entries = [entry.strip() for value in request.all("X-Forwarded-For") for entry in value.split(",")]
        self.assertEqual(entries, ["6.6.6.6", "127.0.0.1"])
        self.assertEqual(request.all("X-Forwarded-Proto"), ["https"])

    def test_an_absolute_target_names_the_host(self):
        request = self.seen(b"GET http://www.example:8080/path?query HTTP/1.1\r\nHost: other\r\n\r\n")
        self.assertEqual((request.target, request.all("Host")), ("/path?query", ["www.example:8080"]))
        request = self.seen(b"GET http://www.example HTTP/1.1\r\nHost: www.example\r\n\r\n")
        self.assertEqual((request.target, request.all("Host")), ("/", ["www.example"]))

    def test_a_1_0_request_without_host_goes_out_as_1_1_with_one(self):
        request = self.seen(b"GET /old HTTP/1.0\r\n\r\n")
        self.assertEqual((request.version, len(request.all("Host"))), ("HTTP/1.1", 1))

    def test_all_else_arrives_unchanged_and_in_order(self):
        fields = ["X-A: 1", "Cookie: a=b; c=d", "X-A: 2", "x-lower: a  b", "X-Empty:", "Authorization: Basic eA=="]
        request = self.seen(request_bytes("GET", "/path/%7Ea/../b?x=1&y=%20", *fields))
        self.assertEqual(request.target, "/path/%7Ea/../b?x=1&y=%20")
        self.assertEqual(request.all("X-A"), ["1", "2"])
        self.assertEqual(request.one("Cookie"), "a=b; c=d")
        self.assertEqual(request.one("x-lower"), "a  b")
        self.assertEqual(request.one("X-Empty"), "")
        self.assertEqual(request.one("Authorization"), "Basic eA==")

    def test_te_trailers_crosses_alone(self):
        request = self.seen(request_bytes("GET", "/", "TE: gzip;q=1, trailers", "Connection: TE"))
        self.assertEqual((request.one("TE"), request.one("Connection")), ("trailers", "TE"))
        request = self.seen(request_bytes("GET", "/", "TE: gzip", "Connection: TE"))
        self.assertEqual((request.one("TE"), request.one("Connection")), (None, None))


class ToClient(Case):
    def test_hop_by_hop_fields_do_not_cross(self):
        peer = self.peer(
            lambda _: reply(
                *(200, b"hello", "Connection: keep-alive, X-Hop", "Keep-Alive: timeout=5", "X-Hop: secret"),
                *("Proxy-Connection: keep-alive", "X-End: kept"),
            )
        )
        response = self.get(self.balancer([peer]))
        names = {name.lower() for name, _ in response.fields}
        self.assertEqual(names & {"keep-alive", "x-hop", "proxy-connection"}, set())
        self.assertNotIn(b"secret", response.head)
        self.assertEqual((response.one("X-End"), response.content), ("kept", b"hello"))

    def test_close_of_the_link_is_not_close_of_the_client(self):
        balancer = self.balancer([self.peer(lambda _: reply(200, b"hello", "Connection: close"))])
        with self.client(balancer) as client:
            for _ in range(3):
                response = client.get("/")
                self.assertEqual((response.one("Connection"), response.content), (None, b"hello"))

    def test_all_else_arrives_unchanged_and_in_order(self):
        fields = ["Server: mine", "Set-Cookie: a=1", "Set-Cookie: b=2", "Date: Thu, 01 Jan 1970 00:00:00 GMT", "X-E:"]
        response = self.get(self.balancer([self.peer(lambda _: reply(299, b"", *fields))]))
        self.assertEqual((response.status, response.one("Server")), (299, "mine"))
        self.assertEqual(response.all("Set-Cookie"), ["a=1", "b=2"])
        self.assertEqual(response.all("Date"), ["Thu, 01 Jan 1970 00:00:00 GMT"])
        self.assertEqual(response.one("X-E"), "")
