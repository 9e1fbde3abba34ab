"""Responses in every shape: framed, unframed, broken, late and cut."""

import http.client
import time

from harness import Case
from wire import HOST, Cut, chunked_bytes, reply, request_bytes

BIG = bytes(range(256)) * 2048


def head(*fields, status="200 OK", version="1.1"):
    return "\r\n".join([f"HTTP/{version} {status}", *fields]).encode("latin-1") + b"\r\n\r\n"


CHUNKED = head("Transfer-Encoding: chunked")

# target → (bytes that the server sends, whether it keeps its connection then)
GOOD = {
    "/length": (reply(200, b"hello"), True),
    "/empty": (reply(200, b""), True),
    "/big": (reply(200, BIG), True),
    "/chunked": (CHUNKED + chunked_bytes(b"hello ", b"world"), True),
    "/chunked-big": (CHUNKED + chunked_bytes(*[BIG[i : i + 9999] for i in range(0, len(BIG), 9999)]), True),
    "/chunked-dressed": (CHUNKED + b"5;a=b\r\nhello\r\n0\r\nX-Trailer: t\r\n\r\n", True),
    "/until-close": (head("Connection: close") + b"hello", False),
    "/until-close-silent": (head() + BIG, False),
    "/1.0-until-close": (head(version="1.0") + b"hello", False),
    "/1.0-length": (reply(200, b"hello", version="1.0"), False),
    "/1.0-kept": (reply(200, b"hello", "Connection: keep-alive", version="1.0"), True),
    "/204": (head(status="204 No Content"), True),
    "/304": (head("Content-Length: 5000", 'ETag: "x"', status="304 Not Modified"), True),
    "/103": (head("Link: </a>; rel=preload", status="103 Early Hints") + reply(200, b"hello"), True),
    "/two-interim": (head(status="102 Processing") + head(status="103 Early Hints") + reply(200, b"hello"), True),
    "/no-reason": (b"HTTP/1.1 200 \r\nContent-Length: 5\r\n\r\nhello", True),
    "/404": (reply(404, b"not here"), True),
    "/500": (reply(500, b"my own fault"), True),
    "/closes-after": (reply(200, b"hello", "Connection: close"), False),
}

STATUSES = {"/204": 204, "/304": 304, "/404": 404, "/500": 500}
CONTENTS = {
    **{target: b"" for target in ("/empty", "/204", "/304")},
    **{target: BIG for target in ("/big", "/chunked-big", "/until-close-silent")},
    **{"/chunked": b"hello world", "/404": b"not here", "/500": b"my own fault"},
}
HOLLOW = ("/204", "/304")

BROKEN = {
    "/garbage": b"this is not HTTP at all\r\n\r\n",
    "/closed-head": b"HTTP/1.1 200 OK\r\nContent-Le",
    "/bare-lf": b"HTTP/1.1 200 OK\nContent-Length: 0\n\n",
    "/two-lengths": head("Content-Length: 5", "Content-Length: 6") + b"hello!",
    "/length-and-chunked": head("Content-Length: 5", "Transfer-Encoding: chunked") + chunked_bytes(b"hello"),
    "/bad-length": head("Content-Length: -5") + b"hello",
    "/unknown-coding": head("Transfer-Encoding: frob") + b"hello",
    "/folded": b"HTTP/1.1 200 OK\r\nX-A: b\r\n c\r\nContent-Length: 0\r\n\r\n",
    "/space-before-colon": b"HTTP/1.1 200 OK\r\nContent-Length : 0\r\n\r\n",
    "/nul": b"HTTP/1.1 200 OK\r\nX-A: b\0c\r\nContent-Length: 0\r\n\r\n",
    "/status-099": b"HTTP/1.1 099 Low\r\nContent-Length: 0\r\n\r\n",
    "/status-20": b"HTTP/1.1 20 Short\r\nContent-Length: 0\r\n\r\n",
    "/version-2": b"HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n",
    "/101-unasked": head("Connection: Upgrade", "Upgrade: echo", status="101 Switching Protocols"),
    "/huge-head": head("X-A: " + "a" * 40000, "Content-Length: 0"),
}

