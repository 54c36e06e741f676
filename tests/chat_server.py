"""A server on this machine that speaks OpenAI's protocol of chat completions as well or as badly as a test wants."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Reply:
    """What the server answers: a status, a body, headers.

    ``hold`` keeps the connection open and says no more; ``drip`` is seconds between one byte and the next.
    """

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    hold: bool = False
    drip: float = 0.0


def completion(text: Any, *, reason: str = "stop", **more: Any) -> Reply:
    """Return a whole answer with this text."""
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": reason}
    return Reply(body=json.dumps({"object": "chat.completion", "choices": [choice], **more}).encode())


def refusal(status: int, message: str, **headers: str) -> Reply:
    """Return an error as such servers word it."""
    body = json.dumps({"error": {"message": message, "type": "some_error", "code": None}}).encode()
    return Reply(
        status=status, body=body, headers={name.replace("_", "-"): text for name, text in headers.items()}
    )


@dataclass(kw_only=True)
class Server:
    """A running server.

    Attributes:
        url: Its base.
        requests: What it was asked, in order: path, headers and body.
        busiest: Requests that it had at the same time, at most.
    """

    url: str
    requests: list[tuple[str, dict[str, str], dict[str, Any]]]
    busiest: int = 0


@contextlib.contextmanager
def serving(answer: Callable[[int, dict[str, Any]], Reply]) -> Iterator[Server]:
    """Run a server whose ``n``-th request, from 0, is answered by ``answer(n, body)``."""
    lock, over = threading.Lock(), threading.Event()
    state = Server(url="", requests=[])
    now = [0]

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with lock:
                number = len(state.requests)
                state.requests.append((self.path, dict(self.headers), body))
                now[0] += 1
                state.busiest = max(state.busiest, now[0])
            reply = answer(number, body)
            with lock:
                now[0] -= 1
            self.send_response(reply.status)
            headers = {"Content-Type": "application/json", **reply.headers}
            length = len(reply.body) + (100 if reply.hold else 0)
            for name, text in {**headers, "Content-Length": str(length)}.items():
                self.send_header(name, text)
            self.end_headers()
            if reply.drip:
                for byte in reply.body:
                    self.wfile.write(bytes([byte]))
                    if over.wait(reply.drip):
                        return
            else:
                self.wfile.write(reply.body)
            if reply.hold:
                over.wait(30)

        def log_message(self, *_: Any) -> None:
            """Keep quiet."""

    class Quiet(ThreadingHTTPServer):
        def handle_error(self, *_: Any) -> None:
            """A client that has given up is no error."""

    server = Quiet(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    state.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        over.set()
        server.shutdown()
        server.server_close()
