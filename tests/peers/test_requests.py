"""Requests in every shape and in any number of pieces, by http.client, curl and raw sockets."""

import http.client
import os
import random
import socket
import threading
import time

from harness import Case, curl, eventually
from wire import HOST, Client, chunked_bytes, reply, request_bytes

CHUNKS = [b"first ", b"x" * 300, b"\r\n0\r\n\r\n", b"last"]
CONTENT = bytes(range(256)) * 3


def echo(request):
    """Sends back what came."""
    return reply(200, request.read(), f"X-Method: {request.method}", f"X-Target: {request.target}")


class Pieces(Case):
    def setUp(self):
        self.server = self.peer(echo)
        self.before = self.balancer([self.server])

    def requests(self):
        """Requests as bytes, and the content that each brings."""
        host = self.before.address
        chunked = request_bytes("POST", "/chunked", "Transfer-Encoding: chunked", host=host)
        extended = b"5;name=value\r\nhello\r\n00A \r\n0123456789\r\n0;last\r\nX-Trailer: yes\r\n\r\n"
        return [
            (request_bytes("GET", "/get?a=b", "Accept: */*", host=host), b""),
            (request_bytes("POST", "/length", host=host, content=CONTENT), CONTENT),
            (chunked + chunked_bytes(*CHUNKS), b"".join(CHUNKS)),
            (chunked + extended.replace(b"00A ", b"00A"), b"hello0123456789"),
            (request_bytes("DELETE", "/delete", host=host), b""),
            (request_bytes("PATCH", "/empty", host=host, content=b""), b""),
        ]

    def test_single_bytes(self):
        with self.client(self.before) as client:
            for request, content in self.requests():
                client.drip(request)
                response = client.response()
                self.assertEqual((response.status, response.content), (200, content))

    def test_single_bytes_with_pauses(self):
        with self.client(self.before) as client:
            client.drip(request_bytes("GET", "/slow", host="a"), pause=0.05)
            self.assertEqual(client.response().status, 200)

    def test_pieces_cut_anywhere(self):
        for seed in range(8):
            chance = random.Random(seed)
            with self.subTest(seed=seed), self.client(self.before) as client:
                for request, content in self.requests():
                    cuts = sorted(chance.sample(range(1, len(request)), chance.randint(1, 6)))
                    for start, end in zip([0, *cuts], [*cuts, len(request)]):
                        client.send(request[start:end])
                        time.sleep(0.003)
                    response = client.response()
                    self.assertEqual((response.status, response.content), (200, content))

    def test_http_client_in_pieces(self):
        connection = http.client.HTTPConnection(HOST, self.before.port, timeout=30)
        self.addCleanup(connection.close)
        connection.connect()
        used = connection.sock
        pieces = [bytes([index]) * (index * 37 + 1) for index in range(40)]

        def slowly():
            for piece in pieces:
                time.sleep(0.002)
                yield piece

        length = str(sum(map(len, pieces)))
        for name, value in [("Transfer-Encoding", "chunked"), ("Content-Length", length)]:
            chunked = value == "chunked"
            connection.request("POST", "/pieces", body=slowly(), headers={name: value}, encode_chunked=chunked)
            response = connection.getresponse()
            self.assertEqual((response.status, response.read()), (200, b"".join(pieces)))
            self.assertIs(connection.sock, used, "the connection is kept")

    def test_a_chunked_content_larger_than_any_buffer(self):
        content = random.Random(3).randbytes(3 * 1024 * 1024)
        request = request_bytes("POST", "/", "Transfer-Encoding: chunked", host="a")
        chunks = [content[start : start + 70001] for start in range(0, len(content), 70001)]
        with self.client(self.before) as client:
            # It comes back while it is still being sent.
            sender = threading.Thread(target=client.send, args=(request + chunked_bytes(*chunks),), daemon=True)
            sender.start()
            response = client.response()
            sender.join(30)
        self.assertEqual((response.status, response.content == content), (200, True))


