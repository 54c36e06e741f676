"""Retrieval at scale: recall, speed, build time and memory of every kind of index on a generated catalogue."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from bench.frames.retrieval import ABOUT, EFFORTS, EXPERIMENT, VERSION, retrieval_frame
from bench.harness.bench import Bench
from bench.harness.plan import Work
from bench.harness.runner import Overwrite
from bench.harness.settings import Settings
from bench.meters.time_and_memory import BYTES_PER_MB, PeakMemory, Timer
from bench.store.cell import Cell, Outcome
from bench.store.provenance import machine
from bench.trackers.names import TrackerName
from illmrec.command_line import run
from illmrec.errors import InputError, nearest
from illmrec.retrieval import INDEX_KINDS, IndexOptions, ItemIndex, TopK, build_index
from illmrec.retrieval.index import import_faiss

_SIZES = {
    "smoke": {"items": 20_000, "queries": 100, "width": 64},
    "full": {"items": 1_000_000, "queries": 1000, "width": 256},
}
_SINGLES = 50  # queries that are also asked one at a time
_DRAW = 16384
_BUILDING = {"exact": 0.0, "flat": 0.0, "hnsw": 20_000.0, "ivfpq": 4_000.0}
"""FLOPs for each number of a catalogue that building an index takes, about."""


def main(
    *,
    kinds: tuple[str, ...] = INDEX_KINDS,
    preset: Literal["smoke", "full"] = "full",
    items: int | None = None,
    queries: int | None = None,
    width: int | None = None,
    k: int = 10,
    repeats: int = 3,
    seed: int = 0,
    out: Path = Path("reports/out"),
    overwrite: Overwrite = "only-missing",
    track: TrackerName | None = None,
    progress: bool = True,
) -> int:
    """Compare indexes over a large catalogue: recall against exact, queries/s, build seconds and memory.

    Items are drawn from a mixture of Gaussians, see ``Mixture``, and every kind of index answers the same users.
    Everything runs on the CPU with the threads of torch. Writes tables/retrieval.csv under --out.

    Args:
        kinds: Kinds of index: exact, flat, hnsw, ivfpq; all but exact need the extra faiss.
        preset: smoke (20 k items, seconds) or full (1 M items x 256 floats; building hnsw takes longest).
        items: Items in the catalogue.
        queries: Users, all answered in one call and some of them one at a time.
        width: Length of a vector.
        k: Items per user.
        repeats: Timed runs over all users, after one that is not counted.
        seed: Seed of catalogue, users and index.
        out: Folder for results and tables.
        overwrite: only-missing computes what is not stored; always everything; never refuses if anything is
            stored; only-cache computes nothing.
        track: Log each cell to a tracker as well: mlflow, tensorboard, trackio or wandb (extras of these names).
        progress: Show progress bars.
    """
    for kind in kinds:
        if kind not in INDEX_KINDS:
            raise InputError(f"--kinds {kind}: {nearest(kind, INDEX_KINDS)}")
    given = {"items": items, "queries": queries, "width": width}
    sizes = {name: _SIZES[preset][name] if value is None else value for name, value in given.items()}
    for name, value in {**sizes, "k": k, "repeats": repeats}.items():
        if value < 1:
            raise InputError(f"--{name} {value}: must be at least 1")
    if seed < 0:
        raise InputError(f"--seed {seed}: must be at least 0")
    if k > sizes["items"]:
        raise InputError(f"--k {k}: the catalogue has {sizes['items']} items")
    bench = Bench(ABOUT, Settings(out=out, overwrite=overwrite, report=False, track=track, progress=progress))
    cells = [
        Cell(
            experiment=EXPERIMENT,
            version=VERSION,
            config={
                **sizes,
                "method": kind,
                "effort": effort,
                "k": k,
                "repeats": repeats,
                "seed": seed,
                "threads": torch.get_num_threads(),
                "machine": machine(),
                "library": None if kind == "exact" else f"faiss {import_faiss(kind).__version__}",
            },
            method=kind,
            seed=seed,
            dataset={"name": "gaussian-mixture", "items": sizes["items"], "users": sizes["queries"]},
            label=kind if effort is None else f"{kind} effort {effort}",
        )
        for kind in dict.fromkeys(kinds)
        for effort in EFFORTS[kind]
    ]
    records = bench.run(cells, compute_retrieval(progress=progress), work=expected_work)
    table = retrieval_frame(records)
    bench.write(table)
    bench.show(table, f"Retrieval of {k} from {sizes['items']:,} generated items")
    return bench.finish()


def expected_work(cell: Cell) -> Work:
    """Return what a cell takes: its searches, and its share of building the index."""
    config = cell.config
    vectors = 1e-9 * config["items"] * config["width"]
    searched = 2 * vectors * config["queries"] * (config["repeats"] + 1)
    built = _BUILDING[cell.method] * vectors / len(EFFORTS[cell.method])
    return Work(gflops=searched * (1.0 if cell.method in ("exact", "flat") else 0.02) + built)


class Mixture:
    """A mixture of Gaussians that resembles the item projections of a recommender, with unit mean square norm.

    About ``sqrt(items)`` clusters, like categories, of Zipf-distributed sizes; three fifths of the variance lie between
    clusters. The variance along the principal axes falls as 1 / rank, as in learned features, which
    fill few of their dimensions evenly, and the axes are rotated at random, since no coordinate of theirs is special.

    Args:
        items: Size of the catalogue.
        width: Length of a vector.
        seed: Seed of centres, sizes and axes.
    """

    BETWEEN = 0.6

    def __init__(self, *, items: int, width: int, seed: int) -> None:
        generator = np.random.default_rng(seed)
        clusters = max(1, round(items**0.5))
        variances = 1.0 / np.arange(1, width + 1)
        rotation, _ = np.linalg.qr(generator.standard_normal((width, width)))
        axes = np.sqrt(variances / variances.sum())[:, None] * rotation.T
        self._centres = (self.BETWEEN**0.5 * generator.standard_normal((clusters, width)) @ axes).astype(
            np.float32
        )
        self._spread = ((1 - self.BETWEEN) ** 0.5 * axes).astype(np.float32)
        shares = 1.0 / np.arange(1, clusters + 1)
        self._shares = shares / shares.sum()

    def draw(self, n: int, *, seed: int, progress: bool = False) -> np.ndarray:
        """Return float32 [n, width]; the first rows do not depend on n."""
        vectors = np.empty((n, self._spread.shape[1]), dtype=np.float32)
        starts = range(0, n, _DRAW)
        for number, start in enumerate(tqdm(starts, desc="catalogue", unit="block", disable=not progress)):
            generator = np.random.default_rng([seed, number])
            clusters = generator.choice(len(self._shares), size=_DRAW, p=self._shares)
            noise = generator.standard_normal((_DRAW, vectors.shape[1]), dtype=np.float32)
            block = self._centres[clusters] + noise @ self._spread
            vectors[start : start + _DRAW] = block[: n - start]
        return vectors


@dataclass(frozen=True, kw_only=True)
class Problem:
    """A catalogue, users and the right answers.

    Attributes:
        items: float32 [items, width].
        users: float32 [users, width], each the mean of two draws from the mixture: two tastes.
        best: The exact top k.
    """

    items: np.ndarray
    users: np.ndarray
    best: TopK


def compute_retrieval(*, progress: bool) -> Callable[[Cell], Outcome]:
    """Return the function that measures a retrieval cell."""

    @cache
    def problem(*, items: int, width: int, queries: int, k: int, seed: int) -> Problem:
        mixture = Mixture(items=items, width=width, seed=seed)
        catalogue = mixture.draw(items, seed=seed + 1, progress=progress)
        users = mixture.draw(2 * queries, seed=seed + 2).reshape(queries, 2, width).mean(axis=1)
        best = build_index(catalogue).search(users, k=k)
        return Problem(items=catalogue, users=users, best=best)

    # One index at a time is kept: those of a million items take a gigabyte each.
    @lru_cache(maxsize=1)
    def built(kind: str, **sizes: int) -> tuple[ItemIndex, float]:
        items = problem(**sizes).items
        with Timer() as timer:
            index = build_index(items, kind=kind, options=IndexOptions(seed=sizes["seed"]), progress=progress)
        return index, timer.seconds

    def compute(cell: Cell) -> Outcome:
        sizes = {name: cell.config[name] for name in ("items", "width", "queries", "k", "seed")}
        index, build_seconds = built(cell.method, **sizes)
        return measure(index, problem(**sizes), cell=cell, build_seconds=build_seconds)

    return compute


def measure(index: ItemIndex, problem: Problem, *, cell: Cell, build_seconds: float) -> Outcome:
    """Time an index on all users at once and on some one at a time, and compare what it finds with exact."""
    k, effort = cell.config["k"], cell.config["effort"]
    with PeakMemory() as memory:
        found = index.search(problem.users, k=k, effort=effort)  # warm-up: not counted
    timings: list[dict[str, Any]] = []
    for repeat in range(cell.config["repeats"]):
        with Timer() as timer:
            index.search(problem.users, k=k, effort=effort)
        timings.append({"repeat": repeat, "users": len(problem.users), "seconds": timer.seconds})
    for user in range(min(_SINGLES, len(problem.users))):
        with Timer() as timer:
            index.search(problem.users[user : user + 1], k=k, effort=effort)
        timings.append({"repeat": user, "users": 1, "seconds": timer.seconds})
    timed = pd.DataFrame(timings).assign(batched=lambda frame: frame.index < cell.config["repeats"])
    latency = 1e3 * timed.loc[~timed["batched"], "seconds"]
    return Outcome(
        results={
            "kind": cell.method,
            "effort": effort,
            "items": index.n_items,
            "width": index.width,
            "queries": len(problem.users),
            "k": k,
            "recall": recall(found.items, problem.best.items),
            "queries_per_second": len(problem.users) / float(timed.loc[timed["batched"], "seconds"].median()),
            "latency_ms_median": float(latency.median()),
            "latency_ms_p95": float(latency.quantile(0.95)),
            "build_seconds": build_seconds,
            "index_mb": index.memory_bytes / BYTES_PER_MB,
            "search_memory_mb": memory.above_start_mb,
        },
        frames={"timings": timed},
    )


def recall(found: np.ndarray, expected: np.ndarray) -> float:
    """Return the mean share of each row's expected items that were found; both int64 [users, k]."""
    return float((expected[:, :, None] == found[:, None, :]).any(axis=2).mean())


if __name__ == "__main__":
    sys.exit(run(main, prog="python -m bench.retrieval"))
