"""A real HTTP server on this machine whose files can be made to come badly, for the tests that fetch."""

import re
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Served:
    """What the server gives at one path; a test may change it between requests."""

    body: bytes = b""
    status: int = 200
    etag: str | None = '"1"'
    content_type: str = "application/octet-stream"
    headers: dict[str, str] = field(default_factory=dict)
    ranges: bool = True
    if_range: bool = True  # False: continues whatever the file has become, as no server should
    length: int | None = -1  # Content-Length: -1 the right one, None none at all
    chunked: bool = False
    cuts: list[int] = field(default_factory=list)  # of each further answer, only so many bytes of the body come
    reset: bool = False  # ... and the connection is reset, not closed
    failures: list[int] = field(default_factory=list)  # each further answer has one of these status codes first
    hold_after: int | None = None  # the rest of the body comes once `release` is set
    release: threading.Event = field(default_factory=threading.Event)
    arrived: threading.Event = field(default_factory=threading.Event)


@dataclass
class Server:
    """Where it listens, what it gives, and what was asked of it."""

    address: str
    files: dict[str, Served] = field(default_factory=dict)
    asked: list[tuple[str, str | None]] = field(default_factory=list)  # path, Range
    sent: int = 0  # bytes of bodies

    def give(self, path: str, body: bytes = b"", **how: object) -> tuple[str, Served]:
        """Serves something; returns its address and what can be changed about it."""
        served = self.files[path] = Served(body, **how)  # type: ignore[arg-type]
        return self.address + path, served


@contextmanager
def running_server() -> Iterator[Server]:
    """Serves on 127.0.0.1 until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            _answer(server, self)

        def log_message(self, *_words: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listener:
        listener.daemon_threads = True
        server = Server(f"http://127.0.0.1:{listener.server_port}")
        thread = threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            for served in server.files.values():
                served.release.set()
            listener.shutdown()
            thread.join()


def _answer(server: Server, request: BaseHTTPRequestHandler) -> None:
    asked = request.headers.get("Range")
    server.asked.append((request.path, asked))
    served = server.files.get(request.path, Served(b"nothing here", status=404))
    status = served.failures.pop(0) if served.failures else served.status
    start = 0
    unchanged = not served.if_range or request.headers.get("If-Range") in (None, served.etag)
    if asked and served.ranges and status == 200 and unchanged:
        start = int(re.fullmatch(r"bytes=(\d+)-", asked)[1])  # type: ignore[index]
        status = 206 if start < len(served.body) else 416
    body = served.body[start:] if status < 400 else b"an answer that is not the file"
    request.send_response(status)
    request.send_header("Content-Type", served.content_type)
    if served.length is not None and not served.chunked:
        request.send_header("Content-Length", str(len(body) if served.length < 0 else served.length))
    if served.chunked:
        request.send_header("Transfer-Encoding", "chunked")
    if status == 206:
        request.send_header("Content-Range", f"bytes {start}-{len(served.body) - 1}/{len(served.body)}")
    if served.etag:
        request.send_header("ETag", served.etag)
    for name, value in served.headers.items():
        request.send_header(name, value)
    request.end_headers()
    _send(server, request, served, body, start)


def _send(server: Server, request: BaseHTTPRequestHandler, served: Served, body: bytes, start: int) -> None:
    whole = not served.cuts
    body = body if whole else body[: served.cuts.pop(0)]
    middle = len(body) if served.hold_after is None else max(served.hold_after - start, 0)
    try:
        for piece in (body[:middle], body[middle:]):
            if served.chunked and piece:
                piece = b"%x\r\n%b\r\n" % (len(piece), piece)
            server.sent += len(piece)
            request.wfile.write(piece)
            request.wfile.flush()
            if served.hold_after is not None:
                served.arrived.set()
                served.release.wait(20)
        if served.chunked and whole:
            request.wfile.write(b"0\r\n\r\n")
        if not whole and served.reset:
            request.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    except OSError:  # the one who asked has gone away
        pass
