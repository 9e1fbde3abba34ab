"""A small WSGI application for gunicorn: a server of the files of $FILES.

What it answers is said in `servers/__init__.py`. It counts and notes by process: run it with one
worker.
"""

import os
import tempfile
import time

DIRECTORY = os.environ["FILES"]
COPY_BYTES = 64 * 1024
notes = []
load = 0


def app(environ, start_response):
    global load
    load += 1
    method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
    if method == "PUT":
        store(path[1:], environ)
        return answer(start_response, b"stored\n")
    if method == "POST":
        notes.append(path[len("/note/") :])
        for _ in content(environ):
            pass
        return answer(start_response, b"noted\n")
    if path == "/healthcheck":
        return answer(start_response, b"0\n%d\n" % load)
    if path == "/notes":
        return answer(start_response, "".join(note + "\n" for note in notes).encode("ascii"))
    if path.startswith("/wait/"):
        time.sleep(int(path[6:]) / 1000)
        return answer(start_response, b"waited\n")
    return give(path, method, start_response)


def answer(start_response, body, status="200 OK"):
    start_response(status, [("Content-Length", str(len(body)))])
    return [body]


def give(path, method, start_response):
    streams = path.startswith("/stream/")
    name = os.path.join(DIRECTORY, path[8 if streams else 1 :])
    if not os.path.isfile(name):
        return answer(start_response, b"not here\n", "404 Not Found")
    # Without a length gunicorn sends chunks.
    start_response("200 OK", [] if streams else [("Content-Length", str(os.path.getsize(name)))])
    return [] if method == "HEAD" else pieces(name)


def pieces(name):
    with open(name, "rb") as file:
        while data := file.read(COPY_BYTES):
            yield data


def content(environ):
    """The content of the request, in pieces. gunicorn ends the stream where the content ends."""
    while data := environ["wsgi.input"].read(COPY_BYTES):
        yield data


def store(name, environ):
    with tempfile.NamedTemporaryFile(dir=DIRECTORY, delete=False) as file:
        for data in content(environ):
            file.write(data)
    os.replace(file.name, os.path.join(DIRECTORY, name))
