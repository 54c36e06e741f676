"""Long runs in their short form: what is counted is asserted, what is timed is for the program."""

from __future__ import annotations

import numpy as np
import pytest
from soak import (
    EXPERIMENT,
    Slope,
    endpoint,
    index_times,
    made_cells,
    many_sessions,
    nothing,
    opened_files,
    slope,
    tiny_cells,
)

from bench.harness.runner import run_cells
from bench.store.store import Store
from illmrec.recommender import Recommender


def test_the_slope_is_that_of_a_line_and_its_interval_covers_noise():
    at = np.linspace(0, 10, 400)
    exact = slope(at, 3 * at + 100)
    assert (
        exact.value == pytest.approx(3) and exact.low == pytest.approx(3) and exact.high == pytest.approx(3)
    )
    noise = np.random.default_rng(0).normal(size=400)
    flat = slope(at, 100 + noise)
    assert flat.low < 0 < flat.high and flat.high < 0.2
    assert str(Slope(value=0.5, low=-1, high=2)) == "+0.5 [-1, +2]"


def test_the_endpoint_keeps_its_open_files_while_it_refuses(stored_model, tmp_path, monkeypatch):
    monkeypatch.setenv("ILLMREC_CACHE", str(tmp_path / "cache"))
    clients = 4
    row = endpoint(stored_model, seconds=4, clients=clients, bad=0.3, warm_up=1).iloc[0]
    assert row["wrong"] == 0 and row["refused"] > 0 and row["requests"] > 20
    # A connection of each client and those that are being taken or closed; no more for any number of requests.
    assert row["open_files_most"] - row["open_files_least"] <= 2 * clients
    assert row["memory_mib"] > 0 and isinstance(row["mib_per_1000_requests"], Slope)


def test_cells_leave_no_file_open_and_reading_opens_as_many_for_each(tmp_path):
    row = tiny_cells(120, looks=12).iloc[0]
    assert row["cells"] == 120
    assert row["open_files_most"] - row["open_files_least"] <= 1
    opened = {}
    for size in (20, 40):
        store = Store(tmp_path / str(size))
        cells = made_cells(size)
        run_cells(cells, nothing, store, progress=False)
        ways = {
            "records": lambda store=store: store.records(EXPERIMENT),
            "table": lambda store=store: store.table(EXPERIMENT),
            "find": lambda store=store, cells=cells: [store.find(cell) for cell in cells],
        }
        opened[size] = {name: opened_files(way, store.cells) for name, way in ways.items()}
    # The list of checksums, the file for its checksum, and the file.
    assert opened == {size: dict.fromkeys(("records", "table", "find"), 3 * size) for size in (20, 40)}


def test_reading_is_timed_at_each_size():
    table = index_times((4, 8, 16), repeats=1)
    assert table["cells"].tolist() == [4, 8, 16, "exponent"]
    assert (table[["records", "table", "find", "found_run"]].iloc[:3] > 0).all(axis=None)


def test_many_sessions_keep_within_the_bound(stored_model):
    row = many_sessions(Recommender.load(stored_model), users=60, bound=1 << 17).iloc[0]
    assert row["users"] == 60 and row["evictions"] > 0
    assert 0 < row["kept_mib_most"] <= row["bound_mib"]
