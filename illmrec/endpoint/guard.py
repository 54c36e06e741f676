"""What stands before the application: bodies that are small, whole, on time and JSON; counts and headers."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Collection
from typing import Any, NoReturn

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from illmrec.endpoint.limits import Limits
from illmrec.endpoint.meters import Meters
from illmrec.endpoint.refusals import Refusal, shown

_HEADERS = [
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
]


class Guard:
    """An ASGI middleware.

    Args:
        app: What it stands before.
        limits: What is accepted.
        meters: Where requests are counted.
        hosts: Names by which it may be called: a page whose own name is made to lead here has another.
    """

    def __init__(self, app: ASGIApp, *, limits: Limits, meters: Meters, hosts: Collection[str]) -> None:
        self.app, self.limits, self.meters = app, limits, meters
        self.hosts = frozenset(name.lower() for name in hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began = time.perf_counter()
        status = 500

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message = {**message, "headers": [*message["headers"], *_HEADERS]}
            await send(message)

        try:
            self._check_host(dict(scope["headers"]).get(b"host", b"").decode("latin-1"))
            if scope["method"] in ("POST", "PUT", "PATCH"):
                receive = _replayed(await self._body(scope, receive), receive)
            await self.app(scope, receive, noted)
        except Refusal as refusal:
            await refusal.response()(scope, receive, noted)
        finally:
            self.meters.request(scope["path"], status, time.perf_counter() - began)

    def _check_host(self, called: str) -> None:
        name = re.sub(r":\d*$", "", called).lower()
        if name not in self.hosts:
            raise Refusal(400, "unknown-host", f"nobody here is called {shown(name)}; see --hosts")

    async def _body(self, scope: Scope, receive: Receive) -> bytes:
        """Return the body of a request.

        Raises:
            Refusal: If it is of another type, too long, too slow or no JSON.
        """
        headers = dict(scope["headers"])
        # A page elsewhere may send forms and plain text unasked; for this type a browser asks first, and is refused.
        if headers.get(b"content-type", b"").split(b";")[0].strip().lower() != b"application/json":
            raise Refusal(415, "not-json", "send the body as content-type application/json")
        length = headers.get(b"content-length", b"0")
        if not length.isdigit() or int(length) > self.limits.max_body:
            raise self._too_long()
        try:
            body = await asyncio.wait_for(self._read(receive), self.limits.timeout)
        except asyncio.TimeoutError:
            raise Refusal(
                408, "too-slow", f"the body did not come within {self.limits.timeout:g} s"
            ) from None
        try:
            json.loads(body, parse_constant=_no_constant)
        except (ValueError, RecursionError):
            raise Refusal(400, "not-json", "the body is not JSON") from None
        return body

    async def _read(self, receive: Receive) -> bytes:
        body, more = b"", True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise Refusal(400, "not-json", "the body ended early")
            body += message.get("body", b"")
            if len(body) > self.limits.max_body:
                raise self._too_long()
            more = message.get("more_body", False)
        return body

    def _too_long(self) -> Refusal:
        return Refusal(413, "too-long", f"the body may have at most {self.limits.max_body} bytes")


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")  # though Python reads NaN and Infinity


def _replayed(body: bytes, receive: Receive) -> Receive:
    """Return a ``receive`` that gives the body once, and then what else comes."""
    pending: list[dict[str, Any]] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return pending.pop() if pending else await receive()

    return replay
