"""A server on this machine that stalls, lies, breaks off and redirects: what the pictures' download has to bear."""

from __future__ import annotations

import contextlib
import gzip
import struct
import threading
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from publishers import picture


def bomb(side: int = 40_000) -> bytes:
    """Return a PNG of some kilobytes that claims, and would unpack to, 1.6 billion pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        )

    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(bytes(100_000)))
        + chunk(b"IEND", b"")
    )


@dataclass
class Server:
    """What the server knows.

    Attributes:
        base: Its address.
        asked: How often each path was asked for.
        hosts: The host names that were asked for.
        ranges: The ranges that were asked for.
        starts: When requests began.
        at_once: The most requests that were under way at a time.
    """

    base: str = ""
    asked: Counter[str] = field(default_factory=Counter)
    hosts: set[str] = field(default_factory=set)
    ranges: list[str] = field(default_factory=list)
    starts: list[float] = field(default_factory=list)
    under_way: int = 0
    at_once: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)
    content: bytes = b"".join(f"line {number}\n".encode() for number in range(50_000))
    breaks: int = 0
    etag: str = '"one"'


Behaviour = Callable[["Handler", Server], None]


class Handler(BaseHTTPRequestHandler):
    """Answers by path."""

    protocol_version = "HTTP/1.1"
    server_state: Server

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        """Answer."""
        state = self.server_state
        path = self.path.lstrip("/")
        state.asked[path] += 1
        state.hosts.add(self.headers["Host"])
        state.starts.append(time.monotonic())
        try:
            kind = path.partition("/")[0]
            BEHAVIOURS.get(kind, missing)(self, state)
        except (BrokenPipeError, ConnectionResetError):
            pass

    def reply(self, content: bytes, *, status: int = 200, kind: str = "image/jpeg", **headers: str) -> None:
        """Send an answer; ``headers`` have underscores for hyphens."""
        self.send_response(status)
        self.send_header("Content-Type", kind)
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        for name, value in {"Content-Length": str(len(content)), **given}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def hang_up(self) -> None:
        """Close the connection."""
        self.close_connection = True
        self.connection.close()


def missing(handler: Handler, _: Server) -> None:
    handler.reply(b"no such file", status=404, kind="text/plain")


def _number(handler: Handler) -> int:
    return int(handler.path.rpartition("/")[2].partition(".")[0] or 0)


def good(handler: Handler, _: Server) -> None:
    handler.reply(picture(_number(handler)))


def slow(handler: Handler, state: Server) -> None:
    """Take a while, and note how many requests do so at a time."""
    with state.lock:
        state.under_way += 1
        state.at_once = max(state.at_once, state.under_way)
    time.sleep(0.05)
    with state.lock:
        state.under_way -= 1
    handler.reply(picture(_number(handler)))


def stalls(handler: Handler, _: Server) -> None:
    content = picture()
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(content)))
    handler.end_headers()
    handler.wfile.write(content[:50])
    handler.wfile.flush()
    time.sleep(1.2)
    handler.hang_up()


def drips(handler: Handler, _: Server) -> None:
    """Send a byte now and then, so that the connection is never idle for long."""
    handler.send_response(200)
    handler.send_header("Content-Length", "1000000")
    handler.end_headers()
    for _number_of_byte in range(100):
        handler.wfile.write(b"x")
        handler.wfile.flush()
        time.sleep(0.05)
    handler.hang_up()


def truncates(handler: Handler, _: Server) -> None:
    content = picture()
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(content)))
    handler.end_headers()
    handler.wfile.write(content[:-100])
    handler.hang_up()


def cut_without_length(handler: Handler, _: Server) -> None:
    handler.send_response(200)
    handler.send_header("Connection", "close")
    handler.end_headers()
    handler.wfile.write(picture(kind="PNG", size=(90, 90))[:-30])
    handler.hang_up()


def html_as_picture(handler: Handler, _: Server) -> None:
    handler.reply(b"<html>Sign in, please</html>")


def picture_as_text(handler: Handler, _: Server) -> None:
    handler.reply(picture(kind="PNG"), kind="text/html")


def empty(handler: Handler, _: Server) -> None:
    handler.reply(b"")


def endless(handler: Handler, _: Server) -> None:
    handler.send_response(200)
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        for _block in range(1000):
            handler.wfile.write(b"10000\r\n" + bytes(0x10000) + b"\r\n")
    handler.close_connection = True


def packed(handler: Handler, _: Server) -> None:
    handler.reply(zlib.compress(bytes(10_000_000)), Content_Encoding="deflate")


def x_gzip(handler: Handler, state: Server) -> None:
    """Send a file that is packed by itself, and call it so, as Apache does."""
    handler.reply(gzip.compress(state.content), kind="application/x-gzip", Content_Encoding="x-gzip")


def a_bomb(handler: Handler, _: Server) -> None:
    handler.reply(bomb(), kind="image/png")


def broken_once(handler: Handler, state: Server) -> None:
    """Fail with the status that the path says, then send the picture."""
    if state.asked[handler.path.lstrip("/")] == 1:
        status = int(handler.path.split("/")[2])
        wait = {"Retry_After": "0"} if status == 429 else {}
        handler.reply(b"later", status=status, kind="text/plain", **wait)
    else:
        good(handler, state)


def wait(handler: Handler, state: Server) -> None:
    """Ask for a minute, then send the picture."""
    if state.asked[handler.path.lstrip("/")] == 1:
        handler.reply(b"", status=429, Retry_After="60")
    else:
        good(handler, state)


def always(handler: Handler, _: Server) -> None:
    handler.reply(b"no", status=int(handler.path.split("/")[2]), kind="text/plain")


def redirects(handler: Handler, state: Server) -> None:
    target = {
        "here": f"{state.base}/good/7.jpg",
        "relative": "/good/8.jpg",
        "round": handler.path,
        "private": "http://10.1.2.3/secret",
        "metadata": "http://169.254.169.254/latest/meta-data",
        "mapped": "http://[::ffff:10.1.2.3]/secret",
        "file": "file:///etc/passwd",
        "nowhere": "http://images.example:port/",
    }[handler.path.split("/")[2]]
    handler.reply(b"", status=302, Location=target)


def a_file(handler: Handler, state: Server) -> None:
    """Send a large text, from where it is asked for, breaking off as often as the state says."""
    content, status, start = state.content, 200, 0
    asked = handler.headers.get("Range")
    if asked and handler.headers.get("If-Range") == state.etag:
        state.ranges.append(asked)
        start = int(asked.removeprefix("bytes=").rstrip("-"))
        status, content = 206, content[start:]
    handler.send_response(status)
    handler.send_header("Content-Length", str(len(content)))
    handler.send_header("ETag", state.etag)
    if status == 206:
        handler.send_header("Content-Range", f"bytes {start}-{len(state.content) - 1}/{len(state.content)}")
    handler.end_headers()
    if state.breaks:
        state.breaks -= 1
        handler.wfile.write(content[: len(content) // 3])
        handler.hang_up()
    else:
        handler.wfile.write(content)


def a_sum(handler: Handler, state: Server) -> None:
    import hashlib

    digest = hashlib.md5(state.content, usedforsecurity=False).hexdigest()
    handler.reply(f"MD5 (file.txt) = {digest}\n".encode(), kind="text/plain")


BEHAVIOURS: dict[str, Behaviour] = {
    "good": good,
    "slow": slow,
    "stalls": stalls,
    "drips": drips,
    "truncates": truncates,
    "cut": cut_without_length,
    "html": html_as_picture,
    "text": picture_as_text,
    "empty": empty,
    "endless": endless,
    "packed": packed,
    "bomb": a_bomb,
    "file.gz": x_gzip,
    "once": broken_once,
    "always": always,
    "wait": wait,
    "redirect": redirects,
    "file.txt": a_file,
    "file.txt.md5": a_sum,
}


@contextlib.contextmanager
def serving() -> Iterator[Server]:
    """Serve on a free port of this machine."""
    state = Server()
    handler = type("StatefulHandler", (Handler,), {"server_state": state})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    state.base = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
