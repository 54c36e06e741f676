"""Times of preparation: whole, found again, and the requests after which they have paid."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from vision_models import save_model

from bench import preparation
from bench.frames.preparation import COLUMNS, KINDS, break_even, crossing, preparation_frame
from bench.harness.settings import Settings
from bench.harness.workspace import Workspace
from bench.store.cell import Cell
from bench.store.provenance import machine
from bench.store.store import Store
from illmrec.command_line import run
from illmrec.errors import UnsupportedError
from illmrec.features.computing import compute_table
from illmrec.files import cache_dir


@pytest.mark.parametrize(
    ("extra", "saved"),
    list(itertools.product((-70.0, -0.5, 0.0, 0.5, 70.0, 71.3), (-0.7, -0.1, 0.0, 0.1, 0.7))),
)
def test_requests_after_which_a_preparation_has_paid(extra, saved):
    ahead, behind = crossing(extra, saved)
    # In whole hundredths, so that equal times are equal.
    extra, saved = round(100 * extra), round(100 * saved)
    takes_more = [extra - saved * requests > 0 for requests in range(2000)]
    assert (ahead is None) == takes_more[-1] and (behind is None) != (ahead is None)
    last = takes_more[-1]
    expected = next(n for n in range(2000) if all(more == last for more in takes_more[n:]))
    assert (behind if last else ahead) == expected


def efficiency(store: Store, method: str, length: int, milliseconds: float, **config):
    cell = Cell(
        experiment="efficiency",
        version=1,
        config={
            "method": method,
            "seed": 0,
            "dataset": {"name": "d", "fingerprint": "f"},
            "n": length,
            **config,
        },
        method=method,
        seed=0,
        dataset={},
    )
    return store.write(
        cell, {"history_length": length, "latency_ms_median": milliseconds}, seconds=1.0, frames=None
    )


def test_break_even_against_methods_that_write_summaries_and_that_prepare_nothing(tmp_path):
    store = Store(tmp_path)
    timings = [
        efficiency(store, method, length, milliseconds)
        for method, length, milliseconds in (
            ("illmrec", 10, 20.0), ("trsr", 10, 50.0), ("title", 10, 15.0), ("tallrec", 10, 25.0), ("trsr", 5, 30.0),
            ("illmrec+", 10, 60.0), ("my:Method", 10, 9.0),
        )
    ]  # fmt: skip
    kinds = pd.DataFrame({"kind": ["image", "summary"], "seconds": [100.0, 40.0]})
    table = break_even(kinds, timings).set_index("against")
    assert set(table.index) == {"trsr", "title", "tallrec", "illmrec+"}, (
        "own methods' preparation is not known"
    )
    assert table.loc["trsr", "ahead_from"] == 2000 and pd.isna(table.loc["trsr", "behind_from"])
    assert table.loc["tallrec", "ahead_from"] == 20_000
    assert pd.isna(table.loc["title", "ahead_from"]) and table.loc["title", "behind_from"] == 0
    assert table.loc["illmrec+", "ahead_from"] == 0
    assert table.loc["illmrec+", "against_preparation_seconds"] == 140
    without = break_even(kinds[:1], timings)
    assert set(without["against"]) == {"title", "tallrec"}, "no summaries, no comparison with who needs them"


def test_interrupted_extractions_add_up_and_say_when_and_where(tmp_path, monkeypatch):
    clock = itertools.count(step=10.0)
    now = [0.0]
    monkeypatch.setattr("illmrec.features.computing.time.monotonic", lambda: now[0])
    stop = [3]

    def encode(rows: np.ndarray) -> np.ndarray:
        if next(clock) / 10 == stop[0]:
            raise KeyboardInterrupt
        now[0] += 10.0
        return np.ones((len(rows), 2), dtype=np.float32)

    arguments = {
        "n_items": 12, "width": 2, "present": np.arange(12) < 10, "encode_batch": encode, "batch_size": 2,
        "meta": {"encoder": "e"}, "description": "d", "progress": False,
    }  # fmt: skip
    with pytest.raises(KeyboardInterrupt):
        compute_table(tmp_path / "table", conditions={"threads": 1}, **arguments)
    now[0] += 1000.0  # between two runs nobody waits for it
    table = compute_table(tmp_path / "table", conditions={"threads": 2}, **arguments)
    assert table.meta["seconds"] == 50.0 and table.meta["seconds_per_item"] == 5.0
    assert table.meta["threads"] == 2 and pd.Timestamp(table.meta["finished"]).tzinfo is not None
    assert table.key == "table"


def test_the_command_finds_the_times_and_says_what_has_paid(tmp_path, tiny_llm, capsys):
    out = tmp_path / "out"
    arguments = [
        *("--preset", "smoke", "--users", "25", "--items", "250", "--min-interactions", "1"),
        *("--llm", str(tiny_llm), "--layers", "1", "--vision", str(save_model(tmp_path / "clip", "clip"))),
        *("--no-progress", "--no-report", "--out", str(out), "--kinds", "image,summary"),
    ]
    assert run(preparation.main, prog="bench.preparation", args=arguments) == 0
    table = pd.read_csv(out / "tables" / "preparation.csv")
    assert tuple(table.columns) == COLUMNS
    row = table.set_index("kind").loc["image"]
    assert row["items"] > 100 and row["device"] == "cpu" and row["threads"] == torch.get_num_threads()
    assert row["seconds_per_item"] == pytest.approx(row["seconds"] / row["items"], rel=1e-4)
    (meta,) = [json.loads(path.read_text())["meta"] for path in cache_dir().glob("features/*/meta.json")]
    assert row["seconds"] == pytest.approx(meta["seconds"], rel=1e-4) and row["finished"] == meta["finished"]
    assert row["encoder"] == "clip", "a folder's name, and not where it lies"
    assert "run bench.efficiency first" in capsys.readouterr().err

    (record,) = [r for r in Store(out).records("preparation") if r.method == "image"]
    workspace_config = {"llm": llm_of(tiny_llm), "device": "cpu", "machine": machine()}
    dataset = {"dataset": record.config["dataset"]}
    for method, milliseconds in (("illmrec", 10.0), ("title", 12.0)):
        efficiency(Store(out), method, 3, milliseconds, **workspace_config, **dataset)
    created = {r.key: r.created for r in Store(out).records("preparation")}
    assert run(preparation.main, prog="bench.preparation", args=arguments) == 0
    assert {r.key: r.created for r in Store(out).records("preparation")} == created
    paid = pd.read_csv(out / "tables" / "break_even.csv")
    assert paid["against"].tolist() == ["title"]
    assert paid["ahead_from"].item() == int(np.ceil(row["seconds"] / 0.002))


def llm_of(folder: Path) -> dict:
    return Workspace(Settings(llm=str(folder), layers=1)).backbone.describe()


def test_summaries_that_were_written_are_told_and_those_that_came_are_not():
    report = SimpleNamespace(items=10, given=2, generated=5, seconds=24.0, summarizer="some")
    workspace = SimpleNamespace(settings=SimpleNamespace(llm="other"), summary_report=report)
    told = preparation._summaries(workspace)
    assert (told["encoder"], told["items"], told["seconds"], told["seconds_per_item"]) == (
        "some",
        8,
        24.0,
        3.0,
    )
    workspace.summary_report = SimpleNamespace(items=10, given=10, generated=0, seconds=0.0, summarizer="")
    with pytest.raises(UnsupportedError, match="came with the data"):
        preparation._summaries(workspace)


def test_rows_come_in_the_order_of_kinds_the_newest_last(tmp_path):
    store = Store(tmp_path)
    records = []
    for number, kind in enumerate(("summary", "image", "cf", "image", "text")):
        config = {
            "method": kind,
            "seed": 0,
            "dataset": {"name": "d", "fingerprint": "f"},
            "encoder": str(number),
        }
        cell = Cell(experiment="preparation", version=1, config=config, method=kind, seed=0, dataset={})
        results = {"kind": kind, "encoder": str(number), "items": 3, "seconds": 1.5, "seconds_per_item": 0.5}
        written = store.write(cell, results, seconds=1.0, frames=None)
        records.append(replace(written, created=f"2026-01-0{5 - number}T00:00:00+00:00"))
    table = preparation_frame(records)
    assert table["kind"].tolist() == ["image", "image", "text", "cf", "summary"]
    assert table["encoder"].tolist() == ["3", "1", "4", "2", "0"]
    assert set(table["kind"]) == set(KINDS) and table["threads"].isna().all()
