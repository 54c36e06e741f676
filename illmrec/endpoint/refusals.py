"""Errors as the endpoint tells them: one JSON object with a code for programs and a sentence for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from starlette.responses import JSONResponse

_SHOWN = 80


class Refusal(Exception):
    """A request that is not answered.

    Args:
        status: HTTP status.
        code: A word for programs.
        message: One sentence: what is wrong, and what would be right.
        retry_after: Seconds after which it may go better, or None.
    """

    def __init__(self, status: int, code: str, message: str, *, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.retry_after = status, code, message, retry_after

    def response(self) -> JSONResponse:
        """Return it as an answer."""
        headers = {} if self.retry_after is None else {"retry-after": str(self.retry_after)}
        content = {"error": {"code": self.code, "message": self.message}}
        return JSONResponse(content, status_code=self.status, headers=headers)


def shown(text: str) -> str:
    """Return what a user sent so that it fits into a sentence."""
    return repr(text if len(text) <= _SHOWN else f"{text[:_SHOWN]}...")


def of_validation(errors: Sequence[Mapping[str, Any]]) -> Refusal:
    """Return what is wrong with a body that is JSON; values are not repeated, for they may be anything."""
    first = errors[0]
    place = ".".join(str(part) for part in first["loc"] if part != "body")
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    where = f"{shown(place)[1:-1]}: " if place else ""
    return Refusal(422, "invalid", f"{where}{first['msg']}{more}; see /openapi.json")
