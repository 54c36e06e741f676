"""Long runs: memory and open files of the endpoint, of many cells and sessions; reading a store of many cells."""

from __future__ import annotations

import asyncio
import gc
import logging
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
from scipy import stats

from bench.harness.runner import run_cells
from bench.meters.load import item_ids, put_load, server
from bench.store.cell import Cell, Outcome
from bench.store.store import Store
from illmrec.command_line import run
from illmrec.recommender import Recommender
from illmrec.sessions import Sessions
from illmrec.stored_models import OUT, model_folder

BLOCKS = 20
SIZES = (250, 500, 1000, 2000, 4000)
EXPERIMENT = "accuracy"


@dataclass(frozen=True, kw_only=True)
class Slope:
    """How much something grows for each step.

    Attributes:
        value: The slope of least squares.
        low: Lower end of its interval of 95 %.
        high: Upper end.
    """

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:+.3g} [{self.low:+.3g}, {self.high:+.3g}]"


def main(
    *,
    part: str,
    model: str | None = None,
    minutes: float = 10.0,
    clients: int = 4,
    bad: float = 0.2,
    cells: int = 2000,
    users: int = 2000,
    out: Path = OUT,
) -> int:
    """Run one part for long and print what memory and open files did, and how time grows with cells.

    Exit status 1 if the endpoint answered a request otherwise than it must.

    Args:
        part: "endpoint", "cells", "index" or "sessions".
        model: Of "endpoint" and "sessions": key of a trained model in the store, or its folder.
        minutes: Of "endpoint": how long it is under load.
        clients: Of "endpoint": clients at a time.
        bad: Of "endpoint": share of requests that are bad.
        cells: Of "cells": how many.
        users: Of "sessions": how many.
        out: Folder of results, where the model is.
    """
    parts: dict[str, Callable[[], pd.DataFrame]] = {
        "endpoint": lambda: endpoint(
            model_folder(str(model), out=out), seconds=60 * minutes, clients=clients, bad=bad
        ),
        "cells": lambda: tiny_cells(cells),
        "index": lambda: index_times(SIZES),
        "sessions": lambda: many_sessions(Recommender.load(model_folder(str(model), out=out)), users=users),
    }
    table = parts[part]()
    print(table.T.to_string(header=False) if len(table) == 1 else table.to_string(index=False), flush=True)
    return int("wrong" in table and bool(table["wrong"].sum()))


