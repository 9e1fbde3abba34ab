"""A small ASGI application for uvicorn: a server of the files of $FILES.

What it answers is said in `servers/__init__.py`.
"""

import asyncio
import os
import tempfile

DIRECTORY = os.environ["FILES"]
COPY_BYTES = 64 * 1024
notes = []
load = 0


async def app(scope, receive, send):
    global load
    if scope["type"] != "http":
        raise NotImplementedError(scope["type"])
    load += 1
    method, path = scope["method"], scope["path"]
    if method == "PUT":
        await store(path[1:], receive)
        await answer(send, 200, b"stored\n")
    elif method == "POST":
        notes.append(path[len("/note/") :])
        async for _ in content(receive):
            pass
        await answer(send, 200, b"noted\n")
    elif path == "/healthcheck":
        await answer(send, 200, b"0\n%d\n" % load)
    elif path == "/notes":
        await answer(send, 200, "".join(note + "\n" for note in notes).encode("ascii"))
    elif path.startswith("/wait/"):
        await asyncio.sleep(int(path[6:]) / 1000)
        await answer(send, 200, b"waited\n")
    else:
        await give(path, method, send)


async def answer(send, status, body):
    head = [(b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": head})
    await send({"type": "http.response.body", "body": body})


async def give(path, method, send):
    streams = path.startswith("/stream/")
    try:
        file = open(os.path.join(DIRECTORY, path[8 if streams else 1 :]), "rb")
    except OSError:
        return await answer(send, 404, b"not here\n")
    with file:
        size = os.fstat(file.fileno()).st_size
        # Without a length uvicorn sends chunks.
        head = [] if streams else [(b"content-length", b"%d" % size)]
        await send({"type": "http.response.start", "status": 200, "headers": head})
        while method != "HEAD" and (data := file.read(COPY_BYTES)):
            await send({"type": "http.response.body", "body": data, "more_body": True})
        await send({"type": "http.response.body", "body": b""})


async def content(receive):
    """The content of the request, in pieces."""
    while True:
        event = await receive()
        if event["type"] == "http.disconnect":
            raise ConnectionError("the client went away")
        yield event.get("body", b"")
        if not event.get("more_body"):
            return


async def store(name, receive):
    with tempfile.NamedTemporaryFile(dir=DIRECTORY, delete=False) as file:
        async for data in content(receive):
            file.write(data)
    os.replace(file.name, os.path.join(DIRECTORY, name))