class KeptAlive(Case):
    def setUp(self):
        self.server = self.peer(echo)
        self.before = self.balancer([self.server])

    def test_one_connection_serves_many_requests(self):
        with self.client(self.before) as client:
            for index in range(50):
                self.assertEqual(client.get(f"/{index}").one("X-Target"), f"/{index}")
                client.request("POST", "/post", content=CONTENT)
                self.assertEqual(client.response().content, CONTENT)

    def test_links_are_reused(self):
        with self.client(self.before) as client:
            for _ in range(30):
                self.assertEqual(client.get("/").status, 200)
        # A few more for health checks.
        self.assertLess(len(self.server.streams), 15)

    def test_pipelined_requests_are_answered_in_order(self):
        host = self.before.address
        wanted, stream = [], b""
        for index in range(10):
            stream += request_bytes("GET", f"/get/{index}", host=host)
            stream += request_bytes("POST", f"/post/{index}", host=host, content=b"length %d" % index)
            stream += request_bytes("POST", f"/chunked/{index}", "Transfer-Encoding: chunked", host=host)
            stream += chunked_bytes(b"chunks ", b"%d" % index)
            wanted += [
                (f"/get/{index}", b""),
                (f"/post/{index}", b"length %d" % index),
                (f"/chunked/{index}", b"chunks %d" % index),
            ]
        with self.client(self.before) as client:
            client.send(stream)
            for target, content in wanted:
                response = client.response()
                self.assertEqual((response.status, response.one("X-Target"), response.content), (200, target, content))

    def test_pipelined_requests_go_out_one_at_a_time(self):
        gate = threading.Event()
        self.addCleanup(gate.set)

        def held(request):
            gate.wait(60)
            return reply(200, request.target.encode("ascii"))

        peers = [self.peer(held), self.peer(held)]
        balancer = self.balancer(peers)
        with self.client(balancer) as client:
            client.send(request_bytes("GET", "/1") + request_bytes("GET", "/2"))
            eventually(lambda: peers[0].targets() + peers[1].targets(), "the first goes out")
            time.sleep(0.2)
            self.assertEqual(peers[0].targets() + peers[1].targets(), ["/1"])
            gate.set()
            self.assertEqual([client.response().content, client.response().content], [b"/1", b"/2"])

    def test_connection_close_is_honoured(self):
        with self.client(self.before) as client:
            self.assertEqual(client.get("/", "Connection: close").status, 200)
            self.assertTrue(client.is_closed())

    def test_http_1_0_closes_unless_asked_to_keep(self):
        with self.client(self.before) as client:
            client.send(request_bytes("GET", "/", version="1.0"))
            self.assertEqual(client.response().status, 200)
            self.assertTrue(client.is_closed())
        with self.client(self.before) as client:
            client.send(b"GET /no-host HTTP/1.0\r\n\r\n")
            self.assertEqual(client.response().one("X-Target"), "/no-host")
            self.assertTrue(client.is_closed())

    def test_a_client_that_sends_no_more_still_gets_its_answer(self):
        with self.client(self.before) as client:
            client.request("POST", "/half", content=CONTENT)
            client.socket.shutdown(socket.SHUT_WR)
            self.assertEqual(client.response().content, CONTENT)
            self.assertTrue(client.is_closed())

    def test_a_client_that_leaves_mid_content_costs_the_others_nothing(self):
        for _ in range(10):
            client = Client(self.before)
            client.send(request_bytes("POST", "/left", "Content-Length: 1000", host="a") + b"some")
            client.abort()
        with self.client(self.before) as client:
            self.assertEqual(client.get("/ok").status, 200)
        whole = [request for request in self.server.requests if request.target == "/left" and request.content]
        self.assertEqual(whole, [])