def endpoint(
    folder: Path, *, seconds: float, clients: int, bad: float, warm_up: float = 30.0
) -> pd.DataFrame:
    """Put load on an endpoint, bad requests among the good ones; return a row of what its process held.

    Args:
        folder: A trained model.
        seconds: How long to measure.
        clients: At a time.
        bad: Share of bad requests.
        warm_up: Seconds of load before that.
    """
    with server(folder) as (process, url):
        outcome = asyncio.run(
            put_load(
                url,
                process,
                item_ids(folder),
                seconds=seconds,
                warm_up=warm_up,
                clients=clients,
                length=10,
                k=10,
                bad=bad,
                seed=0,
            )
        )
    memory = np.array([mib for _, mib in outcome.memory])
    asked = np.array(outcome.asked) / 1000
    row = {
        "minutes": outcome.seconds / 60,
        "requests": outcome.asked[-1] - outcome.asked[0],
        "refused": outcome.refused,
        "wrong": len(outcome.wrong) + bool(process.returncode),
        "memory_mib": float(memory[0]),
        "memory_mib_end": float(memory[-1]),
        "mib_per_1000_requests": slope(asked, memory),
        "mib_per_1000_requests_second_half": slope(asked[len(asked) // 2 :], memory[len(asked) // 2 :]),
        "open_files_least": min(outcome.open_files),
        "open_files_most": max(outcome.open_files),
        "open_files_end": outcome.open_files[-1],
    }
    return pd.DataFrame([row])


def tiny_cells(count: int, *, looks: int = 40) -> pd.DataFrame:
    """Compute cells that do nothing; return a row of what this process held and what the runner took for each."""
    process = psutil.Process()
    done, memory, open_files, seconds = [], [], [], []
    with _quiet(), tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder))
        wanted = made_cells(count)
        computed = 0

        def compute(cell: Cell) -> Outcome:
            nonlocal computed
            if computed % max(1, count // looks) == 0:
                done.append(computed)
                memory.append(process.memory_info().rss / 2**20)
                open_files.append(process.num_fds())
                seconds.append(time.process_time())
            computed += 1
            return nothing(cell)

        began, used = time.perf_counter(), time.process_time()
        ended = run_cells(wanted, compute, store, progress=False)
        took, used = time.perf_counter() - began, time.process_time() - used
    at, held = np.array(done) / 1000, np.array(memory)
    row = {
        "cells": len(ended.records),
        "ms_per_cell": 1000 * took / count,
        "processor_ms_per_cell": 1000 * used / count,
        "processor_ms_per_cell_first_tenth": 1000 * _pace(done, seconds, slice(None, looks // 10 + 1)),
        "processor_ms_per_cell_last_tenth": 1000 * _pace(done, seconds, slice(-looks // 10, None)),
        "memory_mib": held[0],
        "memory_mib_end": held[-1],
        "mib_per_1000_cells": slope(at, held),
        "open_files_least": min(open_files),
        "open_files_most": max(open_files),
    }
    return pd.DataFrame([row])


def _pace(done: Sequence[int], seconds: Sequence[float], part: slice) -> float:
    cells, times = done[part], seconds[part]
    return (times[-1] - times[0]) / (cells[-1] - cells[0])


def index_times(sizes: Sequence[int], *, repeats: int = 3) -> pd.DataFrame:
    """Read stores of several sizes; return processor seconds (least of the repeats) of each, and the exponent over all.

    The exponent is the slope of the logarithm of time over that of cells: 1 is linear.
    """
    rows: list[dict[str, float]] = []
    with _quiet(), tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder))
        for size in sorted(sizes):
            wanted = made_cells(size)
            for cell in wanted:
                if not (store.cells / cell.experiment / cell.key).is_dir():
                    outcome = nothing(cell)
                    store.write(cell, outcome.results, outcome.frames, seconds=0.0)
            ways: dict[str, Callable[[], object]] = {
                "records": lambda: store.records(EXPERIMENT),
                "table": lambda: store.table(EXPERIMENT),
                "find": lambda wanted=wanted: [store.find(cell) for cell in wanted],
                "found_run": lambda wanted=wanted: run_cells(wanted, nothing, store, progress=False),
            }
            rows.append({"cells": size, **{name: _least(way, repeats) for name, way in ways.items()}})
    table = pd.DataFrame(rows)
    cells = np.log(table["cells"])
    exponents = {name: stats.linregress(cells, np.log(table[name])).slope for name in table.columns[1:]}
    return pd.concat([table, pd.DataFrame([{"cells": "exponent", **exponents}])], ignore_index=True)


def _least(way: Callable[[], object], repeats: int) -> float:
    times = []
    for _ in range(repeats):
        gc.collect()
        began = time.process_time()  # what others do on the machine is not in it
        way()
        times.append(time.process_time() - began)
    return min(times)


def opened_files(way: Callable[[], object], below: Path) -> int:
    """Return how many files below a folder a function opens: the measure of reading that no machine changes."""
    counted = [0, True]

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        if counted[1] and event == "open" and str(arguments[0]).startswith(str(below)):
            counted[0] += 1

    sys.addaudithook(hook)  # stays for the life of the process, and looks away afterwards
    try:
        way()
    finally:
        counted[1] = False
    return counted[0]


def many_sessions(recommender: Recommender, *, users: int, bound: int = 8 << 20) -> pd.DataFrame:
    """Serve many users one after the other within a bound; return a row of what was held."""
    sessions = Sessions(model=recommender.model, dataset=recommender.dataset, max_bytes=bound)
    ids = list(recommender.dataset.items["item_id"])
    draw = np.random.default_rng(0)
    process = psutil.Process()
    at, memory, kept = [], [], []
    for user in range(users):
        sessions.open(str(user), [ids[row] for row in draw.integers(len(ids), size=5)])
        sessions.recommend([str(user)])
        if user % max(1, users // 40) == 0:
            at.append(user / 1000)
            memory.append(process.memory_info().rss / 2**20)
            kept.append(sessions.nbytes)
    row = {
        "users": len(sessions),
        "bound_mib": bound / 2**20,
        "kept_mib_most": max(kept) / 2**20,
        "evictions": sessions.evictions,
        "memory_mib": memory[0],
        "memory_mib_end": memory[-1],
        "mib_per_1000_users_second_half": slope(at[len(at) // 2 :], memory[len(at) // 2 :]),
    }
    return pd.DataFrame([row])


def slope(at: Sequence[float] | np.ndarray, values: Sequence[float] | np.ndarray) -> Slope:
    """Return the slope of least squares with its interval of 95 %, over means of up to 20 blocks.

    Samples next to each other are alike; means of blocks are less so, and the interval is not too narrow by that much.
    """
    blocks = min(BLOCKS, len(at))
    x = np.array([part.mean() for part in np.array_split(np.asarray(at, dtype=float), blocks)])
    y = np.array([part.mean() for part in np.array_split(np.asarray(values, dtype=float), blocks)])
    fit = stats.linregress(x, y)
    half = float(stats.t.ppf(0.975, blocks - 2) * fit.stderr)
    return Slope(value=float(fit.slope), low=float(fit.slope) - half, high=float(fit.slope) + half)


def made_cells(count: int) -> list[Cell]:
    """Return cells of one experiment that differ in their seed."""
    return [
        Cell(
            experiment=EXPERIMENT,
            version=1,
            config={"method": "m", "seed": seed, "training": {"epochs": 1, "learning_rate": 0.001}},
            method="m",
            seed=seed,
            dataset={},
        )
        for seed in range(count)
    ]


def nothing(cell: Cell) -> Outcome:
    """Return the result of a cell that computes nothing."""
    return Outcome(
        results={"sampled": {"ndcg@10": cell.seed / 1e4}},
        frames={"ranks": pd.DataFrame({"rank": [cell.seed]})},
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the log of thousands of cells out of the terminal."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


if __name__ == "__main__":
    sys.exit(run(main, prog="python tests/reliability/soak.py"))
