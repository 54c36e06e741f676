"""The endpoint under load: a real server in a small run, and what is made of what happened."""

from __future__ import annotations

import asyncio

import httpx2
import pandas as pd
import pytest

from bench.meters import load
from illmrec.command_line import run
from illmrec.endpoint.app import build_app
from illmrec.recommender import Recommender

JSON = {"content-type": "application/json"}


@pytest.mark.slow
def test_a_short_run_serves_refuses_and_stops_in_order(stored_model, tmp_path, monkeypatch):
    monkeypatch.setenv("ILLMREC_CACHE", str(tmp_path / "cache"))
    options = {"seconds": 3, "warm-up": 1, "clients": 4, "bad": 0.4, "history-length": 5}
    arguments = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    status = run(
        load.main, prog="load", args=["--model", str(stored_model), "--out", str(tmp_path), *arguments]
    )
    row = pd.read_csv(tmp_path / "tables" / "endpoint_load.csv").iloc[0]
    assert status == 0 and row["wrong"] == 0
    assert row["answered"] > 0 and row["refused"] > 0
    assert 0 < row["latency_ms_p50"] <= row["latency_ms_p95"]
    assert len(pd.read_csv(tmp_path / "tables" / "endpoint_memory.csv")) > 2


def test_a_summary_is_of_what_was_measured():
    outcome = load.Outcome(
        latencies=[0.001 * n for n in range(1, 101)],
        refused=7,
        wrong=["x"],
        memory=[(n, 100.0 + n) for n in range(8)],
        seconds=10.0,
        batch=2.5,
    )
    (row,) = load.summary(outcome, clients=3, history_length=5).to_dict("records")
    assert row["users_per_second"] == 10 and row["latency_ms_p50"] == pytest.approx(50.5)
    assert row["latency_ms_p95"] == pytest.approx(95.05)
    assert (row["memory_mib_start"], row["memory_mib_end"], row["memory_mib_peak"]) == (100.5, 106.5, 107.0)
    assert (row["refused"], row["wrong"]) == (7, 1)


def test_the_application_refuses_every_bad_request_as_it_is_said_to(stored_model):
    async def asked() -> None:
        recommender = Recommender.load(stored_model)
        app = build_app(recommender, model="tiny")
        client = httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://localhost")
        async with app.router.lifespan_context(app), client:
            for wrong in load.bad_requests(list(recommender.dataset.items["item_id"])):
                answer = await client.post("/recommend", content=wrong.body, headers=JSON)
                assert answer.status_code in wrong.statuses, wrong.name

    asyncio.run(asked())


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [(["--clients", "0"], "--clients 0"), (["--bad", "1"], "--bad 1"), ([], "holds no trained model")],
)
def test_bad_options_are_one_line(arguments, expected, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    assert run(load.main, prog="load", args=["--model", str(tmp_path / "empty"), *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert expected in line
