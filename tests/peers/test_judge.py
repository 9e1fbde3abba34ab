"""Bad traffic: each row is refused with its status, closed, and never seen by a server.

The rules are those of RFC 9112 and RFC 9110; where more than one status is right, all are named.
"""

import re

from harness import Balancer, Case, Peer
from wire import Client, reply, request_bytes


def head(*lines):
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"


def post(*fields, content=b""):
    return head("POST /bad HTTP/1.1", "Host: a", *fields) + content


def get(*fields, host="Host: a"):
    return head("GET /bad HTTP/1.1", *([host] if host else []), *fields)


HEADS = [
    # Framing: RFC 9112 §6.1, §6.2, §6.3
    ("length_and_chunked", post("Content-Length: 5", "Transfer-Encoding: chunked", content=b"0\r\n\r\n"), 400),
    ("chunked_and_length", post("Transfer-Encoding: chunked", "Content-Length: 5", content=b"0\r\n\r\n"), 400),
    ("two_different_lengths", post("Content-Length: 5", "Content-Length: 6", content=b"hello!"), 400),
    ("a_list_of_different_lengths", post("Content-Length: 5, 6", content=b"hello!"), 400),
    ("a_list_of_equal_lengths", post("Content-Length: 5, 5", content=b"hello"), 400),
    ("a_length_with_plus", post("Content-Length: +5", content=b"hello"), 400),
    ("a_negative_length", post("Content-Length: -5", content=b"hello"), 400),
    ("a_hexadecimal_length", post("Content-Length: 0x5", content=b"hello"), 400),
    ("a_length_in_letters", post("Content-Length: a", content=b"hello"), 400),
    ("a_blank_length", post("Content-Length: ", content=b""), 400),
    ("a_length_with_a_blank_inside", post("Content-Length: 1 0", content=b"0123456789"), 400),
    ("a_fractional_length", post("Content-Length: 5.0", content=b"hello"), 400),
    ("an_overflowing_length", post("Content-Length: 18446744073709551616"), 400),
    ("a_length_of_40_digits", post("Content-Length: " + "9" * 40), 400),
    ("chunked_in_1_0", head("POST /bad HTTP/1.0", "Host: a", "Transfer-Encoding: chunked") + b"0\r\n\r\n", 400),
    ("an_unknown_coding", post("Transfer-Encoding: frob", content=b"0\r\n\r\n"), 501),
    ("gzip_alone", post("Transfer-Encoding: gzip", content=b"0\r\n\r\n"), (400, 501)),
    ("gzip_then_chunked", post("Transfer-Encoding: gzip, chunked", content=b"0\r\n\r\n"), (400, 501)),
    ("chunked_then_gzip", post("Transfer-Encoding: chunked, gzip", content=b"0\r\n\r\n"), (400, 501)),
    ("chunked_twice", post("Transfer-Encoding: chunked, chunked", content=b"0\r\n\r\n"), 400),
    (
        "chunked_in_two_fields",
        post("Transfer-Encoding: chunked", "Transfer-Encoding: chunked", content=b"0\r\n\r\n"),
        400,
    ),
    ("identity", post("Transfer-Encoding: identity", content=b""), (400, 501)),
    ("xchunked", post("Transfer-Encoding: xchunked", content=b"0\r\n\r\n"), (400, 501)),
    ("a_blank_coding", post("Transfer-Encoding: ", content=b""), 400),
    ("a_coding_behind_a_vertical_tab", post("Transfer-Encoding: \x0bchunked", content=b"0\r\n\r\n"), 400),
    # Lines: RFC 9112 §2.2, §5.1, §5.2; fields: RFC 9110 §5.5
    ("bare_lf", b"GET /bad HTTP/1.1\nHost: a\n\n", 400),
    ("bare_lf_after_the_request_line", b"GET /bad HTTP/1.1\nHost: a\r\n\r\n", 400),
    ("bare_lf_after_a_field", b"GET /bad HTTP/1.1\r\nHost: a\nX-A: b\r\n\r\n", 400),
    ("bare_lf_as_the_last_line", b"GET /bad HTTP/1.1\r\nHost: a\r\n\n", 400),
    ("bare_cr_in_a_value", get("X-A: b\rX-B: c"), 400),
    ("bare_cr_in_the_request_line", b"GET /bad\r HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("nul_in_a_value", get("X-A: b\0c"), 400),
    ("nul_in_a_name", get("X\0A: b"), 400),
    ("a_control_byte_in_a_value", get("X-A: b\x01c"), 400),
    ("del_in_a_value", get("X-A: b\x7fc"), 400),
    ("a_blank_before_the_colon", get("X-A : b"), 400),
    ("a_blank_before_the_colon_of_the_length", post("Content-Length : 5", content=b"hello"), 400),
    ("a_folded_field", get("X-A: b", " c"), 400),
    ("a_field_folded_by_a_tab", get("X-A: b", "\tc"), 400),
    ("a_blank_before_the_first_field", head("GET /bad HTTP/1.1", " Host: a", "Host: a"), 400),
    ("an_empty_name", get(": b"), 400),
    ("a_field_without_a_colon", get("X-A"), 400),
    ("a_name_with_a_slash", get("X/A: b"), 400),
    ("a_name_in_quotes", get('"X-A": b'), 400),
    ("a_name_beyond_ascii", get("X-\xc4: b"), 400),
    # Request line: RFC 9112 §3
    ("an_invalid_method", b"G@T /bad HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("a_method_with_a_colon", b"GET: /bad HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("no_method", b" /bad HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("a_blank_in_the_target", b"GET /bad one HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("two_blanks_before_the_target", b"GET  /bad HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("a_tab_before_the_version", b"GET /bad\tHTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("a_relative_target", b"GET bad HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("a_fragment", b"GET /bad#part HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("a_quote_in_the_target", b'GET /bad" HTTP/1.1\r\nHost: a\r\n\r\n', 400),
    ("an_angle_in_the_target", b"GET /bad<b> HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("utf8_in_the_target", "GET /bad\u00e4 HTTP/1.1\r\nHost: a\r\n\r\n".encode(), 400),
    ("nul_in_the_target", b"GET /bad\0 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("an_asterisk_that_is_not_for_options", b"GET * HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("connect", b"CONNECT bad:443 HTTP/1.1\r\nHost: bad:443\r\n\r\n", range(400, 600)),
    # Host: RFC 9112 §3.2
    ("no_host", get(host=None), 400),
    ("two_hosts", get("Host: b"), 400),
    ("two_equal_hosts", get("Host: a"), 400),
    ("a_host_with_a_blank", get(host="Host: a b"), 400),
    ("a_host_with_a_path", get(host="Host: a/b"), 400),
    ("a_host_with_a_user", get(host="Host: user@a"), 400),
    ("a_host_list", get(host="Host: a, b"), 400),
    ("a_host_with_a_wrong_port", get(host="Host: a:b"), 400),
    # Versions: RFC 9112 §2.3
    ("http_0_9", b"GET /bad\r\n\r\n", 400),
    ("http_0_9_named", b"GET /bad HTTP/0.9\r\nHost: a\r\n\r\n", (400, 505)),
    ("http_2_0", b"GET /bad HTTP/2.0\r\nHost: a\r\n\r\n", 505),
    ("http_3_0", b"GET /bad HTTP/3.0\r\nHost: a\r\n\r\n", (400, 505)),
    ("the_http_2_preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", (400, 505)),
    ("a_version_in_small_letters", b"GET /bad http/1.1\r\nHost: a\r\n\r\n", 400),
    ("a_version_of_two_digits", b"GET /bad HTTP/1.10\r\nHost: a\r\n\r\n", (400, 505)),
    ("another_protocol", b"GET /bad RTSP/1.0\r\nHost: a\r\n\r\n", (400, 505)),
    ("a_tls_hello", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(32) + b"\r\n\r\n", 400),
    # Limits
    ("a_target_of_9_kib", head("GET /bad" + "a" * 9 * 1024 + " HTTP/1.1", "Host: a"), 414),
    ("a_target_of_20_kib", head("GET /bad" + "a" * 20 * 1024 + " HTTP/1.1", "Host: a"), (414, 431)),
    ("a_head_of_17_kib", get("X-A: " + "a" * 17 * 1024), 431),
    ("a_head_of_200_kib", get(*[f"X-{n}: " + "a" * 4096 for n in range(50)]), 431),
    ("fields_beyond_100", get(*[f"X-{n}: a" for n in range(120)]), 431),
]

CHUNKED = post("Transfer-Encoding: chunked").replace(b"/bad", b"/late")

CONTENTS = [
    # RFC 9112 §7.1
    ("a_size_that_is_no_number", b"zz\r\nhello\r\n0\r\n\r\n"),
    ("no_size", b"\r\nhello\r\n0\r\n\r\n"),
    ("a_size_with_minus", b"-5\r\nhello\r\n0\r\n\r\n"),
    ("a_size_with_plus", b"+5\r\nhello\r\n0\r\n\r\n"),
    ("a_size_with_0x", b"0x5\r\nhello\r\n0\r\n\r\n"),
    ("a_size_of_17_digits", b"00000000000000005\r\nhello\r\n0\r\n\r\n"),
    ("an_overflowing_size", b"FFFFFFFFFFFFFFFFF\r\nhello\r\n0\r\n\r\n"),
    ("a_blank_before_the_size", b" 5\r\nhello\r\n0\r\n\r\n"),
    ("a_bare_lf_behind_the_size", b"5\nhello\r\n0\r\n\r\n"),
    ("a_bare_cr_behind_the_size", b"5\rhello\r\n0\r\n\r\n"),
    ("nothing_behind_the_chunk", b"5\r\nhello0\r\n\r\n"),
    ("a_bare_lf_behind_the_chunk", b"5\r\nhello\n0\r\n\r\n"),
    ("a_chunk_longer_than_its_size", b"5\r\nhello!!\r\n0\r\n\r\n"),
    ("a_control_byte_in_an_extension", b"5;a=\x01b\r\nhello\r\n0\r\n\r\n"),
    ("a_bare_lf_in_an_extension", b"5;a\nhello\r\n0\r\n\r\n"),
    ("a_trailer_that_frames", b"5\r\nhello\r\n0\r\nContent-Length: 5\r\n\r\n"),
    ("a_trailer_that_routes", b"5\r\nhello\r\n0\r\nHost: b\r\n\r\n"),
    ("a_trailer_without_a_colon", b"5\r\nhello\r\n0\r\nfoo\r\n\r\n"),
]

GOOD = [
    ("a_target_of_7_kib", head("GET /good" + "a" * 7 * 1024 + " HTTP/1.1", "Host: a")),
    ("a_head_of_14_kib", head("GET /good HTTP/1.1", "Host: a", "X-A: " + "a" * 14 * 1024)),
    ("90_fields", head("GET /good HTTP/1.1", "Host: a", *[f"X-{n}: a" for n in range(89)])),
    ("an_empty_value", head("GET /good HTTP/1.1", "Host: a", "X-A:")),
    ("no_blank_behind_the_colon", head("GET /good HTTP/1.1", "Host:a")),
    ("blanks_around_a_value", head("GET /good HTTP/1.1", "Host: \t a \t ")),
    ("bytes_beyond_ascii_in_a_value", head("GET /good HTTP/1.1", "Host: a", "X-A: \xe4\xff")),
    ("a_host_with_a_port", head("GET /good HTTP/1.1", "Host: a.example:8080")),
    ("a_host_in_brackets", head("GET /good HTTP/1.1", "Host: [::1]:80")),
    ("an_unknown_method", head("BREW /good HTTP/1.1", "Host: a")),
    ("percent_and_query", head("GET /good/%20;a=b?c=d&e=/?:@!$'()*+,-._~ HTTP/1.1", "Host: a")),
    ("chunked_in_capitals", head("POST /good HTTP/1.1", "Host: a", "Transfer-Encoding: Chunked") + b"0\r\n\r\n"),
    ("options_for_all", head("OPTIONS * HTTP/1.1", "Host: a", "X-Good: /good")),
]


class Judged(Case):
    """One balancer and one server for all rows of a class."""

    @classmethod
    def setUpClass(cls):
        cls.whole = []

        def answer(request):
            request.read()
            cls.whole.append(request.target)
            return reply(200, b"good")

        cls.peer = Peer(answer)
        cls.addClassCleanup(cls.peer.close)
        cls.shared = Balancer([cls.peer], "--response-timeout", "20s")
        cls.addClassCleanup(cls.shared.close)

    def setUp(self):
        self.peer.forget()
        self.whole.clear()

    def assert_nothing_seen(self):
        strays = self.peer.strays()
        place = strays.find(b"bad")
        self.assertEqual(place, -1, f"the server saw {strays[max(0, place - 20) : place + 200]!r}")

    def assert_refused(self, raw, statuses):
        with Client(self.shared) as client:
            client.send_what_goes(raw)
            response = client.response()
            self.assertIn(response.status, statuses)
            self.assertTrue(client.is_closed(), "the connection is closed")
        with Client(self.shared) as client:
            client.send(request_bytes("GET", "/good"))
            self.assertEqual(client.response().status, 200, "others are served after it")


class Heads(Judged):
    def assert_unseen(self, raw, statuses):
        self.assert_refused(raw, [statuses] if isinstance(statuses, int) else statuses)
        self.assertEqual(set(self.peer.targets()), {"/good"})
        self.assert_nothing_seen()


class HeadsInPieces(Judged):
    def test_a_bad_head_in_single_bytes_is_refused_all_the_same(self):
        for fact, raw, statuses in HEADS:
            if len(raw) > 200:
                continue
            with self.subTest(fact), Client(self.shared) as client:
                try:
                    client.drip(raw, pause=0.0005)
                except ConnectionError:
                    pass  # answered before the end
                self.assertIn(client.response().status, [statuses] if isinstance(statuses, int) else statuses)
                self.assertTrue(client.is_closed())
                self.assert_nothing_seen()


class Contents(Judged):
    """The head was good and may have been sent on; the request must not become whole."""

    def assert_never_whole(self, content):
        self.assert_refused(CHUNKED + content, [400])
        self.assertNotIn("/late", self.whole)


class Accepted(Judged):
    def assert_accepted(self, raw):
        with Client(self.shared) as client:
            for _ in range(2):
                client.send(raw)
                self.assertEqual(client.response().status, 200)


def add(case, fact, check):
    name = "test_" + re.sub(r"\W", "_", fact)
    assert not hasattr(case, name), name
    setattr(case, name, check)


for _fact, _raw, _statuses in HEADS:
    add(Heads, _fact, lambda self, raw=_raw, statuses=_statuses: self.assert_unseen(raw, statuses))
for _fact, _content in CONTENTS:
    add(Contents, _fact, lambda self, content=_content: self.assert_never_whole(content))
for _fact, _raw in GOOD:
    add(Accepted, _fact, lambda self, raw=_raw: self.assert_accepted(raw))
