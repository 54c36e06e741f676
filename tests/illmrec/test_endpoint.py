"""The endpoint: answers are the recommender's, bad requests are refused in one form, and nothing leaks or grows."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx2
import numpy as np
import pytest

from illmrec import serve
from illmrec.command_line import run
from illmrec.endpoint.answers import Answers, Question
from illmrec.endpoint.app import build_app
from illmrec.endpoint.batching import Batcher
from illmrec.endpoint.limits import Limits
from illmrec.endpoint.meters import Histogram, Meters
from illmrec.endpoint.refusals import Refusal
from illmrec.recommender import Recommender

LIMITS = Limits(max_items=20, max_k=15, max_body=4096, timeout=5.0)
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def recommender(stored_model: Path) -> Recommender:
    return Recommender.load(stored_model)


@pytest.fixture(scope="module")
def items(recommender: Recommender) -> list[str]:
    return list(recommender.dataset.items["item_id"])


def ask(recommender: Recommender, *requests: dict, limits: Limits = LIMITS) -> list[httpx2.Response]:
    """Send requests at the same time to an application of its own."""

    async def sent() -> list[httpx2.Response]:
        app = build_app(recommender, model="tiny", limits=limits)
        transport = httpx2.ASGITransport(app, raise_app_exceptions=False)
        async with (
            app.router.lifespan_context(app),
            httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000") as client,
        ):
            return await asyncio.gather(*(client.request(**request) for request in requests))

    return asyncio.run(sent())


def post(content: object, **others: object) -> dict:
    """Return a request for recommendations; bytes are sent as they are."""
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    headers = {"content-type": "application/json", **others}
    return {"method": "POST", "url": "/recommend", "content": body, "headers": headers}


def test_answers_are_the_recommenders_whatever_else_is_asked_at_the_time(recommender, items):
    histories = [items[start : start + length] for start, length in ((0, 1), (3, 9), (20, 5), (40, 2))]
    requests = [
        post({"history": history, "k": 3 + 2 * n, "repeats": n == 2}) for n, history in enumerate(histories)
    ]
    for n, response in enumerate(ask(recommender, *requests)):
        assert response.status_code == 200
        found = response.json()["items"]
        wanted = recommender.recommend(histories[n], k=3 + 2 * n, repeats=n == 2)
        assert [item["item_id"] for item in found] == wanted["item_id"].tolist()
        assert [item["title"] for item in found] == wanted["title"].tolist()
        np.testing.assert_allclose([item["score"] for item in found], wanted["score"], rtol=1e-4, atol=1e-5)


def test_batches_have_rows_of_few_shapes(stored_model, items):
    """Kernels are kept for each shape: with a shape for each batch memory would grow."""
    answers = Answers(Recommender.load(stored_model))
    generator, rows = np.random.default_rng(0), []
    embeddings = answers.model.engine.backbone.embeddings
    hook = embeddings.register_forward_hook(lambda module, given, made: rows.append(given[0].shape[-1]))
    for size in range(1, 9):
        histories = [generator.integers(len(items), size=generator.integers(1, 7)) for _ in range(size)]
        answers.answer([Question(history=history, k=3) for history in histories])
    hook.remove()
    prefix = len(answers.model.prompts.task)
    assert len([length for length in rows if length != prefix]) >= 8
    assert all(length % 64 == 0 for length in rows if length != prefix)


@pytest.mark.parametrize(
    ("request_of", "status", "code", "expected"),
    [
        (lambda ids: post({"history": ["no-such-item", "nor-this"]}), 422, "unknown-item", "'no-such-item' and 1 more"),
        (lambda ids: post({"history": ["x" * 200]}), 422, "unknown-item", "..."),
        (lambda ids: post({"history": ids[:1] * 10_000}), 413, "too-long", "4096 bytes"),
        (lambda ids: post({"history": ids[:1] * 21}), 422, "invalid", "history: List should have at most 20 items"),
        (lambda ids: post({"history": []}), 422, "invalid", "history: List should have at least 1 item"),
        (lambda ids: post({"history": ids[:1], "k": 16}), 422, "invalid", "k: Input should be less than or equal"),
        (lambda ids: post({"history": ids[:1], "k": 0}), 422, "invalid", "k: "),
        (lambda ids: post({"history": ids[:1], "k": "3"}), 422, "invalid", "k: Input should be a valid integer"),
        (lambda ids: post({"history": ids[:1], "k": 1.5}), 422, "invalid", "k: "),
        (lambda ids: post({"history": ids[:1], "k": True}), 422, "invalid", "k: "),
        (lambda ids: post({"history": ids[:1], "repeats": 1}), 422, "invalid", "repeats: "),
        (lambda ids: post({"history": [1, 2]}), 422, "invalid", "history.0: Input should be a valid string"),
        (lambda ids: post({"history": "abc"}), 422, "invalid", "history: Input should be a valid list"),
        (lambda ids: post({"history": [None]}), 422, "invalid", "history.0: "),
        (lambda ids: post({"history": ids[:1], "cheat": 1}), 422, "invalid", "cheat: Extra inputs"),
        (lambda ids: post({"k": 3}), 422, "invalid", "history: Field required"),
        (lambda ids: post([]), 422, "invalid", "see /openapi.json"),
        (lambda ids: post(b'{"history": ["\\ud800"]}'), 422, "invalid", "history.0: "),
        (lambda ids: post(b'{"history": [NaN]}'), 400, "not-json", "not JSON"),
        (lambda ids: post(b'{"history": ["a"], "k": Infinity}'), 400, "not-json", "not JSON"),
        (lambda ids: post(b'{"k": ' + b"9" * 4000 + b"}"), 422, "invalid", ""),
        (lambda ids: post(b"[" * 4000), 400, "not-json", "not JSON"),
        (lambda ids: post(b"\xff\xfe"), 400, "not-json", "not JSON"),
        (lambda ids: post(b""), 400, "not-json", "not JSON"),
        (lambda ids: post({"history": ids[:1]}, **{"content-type": "text/plain"}), 415, "not-json", "content-type"),
        (lambda ids: post({"history": ids[:1]}, host="evil.example"), 400, "unknown-host", "evil.example"),
        (lambda ids: {"method": "GET", "url": "/recommend"}, 405, "http", "Method Not Allowed"),
        (lambda ids: {"method": "GET", "url": "/../../etc/passwd"}, 404, "http", "Not Found"),
        (lambda ids: {"method": "GET", "url": "/docs"}, 404, "http", "Not Found"),
    ],
)  # fmt: skip
def test_a_bad_request_is_refused_in_one_form(request_of, status, code, expected, recommender, items):
    (response,) = ask(recommender, request_of(items))
    assert response.status_code == status
    error = response.json()["error"]
    assert error["code"] == code and expected in error["message"] and len(error["message"]) < 300
    assert "Traceback" not in response.text and "site-packages" not in response.text


def test_a_page_elsewhere_is_given_no_leave(recommender):
    headers = {"origin": "https://evil.example", "access-control-request-method": "POST"}
    preflight, health = ask(
        recommender,
        {"method": "OPTIONS", "url": "/recommend", "headers": headers},
        {"method": "GET", "url": "/health", "headers": headers},
    )
    assert preflight.status_code == 405
    for response in (preflight, health):
        assert not [name for name in response.headers if name.startswith("access-control")]
        assert response.headers["x-content-type-options"] == "nosniff"


def test_health_schema_and_metrics(recommender, items):
    before = ask(
        recommender,
        {"method": "GET", "url": "/health"},
        {"method": "GET", "url": "/openapi.json"},
    )
    assert before[0].json() == {"status": "ok", "model": "tiny", "items": len(items)}
    schema = before[1].json()
    limits = schema["components"]["schemas"]["History"]["properties"]
    assert limits["history"]["maxItems"] == 20 and limits["k"]["maximum"] == 15
    assert schema["paths"]["/recommend"]["post"]["responses"]["422"]["content"]["application/json"][
        "schema"
    ] == {"$ref": "#/components/schemas/Problems"}


def test_metrics_count_what_happened(recommender, items):
    async def asked() -> str:
        app = build_app(recommender, model="tiny", limits=LIMITS)
        client = httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://localhost")
        async with app.router.lifespan_context(app), client:
            for request in (
                post({"history": items[:2]}),
                post({"history": ["?"]}),
                post({"history": items[:1]}),
            ):
                await client.request(**request)
            await client.get("/a-made-up-route")
            return (await client.get("/metrics")).text

    lines = asyncio.run(asked()).splitlines()
    assert 'illmrec_requests_total{route="/recommend",status="200"} 2' in lines
    assert 'illmrec_requests_total{route="/recommend",status="422"} 1' in lines
    assert 'illmrec_requests_total{route="other",status="404"} 1' in lines
    assert "illmrec_batch_size_count 2" in lines and "illmrec_request_seconds_count 4" in lines


def test_a_histogram_counts_up_to_each_bound():
    histogram = Histogram((1, 2, 4))
    for value in (0.5, 1, 3, 9):
        histogram.add(value)
    lines = list(histogram.lines("x", "about"))
    assert lines[2:] == [
        'x_bucket{le="1"} 2', 'x_bucket{le="2"} 2', 'x_bucket{le="4"} 3', 'x_bucket{le="+Inf"} 4',
        "x_sum 13.500000", "x_count 4",
    ]  # fmt: skip


def test_requests_that_wait_are_one_batch_and_too_many_are_refused():
    """While the first is computed, two may wait; those that come beyond are refused; the two are one batch."""
    gate, batches = threading.Event(), []

    def compute(questions):
        batches.append(list(questions))
        gate.wait(5)
        return [question * 10 for question in questions]

    async def asked():
        meters = Meters(())
        batcher = Batcher(compute, limits=Limits(max_queue=2, timeout=5), meters=meters)
        batcher.start()
        first = asyncio.create_task(batcher.ask(1))
        while not batches:
            await asyncio.sleep(0.001)
        rest = [asyncio.create_task(batcher.ask(number)) for number in (2, 3, 4)]
        await asyncio.sleep(0)
        gate.set()
        answers = await asyncio.gather(first, *rest, return_exceptions=True)
        await batcher.stop()
        return answers

    *answers, refused = asyncio.run(asked())
    assert answers == [10, 20, 30] and batches == [[1], [2, 3]]
    assert isinstance(refused, Refusal) and (refused.status, refused.code, refused.retry_after) == (
        503,
        "busy",
        1,
    )


def test_a_late_answer_is_refused_and_a_failed_one_tells_nothing():
    def fail(questions):
        raise RuntimeError("secret")

    async def asked(compute, timeout):
        batcher = Batcher(compute, limits=Limits(timeout=timeout), meters=Meters(()))
        batcher.start()
        try:
            return await batcher.ask(1)
        finally:
            await batcher.stop()

    with pytest.raises(Refusal) as late:
        asyncio.run(asked(lambda questions: time.sleep(0.2) or questions, 0.02))
    assert (late.value.status, late.value.code) == (503, "timeout")
    with pytest.raises(Refusal) as failed:
        asyncio.run(asked(fail, 5))
    assert failed.value.status == 500 and "secret" not in failed.value.message


def test_an_error_of_the_server_is_json_without_a_traceback(recommender, items, monkeypatch):
    def fail(self, history):
        raise RuntimeError("secret")

    monkeypatch.setattr("illmrec.endpoint.answers.Answers.rows", fail)
    (response,) = ask(recommender, post({"history": items[:1]}))
    assert response.status_code == 500 and response.json()["error"]["code"] == "internal"
    assert "secret" not in response.text and "Traceback" not in response.text


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--port", "70000"], "--port 70000"),
        (["--port", "TAKEN"], "give another port"),
        (["--host", "203.0.113.1", "--port", "0"], "--host 203.0.113.1"),
        (["--max-k", "0"], "--max-k 0"),
        (["--timeout", "nan"], "--timeout: 'nan'"),
        (["--port", "0", "--model", "nowhere"], "--model nowhere"),
    ],
)
def test_bad_options_are_one_line(arguments, expected, stored_model, capsys):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        arguments = [str(taken.getsockname()[1]) if word == "TAKEN" else word for word in arguments]
        assert run(serve.main, prog="serve", args=["--model", str(stored_model), *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and expected in line


def test_who_is_told_the_address_can_connect(stored_model, monkeypatch, capsys):
    import uvicorn

    seen = []

    def connected(self, sockets):
        port = int(capsys.readouterr().err.rsplit("http://127.0.0.1:", 1)[1].split()[0])
        with socket.create_connection(("127.0.0.1", port), timeout=5) as client:
            seen.append(client.getpeername())

    monkeypatch.setattr(uvicorn.Server, "run", connected)
    assert run(serve.main, prog="serve", args=["--model", str(stored_model), "--port", "0"]) == 0
    assert len(seen) == 1


@pytest.mark.slow
def test_sigterm_lets_what_has_come_be_answered(stored_model, items, tmp_path):
    """The real program: a slow body is cut off, a request under way at SIGTERM is answered, and the status is 0."""
    command = [
        sys.executable,
        "-m",
        "illmrec.serve",
        "--model",
        str(stored_model),
        "--port",
        "0",
        "--timeout",
        "5",
    ]
    log = tmp_path / "log"
    with log.open("w") as file:
        process = subprocess.Popen(
            command, cwd=ROOT, stderr=file, env={**os.environ, "ILLMREC_CACHE": str(tmp_path)}
        )
    try:
        until = time.monotonic() + 60
        while "serving" not in log.read_text():
            assert process.poll() is None and time.monotonic() < until, log.read_text()
            time.sleep(0.1)
        port = int(log.read_text().rsplit("http://127.0.0.1:", 1)[1].split()[0])
        body = json.dumps({"history": items[:3]}).encode()
        head = (
            "POST /recommend HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
            f"content-length: {len(body)}\r\nexpect: 100-continue\r\n\r\n"
        ).encode()
        for terminated in (False, True):
            with socket.create_connection(("127.0.0.1", port), timeout=60) as under_way:
                under_way.sendall(head)
                assert b" 100 " in under_way.recv(4096)  # the application waits for the body
                if terminated:
                    process.terminate()
                    under_way.sendall(body)
                assert (b" 200 " if terminated else b" 408 ") in under_way.recv(4096).splitlines()[0]
        assert process.wait(timeout=30) == 0
    finally:
        process.kill()
        process.wait()
    assert "Traceback" not in log.read_text() and "stopped" in log.read_text()