class Expect(Case):
    """`--expect100-timeout` is long here: a curl that is not told to continue shows it by its time."""

    def setUp(self):
        self.content = random.Random(2).randbytes(1024 * 1024)
        self.source = self.directory()
        self.file = os.path.join(self.source, "content")
        with open(self.file, "wb") as file:
            file.write(self.content)

    def put(self, balancer, *fields):
        arguments = [argument for text in ("Expect: 100-continue", *fields) for argument in ("-H", text)]
        result = os.path.join(self.source, "result")
        run = curl(
            *("--fail", "-v", "--expect100-timeout", "40", "-w", "%{time_total}", "-o", result),
            *arguments,
            *("-T", self.file, f"http://{balancer.address}/put"),
        )
        self.assertEqual(run.returncode, 0, run.stderr)
        self.assertLess(float(run.stdout), 30)
        self.assertIn(b"< HTTP/1.1 100 ", run.stderr)
        with open(result, "rb") as file:
            return file.read()

    def test_curl_is_told_to_continue(self):
        balancer = self.balancer([self.peer(echo)])
        self.assertEqual(self.put(balancer) == self.content, True)

    def test_curl_is_told_to_continue_with_chunks(self):
        balancer = self.balancer([self.peer(echo)])
        self.assertEqual(self.put(balancer, "Transfer-Encoding: chunked") == self.content, True)

    def test_the_built_in_server_continues_too(self):
        directory = self.directory()
        balancer = self.balancer([self.origin(directory)])
        self.put(balancer)
        run = curl("--fail", f"http://{balancer.address}/put")
        self.assertEqual((run.returncode, run.stdout == self.content), (0, True))

    def test_a_refusal_comes_instead_of_continue(self):
        # The server decides by the head alone, and closes, as the content never came.
        balancer = self.balancer([self.peer(lambda request: request.send(reply(403, b"no")))])
        with self.client(balancer) as client:
            client.send(request_bytes("PUT", "/", "Expect: 100-continue", "Content-Length: 1000000"))
            response = client.response()
            self.assertEqual((response.status, response.content, response.interim), (403, b"no", []))

    def early(self, answer):
        """The response to a POST that the server answers while its content still comes."""
        balancer = self.balancer([self.peer(answer)])
        with self.client(balancer) as client:
            client.send(request_bytes("POST", "/", "Content-Length: 100000000"))
            client.send_what_goes(bytes(256 * 1024))
            response = client.response()
            self.assertTrue(client.is_closed())
        return response

    def test_an_early_answer_reaches_a_client_that_still_sends(self):
        def gentle(request):
            request.send(reply(413, b"too much", "Connection: close"))
            request.stream.socket.shutdown(socket.SHUT_WR)
            while request.stream.fill():
                request.stream.ahead.clear()
            return False

        response = self.early(gentle)
        self.assertEqual((response.status, response.content), (413, b"too much"))

    def test_an_early_answer_before_a_reset_is_passed_on_or_502(self):
        # The reset of what the server left unread may overtake its answer.
        def abrupt(request):
            request.send(reply(413, b"too much"))
            return False

        self.assertIn(self.early(abrupt).status, (413, 502))


class Curl(Case):
    def setUp(self):
        self.source = self.directory()
        self.content = random.Random(4).randbytes(100_000)
        with open(os.path.join(self.source, "file"), "wb") as file:
            file.write(self.content)
        self.before = self.balancer([self.origin(self.source)])
        self.url = f"http://{self.before.address}/file"

    def test_head(self):
        run = curl("-I", self.url)
        self.assertEqual(run.returncode, 0, run.stderr)
        head = run.stdout.lower()
        self.assertTrue(head.startswith(b"http/1.1 200"), head)
        self.assertIn(b"content-length: 100000\r\n", head)

    def test_http_1_0(self):
        run = curl("--fail", "--http1.0", self.url)
        self.assertEqual((run.returncode, run.stdout == self.content), (0, True))

    def test_keep_alive(self):
        run = curl("--fail", "-w", "%{num_connects}\n", *(["-o", os.devnull, self.url] * 5))
        self.assertEqual((run.returncode, run.stdout.split()), (0, [b"1", b"0", b"0", b"0", b"0"]))

    def test_a_missing_file_is_404(self):
        run = curl("-o", os.devnull, "-w", "%{http_code}", self.url + "-not")
        self.assertEqual((run.returncode, run.stdout), (0, b"404"))

    def test_the_built_in_server_keeps_to_its_directory(self):
        for target in ("/../secret", "/%2e%2e/secret", "/a/../../secret", "//etc/hostname"):
            with self.subTest(target=target):
                url = f"http://{self.before.address}{target}"
                run = curl("--path-as-is", "-o", os.devnull, "-w", "%{http_code}", url)
                self.assertEqual(run.returncode, 0, run.stderr)
                self.assertIn(run.stdout, (b"400", b"403", b"404"))
