"""Python's http.server as a server of files: `python_http.py DIR HTTP/1.0|HTTP/1.1`.

What it answers is said in `servers/__init__.py`.
"""

import os
import shutil
import sys
import tempfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

DIRECTORY, VERSION = sys.argv[1:3]
COPY_BYTES = 64 * 1024
load = 0


class Server(ThreadingHTTPServer):
    # Its own backlog of 5 loses connections when sixteen come at once.
    request_queue_size = 1024
    daemon_threads = True


class Handler(BaseHTTPRequestHandler):
    protocol_version = VERSION
    # Head and content in one segment: two small ones would wait for an acknowledgement in between.
    wbufsize = COPY_BYTES

    def do_GET(self):
        global load
        load += 1
        if self.path == "/healthcheck":
            return self.answer(200, b"0\n%d\n" % load)
        streams = self.path.startswith("/stream/")
        try:
            file = open(os.path.join(DIRECTORY, self.path[8 if streams else 1 :]), "rb")
        except OSError:
            return self.answer(404, b"not here\n")
        with file:
            self.send_response(200)
            if not streams:
                self.send_header("Content-Length", str(os.fstat(file.fileno()).st_size))
            elif VERSION == "HTTP/1.1":
                self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            if self.command == "HEAD":
                return None
            if streams and VERSION == "HTTP/1.1":
                return self.send_chunks(file)
            return shutil.copyfileobj(file, self.wfile)

    do_HEAD = do_GET

    def handle_expect_100(self):
        go_on = super().handle_expect_100()
        self.wfile.flush()
        return go_on

    def send_chunks(self, file):
        while data := file.read(COPY_BYTES):
            self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.write(b"0\r\n\r\n")

    def do_PUT(self):
        with tempfile.NamedTemporaryFile(dir=DIRECTORY, delete=False) as file:
            for data in self.content():
                file.write(data)
        os.replace(file.name, os.path.join(DIRECTORY, self.path[1:]))
        self.answer(200, b"stored\n")

    def content(self):
        """The content of the request, in pieces."""
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            while size := int(self.rfile.readline(), 16):
                yield self.rfile.read(size)
                self.rfile.readline()
            while self.rfile.readline().strip():
                pass
            return
        left = int(self.headers.get("Content-Length", 0))
        while left and (data := self.rfile.read(min(left, COPY_BYTES))):
            left -= len(data)
            yield data

    def answer(self, status, content):
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, *_):
        pass


with Server(("127.0.0.1", 0), Handler) as server:
    print(f"listening on http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()
