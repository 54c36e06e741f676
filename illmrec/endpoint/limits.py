"""What the endpoint accepts at most; whatever is beyond is refused, never cut."""

from __future__ import annotations

from dataclasses import dataclass, fields

from illmrec.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What the endpoint accepts at most.

    Attributes:
        max_items: Items of a history in one request.
        max_k: Items that one request may ask for.
        max_body: Bytes of a request's body.
        timeout: Seconds that a body may take to come, and then its answer.
        max_queue: Requests that wait to be computed; further ones are told to come again.
        max_batch: Requests that are computed together.
        max_connections: Open connections.
    """

    max_items: int = 200
    max_k: int = 100
    max_body: int = 65536
    timeout: float = 10.0
    max_queue: int = 256
    max_batch: int = 32
    max_connections: int = 512

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not value > 0:
                raise InputError(f"--{field.name.replace('_', '-')} {value}: must be above 0")