CUT = {
    "/length": head("Content-Length: 1000000") + b"some",
    "/chunked": CHUNKED + b"5\r\nhello\r\n",
    "/inside-a-chunk": CHUNKED + b"FF\r\nhello",
    "/bad-chunk": CHUNKED + b"5\r\nhello\r\nzz\r\n",
}


def scripted(table):
    """A server that answers by target; a HEAD gets the head of it."""

    def answer(request):
        request.read()
        data, keeps = table[request.target]
        if request.method == "HEAD":
            data = data[: data.index(b"\r\n\r\n") + 4]
        request.send(data)
        return keeps

    return answer


def dripping(table):
    def answer(request):
        request.read()
        data, keeps = table[request.target]
        for index in range(len(data)):
            request.send(data[index : index + 1])
            time.sleep(0.001)
        return keeps

    return answer


class Whole(Case):
    def check(self, client, target):
        response = client.get(target)
        self.assertEqual((response.version, response.status), ("HTTP/1.1", STATUSES.get(target, 200)))
        self.assertEqual(response.content == CONTENTS.get(target, b"hello"), True, f"{len(response.content)} bytes")
        return response

    def test_every_framing_arrives_whole(self):
        balancer = self.balancer([self.peer(scripted(GOOD))])
        for target in GOOD:
            with self.subTest(target=target), self.client(balancer) as client:
                self.check(client, target)

    def test_the_client_s_connection_goes_on_after_each(self):
        balancer = self.balancer([self.peer(scripted(GOOD))])
        for target in GOOD:
            with self.subTest(target=target), self.client(balancer) as client:
                response = self.check(client, target)
                framed = response.one("Content-Length") or response.one("Transfer-Encoding") or target in HOLLOW
                self.assertTrue(framed or target.endswith(("close", "silent")), response.head)
                if (response.one("Connection") or "").lower() == "close" or not framed:
                    self.assertTrue(client.is_closed())
                else:
                    self.assertEqual(client.get("/length").content, b"hello")

    def test_single_bytes_from_the_server(self):
        small = {target: answer for target, answer in GOOD.items() if len(answer[0]) < 500}
        balancer = self.balancer([self.peer(dripping(small))])
        for target in small:
            with self.subTest(target=target), self.client(balancer) as client:
                self.check(client, target)

    def test_head_has_no_content_whatever_its_fields_say(self):
        balancer = self.balancer([self.peer(scripted(GOOD))])
        with self.client(balancer) as client:
            for target, length in [("/length", "5"), ("/big", str(len(BIG))), ("/chunked", None), ("/304", "5000")]:
                client.request("HEAD", target)
                response = client.response("HEAD")
                self.assertEqual(response.one("Content-Length"), length, response.head)
                self.assertEqual(client.get("/length").content, b"hello")

    def test_304_keeps_its_fields(self):
        balancer = self.balancer([self.peer(scripted(GOOD))])
        response = self.get(balancer, "/304")
        self.assertEqual((response.one("ETag"), response.content), ('"x"', b""))

    def test_trailers_never_become_fields_or_content(self):
        balancer = self.balancer([self.peer(scripted(GOOD))])
        for fields, trailers in [((), []), (("TE: trailers", "Connection: TE"), [("X-Trailer", "t")])]:
            with self.subTest(fields=fields):
                response = self.get(balancer, "/chunked-dressed", *fields)
                self.assertEqual(response.trailers, trailers)
                self.assertEqual((response.all("X-Trailer"), response.content), ([], b"hello"))

    def test_interim_responses_come_before_the_final_one(self):
        balancer = self.balancer([self.peer(scripted(GOOD))])
        response = self.get(balancer, "/103")
        self.assertEqual([one.status for one in response.interim], [103])
        self.assertEqual(response.interim[0].one("Link"), "</a>; rel=preload")
        response = self.get(balancer, "/two-interim")
        self.assertEqual([one.status for one in response.interim], [102, 103])

    def test_a_1_0_client_gets_no_chunks_and_no_interim_response(self):
        balancer = self.balancer([self.peer(scripted(GOOD))])
        for target in GOOD:
            with self.subTest(target=target), self.client(balancer) as client:
                client.send(request_bytes("GET", target, version="1.0"))
                response = client.response()
                self.assertEqual(response.interim, [])
                self.assertIsNone(response.one("Transfer-Encoding"))
                self.assertEqual(response.content == CONTENTS.get(target, b"hello"), True)
                self.assertTrue(client.is_closed())

    def test_links_of_a_1_0_server_that_keeps_are_reused(self):
        peer = self.peer(scripted(GOOD))
        balancer = self.balancer([peer], "-X", "600")
        with self.client(balancer) as client:
            for _ in range(20):
                self.assertEqual(client.get("/1.0-kept").content, b"hello")
        self.assertLess(len(peer.streams), 6)


