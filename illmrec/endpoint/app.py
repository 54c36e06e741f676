"""The application: routes, their schema, and errors that are JSON whatever happens."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import Annotated, Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import PlainTextResponse
from pydantic import BaseModel, ConfigDict, Field, create_model
from starlette.exceptions import HTTPException
from starlette.responses import Response

import illmrec
from illmrec.endpoint.answers import Answers, Question, Recommended, UnknownItem
from illmrec.endpoint.batching import Batcher
from illmrec.endpoint.guard import Guard
from illmrec.endpoint.limits import Limits
from illmrec.endpoint.meters import CONTENT_TYPE, Meters
from illmrec.endpoint.refusals import Refusal, of_validation, shown
from illmrec.recommender import Recommender

LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
_LONGEST_ID = 256
_ROUTES = ("/recommend", "/health", "/metrics", "/openapi.json")


class Item(BaseModel):
    """A recommended item."""

    item_id: str
    title: str
    score: float


class Items(BaseModel):
    """The best items, the best first."""

    items: list[Item]


class Health(BaseModel):
    """That the server answers, and with what."""

    status: str
    model: str
    items: int


class Problem(BaseModel):
    """What is wrong: a word for programs and a sentence for people."""

    code: str
    message: str


class Problems(BaseModel):
    """The body of every error."""

    error: Problem


def request_schema(limits: Limits) -> type[BaseModel]:
    """Return the schema of a request, with the limits in it; types are taken as they are, nothing is converted."""
    item_id = Annotated[str, Field(min_length=1, max_length=_LONGEST_ID)]
    history = Annotated[
        list[item_id],
        Field(min_length=1, max_length=limits.max_items, description="Item ids, the most recent last."),
    ]
    k = Annotated[int, Field(ge=1, le=limits.max_k, description="How many items.")]
    repeats = Annotated[bool, Field(description="Items of the history may come again.")]
    fields: dict[str, Any] = {
        "history": (history, ...),
        "k": (k, min(10, limits.max_k)),
        "repeats": (repeats, False),
    }
    return create_model("History", __config__=ConfigDict(strict=True, extra="forbid"), **fields)


def build_app(
    recommender: Recommender, *, model: str, limits: Limits | None = None, hosts: Sequence[str] = ()
) -> FastAPI:
    """Return the application around a model.

    Args:
        recommender: The model with its items.
        model: Its key, for ``/health``.
        limits: What is accepted; ``None`` for the defaults.
        hosts: Names by which it may be called, besides those of this machine to itself.
    """
    limits = Limits() if limits is None else limits
    answers, meters = Answers(recommender), Meters(_ROUTES)
    batcher: Batcher[Question, list[Recommended]] = Batcher(answers.answer, limits=limits, meters=meters)

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        batcher.start()
        yield
        await batcher.stop()

    app = FastAPI(
        title="illmrec",
        version=illmrec.__version__,
        description="Recommends items after a history of items.",
        lifespan=lifespan,
        docs_url=None,  # pages that load scripts from elsewhere
        redoc_url=None,
        responses={status: {"model": Problems} for status in (400, 408, 413, 415, 422, 500, 503)},
    )
    _add_errors(app)
    app.add_middleware(Guard, limits=limits, meters=meters, hosts=(*LOOPBACK, *hosts))
    schema = request_schema(limits)

    async def recommend(history: Any) -> Items:
        try:
            rows = answers.rows(history.history)
        except UnknownItem as error:
            more = f" and {error.count - 1} more" if error.count > 1 else ""
            message = f"history: the catalogue has no item {shown(error.item_id)}{more}"
            raise Refusal(422, "unknown-item", message) from None
        found = await batcher.ask(Question(history=rows, k=history.k, repeats=history.repeats))
        return Items(items=[Item(item_id=each.item_id, title=each.title, score=each.score) for each in found])

    recommend.__annotations__["history"] = schema
    recommend.__doc__ = "Recommend the items that suit a history best."
    app.post("/recommend")(recommend)

    @app.get("/health")
    async def health() -> Health:
        """Say that the server answers, and with what."""
        return Health(status="ok", model=model, items=len(answers.item_ids))

    @app.get("/metrics", response_class=PlainTextResponse)
    async def metrics() -> Response:
        """Return counts of requests, seconds, batches and memory, as Prometheus reads them."""
        return Response(meters.text(), media_type=CONTENT_TYPE)

    return app


def _add_errors(app: FastAPI) -> None:
    """Make every error one JSON object of the same form."""

    @app.exception_handler(Refusal)
    async def refused(request: Request, error: Refusal) -> Response:
        return error.response()

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        return of_validation(error.errors()).response()

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> Response:
        answer = Refusal(error.status_code, "http", str(error.detail)).response()
        answer.headers.update(error.headers or {})
        return answer

    @app.exception_handler(Exception)
    async def failed(request: Request, error: Exception) -> Response:
        return Refusal(500, "internal", "an error of the server; its log says which").response()