class Broken(Case):
    def test_a_broken_response_is_502(self):
        table = {target: (data, False) for target, data in BROKEN.items()}
        for target in BROKEN:
            with self.subTest(target=target):
                balancer = self.balancer([self.peer(scripted(table))])
                with self.client(balancer) as client:
                    # A method that is never repeated: the verdict is on this one response.
                    client.request("POST", target, content=b"")
                    self.assertEqual(client.response().status, 502)

    def test_bytes_behind_a_response_reach_no_other_client(self):
        smuggled = reply(200, b"hello") + reply(200, b"smuggled")
        table = {"/extra": (smuggled, True), "/204": (head(status="204 No Content") + b"HTTP/1.1 200 OK\r\n\r\n", True)}
        table["/304"] = (reply(304, b"hello"), True)
        balancer = self.balancer([self.peer(scripted({**GOOD, **table}))])
        for target in table:
            with self.subTest(target=target):
                for _ in range(5):
                    self.assertNotIn(b"smuggled", self.get(balancer, target).content)
                    self.assertEqual(self.get(balancer, "/length").content, b"hello")

    def test_no_answer_in_time_is_504(self):
        def hangs(_request):
            time.sleep(60)
            return False

        balancer = self.balancer([self.peer(hangs)], "--response-timeout", "1s")
        for method in ("GET", "POST"):
            with self.subTest(method=method), self.client(balancer) as client:
                started = time.monotonic()
                client.request(method, "/", content=b"")
                self.assertEqual(client.response().status, 504)
                self.assertTrue(0.5 < time.monotonic() - started < 15)

    def test_half_a_head_in_time_is_504(self):
        def hangs(request):
            request.send(b"HTTP/1.1 200 OK\r\nContent-")
            time.sleep(60)
            return False

        balancer = self.balancer([self.peer(hangs)], "--response-timeout", "1s")
        self.assertEqual(self.get(balancer).status, 504)

    def test_a_server_that_stops_mid_content_cuts_the_client(self):
        def hangs(request):
            request.send(CUT["/length"])
            time.sleep(60)
            return False

        balancer = self.balancer([self.peer(hangs)], "--response-timeout", "1s")
        with self.client(balancer) as client, self.assertRaises(Cut):
            client.get("/")

    def test_a_server_that_dies_mid_content_cuts_the_client(self):
        balancer = self.balancer([self.peer(scripted({target: (data, False) for target, data in CUT.items()}))])
        for target in CUT:
            with self.subTest(target=target):
                connection = http.client.HTTPConnection(HOST, balancer.port, timeout=30)
                connection.request("GET", target)
                try:
                    response = connection.getresponse()
                except (http.client.HTTPException, ConnectionError):
                    # All of it was known to be broken before anything was sent: no response at all.
                    continue
                if response.status != 502:
                    with self.assertRaises((http.client.IncompleteRead, ConnectionError)):
                        response.read()
                connection.close()
